//! The bytes of files: offsets, sizes, holes, replies on their way, versions (D1 to D14).

use super::tree::{APPEND, BOTH, MakeTree, NONE, READ, ROOT, Tree, WRITE, user};
use ring9::fs::{Change, Error, Filesystem, Make, Open, SetTime, Time};
use ring9::wire::qt;

const SIZE_MAX: u64 = i64::MAX as u64;
const OFFSETS: [u64; 9] = [0, 1, 4095, 65_535, 65_536, 1 << 32, 1 << 62, SIZE_MAX, u64::MAX];

/// Bytes that tell where they are.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 7 + i / 251 + seed) % 255) as u8 + 1).collect()
}

/// D1.
pub fn nothing_is_read_and_written_at_no_cost<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.file_with("f", b"content");
    let file = tree.open(user(0), "f", BOTH).expect("there");
    let (before, room) = (tree.stat(file), tree.statfs());
    for offset in OFFSETS {
        assert_eq!(tree.write(file, offset, b""), Ok(0));
    }
    assert_eq!((tree.stat(file), tree.statfs()), (before, room));
    for offset in OFFSETS {
        assert_eq!(tree.read(file, offset, 0), b"");
    }
    tree.end();
}

/// D2, D4: a count has no end that is not cut.
pub fn reads_at_and_behind_the_end_are_empty<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    for len in [0, 1, 100, 65_536, 100_000] {
        let path = len.to_string();
        let data = pattern(len, 1);
        tree.file_with(&path, &data);
        let file = tree.open(ROOT, &path, READ).expect("there");
        for offset in [len as u64, len as u64 + 1, 1 << 40, SIZE_MAX, u64::MAX] {
            assert_eq!(tree.read(file, offset, 1000), b"", "{len} bytes, from {offset}");
        }
        assert!(tree.read(file, 0, u32::MAX) == data);
        if len > 0 {
            assert_eq!(tree.read(file, len as u64 - 1, u32::MAX), [data[len - 1]]);
        }
    }
    tree.end();
}

/// D3.
pub fn no_file_is_larger_than_an_off_t<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let (before, room) = (tree.stat(file), tree.statfs());
    for offset in [SIZE_MAX, SIZE_MAX - 4, u64::MAX, u64::MAX - 4, u64::MAX - 5] {
        assert_eq!(tree.write(file, offset, b"12345"), Err(Error::EFBIG), "at {offset}");
        assert_eq!(tree.land(file, offset, b"12345"), Err(Error::EFBIG), "at {offset}");
    }
    for size in [SIZE_MAX + 1, u64::MAX] {
        assert_eq!(tree.resize(file, size), Err(Error::EFBIG));
    }
    assert_eq!((tree.stat(file), tree.statfs()), (before, room));
    assert_eq!(tree.write(file, SIZE_MAX - 5, b"12345"), Ok(5));
    assert_eq!(tree.read(file, SIZE_MAX - 6, 100), b"\x0012345");
    let append = tree.open(ROOT, "f", APPEND).expect("there");
    assert_eq!(tree.write(append, 0, b"1"), Err(Error::EFBIG), "the end is the end");
    tree.end();
}

/// D5.
pub fn a_byte_far_away_costs_a_page<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let free = tree.statfs().bfree;
    for far in [1 << 62, 1 << 50, 1 << 33] {
        assert_eq!(tree.write(file, far, b"far"), Ok(3));
        assert_eq!(tree.read(file, far - 2, 100).len(), if far == 1 << 62 { 5 } else { 100 });
        assert_eq!(tree.read(file, far - 2, 5), b"\0\0far");
    }
    let fs = tree.statfs();
    assert!((free - fs.bfree) * u64::from(fs.bsize) <= 3 << 12, "three bytes, three pages");
    assert_eq!(tree.stat(file).blocks * 512, (free - fs.bfree) * u64::from(fs.bsize), "as the file itself says");
    tree.end();
}

