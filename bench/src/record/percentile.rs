//! Percentiles, and how sure they are.
//!
//! A percentile is given only where at least ten values lie above it; what is above fewer is luck. Its interval comes from a stationary bootstrap (Politis and Romano, "The
//! Stationary Bootstrap", 1994) over the intervals of the run: what is slow now is likely to be slow a moment later, so neighbours are drawn together, in blocks of random length.

use super::recorder::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Of all intervals of confidence.
pub(super) const CONFIDENCE: f64 = 0.95;
/// Those that are given if there are enough values.
const GIVEN: [f64; 9] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.999_99, 0.999_999];
/// So many values lie above one that is given, at least.
const ABOVE_MIN: f64 = 10.0;
/// Points of a curve from 90 to 99 %, from 99 to 99.9 %, and so on.
const TO_EACH_NINE: f64 = 8.0;
const RESAMPLES: usize = 400;
/// With fewer parts there is nothing to draw from.
const PARTS_MIN: usize = 10;

/// A percentile in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Percentile {
    /// 0.99 for p99.
    pub(crate) p: f64,
    pub(crate) value: u64,
    /// Ends of the 95 % interval; none if the run has too few parts.
    pub(crate) interval: Option<[u64; 2]>,
}

/// One, if there are enough values for it.
pub(crate) fn percentile(times: &Histogram, p: f64) -> Option<u64> {
    (times.len() as f64 * (1.0 - p) >= ABOVE_MIN).then(|| times.value_at_quantile(p))
}

/// Those that people ask for.
pub(crate) fn given(curve: &[Percentile]) -> Vec<Percentile> {
    curve.iter().copied().filter(|percentile| GIVEN.contains(&percentile.p)).collect()
}

/// Percentiles of all parts together, which follow each other in time: those that people ask for, and for pictures some more between them.
pub(crate) fn curve(parts: &[&Histogram], seed: u64) -> Vec<Percentile> {
    let between = (0..60).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / TO_EACH_NINE));
    let mut given: Vec<f64> = GIVEN.into_iter().chain(between).collect();
    given.sort_by(f64::total_cmp);
    given.dedup_by(|one, other| *one - *other < 1e-9);
    of_parts(parts, given, seed)
}

fn of_parts(parts: &[&Histogram], mut given: Vec<f64>, seed: u64) -> Vec<Percentile> {
    let parts = Parts::new(parts);
    let count: u64 = parts.all().iter().sum();
    given.retain(|p| count as f64 * (1.0 - p) >= ABOVE_MIN);
    let values = parts.values_at(&parts.all(), &given);
    let mut drawn: Vec<Vec<u64>> = given.iter().map(|_| Vec::with_capacity(RESAMPLES)).collect();
    if parts.counts.len() >= PARTS_MIN {
        let mut random = SmallRng::seed_from_u64(seed);
        for _ in 0..RESAMPLES {
            let sum = parts.resample(&mut random);
            let values = parts.values_at(&sum, &given);
            drawn.iter_mut().zip(values).for_each(|(drawn, value)| drawn.push(value));
        }
    }
    let interval = |mut drawn: Vec<u64>| {
        drawn.sort_unstable();
        let at = |share: f64| drawn.get(((drawn.len() as f64 - 1.0) * share).round() as usize).copied();
        Some([at((1.0 - CONFIDENCE) / 2.0)?, at((1.0 + CONFIDENCE) / 2.0)?])
    };
    let rows = given.into_iter().zip(values).zip(drawn);
    rows.map(|((p, value), drawn)| Percentile { p, value, interval: interval(drawn) }).collect()
}

/// Counts of each part over the values that occur at all.
struct Parts {
    values: Vec<u64>,
    /// By part: which value, how often.
    counts: Vec<Vec<(u32, u32)>>,
}

impl Parts {
    fn new(parts: &[&Histogram]) -> Parts {
        let mut values: Vec<u64> =
            parts.iter().flat_map(|part| part.iter_recorded().map(|at| at.value_iterated_to())).collect();
        values.sort_unstable();
        values.dedup();
        let place = |value: u64| values.binary_search(&value).expect("just collected") as u32;
        let counts = |part: &&Histogram| {
            part.iter_recorded().map(|at| (place(at.value_iterated_to()), at.count_at_value())).collect()
        };
        Parts { counts: parts.iter().map(counts).collect(), values }
    }

    fn all(&self) -> Vec<u64> {
        let mut sum = vec![0; self.values.len()];
        (0..self.counts.len()).for_each(|part| self.add(&mut sum, part));
        sum
    }

