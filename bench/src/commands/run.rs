//! One load, one result.

use super::load::{LoadFlags, TargetFlags};
use super::{Blame, Ending, Failure};
use crate::environment::differences;
use crate::measure::{Done, Prepared, pin};
use crate::report;
use crate::result::{self, Limit, Regress, RunResult};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// Unless it is said otherwise.
const DURATION: Duration = Duration::from_secs(10);

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
    /// Leave report.html, result.json, run.hlog, .hgrm and intervals.csv in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Judgement")]
struct JudgeFlags {
    /// End with 1 if this is so, as 'read.response.p99 > 250us' or 'throughput < 1000'; may be repeated
    #[arg(long, value_name = "LIMIT")]
    fail_if: Vec<Limit>,
    /// An earlier result.json, plain or compressed with gzip
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
        let baseline = self.judge.baseline.as_deref().map(result::read::<RunResult>).transpose().usage()?;
        let (result, done) = self.measure()?;
        result::print(&result, &mut std::io::stdout().lock()).usage()?;
        if let Some(folder) = &self.out {
            result::write(folder, &result, &done.recorder, done.began).usage()?;
            let given = report::Given { runs: vec![("run".into(), result.clone())], ..Default::default() };
            report::write(folder, &given).usage()?;
        }
        self.judge.judge(&result, baseline.as_ref())
    }

    /// Makes the load.
    pub(crate) fn measure(&self) -> Result<(RunResult, Done), Failure> {
        let plan = self.load.plan(DURATION).usage()?;
        let site = self.target.start().target()?;
        let target = self.target.speech().target(&site.address, &plan.mix).usage()?;
        pin(self.cpu).usage()?;
        let prepared = Prepared::new(target, &plan, site.pid, self.cpu)?;
        let found = {
            let mut connected = prepared.connect(&plan)?;
            let progress = progress(plan.warmup + plan.duration);
            let done = connected.run(|done| progress.set_position(done.as_millis() as u64))?;
            progress.finish_and_clear();
            (connected.result(&done), done)
        };
        prepared.clear()?;
        Ok(found)
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

/// A bar on the terminal of stderr, in milliseconds.
pub(crate) fn progress(time: Duration) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(time.as_millis() as u64), ProgressDrawTarget::stderr());
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:40} {percent} %") {
        bar.set_style(style);
    }
    bar
}
