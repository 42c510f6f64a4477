//! A disk that forgets. When the power fails, it may lose what was not synced: any sectors of each write, and any new, changed or
//! removed name.
//!
//! Only a mounted disk forgets. Its files come from an [`Image`], and a power cut leaves an [`Image`]. `tests/store` has such a disk
//! too. That one works on real files, since nothing there stands between the store and the descriptors of its start.

use super::faults::Fault;
use super::sqe::{Call, Kind};
use super::{Fd, Kernel};
use crate::random::Random;
use std::collections::BTreeMap;

/// The files of a directory by their names.
pub(crate) type Image = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes that a disk writes at once.
const SECTOR: usize = 512;
/// Descriptors of files on a mounted disk begin here: a start has some of its own, with lower numbers.
pub(crate) const FILES_FD: i32 = 10_000;

/// A change of names that was not synced.
#[derive(Debug)]
enum Renaming {
    Made(Vec<u8>),
    Moved { from: Vec<u8>, to: Vec<u8>, over: Option<usize> },
    Removed(Vec<u8>, usize),
}

/// What a mounted disk has not synced.
#[derive(Debug)]
pub(super) struct Unsynced {
    /// The directory, among the files.
    dir: usize,
    writes: Vec<Written>,
    names: Vec<Renaming>,
}

/// A write that was not synced.
#[derive(Debug)]
struct Written {
    file: usize,
    offset: usize,
    before: Vec<u8>,
    /// A sync of it has failed: no later one makes it durable, since Linux reports a lost page once.
    is_lost: bool,
}

impl Unsynced {
    pub(super) fn writes(&mut self, file: usize, offset: usize, before: &[u8]) {
        self.writes.push(Written { file, offset, before: before.to_vec(), is_lost: false });
    }

    pub(super) fn made(&mut self, name: &[u8]) {
        self.names.push(Renaming::Made(name.to_vec()));
    }

    pub(super) fn moved(&mut self, from: Vec<u8>, to: Vec<u8>, over: Option<usize>) {
        self.names.push(Renaming::Moved { from, to, over });
    }

    pub(super) fn removed(&mut self, name: Vec<u8>, file: usize) {
        self.names.push(Renaming::Removed(name, file));
    }

    /// What this file has is durable: its bytes, or the names of a directory.
    pub(super) fn synced(&mut self, file: usize) {
        self.writes.retain(|written| written.file != file || written.is_lost);
        if file == self.dir {
            self.names.clear();
        }
    }

    /// A sync of this file has failed.
    pub(super) fn not_synced(&mut self, file: usize) {
        self.writes.iter_mut().filter(|written| written.file == file).for_each(|written| written.is_lost = true);
    }

    /// The file is empty again.
    pub(super) fn truncated(&mut self, file: usize) {
        self.writes.retain(|written| written.file != file);
    }
}

/// How much of what was not synced stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    All,
    Nothing,
    Any,
}

impl Keeps {
    fn is_kept(self, random: &mut Random) -> bool {
        self == Keeps::All || self == Keeps::Any && random.one_in(2)
    }
}

impl Kernel {
    /// Makes a directory of the files of an image, all of them durable, and opens it and each of them. The descriptors by name;
    /// that of the directory has none.
    pub(crate) fn mount(&mut self, image: Image) -> BTreeMap<Vec<u8>, i32> {
        let dir = self.disk.files.len();
        self.disk.files.push(Vec::new());
        self.disk.unsynced = Some(Unsynced { dir, writes: Vec::new(), names: Vec::new() });
        let mut opened = BTreeMap::from([(Vec::new(), self.open_mounted(dir))]);
        for (name, bytes) in image {
            let file = self.disk.files.len();
            self.disk.files.push(bytes);
            self.disk.names.insert(name.clone(), file);
            opened.insert(name, self.open_mounted(file));
        }
        opened
    }

    /// Opens a file on a mounted disk.
    pub(super) fn open_mounted(&mut self, file: usize) -> i32 {
        let fd = (FILES_FD..).find(|fd| !self.fds.contains_key(fd)).expect("numbers do not end");
        self.fds.insert(fd, Fd::File(file));
        fd
    }

    /// Descriptors of a mounted disk.
    pub(crate) fn mounted_files(&self) -> usize {
        self.fds.range(FILES_FD..).count()
    }

    /// The power fails: what is under way may be done or not, and what was not synced stays or not.
    pub(crate) fn power_cut(&mut self) -> Image {
        let keeps = self.random.of(&[Keeps::All, Keeps::Nothing, Keeps::Any]);
        self.faults.count(Fault::PowerFails);
        for op in std::mem::take(&mut self.in_flight) {
            let changes =
                matches!(op.sqe.kind, Kind::Ask(Call::Write { .. } | Call::Rename { .. } | Call::Unlink { .. }));
            if changes && keeps.is_kept(&mut self.random) {
                self.does(&op);
            }
        }
        let Some(Unsynced { writes, names, .. }) = self.disk.unsynced.take() else { return Image::new() };
        let mut lost = 0;
        for Written { file, offset, before, .. } in writes.into_iter().rev() {
            for (number, sector) in before.chunks(SECTOR).enumerate() {
                if !keeps.is_kept(&mut self.random) {
                    let at = offset + number * SECTOR;
                    self.disk.files[file][at..at + sector.len()].copy_from_slice(sector);
                    lost += 1;
                }
            }
        }
        for renaming in names.into_iter().rev() {
            if keeps.is_kept(&mut self.random) {
                continue;
            }
            lost += 1;
            let names = &mut self.disk.names;
            // What depends on a change that was undone is undone with it.
            match renaming {
                Renaming::Made(name) => {
                    names.remove(&name);
                }
                Renaming::Removed(name, file) => {
                    names.insert(name, file);
                }
                Renaming::Moved { from, to, over } => {
                    if let Some(file) = names.remove(&to) {
                        names.insert(from, file);
                    }
                    names.extend(over.map(|file| (to, file)));
                }
            }
        }
        if lost > 0 {
            self.faults.count(Fault::DiskForgets);
        }
        let names = std::mem::take(&mut self.disk.names);
        names.into_iter().map(|(name, file)| (name, std::mem::take(&mut self.disk.files[file]))).collect()
    }
}
