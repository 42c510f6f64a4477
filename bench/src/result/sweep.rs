//! Latency at many rates, and the highest that a server can bear.

use super::{Planned, nanoseconds};
use crate::record::Percentile;
use crate::target::Spoken;
use anyhow::{Context, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

/// `sweep.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sweep {
    /// Version of this format: 1.
    pub(crate) version: u32,
    pub(crate) began: String,
    pub(crate) target: Spoken,
    /// Without a rate: each point has its own.
    pub(crate) plan: Planned,
    pub(crate) objective: Objective,
    /// In the order of their rates; a rate at which something seemed to end has two or three.
    pub(crate) points: Vec<Point>,
    /// Highest rate that was measured and met the objective, and lowest above it that did not. None: not even the lowest met it.
    pub(crate) slo: Option<Edge>,
    /// Highest rate with which the server kept up, and lowest above it with which it did not.
    pub(crate) max: Option<Edge>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// `p99=1ms`: what response times ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Objective {
    /// 0.99 for p99.
    pub(crate) p: f64,
    pub(crate) at_most_ns: u64,
}

impl FromStr for Objective {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Objective> {
        let form = || format!("{text:?} is not of the form p99=1ms");
        let (p, time) = text.split_once('=').with_context(form)?;
        let p: f64 = p.trim().strip_prefix('p').and_then(|percent| percent.parse().ok()).with_context(form)?;
        ensure!([50.0, 75.0, 90.0, 95.0, 99.0, 99.9].contains(&p), "p50, p75, p90, p95, p99 or p99.9, not p{p}");
        let time: Duration = humantime::parse_duration(time.trim()).with_context(form)?;
        Ok(Objective { p: p / 100.0, at_most_ns: time.as_nanos() as u64 })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{} of at most {}", (self.p * 1e5).round() / 1e3, nanoseconds(self.at_most_ns))
    }
}

/// One rate.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Point {
    pub(crate) rate: f64,
    pub(crate) achieved_per_s: f64,
    /// At least 0.995 of what was offered was done in time.
    pub(crate) keeps_up: bool,
    /// It keeps up, and the upper end of the percentile's interval is within the objective.
    pub(crate) meets: bool,
    /// Response times of all operations.
    pub(crate) percentiles: Vec<Percentile>,
    pub(crate) max_ns: u64,
    pub(crate) cpu_us: Option<f64>,
    /// What may spoil it.
    pub(crate) warnings: Vec<String>,
}

impl Point {
    pub(crate) fn percentile(&self, p: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|percentile| (percentile.p - p).abs() < 1e-9)
    }

    /// By what is sure of it.
    pub(crate) fn meets(&self, objective: Objective) -> bool {
        let found = self.percentile(objective.p);
        let worst = found.map(|found| found.interval.map_or(found.value, |[_, high]| high));
        self.keeps_up && worst.is_some_and(|worst| worst <= objective.at_most_ns)
    }
}

/// Where something ends, between two rates that were measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Edge {
    pub(crate) holds: f64,
    /// None: it held at the highest rate that was measured.
    pub(crate) ends: Option<f64>,
}

/// What was measured at a rate.
pub(crate) trait Rated {
    /// Operations per second.
    fn rate(&self) -> f64;
}

impl Rated for Point {
    fn rate(&self) -> f64 {
        self.rate
    }
}

/// The edge of what `holds` says, of points in the order of their rates: below it, it holds everywhere. What most of a rate's points say is true of it.
pub(crate) fn edge<P: Rated>(points: &[P], holds: impl Fn(&P) -> bool) -> Option<Edge> {
    let ends = end(points, &holds).map(|at| at[0].rate());
    let below = points.iter().take_while(|point| ends.is_none_or(|ends| point.rate() < ends));
    below.last().map(|last| Edge { holds: last.rate(), ends })
}

/// The lowest rate that may end what `holds` says, though a third of its points could still change that: it does not hold, and not by two points.
pub(crate) fn doubtful(points: &[Point], holds: impl Fn(&Point) -> bool) -> Option<f64> {
    let at = end(points, &holds)?;
    (at.iter().filter(|point| !holds(point)).count() < 2).then(|| at[0].rate)
}

/// The points of the lowest rate of which most do not say that it holds.
fn end<P: Rated>(points: &[P], holds: impl Fn(&P) -> bool) -> Option<&[P]> {
    let mut rates = points.chunk_by(|one, next| one.rate() == next.rate());
    rates.find(|at| 2 * at.iter().filter(|point| holds(point)).count() <= at.len())
}

