//! How much of its runtime a baseline uses.

use clap::ValueEnum;

/// How much of a runtime is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// What its user writes first: one buffer each way, read, then write_all
    Idiomatic,
    /// Whatever its public interface offers: landings, gathers, both ways at once
    Tuned,
}
