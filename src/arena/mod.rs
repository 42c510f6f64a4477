//! The registered memory: blocks, pins, copy-on-write, landings, head slots.
//!
//! One mapping, never unmapped, cut into regions of at most 1 GiB (an entry of the ring's buffer table cannot be larger, and a gather
//! cannot span entries). A block is a power of two from 64 B to 64 KiB inside one 64 KiB chunk, so it never crosses a region.
//!
//! # Who holds what
//! A block has a count of holders. Its owner ([`Block`], kept by a file) is one; every [`Slice`] (bytes that a reply shows) and every in-place
//! [`Piece`] (bytes that a payload is received into) is one more. Owners live on the thread that has the [`Arena`]; slices and pieces are
//! `Send`, may outlive file, session and peer, and give the block back on drop, through a lock-free return list that [`Arena::collect`] empties.
//!
//! # Which bytes may change
//! ```text
//! block:   0 ........... sealed ........... start ======== end ..... capacity
//!          shown to ops; fixed   may change   landing: its alone
//! ```
//! `sealed` is one past the highest byte that an operation still holding the block may see. `shown` has a bit for each sixteenth of the
//! block: 4 KiB of a largest one. The bit is set if such an operation may see a byte of the sixteenth. [`Arena::in_place`] allows a change
//! when the owner is the only holder. While no landing is in the block, it also allows changes from `sealed` on, and in sixteenths that are
//! not shown. Everything else has to copy. All writes in here check that rule, so a reply on its way can never be torn, whatever a tree does.
//!
//! Must not know: files, messages, rings.

mod buddy;
mod heads;
mod hold;
mod memory;

pub use heads::{HEAD_SLOT_BYTES, HeadSlot, Heads};
pub use hold::{Gauge, Piece, Slice, Space, Zeros};
pub use memory::Memory;

use buddy::Buddy;
use hold::SharedArena;
use std::num::NonZeroU32;
use std::ops::Range;

/// Smallest block in bytes.
pub const BLOCK_BYTES_MIN: usize = 64;
/// Largest block in bytes; also the unit that regions are cut in.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Most bytes that one entry of the ring's table of registered buffers may have (Linux: `io_uring/rsrc.c`, io_buffer_validate).
pub const REGION_BYTES_MAX: usize = 1 << 30;

/// Bytes that the arena keeps about each block that was ever in use, beside the blocks themselves.
pub const TABLE_BYTES_PER_BLOCK: usize = size_of::<Info>() + size_of::<u32>() + hold::HOLD_BYTES;

/// Blocks that an allocation takes back before it looks for one: more than one, so that they do not pile up.
const COLLECT_PER_ALLOC: usize = 32;

/// No free block of the size asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A block as its owner holds it. Give it back with [`Arena::free`]; merely dropping it leaks the block.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped Block is lost to the arena"]
pub struct Block(NonZeroU32);

impl Block {
    fn id(&self) -> u32 {
        self.0.get()
    }
}

/// What a copy between blocks is for; each has a figure of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file outgrew its block.
    Growth,
    /// Bytes of several blocks come together in one.
    Merge,
    /// Operations show the old bytes, so the bytes around a change are needed a second time.
    Pinned,
}

#[derive(Clone, Copy)]
struct Info {
    /// Place in the arena in units of [`BLOCK_BYTES_MIN`].
    unit: u32,
    /// Size is `BLOCK_BYTES_MIN << order`.
    order: u8,
    /// The owner has given it up; operations still hold it.
    orphan: bool,
    /// Sixteenths of which an operation still holding the block may see bytes.
    shown: u16,
    sealed: u32,
}

/// The sixteenth of a smallest block has 2 to the power of this many bytes.
const SIXTEENTH_SHIFT: u32 = (BLOCK_BYTES_MIN / u16::BITS as usize).trailing_zeros();

impl Info {
    const NEW: Info = Info { unit: 0, order: 0, orphan: false, shown: 0, sealed: 0 };

