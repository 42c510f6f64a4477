//! Attributes of a file between the far server's dialect and what a tree shows.
//!
//! Must not know: connections, operations.

use crate::client::{device_numbers, posix_mode};
use crate::fs::{Error, NAME_BYTES_MAX, Open, Result, Stat, TARGET_BYTES_MAX, Time, mode};
use crate::session::NOBODY;
use crate::session::Users;
use crate::wire::{self, Dialect, Message, Qid, lopen, open, qt};

/// A [`Stat`] that owns its names.
#[derive(Clone, Debug)]
pub(super) struct StatBuf {
    stat: Stat<'static>,
    pub(super) name: Box<[u8]>,
    pub(super) target: Box<[u8]>,
}

const UNKNOWN: Stat<'static> = Stat {
    qid: Qid { kind: 0, version: 0, path: 0 },
    mode: 0,
    uid: 0,
    gid: 0,
    muid: 0,
    nlink: 1,
    rdev: (0, 0),
    size: 0,
    blocks: 0,
    blksize: 4096,
    atime: Time { sec: 0, nsec: 0 },
    mtime: Time { sec: 0, nsec: 0 },
    ctime: Time { sec: 0, nsec: 0 },
    btime: Time { sec: 0, nsec: 0 },
    name: b"",
    target: b"",
};

impl StatBuf {
    /// What Rgetattr says. It has neither name nor target.
    pub(super) fn of_attributes(message: &Message<'_>) -> Option<StatBuf> {
        let &Message::Rgetattr { qid, mode, uid, gid, nlink, rdev, size, blksize, blocks, .. } = message else {
            return None;
        };
        let &Message::Rgetattr { atime_sec, atime_nsec, mtime_sec, mtime_nsec, .. } = message else { return None };
        let &Message::Rgetattr { ctime_sec, ctime_nsec, btime_sec, btime_nsec, .. } = message else { return None };
        let time = |sec: u64, nsec: u64| Time { sec: sec as i64, nsec: nsec.min(999_999_999) as u32 };
        let stat = Stat {
            qid,
            mode,
            uid,
            gid,
            muid: uid,
            nlink,
            rdev: device_numbers(rdev),
            size,
            blocks,
            blksize,
            atime: time(atime_sec, atime_nsec),
            mtime: time(mtime_sec, mtime_nsec),
            ctime: time(ctime_sec, ctime_nsec),
            btime: time(btime_sec, btime_nsec),
            ..UNKNOWN
        };
        Some(StatBuf { stat, name: Box::default(), target: Box::default() })
    }

    /// Converts a stat record. A user name without a number becomes 65534 (Linux: overflowuid). EPROTO:
    /// [`check_record`] refuses the record.
    pub(super) fn of_record(record: &wire::Stat<'_>, users: &Users) -> Result<StatBuf> {
        check_record(record)?;
        let (mode, rdev) = posix_mode(record);
        let user = |name: &[u8], number: u32| if number != !0 { number } else { users.uid(name).unwrap_or(NOBODY) };
        let group = |name: &[u8], number: u32| if number != !0 { number } else { users.gid(name).unwrap_or(NOBODY) };
        let time = |sec: u32| Time { sec: sec.into(), nsec: 0 };
        let is_link = mode & mode::IFMT == mode::IFLNK;
        let size = if is_link { target(record).len() as u64 } else { record.length };
        let stat = Stat {
            qid: record.qid,
            mode,
            uid: user(record.uid, record.n_uid.0),
            gid: group(record.gid, record.n_gid.0),
            muid: user(record.muid, record.n_muid.0),
            rdev,
            size,
            blocks: size.div_ceil(512),
            atime: time(record.atime),
            mtime: time(record.mtime),
            ctime: time(record.mtime),
            btime: time(record.mtime),
            ..UNKNOWN
        };
        Ok(StatBuf { stat, name: record.name.into(), target: target(record).into() })
    }

    /// An entry of which only the type is known.
    pub(super) fn of_entry(qid: Qid, kind: u8, name: &[u8]) -> Stat<'_> {
        let of_qid = match qid.kind {
            kind if kind & qt::DIR != 0 => mode::IFDIR,
            kind if kind & qt::SYMLINK != 0 => mode::IFLNK,
            _ => mode::IFREG,
        };
        // DT_ values are the type bits of the mode (readdir(3)); 0 is unknown.
        let mode = match u32::from(kind) << 12 & mode::IFMT {
            0 => of_qid,
            kind => kind,
        };
        Stat { qid, mode, name, ..UNKNOWN }
    }

    /// A directory of which nothing else is known.
    pub(super) fn of_dir(qid: Qid, name: &[u8]) -> StatBuf {
        let stat = Stat { qid, mode: mode::IFDIR | 0o555, ..UNKNOWN };
        StatBuf { stat, name: name.into(), target: Box::default() }
    }

    pub(super) fn mode(&self) -> u32 {
        self.stat.mode
    }

    pub(super) fn is_link(&self) -> bool {
        self.stat.mode & mode::IFMT == mode::IFLNK
    }

    /// All of it.
    pub(super) fn stat(&self) -> Stat<'_> {
        Stat { name: &self.name, target: &self.target, ..self.stat }
    }
}

/// Whether two qids are those of one file. Their versions may be of different times.
pub(super) fn same_file(one: Qid, other: Qid) -> bool {
    (one.kind, one.path) == (other.kind, other.path)
}

/// Refuses a stat record with a name or a target that is longer than any that this server shows.
pub(super) fn check_record(record: &wire::Stat<'_>) -> Result<()> {
    check_text(record.name, NAME_BYTES_MAX)?;
    check_text(target(record), TARGET_BYTES_MAX)
}

/// The target of a symbolic link, or nothing for another file. The extension of a device is its numbers.
fn target<'a>(record: &wire::Stat<'a>) -> &'a [u8] {
    if posix_mode(record).0 & mode::IFMT == mode::IFLNK { record.extension.0 } else { b"" }
}

/// Refuses a text of the far server that is too long: a stat record with it may not fit its size of 16 bits.
pub(super) fn check_text(text: &[u8], bytes_max: usize) -> Result<()> {
    if text.len() > bytes_max { Err(Error::EPROTO) } else { Ok(()) }
}

/// Flags of Tlopen. An open for execution reads: .L has no flag for it.
pub(super) fn linux_flags(open: Open) -> u32 {
    let access = match (open.read || open.exec, open.write) {
        (true, true) => lopen::READ_WRITE,
        (false, true) => lopen::WRITE,
        _ => lopen::READ,
    };
    let bit = |has: bool, bit: u32| if has { bit } else { 0 };
    access
        | bit(open.truncate, lopen::TRUNC)
        | bit(open.append, lopen::APPEND)
        | bit(open.directory, lopen::DIRECTORY)
        | bit(open.sync, lopen::DSYNC | lopen::SYNC)
}

/// Mode of Topen. It has no bit for a directory, and in 9P2000 none to append.
pub(super) fn classic_mode(flags: Open, dialect: Dialect) -> u8 {
    let access = match (flags.read, flags.write) {
        (true, true) => open::READ_WRITE,
        (false, true) => open::WRITE,
        _ if flags.exec => open::EXEC,
        _ => open::READ,
    };
    let bit = |has: bool, bit: u8| if has { bit } else { 0 };
    access
        | bit(flags.truncate, open::TRUNC)
        | bit(flags.remove_on_close, open::RCLOSE)
        | bit(flags.append && dialect == Dialect::U, open::APPEND)
}
