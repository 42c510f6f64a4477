//! The bounds of a server: constants, checks between them, and the most memory that it may take.
//!
//! [`Bounds::holders`] lists each part of the server that holds memory, and the most bytes it may
//! hold. Bounds that belong to one room are declared there, and are added up or checked here.

use crate::arena::{BLOCK_BYTES_MAX, TABLE_BYTES_PER_BLOCK};
use crate::fs::mem::{NODE_BYTES, PAGE_BYTES, PARTS_BYTES, locks};
use crate::fs::{NAME_BYTES_MAX, TARGET_BYTES_MAX};
pub use crate::session::MSIZE_MIN;
use crate::session::{ATTR_BYTES_ALL, BATCH_BYTES_MAX, FID_BYTES_OWN, LATE_BYTES_ALL, TIGHT_LISTING_BYTES_MAX};
use crate::store::SEGMENTS_MIN;
use crate::uring::{
    ASK_BYTES, ASKS_MAX, BACKLOG_BYTES_ALL, CLOSING_MAX, GATHER_BYTES, INTAKE_BYTES_MAX, KEPT_BATCH_BYTES_ALL,
    KEPT_GATHERS, SHARED_BYTES, SHARED_COUNT, SPARE_WINDOWS, VIEWS_MAX, WHOLE_BYTES_MAX, WINDOW_BYTES,
};

/// Largest message in bytes, and the default. v9fs asks for no more over a socket (Linux: `net/9p/trans_fd.c`, MAX_SOCK_BUF).
pub const MSIZE_MAX: u32 = 1 << 20;
/// Connections at a time, unless asked otherwise.
pub const CONNECTIONS: u64 = 10_000;
/// Descriptors beside those of open connections: standard streams, ring, signals, listeners, connections on their way out.
pub const OTHER_FILES: u64 = 64;
/// Smallest `--memory` in bytes: a largest message, its copy, and some room.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// Bytes of the last lines of the log that are kept.
pub const LOG_BYTES_MAX: usize = 64 << 10;
/// Bytes of log lines that wait for stderr, with those that are being written.
pub const LOG_WAITING_BYTES_MAX: usize = 256 << 10;
/// Log lines of one kind in a second. More are left out and counted.
pub const LOG_LINES_PER_SECOND: u32 = 5;
/// Smallest `--store-size` in bytes: as many of the smallest segments as a store needs.
pub const STORE_SIZE_MIN: u64 = SEGMENT_BYTES_MIN * SEGMENTS_MIN;
/// Smallest and largest segment of a new store in bytes. A smaller one would be full after few of the largest requests, and
/// a start writes three of them.
const SEGMENT_BYTES_MIN: u64 = 16 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A store has room for this many segments or more, unless they are of the smallest size.
const SEGMENTS: u64 = 16;
/// Memory in bytes for each inode, unless asked otherwise.
pub const MEMORY_BYTES_PER_INODE: u64 = 1024;
/// Memory of the fids of all connections together, in bytes; each has [`FID_BYTES_OWN`] in any case. One connection may take
/// half of it: a million fids that were walked to.
pub const FID_BYTES_MAX: usize = 256 << 20;
/// Bytes of memory of replies that wait or are on their way, without what they show of files. Beyond it a peer has two
/// short replies at most: one on its way, and one behind it.
pub const REPLY_BYTES_MAX: usize = 64 << 20;

/// Memory of a store in bytes, beside its files: what is not durable yet, and a batch that is put together. A start has three segments
/// in memory at a time, before anything else has memory.
pub const STORE_BYTES_MAX: u64 = crate::store::MEMORY_BYTES_MAX;

/// Most bytes that a store takes on disk, unless asked otherwise, for this much memory: the log since the last checkpoint
/// and the files once more, for files that fill the memory, and a stock.
pub const fn store_size_usual(memory: u64) -> u64 {
    4 * memory + (512 << 20)
}

