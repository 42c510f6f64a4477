//! `ring9-linear`: are reads and writes of shared files linearizable? Runs clients against a server, writes down what they did and saw, and checks every history.
//!
//! - `grid`: the registers of a file, and the stamps that fill them.
//! - `history`: what was done and seen, and when.
//! - `register`, `check`: the check. `planted`: faults that it has to find before it is believed.
//! - `plan`, `play`: what the clients of a history do, from a seed, and doing it.
//! - `server`: the server under test, and relays in front of it.

mod check;
mod grid;
mod history;
mod plan;
mod planted;
mod play;
mod random;
mod register;
mod server;

use anyhow::{Context, bail};
use check::Violation;
use clap::Parser;
use history::{History, What};
use plan::Plan;
use ring9::client::Address;
use server::Server;
use std::path::PathBuf;
use std::process::ExitCode;

/// A history with fewer overlapping pairs says little, and does not count.
const PAIRS_MIN: usize = 30;
/// Of so many histories that were played for each one that is to count, none more is tried: then this machine has no overlap to offer.
const TRIES: usize = 4;
/// What the stamp has bits for.
const HISTORIES_MAX: u64 = 1 << 17;

/// Checks recorded histories of reads and writes for linearizability
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Histories that are to count: 30 pairs of overlapping operations of two clients in each, one of them a write
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=HISTORIES_MAX))]
    histories: u64,
    /// Seed of the plans; times and interleavings are those of the run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The server to start [default: ring9, beside this program]
    #[arg(long, value_name = "PATH", conflicts_with = "addr")]
    server: Option<PathBuf>,
    /// Memory of the server that is started. The less, the sooner blocks are used again; below 16MiB, large writes may get theirs piece by piece
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    memory: String,
    /// A loop in this process instead, on a tree whose effects and answers come late, by this seed, and whose answers have gates
    #[arg(long, value_name = "SEED", conflicts_with_all = ["server", "addr"])]
    late: Option<u64>,
    /// Clients talk to relays, one in front of each address of the server, in this process
    #[arg(long)]
    relay: bool,
    /// A running server instead; repeatable, for one that has several addresses
    #[arg(long, value_name = "ADDR")]
    addr: Vec<Address>,
    /// Where the whole history is left if there is a violation [default: the temporary directory]
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

/// What has been checked.
#[derive(Default)]
struct Counts {
    /// Overlapping pairs of each history that counts.
    pairs: Vec<usize>,
    /// Histories with too few pairs. They are checked like the others.
    set_aside: usize,
    reads: usize,
    writes: usize,
    /// Operations on one register: what the requests were to the checker.
    accesses: usize,
    landings: usize,
    resizes: usize,
    violations: usize,
}

impl Counts {
    fn add(&mut self, history: &History) {
        let writes = history.ops.iter().filter(|op| op.is_write());
        let large = writes.clone().filter(|op| history.grid.bytes(&op.cells).len() > ring9::session::BULK_BYTES_MIN);
        let (writes, large) = (writes.count(), large.count());
        self.writes += writes;
        let resizes = history.ops.iter().filter(|op| op.what == What::Resize).count();
        self.resizes += resizes;
        self.reads += history.ops.len() - writes - resizes;
        self.landings += large;
        self.accesses += history.ops.iter().map(|op| op.cells.len()).sum::<usize>();
        match history.overlapping_pairs() {
            pairs if pairs < PAIRS_MIN => self.set_aside += 1,
            pairs => self.pairs.push(pairs),
        }
    }

    fn line(&mut self) -> String {
        self.pairs.sort_unstable();
        let (least, median) = (self.pairs.first().unwrap_or(&0), self.pairs.get(self.pairs.len() / 2).unwrap_or(&0));
        format!(
            "linear: {} histories, {} operations ({} on single registers), overlapping pairs min {least} median {median}, {} reads, {} writes ({} above 16 KiB), \
             {} changes of length, {} histories set aside, {} violations",
            self.pairs.len(),
            self.reads + self.writes + self.resizes,
            self.accesses,
            self.reads,
            self.writes,
            self.landings,
            self.resizes,
            self.set_aside,
            self.violations
        )
    }
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ring9-linear: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The number of violations.
fn run(flags: &Flags) -> anyhow::Result<usize> {
    let unnoticed = planted::unnoticed();
    if !unnoticed.is_empty() {
        bail!("the checker does not find what was planted: {}", unnoticed.join(", "));
    }
    println!("planted faults: all {} found", planted::histories().len());
    let mut server = match (flags.late, flags.addr.as_slice()) {
        (Some(seed), _) => Server::late(seed)?,
        (None, []) => Server::start(&program(flags)?, &flags.memory)?,
        (None, addresses) => Server::running(addresses),
    };
    if flags.relay {
        server = server.relayed()?;
    }
    let mut counts = Counts::default();
    let played = play_all(flags, &server, &mut counts);
    println!("{}", counts.line());
    if let Err(error) = played {
        return Err(match server.end() {
            Some(end) => error.context(end),
            None => error,
        });
    }
    Ok(counts.violations)
}

/// Plays and checks until enough histories count, or one has a violation.
fn play_all(flags: &Flags, server: &Server, counts: &mut Counts) -> anyhow::Result<()> {
    let names: Vec<String> = server.addresses.iter().map(Address::to_string).collect();
    for number in 0.. {
        if counts.pairs.len() as u64 == flags.histories {
            return Ok(());
        }
        if number as usize >= TRIES * flags.histories as usize {
            bail!("of {number} histories only {} have {PAIRS_MIN} overlapping pairs", counts.pairs.len());
        }
        let plan = Plan::new(flags.seed, number, server.addresses.len());
        let title = plan.title(flags.seed, &names);
        let history = play::play(&plan, title.clone(), &server.addresses).context(title)?;
        counts.add(&history);
        if let Some(violation) = check::check(&history) {
            counts.violations += 1;
            show(flags, &history, &violation)?;
            return Ok(());
        }
    }
    unreachable!("numbers do not end")
}

fn show(flags: &Flags, history: &History, violation: &Violation) -> anyhow::Result<()> {
    let name = format!("ring9-linear-seed-{}-history-{}.txt", flags.seed, history.number);
    let path = flags.keep.clone().unwrap_or_else(std::env::temp_dir).join(name);
    println!("violation: {}the whole history: {}", violation.text(history), path.display());
    std::fs::write(&path, history.text()).with_context(|| format!("cannot write {}", path.display()))
}

fn program(flags: &Flags) -> anyhow::Result<PathBuf> {
    match &flags.server {
        Some(path) => Ok(path.clone()),
        None => Ok(std::env::current_exe().context("where is this program?")?.with_file_name("ring9")),
    }
}
