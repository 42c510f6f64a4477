//! The machine without a server: how late a sleeping thread wakes, and how much a running thread
//! loses.

use super::{Blame, Ending, Failure};
use crate::environment::environment;
use crate::measure::pin;
use crate::record::{Hiccups, Histogram, watch};
use crate::result::nanoseconds;
use clap::Args;
use std::io::{self, Write};
use std::time::Duration;

/// The machine alone: how late a sleeping thread wakes, and what a thread that never sleeps loses
#[derive(Debug, Args)]
pub(crate) struct Noise {
    /// Of each of the two
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
    duration: Duration,
    /// Only of this cpu
    #[arg(long)]
    cpu: Option<usize>,
}

impl Noise {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        pin(self.cpu).usage()?;
        let hiccups = Hiccups::start(self.cpu).usage()?;
        std::thread::sleep(self.duration);
        let (late, late_max_ns) = hiccups.stop();
        let gaps = watch(self.duration);
        let mut out = std::io::stdout().lock();
        let mut say = || -> io::Result<()> {
            for (name, fact) in environment(self.cpu) {
                writeln!(out, "{name:<26} {fact}")?;
            }
            writeln!(out)?;
            writeln!(out, "{:<30} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "count", "p50", "p99", "p99.9", "max")?;
            row(&mut out, "wakes late after 1 ms of sleep", &late, late_max_ns)?;
            row(&mut out, "gaps of one that never sleeps", &gaps.lengths, gaps.max_ns)?;
            let share = gaps.lost.as_secs_f64() / gaps.watched.as_secs_f64() * 100.0;
            writeln!(out, "lost in gaps of 2 us and more: {share:.3} % of the time")
        };
        say().usage()?;
        Ok(Ending::Well)
    }
}

fn row(out: &mut impl Write, name: &str, times: &Histogram, max_ns: u64) -> io::Result<()> {
    write!(out, "{name:<30} {:>9}", times.len())?;
    for p in [0.5, 0.99, 0.999] {
        write!(out, " {:>9}", nanoseconds(times.value_at_quantile(p)))?;
    }
    writeln!(out, " {:>9}", nanoseconds(max_ns))
}