/// D6.
pub fn a_hole_of_all_there_is_costs_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let room = tree.statfs();
    tree.resize(file, SIZE_MAX).expect("nothing but a number");
    let shown = tree.stat(file);
    assert_eq!((shown.size, shown.blocks), (SIZE_MAX, 0));
    for offset in [0, 12_345, 1 << 40, SIZE_MAX - (1 << 20)] {
        let hole = tree.reply(file, offset, 1 << 20);
        assert_eq!(hole.len(), 1 << 20);
        assert!(hole.to_vec().iter().all(|&byte| byte == 0));
        assert_eq!(tree.statfs(), room, "not even while it is on its way");
    }
    assert_eq!(tree.read(file, SIZE_MAX - 1, 100), b"\0");
    tree.resize(file, 0).expect("shrinking");
    assert_eq!(tree.stat(file).size, 0);
    tree.end();
}

/// D7.
pub fn replies_outlive_a_truncation_whole<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let empty = tree.statfs();
    for len in [1, 100, 5000, 65_536, 200_000] {
        let data = pattern(len, 3);
        tree.write(file, 0, &data).expect("room");
        let reply = tree.reply(file, 0, u32::MAX);
        match len % 3 {
            0 => tree.resize(file, 0).expect("shrinking"),
            1 => {
                let opened = tree.open(ROOT, "f", Open { truncate: true, ..BOTH }).expect("there");
                tree.close(opened);
            }
            _ => tree.resize(file, len as u64 / 2).expect("shrinking"),
        }
        tree.write(file, 0, &pattern(len, 9)).expect("room");
        tree.land(file, 0, &pattern(len, 11)).expect("room");
        tree.resize(file, 0).expect("shrinking");
        assert!(reply.to_vec() == data, "{len} bytes");
        drop(reply);
        assert_eq!(tree.statfs(), empty, "free once the reply has gone");
    }
    tree.end();
}

/// D8.
pub fn a_reply_shows_one_version<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let first = tree.create(ROOT, "f", BOTH, 0o644).expect("a new name");
    let second = tree.open(ROOT, "f", BOTH).expect("there");
    let len = 150_000;
    tree.write(first, 0, &vec![0; len]).expect("room");
    let mut replies = Vec::new();
    for round in 1..=8u8 {
        let writer = if round % 2 == 0 { first } else { second };
        let whole = vec![round; len];
        let written = if round % 3 == 0 { tree.land(writer, 0, &whole) } else { tree.write(writer, 0, &whole) };
        assert_eq!(written, Ok(len as u32));
        let reply = tree.reply(first, 4096 * u64::from(round), 4096);
        // Then a part of what the reply shows.
        tree.write(second, 4096 * u64::from(round) + 100, &[0xff; 1000]).expect("room");
        replies.push((round, reply));
        for (version, reply) in &replies {
            assert!(reply.to_vec() == vec![*version; 4096]);
        }
        if replies.len() == 3 {
            replies.remove(0);
        }
    }
    drop(replies);
    tree.end();
}

/// D9.
pub fn an_abandoned_payload_changes_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    for len in [0, 100, 65_536, 150_000] {
        let file = tree.create(ROOT, &len.to_string(), BOTH, 0o644).expect("a new name");
        let data = pattern(len, 5);
        tree.write(file, 0, &data).expect("room");
        let before = tree.stat(file);
        for (offset, count, arrived) in [(0, 100_000, 0), (0, 100_000, 99_999), (len as u64, 70_000, 5), (50, 20, 20)] {
            tree.land_partly(file, offset, count, &vec![0xee; arrived]).expect("room");
        }
        // The form may have grown on the way; nothing that a client can write about has changed.
        let after = tree.stat(file);
        assert_eq!(
            (after.qid, after.size, after.mtime, after.ctime),
            (before.qid, before.size, before.mtime, before.ctime)
        );
        assert!(tree.read(file, 0, u32::MAX) == data);
        tree.resize(file, 300_000).expect("a number");
        let grown = tree.read(file, 0, u32::MAX);
        assert!(grown[..len] == data && grown[len..].iter().all(|&byte| byte == 0), "{len} bytes");
    }
    tree.end();
}

