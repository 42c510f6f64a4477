//! The interface between a 9P session and a tree of files, and the trees that ring9 has.
//!
//! It carries on the `Filesystem` module type of the article series; its names are kept.
//!
//! What a tree may rely on: calls come one at a time; names have been checked by [`check_name`];
//! `At` never goes back in monotonic time.
//!
//! What a tree must keep to: nothing blocks (an operation is done, or [`Outcome::Pending`]);
//! nothing that outlives a call borrows from the tree (an [`Iovec`] holds pinned slices, a
//! [`Grant`] owns its memory); a failed operation changes nothing.
//!
//! Must not know: fids, tags, messages, sockets. Of the protocol it shares [`Qid`] with its bits,
//! and in `ctl` the types of messages.

pub mod catalog;
pub mod ctl;
pub mod dev;
mod error;
mod iovec;
pub mod mem;
pub mod mount;

pub use error::{Error, Result};
pub use iovec::{Iovec, Mark, Out, Part};

use crate::arena::Space;
use crate::wire::Qid;

/// The moment at which a batch of requests is served, read once per turn by the driver. A tree has no other clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Time of day, for the times that files show.
    pub wall: Time,
    /// Monotonic nanoseconds, for deadlines and durations.
    pub mono_ns: u64,
}

/// A time of day: seconds since 1970 and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// On whose behalf a tree is entered. 9P does not carry the groups of a user: see [`mem::Groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Numeric user id.
    pub uid: u32,
    /// The user's own group, from /etc/passwd or from the socket. `None`: the server does not know it.
    pub gid: Option<u32>,
    /// The peer may act for anyone, as the kernel of a client does that has mounted the tree. So it is believed that it
    /// has checked the user's membership of the group that a request names or acts on.
    pub vouched: bool,
    /// The peer that asks; comes back in every [`Token`], so that a driver finds the session to wake.
    pub peer: u32,
}

/// How a file is opened; what the three dialects say, in one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Reading is asked for.
    pub read: bool,
    /// Writing is asked for.
    pub write: bool,
    /// Execution: checked as such, then reads (open(9P), OEXEC). A directory needs read permission as well, since an
    /// open one can be listed.
    pub exec: bool,
    /// Length becomes 0; ignored on an append-only file.
    pub truncate: bool,
    /// Every write goes to the end, whatever its offset.
    pub append: bool,
    /// The last close removes the file (open(9P), ORCLOSE).
    pub remove_on_close: bool,
}

/// S_IFMT and the file types, generic Linux values.
pub mod mode {
    #![expect(missing_docs, reason = "the names are those of inode(7)")]
    pub const IFMT: u32 = 0o170000;
    pub const IFSOCK: u32 = 0o140000;
    pub const IFLNK: u32 = 0o120000;
    pub const IFREG: u32 = 0o100000;
    pub const IFBLK: u32 = 0o060000;
    pub const IFDIR: u32 = 0o040000;
    pub const IFCHR: u32 = 0o020000;
    pub const IFIFO: u32 = 0o010000;
    pub const ISUID: u32 = 0o4000;
    pub const ISGID: u32 = 0o2000;
    pub const ISVTX: u32 = 0o1000;
    pub const PERM: u32 = 0o7777;
}

/// What is made by [`Filesystem::make`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make<'a> {
    /// An empty regular file, not opened.
    File,
    /// A directory.
    Dir,
    /// A symbolic link to this target (1 to 4095 bytes, not looked at).
    Symlink(&'a [u8]),
    /// A device node: stored, never opened by the server.
    Device {
        /// Block, else character.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// Everything that the three dialects show of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat<'a> {
    /// Identity and version. `qid.kind` holds the append, exclusive and temporary bits.
    pub qid: Qid,
    /// Type and permissions, as inode(7) has them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Who changed it last.
    pub muid: u32,
    /// Links; 0 once unlinked.
    pub nlink: u64,
    /// Device numbers (major, minor) of a device node, else (0, 0).
    pub rdev: (u32, u32),
    /// Length in bytes; a symbolic link's is that of its target.
    pub size: u64,
    /// Allocated memory in 512-byte units.
    pub blocks: u64,
    /// Preferred size of a request in bytes.
    pub blksize: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
    /// The last element of the path by which the file was reached; "/" for a root. At most 255 bytes.
    pub name: &'a [u8],
    /// Target of a symbolic link, else empty.
    pub target: &'a [u8],
}

/// One entry of a directory, as [`Filesystem::list`] hands it out.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Resume after this entry with this value; grows along the directory, below 2^63, never 0.
    pub cookie: u64,
    /// The file behind the name. `stat.name` is the entry's name, "." and ".." included.
    pub stat: Stat<'a>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The server's time.
    Now,
    /// This time.
    To(Time),
}

