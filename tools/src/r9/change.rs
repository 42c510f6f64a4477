//! What changes single files: write, rm, mkdir, mv, ln, chmod.

use crate::{Run, join, shown, split};
use ring9::client::{Attr, Client, Error};
use ring9::fs::{Error as Errno, mode};
use ring9::wire::Fid;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

/// Bytes of standard input taken at a time.
const PART_BYTES: usize = 4 << 20;

impl Run {
    pub(crate) fn write(&mut self, append: bool, path: &OsStr) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let opened = self.open_for_writing(append, path);
        let Some((fid, mut offset)) = self.go_on(shown(path), opened)? else { return Ok(()) };
        let mut input = io::stdin().lock();
        let mut part = Vec::with_capacity(PART_BYTES);
        loop {
            part.clear();
            if input.by_ref().take(PART_BYTES as u64).read_to_end(&mut part)? == 0 {
                break;
            }
            let written = self.client.write(fid, offset, &part);
            if self.go_on(shown(path), written)?.is_none() {
                break;
            }
            offset += part.len() as u64;
        }
        self.client.clunk(fid)?;
        Ok(())
    }

    fn open_for_writing(&mut self, append: bool, path: &[u8]) -> Result<(Fid, u64), Error> {
        if append {
            match self.client.walk(Client::ROOT, path) {
                Ok(fid) => {
                    let size = self.client.stat(fid)?.size;
                    self.client.open(fid, true, false)?;
                    return Ok((fid, size));
                }
                Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error),
                Err(_) => {}
            }
        }
        let (parent, name) = split(path);
        let dir = self.client.walk(Client::ROOT, parent)?;
        let made = self.client.create(dir, name, 0o644);
        self.client.clunk(dir)?;
        Ok((made?, 0))
    }

    pub(crate) fn rm(&mut self, recursive: bool, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let (parent, name) = split(path);
            if name.is_empty() {
                self.report(shown(path), "the root cannot be removed");
                continue;
            }
            let walked = self.client.walk(Client::ROOT, path);
            let Some(fid) = self.go_on(shown(path), walked)? else { continue };
            let is_dir = self.client.stat(fid)?.is_dir();
            self.client.clunk(fid)?;
            if is_dir && recursive {
                self.rm_below(path)?;
            }
            let removed = self.in_dir(parent, |client, dir| client.remove(dir, name, is_dir));
            self.go_on(shown(path), removed)?;
        }
        Ok(())
    }

    /// Empties a directory: on the way down what is in it, on the way up the directories themselves.
    fn rm_below(&mut self, top: &[u8]) -> anyhow::Result<()> {
        let mut todo = vec![(top.to_vec(), false)];
        while let Some((path, emptied)) = todo.pop() {
            if emptied {
                let (parent, name) = split(&path);
                let removed = self.in_dir(parent, |client, dir| client.remove(dir, name, true));
                self.go_on(shown(&path), removed)?;
                continue;
            }
            let walked = self.client.walk(Client::ROOT, &path);
            let Some(dir) = self.go_on(shown(&path), walked)? else { continue };
            let listed = self.client.list(dir);
            if path != top {
                todo.push((path.clone(), true));
            }
            for named in self.go_on(shown(&path), listed)?.unwrap_or_default() {
                if named.is_dir() {
                    todo.push((join(&path, &named.name), false));
                } else {
                    let removed = self.client.remove(dir, &named.name, false);
                    self.go_on(shown(&join(&path, &named.name)), removed)?;
                }
            }
            self.client.clunk(dir)?;
        }
        Ok(())
    }

    /// Does something with the fid of a directory.
    fn in_dir<T>(&mut self, path: &[u8], does: impl FnOnce(&mut Client, Fid) -> Result<T, Error>) -> Result<T, Error> {
        let dir = self.client.walk(Client::ROOT, path)?;
        let done = does(&mut self.client, dir);
        self.client.clunk(dir)?;
        done
    }

    pub(crate) fn mkdir(&mut self, parents: bool, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let ends = (0..path.len()).filter(|&at| path[at] == b'/').chain([path.len()]);
            let steps = ends.filter(|&end| parents && !split(&path[..end]).1.is_empty() || end == path.len());
            for end in steps {
                let (parent, name) = split(&path[..end]);
                let made = self.in_dir(parent, |client, dir| client.mkdir(dir, name, 0o755));
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
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let (parent, name) = split(from);
        let into_dir = match self.client.walk(Client::ROOT, to) {
            Ok(fid) => {
                let attr = self.client.stat(fid);
                self.client.clunk(fid)?;
                attr?.is_dir()
            }
            Err(_) => false,
        };
        let target = if into_dir { join(to, name) } else { to.to_vec() };
        let (new_parent, new_name) = split(&target);
        let moved = self.client.walk(Client::ROOT, parent).and_then(|old| {
            let moved = self.in_dir(new_parent, |client, new| client.rename(old, name, new, new_name));
            self.client.clunk(old)?;
            moved
        });
        self.go_on(format!("{} -> {}", shown(from), shown(&target)), moved)?;
        Ok(())
    }

    pub(crate) fn ln(&mut self, target: &OsStr, path: &OsStr) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let (parent, name) = split(path);
        let attr = Attr { mode: mode::IFLNK | 0o777, target: target.as_bytes().to_vec(), ..Attr::default() };
        let made = self.in_dir(parent, |client, dir| client.make_special(dir, name, &attr));
        self.go_on(shown(path), made)?;
        Ok(())
    }

    pub(crate) fn chmod(&mut self, permissions: u32, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let changed = self.client.walk(Client::ROOT, path).and_then(|fid| {
                let attr = self.client.stat(fid)?;
                let set = self.client.set_message(fid, Some(permissions), None, None, Some(&attr));
                let changed = self.client.transport().call(set, |_| ());
                self.client.clunk(fid)?;
                changed
            });
            self.go_on(shown(path), changed)?;
        }
        Ok(())
    }
}
