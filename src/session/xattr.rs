//! Extended attributes, as 9P2000.L has them: a fid of their own is read like a file, or written to and set when it is clunked.
//!
//! What is read is what was there when the fid was made. What is written is kept here until the clunk: then it is set as a whole, or not at all. Both take memory that
//! no file has: a peer may have a few such fids at a time, and all peers together so many bytes.

use super::budget::Budget;
use super::fids::{Held, State};
use super::{Request, Session};
use crate::fs::{At, Error, Filesystem, Result, SetXattr, XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX};
use crate::wire::{Fid, Message, READ_HEAD};
use bytes::BufMut;
use std::sync::Arc;

/// Flags of Txattrcreate (setxattr(2), XATTR_).
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// The bytes of an attribute on their way.
#[derive(Debug)]
pub(super) struct Attr {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
    /// What they become; `None` if they are there to be read.
    becomes: Option<Becomes>,
}

#[derive(Debug)]
struct Becomes {
    name: Box<[u8]>,
    /// How many bytes it must be.
    size: usize,
    how: SetXattr,
}

impl Attr {
    fn new(budget: &Arc<Budget>, becomes: Option<Becomes>) -> Attr {
        Attr { bytes: Vec::new(), budget: Arc::clone(budget), becomes }
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        self.budget.take_attr_bytes(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether bytes can be written to it.
    pub(super) fn takes(&self) -> bool {
        self.becomes.is_some()
    }

    /// Whether so many bytes may come next. They come in order, as nothing is kept for what was left out, and are no more than was announced.
    pub(super) fn check(&self, offset: u64, count: usize) -> Result<()> {
        let Some(Becomes { size, .. }) = &self.becomes else { return Err(Error::EBADF) };
        match size - self.bytes.len() {
            _ if offset != self.bytes.len() as u64 => Err(Error::EINVAL),
            left if count > left => Err(Error::ENOSPC),
            _ => Ok(()),
        }
    }

    /// The next bytes of the value.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<u32> {
        self.check(offset, bytes.len())?;
        self.extend(bytes)?;
        Ok(bytes.len() as u32)
    }

    /// The fid is clunked: what was written is set. If that is not what was announced, nothing is.
    pub(super) fn commit<F: Filesystem>(&self, fs: &mut F, file: &F::File, at: At) -> Result<()> {
        let Some(Becomes { name, size, how }) = &self.becomes else { return Ok(()) };
        if self.bytes.len() != *size {
            return Err(Error::EINVAL);
        }
        // removexattr(2) of Linux comes as nothing in place of what must be there (Linux: `fs/xattr.c`, __vfs_removexattr).
        let removes = *size == 0 && *how == SetXattr::Replace;
        fs.set_xattr(file, name, Some(&self.bytes[..]).filter(|_| !removes), *how, at)
    }
}

impl Drop for Attr {
    fn drop(&mut self) {
        self.budget.give_attr_bytes(self.bytes.len());
    }
}

impl<F: Filesystem> Session<F> {
    /// The value of an attribute, or the names of all, each with a NUL, under a new fid.
    pub(super) fn xattrwalk(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        newfid: Fid,
        name: &[u8],
        at: At,
    ) -> Result<()> {
        self.fids.check_new(newfid)?;
        let held = self.fids.get(fid)?;
        let mut attr = Attr::new(&self.config.budget, None);
        if name.is_empty() {
            let mut names = Vec::new();
            fs.xattrs(&held.file, &mut |name| {
                names.put(name);
                names.put_u8(0);
            })?;
            attr.extend(&names)?;
        } else {
            attr.extend(fs.xattr(&held.file, name)?)?;
        }
        let size = attr.bytes.len() as u64;
        let file = fs.duplicate(&held.file);
        if let Err((error, file)) = self.fids.put_attr(newfid, file, attr) {
            let _ = fs.close(file, at);
            return Err(error);
        }
        self.reply(fs.gate(), request, &Message::Rxattrwalk { size });
        Ok(())
    }

    /// The fid stands for an attribute from now on. One that already does starts anew.
    pub(super) fn xattrcreate(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<()> {
        let how = match flags {
            0 => SetXattr::Any,
            CREATE => SetXattr::Create,
            REPLACE => SetXattr::Replace,
            _ => return Err(Error::EINVAL),
        };
        let Held { file, state } = self.fids.any(fid)?;
        match state {
            State::Walked => {}
            State::Attr(attr) if attr.takes() => {}
            State::Attr(_) => return Err(Error::EBADF),
            _ => return Err(Error::EINVAL),
        }
        if name.is_empty() {
            return Err(Error::EINVAL);
        }
        if name.len() > XATTR_NAME_BYTES_MAX {
            return Err(Error::ERANGE);
        }
        let size = usize::try_from(size).ok().filter(|&size| size <= XATTR_BYTES_MAX).ok_or(Error::E2BIG)?;
        // What is sure to fail is said now; the clunk has the last word.
        match (how, fs.xattr(file, name)) {
            (SetXattr::Create, Ok(_)) => return Err(Error::EEXIST),
            (SetXattr::Replace, Err(Error::ENODATA)) => return Err(Error::ENODATA),
            _ => {}
        }
        let becomes = Some(Becomes { name: name.into(), size, how });
        self.fids.become_attr(fid, Attr::new(&self.config.budget, becomes))?;
        self.reply(fs.gate(), request, &Message::Rxattrcreate {});
        Ok(())
    }

    /// Part of an attribute that was asked for.
    pub(super) fn read_attr(&mut self, fs: &F, request: Request, fid: Fid, offset: u64, room: usize) -> Result<()> {
        let held = self.fids.any(fid)?;
        let State::Attr(attr) = &held.state else { return Err(Error::EBADF) };
        if attr.takes() {
            return Err(Error::EBADF);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(attr.bytes.len());
        let part = &attr.bytes[start..attr.bytes.len().min(start + room)];
        let iovec = self.out.batch(fs.gate()).iovec();
        let mark = iovec.mark();
        iovec.put_small(READ_HEAD, |small| small.put_bytes(0, READ_HEAD));
        iovec.put_small(part.len(), |small| small.put(part));
        self.end_data(fs.gate(), mark, request, |data| Message::Rread { data });
        Ok(())
    }
}
