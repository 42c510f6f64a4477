//! Names: making, moving, replacing and removing them (F1 to F11, C10, C14).

use super::tree::{BOTH, MakeTree, NONE, READ, ROOT, Tree, user};
use ring9::fs::{Change, Error, Filesystem, Make, NAME_BYTES_MAX, Open, check_name, mode};
use ring9::wire::qt;
use std::collections::BTreeSet;

const ON_CLOSE: Open = Open { remove_on_close: true, ..BOTH };

/// `a/b/c` directories, `a/f` and `g` files.
fn small<F: Filesystem>(make: MakeTree<F>) -> Tree<F> {
    let mut tree = Tree::new(make);
    for path in ["a", "a/b", "a/b/c"] {
        tree.mkdir(path);
    }
    tree.file_with("a/f", b"f");
    tree.file_with("g", b"g");
    tree
}

/// F1.
pub fn a_directory_is_never_moved_below_itself<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    for to in ["a/x", "a/b/x", "a/b/c/x"] {
        assert_eq!(tree.rename(ROOT, "a", to), Err(Error::EINVAL), "to {to}");
    }
    let mut dir = tree.walk(ROOT, "a/b").expect("there");
    assert_eq!(tree.rename_it(dir, "a/b/c/x"), Err(Error::EINVAL));
    assert_eq!(tree.rename_it(dir, "a/b/x"), Err(Error::EINVAL));
    tree.rename_it(dir, "b").expect("up is fine");
    dir = tree.walk(ROOT, "a").expect("there");
    tree.rename_it(dir, "b/c/a").expect("no longer inside of it");
    assert_eq!((tree.names("b/c"), tree.names("b/c/a")), (vec!["a".into()], vec!["f".into()]));
    tree.end();
}

/// F2.
pub fn replacing_follows_rename_2<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    for (from, to, answer) in [
        ("g", "a", Err(Error::EISDIR)),
        ("a", "g", Err(Error::ENOTDIR)),
        ("a/b", "a/f", Err(Error::ENOTDIR)),
        ("a/b/c", "a", Err(Error::ENOTEMPTY)),
        ("none", "x", Err(Error::ENOENT)),
        ("none", "g", Err(Error::ENOENT)),
    ] {
        assert_eq!(tree.rename(ROOT, from, to), answer, "{from} to {to}");
    }
    let links = |tree: &mut Tree<F>| ["", "a", "a/b"].map(|path| tree.stat_of(path).nlink);
    assert_eq!(links(&mut tree), [3, 3, 3]);
    let (file, dir) = (tree.stat_of("g").qid, tree.stat_of("a/b/c").qid);
    tree.rename(ROOT, "g", "a/f").expect("replaces a file");
    assert_eq!((tree.stat_of("a/f").qid, tree.content(ROOT, "a/f")), (file, b"g".to_vec()));
    assert!(!tree.exists("g"));
    tree.rename(ROOT, "a/b/c", "c").expect("moves");
    assert_eq!((tree.stat_of("c").qid, links(&mut tree)), (dir, [4, 3, 2]));
    tree.rename(ROOT, "c", "a/b").expect("replaces an empty directory");
    assert_eq!((tree.stat_of("a/b").qid, links(&mut tree)), (dir, [3, 3, 2]));
    assert_eq!(tree.stat_of("a/b/..").qid.path, tree.stat_of("a").qid.path);
    assert_eq!(tree.names("a"), ["b", "f"]);
    for what in [Make::Symlink(b"target"), Make::Fifo, Make::Device { block: true, major: 1, minor: 2 }] {
        tree.make(ROOT, "special", what, 0o644).expect("a new name");
        assert_eq!(tree.rename(ROOT, "special", "a/b"), Err(Error::EISDIR));
        assert_eq!(tree.rename(ROOT, "a/b", "special"), Err(Error::ENOTDIR));
        tree.rename(ROOT, "special", "a/f").expect("replaces what is no directory");
    }
    tree.end();
}

