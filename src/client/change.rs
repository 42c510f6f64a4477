//! Requests that change a tree: attributes, names, links and special files, as far as the agreed
//! dialect can express them.

use super::attr::{Attr, dm_bits, kept_bits};
use super::files::Client;
use super::refusal::Error as CallError;
use super::transport::Error;
use crate::fs::{Change, Error as Errno, SetTime, Time, mode};
use crate::wire::{Dialect, Fid, Message, Qid, REMOVEDIR, Stat, UOnly, dm, setattr};
use std::time::{SystemTime, UNIX_EPOCH};

impl Client {
    /// Changes what `change` has, but for the name: owners where the dialect has numbers for them, times in whole seconds in the older ones. `of` is what the file
    /// is now, where permissions are to change. .L asks for the server's time; the others cannot, and get this machine's.
    pub fn set_message(&self, fid: Fid, change: &Change<'_>, of: &Attr) -> Message<'static> {
        if self.dialect() == Dialect::L {
            return setattr_message(fid, change);
        }
        Message::Twstat { fid, stat: record_of(change, (of.kind(), of.qid), self.dialect()) }
    }

    /// Changes what `change` has.
    pub fn set(&mut self, fid: Fid, change: &Change<'_>, of: &Attr) -> Result<(), Error> {
        let message = self.set_message(fid, change, of);
        self.transport.call(message, |_| ())
    }

    /// Changes owner and group. Plain 9P2000 knows names alone, and lets nobody change the owner (stat(9P)).
    pub fn set_owner(&mut self, fid: Fid, uid: Option<u32>, group: Option<(u32, &[u8])>) -> Result<(), Error> {
        if self.dialect() != Dialect::P9 {
            let change = Change { uid, gid: group.map(|(gid, _)| gid), ..Change::default() };
            return self.set(fid, &change, &Attr::default());
        }
        if uid.is_some() {
            return Err(beyond("9P2000 cannot change the owner of a file; 9P2000.L and 9P2000.u can"));
        }
        let gid = group.map_or(&b""[..], |(_, name)| name);
        self.transport.call(Message::Twstat { fid, stat: Stat { gid, ..Stat::dont_touch() } }, |_| ())
    }

    /// Makes a directory; no fid.
    pub fn mkdir(&mut self, dir: Fid, name: &[u8], permissions: u32) -> Result<(), Error> {
        if self.dialect() == Dialect::L {
            let message = Message::Tmkdir { dfid: dir, name, mode: permissions, gid: self.group };
            return self.transport.call(message, |_| ());
        }
        let perm = dm_bits(mode::IFDIR | permissions & 0o777, self.dialect());
        self.make_classic(dir, name, perm, b"")
    }

    /// Makes a symbolic link, a device, a pipe or a socket. Plain 9P2000 has none of them.
    pub fn make_special(&mut self, dir: Fid, name: &[u8], attr: &Attr) -> Result<(), Error> {
        let (major, minor) = attr.rdev;
        match self.dialect() {
            Dialect::P9 => Err(beyond("9P2000 has no links and no special files")),
            Dialect::L if attr.kind() == mode::IFLNK => {
                let message = Message::Tsymlink { fid: dir, name, target: &attr.target, gid: self.group };
                self.transport.call(message, |_| ())
            }
            Dialect::L => {
                let message = Message::Tmknod { dfid: dir, name, mode: attr.mode, major, minor, gid: self.group };
                self.transport.call(message, |_| ())
            }
            Dialect::U => {
                let letter = if attr.kind() == mode::IFBLK { 'b' } else { 'c' };
                let device = format!("{letter} {major} {minor}");
                let (bit, extension) = match attr.kind() {
                    mode::IFLNK => (dm::SYMLINK, attr.target.as_slice()),
                    mode::IFIFO => (dm::NAMED_PIPE, &b""[..]),
                    mode::IFSOCK => (dm::SOCKET, &b""[..]),
                    _ => (dm::DEVICE, device.as_bytes()),
                };
                self.make_classic(dir, name, bit | attr.mode & 0o777, extension)
            }
        }
    }

    /// Gives `file` a further name. Plain 9P2000 cannot.
    pub fn link(&mut self, file: Fid, dir: Fid, name: &[u8]) -> Result<(), Error> {
        match self.dialect() {
            Dialect::P9 => Err(beyond("9P2000 has no links and no special files")),
            Dialect::L => self.transport.call(Message::Tlink { dfid: dir, fid: file, name }, |_| ()),
            // The newline is v9fs' (Linux: `fs/9p/vfs_inode.c`).
            Dialect::U => self.make_classic(dir, name, dm::LINK, format!("{file}\n").as_bytes()),
        }
    }

    /// Makes something by a Tcreate on a fid of its own, which is given back at once.
    fn make_classic(&mut self, dir: Fid, name: &[u8], perm: u32, extension: &[u8]) -> Result<(), Error> {
        let fid = self.walk(dir, b"")?;
        let message = Message::Tcreate { fid, name, perm, mode: 0, extension: UOnly(extension) };
        let made = self.transport.call(message, |_| ());
        self.clunk_after(fid, made)
    }

    /// Whether names are removed and changed by Tunlinkat and Trenameat. Not every server of 9P2000.L has both, which is known once it has been asked for either.
    pub fn has_at(&self) -> bool {
        self.has_at
    }

    /// Removes a name. `is_dir` must be right.
    pub fn remove(&mut self, dir: Fid, name: &[u8], is_dir: bool) -> Result<(), Error> {
        if self.has_at {
            let message = Message::Tunlinkat { dfid: dir, name, flags: if is_dir { REMOVEDIR } else { 0 } };
            match self.transport.call(message, |_| ()) {
                Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => self.has_at = false,
                done => return done,
            }
        }
        let fid = self.walk(dir, name)?;
        self.remove_fid(fid)
    }

    /// Removes the file of a fid. The fid is gone whatever becomes of it (remove(9P)).
    pub fn remove_fid(&mut self, fid: Fid) -> Result<(), Error> {
        let removed = self.transport.call(Message::Tremove { fid }, |_| ());
        self.free_fid(fid);
        removed
    }

    /// Gives a file another name. The older dialects can do that within a directory only.
    pub fn rename(&mut self, from: Fid, name: &[u8], to: Fid, new_name: &[u8]) -> Result<(), Error> {
        if self.has_at {
            let message = Message::Trenameat { olddirfid: from, oldname: name, newdirfid: to, newname: new_name };
            match self.transport.call(message, |_| ()) {
                Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => self.has_at = false,
                done => return done,
            }
        }
        let is_linux = self.dialect() == Dialect::L;
        if !is_linux && from != to && self.stat(from)?.qid.path != self.stat(to)?.qid.path {
            return Err(Error::Call(CallError::Refused(Errno::EXDEV, None)));
        }
        let fid = self.walk(from, name)?;
        let message = if is_linux {
            Message::Trename { fid, dfid: to, name: new_name }
        } else {
            Message::Twstat { fid, stat: Stat { name: new_name, ..Stat::dont_touch() } }
        };
        let renamed = self.transport.call(message, |_| ());
        self.clunk_after(fid, renamed)
    }
}

/// A refusal of the client itself: the dialect has no words for it.
fn beyond(what: &str) -> Error {
    Error::Call(CallError::Refused(Errno::EOPNOTSUPP, Some(what.into())))
}

/// The stat record that changes what `change` has, but for the name, of a file of this type. Times are in whole seconds.
pub(crate) fn record_of(change: &Change<'_>, (kind, qid): (u32, Qid), dialect: Dialect) -> Stat<'static> {
    let is_u = dialect == Dialect::U;
    Stat {
        mode: change.mode.map_or(!0, |bits| dm_bits(kind | bits, dialect) | kept_bits(qid)),
        // In 9P2000 no request changes atime (stat(9P)). In .u one does, as utimes(2).
        atime: change.atime.filter(|_| is_u).map_or(!0, seconds),
        mtime: change.mtime.map_or(!0, seconds),
        length: change.size.unwrap_or(!0),
        n_uid: UOnly(change.uid.unwrap_or(!0)),
        n_gid: UOnly(change.gid.unwrap_or(!0)),
        ..Stat::dont_touch()
    }
}

/// The Tsetattr that changes what `change` has, but for the name.
pub(crate) fn setattr_message(fid: Fid, change: &Change<'_>) -> Message<'static> {
    let bit = |there, bit| if there { bit } else { 0 };
    // The second bit says that the time is given (Linux: P9_ATTR_).
    let time = |set: Option<SetTime>, now, given| match set {
        None => (0, Time::default()),
        Some(SetTime::Now) => (now, Time::default()),
        Some(SetTime::To(time)) => (now | given, time),
    };
    let (atime_bits, atime) = time(change.atime, setattr::ATIME, setattr::ATIME_SET);
    let (mtime_bits, mtime) = time(change.mtime, setattr::MTIME, setattr::MTIME_SET);
    Message::Tsetattr {
        fid,
        valid: bit(change.mode.is_some(), setattr::MODE)
            | bit(change.uid.is_some(), setattr::UID)
            | bit(change.gid.is_some(), setattr::GID)
            | bit(change.size.is_some(), setattr::SIZE)
            | bit(change.touch_ctime, setattr::CTIME)
            | atime_bits
            | mtime_bits,
        mode: change.mode.unwrap_or(0),
        uid: change.uid.unwrap_or(!0),
        gid: change.gid.unwrap_or(!0),
        size: change.size.unwrap_or(0),
        atime_sec: atime.sec as u64,
        atime_nsec: atime.nsec.into(),
        mtime_sec: mtime.sec as u64,
        mtime_nsec: mtime.nsec.into(),
    }
}

/// A time as the older dialects have it: the nearest that fits, and is not "don't touch".
fn seconds(set: SetTime) -> u32 {
    let sec = match set {
        SetTime::Now => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64),
        SetTime::To(time) => time.sec,
    };
    sec.clamp(0, i64::from(u32::MAX) - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_asked_for_or_given() {
        let valid = |change| match setattr_message(1, &change) {
            Message::Tsetattr { valid, mtime_sec, mtime_nsec, .. } => (valid, mtime_sec, mtime_nsec),
            other => panic!("{other:?}"),
        };
        let given = Some(SetTime::To(Time { sec: -5, nsec: 7 }));
        assert_eq!(valid(Change::default()), (0, 0, 0));
        assert_eq!(valid(Change { mtime: Some(SetTime::Now), atime: given, ..Change::default() }), (0xb0, 0, 0));
        assert_eq!(valid(Change { mtime: given, ..Change::default() }), (0x120, -5i64 as u64, 7));
        assert_eq!(valid(Change { uid: Some(1), gid: Some(2), ..Change::default() }), (6, 0, 0));
    }

    #[test]
    fn seconds_stay_in_their_field() {
        let of = |sec| seconds(SetTime::To(Time { sec, nsec: 999_999_999 }));
        assert_eq!((of(-1), of(5), of(1 << 40)), (0, 5, u32::MAX - 1));
        assert!(seconds(SetTime::Now) > 1_700_000_000);
    }
}
