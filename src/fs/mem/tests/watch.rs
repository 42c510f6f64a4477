//! What a watched tree tells, and what a replay makes of it.

use super::*;
use crate::arena::Slice;
use crate::fs::mem::watch::Marked;
use crate::fs::{NodeRecord, Record};
use std::collections::BTreeSet;

/// Records as text, and runs of pages: number of the file, offset, length.
#[derive(Default)]
struct Told {
    records: Vec<String>,
    pages: Vec<(u64, u64, usize)>,
    /// Pages are pinned until this is dropped.
    slices: Vec<Slice>,
}

impl Listener for Told {
    fn record(&mut self, record: Record<'_>) {
        self.records.push(match record {
            Record::Node(NodeRecord { path, size, kept, .. }) => format!("node {path} size {size} kept {kept}"),
            Record::Data { path, offset, bytes } => format!("data {path} {offset}+{}", bytes.len()),
            Record::Entry { dir, cookie, path, doomed, name } => {
                let doomed = if doomed { " doomed" } else { "" };
                format!("entry {dir}/{cookie} {path} {}{doomed}", String::from_utf8_lossy(name))
            }
            other => format!("{other:?}").to_lowercase(),
        });
    }

    fn pages(&mut self, path: u64, offset: u64, pages: Slice) {
        self.pages.push((path, offset, pages.len()));
        self.slices.push(pages);
    }
}

/// Tells another tree.
struct Apply<'a>(&'a mut Replay<Watched>);

impl Listener for Apply<'_> {
    fn record(&mut self, record: Record<'_>) {
        self.0.apply(&record).expect("it was told by a tree");
    }

    fn pages(&mut self, path: u64, offset: u64, pages: Slice) {
        self.record(Record::Data { path, offset, bytes: &pages });
    }
}

fn watched() -> Mem<Watched> {
    let options = Options { inodes_max: 100, hash_key: 7, root: (0, 0, 0o777), ..Options::default() };
    let mut mem = Mem::watched(Arena::new(2 << 20).expect("a small mapping"), options);
    mem.init(at(1)).expect("memory is always ready");
    mem
}

fn told(mem: &mut Mem<Watched>) -> Told {
    let mut told = Told::default();
    mem.tell(&mut told);
    assert!(!mem.has_changes());
    told
}

/// A new file in the root.
fn new_file(mem: &mut Mem<Watched>, name: &[u8], flags: Open) -> File {
    let mut file = mem.attach(ROOT_USER, b"").expect("the root is there");
    mem.create(&mut file, name, flags, 0o644, 0, None, at(2)).expect("a new name");
    file
}

fn unlinked(mem: &mut Mem<Watched>, name: &[u8]) {
    let root = mem.attach(ROOT_USER, b"").expect("the root is there");
    mem.unlink(&root, name, false, at(3)).expect("it is there");
    mem.close(root, at(3)).expect("merely walked to");
}

#[test]
fn what_changes_often_is_told_once() {
    let mut mem = watched();
    assert_eq!(told(&mut mem).records, ["next { path: 2 }", "node 1 size 3 kept 0"]);
    assert!(told(&mut mem).records.is_empty());
    let mut file = new_file(&mut mem, b"log", READ_WRITE);
    for n in 0..100 {
        mem.write(&mut file, n * 10, b"0123456789", at(2)).expect("room");
    }
    let expected =
        ["next { path: 3 }", "node 1 size 4 kept 0", "node 2 size 1000 kept 0", "data 2 0+1000", "entry 1/3 2 log"];
    assert_eq!(told(&mut mem).records, expected);
    // Reading tells nothing, and what fails tells nothing.
    let mut all = Iovec::default();
    mem.read(&mut file, 0, all.out(10), at(9)).expect("it is open");
    assert_eq!(mem.write(&mut file, u64::MAX - 5, b"0123456789", at(9)), Err(Error::EFBIG));
    assert!(!mem.has_changes());
    mem.close(file, at(9)).expect("nothing to do");
    assert!(!mem.has_changes());
}

