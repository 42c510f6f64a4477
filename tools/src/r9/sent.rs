//! Files of one directory on their way to the server, all steps: look at what is there, make them
//! aside, send the data, set what a copy keeps, close, and give them their names.
//!
//! Small files are sent 64 at a time; a large file is sent alone, with many writes in flight. Holes
//! are not sent.

use crate::batch::{Item, SMALL_BYTES, Step, To};
use crate::here::Here;
use crate::put::{Dir, Way, kept};
use crate::say::{Why, shown};
use crate::{Run, join};
use nix::unistd::{Whence, lseek};
use ring9::client::{Access, Attr, Client, temporary_name};
use ring9::fs::{Change, Error as Errno, mode};
use ring9::wire::{Data, Dialect, Fid, Message};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes read at a time of a large file.
const PART_BYTES: usize = 8 << 20;

/// At most this many bytes: a file may grow while it is read, a message may not.
fn read_small(here: &Here, item: &Item, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    here.open_file(&item.local, item.is_named)?.take(bytes_max).read_to_end(&mut data)?;
    Ok(data)
}

/// Why a file may not take the place of this one.
fn obstacle(old: &Attr) -> Option<&'static str> {
    match old.kind() {
        mode::IFREG | mode::IFLNK => None,
        mode::IFDIR => Some("is a directory, which a file does not replace"),
        _ => Some("is a pipe, a socket or a device, which a file does not replace"),
    }
}

/// The owner and the group of the file that is replaced.
fn owner_of(old: &Attr) -> Option<Change<'static>> {
    let (uid, gid) = (old.uid.parse().ok(), old.gid.parse().ok());
    (uid.is_some() || gid.is_some()).then_some(Change { uid, gid, ..Change::default() })
}

/// What to do where a directory takes no new file.
pub(crate) fn with_advice(why: String, errno: Option<Errno>) -> String {
    match errno {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
            format!("{why}; the directory takes no new file, and --in-place writes into the one that is there")
        }
        _ => why,
    }
}

impl Run {
    /// Files of one directory, all steps.
    pub(crate) fn put_items(&mut self, dir: &Dir, here: &Here, items: Vec<Item>, way: Way) -> anyhow::Result<()> {
        let (mut files, mut others): (Vec<Item>, Vec<Item>) =
            items.into_iter().partition(|item| item.attr.kind() == mode::IFREG);
        if self.client.dialect() == Dialect::P9 && way.skips {
            self.tally.skipped += others.len() as u64;
            others.clear();
        }
        let begun = files.iter().chain(&others).map(|item| shown(&join(&dir.path, &item.name)));
        self.tally.begin(begun.collect());
        let renames = self.renames(dir.fid, &dir.path)?;
        if way.in_place || !renames {
            self.send_files(dir, here, &mut files, true)?;
        } else {
            if !dir.is_new {
                self.look(dir.fid, &mut files)?;
                self.look(dir.fid, &mut others)?;
            }
            self.send_files(dir, here, &mut files, false)?;
        }
        self.make_others(dir, &mut others, !renames)?;
        files.append(&mut others);
        for item in files.iter().filter(|item| item.error.is_none()) {
            self.tally.finish(&shown(&join(&dir.path, &item.name)));
        }
        self.report_all(&mut files, &dir.path, Some(here));
        Ok(())
    }

    /// Whether the server renames files of this directory. A server of an older dialect may not, as a relay in front of a 9P2000.L server. It is asked
    /// once: an empty file is made, renamed and removed. Where none can be made nothing is found out.
    pub(crate) fn renames(&mut self, dir: Fid, path: &[u8]) -> anyhow::Result<bool> {
        if self.client.dialect() == Dialect::L {
            return Ok(true);
        }
        if let Some(known) = self.renames {
            return Ok(known);
        }
        let [made, renamed] = [temporary_name(b"r9"), temporary_name(b"r9")];
        self.aside = (path.to_vec(), vec![made.clone(), renamed.clone()]);
        let found = match self.client.create(dir, &made, 0o600, Access::New) {
            Ok(fid) => {
                self.client.clunk(fid)?;
                let done = self.client.rename(dir, &made, dir, &renamed);
                let name = if done.is_ok() { &renamed } else { &made };
                self.client.remove(dir, name, false).and(done)
            }
            Err(error) if error.is_refusal() => {
                self.aside.1.clear();
                return Ok(true);
            }
            Err(error) => Err(error),
        };
        self.aside.1.clear();
        let renames = match found {
            Ok(()) => true,
            Err(error) if error.is_refusal() => false,
            Err(error) => return Err(error.into()),
        };
        self.renames = Some(renames);
        Ok(renames)
    }

