//! What a measurement leaves.
//!
//! - here: the result of a run, which is `result.json`; `bench/schema` has its schema.
//! - `json`: files of JSON, plain or compressed.
//! - `files`: the other files that are made of a run: interval logs and distributions of HdrHistogram, a table.
//! - `words`: the same for a person, on a terminal.
//! - `threshold`: what makes a result a failure.
//! - `warning`: what makes it say nothing.
//! - `ratio`: servers with their rounds, and the ratio of one to another.
//! - `goal`: what a ratio ought to be.
//! - `comparison`, `sweep`: of several servers, of several rates. `runtimes`: many comparisons. `writes`: a table of them.
//!
//! Must not know: how a load is made.

mod comparison;
mod files;
mod goal;
mod json;
mod ratio;
mod runtimes;
mod sweep;
mod threshold;
mod warning;
mod words;
mod writes;

pub(crate) use comparison::{Comparison, print as print_comparison};
pub(crate) use files::write;
pub(crate) use goal::{Goal, Judged, Verdict};
pub(crate) use json::{put_json, read, read_in};
pub(crate) use ratio::{Contender, Round, Statistic};
pub(crate) use runtimes::{Borne, HeldRate, Measured, Profile, Runtimes, print as print_runtimes};
pub(crate) use sweep::{Edge, Objective, Point, Sweep, doubtful, edge, print as print_sweep};
pub(crate) use threshold::{Limit, Regress};
pub(crate) use warning::{Signs, Warning};
pub(crate) use words::{nanoseconds, print};
pub(crate) use writes::print as print_writes;

use crate::cost::Cost;
use crate::generator::{Outcome, Plan};
use crate::record::{Histogram, Percentile, Recorder, Times, curve, given};
use crate::target::Spoken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Of `result.json`. What is only added keeps the number; a reader leaves out what it does not know.
pub(crate) const VERSION: u32 = 1;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RunResult {
    /// Version of this format: 1.
    pub(crate) version: u32,
    /// When it began (RFC 3339).
    pub(crate) began: String,
    pub(crate) target: Spoken,
    pub(crate) plan: Planned,
    pub(crate) throughput: Throughput,
    /// By name of the operation; `all` has all of them together.
    pub(crate) operations: BTreeMap<String, Operation>,
    /// Over time, for pictures.
    pub(crate) series: Vec<Moment>,
    /// Of the server's process, if that is known.
    pub(crate) cost: Option<Cost>,
    /// How late a thread woke that only slept, beside the generator.
    pub(crate) hiccups: Summary,
    /// Share of one cpu that the generator used.
    pub(crate) generator_cpu: f64,
    /// What spoils the run; empty if nothing does.
    pub(crate) warnings: Vec<Warning>,
    /// Of the machine: facts by name.
    pub(crate) environment: BTreeMap<String, String>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Planned {
    /// True: operations were due by a schedule. False: each when the one before it had ended, so that response times hide what a stall would have done to others.
    pub(crate) open_loop: bool,
    /// How arrivals followed each other, in an open loop.
    pub(crate) arrivals: Option<String>,
    /// Operations per second, in an open loop.
    pub(crate) rate: Option<f64>,
    pub(crate) connections: u64,
    pub(crate) depth: u64,
    /// Operations with their weights.
    pub(crate) operations: String,
    /// Bytes of reads and writes with their weights.
    pub(crate) sizes: Option<String>,
    pub(crate) files: u32,
    pub(crate) file_bytes: u64,
    pub(crate) zipf: f64,
    pub(crate) sequential: bool,
    pub(crate) warmup_s: f64,
    pub(crate) duration_s: f64,
    pub(crate) seed: u64,
    /// Every byte that was read was compared.
    pub(crate) verified: bool,
}

/// Operations, of the time that was measured.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Throughput {
    pub(crate) offered: u64,
    pub(crate) achieved: u64,
    pub(crate) offered_per_s: f64,
    pub(crate) achieved_per_s: f64,
    /// Due and not sent at the end.
    pub(crate) backlog: u64,
    /// Due and never answered.
    pub(crate) lost: u64,
}

/// Times of an operation, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Operation {
    /// From when it was due until its last reply was here.
    pub(crate) response: Summary,
    /// From when its first request was sent.
    pub(crate) service: Summary,
    /// From when it was due until it was sent.
    pub(crate) lag: Summary,
}

impl Operation {
    /// By the name of the time.
    pub(crate) fn time(&self, name: &str) -> Option<&Summary> {
        match name {
            "response" => Some(&self.response),
            "service" => Some(&self.service),
            "lag" => Some(&self.lag),
            _ => None,
        }
    }
}

/// Of many times, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min_ns: u64,
    pub(crate) mean_ns: f64,
    /// Exactly.
    pub(crate) max_ns: u64,
    /// Those that at least ten values lie above.
    pub(crate) percentiles: Vec<Percentile>,
    /// The same and more between them, for pictures.
    pub(crate) curve: Vec<Percentile>,
}

