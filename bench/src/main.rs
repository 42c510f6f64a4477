//! `ring9-bench`: load for 9P servers, and what can be said of it.
//!
//! - `commands`: what the program can be asked to do.
//! - `generator`: the load.
//! - `record`: its times.
//! - `result`: what is left of them, in files and in words.
//! - `target`, `server`, `cost`: the server, one that is started here, and what its process spends.
//! - `syscalls`: the calls of a process, by tracing it.
//! - `measure`: a server with the files and connections of a load.
//! - `environment`: the machine.
//! - `report`: a page with pictures.
//! - `null`: servers that only answer, as a floor.
//! - `runtimes`: ring9's core on other I/O layers, and the loads in which they are compared.

mod commands;
mod cost;
mod environment;
mod generator;
mod measure;
mod null;
mod record;
mod report;
mod result;
mod runtimes;
mod server;
mod syscalls;
mod target;

use clap::{Parser, Subcommand, ValueEnum};
use commands::{Blame, Ending, Failure};
use std::process::ExitCode;

/// Load for 9P servers.
///
/// Ends with 0 if all is well, 1 if a limit was broken or a baseline was better, 2 if it was asked for what cannot be, 3 if the run says nothing about the server, 4 if the server
/// cannot be reached or does not do what it is asked to.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<commands::run::Run>),
    Sweep(Box<commands::sweep::SweepFlags>),
    Compare(Box<commands::compare::Compare>),
    Floor(Box<commands::floor::Floor>),
    Runtimes(commands::runtimes::RuntimesFlags),
    Writes(commands::writes::Writes),
    Noise(commands::noise::Noise),
    Report(commands::report::Report),
    Demo(commands::demo::Demo),
    /// A server that only answers, until it is killed; `floor` starts these
    Null {
        #[arg(long, value_enum)]
        kind: null::Kind,
        /// tcp:HOST:PORT or unix:PATH
        #[arg(long)]
        listen: ring9::client::Address,
        /// Keep it on one cpu
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// The schemas of the files that are left
    Schema {
        #[arg(value_enum, default_value_t = Kind::Run)]
        of: Kind,
    },
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Run(run) => run.run(),
        Command::Sweep(sweep) => sweep.run(),
        Command::Compare(compare) => compare.run(),
        Command::Floor(floor) => floor.run(),
        Command::Runtimes(runtimes) => runtimes.run(),
        Command::Writes(writes) => writes.run(),
        Command::Noise(noise) => noise.run(),
        Command::Report(report) => report.run(),
        Command::Demo(demo) => demo.run(),
        Command::Null { kind, listen, cpu } => {
            measure::pin(cpu).and_then(|()| null::serve(kind, &listen)).usage().map(|()| Ending::Well)
        }
        Command::Schema { of } => schema(of),
    };
    match done {
        Ok(ending) => ending.into(),
        Err(failure) => {
            eprintln!("ring9-bench: {:#}", failure.error());
            failure.code()
        }
    }
}

/// What a file is about.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// result.json
    Run,
    /// sweep.json
    Sweep,
    /// compare.json, also of `floor`
    Compare,
    /// result.json.gz of `runtimes`, decompressed
    Runtimes,
}

fn schema(of: Kind) -> Result<Ending, Failure> {
    let schema = match of {
        Kind::Run => schemars::schema_for!(result::RunResult),
        Kind::Sweep => schemars::schema_for!(result::Sweep),
        Kind::Compare => schemars::schema_for!(result::Comparison),
        Kind::Runtimes => schemars::schema_for!(result::Runtimes),
    };
    println!("{}", serde_json::to_string_pretty(&schema).usage()?);
    Ok(Ending::Well)
}
