//! `ring9-bench`: load for 9P servers, and what can be said of it.
//!
//! - `commands`: what the program can be asked to do.
//! - `generator`: the load.
//! - `record`: its times.
//! - `result`: what is left of them, in files and in words.
//! - `target`, `server`, `cost`: the server, one that is started here, and what its process spends.
//! - `environment`: the machine.
//! - `load`: an older closed loop, of `commands/pair`.

mod commands;
mod cost;
mod environment;
mod generator;
mod load;
mod record;
mod result;
mod server;
mod target;

use clap::{Parser, Subcommand};
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
    /// Two servers in interleaved rounds; closed loop, so no latencies
    Pair(commands::pair::Pair),
    /// The schema of result.json
    Schema,
}

fn main() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Run(run) => run.run(),
        Command::Pair(pair) => pair.run().target().map(|()| Ending::Well),
        Command::Schema => schema(),
    };
    match done {
        Ok(ending) => ending.into(),
        Err(failure) => {
            eprintln!("ring9-bench: {:#}", failure.error());
            failure.code()
        }
    }
}

fn schema() -> Result<Ending, Failure> {
    let text = serde_json::to_string_pretty(&schemars::schema_for!(result::RunResult)).usage()?;
    println!("{text}");
    Ok(Ending::Well)
}