    /// What has the names that the items are to get.
    fn look(&mut self, dir: Fid, items: &mut [Item]) -> anyhow::Result<()> {
        let mut old: Vec<Item> = items.iter().map(|item| Item { name: item.name.clone(), ..Item::default() }).collect();
        self.walk_all(&mut old, dir, To::Name)?;
        self.step(
            &mut old,
            |client, item| Some(client.stat_message(item.fid()?)),
            |reply| Step::Attr(Attr::of(reply)),
        )?;
        for (item, old) in items.iter_mut().zip(&old).filter(|(_, old)| old.error.is_none()) {
            match obstacle(&old.attr) {
                Some(why) => item.fail_there(why),
                None => item.old = Some(old.attr.clone()),
            }
        }
        self.clunk_all(&mut old)
    }

    /// Regular files. In place, each is made or cut under its own name.
    fn send_files(&mut self, dir: &Dir, here: &Here, files: &mut [Item], in_place: bool) -> anyhow::Result<()> {
        let small_bytes_max = SMALL_BYTES.min(self.client.chunk().into());
        for item in files.iter_mut().filter(|item| item.error.is_none()) {
            item.large = item.attr.size > small_bytes_max;
            if !item.large {
                match read_small(here, item, small_bytes_max) {
                    Ok(data) => item.data = data,
                    Err(error) => item.fail_here(error),
                }
            }
        }
        self.name_aside(dir, files, in_place);
        let access = if in_place { Access::Truncate } else { Access::New };
        self.walk_all(files, dir.fid, To::Dir)?;
        self.step(
            files,
            |client, item| Some(client.create_message(item.fid()?, &item.aside, 0o600, access)),
            |_| Step::Done,
        )?;
        self.create_again(dir.fid, files, in_place)?;
        for item in files.iter_mut() {
            item.is_made = item.fid().is_some();
        }
        self.step(
            files,
            |_, item| {
                let data = Data::Here(&item.data);
                (!item.data.is_empty()).then_some(Message::Twrite { fid: item.fid()?, offset: 0, data })
            },
            |reply| match reply {
                Message::Rwrite { count } => Step::Written(*count as usize),
                _ => Step::Done,
            },
        )?;
        for item in files.iter_mut() {
            let Some(fid) = item.fid() else { continue };
            match item.data.get(item.written..) {
                _ if item.large => self.send_large(fid, here, item)?,
                // A server may take a part, and says with the next one why.
                Some(rest) if !rest.is_empty() => {
                    let written = self.client.write(fid, item.written as u64, rest);
                    item.settle(written)?;
                }
                _ => {}
            };
        }
        let sent = files.iter().filter(|item| item.error.is_none()).map(|item| item.data.len() as u64);
        self.tally.moved(sent.sum());
        self.finish(dir, files, in_place)
    }

    /// Each item gets the name under which it is made. From now on files may be there under these names.
    fn name_aside(&mut self, dir: &Dir, items: &mut [Item], in_place: bool) {
        for item in items.iter_mut() {
            item.aside = if in_place { item.name.clone() } else { temporary_name(&item.name) };
        }
        let names = items.iter().filter(|item| !in_place && item.error.is_none()).map(|item| item.aside.clone());
        self.aside = (dir.path.clone(), names.collect());
    }

