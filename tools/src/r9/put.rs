//! The command put: files of this machine to the server.
//!
//! A directory gets its permissions and time once everything below it is there, so that a directory
//! without write permission can be copied. How the files of a directory are sent is in `sent`.

use crate::batch::{BATCH, Item};
use crate::here::Here;
use crate::say::shown;
use crate::{Run, join, split};
use anyhow::{Context, bail};
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;
use ring9::client::{Attr, Client};
use ring9::fs::{Change, Error as Errno, SetTime, Time, mode};
use ring9::wire::Fid;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How the files of a copy are put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Links and special files are passed over where the dialect has none.
    pub(crate) skips: bool,
    /// Into the files that are there.
    pub(crate) in_place: bool,
}

/// A directory of the server that is being filled.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) fid: Fid,
    pub(crate) path: Vec<u8>,
    /// It was made by this run: nothing is in it that would be replaced.
    pub(crate) is_new: bool,
}

/// A directory on the way down.
struct Level {
    dir: Dir,
    attr: Attr,
    /// Those in it that are still to be copied.
    dirs: Vec<(OsString, Attr)>,
}

/// What the command line names is followed, as cp(1) does it; with `-r`, only if a directory is behind it.
fn metadata_of_named(source: &Path, recursive: bool) -> io::Result<Metadata> {
    let behind = fs::metadata(source);
    if recursive && !behind.as_ref().is_ok_and(Metadata::is_dir) { fs::symlink_metadata(source) } else { behind }
}

/// What the server shall show of a file of this machine.
fn attr_of(mode: u32, size: u64, rdev: u64, (sec, nsec): (i64, i64), target: Option<OsString>) -> Attr {
    Attr {
        mode,
        size,
        rdev: (nix::sys::stat::major(rdev) as u32, nix::sys::stat::minor(rdev) as u32),
        mtime: Time { sec, nsec: nsec as u32 },
        target: target.unwrap_or_default().as_bytes().to_vec(),
        ..Attr::default()
    }
}

fn attr_of_named(source: &Path, meta: &Metadata) -> Attr {
    let target = if meta.is_symlink() { fs::read_link(source).ok().map(PathBuf::into_os_string) } else { None };
    attr_of(meta.mode(), meta.size(), meta.rdev(), (meta.mtime(), meta.mtime_nsec()), target)
}

fn attr_in(here: &Here, name: &OsStr, stat: &FileStat) -> Attr {
    let is_link = stat.st_mode & mode::IFMT == mode::IFLNK;
    let target = if is_link { readlinkat(here.fd(), name).ok() } else { None };
    attr_of(stat.st_mode, stat.st_size as u64, stat.st_rdev, (stat.st_mtime, stat.st_mtime_nsec), target)
}

/// What a copy keeps.
pub(crate) fn kept(attr: &Attr) -> Change<'static> {
    Change { mode: Some(attr.mode & mode::PERM), mtime: Some(SetTime::To(attr.mtime)), ..Change::default() }
}

impl Run {
    pub(crate) fn put(
        &mut self,
        recursive: bool,
        (skips, in_place): (bool, bool),
        sources: &[PathBuf],
        dest: &OsStr,
    ) -> anyhow::Result<()> {
        let way = Way { skips, in_place };
        let dest = dest.as_bytes();
        let dest_is_dir = self.stat_if_there(dest)?.is_some_and(|attr| attr.is_dir());
        if sources.len() > 1 && !dest_is_dir {
            bail!("{}: {}: several files need a directory to go to", self.place, shown(dest));
        }
        if self.tally.is_shown() {
            let bytes = sources.iter().map(|source| bytes_of(source, recursive)).sum();
            self.tally.expect(bytes);
        }
        for source in sources {
            let meta = match metadata_of_named(source, recursive) {
                Ok(meta) => meta,
                Err(error) => {
                    self.report_here(source.display(), error);
                    continue;
                }
            };
            let attr = attr_of_named(source, &meta);
            if meta.is_dir() && recursive && sources.len() == 1 {
                self.put_tree(source, dest, attr, way)?;
                continue;
            }
            let Some(name) = source.file_name() else {
                self.report_here(source.display(), "has no name that it could get");
                continue;
            };
            let to = if dest_is_dir { join(dest, name.as_bytes()) } else { dest.to_vec() };
            if meta.is_dir() && recursive {
                self.put_tree(source, &to, attr, way)?;
            } else if meta.is_dir() {
                self.report_here(source.display(), "is a directory (-r copies it)");
            } else {
                self.put_one(source, name, &to, attr, way)?;
            }
        }
        Ok(())
    }

    /// A file that the command line names.
    fn put_one(&mut self, source: &Path, local: &OsStr, to: &[u8], attr: Attr, way: Way) -> anyhow::Result<()> {
        let here = match Here::open(source.parent().unwrap_or(Path::new(""))) {
            Ok(here) => here,
            Err(error) => {
                self.report_here(source.display(), error);
                return Ok(());
            }
        };
        let (parent, name) = split(to);
        let walked = self.client.walk(Client::ROOT, parent);
        let Some(fid) = self.go_on(shown(to), walked)? else { return Ok(()) };
        let item = Item { local: local.to_owned(), is_named: true, name: name.to_vec(), attr, ..Item::default() };
        let dir = Dir { fid, path: parent.to_vec(), is_new: false };
        self.put_items(&dir, &here, vec![item], way)?;
        self.client.clunk(fid)?;
        Ok(())
    }