/// F3.
pub fn renaming_onto_itself_changes_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    tree.link(ROOT, "g", "h").expect("a new name");
    tree.link(ROOT, "g", "a/h").expect("a new name");
    let paths = ["", "a", "a/b", "g"];
    let before = paths.map(|path| tree.stat_of(path));
    for (from, to) in [("g", "g"), ("a", "a"), ("a/b", "a/b"), ("g", "h"), ("h", "a/h"), ("a/h", "g")] {
        tree.rename(ROOT, from, to).expect("does nothing");
    }
    assert_eq!(paths.map(|path| tree.stat_of(path)), before);
    assert_eq!(
        (tree.names(""), tree.names("a")),
        (vec!["a".into(), "g".into(), "h".into()], vec!["b".into(), "f".into(), "h".into()])
    );
    tree.end();
}

pub fn what_is_replaced_lives_on_while_it_is_open<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let old = tree.open(ROOT, "a/f", BOTH).expect("there");
    tree.rename(ROOT, "g", "a/f").expect("replaces");
    let shown = tree.stat(old);
    assert_eq!((shown.nlink, shown.ctime), (0, tree.stat_of("a/f").ctime));
    assert_eq!(tree.read(old, 0, 100), b"f");
    assert_eq!(tree.write(old, 1, b"more"), Ok(4));
    assert_eq!(tree.read(old, 0, 100), b"fmore");
    assert_eq!(tree.remove_it(old), Err(Error::ENOENT), "its name is another file's");
    assert_eq!(tree.content(ROOT, "a/f"), b"g");
    let dir = tree.walk(ROOT, "a/b/c").expect("there");
    tree.mkdir("d");
    tree.rename(ROOT, "d", "a/b/c").expect("replaces");
    assert_eq!(tree.stat(dir).nlink, 0);
    assert_eq!(tree.create_in(dir, "x", READ, 0o644), Err(Error::ENOENT));
    tree.end();
}

/// F6, E7, C10.
pub fn names_that_nobody_can_make_and_the_way_up<F: Filesystem>(make: MakeTree<F>) {
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0b", b"/a"] {
        assert_eq!(check_name(name), Err(Error::EINVAL));
    }
    assert_eq!(check_name(&[b'n'; NAME_BYTES_MAX]), Ok(()));
    assert_eq!(check_name(&[b'n'; NAME_BYTES_MAX + 1]), Err(Error::ENAMETOOLONG));
    let mut tree = small(make);
    let long = "n".repeat(NAME_BYTES_MAX);
    tree.file_with(&long, b"long");
    assert_eq!((tree.content(ROOT, &long), tree.stat_of(&long).name), (b"long".to_vec(), long.into_bytes()));
    for name in ["\u{fc}\u{f1}\u{ef}", "...", " ", "-", "a\\b", "new\nline"] {
        tree.file_with(name, b"x");
        assert_eq!(tree.stat_of(name).name, name.as_bytes());
    }
    let root = tree.stat_of("").qid;
    for path in ["..", "../..", "a/../..", "a/b/c/../../../.."] {
        assert_eq!(tree.stat_of(path).qid, root, "{path}");
    }
    assert_eq!(tree.stat_of("a/b/c/..").qid, tree.stat_of("a/b").qid);
    assert_eq!(tree.stat_of("a/b/c/..").name, b"b");
    assert_eq!((tree.stat_of(".").qid, tree.stat_of("././..").qid), (root, root));
    assert_eq!(tree.stat_of("a/./b/."), tree.stat_of("a/b"));
    for (path, error) in [
        ("x", Error::ENOENT),
        ("a/x", Error::ENOENT),
        ("g/x", Error::ENOTDIR),
        ("g/..", Error::ENOTDIR),
        ("g/.", Error::ENOTDIR),
    ] {
        assert_eq!(tree.walk(ROOT, path), Err(error), "{path}");
    }
    // Who walks to "." has the name of the directory, not another one.
    let dot = tree.walk(ROOT, "a/b/c/.").expect("there");
    tree.rename_it(dot, "moved").expect("by the name it was reached by");
    tree.remove_it(dot).expect("empty");
    assert!(!tree.exists("moved") && !tree.exists("a/b/c"));
    let gone = tree.lookup(dot, ".").expect("a directory without a name");
    assert_eq!(tree.stat(gone), tree.stat(dot));
    tree.end();
}

