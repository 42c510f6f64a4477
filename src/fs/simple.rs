//! The simple way to write a tree: [`Filesystem`], whose operations answer at once, under the names of the article series.
//! [`Simple`] makes a [`Service`] of it.
//!
//! Must not know: fids, messages, sockets.

use super::places::Places;
use super::service::{Call, Cancel, Done, FileId, New, OpId, Outcome, Payload, Service, Show};
use super::{
    At, Change, Entry, Error, Grant, Lock, Make, NAME_BYTES_MAX, Open, Out, Result, SetXattr, Stat, StatFs, User, mode,
};
use crate::wire::{Names, Qid, qt};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

/// Reads that wait for news at a time, of one tree.
const WAITING_MAX: usize = 4096;

/// A tree of files that answers at once.
///
/// Thirteen operations have the names of the article series: `attach`, `lookup`, `attr`, `iounit`, `open`, `create`, `read`, `write`, `close`, `remove`,
/// `stat`, `wstat`, `cleanup`. A tree that only can be read has to write seven of them: `attach`, `lookup`, `attr`, `open`, `read`, `close`, `stat`,
/// and [`list`](Filesystem::list) for its directories. Everything else is provided; what would change the tree answers EROFS.
///
/// A [`File`](Filesystem::File) value carries what permission checks need; many values may name one file. It is given back through
/// [`close`](Filesystem::close): it counts as a use of the file.
pub trait Filesystem {
    /// A file as one session holds it: walked to, maybe open.
    type File: Clone;

    /// Before serving starts.
    fn init(&mut self, at: At) -> Result<()> {
        let _ = at;
        Ok(())
    }

