//! A tree with the simple interface as a service: [`Simple`] keeps the files that are held for it, and the reads that wait for
//! news.
//!
//! Must not know: fids, messages, sockets.

use super::places::Places;
use super::service::{Call, Cancel, Done, FileId, New, OpId, Outcome, Payload, Service, Show};
use super::{At, Error, Filesystem, Grant, Open, Result, SetXattr, User, check_step, limited, mode};
use crate::wire::{Names, Qid, qt};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Reads that wait for news at a time, of one tree.
const WAITING_MAX: usize = 4096;

/// A simple tree as a service: it keeps the state of the files that are held, and the reads that wait for news.
#[derive(Debug)]
pub struct Simple<F: Filesystem> {
    tree: F,
    files: Places<(u32, F::File)>,
    /// Of the file that is held next.
    number: u32,
    /// Reads that wait for news.
    waiting: BTreeMap<OpId, Waiting>,
    /// The news when `ready` last looked, and the first read that it has not looked at since.
    seen: u64,
    unseen: OpId,
}

/// Of which file, from where on.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    file: FileId,
    offset: u64,
}

const FIRST: OpId = OpId { peer: 0, serial: 0 };
const LAST: OpId = OpId { peer: u32::MAX, serial: u64::MAX };

impl<F: Filesystem> From<F> for Simple<F> {
    fn from(tree: F) -> Simple<F> {
        Simple { tree, files: Places::default(), number: 0, waiting: BTreeMap::new(), seen: 0, unseen: FIRST }
    }
}

/// The tree itself, for who looks at it or changes it beside the calls.
impl<F: Filesystem> Deref for Simple<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.tree
    }
}

impl<F: Filesystem> DerefMut for Simple<F> {
    fn deref_mut(&mut self) -> &mut F {
        &mut self.tree
    }
}

impl<F: Filesystem> Simple<F> {
    /// The tree. Files that are held are not closed.
    pub fn into_inner(self) -> F {
        self.tree
    }

    /// Files that are held.
    pub fn held(&self) -> usize {
        self.files.len()
    }

    #[inline]
    fn hold(&mut self, file: F::File) -> FileId {
        self.number = self.number.wrapping_add(1);
        let place = self.files.put((self.number, file));
        FileId::new(place as u32, self.number)
    }

    /// A name that was not given out, or whose file is closed, is the fault of who has it; it gets EBADF.
    #[inline]
    fn at(&mut self, id: FileId) -> Result<(&mut F, &mut F::File)> {
        match self.files.get_mut(id.place()) {
            Some((number, file)) if id.has_number(*number) => Ok((&mut self.tree, file)),
            _ => Err(Error::EBADF),
        }
    }

    /// Two files, maybe the same one, to look at.
    fn both(&mut self, one: FileId, other: FileId) -> Result<(&mut F, &F::File, &F::File)> {
        self.at(one)?;
        self.at(other)?;
        let (one, other) = (self.files.get(one.place()), self.files.get(other.place()));
        let ((_, one), (_, other)) = one.zip(other).ok_or(Error::EBADF)?;
        Ok((&mut self.tree, one, other))
    }

    /// Gives back a file that was only walked to. Nothing acts at such a close, so there is no failure to tell.
    fn give_back(&mut self, file: F::File, at: At) {
        let _ = self.tree.close(file, at);
    }

    /// walk(9P): the first name that fails is an error; a later one ends the walk early. Most walks have one name or none.
    #[inline]
    fn walk(&mut self, from: FileId, names: Names<'_>, dots: bool, show: Show<'_>, at: At) -> Result<Done> {
        let Show::Steps(step_to) = show else { return Err(Error::EIO) };
        let (tree, from) = self.at(from)?;
        let mut rest = names.iter();
        let file = match rest.next() {
            None => tree.duplicate(from),
            Some(name) => {
                check_step(name, dots)?;
                let file = tree.lookup(from, name)?;
                step_to(tree.attr(&file));
                file
            }
        };
        if names.len() > 1 {
            return self.walk_on(file, rest, dots, step_to, at);
        }
        Ok(Done::Walked(Some(self.hold(file))))
    }