/// F7.
pub fn the_root_stays<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let root = tree.root(ROOT);
    let before = tree.stat(root);
    assert_eq!(before.name, b"/");
    assert_eq!(tree.remove_it(root), Err(Error::EBUSY));
    assert_eq!(tree.rename_it(root, "a/root"), Err(Error::EBUSY));
    assert_eq!(tree.wstat(root, &Change { name: Some(b"x"), ..NONE }), Err(Error::EBUSY));
    assert_eq!(tree.stat(root), before);
    tree.end();
}

/// F8, C12.
pub fn an_unlinked_file_is_usable_by_all_who_hold_it<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let room = tree.statfs();
    let big = vec![7; 100_000];
    tree.file_with("big", &big);
    let held: Vec<_> = (0..1000).map(|_| tree.open(ROOT, "big", BOTH).expect("there")).collect();
    let walked = tree.walk(ROOT, "big").expect("there");
    tree.unlink(ROOT, "big", false).expect("there");
    assert!(!tree.exists("big"));
    let (first, last) = (held[0], held[999]);
    let shown = tree.stat(last);
    assert_eq!((shown.nlink, shown.size, shown.ctime.sec < tree.now().wall.sec), (0, 100_000, true));
    assert_eq!(tree.write(first, 50_000, b"still"), Ok(5));
    assert_eq!(tree.land(last, 100_000, b"growing"), Ok(7));
    assert_eq!(tree.read(last, 50_000, 5), b"still");
    tree.wstat(walked, &Change { mode: Some(0o600), size: Some(100_003), ..NONE }).expect("still a file");
    assert_eq!(tree.read(first, 99_999, 100), b"\x07gro");
    let copy = tree.duplicate(walked);
    tree.open_it(copy, READ).expect("by one who had walked there");
    assert_eq!(tree.link_it(ROOT, copy, "again"), Err(Error::ENOENT), "nobody gives it a name again");
    tree.file_with("big", b"another");
    assert_ne!(tree.stat_of("big").qid.path, shown.qid.path);
    tree.unlink(ROOT, "big", false).expect("there");
    for id in held.into_iter().chain([walked]) {
        assert_ne!(tree.statfs(), room, "someone holds it");
        tree.close(id);
    }
    tree.close(copy);
    assert_eq!(tree.statfs(), room, "gone with the last");
    tree.end();
}

/// F9: following is the client's matter.
pub fn symbolic_links_are_not_followed<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let long = vec![b'x'; 4095];
    for (path, target) in [("one", &b"two"[..]), ("two", b"one"), ("self", b"self"), ("dir", b"a"), ("long", &long)] {
        let qid = tree.make(ROOT, path, Make::Symlink(target), 0o777).expect("a new name");
        let shown = tree.stat_of(path);
        assert_eq!((shown.qid, qid.kind), (qid, qt::SYMLINK));
        assert_eq!((shown.target, shown.size), (target.to_vec(), target.len() as u64));
        assert_eq!(shown.mode, mode::IFLNK | 0o777);
        assert_eq!(tree.walk(ROOT, &format!("{path}/f")), Err(Error::ENOTDIR));
        assert_eq!(tree.open(ROOT, path, READ), Err(Error::ELOOP));
        let link = tree.walk(ROOT, path).expect("there");
        assert_eq!(tree.resize(link, 0), Err(Error::EINVAL));
        tree.close(link);
    }
    tree.link(ROOT, "one", "three").expect("a link to the link itself");
    tree.unlink(ROOT, "one", false).expect("there");
    assert_eq!((tree.stat_of("three").target, tree.stat_of("three").nlink), (b"two".to_vec(), 1));
    tree.end();
}

/// F11.
pub fn file_values_survive_moves_above_them<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    tree.file_with("a/b/c/deep", b"deep");
    let (deep, dir) = (tree.open(ROOT, "a/b/c/deep", BOTH).expect("there"), tree.walk(ROOT, "a/b/c").expect("there"));
    tree.rename(ROOT, "a/b", "moved").expect("moves");
    tree.rename(ROOT, "moved/c", "a/other").expect("moves");
    tree.rename(ROOT, "a/other/deep", "g").expect("replaces");
    assert_eq!((tree.read(deep, 0, 9), tree.stat(deep).name), (b"deep".to_vec(), b"g".to_vec()));
    assert_eq!(tree.stat(dir).name, b"other");
    let up = tree.lookup(dir, "..").expect("there");
    assert_eq!(tree.qid(up), tree.stat_of("a").qid);
    tree.create_in(dir, "new", BOTH, 0o644).expect("a directory like any other");
    assert!(tree.exists("a/other/new"));
    tree.rename_it(deep, "a/other/back").expect("by the name of now");
    assert_eq!((tree.content(ROOT, "a/other/back"), tree.exists("g")), (b"deep".to_vec(), false));
    tree.remove_it(deep).expect("by the name of now");
    assert_eq!(tree.names("a/other"), ["new"]);
    tree.end();
}

