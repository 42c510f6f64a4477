//! Segments in stock: each is made step by step, and is there once its name is durable.
//!
//! ```text
//! open seg-new   -> zeros, all of it    -> synced -> renamed to seg-N -> directory synced
//! open a spare   -> zeros, its 1st page -> synced -> renamed to seg-N -> directory synced
//! ```
//! A spare is a segment that a checkpoint has taken out of the log. It has all of its blocks, so it takes no new room, and zeros are
//! not written to it a second time. Its old batches do not count under the new number: each head names the number of its
//! segment. Spares that the log will not need are removed.
//!
//! If a step before the last one fails, the file is no segment. It is removed. A later attempt takes the next spare or a new file.
//!
//! Must not know: batches, trees, sessions.

use super::format::PAGE_BYTES;
use super::log::whole_pages;
use crate::arena::{BLOCK_BYTES_MAX, Slice, Zeros};
use crate::fs::{Ask, Descriptor, Iovec, OpenHow, Result};
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::ops::Range;

/// What the names of segments begin with.
pub(super) const SEGMENT: &str = "seg-";
/// Name of a segment while it is made.
pub(super) const NEW_SEGMENT: &str = "seg-new";
/// Bytes of zeros in one write of a new segment: a segment of 64 MiB takes 8 writes, one in flight at a time.
pub(super) const ZEROS_BYTES: u64 = 8 << 20;
/// Permissions of the files of a store.
pub(super) const FILE_MODE: u32 = 0o600;

/// The name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{SEGMENT}{number:016x}")
}

/// The number of the segment of this name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_prefix(SEGMENT)?, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// A name of a file in the store as an ask takes it.
pub(super) fn path(name: &str) -> Box<CStr> {
    CString::new(name).expect("names of a store have no NUL").into_boxed_c_str()
}

/// A segment that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) segment: u64,
    pub(super) file: Descriptor,
    /// Its file was a segment before, and has old batches.
    pub(super) is_reused: bool,
}

/// How far the next segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open,
    /// So many bytes are written.
    Write(Descriptor, u64),
    Sync(Descriptor),
    Rename(Descriptor),
    SyncDir(Descriptor),
    /// It cannot be made: what there is of it goes.
    Remove,
}

/// The segment that is made.
pub(super) struct Stock {
    dir: Descriptor,
    zeros: Zeros,
    /// With O_DIRECT.
    is_direct: bool,
    bytes: u64,
    number: u64,
    /// The spare that it is made of.
    spare: Option<u64>,
    step: Option<Step>,
    in_flight: bool,
    /// The last one could not be made: there is no room on the disk, until one is made.
    is_full: bool,
    /// It is tried again.
    is_due: bool,
    is_retired: bool,
    /// Segments that will be used again.
    spares: VecDeque<u64>,
    /// Segments that are to be removed.
    excess: VecDeque<u64>,
}

impl Stock {
    pub(super) fn new(dir: Descriptor, is_direct: bool, zeros: Zeros) -> Stock {
        Stock {
            dir,
            zeros,
            is_direct,
            bytes: 0,
            number: 0,
            spare: None,
            step: None,
            in_flight: false,
            is_full: false,
            is_due: true,
            is_retired: false,
            spares: VecDeque::new(),
            excess: VecDeque::new(),
        }
    }

    /// How many segments can be made, if the disk has no room for a new one.
    pub(super) fn segments_left(&self) -> Option<u64> {
        let is_made_of_spare = u64::from(self.is_busy() && self.spare.is_some());
        self.is_full.then(|| self.spares.len() as u64 + is_made_of_spare)
    }

    /// Takes segments that are not in the log any more, in order. Segments below `reusable` are removed, since a late write of an earlier
    /// process may reach them. Of the others `most` stay as spares.
    pub(super) fn put(&mut self, segments: Range<u64>, reusable: u64, most: u64) {
        let (old, own) = (segments.start..segments.end.min(reusable), segments.start.max(reusable)..segments.end);
        self.excess.extend(old);
        self.spares.extend(own);
        let beyond = self.spares.len().saturating_sub(usize::try_from(most).unwrap_or(usize::MAX));
        self.excess.extend(self.spares.drain(..beyond));
    }

    /// Segments that are there and not in the log any more.
    pub(super) fn spares(&self) -> u64 {
        (self.spares.len() + self.excess.len()) as u64 + u64::from(self.step.is_some() && self.spare.is_some())
    }

    /// A page of zeros.
    pub(super) fn zero_page(&self) -> Slice {
        self.zeros.slice(PAGE_BYTES)
    }

