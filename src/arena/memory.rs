//! The mapping itself. **Unsafe**: maps memory, and copies bytes by address.
//!
//! Ownership: the mapping is made once and never unmapped, so an address inside it stays valid. The
//! kernel may be writing to parts of it at any time. References are made only to two kinds of
//! bytes: those that do not change ([`bytes`](Memory::bytes): shown to operations, or owned by the
//! thread that has the arena), and those that belong to one holder. All other access is by pointer
//! copies.

use super::{BLOCK_BYTES_MAX, REGION_BYTES_MAX};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;

/// Huge pages want this alignment.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Where the arena lies: a value to pass around, valid for ever.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    region_bytes: usize,
}

// SAFETY: an address and two sizes. What may be done at the address is decided by the methods, which are private to the arena where they touch bytes.
unsafe impl Send for Memory {}
// SAFETY: as above; there is nothing to change.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` bytes without populating them.
    pub(super) fn reserve(len: usize, region_bytes: usize) -> std::io::Result<Memory> {
        let too_large = || std::io::Error::new(std::io::ErrorKind::OutOfMemory, "memory size out of range");
        let padded = len.checked_add(HUGE_PAGE_BYTES).and_then(NonZeroUsize::new).ok_or_else(too_large)?;
        // SAFETY: a new private mapping with no address asked for touches nothing that exists.
        let map = unsafe {
            mmap_anonymous(
                None,
                padded,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
            )
        }?;
        let skip = map.cast::<u8>().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the padding is as long as the largest skip, so the result lies in the mapping and is not null.
        let base = unsafe { map.cast::<u8>().add(skip) };
        let memory = Memory { base, len, region_bytes };
        // Registering in huge pages is ten times quicker; a kernel without them says EINVAL and nothing is lost.
        let _ = memory.advise(0..len, MmapAdvise::MADV_HUGEPAGE);
        Ok(memory)
    }

    /// Bytes in all.
    #[expect(clippy::len_without_is_empty, reason = "an arena has at least one chunk")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of the first byte.
    pub fn address(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.len.div_ceil(self.region_bytes)
    }

    /// A region, in bytes from the start of the arena.
    pub fn region(&self, index: usize) -> Range<usize> {
        index * self.region_bytes..((index + 1) * self.region_bytes).min(self.len)
    }

    /// The region that bytes of the arena lie in; `None` for memory of anybody else.
    pub fn region_of(&self, bytes: *const u8) -> Option<usize> {
        let offset = (bytes as usize).wrapping_sub(self.address());
        (offset < self.len).then_some(offset / self.region_bytes)
    }

    /// Makes the kernel provide the pages of a range now. Stalls for about 0.3 s per GiB.
    pub fn populate(&self, range: Range<usize>) -> std::io::Result<()> {
        self.advise(range, MmapAdvise::MADV_POPULATE_WRITE)
    }

    fn advise(&self, range: Range<usize>, advice: MmapAdvise) -> std::io::Result<()> {
        assert!(range.start <= range.end && range.end <= self.len, "range inside the arena");
        // SAFETY: the range lies in the mapping. Neither advice changes its bytes.
        unsafe { madvise(self.base.add(range.start).cast(), range.len(), advice) }.map_err(Into::into)
    }

    /// Chunks that a region's head slots take: up to 4, a sixteenth at most, at least one; none in a last region too small to have any.
    pub(super) fn head_chunks(&self, region: usize) -> Range<usize> {
        let range = self.region(region);
        let chunks = range.len() / BLOCK_BYTES_MAX;
        let first = range.start / BLOCK_BYTES_MAX;
        first..first + if chunks < 4 { 0 } else { (chunks / 16).clamp(1, 4) }
    }

    /// The chunk of zeros: the last one.
    pub(super) fn zero_chunk(&self) -> usize {
        self.len / BLOCK_BYTES_MAX - 1
    }

    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset <= self.len, "offset inside the arena");
        // SAFETY: just checked.
        unsafe { self.base.add(offset) }
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len, "range inside the arena");
        // SAFETY: inside the mapping, which is initialised (zero pages) and never unmapped. `Arena::bytes` is the only caller: it borrows the arena for as long, and
        // nobody else writes to an owned block's published bytes.
        unsafe { std::slice::from_raw_parts(self.base.add(range.start).as_ptr(), range.len()) }
    }

    pub(super) fn copy_in(&self, place: Range<usize>, bytes: &[u8]) {
        assert!(place.end <= self.len && place.len() == bytes.len(), "place inside the arena, of the same length");
        // SAFETY: inside the mapping; the caller has `&mut Arena` and has checked that no operation sees the place. `bytes` cannot overlap it: a
        // slice or piece of the same block would have made the check fail.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.base.add(place.start).as_ptr(), bytes.len()) }
    }

    pub(super) fn zero(&self, place: Range<usize>) {
        assert!(place.end <= self.len, "place inside the arena");
        // SAFETY: as for `copy_in`.
        unsafe { self.base.add(place.start).write_bytes(0, place.len()) }
    }

    pub(super) fn copy_within(&self, source: usize, place: Range<usize>) {
        assert!(place.end <= self.len && source + place.len() <= self.len, "both inside the arena");
        // SAFETY: as for `copy_in`; `copy` allows for overlap.
        unsafe { std::ptr::copy(self.base.add(source).as_ptr(), self.base.add(place.start).as_ptr(), place.len()) }
    }
}

const _: () = assert!(REGION_BYTES_MAX.is_multiple_of(HUGE_PAGE_BYTES));