    /// After serving ended and every file is closed: everything is released.
    fn cleanup(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether the tree of this name shows the server itself: its log, its connections. The session
    /// lets root and the server's own user attach to it, at this end of a unix socket, and nobody
    /// else. What serves several trees asks the one that it means.
    fn is_private(&self, aname: &[u8]) -> bool {
        let _ = aname;
        false
    }

    /// The root that this user sees under this name. ENOENT if there is no such tree.
    fn attach(&mut self, user: User, aname: &[u8]) -> Result<Self::File>;

    /// One step down, up with "..", which at a root stays there, or none with ".". ENOTDIR for anything but a directory, which may be open.
    /// Needs search permission.
    fn lookup(&mut self, dir: &Self::File, name: &[u8]) -> Result<Self::File>;

    /// Another value for the same file, not open (walk(9P) with no names). A tree whose values are more than names has its own.
    fn duplicate(&mut self, file: &Self::File) -> Self::File {
        file.clone()
    }

    /// Identity and version; cannot fail, works on unlinked files.
    fn attr(&self, file: &Self::File) -> Qid;

    /// 0 = the server computes it from msize; a hint, no limit.
    fn iounit(&self, file: &Self::File) -> u32 {
        let _ = file;
        0
    }

    /// Checks permission once and opens. Each value is opened at most once.
    fn open(&mut self, file: &mut Self::File, flags: Open, at: At) -> Result<()>;

    /// Makes a regular file, or a directory if `mode` has IFDIR, and opens it whatever its mode says; `dir` becomes the new file.
    /// EEXIST if the name is there. `gid` None: the directory's group. `bits`: QTAPPEND, QTEXCL, QTTMP.
    #[expect(clippy::too_many_arguments, reason = "create(9P) has these")]
    fn create(
        &mut self,
        dir: &mut Self::File,
        name: &[u8],
        flags: Open,
        mode: u32,
        bits: u8,
        gid: Option<u32>,
        at: At,
    ) -> Result<()> {
        let _ = (dir, name, flags, mode, bits, gid, at);
        Err(Error::EROFS)
    }

    /// Appends at most `out.room()` bytes of an open file from `offset` to `out`; fewer is the end of the file, or a partial answer.
    /// Called on directories never: the session builds those replies from [`list`](Filesystem::list).
    fn read(&mut self, file: &mut Self::File, offset: u64, out: Out<'_>, at: At) -> Result<()>;

    /// Whether a read there would have to wait for news (the next line of a log). It is then kept, and tried when [`news`](Filesystem::news)
    /// has changed.
    #[inline]
    fn waits(&self, file: &Self::File, offset: u64) -> bool {
        let _ = (file, offset);
        false
    }

    /// A number that changes whenever there is something for reads that wait.
    fn news(&self) -> u64 {
        0
    }

    /// Writes to an open file; answers how many bytes were taken.
    fn write(&mut self, file: &mut Self::File, offset: u64, data: &[u8], at: At) -> Result<u32> {
        let _ = (file, offset, data, at);
        Err(Error::EROFS)
    }

    /// Memory for a payload that is about to arrive. `None`: send it through [`write`](Filesystem::write) in pieces, or
    /// discard it and answer as if written when [`discards`](Filesystem::discards) says so.
    fn grant(&mut self, file: &mut Self::File, offset: u64, count: u32, at: At) -> Result<Option<Grant>> {
        let _ = (file, offset, count, at);
        Ok(None)
    }

    /// More space for a grant whose space is filled and which has bytes [`missing`](Grant::missing).
    fn extend(&mut self, file: &mut Self::File, grant: &mut Grant) -> Result<()> {
        let _ = (file, grant);
        Err(Error::EIO)
    }

    /// The file takes any bytes and keeps none (/dev/null): payloads need not be received anywhere.
    fn discards(&self, file: &Self::File) -> bool {
        let _ = file;
        false
    }

    /// Publishes a payload that has landed whole; answers how many bytes were written. Cannot fail for want of memory.
    fn commit(&mut self, file: &mut Self::File, grant: Grant, at: At) -> Result<u32> {
        let _ = (file, grant, at);
        Err(Error::EIO)
    }

    /// The last use of this value; remove-on-close acts here. The value is gone even if this fails.
    fn close(&mut self, file: Self::File, at: At) -> Result<()>;

    /// Unlinks the file by the name it was reached by; it lives on while open. The value is closed afterwards.
    fn remove(&mut self, file: &mut Self::File, at: At) -> Result<()> {
        let _ = (file, at);
        Err(Error::EROFS)
    }

    /// What the file shows. Works on unlinked files.
    fn stat(&self, file: &Self::File) -> Result<Stat<'_>>;

    /// Changes what is not `None`, all or nothing.
    fn wstat(&mut self, file: &mut Self::File, change: &Change<'_>, at: At) -> Result<()> {
        let _ = (file, change, at);
        Err(Error::EROFS)
    }

    /// Hands out the entries after `cookie` (0: from the start; "." and ".." first) until `each` says false, which means that it did not
    /// take that entry. An entry that stays through a listing comes exactly once, whatever happens to others; a name that is replaced stays.
    ///
    /// A listing ends, even if its reader makes a name for each entry: names made after the directory was opened, or after the last call with
    /// cookie 0 for this value, are not handed out.
    fn list(
        &mut self,
        dir: &mut Self::File,
        cookie: u64,
        at: At,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        let _ = (dir, cookie, at, each);
        Err(Error::ENOTDIR)
    }

    /// Makes something that is not opened.
    fn make(
        &mut self,
        dir: &Self::File,
        name: &[u8],
        what: Make<'_>,
        mode: u32,
        gid: Option<u32>,
        at: At,
    ) -> Result<Qid> {
        let _ = (dir, name, what, mode, gid, at);
        Err(Error::EROFS)
    }

    /// A further name for a file that is no directory.
    fn link(&mut self, dir: &Self::File, name: &[u8], file: &Self::File, at: At) -> Result<()> {
        let _ = (dir, name, file, at);
        Err(Error::EROFS)
    }

    /// Removes a name; `want_dir` as unlinkat(2) has AT_REMOVEDIR.
    fn unlink(&mut self, dir: &Self::File, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        let _ = (dir, name, want_dir, at);
        Err(Error::EROFS)
    }

    /// rename(2): replaces what is there, atomically.
    fn rename(&mut self, from: &Self::File, name: &[u8], to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        let _ = (from, name, to, new_name, at);
        Err(Error::EROFS)
    }

    /// rename(2) of the file itself, by the name it was reached by (Trename).
    fn rename_file(&mut self, file: &mut Self::File, to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        let _ = (file, to, new_name, at);
        Err(Error::EROFS)
    }

    /// Everything acknowledged so far is as durable as this tree can make it.
    fn fsync(&mut self, file: &Self::File, data_only: bool) -> Result<()> {
        let _ = (file, data_only);
        Ok(())
    }

    /// The value of an extended attribute. ENODATA if there is none, EOPNOTSUPP where names like this cannot be. Works on unlinked files, as do the next two.
    fn xattr(&self, file: &Self::File, name: &[u8]) -> Result<&[u8]> {
        let _ = (file, name);
        Err(Error::EOPNOTSUPP)
    }

    /// Names the extended attributes that the user may know of, always in the same order.
    fn xattrs(&self, file: &Self::File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let _ = (file, each);
        Err(Error::EOPNOTSUPP)
    }

    /// Sets an extended attribute to a value of at most [`XATTR_BYTES_MAX`](super::XATTR_BYTES_MAX), all at once, or removes it.
    fn set_xattr(&mut self, file: &Self::File, name: &[u8], value: Option<&[u8]>, how: SetXattr, at: At) -> Result<()> {
        let _ = (file, name, value, how, at);
        Err(Error::EOPNOTSUPP)
    }

    /// Locks a range of an open file, or gives it back; false if somebody else has a part of it. Never waits. What this value has locked goes when it is
    /// closed. ENOLCK at the tree's bound.
    fn lock(&mut self, file: &mut Self::File, lock: &Lock<'_>) -> Result<bool> {
        let _ = (file, lock);
        Err(Error::EOPNOTSUPP)
    }

    /// The first lock of another owner that would keep this one from being granted. [`LockKind::None`](super::LockKind::None) stands for a client that does not
    /// tell the kind and has compared the locks of its own connection before it asks: then shared locks of the same connection do not
    /// conflict, and all other locks do.
    fn conflict(&self, file: &Self::File, lock: &Lock<'_>) -> Result<Option<Lock<'_>>> {
        let _ = (file, lock);
        Err(Error::EOPNOTSUPP)
    }

    /// The target of this symbolic link was shown to a reader (readlink(2)): a tree that keeps access times counts it as a read. A
    /// [`stat`](Self::stat), which has the target as well, is no read.
    fn target_read(&mut self, file: &Self::File, at: At) {
        let _ = (file, at);
    }

    /// Sizes and counts of the tree that holds the file.
    fn statfs(&self, file: &Self::File) -> Result<StatFs> {
        let _ = file;
        Err(Error::EOPNOTSUPP)
    }

    /// A second or so has passed; called while anyone is connected. For what a tree does in intervals: it has no timer of its own.
    fn tick(&mut self, at: At) {
        let _ = at;
    }

    /// Units of work that the operations since the last call took beyond the unit that each operation is
    /// counted as anyway. A unit is about a thousand instructions. The session stops serving a peer whose
    /// requests cost too much for one turn.
    #[inline]
    fn spent(&mut self) -> u32 {
        0
    }

    /// Does a part of what was put off. Called in each turn, maybe more than once.
    #[inline]
    fn work(&mut self) {}

    /// Whether some of that is left, so that the next turn is to begin at once. Nothing depends on it: a driver that sleeps
    /// first only leaves the work for later.
    #[inline]
    fn has_work(&self) -> bool {
        false
    }
}

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
            Some((number, file)) if FileId::new(0, *number).number() == id.number() => Ok((&mut self.tree, file)),
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
        let is_it = |(number, _): &(u32, F::File)| FileId::new(0, *number).number() == id.number();
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
            Call::Stat { file } => match (self.at(file), show) {
                (Ok((tree, file)), Show::Stat(show)) => tree.stat(file).map(|stat| {
                    show(&stat);
                    Done::Nothing
                }),
                (Ok(_), _) => Err(Error::EIO),
                (Err(error), _) => Err(error),
            },
            Call::Close { file } => self.close(file, at),
            Call::List { dir, cookie } => match show {
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
    let kept = if is_dir { !0o777 } else { !0o666 };
    Ok(asked & mode::PERM & (kept | parent.mode & 0o777))
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

/// A name that no directory can have: ENOENT, or ENAMETOOLONG for one that is too long, as open(2) has it. ".." leads up.
fn check_step(name: &[u8], dots: bool) -> Result<()> {
    match name {
        b"" => Err(Error::ENOENT),
        b"." if !dots => Err(Error::ENOENT),
        _ if name.contains(&b'/') => Err(Error::ENOENT),
        _ if name.len() > NAME_BYTES_MAX => Err(Error::ENAMETOOLONG),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
