//! Who may do what (K5 to K9, K12), and what opening means.

use super::tree::{APPEND, BOTH, Limits, MakeTree, NONE, READ, ROOT, Tree, WRITE, claimed, user};
use ring9::fs::{Change, Error, Filesystem, Make, Open, SetTime, SetXattr, Time, User, mode};
use ring9::wire::qt;

const EXEC: Open = Open { read: false, exec: true, ..READ };

/// Whether a user may read, write and execute.
fn rights<F: Filesystem>(tree: &mut Tree<F>, uid: u32, path: &str) -> [bool; 3] {
    [READ, WRITE, EXEC].map(|flags| match tree.open(user(uid), path, flags) {
        Ok(id) => {
            tree.close(id);
            true
        }
        Err(error) => {
            assert_eq!(error, Error::EACCES);
            false
        }
    })
}

/// A file of user 1 in group 20.
fn with_file<F: Filesystem>(make: MakeTree<F>, groups: Option<&'static [(u32, u32)]>) -> Tree<F> {
    let mut tree = Tree::with(make, &Limits { groups, ..Limits::default() });
    let file = tree.create(user(1), "f", BOTH, 0o644).expect("anyone may");
    tree.close(file);
    tree.change(ROOT, "f", &Change { gid: Some(20), ..NONE }).expect("root may");
    tree
}

/// User 1 is in 10 and 20, user 2 in 20, user 3 in 30.
const TABLE: Option<&[(u32, u32)]> = Some(&[(1, 10), (1, 20), (2, 20), (3, 30)]);

/// K8: all 512 modes, for owner, member, stranger and root.
pub fn without_a_table_others_have_what_the_group_has<F: Filesystem>(make: MakeTree<F>) {
    every_mode(make, None, |mode| mode >> 3 | mode, |mode| mode >> 3 | mode);
}

/// K8.
pub fn with_a_table_group_bits_are_the_members_alone<F: Filesystem>(make: MakeTree<F>) {
    every_mode(make, TABLE, |mode| mode >> 3, |mode| mode);
}

fn every_mode<F: Filesystem>(
    make: MakeTree<F>,
    groups: Option<&'static [(u32, u32)]>,
    member: fn(u32) -> u32,
    stranger: fn(u32) -> u32,
) {
    let mut tree = with_file(make, groups);
    for mode in 0..0o1000 {
        tree.chmod("f", mode);
        let exec_of_root = u32::from(mode & 0o111 != 0);
        for (uid, bits) in
            [(1, mode >> 6), (2, member(mode)), (3, stranger(mode)), (4, stranger(mode)), (0, 6 | exec_of_root)]
        {
            let want = [bits & 4 != 0, bits & 2 != 0, bits & 1 != 0];
            assert_eq!(rights(&mut tree, uid, "f"), want, "uid {uid}, mode {mode:o}");
        }
    }
    tree.end();
}

/// K8, chown(2), chmod(2).
pub fn with_a_table_files_are_given_to_groups_of_the_giver_alone<F: Filesystem>(make: MakeTree<F>) {
    let to = |gid| Change { gid: Some(gid), ..NONE };
    let mut loose = with_file(make, None);
    loose.change(user(1), "f", &to(99)).expect("the client has checked");
    assert_eq!(loose.change(user(2), "f", &to(20)), Err(Error::EPERM), "but only the owner may");
    loose.end();
    let mut tree = with_file(make, TABLE);
    let answers =
        [(1, 10, Ok(())), (1, 30, Err(Error::EPERM)), (3, 30, Err(Error::EPERM)), (1, 20, Ok(())), (0, 30, Ok(()))];
    for (uid, gid, answer) in answers {
        assert_eq!(tree.change(user(uid), "f", &to(gid)), answer, "uid {uid}, gid {gid}");
    }
    tree.change(user(1), "f", &to(30)).expect("it is that already");
    tree.change(user(1), "f", &Change { mode: Some(0o6755), ..NONE }).expect("the owner");
    assert_eq!(tree.mode("f"), 0o4755, "no set-gid for a group that he is not in");
    tree.change(user(1), "f", &Change { mode: Some(0o6755), gid: Some(20), ..NONE }).expect("the owner");
    assert_eq!(tree.mode("f"), 0o6755);
    assert_eq!(tree.make_of(user(3), "x", Make::File, 0o644, Some(20)), Err(Error::EPERM));
    assert!(!tree.exists("x"));
    tree.make_of(user(3), "x", Make::File, 0o2755, Some(30)).expect("his group");
    tree.make_of(user(3), "y", Make::File, 0o2755, None).expect("the directory's group");
    assert_eq!((tree.mode("x"), tree.mode("y")), (0o2755, 0o755));
    tree.end();
}

