//! What operations hold of the arena: pinned slices, landing pieces, and the counts and return list behind them. **Unsafe**: here are the only
//! references to bytes of the arena that outlive a call.
//!
//! Ownership: a block has `holders`, one for the owner and one per slice or in-place piece. Whoever takes the count to 0 frees: the thread with the
//! arena at once, everyone else by the return list, an intrusive stack (one compare-and-swap to push, one swap to take all, so there is no ABA). A slice
//! covers bytes below `sealed`, in sixteenths whose `shown` bit is set. The arena changes none of them while the slice lives. A piece covers bytes that no other
//! slice or piece covers. So `&[u8]` of a slice and `&mut [u8]` of a piece are sound on any thread.

use super::{BLOCK_BYTES_MAX, Memory};
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// End of the return list, and the block number of the zeros.
const NONE: u32 = u32::MAX;
/// Holds are allocated in pages of this many, whose addresses never change.
const PAGE: usize = 4096;

struct Hold {
    holders: AtomicU32,
    /// The next block in the return list.
    next: AtomicU32,
    landing: AtomicBool,
}

/// Bytes that are kept of each block here.
pub(super) const HOLD_BYTES: usize = size_of::<Hold>();

/// A figure that the arena's thread changes and anyone may read.
#[derive(Default)]
pub(super) struct Figure(AtomicUsize);

