//! A server that is ready to be measured: its files are made, its connections stand, and what its process spends is counted.

use crate::commands::{Blame, Failure};
use crate::cost::{Cost, Sample};
use crate::environment::environment;
use crate::generator::{self, Generator, Op, Outcome, Own, Pace, Plan, World};
use crate::record::{Hiccups, Histogram, Recorder, Times, percentile};
use crate::result::{Round, RunResult, Signs, Warning};
use crate::target::Target;
use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::time::{Duration, SystemTime};

/// Parts of a run, for intervals of confidence and pictures over time.
const PARTS: u32 = 100;
/// With fewer connections, what a process takes anyway outweighs them.
const CONNECTIONS_MIN: usize = 100;

/// Keeps this thread on one cpu.
pub(crate) fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    ensure!(cpu < CpuSet::MAX_CPU, "--cpu {cpu}");
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("--cpu {cpu}"))
}

/// Lets this process, and those that it starts, have as many descriptors as it may take without being asked; how many these are.
pub(crate) fn raise_descriptors() -> anyhow::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("RLIMIT_NOFILE")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// A server with the files of a load. They are removed with the value, as far as the server still answers.
pub(crate) struct Prepared {
    target: Target,
    world: World,
    pid: Option<u32>,
    /// Of the generator.
    cpu: Option<usize>,
    cleared: bool,
}

impl Prepared {
    /// Makes the files that `plan` needs. `pid` is the server's process, if it is known.
    pub(crate) fn new(target: Target, plan: &Plan, pid: Option<u32>, cpu: Option<usize>) -> Result<Prepared, Failure> {
        let ops: Vec<Op> = plan.mix.operations.values().collect();
        let owns = |line| (0..plan.depth).map(move |slot| Own::new(line, slot));
        let owns: Vec<Own> =
            if ops.contains(&Op::Rename) { (0..plan.connections).flat_map(owns).collect() } else { Vec::new() };
        match generator::prepare(&target, plan.mix.files, plan.mix.file_bytes, (plan.verify, plan.fsync), &ops, &owns) {
            Ok(world) => Ok(Prepared { target, world, pid, cpu, cleared: false }),
            Err(error) => {
                // The first error is the one to be told.
                let _ = generator::clear(&target);
                Err(error).target()
            }
        }
    }

    /// Makes the connections of a load for which the files were made.
    pub(crate) fn connect<'a>(&'a self, plan: &'a Plan) -> Result<Connected<'a>, Failure> {
        let before = self.sample().target()?;
        let generator = Generator::connect(&self.target, &self.world, plan).target()?;
        let mut connected = Connected { prepared: self, plan, generator, before, bytes_per_connection: None };
        connected.bytes_per_connection = self.sample().target()?.and_then(|now| connected.grown(&now));
        Ok(connected)
    }

    fn sample(&self) -> anyhow::Result<Option<Sample>> {
        self.pid.map(|pid| Sample::take(pid, &self.target)).transpose()
    }

    /// What the server's process spends meanwhile, if it is known.
    pub(crate) fn cpu_while(&self, meanwhile: impl FnOnce()) -> anyhow::Result<Option<Duration>> {
        let sample = || self.pid.map(Sample::of_process).transpose();
        let before = sample()?;
        meanwhile();
        let after = sample()?;
        Ok(before.zip(after).map(|(before, after)| Duration::from_nanos(after.cpu_ns.saturating_sub(before.cpu_ns))))
    }

    /// Removes the files.
    pub(crate) fn clear(mut self) -> Result<(), Failure> {
        self.cleared = true;
        generator::clear(&self.target).context("the files of the run could not be removed").target()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.cleared {
            // What went wrong is being told already.
            let _ = generator::clear(&self.target);
        }
    }
}

/// The same with its connections; it may be measured again and again.
pub(crate) struct Connected<'a> {
    prepared: &'a Prepared,
    plan: &'a Plan,
    generator: Generator<'a>,
    /// Without these connections.
    before: Option<Sample>,
    bytes_per_connection: Option<f64>,
}

