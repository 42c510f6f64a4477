//! Tlock and Tgetlock: record locks, as the Linux client asks for them.

use super::fids::State;
use super::what::{What, kind};
use super::{Request, Session};
use crate::fs::{At, Call, Error, FileId, Lock, LockKind, Result, Service};
use crate::wire::{Fid, Message, lock_type};
use std::ops::Range;

/// Where a largest file ends.
const END_MAX: u64 = 1 << 63;

/// Length 0 is all that will ever be behind the start.
fn range(start: u64, length: u64) -> Result<Range<u64>> {
    if start >= END_MAX {
        return Err(Error::EINVAL);
    }
    let end = match length {
        0 => Some(u64::MAX),
        length => start.checked_add(length).filter(|&end| end <= END_MAX),
    };
    Ok(start..end.ok_or(Error::EINVAL)?)
}

/// What for.
fn kind(type_: u8) -> Result<LockKind> {
    match type_ {
        lock_type::SHARED => Ok(LockKind::Shared),
        lock_type::EXCLUSIVE => Ok(LockKind::Exclusive),
        lock_type::NONE => Ok(LockKind::None),
        _ => Err(Error::EINVAL),
    }
}

impl<S: Service> Session<S> {
    /// The open file of a fid. Whether it was opened to read or to write is not looked at: flock(2), which asks for neither, comes as the same message.
    fn open_file(&mut self, fid: Fid) -> Result<FileId> {
        let held = self.fids.get(fid)?;
        match held.state {
            State::Open { .. } | State::OpenDir { .. } => Ok(held.file),
            _ => Err(Error::EBADF),
        }
    }

    /// Never waits, whatever the flags say: the client asks again (Linux: `fs/9p/vfs_file.c`, v9fs_file_do_lock).
    pub(super) fn lock(&mut self, fs: &mut S, request: Request, message: &Message<'_>, at: At) -> Result<()> {
        let Message::Tlock { fid, type_, start, length, proc_id: process, client_id: client, .. } = *message else {
            return Err(Error::EINVAL);
        };
        let lock = Lock { kind: kind(type_)?, range: range(start, length)?, process, client };
        let file = self.open_file(fid)?;
        self.ask::<{ kind::LOCK }>(fs, request, What::Lock, Call::Lock { file, lock }, at);
        Ok(())
    }

    /// The lock that is in the way. Linux asks with the type "none" for locks of either kind, after it has compared those of its own mount (`fs/9p/vfs_file.c`,
    /// v9fs_file_getlock: posix_test_lock). So the kind is unknown, and a shared lock of this connection is not in the way.
    pub(super) fn getlock(
        &mut self,
        fs: &mut S,
        request: Request,
        (message, frame): (&Message<'_>, &[u8]),
        at: At,
    ) -> Result<()> {
        let Message::Tgetlock { fid, type_, start, length, proc_id: process, client_id: client } = *message else {
            return Err(Error::EINVAL);
        };
        let lock = Lock { kind: kind(type_)?, range: range(start, length)?, process, client };
        let file = self.open_file(fid)?;
        let call = Call::Conflict { file, lock };
        self.ask_about::<{ kind::CONFLICT }>(fs, request, What::Conflict, call, Some((message, frame)), at);
        Ok(())
    }
}
