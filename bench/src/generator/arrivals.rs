//! When operations are due: an open loop asks the clock, not the server.
//!
//! A schedule is of the whole run, not of a connection, and knows nothing of what was answered: an operation that could not be sent in time stays due since then, however late it
//! is sent. That keeps a stall of the server visible in every operation that it made wait (coordinated omission is its absence).

use clap::ValueEnum;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp1};
use serde::Serialize;
use std::time::Duration;

/// How operations follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrivals {
    /// One every 1/rate
    Constant,
    /// Independent of each other: pauses are exponentially distributed
    Poisson,
    /// So many at once as --burst says, then a pause
    Burst,
}

impl Arrivals {
    /// For people.
    pub(crate) fn text(self, burst: u32) -> String {
        match self {
            Arrivals::Constant => "constant".into(),
            Arrivals::Poisson => "poisson".into(),
            Arrivals::Burst => format!("bursts of {burst}"),
        }
    }
}

/// The times at which operations are due, in nanoseconds from the start of the run, without end.
pub(crate) struct Schedule {
    arrivals: Arrivals,
    per_second: f64,
    burst: u64,
    random: SmallRng,
    /// How many times have been handed out.
    count: u64,
    /// Sum of the pauses so far, where they are random.
    sum_ns: f64,
    due_ns: u64,
}

impl Schedule {
    /// `burst` operations come at once where arrivals are bursts.
    pub(crate) fn new(arrivals: Arrivals, per_second: f64, burst: u32, seed: u64) -> Schedule {
        let random = SmallRng::seed_from_u64(seed);
        let burst = u64::from(burst.max(1));
        let mut schedule = Schedule { arrivals, per_second, burst, random, count: 0, sum_ns: 0.0, due_ns: 0 };
        schedule.due_ns = schedule.compute();
        schedule
    }

    /// When the next operation is due.
    pub(crate) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// It is on its way: on to the one behind it.
    pub(crate) fn advance(&mut self) {
        self.count += 1;
        self.due_ns = self.compute();
    }

    /// How many are due before a time, none of which has been handed out. Counts on a copy: what is due does not change.
    pub(crate) fn due_before(&self, end: Duration) -> u64 {
        let end_ns = end.as_nanos() as u64;
        match self.arrivals {
            Arrivals::Poisson => {
                let mut copy = Schedule { random: self.random.clone(), ..*self };
                let mut count = 0;
                while copy.due_ns < end_ns {
                    copy.advance();
                    count += 1;
                }
                count
            }
            Arrivals::Constant | Arrivals::Burst => {
                let mut low = self.count;
                let mut high = low + (end.as_secs_f64() * self.per_second) as u64 + 2 * self.burst + 2;
                while low < high {
                    let middle = low + (high - low) / 2;
                    if self.regular(middle) < end_ns { low = middle + 1 } else { high = middle }
                }
                low - self.count
            }
        }
    }

    fn compute(&mut self) -> u64 {
        match self.arrivals {
            Arrivals::Poisson => {
                let pause: f64 = Exp1.sample(&mut self.random);
                self.sum_ns += pause * 1e9 / self.per_second;
                self.sum_ns as u64
            }
            Arrivals::Constant | Arrivals::Burst => self.regular(self.count),
        }
    }

    /// From the number, so that nothing adds up over a long run.
    fn regular(&self, number: u64) -> u64 {
        let number = if self.arrivals == Arrivals::Burst { number - number % self.burst } else { number };
        (number as f64 * 1e9 / self.per_second) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(mut schedule: Schedule, count: usize) -> Vec<u64> {
        std::iter::repeat_with(|| {
            let due = schedule.due_ns();
            schedule.advance();
            due
        })
        .take(count)
        .collect()
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        assert_eq!(first(Schedule::new(Arrivals::Constant, 4000.0, 1, 1), 4), [0, 250_000, 500_000, 750_000]);
        let third = first(Schedule::new(Arrivals::Constant, 3.0, 1, 1), 3_000_001);
        assert_eq!(third[3_000_000], 1_000_000_000_000_000);
    }

    #[test]
    fn bursts_come_at_once_and_keep_the_rate() {
        let times = first(Schedule::new(Arrivals::Burst, 1000.0, 5, 1), 11);
        assert_eq!(times, [0, 0, 0, 0, 0, 5_000_000, 5_000_000, 5_000_000, 5_000_000, 5_000_000, 10_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_their_kind() {
        let times = first(Schedule::new(Arrivals::Poisson, 10_000.0, 1, 7), 100_001);
        let pauses: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = pauses.iter().sum::<f64>() / pauses.len() as f64;
        let variance = pauses.iter().map(|pause| (pause - mean).powi(2)).sum::<f64>() / pauses.len() as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "mean pause {mean}");
        // Of an exponential distribution the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{} and {mean}", variance.sqrt());
        assert_ne!(times[..100], first(Schedule::new(Arrivals::Poisson, 10_000.0, 1, 8), 100));
    }

    #[test]
    fn what_is_due_before_a_time_is_what_comes_before_it() {
        for arrivals in [Arrivals::Constant, Arrivals::Poisson, Arrivals::Burst] {
            for (rate, millis) in [(1.0, 1), (1000.0, 1000), (333.3, 777), (7.0, 999)] {
                let end = Duration::from_millis(millis);
                let mut schedule = Schedule::new(arrivals, rate, 3, 5);
                for _ in 0..3 {
                    let copy = Schedule { random: schedule.random.clone(), ..schedule };
                    let wanted =
                        first(copy, 2000).iter().filter(|due| u128::from(**due) < end.as_nanos()).count() as u64;
                    assert_eq!(schedule.due_before(end), wanted, "{arrivals:?} {rate} {millis}");
                    schedule.advance();
                }
            }
        }
    }
}