    /// The bits of the sixteenths that a range touches.
    #[inline]
    fn sixteenths(self, range: &Range<usize>) -> u16 {
        // A range of nothing touches a part at most.
        let shift = u32::from(self.order) + SIXTEENTH_SHIFT;
        ((2u32 << ((range.end.max(1) - 1) >> shift)) - (1u32 << (range.start >> shift))) as u16
    }
}

/// The memory of one tree.
pub struct Arena {
    shared: &'static SharedArena,
    buddy: Buddy,
    /// By block number; `SharedArena` has what other threads touch.
    infos: Vec<Info>,
    free_ids: Vec<u32>,
    /// The next block of a return list that was taken and not yet gone through.
    returning: Option<u32>,
    /// All but head slots and zeros.
    usable_bytes: usize,
    /// Allocations until one fails that need not.
    #[cfg(test)]
    pub(crate) fails_in: Option<usize>,
}

impl Arena {
    /// Reserves `bytes` of memory, rounded up to whole chunks (at least four), in regions of 1 GiB. Nothing is populated.
    pub fn new(bytes: usize) -> std::io::Result<Arena> {
        Self::with_regions(bytes, REGION_BYTES_MAX)
    }

    /// The same with smaller regions, so that tests can cross their borders cheaply. `region_bytes` is a multiple of the largest block.
    pub fn with_regions(bytes: usize, region_bytes: usize) -> std::io::Result<Arena> {
        assert!(region_bytes.is_multiple_of(BLOCK_BYTES_MAX) && region_bytes <= REGION_BYTES_MAX);
        let memory = Memory::reserve(bytes.max(4 * BLOCK_BYTES_MAX).next_multiple_of(BLOCK_BYTES_MAX), region_bytes)?;
        let mut buddy = Buddy::new(memory.len() / BLOCK_BYTES_MAX);
        // Regions start with their head slots, the arena with the block of zeros.
        let mut usable_bytes = memory.len() - BLOCK_BYTES_MAX;
        for region in 0..memory.regions() {
            usable_bytes -= memory.head_chunks(region).len() * BLOCK_BYTES_MAX;
            for chunk in memory.head_chunks(region) {
                buddy.reserve_chunk(chunk);
            }
        }
        buddy.reserve_chunk(memory.zero_chunk());
        let blocks_max = memory.len() / BLOCK_BYTES_MIN;
        // Block numbers start at 1, so that an absent block takes no room beside one that is there.
        let shared = SharedArena::leak(memory, blocks_max + 1);
        Ok(Arena {
            shared,
            buddy,
            infos: vec![Info::NEW],
            free_ids: Vec::new(),
            returning: None,
            usable_bytes,
            #[cfg(test)]
            fails_in: None,
        })
    }

    /// The mapping, for whoever registers it.
    pub fn memory(&self) -> Memory {
        self.shared.memory
    }

    /// The head slots of every region. The caller is the only user: ask once.
    pub fn heads(&self) -> Heads {
        Heads::new(self.shared.memory)
    }

    /// Live figures, readable from anywhere.
    pub fn gauge(&self) -> Gauge {
        Gauge::new(self.shared)
    }

    /// Zero bytes to show: they cost nothing and pin nothing.
    pub fn zeros(&self) -> Zeros {
        Zeros::new(self.shared)
    }

    /// Bytes that blocks can be made of.
    pub fn usable_bytes(&self) -> usize {
        self.usable_bytes
    }

    /// Bytes that no file holds: free, or about to be once replies have left.
    pub fn free_bytes(&self) -> usize {
        self.usable_bytes - self.gauge().used_bytes() + self.gauge().orphaned_bytes()
    }

