//! A disk that forgets: it does what a store asks for, and at a crash loses any part of what was not synced: bytes, and names.

use crate::random::Random;
use ring9::fs::{Ask, AskId, At, Descriptor, Error, Result, Service};
use std::fs;
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A write that was not synced: the number of the file, where, and the bytes before.
struct Unsynced {
    file: u64,
    offset: u64,
    before: Vec<u8>,
}

/// A change of names that was not synced.
enum Renaming {
    Renamed { from: String, to: String },
    Unlinked { name: String, kept: PathBuf },
}

/// What a crash keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    All,
    Nothing,
    Any,
}

/// How an ask fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(Error),
    /// A write does a part, as long as there is one.
    Short,
}

pub struct Disk {
    path: PathBuf,
    /// Where files are that have lost their names, as long as that may be undone.
    attic: PathBuf,
    /// What was asked for and is not done.
    asked: Vec<(AskId, Ask)>,
    unsynced: Vec<Unsynced>,
    renamings: Vec<Renaming>,
    kept: usize,
    /// Asks that were done, without those that close a file.
    pub done: usize,
    /// The ask of this number fails so.
    pub fault: Option<(usize, Fault)>,
    /// It has failed.
    pub has_failed: bool,
    /// Some writes are short.
    pub is_short: bool,
    /// Files beyond this many have no room.
    pub segments_max: usize,
    /// The moment at which asks end.
    pub at: At,
    /// Kinds of asks that were done.
    pub kinds: std::collections::BTreeMap<&'static str, usize>,
    /// Files that were opened and not made, by their numbers.
    pub reused: Vec<u64>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Bytes that a disk writes at once.
const SECTOR: usize = 512;

impl Disk {
    pub fn new() -> Disk {
        // In memory where that is possible.
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("ring9-store-{}-{number}", std::process::id()));
        let attic = path.with_extension("attic");
        Disk {
            path,
            attic,
            asked: Vec::new(),
            unsynced: Vec::new(),
            renamings: Vec::new(),
            kept: 0,
            done: 0,
            fault: None,
            has_failed: false,
            is_short: true,
            segments_max: usize::MAX,
            at: At::default(),
            kinds: std::collections::BTreeMap::new(),
            reused: Vec::new(),
        }
    }

    /// The directory of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Segments that are there.
    pub fn segments(&self) -> usize {
        self.numbers().count()
    }