impl Figure {
    pub(super) fn add(&self, n: usize) {
        self.0.store(self.get() + n, Ordering::Relaxed);
    }
    pub(super) fn sub(&self, n: usize) {
        self.0.store(self.get() - n, Ordering::Relaxed);
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The part of an arena that operations on any thread touch. Lives for ever, as the mapping does.
pub(super) struct SharedArena {
    pub(super) memory: Memory,
    holds: Box<[OnceLock<Box<[Hold]>>]>,
    returns: AtomicU32,
    /// Bytes of blocks that are not free.
    pub(super) used: Figure,
    /// Bytes of blocks that operations alone hold.
    pub(super) orphaned: Figure,
    /// Bytes copied into blocks by requests, one copy each.
    pub(super) written: Figure,
    /// Bytes copied between blocks because a file outgrew its block.
    pub(super) grown: Figure,
    /// Bytes copied between blocks so that those of several come together in one.
    pub(super) merged: Figure,
    /// Bytes copied between blocks because an operation still showed those around a change.
    pub(super) pinned: Figure,
    /// Bytes pinned to be sent from where they are.
    gathered: Figure,
    /// Bytes of large payloads copied from a receive buffer, and received where they stay.
    filled: AtomicUsize,
    landed: AtomicUsize,
    /// Bytes of blocks that payloads are received into and no file has yet.
    granted: AtomicUsize,
    pins_taken: Figure,
    pins_returned: AtomicUsize,
}

impl SharedArena {
    pub(super) fn leak(memory: Memory, blocks_max: usize) -> &'static SharedArena {
        Box::leak(Box::new(SharedArena {
            memory,
            holds: (0..blocks_max.div_ceil(PAGE)).map(|_| OnceLock::new()).collect(),
            returns: AtomicU32::new(NONE),
            used: Figure::default(),
            orphaned: Figure::default(),
            written: Figure::default(),
            grown: Figure::default(),
            merged: Figure::default(),
            pinned: Figure::default(),
            gathered: Figure::default(),
            filled: AtomicUsize::new(0),
            landed: AtomicUsize::new(0),
            granted: AtomicUsize::new(0),
            pins_taken: Figure::default(),
            pins_returned: AtomicUsize::new(0),
        }))
    }

    fn hold(&self, id: u32) -> &Hold {
        let page =
            self.holds[id as usize / PAGE].get().expect("a block's page exists since its number was first given");
        &page[id as usize % PAGE]
    }

    /// Makes the page of a new block number.
    pub(super) fn ensure(&self, id: u32) {
        self.holds[id as usize / PAGE].get_or_init(|| {
            let empty =
                || Hold { holders: AtomicU32::new(0), next: AtomicU32::new(NONE), landing: AtomicBool::new(false) };
            (0..PAGE).map(|_| empty()).collect()
        });
    }

    /// The first holder of a fresh block.
    pub(super) fn own(&self, id: u32) {
        let hold = self.hold(id);
        debug_assert_eq!(hold.holders.load(Ordering::Relaxed), 0);
        hold.holders.store(1, Ordering::Relaxed);
        hold.landing.store(false, Ordering::Relaxed);
    }

    pub(super) fn holders(&self, id: u32) -> u32 {
        // Acquire: whoever sees 1 also sees that the last operation is done with the bytes (the Release in `release`).
        self.hold(id).holders.load(Ordering::Acquire)
    }

    pub(super) fn is_landing(&self, id: u32) -> bool {
        self.hold(id).landing.load(Ordering::Acquire)
    }

    /// One holder less; true if it was the last.
    pub(super) fn release(&self, id: u32) -> bool {
        self.hold(id).holders.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// One holder less, from any thread.
    fn give_back(&self, id: u32) {
        if !self.release(id) {
            return;
        }
        let mut head = self.returns.load(Ordering::Relaxed);
        loop {
            self.hold(id).next.store(head, Ordering::Relaxed);
            match self.returns.compare_exchange_weak(head, id, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn has_returns(&self) -> bool {
        self.returns.load(Ordering::Relaxed) != NONE
    }

    /// Takes the whole return list; its first block.
    pub(super) fn take_returns(&self) -> Option<u32> {
        Some(self.returns.swap(NONE, Ordering::Acquire)).filter(|&id| id != NONE)
    }

    /// The block behind `id` in a list that was taken. Ask before `id` is used again.
    pub(super) fn next_return(&self, id: u32) -> Option<u32> {
        Some(self.hold(id).next.load(Ordering::Relaxed)).filter(|&next| next != NONE)
    }

    /// A slice of `place`, with its hold on block `id`. Whether its owner was the only holder before.
    #[inline(always)]
    pub(super) fn pin(&'static self, id: u32, place: Range<usize>) -> (Slice, bool) {
        // Acquire: as in `holders`.
        let before = self.hold(id).holders.fetch_add(1, Ordering::Acquire);
        self.pins_taken.add(1);
        self.gathered.add(place.len());
        (Slice { shared: self, id, len: place.len() as u32, start: self.memory.at(place.start) }, before == 1)
    }
}

/// Bytes of a block that stay as they are until this is dropped.
pub struct Slice {
    shared: &'static SharedArena,
    start: NonNull<u8>,
    len: u32,
    id: u32,
}

// SAFETY: the bytes do not change while the slice lives, and the count behind it is atomic.
unsafe impl Send for Slice {}
// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    /// Shows less. Panics if the range is not inside.
    pub fn narrow(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len as usize, "a view is only ever narrowed");
        // SAFETY: the start stays inside of the bytes that the slice covers.
        self.start = unsafe { self.start.add(range.start) };
        self.len = (range.end - range.start) as u32;
    }
}

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` are inside the mapping, initialised, and fixed while this slice holds the block (see the head of this file).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len as usize) }
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        if self.id != NONE {
            self.shared.pins_returned.fetch_add(1, Ordering::Relaxed);
            self.shared.give_back(self.id);
        }
    }
}

impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes of block {})", self.len, self.id)
    }
}

/// A source of zero bytes: one chunk that is never given to anyone, so its slices have no holders to count.
#[derive(Clone, Copy)]
pub struct Zeros(&'static SharedArena);

impl Zeros {
    pub(super) fn new(shared: &'static SharedArena) -> Zeros {
        Zeros(shared)
    }

    /// `len` zero bytes, at most one largest block.
    pub fn slice(&self, len: usize) -> Slice {
        assert!(len <= BLOCK_BYTES_MAX, "zeros of one largest block");
        let start = self.0.memory.at(self.0.memory.zero_chunk() * BLOCK_BYTES_MAX);
        Slice { shared: self.0, start, len: len as u32, id: NONE }
    }
}

/// A range of a block that a payload is received into; nobody else sees or changes it.
pub struct Piece {
    shared: &'static SharedArena,
    /// Where the block starts.
    block: NonNull<u8>,
    range: Range<usize>,
    id: u32,
    /// Bytes of a fresh block, which belongs to the piece; 0 if the block is a file's.
    own_bytes: u32,
}

// SAFETY: the bytes are this piece's alone, and the count behind it is atomic.
unsafe impl Send for Piece {}

impl Piece {
    /// The owner's hold of a new block passes to the piece.
    pub(super) fn fresh(
        shared: &'static SharedArena,
        id: u32,
        block: usize,
        capacity: usize,
        range: Range<usize>,
    ) -> Piece {
        shared.granted.fetch_add(capacity, Ordering::Relaxed);
        Piece { shared, block: shared.memory.at(block), range, id, own_bytes: capacity as u32 }
    }

    pub(super) fn in_place(shared: &'static SharedArena, id: u32, block: usize, range: Range<usize>) -> Piece {
        let hold = shared.hold(id);
        hold.holders.fetch_add(1, Ordering::Relaxed);
        assert!(!hold.landing.swap(true, Ordering::Relaxed), "one landing at a time is in a block");
        Piece { shared, block: shared.memory.at(block), range, id, own_bytes: 0 }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn into_owned(self) -> u32 {
        assert!(self.is_fresh(), "only a fresh piece has a block to give");
        self.shared.granted.fetch_sub(self.own_bytes as usize, Ordering::Relaxed);
        std::mem::ManuallyDrop::new(self).id
    }

    /// The part of the block that it covers.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Its block belongs to no file yet.
    pub fn is_fresh(&self) -> bool {
        self.own_bytes > 0
    }

    /// What it covers.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: inside the block and this piece's alone.
        unsafe { std::slice::from_raw_parts(self.block.add(self.range.start).as_ptr(), self.range.len()) }
    }

    /// What it covers, to be received into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside the block, this piece's alone, and borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.block.add(self.range.start).as_ptr(), self.range.len()) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.is_fresh() {
            self.shared.granted.fetch_sub(self.own_bytes as usize, Ordering::Relaxed);
        } else {
            self.shared.hold(self.id).landing.store(false, Ordering::Release);
        }
        self.shared.give_back(self.id);
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({:?} of block {})", self.range, self.id)
    }
}

/// Room for one payload: pieces in order, filled from the front.
#[derive(Debug, Default)]
pub struct Space {
    /// Those to be filled, then those set aside.
    pieces: Vec<Piece>,
    spares: usize,
    len: usize,
    filled: usize,
}

impl Space {
    /// Room in these pieces, but for the last `spares`, which are set aside so that publishing cannot fail for want of memory.
    pub fn new(pieces: Vec<Piece>, spares: usize) -> Space {
        let len = pieces[..pieces.len() - spares].iter().map(|piece| piece.range.len()).sum();
        Space { pieces, spares, len, filled: 0 }
    }

    /// Adds pieces behind those that are there, of which none was set aside; the last `spares` of the new ones are.
    pub fn extend(&mut self, pieces: &mut Vec<Piece>, spares: usize) {
        assert!(self.spares == 0, "what was set aside ends a space");
        self.len += pieces[..pieces.len() - spares].iter().map(|piece| piece.range.len()).sum::<usize>();
        self.spares = spares;
        self.pieces.append(pieces);
    }

    /// Pieces to be filled.
    pub fn pieces(&self) -> usize {
        self.pieces.len() - self.spares
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No room at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes still to come.
    pub fn left(&self) -> usize {
        self.len - self.filled
    }

    /// The unfilled rest, in order.
    pub fn unfilled(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let mut skip = self.filled;
        let count = self.pieces.len() - self.spares;
        self.pieces[..count].iter_mut().filter_map(move |piece| {
            let here = skip.min(piece.range.len());
            skip -= here;
            Some(&mut piece.bytes_mut()[here..]).filter(|rest| !rest.is_empty())
        })
    }

    /// `n` more bytes have been received where they stay. Panics beyond what is left.
    pub fn advance(&mut self, n: usize) {
        self.count(n, |shared| &shared.landed);
    }

    fn count(&mut self, n: usize, figure: impl Fn(&SharedArena) -> &AtomicUsize) {
        assert!(n <= self.left(), "no more arrives than there is room for");
        self.filled += n;
        if let Some(piece) = self.pieces.first() {
            figure(piece.shared).fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Copies as much of `bytes` as there is room for; how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for rest in self.unfilled() {
            let n = rest.len().min(bytes.len() - done);
            rest[..n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        self.count(done, |shared| &shared.filled);
        done
    }

    /// The pieces and how many of them are spares, to be published.
    pub fn into_parts(self) -> (Vec<Piece>, usize) {
        (self.pieces, self.spares)
    }
}

/// Live figures of an arena.
#[derive(Clone, Copy)]
pub struct Gauge(&'static SharedArena);

impl Gauge {
    pub(super) fn new(shared: &'static SharedArena) -> Gauge {
        Gauge(shared)
    }

    /// Bytes of the arena in all.
    pub fn total_bytes(&self) -> usize {
        self.0.memory.len()
    }

    /// Bytes of blocks that are in use, by files or by operations.
    pub fn used_bytes(&self) -> usize {
        self.0.used.get()
    }

    /// Bytes of blocks that no file holds any more, but operations do.
    pub fn orphaned_bytes(&self) -> usize {
        self.0.orphaned.get()
    }

    /// Bytes of blocks that large payloads are received into and no file has yet.
    pub fn granted_bytes(&self) -> usize {
        self.0.granted.load(Ordering::Relaxed)
    }

    /// Slices held by operations.
    pub fn pins(&self) -> usize {
        self.0.pins_taken.get().wrapping_sub(self.0.pins_returned.load(Ordering::Relaxed))
    }

    /// Slices ever made.
    pub fn pins_taken(&self) -> usize {
        self.0.pins_taken.get()
    }

    /// Bytes copied from requests into blocks.
    pub fn written_bytes(&self) -> usize {
        self.0.written.get()
    }

    /// Bytes of large payloads that were copied from a receive buffer, because they came along with the head.
    pub fn filled_bytes(&self) -> usize {
        self.0.filled.load(Ordering::Relaxed)
    }

    /// Bytes of large payloads that were received where they stay.
    pub fn landed_bytes(&self) -> usize {
        self.0.landed.load(Ordering::Relaxed)
    }

    /// Bytes copied because a file outgrew its block.
    pub fn grown_bytes(&self) -> usize {
        self.0.grown.get()
    }

    /// Bytes copied so that those of several blocks come together in one.
    pub fn merged_bytes(&self) -> usize {
        self.0.merged.get()
    }

    /// Bytes copied because operations still showed those around a change.
    pub fn pinned_bytes(&self) -> usize {
        self.0.pinned.get()
    }

    /// Bytes pinned to be sent from where they are.
    pub fn gathered_bytes(&self) -> usize {
        self.0.gathered.get()
    }
}