/// K15: the table of set-group-id and groups in docs/protocol.md. Each user makes a file of mode 2755 in a directory of
/// group 50, one in a set-group-id directory of group 50, sets set-group-id on a file of that group, and gives a file to
/// the group.
pub fn set_group_id_needs_a_member<F: Filesystem>(make: MakeTree<F>) {
    const LISTED: Option<&[(u32, u32)]> = Some(&[(1, 50)]);
    let kept = (0o2755, 0o2755, 0o2755, Ok(()));
    let cleared = (0o755, 0o755, 0o755, Err(Error::EPERM));
    let believed = User { gid: None, ..user(1) };
    for (groups, who, named, answer) in [
        // A peer that may act for anyone vouches for the group that it names, and for no other.
        (None, believed, Some(50), kept),
        (None, believed, None, (0o755, 0o755, 0o2755, Ok(()))),
        (None, believed, Some(60), (0o2755, 0o755, 0o2755, Ok(()))),
        (None, user(50), None, kept),
        // Others are in their own group, and in no other that is known.
        (None, claimed(1, Some(50)), Some(50), kept),
        (None, claimed(1, Some(50)), None, kept),
        (None, claimed(1, Some(1)), Some(50), cleared),
        (None, claimed(1, Some(1)), None, cleared),
        (None, claimed(50, None), Some(50), cleared),
        // A table decides alone, besides the user's own group.
        (LISTED, believed, Some(50), kept),
        (LISTED, claimed(1, None), None, kept),
        (LISTED, user(2), Some(50), cleared),
        (LISTED, claimed(2, Some(50)), Some(50), kept),
        (LISTED, ROOT, Some(50), kept),
        (None, User { vouched: false, ..ROOT }, None, kept),
    ] {
        let mut tree = Tree::with(make, &Limits { groups, ..Limits::default() });
        for (dir, mode) in [("plain", 0o777), ("shared", 0o2777)] {
            tree.mkdir(dir);
            tree.change(ROOT, dir, &Change { gid: Some(50), mode: Some(mode), ..NONE }).expect("root may");
        }
        let what = format!("{groups:?}, {who:?}, group {named:?}");
        let mut make = |path: &str, what| tree.make_of(who, path, what, 0o2755, named).map(|_| tree.mode(path));
        let new = make("plain/f", Make::File).expect("anyone may");
        assert_eq!(make("plain/fifo", Make::Fifo), Ok(new), "{what}");
        assert_eq!(make("plain/d", Make::Dir), Ok(new), "{what}");
        let inherited = make("shared/f", Make::File).expect("anyone may");
        assert_eq!(make("shared/d", Make::Dir), Ok(0o2755), "a directory inherits the bit: {what}");
        let group = if named == Some(60) { 60 } else { 50 };
        assert_eq!((tree.stat_of("plain/f").owners.1, tree.stat_of("shared/f").owners.1), (group, 50), "{what}");
        // chmod(2), chown(2).
        tree.make_of(who, "shared/g", Make::File, 0o755, None).expect("anyone may");
        tree.change(who, "shared/g", &Change { mode: Some(0o2755), ..NONE }).expect("the owner");
        let set = tree.mode("shared/g");
        tree.change(ROOT, "shared/g", &Change { gid: Some(51), ..NONE }).expect("root may");
        let before = tree.stat_of("shared/g");
        let given = tree.change(who, "shared/g", &Change { gid: Some(50), ..NONE });
        assert!(given.is_ok() || tree.stat_of("shared/g") == before, "{what}");
        assert_eq!((new, inherited, set, given), answer, "{what}");
        tree.end();
    }
}

