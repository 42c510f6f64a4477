//! Copies a store that is not served: recovers its tree, and tells all of it into the log of a new store, as a checkpoint does.
//!
//! ```text
//! source locked, as by `inspect` -> tree in memory
//! copy:  superblock-new, empty -> batches in segments -> synced -> superblock-new written -> synced -> renamed to superblock
//! ```
//! Until the last step the directory of the copy has no superblock, so it is no store. `superblock-new` says that it is a copy
//! that has not ended. All of this may block.
//!
//! Must not know: sessions, messages, sockets, rings.

use super::dir::{Dir, is_given};
use super::format::{Next, StoreId, Superblock};
use super::open::{NotOpened, Opened, Report, recover};
use super::room::{live_bytes_max, share_of_copy};
use super::stock::segment_name;
use super::stored::Told;
use crate::arena::Arena;
use crate::fs::mem::{self, Mem, Sweep, Watched};
use crate::fs::{At, Filesystem};
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Where a copy goes, and what differs in it.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// Its directory: missing, or empty.
    pub path: &'a Path,
    /// Bytes that tell the copy from other stores.
    pub id: StoreId,
    /// Bytes of a segment. `None`: as in the source.
    pub segment_bytes: Option<u64>,
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// What recovery says of the source.
    pub report: Report,
    /// Files of all types but directories.
    pub files: usize,
    /// Bytes of the regular ones.
    pub file_bytes: u64,
    /// What counts against the bound on inodes.
    pub inodes: usize,
    /// Bytes of everything in the tree once it is told, as the server counts them, or fewer.
    pub live_bytes: u64,
    /// Bytes of a segment of the copy.
    pub segment_bytes: u64,
    /// Bytes of the log of the copy. Its segments behind that take no room on the disk.
    pub log_bytes: u64,
}

impl Copied {
    /// Live bytes that a server with this bound on the copy takes. Beyond it what takes room gets ENOSPC.
    pub fn live_bytes_max(&self, store_bytes: u64) -> u64 {
        live_bytes_max(store_bytes, self.segment_bytes)
    }
}

/// Why there is no copy. Nothing of the source was changed.
#[derive(Debug)]
pub enum NotCopied {
    /// The source cannot be read. Nothing was made for the copy.
    Source(NotOpened),
    /// The directory for the copy has files, and was not changed.
    NotEmpty(PathBuf),
    /// The directory for the copy cannot be used.
    Unusable(NotOpened),
    /// The directory for the copy would be in that of the source.
    Inside(PathBuf),
    /// The copy cannot be written. What was made for it is removed.
    To(NotOpened),
    /// The copy cannot be written, and what was made for it cannot be removed.
    Left(NotOpened, PathBuf),
}

impl fmt::Display for NotCopied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotCopied::Source(why) | NotCopied::Unusable(why) => write!(f, "{why}"),
            NotCopied::NotEmpty(path) => write!(f, "{}: not an empty directory", path.display()),
            NotCopied::Inside(path) => write!(f, "{}: in the directory that is to be copied", path.display()),
            NotCopied::To(why) => write!(f, "{why}; what was made of the copy is removed"),
            NotCopied::Left(why, path) => write!(f, "{why}; {} has a part of the copy", path.display()),
        }
    }
}

impl std::error::Error for NotCopied {}

/// Copies a store. `None`: there is no store in `from`, and nothing was made.
pub fn copy(
    from: &Path,
    to: To<'_>,
    arena: Arena,
    tree: mem::Options,
    at: At,
) -> std::result::Result<Option<Copied>, NotCopied> {
    let is_there = vacant(from, to.path)?;
    // The lock of the source is held until the copy has ended.
    let source = Dir::lock_to_look(from).map_err(NotCopied::Source)?;
    let Some(old) = source.superblock().map_err(NotCopied::Source)? else { return Ok(None) };
    let recovered = recover(&source, &old, Mem::watched(arena, tree), at);
    let (mut mem, _, report) = recovered.map_err(NotCopied::Source)?;
    if report.lsn == 0 {
        // Nothing was ever kept: the root gets its times, as at a start.
        mem.init(at).expect("a tree in memory starts");
    }
    let (files, file_bytes) = mem.count();
    let segment_bytes = to.segment_bytes.unwrap_or(old.segment_bytes);
    let (inodes, live_bytes) = (mem.inodes(), mem.live_bytes());
    let dir = Dir::lock(to.path).map_err(NotCopied::Unusable)?;
    // Another process may have used it meanwhile.
    vacant(from, to.path)?;
    let superblock = Superblock { store: to.id, epoch: 1, segment_bytes, lsn: 1, ..Superblock::default() };
    match tell(&dir, superblock, &mut mem) {
        Ok(log_bytes) => Ok(Some(Copied { report, files, file_bytes, inodes, live_bytes, segment_bytes, log_bytes })),
        Err(why) => {
            let removed = dir.remove_copy().is_ok() && (is_there || std::fs::remove_dir(to.path).is_ok());
            Err(if removed { NotCopied::To(why) } else { NotCopied::Left(why, to.path.to_owned()) })
        }
    }
}