pub fn hard_links_are_names_of_one_file<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    tree.link(ROOT, "g", "a/h").expect("a new name");
    tree.link(ROOT, "a/h", "a/b/i").expect("a new name");
    let shown = tree.stat_of("g");
    assert_eq!((shown.nlink, tree.stat_of("a/b/i").qid), (3, shown.qid));
    let file = tree.open(ROOT, "a/h", BOTH).expect("there");
    tree.write(file, 0, b"through one").expect("room");
    assert_eq!(tree.content(ROOT, "a/b/i"), b"through one");
    tree.unlink(ROOT, "g", false).expect("there");
    tree.rename(ROOT, "a/h", "a/b/j").expect("moves");
    assert_eq!((tree.stat(file).nlink, tree.names("a/b")), (2, vec!["c".into(), "i".into(), "j".into()]));
    assert_eq!(tree.link(ROOT, "a/b", "dir"), Err(Error::EPERM));
    assert_eq!(tree.link(ROOT, "a/b/i", "a/f"), Err(Error::EEXIST));
    assert_eq!(tree.link(user(5), "a/b/i", "a/k"), Err(Error::EACCES));
    tree.unlink(ROOT, "a/b/i", false).expect("there");
    tree.unlink(ROOT, "a/b/j", false).expect("there");
    assert_eq!((tree.stat(file).nlink, tree.read(file, 0, 7)), (0, b"through".to_vec()));
    tree.end();
}

/// A value whose name had gone took over another name of the file: remove-on-close then removed what its user had no right to.
pub fn nobody_removes_a_name_that_he_did_not_walk_to<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    tree.chmod("g", 0o666);
    tree.link(user(5), "g", "mine").expect("anyone may");
    let (closing, walked) =
        (tree.open(user(5), "mine", ON_CLOSE).expect("there"), tree.walk(user(5), "mine").expect("there"));
    // The latest name of the file is root's.
    tree.rename(ROOT, "g", "a/safe").expect("moves");
    tree.unlink(user(5), "mine", false).expect("there");
    assert_eq!(tree.remove_it(walked), Err(Error::ENOENT));
    assert_eq!(tree.rename_it(walked, "taken"), Err(Error::ENOENT));
    assert_eq!(tree.wstat(walked, &Change { name: Some(b"taken"), ..NONE }), Err(Error::ENOENT));
    assert_eq!((tree.stat(walked).name, tree.stat(walked).nlink), (vec![], 1));
    tree.close(closing);
    assert_eq!(tree.content(ROOT, "a/safe"), b"g");
    // A name that only moved is followed, whichever of several it is.
    for path in ["one", "two", "three"] {
        tree.link(ROOT, "a/safe", path).expect("a new name");
    }
    let values = ["one", "two", "three"].map(|path| tree.walk(ROOT, path).expect("there"));
    for (from, to) in [("two", "a/b/2"), ("one", "a/b/c/1"), ("three", "3"), ("a/b/2", "a/f")] {
        tree.rename(ROOT, from, to).expect("moves");
    }
    assert_eq!(values.map(|id| tree.stat(id).name), [&b"1"[..], b"f", b"3"]);
    tree.remove_it(values[1]).expect("removable");
    assert_eq!(
        (tree.exists("a/f"), tree.exists("a/b/c/1"), tree.exists("3"), tree.exists("a/safe")),
        (false, true, true, true)
    );
    tree.end();
}

