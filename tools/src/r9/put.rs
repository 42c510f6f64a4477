//! The command put: files of this machine to the server.
//!
//! Small files are sent 64 at a time; a large file is sent alone, with many writes in flight. Holes
//! are not sent. A directory gets its permissions and time once everything below it is there, so
//! that a directory without write permission can be copied.

use crate::batch::{BATCH, Item, SMALL_BYTES, Step};
use crate::{Run, join, shown, split};
use anyhow::bail;
use nix::unistd::{Whence, lseek};
use ring9::client::{Access, Attr, Client, Error};
use ring9::fs::{Change, SetTime, Time, mode};
use ring9::wire::{Dialect, Fid, Message};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes read at a time of a large file.
const PART_BYTES: usize = 8 << 20;

/// A directory to be copied, or to be finished.
enum Todo {
    Enter(PathBuf, Vec<u8>, Attr),
    Leave(PathBuf, Vec<u8>, Attr),
}

/// What the command line names is followed, as cp(1) does it; with `-r`, only if a directory is behind it.
fn metadata_of_named(source: &Path, recursive: bool) -> io::Result<Metadata> {
    let behind = fs::metadata(source);
    if recursive && !behind.as_ref().is_ok_and(Metadata::is_dir) { fs::symlink_metadata(source) } else { behind }
}

/// At most this many bytes: a file may grow while it is read, a message may not.
fn read_small(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut data)?;
    Ok(data)
}

/// What the server shall show of a local file.
fn attr_of(local: &Path, meta: &Metadata) -> Attr {
    let target = if meta.is_symlink() { fs::read_link(local).unwrap_or_default() } else { PathBuf::new() };
    let dev = meta.rdev();
    Attr {
        mode: meta.mode(),
        size: meta.size(),
        rdev: (nix::sys::stat::major(dev) as u32, nix::sys::stat::minor(dev) as u32),
        mtime: Time { sec: meta.mtime(), nsec: meta.mtime_nsec() as u32 },
        target: target.as_os_str().as_bytes().to_vec(),
        ..Attr::default()
    }
}

/// What a copy keeps.
fn kept(attr: &Attr) -> Change<'static> {
    Change { mode: Some(attr.mode & mode::PERM), mtime: Some(SetTime::To(attr.mtime)), ..Change::default() }
}

impl Run {
    pub(crate) fn put(&mut self, recursive: bool, skip: bool, sources: &[PathBuf], dest: &OsStr) -> anyhow::Result<()> {
        self.show_progress();
        let dest = dest.as_bytes();
        let dest_is_dir = self.stat_if_there(dest)?.is_some_and(|attr| attr.is_dir());
        if sources.len() > 1 && !dest_is_dir {
            bail!("{}: several files need a directory to go to", shown(dest));
        }
        for source in sources {
            let meta = match metadata_of_named(source, recursive) {
                Ok(meta) => meta,
                Err(error) => {
                    self.report(source.display(), error);
                    continue;
                }
            };
            if meta.is_dir() && recursive && sources.len() == 1 {
                self.put_tree(source, dest, attr_of(source, &meta), skip)?;
                continue;
            }
            let Some(name) = source.file_name() else {
                self.report(source.display(), "has no name that it could get");
                continue;
            };
            let to = if dest_is_dir { join(dest, name.as_bytes()) } else { dest.to_vec() };
            if meta.is_dir() && recursive {
                self.put_tree(source, &to, attr_of(source, &meta), skip)?;
            } else if meta.is_dir() {
                self.report(source.display(), "is a directory (-r copies it)");
            } else {
                let (parent, name) = split(&to);
                let walked = self.client.walk(Client::ROOT, parent);
                let Some(dir) = self.go_on(shown(parent), walked)? else { continue };
                let item = Item {
                    local: source.clone(),
                    name: name.to_vec(),
                    attr: attr_of(source, &meta),
                    ..Item::default()
                };
                self.put_items(dir, parent, vec![item], skip)?;
                self.client.clunk(dir)?;
            }
        }
        Ok(())
    }

    fn put_tree(&mut self, source: &Path, dest: &[u8], attr: Attr, skip: bool) -> anyhow::Result<()> {
        let mut todo = vec![Todo::Enter(source.to_owned(), dest.to_vec(), attr)];
        while let Some(step) = todo.pop() {
            match step {
                Todo::Enter(local, remote, attr) => self.put_dir(&local, &remote, attr, skip, &mut todo)?,
                Todo::Leave(local, remote, attr) => {
                    let set = self.client.with(&remote, |client, fid| client.set(fid, &kept(&attr), &attr));
                    self.go_on(local.display(), set)?;
                }
            }
        }
        Ok(())
    }

