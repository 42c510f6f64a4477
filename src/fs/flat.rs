//! Trees that are one directory of named files which nobody can add to: what `dev` and `ctl` have in common.
//!
//! Must not know: what the files contain.

use super::{At, Change, Entry, Error, Filesystem, Make, Open, Out, Outcome, Result, Stat, User, mode};
use crate::wire::{Qid, qt};

/// One named file.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// Its name.
    pub name: &'static str,
    /// Type and permissions.
    pub mode: u32,
    /// Numbers of a device.
    pub rdev: (u32, u32),
}

/// What the files of a flat tree contain.
pub trait Source {
    /// The files, in the order of their listing.
    const FILES: &'static [Named];

    /// What one open of a file shows, if that is made when it is opened.
    fn snapshot(&self, index: usize) -> Box<[u8]> {
        let _ = index;
        Box::default()
    }

    /// Length that is shown.
    fn size(&self, index: usize) -> u64;

    /// Reads; `snapshot` is what this open was given.
    fn read(&mut self, index: usize, snapshot: &[u8], offset: u64, out: Out<'_>) {
        let _ = index;
        let rest = usize::try_from(offset).ok().and_then(|offset| snapshot.get(offset..));
        let mut out = out;
        out.bytes(rest.unwrap_or_default());
    }

    /// Version of the content; not 0.
    fn version(&self) -> u32 {
        1
    }
}

/// A flat tree.
pub struct Flat<S> {
    source: S,
    started: At,
}

/// A file of a flat tree, or its directory.
#[derive(Debug)]
pub struct FlatFile {
    /// `None` is the directory.
    index: Option<usize>,
    user: User,
    snapshot: Box<[u8]>,
}

impl<S: Source> Flat<S> {
    /// The tree of this source.
    pub fn of(source: S) -> Flat<S> {
        Flat { source, started: At::default() }
    }

    fn qid(&self, index: Option<usize>) -> Qid {
        match index {
            None => Qid { kind: qt::DIR, version: 1, path: 0 },
            Some(index) => Qid { kind: qt::FILE, version: self.source.version(), path: 1 + index as u64 },
        }
    }

    fn stat_of(&self, index: Option<usize>, name: &'static [u8]) -> Stat<'static> {
        let start = self.started.wall;
        let file = index.map(|index| S::FILES[index]);
        Stat {
            qid: self.qid(index),
            mode: file.map_or(mode::IFDIR | 0o555, |file| file.mode),
            uid: 0,
            gid: 0,
            muid: 0,
            nlink: if index.is_none() { 2 } else { 1 },
            rdev: file.map_or((0, 0), |file| file.rdev),
            size: index.map_or(0, |index| self.source.size(index)),
            blocks: 0,
            blksize: 4096,
            atime: start,
            mtime: start,
            ctime: start,
            btime: start,
            name,
            target: b"",
        }
    }
}

impl<S: Source> Filesystem for Flat<S> {
    type File = FlatFile;

    fn init(&mut self, at: At) -> Result<()> {
        self.started = at;
        Ok(())
    }

    fn attach(&mut self, user: User, _: &[u8]) -> Result<FlatFile> {
        Ok(FlatFile { index: None, user, snapshot: Box::default() })
    }

    fn lookup(&mut self, dir: &FlatFile, name: &[u8]) -> Result<FlatFile> {
        let index = match (dir.index, name) {
            (Some(_), _) => return Err(Error::ENOTDIR),
            (None, b"..") => None,
            (None, name) => {
                let found = S::FILES.iter().position(|file| file.name.as_bytes() == name);
                Some(found.ok_or(Error::ENOENT)?)
            }
        };
        Ok(FlatFile { index, user: dir.user, snapshot: Box::default() })
    }

    fn duplicate(&mut self, file: &FlatFile) -> FlatFile {
        FlatFile { index: file.index, user: file.user, snapshot: Box::default() }
    }

    fn attr(&self, file: &FlatFile) -> Qid {
        self.qid(file.index)
    }

    fn open(&mut self, file: &mut FlatFile, flags: Open, _: At) -> Result<()> {
        let Some(index) = file.index else {
            let changes = flags.write || flags.truncate || flags.remove_on_close;
            return if changes { Err(Error::EISDIR) } else { Ok(()) };
        };
        // Root reads what may be read, but nobody writes where nothing can be written.
        let permissions = S::FILES[index].mode;
        let denied = (flags.write || flags.truncate) && permissions & 0o222 == 0 || flags.exec || flags.remove_on_close;
        if denied {
            return Err(Error::EACCES);
        }
        file.snapshot = self.source.snapshot(index);
        Ok(())
    }

    fn create(&mut self, dir: &mut FlatFile, _: &[u8], _: Open, _: u32, _: u8, _: Option<u32>, _: At) -> Result<()> {
        Err(if dir.index.is_some() { Error::ENOTDIR } else { Error::EPERM })
    }

    fn read(&mut self, file: &mut FlatFile, offset: u64, out: Out<'_>, _: At) -> Result<Outcome<()>> {
        let index = file.index.ok_or(Error::EISDIR)?;
        self.source.read(index, &file.snapshot, offset, out);
        Ok(Outcome::Done(()))
    }

    fn write(&mut self, _: &mut FlatFile, _: u64, data: &[u8], _: At) -> Result<Outcome<u32>> {
        // Only a file with permission to write gets here, and those keep nothing.
        Ok(Outcome::Done(data.len() as u32))
    }

    fn discards(&self, _: &FlatFile) -> bool {
        true
    }

    fn close(&mut self, _: FlatFile, _: At) -> Result<()> {
        Ok(())
    }

    fn remove(&mut self, file: &mut FlatFile, _: At) -> Result<()> {
        Err(if file.index.is_none() { Error::EBUSY } else { Error::EPERM })
    }

    fn stat(&self, file: &FlatFile) -> Result<Stat<'_>> {
        Ok(self.stat_of(file.index, file.index.map_or(b"/", |index| S::FILES[index].name.as_bytes())))
    }

    /// A shell's `> null` truncates and touches; that is taken and nothing comes of it.
    fn wstat(&mut self, file: &mut FlatFile, change: &Change<'_>, _: At) -> Result<()> {
        let harmless = Change { size: None, atime: None, mtime: None, touch_ctime: false, ..*change };
        let writable = file.index.is_some_and(|index| S::FILES[index].mode & 0o222 != 0);
        if harmless == Change::default() && writable { Ok(()) } else { Err(Error::EPERM) }
    }

    fn list(&mut self, dir: &FlatFile, cookie: u64, _: At, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        if dir.index.is_some() {
            return Err(Error::ENOTDIR);
        }
        let dots = [(None, &b"."[..]), (None, &b".."[..])];
        let files = S::FILES.iter().enumerate().map(|(index, file)| (Some(index), file.name.as_bytes()));
        for (own, (index, name)) in (1..).zip(dots.into_iter().chain(files)) {
            if own > cookie && !each(&Entry { cookie: own, stat: self.stat_of(index, name) }) {
                break;
            }
        }
        Ok(())
    }

    fn make(&mut self, _: &FlatFile, _: &[u8], _: Make<'_>, _: u32, _: Option<u32>, _: At) -> Result<Qid> {
        Err(Error::EPERM)
    }

    fn unlink(&mut self, _: &FlatFile, _: &[u8], _: bool, _: At) -> Result<()> {
        Err(Error::EPERM)
    }

    fn rename(&mut self, _: &FlatFile, _: &[u8], _: &FlatFile, _: &[u8], _: At) -> Result<()> {
        Err(Error::EPERM)
    }
}