    /// A block of at least `bytes` (1 to [`BLOCK_BYTES_MAX`]). Its content is whatever was there before.
    pub fn alloc(&mut self, bytes: usize) -> Result<Block, Full> {
        let order = order_of(bytes);
        if self.has_returns() {
            self.collect_some(COLLECT_PER_ALLOC);
        }
        #[cfg(test)]
        if let Some(left) = &mut self.fails_in {
            *left = left.wrapping_sub(1);
            if *left == 0 {
                return Err(Full);
            }
        }
        let unit = loop {
            match self.buddy.alloc(order) {
                Some(unit) => break unit,
                None if self.has_returns() => self.collect_some(COLLECT_PER_ALLOC),
                None => return Err(Full),
            }
        };
        let id = match self.free_ids.pop() {
            Some(id) => id,
            None => {
                self.infos.push(Info::NEW);
                let id = (self.infos.len() - 1) as u32;
                self.shared.ensure(id);
                id
            }
        };
        self.infos[id as usize] = Info { unit, order: order as u8, ..Info::NEW };
        self.shared.own(id);
        self.shared.used.add(block_bytes(order));
        Ok(block(id))
    }

    /// Gives a block up. Its memory is free once no operation holds it.
    pub fn free(&mut self, block: Block) {
        let id = block.id();
        if self.shared.release(id) {
            self.recycle(id);
        } else {
            let info = &mut self.infos[id as usize];
            info.orphan = true;
            self.shared.orphaned.add(block_bytes(info.order.into()));
        }
    }

    /// Takes back all blocks that operations were the last to hold.
    pub fn collect(&mut self) {
        while self.has_returns() {
            self.collect_some(usize::MAX);
        }
    }

    /// Whether there are such blocks.
    pub fn has_returns(&self) -> bool {
        self.returning.is_some() || self.shared.has_returns()
    }

    /// Takes back at most `most` of them.
    pub fn collect_some(&mut self, most: usize) {
        let mut next = self.returning.take().or_else(|| self.shared.take_returns());
        for _ in 0..most {
            let Some(id) = next else { return };
            next = self.shared.next_return(id);
            let info = &mut self.infos[id as usize];
            if std::mem::take(&mut info.orphan) {
                self.shared.orphaned.sub(block_bytes(info.order.into()));
            }
            self.recycle(id);
        }
        self.returning = next;
    }

    fn recycle(&mut self, id: u32) {
        let Info { unit, order, .. } = self.infos[id as usize];
        self.buddy.free(unit, order.into());
        self.shared.used.sub(block_bytes(order.into()));
        self.free_ids.push(id);
    }

    /// Bytes that the block can hold.
    pub fn capacity(&self, block: &Block) -> usize {
        block_bytes(self.infos[block.id() as usize].order.into())
    }

    /// Whether the owner is the only holder.
    pub fn is_exclusive(&self, block: &Block) -> bool {
        self.shared.holders(block.id()) == 1
    }

    /// Whether a range of bytes may be changed where it is.
    #[inline]
    pub fn in_place(&self, block: &Block, range: &Range<usize>) -> bool {
        if self.is_exclusive(block) {
            return true;
        }
        let info = self.infos[block.id() as usize];
        let hidden = range.start >= info.sealed as usize || info.shown & info.sixteenths(range) == 0;
        hidden && !self.shared.is_landing(block.id())
    }

    /// One past the highest byte that an operation still holding the block may see; 0 when none holds it.
    pub fn sealed(&self, block: &Block) -> usize {
        if self.is_exclusive(block) { 0 } else { self.infos[block.id() as usize].sealed as usize }
    }

    /// Copies `bytes` into the block. Panics where [`in_place`](Self::in_place) says no, or beyond the capacity.
    pub fn write(&mut self, block: &Block, at: usize, bytes: &[u8]) {
        let place = self.changeable(block, at..at + bytes.len());
        self.shared.memory.copy_in(place, bytes);
        self.shared.written.add(bytes.len());
    }

    /// Zeroes a range, under the same rule.
    pub fn zero(&mut self, block: &Block, range: Range<usize>) {
        let place = self.changeable(block, range);
        self.shared.memory.zero(place);
    }

