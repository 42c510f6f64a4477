//! Extended attributes and locks of a tree (G1 to G8).

use super::tree::{BOTH, Id, Limits, MakeTree, NONE, READ, ROOT, Tree, user};
use ring9::fs::{
    Change, Error, Filesystem, Lock, LockKind, Make, Result, SetXattr, User, XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX,
};

/// What the helpers of [`Tree`] do not have.
impl<F: Filesystem> Tree<F> {
    fn set(&mut self, user: User, path: &str, name: &str, value: &[u8]) -> Result<()> {
        self.set_how(user, path, name, Some(value), SetXattr::Any)
    }

    fn set_how(&mut self, user: User, path: &str, name: &str, value: Option<&[u8]>, how: SetXattr) -> Result<()> {
        let at = self.at();
        let id = self.walk(user, path)?;
        let done = self.with_file(id, |fs, file| fs.set_xattr(file, name.as_bytes(), value, how, at));
        self.close(id);
        done
    }

    fn get(&mut self, user: User, path: &str, name: &str) -> Result<Vec<u8>> {
        let id = self.walk(user, path)?;
        let value = self.with_file(id, |fs, file| fs.xattr(file, name.as_bytes()).map(<[u8]>::to_vec));
        self.close(id);
        value
    }

    fn names_of(&mut self, user: User, path: &str) -> Vec<String> {
        let id = self.walk(user, path).expect("it is there");
        let mut names = Vec::new();
        let listed = self.with_file(id, |fs, file| {
            fs.xattrs(file, &mut |name| names.push(String::from_utf8(name.to_vec()).expect("names of this test")))
        });
        listed.expect("a tree that has attributes");
        self.close(id);
        names
    }

    fn lock(&mut self, id: Id, kind: LockKind, range: std::ops::Range<u64>, process: u32) -> Result<bool> {
        self.with_file(id, |fs, file| fs.lock(file, &Lock { kind, range, process, client: b"box" }))
    }
}

/// Values of all sizes are kept with their file, and go with it.
pub fn values_are_whole_and_go_with_their_file<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let before = tree.statfs();
    tree.file_with("f", b"content");
    tree.mkdir("d");
    let value = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    for path in ["f", "d", ""] {
        for len in [0, 1, 64, 4097, XATTR_BYTES_MAX] {
            tree.set(ROOT, path, "user.value", &value(len)).expect("room");
            assert_eq!(tree.get(ROOT, path, "user.value"), Ok(value(len)));
        }
        assert_eq!(tree.set(ROOT, path, "user.value", &value(XATTR_BYTES_MAX + 1)), Err(Error::E2BIG));
        tree.set(ROOT, path, "user.another", b"one").expect("room");
        assert_eq!(tree.names_of(ROOT, path), ["user.another", "user.value"]);
        assert_eq!(tree.get(ROOT, path, "user.value"), Ok(value(XATTR_BYTES_MAX)));
    }
    assert_eq!(tree.content(ROOT, "f"), b"content");
    // Another name of the file, and none at all.
    tree.link(ROOT, "f", "g").expect("a new name");
    assert_eq!(tree.get(ROOT, "g", "user.another"), Ok(b"one".to_vec()));
    let held = tree.open(ROOT, "f", READ).expect("it is there");
    tree.unlink(ROOT, "f", false).expect("it is there");
    tree.unlink(ROOT, "g", false).expect("it is there");
    let mine = tree.with_file(held, |fs, file| fs.xattr(file, b"user.another").map(<[u8]>::to_vec));
    assert_eq!(mine, Ok(b"one".to_vec()));
    tree.close(held);
    tree.unlink(ROOT, "d", true).expect("it is there");
    for name in ["user.value", "user.another"] {
        tree.set_how(ROOT, "", name, None, SetXattr::Replace).expect("it is there");
    }
    assert_eq!(tree.statfs(), before, "all their room is free again");
    // Who comes next in the same place has none.
    tree.file_with("next", b"");
    assert_eq!(tree.names_of(ROOT, "next"), [""; 0]);
    tree.end();
}

