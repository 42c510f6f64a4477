//! Replies that wait to be sent.
//!
//! Replies are queued in batches, and a batch is handed out as a whole. A reply whose gate is closed is held in a batch of
//! that gate, so that replies that may leave now overtake it.

use super::budget::Budget;
use crate::fs::{Gate, Iovec, Mark, Part};
use crate::wire::{Kind, Tag};
use std::collections::{BTreeMap, VecDeque};
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
    /// What all replies wait for, and their tags while they do.
    gate: Gate,
    tags: Vec<Tag>,
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
    #[inline(always)]
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
        let is_large = self.memory_bytes() > KEPT_BYTES_MAX;
        self.discharge();
        // Each field by its name: one that is added must say here what becomes of it.
        let Batch { iovec, replies, gate, tags, budget: _, charged: _, parts_sent, part_sent, sent, replies_sent } =
            &mut *self.0;
        if is_large {
            (*iovec, *replies) = (Iovec::default(), Vec::new());
        }
        iovec.clear();
        replies.clear();
        (*gate, *tags) = (Gate::OPEN, Vec::new());
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

/// The replies that wait.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// The batch that the next reply goes into.
    current: Option<Segments>,
    /// What few sessions have.
    late: Option<Box<Late>>,
    spare: Option<Segments>,
    budget: Arc<Budget>,
}

/// Replies that have waited for gates, or do.
#[derive(Debug, Default)]
struct Late {
    /// Those whose gates have opened: they leave first.
    released: VecDeque<Segments>,
    /// Those whose gates were closed when they came, in the order of their gates. Each gate has one.
    gated: VecDeque<Segments>,
    /// The tags of the replies in these, with their gates: they are in use until the replies have left.
    tags: BTreeMap<Tag, Gate>,
}

impl Late {
    fn is_empty(&self) -> bool {
        self.released.is_empty() && self.gated.is_empty()
    }

    /// The batch of replies that wait for this gate.
    fn batch_of(&mut self, gate: Gate, budget: &Arc<Budget>) -> &mut Segments {
        let place = self.gated.partition_point(|batch| batch.0.gate < gate);
        if self.gated.get(place).is_none_or(|batch| batch.0.gate != gate) {
            let mut batch = Segments::default();
            (batch.0.budget, batch.0.gate) = (Some(Arc::clone(budget)), gate);
            self.gated.insert(place, batch);
        }
        &mut self.gated[place]
    }

    /// Replies whose gates are open by now may leave.
    fn release(&mut self, is_open: impl Fn(Gate) -> bool) {
        let mut place = 0;
        while let Some(batch) = self.gated.get(place) {
            let gate = batch.0.gate;
            if !is_open(gate) {
                // None of the same tree is open.
                place = self.gated.partition_point(|batch| batch.0.gate.tree() <= gate.tree());
            } else if let Some(mut batch) = self.gated.remove(place) {
                for tag in std::mem::take(&mut batch.0.tags) {
                    self.tags.remove(&tag);
                }
                self.released.push_back(batch);
            }
        }
    }

    /// The gate behind those of the same tree as the gate at this place, and that gate.
    fn gate_at(&self, place: usize) -> Option<(Gate, usize)> {
        let gate = self.gated.get(place)?.0.gate;
        Some((gate, self.gated.partition_point(|batch| batch.0.gate.tree() <= gate.tree())))
    }
}

impl Outgoing {
    pub(super) fn new(budget: Arc<Budget>) -> Outgoing {
        Outgoing { current: None, late: None, spare: None, budget }
    }

    /// The batch that the next reply goes into.
    #[inline(always)]
    pub(super) fn batch(&mut self) -> &mut Segments {
        if self.current.is_none() {
            self.begin();
        }
        self.current.as_mut().expect("there is one now")
    }

    fn begin(&mut self) {
        let mut batch = self.spare.take().unwrap_or_default();
        // One that was used before has it still.
        if !batch.0.budget.as_ref().is_some_and(|budget| Arc::ptr_eq(budget, &self.budget)) {
            batch.0.budget = Some(Arc::clone(&self.budget));
        }
        self.current = Some(batch);
    }

