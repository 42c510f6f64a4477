//! Room: bounds on files and bytes, what statfs says of them (D12, E9, F5); and times.

use super::tree::{BOTH, Limits, MakeTree, NONE, READ, ROOT, Tree};
use ring9::fs::{Change, Error, Filesystem, Make, SetTime, Time, mode};

const FEW: usize = 40;

fn few<F: Filesystem>(make: MakeTree<F>) -> Tree<F> {
    Tree::with(make, &Limits { files: FEW, ..Limits::default() })
}

fn free<F: Filesystem>(tree: &mut Tree<F>) -> u64 {
    let fs = tree.statfs();
    assert_eq!(fs.files, FEW as u64);
    fs.ffree
}

/// E9.
pub fn files_are_counted_before_anything_changes<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = few(make);
    assert_eq!(free(&mut tree), FEW as u64 - 1, "the root is one");
    tree.mkdir("d");
    let kinds = [Make::File, Make::Dir, Make::Symlink(b"t"), Make::Fifo, Make::Socket];
    for n in 0..FEW - 2 {
        tree.make(ROOT, &format!("d/{n}"), kinds[n % 5], 0o755).expect("room");
        assert_eq!(free(&mut tree), (FEW - 3 - n) as u64);
    }
    let (dir, room) = (tree.stat_of("d"), tree.statfs());
    for kind in kinds {
        assert_eq!(tree.make(ROOT, "d/more", kind, 0o755), Err(Error::ENOSPC));
    }
    assert_eq!(tree.create(ROOT, "d/more", BOTH, 0o644), Err(Error::ENOSPC));
    assert_eq!(tree.create(ROOT, "d/more", READ, mode::IFDIR | 0o755), Err(Error::ENOSPC));
    assert_eq!(tree.make(ROOT, "d/1", Make::Fifo, 0o755), Err(Error::EEXIST), "that comes first");
    assert_eq!((tree.stat_of("d"), tree.statfs()), (dir, room));
    // Names may move, and one that goes makes room once nobody holds its file.
    tree.rename(ROOT, "d/0", "moved").expect("takes nothing");
    let held = tree.open(ROOT, "moved", READ).expect("there");
    tree.unlink(ROOT, "moved", false).expect("takes nothing");
    assert_eq!((free(&mut tree), tree.make(ROOT, "d/more", Make::File, 0o644)), (0, Err(Error::ENOSPC)));
    tree.close(held);
    assert_eq!(free(&mut tree), 1);
    tree.make(ROOT, "d/more", Make::File, 0o644).expect("room again");
    tree.rename(ROOT, "d/more", "d/5").expect("replaces, which makes room");
    assert_eq!(free(&mut tree), 1);
    tree.end();
}

/// E9, F5: a name takes memory as a file does.
pub fn further_names_count<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = few(make);
    tree.file_with("f", b"content");
    for n in 0..FEW - 2 {
        tree.link(ROOT, "f", &n.to_string()).expect("room");
        assert_eq!(free(&mut tree), (FEW - 3 - n) as u64);
    }
    let (file, root) = (tree.stat_of("f"), tree.stat_of(""));
    assert_eq!(tree.link(ROOT, "f", "more"), Err(Error::ENOSPC));
    assert_eq!(tree.make(ROOT, "more", Make::File, 0o644), Err(Error::ENOSPC));
    assert_eq!((tree.stat_of("f"), tree.stat_of("")), (file, root));
    tree.rename(ROOT, "f", "renamed").expect("takes nothing");
    tree.rename(ROOT, "1", "2").expect("does nothing");
    assert_eq!(free(&mut tree), 0);
    tree.unlink(ROOT, "0", false).expect("there");
    tree.file_with("alone", b"");
    tree.unlink(ROOT, "alone", false).expect("there");
    assert_eq!(free(&mut tree), 1, "a file with one name takes no further one along");
    tree.link(ROOT, "renamed", "0").expect("room again");
    let held = tree.walk(ROOT, "renamed").expect("there");
    for n in 0..FEW - 2 {
        tree.unlink(ROOT, &n.to_string(), false).expect("there");
        assert_eq!(free(&mut tree), n as u64 + 1);
    }
    tree.unlink(ROOT, "renamed", false).expect("there");
    assert_eq!(free(&mut tree), FEW as u64 - 2, "the last name is no further one; the file is held");
    tree.close(held);
    assert_eq!(free(&mut tree), FEW as u64 - 1);
    tree.end();
}

