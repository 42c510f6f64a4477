//! Attributes of a file, read from either form: Rgetattr of 9P2000.L, and the stat record of 9P2000
//! and 9P2000.u. And modes, converted to the bits of a stat record.
//!
//! Must not know: connections.

use crate::fs::{Time, mode};
use crate::wire::{Dialect, Message, Qid, Stat, dm, qt};

/// Bits of the mode in stat records that have a file type or permission in Linux.
const DM: [(u32, u32); 8] = [
    (dm::DIR, mode::IFDIR),
    (dm::SYMLINK, mode::IFLNK),
    (dm::DEVICE, mode::IFCHR),
    (dm::NAMED_PIPE, mode::IFIFO),
    (dm::SOCKET, mode::IFSOCK),
    (dm::SETUID, mode::ISUID),
    (dm::SETGID, mode::ISGID),
    (dm::SETVTX, mode::ISVTX),
];

/// What a server says of a file, as far as the dialect tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Identity and version.
    pub qid: Qid,
    /// Type and permissions, as inode(7) has them.
    pub mode: u32,
    /// Links; 1 where the dialect does not tell.
    pub nlink: u64,
    /// Owner, by name or number.
    pub uid: String,
    /// Group, by name or number.
    pub gid: String,
    /// Length in bytes.
    pub size: u64,
    /// Numbers of a device.
    pub rdev: (u32, u32),
    /// Last read.
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything; 0 where the dialect does not tell.
    pub ctime: Time,
    /// Target of a symbolic link, where the dialect tells it here (.u).
    pub target: Vec<u8>,
}

impl Attr {
    /// Its type bits.
    pub fn kind(&self) -> u32 {
        self.mode & mode::IFMT
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == mode::IFDIR
    }
}

/// Type and permissions as stat(9P) has them, as far as the dialect can: plain 9P2000 has neither set-user-id and its like nor links and special files.
pub(crate) fn dm_bits(posix: u32, dialect: Dialect) -> u32 {
    // There is one bit for devices of both kinds.
    let kind = if posix & mode::IFMT == mode::IFBLK { mode::IFCHR } else { posix & mode::IFMT };
    let has = |bit: u32| if bit & mode::IFMT != 0 { kind == bit } else { posix & bit != 0 };
    let there = DM.iter().filter(|&&(_, bit)| has(bit) && (dialect == Dialect::U || bit == mode::IFDIR));
    there.map(|(dm, _)| dm).sum::<u32>() | posix & 0o777
}

/// The bits of a mode in stat records that a change of permissions must not take away: append, exclusive, temporary.
pub(crate) fn kept_bits(qid: Qid) -> u32 {
    u32::from(qid.kind & (qt::APPEND | qt::EXCL | qt::TMP)) << 24
}

/// Major and minor number of a device, as Rgetattr has them (Linux: new_encode_dev).
pub(crate) fn device_numbers(rdev: u64) -> (u32, u32) {
    ((rdev >> 8 & 0xfff) as u32, (rdev & 0xff | rdev >> 12 & 0xfff00) as u32)
}

/// Type and permissions of a stat record, as inode(7) has them, and the numbers of a device.
pub(crate) fn posix_mode(stat: &Stat<'_>) -> (u32, (u32, u32)) {
    let extension = String::from_utf8_lossy(stat.extension.0);
    let mut words = extension.split(' ');
    let is_block = words.next() == Some("b");
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    let posix: u32 = DM.iter().filter(|(dm, _)| stat.mode & dm != 0).map(|(_, posix)| posix).sum();
    let kind = match posix & mode::IFMT {
        0 => mode::IFREG,
        mode::IFCHR if is_block => mode::IFBLK,
        kind => kind,
    };
    let rdev = if matches!(kind, mode::IFCHR | mode::IFBLK) { (number(), number()) } else { (0, 0) };
    (kind | posix & mode::PERM | stat.mode & 0o777, rdev)
}

impl Attr {
    /// What a reply to [`Client::stat_message`](super::Client::stat_message) says.
    pub fn of(reply: &Message<'_>) -> Attr {
        match *reply {
            Message::Rgetattr {
                qid,
                mode,
                uid,
                gid,
                nlink,
                rdev,
                size,
                atime_sec,
                atime_nsec,
                mtime_sec,
                mtime_nsec,
                ctime_sec,
                ctime_nsec,
                ..
            } => {
                let time = |sec: u64, nsec: u64| Time { sec: sec as i64, nsec: nsec as u32 };
                Attr {
                    qid,
                    mode,
                    nlink,
                    uid: uid.to_string(),
                    gid: gid.to_string(),
                    size,
                    rdev: device_numbers(rdev),
                    atime: time(atime_sec, atime_nsec),
                    mtime: time(mtime_sec, mtime_nsec),
                    ctime: time(ctime_sec, ctime_nsec),
                    target: Vec::new(),
                }
            }
            Message::Rstat { stat } => Attr::of_record(&stat),
            _ => Attr::default(),
        }
    }

    fn of_record(stat: &Stat<'_>) -> Attr {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mode, rdev) = posix_mode(stat);
        let time = |sec: u32| Time { sec: sec.into(), nsec: 0 };
        Attr {
            qid: stat.qid,
            mode,
            nlink: 1,
            uid: text(stat.uid),
            gid: text(stat.gid),
            size: stat.length,
            rdev,
            atime: time(stat.atime),
            mtime: time(stat.mtime),
            ctime: Time::default(),
            target: if mode & mode::IFMT == mode::IFLNK { stat.extension.0.to_vec() } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::UOnly;

    #[test]
    fn modes_go_there_and_back() {
        for kind in [mode::IFREG, mode::IFDIR, mode::IFLNK, mode::IFIFO, mode::IFSOCK, mode::IFCHR] {
            for bits in [0, 0o777, 0o4755, 0o2644, 0o1777, 0o7000] {
                let stat = Stat { mode: dm_bits(kind | bits, Dialect::U), ..Stat::dont_touch() };
                assert_eq!(Attr::of(&Message::Rstat { stat }).mode, kind | bits, "{kind:o} {bits:o}");
            }
        }
        assert_eq!(dm_bits(mode::IFBLK, Dialect::U), dm_bits(mode::IFCHR, Dialect::U));
        assert_eq!(dm_bits(mode::IFDIR | 0o1777, Dialect::P9), 0x8000_0000 | 0o777);
    }

    #[test]
    fn devices_are_read_from_their_extension() {
        let of = |extension| {
            let stat = Stat { mode: 0x0080_0000 | 0o600, extension: UOnly(extension), ..Stat::dont_touch() };
            let attr = Attr::of(&Message::Rstat { stat });
            (attr.kind(), attr.rdev)
        };
        assert_eq!(of(b"b 7 300"), (mode::IFBLK, (7, 300)));
        assert_eq!(of(b"c 1 3"), (mode::IFCHR, (1, 3)));
        assert_eq!(of(b"c x"), (mode::IFCHR, (0, 0)));
    }
}
