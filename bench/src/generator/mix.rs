//! Which operation comes next, on which file, of what size.

use super::operation::{Op, Task};
use anyhow::{Context, bail, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::weighted::WeightedIndex;
use rand_distr::{Distribution, Zipf};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Values with weights: `read=70,write=30`, or one value alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Weighted<T>(pub(crate) Vec<(T, f64)>);

impl<T: Copy> Weighted<T> {
    pub(crate) fn values(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(value, _)| *value)
    }
}

impl<T: fmt::Display> fmt::Display for Weighted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(value, _)] = &self.0[..] {
            return write!(f, "{value}");
        }
        for (number, (value, weight)) in self.0.iter().enumerate() {
            write!(f, "{}{value}={weight}", if number > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

fn parse<T>(text: &str, value: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Weighted<T>> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
        let weight: f64 = weight.trim().parse().with_context(|| format!("{weight:?} is no weight"))?;
        ensure!(weight.is_finite() && weight > 0.0, "a weight is above 0, not {weight}");
        all.push((value(name.trim())?, weight));
    }
    Ok(Weighted(all))
}

impl FromStr for Weighted<Op> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Weighted<Op>> {
        let weighted = parse(text, |name| {
            let names = Op::ALL.map(Op::name).join(", ");
            Op::of_name(name).with_context(|| format!("{name:?} is no operation; there are {names}"))
        })?;
        for (number, op) in weighted.values().enumerate() {
            ensure!(!weighted.values().take(number).any(|other| other == op), "{op} comes twice");
        }
        Ok(weighted)
    }
}

impl FromStr for Weighted<u32> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Weighted<u32>> {
        parse(text, |size| {
            let bytes = size_of(size)?;
            u32::try_from(bytes).ok().filter(|&bytes| bytes > 0).with_context(|| format!("{size:?}: 1 byte to 4 GiB"))
        })
    }
}

/// Bytes: `4096`, `64KiB`, `1MiB`.
pub(crate) fn size_of(text: &str) -> anyhow::Result<u64> {
    match parse_size::parse_size(text) {
        Ok(bytes) => Ok(bytes),
        Err(_) => bail!("{text:?} is no size: 4096, 64KiB, 1MiB"),
    }
}

/// What a run consists of.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Mix {
    pub(crate) operations: Weighted<Op>,
    /// Bytes of reads and writes.
    pub(crate) sizes: Weighted<u32>,
    pub(crate) files: u32,
    pub(crate) file_bytes: u64,
    /// Exponent of Zipf's law for the choice of a file; 0: all alike.
    pub(crate) zipf: f64,
    /// Reads and writes follow each other in a file, and begin anew at its end.
    pub(crate) sequential: bool,
}

impl Mix {
    /// Largest read or write in bytes.
    pub(crate) fn size_max(&self) -> u32 {
        self.sizes.values().max().unwrap_or(1)
    }

    pub(crate) fn has_sizes(&self) -> bool {
        self.operations.values().any(Op::has_size)
    }
}

/// Chooses, by a seed.
pub(crate) struct Chooser {
    operations: (Vec<Op>, WeightedIndex<f64>),
    sizes: (Vec<u32>, WeightedIndex<f64>),
    popularity: Option<Zipf<f64>>,
    files: u32,
    file_bytes: u64,
    /// Where the next one is in each file, if they follow each other.
    next: Option<Vec<u64>>,
    random: SmallRng,
}

impl Chooser {
    pub(crate) fn new(mix: &Mix, seed: u64) -> anyhow::Result<Chooser> {
        fn table<T: Copy>(weighted: &Weighted<T>) -> anyhow::Result<(Vec<T>, WeightedIndex<f64>)> {
            let weights = weighted.0.iter().map(|(_, weight)| weight);
            Ok((weighted.values().collect(), WeightedIndex::new(weights)?))
        }
        let zipf = || Zipf::new(f64::from(mix.files), mix.zipf).context("--zipf");
        Ok(Chooser {
            operations: table(&mix.operations)?,
            sizes: table(&mix.sizes)?,
            popularity: (mix.zipf > 0.0).then(zipf).transpose()?,
            files: mix.files,
            file_bytes: mix.file_bytes,
            next: mix.sequential.then(|| vec![0; mix.files as usize]),
            random: SmallRng::seed_from_u64(seed),
        })
    }

