//! Writes of many sizes beside servers that only keep them: whether there is a size from which on
//! they are slow.

use super::yard::{WriteLoad, Yard};
use super::{Blame, Ending, Failure};
use crate::environment::environment;
use crate::generator::size_of;
use crate::result::{self, Goal, Runtimes, Statistic, Verdict};
use crate::runtimes::{Cpus, Roster, Transport};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The baseline that is measured beside ring9. The floors make the same system calls.
const BASELINE: &str = "epoll";

/// Writes of many sizes at random multiples of the size in a file of 16 MiB: ring9 and the epoll baseline beside servers that only keep payloads
#[derive(Debug, Args)]
pub(crate) struct Writes {
    /// Bytes of a write
    #[arg(long, value_delimiter = ',', default_value = "4KiB,8KiB,16KiB,32KiB,64KiB,128KiB,256KiB,1000000", value_parser = size_of)]
    size: Vec<u64>,
    /// Writes in flight
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    depth: Vec<u16>,
    /// Kinds of sockets
    #[arg(long, value_delimiter = ',', default_value = "tcp,unix")]
    transport: Vec<Transport>,
    /// Cpus for the two sides: one for both, or one each
    #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=2))]
    cpus: Vec<u8>,
    /// Rounds of each load
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Of one server in one round
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How often servers are started for the rounds of a load: where their memory lies is by chance
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// What is divided in the table; cpu, the server's for an operation, says most on a machine that does other things too
    #[arg(long, value_enum, default_value_t = Statistic::Throughput)]
    statistic: Statistic,
    /// What a ratio ought to be in each load, as 'throughput >= 0.9 against storing-floor'; may be repeated. Ends with 1 if one is missed
    #[arg(long, value_name = "GOAL")]
    goal: Vec<Goal>,
    /// Keep servers on this cpu
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    server_cpu: usize,
    /// Keep this program on this cpu, but for the loads that have both on one
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    cpu: usize,
    /// Leave result.json.gz in this folder, in the form of `runtimes`
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Where ring9's sources are; by default this folder, or one that this program was built in
    #[arg(long, value_name = "FOLDER")]
    repository: Option<PathBuf>,
}

impl Writes {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let began = SystemTime::now();
        let repository = super::runtimes::repository(self.repository.as_deref()).usage()?;
        let roster = Roster::build_one(&repository, BASELINE).usage()?;
        let yard = Yard::new(&roster, self.server_cpu, self.cpu, false).usage()?;
        let mut shapes = Vec::new();
        for &cpus in &self.cpus {
            for &transport in &self.transport {
                for &depth in &self.depth {
                    for &size in &self.size {
                        let cpus = if cpus == 1 { Cpus::One } else { Cpus::Each };
                        let load = WriteLoad { transport, cpus, depth, size, duration: self.duration };
                        let measured = yard.writes(&load, self.rounds, self.starts, &self.goal)?;
                        eprintln!("{}", measured.id);
                        shapes.push(measured);
                    }
                }
            }
        }
        result::print_writes(&shapes, self.statistic, &mut std::io::stdout().lock()).usage()?;
        let missed = shapes.iter().flat_map(|one| &one.comparison.verdicts).any(|one| one.verdict == Verdict::Missed);
        if let Some(folder) = &self.out {
            let runtimes = Runtimes {
                version: result::VERSION,
                began: humantime::format_rfc3339_millis(began).to_string(),
                quick: false,
                servers: Vec::new(),
                shapes,
                rates: Vec::new(),
                objectives: Vec::new(),
                environment: environment(Some(self.cpu)),
            };
            runtimes.put(folder).usage()?;
        }
        Ok(if missed { Ending::Broken } else { Ending::Well })
    }
}
