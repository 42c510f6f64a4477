//! Names: making, moving and removing them, and listings.

use super::*;

fn unlink(mem: &mut Mem, dir: &str, name: &[u8], want_dir: bool) -> Result<()> {
    let dir = walk(mem, ROOT_USER, dir).expect("the directory is there");
    let result = mem.unlink(&dir, name, want_dir, at(3));
    mem.close(dir, at(3)).expect("nothing to do");
    result
}

fn rename(mem: &mut Mem, from: &str, name: &[u8], to: &str, new_name: &[u8]) -> Result<()> {
    rename_as(mem, ROOT_USER, from, name, to, new_name)
}

fn rename_as(mem: &mut Mem, user: User, from: &str, name: &[u8], to: &str, new_name: &[u8]) -> Result<()> {
    let (from, to) = (walk(mem, user, from).expect("there"), walk(mem, user, to).expect("there"));
    let result = mem.rename(&from, name, &to, new_name, at(3));
    mem.close(from, at(3)).expect("nothing to do");
    mem.close(to, at(3)).expect("nothing to do");
    result
}

fn path_of(mem: &mut Mem, path: &str) -> Result<u64> {
    let file = walk(mem, ROOT_USER, path)?;
    let path = mem.attr(&file).path;
    mem.close(file, at(3)).expect("nothing to do");
    Ok(path)
}

fn links(mem: &mut Mem, path: &str) -> u64 {
    let file = walk(mem, ROOT_USER, path).expect("there");
    let links = mem.stat(&file).expect("there").nlink;
    mem.close(file, at(3)).expect("nothing to do");
    links
}

/// `/a/b/c` directories, `/a/f` and `/g` files.
fn tree() -> Mem {
    let mut mem = small_tree();
    make(&mut mem, "", b"a", Make::Dir, 0o755);
    make(&mut mem, "a", b"b", Make::Dir, 0o755);
    make(&mut mem, "a/b", b"c", Make::Dir, 0o755);
    make(&mut mem, "a", b"f", Make::File, 0o644);
    make(&mut mem, "", b"g", Make::File, 0o644);
    mem
}

#[test]
fn rename_follows_the_rules_of_rename_2() {
    let mut mem = tree();
    assert_eq!(rename(&mut mem, "", b"a", "a/b/c", b"x"), Err(Error::EINVAL), "into its own subtree");
    assert_eq!(rename(&mut mem, "", b"a", "a", b"x"), Err(Error::EINVAL), "into itself");
    assert_eq!(rename(&mut mem, "", b"g", "", b"a"), Err(Error::EISDIR));
    assert_eq!(rename(&mut mem, "", b"a", "", b"g"), Err(Error::ENOTDIR));
    assert_eq!(rename(&mut mem, "a/b", b"c", "", b"a"), Err(Error::ENOTEMPTY), "onto its own ancestor");
    assert_eq!(rename(&mut mem, "", b"none", "", b"x"), Err(Error::ENOENT));
    assert_eq!((links(&mut mem, ""), links(&mut mem, "a"), links(&mut mem, "a/b")), (3, 3, 3));
    let (file, dir) = (path_of(&mut mem, "g"), path_of(&mut mem, "a/b/c"));
    rename(&mut mem, "", b"g", "a", b"f").expect("replaces");
    assert_eq!(path_of(&mut mem, "a/f"), file);
    rename(&mut mem, "a/b", b"c", "", b"c").expect("moves");
    assert_eq!(path_of(&mut mem, "c"), dir);
    assert_eq!(path_of(&mut mem, "c/.."), path_of(&mut mem, ""));
    assert_eq!((links(&mut mem, ""), links(&mut mem, "a"), links(&mut mem, "a/b")), (4, 3, 2));
    rename(&mut mem, "", b"c", "a", b"b").expect("replaces an empty directory");
    assert_eq!((links(&mut mem, ""), links(&mut mem, "a")), (3, 3));
    assert_eq!(list(&mut mem, "a"), [".", "..", "b", "f"]);
    nothing_left(mem);
}

