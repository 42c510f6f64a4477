//! Opens a store before serving begins: the lock, the superblock, recovery, and the segments to go on in.
//!
//! Only this file, `copy` and `dir` do I/O themselves. They may block, since no connection is served at that time.
//!
//! Must not know: sessions, messages, sockets, rings.

use super::ahead::with_segments;
use super::checkpoint::Checkpoint;
use super::dir::Dir;
use super::format::{Batch, Damage, Next, Superblock, Wrong, scan};
use super::log::{Extent, Log, STOCK};
use super::room::packed;
use super::stock::{Made, Stock, segment_name};
use super::stored::{Keeping, Stored, SyncMode};
use crate::arena::Arena;
use crate::fs::mem::{self, Mem, Replay, Unfit, Watched};
use crate::fs::{At, Descriptor, Error};
use std::fmt;
use std::io;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};

/// How a store is opened.
pub struct How {
    /// Bytes of a segment, for a new store.
    pub segment_bytes: u64,
    /// Bytes that the store may take on disk: [`SEGMENTS_MIN`](super::SEGMENTS_MIN) segments at least. What lives in it may take
    /// a quarter of that without 8 segments. A start that finds no room for a checkpoint may take more, until that has ended.
    pub store_bytes: u64,
    /// Bytes of the log beyond the live ones before a checkpoint begins.
    pub margin_bytes: u64,
    /// What a reply waits for.
    pub sync: SyncMode,
    /// Bytes that tell a new store from others.
    pub id: [u8; 16],
    /// How the tree is made.
    pub tree: mem::Options,
    /// Called once the log cannot be written any more.
    pub fail: Box<dyn FnMut(Error)>,
}

/// What was found in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The store was made just now.
    pub is_new: bool,
    /// Bytes of the log that were read.
    pub bytes: u64,
    /// Batches in it.
    pub batches: u64,
    /// Number of the last change.
    pub lsn: u64,
    /// Where the log ends in something that is no batch, and what is wrong with it.
    pub torn: Option<super::format::Torn>,
    /// What became of the files.
    pub found: mem::Found,
    /// The file system has no O_DIRECT: segments are written through the page cache.
    pub is_buffered: bool,
}

/// Why a store cannot be opened. Nothing of it was changed.
#[derive(Debug)]
pub enum NotOpened {
    /// A system call has failed, on this file.
    Io(PathBuf, io::Error),
    /// Another process has it.
    InUse(PathBuf),
    /// The directory has files, and none of them is a superblock.
    NoStore(PathBuf),
    /// The directory has a copy of a store that has not ended.
    Unfinished(PathBuf),
    /// The superblock is no good.
    Superblock(PathBuf, Wrong),
    /// The log is damaged.
    Damaged(PathBuf, Damage<Box<NotOpened>>),
    /// A record does not fit to those before it, or there is no memory for it.
    Unfit(Unfit),
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOpened::Io(path, error) => write!(f, "{}: {error}", path.display()),
            NotOpened::InUse(path) => write!(f, "{}: another process serves this store", path.display()),
            NotOpened::NoStore(path) => {
                write!(f, "{}: not empty, and no store; name an empty directory", path.display())
            }
            NotOpened::Unfinished(path) => {
                write!(
                    f,
                    "{}: a copy of a store that has not ended; remove this directory and copy again",
                    path.display()
                )
            }
            NotOpened::Superblock(path, wrong) => write!(f, "{}: superblock: {wrong}", path.display()),
            NotOpened::Damaged(dir, Damage::NoSegment(number)) => {
                write!(f, "{}: {} is missing", dir.display(), segment_name(*number))
            }
            NotOpened::Damaged(dir, Damage::Batch { bad, later }) => write!(
                f,
                "{}: damaged: {} at byte {}: {}; a later batch is in {} at byte {}",
                dir.display(),
                segment_name(bad.at.segment),
                bad.at.offset,
                bad.why,
                segment_name(later.segment),
                later.offset
            ),
            NotOpened::Damaged(dir, Damage::Length { segment, bytes }) => write!(
                f,
                "{}: {} has {bytes} bytes, and not those of the other segments",
                dir.display(),
                segment_name(*segment)
            ),
            NotOpened::Damaged(dir, Damage::Refused(at, why)) => {
                write!(f, "{}: {} at byte {}: {why}", dir.display(), segment_name(at.segment), at.offset)
            }
            NotOpened::Unfit(unfit) => write!(f, "{unfit}"),
        }
    }
}

impl std::error::Error for NotOpened {}

/// Numbers of files that a start passes over: where replies do not wait, files with these may have been shown and lost. No more are
/// made in what may be lost at once. It is done at every start, since the one before may have had another `sync`.
const PATHS_SKIPPED: u64 = 1 << 24;

