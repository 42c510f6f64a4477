//! The end of the log, to which batches are added: what is sealed, what is on its way to the disk, and segments in stock.
//!
//! ```text
//! sealed, sealed -> flying: its writes, all at once -> its sync -> durable
//! ```
//! One batch flies at a time. Meanwhile a segment in stock is made, step by step. So a commit makes no file, and its sync has no
//! metadata to write.
//!
//! The page behind the last batch is zeros. So a start can tell the end of the log from a torn batch. In a reused segment the log
//! writes that page with each batch.
//!
//! Where the file system has O_DIRECT, segments are written with it. It wants aligned memory: the front of a batch is copied
//! to such memory, and pages of files are aligned in the arena.
//!
//! Must not know: trees, sessions.

use super::format::{Next, PAGE_BYTES, Writer};
use super::stock::{Made, Stock};
use crate::arena::Slice;
use crate::fs::{Ask, AskId, Descriptor, Error, Iovec, Outgoing, Result};
use std::collections::VecDeque;

/// Segments that are ready before they are needed.
pub(super) const STOCK: u64 = 2;
/// Slices of one write.
const SLICES_MAX: usize = 256;

/// A batch whose place is known.
#[derive(Debug)]
struct Sealed {
    segment: u64,
    /// Where the next batch will be in it.
    end: u64,
    last_lsn: u64,
    bytes: u64,
    operations: u64,
    writes: Vec<(u64, Outgoing)>,
}

#[derive(Debug)]
struct Flying {
    file: Descriptor,
    last_lsn: u64,
    bytes: u64,
    /// Writes that were not asked for yet, each with its place.
    writes: Vec<(u64, Outgoing)>,
    in_flight: usize,
    is_syncing: bool,
    operations: u64,
    /// When its first write was asked for.
    begun_ns: u64,
}

/// A batch that has become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flushed {
    pub(super) operations: u64,
    pub(super) bytes: u64,
    /// When its first write was asked for.
    pub(super) begun_ns: u64,
}

/// What an ask is for: the lower 8 bits of its name.
mod what {
    pub(super) const WRITE: u64 = 0;
    pub(super) const SYNC: u64 = 1;
    pub(super) const MAKE: u64 = 2;
    pub(super) const CLOSE: u64 = 3;
}

/// What the names of asks of others than the log end with.
pub(super) const OTHERS: u64 = 4;

/// The numbers of the segments that a store may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Bytes of each.
    pub(super) segment_bytes: u64,
    /// The first one that is there.
    pub(super) first: u64,
    /// How many there may be.
    pub(super) segments_max: u64,
    /// The last one that there may be, if that is more: what a start needs in order to go on.
    pub(super) last_min: u64,
}

impl Extent {
    fn last(&self) -> u64 {
        (self.first + self.segments_max).saturating_sub(1).max(self.last_min)
    }
}

/// The end of a log.
pub(super) struct Log {
    extent: Extent,
    /// Where the next batch is sealed to.
    next: Next,
    /// Segments that are there, in order: the one that is written to, then those in stock.
    segments: VecDeque<Made>,
    /// The first segment of this start.
    own_first: u64,
    stock: Stock,
    sealed: VecDeque<Sealed>,
    flying: Option<Flying>,
    /// Descriptors that are not needed any more.
    closing: Vec<Descriptor>,
    asks: u64,
    in_flight: usize,
    durable: u64,
    /// Bytes of the batches that are sealed or flying.
    bytes: u64,
}

impl Log {
    /// A log whose next batch is `next`, at the start of the first of these segments. `stock` makes further ones.
    pub(super) fn new(next: Next, extent: Extent, stock: Stock, segments: impl IntoIterator<Item = Made>) -> Log {
        Log {
            extent,
            next,
            segments: segments.into_iter().collect(),
            own_first: next.segment,
            stock,
            sealed: VecDeque::new(),
            flying: None,
            closing: Vec::new(),
            asks: 0,
            in_flight: 0,
            durable: next.lsn - 1,
            bytes: 0,
        }
    }

    /// The last change that is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// What the next batch must say.
    pub(super) fn next(&self) -> Next {
        self.next
    }