    /// Copies a range of one block to another, where it starts at `at`, under the same rule.
    pub fn copy(&mut self, from: &Block, range: Range<usize>, to: &Block, at: usize, why: Why) {
        assert!(from != to && range.start <= range.end && range.end <= self.capacity(from));
        let source = self.start(from) + range.start;
        let place = self.changeable(to, at..at + range.len());
        self.shared.memory.copy_within(source, place);
        match why {
            Why::Growth => self.shared.grown.add(range.len()),
            Why::Merge => self.shared.merged.add(range.len()),
            Why::Pinned => self.shared.pinned.add(range.len()),
        }
    }

    fn start(&self, block: &Block) -> usize {
        self.infos[block.id() as usize].unit as usize * BLOCK_BYTES_MIN
    }

    fn changeable(&self, block: &Block, range: Range<usize>) -> Range<usize> {
        assert!(range.start <= range.end && range.end <= self.capacity(block), "range inside the block");
        assert!(range.is_empty() || self.in_place(block, &range), "bytes that an operation shows never change");
        let start = self.start(block);
        start + range.start..start + range.end
    }

    /// The bytes of a block, for its owner to look at.
    pub fn bytes(&self, block: &Block, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.capacity(block), "range inside the block");
        let start = self.start(block);
        self.shared.memory.bytes(start + range.start..start + range.end)
    }

    /// Pins a range for an operation to show. The bytes stay as they are until the slice is dropped.
    #[inline]
    pub fn slice(&mut self, block: &Block, range: Range<usize>) -> Slice {
        let info = &mut self.infos[block.id() as usize];
        assert!(range.start <= range.end && range.end <= block_bytes(info.order.into()), "range inside the block");
        let start = info.unit as usize * BLOCK_BYTES_MIN;
        let (slice, alone) = self.shared.pin(block.id(), start + range.start..start + range.end);
        let (sealed, shown) = if alone { (0, 0) } else { (info.sealed, info.shown) };
        info.sealed = sealed.max(range.end as u32);
        info.shown = shown | info.sixteenths(&range);
        slice
    }

    /// A fresh block of at least `bytes` to receive `range` of it into. It belongs to the piece until [`adopt`](Self::adopt).
    pub fn land_fresh(&mut self, bytes: usize, range: Range<usize>) -> Result<Piece, Full> {
        let block = self.alloc(bytes)?;
        assert!(range.start <= range.end && range.end <= self.capacity(&block), "range inside the block");
        let start = self.start(&block);
        Ok(Piece::fresh(self.shared, block.id(), start, self.capacity(&block), range))
    }

    /// A range of an owned block to receive into where it is. Panics where [`in_place`](Self::in_place) says no.
    pub fn land_in_place(&mut self, block: &Block, range: Range<usize>) -> Piece {
        let place = self.changeable(block, range.clone());
        Piece::in_place(self.shared, block.id(), place.start - range.start, range)
    }

    /// Bytes that the block of a piece can hold.
    pub fn piece_capacity(&self, piece: &Piece) -> usize {
        block_bytes(self.infos[piece.id() as usize].order.into())
    }

    /// Whether the piece lies in this block, which its owner may have replaced since.
    pub fn is_within(&self, piece: &Piece, block: &Block) -> bool {
        piece.id() == block.id()
    }

    /// Makes a fresh piece's block an owned one. Panics for an in-place piece.
    pub fn adopt(&mut self, piece: Piece) -> Block {
        block(piece.into_owned())
    }
}

/// The order of the smallest block that holds `bytes`.
fn order_of(bytes: usize) -> usize {
    assert!((1..=BLOCK_BYTES_MAX).contains(&bytes), "block sizes are 1 B to 64 KiB");
    bytes.next_power_of_two().max(BLOCK_BYTES_MIN).trailing_zeros() as usize - BLOCK_BYTES_MIN.trailing_zeros() as usize
}

fn block(id: u32) -> Block {
    Block(NonZeroU32::new(id).expect("block numbers start at 1"))
}

fn block_bytes(order: usize) -> usize {
    BLOCK_BYTES_MIN << order
}

#[cfg(test)]
mod tests;
