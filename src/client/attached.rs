//! What 9P2000.L has beside a file: extended attributes and locks.

use super::files::Client;
use super::refusal::Error as CallError;
use super::transport::Error;
use crate::fs::{Error as Errno, LockKind, XATTR_BYTES_MAX, XATTR_LIST_BYTES_MAX};
use crate::wire::{Data, Dialect, Fid, Message, lock_status, lock_type, xattr};
use std::ops::Range;

impl Client {
    fn needs_linux(&self, what: &str) -> Result<(), Error> {
        if self.dialect() == Dialect::L {
            return Ok(());
        }
        let text = format!("{} has no {what}; --dialect 9P2000.L does", self.dialect().name());
        Err(Error::Call(CallError::Refused(Errno::EOPNOTSUPP, Some(text.into()))))
    }

    /// The value of an extended attribute.
    pub fn xattr(&mut self, fid: Fid, name: &[u8]) -> Result<Vec<u8>, Error> {
        self.read_xattr(fid, name, XATTR_BYTES_MAX)
    }

    /// The names of all.
    pub fn xattrs(&mut self, fid: Fid) -> Result<Vec<Vec<u8>>, Error> {
        let list = self.read_xattr(fid, b"", XATTR_LIST_BYTES_MAX)?;
        Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn read_xattr(&mut self, fid: Fid, name: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
        self.needs_linux("extended attributes")?;
        let newfid = self.new_fid();
        let walked = self.transport.call(Message::Txattrwalk { fid, newfid, name }, |reply| match reply {
            Message::Rxattrwalk { size } => size,
            _ => 0,
        });
        let Ok(size) = walked else {
            self.free_fid(newfid);
            return walked.map(|_| Vec::new());
        };
        let read = match usize::try_from(size).ok().filter(|&size| size <= bytes_max) {
            Some(size) => self.read_whole(newfid, size),
            None => Err(CallError::Protocol(format!("an attribute of {size} bytes")).into()),
        };
        self.clunk_after(newfid, read)
    }

    fn read_whole(&mut self, fid: Fid, size: usize) -> Result<Vec<u8>, Error> {
        let mut value = Vec::new();
        while value.len() < size {
            let count = self.chunk().min((size - value.len()) as u32);
            let message = Message::Tread { fid, offset: value.len() as u64, count };
            let part = self.transport.call(message, |reply| match reply {
                Message::Rread { data: Data::Here(bytes) } => bytes.to_vec(),
                _ => Vec::new(),
            })?;
            if part.is_empty() {
                return Err(CallError::Protocol("an attribute that is shorter than it was".into()).into());
            }
            value.extend(part);
        }
        Ok(value)
    }

    /// Sets an extended attribute, or removes it.
    pub fn set_xattr(&mut self, file: Fid, name: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        self.needs_linux("extended attributes")?;
        let fid = self.walk(file, b"")?;
        let (bytes, flags) = value.map_or((&b""[..], xattr::REPLACE), |value| (value, 0));
        let announced = Message::Txattrcreate { fid, name, attr_size: bytes.len() as u64, flags };
        let mut written = self.transport.call(announced, |_| ());
        let mut offset = 0;
        // In order: one part after the other.
        for part in bytes.chunks(self.chunk() as usize) {
            written = written.and_then(|()| self.write(fid, offset, part));
            offset += part.len() as u64;
        }
        // It is set by the clunk, which may fail.
        self.clunk_after(fid, written)
    }

    /// Locks bytes of an open file for a process, or gives them back. False: somebody else has some of them.
    pub fn lock(
        &mut self,
        fid: Fid,
        kind: LockKind,
        range: &Range<u64>,
        (process, client): (u32, &[u8]),
    ) -> Result<bool, Error> {
        self.needs_linux("locks")?;
        let type_ = match kind {
            LockKind::Shared => lock_type::SHARED,
            LockKind::Exclusive => lock_type::EXCLUSIVE,
            LockKind::None => lock_type::NONE,
        };
        let length = if range.end == u64::MAX { 0 } else { range.end - range.start };
        let message =
            Message::Tlock { fid, type_, flags: 0, start: range.start, length, proc_id: process, client_id: client };
        let status = self.transport.call(message, |reply| match reply {
            Message::Rlock { status } => status,
            _ => u8::MAX,
        })?;
        match status {
            lock_status::SUCCESS => Ok(true),
            lock_status::BLOCKED => Ok(false),
            _ => Err(Error::Call(CallError::Refused(Errno::ENOLCK, None))),
        }
    }
}