    fn put_dir(
        &mut self,
        local: &Path,
        remote: &[u8],
        attr: Attr,
        skip: bool,
        todo: &mut Vec<Todo>,
    ) -> anyhow::Result<()> {
        let Some(dir) = self.dir_for_put(local, remote)? else { return Ok(()) };
        todo.push(Todo::Leave(local.to_owned(), remote.to_vec(), attr));
        let entries = match fs::read_dir(local) {
            Ok(entries) => entries,
            Err(error) => {
                self.report(local.display(), error);
                self.client.clunk(dir)?;
                return Ok(());
            }
        };
        let mut items = Vec::new();
        for entry in entries {
            let found = entry.and_then(|entry| Ok((entry.path(), entry.file_name(), entry.metadata()?)));
            let (path, name, meta) = match found {
                Ok(found) => found,
                Err(error) => {
                    self.report(local.display(), error);
                    continue;
                }
            };
            let attr = attr_of(&path, &meta);
            if meta.is_dir() {
                todo.push(Todo::Enter(path, join(remote, name.as_bytes()), attr));
                continue;
            }
            items.push(Item { local: path, name: name.as_bytes().to_vec(), attr, ..Item::default() });
            if items.len() == BATCH {
                self.put_items(dir, remote, std::mem::take(&mut items), skip)?;
            }
        }
        self.put_items(dir, remote, items, skip)?;
        self.client.clunk(dir)?;
        Ok(())
    }

    /// The directory of this path: the one that is there, or a new one.
    fn dir_for_put(&mut self, local: &Path, remote: &[u8]) -> anyhow::Result<Option<Fid>> {
        let (parent, name) = split(remote);
        if !name.is_empty() {
            let walked = self.client.walk(Client::ROOT, parent);
            let Some(above) = self.go_on(local.display(), walked)? else { return Ok(None) };
            let made = self.client.mkdir(above, name, 0o700);
            self.client.clunk(above)?;
            match made {
                // What is there is filled; if it is no directory, the first file in it says so.
                Err(error) if error.errno() != Some(ring9::fs::Error::EEXIST) => {
                    self.go_on::<()>(local.display(), Err(error))?;
                    return Ok(None);
                }
                _ => {}
            }
        }
        let walked = self.client.walk(Client::ROOT, remote);
        self.go_on(local.display(), walked)
    }

