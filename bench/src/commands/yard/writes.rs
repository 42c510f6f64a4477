//! Writes of one size: ring9, the epoll baseline and the floors that keep payloads, in interleaved rounds.

use super::{Contestant, Yard, plan, speech};
use crate::commands::compare::RoundFlags;
use crate::commands::{Blame, Failure};
use crate::null::Kind;
use crate::result::{Comparison, Goal, Measured};
use crate::runtimes::{Cpus, Transport};
use anyhow::Context;
use std::time::Duration;

/// Bytes of the file that is written to.
const FILE_BYTES: u64 = 16 << 20;

/// Writes at random multiples of their size, over one connection.
pub(crate) struct WriteLoad {
    pub(crate) transport: Transport,
    pub(crate) cpus: Cpus,
    pub(crate) depth: u16,
    pub(crate) size: u64,
    /// Of one server in one round.
    pub(crate) duration: Duration,
}

impl WriteLoad {
    /// Its name in tables and files: `unix-one-cpu-1x16-write-65536`.
    fn id(&self) -> String {
        let cpus = if self.cpus == Cpus::One { "-one-cpu" } else { "" };
        format!("{}{cpus}-1x{}-write-{}", self.transport.name(), self.depth, self.size)
    }
}

impl Yard<'_> {
    /// Measures it in `rounds` rounds, for which servers are started `starts` times.
    pub(crate) fn writes(
        &self,
        load: &WriteLoad,
        rounds: u32,
        starts: u32,
        goals: &[Goal],
    ) -> Result<Measured, Failure> {
        let words = format!("--depth {} --op write --size {} --file-size {FILE_BYTES}", load.depth, load.size);
        let mut plan = plan(&words, load.duration).usage()?;
        let cpu = if load.cpus == Cpus::One { self.server_cpu } else { self.cpu };
        let mut all: Option<Comparison> = None;
        for start in 0..starts {
            let servers = self.roster.servers.iter().map(|server| Contestant::Server(server, String::new()));
            let who = servers.chain([Kind::Copying, Kind::Storing].map(Contestant::Floor));
            let entries = who.map(|one| self.start(&one, load.transport)).collect::<Result<Vec<_>, _>>()?;
            plan.seed += u64::from(start);
            let rounds = RoundFlags::new(rounds.div_ceil(starts), cpu);
            let one = rounds.compare(&entries, &speech()?, &plan, goals)?;
            all = Some(match all {
                Some(all) => all.with_rounds_of(one, goals).usage()?,
                None => one,
            });
        }
        let comparison = all.context("no rounds").usage()?;
        let one_cpu = load.cpus == Cpus::One;
        Ok(Measured { id: load.id(), one_cpu, bulk: false, idle_connections: 0, comparison })
    }
}
