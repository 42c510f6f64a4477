//! Servers side by side: two A B, B A, A B, …, more in a random order in each round, so that a machine that changes its speed changes it for all.

use super::load::{LoadFlags, Site, SpeechFlags};
use super::run::progress;
use super::{Blame, Ending, Failure};
use crate::environment::{differences, environment, of_process};
use crate::generator::Plan;
use crate::measure::{Connected, Prepared, pin};
use crate::result::{self, Comparison, Contender, Goal, Verdict};
use anyhow::{Context, ensure};
use clap::Args;
use indicatif::ProgressBar;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
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
    /// What a ratio ought to be, as 'throughput >= 1.1', 'p99 <= 0.9', 'cpu <= 1' or p50, and 'against NAME' if it is about one server, 'of NAME against NAME' if about two others; may be repeated. Ends with 1 if one is missed
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
    /// So many rounds, on this cpu, without files.
    pub(crate) fn new(rounds: u32, cpu: usize) -> RoundFlags {
        RoundFlags { rounds, cpu: Some(cpu), out: None }
    }

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
            contenders.push(Contender::new(name.clone(), place.clone(), facts));
        }
        {
            let mut connected = Vec::new();
            for prepared in &prepared {
                connected.push(prepared.connect(plan)?);
            }
            self.rounds(&mut connected, &mut contenders, plan)?;
        }
        for prepared in prepared {
            prepared.clear()?;
        }
        Comparison::new(began, plan, contenders, goals, environment(self.cpu)).usage()
    }

    fn rounds(
        &self,
        connected: &mut [Connected<'_>],
        contenders: &mut [Contender],
        plan: &Plan,
    ) -> Result<(), Failure> {
        let count = connected.len();
        let all = (plan.warmup + plan.duration) * (self.rounds + 1) * count as u32;
        let bar: ProgressBar = progress(all);
        let mut random = SmallRng::seed_from_u64(plan.seed);
        for round in 0..=self.rounds {
            for number in order(count, round, &mut random) {
                let done = connected[number].run(|_| {})?;
                bar.inc((plan.warmup + plan.duration).as_millis() as u64);
                if round == 0 {
                    continue;
                }
                contenders[number].add(done.round(plan));
            }
        }
        bar.finish_and_clear();
        Ok(())
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

/// Whose turn it is in a round.
pub(crate) fn order(count: usize, round: u32, random: &mut SmallRng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    match count {
        2 if round % 2 == 1 => order.reverse(),
        2 => {}
        _ => order.shuffle(random),
    }
    order
}

fn save(folder: &Path, comparison: &Comparison) -> anyhow::Result<()> {
    result::put_json(folder, "compare.json", comparison)?;
    crate::report::write(folder, &crate::report::Given { comparisons: vec![comparison.clone()], ..Default::default() })
}