/// K15: a new file of a foreign group is refused, unless that is the group of its directory.
pub fn files_of_foreign_groups_need_a_member<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let (stranger, believed) = (claimed(1, Some(1)), user(1));
    for (path, what) in [("f", Make::File), ("d", Make::Dir), ("l", Make::Symlink(b"x")), ("s", Make::Socket)] {
        assert_eq!(tree.make_of(stranger, path, what, 0o644, Some(7)), Err(Error::EPERM), "{path}");
        assert!(!tree.exists(path));
    }
    for (path, who, gid) in [("own", stranger, 1), ("of dir", stranger, 0), ("any", believed, 7), ("root's", ROOT, 7)] {
        tree.make_of(who, path, Make::File, 0o644, Some(gid)).expect("allowed");
        assert_eq!(tree.stat_of(path).owners.1, gid, "{path}");
    }
    tree.end();
}

pub fn directories_want_search_and_write<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.mkdir("d");
    tree.file_with("d/f", b"");
    tree.chmod("d/f", 0o666);
    // Search, read and write: 0755 of root's, as others see it.
    for bits in 0..8u32 {
        tree.chmod("d", 0o700 | bits);
        let (read, write, search) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
        let denied = |may: bool| if may { Ok(()) } else { Err(Error::EACCES) };
        assert_eq!(tree.walk(user(5), "d/f").map(|id| tree.close(id)), denied(search));
        assert_eq!(tree.walk(user(5), "d/..").map(|id| tree.close(id)), denied(search));
        assert_eq!(tree.walk(user(5), "d/.").map(|id| tree.close(id)), denied(search));
        assert_eq!(tree.open(user(5), "d", READ).map(|id| tree.close(id)), denied(read));
        assert_eq!(tree.open(user(5), "d", EXEC).map(|id| tree.close(id)), denied(read && search));
        assert_eq!(tree.make(user(5), "d/x", Make::Fifo, 0o644).map(|_| ()), denied(write && search));
        assert_eq!(tree.rename(user(5), "d/f", "d/g"), denied(write && search));
        if write && search {
            tree.rename(user(5), "d/g", "d/f").expect("and back");
            tree.unlink(user(5), "d/x", false).expect("his own");
        }
        assert_eq!(tree.link(ROOT, "d/f", "d/l"), Ok(()));
        assert_eq!(tree.unlink(user(5), "d/l", false), denied(write && search));
        if tree.exists("d/l") {
            tree.unlink(ROOT, "d/l", false).expect("there");
        }
    }
    // A directory that moves to another one changes its "..".
    tree.chmod("d", 0o777);
    tree.mkdir("d/sub");
    assert_eq!(tree.rename(user(5), "d/sub", "sub"), Err(Error::EACCES));
    tree.rename(user(5), "d/sub", "d/renamed").expect("it stays where it is");
    tree.end();
}