#[test]
fn renaming_one_name_of_a_file_onto_another_does_nothing() {
    let mut mem = tree();
    let (dir, file) = (root(&mut mem, ROOT_USER), walk(&mut mem, ROOT_USER, "g").expect("there"));
    mem.link(&dir, b"h", &file, at(3)).expect("a new name");
    assert_eq!(mem.link(&dir, b"h", &file, at(3)), Err(Error::EEXIST));
    let before = mem.attr(&dir);
    rename(&mut mem, "", b"g", "", b"h").expect("does nothing");
    rename(&mut mem, "", b"g", "", b"g").expect("does nothing");
    assert_eq!(mem.attr(&dir), before);
    assert_eq!(links(&mut mem, "g"), 2);
    unlink(&mut mem, "", b"h", false).expect("removable");
    assert_eq!(mem.stat(&file).expect("there").name, b"g");
    mem.nodes[file.node].links = u32::MAX;
    assert_eq!(mem.link(&dir, b"h", &file, at(3)), Err(Error::EMLINK));
    let subdir = walk(&mut mem, ROOT_USER, "a").expect("there");
    assert_eq!(mem.link(&dir, b"h", &subdir, at(3)), Err(Error::EPERM));
}

#[test]
fn a_file_value_follows_its_file_through_renames() {
    let mut mem = tree();
    let mut file = walk(&mut mem, ROOT_USER, "a/f").expect("there");
    rename(&mut mem, "a", b"f", "a/b/c", b"moved").expect("moves");
    rename(&mut mem, "", b"a", "", b"z").expect("moves");
    assert_eq!(mem.stat(&file).expect("there").name, b"moved");
    let dir = root(&mut mem, ROOT_USER);
    mem.rename_file(&mut file, &dir, b"back", at(3)).expect("moves");
    assert_eq!(list(&mut mem, "z/b/c"), [".", ".."]);
    assert_eq!(mem.stat(&file).expect("there").name, b"back");
    mem.remove(&mut file, at(3)).expect("removable");
    assert_eq!(mem.remove(&mut file, at(3)), Err(Error::ENOENT), "the name is gone");
    assert_eq!(mem.rename_file(&mut file, &dir, b"again", at(3)), Err(Error::ENOENT));
    assert_eq!(mem.link(&dir, b"again", &file, at(3)), Err(Error::ENOENT));
}

#[test]
fn unlink_and_remove_know_directories_and_the_root() {
    let mut mem = tree();
    assert_eq!(unlink(&mut mem, "", b"a", false), Err(Error::EISDIR));
    assert_eq!(unlink(&mut mem, "", b"g", true), Err(Error::ENOTDIR));
    assert_eq!(unlink(&mut mem, "", b"a", true), Err(Error::ENOTEMPTY));
    assert_eq!(unlink(&mut mem, "", b"none", true), Err(Error::ENOENT));
    let (mut top, mut dir) = (root(&mut mem, ROOT_USER), walk(&mut mem, ROOT_USER, "a").expect("there"));
    assert_eq!(mem.remove(&mut top, at(3)), Err(Error::EBUSY));
    assert_eq!(mem.rename_file(&mut top, &dir, b"x", at(3)), Err(Error::EBUSY));
    assert_eq!(mem.remove(&mut dir, at(3)), Err(Error::ENOTEMPTY));
    unlink(&mut mem, "a/b", b"c", true).expect("empty");
    unlink(&mut mem, "a", b"b", true).expect("empty");
    assert_eq!(links(&mut mem, "a"), 2);
}

#[test]
fn a_removed_directory_that_is_still_held_takes_nothing() {
    let mut mem = tree();
    let mut dir = walk(&mut mem, ROOT_USER, "a/b/c").expect("there");
    unlink(&mut mem, "a/b", b"c", true).expect("empty");
    unlink(&mut mem, "a", b"b", true).expect("empty");
    make(&mut mem, "", b"takes the place of b in the table", Make::File, 0o644);
    assert_eq!(mem.make(&dir, b"x", Make::Dir, 0o755, None, at(3)), Err(Error::ENOENT));
    assert_eq!(mem.create(&mut dir, b"x", READ_WRITE, 0o644, 0, None, at(3)), Err(Error::ENOENT));
    let file = walk(&mut mem, ROOT_USER, "g").expect("there");
    assert_eq!(mem.link(&dir, b"x", &file, at(3)), Err(Error::ENOENT));
    let top = root(&mut mem, ROOT_USER);
    assert_eq!(mem.rename(&top, b"g", &dir, b"x", at(3)), Err(Error::ENOENT));
    assert_eq!(mem.lookup(&dir, b"x").map(|_| ()), Err(Error::ENOENT));
    let up = mem.lookup(&dir, b"..").expect("a directory always has one above");
    assert_eq!(mem.attr(&up), mem.attr(&dir), "there is nothing above it any more");
    assert_eq!(mem.stat(&dir).expect("held").nlink, 0);
    mem.close(up, at(3)).expect("nothing to do");
    mem.close(dir, at(3)).expect("nothing to do");
}

