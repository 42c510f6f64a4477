//! The simple way to write a tree: operations that answer at once, under the names of the article series.
//!
//! Must not know: fids, messages, sockets.

use super::{At, Change, Entry, Error, Grant, Lock, Make, Open, Out, Result, SetXattr, Stat, StatFs, User};
use crate::wire::Qid;

/// A tree of files that answers at once.
///
/// Thirteen operations have the names of the article series: `attach`, `lookup`, `attr`, `iounit`, `open`, `create`, `read`, `write`, `close`, `remove`,
/// `stat`, `wstat`, `cleanup`. A tree that only can be read has to write seven of them: `attach`, `lookup`, `attr`, `open`, `read`, `close`, `stat`,
/// and [`list`](Filesystem::list) for its directories. Everything else is provided; what would change the tree answers EROFS.
///
/// [`serve::Builder::tree`](crate::serve::Builder::tree) serves it. `docs/writing-a-tree.md` has a whole one; a tree whose names never change needs less, see
/// [`Catalog`](super::catalog::Catalog).
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

    /// Whether the tree of this name shows the server itself: its log, its connections. Then the session lets root and the
    /// server's own user attach, over a unix socket, and refuses all others.
    fn is_private(&self, aname: &[u8]) -> bool {
        let _ = aname;
        false
    }

    /// The root that this user sees under this name. ENOENT if there is no such tree.
    fn attach(&mut self, user: User, aname: &[u8]) -> Result<Self::File>;

    /// One step down, up with "..", which at a root stays there, or none with ".". ENOTDIR for anything but a directory, which may be open.
    /// Needs search permission.
    fn lookup(&mut self, dir: &Self::File, name: &[u8]) -> Result<Self::File>;

    /// Another value for the same file, not open (walk(9P) with no names). A tree that counts the values of a file overrides
    /// this.
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

    /// More space for a grant: its space is filled, and bytes are [`missing`](Grant::missing).
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

    /// Units of work of the operations since the last call, beyond one for each operation. A unit is about a thousand
    /// instructions. The session stops serving a peer for this turn when its requests have taken too many.
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