#[test]
fn whole_pages_below_the_size_are_pinned_and_the_rest_is_copied() {
    let mut mem = watched();
    let mut file = new_file(&mut mem, b"f", READ_WRITE);
    mem.write(&mut file, 100, &[1; 200_000], at(2)).expect("room");
    let Told { records, pages, slices } = told(&mut mem);
    let (first, end) = (4096, 200_100 / 4096 * 4096);
    let data: Vec<_> = records.iter().filter(|record| record.starts_with("data")).collect();
    assert_eq!(data, ["data 2 100+3996", &format!("data 2 {end}+{}", 200_100 - end)]);
    let mut at_byte = first;
    for (path, offset, len) in pages {
        assert_eq!((path, offset, len % 4096), (2, at_byte, 0));
        at_byte += len as u64;
    }
    assert_eq!(at_byte, end);
    // A change does not show in what was told.
    mem.write(&mut file, 0, &[2; 300_000], at(2)).expect("room");
    assert!(slices.iter().all(|slice| slice.iter().all(|&byte| byte == 1)));
    drop(slices);
    // A page and a bit, from a page on; then bytes around a page border; then to the end of the last page.
    told(&mut mem);
    mem.write(&mut file, 8192, &[3; 5000], at(2)).expect("room");
    mem.write(&mut file, 20_470, &[3; 20], at(2)).expect("room");
    mem.write(&mut file, 40_000, &[3; 960], at(2)).expect("room");
    let Told { records, pages, .. } = told(&mut mem);
    assert_eq!(pages, [(2, 8192, 4096)]);
    let expected = [
        "node 2 size 300000 kept 300000",
        "data 2 12288+904",
        "data 2 20470+10",
        "data 2 20480+10",
        "data 2 40000+960",
    ];
    assert_eq!(records, expected);
}

#[test]
fn a_truncation_tells_what_is_kept() {
    let mut mem = watched();
    let mut file = new_file(&mut mem, b"f", READ_WRITE);
    mem.write(&mut file, 0, &[1; 10_000], at(2)).expect("room");
    told(&mut mem);
    let size = |mem: &mut Mem<Watched>, file: &mut File, size| {
        mem.wstat(file, &Change { size: Some(size), ..Change::default() }, at(3)).expect("room");
    };
    // Down and up: all behind 50 is 0 now, but for what was written since.
    mem.write(&mut file, 9000, &[2; 100], at(3)).expect("room");
    size(&mut mem, &mut file, 50);
    size(&mut mem, &mut file, 20_000);
    mem.write(&mut file, 60, b"later", at(3)).expect("room");
    assert_eq!(told(&mut mem).records, ["node 2 size 20000 kept 50", "data 2 60+5"]);
    // A range that a truncation cuts in two, and one that it leaves.
    mem.write(&mut file, 0, b"front", at(3)).expect("room");
    mem.write(&mut file, 1000, &[3; 100], at(3)).expect("room");
    size(&mut mem, &mut file, 1040);
    assert_eq!(told(&mut mem).records, ["node 2 size 1040 kept 1040", "data 2 0+5", "data 2 1000+40"]);
    let again = mem.duplicate(&file);
    let mut again = again;
    mem.open(&mut again, Open { truncate: true, ..READ_WRITE }, at(4)).expect("it may");
    assert_eq!(told(&mut mem).records, ["node 2 size 0 kept 0"]);
}