#[test]
fn listings_resume_behind_any_cookie_and_miss_nothing_that_stays() {
    let mut mem = small_tree();
    for name in b'a'..=b'z' {
        make(&mut mem, "", &[name], Make::File, 0o644);
    }
    let mut dir = open(&mut mem, ROOT_USER, "", READ).expect("a directory");
    let (mut cookie, mut names) = (0, Vec::new());
    while {
        let mut taken = None;
        let each = &mut |entry: &Entry<'_>| {
            let first = taken.is_none();
            if first {
                taken = Some((entry.cookie, entry.stat.name.to_vec()));
            }
            first
        };
        mem.list(&mut dir, cookie, at(3), each).expect("a directory");
        taken.is_some_and(|(next, name)| {
            assert!(next > cookie);
            cookie = next;
            // Every second name goes before it is reached or after, and its neighbours stay.
            if name == b"f" {
                for gone in [b"c", b"g", b"i"] {
                    unlink(&mut mem, "", gone, false).expect("there");
                }
                make(&mut mem, "", b"new", Make::File, 0o644);
            }
            names.push(String::from_utf8(name).expect("a letter"));
            true
        })
    } {}
    assert_eq!(names.concat(), "...abcdefhjklmnopqrstuvwxyz");
    assert!(list(&mut mem, "").contains(&"new".to_owned()));
    for cookie in [u64::MAX, i64::MAX as u64] {
        mem.list(&mut dir, cookie, at(3), &mut |_| panic!("nothing is behind the end")).expect("a directory");
    }
    let mut file = walk(&mut mem, ROOT_USER, "a").expect("there");
    assert_eq!(mem.list(&mut file, 0, at(3), &mut |_| true), Err(Error::ENOTDIR));
}

#[test]
fn a_tree_of_depth_100_000_is_moved_and_dropped_without_recursion() {
    let mut mem = tree_with(1 << 20, Options { inodes_max: 200_000, ..Options::default() });
    let mut dir = root(&mut mem, ROOT_USER);
    for _ in 0..100_000 {
        mem.create(&mut dir, b"d", READ, mode::IFDIR | 0o755, 0, None, at(3)).expect("room");
    }
    let top = root(&mut mem, ROOT_USER);
    assert_eq!(mem.rename(&top, b"d", &dir, b"x", at(3)), Err(Error::ELOOP), "the way up is too long to be looked at");
    let thread = std::thread::Builder::new().stack_size(64 << 10);
    thread.spawn(move || drop(mem)).expect("a thread").join().expect("a small stack is enough");
}

#[test]
fn wstat_renames_without_replacing_and_all_or_nothing() {
    let mut mem = tree();
    let mut file = walk(&mut mem, ROOT_USER, "a/f").expect("there");
    let change = |name| Change { name: Some(name), mode: Some(0o600), ..Change::default() };
    assert_eq!(mem.wstat(&mut file, &change(b"b"), at(30)), Err(Error::EEXIST));
    assert_eq!((mem.stat(&file).expect("there").mode & 0o777, list(&mut mem, "a").len()), (0o644, 4));
    mem.wstat(&mut file, &change(b"new"), at(30)).expect("a free name");
    assert_eq!(list(&mut mem, "a"), [".", "..", "b", "new"]);
    mem.wstat(&mut file, &change(b"new"), at(31)).expect("its own name is no obstacle");
    let stat = mem.stat(&file).expect("there");
    assert_eq!((stat.name, stat.mode & 0o777, stat.ctime.sec), (&b"new"[..], 0o600, 31));
    mem.wstat(&mut file, &Change::default(), at(40)).expect("nothing to change");
    assert_eq!(mem.stat(&file).expect("there").ctime.sec, 31);
    let mut top = root(&mut mem, ROOT_USER);
    assert_eq!(mem.wstat(&mut top, &change(b"x"), at(30)), Err(Error::EBUSY));
}