/// K13: without search permission, the answer to every operation is the same for a name that exists and for one that
/// does not.
pub fn names_in_a_closed_directory_stay_unknown<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.make(user(1), "d", Make::Dir, 0o755).expect("anyone may");
    for name in ["d/there", "d/sub"] {
        let what = if name == "d/sub" { Make::Dir } else { Make::File };
        tree.make(user(1), name, what, 0o777).expect("the owner");
    }
    tree.make(user(2), "mine", Make::File, 0o644).expect("anyone may");
    let dir = tree.walk(user(2), "d").expect("open to all");
    let (root, mine) = (tree.root(user(2)), tree.walk(user(2), "mine").expect("there"));
    // Neither reading nor writing a directory replaces the right to search it.
    for mode in [0o700, 0o744, 0o722, 0o766] {
        tree.chmod("d", mode);
        for name in ["there", "sub", "none"] {
            let answers = [
                tree.lookup(dir, name).map(|_| ()),
                tree.unlink_in(dir, name, false),
                tree.unlink_in(dir, name, true),
                tree.rename_in(dir, name, dir, "new"),
                tree.rename_in(dir, name, root, "new"),
                tree.rename_in(root, "mine", dir, name),
                tree.link_in(dir, name, mine),
                tree.make_in(dir, name, Make::File),
                tree.make_in(dir, name, Make::Dir),
                tree.make_in(dir, name, Make::Symlink(b"x")),
                tree.create_in(dir, name, BOTH, 0o644),
            ];
            assert_eq!(answers, [Err(Error::EACCES); 11], "{name}, mode {mode:o}");
        }
    }
    tree.end();
}

/// K6.
pub fn sticky_directories_keep_names_for_their_owners<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.make(user(9), "t", Make::Dir, 0o777).expect("anyone may");
    tree.chmod("t", 0o1777);
    for (uid, path) in [(1, "t/one"), (2, "t/two")] {
        let file = tree.create(user(uid), path, BOTH, 0o666).expect("anyone may");
        tree.close(file);
    }
    assert_eq!(tree.unlink(user(2), "t/one", false), Err(Error::EPERM));
    assert_eq!(tree.rename(user(2), "t/one", "t/x"), Err(Error::EPERM));
    assert_eq!(tree.rename(user(2), "t/one", "x"), Err(Error::EPERM));
    assert_eq!(tree.rename(user(2), "t/two", "t/one"), Err(Error::EPERM), "it would replace");
    let others = tree.walk(user(2), "t/one").expect("there");
    assert_eq!(tree.remove_it(others), Err(Error::EPERM));
    assert_eq!(tree.wstat(others, &Change { name: Some(b"x"), ..NONE }), Err(Error::EPERM));
    assert_eq!(tree.open_it(others, Open { remove_on_close: true, ..READ }), Err(Error::EPERM));
    tree.rename(user(2), "t/two", "t/x").expect("his own");
    tree.rename(user(9), "t/x", "t/two").expect("the directory's owner");
    tree.rename(user(1), "t/one", "t/two").expect_err("not even onto another's");
    tree.unlink(user(1), "t/one", false).expect("his own");
    tree.unlink(ROOT, "t/two", false).expect("root may");
    tree.end();
}

/// K7.
pub fn attributes_are_the_owners_to_change<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = with_file(make, None);
    let to = Some(SetTime::To(Time { sec: 5, nsec: 999_999_999 }));
    let now = Some(SetTime::Now);
    for (uid, change, answer) in [
        (2, Change { mode: Some(0o600), ..NONE }, Err(Error::EPERM)),
        (2, Change { bits: Some(qt::APPEND), ..NONE }, Err(Error::EPERM)),
        (2, Change { atime: to, ..NONE }, Err(Error::EPERM)),
        (2, Change { mtime: to, ..NONE }, Err(Error::EPERM)),
        (2, Change { mtime: now, ..NONE }, Err(Error::EACCES)),
        (2, Change { size: Some(0), ..NONE }, Err(Error::EACCES)),
        (1, Change { uid: Some(2), ..NONE }, Err(Error::EPERM)),
        (1, Change { uid: Some(0), mode: Some(0o777), ..NONE }, Err(Error::EPERM)),
        (2, Change { touch_ctime: true, ..NONE }, Ok(())),
        (2, NONE, Ok(())),
        (1, Change { uid: Some(1), mode: Some(0o622), mtime: to, ..NONE }, Ok(())),
        (2, Change { atime: now, mtime: now, size: Some(9), ..NONE }, Ok(())),
        (0, Change { uid: Some(3), gid: Some(4), ..NONE }, Ok(())),
        (1, Change { mode: Some(0o600), ..NONE }, Err(Error::EPERM)),
    ] {
        let before = tree.stat_of("f");
        assert_eq!(tree.change(user(uid), "f", &change), answer, "uid {uid}: {change:?}");
        let after = tree.stat_of("f");
        if answer.is_err() || change == NONE {
            assert_eq!(after, before);
        } else {
            assert!(after.ctime > before.ctime);
        }
    }
    let shown = tree.stat_of("f");
    assert_eq!((shown.mode, shown.owners, shown.size), (mode::IFREG | 0o622, (3, 4, 2), 9));
    tree.end();
}