#[test]
fn ranges_are_those_of_a_naive_model() {
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut below = |n: usize| {
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        (seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    };
    for _ in 0..300 {
        let (mut marked, mut model, mut kept) = (Marked::default(), BTreeSet::new(), u64::MAX);
        for _ in 0..below(30) {
            if below(8) == 0 {
                let size = below(200) as u64;
                marked.cut(size);
                model.retain(|&byte| byte < size);
                kept = kept.min(size);
            } else {
                let (start, len) = (below(200) as u64, 1 + below(20) as u64);
                marked.add(start..start + len);
                model.extend(start..start + len);
            }
            assert!(marked.ranges.iter().all(|range| !range.is_empty()));
            assert!(marked.ranges.windows(2).all(|two| two[0].end < two[1].start), "{marked:?}");
            assert!(marked.ranges.iter().cloned().flatten().eq(model.iter().copied()), "{marked:?}");
            assert_eq!(marked.kept, kept);
        }
    }
}

#[test]
fn what_comes_and_goes_between_is_not_told() {
    let mut mem = watched();
    told(&mut mem);
    let mut file = new_file(&mut mem, b"temporary", READ_WRITE);
    mem.write(&mut file, 0, b"bytes", at(2)).expect("room");
    mem.set_xattr(&file, b"user.a", Some(b"1"), SetXattr::Any, at(2)).expect("room");
    unlinked(&mut mem, b"temporary");
    // Its number was shown, so it is not given again; its name had a cookie.
    let expected = ["next { path: 3 }", "noentry { dir: 1, cookie: 3 }", "node 1 size 4 kept 0"];
    assert_eq!(told(&mut mem).records, expected);
    // Nobody finds it any more, whatever is done to it.
    mem.write(&mut file, 0, b"other bytes", at(2)).expect("room");
    mem.set_xattr(&file, b"user.b", Some(b"1"), SetXattr::Any, at(2)).expect("room");
    mem.wstat(&mut file, &Change { size: Some(3), mode: Some(0o600), ..Change::default() }, at(2)).expect("root may");
    assert!(!mem.has_changes());
    mem.close(file, at(3)).expect("it goes");
    assert!(!mem.has_changes());
    // One that was told is told to be gone, and its place serves another one at once.
    let file = new_file(&mut mem, b"old", READ_WRITE);
    mem.close(file, at(3)).expect("nothing to do");
    told(&mut mem);
    unlinked(&mut mem, b"old");
    let file = new_file(&mut mem, b"new", READ_WRITE);
    mem.close(file, at(3)).expect("nothing to do");
    let expected = [
        "next { path: 5 }",
        "noentry { dir: 1, cookie: 4 }",
        "gone { path: 3 }",
        "node 1 size 6 kept 0",
        "node 4 size 0 kept 0",
        "entry 1/5 4 new",
    ];
    assert_eq!(told(&mut mem).records, expected);
}

#[test]
fn a_directory_that_went_with_its_entries_leaves_nothing() {
    let mut mem = watched();
    let mut dir = mem.attach(ROOT_USER, b"").expect("the root is there");
    mem.create(&mut dir, b"dir", READ, mode::IFDIR | 0o755, 0, None, at(2)).expect("a new name");
    mem.make(&dir, b"inside", Make::File, 0o644, None, at(2)).expect("a new name");
    let mut replay = Replay::new(watched());
    mem.tell(&mut Apply(&mut replay));
    let root = mem.attach(ROOT_USER, b"").expect("the root is there");
    mem.unlink(&dir, b"inside", false, at(3)).expect("it is there");
    mem.unlink(&root, b"dir", true, at(3)).expect("it is empty");
    let place = dir.node;
    mem.close(dir, at(3)).expect("it goes");
    mem.make(&root, b"next", Make::Dir, 0o755, None, at(3)).expect("a new name");
    let next = mem.lookup(&root, b"next").expect("just made");
    assert_eq!(next.node, place, "it has the place of the one that went");
    mem.close(next, at(3)).expect("merely walked to");
    mem.tell(&mut Apply(&mut replay));
    // The same, and the one that gets the place goes as well before anything is told.
    mem.unlink(&root, b"next", true, at(3)).expect("it is empty");
    mem.make(&root, b"third", Make::Dir, 0o755, None, at(3)).expect("a new name");
    let third = mem.lookup(&root, b"third").expect("just made");
    assert_eq!(third.node, place);
    mem.make(&third, b"inside", Make::File, 0o644, None, at(3)).expect("a new name");
    mem.tell(&mut Apply(&mut replay));
    mem.unlink(&third, b"inside", false, at(3)).expect("it is there");
    mem.unlink(&root, b"third", true, at(3)).expect("it is empty");
    mem.close(third, at(3)).expect("it goes");
    mem.make(&root, b"fourth", Make::Dir, 0o755, None, at(3)).expect("a new name");
    let fourth = mem.lookup(&root, b"fourth").expect("just made");
    assert_eq!(fourth.node, place);
    mem.unlink(&root, b"fourth", true, at(3)).expect("it is empty");
    mem.close(fourth, at(3)).expect("it goes");
    mem.tell(&mut Apply(&mut replay));
    // One that comes and goes has a number as well.
    mem.make(&root, b"temporary", Make::File, 0o644, None, at(3)).expect("a new name");
    mem.unlink(&root, b"temporary", false, at(3)).expect("it is there");
    mem.tell(&mut Apply(&mut replay));
    assert_eq!(replay.finish(at(9)), Ok(Found::default()));
    let mut mem = replay.into_tree();
    assert!(!mem.has_changes() && mem.nodes.len() == 1);
    let root = mem.attach(ROOT_USER, b"").expect("the root is there");
    let qid = mem.make(&root, b"later", Make::File, 0o644, None, at(4)).expect("a new name");
    assert_eq!(qid.path, 9, "numbers go on behind those that were given");
}

/// What a crash leaves: a file that was open and had no name is gone, and so is a name that was to go with its last close.
#[test]
fn files_that_were_open_without_a_name_or_to_be_removed_are_gone() {
    let mut mem = watched();
    let _doomed = new_file(&mut mem, b"doomed", Open { remove_on_close: true, ..READ_WRITE });
    let kept = new_file(&mut mem, b"opened", READ_WRITE);
    let mut again = mem.duplicate(&kept);
    let mut replay = Replay::new(watched());
    mem.tell(&mut Apply(&mut replay));
    mem.open(&mut again, Open { remove_on_close: true, ..READ_WRITE }, at(2)).expect("root may");
    // It is doomed under any name that it gets, but not under another one that it has.
    let root = mem.attach(ROOT_USER, b"").expect("the root is there");
    mem.link(&root, b"second", &kept, at(3)).expect("a new name");
    mem.rename(&root, b"opened", &root, b"moved", at(3)).expect("a new name");
    mem.tell(&mut Apply(&mut replay));
    assert_eq!(replay.finish(at(9)), Ok(Found { doomed: 2, ..Found::default() }));
    let mut tree = replay.into_tree();
    let root = tree.attach(ROOT_USER, b"").expect("the root is there");
    assert!(tree.lookup(&root, b"second").is_ok());
    let gone = [&b"doomed"[..], b"opened", b"moved"];
    assert!(gone.iter().all(|name| matches!(tree.lookup(&root, name), Err(Error::ENOENT))));
    // That they went is a change like any other.
    assert!(told(&mut tree).records.iter().any(|record| record == "gone { path: 2 }"));
    // A file that has lost its name but was not told to be gone.
    let mut replay = Replay::new(watched());
    let node = NodeRecord { path: 2, version: 1, mode: mode::IFREG, ..NodeRecord::default() };
    replay.apply(&Record::Node(node)).expect("it fits");
    assert_eq!(replay.finish(at(9)), Ok(Found { nameless: 1, ..Found::default() }));
    assert_eq!(replay.into_tree().nodes.len(), 1);
}

#[test]
fn attributes_and_capabilities_are_told() {
    let mut mem = watched();
    let file = new_file(&mut mem, b"f", READ_WRITE);
    let set = |mem: &mut Mem<Watched>, name: &[u8], value: Option<&[u8]>| {
        mem.set_xattr(&file, name, value, SetXattr::Any, at(2)).expect("room");
    };
    set(&mut mem, b"user.a", Some(b"one"));
    set(&mut mem, b"user.b", Some(&[7; 5000]));
    set(&mut mem, b"security.capability", Some(b"all"));
    let mut replay = Replay::new(watched());
    mem.tell(&mut Apply(&mut replay));
    set(&mut mem, b"user.a", Some(b"two"));
    set(&mut mem, b"user.b", None);
    let mut other = mem.duplicate(&file);
    mem.open(&mut other, READ_WRITE, at(3)).expect("root may");
    mem.write(&mut other, 0, b"bytes", at(3)).expect("room");
    mem.tell(&mut Apply(&mut replay));
    assert_eq!(replay.finish(at(9)), Ok(Found::default()));
    let mut tree = replay.into_tree();
    let root = tree.attach(ROOT_USER, b"").expect("the root is there");
    let file = tree.lookup(&root, b"f").expect("it is there");
    let mut names = Vec::new();
    tree.xattrs(&file, &mut |name| names.push(name.to_vec())).expect("root may");
    assert_eq!((names, tree.xattr(&file, b"user.a")), (vec![b"user.a".to_vec()], Ok(&b"two"[..])));
    assert_eq!(tree.inodes_free(), 100 - 3);
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    let node = |path, mode, size| Record::Node(NodeRecord { path, version: 1, mode, size, ..NodeRecord::default() });
    let entry = |dir, cookie, path, name: &'static [u8]| Record::Entry { dir, cookie, path, doomed: false, name };
    let (dir, file, other_dir) = (node(2, mode::IFDIR, 9), node(3, mode::IFREG, 10), node(4, mode::IFDIR, 9));
    let root = node(1, mode::IFDIR, 9);
    let (in_root, in_dir) = (entry(1, 3, 2, b"dir"), entry(2, 3, 3, b"file"));
    let wrong: [(&[Record<'_>], &str); 13] = [
        (&[file, node(3, mode::IFIFO, 0)], "a file changes its type"),
        (&[node(1, mode::IFREG, 0)], "a file changes its type"),
        (&[node(5, 0o644, 0)], "a file of no known type"),
        (&[file, Record::Data { path: 3, offset: 5, bytes: b"beyond" }], "bytes beyond the size of a file"),
        (&[dir, Record::Data { path: 2, offset: 0, bytes: b"x" }], "bytes of a file that has none"),
        (&[file, entry(3, 3, 1, b"x")], "an entry of a file that is no directory"),
        (&[root, in_root], "an entry of a file that is not there"),
        (&[dir, entry(2, 3, 1, b"root")], "a directory with two names"),
        (&[root, dir, in_root, entry(1, 4, 2, b"again")], "a directory with two names"),
        (&[root, dir, entry(1, 9, 2, b"dir")], "a cookie that was not given"),
        (&[root, dir, in_root, Record::Gone { path: 2 }], "a file with names or entries is gone"),
        (&[dir, file, in_dir, Record::Gone { path: 2 }], "a file with names or entries is gone"),
        (&[Record::Gone { path: 1 }], "a file with names or entries is gone"),
    ];
    for (records, what) in wrong {
        let mut replay = Replay::new(watched());
        let (last, first) = records.split_last().expect("some records");
        first.iter().for_each(|record| assert_eq!(replay.apply(record), Ok(()), "{record:?}"));
        assert_eq!(replay.apply(last), Err(Unfit::Contradiction(what)), "{last:?}");
    }
    let unfinished: [(&[Record<'_>], &str); 3] = [
        (&[root, file, entry(1, 3, 3, b"same"), entry(1, 4, 3, b"same")], "a directory with a name twice"),
        (&[dir, other_dir, entry(2, 3, 4, b"in"), entry(4, 3, 2, b"out")], "a directory that is not below the root"),
        (&[dir, file, in_dir], "entries in a directory without a name"),
    ];
    for (records, what) in unfinished {
        let mut replay = Replay::new(watched());
        records.iter().for_each(|record| assert_eq!(replay.apply(record), Ok(()), "{record:?}"));
        assert_eq!(replay.finish(at(9)), Err(Unfit::Contradiction(what)));
    }
    let mut replay = Replay::new(watched());
    replay.apply(&node(3, mode::IFREG, 64 << 16)).expect("a size takes no memory");
    for offset in 0..64 {
        let full = replay.apply(&Record::Data { path: 3, offset: offset << 16, bytes: &[1; 64 << 10] });
        if full == Err(Unfit::Memory) {
            return;
        }
    }
    panic!("4 MiB are in 2 MiB of memory");
}

/// Found by fuzzing: the target of a link is shown from one block, and its bytes came in parts or not at all.
#[test]
fn a_link_shows_all_bytes_of_its_target_whatever_was_told() {
    for (size, kept) in [(80, 0), (80, 80), (4095, 4000)] {
        let mut replay = Replay::new(watched());
        let node = |size, kept| {
            let mode = mode::IFLNK | 0o777;
            Record::Node(NodeRecord { path: 2, version: 1, mode, size, kept, ..NodeRecord::default() })
        };
        let root =
            Record::Node(NodeRecord { path: 1, version: 1, mode: mode::IFDIR, size: 9, ..NodeRecord::default() });
        let data = Record::Data { path: 2, offset: 0, bytes: b"target" };
        let entry = Record::Entry { dir: 1, cookie: 3, path: 2, doomed: false, name: b"link" };
        for record in [root, node(6, 0), data, node(size, kept), entry] {
            assert_eq!(replay.apply(&record), Ok(()), "{record:?}");
        }
        assert_eq!(replay.finish(at(9)), Ok(Found::default()));
        let tree = &mut replay.into_tree();
        let root = tree.attach(ROOT_USER, b"").expect("the root is there");
        let link = tree.lookup(&root, b"link").expect("it is there");
        let target = tree.stat(&link).expect("it is there").target.to_vec();
        let start: &[u8] = if kept == 0 { &[0; 6] } else { b"target" };
        assert_eq!((target.len() as u64, &target[..6]), (size, start));
        assert!(target[6..].iter().all(|&byte| byte == 0));
        for size in [0, 4096] {
            let refused = Replay::new(watched()).apply(&node(size, 0));
            assert_eq!(refused, Err(Unfit::Contradiction("a symbolic link with a target of no bytes or too many")));
        }
    }
}

/// However much there is, a part of a sweep is about as large as it was asked for, and all is marked in the end.
#[test]
fn a_sweep_marks_everything_in_bounded_parts() {
    let mut mem = watched();
    let mut large = new_file(&mut mem, b"large", READ_WRITE);
    mem.write(&mut large, 0, &[1; 300_000], at(2)).expect("room");
    // A hole of a petabyte, and bytes behind it.
    mem.write(&mut large, 1 << 50, &[2; 5000], at(2)).expect("room");
    let root = mem.attach(ROOT_USER, b"").expect("the root is there");
    for n in 0..60 {
        mem.make(&root, format!("empty {n}").as_bytes(), Make::File, 0o644, None, at(2)).expect("a new name");
    }
    mem.set_xattr(&large, b"user.a", Some(&[3; 60_000]), SetXattr::Any, at(2)).expect("room");
    mem.set_xattr(&large, b"user.b", Some(b"4"), SetXattr::Any, at(2)).expect("room");
    let gone = new_file(&mut mem, b"nameless", READ_WRITE);
    unlinked(&mut mem, b"nameless");
    told(&mut mem);
    for bytes in [1, 500, 10_000, 1 << 20] {
        let (changes, mut sweep, mut replay) = (mem.changes(), Sweep::default(), Replay::new(watched()));
        replay.set_partial(true);
        let (mut parts, mut is_whole) = (0, false);
        while !is_whole {
            is_whole = mem.sweep(&mut sweep, bytes);
            assert!(mem.changed_bytes() <= bytes + 67_000, "{} of {bytes}", mem.changed_bytes());
            mem.tell(&mut Apply(&mut replay));
            parts += 1;
        }
        assert!(mem.sweep(&mut sweep, bytes) && !mem.has_changes(), "there is no more");
        assert_eq!(mem.changes(), changes, "nothing has changed");
        assert!(parts > (300_000 / bytes.max(65_536)) as usize && parts < 400, "{parts} parts of {bytes}");
        assert_eq!(replay.finish(at(9)), Ok(Found::default()));
        let mut tree = replay.into_tree();
        assert_eq!(tree.nodes.len() + 1, mem.nodes.len());
        assert_eq!(tree.nodes.path_of_next(), mem.nodes.path_of_next(), "numbers that were given are not given again");
        let root = tree.attach(ROOT_USER, b"").expect("the root is there");
        let mut file = tree.lookup(&root, b"large").expect("it is there");
        assert_eq!(tree.stat(&file).expect("it is there").size, (1 << 50) + 5000);
        let mut all = Iovec::default();
        tree.open(&mut file, READ_WRITE, at(9)).expect("root may");
        tree.read(&mut file, 0, all.out(300_000), at(9)).expect("it is open");
        tree.read(&mut file, (1 << 50) - 1, all.out(3), at(9)).expect("it is open");
        assert!(all.to_vec()[..300_000].iter().all(|&byte| byte == 1) && all.to_vec().ends_with(&[0, 2, 2]));
        assert_eq!(tree.xattr(&file, b"user.a").map(<[u8]>::len), Ok(60_000));
        assert!(tree.live_bytes() >= 300_000 + 60_000 + 61 * 500 && tree.live_bytes() < 700_000);
    }
    mem.close(gone, at(9)).expect("it goes");
}
