//! The median of a few values, and how sure it is.

use super::percentile::CONFIDENCE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A median and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Median {
    pub(crate) value: f64,
    /// None with fewer than six values.
    pub(crate) interval: Option<[f64; 2]>,
}

/// Of values of which none says anything of another. The interval is that of the sign test: between two of the sorted values, whatever their distribution is. None of nothing.
pub(crate) fn median(values: &[f64]) -> Option<Median> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    let value = match (sorted.get(count.checked_sub(1)? / 2), sorted.get(count / 2)) {
        (Some(low), Some(high)) => (low + high) / 2.0,
        _ => return None,
    };
    // How many values may be left out at each end: as often as a fair coin falls so or more one-sided.
    let (mut tail, mut term, mut out) = (0.0, 0.5_f64.powi(count as i32), None);
    for left_out in 0..count / 2 {
        tail += term;
        if tail > (1.0 - CONFIDENCE) / 2.0 {
            break;
        }
        out = Some(left_out);
        term *= (count - left_out) as f64 / (left_out + 1) as f64;
    }
    Some(Median { value, interval: out.map(|out| [sorted[out], sorted[count - 1 - out]]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn intervals_are_those_of_the_sign_test() {
        let interval = |count: u32| {
            let values: Vec<f64> = (1..=count).rev().map(f64::from).collect();
            median(&values).expect("values").interval
        };
        // Of tables of the sign test: so many may be left out at each end.
        assert_eq!(interval(5), None);
        assert_eq!(interval(6), Some([1.0, 6.0]));
        assert_eq!(interval(9), Some([2.0, 8.0]));
        assert_eq!(interval(15), Some([4.0, 12.0]));
        assert_eq!(interval(25), Some([8.0, 18.0]));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0, 1.0]).map(|median| median.value), Some(2.5));
    }

    #[test]
    fn they_hold_the_true_median_as_often_as_they_say() {
        let mut random = SmallRng::seed_from_u64(1);
        let held = (0..2000).filter(|_| {
            let values: Vec<f64> = (0..15).map(|_| -random.random::<f64>().ln()).collect();
            let [low, high] = median(&values).and_then(|median| median.interval).expect("15 values");
            (low..=high).contains(&std::f64::consts::LN_2)
        });
        let held = held.count();
        // 96.5 % in theory.
        assert!((1900..=1960).contains(&held), "{held}");
    }
}