/// What [`Filesystem::wstat`] changes; `None` is "don't touch".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change<'a> {
    /// Permission bits with set-id and sticky (07777); the type cannot change.
    pub mode: Option<u32>,
    /// The QTAPPEND, QTEXCL and QTTMP bits of qid.kind.
    pub bits: Option<u8>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
    /// The new last element of the path, within the same directory.
    pub name: Option<&'a [u8]>,
    /// With a new name that is there already: replace it by the rules of rename(2). Otherwise it is an error (stat(9P)).
    pub replace: bool,
    /// Nothing but the change time (Linux: ATTR_CTIME alone).
    pub touch_ctime: bool,
}

/// Whether an extended attribute may or must be there already (setxattr(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetXattr {
    /// Either.
    Any,
    /// EEXIST if it is there.
    Create,
    /// ENODATA if it is not.
    Replace,
}

/// What a record lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may have the same.
    Shared,
    /// Nobody else has anything.
    Exclusive,
    /// Everything: it is given back.
    None,
}

/// A range of bytes of a file that a process locks (fcntl_locking(2)). flock(2) locks all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock<'a> {
    /// What for.
    pub kind: LockKind,
    /// Which bytes; up to `u64::MAX` are all that will ever be there.
    pub range: std::ops::Range<u64>,
    /// Which process of the client.
    pub process: u32,
    /// What the client calls itself, at most 255 bytes. With the process and the peer it says whose the lock is.
    pub client: &'a [u8],
}

/// The numbers of statfs(2). Counts of blocks are in units of `bsize` bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Unit in bytes.
    pub bsize: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Files that could exist in all.
    pub files: u64,
    /// Files that can still be made.
    pub ffree: u64,
    /// Identity of the tree.
    pub fsid: u64,
}

/// Names an operation that has not ended. `peer` is the [`User::peer`] of the file it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    /// Whose session waits.
    pub peer: u32,
    /// Which of the tree's operations; never reused.
    pub serial: u64,
}

/// How far an operation has come: nothing ever blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It ended with this result.
    Done(T),
    /// It ends later: [`Filesystem::ready`] names it, [`Filesystem::finish`] gives the result.
    Pending(Token),
}

/// The answer to [`Filesystem::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// As if it had never been asked for; the token is void.
    Cancelled,
    /// It has taken effect or will: the result comes as usual.
    TooLate,
}

/// A position in a tree's log. A reply leaves only when [`Filesystem::opened`] has reached its gate.
pub type Gate = u64;

/// Memory for the payload of a large write, and a reservation: no commit fails for want of memory.
///
/// Order, append offset, edges and times are decided at [`Filesystem::commit`]. Dropping a grant abandons the write and
/// changes nothing.
#[derive(Debug)]
pub struct Grant {
    /// Where the payload goes, in order; exactly `count` bytes.
    pub space: Space,
    /// The offset that was asked for.
    pub offset: u64,
    /// Where the payload would go if it were committed at once; the tree's own.
    pub place: u64,
    /// Bytes of payload. While memory is scarce there is less space than that at first; see [`Filesystem::extend`].
    pub count: u32,
}

impl Grant {
    /// Bytes of payload for which there is no space yet.
    pub fn missing(&self) -> usize {
        self.count as usize - self.space.len()
    }
}

/// A tree of files.
///
/// A [`File`](Filesystem::File) value belongs to one user's session and carries what permission checks need; many
/// values may name one file. It must be given back through [`close`](Filesystem::close): it counts as a use of the file.
pub trait Filesystem {
    /// A file as one session holds it: walked to, maybe open.
    type File;

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

    /// Another value for the same file, not open (walk(9P) with no names).
    fn duplicate(&mut self, file: &Self::File) -> Self::File;

    /// Identity and version; cannot fail, works on unlinked files.
    fn attr(&self, file: &Self::File) -> Qid;

    /// 0 = the server computes it from msize; a hint, no limit.
    fn iounit(&self, file: &Self::File) -> u32 {
        let _ = file;
        0
    }