/// Bytes of a segment of a new store that may take this many bytes on disk.
pub fn segment_bytes(store_bytes: u64) -> u64 {
    let share = (store_bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
    1 << share.ilog2()
}

// Work. No operation takes work that grows with what clients have stored; these bound it, each with its
// reason where it stands:
//
// session::WORK_MAX        128   units of work of a peer in a turn: some 50 us, so that 20 busy peers delay
//                                another one by a millisecond, and twice what 64 ordinary messages take
// session CLOSED_MAX        64   fids that are closed in a turn of a session that ends
// fs::mem PARENTS_MAX     4096   parents that a move of a directory looks at, then ELOOP
// fs::mem::locks FILE_MAX 4096   ranges of a file: a request looks at all of them, 32 bytes each
// fs::mem::waste AT_ONCE    64   blocks and attributes that are freed with the operation that lets go of them
// fs::mem::waste TURN_MAX  128   those that a turn frees
// fs::mem::waste ALLOC_MAX 4096  those that an allocation frees before it fails
// fs::ctl LINES_MAX        128   lines of `connections` for each read
// uring COMPLETIONS_MAX     64   operations that the tree ends in half a turn
// uring ASKS_MAX           256   asks of the tree in flight, and those that it is asked for in a turn
// uring LONG_ASKS_MAX      192   those of them that may take any time, in flight
// store BATCH_BYTES_MOST 16 MiB  that are told and summed with one batch: 4 ms at 4 GB/s; usually 256 KiB and what has changed

// A peer that sends ordinary messages alone reaches the bound of messages first.
const _: () = assert!(crate::session::WORK_MAX >= 64);

/// An inode with a name of 255 bytes, in tables that are at worst half empty. Further names count as inodes.
const INODE_BYTES: u64 = 640;
/// A connection with its session, its place in a table that is at worst half empty, and its completions.
const CONNECTION_BYTES: u64 = 2048;
/// Histograms of every kind of message and of their intervals, open texts of `ctl`, the log (docs/trees.md).
const FIGURES_BYTES: u64 = 32 << 20;
/// Memory of a short reply, in a batch of its own: a listing while replies are bounded, or the stat record of a link,
/// and lists that say what is where.
pub const SHORT_REPLY_BYTES: u64 = (TIGHT_LISTING_BYTES_MAX + (2 << 10)) as u64;

// Half of the other descriptors are for connections on their way out.
const _: () = assert!(2 * CLOSING_MAX as u64 <= OTHER_FILES);
// A message that is served once all of it is there fits a window of the usual size.
const _: () = assert!(WINDOW_BYTES >= crate::session::BULK_BYTES_MIN);
// Payloads that are received whole are larger than those that always are, and windows for them are small beside what
// all windows may have.
const _: () = assert!(
    WHOLE_BYTES_MAX > crate::session::BULK_BYTES_MIN && 64 * INTAKE_BYTES_MAX.next_power_of_two() <= BACKLOG_BYTES_ALL
);
// A largest reply of whole blocks is one gather; one of parts is three at most.
const _: () = assert!(VIEWS_MAX > 2 * (MSIZE_MAX as usize / BLOCK_BYTES_MAX + 2));
// Every name and target that may be in a message that is no write.
const _: () =
    assert!(WINDOW_BYTES > 16 * (2 + NAME_BYTES_MAX) + 64 && WINDOW_BYTES > TARGET_BYTES_MAX + NAME_BYTES_MAX + 64);

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes for files.
    pub memory: u64,
    /// Inodes.
    pub inodes: u64,
    /// Connections at a time.
    pub connections: u64,
}

