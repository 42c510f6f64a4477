//! Each system call of a store fails once: nobody is told that something is durable which is not.

use super::disk::{Fault, Keeps};
use super::*;
use ring9::fs::Error;
use std::cell::Cell;
use std::rc::Rc;

/// Serves a store whose disk fails as it says. Returns how many system calls it made, and whether it gave up.
fn serve(fault: Option<(usize, Fault)>, margin_bytes: u64) -> (usize, bool) {
    let (mut random, mut disk) = (Random::new(7), Disk::new());
    if margin_bytes == 0 {
        // Segments that an earlier process has made are removed, and not used again.
        let mut earlier = Served::new(open(disk.path(), arena(), how(), at(1)).expect("a new store").0, 10);
        earlier.step(&mut random);
        disk.pump(&mut earlier.store, &mut random, usize::MAX);
        disk = disk.crash_keeping(Keeps::All, &mut random);
        recycle(earlier.store);
    }
    (disk.fault, disk.is_short) = (fault, false);
    let failed = Rc::new(Cell::new(0));
    let count = Rc::clone(&failed);
    let fail = Box::new(move |_| count.set(count.get() + 1));
    let how = How { margin_bytes, fail, ..how() };
    let (store, _) = open(disk.path(), arena(), how, at(1)).expect("a store");
    let mut served = Served::new(store, 20);
    let mut steps = Random::new(11);
    for _ in 0..if margin_bytes == 0 { 30 } else { 90 } {
        served.step(&mut steps);
        disk.pump(&mut served.store, &mut random, 40);
        served.reply();
    }
    let what = format!("{fault:?}");
    let durable = served.store.positions().1;
    if failed.get() > 0 {
        assert_eq!(failed.get(), 1, "{what}: it is told once");
        served.step(&mut steps);
        disk.pump(&mut served.store, &mut random, usize::MAX);
        served.reply();
        assert_eq!(served.store.positions().1, durable, "{what}: nothing becomes durable any more");
    } else {
        served.store.tick(at(99));
        disk.pump(&mut served.store, &mut random, usize::MAX);
        served.reply();
        let (lsn, durable) = served.store.positions();
        assert_eq!(lsn, durable, "{what}");
        let of_stock = if margin_bytes == 0 { "unlink" } else { "open" };
        let has_all = ["create", "rename", of_stock, "write", "sync"].iter().all(|kind| disk.kinds.contains_key(kind));
        assert!(fault.is_some() || served.store.checkpoints() > 0 && has_all, "{:?}", disk.kinds);
    }
    let done = disk.done;
    disk = disk.crash_keeping(Keeps::Nothing, &mut random);
    let (store, _) = recovered(&served, &disk, &what);
    recycle(store);
    recycle(served.store);
    (done, failed.get() > 0)
}

#[test]
fn each_system_call_fails_once_and_nothing_is_falsely_durable() {
    // A checkpoint ends, and then segments are removed, or used again.
    for margin_bytes in [0, SEGMENT_BYTES] {
        let (calls, has_failed) = serve(None, margin_bytes);
        assert!(!has_failed && calls > 60, "{calls} calls");
        let (mut runs, mut gave_up) = (0, 0);
        for number in 1..=calls {
            for fault in [Fault::Error(Error::EIO), Fault::Error(Error::ENOSPC), Fault::Short] {
                let (_, has_failed) = serve(Some((number, fault)), margin_bytes);
                assert!(fault != Fault::Short || !has_failed, "call {number}: the rest of a short write is written");
                runs += 1;
                gave_up += usize::from(has_failed);
            }
        }
        println!("{runs} runs of {calls} calls, {gave_up} of which gave up");
        assert!(gave_up > calls / 2);
    }
}