/// D13, stat(9P): qid.path.
pub fn numbers_of_files_are_never_used_again<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let mut seen = BTreeSet::new();
    for round in 0..300 {
        let what = [Make::File, Make::Dir, Make::Symlink(b"t"), Make::Socket][round % 4];
        let qid = tree.make(ROOT, "x", what, 0o755).expect("a new name");
        assert!(seen.insert(qid.path) && qid.version != 0);
        tree.file_with("y", b"");
        assert!(seen.insert(tree.stat_of("y").qid.path));
        match round % 3 {
            0 => tree.rename(ROOT, "y", "x").or_else(|_| tree.unlink(ROOT, "y", false)).expect("replaces or goes"),
            _ => tree.unlink(ROOT, "y", false).expect("there"),
        }
        tree.unlink(ROOT, "x", what == Make::Dir).expect("there");
    }
    tree.end();
}

pub fn a_removed_directory_takes_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let dir = tree.open(ROOT, "a/b/c", READ).expect("there");
    tree.unlink(ROOT, "a/b/c", true).expect("empty");
    tree.unlink(ROOT, "a/b", true).expect("empty");
    tree.mkdir("takes the place of b");
    let at = tree.duplicate(dir);
    assert_eq!(tree.create_in(at, "x", BOTH, 0o644), Err(Error::ENOENT));
    assert_eq!(tree.create_in(at, "x", READ, mode::IFDIR | 0o755), Err(Error::ENOENT));
    let root = tree.root(ROOT);
    assert_eq!(tree.rename_in(root, "g", dir, "x"), Err(Error::ENOENT));
    assert_eq!(tree.lookup(dir, "x"), Err(Error::ENOENT));
    let up = tree.lookup(dir, "..").expect("a directory always has one above");
    assert_ne!(tree.qid(up), tree.stat_of("takes the place of b").qid, "not what took the place of what was above");
    assert_eq!(tree.stat(dir).nlink, 0);
    let left = tree.list(dir, 0, 10).expect("still a directory");
    assert!(left.iter().all(|entry| entry.name == "." || entry.name == ".."));
    tree.end();
}

pub fn removing_knows_files_from_directories<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    for (path, want_dir, error) in [
        ("a", false, Error::EISDIR),
        ("g", true, Error::ENOTDIR),
        ("a", true, Error::ENOTEMPTY),
        ("none", true, Error::ENOENT),
        ("none", false, Error::ENOENT),
    ] {
        assert_eq!(tree.unlink(ROOT, path, want_dir), Err(error), "{path}");
    }
    let (dir, file) = (tree.walk(ROOT, "a").expect("there"), tree.walk(ROOT, "g").expect("there"));
    assert_eq!(tree.unlink_in(file, "x", false), Err(Error::ENOTDIR));
    assert_eq!(tree.remove_it(dir), Err(Error::ENOTEMPTY));
    tree.remove_it(file).expect("a file");
    assert_eq!(tree.remove_it(file), Err(Error::ENOENT), "once");
    // The directory that a name goes from may be open, as v9fs has it.
    let open = tree.open(ROOT, "a/b", READ).expect("there");
    tree.unlink_in(open, "c", true).expect("empty");
    tree.unlink(ROOT, "a/b", true).expect("empty, though open");
    tree.unlink(ROOT, "a/f", false).expect("there");
    tree.remove_it(dir).expect("empty now");
    assert!(tree.names("").is_empty());
    tree.end();
}

/// C14.
pub fn remove_on_close_acts_once<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let file = tree.create(ROOT, "f", ON_CLOSE, 0o644).expect("a new name");
    let again = tree.open(ROOT, "f", ON_CLOSE).expect("there");
    tree.rename(ROOT, "f", "moved").expect("moves");
    tree.file_with("f", b"another");
    tree.close(file);
    assert_eq!((tree.exists("moved"), tree.stat(again).nlink), (false, 0), "the file, not what has its old name");
    tree.close(again);
    assert_eq!(tree.content(ROOT, "f"), b"another");
    tree.chmod("", 0o755);
    tree.chmod("g", 0o666);
    assert_eq!(tree.open(user(5), "g", ON_CLOSE), Err(Error::EACCES), "checked at the open");
    assert_eq!(tree.open(ROOT, "a", Open { remove_on_close: true, ..READ }), Err(Error::EISDIR));
    tree.chmod("", 0o777);
    let kept = tree.open(user(5), "g", ON_CLOSE).expect("may remove");
    tree.chmod("", 0o755);
    tree.close(kept);
    assert!(!tree.exists("g"), "what was granted stays granted");
    tree.end();
}