    /// In place, what could not be created may be there already; the older dialects say so by an error.
    fn create_again(&mut self, dir: Fid, files: &mut [Item], in_place: bool) -> anyhow::Result<()> {
        for item in files.iter_mut().filter(|item| item.error.is_some()) {
            let Some(fid) = item.fid.take() else { continue };
            self.client.clunk(fid)?;
            let again = if in_place {
                self.client.create(dir, &item.aside, 0o600, Access::Truncate)
            } else {
                // For its errno. Two clients hardly choose the same name.
                create_new(&mut self.client, dir, &item.aside)
            };
            match again {
                Ok(fid) => (item.fid, item.error) = (Some(fid), None),
                Err(error) if error.is_refusal() => {
                    let errno = error.errno().filter(|_| item.old.is_some());
                    item.fail_there(with_advice(error.why(), errno));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The data of a large file, without its holes. What goes wrong with it is noted; an error of the connection ends everything.
    fn send_large(&mut self, fid: Fid, here: &Here, item: &mut Item) -> anyhow::Result<()> {
        self.tally.name(here.place(&item.local));
        let opened =
            here.open_file(&item.local, item.is_named).and_then(|file| Ok((file.metadata()?.len() as i64, file)));
        let (size, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                item.fail_here(error);
                return Ok(());
            }
        };
        let mut buffer = Vec::new();
        let (mut at, mut written) = (0, 0);
        // A file system that knows no holes shows one run of data. Behind the last one there is none: ENXIO.
        while let Ok(start) = lseek(&file, at, Whence::SeekData) {
            let end = lseek(&file, start, Whence::SeekHole).unwrap_or(size).min(size);
            if start >= end {
                break;
            }
            self.tally.moved((start - at) as u64);
            at = start;
            while at < end {
                buffer.resize(PART_BYTES.min((end - at) as usize), 0);
                let n = match file.read_at(&mut buffer, at as u64) {
                    Ok(0) => {
                        item.fail_here("became shorter while it was read");
                        return Ok(());
                    }
                    Ok(n) => n,
                    Err(error) => {
                        item.fail_here(error);
                        return Ok(());
                    }
                };
                let sent = self.client.write(fid, at as u64, &buffer[..n]);
                item.settle(sent)?;
                if item.error.is_some() {
                    return Ok(());
                }
                at += n as i64;
                self.tally.moved(n as u64);
            }
            written = at;
        }
        if written == size {
            return Ok(());
        }
        self.tally.moved((size - written).max(0) as u64);
        // The hole at the end. By itself, since a server may check the length against permissions that another field of the same message has just taken away.
        let change = Change { size: Some(size as u64), ..Change::default() };
        let set = self.client.set(fid, &change, &item.attr);
        Ok(item.settle(set)?)
    }

    /// Links and special files, where the dialect has them. They are made aside, too. Where `in_place` says otherwise, their names must be free.
    fn make_others(&mut self, dir: &Dir, others: &mut [Item], in_place: bool) -> anyhow::Result<()> {
        if others.is_empty() {
            return Ok(());
        }
        self.name_aside(dir, others, in_place);
        if self.client.dialect() == Dialect::L {
            let gid = self.client.group();
            self.step(
                others,
                |_, item| {
                    let (major, minor) = item.attr.rdev;
                    let (name, mode) = (item.aside.as_slice(), item.attr.mode);
                    Some(match mode & mode::IFMT {
                        mode::IFLNK => Message::Tsymlink { fid: dir.fid, name, target: &item.attr.target, gid },
                        _ => Message::Tmknod { dfid: dir.fid, name, mode, major, minor, gid },
                    })
                },
                |_| Step::Done,
            )?;
        } else {
            for item in others.iter_mut().filter(|item| item.error.is_none()) {
                let made = self.client.make_special(dir.fid, &item.aside, &item.attr);
                item.settle(made)?;
            }
        }
        for item in others.iter_mut() {
            item.is_made = item.error.is_none();
        }
        self.walk_all(others, dir.fid, To::Aside)?;
        self.finish(dir, others, in_place)
    }

    /// What is made gets what a copy keeps, is closed, and gets its name. What has failed is removed.
    fn finish(&mut self, dir: &Dir, items: &mut [Item], in_place: bool) -> anyhow::Result<()> {
        if self.client.dialect() == Dialect::L {
            // As far as the server lets this user. Before the permissions, since it takes set-user-id away.
            self.try_step(items, |client, item| {
                let change = owner_of(item.old.as_ref()?)?;
                Some(client.set_message(item.fid()?, &change, &item.attr))
            })?;
        }
        self.step(
            items,
            |client, item| {
                let mode = kept(&item.attr).mode.filter(|_| item.attr.kind() != mode::IFLNK);
                Some(client.set_message(item.fid()?, &Change { mode, ..kept(&item.attr) }, &item.attr))
            },
            |_| Step::Done,
        )?;
        self.clunk_all(items)?;
        if in_place {
            return Ok(());
        }
        self.give_names(dir, items)?;
        for item in items.iter().filter(|item| item.error.is_some() && item.is_made) {
            match self.client.remove(dir.fid, &item.aside, false) {
                Ok(()) => {}
                Err(error) if error.is_refusal() => {
                    let path = shown(&join(&dir.path, &item.aside));
                    self.report(path, format!("is left, since it cannot be removed: {}", error.why()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.aside.1.clear();
        Ok(())
    }

    /// What is complete gets its name, many at a time. What the server refuses then is asked for by itself, in each way that there is.
    fn give_names(&mut self, dir: &Dir, items: &mut [Item]) -> anyhow::Result<()> {
        let is_linux = self.client.dialect() == Dialect::L;
        if !is_linux {
            self.walk_all(items, dir.fid, To::Aside)?;
        }
        let complete: Vec<usize> = (0..items.len()).filter(|&index| items[index].error.is_none()).collect();
        let mut has_name = vec![false; complete.len()];
        let messages: Option<Vec<Message<'_>>> = complete
            .iter()
            .map(|&index| {
                let item = &items[index];
                self.client.rename_message((dir.fid, &item.aside), item.fid, &item.name)
            })
            .collect();
        if let Some(messages) = messages {
            self.client.transport().exchange(messages, |number, reply| has_name[number] = reply.is_ok())?;
        }
        self.clunk_all(items)?;
        for (index, _) in complete.into_iter().zip(has_name).filter(|(_, has_name)| !has_name) {
            let item = &mut items[index];
            let named = self.client.replace(dir.fid, &item.aside, &item.name);
            item.settle(named)?;
        }
        Ok(())
    }
}

fn create_new(client: &mut Client, dir: Fid, name: &[u8]) -> Result<Fid, ring9::client::Error> {
    let fid = client.walk(dir, b"")?;
    let message = client.create_message(fid, name, 0o600, Access::New);
    let made = client.transport().call(message, |_| ());
    if made.is_ok() { Ok(fid) } else { client.clunk_after(fid, made.map(|()| fid)) }
}