/// K5.
pub fn set_id_bits_go_with_a_change_of_content_or_owner<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = with_file(make, None);
    let (file, by_root) = (tree.open(user(1), "f", BOTH).expect("his"), tree.open(ROOT, "f", BOTH).expect("root may"));
    for (before, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o4700, 0o700), (0o2710, 0o710), (0o1644, 0o1644)] {
        for way in 0..8 {
            tree.chmod("f", before);
            let left = match way {
                0 => tree.write(file, 0, b"x").map(|_| after),
                1 => tree.land(file, 0, b"x").map(|_| after),
                2 => tree.resize(file, 3).map(|()| after),
                3 => tree.open(user(1), "f", Open { truncate: true, ..READ }).map(|id| {
                    tree.close(id);
                    after
                }),
                4 => tree.write(by_root, 0, b"x").map(|_| before),
                5 => tree.change(ROOT, "f", &Change { uid: Some(2), ..NONE }).map(|()| after),
                6 => tree.change(user(1), "f", &Change { gid: Some(21), ..NONE }).map(|()| after),
                _ => tree.write(file, 0, b"").map(|_| before),
            };
            let wanted = match (way, left) {
                // Truncating wants write permission.
                (3, Err(error)) => {
                    assert_eq!(error, Error::EACCES);
                    before
                }
                (_, left) => left.expect("allowed"),
            };
            assert_eq!(tree.mode("f"), wanted, "way {way} from {before:o}");
            tree.change(ROOT, "f", &Change { uid: Some(1), gid: Some(20), ..NONE }).expect("root may");
        }
    }
    tree.make(ROOT, "d", Make::Dir, 0o755).expect("a new name");
    tree.chmod("d", 0o2755);
    tree.change(ROOT, "d", &Change { uid: Some(5), gid: Some(6), ..NONE }).expect("root may");
    assert_eq!(tree.mode("d"), 0o2755, "a directory's set-gid is no program's");
    tree.end();
}