/// D11.
pub fn appenders_never_overlap<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let first = tree.create(ROOT, "by open", APPEND, 0o644).expect("a new name");
    let second = tree.open(ROOT, "by open", APPEND).expect("there");
    let third = tree.create_with(ROOT, "by file", BOTH, 0o644, qt::APPEND).expect("a new name");
    let fourth = tree.open(ROOT, "by file", BOTH).expect("there");
    for (one, two) in [(first, second), (third, fourth)] {
        let mut all = Vec::new();
        for (round, len) in [1, 1000, 70_000, 30, 65_536, 9].into_iter().enumerate() {
            let writer = if round % 2 == 0 { one } else { two };
            let data = pattern(len, round);
            // Offsets are ignored, however mad.
            let offset = OFFSETS[round];
            let written =
                if round % 3 == 1 { tree.land(writer, offset, &data) } else { tree.write(writer, offset, &data) };
            assert_eq!(written, Ok(len as u32));
            all.extend_from_slice(&data);
        }
        assert!(tree.read(one, 0, u32::MAX) == all);
    }
    tree.end();
}

/// D13: what changes the content changes version, mtime and ctime; what does not, does not.
pub fn versions_and_times_change_with_the_content_alone<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let file = tree.create(ROOT, "f", BOTH, 0o666).expect("a new name");
    let born = tree.stat(file);
    assert_ne!(born.qid.version, 0);
    assert_eq!([born.atime, born.mtime, born.ctime, born.btime], [tree.now().wall; 4]);
    type Does<F> = fn(&mut Tree<F>, super::tree::Id);
    let changes: [Does<F>; 6] = [
        |tree, file| assert_eq!(tree.write(file, 0, b"x"), Ok(1), "room"),
        |tree, file| assert_eq!(tree.write(file, 0, b"x"), Ok(1), "the same byte again counts"),
        |tree, file| assert_eq!(tree.land(file, 10, b"y"), Ok(1), "room"),
        |tree, file| tree.resize(file, 5).expect("shrinking"),
        |tree, file| tree.resize(file, 500).expect("growing"),
        |tree, _| {
            let opened = tree.open(ROOT, "f", Open { truncate: true, ..WRITE }).expect("there");
            let now = tree.now().wall;
            assert_eq!(tree.stat(opened).mtime, now);
            let root = tree.root(ROOT);
            tree.close(root);
        },
    ];
    for (place, does) in changes.into_iter().enumerate() {
        let before = tree.stat(file);
        does(&mut tree, file);
        let after = tree.stat(file);
        assert!(after.qid.version != before.qid.version && after.qid.version != 0, "change {place}");
        assert!(after.mtime > before.mtime && after.mtime == after.ctime, "change {place}");
        assert_eq!((after.qid.path, after.btime, after.atime), (before.qid.path, before.btime, before.atime));
    }
    let before = tree.stat(file);
    tree.read(file, 0, 10);
    let read = tree.stat(file);
    assert_eq!(read.atime, tree.now().wall);
    assert_eq!((read.qid, read.mtime, read.ctime), (before.qid, before.mtime, before.ctime));
    tree.wstat(file, &Change { mode: Some(0o600), ..NONE }).expect("the owner");
    tree.link(ROOT, "f", "g").expect("a new name");
    tree.rename(ROOT, "g", "h").expect("moves");
    let touched = tree.stat(file);
    assert_eq!((touched.qid, touched.mtime), (before.qid, before.mtime), "attributes and names are no content");
    assert_eq!(touched.ctime.sec, tree.now().wall.sec - 2, "a close or two ago");
    tree.end();
}