/// setxattr(2), and what it changes of the file.
pub fn attributes_are_made_and_replaced_as_asked<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.file_with("f", b"content");
    let set = |tree: &mut Tree<F>, value: Option<&[u8]>, how| tree.set_how(ROOT, "f", "user.a", value, how);
    assert_eq!(tree.get(ROOT, "f", "user.a"), Err(Error::ENODATA));
    let before = tree.stat_of("f");
    for value in [None, Some(&b"1"[..])] {
        assert_eq!(set(&mut tree, value, SetXattr::Replace), Err(Error::ENODATA));
    }
    assert_eq!(tree.stat_of("f"), before, "a failed change changes nothing");
    assert_eq!(set(&mut tree, Some(b"1"), SetXattr::Create), Ok(()));
    assert_eq!(set(&mut tree, Some(b"2"), SetXattr::Create), Err(Error::EEXIST));
    assert_eq!(tree.get(ROOT, "f", "user.a"), Ok(b"1".to_vec()));
    assert_eq!(set(&mut tree, Some(b"3"), SetXattr::Replace), Ok(()));
    let after = tree.stat_of("f");
    assert!(after.ctime > before.ctime, "the file has changed");
    assert_eq!((after.mtime, after.qid), (before.mtime, before.qid), "its content has not");
    assert_eq!(tree.get(ROOT, "f", "user.a"), Ok(b"3".to_vec()));
    assert_eq!(set(&mut tree, None, SetXattr::Replace), Ok(()));
    assert_eq!(set(&mut tree, None, SetXattr::Any), Ok(()), "nothing was there");
    assert_eq!(tree.get(ROOT, "f", "user.a"), Err(Error::ENODATA));
    tree.end();
}

/// xattr(7): who may see and change what, by the first part of the name.
pub fn spaces_of_names_have_their_owners<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(user(1), "f", BOTH, 0o604).expect("anyone may");
    tree.close(file);
    tree.make(user(1), "d", Make::Dir, 0o1777).expect("anyone may");
    tree.make(user(1), "l", Make::Symlink(b"f"), 0o777).expect("anyone may");
    tree.make(user(1), "p", Make::Fifo, 0o666).expect("anyone may");
    let (acl, default) = ("system.posix_acl_access", "system.posix_acl_default");
    // By user: the owner, another, root. What is not OK is the error.
    let ok = Ok(());
    let cases: [(&str, &str, [Result<()>; 3]); 14] = [
        ("f", "user.a", [ok, Err(Error::EACCES), ok]),
        ("d", "user.a", [ok, Err(Error::EPERM), ok]),
        ("l", "user.a", [Err(Error::EPERM); 3]),
        ("p", "user.a", [Err(Error::EPERM); 3]),
        ("f", "trusted.a", [Err(Error::EPERM), Err(Error::EPERM), ok]),
        ("f", "security.a", [Err(Error::EPERM), Err(Error::EPERM), ok]),
        ("l", "security.a", [Err(Error::EPERM), Err(Error::EPERM), ok]),
        ("f", acl, [ok, Err(Error::EPERM), ok]),
        ("d", default, [ok, Err(Error::EPERM), ok]),
        ("f", default, [Err(Error::EACCES), Err(Error::EPERM), Err(Error::EACCES)]),
        ("l", acl, [Err(Error::EOPNOTSUPP); 3]),
        ("f", "system.other", [Err(Error::EOPNOTSUPP); 3]),
        ("f", "nothing", [Err(Error::EOPNOTSUPP); 3]),
        ("f", "user.", [Err(Error::EINVAL); 3]),
    ];
    for (path, name, expected) in cases {
        for (uid, expected) in [1, 2, 0].into_iter().zip(expected) {
            assert_eq!(tree.set(user(uid), path, name, b"x"), expected, "user {uid}, {name} of {path}");
        }
    }
    assert_eq!(tree.get(user(1), "f", "user.a"), Ok(b"x".to_vec()));
    assert_eq!(tree.get(user(2), "f", "user.a"), Ok(b"x".to_vec()), "others may read it");
    tree.chmod("f", 0o600);
    assert_eq!(tree.get(user(2), "f", "user.a"), Err(Error::EACCES));
    assert_eq!(tree.get(user(2), "f", "security.a"), Ok(b"x".to_vec()), "anyone may");
    assert_eq!(tree.get(user(2), "f", "trusted.a"), Err(Error::ENODATA));
    assert_eq!(tree.get(ROOT, "f", "trusted.a"), Ok(b"x".to_vec()));
    assert_eq!(tree.get(ROOT, "l", "user.a"), Err(Error::ENODATA));
    assert_eq!(tree.names_of(ROOT, "f"), ["security.a", acl, "trusted.a", "user.a"]);
    assert_eq!(tree.names_of(user(2), "f"), ["security.a", acl, "user.a"]);
    // A list without entries is none: so Linux takes back what says no more than the mode.
    assert_eq!(tree.set(user(1), "f", acl, b""), Ok(()));
    assert_eq!(tree.get(user(1), "f", acl), Err(Error::ENODATA));
    assert_eq!(tree.set(ROOT, "f", &format!("user.{}", "n".repeat(XATTR_NAME_BYTES_MAX - 5)), b""), Ok(()));
    assert_eq!(tree.set(ROOT, "f", &format!("user.{}", "n".repeat(XATTR_NAME_BYTES_MAX - 4)), b""), Err(Error::ERANGE));
    assert_eq!(tree.set(ROOT, "f", "user.a\0b", b""), Err(Error::EINVAL));
    tree.end();
}

