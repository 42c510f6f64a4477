//! The numbers that fields of messages hold: bits of qids and modes, flags, kinds and statuses. Session
//! and client take them from here.
//!
//! Must not know: messages.

/// Bits of [`Qid::kind`](super::Qid::kind) (stat(9P); plan9port: `include/libc.h`).
pub mod qt {
    /// Directory.
    pub const DIR: u8 = 0x80;
    /// Append-only file.
    pub const APPEND: u8 = 0x40;
    /// Exclusive-use file.
    pub const EXCL: u8 = 0x20;
    /// Mounted channel.
    pub const MOUNT: u8 = 0x10;
    /// Authentication file.
    pub const AUTH: u8 = 0x08;
    /// Temporary file.
    pub const TMP: u8 = 0x04;
    /// Symbolic link (.u, .L).
    pub const SYMLINK: u8 = 0x02;
    /// Hard link (.u).
    pub const LINK: u8 = 0x01;
    /// Plain file.
    pub const FILE: u8 = 0;
}

/// Bits of [`Stat::mode`](super::Stat::mode) (stat(9P); .u: Linux `include/net/9p/9p.h`, P9_DM). The lowest nine are permissions.
pub mod dm {
    /// Directory.
    pub const DIR: u32 = 0x8000_0000;
    /// Symbolic link (.u).
    pub const SYMLINK: u32 = 0x0200_0000;
    /// Hard link (.u): in Tcreate alone.
    pub const LINK: u32 = 0x0100_0000;
    /// Device (.u).
    pub const DEVICE: u32 = 0x0080_0000;
    /// Named pipe (.u).
    pub const NAMED_PIPE: u32 = 0x0020_0000;
    /// Socket (.u).
    pub const SOCKET: u32 = 0x0010_0000;
    /// Set-user-ID (.u).
    pub const SETUID: u32 = 0x0008_0000;
    /// Set-group-ID (.u).
    pub const SETGID: u32 = 0x0004_0000;
    /// Sticky (.u).
    pub const SETVTX: u32 = 0x0001_0000;
}

/// The mode of Topen and Tcreate (open(9P)).
pub mod open {
    /// The bits that are one of the next four.
    pub const ACCESS: u8 = 3;
    /// Reading.
    pub const READ: u8 = 0;
    /// Writing.
    pub const WRITE: u8 = 1;
    /// Both.
    pub const READ_WRITE: u8 = 2;
    /// Executing.
    pub const EXEC: u8 = 3;
    /// Cuts the file to nothing.
    pub const TRUNC: u8 = 0x10;
    /// Closes it on exec; a server passes it over.
    pub const CEXEC: u8 = 0x20;
    /// Removes it with the fid.
    pub const RCLOSE: u8 = 0x40;
    /// Appends (.u; Linux: P9_OAPPEND).
    pub const APPEND: u8 = 0x80;
}

/// Flags of Tlopen and Tlcreate: Linux's generic values, on any machine (`include/net/9p/9p.h`, P9_DOTL_).
pub mod lopen {
    /// The bits that are one of the next three.
    pub const ACCESS: u32 = 0o3;
    /// Reading.
    pub const READ: u32 = 0;
    /// Writing.
    pub const WRITE: u32 = 0o1;
    /// Both.
    pub const READ_WRITE: u32 = 0o2;
    /// Makes the file; Tlcreate always does.
    pub const CREATE: u32 = 0o100;
    /// The file must be new.
    pub const EXCL: u32 = 0o200;
    /// Cuts the file to nothing.
    pub const TRUNC: u32 = 0o1000;
    /// Appends.
    pub const APPEND: u32 = 0o2000;
    /// Opens only a directory.
    pub const DIRECTORY: u32 = 0o200000;
    /// Data is durable once a write of it is answered.
    pub const DSYNC: u32 = 0o10000;
    /// Everything about the file is.
    pub const SYNC: u32 = 0o4000000;
}

/// All that Tgetattr can ask for, and Rgetattr can have (Linux: P9_STATS_ALL).
pub const STATS_ALL: u64 = 0x3fff;

/// The flag of Tunlinkat for a directory (Linux: P9_DOTL_AT_REMOVEDIR).
pub const REMOVEDIR: u32 = 0x200;

/// Bits of Tsetattr (Linux: P9_ATTR_).
pub mod setattr {
    /// Permissions are set.
    pub const MODE: u32 = 0x1;
    /// The owner is set.
    pub const UID: u32 = 0x2;
    /// The group is set.
    pub const GID: u32 = 0x4;
    /// The length is set.
    pub const SIZE: u32 = 0x8;
    /// The time of access is set: to the server's time, unless `ATIME_SET` is there.
    pub const ATIME: u32 = 0x10;
    /// The time of modification is set: to the server's time, unless `MTIME_SET` is there.
    pub const MTIME: u32 = 0x20;
    /// The time of change is set, to the server's time.
    pub const CTIME: u32 = 0x40;
    /// The message has the time of access.
    pub const ATIME_SET: u32 = 0x80;
    /// The message has the time of modification.
    pub const MTIME_SET: u32 = 0x100;
}

/// Flags of Txattrcreate (setxattr(2), XATTR_).
pub mod xattr {
    /// The attribute must be new.
    pub const CREATE: u32 = 1;
    /// The attribute must be there. With size 0 it is removed.
    pub const REPLACE: u32 = 2;
}

/// Types of locks (Linux: `include/net/9p/9p.h`, P9_LOCK_TYPE_).
pub mod lock_type {
    /// For reading.
    pub const SHARED: u8 = 0;
    /// For writing.
    pub const EXCLUSIVE: u8 = 1;
    /// None: unlocks.
    pub const NONE: u8 = 2;
}

/// Statuses of Rlock (Linux: P9_LOCK_).
pub mod lock_status {
    /// The lock was set, or given back.
    pub const SUCCESS: u8 = 0;
    /// Another process has a lock in the way.
    pub const BLOCKED: u8 = 1;
}
