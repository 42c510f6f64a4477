//! Looks at a store that is not served, and changes nothing of it.
//!
//! - [`show`] says what the superblock and the log say, as far as they can be read.
//! - [`check`] does what the recovery of a start does, by the same code: every checksum is verified, and the whole tree is built.
//!
//! Both may block. While they look no server can open the store, since they hold its lock with others of their kind.
//!
//! Must not know: sessions, messages, sockets, rings.

use super::ahead::with_segments;
use super::dir::{Dir, segments};
use super::format::{Batch, Damage, End, Superblock, Wrong, scan};
use super::open::{NotOpened, Opened, Report, recover};
use crate::arena::Arena;
use crate::fs::At;
use crate::fs::mem::{self, Mem};
use std::path::Path;

/// What is in the files of a store.
#[derive(Debug)]
pub struct Overview {
    /// The superblock that counts.
    pub superblock: Superblock,
    /// Both copies.
    pub copies: [Result<Superblock, Wrong>; 2],
    /// The segments that are there, in order.
    pub segments: Vec<Segment>,
    /// How the log ends, or why it cannot be used.
    pub end: Opened<End>,
}

/// A segment, and the batches of the log that are in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its number.
    pub number: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Batches of the log.
    pub batches: u64,
    /// Bytes of these batches.
    pub batch_bytes: u64,
    /// Numbers of their first and of their last change, if there are any.
    pub changes: Option<(u64, u64)>,
    /// The starts of serving that have written them, from the first to the last.
    pub epochs: Option<(u64, u64)>,
}

impl Segment {
    fn add(&mut self, batch: &Batch<'_>) {
        let (head, widen) = (batch.head, |range: Option<(u64, u64)>, (first, last)| {
            Some((range.map_or(first, |(first, _)| first), last))
        });
        self.batches += 1;
        self.batch_bytes += head.len();
        self.changes = widen(self.changes, (head.first_lsn, head.last_lsn));
        self.epochs = widen(self.epochs, (head.epoch, head.epoch));
    }
}

/// What a start would find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What recovery says. If there is no store, it says that it is new.
    pub report: Report,
    /// Files of all types but directories.
    pub files: usize,
    /// Bytes of the regular ones.
    pub file_bytes: u64,
    /// What counts against the bound on inodes.
    pub inodes: usize,
}

/// Bytes of all segments in a directory, which may be that of a store that is served.
pub fn bytes(path: &Path) -> std::io::Result<u64> {
    Ok(segments(path)?.iter().map(|(_, bytes)| bytes).sum())
}

/// Bytes of each segment of the store in a directory. `None`: there is no store yet.
pub fn segment_bytes(path: &Path) -> Opened<Option<u64>> {
    Ok(Dir::lock_to_look(path)?.superblock()?.map(|superblock| superblock.segment_bytes))
}

/// What is in the files of a store, as far as the log can be read. `None`: there is no store yet.
pub fn show(path: &Path) -> Opened<Option<Overview>> {
    let dir = Dir::lock_to_look(path)?;
    let Some(copies) = dir.copies()? else { return Ok(None) };
    let superblock = dir.choose(copies)?;
    let segment = |(number, bytes)| Segment { number, bytes, ..Segment::default() };
    let mut segments: Vec<Segment> = dir.segments()?.into_iter().map(segment).collect();
    let present: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
    let of_log: Vec<u64> = present.iter().copied().filter(|&number| number >= superblock.segment).collect();
    let each = |batch: &Batch<'_>| {
        let number = batch.head.segment;
        segments.iter_mut().filter(|segment| segment.number == number).for_each(|segment| segment.add(batch));
        Ok(())
    };
    let end = with_segments(&dir, &of_log, superblock.segment_bytes, |read| {
        scan(&superblock, &present, |number, into| read(number, into).map_err(Box::new), each)
    });
    let end = end.map_err(|damage: Damage<Box<NotOpened>>| NotOpened::Damaged(path.to_owned(), damage));
    Ok(Some(Overview { superblock, copies, segments, end }))
}

/// Verifies all of a store: builds its tree in this memory.
pub fn check(path: &Path, arena: Arena, tree: mem::Options, at: At) -> Opened<Checked> {
    let dir = Dir::lock_to_look(path)?;
    let Some(superblock) = dir.superblock()? else {
        return Ok(Checked { report: Report { is_new: true, ..Report::default() }, ..Checked::default() });
    };
    let (mem, _, report) = recover(&dir, &superblock, Mem::watched(arena, tree), at)?;
    let (files, file_bytes) = mem.count();
    Ok(Checked { report, files, file_bytes, inodes: mem.inodes() })
}