    /// The numbers of their files.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let entries = fs::read_dir(&self.path).expect("it is there").flatten();
        let segments = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("seg-0"));
        segments.map(|entry| entry.metadata().expect("it is there").ino())
    }

    /// Takes what a store asks for, and does `most` of it, in any order.
    pub fn pump(&mut self, store: &mut impl Service, random: &mut Random, most: usize) {
        for _ in 0..most {
            while let Some(next) = store.ask() {
                self.asked.push(next);
            }
            if self.asked.is_empty() {
                return;
            }
            let (id, mut ask) = self.asked.swap_remove(random.below(self.asked.len()));
            let result = self.answer(&mut ask, random);
            store.answered(id, ask, result, self.at);
        }
    }

    fn answer(&mut self, ask: &mut Ask, random: &mut Random) -> Result<u32> {
        if !matches!(ask, Ask::Close { .. }) {
            self.done += 1;
        }
        let Some((_, fault)) = self.fault.filter(|(number, _)| *number == self.done) else {
            return self.does(ask, random, true);
        };
        match (fault, &*ask) {
            (_, Ask::Close { .. }) => self.does(ask, random, true),
            (Fault::Short, Ask::Write { file, offset, data }) => {
                self.has_failed = true;
                let bytes: Vec<u8> = data.views().flatten().copied().collect();
                let len = bytes.len() / 2;
                self.write(*file, *offset, &bytes[..len]);
                Ok(len as u32)
            }
            (Fault::Short, _) => self.does(ask, random, true),
            (Fault::Error(error), Ask::Write { file, offset, data }) => {
                // A part of it may be there.
                self.has_failed = true;
                let bytes: Vec<u8> = data.views().flatten().copied().collect();
                self.write(*file, *offset, &bytes[..bytes.len() / 2]);
                Err(error)
            }
            (Fault::Error(error), _) => {
                self.has_failed = true;
                Err(error)
            }
        }
    }

    /// Does what is asked for; a write maybe in part.
    fn does(&mut self, ask: &mut Ask, random: &mut Random, syncs: bool) -> Result<u32> {
        let name = |path: &std::ffi::CStr| std::ffi::OsStr::from_bytes(path.to_bytes()).to_string_lossy().into_owned();
        let kind = match ask {
            Ask::Open { how, .. } if how.create => "create",
            Ask::Open { .. } => "open",
            Ask::Rename { .. } => "rename",
            Ask::Unlink { .. } => "unlink",
            Ask::Write { .. } => "write",
            Ask::Sync { .. } => "sync",
            _ => "other",
        };
        *self.kinds.entry(kind).or_default() += 1;
        match ask {
            Ask::Open { path, how, mode, .. } => {
                if how.create && self.segments() >= self.segments_max {
                    return Err(Error::ENOSPC);
                }
                let mut options = fs::OpenOptions::new();
                options.read(true).write(true).create(how.create).truncate(how.truncate).mode(*mode);
                let file = options.open(self.path.join(name(path))).expect("a file in memory");
                if !how.create {
                    self.reused.push(file.metadata().expect("it is open").ino());
                }
                Ok(file.into_raw_fd() as u32)
            }
            Ask::Rename { path, new_path, .. } => {
                let (from, to) = (name(path), name(new_path));
                fs::rename(self.path.join(&from), self.path.join(&to)).expect("it is there");
                self.renamings.push(Renaming::Renamed { from, to });
                Ok(0)
            }
            Ask::Unlink { path, .. } => {
                let name = name(path);
                fs::create_dir_all(&self.attic).expect("room");
                self.kept += 1;
                let kept = self.attic.join(self.kept.to_string());
                if fs::rename(self.path.join(&name), &kept).is_err() {
                    return Err(Error::ENOENT);
                }
                self.renamings.push(Renaming::Unlinked { name, kept });
                Ok(0)
            }
            Ask::Close { descriptor } => {
                nix::unistd::close(descriptor.0).expect("it is open");
                Ok(0)
            }
            Ask::Write { file, offset, data } => {
                if !self.is_short && !is_superblock(*file) {
                    // The rest of a short write begins with a sector.
                    let unit = if self.fault.is_some() { SECTOR } else { 4096 };
                    let is_aligned = |number: usize| number.is_multiple_of(unit);
                    let views = data.views().all(|view| is_aligned(view.as_ptr() as usize) && is_aligned(view.len()));
                    assert!(views && is_aligned(*offset as usize), "a segment may be open with O_DIRECT");
                }
                let bytes: Vec<u8> = data.views().flatten().copied().collect();
                let is_short = self.is_short && random.below(8) == 0;
                let len = if is_short { 1 + random.below(bytes.len()) } else { bytes.len() };
                self.write(*file, *offset, &bytes[..len]);
                Ok(len as u32)
            }
            Ask::Sync { file, .. } => {
                let (number, is_dir) = number(*file);
                if syncs && is_dir {
                    self.renamings.clear();
                } else if syncs {
                    self.unsynced.retain(|write| write.file != number);
                }
                Ok(0)
            }
            other => panic!("a store does not ask for {other:?}"),
        }
    }

    fn write(&mut self, file: Descriptor, offset: u64, bytes: &[u8]) {
        let (number, _) = number(file);
        let file = fs::OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{}", file.0));
        let file = file.expect("it is open");
        let mut before = vec![0; bytes.len()];
        let mut had = 0;
        while let Ok(n @ 1..) = file.read_at(&mut before[had..], offset + had as u64) {
            had += n;
        }
        file.write_all_at(bytes, offset).expect("room");
        self.unsynced.push(Unsynced { file: number, offset, before });
    }

    /// The power fails. What is on its way may be done or not, and what was not synced is kept or not. Returns the disk as the
    /// next start finds it.
    pub fn crash(self, random: &mut Random) -> Disk {
        let keeps = [Keeps::All, Keeps::Nothing, Keeps::Any][random.below(3)];
        self.crash_keeping(keeps, random)
    }

    pub fn crash_keeping(mut self, keeps: Keeps, random: &mut Random) -> Disk {
        let mut is_kept = |keeps: Keeps| match keeps {
            Keeps::All => true,
            Keeps::Nothing => false,
            Keeps::Any => random.below(2) == 0,
        };
        for (_, mut ask) in std::mem::take(&mut self.asked) {
            if matches!(ask, Ask::Write { .. } | Ask::Rename { .. } | Ask::Unlink { .. }) && is_kept(keeps) {
                let _ = self.does(&mut ask, &mut Random::new(1), false);
            }
        }
        for Unsynced { file: number, offset, before } in self.unsynced.drain(..).rev() {
            let Some(path) = find(&[&self.path, &self.attic], number) else { continue };
            let file = fs::OpenOptions::new().write(true).open(path).expect("it is there");
            for (number, sector) in before.chunks(SECTOR).enumerate() {
                if !is_kept(keeps) {
                    file.write_all_at(sector, offset + (number * SECTOR) as u64).expect("room");
                }
            }
        }
        for renaming in self.renamings.drain(..).rev() {
            if is_kept(keeps) {
                continue;
            }
            // What depends on a change that was undone is undone with it.
            let _ = match renaming {
                Renaming::Renamed { from, to } => fs::rename(self.path.join(to), self.path.join(from)),
                Renaming::Unlinked { name, kept } => fs::rename(kept, self.path.join(name)),
            };
        }
        let next = Disk::new();
        fs::create_dir(&next.path).expect("room");
        for entry in fs::read_dir(&self.path).expect("it is there") {
            let entry = entry.expect("it is there");
            fs::copy(entry.path(), next.path.join(entry.file_name())).expect("room");
        }
        next
    }
}

fn is_superblock(file: Descriptor) -> bool {
    fs::read_link(format!("/proc/self/fd/{}", file.0)).is_ok_and(|name| name.ends_with("superblock"))
}

/// The number of an open file, and whether it is a directory.
fn number(file: Descriptor) -> (u64, bool) {
    let about = fs::metadata(format!("/proc/self/fd/{}", file.0)).expect("it is open");
    (about.ino(), about.is_dir())
}

fn find(folders: &[&Path], number: u64) -> Option<PathBuf> {
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).find(|path| fs::metadata(path).is_ok_and(|about| about.ino() == number))
}

/// Closes what the store has open there, too: a store has its files until the process ends.
impl Drop for Disk {
    fn drop(&mut self) {
        for entry in fs::read_dir("/proc/self/fd").expect("there is /proc").flatten() {
            let is_here = fs::read_link(entry.path())
                .is_ok_and(|link| link.starts_with(&self.path) || link.starts_with(&self.attic));
            let number = entry.file_name().to_string_lossy().parse::<i32>();
            if let (true, Ok(number)) = (is_here, number) {
                let _ = nix::unistd::close(number);
            }
        }
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_dir_all(&self.attic);
    }
}