/// K14: a request that is refused, or asks for what the file has already, has no effect at all.
pub fn what_is_refused_or_changes_nothing_has_no_effect<F: Filesystem>(make: MakeTree<F>) {
    const CAPABILITY: &[u8] = b"security.capability";
    let mut tree = with_file(make, None);
    let set = |tree: &mut Tree<F>, user, value, how| {
        let id = tree.walk(user, "f").expect("there");
        let at = tree.at();
        let done = tree.with_file(id, |fs, file| fs.set_xattr(file, CAPABILITY, value, how, at));
        tree.close(id);
        done
    };
    tree.chmod("f", 0o6775);
    set(&mut tree, ROOT, Some(b"cap"), SetXattr::Any).expect("root may");
    let (owner, group) = (Change { uid: Some(1), ..NONE }, Change { gid: Some(20), ..NONE });
    let both = Change { uid: Some(1), ..group };
    let own_name = Change { name: Some(b"f"), ..NONE };
    let refused = Err(Error::EPERM);
    for (uid, change, answer) in [
        (2, owner, refused),
        (2, group, refused),
        (2, both, refused),
        (2, Change { touch_ctime: true, ..both }, refused),
        (2, Change { atime: Some(SetTime::Now), size: Some(3), ..both }, refused),
        (2, own_name, Ok(())),
        (1, owner, Ok(())),
        (1, group, Ok(())),
        (1, both, Ok(())),
        (1, own_name, Ok(())),
        (0, both, Ok(())),
        (1, Change { uid: Some(2), ..NONE }, refused),
        (1, Change { mode: Some(0), uid: Some(2), gid: Some(21), ..NONE }, refused),
    ] {
        let before = tree.stat_of("f");
        assert_eq!(tree.change(user(uid), "f", &change), answer, "uid {uid}: {change:?}");
        assert_eq!(tree.stat_of("f"), before, "uid {uid}: {change:?}");
        let id = tree.walk(user(uid), "f").expect("there");
        let kept = tree.with_file(id, |fs, file| fs.xattr(file, CAPABILITY).map(<[u8]>::to_vec));
        assert_eq!(kept, Ok(b"cap".to_vec()), "uid {uid}: {change:?}");
        tree.close(id);
    }
    // The rest of a request acts all the same.
    tree.change(user(1), "f", &Change { mode: Some(0o4700), ..both }).expect("the owner");
    assert_eq!(tree.mode("f"), 0o4700);
    // An attribute that is not there is removed at no effect, and one is not set by a stranger.
    set(&mut tree, ROOT, None, SetXattr::Any).expect("root may");
    let before = tree.stat_of("f");
    assert_eq!(set(&mut tree, ROOT, None, SetXattr::Any), Ok(()));
    assert_eq!(set(&mut tree, ROOT, None, SetXattr::Replace), Err(Error::ENODATA));
    assert_eq!(set(&mut tree, user(1), Some(b"cap"), SetXattr::Any), refused);
    assert_eq!(tree.stat_of("f"), before);
    tree.end();
}

pub fn set_gid_directories_pass_their_group_on<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.mkdir("d");
    tree.change(ROOT, "d", &Change { gid: Some(50), mode: Some(0o2777), ..NONE }).expect("root may");
    let file = tree.create(user(1), "d/f", BOTH, 0o644).expect("anyone may");
    tree.make_of(user(1), "d/g", Make::File, 0o644, Some(1)).expect("anyone may");
    tree.make_of(user(1), "d/sub", Make::Dir, 0o755, Some(1)).expect("anyone may");
    tree.make(user(1), "d/sub/subsub", Make::Dir, 0o700).expect("his");
    let of =
        |tree: &mut Tree<F>, path: &str| (tree.stat_of(path).owners.0, tree.stat_of(path).owners.1, tree.mode(path));
    assert_eq!(tree.stat(file).owners, (1, 50, 1));
    assert_eq!(of(&mut tree, "d/g"), (1, 50, 0o644), "whatever the request says");
    assert_eq!(of(&mut tree, "d/sub"), (1, 50, 0o2755));
    assert_eq!(of(&mut tree, "d/sub/subsub"), (1, 50, 0o2700));
    tree.make_of(user(1), "x", Make::File, 0o644, Some(7)).expect("anyone may");
    tree.make_of(user(1), "y", Make::File, 0o644, None).expect("anyone may");
    assert_eq!((of(&mut tree, "x"), of(&mut tree, "y")), ((1, 7, 0o644), (1, 0, 0o644)));
    tree.end();
}

/// K9, open(9P).
pub fn an_open_file_keeps_its_rights<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(user(1), "f", BOTH, 0o000).expect("the mode is for later opens");
    assert_eq!(tree.open(user(1), "f", READ), Err(Error::EACCES));
    tree.write(file, 0, b"content").expect("open for writing");
    tree.change(ROOT, "f", &Change { uid: Some(2), gid: Some(2), ..NONE }).expect("root may");
    tree.chmod("", 0o700);
    tree.write(file, 7, b" more").expect("open for writing");
    tree.land(file, 12, b" and more").expect("open for writing");
    tree.resize(file, 12).expect("open for writing");
    assert_eq!(tree.read(file, 0, 100), b"content more");
    assert_eq!(tree.wstat(file, &Change { mode: Some(0o777), ..NONE }), Err(Error::EPERM), "that was not opened");
    tree.chmod("", 0o777);
    let reader = tree.duplicate(file);
    assert_eq!(tree.open_it(reader, READ), Err(Error::EACCES), "another value of the same file is checked anew");
    tree.end();
}

