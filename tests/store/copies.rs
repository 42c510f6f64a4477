//! A copy of a store is a store of its own with the same tree, and takes no more room than the tree needs.

use super::*;
use ring9::store::copy::{Copied, NotCopied, To, copy};
use ring9::store::{inspect, segment_name};
use std::fs;
use std::path::{Path, PathBuf};

/// A store that was served, with checkpoints, and ended.
fn ended(seed: u64, steps: usize, large: usize) -> (Disk, Shape) {
    let (mut random, mut disk) = (Random::new(seed), Disk::new());
    let how = How { margin_bytes: 0, ..how() };
    let (store, _) = open(disk.path(), Arena::new(8 << 20).expect("a mapping"), how, at(1)).expect("a new store");
    let mut served = Served::new(store, 10);
    served.is_blind = true;
    for _ in 0..steps {
        served.step(&mut random);
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    for number in 0..large {
        let file = served.root();
        let (name, new) = (format!("large{number}"), New { flags: WRITE, mode: mode::IFREG | 0o644, ..New::default() });
        served.call(Call::Create { dir: file, name: name.as_bytes(), new }, Show::Nothing).expect("a new name");
        for part in 0..8 {
            let data = vec![number as u8 + part as u8; 30_000];
            served.call(Call::Write { file, offset: part * 30_000, data: &data }, Show::Nothing).expect("room");
        }
        served.close(file);
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    served.store.retire(at(99));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert!(!served.store.has_asks());
    let was = shape(served.store.tree());
    drop(served);
    (disk.crash(&mut random), was)
}

fn copy_to(disk: &Disk, path: &Path, segment_bytes: Option<u64>) -> std::result::Result<Option<Copied>, NotCopied> {
    let to = To { path, id: *b"another sixteen.", segment_bytes };
    copy(disk.path(), to, Arena::new(8 << 20).expect("a mapping"), how().tree, at(77))
}

/// A directory beside that of a disk; removed at the end.
struct Dest(PathBuf);

impl Dest {
    fn of(disk: &Disk) -> Dest {
        Dest(disk.path().with_extension("copy"))
    }
}

impl Drop for Dest {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All files of a directory, and of those below it.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).expect("it is there").flatten() {
        if entry.path().is_dir() {
            found.append(&mut files(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).expect("a file"));
        }
    }
    found
}

/// Serves a store, makes a file in it, and says what there is before and after that.
fn served_once(path: &Path) -> (Shape, Shape) {
    let how = How { margin_bytes: 1 << 30, ..how() };
    let (store, report) = open(path, Arena::new(8 << 20).expect("a mapping"), how, at(1)).expect("a good store");
    assert!(!report.is_new && report.torn.is_none());
    let mut served = Served::new(store, 500);
    let before = shape(served.store.tree());
    let dir = served.root();
    let make = Call::Make { dir, name: b"made", what: Make::Dir, mode: 0o700, gid: None, enter: false };
    served.call(make, Show::Nothing).expect("a new name");
    (before, shape(served.store.tree()))
}

#[test]
fn a_copy_has_the_same_tree_and_goes_on_as_its_source_would() {
    for seed in 1..10 {
        let segment_bytes = [None, Some(2 * SEGMENT_BYTES)][seed as usize % 2];
        let (disk, was) = ended(seed, 30 * seed as usize, seed as usize % 3 * 4);
        let dest = Dest::of(&disk);
        if seed % 3 == 0 {
            fs::create_dir(&dest.0).expect("room");
        }
        let before = files(disk.path());
        let copied = copy_to(&disk, &dest.0, segment_bytes).expect("a good store").expect("a store");
        assert_eq!(files(disk.path()), before, "nothing of the source was changed");

        let memory = Arena::new(8 << 20).expect("a mapping");
        let checked = inspect::check(&dest.0, memory, how().tree, at(1)).expect("a store");
        assert_eq!((checked.files, checked.inodes), (copied.files, copied.inodes), "seed {seed}");
        let seen = inspect::show(&dest.0).expect("a good store").expect("a store");
        assert_eq!(seen.superblock.store, *b"another sixteen.");
        assert_eq!(seen.superblock.segment_bytes, segment_bytes.unwrap_or(SEGMENT_BYTES));
        assert_eq!(seen.superblock.whole, checked.report.lsn, "what the log has is one telling of the tree");
        // The log is as long as what lives, and segments but the last are full.
        let used: u64 = seen.segments.iter().map(|segment| segment.batch_bytes).sum();
        let batches: u64 = seen.segments.iter().map(|segment| segment.batches).sum();
        assert_eq!(used, copied.log_bytes);
        assert!(used <= copied.live_bytes + batches * 2 * 4096, "seed {seed}: {used} of {}", copied.live_bytes);
        for segment in seen.segments.split_last().expect("one at least").1 {
            assert!(segment.batch_bytes + (80 << 10) > segment.bytes, "seed {seed}: {segment:?}");
        }

        let (source, source_later) = served_once(disk.path());
        let (copy, copy_later) = served_once(&dest.0);
        for (of, one, other) in
            [("copied", &was, &copy), ("stored", &source, &copy), ("later", &source_later, &copy_later)]
        {
            same_shape(one, other).unwrap_or_else(|why| panic!("seed {seed}, {of}: {why}"));
        }
    }
}

#[test]
fn a_store_that_was_never_served_can_be_copied() {
    let disk = Disk::new();
    drop(opened(&disk, arena()).expect("a new store"));
    let disk = disk.crash(&mut Random::new(1));
    let dest = Dest::of(&disk);
    let copied = copy_to(&disk, &dest.0, None).expect("a good store").expect("a store");
    assert_eq!((copied.files, copied.report.lsn), (0, 0));
    let (before, _) = served_once(&dest.0);
    let root = format!("{:?}", before[&Vec::new()]);
    assert!(root.contains("sec: 77"), "the root has the time of the copy: {root}");
}

#[test]
fn what_cannot_be_copied_is_refused_and_nothing_is_touched() {
    let (disk, _) = ended(3, 60, 4);
    let dest = Dest::of(&disk);
    let refused = |path: &Path| {
        let before = files(disk.path());
        let why = copy_to(&disk, path, None).expect_err("it is refused").to_string();
        assert_eq!(files(disk.path()), before, "nothing was touched");
        assert!(!why.contains('\n'), "one line: {why}");
        why.replace(&dest.0.display().to_string(), "DEST").replace(&disk.path().display().to_string(), "DIR")
    };
    // Where the copy is to be.
    assert_eq!(refused(disk.path()), "DIR: not an empty directory");
    assert_eq!(refused(&disk.path().join("copy")), "DIR/copy: in the directory that is to be copied");
    assert!(refused(&dest.0.join("below")).starts_with("DEST/below: No such file"));
    fs::create_dir(&dest.0).expect("room");
    let letter = dest.0.join("letter");
    fs::write(&letter, b"dear").expect("room");
    assert_eq!(refused(&dest.0), "DEST: not an empty directory");
    assert_eq!(refused(&letter), "DEST/letter: not an empty directory");
    assert_eq!(fs::read(&letter).expect("it is there"), b"dear");
    fs::remove_dir_all(&dest.0).expect("it is there");

    // A copy that has not ended is no store, whichever of its files are there.
    copy_to(&disk, &dest.0, None).expect("a good store").expect("a store");
    fs::rename(dest.0.join("superblock"), dest.0.join("superblock-new")).expect("it is there");
    let unfinished = "DEST: a copy of a store that has not ended; remove this directory and copy again";
    for bytes in [8192, 4096, 0] {
        let new = fs::OpenOptions::new().write(true).open(dest.0.join("superblock-new")).expect("it is there");
        new.set_len(bytes).expect("room");
        let why = open(&dest.0, arena(), how(), at(1)).err().map(|why| why.to_string()).expect("no store");
        assert_eq!(why.replace(&dest.0.display().to_string(), "DEST"), unfinished);
        assert_eq!(refused(&dest.0), "DEST: not an empty directory");
    }
    fs::remove_dir_all(&dest.0).expect("it is there");

    // What is to be copied.
    let begins = inspect::show(disk.path()).expect("a good store").expect("a store").superblock;
    let first = disk.path().join(segment_name(begins.segment));
    let mut bytes = fs::read(&first).expect("it is there");
    let good = bytes.clone();
    let middle = begins.offset as usize + 140;
    bytes[middle] ^= 1;
    fs::write(&first, &bytes).expect("room");
    assert!(refused(&dest.0).starts_with("DIR: damaged: seg-"));
    assert!(!dest.0.exists(), "a damaged store is not copied");
    fs::write(&first, &good).expect("room");
    let empty = Disk::new();
    fs::create_dir(empty.path()).expect("room");
    assert!(copy_to(&empty, &dest.0, None).is_ok_and(|copied| copied.is_none()) && !dest.0.exists());
    fs::remove_dir(empty.path()).expect("it is empty");
}
