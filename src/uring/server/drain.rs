//! The end of serving, the signals that begin it, and the timer that ends a wait every second.
//!
//! Must not know: peers, listeners.

use super::io::Io;
use crate::uring::flight;
use crate::uring::ring::Ring;
use crate::uring::token::{Op, Token};
use nix::libc;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::RawFd;

/// How long a drain waits for replies to leave, in nanoseconds.
const DRAIN_NS: u64 = 5_000_000_000;

/// Whether the loop drains, and what it is told by signals and by the timer.
pub(super) struct Drain {
    /// By when the drain is to be over, in monotonic nanoseconds; `None` while the loop serves.
    until_ns: Option<u64>,
    /// It was asked for twice.
    is_hurried: bool,
    signals: Option<RawFd>,
    /// The timer is in flight.
    is_timed: bool,
}

impl Drain {
    pub(super) fn new(signals: Option<RawFd>) -> Drain {
        Drain { until_ns: None, is_hurried: false, signals, is_timed: false }
    }

    /// The loop drains: nothing new is accepted, and replies leave.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.until_ns.is_some()
    }

    /// By when the drain is to be over, in monotonic nanoseconds.
    pub(super) fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }

    /// The drain is to be over: its time has passed, or it was asked for twice.
    pub(super) fn is_over(&self, now: u64) -> bool {
        self.until_ns.is_some_and(|until| now >= until)
    }

    /// The drain was asked for twice: connections are closed at once, and asks are not waited for.
    pub(super) fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// Begins the drain. False if it had begun: then it is to be over now.
    pub(super) fn begin(&mut self, now: u64) -> bool {
        let is_first = self.until_ns.is_none();
        self.is_hurried = !is_first;
        self.until_ns = Some(if is_first { now + DRAIN_NS } else { now });
        is_first
    }

    /// Polls the descriptor of signals.
    pub(super) fn watch<R: Ring>(&self, io: &mut Io<R>) -> io::Result<()> {
        let Some(fd) = self.signals else { return Ok(()) };
        io.push(|ring| flight::poll(ring, fd, Token::new(Op::Signal, 0, 0)))
    }

    /// Reads the signals that have come: none, if it was the poll of the descriptor that failed. True if one of them ends the
    /// server (SIGTERM and SIGINT); the others are logged.
    pub(super) fn hears_end(&self, ring: &mut impl Ring) -> bool {
        let Some(fd) = self.signals else { return false };
        let mut ends = None;
        ring.take_signals(fd, |signal| match signal {
            libc::SIGTERM | libc::SIGINT => ends = Some(signal),
            // Each signal is a kind of line of its own, but for the real-time ones.
            _ => log::info!(
                target: Signal::try_from(signal).map_or("real-time signal", Signal::as_str),
                "{} has no meaning here and is ignored; SIGTERM ends the server", name_of(signal)
            ),
        });
        if let Some(signal) = ends {
            let waits = if self.is_on() { " again; connections are closed now" } else { "; replies have 5 s to leave" };
            log::info!(target: "end", "{}: the server ends{waits}", name_of(signal));
        }
        ends.is_some()
    }

    /// Submits the timer, if it is not in flight.
    #[inline]
    pub(super) fn arm_timer<R: Ring>(&mut self, io: &mut Io<R>) -> io::Result<()> {
        if std::mem::replace(&mut self.is_timed, true) {
            return Ok(());
        }
        io.push(|ring| flight::wait(ring, &flight::SWEEP, Token::new(Op::Sweep, 0, 0)))
    }

    /// The timer has ended.
    pub(super) fn timer_ended(&mut self) {
        self.is_timed = false;
    }

    /// The timer is in flight: no turn is later than a second, unless the process was stopped.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.is_timed
    }
}

fn name_of(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::TestRing;
    use std::rc::Rc;

    #[test]
    fn the_second_request_to_end_waits_for_nothing() {
        let mut drain = Drain::new(None);
        assert!(!drain.is_on() && !drain.is_over(u64::MAX));
        assert!(drain.begin(1000));
        assert!(
            drain.is_on() && !drain.is_hurried() && !drain.is_over(999 + DRAIN_NS) && drain.is_over(1000 + DRAIN_NS)
        );
        assert!(!drain.begin(1001));
        assert!(drain.is_over(1001) && drain.is_hurried());
    }

    #[test]
    fn two_signals_end_the_server_and_others_do_not() {
        let drain = Drain::new(Some(5));
        for (signals, ends) in [(vec![], false), (vec![1, 12, 40], false), (vec![1, 15], true), (vec![2], true)] {
            let mut ring = TestRing { signals, ..TestRing::default() };
            assert_eq!(drain.hears_end(&mut ring), ends);
            assert!(ring.signals.is_empty(), "all are taken");
        }
        assert!(!Drain::new(None).hears_end(&mut TestRing { signals: vec![15], ..TestRing::default() }));
    }

    #[test]
    fn one_timer_is_in_flight() {
        let (mut drain, mut io) = (Drain::new(None), Io::new(TestRing::default(), Rc::default()));
        for timers in [1, 1] {
            drain.arm_timer(&mut io).expect("the ring works");
            assert_eq!((io.ring.pushed.len(), drain.is_timed()), (timers, true));
        }
        drain.timer_ended();
        assert!(!drain.is_timed());
        drain.arm_timer(&mut io).expect("the ring works");
        assert_eq!(io.ring.pushed.len(), 2);
    }
}
