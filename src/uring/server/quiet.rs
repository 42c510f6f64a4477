//! Quiet sends: how the loop learns that a send without a CQE has ended (docs/decisions/08-waiting.md).
//!
//! A quiet send has a CQE only if it has not sent everything. So once everything is submitted, and each CQE that came of it was
//! drained, a quiet send without a CQE has succeeded.
//!
//! Must not know: peers, replies.

use super::io::Io;
use crate::uring::ring::Ring;

/// Quiet sends that were pushed and have not ended.
#[derive(Default)]
pub(super) struct Quiet {
    /// Slots of their peers, with generations.
    pushed: Vec<(u32, u32)>,
    /// When they left, in monotonic nanoseconds.
    left_ns: u64,
    /// Enters and drained CQEs of the ring when the last one was pushed, or when the ring was last found unsettled.
    since: (usize, usize),
    /// Some may have ended, but it is not known yet.
    is_open: bool,
}

impl Quiet {
    /// A quiet send of this peer was pushed.
    #[inline]
    pub(super) fn push<R: Ring>(&mut self, slot: u32, generation: u32, io: &Io<R>) {
        self.pushed.push((slot, generation));
        self.since = io.counts();
    }

    /// A quiet send of another room was pushed.
    #[inline]
    pub(super) fn pushed_another<R: Ring>(&mut self, io: &Io<R>) {
        self.since = io.counts();
    }

    /// No quiet send of a peer is in flight.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.pushed.is_empty()
    }

    /// The loop must not wait: whether quiet sends have ended is found out by a further enter.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// They leave with the enter that follows.
    #[inline]
    pub(super) fn leave(&mut self, now: u64) {
        self.left_ns = now;
    }

    /// When they left, in monotonic nanoseconds.
    #[inline]
    pub(super) fn left_ns(&self) -> u64 {
        self.left_ns
    }

    /// Whether all that was pushed is submitted and seen. It is asked only where quiet sends are in flight, or where `others`
    /// wait for it as well.
    #[inline]
    pub(super) fn settle<R: Ring>(&mut self, io: &mut Io<R>, others: bool) -> bool {
        let due = !self.pushed.is_empty() || others;
        self.is_open = due && !self.is_settled(io);
        due && !self.is_open
    }

    /// Takes those that have ended, once all is [settled](Self::settle). The caller returns the list to [`keep`](Self::keep).
    #[inline]
    pub(super) fn take(&mut self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.pushed)
    }

    /// Keeps the memory of a list.
    pub(super) fn keep(&mut self, ended: Vec<(u32, u32)>) {
        debug_assert!(ended.is_empty() && self.pushed.is_empty());
        self.pushed = ended;
    }

    /// Whether everything that was pushed is submitted, and each CQE of a quiet send was drained. The error of a write comes as
    /// task work (Linux: `io_uring/rw.c`, io_complete_rw): an enter runs that of its own submissions, but behind all that was
    /// there before, and only so much. Each item has a CQE, but for those of operations that were woken before all they wait for
    /// is there; an operation has one item at a time.
    fn is_settled<R: Ring>(&mut self, io: &mut Io<R>) -> bool {
        let (entered, drained) = io.counts();
        if !io.ring.is_settled() {
            self.since = (entered, drained);
            return false;
        }
        let run = (entered - self.since.0) * io.ring.task_work_max() as usize;
        let all_run = run > drained - self.since.1 + io.patient();
        all_run || !io.ring.has_task_work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::TestRing;
    use std::rc::Rc;

    fn begun() -> (Io<TestRing>, Quiet) {
        let mut io = Io::new(TestRing { task_work: true, ..TestRing::default() }, Rc::default());
        let mut quiet = Quiet::default();
        assert!(!quiet.settle(&mut io, false) && !quiet.is_open(), "nothing is asked for");
        io.begin_patient(TestRing::default().task_work_max() as usize - 1);
        quiet.push(3, 7, &io);
        (io, quiet)
    }

    #[test]
    fn a_send_has_ended_once_nothing_is_queued_and_no_task_work_is_left() {
        let (mut io, mut quiet) = begun();
        io.ring.unsettled = true;
        assert!(!quiet.settle(&mut io, false) && quiet.is_open());
        io.ring.unsettled = false;
        assert!(!quiet.settle(&mut io, false) && quiet.is_open(), "its error may be among the task work");
        io.ring.task_work = false;
        assert!(quiet.settle(&mut io, false) && !quiet.is_open());
        let mut ended = quiet.take();
        assert_eq!(ended, [(3, 7)]);
        ended.clear();
        quiet.keep(ended);
        assert!(quiet.is_empty() && !quiet.settle(&mut io, false) && quiet.settle(&mut io, true));
    }

    #[test]
    fn enough_enters_have_run_all_task_work_whatever_the_flag_says() {
        let (mut io, mut quiet) = begun();
        io.ring.cqes = vec![(0, 0, 0)];
        let mut events = io.drain();
        events.clear();
        io.keep(events);
        io.enter(0).expect("the ring works");
        assert!(
            !quiet.settle(&mut io, false),
            "one CQE and all patient operations may have been what the enter has run"
        );
        io.enter(0).expect("the ring works");
        assert!(quiet.settle(&mut io, false));
    }

    #[test]
    fn a_queue_that_is_not_submitted_begins_the_count_anew() {
        let (mut io, mut quiet) = begun();
        for _ in 0..2 {
            io.enter(0).expect("the ring works");
        }
        io.ring.unsettled = true;
        assert!(!quiet.settle(&mut io, false));
        io.ring.unsettled = false;
        assert!(!quiet.settle(&mut io, false), "no enter since");
    }
}