    /// Files of one directory, all steps.
    fn put_items(&mut self, dir: Fid, remote: &[u8], items: Vec<Item>, skip: bool) -> anyhow::Result<()> {
        let (mut files, mut others): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| item.attr.kind() == mode::IFREG);
        if !others.is_empty() {
            self.put_others(dir, &mut others, skip)?;
        }
        let small_bytes_max = SMALL_BYTES.min(self.client.chunk().into());
        for item in &mut files {
            item.large = item.attr.size > small_bytes_max;
            if !item.large {
                match read_small(&item.local, small_bytes_max) {
                    Ok(data) => item.data = data,
                    Err(error) => item.error = Some(error.to_string()),
                }
            }
        }
        self.walk_all(&mut files, dir, false)?;
        self.step(
            &mut files,
            |client, item| Some(client.create_message(item.fid()?, &item.name, 0o600, Access::Truncate)),
            |_, _| Ok(Step::Done),
        )?;
        self.create_again(dir, &mut files)?;
        self.step(
            &mut files,
            |_, item| {
                let data = ring9::wire::Data::Here(&item.data);
                (!item.data.is_empty()).then_some(Message::Twrite { fid: item.fid()?, offset: 0, data })
            },
            |_, reply| match reply {
                Message::Rwrite { count } => Ok(Step::Written(*count as usize)),
                _ => Ok(Step::Done),
            },
        )?;
        for item in &mut files {
            let Some(fid) = item.fid() else { continue };
            item.error = match item.data.get(item.written..) {
                _ if item.large => self.put_large(fid, item)?,
                // A server may take a part, and says with the next one why.
                Some(rest) if !rest.is_empty() => text_of_refusal(self.client.write(fid, item.written as u64, rest))?,
                _ => None,
            };
        }
        let sent = files.iter().filter(|item| item.error.is_none()).map(|item| item.data.len() as u64);
        self.progress.inc(sent.sum());
        self.step(
            &mut files,
            |client, item| Some(client.set_message(item.fid()?, &kept(&item.attr), &item.attr)),
            |_, _| Ok(Step::Done),
        )?;
        self.clunk_all(&mut files)?;
        files.append(&mut others);
        self.report_all(&mut files, |item| format!("{} -> {}", item.local.display(), shown(&join(remote, &item.name))));
        Ok(())
    }

    /// What could not be created may be there already; the older dialects say so by an error.
    fn create_again(&mut self, dir: Fid, files: &mut [Item]) -> anyhow::Result<()> {
        for item in files.iter_mut().filter(|item| item.error.is_some()) {
            let Some(fid) = item.fid.take() else { continue };
            self.client.clunk(fid)?;
            match self.client.create(dir, &item.name, 0o600, Access::Truncate) {
                Ok(fid) => (item.fid, item.error) = (Some(fid), None),
                Err(error) if error.is_refusal() => item.error = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The data of a large file, without its holes. Its own errors are text; those of the connection end everything.
    fn put_large(&mut self, fid: Fid, item: &Item) -> anyhow::Result<Option<String>> {
        let file = match File::open(&item.local) {
            Ok(file) => file,
            Err(error) => return Ok(Some(error.to_string())),
        };
        self.progress.set_message(shown(item.local.as_os_str().as_bytes()));
        let size = match file.metadata() {
            Ok(meta) => meta.len() as i64,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let mut buffer = Vec::new();
        let (mut at, mut written) = (0, 0);
        // A file system that knows no holes shows one run of data. Behind the last one there is none: ENXIO.
        while let Ok(start) = lseek(&file, at, Whence::SeekData) {
            let end = lseek(&file, start, Whence::SeekHole).unwrap_or(size).min(size);
            if start >= end {
                break;
            }
            at = start;
            while at < end {
                buffer.resize(PART_BYTES.min((end - at) as usize), 0);
                let n = match file.read_at(&mut buffer, at as u64) {
                    Ok(0) => return Ok(Some("the file became shorter while it was read".into())),
                    Ok(n) => n,
                    Err(error) => return Ok(Some(error.to_string())),
                };
                let refused = text_of_refusal(self.client.write(fid, at as u64, &buffer[..n]))?;
                if refused.is_some() {
                    return Ok(refused);
                }
                at += n as i64;
                self.progress.inc(n as u64);
            }
            written = at;
        }
        if written == size {
            return Ok(None);
        }
        // The hole at the end. By itself, since a server may check the length against permissions that another field of the same message has just taken away.
        let change = Change { size: Some(size as u64), ..Change::default() };
        text_of_refusal(self.client.set(fid, &change, &item.attr))
    }

    /// Links and special files, where the dialect has them.
    fn put_others(&mut self, dir: Fid, others: &mut Vec<Item>, skip: bool) -> anyhow::Result<()> {
        if self.client.dialect() == Dialect::P9 && skip {
            others.clear();
            return Ok(());
        }
        if self.client.dialect() == Dialect::L {
            let gid = self.client.group();
            self.step(
                others,
                |_, item| {
                    let (major, minor) = item.attr.rdev;
                    let (name, mode) = (item.name.as_slice(), item.attr.mode);
                    Some(match mode & mode::IFMT {
                        mode::IFLNK => Message::Tsymlink { fid: dir, name, target: &item.attr.target, gid },
                        _ => Message::Tmknod { dfid: dir, name, mode, major, minor, gid },
                    })
                },
                |_, _| Ok(Step::Done),
            )?;
        } else {
            for item in others.iter_mut() {
                item.error = text_of_refusal(self.client.make_special(dir, &item.name, &item.attr))?;
            }
        }
        self.walk_all(others, dir, true)?;
        self.step(
            others,
            |client, item| {
                let mode = kept(&item.attr).mode.filter(|_| item.attr.kind() != mode::IFLNK);
                Some(client.set_message(item.fid()?, &Change { mode, ..kept(&item.attr) }, &item.attr))
            },
            |_, _| Ok(Step::Done),
        )?;
        self.clunk_all(others)
    }
}

/// A refusal is the file's matter; anything else ends the run.
fn text_of_refusal<T>(result: Result<T, Error>) -> anyhow::Result<Option<String>> {
    match result {
        Ok(_) => Ok(None),
        Err(error) if error.is_refusal() => Ok(Some(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
