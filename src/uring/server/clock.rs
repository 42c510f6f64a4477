//! The time of a turn, and the number of the turn.
//!
//! Must not know: what is done at that time.

use crate::fs::At;
use crate::uring::ring::Ring;

/// A turn that comes so late, in nanoseconds, shows that the process was stopped.
const STOPPED_NS: u64 = 3_000_000_000;

/// Both clocks as they were read last.
pub(super) struct Clock {
    /// The time of this turn.
    pub(super) at: At,
    /// Turns so far.
    pub(super) turn: u64,
    /// Nanoseconds in which the process was stopped.
    stopped_ns: u64,
}

impl Clock {
    pub(super) fn new(ring: &mut impl Ring) -> Clock {
        Clock { at: At { wall: ring.wall(), mono_ns: ring.monotonic() }, turn: 0, stopped_ns: 0 }
    }

    /// Reads both clocks. Time in which the process was stopped (SIGSTOP, a machine that slept) does not count: no peer was
    /// slow then. A long gap shows it while a timer is `armed` that ends a wait every second.
    pub(super) fn read(&mut self, ring: &mut impl Ring, armed: bool) {
        let mono_ns = self.now_ns(ring);
        let gap = mono_ns.saturating_sub(self.at.mono_ns);
        let stopped = if armed && gap > STOPPED_NS { gap } else { 0 };
        self.stopped_ns += stopped;
        self.at = At { wall: ring.wall(), mono_ns: mono_ns - stopped };
    }

    /// Monotonic nanoseconds now, without those in which the process was stopped.
    #[inline]
    pub(super) fn now_ns(&self, ring: &mut impl Ring) -> u64 {
        ring.monotonic() - self.stopped_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::TestRing;

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut ring = TestRing { now_ns: 1000, ..TestRing::default() };
        let mut clock = Clock::new(&mut ring);
        ring.now_ns += STOPPED_NS;
        clock.read(&mut ring, true);
        assert_eq!(clock.at.mono_ns, 1000 + STOPPED_NS, "a turn that is late by less");
        ring.now_ns += STOPPED_NS + 1;
        clock.read(&mut ring, true);
        assert_eq!(clock.at.mono_ns, 1000 + STOPPED_NS);
        ring.now_ns += 5;
        assert_eq!(clock.now_ns(&mut ring), 1005 + STOPPED_NS);
        ring.now_ns += STOPPED_NS;
        clock.read(&mut ring, false);
        assert_eq!(clock.at.mono_ns, 1005 + 2 * STOPPED_NS, "nothing ended the wait: the loop slept");
    }
}
