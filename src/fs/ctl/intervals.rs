//! `latency.hlog`: once a second a line for each type of request that was answered. Its readers are fed through a [`Tail`].
//!
//! Nothing is recorded by interval while nobody has it open.

use super::tail::{ReaderId, Tail};
use crate::fs::{At, Result};
use crate::stats::{IntervalLog, Lines, Stats};
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
}

impl Intervals {
    pub(super) fn new(serial: u64) -> Intervals {
        let lines = Arc::new(Mutex::new(Lines::new(LINES_BYTES_MAX)));
        Intervals { tail: Tail::new(lines, serial), log: IntervalLog::default(), begun: At::default() }
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
        }
    }

    /// Ends an interval, if anyone looks.
    pub(super) fn tick(&mut self, stats: &Stats, at: At) {
        if self.tail.readers() == 0 {
            return;
        }
        let begun = std::mem::replace(&mut self.begun, at);
        let lasted = Duration::from_nanos(at.mono_ns.saturating_sub(begun.mono_ns));
        let mut lines = self.tail.lines();
        self.log.end_interval(&mut stats.latency_mut(), since_epoch(begun), lasted, &mut lines);
    }
}

fn since_epoch(at: At) -> Duration {
    Duration::new(u64::try_from(at.wall.sec).unwrap_or(0), at.wall.nsec)
}
