//! The files of a store: a start and a copy read, make and remove them here. These calls may block, since nothing is served.
//!
//! Must not know: trees, sessions, rings.

use super::format::{PAGE_BYTES, Superblock, Wrong};
use super::open::{NotOpened, Opened};
use super::stock::{FILE_MODE, NEW_SEGMENT, SEGMENT, ZEROS_BYTES, segment_name, segment_number};
use nix::fcntl::OFlag;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file of the superblock.
pub(super) const SUPERBLOCK: &str = "superblock";
/// The superblock of a copy that has not ended.
const NEW_SUPERBLOCK: &str = "superblock-new";
/// The directory of an ext file system for files without a name.
const LOST_AND_FOUND: &str = "lost+found";

/// A directory with a store, locked.
pub(super) struct Dir<'a> {
    path: &'a Path,
    file: File,
}

/// Whether a new file system has a file of this name.
pub(super) fn is_given(name: &OsStr) -> bool {
    name == LOST_AND_FOUND
}

/// The segments in a directory by their numbers, in order, each with the bytes of its file.
pub(super) fn segments(path: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(segment_number) {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Dir<'_> {
    /// Opens and locks the directory, or makes it. The lock is held until its file is closed.
    pub(super) fn lock(path: &Path) -> Opened<Dir<'_>> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(NotOpened::Io(path.to_owned(), error));
            }
            _ => {}
        }
        let dir = Self::open(path, File::try_lock)?;
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

    /// The same for those that change nothing: they share the lock with each other, and with no server.
    pub(super) fn lock_to_look(path: &Path) -> Opened<Dir<'_>> {
        Self::open(path, File::try_lock_shared)
    }

    fn open(path: &Path, lock: impl FnOnce(&File) -> Result<(), TryLockError>) -> Opened<Dir<'_>> {
        let io = |error| NotOpened::Io(path.to_owned(), error);
        let file = File::open(path).map_err(io)?;
        match lock(&file) {
            Ok(()) => Ok(Dir { path, file }),
            Err(TryLockError::WouldBlock) => Err(NotOpened::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
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

    /// A file and its length, if it is there; made durable before it is looked at.
    pub(super) fn open_to_read(&self, name: &str) -> Opened<Option<(ToRead, usize)>> {
        let path = self.named(name);
        let direct = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&path);
        let (opened, is_direct) = match direct {
            Err(error) if has_no_direct(&error) => (File::open(&path), false),
            opened => (opened, true),
        };
        let file = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => self.with(name, opened)?,
        };
        let len = self.with(name, file.sync_all().and_then(|()| file.metadata()))?.len();
        Ok(Some((ToRead { file, is_direct }, len as usize)))
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

    /// Both copies of the superblock. `None`: there is no store yet, and nothing else.
    pub(super) fn copies(&self) -> Opened<Option<[Result<Superblock, Wrong>; 2]>> {
        let mut bytes = Vec::new();
        if self.read(SUPERBLOCK, &mut bytes)? && bytes.iter().any(|&byte| byte != 0) {
            let copies = [bytes.get(..PAGE_BYTES), bytes.get(PAGE_BYTES..)];
            return Ok(Some(copies.map(|copy| Superblock::parse(copy.unwrap_or_default()))));
        }
        if self.is_blank()? {
            return Ok(None);
        }
        let path = self.path.to_owned();
        let is_copy = self.with(NEW_SUPERBLOCK, self.named(NEW_SUPERBLOCK).try_exists())?;
        Err(if is_copy { NotOpened::Unfinished(path) } else { NotOpened::NoStore(path) })
    }

    /// The copy that counts.
    pub(super) fn choose(&self, copies: [Result<Superblock, Wrong>; 2]) -> Opened<Superblock> {
        Superblock::choose(copies).map_err(|wrong| NotOpened::Superblock(self.path.to_owned(), wrong))
    }

    /// The superblock that counts. `None`: there is no store yet, and nothing else.
    pub(super) fn superblock(&self) -> Opened<Option<Superblock>> {
        self.copies()?.map(|copies| self.choose(copies)).transpose()
    }

    /// Whether nothing is there but what a start leaves behind that has ended before it had made a store: segments of zeros.
    fn is_blank(&self) -> Opened<bool> {
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

    /// The segments that are there: see [`segments`].
    pub(super) fn segments(&self) -> Opened<Vec<(u64, u64)>> {
        self.with("", segments(self.path))
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
        let zeros = Aligned::new(PAGE_BYTES);
        let tried = Self::segment_options(true)
            .open(self.named(NEW_SEGMENT))
            .and_then(|file| file.write_all_at(zeros.bytes(PAGE_BYTES), 0));
        // Whatever else fails is found out where it matters.
        Ok(!tried.is_err_and(|error| has_no_direct(&error)))
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
        let zeros = Aligned::new(bytes.min(ZEROS_BYTES) as usize);
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

    /// A new segment of a copy, in which nothing takes room before it is written.
    pub(super) fn make_sparse_segment(&self, number: u64, bytes: u64) -> Opened<File> {
        let name = segment_name(number);
        let made = Self::segment_options(false).open(self.named(&name));
        self.with(&name, made.and_then(|file| file.set_len(bytes).map(|()| file)))
    }

    /// Says that what is made here is a copy that has not ended.
    pub(super) fn begin_copy(&self) -> Opened<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(self.named(NEW_SUPERBLOCK));
        self.with(NEW_SUPERBLOCK, file.and_then(|file| file.sync_all()))?;
        self.sync()
    }

    /// Turns a finished copy into a store. Both copies of the superblock are written under a temporary name, synced, and renamed
    /// together. All segments must be durable.
    pub(super) fn end_copy(&self, superblocks: [Superblock; 2]) -> Opened<()> {
        self.sync()?;
        for superblock in &superblocks {
            self.write_superblock_to(NEW_SUPERBLOCK, superblock)?;
        }
        let [new, named] = [NEW_SUPERBLOCK, SUPERBLOCK].map(|name| self.named(name));
        self.with(SUPERBLOCK, std::fs::rename(new, named))?;
        self.sync()
    }

    /// Removes all that a copy has made here. What says that it is one goes last.
    pub(super) fn remove_copy(&self) -> Opened<()> {
        let names = self.names()?.into_iter().flatten();
        let segments = names.filter(|name| segment_number(name).is_some());
        for name in segments.chain([SUPERBLOCK, NEW_SUPERBLOCK].map(String::from)) {
            match std::fs::remove_file(self.named(&name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => self.with(&name, removed)?,
            }
        }
        self.sync()
    }

    /// Writes a copy of the superblock. Returns the file.
    pub(super) fn write_superblock(&self, superblock: &Superblock) -> Opened<File> {
        let file = self.write_superblock_to(SUPERBLOCK, superblock)?;
        self.sync()?;
        Ok(file)
    }

    fn write_superblock_to(&self, name: &str, superblock: &Superblock) -> Opened<File> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(self.named(name));
        let file = self.with(name, file)?;
        let at = (superblock.copy() * PAGE_BYTES) as u64;
        self.with(name, file.write_all_at(&superblock.emit(), at).and_then(|()| file.sync_all()))?;
        Ok(file)
    }
}

/// Whether this is the error of a file system that has no O_DIRECT.
fn has_no_direct(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

/// A file that is read from its start.
pub(super) struct ToRead {
    file: File,
    is_direct: bool,
}

impl ToRead {
    /// Reads the file up to its end, or until this memory is full. Returns the bytes that were read. The memory begins at a
    /// multiple of [`PAGE_BYTES`], and has a multiple of it.
    pub(super) fn read_all(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut had = 0;
        while had < into.len() {
            match self.file.read_at(&mut into[had..], had as u64) {
                Ok(0) => break,
                Ok(n) => had += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // Only the end of a file leaves a part of a page.
            if self.is_direct && !had.is_multiple_of(PAGE_BYTES) {
                break;
            }
        }
        Ok(had)
    }
}

/// Memory as O_DIRECT takes it, zeros at first.
#[derive(Default)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub(super) fn new(len: usize) -> Aligned {
        let memory = vec![0; len + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Aligned { memory, start }
    }

    /// How many bytes it has at least.
    pub(super) fn len(&self) -> usize {
        self.memory.len().saturating_sub(PAGE_BYTES)
    }

    pub(super) fn bytes(&self, len: usize) -> &[u8] {
        &self.memory[self.start..self.start + len]
    }

    pub(super) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + len]
    }
}
