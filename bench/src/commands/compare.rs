//! Servers side by side: A B, B A, A B, … so that a machine that changes its speed changes it for all.

use super::load::{LoadFlags, Site, SpeechFlags};
use super::run::progress;
use super::{Blame, Ending, Failure};
use crate::environment::{differences, environment, of_process};
use crate::generator::Plan;
use crate::measure::{Connected, Prepared, pin};
use crate::record::percentile;
use crate::result::{self, Comparison, Contender, Goal, Planned, Round, Verdict, Warning};
use anyhow::{Context, ensure};
use clap::Args;
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// Of one server in one round, unless it is said otherwise.
const DURATION: Duration = Duration::from_secs(1);

/// Two or more servers in interleaved rounds: the ratio of the first to each of the others
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// NAME=ADDRESS, or NAME=COMMAND of a server that prints `ring9 ready ADDRESS`
    #[arg(required = true, num_args = 2.., value_name = "SERVER")]
    servers: Vec<Named>,
    #[command(flatten)]
    speech: SpeechFlags,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    rounds: RoundFlags,
    /// What a ratio ought to be, as 'throughput >= 1.1', 'p99 <= 0.9', 'cpu <= 1' or p50; may be repeated. Ends with 1 if one is missed
    #[arg(long, value_name = "GOAL")]
    goal: Vec<Goal>,
}

/// What all that make rounds share.
#[derive(Debug, Args)]
pub(crate) struct RoundFlags {
    /// Rounds that count; one more warms up
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Keep this program on one cpu; servers have a --cpu of their own
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
    /// Leave compare.json and report.html in this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
}

/// A server of a comparison, as it was asked for.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    place: String,
}

impl FromStr for Named {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Named> {
        let (name, place) = text.split_once('=').context("NAME=ADDRESS or NAME=COMMAND")?;
        ensure!(!name.is_empty() && !place.trim().is_empty(), "NAME=ADDRESS or NAME=COMMAND");
        Ok(Named { name: name.into(), place: place.trim().into() })
    }
}

impl Compare {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        for (number, one) in self.servers.iter().enumerate() {
            ensure_usage(!self.servers[..number].iter().any(|other| other.name == one.name), || {
                format!("two servers are called {}", one.name)
            })?;
        }
        let plan = self.load.plan(DURATION).usage()?;
        let mut sites = Vec::new();
        for Named { name, place } in &self.servers {
            let site = match place.parse() {
                Ok(address) => Site { address, pid: None, server: None },
                Err(_) => Site::start(place).with_context(|| name.clone()).target()?,
            };
            sites.push(Entry { name: name.clone(), place: place.clone(), site });
        }
        let comparison = self.rounds.compare(&sites, &self.speech, &plan, &self.goal)?;
        self.rounds.end(&comparison)
    }
}

fn ensure_usage(holds: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Usage(anyhow::anyhow!(text()))) }
}

/// A server that takes part.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) site: Site,
}

impl RoundFlags {
    /// Measures all of them.
    pub(crate) fn compare(
        &self,
        entries: &[Entry],
        speech: &SpeechFlags,
        plan: &Plan,
        goals: &[Goal],
    ) -> Result<Comparison, Failure> {
        pin(self.cpu).usage()?;
        let began = SystemTime::now();
        let mut prepared = Vec::new();
        for Entry { site, .. } in entries {
            let target = speech.target(&site.address, &plan.mix).usage()?;
            prepared.push(Prepared::new(target, plan, site.pid, self.cpu)?);
        }
        let mut contenders = Vec::new();
        for Entry { name, place, site } in entries {
            let facts = site.pid.map(of_process).unwrap_or_default();
            contenders.push(Contender { name: name.clone(), place: place.clone(), facts, rounds: Vec::new() });
        }
        let warnings = {
            let mut connected = Vec::new();
            for prepared in &prepared {
                connected.push(prepared.connect(plan)?);
            }
            self.rounds(&mut connected, &mut contenders, plan)?
        };
        for prepared in prepared {
            prepared.clear()?;
        }
        let ratios = result::ratios(&contenders);
        Ok(Comparison {
            version: result::VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            plan: Planned::of(plan),
            verdicts: result::judge(goals, &ratios).usage()?,
            contenders,
            ratios,
            warnings,
            environment: environment(self.cpu),
        })
    }

    fn rounds(
        &self,
        connected: &mut [Connected<'_>],
        contenders: &mut [Contender],
        plan: &Plan,
    ) -> Result<Vec<String>, Failure> {
        let count = connected.len();
        let all = (plan.warmup + plan.duration) * (self.rounds + 1) * count as u32;
        let bar: ProgressBar = progress(all);
        let mut spoilt = vec![Vec::<(String, u32)>::new(); count];
        for round in 0..=self.rounds {
            let forward: Vec<usize> = (0..count).collect();
            let order = if round % 2 == 0 { forward } else { forward.into_iter().rev().collect() };
            for number in order {
                let done = connected[number].run(|_| {})?;
                bar.inc((plan.warmup + plan.duration).as_millis() as u64);
                if round == 0 {
                    continue;
                }
                let all = done.all();
                let at = |p: f64| percentile(&all.response, p);
                contenders[number].rounds.push(Round {
                    throughput: done.outcome.achieved as f64 / plan.duration.as_secs_f64(),
                    p50_ns: at(0.5),
                    p99_ns: at(0.99),
                    cpu_us: done.cost.as_ref().map(|cost| cost.cpu_us),
                    generator_cpu: done.outcome.cpu_share(),
                });
                for Warning { kind, .. } in done.signs(plan, &all).warnings() {
                    match spoilt[number].iter_mut().find(|(known, _)| *known == kind) {
                        Some((_, times)) => *times += 1,
                        None => spoilt[number].push((kind, 1)),
                    }
                }
            }
        }
        bar.finish_and_clear();
        let mut warnings = Vec::new();
        for (contender, spoilt) in contenders.iter().zip(spoilt) {
            for (kind, times) in spoilt {
                warnings.push(format!("{}: {kind} in {times} of {} rounds", contender.name, self.rounds));
            }
        }
        Ok(warnings)
    }

    /// Says it, leaves its files, and judges.
    pub(crate) fn end(&self, comparison: &Comparison) -> Result<Ending, Failure> {
        result::print_comparison(comparison, &mut std::io::stdout().lock()).usage()?;
        if let Some((first, others)) = comparison.contenders.split_first() {
            for other in others {
                for difference in differences(&first.facts, &other.facts) {
                    println!("{} and {} differ: {difference}", first.name, other.name);
                }
            }
        }
        if let Some(folder) = &self.out {
            save(folder, comparison).usage()?;
        }
        let missed = comparison.verdicts.iter().any(|judged| judged.verdict == Verdict::Missed);
        Ok(if missed { Ending::Broken } else { Ending::Well })
    }
}

fn save(folder: &Path, comparison: &Comparison) -> anyhow::Result<()> {
    result::put_json(folder, "compare.json", comparison)?;
    crate::report::write(folder, &crate::report::Given { comparisons: vec![comparison.clone()], ..Default::default() })
}
