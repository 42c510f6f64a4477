//! Fields off the front of some bytes. All numbers are little-endian.
//!
//! Must not know: what the fields mean.

use super::Wrong;
use crate::fs::Time;

/// Bytes that are not read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut<'a>(pub(super) &'a [u8]);

impl<'a> Cut<'a> {
    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(Wrong::Short)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (front, rest) = self.0.split_first_chunk().ok_or(Wrong::Short)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn id(&mut self) -> Result<super::StoreId, Wrong> {
        self.array()
    }

    pub(super) fn time(&mut self) -> Result<Time, Wrong> {
        let (sec, nsec) = (self.array().map(i64::from_le_bytes)?, self.u32()?);
        if nsec < 1_000_000_000 { Ok(Time { sec, nsec }) } else { Err(Wrong::Field("nanoseconds")) }
    }

    /// The next `len` bytes, which are reserved: all 0.
    pub(super) fn zeros(&mut self, len: usize) -> Result<(), Wrong> {
        if self.bytes(len)?.iter().all(|&byte| byte == 0) { Ok(()) } else { Err(Wrong::Field("reserved bytes")) }
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