    /// Whether a segment is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.step.is_some_and(|step| step != Step::Remove)
    }

    pub(super) fn try_again(&mut self) {
        self.is_due = true;
    }

    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    pub(super) fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// The next step, if none is in flight. `wanted`: the number of the segment that is to be made next.
    pub(super) fn ask(&mut self, wanted: Option<u64>, bytes: u64) -> Option<Ask> {
        if self.in_flight {
            return None;
        }
        if self.step.is_none() {
            self.begin(wanted, bytes);
        }
        let (dir, step) = (self.dir, self.step?);
        self.in_flight = true;
        Some(match step {
            Step::Open => {
                let is_new = self.spare.is_none();
                let how = OpenHow { direct: self.is_direct, create: is_new, truncate: is_new, ..READ_WRITE };
                Ask::Open { dir, path: self.path(), how, mode: FILE_MODE }
            }
            Step::Write(file, offset) => {
                // The zeros of the arena are aligned, and are there already.
                let mut data = Iovec::default();
                let mut left = ZEROS_BYTES.min(self.zeros_bytes() - offset) as usize;
                while left > 0 {
                    let slice = self.zeros.slice(left.min(BLOCK_BYTES_MAX));
                    left -= slice.len();
                    data.put_slice(slice);
                }
                Ask::Write { file, offset, data: data.into() }
            }
            Step::Sync(file) => Ask::Sync { file, data_only: false },
            Step::Rename(_) => {
                let new_path = path(&segment_name(self.number));
                Ask::Rename { from: dir, path: self.path(), to: dir, new_path }
            }
            Step::SyncDir(_) => Ask::Sync { file: dir, data_only: false },
            Step::Remove => Ask::Unlink { dir, path: self.path(), want_dir: false },
        })
    }

    /// The first step of what is to be done next, if anything is.
    fn begin(&mut self, wanted: Option<u64>, bytes: u64) {
        let removed = if self.is_retired { None } else { self.excess.pop_front() };
        if removed.is_some() {
            (self.spare, self.step) = (removed, Some(Step::Remove));
        } else if let Some(number) = wanted
            && (self.is_due || !self.spares.is_empty())
        {
            (self.number, self.bytes) = (number, bytes);
            (self.spare, self.step) = (self.spares.pop_front(), Some(Step::Open));
        }
    }

    /// The name that the file has while a segment is made of it.
    fn path(&self) -> Box<CStr> {
        self.spare.map_or_else(|| path(NEW_SEGMENT), |number| path(&segment_name(number)))
    }

    /// How much of the file is to be zeros: of a spare the place of the first batch.
    fn zeros_bytes(&self) -> u64 {
        if self.spare.is_some() { PAGE_BYTES as u64 } else { self.bytes }
    }

    /// A step has ended. If it has failed there is no room, until it is tried again; descriptors that are not needed go to
    /// `closing`. A failed sync of the directory is fatal: whether earlier names are durable is not known any more.
    pub(super) fn answered(&mut self, result: Result<u32>, closing: &mut Vec<Descriptor>) -> Result<Option<Made>> {
        self.in_flight = false;
        let Some(step) = self.step.take() else { return Ok(None) };
        let file = match step {
            Step::Open | Step::Remove => None,
            Step::Write(file, _) | Step::Sync(file) | Step::Rename(file) | Step::SyncDir(file) => Some(file),
        };
        let written = |n| if matches!(step, Step::Write(..)) { whole_pages(n) } else { Ok(n) };
        let n = match (result.and_then(written), step) {
            (Ok(n), _) => n,
            (Err(error), Step::SyncDir(_)) => return Err(error),
            (Err(_), Step::Remove) => return Ok(None),
            (Err(_), _) => {
                if self.spare.is_none() {
                    (self.is_full, self.is_due) = (true, false);
                }
                closing.extend(file);
                self.step = Some(Step::Remove);
                return Ok(None);
            }
        };
        let next = match step {
            Step::Open => Step::Write(Descriptor(n as i32), 0),
            Step::Write(file, offset) if offset + u64::from(n) < self.zeros_bytes() => {
                Step::Write(file, offset + u64::from(n))
            }
            Step::Write(file, _) => Step::Sync(file),
            Step::Sync(file) => Step::Rename(file),
            Step::Rename(file) => Step::SyncDir(file),
            Step::SyncDir(file) => {
                let is_reused = self.spare.is_some();
                self.is_full &= is_reused;
                return Ok(Some(Made { segment: self.number, file, is_reused }));
            }
            Step::Remove => return Ok(None),
        };
        self.step = Some(next);
        Ok(None)
    }
}

/// How the file of a segment is opened, but for what makes it.
const READ_WRITE: OpenHow = OpenHow {
    read: true,
    write: true,
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    direct: false,
};

const _: () = assert!(ZEROS_BYTES.is_multiple_of(PAGE_BYTES as u64));