/// capabilities(7): whoever changes a program, or its owner, takes its capabilities.
pub fn capabilities_go_with_a_change_of_content_or_owner<F: Filesystem>(make: MakeTree<F>) {
    const NAME: &str = "security.capability";
    let mut tree = Tree::new(make);
    type Step<F> = fn(&mut Tree<F>, Id);
    let steps: [(&str, Step<F>, bool); 6] = [
        ("a write", |tree, id| assert_eq!(tree.write(id, 0, b"x"), Ok(1)), false),
        ("a large write", |tree, id| assert_eq!(tree.land(id, 0, &[1; 70_000]), Ok(70_000)), false),
        ("a new length", |tree, id| tree.resize(id, 3).expect("room"), false),
        ("a new owner", |tree, id| tree.wstat(id, &Change { uid: Some(5), ..NONE }).expect("root may"), false),
        ("a new mode", |tree, id| tree.wstat(id, &Change { mode: Some(0o700), ..NONE }).expect("root may"), true),
        ("a look", |tree, id| drop(tree.read(id, 0, 10)), true),
    ];
    for (what, step, stays) in steps {
        tree.file_with("f", b"program");
        tree.set(ROOT, "f", NAME, b"cap").expect("root may");
        tree.set(ROOT, "f", "user.a", b"kept").expect("root may");
        let id = tree.open(ROOT, "f", BOTH).expect("it is there");
        step(&mut tree, id);
        tree.close(id);
        assert_eq!(tree.get(ROOT, "f", NAME).is_ok(), stays, "{what}");
        assert_eq!(tree.get(ROOT, "f", "user.a"), Ok(b"kept".to_vec()), "{what}");
        tree.unlink(ROOT, "f", false).expect("it is there");
    }
    tree.end();
}

/// G1: one file does not take everything, and all of them count.
pub fn attributes_have_bounds<F: Filesystem>(make: MakeTree<F>) {
    const FILES: usize = 300;
    let mut tree = Tree::with(make, &Limits { files: FILES, ..Limits::default() });
    tree.file_with("f", b"content");
    let free = tree.statfs().ffree;
    // By their values.
    let value = vec![7; XATTR_BYTES_MAX];
    for n in 0..4 {
        tree.set(ROOT, "f", &format!("user.{n}"), &value).expect("room");
    }
    assert_eq!(tree.set(ROOT, "f", "user.4", b"x"), Err(Error::ENOSPC));
    assert_eq!(tree.set(ROOT, "f", "user.4", b""), Ok(()), "which takes nothing");
    assert_eq!(tree.set(ROOT, "f", "user.0", &value[1..]), Ok(()));
    assert_eq!(tree.set(ROOT, "f", "user.4", b"x"), Ok(()));
    assert_eq!(tree.statfs().ffree, free - 5);
    for n in 0..5 {
        tree.set_how(ROOT, "f", &format!("user.{n}"), None, SetXattr::Replace).expect("it is there");
    }
    assert_eq!(tree.statfs().ffree, free);
    // By their names: as many as there may be files, and as long a list as a client asks for.
    let name = |n: usize| format!("user.{n:0>250}");
    let (mut set, mut listed) = (0, 0);
    while listed + 256 <= 64 << 10 && set < free as usize {
        tree.set(ROOT, "f", &name(set), b"").expect("room");
        (set, listed) = (set + 1, listed + 256);
    }
    assert_eq!(tree.set(ROOT, "f", &name(set), b""), Err(Error::ENOSPC));
    assert_eq!(tree.set(ROOT, "f", &name(0), b"again"), Ok(()), "which is there");
    assert_eq!(tree.names_of(ROOT, "f").len(), set);
    tree.file_with("g", b"");
    let mut others = 0;
    while tree.set(ROOT, "g", &name(others), b"").is_ok() {
        others += 1;
    }
    assert_eq!((set + others + 3, tree.statfs().ffree), (FILES, 0));
    assert_eq!(tree.make(ROOT, "h", Make::File, 0o644), Err(Error::ENOSPC));
    // By memory.
    tree.unlink(ROOT, "f", false).expect("it is there");
    tree.unlink(ROOT, "g", false).expect("it is there");
    tree.file_with("full", b"");
    let full = tree.open(ROOT, "full", BOTH).expect("it is there");
    let mut at = 0;
    for piece in [65_536, 64] {
        while tree.write(full, at, &vec![1; piece]).is_ok() {
            at += piece as u64;
        }
    }
    assert_eq!(tree.set(ROOT, "full", "user.a", &value), Err(Error::ENOSPC));
    assert_eq!(tree.get(ROOT, "full", "user.a"), Err(Error::ENODATA));
    tree.close(full);
    tree.end();
}