/// K12.
pub fn nodes_are_stored_and_never_opened<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let device = |block, major, minor| Make::Device { block, major, minor };
    for (path, what, kind, rdev) in [
        ("null", device(false, 1, 3), mode::IFCHR, (1, 3)),
        ("sda1", device(true, 8, 1), mode::IFBLK, (8, 1)),
        ("large", device(true, u32::MAX, u32::MAX), mode::IFBLK, (u32::MAX, u32::MAX)),
        ("fifo", Make::Fifo, mode::IFIFO, (0, 0)),
        ("socket", Make::Socket, mode::IFSOCK, (0, 0)),
    ] {
        tree.make(user(1), path, what, 0o4666).expect("anyone may");
        let shown = tree.stat_of(path);
        assert_eq!((shown.mode, shown.rdev, shown.size, shown.nlink), (kind | 0o4666, rdev, 0, 1));
        assert_eq!((shown.owners, shown.qid.kind), ((1, 0, 1), qt::FILE));
        for flags in [READ, WRITE, BOTH, Open { truncate: true, ..BOTH }] {
            assert_eq!(tree.open(user(1), path, flags), Err(Error::ENXIO), "{path}");
        }
        let node = tree.walk(user(1), path).expect("there");
        assert_eq!(tree.resize(node, 1), Err(Error::EINVAL));
        assert_eq!(tree.lookup(node, "x"), Err(Error::ENOTDIR));
        tree.link(user(1), path, &format!("{path}.link")).expect("like any file");
        tree.rename(user(1), path, "moved").expect("like any file");
        assert_eq!((tree.stat(node).rdev, tree.stat(node).nlink), (rdev, 2));
        tree.remove_it(node).expect("like any file");
    }
    tree.end();
}

/// open(9P), stat(9P): DMAPPEND and DMEXCL.
pub fn append_only_and_exclusive_files<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let log = tree.create_with(ROOT, "log", BOTH, 0o644, qt::APPEND).expect("a new name");
    tree.write(log, 0, b"one").expect("room");
    tree.write(log, 0, b"two").expect("room");
    let truncating = tree.open(ROOT, "log", Open { truncate: true, ..BOTH }).expect("ignored");
    assert_eq!((tree.read(truncating, 0, 100), tree.qid(truncating).kind), (b"onetwo".to_vec(), qt::APPEND));
    let appending = tree.open(ROOT, "log", APPEND).expect("there");
    tree.write(appending, 0, b"three").expect("room");
    tree.wstat(log, &Change { bits: Some(0), ..NONE }).expect("the owner");
    tree.write(log, 0, b"ONE").expect("room");
    assert_eq!(tree.content(ROOT, "log"), b"ONEtwothree");

    let first = tree.create_with(ROOT, "lock", BOTH, 0o644, qt::EXCL).expect("a new name");
    assert_eq!(tree.open(ROOT, "lock", READ), Err(Error::EBUSY));
    tree.close(first);
    let second = tree.open(ROOT, "lock", READ).expect("free again");
    tree.wstat(second, &Change { bits: Some(0), ..NONE }).expect("the owner");
    let third = tree.open(ROOT, "lock", READ).expect("not exclusive now");
    tree.wstat(second, &Change { bits: Some(qt::EXCL), ..NONE }).expect("the owner");
    tree.close(second);
    assert_eq!(tree.open(ROOT, "lock", READ), Err(Error::EBUSY), "the third has it");
    tree.close(third);
    let last = tree.open(ROOT, "lock", READ).expect("free again");
    tree.close(last);
    tree.end();
}
