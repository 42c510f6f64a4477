//! `latency.hlog`: once a second a line for each type of request that was answered. Its readers are fed through a [`Tail`].
//!
//! Nothing is recorded by interval while nobody has it open.

use super::tail::{ReaderId, Tail};
use crate::fs::{At, Result};
use crate::stats::{IntervalLog, Lines, Stats};
use crate::wire::Kind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes of lines that are kept for readers that are behind: a line has some hundred, at most some ten thousand.
const LINES_BYTES_MAX: usize = 256 << 10;

/// The log and its readers.
pub(super) struct Intervals {
    pub(super) tail: Tail,
    log: IntervalLog,
    /// When this interval began.
    begun: At,
    /// The interval that is being ended, one type of request in each turn: the line of a type may take 0.3 ms.
    ending: Option<Ending>,
}

#[derive(Clone, Copy)]
struct Ending {
    begun: Duration,
    lasted: Duration,
    /// The first type that has no line yet.
    next: Kind,
}

impl Intervals {
    pub(super) fn new() -> Intervals {
        let lines = Arc::new(Mutex::new(Lines::new(LINES_BYTES_MAX)));
        Intervals { tail: Tail::new(lines), log: IntervalLog::default(), begun: At::default(), ending: None }
    }

    /// A reader from this moment on. The first one's first interval is what is left of the loop's second.
    pub(super) fn open(&mut self, stats: &Stats, at: At) -> Result<ReaderId> {
        let next = self.tail.lines().end();
        let reader = self.tail.open(self.log.head(since_epoch(at)).into(), next)?;
        if self.tail.readers() == 1 {
            stats.latency_mut().watch(true);
            self.begun = at;
        }
        Ok(reader)
    }

    pub(super) fn close(&mut self, stats: &Stats, reader: ReaderId) {
        self.tail.close(reader);
        if self.tail.readers() == 0 {
            stats.latency_mut().watch(false);
            self.tail.lines().clear();
            self.ending = None;
        }
    }

    /// An interval is over. If anyone looks, its lines come with the turns that follow.
    pub(super) fn tick(&mut self, stats: &Stats, at: At) {
        // The last interval has had a second.
        while self.is_ending() {
            self.end_one(stats);
        }
        if self.tail.readers() == 0 {
            return;
        }
        let begun = std::mem::replace(&mut self.begun, at);
        let lasted = Duration::from_nanos(at.mono_ns.saturating_sub(begun.mono_ns));
        self.ending = Some(Ending { begun: since_epoch(begun), lasted, next: Kind(0) });
        self.end_one(stats);
    }

    /// Whether lines of the last interval are still to come.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Writes the next line.
    pub(super) fn end_one(&mut self, stats: &Stats) {
        let Some(ending) = &mut self.ending else { return };
        let mut lines = self.tail.lines();
        let latency = &mut stats.latency_mut();
        match self.log.end_interval_of(latency, ending.next, ending.begun, ending.lasted, &mut lines) {
            Some(next) => ending.next = next,
            None => self.ending = None,
        }
    }
}

fn since_epoch(at: At) -> Duration {
    Duration::new(u64::try_from(at.wall.sec).unwrap_or(0), at.wall.nsec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Time;

    fn at(seconds: u64) -> At {
        At { wall: Time { sec: seconds as i64, nsec: 0 }, mono_ns: seconds * 1_000_000_000 }
    }

    /// In the middle of an interval that is being ended: its lines go, and no more are made.
    #[test]
    fn nothing_is_left_when_the_last_reader_goes() {
        let stats = Stats::default();
        let mut intervals = Intervals::new();
        let reader = intervals.open(&stats, at(1)).expect("room for a reader");
        [Kind::TREAD, Kind::TWRITE].iter().for_each(|&kind| stats.replied(kind, 1000));
        intervals.tick(&stats, at(2));
        assert!(intervals.is_ending() && intervals.tail.lines().end() > 0);
        intervals.close(&stats, reader);
        assert!(!intervals.is_ending());
        let lines = intervals.tail.lines();
        assert_eq!((lines.start(), intervals.tail.readers()), (lines.end(), 0));
    }
}
