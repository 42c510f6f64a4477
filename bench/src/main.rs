//! `ring9-bench`: load for 9P servers.
//!
//! - `pair`: two servers in interleaved rounds of closed-loop reads; ratios of operations and of CPU per operation.
//! - `load`: the connections and what is in flight on them.
//! - `server`: servers that are started, pinned by their own flags, and measured from /proc.

mod load;
mod pair;
mod server;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Load for 9P servers.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Two servers in interleaved rounds; closed loop, so no latencies
    Pair(pair::Pair),
}

fn main() -> ExitCode {
    let Command::Pair(pair) = Flags::parse().command;
    match pair.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring9-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
