//! Segments that the log does not need any more are used again: what they had before counts for nothing.

use super::*;

fn busy() -> How {
    How { margin_bytes: 2 * SEGMENT_BYTES, ..how() }
}

/// Overwrites one file until the store has ended `checkpoints` checkpoints.
fn overwrite(served: &mut Served, disk: &mut Disk, random: &mut Random, checkpoints: u64) {
    served.is_blind = true;
    while served.store.checkpoints() < checkpoints {
        let file = served.root();
        let new = New { flags: WRITE, mode: mode::IFREG | 0o644, or_open: true, ..New::default() };
        served.call(Call::Create { dir: file, name: b"f", new }, Show::Nothing).expect("room");
        let data = vec![random.below(250) as u8; 20_000];
        served.call(Call::Write { file, offset: 0, data: &data }, Show::Nothing).expect("room");
        served.close(file);
        disk.pump(&mut served.store, random, usize::MAX);
    }
}

#[test]
fn a_log_that_goes_round_makes_next_to_no_further_files() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    disk.is_short = false;
    let mut served = Served::new(open(disk.path(), arena(), busy(), at(1)).expect("a store").0, 10);
    overwrite(&mut served, &mut disk, &mut random, 30);
    let (made, segments) = (disk.kinds["create"], disk.segments());
    assert!(made < 6 && segments < 8 && disk.reused.len() > 40, "{made} made, {segments} there, {:?}", disk.kinds);
}

/// What the file had before is no torn batch: a start says nothing of one.
#[test]
fn the_end_of_the_log_is_found_in_a_segment_that_was_one_before() {
    for seed in 1..=40 {
        let (mut random, mut disk) = (Random::new(seed), Disk::new());
        let mut served = Served::new(open(disk.path(), arena(), busy(), at(1)).expect("a store").0, 10);
        let checkpoints = 3 + random.below(3) as u64;
        overwrite(&mut served, &mut disk, &mut random, checkpoints);
        let (lsn, durable) = served.store.positions();
        assert_eq!(lsn, durable);
        disk = disk.crash(&mut random);
        let (store, report) = open(disk.path(), arena(), busy(), at(1)).expect("a store");
        assert_eq!((report.lsn, report.torn), (lsn, None), "seed {seed}");
        recycle(store);
        recycle(served.store);
    }
}

/// What a process has left may still be written to: the next one does not use it again.
#[test]
fn a_start_uses_no_segment_again_that_another_one_has_made() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    let mut served = Served::new(open(disk.path(), arena(), busy(), at(1)).expect("a store").0, 10);
    overwrite(&mut served, &mut disk, &mut random, 2);
    disk = disk.crash(&mut random);
    recycle(served.store);
    let old: Vec<u64> = disk.numbers().collect();
    let mut served = Served::new(open(disk.path(), arena(), busy(), at(1)).expect("a store").0, 10);
    overwrite(&mut served, &mut disk, &mut random, 4);
    assert!(disk.reused.len() > 3 && disk.reused.iter().all(|number| !old.contains(number)), "{:?}", disk.reused);
}
