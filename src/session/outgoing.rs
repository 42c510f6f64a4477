//! Replies that wait to be sent.
//!
//! Replies are queued in batches, and a batch is handed out as a whole. A reply with a later gate
//! begins a new batch, so that replies that may leave now do not wait for those that may not.

use super::budget::Budget;
use crate::fs::{Gate, Iovec, Part};
use crate::wire::Kind;
use std::collections::VecDeque;
use std::sync::Arc;

/// A reply in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Type of the T-message that it answers.
    pub kind: Kind,
    /// Monotonic nanoseconds of the turn that received that message.
    pub at_ns: u64,
    /// Where it ends, in bytes from the start of the batch.
    end: usize,
}

/// Memory of a batch that grew larger than this is not kept for the next one.
pub(super) const KEPT_BYTES_MAX: usize = 16 << 10;

/// Replies to send, in order: small bytes and pinned slices. Owned; may outlive the session. Dropping it unpins.
#[derive(Debug, Default)]
pub struct Segments(Box<Batch>);

#[derive(Debug, Default)]
struct Batch {
    iovec: Iovec,
    replies: Vec<Reply>,
    gate: Gate,
    /// Where its memory is counted while it has replies.
    budget: Option<Arc<Budget>>,
    /// Bytes that are counted there.
    charged: usize,
    /// Parts, bytes of the next part, bytes in all and replies that have been sent.
    parts_sent: usize,
    part_sent: usize,
    sent: usize,
    replies_sent: usize,
}

/// A view to send.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What to send.
    pub bytes: &'a [u8],
    /// They lie in the arena, pinned.
    pub pinned: bool,
}

impl Segments {
    /// Bytes still to be sent.
    #[expect(clippy::len_without_is_empty, reason = "a batch that is handed out has something in it")]
    pub fn len(&self) -> usize {
        self.0.iovec.len() - self.0.sent
    }

    /// What is still to be sent, in order.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        let mut cut = self.0.part_sent;
        self.0.iovec.parts()[self.0.parts_sent..].iter().map(move |part| View {
            bytes: &self.0.iovec.bytes(part)[std::mem::take(&mut cut)..],
            pinned: matches!(part, Part::Slice(_)),
        })
    }

    /// The next `n` bytes have been sent: unpins what is done with, and shows each reply whose last byte was among them.
    pub fn advance(&mut self, n: usize, mut each: impl FnMut(&Reply)) {
        assert!(n <= self.len(), "no more is sent than there was");
        self.0.sent += n;
        let mut n = n;
        while n > 0 {
            let part = &self.0.iovec.parts()[self.0.parts_sent];
            let left = self.0.iovec.bytes(part).len() - self.0.part_sent;
            if n < left {
                self.0.part_sent += n;
                break;
            }
            n -= left;
            self.0.iovec.parts_mut()[self.0.parts_sent] = Part::Small(0..0);
            self.0.part_sent = 0;
            self.0.parts_sent += 1;
        }
        while let Some(reply) = self.0.replies.get(self.0.replies_sent).filter(|reply| reply.end <= self.0.sent) {
            each(reply);
            self.0.replies_sent += 1;
        }
    }

    /// A copy of what is still to be sent, in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.views().flat_map(|view| view.bytes).copied().collect()
    }

    pub(super) fn iovec(&mut self) -> &mut Iovec {
        &mut self.0.iovec
    }

    /// What was appended since the last reply is a reply.
    pub(super) fn end_reply(&mut self, kind: Kind, at_ns: u64) {
        let end = self.0.iovec.len();
        self.0.replies.push(Reply { kind, at_ns, end });
        self.charge();
    }

    /// Bytes of memory that it has, used or not. What it shows of files is not its own.
    pub fn memory_bytes(&self) -> usize {
        let Batch { iovec, replies, .. } = &*self.0;
        size_of::<Batch>() + iovec.capacity_bytes() + replies.capacity() * size_of::<Reply>()
    }

    /// Bytes of memory that its replies use.
    fn own_bytes(&self) -> usize {
        let Batch { iovec, replies, .. } = &*self.0;
        iovec.small().len() + size_of_val(iovec.parts()) + size_of_val(replies.as_slice())
    }

    /// Counts its memory: what was taken, however little of it is used.
    fn charge(&mut self) {
        let bytes = self.memory_bytes();
        if let Some(budget) = &self.0.budget
            && bytes != self.0.charged
        {
            budget.change_reply_bytes(self.0.charged, bytes);
            self.0.charged = bytes;
        }
    }

    /// Drops what is left, which unpins it, and keeps the memory.
    pub fn clear(&mut self) {
        self.discharge();
        // Each field by its name: one that is added must say here what becomes of it.
        let is_large = self.memory_bytes() > KEPT_BYTES_MAX;
        let Batch { iovec, replies, gate, budget: _, charged: _, parts_sent, part_sent, sent, replies_sent } =
            &mut *self.0;
        if is_large {
            (*iovec, *replies) = (Iovec::default(), Vec::new());
        }
        iovec.clear();
        replies.clear();
        *gate = Gate::default();
        (*parts_sent, *part_sent, *sent, *replies_sent) = (0, 0, 0, 0);
    }

    fn discharge(&mut self) {
        if let Some(budget) = &self.0.budget {
            budget.change_reply_bytes(std::mem::take(&mut self.0.charged), 0);
        }
    }
}