impl Bounds {
    /// Who may hold how many bytes of this process's memory.
    pub fn holders(&self) -> [(&'static str, u64); 14] {
        let windows = WINDOW_BYTES as u64;
        let connections = self.connections + CLOSING_MAX as u64;
        // As many may have left and be waited for by the tree.
        let sessions = connections + self.connections;
        // The reply that passes the bound is in one batch, and what is kept for the next ones is not counted there.
        let batches = (BATCH_BYTES_MAX + KEPT_BATCH_BYTES_ALL) as u64;
        // A file has at most one block that is smaller than a page.
        let pages = self.memory / PAGE_BYTES as u64;
        let blocks = self.inodes + pages;
        [
            ("files", self.memory),
            ("block tables", blocks * TABLE_BYTES_PER_BLOCK as u64 + pages * (NODE_BYTES + PARTS_BYTES) as u64),
            ("inodes and names", self.inodes * INODE_BYTES),
            ("connections", sessions * CONNECTION_BYTES),
            ("fids", FID_BYTES_MAX as u64 + connections * 2 * FID_BYTES_OWN as u64),
            (
                "receive buffers",
                u64::from(SHARED_COUNT) * SHARED_BYTES as u64
                    + (self.connections + SPARE_WINDOWS as u64) * windows
                    + BACKLOG_BYTES_ALL as u64,
            ),
            ("attributes on their way", ATTR_BYTES_ALL as u64),
            // Beyond the bound a connection may have one more request, in the room that its window is counted with.
            ("requests that wait", LATE_BYTES_ALL as u64),
            ("locks", (locks::LOCKS_MAX * locks::BYTES_MAX) as u64),
            ("figures and log", FIGURES_BYTES),
            ("log lines on their way", LOG_WAITING_BYTES_MAX as u64),
            ("replies", REPLY_BYTES_MAX as u64 + batches + connections * 2 * SHORT_REPLY_BYTES),
            // Only a tree that asks takes it; ring9's own trees do not. What an ask reads and writes is the tree's.
            ("asks in flight", (ASKS_MAX * ASK_BYTES) as u64),
            // A connection has one receive and one send in flight.
            ("lists of views", (connections * 2 + KEPT_GATHERS as u64) * GATHER_BYTES as u64),
        ]
    }

    /// All of them, in bytes.
    pub fn total(&self) -> u64 {
        self.holders().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bounds for this much memory whose total is at most `available` bytes. What is `None` is as usual, or less where that does not fit. `None` if nothing fits.
    pub fn fit(memory: u64, inodes: Option<u64>, connections: Option<u64>, available: u64) -> Option<Bounds> {
        let usual = (memory / MEMORY_BYTES_PER_INODE, CONNECTIONS);
        [usual, (usual.0 / 8, usual.1), (usual.0 / 8, usual.1 / 10)]
            .map(|(usual_inodes, usual_connections)| Bounds {
                memory,
                inodes: inodes.unwrap_or(usual_inodes),
                connections: connections.unwrap_or(usual_connections),
            })
            .into_iter()
            .find(|bounds| bounds.total() <= available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_room_for_some_segments() {
        for (store_bytes, wanted) in [(STORE_SIZE_MIN, 16), (512 << 20, 32), (1 << 30, 64), (5 << 30, 64)] {
            let segment_bytes = segment_bytes(store_bytes);
            assert_eq!(segment_bytes, wanted << 20);
            assert!(store_bytes / segment_bytes >= SEGMENTS_MIN);
        }
    }

    #[test]
    fn what_was_asked_for_is_kept_and_the_rest_gives_way() {
        const GIB: u64 = 1 << 30;
        let usual = Bounds::fit(GIB, None, None, 64 * GIB).expect("it fits");
        assert_eq!((usual.inodes, usual.connections), (GIB / MEMORY_BYTES_PER_INODE, CONNECTIONS));
        let less = Bounds::fit(GIB, None, None, usual.total() - 1).expect("with fewer inodes");
        assert!(less.inodes < usual.inodes && less.connections == CONNECTIONS && less.total() < usual.total());
        assert_eq!(Bounds::fit(GIB, Some(usual.inodes), Some(CONNECTIONS), usual.total() - 1), None);
        assert_eq!(Bounds::fit(GIB, None, None, GIB), None);
    }
}