/// A client that does not tell the kind has compared the locks of its own connection: two of its readers are not in each other's way (fcntl_locking(2), F_GETLK).
pub fn a_conflict_of_an_unknown_kind_is_none_with_shared_locks_of_the_same_peer<F: Filesystem>(make: MakeTree<F>) {
    use LockKind::{Exclusive, None, Shared};
    let mut tree = Tree::new(make);
    tree.file_with("f", b"content");
    let elsewhere = User { peer: 2, ..ROOT };
    let [near, far] = [ROOT, elsewhere].map(|user| tree.open(user, "f", READ).expect("it is there"));
    let found = |tree: &mut Tree<F>, by, kind, process| {
        let lock = Lock { kind, range: 0..u64::MAX, process, client: b"box" };
        tree.with_file(by, |fs, file| {
            fs.conflict(file, &lock).expect("locks are known").map(|found| (found.kind, found.range, found.process))
        })
    };
    assert_eq!(tree.lock(near, Shared, 0..10, 1), Ok(true));
    assert_eq!(tree.lock(near, Exclusive, 20..30, 2), Ok(true));
    let (shared, exclusive) = (Some((Shared, 0..10, 1)), Some((Exclusive, 20..30, 2)));
    // By another process of the same peer, by the owners themselves, and by another peer.
    assert_eq!(found(&mut tree, near, None, 3), exclusive);
    assert_eq!((found(&mut tree, near, None, 1), found(&mut tree, near, None, 2)), (exclusive.clone(), Option::None));
    assert_eq!((found(&mut tree, far, None, 3), found(&mut tree, far, None, 1)), (shared.clone(), shared.clone()));
    // Who tells the kind is answered by it.
    assert_eq!((found(&mut tree, near, Shared, 3), found(&mut tree, near, Exclusive, 3)), (exclusive.clone(), shared));
    assert_eq!(found(&mut tree, far, Shared, 1), exclusive);
    tree.end();
}

/// G8: a lock belongs to a process of a client of a peer, and to the file value by which it was taken.
pub fn locks_exclude_others_until_they_are_closed<F: Filesystem>(make: MakeTree<F>) {
    use LockKind::{Exclusive, None, Shared};
    let mut tree = Tree::new(make);
    tree.file_with("f", b"content");
    tree.file_with("g", b"content");
    let elsewhere = User { peer: 2, ..ROOT };
    let [one, two, far] = [ROOT, ROOT, elsewhere].map(|user| tree.open(user, "f", READ).expect("it is there"));
    let other_file = tree.open(elsewhere, "g", READ).expect("it is there");
    assert_eq!(tree.lock(one, Exclusive, 0..100, 1), Ok(true));
    assert_eq!(tree.lock(two, Exclusive, 50..60, 1), Ok(true), "the same process, by another file value");
    assert_eq!(tree.lock(two, Shared, 99..200, 2), Ok(false), "another process");
    assert_eq!(tree.lock(far, Shared, 0..1, 1), Ok(false), "another peer");
    assert_eq!(tree.lock(other_file, Exclusive, 0..u64::MAX, 1), Ok(true), "another file");
    assert_eq!(tree.lock(far, Exclusive, 100..u64::MAX, 1), Ok(true));
    let found = tree.with_file(far, |fs, file| {
        let lock = Lock { kind: Shared, range: 0..u64::MAX, process: 1, client: b"box" };
        fs.conflict(file, &lock).map(|found| found.map(|found| (found.kind, found.range, found.process)))
    });
    assert_eq!(found, Ok(Some((Exclusive, 0..50, 1))));
    // What each file value has taken goes with it.
    tree.close(one);
    assert_eq!(tree.lock(far, Exclusive, 0..50, 1), Ok(true));
    assert_eq!(tree.lock(far, Exclusive, 0..51, 1), Ok(false));
    tree.close(two);
    assert_eq!(tree.lock(far, Shared, 0..u64::MAX, 1), Ok(true));
    let again = tree.open(ROOT, "f", READ).expect("it is there");
    assert_eq!(tree.lock(again, Shared, 5..6, 1), Ok(true));
    assert_eq!(tree.lock(again, Exclusive, 5..6, 1), Ok(false));
    assert_eq!(tree.lock(far, None, 5..6, 1), Ok(true));
    assert_eq!(tree.lock(again, Exclusive, 5..6, 1), Ok(true));
    assert_eq!(tree.lock(again, Exclusive, 4..6, 1), Ok(false));
    // Nor do they outlive the file.
    tree.unlink(ROOT, "f", false).expect("it is there");
    for id in [again, far, other_file] {
        tree.close(id);
    }
    tree.file_with("next", b"");
    let next = tree.open(ROOT, "next", READ).expect("it is there");
    assert_eq!(tree.lock(next, Exclusive, 0..u64::MAX, 9), Ok(true));
    tree.end();
}