    /// Checks permission once and opens. The session opens each value at most once.
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
    ) -> Result<()>;

    /// Appends at most `out.room()` bytes of an open file from `offset` to `out`; fewer is the end of the file, or a partial answer.
    /// Called on directories never: the session builds those replies from [`list`](Filesystem::list).
    fn read(&mut self, file: &mut Self::File, offset: u64, out: Out<'_>, at: At) -> Result<Outcome<()>>;

    /// Writes to an open file; answers how many bytes were taken.
    fn write(&mut self, file: &mut Self::File, offset: u64, data: &[u8], at: At) -> Result<Outcome<u32>>;

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
    fn commit(&mut self, file: &mut Self::File, grant: Grant, at: At) -> Result<Outcome<u32>> {
        let _ = (file, grant, at);
        Err(Error::EIO)
    }

    /// The last use of this value; remove-on-close acts here. The value is gone even if this fails.
    fn close(&mut self, file: Self::File, at: At) -> Result<()>;

    /// Unlinks the file by the name it was reached by; it lives on while open. The session closes the value afterwards.
    fn remove(&mut self, file: &mut Self::File, at: At) -> Result<()>;

    /// What the file shows. Works on unlinked files.
    fn stat(&self, file: &Self::File) -> Result<Stat<'_>>;

    /// Changes what is not `None`, all or nothing.
    fn wstat(&mut self, file: &mut Self::File, change: &Change<'_>, at: At) -> Result<()>;

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
        Err(Error::EOPNOTSUPP)
    }

    /// A further name for a file that is no directory.
    fn link(&mut self, dir: &Self::File, name: &[u8], file: &Self::File, at: At) -> Result<()> {
        let _ = (dir, name, file, at);
        Err(Error::EOPNOTSUPP)
    }

    /// Removes a name; `want_dir` as unlinkat(2) has AT_REMOVEDIR.
    fn unlink(&mut self, dir: &Self::File, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        let _ = (dir, name, want_dir, at);
        Err(Error::EOPNOTSUPP)
    }

    /// rename(2): replaces what is there, atomically.
    fn rename(&mut self, from: &Self::File, name: &[u8], to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        let _ = (from, name, to, new_name, at);
        Err(Error::EOPNOTSUPP)
    }

    /// rename(2) of the file itself, by the name it was reached by (Trename).
    fn rename_file(&mut self, file: &mut Self::File, to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        let _ = (file, to, new_name, at);
        Err(Error::EOPNOTSUPP)
    }

    /// Everything acknowledged so far is as durable as this tree can make it.
    fn fsync(&mut self, file: &Self::File, data_only: bool) -> Result<Outcome<()>> {
        let _ = (file, data_only);
        Ok(Outcome::Done(()))
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

    /// Sets an extended attribute to a value of at most [`XATTR_BYTES_MAX`], all at once, or removes it.
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

    /// The first lock of another owner that would keep this one from being granted. [`LockKind::None`] stands for a client that does not
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
    fn spent(&mut self) -> u32 {
        0
    }

    /// The next pending operation that can be finished. A driver asks once per turn, until `None`.
    fn ready(&mut self) -> Option<Token> {
        None
    }

    /// Whether a part of what was put off is left for [`ready`](Filesystem::ready) of the next turn, which
    /// then begins at once. Nothing depends on it: a driver that sleeps first only leaves the work for later.
    fn has_work(&self) -> bool {
        false
    }

    /// The result of a pending operation that [`ready`](Filesystem::ready) named: a read appends to `out` and answers what it appended,
    /// others answer their count.
    fn finish(&mut self, token: Token, out: Out<'_>, at: At) -> Result<u32> {
        let _ = (token, out, at);
        Err(Error::EIO)
    }

    /// Takes a pending operation back, if that is still possible.
    fn cancel(&mut self, token: Token) -> Cancel {
        let _ = token;
        Cancel::TooLate
    }

    /// The gate of the operation that ended last.
    fn gate(&self) -> Gate {
        0
    }

    /// The gate up to which replies may leave.
    fn opened(&self) -> Gate {
        Gate::MAX
    }
}

/// Longest name of a directory entry in bytes (statfs(2), f_namelen).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest target of a symbolic link in bytes (PATH_MAX less the NUL).
pub const TARGET_BYTES_MAX: usize = 4095;

/// Longest name of an extended attribute in bytes (xattr(7)).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Largest value of one in bytes.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Longest list of the names of a file's attributes, each with a NUL, in bytes (listxattr(2); Linux: XATTR_LIST_MAX).
pub const XATTR_LIST_BYTES_MAX: usize = 64 << 10;

/// Whether a name can be made in a directory: no "", ".", "..", "/" or NUL, at most 255 bytes.
pub fn check_name(name: &[u8]) -> Result<()> {
    match name {
        b"" | b"." | b".." => Err(Error::EINVAL),
        _ if name.iter().any(|&byte| byte == b'/' || byte == 0) => Err(Error::EINVAL),
        _ if name.len() > NAME_BYTES_MAX => Err(Error::ENAMETOOLONG),
        _ => Ok(()),
    }
}
