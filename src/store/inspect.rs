//! Looks at a store that is not served, and changes nothing of it.
//!
//! - [`show`] says what the superblock and the log say, as far as they can be read.
//! - [`check`] does what the recovery of a start does, by the same code: every checksum is verified, and the whole tree is built.
//!
//! Both may block. While they look no server can open the store, since they hold its lock with others of their kind.
//!
//! Must not know: sessions, messages, sockets, rings.

use super::dir::{Dir, SUPERBLOCK};
use super::format::{Batch, Damage, End, PAGE_BYTES, Superblock, Wrong, scan};
use super::open::{NotOpened, Opened, Report, recover};
use super::stock::{segment_name, segment_number};
use crate::arena::Arena;
use crate::fs::At;
use crate::fs::mem::{self, Mem};
use std::fs::{File, TryLockError};
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

/// The directory, which no server can open as long as this is there.
fn lock(path: &Path) -> Opened<Dir<'_>> {
    let io = |error| NotOpened::Io(path.to_owned(), error);
    let file = File::open(path).map_err(io)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Dir { path, file }),
        Err(TryLockError::WouldBlock) => Err(NotOpened::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// The copies of the superblock. `None`: there is no store yet.
fn copies(dir: &Dir<'_>) -> Opened<Option<[Result<Superblock, Wrong>; 2]>> {
    let mut bytes = Vec::new();
    if dir.read(SUPERBLOCK, &mut bytes)? && bytes.iter().any(|&byte| byte != 0) {
        let copies = [bytes.get(..PAGE_BYTES), bytes.get(PAGE_BYTES..)];
        return Ok(Some(copies.map(|copy| Superblock::parse(copy.unwrap_or_default()))));
    }
    if dir.is_blank()? { Ok(None) } else { Err(NotOpened::NoStore(dir.path.to_owned())) }
}

/// The segments that are there. Other files are passed over.
fn segments(path: &Path) -> std::io::Result<Vec<Segment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(segment_number) {
            found.push(Segment { number, bytes: entry.metadata()?.len(), ..Segment::default() });
        }
    }
    found.sort_by_key(|segment| segment.number);
    Ok(found)
}

/// Bytes of all segments in a directory, whoever has it.
pub fn bytes(path: &Path) -> std::io::Result<u64> {
    Ok(segments(path)?.iter().map(|segment| segment.bytes).sum())
}

/// Bytes of each segment of the store in a directory. `None`: there is no store yet.
pub fn segment_bytes(path: &Path) -> Opened<Option<u64>> {
    Ok(lock(path)?.superblock()?.map(|superblock| superblock.segment_bytes))
}

/// What is in the files of a store, as far as the log can be read. `None`: there is no store yet.
pub fn show(path: &Path) -> Opened<Option<Overview>> {
    let dir = lock(path)?;
    let Some(copies) = copies(&dir)? else { return Ok(None) };
    let superblock =
        Superblock::choose_parsed(copies).map_err(|wrong| NotOpened::Superblock(path.to_owned(), wrong))?;
    let mut segments = dir.with("", segments(path))?;
    let present: Vec<u64> = segments.iter().map(|segment| segment.number).collect();
    let end = scan(
        &superblock,
        &present,
        |number, into| dir.read(&segment_name(number), into).map_err(Box::new),
        |batch| {
            let number = batch.head.segment;
            segments.iter_mut().filter(|segment| segment.number == number).for_each(|segment| segment.add(batch));
            Ok(())
        },
    );
    let end = end.map_err(|damage: Damage<Box<NotOpened>>| NotOpened::Damaged(path.to_owned(), damage));
    Ok(Some(Overview { superblock, copies, segments, end }))
}

/// Verifies all of a store: builds its tree in this memory.
pub fn check(path: &Path, arena: Arena, tree: mem::Options, at: At) -> Opened<Checked> {
    let dir = lock(path)?;
    let Some(copies) = copies(&dir)? else {
        return Ok(Checked { report: Report { is_new: true, ..Report::default() }, ..Checked::default() });
    };
    let superblock =
        Superblock::choose_parsed(copies).map_err(|wrong| NotOpened::Superblock(path.to_owned(), wrong))?;
    let (mem, _, report) = recover(&dir, &superblock, Mem::watched(arena, tree), at)?;
    let (files, file_bytes) = mem.count();
    Ok(Checked { report, files, file_bytes, inodes: mem.inodes() })
}
