//! What changes single files: write, rm, mkdir, mv, ln, chmod.

use crate::batch::{BATCH, Item, Step};
use crate::{Run, join, shown, split};
use anyhow::Context;
use ring9::client::{Attr, Client, Error, Named};
use ring9::fs::{Error as Errno, mode};
use ring9::wire::{Fid, Message};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

/// Bytes of standard input taken at a time.
const PART_BYTES: usize = 4 << 20;

/// A directory to be emptied, or one that is empty by now.
enum Todo {
    Empty(Vec<u8>),
    Remove(Vec<u8>),
}

impl Run {
    pub(crate) fn write(&mut self, append: bool, path: &OsStr) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let opened = open_for_writing(&mut self.client, append, path);
        let Some((fid, mut offset)) = self.go_on(shown(path), opened)? else { return Ok(()) };
        let mut input = io::stdin().lock();
        let mut part = Vec::with_capacity(PART_BYTES);
        loop {
            part.clear();
            if input.by_ref().take(PART_BYTES as u64).read_to_end(&mut part).context("standard input")? == 0 {
                break;
            }
            let written = self.client.write(fid, offset, &part);
            if self.go_on(shown(path), written)?.is_none() {
                break;
            }
            offset += part.len() as u64;
        }
        // A server may keep its last error for the end.
        let closed = self.client.clunk(fid);
        self.go_on(shown(path), closed)?;
        Ok(())
    }

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
        let mut todo = vec![Todo::Empty(top.to_vec())];
        while let Some(step) = todo.pop() {
            match step {
                Todo::Empty(path) => self.rm_files_of(path, &mut todo)?,
                Todo::Remove(path) => {
                    let (parent, name) = split(&path);
                    let removed = self.client.with(parent, |client, dir| client.remove(dir, name, true));
                    self.go_on(shown(&path), removed)?;
                }
            }
        }
        Ok(())
    }

    fn rm_files_of(&mut self, path: Vec<u8>, todo: &mut Vec<Todo>) -> anyhow::Result<()> {
        let walked = self.client.walk(Client::ROOT, &path);
        let Some(dir) = self.go_on(shown(&path), walked)? else { return Ok(()) };
        let listed = self.client.list(dir);
        let names = self.go_on(shown(&path), listed)?.unwrap_or_default();
        todo.push(Todo::Remove(path.clone()));
        let (dirs, files): (Vec<Named>, Vec<Named>) = names.into_iter().partition(Named::is_dir);
        todo.extend(dirs.iter().map(|named| Todo::Empty(join(&path, &named.name))));
        for files in files.chunks(BATCH) {
            let items = files.iter().map(|named| Item { name: named.name.clone(), ..Item::default() });
            self.rm_items(dir, &path, items.collect())?;
        }
        self.client.clunk(dir)?;
        Ok(())
    }

    /// Many files of one directory. By Tremove, which every server has in every dialect.
    fn rm_items(&mut self, dir: Fid, path: &[u8], mut items: Vec<Item>) -> anyhow::Result<()> {
        self.walk_all(&mut items, dir, true)?;
        self.step(&mut items, |_, item| Some(Message::Tremove { fid: item.fid()? }), |_, _| Ok(Step::Done))?;
        // remove(9P): the fid is gone even if the file is not.
        for fid in items.iter_mut().filter_map(|item| item.fid.take()) {
            self.client.free_fid(fid);
        }
        self.report_all(&mut items, |item| shown(&join(path, &item.name)));
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
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let (parent, name) = split(from);
        let into_dir = self.stat_if_there(to)?.is_some_and(|attr| attr.is_dir());
        let target = if into_dir { join(to, name) } else { to.to_vec() };
        let (new_parent, new_name) = split(&target);
        let moved = self
            .client
            .with(parent, |client, old| client.with(new_parent, |client, new| client.rename(old, name, new, new_name)));
        self.go_on(format!("{} -> {}", shown(from), shown(&target)), moved)?;
        Ok(())
    }

    pub(crate) fn ln(&mut self, target: &OsStr, path: &OsStr) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let (parent, name) = split(path);
        let attr = Attr { mode: mode::IFLNK | 0o777, target: target.as_bytes().to_vec(), ..Attr::default() };
        let made = self.client.with(parent, |client, dir| client.make_special(dir, name, &attr));
        self.go_on(shown(path), made)?;
        Ok(())
    }

    pub(crate) fn chmod(&mut self, permissions: u32, paths: &[OsString]) -> anyhow::Result<()> {
        for path in paths {
            let path = path.as_bytes();
            let changed = self.client.with(path, |client, fid| {
                let attr = client.stat(fid)?;
                client.set(fid, &Attr { mode: attr.kind() | permissions, ..attr }, None)
            });
            self.go_on(shown(path), changed)?;
        }
        Ok(())
    }
}

/// A fid open for writing, and where to go on. A new file, unless something is to be appended.
fn open_for_writing(client: &mut Client, append: bool, path: &[u8]) -> Result<(Fid, u64), Error> {
    if append {
        match client.walk(Client::ROOT, path) {
            Ok(fid) => {
                let opened = client.stat(fid).and_then(|attr| client.open(fid, true, false).map(|()| attr.size));
                if opened.is_err() {
                    client.clunk(fid)?;
                }
                return opened.map(|size| (fid, size));
            }
            Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error),
            Err(_) => {}
        }
    }
    let (parent, name) = split(path);
    client.with(parent, |client, dir| client.create(dir, name, 0o644)).map(|fid| (fid, 0))
}
