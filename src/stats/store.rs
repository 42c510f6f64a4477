//! What a store does: batches of its log, checkpoints, and the room that it has. The store writes, `ctl` reads.
//!
//! Counters and histograms are of batches that have become durable since the start. What changes with each operation
//! ([`StoreNow`]) is as of the end of the last turn.

use super::StoreCounters;
use super::latency::histogram;
use hdrhistogram::Histogram;
use std::cell::{Cell, Ref, RefCell};

/// Operations of a batch beyond this count as this many.
const OPERATIONS_MAX: u64 = 1 << 24;

/// What does not change while a store is served.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreFixed {
    /// The number that tells the store from others.
    pub id: [u8; 16],
    /// The start of serving.
    pub epoch: u64,
    /// Which replies wait for the disk.
    pub sync: &'static str,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes that the directory may have.
    pub directory_bytes_max: u64,
    /// Bytes that may live in the tree.
    pub live_bytes_max: u64,
}

/// The state of a store at the end of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreNow {
    /// Number of the last change.
    pub position: u64,
    /// Number of the last change that is durable.
    pub durable: u64,
    /// Bytes of changes that are not durable.
    pub behind_bytes: u64,
    /// Bytes of the log since its start.
    pub log_bytes: u64,
    /// Bytes that live in the tree.
    pub live_bytes: u64,
    /// A checkpoint is on its way.
    pub is_checkpoint: bool,
    /// Bytes that it has told so far. 0 once it has told everything.
    pub swept_bytes: u64,
    /// The first segment that is there, and the last one.
    pub segments: (u64, u64),
    /// Segments that are there and not in the log any more: most are used again.
    pub spares: u64,
    /// Segments that are ready for later batches.
    pub stock: u64,
    /// The disk has no room for a further segment.
    pub is_full: bool,
}

/// What is measured of a store.
#[derive(Debug)]
pub struct StoreFigures {
    /// What only grows.
    pub counters: StoreCounters,
    /// What stays.
    pub fixed: StoreFixed,
    now: Cell<StoreNow>,
    flush_ns: RefCell<Histogram<u64>>,
    operations: RefCell<Histogram<u64>>,
}

impl StoreFigures {
    /// Nothing has happened yet.
    pub fn new(fixed: StoreFixed) -> StoreFigures {
        let operations = Histogram::new_with_bounds(1, OPERATIONS_MAX, 2).expect("constant bounds are valid");
        StoreFigures {
            counters: StoreCounters::default(),
            fixed,
            now: Cell::default(),
            flush_ns: RefCell::new(histogram()),
            operations: RefCell::new(operations),
        }
    }

    /// Counts a batch that has become durable. `operations`: calls in it that have changed anything. `bytes`: its length in the log.
    /// `flush_ns`: nanoseconds from its first write to the end of its sync.
    pub fn flushed(&self, operations: u64, bytes: u64, flush_ns: u64) {
        let StoreCounters { store_batches, store_operations, store_bytes, .. } = &self.counters;
        store_batches.up();
        store_operations.add(operations);
        store_bytes.add(bytes);
        self.flush_ns.borrow_mut().saturating_record(flush_ns.max(1));
        self.operations.borrow_mut().saturating_record(operations);
    }

    /// Replaces what [`now`](Self::now) returns. The store calls it at the end of each turn.
    pub fn set(&self, now: StoreNow) {
        self.now.set(now);
    }

    /// As of the end of the last turn.
    pub fn now(&self) -> StoreNow {
        self.now.get()
    }

    /// How long flushes took. Not to be held while the store goes on.
    pub fn flush_ns(&self) -> Ref<'_, Histogram<u64>> {
        self.flush_ns.borrow()
    }

    /// Operations of each batch. Not to be held while the store goes on.
    pub fn operations(&self) -> Ref<'_, Histogram<u64>> {
        self.operations.borrow()
    }
}
