//! Latency against throughput, and the highest rate that still is good enough.

use super::load::{LoadFlags, TargetFlags};
use super::run::progress;
use super::{Blame, Ending, Failure};
use crate::environment::environment;
use crate::generator::{Pace, Plan};
use crate::measure::{Prepared, pin};
use crate::report;
use crate::result::{self, Edge, Objective, Planned, Point, Sweep, doubtful, edge};
use anyhow::ensure;
use clap::Args;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// At each rate, unless it is said otherwise.
const DURATION: Duration = Duration::from_secs(2);
/// An edge is known well enough if the two rates around it differ by less.
const NEAR: f64 = 1.02;

/// Latency against throughput; the highest rate within an objective, and the highest at all
#[derive(Debug, Args)]
pub(crate) struct SweepFlags {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    load: LoadFlags,
    /// What response times ought to be; the upper end of the 95 % interval counts
    #[arg(long, default_value = "p99=1ms", value_name = "PERCENTILE=TIME")]
    slo: Objective,
    /// Rates of the grid, from --from to --to in equal factors, measured in a shuffled order
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=100))]
    points: u32,
    /// Lowest rate; by default a twentieth of --to
    #[arg(long, value_name = "PER-SECOND")]
    from: Option<f64>,
    /// Highest rate; by default 1.2 times what a closed loop of the same connections and depth does
    #[arg(long, value_name = "PER-SECOND")]
    to: Option<f64>,
    /// Rates between two of the grid for each of the two edges
    #[arg(long, default_value_t = 5)]
    steps: u32,
    /// Keep this program on one cpu
    #[arg(long)]
    cpu: Option<usize>,
    /// Leave sweep.json and report.html in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl SweepFlags {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let sweep = self.sweep()?;
        result::print_sweep(&sweep, &mut std::io::stdout().lock()).usage()?;
        if let Some(folder) = &self.out {
            result::put_json(folder, "sweep.json", &sweep).usage()?;
            report::write(folder, &report::Given { sweeps: vec![sweep.clone()], ..Default::default() }).usage()?;
        }
        Ok(if sweep.slo.is_none() { Ending::Broken } else { Ending::Well })
    }

    /// Measures all rates.
    pub(crate) fn sweep(&self) -> Result<Sweep, Failure> {
        let plan = self.load.plan_without_rate(DURATION).usage()?;
        self.check(&plan).usage()?;
        let began = SystemTime::now();
        let site = self.target.start().target()?;
        let target = self.target.speech().target(&site.address, &plan.mix).usage()?;
        pin(self.cpu).usage()?;
        let spoken = target.spoken();
        let prepared = Prepared::new(target, &plan, site.pid, self.cpu)?;
        let one = plan.warmup + plan.duration;
        let bar = progress(one * (self.points + 4 * (self.steps + 1) + 1));
        let measure = |rate: f64| -> Result<Point, Failure> {
            let plan = Plan { pace: self.load.pace(rate), ..plan.clone() };
            let point = self.point(&prepared, &plan, rate)?;
            bar.inc(one.as_millis() as u64);
            Ok(point)
        };
        let to = match self.to {
            Some(to) => to,
            None => 1.2 * closed(&prepared, &plan)?,
        };
        let from = self.from.unwrap_or(to / 20.0);
        let mut points = Vec::new();
        for rate in grid(from, to, self.points, plan.seed) {
            points.push(measure(rate)?);
        }
        points.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let slo = self.bisect(&mut points, &measure, |point| point.meets)?;
        let max = self.bisect(&mut points, &measure, |point| point.keeps_up)?;
        bar.finish_and_clear();
        prepared.clear()?;
        Ok(Sweep {
            version: result::VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            target: spoken,
            plan: Planned::of(&plan),
            objective: self.slo,
            points,
            slo,
            max,
            environment: environment(self.cpu),
        })
    }

    fn check(&self, plan: &Plan) -> anyhow::Result<()> {
        ensure!(matches!(plan.pace, Pace::Closed), "a sweep chooses its rates: --from, --to and --points, not --rate");
        for rate in [self.from, self.to].into_iter().flatten() {
            ensure!(rate > 0.0 && rate <= 1e9, "more than 0 operations per second, and no more than 10^9");
        }
        if let (Some(from), Some(to)) = (self.from, self.to) {
            ensure!(from < to, "--from {from} is not below --to {to}");
        }
        Ok(())
    }

    fn point(&self, prepared: &Prepared, plan: &Plan, rate: f64) -> Result<Point, Failure> {
        let mut connected = prepared.connect(plan)?;
        let done = connected.run(|_| {})?;
        let result = connected.result(&done);
        let all = result.all();
        let mut point = Point {
            rate,
            achieved_per_s: result.throughput.achieved_per_s,
            keeps_up: done.signs(plan, &done.all()).keeps_up(),
            meets: false,
            percentiles: all.response.percentiles.clone(),
            max_ns: all.response.max_ns,
            cpu_us: result.cost.as_ref().map(|cost| cost.cpu_us),
            warnings: result
                .warnings
                .iter()
                .map(|warning| warning.kind.clone())
                .filter(|kind| kind != "overloaded")
                .collect(),
        };
        point.meets = point.meets(self.slo);
        Ok(point)
    }

    /// Measures between the last rate at which it holds and the first at which it does not, at their geometric mean, until they are near each other. A pause of the machine ends nothing: where it
    /// does not hold, that is measured again, and two of three say how it is.
    fn bisect(
        &self,
        points: &mut Vec<Point>,
        measure: &impl Fn(f64) -> Result<Point, Failure>,
        holds: impl Fn(&Point) -> bool + Copy,
    ) -> Result<Option<Edge>, Failure> {
        let mut steps = self.steps;
        loop {
            let rate = if let Some(rate) = doubtful(points, holds) {
                rate
            } else {
                let Some(Edge { holds: low, ends: Some(high) }) = edge(points, holds) else { break };
                if steps == 0 || high / low < NEAR {
                    break;
                }
                steps -= 1;
                (low * high).sqrt()
            };
            let place = points.partition_point(|point| point.rate <= rate);
            points.insert(place, measure(rate)?);
        }
        Ok(edge(points, holds))
    }
}

/// Operations per second of a closed loop.
fn closed(prepared: &Prepared, plan: &Plan) -> Result<f64, Failure> {
    let done = prepared.connect(plan)?.run(|_| {})?;
    Ok((done.outcome.achieved as f64 / plan.duration.as_secs_f64()).max(1.0))
}

/// Rates in equal factors, shuffled: what changes with time does not look as if it changed with the rate.
fn grid(from: f64, to: f64, points: u32, seed: u64) -> Vec<f64> {
    let factor = (to / from).powf(1.0 / f64::from(points - 1));
    let mut rates: Vec<f64> = (0..points).map(|point| from * factor.powi(point as i32)).collect();
    rates.shuffle(&mut SmallRng::seed_from_u64(seed));
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_goes_from_end_to_end_in_no_order() {
        let rates = grid(100.0, 10_000.0, 5, 1);
        let mut sorted = rates.clone();
        sorted.sort_by(f64::total_cmp);
        assert_ne!(rates, sorted);
        for (rate, wanted) in sorted.iter().zip([100.0, 316.228, 1000.0, 3162.28, 10_000.0]) {
            assert!((rate / wanted - 1.0).abs() < 1e-3, "{sorted:?}");
        }
    }
}