    /// Goes on behind the first name.
    fn walk_on<'a>(
        &mut self,
        mut file: F::File,
        names: impl Iterator<Item = &'a [u8]>,
        dots: bool,
        step_to: &mut dyn FnMut(Qid),
        at: At,
    ) -> Result<Done> {
        for name in names {
            let step = check_step(name, dots).and_then(|()| self.tree.lookup(&file, name));
            let Ok(next) = step else {
                self.give_back(file, at);
                return Ok(Done::Walked(None));
            };
            step_to(self.tree.attr(&next));
            self.give_back(std::mem::replace(&mut file, next), at);
        }
        Ok(Done::Walked(Some(self.hold(file))))
    }

    fn open(&mut self, file: FileId, flags: Open, at: At) -> Result<Done> {
        let (tree, file) = self.at(file)?;
        if flags.directory && tree.attr(file).kind & qt::DIR == 0 {
            return Err(Error::ENOTDIR);
        }
        open_or_execute(tree, file, flags, at)?;
        Ok(opened(tree, file))
    }

    fn create(&mut self, dir: FileId, name: &[u8], new: New, at: At) -> Result<Done> {
        let New { flags, mode: wanted, bits, gid, or_open, inherits } = new;
        let (tree, dir) = self.at(dir)?;
        let is_dir = wanted & mode::IFMT == mode::IFDIR;
        let mode = if inherits { wanted & mode::IFMT | inherited(tree, dir, wanted, is_dir)? } else { wanted };
        if is_dir && (flags.write || flags.truncate || flags.remove_on_close) {
            return Err(Error::EISDIR);
        }
        match tree.create(dir, name, flags, mode, bits, gid, at) {
            // Another client was quicker.
            Err(Error::EEXIST) if or_open => {
                let mut there = tree.lookup(dir, name)?;
                let is_dir = tree.attr(&there).kind & qt::DIR != 0;
                let can = if is_dir { Err(Error::EISDIR) } else { Ok(()) };
                if let Err(error) = can.and_then(|()| open_or_execute(tree, &mut there, flags, at)) {
                    let _ = tree.close(there, at);
                    return Err(error);
                }
                let _ = tree.close(std::mem::replace(dir, there), at);
            }
            created => created?,
        }
        Ok(opened(tree, dir))
    }

    #[inline]
    fn read(&mut self, op: OpId, id: FileId, offset: u64, show: Show<'_>, at: At) -> Outcome {
        let Show::Data(out) = show else { return Outcome::now(Err(Error::EIO)) };
        let is_full = self.waiting.len() == WAITING_MAX;
        match self.at(id) {
            Ok((tree, file)) if out.room() == 0 || !tree.waits(file, offset) => {
                Outcome::now(tree.read(file, offset, out, at).map(|()| Done::Nothing))
            }
            Ok(_) if is_full => Outcome::now(Err(Error::EAGAIN)),
            Ok(_) => {
                self.waiting.insert(op, Waiting { file: id, offset });
                Outcome::Waiting
            }
            Err(error) => Outcome::now(Err(error)),
        }
    }

    fn read_link(&mut self, file: FileId, show: Show<'_>, at: At) -> Result<Done> {
        let Show::Bytes(show) = show else { return Err(Error::EIO) };
        let (tree, file) = self.at(file)?;
        let stat = tree.stat(file)?;
        if stat.mode & mode::IFMT != mode::IFLNK {
            return Err(Error::EINVAL);
        }
        show(stat.target)?;
        tree.target_read(file, at);
        Ok(Done::Nothing)
    }

    /// Makes something, and goes there if asked to.
    fn make(
        &mut self,
        dir: FileId,
        name: &[u8],
        enter: bool,
        at: At,
        make: impl FnOnce(&mut F, &F::File) -> Result<Done>,
    ) -> Result<Done> {
        let (tree, dir) = self.at(dir)?;
        let made = make(tree, dir)?;
        if !enter {
            return Ok(made);
        }
        let file = tree.lookup(dir, name)?;
        let _ = tree.close(std::mem::replace(dir, file), at);
        Ok(opened(tree, dir))
    }

    fn link(&mut self, dir: FileId, name: &[u8], file: FileId, enter: bool, at: At) -> Result<Done> {
        let (tree, dir_file, file) = self.both(dir, file)?;
        if enter && tree.attr(dir_file).kind & qt::DIR == 0 {
            return Err(Error::ENOTDIR);
        }
        tree.link(dir_file, name, file, at)?;
        self.make(dir, name, enter, at, |_, _| Ok(Done::Nothing))
    }

    fn rename_file(&mut self, file: FileId, to: FileId, new_name: &[u8], at: At) -> Result<Done> {
        self.at(file)?;
        self.at(to)?;
        let ((_, file), (_, to)) = self.files.two_mut(file.place(), to.place()).ok_or(Error::EINVAL)?;
        self.tree.rename_file(file, to, new_name, at).map(|()| Done::Nothing)
    }

    fn close(&mut self, id: FileId, at: At) -> Result<Done> {
        debug_assert!(self.waiting.values().all(|waiting| waiting.file != id), "what waits is taken back first");
        let is_it = |(number, _): &(u32, F::File)| id.has_number(*number);
        let (_, file) = self.files.take_if(id.place(), is_it).ok_or(Error::EBADF)?;
        self.tree.close(file, at).map(|()| Done::Nothing)
    }

    fn xattr(&mut self, file: FileId, name: &[u8], show: Show<'_>) -> Result<Done> {
        let Show::Bytes(show) = show else { return Err(Error::EIO) };
        let (tree, file) = self.at(file)?;
        if name.is_empty() {
            let mut names = Vec::new();
            tree.xattrs(file, &mut |name| {
                names.extend_from_slice(name);
                names.push(0);
            })?;
            show(&names)?;
        } else {
            show(tree.xattr(file, name)?)?;
        }
        let copy = tree.duplicate(file);
        let qid = tree.attr(&copy);
        Ok(Done::File { file: self.hold(copy), qid })
    }

    /// The last word has the call that sets it.
    fn check_xattr(&mut self, file: FileId, name: &[u8], how: SetXattr) -> Result<Done> {
        let (tree, file) = self.at(file)?;
        match (how, tree.xattr(file, name)) {
            (SetXattr::Create, Ok(_)) => Err(Error::EEXIST),
            (SetXattr::Replace, Err(Error::ENODATA)) => Err(Error::ENODATA),
            _ => Ok(Done::Nothing),
        }
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<Done> {
        let file = self.tree.attach(user, aname)?;
        let qid = self.tree.attr(&file);
        Ok(Done::File { file: self.hold(file), qid })
    }

    /// A read that can go on. Looks at each of them once for each new state of the news, however many can go on.
    fn can_go_on(&mut self) -> Option<OpId> {
        let news = self.tree.news();
        if std::mem::replace(&mut self.seen, news) != news {
            self.unseen = FIRST;
        }
        let Simple { tree, files, waiting, .. } = self;
        let mut unseen = waiting.range(self.unseen..);
        let found = unseen.find(|(_, waiting)| {
            files.get(waiting.file.place()).is_none_or(|(_, file)| !tree.waits(file, waiting.offset))
        });
        let op = found.map(|(&op, _)| op);
        // What is found is named until it is finished. What comes to wait later waits for the next news.
        self.unseen = op.unwrap_or(LAST);
        op
    }
}