impl Summary {
    fn of(parts: &[&Histogram], max_ns: u64, seed: u64) -> Summary {
        let mut whole = crate::record::histogram();
        parts.iter().for_each(|part| whole.add(*part).expect("the same bounds"));
        let count = whole.len();
        let curve = curve(parts, seed);
        let min_ns = if count == 0 { 0 } else { whole.min() };
        Summary { count, min_ns, mean_ns: whole.mean(), max_ns, percentiles: given(&curve), curve }
    }

    pub(crate) fn percentile(&self, p: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|percentile| (percentile.p - p).abs() < 1e-9)
    }
}

/// A part of the run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Moment {
    /// Of its start, from that of the measured time.
    pub(crate) start_s: f64,
    pub(crate) count: u64,
    /// Of response times of all operations.
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

impl RunResult {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the result, made elsewhere")]
    pub(crate) fn new(
        began: String,
        target: Spoken,
        plan: &Plan,
        outcome: &Outcome,
        recorder: &Recorder,
        cost: Option<Cost>,
        hiccups: &(Histogram, u64),
        environment: BTreeMap<String, String>,
    ) -> RunResult {
        let seconds = plan.duration.as_secs_f64();
        let mut operations = BTreeMap::new();
        let many = recorder.ops().len() > 1;
        for (number, op) in recorder.ops().iter().enumerate() {
            let times: Vec<&Times> = recorder.intervals().iter().map(|interval| &interval.times[number]).collect();
            operations.insert(op.name().to_owned(), Operation::of(&times, plan.seed));
        }
        let all: Vec<Times> = recorder
            .intervals()
            .iter()
            .map(|interval| {
                let mut sum = Times::new();
                interval.times.iter().for_each(|times| sum.add(times));
                sum
            })
            .collect();
        let all: Vec<&Times> = all.iter().collect();
        if many {
            operations.insert("all".into(), Operation::of(&all, plan.seed));
        }
        let moment = |(interval, times): (&crate::record::Interval, &&Times)| Moment {
            start_s: interval.start.as_secs_f64(),
            count: times.response.len(),
            p50_ns: times.response.value_at_quantile(0.5),
            p99_ns: times.response.value_at_quantile(0.99),
            max_ns: times.max_ns[0],
        };
        let series = recorder.intervals().iter().zip(&all).map(moment).collect();
        let mut result = RunResult {
            version: VERSION,
            began,
            target,
            plan: Planned::of(plan),
            throughput: Throughput {
                offered: outcome.offered,
                achieved: outcome.achieved,
                offered_per_s: outcome.offered as f64 / seconds,
                achieved_per_s: outcome.achieved as f64 / seconds,
                backlog: outcome.backlog,
                lost: outcome.lost,
            },
            operations,
            series,
            cost,
            hiccups: Summary::of(&[&hiccups.0], hiccups.1, plan.seed),
            generator_cpu: outcome.cpu_share(),
            warnings: Vec::new(),
            environment,
        };
        let p99 = |summary: &Summary| summary.percentile(0.99).map_or(summary.max_ns, |percentile| percentile.value);
        let all = result.all();
        let signs = Signs {
            open_loop: result.plan.open_loop,
            offered: outcome.offered,
            achieved: outcome.achieved,
            backlog: outcome.backlog,
            lost: outcome.lost,
            lag_p99_ns: p99(&all.lag),
            response_p99_ns: p99(&all.response),
            generator_cpu: result.generator_cpu,
            hiccups_p99_ns: p99(&result.hiccups),
            hiccups_max_ns: result.hiccups.max_ns,
        };
        result.warnings = signs.warnings();
        result
    }

    /// All operations together.
    pub(crate) fn all(&self) -> &Operation {
        let all = self.operations.get("all").or_else(|| self.operations.values().next());
        all.expect("a run has an operation")
    }
}

impl Operation {
    fn of(times: &[&Times], seed: u64) -> Operation {
        let summary = |number: usize, pick: fn(&Times) -> &Histogram| {
            let parts: Vec<&Histogram> = times.iter().map(|times| pick(times)).collect();
            let max_ns = times.iter().map(|times| times.max_ns[number]).max().unwrap_or(0);
            Summary::of(&parts, max_ns, seed)
        };
        Operation {
            response: summary(0, |times| &times.response),
            service: summary(1, |times| &times.service),
            lag: summary(2, |times| &times.lag),
        }
    }
}

impl Planned {
    pub(crate) fn of(plan: &Plan) -> Planned {
        let (arrivals, rate) = match plan.pace {
            crate::generator::Pace::Open { per_second, arrivals, burst } => {
                (Some(arrivals.text(burst)), Some(per_second))
            }
            crate::generator::Pace::Closed => (None, None),
        };
        Planned {
            open_loop: rate.is_some(),
            arrivals,
            rate,
            connections: plan.connections as u64,
            depth: plan.depth.into(),
            operations: plan.mix.operations.to_string(),
            sizes: plan.mix.has_sizes().then(|| plan.mix.sizes.to_string()),
            files: plan.mix.files,
            file_bytes: plan.mix.file_bytes,
            zipf: plan.mix.zipf,
            sequential: plan.mix.sequential,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
            seed: plan.seed,
            verified: plan.verify,
        }
    }
}
