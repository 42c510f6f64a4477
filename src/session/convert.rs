//! Attributes of a file between a tree and a dialect: a [`Stat`] to stat records and Rgetattr, and
//! Twstat and Tsetattr to a [`Change`].

use super::users::Users;
use crate::fs::{Change, Error, Result, SetTime, Stat, Time, mode};
use crate::wire::{self, Dialect, Message, STATS_ALL, UOnly, dm, qt, setattr};
use std::io::Write;

/// The set-id and sticky bits of a mode in their .u places.
const SPECIAL: [(u32, u32); 3] = [(mode::ISUID, dm::SETUID), (mode::ISGID, dm::SETGID), (mode::ISVTX, dm::SETVTX)];

/// The qid.kind bits that a client may set, and their place in a mode.
pub(super) fn bits_of(dm_mode: u32) -> u8 {
    (dm_mode >> 24) as u8 & (qt::APPEND | qt::EXCL | qt::TMP)
}

/// Permissions with the special bits that the dialect has.
pub(super) fn permissions_of(dm_mode: u32, dialect: Dialect) -> u32 {
    let special = SPECIAL.iter().filter(|(_, dm)| dialect == Dialect::U && dm_mode & dm != 0).map(|(bit, _)| bit);
    dm_mode & 0o777 | special.sum::<u32>()
}

fn dm_mode(stat: &Stat<'_>, dialect: Dialect) -> u32 {
    let mut dm = stat.mode & 0o777 | u32::from(bits_of(u32::from(stat.qid.kind) << 24)) << 24;
    if stat.mode & mode::IFMT == mode::IFDIR {
        dm |= dm::DIR;
    }
    if dialect == Dialect::U {
        dm |= match stat.mode & mode::IFMT {
            mode::IFLNK => dm::SYMLINK,
            mode::IFCHR | mode::IFBLK => dm::DEVICE,
            mode::IFIFO => dm::NAMED_PIPE,
            mode::IFSOCK => dm::SOCKET,
            _ => 0,
        };
        dm |= SPECIAL.iter().filter(|(bit, _)| stat.mode & bit != 0).map(|(_, dm)| dm).sum::<u32>();
    }
    dm
}

/// Shows the stat record of a file; it borrows from the stack, so it is shown, not returned.
pub(super) fn with_record<T>(
    stat: &Stat<'_>,
    dialect: Dialect,
    users: &Users,
    show: impl FnOnce(wire::Stat<'_>) -> T,
) -> T {
    let (uid, gid, muid) = (users.user_name(stat.uid), users.group_name(stat.gid), users.user_name(stat.muid));
    let mut device = [0; 32];
    let extension = match stat.mode & mode::IFMT {
        mode::IFLNK => stat.target,
        kind @ (mode::IFCHR | mode::IFBLK) => {
            let letter = if kind == mode::IFCHR { 'c' } else { 'b' };
            let mut rest = &mut device[..];
            write!(rest, "{letter} {} {}", stat.rdev.0, stat.rdev.1).expect("two numbers fit 32 bytes");
            let left = rest.len();
            &device[..device.len() - left]
        }
        _ => b"",
    };
    let is_dir = stat.mode & mode::IFMT == mode::IFDIR;
    show(wire::Stat {
        type_: 0,
        dev: 0,
        qid: stat.qid,
        mode: dm_mode(stat, dialect),
        atime: seconds(stat.atime),
        mtime: seconds(stat.mtime),
        length: if is_dir { 0 } else { stat.size },
        name: stat.name,
        uid: uid.as_bytes(),
        gid: gid.as_bytes(),
        muid: muid.as_bytes(),
        extension: UOnly(extension),
        n_uid: UOnly(stat.uid),
        n_gid: UOnly(stat.gid),
        n_muid: UOnly(stat.muid),
    })
}

/// Times of 9P2000 are 32 bits; later and earlier ones are shown as the nearest that fits.
fn seconds(time: Time) -> u32 {
    time.sec.clamp(0, i64::from(u32::MAX)) as u32
}

/// What a Twstat asks for; `None` if every field says "don't touch", which means fsync (stat(9P)).
pub(super) fn change_of<'a>(
    record: &wire::Stat<'a>,
    now: &Stat<'_>,
    dialect: Dialect,
    users: &Users,
) -> Result<Option<Change<'a>>> {
    let mut change = Change::default();
    let fixed = |asked: u64, dont: u64, is: u64| if asked == dont || asked == is { Ok(()) } else { Err(Error::EPERM) };
    fixed(record.type_.into(), u16::MAX.into(), 0)?;
    fixed(record.dev.into(), u32::MAX.into(), 0)?;
    fixed(record.qid.kind.into(), u8::MAX.into(), now.qid.kind.into())?;
    fixed(record.qid.version.into(), u32::MAX.into(), now.qid.version.into())?;
    fixed(record.qid.path, u64::MAX, now.qid.path)?;
    let is_dir = now.mode & mode::IFMT == mode::IFDIR;
    if record.mode != !0 {
        if (record.mode & dm::DIR != 0) != is_dir {
            return Err(Error::EPERM);
        }
        // 9P2000 has no set-id bits, so it leaves them.
        let kept = if dialect == Dialect::U { 0 } else { now.mode & 0o7000 };
        let asked = permissions_of(record.mode, dialect) | kept;
        change.mode = Some(asked).filter(|&asked| asked != now.mode & mode::PERM);
        change.bits = Some(bits_of(record.mode)).filter(|&bits| bits != bits_of(u32::from(now.qid.kind) << 24));
    }
    if record.length != !0 && !(is_dir && record.length == 0) {
        change.size = Some(record.length).filter(|&size| size != now.size);
    }
    let time = |sec: u32, is: Time| {
        let to = SetTime::To(Time { sec: sec.into(), nsec: 0 });
        (sec != !0 && sec != seconds(is)).then_some(to)
    };
    change.atime = time(record.atime, now.atime);
    change.mtime = time(record.mtime, now.mtime);
    change.name = Some(record.name).filter(|name| !name.is_empty() && *name != now.name);
    // stat(9P) says that a name which is there is an error. For .u Linux sends rename(2) as a Twstat (`fs/9p/vfs_inode.c`, v9fs_vfs_rename).
    change.replace = change.name.is_some() && dialect == Dialect::U;
    if !record.muid.is_empty() && record.muid != users.user_name(now.muid).as_bytes() {
        return Err(Error::EPERM);
    }
    fixed(record.n_muid.0.into(), u32::MAX.into(), now.muid.into())?;
    change.uid = owner(record.uid, record.n_uid.0, dialect, now.uid, users.user_name(now.uid).as_bytes(), |name| {
        users.uid(name)
    })?;
    change.gid = owner(record.gid, record.n_gid.0, dialect, now.gid, users.group_name(now.gid).as_bytes(), |name| {
        users.gid(name)
    })?;
    // "uid never" (stat(9P)); .u has chown.
    if dialect == Dialect::P9 && change.uid.is_some() {
        return Err(Error::EPERM);
    }
    let untouched = record.mode == !0
        && record.length == !0
        && record.atime == !0
        && record.mtime == !0
        && record.name.is_empty()
        && record.uid.is_empty()
        && record.gid.is_empty()
        && record.n_uid.0 == !0
        && record.n_gid.0 == !0;
    Ok(if untouched { None } else { Some(change) })
}

