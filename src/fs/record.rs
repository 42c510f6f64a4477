//! What a tree is like where it has changed: results, from which the same tree can be built elsewhere.
//!
//! A record says how something is now, not what a client has asked for. So to apply a record computes nothing, and to
//! apply it twice is the same as once. Files are named by their qid.path, which is never used again.
//!
//! Must not know: how records are written down, sessions.

use super::Time;

/// One result. Names and values have been checked by the tree that says it, or by the decoder that has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields have the names of what 9P and Linux call them; each variant says what it does")]
pub enum Record<'a> {
    /// The next new file gets this number, or a larger one.
    Next { path: u64 },
    /// A directory has no entry at this cookie.
    NoEntry { dir: u64, cookie: u64 },
    /// A file has no name any more, and is gone with its bytes and attributes.
    Gone { path: u64 },
    /// Everything about a file but its names, bytes and extended attributes. The file is made if it is not there.
    Node(NodeRecord),
    /// Bytes of a regular file, below its size, or of the target of a symbolic link.
    Data { path: u64, offset: u64, bytes: &'a [u8] },
    /// An entry of a directory. `doomed`: it is to be removed when its file is closed (open(9P), ORCLOSE), so it does
    /// not survive a restart.
    Entry { dir: u64, cookie: u64, path: u64, doomed: bool, name: &'a [u8] },
    /// An extended attribute.
    Xattr { path: u64, name: &'a [u8], value: &'a [u8] },
    /// A file has no extended attribute of this name.
    NoXattr { path: u64, name: &'a [u8] },
}

/// A file without names, bytes and extended attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// qid.path.
    pub path: u64,
    /// qid.version.
    pub version: u32,
    /// Type and permissions, as inode(7) has them.
    pub mode: u32,
    /// The QTAPPEND, QTEXCL and QTTMP bits of qid.kind.
    pub bits: u8,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Who changed it last.
    pub muid: u32,
    /// Device numbers (major, minor) of a device node, else (0, 0).
    pub rdev: (u32, u32),
    /// Bytes of a regular file or of the target of a symbolic link. Of a directory: the cookie that its next entry gets.
    /// Otherwise 0.
    pub size: u64,
    /// Bytes at the start of the file that are as they were before, or are in a record of their own. All bytes from here
    /// to the size are 0, but for those in records of their own.
    pub kept: u64,
    /// Last read.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
}