/// Whether the directory for a copy is there. It must be missing or empty, and not in that of the source.
fn vacant(from: &Path, path: &Path) -> std::result::Result<bool, NotCopied> {
    let io = |error| NotCopied::Unusable(NotOpened::Io(path.to_owned(), error));
    let (is_there, lies_in) = match std::fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                if !is_given(&entry.map_err(io)?.file_name()) {
                    return Err(NotCopied::NotEmpty(path.to_owned()));
                }
            }
            (true, path)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (false, path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        }
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Err(NotCopied::NotEmpty(path.to_owned())),
        Err(error) => return Err(io(error)),
    };
    let lies_in = lies_in.canonicalize().map_err(io)?;
    if from.canonicalize().is_ok_and(|from| lies_in.starts_with(from)) {
        return Err(NotCopied::Inside(path.to_owned()));
    }
    Ok(is_there)
}

/// Tells all of a tree into the log of a new store. Returns the bytes of the log.
fn tell(dir: &Dir<'_>, superblock: Superblock, mem: &mut Mem<Watched>) -> Opened<u64> {
    dir.begin_copy()?;
    // What recovery has changed is in the tree that is told.
    mem.tell(&mut Told::default());
    let mut log = CopyLog { dir, next: Next::from(&superblock), file: None, superblock, bytes: 0 };
    let mut sweep = Sweep::default();
    loop {
        let left = superblock.segment_bytes - log.next.offset;
        let is_whole = mem.sweep(&mut sweep, share_of_copy(superblock.segment_bytes, left));
        if mem.has_changes() {
            let mut told = Told::default();
            mem.tell(&mut told);
            log.add(told)?;
        }
        if is_whole {
            break;
        }
    }
    log.end_segment()?;
    let whole = log.next.lsn - 1;
    let first = Superblock { generation: 1, whole, ..superblock };
    dir.end_copy([first, Superblock { generation: 2, ..first }])?;
    Ok(log.bytes)
}

/// The log of a copy, and the segment that it has come to.
struct CopyLog<'a> {
    dir: &'a Dir<'a>,
    superblock: Superblock,
    next: Next,
    file: Option<File>,
    bytes: u64,
}

impl CopyLog<'_> {
    /// Writes a batch.
    fn add(&mut self, told: Told) -> Opened<()> {
        let Told { writer, pages } = told;
        let bytes = writer.len() as u64;
        debug_assert!(bytes <= self.superblock.segment_bytes, "a batch is in one segment");
        if self.next.offset + bytes > self.superblock.segment_bytes {
            self.end_segment()?;
            self.next = self.next.in_next_segment();
        }
        let Next { segment, offset, lsn, .. } = self.next;
        let file = match self.file.take() {
            Some(file) => file,
            None => self.dir.make_sparse_segment(segment, self.superblock.segment_bytes)?,
        };
        let (front, checksum) = writer.seal(self.next.head(lsn));
        let mut at = offset;
        for part in std::iter::once(&front[..]).chain(pages.iter().map(|slice| &slice[..])) {
            self.dir.with(&segment_name(segment), file.write_all_at(part, at))?;
            at += part.len() as u64;
        }
        self.file = Some(file);
        self.next = self.next.written(bytes, lsn, checksum);
        self.bytes += bytes;
        Ok(())
    }

    /// Makes the segment durable.
    fn end_segment(&mut self) -> Opened<()> {
        let name = segment_name(self.next.segment);
        self.file.take().map_or(Ok(()), |file| self.dir.with(&name, file.sync_all()))
    }
}
