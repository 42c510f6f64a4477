//! The commands that change single files: rm, mkdir, mv, ln, mknod, touch, chmod, chown,
//! fsync.

use crate::batch::{BATCH, Item, Step, To};
use crate::flags::Owner;
use crate::say::shown;
use crate::{Run, join, split};
use ring9::client::{Access, Attr, Client, Error, Named};
use ring9::fs::{Change, Error as Errno, SetTime, Time, mode};
use ring9::wire::{Dialect, Fid, Message};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// A directory that is being removed.
struct Level {
    fid: Fid,
    name: Vec<u8>,
    path: Vec<u8>,
    /// Those in it that are still to be removed.
    dirs: Vec<Vec<u8>>,
}

impl Run {
    pub(crate) fn rm(&mut self, recursive: bool, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let (parent, name) = split(path);
            if name.is_empty() {
                self.report(shown(path), "the root cannot be removed");
                continue;
            }
            let found = self.client.with(path, Client::stat);
            let Some(attr) = self.go_on(shown(path), found)? else { continue };
            if attr.is_dir() && recursive {
                self.rm_tree(path)?;
            } else if attr.is_dir() {
                self.report(shown(path), "is a directory (-r removes it)");
            } else {
                let removed = self.client.with(parent, |client, dir| client.remove(dir, name, false));
                self.go_on(shown(path), removed)?;
            }
        }
        Ok(())
    }

    /// On the way down what is in a directory, on the way up the directory itself.
    fn rm_tree(&mut self, top: &[u8]) -> anyhow::Result<()> {
        let (parent, name) = split(top);
        let walked = self.client.walk(Client::ROOT, parent);
        let Some(above) = self.go_on(shown(parent), walked)? else { return Ok(()) };
        let mut levels = vec![];
        levels.extend(self.rm_files_of(above, name.to_vec(), top.to_vec())?);
        while let Some(level) = levels.last_mut() {
            let (dir, depth) = (level.fid, levels.len());
            let level = levels.last_mut().expect("one is there");
            let Some(name) = level.dirs.pop() else {
                let done = levels.pop().expect("it is the last one");
                self.client.clunk(done.fid)?;
                let above = levels.last().map_or(above, |level| level.fid);
                let removed = self.client.remove(above, &done.name, true);
                self.go_on(shown(&done.path), removed)?;
                continue;
            };
            if !self.is_too_deep(top, depth) {
                let path = join(&levels[depth - 1].path, &name);
                levels.extend(self.rm_files_of(dir, name, path)?);
            }
        }
        self.client.clunk(above)?;
        Ok(())
    }

    /// Removes the files of a directory. What is left then.
    fn rm_files_of(&mut self, above: Fid, name: Vec<u8>, path: Vec<u8>) -> anyhow::Result<Option<Level>> {
        let walked = self.client.walk(above, &name);
        let Some(fid) = self.go_on(shown(&path), walked)? else { return Ok(None) };
        let listed = self.client.list(fid);
        let names = self.go_on(shown(&path), listed)?.unwrap_or_default();
        let (dirs, files): (Vec<Named>, Vec<Named>) = names.into_iter().partition(Named::is_dir);
        for files in files.chunks(BATCH) {
            let items = files.iter().map(|named| Item { name: named.name.clone(), ..Item::default() });
            self.rm_items(fid, &path, items.collect())?;
        }
        let dirs = dirs.into_iter().map(|named| named.name).collect();
        Ok(Some(Level { fid, name, path, dirs }))
    }

    /// Many files of one directory. By Tremove, which every server has in every dialect.
    fn rm_items(&mut self, dir: Fid, path: &[u8], mut items: Vec<Item>) -> anyhow::Result<()> {
        self.walk_all(&mut items, dir, To::Name)?;
        self.step(&mut items, |_, item| Some(Message::Tremove { fid: item.fid()? }), |_| Step::Done)?;
        // remove(9P): the fid is gone even if the file is not.
        for fid in items.iter_mut().filter_map(|item| item.fid.take()) {
            self.client.free_fid(fid);
        }
        self.report_all(&mut items, path, None);
        Ok(())
    }

    pub(crate) fn mkdir(&mut self, parents: bool, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([path.len()]);
            let steps = ends.filter(|&end| parents && !split(&path[..end]).1.is_empty() || end == path.len());
            for end in steps {
                let (parent, name) = split(&path[..end]);
                let made = self.client.with(parent, |client, dir| client.mkdir(dir, name, 0o755));
                let made = match made {
                    Err(error) if parents && error.errno() == Some(Errno::EEXIST) => Ok(()),
                    made => made,
                };
                if self.go_on(shown(&path[..end]), made)?.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn mv(&mut self, from: &OsStr, to: &OsStr) -> anyhow::Result<()> {
        let from = from.as_bytes();
        let (parent, name) = split(from);
        let target = self.place_for(name, to.as_bytes())?;
        let (new_parent, new_name) = split(&target);
        let moved = self
            .client
            .with(parent, |client, old| client.with(new_parent, |client, new| client.rename(old, name, new, new_name)));
        self.go_on(format!("{} -> {}", shown(from), shown(&target)), moved)?;
        Ok(())
    }

    /// Where something of this name goes: into the directory that is at `to`, or there itself.
    fn place_for(&mut self, name: &[u8], to: &[u8]) -> anyhow::Result<Vec<u8>> {
        let into_dir = self.stat_if_there(to)?.is_some_and(|attr| attr.is_dir());
        Ok(if into_dir { join(to, name) } else { to.to_vec() })
    }

    pub(crate) fn ln(&mut self, symbolic: bool, target: &OsStr, path: &OsStr) -> anyhow::Result<()> {
        let target = target.as_bytes();
        let path = self.place_for(split(target).1, path.as_bytes())?;
        let (parent, name) = split(&path);
        if symbolic {
            let attr = Attr { mode: mode::IFLNK | 0o777, target: target.to_vec(), ..Attr::default() };
            let made = self.client.with(parent, |client, dir| client.make_special(dir, name, &attr));
            self.go_on(shown(&path), made)?;
        } else {
            let made = self
                .client
                .with(target, |client, file| client.with(parent, |client, dir| client.link(file, dir, name)));
            self.go_on(format!("{} -> {}", shown(&path), shown(target)), made)?;
        }
        Ok(())
    }

    pub(crate) fn mknod(
        &mut self,
        path: &OsStr,
        kind: u32,
        rdev: (u32, u32),
        permissions: Option<u32>,
    ) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let (parent, name) = split(path);
        let attr = Attr { mode: kind | permissions.unwrap_or(0o644), rdev, ..Attr::default() };
        let made = self.client.with(parent, |client, dir| {
            client.make_special(dir, name, &attr)?;
            // The directory may have taken some away (open(9P)).
            let Some(bits) = permissions else { return Ok(()) };
            let fid = client.walk(dir, name)?;
            let set = client.set(fid, &Change { mode: Some(bits), ..Change::default() }, &attr);
            client.clunk_after(fid, set)
        });
        self.go_on(shown(path), made)?;
        Ok(())
    }

    pub(crate) fn touch(&mut self, time: Option<Time>, paths: &[OsString]) -> anyhow::Result<()> {
        let dialect = self.client.dialect();
        let in_range = |time: Time| (0..i64::from(u32::MAX)).contains(&time.sec);
        if dialect != Dialect::L && !time.is_none_or(in_range) {
            anyhow::bail!("{}: {} has times from 1970 to 2106", self.place, dialect.name());
        }
        let set = Some(time.map_or(SetTime::Now, SetTime::To));
        let change = Change { atime: set, mtime: set, ..Change::default() };
        for path in paths {
            let path = path.as_bytes();
            let touched = match self.client.with(path, |client, fid| client.set(fid, &change, &Attr::default())) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => self.make_file(path, time.map(|_| &change)),
                touched => touched,
            };
            self.go_on(shown(path), touched)?;
        }
        Ok(())
    }

    /// An empty file, unless somebody else was quicker; then a change to it.
    fn make_file(&mut self, path: &[u8], change: Option<&Change<'_>>) -> Result<(), Error> {
        let (parent, name) = split(path);
        let fid = self.client.with(parent, |client, dir| client.create(dir, name, 0o644, Access::Write))?;
        let set = change.map_or(Ok(()), |change| self.client.set(fid, change, &Attr::default()));
        self.client.clunk_after(fid, set)
    }

    pub(crate) fn chmod(&mut self, permissions: u32, paths: &[OsString]) -> anyhow::Result<()> {
        let change = Change { mode: Some(permissions), ..Change::default() };
        for path in paths {
            let path = path.as_bytes();
            let changed = self.client.with(path, |client, fid| {
                let attr = client.stat(fid)?;
                client.set(fid, &change, &attr)
            });
            self.go_on(shown(path), changed)?;
        }
        Ok(())
    }

    pub(crate) fn chown(&mut self, owner: &Owner, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let group = owner.group.as_ref().map(|(gid, name)| (*gid, name.as_bytes()));
            let changed = self.client.with(path, |client, fid| client.set_owner(fid, owner.uid, group));
            self.go_on(shown(path), changed)?;
        }
        Ok(())
    }

    pub(crate) fn fsync(&mut self, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let synced = self.client.with(path, |client, fid| {
                // Servers with files behind them want an open one in .L; which way does not matter.
                if client.dialect() == Dialect::L {
                    match client.open(fid, Access::Read) {
                        Err(error) if error.errno() == Some(Errno::EACCES) => client.open(fid, Access::Write)?,
                        opened => opened?,
                    }
                }
                client.sync(fid)
            });
            self.go_on(shown(path), synced)?;
        }
        Ok(())
    }
}