/// stat(9P): a name that is there is an error.
pub fn wstat_renames_without_replacing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    let file = tree.walk(ROOT, "a/f").expect("there");
    let to = |name| Change { name: Some(name), mode: Some(0o600), ..NONE };
    let before = tree.stat(file);
    assert_eq!(tree.wstat(file, &to(b"b")), Err(Error::EEXIST));
    assert_eq!(tree.stat(file), before);
    tree.wstat(file, &to(b"new")).expect("a free name");
    assert_eq!(
        (tree.names("a"), tree.stat(file).name, tree.mode("a/new")),
        (vec!["b".into(), "new".into()], b"new".to_vec(), 0o600)
    );
    tree.wstat(file, &to(b"new")).expect("its own name is no obstacle");
    tree.unlink(ROOT, "a/new", false).expect("there");
    assert_eq!(tree.wstat(file, &to(b"x")), Err(Error::ENOENT));
    tree.end();
}

/// rename(2), as 9P2000.u has it: all its rules hold, and a refusal changes nothing of what else was asked for.
pub fn wstat_replaces_where_it_is_asked_to<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = small(make);
    tree.file_with("a/h", b"h");
    tree.mkdir("a/empty");
    tree.mkdir("a/dir");
    tree.link(ROOT, "a/f", "a/link").expect("a new name");
    let to = |name| Change { name: Some(name), replace: true, ..NONE };
    let values = ["a/f", "a/dir", "a", "a/b"].map(|path| tree.walk(ROOT, path).expect("there"));
    let [file, dir, above, _] = values;
    let before = values.map(|id| tree.stat(id));
    for (id, name, error) in [
        (file, &b"b"[..], Error::EISDIR),
        (file, b"dir", Error::EISDIR),
        (dir, b"h", Error::ENOTDIR),
        (dir, b"b", Error::ENOTEMPTY),
    ] {
        assert_eq!(tree.wstat(id, &Change { mode: Some(0o700), ..to(name) }), Err(error), "{name:?}");
    }
    // Two names of one file: nothing happens, and both stay.
    tree.wstat(file, &to(b"link")).expect("does nothing");
    tree.wstat(file, &to(b"f")).expect("does nothing");
    assert_eq!(values.map(|id| tree.stat(id)), before);
    assert_eq!(tree.names("a"), ["b", "dir", "empty", "f", "h", "link"]);
    let old = tree.open(ROOT, "a/h", BOTH).expect("there");
    tree.wstat(file, &Change { size: Some(1), mode: Some(0o600), ..to(b"h") }).expect("replaces");
    assert_eq!(tree.stat(above).mtime, tree.now().wall);
    assert_eq!((tree.stat(old).nlink, tree.read(old, 0, 9), tree.stat(file).name), (0, b"h".to_vec(), b"h".to_vec()));
    assert_eq!((tree.mode("a/h"), tree.content(ROOT, "a/h")), (0o600, b"f".to_vec()));
    tree.wstat(dir, &to(b"empty")).expect("replaces");
    assert_eq!(tree.names("a"), ["b", "empty", "h", "link"]);
    tree.wstat(dir, &to(b"new")).expect("a free name");
    assert_eq!(
        (tree.stat(above).nlink, tree.names("a")),
        (4, vec!["b".into(), "h".into(), "link".into(), "new".into()])
    );
    // Rights are those of a rename: of what moves and of what goes.
    tree.make(user(9), "t", Make::Dir, 0o777).expect("anyone may");
    tree.chmod("t", 0o1777);
    for (uid, path) in [(1, "t/one"), (2, "t/two")] {
        let made = tree.create(user(uid), path, BOTH, 0o666).expect("anyone may");
        tree.close(made);
    }
    assert_eq!(tree.change(user(1), "t/one", &to(b"two")), Err(Error::EPERM), "another's file goes");
    assert_eq!(tree.change(user(2), "t/one", &to(b"two")), Err(Error::EPERM), "another's file moves");
    assert_eq!(tree.change(user(9), "t/one", &to(b"two")), Ok(()), "the directory's owner");
    tree.chmod("a", 0o755);
    assert_eq!(tree.change(user(5), "a/h", &to(b"link")), Err(Error::EACCES));
    tree.end();
}