impl<F: Filesystem> Service for Simple<F> {
    const FILE_BYTES: usize = Places::<(u32, F::File)>::VALUE_BYTES;

    fn init(&mut self, at: At) -> Result<()> {
        self.tree.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.tree.cleanup()
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        self.tree.is_private(aname)
    }

    /// It is inlined, so that each place that asks for one thing has only that.
    #[inline(always)]
    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        Outcome::now(match call {
            Call::Read { file, offset } => return self.read(op, file, offset, show, at),
            Call::Walk { from, names, dots } => self.walk(from, names, dots, show, at),
            Call::Open { file, flags } => self.open(file, flags, at),
            Call::Write { file, offset, data } => {
                self.at(file).and_then(|(tree, file)| tree.write(file, offset, data, at)).map(Done::Count)
            }
            Call::Commit { file, grant } => {
                self.at(file).and_then(|(tree, file)| tree.commit(file, grant, at)).map(Done::Count)
            }
            Call::Stat { file, .. } => match (self.at(file), show) {
                (Ok((tree, file)), Show::Stat(show)) => tree.stat(file).map(|stat| {
                    show(&stat);
                    Done::Nothing
                }),
                (Ok(_), _) => Err(Error::EIO),
                (Err(error), _) => Err(error),
            },
            Call::Close { file } => self.close(file, at),
            Call::List { dir, cookie, .. } => match show {
                Show::Entries(each) => self.at(dir).and_then(|(tree, dir)| nothing(tree.list(dir, cookie, at, each))),
                _ => Err(Error::EIO),
            },
            Call::Attach { user, aname } => self.attach(user, aname),
            Call::Create { dir, name, new } => self.create(dir, name, new, at),
            Call::Wstat { file, change } => {
                self.at(file).and_then(|(tree, file)| nothing(tree.wstat(file, &change, at)))
            }
            Call::ReadLink { file } => self.read_link(file, show, at),
            Call::Make { dir, name, what, mode, gid, enter } => self.make(dir, name, enter, at, |tree, dir| {
                let mode = if enter { inherited(tree, dir, mode, false)? } else { mode };
                tree.make(dir, name, what, mode, gid, at).map(Done::Made)
            }),
            Call::Link { dir, name, file, enter } => self.link(dir, name, file, enter, at),
            Call::Unlink { dir, name, want_dir } => {
                self.at(dir).and_then(|(tree, dir)| nothing(tree.unlink(dir, name, want_dir, at)))
            }
            Call::Rename { from, name, to, new_name } => {
                self.both(from, to).and_then(|(tree, from, to)| nothing(tree.rename(from, name, to, new_name, at)))
            }
            Call::RenameFile { file, to, new_name } => self.rename_file(file, to, new_name, at),
            Call::Remove { file } => self.at(file).and_then(|(tree, file)| nothing(tree.remove(file, at))),
            Call::Fsync { file, data_only } => {
                self.at(file).and_then(|(tree, file)| nothing(tree.fsync(file, data_only)))
            }
            Call::Xattr { file, name } => self.xattr(file, name, show),
            Call::CheckXattr { file, name, how } => self.check_xattr(file, name, how),
            Call::SetXattr { file, name, value, how } => {
                self.at(file).and_then(|(tree, file)| nothing(tree.set_xattr(file, name, value, how, at)))
            }
            Call::Lock { file, lock } => {
                self.at(file).and_then(|(tree, file)| tree.lock(file, &lock)).map(Done::Locked)
            }
            Call::Conflict { file, lock } => match show {
                Show::Lock(show) => self.at(file).and_then(|(tree, file)| {
                    tree.conflict(file, &lock)?.iter().for_each(show);
                    Ok(Done::Nothing)
                }),
                _ => Err(Error::EIO),
            },
            Call::StatFs { file } => match show {
                Show::StatFs(of) => {
                    self.at(file).and_then(|(tree, file)| nothing(tree.statfs(file).map(|now| *of = now)))
                }
                _ => Err(Error::EIO),
            },
        })
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let Some(Waiting { file, offset }) = self.waiting.remove(&op) else { return Outcome::now(Err(Error::EIO)) };
        let Show::Data(out) = show else { return Outcome::now(Ok(Done::Nothing)) };
        let read = self.at(file).and_then(|(tree, file)| tree.read(file, offset, out, at));
        Outcome::now(nothing(read))
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        if self.waiting.remove(&op).is_some() { Cancel::Cancelled } else { Cancel::TooLate }
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        let (tree, file) = self.at(file)?;
        if tree.discards(file) {
            return Ok(Payload::Discarded);
        }
        Ok(tree.grant(file, offset, count, at)?.map_or(Payload::Parts, Payload::Memory))
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        let (tree, file) = self.at(file)?;
        tree.extend(file, grant)
    }

    #[inline]
    fn ready(&mut self) -> Option<OpId> {
        self.tree.work();
        // Every turn asks, and hardly ever does anybody wait.
        if self.waiting.is_empty() { None } else { self.can_go_on() }
    }

    fn has_work(&self) -> bool {
        self.tree.has_work()
    }

    #[inline]
    fn file_memory_bytes(&self) -> usize {
        self.files.bytes()
    }

    fn tick(&mut self, at: At) {
        self.tree.tick(at);
    }

    #[inline]
    fn spent(&mut self) -> u32 {
        self.tree.spent()
    }
}