#[test]
fn everything_that_can_be_made_shows_what_it_is() {
    let mut mem = small_tree();
    make(&mut mem, "", b"l", Make::Symlink(b"to/nowhere"), 0o777);
    make(&mut mem, "", b"d", Make::Device { block: true, major: 8, minor: 1 }, 0o600);
    make(&mut mem, "", b"p", Make::Fifo, 0o600);
    make(&mut mem, "", b"s", Make::Socket, 0o600);
    let link = walk(&mut mem, ROOT_USER, "l").expect("there");
    let stat = mem.stat(&link).expect("there");
    assert_eq!((stat.target, stat.size, stat.qid.kind), (&b"to/nowhere"[..], 10, qt::SYMLINK));
    let device = walk(&mut mem, ROOT_USER, "d").expect("there");
    assert_eq!(mem.stat(&device).expect("there").rdev, (8, 1));
    let modes = [("l", mode::IFLNK), ("d", mode::IFBLK), ("p", mode::IFIFO), ("s", mode::IFSOCK)];
    for (name, kind) in modes {
        let mut file = walk(&mut mem, ROOT_USER, name).expect("there");
        assert_eq!(mem.stat(&file).expect("there").mode & mode::IFMT, kind);
        assert!(mem.open(&mut file, READ, at(3)).is_err(), "stored, never opened by the server");
        mem.close(file, at(3)).expect("nothing to do");
    }
}

#[test]
fn paths_are_never_used_again_and_versions_change_with_content_alone() {
    let mut mem = small_tree();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let mut file = create(&mut mem, b"f", READ_WRITE);
        assert!(seen.insert(mem.attr(&file).path), "a new file has a new path");
        let version = mem.attr(&file).version;
        assert_ne!(version, 0);
        write(&mut mem, &mut file, 0, b"").expect("nothing to do");
        mem.wstat(&mut file, &Change { mode: Some(0o600), ..Change::default() }, at(3)).expect("owner");
        assert_eq!(mem.attr(&file).version, version);
        write(&mut mem, &mut file, 0, b"x").expect("room");
        assert_ne!(mem.attr(&file).version, version);
        mem.nodes[file.node].version = u32::MAX;
        write(&mut mem, &mut file, 0, b"x").expect("room");
        assert_eq!(mem.attr(&file).version, 1, "0 would say: do not cache");
        mem.remove(&mut file, at(3)).expect("removable");
        mem.close(file, at(3)).expect("nothing to do");
    }
}

#[test]
fn moving_a_directory_elsewhere_needs_permission_to_write_to_it() {
    let mut mem = small_tree();
    make(&mut mem, "", b"to", Make::Dir, 0o777);
    make(&mut mem, "", b"d", Make::Dir, 0o755);
    assert_eq!(rename_as(&mut mem, user(5), "", b"d", "to", b"d"), Err(Error::EACCES), "its .. would change");
    assert_eq!(rename_as(&mut mem, user(5), "", b"d", "", b"e"), Ok(()));
}

/// Whichever of several names goes first, none is kept once it has gone.
#[test]
fn further_names_are_forgotten_when_they_go() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut mem = small_tree();
        let names = [&b"a"[..], b"b", b"c"];
        let file = create(&mut mem, names[0], READ_WRITE);
        let dir = root(&mut mem, ROOT_USER);
        names[1..].iter().for_each(|name| mem.link(&dir, name, &file, at(3)).expect("room"));
        assert_eq!((mem.others.len(), mem.further_names), (2, 2));
        order.iter().for_each(|&n| mem.unlink(&dir, names[n], false, at(3)).expect("there"));
        assert_eq!((mem.others.len(), mem.further_names), (0, 0), "{order:?}");
        mem.close(dir, at(3)).expect("nothing to do");
        mem.close(file, at(3)).expect("nothing to do");
        nothing_left(mem);
    }
}