    fn put_tree(&mut self, source: &Path, dest: &[u8], attr: Attr, way: Way) -> anyhow::Result<()> {
        let mut here = match Here::open(source) {
            Ok(here) => here,
            Err(error) => {
                self.report_here(source.display(), error);
                return Ok(());
            }
        };
        let (parent, name) = split(dest);
        let walked = self.client.walk(Client::ROOT, parent);
        let Some(above) = self.go_on(shown(dest), walked)? else { return Ok(()) };
        let made = self.dir_for_put(above, dest.to_vec(), name)?;
        self.client.clunk(above)?;
        let Some(dir) = made else { return Ok(()) };
        self.tally.dirs_open = 1;
        let dirs = self.put_files_of(&dir, &here, way)?;
        let mut levels = vec![Level { dir, attr, dirs }];
        while let Some(level) = levels.last_mut() {
            let above = level.dir.fid;
            let Some((name, attr)) = level.dirs.pop() else {
                let done = levels.pop().expect("it is the last one");
                if !levels.is_empty() {
                    here.leave().with_context(|| here.place(OsStr::new("")))?;
                }
                let set = self.client.set(done.dir.fid, &kept(&done.attr), &done.attr);
                let set = self.client.clunk_after(done.dir.fid, set);
                self.go_on(shown(&done.dir.path), set)?;
                self.tally.dirs_open = levels.len();
                continue;
            };
            let path = join(&level.dir.path, name.as_bytes());
            if let Err(error) = here.enter(&name) {
                self.report_here(here.place(&name), error);
                continue;
            }
            match self.dir_for_put(above, path, name.as_bytes())? {
                Some(dir) => {
                    self.tally.dirs_open = levels.len() + 1;
                    let dirs = self.put_files_of(&dir, &here, way)?;
                    levels.push(Level { dir, attr, dirs });
                }
                None => {
                    here.leave().with_context(|| here.place(OsStr::new("")))?;
                }
            }
        }
        Ok(())
    }

    /// The directory of this name: the one that is there, or a new one. An empty name is that of `above` itself.
    fn dir_for_put(&mut self, above: Fid, path: Vec<u8>, name: &[u8]) -> anyhow::Result<Option<Dir>> {
        let mut is_new = false;
        if !name.is_empty() {
            match self.client.mkdir(above, name, 0o700) {
                Ok(()) => is_new = true,
                Err(error) if error.errno() == Some(Errno::EEXIST) => {}
                failed => {
                    self.go_on(shown(&path), failed)?;
                    return Ok(None);
                }
            }
        }
        let walked = self.client.walk(above, name);
        let Some(fid) = self.go_on(shown(&path), walked)? else { return Ok(None) };
        if !is_new {
            let found = self.client.stat(fid);
            let found = if found.is_err() { self.client.clunk_after(fid, found) } else { found };
            let Some(attr) = self.go_on(shown(&path), found)? else { return Ok(None) };
            if !attr.is_dir() {
                self.client.clunk(fid)?;
                self.report(shown(&path), Errno::ENOTDIR);
                return Ok(None);
            }
            if attr.mode & 0o700 != 0o700 {
                // It is to be filled, and gets other permissions then. If this is refused, so is the first file.
                let opened = Change { mode: Some(attr.mode & mode::PERM | 0o700), ..Change::default() };
                match self.client.set(fid, &opened, &attr) {
                    Err(error) if !error.is_refusal() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(Some(Dir { fid, path, is_new }))
    }

    /// The files of a directory; the directories in it.
    fn put_files_of(&mut self, dir: &Dir, here: &Here, way: Way) -> anyhow::Result<Vec<(OsString, Attr)>> {
        let names = here.names().unwrap_or_else(|error| {
            self.report_here(here.place(OsStr::new("")), error);
            Vec::new()
        });
        let (mut dirs, mut items) = (Vec::new(), Vec::new());
        for local in names {
            let attr = match here.stat(&local) {
                Ok(stat) => attr_in(here, &local, &stat),
                Err(error) => {
                    self.report_here(here.place(&local), error);
                    continue;
                }
            };
            if attr.is_dir() {
                dirs.push((local, attr));
                continue;
            }
            let name = local.as_bytes().to_vec();
            items.push(Item { local, name, attr, ..Item::default() });
            if items.len() == BATCH {
                self.put_items(dir, here, std::mem::take(&mut items), way)?;
            }
        }
        self.put_items(dir, here, items, way)?;
        Ok(dirs)
    }
}

/// How many bytes are to be copied, for the progress line. What cannot be looked at is told when it is copied.
fn bytes_of(source: &Path, recursive: bool) -> u64 {
    match metadata_of_named(source, recursive) {
        Ok(meta) if meta.is_file() => meta.len(),
        Ok(meta) if meta.is_dir() && recursive => bytes_below(source).unwrap_or(0),
        _ => 0,
    }
}

fn bytes_below(top: &Path) -> io::Result<u64> {
    let mut here = Here::open(top)?;
    let mut bytes = 0;
    let mut look = |here: &Here| -> Vec<OsString> {
        let mut dirs = Vec::new();
        for name in here.names().unwrap_or_default() {
            match here.stat(&name) {
                Ok(stat) if stat.st_mode & mode::IFMT == mode::IFDIR => dirs.push(name),
                Ok(stat) if stat.st_mode & mode::IFMT == mode::IFREG => bytes += stat.st_size as u64,
                _ => {}
            }
        }
        dirs
    };
    let mut levels = vec![look(&here)];
    while let Some(dirs) = levels.last_mut() {
        match dirs.pop() {
            Some(name) => {
                if here.enter(&name).is_ok() {
                    levels.push(look(&here));
                }
            }
            None => {
                levels.pop();
                if !levels.is_empty() {
                    here.leave()?;
                }
            }
        }
    }
    Ok(bytes)
}