#[inline(always)]
fn nothing(result: Result<()>) -> Result<Done> {
    result.map(|()| Done::Nothing)
}

fn opened<F: Filesystem>(tree: &F, file: &F::File) -> Done {
    Done::Opened { qid: tree.attr(file), iounit: tree.iounit(file) }
}

/// open(9P): a new file has no permission that its directory lacks; execution of files is exempt.
fn inherited<F: Filesystem>(tree: &F, dir: &F::File, asked: u32, is_dir: bool) -> Result<u32> {
    let parent = tree.stat(dir)?;
    if parent.mode & mode::IFMT != mode::IFDIR {
        return Err(Error::ENOTDIR);
    }
    Ok(limited(asked, parent.mode, is_dir))
}

/// Opens a file. With `or_execute`, a regular file that the user may execute but not read is opened for reading nonetheless, as NFS servers
/// do: Tlopen has no flag for execution, so execve(2) of a Linux client comes as an open for reading.
fn open_or_execute<F: Filesystem>(tree: &mut F, file: &mut F::File, flags: Open, at: At) -> Result<()> {
    let reads_only = flags.or_execute && flags.read && !flags.write && !flags.truncate;
    match tree.open(file, flags, at) {
        Err(Error::EACCES) if reads_only && tree.stat(file)?.mode & mode::IFMT == mode::IFREG => {
            tree.open(file, Open { read: false, exec: true, ..flags }, at)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
