//! Tlock and Tgetlock: record locks, as the Linux client asks for them.

use super::fids::{Held, State};
use super::{Request, Session};
use crate::fs::{Error, Filesystem, Lock, LockKind, Result};
use crate::wire::{Fid, Message, lock_status, lock_type};
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

impl<F: Filesystem> Session<F> {
    /// The open file of a fid. Whether it was opened to read or to write is not looked at: flock(2), which asks for neither, comes as the same message.
    fn open_file(&mut self, fid: Fid) -> Result<&mut F::File> {
        let Held { file, state } = self.fids.get(fid)?;
        match state {
            State::Open { .. } | State::OpenDir { .. } => Ok(file),
            _ => Err(Error::EBADF),
        }
    }

    /// Never waits, whatever the flags say: the client asks again (Linux: `fs/9p/vfs_file.c`, v9fs_file_do_lock).
    pub(super) fn lock(&mut self, fs: &mut F, request: Request, message: &Message<'_>) -> Result<()> {
        let Message::Tlock { fid, type_, start, length, proc_id: process, client_id: client, .. } = *message else {
            return Err(Error::EINVAL);
        };
        let kind = match type_ {
            lock_type::SHARED => LockKind::Shared,
            lock_type::EXCLUSIVE => LockKind::Exclusive,
            lock_type::NONE => LockKind::None,
            _ => return Err(Error::EINVAL),
        };
        let lock = Lock { kind, range: range(start, length)?, process, client };
        let status = if fs.lock(self.open_file(fid)?, &lock)? { lock_status::SUCCESS } else { lock_status::BLOCKED };
        self.reply(fs.gate(), request, &Message::Rlock { status });
        Ok(())
    }

    /// The lock that is in the way. Linux asks with the type "none" for locks of either kind, after it has compared those of its own mount (`fs/9p/vfs_file.c`,
    /// v9fs_file_getlock: posix_test_lock). So the kind is unknown, and a shared lock of this connection is not in the way.
    pub(super) fn getlock(&mut self, fs: &mut F, request: Request, message: &Message<'_>) -> Result<()> {
        let Message::Tgetlock { fid, type_, start, length, proc_id: process, client_id: client } = *message else {
            return Err(Error::EINVAL);
        };
        let kind = match type_ {
            lock_type::SHARED => LockKind::Shared,
            lock_type::EXCLUSIVE => LockKind::Exclusive,
            lock_type::NONE => LockKind::None,
            _ => return Err(Error::EINVAL),
        };
        let lock = Lock { kind, range: range(start, length)?, process, client };
        let free = Message::Rgetlock { type_: lock_type::NONE, start, length, proc_id: process, client_id: client };
        let file = self.open_file(fid)?;
        let found = fs.conflict(file, &lock)?.map(|lock| Message::Rgetlock {
            type_: if lock.kind == LockKind::Shared { lock_type::SHARED } else { lock_type::EXCLUSIVE },
            start: lock.range.start,
            length: if lock.range.end == u64::MAX { 0 } else { lock.range.end - lock.range.start },
            proc_id: lock.process,
            client_id: lock.client,
        });
        self.reply_text(fs.gate(), request, &found.unwrap_or(free))
    }
}
