//! Where the store has no more room: what is refused, what is served, and how there is room again.

use super::*;
use ring9::fs::{Error, StatFs};

/// 16 segments: 512 KiB may live in them.
fn small() -> How {
    How { store_bytes: 16 * SEGMENT_BYTES, margin_bytes: 4 * SEGMENT_BYTES, ..how() }
}

fn served(disk: &Disk) -> Served {
    Served::new(open(disk.path(), arena(), small(), at(1)).expect("a store").0, 10)
}

/// Makes a file of 30,000 bytes.
fn fill(served: &mut Served, name: &str) -> Result<()> {
    let file = served.root();
    let new = New { flags: WRITE, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
    let made = served.call(Call::Create { dir: file, name: name.as_bytes(), new }, Show::Nothing);
    let written = made.and_then(|_| {
        let data = &[name.len() as u8; 30_000];
        served.call(Call::Write { file, offset: 0, data }, Show::Nothing)
    });
    served.close(file);
    written.map(drop)
}

fn unlink(served: &mut Served, name: &str) -> Result<()> {
    let dir = served.root();
    let removed = served.call(Call::Unlink { dir, name: name.as_bytes(), want_dir: false }, Show::Nothing);
    served.close(dir);
    removed.map(drop)
}

fn free_bytes(served: &mut Served) -> u64 {
    let file = served.root();
    let mut shown = StatFs::default();
    served.call(Call::StatFs { file }, Show::StatFs(&mut shown)).expect("it is held");
    served.close(file);
    shown.bfree * u64::from(shown.bsize)
}

/// Files are made until there is no more room. Returns how many there are.
fn fill_up(served: &mut Served, disk: &mut Disk, random: &mut Random) -> usize {
    for number in 0.. {
        // A session asks for nothing more while the store is behind.
        while served.store.is_behind() {
            disk.pump(&mut served.store, random, 1);
        }
        if let Err(error) = fill(served, &number.to_string()) {
            assert_eq!(error, Error::ENOSPC);
            return number;
        }
        assert!(number < 100, "the store has a bound");
    }
    unreachable!("numbers do not end")
}

#[test]
fn a_full_store_serves_reads_and_removals_and_has_room_again() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let mut served = served(&disk);
    let before = free_bytes(&mut served);
    assert!(before < 1 << 20, "{before}: less than there is memory");
    let files = fill_up(&mut served, &mut disk, &mut random);
    assert!((10..20).contains(&files), "{files} files of 30,000 bytes in 512 KiB");
    assert!(free_bytes(&mut served) < 40_000);
    for _ in 0..3 {
        disk.pump(&mut served.store, &mut random, usize::MAX);
        let dir = served.root();
        let make = Call::Make { dir, name: b"more", what: Make::Dir, mode: 0o755, gid: None, enter: false };
        assert_eq!(served.call(make, Show::Nothing), Err(Error::ENOSPC));
        served.close(dir);
        assert!(served.walk(&[b"3"]).is_some());
        assert!(!served.store.is_behind(), "reads do not wait for ever");
        // And so does one that was started again.
        disk = disk.crash(&mut random);
        let (store, _) = open(disk.path(), arena(), small(), at(1)).expect("a full store starts");
        served = Served::new(store, 20);
    }
    for number in 0..files / 2 {
        unlink(&mut served, &number.to_string()).expect("removals go on");
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    for number in 0..files / 3 {
        fill(&mut served, &format!("again {number}")).expect("there is room again");
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    let (lsn, durable) = served.store.positions();
    assert_eq!(lsn, durable);
    disk = disk.crash(&mut random);
    recovered(&served, &disk, "a store that was full");
}

/// What lives is little, so the log can be as long as it will: checkpoints make room in time.
#[test]
fn overwriting_goes_on_for_ever_within_the_bound() {
    let (mut random, mut disk) = (Random::new(2), Disk::new());
    let mut served = served(&disk);
    let mut segments = 0;
    for round in 0..600 {
        while served.store.is_behind() {
            disk.pump(&mut served.store, &mut random, 1);
        }
        fill(&mut served, ["a", "bb", "ccc", "dddd"][round % 4]).unwrap_or_else(|error| panic!("{round}: {error:?}"));
        let most = random.below(4);
        disk.pump(&mut served.store, &mut random, most);
        segments = segments.max(disk.segments());
        served.shapes.retain(|_, _| round % 100 == 0);
    }
    assert!(segments <= 16, "{segments} segments");
    assert!(served.store.checkpoints() > 5, "{} checkpoints", served.store.checkpoints());
}

/// The disk has no room for further segments, although the bound of the store would allow them.
#[test]
fn a_full_disk_refuses_what_takes_room_and_serves_the_rest() {
    let (mut random, mut disk) = (Random::new(3), Disk::new());
    let mut served = served(&disk);
    disk.segments_max = 4;
    let mut files = 0;
    let refused = loop {
        while served.store.is_behind() {
            disk.pump(&mut served.store, &mut random, 1);
        }
        match fill(&mut served, &files.to_string()) {
            Ok(()) => files += 1,
            Err(error) => break error,
        }
        disk.pump(&mut served.store, &mut random, usize::MAX);
        assert!(files < 60);
    };
    assert_eq!((refused, files > 5), (Error::ENOSPC, true), "{files}");
    disk.pump(&mut served.store, &mut random, usize::MAX);
    let (lsn, durable) = served.store.positions();
    assert_eq!(lsn, durable, "what was taken is durable");
    assert!(!served.store.is_behind() && served.walk(&[b"1"]).is_some());
    for number in 1..files {
        unlink(&mut served, &number.to_string()).expect("removals go on");
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    // What lives now is little, so a checkpoint fits what is left.
    for _ in 0..4 {
        served.store.tick(at(30));
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    fill(&mut served, "later").expect("there is room again");
    disk.pump(&mut served.store, &mut random, usize::MAX);
    disk = disk.crash(&mut random);
    recovered(&served, &disk, "a disk that was full");
}

/// The memory is full, of files of all sizes that came in any order. A start needs no more memory than there was.
#[test]
fn what_fills_the_memory_fits_the_same_memory_again() {
    let (mut refused, mut starts) = (0, 0);
    for seed in 1..=20 {
        let (mut random, mut disk) = (Random::new(seed), Disk::new());
        let margin_bytes = [0, 1 << 30][seed as usize % 2];
        let how = || How { store_bytes: 1 << 30, margin_bytes, ..how() };
        let mut served = Served::new(open(disk.path(), arena(), how(), at(1)).expect("a store").0, 10);
        served.is_blind = true;
        for start in 0..3 {
            for _ in 0..600 {
                let name = random.below(120).to_string();
                let file = served.root();
                let new = New { flags: WRITE, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
                let offset = [0, 0, 100, 5000, 70_000][random.below(5)] as u64;
                let most = [100, 5000, 30_000][random.below(3)];
                let data = vec![1; 1 + random.below(most)];
                let made = served.call(Call::Create { dir: file, name: name.as_bytes(), new }, Show::Nothing);
                let written = made.and_then(|_| served.call(Call::Write { file, offset, data: &data }, Show::Nothing));
                refused += usize::from(written == Err(Error::ENOSPC));
                served.close(file);
                if random.below(12) == 0 {
                    let _ = unlink(&mut served, &random.below(120).to_string());
                }
                disk.pump(&mut served.store, &mut random, usize::MAX);
            }
            disk = disk.crash(&mut random);
            recycle(served.store);
            let opened = open(disk.path(), arena(), how(), at(1));
            let (store, _) = opened.unwrap_or_else(|why| panic!("seed {seed}, start {start}: {why}"));
            served = Served::new(store, 20);
            served.is_blind = true;
            starts += 1;
        }
        recycle(served.store);
    }
    println!("{refused} refused, {starts} starts");
    assert!(refused > 1000);
}

/// A checkpoint leaves a log that is as long as what lives. That is no reason for the next one.
#[test]
fn a_store_in_which_nothing_changes_writes_nothing() {
    let (mut random, mut disk) = (Random::new(4), Disk::new());
    let how = How { store_bytes: 16 * SEGMENT_BYTES, margin_bytes: 0, ..how() };
    let mut served = Served::new(open(disk.path(), arena(), how, at(1)).expect("a store").0, 10);
    fill_up(&mut served, &mut disk, &mut random);
    disk.pump(&mut served.store, &mut random, 5000);
    assert!(!served.store.has_asks(), "it comes to an end");
    let (done, checkpoints) = (disk.done, served.store.checkpoints());
    assert!(checkpoints > 0 && checkpoints < 12, "{checkpoints}");
    for second in 0..20 {
        served.store.tick(at(second));
        assert!(served.walk(&[b"1"]).is_some());
        disk.pump(&mut served.store, &mut random, 5000);
    }
    assert_eq!((disk.done, served.store.checkpoints()), (done, checkpoints));
}

/// A part of a checkpoint may find nothing but places of files that are gone. Then nothing is written whose end would bring the
/// next turn, so the store says that it has work.
#[test]
fn a_checkpoint_goes_on_over_empty_places() {
    let (mut random, mut disk) = (Random::new(4), Disk::new());
    let tree = Options { inodes_max: 5000, ..how().tree };
    let how = How { store_bytes: 400 * SEGMENT_BYTES, margin_bytes: 0, tree, ..how() };
    let mut served = Served::new(open(disk.path(), arena(), how, at(1)).expect("a store").0, 10);
    served.is_blind = true;
    let dir = served.root();
    let names: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
    for name in &names {
        let make = Call::Make { dir, name: name.as_bytes(), what: Make::Fifo, mode: 0o644, gid: None, enter: false };
        served.call(make, Show::Nothing).expect("room");
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    for name in &names {
        served.call(Call::Unlink { dir, name: name.as_bytes(), want_dir: false }, Show::Nothing).expect("it is there");
        disk.pump(&mut served.store, &mut random, usize::MAX);
    }
    let (mut paused, checkpoints) = (0, served.store.checkpoints());
    while served.store.checkpoints() < checkpoints + 2 {
        let make = Call::Make { dir, name: b"f", what: Make::Fifo, mode: 0o644, gid: None, enter: false };
        if served.call(make, Show::Nothing).is_err() {
            let _ = served.call(Call::Unlink { dir, name: b"f", want_dir: false }, Show::Nothing);
        }
        disk.pump(&mut served.store, &mut random, usize::MAX);
        if served.store.is_in_checkpoint() && !served.store.has_asks() {
            assert!(served.store.has_work(), "nothing else brings the next turn");
            paused += 1;
        }
    }
    assert!(paused > 0, "some part has found nothing");
    served.close(dir);
}