impl Drop for Segments {
    fn drop(&mut self) {
        self.discharge();
    }
}

/// The batches that wait.
#[derive(Debug)]
pub(super) struct Outgoing {
    batches: VecDeque<Segments>,
    spare: Option<Segments>,
    budget: Arc<Budget>,
}

impl Outgoing {
    pub(super) fn new(budget: Arc<Budget>) -> Outgoing {
        Outgoing { batches: VecDeque::new(), spare: None, budget }
    }

    /// The batch that a reply with this gate goes into.
    pub(super) fn batch(&mut self, gate: Gate) -> &mut Segments {
        let fits = self.batches.back().is_some_and(|batch| batch.0.replies.is_empty() || batch.0.gate >= gate);
        if !fits {
            let mut batch = self.spare.take().unwrap_or_default();
            // One that was used before has it still.
            if !batch.0.budget.as_ref().is_some_and(|budget| Arc::ptr_eq(budget, &self.budget)) {
                batch.0.budget = Some(Arc::clone(&self.budget));
            }
            batch.charge();
            self.batches.push_back(batch);
        }
        let batch = self.batches.back_mut().expect("there is one now");
        batch.0.gate = if batch.0.replies.is_empty() { gate } else { batch.0.gate.max(gate) };
        batch
    }

    /// The batch that the last call of [`batch`](Self::batch) gave, with a reply in it that has turned out to have this gate. What is in front of that reply
    /// in the same batch waits with it.
    pub(super) fn last(&mut self, gate: Gate) -> &mut Segments {
        let batch = self.batches.back_mut().expect("a reply is being put into it");
        batch.0.gate = batch.0.gate.max(gate);
        batch
    }

    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.0.iovec.len()).sum()
    }

    /// Bytes in all that are in no file, with the lists of what is where.
    pub(super) fn own_bytes(&self) -> usize {
        self.batches.iter().map(Segments::own_bytes).sum()
    }

    /// Memory in bytes of what waits, used or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.batches.iter().map(Segments::memory_bytes).sum()
    }

    pub(super) fn take(&mut self, opened: Gate) -> Option<Segments> {
        let open = self.batches.front().is_some_and(|batch| !batch.0.replies.is_empty() && batch.0.gate <= opened);
        if open { self.batches.pop_front() } else { None }
    }

    /// Keeps the memory of a batch for the next one.
    pub(super) fn recycle(&mut self, mut segments: Segments) {
        segments.clear();
        self.spare = Some(segments);
    }

    pub(super) fn trim(&mut self) {
        self.batches.shrink_to_fit();
    }

    /// Whether the next reply has memory.
    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// The memory of the next batch. A batch that a request without a reply has left empty is no longer kept for one.
    pub(super) fn take_spare(&mut self) -> Option<Segments> {
        let left_empty = self.batches.back().is_some_and(|batch| batch.0.replies.is_empty());
        if left_empty && let Some(batch) = self.batches.pop_back() {
            self.recycle(batch);
        }
        self.spare.take()
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    fn queue(out: &mut Outgoing, gate: Gate, bytes: &[u8]) {
        let batch = out.batch(gate);
        batch.iovec().put_copy(bytes);
        batch.end_reply(Kind::TREAD, gate);
    }

    #[test]
    fn replies_leave_in_order_when_their_gate_opens() {
        let mut out = Outgoing::new(Arc::default());
        queue(&mut out, 0, b"first");
        queue(&mut out, 5, b"second");
        queue(&mut out, 5, b"third");
        queue(&mut out, 6, b"fourth");
        assert_eq!(out.take(4).expect("the first is open").to_vec(), b"first");
        assert!(out.take(4).is_none());
        assert_eq!(out.take(5).expect("two are open").to_vec(), b"secondthird");
        assert_eq!(out.bytes(), 6);
        assert_eq!(out.take(Gate::MAX).expect("all are open").to_vec(), b"fourth");
    }

    /// A long reply leaves in pieces, and its socket may be full for long in between.
    #[test]
    fn each_slice_is_unpinned_once_it_has_left() {
        let mut arena = Arena::new(1 << 20).expect("a small mapping");
        let block = arena.alloc(300).expect("room");
        arena.write(&block, 0, &[7; 300]);
        let mut out = Outgoing::new(Arc::default());
        let batch = out.batch(0);
        (0..3).for_each(|n| batch.iovec().put_slice(arena.slice(&block, n * 100..n * 100 + 100)));
        batch.end_reply(Kind::TREAD, 0);
        let mut batch = out.take(0).expect("open");
        for (n, pins) in [(99, 3), (1, 2), (150, 1), (49, 1)] {
            batch.advance(n, |_| ());
            assert_eq!(arena.gauge().pins(), pins);
        }
        // It is given up before all of it has left.
        batch.clear();
        assert_eq!(arena.gauge().pins(), 0);
        arena.free(block);
    }

    /// A request without a reply, as one that waits, has begun a batch. Its memory is not the session's while that is quiet.
    #[test]
    fn a_quiet_session_has_no_memory_of_replies() {
        let budget = Arc::new(Budget::default());
        let mut out = Outgoing::new(Arc::clone(&budget));
        (1..100).for_each(|gate| queue(&mut out, gate, b"reply"));
        while out.take(Gate::MAX).is_some() {}
        out.batch(0);
        assert_eq!(budget.reply_bytes(), out.memory_bytes());
        assert!(out.take_spare().is_some());
        assert_eq!((out.memory_bytes(), budget.reply_bytes()), (0, 0));
        out.trim();
        assert_eq!(out.batches.capacity(), 0);
    }

    #[test]
    fn the_memory_of_a_long_batch_is_not_kept() {
        let mut out = Outgoing::new(Arc::default());
        for len in [100, KEPT_BYTES_MAX] {
            queue(&mut out, 0, &vec![0; len]);
            let batch = out.take(0).expect("open");
            let before = batch.memory_bytes();
            out.recycle(batch);
            let kept = out.take_spare().expect("recycled just now").memory_bytes();
            assert_eq!((kept == before, kept <= KEPT_BYTES_MAX), (len == 100, true), "{before} bytes, then {kept}");
        }
    }

    /// A read that fails or waits leaves an empty batch behind; the next reply must not wait for that one's gate.
    #[test]
    fn an_empty_batch_has_the_gate_of_its_first_reply() {
        let mut out = Outgoing::new(Arc::default());
        out.batch(9);
        queue(&mut out, 1, b"first");
        assert_eq!(out.take(1).expect("open").to_vec(), b"first");
    }

    #[test]
    fn any_short_send_leaves_the_rest_and_ends_each_reply_once() {
        for step in 1..12 {
            let mut out = Outgoing::new(Arc::default());
            queue(&mut out, 0, b"first");
            queue(&mut out, 0, b"second");
            let mut batch = out.take(0).expect("open");
            let (mut seen, mut ends) = (Vec::new(), 0);
            while batch.len() > 0 {
                let n = step.min(batch.len());
                seen.extend_from_slice(&batch.to_vec()[..n]);
                batch.advance(n, |_| ends += 1);
            }
            assert_eq!((seen.as_slice(), ends), (&b"firstsecond"[..], 2));
        }
    }
}
