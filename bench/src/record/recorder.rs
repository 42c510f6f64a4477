//! Histograms of a run: response, service and lag of its operations, by kind of operation and by
//! interval.

use crate::generator::{Op, Record};
use std::time::Duration;

pub(crate) type Histogram = hdrhistogram::Histogram<u32>;

/// Smallest and largest value, and significant digits: what is above is counted as this, and the exact maximum is kept beside.
const LOW_NS: u64 = 1;
const HIGH_NS: u64 = 200_000_000_000;
const DIGITS: u8 = 3;

pub(crate) fn histogram() -> Histogram {
    Histogram::new_with_bounds(LOW_NS, HIGH_NS, DIGITS).expect("sound bounds")
}

/// The three times of operations.
#[derive(Clone)]
pub(crate) struct Times {
    pub(crate) response: Histogram,
    pub(crate) service: Histogram,
    pub(crate) lag: Histogram,
    /// Longest response, service and lag, exactly.
    pub(crate) max_ns: [u64; 3],
}

impl Times {
    pub(crate) fn new() -> Times {
        Times { response: histogram(), service: histogram(), lag: histogram(), max_ns: [0; 3] }
    }

    fn record(&mut self, times: [u64; 3]) {
        self.response.saturating_record(times[0]);
        self.service.saturating_record(times[1]);
        self.lag.saturating_record(times[2]);
        for (max, time) in self.max_ns.iter_mut().zip(times) {
            *max = (*max).max(time);
        }
    }

    pub(crate) fn add(&mut self, other: &Times) {
        self.response.add(&other.response).expect("the same bounds");
        self.service.add(&other.service).expect("the same bounds");
        self.lag.add(&other.lag).expect("the same bounds");
        for (max, other) in self.max_ns.iter_mut().zip(other.max_ns) {
            *max = (*max).max(other);
        }
    }
}

/// What ended within a part of the run.
pub(crate) struct Interval {
    /// From the start of the measured time.
    pub(crate) start: Duration,
    /// By operation, in the order of the recorder's.
    pub(crate) times: Vec<Times>,
}

/// Takes in times, and keeps them by interval. An interval costs memory only where it has values, as its tables begin as untouched pages.
pub(crate) struct Recorder {
    ops: Vec<Op>,
    begin_ns: u64,
    interval_ns: u64,
    /// Where the current interval ends.
    until_ns: u64,
    intervals: Vec<Interval>,
}

impl Recorder {
    /// Of a run that is measured from `begin` for `duration`, in so many intervals.
    pub(crate) fn new(ops: Vec<Op>, begin: Duration, duration: Duration, intervals: u32) -> Recorder {
        let (begin_ns, interval_ns) = (begin.as_nanos() as u64, (duration / intervals).as_nanos().max(1) as u64);
        let first = Interval { start: Duration::ZERO, times: ops.iter().map(|_| Times::new()).collect() };
        let mut all = Vec::with_capacity(intervals as usize + 2);
        all.push(first);
        Recorder { ops, begin_ns, interval_ns, until_ns: begin_ns + interval_ns, intervals: all }
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval_ns)
    }

    /// All of an operation.
    pub(crate) fn total(&self, op: usize) -> Times {
        let mut total = Times::new();
        self.intervals.iter().for_each(|interval| total.add(&interval.times[op]));
        total
    }

    #[cold]
    fn begin_interval(&mut self, now_ns: u64) {
        // Of those in which nothing ended there is none.
        let number = (now_ns - self.begin_ns) / self.interval_ns;
        let start = Duration::from_nanos(number * self.interval_ns);
        self.until_ns = self.begin_ns + (number + 1) * self.interval_ns;
        self.intervals.push(Interval { start, times: self.ops.iter().map(|_| Times::new()).collect() });
    }
}

impl Record for Recorder {
    #[inline]
    fn record(&mut self, op: Op, scheduled_ns: u64, sent_ns: u64, received_ns: u64) {
        if received_ns >= self.until_ns {
            self.begin_interval(received_ns);
        }
        let number = self.ops.iter().position(|one| *one == op).expect("an operation of the run");
        let times = [received_ns - scheduled_ns, received_ns - sent_ns, sent_ns - scheduled_ns];
        let interval = self.intervals.last_mut().expect("there is always one");
        interval.times[number].record(times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_by_operation_and_interval() {
        let ops = vec![Op::Read, Op::Write];
        let mut recorder = Recorder::new(ops, Duration::from_nanos(1000), Duration::from_nanos(1000), 10);
        recorder.record(Op::Read, 1000, 1020, 1050);
        recorder.record(Op::Write, 1010, 1010, 1060);
        recorder.record(Op::Read, 1020, 1100, 1350);
        // Those that end after the time was up are of the run all the same.
        recorder.record(Op::Read, 1900, 1900, 5000);
        let starts: Vec<_> = recorder.intervals().iter().map(|interval| interval.start.as_nanos()).collect();
        assert_eq!(starts, [0, 300, 4000]);
        let read = recorder.total(0);
        assert_eq!((read.response.len(), read.max_ns), (3, [3100, 3100, 80]));
        assert_eq!(read.lag.max(), 80);
        assert_eq!(recorder.total(1).service.max(), 50);
    }
}
