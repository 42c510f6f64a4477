//! The files of a store, as a start reads, makes and removes them. It may block: nobody is served yet.
//!
//! Must not know: trees, sessions, rings.

use super::format::{PAGE_BYTES, Superblock};
use super::open::{NotOpened, Opened};
use super::stock::{FILE_MODE, NEW_SEGMENT, SEGMENT, ZEROS_BYTES, segment_name, segment_number};
use nix::fcntl::OFlag;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file of the superblock.
pub(super) const SUPERBLOCK: &str = "superblock";
/// The directory of an ext file system for files without a name.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory with a store, locked.
pub(super) struct Dir<'a> {
    pub(super) path: &'a Path,
    pub(super) file: File,
}

impl Dir<'_> {
    /// Opens and locks the directory, or makes it. The lock is held until its file is closed.
    pub(super) fn lock(path: &Path) -> Opened<Dir<'_>> {
        let io = |error| NotOpened::Io(path.to_owned(), error);
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        let file = File::open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(NotOpened::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let dir = Dir { path, file };
        dir.sync()?;
        // Its own name is to be durable as well; an earlier start may have ended before that.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(parent).and_then(|parent| parent.sync_all()) {
            // A parent that may only be passed through was not made by a start.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(|error| NotOpened::Io(parent.to_owned(), error))?,
        }
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        self.path
    }

    /// The file of the directory, with the lock.
    pub(super) fn into_file(self) -> File {
        self.file
    }

    pub(super) fn named(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn with<T>(&self, name: &str, did: io::Result<T>) -> Opened<T> {
        did.map_err(|error| NotOpened::Io(self.named(name), error))
    }

    fn sync(&self) -> Opened<()> {
        self.with("", self.file.sync_all())
    }

    fn names(&self) -> Opened<Vec<Option<String>>> {
        let entries = self.with("", std::fs::read_dir(self.path))?;
        entries.map(|entry| Ok(self.with("", entry)?.file_name().into_string().ok())).collect()
    }

    /// Bytes of a file, if it is there; made durable before they are looked at.
    pub(super) fn read(&self, name: &str, into: &mut Vec<u8>) -> Opened<bool> {
        let mut file = match File::open(self.named(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            opened => self.with(name, opened)?,
        };
        into.clear();
        self.with(name, file.sync_all().and_then(|()| file.read_to_end(into)))?;
        Ok(true)
    }

    /// The superblock that counts, if anything was written to its file.
    pub(super) fn superblock(&self) -> Opened<Option<Superblock>> {
        let mut bytes = Vec::new();
        if !self.read(SUPERBLOCK, &mut bytes)? || bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let copies = [bytes.get(..PAGE_BYTES).unwrap_or_default(), bytes.get(PAGE_BYTES..).unwrap_or_default()];
        let chosen = Superblock::choose(copies);
        chosen.map(Some).map_err(|wrong| NotOpened::Superblock(self.path.to_owned(), wrong))
    }

    /// Whether nothing is there but what a start leaves behind that has ended before it had made a store: segments of zeros.
    pub(super) fn is_blank(&self) -> Opened<bool> {
        let mut bytes = Vec::new();
        for name in self.names()? {
            let is_zeros = match name.as_deref() {
                Some(SUPERBLOCK | NEW_SEGMENT | LOST_AND_FOUND) => true,
                Some(name) if name.starts_with(SEGMENT) => {
                    self.read(name, &mut bytes)?;
                    bytes.iter().all(|&byte| byte == 0)
                }
                _ => false,
            };
            if !is_zeros {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The numbers of the segments that are there, in order.
    pub(super) fn segments(&self) -> Opened<Vec<u64>> {
        let names = self.names()?;
        let mut numbers: Vec<u64> = names.iter().flatten().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes all segments but these.
    pub(super) fn keep_segments(&self, kept: Range<u64>) -> Opened<()> {
        for name in self.names()?.into_iter().flatten() {
            let is_old = segment_number(&name).is_some_and(|number| !kept.contains(&number));
            if is_old || name == NEW_SEGMENT {
                self.with(&name, std::fs::remove_file(self.named(&name)))?;
            }
        }
        self.sync()
    }

    /// How the file of a new segment is opened.
    fn segment_options(is_direct: bool) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(FILE_MODE);
        if is_direct {
            options.custom_flags(OFlag::O_DIRECT.bits());
        }
        options
    }

    /// Whether the file system takes writes with O_DIRECT.
    pub(super) fn takes_direct(&self) -> Opened<bool> {
        let zeros = Zeros::new(PAGE_BYTES);
        let tried = Self::segment_options(true)
            .open(self.named(NEW_SEGMENT))
            .and_then(|file| file.write_all_at(zeros.bytes(PAGE_BYTES), 0));
        match tried {
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(false),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
            // Whatever else fails is found out where it matters.
            _ => Ok(true),
        }
    }

    /// A segment of zeros.
    pub(super) fn make_segment(&self, number: u64, bytes: u64, is_direct: bool) -> Opened<File> {
        let made = self.write_segment(number, bytes, is_direct);
        if made.is_err() {
            let _ = std::fs::remove_file(self.named(NEW_SEGMENT));
        }
        made
    }

    fn write_segment(&self, number: u64, bytes: u64, is_direct: bool) -> Opened<File> {
        let file = self.with(NEW_SEGMENT, Self::segment_options(is_direct).open(self.named(NEW_SEGMENT)))?;
        let zeros = Zeros::new(bytes.min(ZEROS_BYTES) as usize);
        for at in (0..bytes).step_by(ZEROS_BYTES as usize) {
            let len = ZEROS_BYTES.min(bytes - at) as usize;
            self.with(NEW_SEGMENT, file.write_all_at(zeros.bytes(len), at))?;
        }
        self.with(NEW_SEGMENT, file.sync_all())?;
        let name = segment_name(number);
        self.with(&name, std::fs::rename(self.named(NEW_SEGMENT), self.named(&name)))?;
        self.sync()?;
        Ok(file)
    }

    /// Writes a copy of the superblock. Returns the file.
    pub(super) fn write_superblock(&self, superblock: &Superblock) -> Opened<File> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(self.named(SUPERBLOCK));
        let file = self.with(SUPERBLOCK, file)?;
        let at = (superblock.copy() * PAGE_BYTES) as u64;
        self.with(SUPERBLOCK, file.write_all_at(&superblock.emit(), at).and_then(|()| file.sync_all()))?;
        self.sync()?;
        Ok(file)
    }
}

/// Zeros in aligned memory, as O_DIRECT takes them.
struct Zeros {
    memory: Vec<u8>,
    start: usize,
}

impl Zeros {
    fn new(len: usize) -> Zeros {
        let memory = vec![0; len + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Zeros { memory, start }
    }

    fn bytes(&self, len: usize) -> &[u8] {
        &self.memory[self.start..self.start + len]
    }
}
