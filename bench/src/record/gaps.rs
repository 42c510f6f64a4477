//! A loop that only reads the clock, on the calling thread: a gap between two readings is time in
//! which something else had its cpu.

use super::recorder::{Histogram, histogram};
use std::time::{Duration, Instant};

/// Shorter gaps are the reading itself.
const GAP_MIN: Duration = Duration::from_micros(2);

/// What was taken away.
pub(crate) struct Gaps {
    /// Lengths in nanoseconds.
    pub(crate) lengths: Histogram,
    pub(crate) max_ns: u64,
    /// Sum of all gaps.
    pub(crate) lost: Duration,
    pub(crate) watched: Duration,
}

/// Watches the cpu of the calling thread.
pub(crate) fn watch(time: Duration) -> Gaps {
    let start = Instant::now();
    let mut gaps = Gaps { lengths: histogram(), max_ns: 0, lost: Duration::ZERO, watched: time };
    let mut before = start;
    while before.duration_since(start) < time {
        let now = Instant::now();
        let gap = now.duration_since(before);
        if gap >= GAP_MIN {
            let ns = gap.as_nanos() as u64;
            gaps.lengths.saturating_record(ns);
            gaps.max_ns = gaps.max_ns.max(ns);
            gaps.lost += gap;
        }
        before = now;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_the_sum_of_the_gaps() {
        let gaps = watch(Duration::from_millis(30));
        let sum: u64 =
            gaps.lengths.iter_recorded().map(|at| at.value_iterated_to() * u64::from(at.count_at_value())).sum();
        let lost = gaps.lost.as_nanos() as f64;
        assert!((sum as f64 - lost).abs() <= lost * 0.001 + 1.0, "{sum} {lost}");
        assert!(gaps.lost <= Duration::from_secs(30) && gaps.max_ns as f64 <= lost + 1.0);
    }
}