/// What a step of a start gives.
pub(super) type Opened<T> = Result<T, NotOpened>;

/// Opens the store in a directory, or makes one there.
pub fn open(path: &Path, arena: Arena, how: How, at: At) -> Opened<(Stored, Report)> {
    let dir = Dir::lock(path)?;
    let mem = Mem::watched(arena, how.tree.clone());
    let (old, is_new) = match dir.superblock()? {
        Some(found) => (found, false),
        None => (Superblock { store: how.id, segment_bytes: how.segment_bytes, lsn: 1, ..Superblock::default() }, true),
    };
    let (mut mem, next, mut report) = if is_new {
        (mem, Next::from(&old), Report { is_new, ..Report::default() })
    } else {
        recover(&dir, &old, mem, at)?
    };
    let last_change = mem.last_change();
    if !is_new {
        mem.skip_paths(PATHS_SKIPPED);
    }
    // Batches of this start are in new files, which no write of an earlier process can reach.
    let mut next = if is_new { next } else { next.in_next_segment() };
    let segment_bytes = old.segment_bytes;
    // Both copies say the same before any segment is removed, and before any batch of this epoch is written. So either of them
    // may be damaged.
    let first = Superblock { generation: old.generation + 1, epoch: old.epoch + 1, ..old };
    let superblock = Superblock { generation: first.generation + 1, ..first };
    let raise = || dir.write_superblock(&first).and_then(|_| dir.write_superblock(&superblock));
    let raised = if is_new { None } else { Some(raise()?) };
    // What an earlier start had in stock is made anew, so its room is free; what a checkpoint has left over is as well.
    dir.keep_segments(old.segment..next.segment)?;
    // Whatever the bound is, a checkpoint fits beside the log.
    let needed = packed(mem.live_bytes()).div_ceil(segment_bytes) + STOCK;
    let extent = Extent {
        segment_bytes,
        first: old.segment,
        segments_max: how.store_bytes / segment_bytes,
        last_min: next.segment + needed,
    };
    let mut segments = Vec::new();
    let is_direct = dir.takes_direct()?;
    report.is_buffered = !is_direct;
    for number in next.segment..=next.segment + STOCK {
        match dir.make_segment(number, segment_bytes, is_direct) {
            // Serving begins with fewer in stock.
            Err(NotOpened::Io(_, error)) if is_full(&error) && !segments.is_empty() => break,
            made => {
                let file = Descriptor(made?.into_raw_fd());
                segments.push(Made { segment: number, file, is_reused: false });
            }
        }
    }
    // A new store has a superblock once it has a segment.
    let file = raised.map_or_else(raise, Ok)?;
    let file = Descriptor(file.into_raw_fd());
    (next.epoch, next.epoch_max) = (superblock.epoch, superblock.epoch);
    // The lock is held until the process ends.
    let dir = Descriptor(dir.into_file().into_raw_fd());
    let log = Log::new(next, extent, Stock::new(dir, is_direct, mem.arena().zeros()), segments);
    let How { store_bytes, margin_bytes: margin, sync, fail, .. } = how;
    let keeping = Keeping { segment_bytes, store_bytes, margin, sync, last_change, fail };
    Ok((Stored::new(mem, log, Checkpoint::new(file, superblock), keeping), report))
}

/// Whether there is no more room, on the disk or for the user.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The tree that the log of a store makes, and how the log ends.
pub(super) fn recover(
    dir: &Dir<'_>,
    old: &Superblock,
    mem: Mem<Watched>,
    at: At,
) -> Opened<(Mem<Watched>, Next, Report)> {
    let mut replay = Replay::new(mem);
    let present: Vec<u64> = dir.segments()?.into_iter().map(|(number, _)| number).collect();
    let of_log: Vec<u64> = present.iter().copied().filter(|&number| number >= old.segment).collect();
    let each = |batch: &Batch<'_>| {
        replay.set_partial(batch.head.last_lsn <= old.whole);
        let mut records = batch.records();
        records.try_for_each(|record| replay.apply(&record)).map_err(|unfit| Box::new(NotOpened::Unfit(unfit)))
    };
    let end = with_segments(dir, &of_log, old.segment_bytes, |read| {
        scan(old, &present, |number, into| read(number, into).map_err(Box::new), each)
    })
    .map_err(|damage| NotOpened::Damaged(dir.path().to_owned(), damage))?;
    let lsn = end.next.lsn - 1;
    if lsn < old.whole {
        let wrong = Wrong::Field("log: it ends before all of the tree was told");
        return Err(NotOpened::Superblock(dir.path().to_owned(), wrong));
    }
    let found = replay.finish(at).map_err(NotOpened::Unfit)?;
    let report = Report { bytes: end.bytes, batches: end.batches, lsn, torn: end.torn, found, ..Report::default() };
    Ok((replay.into_tree(), end.next, report))
}
