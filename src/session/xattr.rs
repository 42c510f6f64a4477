//! The value of an extended attribute behind a fid of 9P2000.L. The fid is read like a file, or
//! written to; Tclunk then sets the attribute.
//!
//! A value to be read is a copy from the time of Txattrwalk. A value to be set is collected here,
//! and Tclunk sets all of it or nothing. The bytes are on the heap, in no file: `fids.rs` bounds the
//! number of such fids for each peer, and [`Budget`] their bytes for all peers together.
//!
//! Must not know: fids, sessions.

use super::budget::Budget;
use crate::fs::{Error, Gate, Result, SetXattr};
use std::sync::Arc;

/// What a clunk sets: the name, the value, `None` for one that is removed, and whether it may or must be there already.
type Setting<'a> = (&'a [u8], Option<&'a [u8]>, SetXattr);

/// The bytes of an attribute on their way.
#[derive(Debug)]
pub(super) struct Attr {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
    /// Bytes of memory that are counted there: what was taken, however little of it is used.
    charged: usize,
    /// Replies that show it leave once this gate is open, as that of the Txattrwalk does.
    pub(super) gate: Gate,
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
        Attr { bytes: Vec::new(), budget: Arc::clone(budget), charged: 0, gate: Gate::OPEN, becomes }
    }

    /// One that is there to be read; empty until its value is added.
    pub(super) fn to_read(budget: &Arc<Budget>) -> Attr {
        Attr::new(budget, None)
    }

    /// One to which `size` bytes must be written before it is set under this name.
    pub(super) fn to_set(budget: &Arc<Budget>, name: &[u8], size: usize, how: SetXattr) -> Attr {
        Attr::new(budget, Some(Becomes { name: name.into(), size, how }))
    }

    /// Bytes that it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends, if there is memory for it. The value doubles its memory when it grows, but never beyond what was announced.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.charged {
            let announced = self.becomes.as_ref().map_or(needed, |becomes| becomes.size);
            let memory = (2 * self.charged).min(announced).max(needed);
            self.budget.take_attr_bytes(memory - self.charged)?;
            self.charged = memory;
            self.bytes.reserve_exact(memory - self.bytes.len());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Part of a value that is there to be read: at most `room` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, room: usize) -> Result<&[u8]> {
        if self.takes() {
            return Err(Error::EBADF);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(&self.bytes[start..self.bytes.len().min(start + room)])
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

    /// The fid is clunked: what is set then, `None` for the value of what is removed. EINVAL if what was written is not
    /// what was announced. Nothing for an attribute that was there to be read.
    pub(super) fn becomes(&self) -> Result<Option<Setting<'_>>> {
        let Some(Becomes { name, size, how }) = &self.becomes else { return Ok(None) };
        if self.bytes.len() != *size {
            return Err(Error::EINVAL);
        }
        // removexattr(2) of Linux comes as nothing in place of what must be there (Linux: `fs/xattr.c`, __vfs_removexattr).
        let removes = *size == 0 && *how == SetXattr::Replace;
        Ok(Some((name, Some(&self.bytes[..]).filter(|_| !removes), *how)))
    }
}

impl Drop for Attr {
    fn drop(&mut self) {
        self.budget.give_attr_bytes(self.charged);
    }
}
