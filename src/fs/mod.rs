//! The interface between a 9P session and a tree of files, and the trees that ring9 has.
//!
//! A session asks a [`Service`]. [`Filesystem`] carries on the module type of the article series under its names: a tree that
//! answers at once implements it, and [`Simple`] makes a service of it.
//!
//! What a tree may rely on: calls come one at a time; names have been checked by [`check_name`];
//! `At` never goes back in monotonic time.
//!
//! What a tree must keep to: nothing blocks (an operation is done, or ends later: [`Outcome`]);
//! nothing that outlives a call borrows from the tree (an [`Iovec`] holds pinned slices, a
//! [`Grant`] owns its memory); a failed operation changes nothing.
//!
//! Must not know: fids, tags, messages, sockets. Of the protocol it shares [`Qid`] with its bits
//! and the names of a walk, and in `ctl` the types of messages.

mod ask;
mod callbuf;
pub mod catalog;
pub mod ctl;
pub mod dev;
mod error;
mod filesystem;
mod iovec;
pub mod join;
pub mod mem;
pub(crate) mod places;
mod record;
mod service;
mod simple;
pub mod wrap;

pub use ask::{Ask, AskId, Descriptor, Incoming, OpenHow, Outgoing, Remote};
pub use callbuf::CallBuf;
pub use error::{Error, Result};
pub use filesystem::Filesystem;
pub use iovec::{Iovec, Mark, Out, Part};
pub use record::{NodeRecord, Record};
pub use service::{Answer, Call, Cancel, Done, FileId, Gate, New, OpId, Outcome, Payload, Service, Show};
pub use simple::Simple;

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
    /// The peer that asks, as in the [`OpId`] of the operation. Locks of two peers have two owners.
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
    /// Where reading is not allowed, execution of a regular file is enough.
    pub or_execute: bool,
    /// ENOTDIR for anything but a directory (open(2), O_DIRECTORY).
    pub directory: bool,
    /// A write is answered once it is durable (open(2), O_SYNC and O_DSYNC), where a tree tells that apart.
    pub sync: bool,
}

impl Open {
    /// Neither to read nor to write; a constant to start from.
    pub const NONE: Open = Open {
        read: false,
        write: false,
        exec: false,
        truncate: false,
        append: false,
        remove_on_close: false,
        or_execute: false,
        directory: false,
        sync: false,
    };
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

/// A name that no directory can have: ENOENT, or ENAMETOOLONG for one that is too long, as open(2) has it. ".." leads up.
pub(crate) fn check_step(name: &[u8], dots: bool) -> Result<()> {
    match name {
        b"" => Err(Error::ENOENT),
        b"." if !dots => Err(Error::ENOENT),
        _ if name.contains(&b'/') => Err(Error::ENOENT),
        _ if name.len() > NAME_BYTES_MAX => Err(Error::ENAMETOOLONG),
        _ => Ok(()),
    }
}

/// The permissions of a file or directory that is made in a directory of mode `parent` (open(9P)).
pub(crate) fn limited(asked: u32, parent: u32, is_dir: bool) -> u32 {
    let kept = if is_dir { !0o777 } else { !0o666 };
    asked & mode::PERM & (kept | parent & 0o777)
}