/// D12.
pub fn bytes_run_out_before_anything_changes<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let sizes = [0, 1, 60, 64, 3000, 65_535, 65_536, 65_537, 200_000];
    for (place, &size) in sizes.iter().enumerate() {
        let data = vec![place as u8 + 1; size];
        tree.file_with(&place.to_string(), &data);
    }
    // Blocks first, then the smallest pieces.
    let filler = tree.create(ROOT, "filler", BOTH, 0o644).expect("a new name");
    let blocks = (0..).take_while(|&n| tree.write(filler, n << 16, b"x").is_ok()).count();
    assert!(blocks > 0);
    let mut crumbs = 0;
    while let Ok(crumb) = tree.create(ROOT, &format!("crumb {crumbs}"), BOTH, 0o644) {
        crumbs += 1;
        let filled = tree.write(crumb, 0, b"x");
        tree.close(crumb);
        if filled.is_err() {
            break;
        }
    }
    let mut refused = 0;
    for (place, &size) in sizes.iter().enumerate() {
        let data = vec![place as u8 + 1; size];
        let file = tree.open(ROOT, &place.to_string(), BOTH).expect("there");
        let reply = tree.reply(file, 0, u32::MAX);
        for (offset, len) in
            [(0, 1), (0, 70_000), (size as u64, 5000), (size as u64 + 1000, 1), (1 << 40, 1), (65_000, 140_000)]
        {
            for lands in [false, true] {
                let (before, room) = (tree.stat(file), tree.statfs());
                let new = vec![0xff; len];
                let result = if lands { tree.land(file, offset, &new) } else { tree.write(file, offset, &new) };
                match result {
                    Err(error) => {
                        assert_eq!(error, Error::ENOSPC);
                        assert_eq!((tree.stat(file), tree.statfs()), (before, room), "{size} bytes, {len} at {offset}");
                        refused += 1;
                    }
                    // There was room in its own block; as before, please.
                    Ok(_) => {
                        tree.resize(file, size as u64).expect("shrinking");
                        if offset < size as u64 {
                            let end = size.min(offset as usize + len);
                            tree.write(file, offset, &data[offset as usize..end]).expect("room in place");
                        }
                    }
                }
                assert!(tree.read(file, 0, u32::MAX) == data, "{size} bytes, {len} at {offset}");
            }
        }
        assert!(reply.to_vec() == data, "on its way all the time");
        drop(reply);
        tree.close(file);
    }
    assert!(refused > 50, "{refused}");
    // Removing needs nothing, and helps.
    tree.resize(filler, 0).expect("shrinking");
    let file = tree.open(ROOT, "2", BOTH).expect("there");
    assert_eq!(tree.write(file, 0, &[1; 70_000]), Ok(70_000));
    tree.end();
}

/// D12: what was had for the first part of a request is given back when there is nothing for the rest.
pub fn a_request_that_almost_fits_takes_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let filler = tree.create(ROOT, "filler", BOTH, 0o644).expect("a new name");
    tree.file_with("f", b"content");
    let file = tree.open(ROOT, "f", BOTH).expect("there");
    let blocks = (0..).take_while(|&n| tree.write(filler, n << 16, b"x").is_ok()).count() as u64;
    for left in 0..5 {
        tree.resize(filler, (blocks - left) << 16).expect("shrinking");
        let (before, room) = (tree.stat(file), tree.statfs());
        for (offset, len) in [(3, 400_000), (100, 400_000), (65_000, 400_000), (1 << 20, 400_000)] {
            assert_eq!(tree.write(file, offset, &vec![1; len]), Err(Error::ENOSPC), "{left} blocks, {len} at {offset}");
            assert_eq!(tree.land(file, offset, &vec![1; len]), Err(Error::ENOSPC), "{left} blocks, {len} at {offset}");
            assert_eq!((tree.stat(file), tree.statfs()), (before.clone(), room), "{left} blocks, {len} at {offset}");
        }
        assert_eq!(tree.read(file, 0, 100), b"content");
    }
    tree.end();
}

pub fn targets_take_room<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let target = [b't'; 4095];
    let room = tree.statfs();
    let mut made = 0;
    let error = loop {
        match tree.make(ROOT, &made.to_string(), Make::Symlink(&target), 0o777) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::ENOSPC);
    let full = tree.statfs();
    assert_eq!((full.bfree, full.ffree), (0, room.ffree - made), "bytes ran out, not files");
    assert_eq!(made * 4096, room.bfree * u64::from(room.bsize));
    assert!(!tree.exists(&made.to_string()));
    assert_eq!(tree.stat_of("7").target, target);
    tree.end();
}

/// What statfs calls free can be written.
pub fn the_free_room_is_there<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let fresh = tree.statfs();
    let unit = u64::from(fresh.bsize);
    assert!(fresh.bfree <= fresh.blocks && fresh.ffree < fresh.files && fresh.bfree > 0);
    let file = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let whole = vec![1; (fresh.bfree * unit) as usize];
    assert_eq!(tree.write(file, 0, &whole), Ok(whole.len() as u32));
    assert_eq!((tree.statfs().bfree, tree.stat(file).blocks * 512), (0, whole.len() as u64));
    assert_eq!(tree.write(file, whole.len() as u64, b"x"), Err(Error::ENOSPC));
    assert_eq!(tree.write(file, 5, b"in place"), Ok(8));
    tree.resize(file, 65_536).expect("shrinking");
    assert_eq!(tree.statfs().bfree, fresh.bfree - 65_536 / unit);
    tree.unlink(ROOT, "f", false).expect("there");
    assert_eq!(tree.statfs().bfree, fresh.bfree - 65_536 / unit, "it is still open");
    tree.close(file);
    assert_eq!(tree.statfs(), fresh);
    tree.end();
}