impl Connected<'_> {
    /// What the server's process has grown by with each connection.
    fn grown(&self, now: &Sample) -> Option<f64> {
        let before = self.before.filter(|_| self.plan.connections >= CONNECTIONS_MIN)?;
        let grown = now.resident_bytes.saturating_sub(before.resident_bytes);
        Some(grown as f64 / self.plan.connections as f64)
    }

    /// Makes the load once; `tell` hears how far it is.
    pub(crate) fn run(&mut self, tell: impl FnMut(Duration)) -> Result<Done, Failure> {
        let began = SystemTime::now();
        let ops: Vec<Op> = self.plan.mix.operations.values().collect();
        let before = self.prepared.sample().target()?;
        let mut recorder = Recorder::new(ops, self.plan.warmup, self.plan.duration, PARTS);
        let hiccups = Hiccups::start(self.prepared.cpu).target()?;
        let outcome = self.generator.run(&mut recorder, tell);
        let hiccups = hiccups.stop();
        let outcome = outcome.target()?;
        let cost = before.zip(self.prepared.sample().target()?).map(|(before, after)| Cost {
            bytes_per_connection: self.bytes_per_connection,
            loaded_bytes_per_connection: self.grown(&after),
            ..before.until(&after, outcome.all)
        });
        Ok(Done { began, outcome, recorder, cost, hiccups })
    }

    /// What a run has left, as a result.
    pub(crate) fn result(&self, done: &Done) -> RunResult {
        RunResult::new(
            humantime::format_rfc3339_millis(done.began).to_string(),
            self.prepared.target.spoken(),
            self.plan,
            &done.outcome,
            &done.recorder,
            done.cost.clone(),
            &done.hiccups,
            environment(self.prepared.cpu),
        )
    }
}

/// What a load has left.
pub(crate) struct Done {
    pub(crate) began: SystemTime,
    pub(crate) outcome: Outcome,
    pub(crate) recorder: Recorder,
    pub(crate) cost: Option<Cost>,
    hiccups: (Histogram, u64),
}

impl Done {
    /// Times of all operations together.
    pub(crate) fn all(&self) -> Times {
        let mut all = Times::new();
        (0..self.recorder.ops().len()).for_each(|op| all.add(&self.recorder.total(op)));
        all
    }

    /// It as a round of a comparison, and what may spoil it.
    pub(crate) fn round(&self, plan: &Plan) -> (Round, Vec<Warning>) {
        let all = self.all();
        let round = Round {
            throughput: self.outcome.achieved as f64 / plan.duration.as_secs_f64(),
            p50_ns: percentile(&all.response, 0.5),
            p99_ns: percentile(&all.response, 0.99),
            cpu_us: self.cost.as_ref().map(|cost| cost.cpu_us),
            generator_cpu: self.outcome.cpu_share(),
            bytes_per_connection: self.cost.as_ref().and_then(|cost| cost.bytes_per_connection),
            loaded_bytes_per_connection: self.cost.as_ref().and_then(|cost| cost.loaded_bytes_per_connection),
            bulk_per_s: None,
        };
        (round, self.signs(plan, &all).warnings())
    }

    /// What may spoil it, of `all` that it has.
    pub(crate) fn signs(&self, plan: &Plan, all: &Times) -> Signs {
        let p99 = |times: &Histogram| times.value_at_quantile(0.99);
        Signs {
            open_loop: matches!(plan.pace, Pace::Open { .. }),
            offered: self.outcome.offered,
            achieved: self.outcome.achieved,
            backlog: self.outcome.backlog,
            lost: self.outcome.lost,
            lag_p99_ns: p99(&all.lag),
            response_p99_ns: p99(&all.response),
            generator_cpu: self.outcome.cpu_share(),
            hiccups_p99_ns: p99(&self.hiccups.0),
            hiccups_max_ns: self.hiccups.1,
        }
    }
}