    /// Bytes that are sealed and not durable.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing is sealed or flying.
    pub(super) fn is_idle(&self) -> bool {
        self.sealed.is_empty() && self.flying.is_none()
    }

    /// Whether an ask is in flight.
    pub(super) fn has_asks(&self) -> bool {
        self.in_flight > 0
    }

    /// Bytes from a place of the log to its end.
    pub(super) fn bytes_since(&self, segment: u64, offset: u64) -> u64 {
        let Next { segment: last, offset: end, .. } = self.next;
        (last.saturating_sub(segment) * self.extent.segment_bytes + end).saturating_sub(offset)
    }

    /// Bytes that the next batch may have without a new segment.
    pub(super) fn left_in_segment(&self) -> u64 {
        self.extent.segment_bytes - self.next.offset
    }

    /// Bytes that can still be sealed: until the store is as large as it may be. On a full disk, in the segments that are there.
    pub(super) fn free_bytes(&self) -> u64 {
        let made = self.stock.segments_left().map_or(u64::MAX, |left| self.last_segment() + left);
        self.bytes_up_to(self.extent.last().min(made))
    }

    /// Bytes that can be sealed in the segments that are there.
    pub(super) fn ready_bytes(&self) -> u64 {
        self.bytes_up_to(self.last_segment())
    }

    fn bytes_up_to(&self, last: u64) -> u64 {
        ((last + 1).saturating_sub(self.next.segment) * self.extent.segment_bytes).saturating_sub(self.next.offset)
    }

    /// Whether a further segment is to come, so that there will be more [`ready_bytes`](Self::ready_bytes).
    pub(super) fn is_making(&self) -> bool {
        !self.is_full() && (self.stock.is_busy() || self.wants_segment())
    }

    /// Segments that are ready for later batches.
    pub(super) fn stock(&self) -> u64 {
        self.segments.iter().filter(|made| made.segment > self.next.segment).count() as u64
    }

    /// Segments that are there and not in the log any more.
    pub(super) fn spares(&self) -> u64 {
        self.stock.spares()
    }

    /// Whether the disk has no room for a further segment.
    pub(super) fn is_full(&self) -> bool {
        self.stock.segments_left() == Some(0)
    }

    /// The last segment that is there.
    pub(super) fn last_segment(&self) -> u64 {
        self.segments.back().map_or(self.next.segment, |made| made.segment)
    }

    fn wants_segment(&self) -> bool {
        self.last_segment() < (self.next.segment + STOCK).min(self.extent.last())
    }

    /// The segments before this one are not in the log any more. `spares`: how many may stay, to be used again.
    pub(super) fn freed(&mut self, first: u64, spares: u64) {
        self.stock.put(self.extent.first..first, self.own_first, spares);
        self.extent.first = first;
    }

    /// Tries again to make segments.
    pub(super) fn tick(&mut self) {
        self.stock.try_again();
    }

    /// Begins no further segment, but where a batch waits for one.
    pub(super) fn retire(&mut self) {
        self.stock.retire();
    }

    /// Seals a batch. `last_lsn`: the LSN of its last change. `operations`: calls that have made its changes.
    pub(super) fn seal(&mut self, writer: Writer, pages: Vec<Slice>, last_lsn: u64, operations: u64) {
        let bytes = writer.len() as u64;
        if bytes > self.left_in_segment() {
            self.next = self.next.in_next_segment();
        }
        debug_assert!(bytes <= self.extent.segment_bytes, "a batch of {bytes} bytes is in one segment");
        let Next { segment, offset, .. } = self.next;
        let (front, checksum) = writer.seal(self.next.head(last_lsn));
        let mut at = offset + front.len() as u64;
        let mut iovec = Iovec::default();
        iovec.put_aligned(&front, PAGE_BYTES);
        let mut writes = vec![(offset, Outgoing::from(iovec))];
        let mut pages = pages.into_iter().peekable();
        while pages.peek().is_some() {
            let mut iovec = Iovec::default();
            pages.by_ref().take(SLICES_MAX).for_each(|slice| iovec.put_slice(slice));
            let len = iovec.len() as u64;
            writes.push((at, Outgoing::from(iovec)));
            at += len;
        }
        self.next = self.next.written(bytes, last_lsn, checksum);
        self.bytes += bytes;
        self.sealed.push_back(Sealed { segment, end: offset + bytes, last_lsn, bytes, operations, writes });
    }