/// A new owner by number (.u) or by name.
fn owner(
    name: &[u8],
    number: u32,
    dialect: Dialect,
    is: u32,
    is_name: &[u8],
    find: impl Fn(&[u8]) -> Option<u32>,
) -> Result<Option<u32>> {
    let asked = match (dialect, number, name) {
        (Dialect::U, number, _) if number != !0 => number,
        (_, _, b"") => return Ok(None),
        (_, _, name) if name == is_name => return Ok(None),
        (_, _, name) => find(name).ok_or(Error::EINVAL)?,
    };
    Ok(Some(asked).filter(|&asked| asked != is))
}

/// The reply to Tgetattr.
pub(super) fn getattr(stat: &Stat<'_>, request_mask: u64) -> Message<'static> {
    let (major, minor) = stat.rdev;
    Message::Rgetattr {
        valid: request_mask & STATS_ALL,
        qid: stat.qid,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        nlink: stat.nlink,
        // Linux: new_encode_dev.
        rdev: u64::from(minor & 0xff) | u64::from(major) << 8 | u64::from(minor & !0xff) << 12,
        size: stat.size,
        blksize: stat.blksize,
        blocks: stat.blocks,
        atime_sec: stat.atime.sec as u64,
        atime_nsec: stat.atime.nsec.into(),
        mtime_sec: stat.mtime.sec as u64,
        mtime_nsec: stat.mtime.nsec.into(),
        ctime_sec: stat.ctime.sec as u64,
        ctime_nsec: stat.ctime.nsec.into(),
        btime_sec: stat.btime.sec as u64,
        btime_nsec: stat.btime.nsec.into(),
        // Part of an inode's identity for Linux, so it must not change: qid.path is never used again anyway.
        generation: 0,
        data_version: stat.qid.version.into(),
    }
}

/// What a Tsetattr asks for. Bits that nobody knows are passed over.
pub(super) fn change_of_setattr(message: &Message<'_>) -> Result<Change<'static>> {
    let Message::Tsetattr {
        valid,
        mode: permissions,
        uid,
        gid,
        size,
        atime_sec,
        atime_nsec,
        mtime_sec,
        mtime_nsec,
        ..
    } = *message
    else {
        return Err(Error::EINVAL);
    };
    let has = |bit| valid & bit != 0;
    let time = |asked, given, sec: u64, nsec: u64| match (has(asked), has(given)) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(SetTime::Now)),
        (true, true) if nsec < 1_000_000_000 => Ok(Some(SetTime::To(Time { sec: sec as i64, nsec: nsec as u32 }))),
        (true, true) => Err(Error::EINVAL),
    };
    Ok(Change {
        mode: has(setattr::MODE).then_some(permissions & mode::PERM),
        uid: (has(setattr::UID) && uid != !0).then_some(uid),
        gid: (has(setattr::GID) && gid != !0).then_some(gid),
        size: has(setattr::SIZE).then_some(size),
        atime: time(setattr::ATIME, setattr::ATIME_SET, atime_sec, atime_nsec)?,
        mtime: time(setattr::MTIME, setattr::MTIME_SET, mtime_sec, mtime_nsec)?,
        touch_ctime: has(setattr::CTIME),
        ..Change::default()
    })
}
