//! One load, one result.

use super::load::{LoadFlags, TargetFlags};
use super::{Blame, Ending, Failure};
use crate::cost::{Cost, Sample};
use crate::environment::{differences, environment};
use crate::generator::{Generator, Op, Outcome, Own, Plan};
use crate::record::{Hiccups, Histogram, Recorder};
use crate::result::{self, Limit, Regress, RunResult};
use crate::target::Target;
use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Parts of a run, for intervals of confidence and pictures over time.
const PARTS: u32 = 100;

/// One load, one result
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    judge: JudgeFlags,
    /// Keep this program on one cpu
    #[arg(long)]
    cpu: Option<usize>,
    /// Leave result.json, run.hlog, .hgrm and intervals.csv in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Judgement")]
struct JudgeFlags {
    /// End with 1 if this is so, as 'read.response.p99 > 250us' or 'throughput < 1000'; may be repeated
    #[arg(long, value_name = "LIMIT")]
    fail_if: Vec<Limit>,
    /// An earlier result.json
    #[arg(long, value_name = "FILE", requires = "max_regress")]
    baseline: Option<PathBuf>,
    /// End with 1 if response times are worse than those of --baseline by more, as p99=10%; may be repeated
    #[arg(long, value_name = "STATISTIC=SHARE", requires = "baseline")]
    max_regress: Vec<Regress>,
    /// End with 3 if anything spoils the run, not only if operations were lost
    #[arg(long)]
    strict: bool,
}

impl Run {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let plan = self.load.plan().usage()?;
        let baseline = self.judge.baseline.as_deref().map(read).transpose().usage()?;
        let server = self.target.start().target()?;
        let target = self.target.target(server.as_ref(), &plan.mix).usage()?;
        pin(self.cpu).usage()?;
        let pid = server.as_ref().map(|server| server.pid()).or(self.target.pid);
        let began = SystemTime::now();
        let done = measure(&target, &plan, pid, self.cpu)?;
        let result = done.result(&target, &plan, began, self.cpu);
        result::print(&result, &mut std::io::stdout().lock()).usage()?;
        if let Some(folder) = &self.out {
            result::write(folder, &result, &done.recorder, began).usage()?;
        }
        self.judge.judge(&result, baseline.as_ref())
    }
}

impl JudgeFlags {
    fn judge(&self, result: &RunResult, baseline: Option<&RunResult>) -> Result<Ending, Failure> {
        let mut ending = Ending::Well;
        for limit in &self.fail_if {
            if let Some(broken) = limit.broken(result).usage()? {
                eprintln!("FAILED: {broken}");
                ending = Ending::Broken;
            }
        }
        if let Some(before) = baseline {
            for difference in differences(&before.environment, &result.environment) {
                eprintln!("differs from the baseline: {difference}");
            }
            for regress in &self.max_regress {
                for worse in regress.worse(before, result).usage()? {
                    eprintln!("FAILED: {worse}");
                    ending = Ending::Broken;
                }
            }
        }
        let is_lost = result.warnings.iter().any(|warning| warning.kind == "lost");
        let spoilt = is_lost || self.strict && !result.warnings.is_empty();
        Ok(if spoilt { Ending::Invalid } else { ending })
    }
}

fn read(path: &Path) -> anyhow::Result<RunResult> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let result: RunResult =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no result of a run", path.display()))?;
    ensure!(
        result.version == result::VERSION,
        "{}: version {} of the format, not {}",
        path.display(),
        result.version,
        result::VERSION
    );
    Ok(result)
}

/// Keeps this thread on one cpu.
pub(crate) fn pin(cpu: Option<usize>) -> anyhow::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    ensure!(cpu < CpuSet::MAX_CPU, "--cpu {cpu}");
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("--cpu {cpu}"))
}

/// What a load has left.
pub(crate) struct Done {
    outcome: Outcome,
    pub(crate) recorder: Recorder,
    cost: Option<Cost>,
    hiccups: (Histogram, u64),
}

impl Done {
    pub(crate) fn result(&self, target: &Target, plan: &Plan, began: SystemTime, cpu: Option<usize>) -> RunResult {
        let began = humantime::format_rfc3339_millis(began).to_string();
        let environment = environment(cpu);
        let spoken = target.spoken();
        RunResult::new(
            began,
            spoken,
            plan,
            &self.outcome,
            &self.recorder,
            self.cost.clone(),
            &self.hiccups,
            environment,
        )
    }
}

/// Makes the files, the connections and the load, and removes the files.
pub(crate) fn measure(target: &Target, plan: &Plan, pid: Option<u32>, cpu: Option<usize>) -> Result<Done, Failure> {
    let ops: Vec<Op> = plan.mix.operations.values().collect();
    let owns = |line| (0..plan.depth).map(move |slot| Own::new(line, slot));
    let owns: Vec<Own> =
        if ops.contains(&Op::Rename) { (0..plan.connections).flat_map(owns).collect() } else { Vec::new() };
    let prepared = target.prepare(plan.mix.files, plan.mix.file_bytes, plan.verify, &ops, &owns);
    let done = prepared.and_then(|world| {
        let sample = || pid.map(|pid| Sample::take(pid, target)).transpose();
        let before = sample()?;
        let mut generator = Generator::connect(target, &world, plan)?;
        let connected = sample()?;
        let mut recorder = Recorder::new(ops.clone(), plan.warmup, plan.duration, PARTS);
        let progress = progress(plan.warmup + plan.duration);
        let hiccups = Hiccups::start(cpu)?;
        let outcome = generator.run(&mut recorder, |done| progress.set_position(done.as_millis() as u64));
        let hiccups = hiccups.stop();
        progress.finish_and_clear();
        let outcome = outcome?;
        let cost = before.zip(connected).zip(sample()?).map(|((before, connected), after)| {
            let grown = connected.resident_bytes.saturating_sub(before.resident_bytes);
            // Fewer are lost in what a process takes anyway.
            let each = (plan.connections >= 100).then(|| grown as f64 / plan.connections as f64);
            connected.until(&after, outcome.all, each)
        });
        Ok(Done { outcome, recorder, cost, hiccups })
    });
    // Whatever happened: nothing of the run stays, as far as the server still answers.
    let cleared = target.clear();
    let done = done.target()?;
    cleared.context("the files of the run could not be removed").target()?;
    Ok(done)
}

fn progress(time: Duration) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(time.as_millis() as u64), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent} %") {
        bar.set_style(style);
    }
    bar
}