/// D13: a failed operation leaves no trace, neither in the file nor in the directory.
pub fn failed_operations_change_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.mkdir("d");
    tree.file_with("d/f", b"content");
    tree.mkdir("d/sub");
    tree.file_with("d/sub/x", b"");
    let (file, dir) = (tree.walk(user(5), "d/f").expect("there"), tree.walk(user(5), "d").expect("there"));
    let before = [tree.stat(file), tree.stat(dir)];
    let past = SetTime::To(Time { sec: 1, nsec: 1 });
    let refused = [
        (Change { size: Some(0), mode: Some(0o777), ..NONE }, Error::EPERM),
        (Change { size: Some(0), ..NONE }, Error::EACCES),
        (Change { mtime: Some(past), ..NONE }, Error::EPERM),
        (Change { mtime: Some(SetTime::Now), ..NONE }, Error::EACCES),
        (Change { uid: Some(5), ..NONE }, Error::EPERM),
        (Change { gid: Some(5), ..NONE }, Error::EPERM),
        (Change { name: Some(b"new"), ..NONE }, Error::EACCES),
    ];
    for (change, error) in refused {
        assert_eq!(tree.wstat(file, &change), Err(error), "{change:?}");
    }
    for flags in [WRITE, BOTH, Open { truncate: true, ..READ }, Open { exec: true, ..READ }] {
        assert_eq!(tree.open(user(5), "d/f", flags), Err(Error::EACCES));
    }
    assert_eq!(tree.create(user(5), "d/new", BOTH, 0o666), Err(Error::EACCES));
    assert_eq!(tree.create(user(5), "d/f", BOTH, 0o666), Err(Error::EEXIST));
    assert_eq!(tree.make(user(5), "d/new", Make::Fifo, 0o666), Err(Error::EACCES));
    assert_eq!(tree.make(ROOT, "d/f", Make::Dir, 0o777), Err(Error::EEXIST));
    assert_eq!(tree.link(ROOT, "d/f", "d/sub"), Err(Error::EEXIST));
    assert_eq!(tree.link(ROOT, "d/sub", "d/new"), Err(Error::EPERM));
    assert_eq!(tree.unlink(user(5), "d/f", false), Err(Error::EACCES));
    assert_eq!(tree.unlink(ROOT, "d/sub", true), Err(Error::ENOTEMPTY));
    assert_eq!(tree.rename(user(5), "d/f", "f"), Err(Error::EACCES));
    assert_eq!(tree.rename(ROOT, "d/f", "d/sub"), Err(Error::EISDIR));
    assert_eq!(tree.rename(ROOT, "d/sub", "d/f"), Err(Error::ENOTDIR));
    assert_eq!(tree.list(file, 0, 10), Err(Error::ENOTDIR));
    assert_eq!(tree.wstat(dir, &Change { size: Some(0), ..NONE }), Err(Error::EISDIR));
    assert_eq!(tree.remove_it(file), Err(Error::EACCES));
    // All or nothing, for the owner too: the size is fine, the name is taken.
    let own = tree.walk(ROOT, "d/f").expect("there");
    let mixed = Change { size: Some(3), mode: Some(0), name: Some(b"sub"), ..NONE };
    assert_eq!(tree.wstat(own, &mixed), Err(Error::EEXIST));
    assert_eq!([tree.stat(file), tree.stat(dir)], before);
    tree.end();
}

/// D14: memory that had been another file's, or this one's behind a truncation.
pub fn old_bytes_never_show<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let soil = |tree: &mut Tree<F>| {
        for round in 0..20 {
            let path = format!("soil {round}");
            tree.file_with(&path, &vec![0xaa; [64, 500, 4096, 65_536, 130_000][round % 5]]);
        }
        for round in 0..20 {
            tree.unlink(ROOT, &format!("soil {round}"), false).expect("there");
        }
    };
    for (place, start) in [0u64, 1, 63, 64, 1000, 65_535, 65_536, 70_000, 200_000].into_iter().enumerate() {
        soil(&mut tree);
        let file = tree.create(ROOT, &place.to_string(), BOTH, 0o644).expect("a new name");
        let mut now = vec![0; start as usize];
        tree.write(file, start, b"one").expect("room");
        now.extend_from_slice(b"one");
        tree.land(file, start + 90, b"two").expect("room");
        now.resize(start as usize + 90, 0);
        now.extend_from_slice(b"two");
        assert!(tree.read(file, 0, u32::MAX) == now, "from {start}");
        let cut = start / 2 + 2;
        tree.resize(file, cut).expect("shrinking");
        tree.resize(file, start + 100_000).expect("growing");
        now.truncate(cut as usize);
        now.resize(start as usize + 100_000, 0);
        assert!(tree.read(file, 0, u32::MAX) == now, "from {start}, cut at {cut}");
        // A gap in bytes that the file had before it was cut.
        for lands in [false, true] {
            let full = pattern(start as usize + 60, 7);
            tree.write(file, 0, &full).expect("room");
            tree.resize(file, cut).expect("shrinking");
            let offset = cut + 40;
            let put = if lands { tree.land(file, offset, b"far") } else { tree.write(file, offset, b"far") };
            assert_eq!(put, Ok(3));
            now = full[..cut as usize].to_vec();
            now.resize(offset as usize, 0);
            now.extend_from_slice(b"far");
            assert!(tree.read(file, 0, u32::MAX) == now, "from {start}, cut at {cut}, then a gap");
        }
        tree.close(file);
    }
    tree.end();
}