    /// The next ask. `now_ns`: the moment.
    pub(super) fn ask(&mut self, now_ns: u64) -> Option<(AskId, Ask)> {
        self.launch(now_ns);
        let (what, ask) = self.next_ask()?;
        self.asks += 1;
        self.in_flight += 1;
        Some((AskId((self.asks << 8 | what) & ((1 << 56) - 1)), ask))
    }

    /// Lets the next batch fly, if its segment is there.
    fn launch(&mut self, now_ns: u64) {
        if self.flying.is_some() {
            return;
        }
        let Some(first) = self.sealed.front() else { return };
        let Some(at) = self.segments.iter().position(|made| made.segment == first.segment) else { return };
        self.closing.extend(self.segments.drain(..at).map(|made| made.file));
        let Made { file, is_reused, .. } = self.segments[0];
        let Some(Sealed { end, last_lsn, bytes, operations, mut writes, .. }) = self.sealed.pop_front() else { return };
        if is_reused && end < self.extent.segment_bytes {
            let mut zeros = Iovec::default();
            zeros.put_slice(self.stock.zero_page());
            writes.push((end, zeros.into()));
        }
        let (in_flight, is_syncing, begun_ns) = (0, false, now_ns);
        self.flying = Some(Flying { file, last_lsn, bytes, writes, in_flight, is_syncing, operations, begun_ns });
    }

    fn next_ask(&mut self) -> Option<(u64, Ask)> {
        if let Some(flying) = &mut self.flying {
            let file = flying.file;
            if let Some((offset, data)) = flying.writes.pop() {
                flying.in_flight += 1;
                return Some((what::WRITE, Ask::Write { file, offset, data }));
            }
            if flying.in_flight == 0 && !flying.is_syncing {
                flying.is_syncing = true;
                return Some((what::SYNC, Ask::Sync { file, data_only: true }));
            }
        }
        if let Some(descriptor) = self.closing.pop() {
            return Some((what::CLOSE, Ask::Close { descriptor }));
        }
        // A batch that waits for its segment has it made, even at the end.
        let last = if self.stock.is_retired() { self.next.segment } else { self.next.segment + STOCK };
        let wants = self.last_segment() < last.min(self.extent.last());
        let number = self.last_segment() + 1;
        self.stock.ask(wants.then_some(number), self.extent.segment_bytes).map(|ask| (what::MAKE, ask))
    }

    /// The result of an ask. Returns the batch that is durable by it. An error is fatal: what is durable is not known any more.
    pub(super) fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>) -> Result<Option<Flushed>> {
        self.in_flight -= 1;
        match id.0 & 0xff {
            what::WRITE => {
                let (Some(flying), Ask::Write { offset, mut data, .. }) = (&mut self.flying, ask) else {
                    return Ok(None);
                };
                flying.in_flight -= 1;
                let n = whole_pages(result?)?;
                data.advance(n as usize);
                if data.left() > 0 {
                    flying.writes.push((offset + u64::from(n), data));
                }
            }
            what::SYNC => {
                result?;
                if let Some(Flying { last_lsn, bytes, operations, begun_ns, .. }) = self.flying.take() {
                    self.durable = last_lsn;
                    self.bytes -= bytes;
                    return Ok(Some(Flushed { operations, bytes, begun_ns }));
                }
            }
            what::MAKE => {
                self.segments.extend(self.stock.answered(result, &mut self.closing)?);
            }
            _ => {}
        }
        Ok(None)
    }
}

/// How much of a write is not repeated after it was short: with O_DIRECT the rest begins with a page.
pub(super) fn whole_pages(n: u32) -> Result<u32> {
    let page = PAGE_BYTES as u32;
    match n {
        0 => Err(Error::EIO),
        n if n < page => Ok(n),
        n => Ok(n - n % page),
    }
}
