//! The ring, and what the loop counts of it: enters, drained CQEs, and operations that a wake-up may leave without a CQE.
//!
//! Must not know: peers, and what an operation is for.

use crate::stats::Stats;
use crate::uring::ring::Ring;
use std::io;
use std::rc::Rc;

/// A CQE: `user_data`, `res` and `flags`.
pub(super) type Event = (u64, i32, u32);

/// A ring with its counts.
pub(super) struct Io<R: Ring> {
    pub(super) ring: R,
    stats: Rc<Stats>,
    /// Enters so far.
    entered: usize,
    /// CQEs drained so far.
    drained: usize,
    /// Operations in flight that a wake-up may leave without a CQE: receives into blocks, sends that wait for room, writes of
    /// log lines, and all asks of the tree: each kind may wait for something, be it a page (buffered reads) or another machine.
    patient: usize,
    /// The memory of the last list of CQEs.
    events: Vec<Event>,
}

impl<R: Ring> Io<R> {
    pub(super) fn new(ring: R, stats: Rc<Stats>) -> Io<R> {
        Io { ring, stats, entered: 0, drained: 0, patient: 0, events: Vec::new() }
    }

    /// Submits what is queued, and waits for `want` CQEs.
    #[inline]
    pub(super) fn enter(&mut self, want: u32) -> io::Result<()> {
        self.stats.counters.enters.up();
        self.entered += 1;
        self.ring.submit_and_wait(want)
    }

    /// Calls `push` until it says that the entry is in the queue. Submits the queue where it is full; no CQE is drained
    /// meanwhile.
    #[inline]
    pub(super) fn push(&mut self, mut push: impl FnMut(&mut R) -> bool) -> io::Result<()> {
        while !push(&mut self.ring) {
            self.enter(0)?;
        }
        Ok(())
    }

    /// All CQEs that are there. The caller returns the list to [`keep`](Self::keep) once it is empty.
    #[inline]
    pub(super) fn drain(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.events);
        self.ring.drain(|user_data, res, flags| events.push((user_data, res, flags)));
        self.stats.counters.cqes.add(events.len() as u64);
        self.drained += events.len();
        events
    }

    /// Keeps the memory of a list of CQEs for the next one.
    pub(super) fn keep(&mut self, events: Vec<Event>) {
        debug_assert!(events.is_empty(), "every CQE is handled");
        self.events = events;
    }

    /// Enters and drained CQEs so far.
    #[inline]
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.entered, self.drained)
    }

    /// Operations were submitted that a wake-up may leave without a CQE.
    #[inline]
    pub(super) fn begin_patient(&mut self, count: usize) {
        self.patient += count;
    }

    /// Such operations have ended.
    #[inline]
    pub(super) fn end_patient(&mut self, count: usize) {
        self.patient -= count;
    }

    /// Such operations in flight.
    #[inline]
    pub(super) fn patient(&self) -> usize {
        self.patient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::TestRing;

    #[test]
    fn a_full_queue_is_submitted_and_the_entry_pushed_again() {
        let mut io = Io::new(TestRing::default(), Rc::default());
        let mut tries = 0;
        let push = |_: &mut TestRing| {
            tries += 1;
            tries == 3
        };
        io.push(push).expect("the ring works");
        assert_eq!((io.counts(), io.ring.enters.as_slice()), ((2, 0), [0, 0].as_slice()));
    }

    #[test]
    fn drained_cqes_are_counted_once() {
        let mut io = Io::new(TestRing::default(), Rc::default());
        io.ring.cqes = vec![(1, 2, 3), (4, 5, 6)];
        let mut events = io.drain();
        assert_eq!(events, [(1, 2, 3), (4, 5, 6)]);
        events.clear();
        io.keep(events);
        assert!(io.drain().is_empty());
        assert_eq!(io.counts(), (0, 2));
    }
}
