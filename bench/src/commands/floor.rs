//! A server beside servers that do nothing: how far it is from what sockets, kernel and generator allow.

use super::compare::{Entry, RoundFlags};
use super::load::{LoadFlags, Site, TargetFlags};
use super::{Blame, Ending, Failure};
use crate::environment::of_process;
use crate::null::Kind;
use crate::result::{Comparison, Goal};
use anyhow::{Context, ensure};
use clap::Args;
use ring9::client::Address;
use std::time::Duration;

/// Of one server in one round, unless it is said otherwise.
const DURATION: Duration = Duration::from_secs(1);

/// A server beside two that only answer, with replies of the same sizes over the same kind of socket
#[derive(Debug, Args)]
pub(crate) struct Floor {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    rounds: RoundFlags,
    /// Keep the servers that only answer on this cpu; by default where the server is kept, if that is one cpu
    #[arg(long, value_name = "CPU")]
    floor_cpu: Option<usize>,
    /// What the ratio of the server to each of them ought to be, as 'throughput >= 0.8'; may be repeated
    #[arg(long, value_name = "GOAL")]
    goal: Vec<Goal>,
}

impl Floor {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        self.rounds.end(&self.compare()?)
    }

    /// Measures all three.
    pub(crate) fn compare(&self) -> Result<Comparison, Failure> {
        let plan = self.load.plan(DURATION).usage()?;
        (|| {
            ensure!(self.target.speech().is_linux(), "the servers that only answer speak 9P2000.L");
            ensure!(!plan.verify, "what they answer is zeros: not with --verify");
            Ok(())
        })()
        .usage()?;
        let site = self.target.start().target()?;
        let cpu = self.floor_cpu.or(site.pid.and_then(only_cpu));
        let scratch = tempfile::tempdir().usage()?;
        let mut nulls = Vec::new();
        for kind in Kind::SLEEPING {
            let address = match &site.address {
                Address::Tcp { .. } => "tcp:127.0.0.1:0".to_owned(),
                Address::Unix(_) => format!("unix:{}", scratch.path().join(kind.name()).display()),
            };
            nulls.push(null(kind, &address, cpu).target()?);
        }
        let mut entries = vec![Entry { name: "server".into(), place: site.address.to_string(), site }];
        entries.extend(nulls);
        self.rounds.compare(&entries, self.target.speech(), &plan, &self.goal)
    }
}

/// Starts this program again as a server that only answers.
pub(crate) fn null(kind: Kind, address: &str, cpu: Option<usize>) -> anyhow::Result<Entry> {
    let program = std::env::current_exe().context("this program")?;
    let program =
        program.to_str().filter(|path| !path.contains(' ')).context("a path without blanks to this program")?;
    let pinned = cpu.map_or(String::new(), |cpu| format!(" --cpu {cpu}"));
    let command = format!("{program} null --kind {} --listen {address}{pinned}", kind.name());
    Ok(Entry { name: format!("{}-floor", kind.name()), site: Site::start(&command)?, place: command })
}

/// The one cpu of a process, if it has only one.
fn only_cpu(pid: u32) -> Option<usize> {
    of_process(pid).get("cpus")?.parse().ok()
}