    /// What was appended to the batch since `mark` is a reply that leaves once this gate, which is closed, is open. Replies
    /// behind it overtake it.
    #[cold]
    pub(super) fn hold(&mut self, mark: Mark, gate: Gate, tag: Tag, kind: Kind, at_ns: u64) {
        let current = self.batch();
        let reply = current.iovec().split_off(mark);
        current.charge();
        let late = self.late.get_or_insert_default();
        let batch = late.batch_of(gate, &self.budget);
        batch.iovec().append(reply);
        batch.0.tags.push(tag);
        batch.end_reply(kind, at_ns);
        late.tags.insert(tag, gate);
    }

    /// The gate of a reply with this tag that waits for it.
    #[inline]
    pub(super) fn gate_of(&self, tag: Tag) -> Option<Gate> {
        self.late.as_ref()?.tags.get(&tag).copied()
    }

    /// The gates that replies wait for: the first one of each tree.
    pub(super) fn gates(&self) -> impl Iterator<Item = Gate> {
        let mut place = 0;
        std::iter::from_fn(move || {
            let (gate, next) = self.late.as_ref()?.gate_at(place)?;
            place = next;
            Some(gate)
        })
    }

    /// Nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.late.as_ref().is_none_or(|late| late.is_empty())
    }

    fn all(&self) -> impl Iterator<Item = &Segments> {
        let late = self.late.iter().flat_map(|late| late.released.iter().chain(&late.gated));
        self.current.iter().chain(late)
    }

    pub(super) fn bytes(&self) -> usize {
        self.all().map(|batch| batch.0.iovec.len()).sum()
    }

    /// Bytes in all that are in no file, with the lists of what is where.
    pub(super) fn own_bytes(&self) -> usize {
        self.all().map(Segments::own_bytes).sum()
    }

    /// Memory in bytes of what waits, used or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.all().map(Segments::memory_bytes).sum()
    }

    #[inline]
    pub(super) fn take(&mut self, is_open: impl Fn(Gate) -> bool) -> Option<Segments> {
        if let Some(late) = &mut self.late {
            late.release(is_open);
            if let Some(batch) = late.released.pop_front() {
                return Some(batch);
            }
        }
        self.current.take_if(|batch| !batch.0.replies.is_empty())
    }

    /// Keeps the memory of a batch for the next one.
    pub(super) fn recycle(&mut self, mut segments: Segments) {
        segments.clear();
        self.spare = Some(segments);
    }

    pub(super) fn trim(&mut self) {
        self.late.take_if(|late| late.is_empty());
    }

    /// Whether the next reply has memory.
    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// The memory of the next batch. A batch that a request without a reply has left empty is no longer kept for one.
    pub(super) fn take_spare(&mut self) -> Option<Segments> {
        if let Some(batch) = self.current.take_if(|batch| batch.0.replies.is_empty()) {
            self.recycle(batch);
        }
        self.spare.take()
    }

    pub(super) fn clear(&mut self) {
        (self.current, self.late) = (None, None);
    }

    /// Drops what waits for gates.
    pub(super) fn forget_gated(&mut self) {
        if let Some(late) = &mut self.late {
            late.gated.clear();
            late.tags.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    /// A reply that may leave.
    fn queue(out: &mut Outgoing, bytes: &[u8]) {
        let batch = out.batch();
        batch.iovec().put_copy(bytes);
        batch.end_reply(Kind::TREAD, 0);
    }

    /// A reply whose gate is closed. Its tag is the number of its gate, unless that one has a reply already.
    fn hold(out: &mut Outgoing, gate: u64, bytes: &[u8]) {
        let tag = (gate as Tag..).step_by(1000).find(|&tag| out.gate_of(tag).is_none()).expect("few are held");
        let iovec = out.batch().iovec();
        let mark = iovec.mark();
        iovec.put_copy(bytes);
        out.hold(mark, Gate(gate), tag, Kind::TREAD, gate);
    }

    /// What may leave once this gate, and all before it, are open.
    fn take(out: &mut Outgoing, opened: u64) -> Option<Vec<u8>> {
        out.take(|gate| gate.0 <= opened).map(|batch| batch.to_vec())
    }

    #[test]
    fn replies_leave_in_the_order_of_their_gates_and_open_ones_overtake() {
        let mut out = Outgoing::new(Arc::default());
        queue(&mut out, b"first");
        hold(&mut out, 6, b"fourth");
        hold(&mut out, 5, b"second");
        hold(&mut out, 5, b"third");
        queue(&mut out, b"1");
        assert_eq!(take(&mut out, 4).expect("two are open"), b"first1");
        assert_eq!((out.gate_of(5), out.gate_of(1005), out.gate_of(6)), (Some(Gate(5)), Some(Gate(5)), Some(Gate(6))));
        assert!(take(&mut out, 4).is_none());
        queue(&mut out, b"last");
        assert_eq!(take(&mut out, 5).expect("two more are open"), b"secondthird");
        assert_eq!((out.gate_of(5), out.gate_of(1005)), (None, None), "their tags are free");
        assert_eq!(out.bytes(), 10);
        assert_eq!(take(&mut out, 5).expect("behind what was held for long"), b"last");
        assert_eq!(take(&mut out, u64::MAX).expect("all are open"), b"fourth");
        assert!(out.is_empty());
    }

    /// Each tree opens its gates in its own order.
    #[test]
    fn gates_of_several_trees_do_not_wait_for_each_other() {
        const OTHER: u64 = 1 << 56;
        let mut out = Outgoing::new(Arc::default());
        for gate in [OTHER + 1, 7, OTHER + 2, 8, OTHER + 1] {
            hold(&mut out, gate, &[gate as u8]);
        }
        assert_eq!(out.gates().collect::<Vec<_>>(), [Gate(7), Gate(OTHER + 1)]);
        let batch = out.take(|gate| gate == Gate(OTHER + 1)).expect("open");
        assert_eq!(batch.to_vec(), [1, 1]);
        assert!(out.take(|gate| gate == Gate(OTHER + 1)).is_none());
        assert_eq!(out.gates().collect::<Vec<_>>(), [Gate(7), Gate(OTHER + 2)]);
        let left: Vec<_> = std::iter::from_fn(|| take(&mut out, u64::MAX)).flatten().collect();
        assert_eq!(left, [7, 8, 2]);
        assert_eq!(out.gates().count(), 0);
    }

    /// A long reply leaves in pieces, and its socket may be full for long in between.
    #[test]
    fn each_slice_is_unpinned_once_it_has_left() {
        let mut arena = Arena::new(1 << 20).expect("a small mapping");
        let block = arena.alloc(300).expect("room");
        arena.write(&block, 0, &[7; 300]);
        let mut out = Outgoing::new(Arc::default());
        let batch = out.batch();
        (0..3).for_each(|n| batch.iovec().put_slice(arena.slice(&block, n * 100..n * 100 + 100)));
        batch.end_reply(Kind::TREAD, 0);
        let mut batch = out.take(|_| false).expect("open");
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
        queue(&mut out, b"reply");
        (1..100).for_each(|gate| hold(&mut out, gate, b"reply"));
        assert_eq!(budget.reply_bytes(), out.memory_bytes(), "those that are held count, too");
        while out.take(|_| true).is_some() {}
        // A batch without a reply is not counted: it is given up at the end of the turn.
        out.batch();
        assert_eq!(budget.reply_bytes(), 0);
        assert!(out.take_spare().is_some());
        assert_eq!((out.memory_bytes(), budget.reply_bytes()), (0, 0));
        out.trim();
        assert!(out.late.is_none());
    }

    #[test]
    fn the_memory_of_a_long_batch_is_not_kept() {
        let mut out = Outgoing::new(Arc::default());
        for len in [100, KEPT_BYTES_MAX] {
            queue(&mut out, &vec![0; len]);
            let batch = out.take(|_| false).expect("open");
            let before = batch.memory_bytes();
            out.recycle(batch);
            let kept = out.take_spare().expect("recycled just now").memory_bytes();
            assert_eq!((kept == before, kept <= KEPT_BYTES_MAX), (len == 100, true), "{before} bytes, then {kept}");
        }
    }

    /// A read that fails or waits, and a reply that is held, leave an empty batch behind; the next reply must not wait for
    /// that one's gate.
    #[test]
    fn an_empty_batch_is_not_handed_out_and_waits_for_no_gate() {
        let mut out = Outgoing::new(Arc::default());
        hold(&mut out, 9, b"held");
        assert!(take(&mut out, 1).is_none());
        queue(&mut out, b"first");
        assert_eq!(take(&mut out, 1).expect("open"), b"first");
        assert_eq!(take(&mut out, 9).expect("open by now"), b"held");
    }

    #[test]
    fn any_short_send_leaves_the_rest_and_ends_each_reply_once() {
        for step in 1..12 {
            let mut out = Outgoing::new(Arc::default());
            queue(&mut out, b"first");
            queue(&mut out, b"second");
            let mut batch = out.take(|_| false).expect("open");
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