    fn add(&self, sum: &mut [u64], part: usize) {
        for &(place, count) in &self.counts[part] {
            sum[place as usize] += u64::from(count);
        }
    }

    /// As many parts as there are, in blocks of neighbours whose length is the cube root of that on average.
    fn resample(&self, random: &mut SmallRng) -> Vec<u64> {
        let parts = self.counts.len();
        let ends = 1.0 / (parts as f64).cbrt();
        let mut sum = vec![0; self.values.len()];
        let mut part = random.random_range(0..parts);
        for _ in 0..parts {
            self.add(&mut sum, part);
            part = if random.random_bool(ends) { random.random_range(0..parts) } else { (part + 1) % parts };
        }
        sum
    }

    /// The smallest values that so much of the sum is not above; `given` ascends.
    fn values_at(&self, sum: &[u64], given: &[f64]) -> Vec<u64> {
        let count: u64 = sum.iter().sum();
        let (mut below, mut place) = (0, 0);
        let mut found = Vec::with_capacity(given.len());
        for p in given {
            let wanted = ((count as f64 * p).ceil() as u64).max(1);
            while below + sum[place] < wanted {
                below += sum[place];
                place += 1;
            }
            found.push(self.values[place]);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::recorder::histogram;
    use super::*;

    fn parts(count: usize, each: usize, mut value: impl FnMut(usize, usize) -> u64) -> Vec<Histogram> {
        let part = |part| {
            let mut histogram = histogram();
            (0..each).for_each(|number| histogram.saturating_record(value(part, number)));
            histogram
        };
        (0..count).map(part).collect()
    }

    fn of(parts: &[Histogram]) -> Vec<Percentile> {
        given(&curve(&parts.iter().collect::<Vec<_>>(), 1))
    }

    #[test]
    fn only_what_enough_values_are_above_is_given() {
        let given = |count| of(&parts(1, count, |_, number| number as u64)).len();
        assert_eq!([19, 20, 999, 1000, 9_999, 10_000].map(given), [0, 1, 4, 5, 5, 6]);
    }

    #[test]
    fn values_are_those_of_the_sorted_list() {
        let found = of(&parts(10, 100, |part, number| (part * 100 + number + 1) as u64));
        let pairs: Vec<_> = found.iter().map(|percentile| (percentile.p, percentile.value)).collect();
        assert_eq!(pairs, [(0.5, 500), (0.75, 750), (0.9, 900), (0.95, 950), (0.99, 990)]);
        let mut whole = histogram();
        parts(10, 100, |part, number| (part * 1000 + number * 7 + 1) as u64)
            .iter()
            .for_each(|part| whole.add(part).expect("the same bounds"));
        for percentile in curve(&[&whole], 1) {
            assert_eq!(percentile.value, whole.value_at_quantile(percentile.p), "{}", percentile.p);
            assert_eq!(percentile.interval, None);
        }
    }

    /// Of 60 runs of independent values, an interval of 95 % misses the true value in about 3.
    #[test]
    fn intervals_hold_the_true_value_as_often_as_they_say() {
        let mut random = SmallRng::seed_from_u64(3);
        let (mut held, runs) = ([0; 2], 60);
        for run in 0..runs {
            // Exponentially distributed with a mean of 100,000.
            let parts = parts(50, 200, |_, _| (-random.random::<f64>().ln() * 100_000.0) as u64 + 1);
            let found = curve(&parts.iter().collect::<Vec<_>>(), run);
            for (held, (p, truth)) in held.iter_mut().zip([(0.5, 69_315.0), (0.99, 460_517.0)]) {
                let [low, high] = found.iter().find(|one| one.p == p).expect("given").interval.expect("50 parts");
                *held += usize::from(low as f64 * 0.999 <= truth && truth <= high as f64 * 1.001);
            }
        }
        assert!(held.iter().all(|held| (51..=60).contains(held)), "{held:?} of {runs}");
    }

    /// A run that is slow for a while is less sure than one whose slow operations are spread.
    #[test]
    fn slow_stretches_widen_the_interval() {
        let width = |parts: &[Histogram]| {
            let [low, high] = of(parts)[2].interval.expect("many parts");
            high - low
        };
        let slow = |slow: bool| if slow { 1_000_000 } else { 1000 };
        let spread = parts(100, 100, |part, number| slow((part * 37 + number) % 100 < 11) + number as u64);
        let stretch = parts(100, 100, |part, number| slow(part < 11) + number as u64);
        assert!(width(&stretch) > 100 * width(&spread).max(1) || width(&spread) == 0 && width(&stretch) > 0);
        assert!(width(&stretch) > width(&spread));
    }
}