pub fn times_have_nanoseconds<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.file_with("f", b"");
    let file = tree.walk(ROOT, "f").expect("there");
    let born = tree.stat(file).btime;
    assert_eq!(born.nsec, (born.sec * 1001) as u32, "the clock of the suite");
    for time in [
        Time { sec: 0, nsec: 0 },
        Time { sec: 1, nsec: 1 },
        Time { sec: -5, nsec: 999_999_999 },
        Time { sec: i64::MAX, nsec: 123_456_789 },
        Time { sec: 1 << 33, nsec: 5 },
    ] {
        let later = Time { nsec: time.nsec / 2, ..time };
        let both = Change { atime: Some(SetTime::To(time)), mtime: Some(SetTime::To(later)), ..NONE };
        tree.wstat(file, &both).expect("the owner");
        let shown = tree.stat(file);
        assert_eq!((shown.atime, shown.mtime, shown.ctime, shown.btime), (time, later, tree.now().wall, born));
    }
    tree.wstat(file, &Change { atime: Some(SetTime::Now), ..NONE }).expect("the owner");
    let shown = tree.stat(file);
    assert_eq!((shown.atime, shown.mtime.sec), (tree.now().wall, 1 << 33));
    // A size and a time in one request: the time that was asked for stays.
    let given = Time { sec: 77, nsec: 7 };
    tree.wstat(file, &Change { size: Some(5), mtime: Some(SetTime::To(given)), ..NONE }).expect("the owner");
    assert_eq!((tree.stat(file).mtime, tree.stat(file).size), (given, 5));
    // The directory's times follow its names.
    let root = tree.root(ROOT);
    for step in 0..4 {
        let before = tree.stat(root);
        match step {
            0 => tree.file_with("g", b""),
            1 => tree.rename(ROOT, "g", "h").expect("moves"),
            2 => tree.link(ROOT, "f", "g").expect("a new name"),
            _ => tree.unlink(ROOT, "g", false).expect("there"),
        }
        let after = tree.stat(root);
        assert!(after.mtime > before.mtime && after.ctime == after.mtime && after.qid.version != before.qid.version);
        assert_eq!((after.atime, after.btime), (before.atime, before.btime));
    }
    tree.end();
}

/// mount(8), relatime: a read moves the access time if the file was changed since the last one, or if that is a day ago.
pub fn reads_move_access_times_once_after_a_change_and_once_a_day<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.file_with("f", b"content");
    tree.mkdir("d");
    tree.make(ROOT, "l", Make::Symlink(b"target"), 0o777).expect("a new name");
    let open = [("f", BOTH), ("d", READ)].map(|(path, flags)| tree.open(ROOT, path, flags).expect("there"));
    let files = [open[0], open[1], tree.walk(ROOT, "l").expect("there")];
    let read = |tree: &mut Tree<F>| {
        let [file, dir, link] = files;
        tree.read(file, 0, 3);
        tree.list(dir, 0, 9).expect("a directory");
        let at = tree.at();
        tree.with_file(link, |fs, file| fs.target_read(file, at));
        files.map(|id| tree.stat(id).atime.sec)
    };
    let just_now = |tree: &Tree<F>| [2, 1, 0].map(|before| tree.now().wall.sec - before);
    let first = read(&mut tree);
    assert_eq!(first, just_now(&tree), "they were made since");
    assert_eq!(read(&mut tree), first, "nothing has changed");
    // A change of content counts, and one of attributes.
    assert_eq!(tree.write(files[0], 0, b"x"), Ok(1));
    tree.file_with("d/x", b"");
    tree.wstat(files[2], &Change { uid: Some(5), ..NONE }).expect("root may");
    let second = read(&mut tree);
    assert_eq!((second, read(&mut tree)), (just_now(&tree).map(|sec| sec - 3), second));
    tree.pass(24 * 60 * 60 - 10);
    assert_eq!(read(&mut tree), second, "not yet a day");
    tree.pass(10);
    assert_eq!(read(&mut tree), just_now(&tree), "a day old");
    // What a client sets holds, until the next change at least.
    let set = Time { sec: 1 << 40, nsec: 5 };
    tree.wstat(files[0], &Change { atime: Some(SetTime::To(set)), ..NONE }).expect("root may");
    assert_eq!((read(&mut tree)[0], tree.stat(files[0]).atime), (set.sec, set));
    tree.end();
}
