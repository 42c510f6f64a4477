//! What a store says of itself adds up with what it has done.

use super::*;
use ring9::store::inspect;

/// So many nanoseconds after the start.
fn ns(mono_ns: u64) -> At {
    At { mono_ns, ..at(50) }
}

/// Makes a directory at a moment.
fn make(store: &mut Stored, serial: u64, at: At) {
    let op = |serial| OpId { peer: 1, serial };
    let attach = Call::Attach { user: ROOT, aname: b"" };
    let Outcome::Done(answer) = store.call(op(2 * serial), attach, Show::Nothing, at) else { panic!("at once") };
    let Ok(Done::File { file, .. }) = answer.result else { panic!("{:?}", answer.result) };
    let name = format!("made{serial}");
    let call = Call::Make { dir: file, name: name.as_bytes(), what: Make::Dir, mode: 0o700, gid: None, enter: false };
    let Outcome::Done(answer) = store.call(op(2 * serial + 1), call, Show::Nothing, at) else { panic!("at once") };
    answer.result.expect("a new name");
    store.call(op(0), Call::Close { file }, Show::Nothing, at);
}

/// From the moment of the first write of a batch to that in which its sync has ended, whatever comes between.
#[test]
fn a_flush_takes_from_its_first_write_to_the_end_of_its_sync() {
    let (mut random, mut disk) = (Random::new(1), Disk::new());
    disk.is_short = false;
    let (mut store, _) = opened(&disk, arena()).expect("a new store");
    let figures = store.figures();
    store.init(ns(1)).expect("a tree starts");
    disk.pump(&mut store, &mut random, usize::MAX);
    assert_eq!((figures.counters.store_batches.get(), figures.counters.store_operations.get()), (1, 0));

    make(&mut store, 1, ns(1_000));
    make(&mut store, 2, ns(2_000));
    // Its writes begin, and what changes from now on waits for the next batch.
    let (mut now, syncs) = (2_000, figures.counters.store_syncs.get());
    disk.at = ns(now);
    disk.pump(&mut store, &mut random, 1);
    make(&mut store, 3, ns(2_500));
    make(&mut store, 4, ns(2_500));
    make(&mut store, 5, ns(2_500));
    while figures.counters.store_batches.get() == 1 {
        now += 1_000;
        disk.at = ns(now);
        disk.pump(&mut store, &mut random, 1);
    }
    assert!(now >= 3_000, "a write and a sync have different ends");
    assert_eq!(figures.counters.store_operations.get(), 2);
    assert_eq!(figures.counters.store_syncs.get(), syncs + 1);
    let took = figures.flush_ns().max();
    assert!((now - 2_000..now - 2_000 + 10).contains(&took), "{took} of {}", now - 2_000);
    let behind = figures.now();
    assert!(behind.durable < behind.position && behind.behind_bytes > 0, "{behind:?}");
    disk.at = ns(now);
    disk.pump(&mut store, &mut random, usize::MAX);
    assert_eq!((figures.counters.store_batches.get(), figures.counters.store_operations.get()), (3, 5));
    assert_eq!(figures.operations().max(), 3);
    drop(store);
    disk.crash(&mut random);
}

/// With checkpoints: the figures are those of the files on disk.
#[test]
fn figures_add_up_with_what_is_on_disk() {
    let (mut random, mut disk) = (Random::new(3), Disk::new());
    let how = How { margin_bytes: 0, store_bytes: 16 * SEGMENT_BYTES, ..how() };
    let (store, _) = open(disk.path(), arena(), how, at(1)).expect("a new store");
    let mut served = Served::new(store, 10);
    served.is_blind = true;
    let figures = served.store.figures();
    let mut was = figures.now();
    let (mut changes, mut running) = (0, 0);
    for _ in 0..400 {
        let before = served.store.tree().changes();
        let (position, _) = served.store.positions();
        served.step(&mut random);
        changes += served.store.positions().0 - position;
        assert!(changes == 0 || served.store.tree().changes() >= before);
        let most = random.below(20);
        disk.pump(&mut served.store, &mut random, most);
        let now = figures.now();
        assert!(now.durable <= now.position && now.position >= was.position && now.durable >= was.durable, "{now:?}");
        assert!(now.segments.0 <= now.segments.1 && now.segments.0 >= was.segments.0, "{now:?}");
        running += usize::from(now.is_checkpoint);
        was = now;
    }
    served.store.retire(at(99));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    assert!(!served.store.has_asks());
    let (now, counters) = (figures.now(), &figures.counters);
    assert_eq!(
        (now.position, now.durable, now.behind_bytes),
        (served.store.positions().0, served.store.positions().0, 0)
    );
    assert_eq!(counters.store_operations.get(), changes, "each change is counted once");
    let batches = counters.store_batches.get();
    assert_eq!((figures.flush_ns().len(), figures.operations().len()), (batches, batches));
    assert_eq!(counters.store_checkpoints.get(), served.store.checkpoints());
    assert!(counters.store_checkpoints.get() > 2 && running > 5 && counters.store_syncs.get() > batches);
    assert_eq!(counters.store_segments_freed.get(), now.segments.0, "the first one was 0");
    assert_eq!(now.segments.1 + 1 - now.segments.0 + now.spares, disk.segments() as u64);
    assert_eq!(now.live_bytes, served.store.tree().live_bytes());
    assert_eq!(figures.fixed.directory_bytes_max, 16 * SEGMENT_BYTES);
    drop(served);
    let disk = disk.crash(&mut random);
    let seen = inspect::show(disk.path()).expect("a good store").expect("a store");
    let used: u64 = seen.segments.iter().map(|segment| segment.batch_bytes).sum();
    assert_eq!((seen.superblock.store, seen.superblock.epoch), (figures.fixed.id, figures.fixed.epoch));
    assert!(counters.store_bytes.get() > used && now.log_bytes >= used, "{used}: {now:?}");
}
