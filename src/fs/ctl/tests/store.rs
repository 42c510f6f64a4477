//! `store`, and the counters of a store in `stats`.

use super::*;
use crate::stats::{StoreFigures, StoreFixed, StoreNow};

fn with_store() -> (Fixture, Rc<StoreFigures>) {
    let (stats, log) = (Rc::<Stats>::default(), Arc::new(Mutex::new(Lines::new(1000))));
    let fixed = StoreFixed {
        id: [0xab; 16],
        epoch: 7,
        sync: "fsync",
        segment_bytes: 16 << 20,
        directory_bytes_max: 1 << 40,
        live_bytes_max: 1 << 38,
    };
    let store = Rc::new(StoreFigures::new(fixed));
    stats.keep(Rc::clone(&store));
    let gauge = Arena::new(1 << 20).expect("a small mapping").gauge();
    let ctl = Ctl::new(Rc::clone(&stats), gauge, Arc::clone(&log)).into();
    (Fixture { stats, log, ctl, turns: 0, serial: 0 }, store)
}

fn value(text: &str, name: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found: Vec<_> = lines.filter(|words| words[0] == name).collect();
    assert!(found.len() == 1 && found[0].len() == 2, "{name}: {found:?} of {text}");
    found[0][1].into()
}

#[test]
fn without_a_store_nothing_is_shown_of_one() {
    let mut fixture = Fixture::new(1000);
    let root = fixture.ctl.attach(User { uid: 0, gid: Some(0), ..USER }, b"ctl").expect("there");
    assert_eq!(fixture.ctl.lookup(&root, b"store").map(|_| ()), Err(Error::ENOENT));
    assert!(!fixture.text("stats").contains("store_"));
}

#[test]
fn a_store_is_shown_with_what_it_has_counted() {
    let (mut fixture, store) = with_store();
    store.flushed(3, 4096, 1_000_000);
    store.flushed(0, 8192, 2_000_000);
    store.flushed(5, 4096, 90_000_000_000);
    store.counters.store_syncs.add(9);
    store.set(StoreNow {
        position: 11,
        durable: 10,
        behind_bytes: 512,
        is_checkpoint: true,
        swept_bytes: 77,
        segments: (4, 6),
        spares: 1,
        stock: 2,
        is_full: true,
        ..StoreNow::default()
    });
    let text = fixture.text("store");
    for (name, wanted) in [
        ("id", "abababababababababababababababab"),
        ("epoch", "7"),
        ("sync", "fsync"),
        ("position", "11"),
        ("position_durable", "10"),
        ("not_durable_bytes", "512"),
        ("batches", "3"),
        ("operations", "8"),
        ("bytes", "16384"),
        ("syncs", "9"),
        ("checkpoints", "0"),
        ("batch_operations_mean", "2.67"),
        ("batch_operations_p50", "3"),
        ("batch_operations_max", "5"),
        ("flushes", "3"),
        ("checkpoint", "running"),
        ("checkpoint_bytes", "77"),
        ("segments", "3"),
        ("segments_in_stock", "2"),
        ("segments_spare", "1"),
        ("directory_bytes", "67108864"),
        ("directory_bytes_max", "1099511627776"),
        ("disk_full", "1"),
    ] {
        assert_eq!(value(&text, name), wanted, "{name}");
    }
    let number = |name: &str| value(&text, name).parse::<u64>().expect("a number");
    assert!((1_990_000..2_010_000).contains(&number("flush_ns_p50")), "{text}");
    assert!(number("flush_ns_max") >= 59_000_000_000, "slower ones count as 60 s: {text}");

    let stats = fixture.text("stats");
    for (name, wanted) in [("store_batches", "3"), ("store_operations", "8"), ("store_bytes", "16384")] {
        assert_eq!(value(&stats, name), wanted);
    }
}

#[test]
fn the_length_of_its_text_never_changes_and_opens_are_charged() {
    let (mut fixture, store) = with_store();
    for round in 0..3 {
        let file = fixture.walk("store");
        let size = fixture.size(file);
        fixture.ctl.spent();
        let file = fixture.open("store");
        assert_eq!((fixture.ctl.spent(), fixture.size(file)), (STORE_UNITS, size));
        let text = fixture.whole(file);
        assert_eq!(text.len() as u64, size);
        assert_eq!(text.lines().count() * 62, text.len());
        fixture.close(file);
        let file = fixture.walk("stats");
        assert_eq!(fixture.size(file), fixture.text("stats").len() as u64);
        store.flushed(u64::MAX >> 8, 1 << 40, round << 60);
    }
}