pub(crate) fn print(sweep: &Sweep, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{} {}, {}", sweep.target.address, sweep.target.dialect, sweep.plan.words_without_pace())?;
    writeln!(out, "{} s at each rate\n", sweep.plan.duration_s)?;
    let shown = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];
    write!(out, "{:>12} {:>12}", "offered/s", "achieved/s")?;
    for (_, name) in shown {
        write!(out, " {name:>9}")?;
    }
    writeln!(out, " {:>9} {:>8}", "max", "cpu us")?;
    for point in &sweep.points {
        write!(out, "{:>12.0} {:>12.0}", point.rate, point.achieved_per_s)?;
        for (p, _) in shown {
            let text = point.percentile(p).map_or("-".into(), |found| nanoseconds(found.value));
            write!(out, " {text:>9}")?;
        }
        let cpu = point.cpu_us.map_or("-".into(), |cpu| format!("{cpu:.2}"));
        write!(out, " {:>9} {cpu:>8}", nanoseconds(point.max_ns))?;
        let judged = if point.meets {
            ""
        } else if point.keeps_up {
            "   too slow"
        } else {
            "   does not keep up"
        };
        writeln!(
            out,
            "{judged}{}",
            if point.warnings.is_empty() { String::new() } else { format!("   ({})", point.warnings.join(", ")) }
        )?;
    }
    let words = |edge: Option<Edge>| match edge {
        None => "not even the lowest rate".into(),
        Some(Edge { holds, ends: None }) => format!("{holds:.0}/s, the highest that was tried"),
        Some(Edge { holds, ends: Some(ends) }) => format!("{holds:.0}/s (not {ends:.0}/s)"),
    };
    writeln!(out, "\nR_slo, {}: {}", sweep.objective, words(sweep.slo))?;
    writeln!(out, "R_max, with which it keeps up: {}", words(sweep.max))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn point(rate: f64, p99_ns: u64, keeps_up: bool) -> Point {
        let p99 = Percentile { p: 0.99, value: p99_ns, interval: Some([p99_ns - 10, p99_ns + 10]) };
        let percentiles = vec![p99];
        Point {
            rate,
            achieved_per_s: rate,
            keeps_up,
            meets: false,
            percentiles,
            max_ns: 0,
            cpu_us: None,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn an_objective_is_met_by_the_upper_end_of_the_interval() {
        let objective: Objective = "p99=1us".parse().expect("an objective");
        assert!(point(1.0, 990, true).meets(objective));
        assert!(!point(1.0, 991, true).meets(objective));
        assert!(!point(1.0, 500, false).meets(objective));
        // Of too few operations nothing is known.
        assert!(!point(1.0, 500, true).meets("p50=1us".parse().expect("an objective")));
        for text in ["", "p99", "p99=", "p98=1ms", "99=1ms", "p99=1"] {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_edge_ends_with_the_first_that_does_not_hold() {
        let points: Vec<Point> =
            [(1.0, true), (2.0, true), (3.0, false), (4.0, true)].map(|(rate, up)| point(rate, 500, up)).into();
        let up = |point: &Point| point.keeps_up;
        assert_eq!(edge(&points, up), Some(Edge { holds: 2.0, ends: Some(3.0) }));
        assert_eq!(edge(&points[..2], up), Some(Edge { holds: 2.0, ends: None }));
        assert_eq!(edge(&points[2..], up), None);
    }

    #[test]
    fn one_bad_point_of_three_does_not_end_anything() {
        let points = |of: &[(f64, bool)]| of.iter().map(|&(rate, up)| point(rate, 500, up)).collect::<Vec<_>>();
        let up = |point: &Point| point.keeps_up;
        let doubts = [
            (&[(1.0, true), (2.0, false), (3.0, false)][..], Some(2.0), Some((1.0, Some(2.0)))),
            (&[(1.0, true), (2.0, false), (2.0, true), (3.0, false)], Some(2.0), Some((1.0, Some(2.0)))),
            (&[(1.0, true), (2.0, false), (2.0, true), (2.0, true), (3.0, false)], Some(3.0), Some((2.0, Some(3.0)))),
            (&[(1.0, true), (2.0, false), (2.0, true), (2.0, false), (3.0, true)], None, Some((1.0, Some(2.0)))),
            (&[(1.0, true), (2.0, false), (2.0, false), (3.0, true)], None, Some((1.0, Some(2.0)))),
            (&[(1.0, false), (2.0, true)], Some(1.0), None),
            (&[(1.0, true)], None, Some((1.0, None))),
        ];
        for (of, doubt, ends) in doubts {
            assert_eq!(doubtful(&points(of), up), doubt, "{of:?}");
            assert_eq!(edge(&points(of), up), ends.map(|(holds, ends)| Edge { holds, ends }), "{of:?}");
        }
    }
}