    pub(crate) fn next(&mut self) -> Task {
        let random = &mut self.random;
        // The usual run has one operation and one size, and a choice among one costs as much as among many.
        let pick = |table: &WeightedIndex<f64>, count: usize, random: &mut SmallRng| {
            if count == 1 { 0 } else { table.sample(random) }
        };
        let op = self.operations.0[pick(&self.operations.1, self.operations.0.len(), random)];
        let file = match &self.popularity {
            Some(zipf) => zipf.sample(random) as u32 - 1,
            None if self.files == 1 => 0,
            None => random.random_range(0..self.files),
        };
        if !op.has_size() {
            return Task::new(op, file, 0, 0);
        }
        let size = self.sizes.0[pick(&self.sizes.1, self.sizes.0.len(), random)];
        let places = (self.file_bytes / u64::from(size)).max(1);
        let offset = match &mut self.next {
            Some(next) => {
                let next = &mut next[file as usize];
                if *next + u64::from(size) > self.file_bytes {
                    *next = 0;
                }
                *next += u64::from(size);
                *next - u64::from(size)
            }
            None if places == 1 => 0,
            None => random.random_range(0..places) * u64::from(size),
        };
        Task::new(op, file, offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(operations: &str, sizes: &str) -> Mix {
        let (operations, sizes) = (operations.parse().expect("a mix"), sizes.parse().expect("sizes"));
        Mix { operations, sizes, files: 10, file_bytes: 100_000, zipf: 0.0, sequential: false }
    }

    fn tasks(mix: &Mix) -> Vec<Task> {
        let mut chooser = Chooser::new(mix, 1).expect("a sound mix");
        (0..100_000).map(|_| chooser.next()).collect()
    }

    #[test]
    fn weights_are_kept() {
        let tasks = tasks(&mix("read=70,write=25,getattr=5", "1KiB=3,4KiB"));
        let share = |op| tasks.iter().filter(|task| task.op == op).count() as f64 / tasks.len() as f64;
        for (op, wanted) in [(Op::Read, 0.7), (Op::Write, 0.25), (Op::Getattr, 0.05)] {
            assert!((share(op) - wanted).abs() < 0.01, "{op}: {}", share(op));
        }
        let small = tasks.iter().filter(|task| task.size == 1024).count() as f64;
        let large = tasks.iter().filter(|task| task.size == 4096).count() as f64;
        assert!((small / (small + large) - 0.75).abs() < 0.01);
    }

    #[test]
    fn places_are_within_the_file_and_everywhere() {
        for sequential in [false, true] {
            let mix = Mix { sequential, ..mix("read", "4096") };
            let tasks = tasks(&mix);
            assert!(tasks.iter().all(|task| task.offset + 4096 <= 100_000 && task.offset % 4096 == 0));
            let mut places: Vec<_> = tasks.iter().map(|task| (task.file, task.offset)).collect();
            places.sort();
            places.dedup();
            assert_eq!(places.len(), 10 * 24);
        }
    }

    #[test]
    fn few_files_are_popular_by_zipfs_law() {
        let tasks = tasks(&Mix { zipf: 1.0, ..mix("read", "4096") });
        let count = |file| tasks.iter().filter(|task| task.file == file).count() as f64;
        assert!((count(0) / count(1) - 2.0).abs() < 0.1 && (count(0) / count(9) - 10.0).abs() < 0.8);
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        let said = |text: &str| text.parse::<Weighted<Op>>().expect_err("no mix").to_string();
        assert!(said("fly").contains("no operation; there are read, write"));
        assert!(said("read=0").contains("above 0"));
        assert!(said("read,stat,getattr").contains("getattr comes twice"));
        assert!("4k=x".parse::<Weighted<u32>>().is_err() && "0".parse::<Weighted<u32>>().is_err());
    }
}
