//! Servers with the rounds in which they were measured, what is compared of them, and the ratio of
//! one to another.
//!
//! Must not know: which pairs are compared, and what their ratio ought to be.

use super::Warning;
use super::warning::GENERATOR_CPU_MAX;
use crate::record::{Median, median};
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A server of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Its address or its command.
    pub(crate) place: String,
    /// What is known of its process.
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) rounds: Vec<Round>,
    /// How many of the rounds were spoilt, by the kind of warning.
    #[serde(default)]
    pub(crate) spoilt: BTreeMap<String, u32>,
}

impl Contender {
    /// One that was not measured yet.
    pub(crate) fn new(name: String, place: String, facts: BTreeMap<String, String>) -> Contender {
        Contender { name, place, facts, rounds: Vec::new(), spoilt: BTreeMap::new() }
    }

    /// One more round, and what may have spoilt it.
    pub(crate) fn add(&mut self, (round, warnings): (Round, Vec<Warning>)) {
        self.rounds.push(round);
        warnings.into_iter().for_each(|warning| *self.spoilt.entry(warning.kind).or_default() += 1);
    }

    /// Of its rounds.
    pub(super) fn median(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        median(&values).map(|median| median.value)
    }

    /// Whether this many are more than half of its rounds.
    pub(super) fn is_more_than_half(&self, rounds: usize) -> bool {
        2 * rounds > self.rounds.len()
    }

    /// Whether most of its rounds say how quick the generator is, not the server.
    pub(super) fn is_generator_bound(&self) -> bool {
        self.is_more_than_half(self.rounds.iter().filter(|round| round.generator_cpu > GENERATOR_CPU_MAX).count())
    }
}

/// One round of one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Round {
    /// Operations per second.
    pub(crate) throughput: f64,
    /// Response times of all operations, in nanoseconds; none where too few values lie above.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    /// Microseconds of the server's cpu for an operation, if its process is known.
    pub(crate) cpu_us: Option<f64>,
    /// Share of one cpu that the generator used.
    pub(crate) generator_cpu: f64,
    /// By how much the server's process grew with each connection, where there are many.
    #[serde(default)]
    pub(crate) bytes_per_connection: Option<f64>,
    /// The same at the end of the round.
    #[serde(default)]
    pub(crate) loaded_bytes_per_connection: Option<f64>,
    /// Of a client beside the load that reads in large pieces: its operations per second.
    #[serde(default)]
    pub(crate) bulk_per_s: Option<f64>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Statistic {
    /// Operations per second.
    Throughput,
    /// Response time.
    P50,
    P99,
    /// Of the server, for an operation.
    Cpu,
}

impl Statistic {
    pub(crate) const ALL: [Statistic; 4] = [Statistic::Throughput, Statistic::P50, Statistic::P99, Statistic::Cpu];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Statistic::Throughput => "throughput",
            Statistic::P50 => "p50",
            Statistic::P99 => "p99",
            Statistic::Cpu => "cpu",
        }
    }

    pub(super) fn of(self, round: &Round) -> Option<f64> {
        match self {
            Statistic::Throughput => Some(round.throughput),
            Statistic::P50 => round.p50_ns.map(|ns| ns as f64),
            Statistic::P99 => round.p99_ns.map(|ns| ns as f64),
            Statistic::Cpu => round.cpu_us,
        }
    }

    /// One server's divided by another's, round by round, without rounds that lack one of the two.
    pub(super) fn ratios(self, one: &Contender, other: &Contender) -> Vec<f64> {
        let rounds = one.rounds.iter().zip(&other.rounds);
        let ratios = rounds.filter_map(|(one, other)| Some(self.of(one)? / self.of(other)?));
        ratios.filter(|ratio| ratio.is_finite()).collect()
    }
}

/// Of one server to another, round by round.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) statistic: Statistic,
    /// Of each round; `runtimes` leaves out what follows from the rounds of the two servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<f64>,
    pub(crate) median: Median,
}

impl Ratio {
    /// The rounds that follow from those of its servers; none where one of them is not there.
    pub(super) fn of_rounds(&self, contenders: &[Contender]) -> Vec<f64> {
        match (called(contenders, &self.of), called(contenders, &self.to)) {
            (Some(of), Some(to)) => self.statistic.ratios(of, to),
            _ => Vec::new(),
        }
    }
}

/// The server of this name.
pub(super) fn called<'a>(contenders: &'a [Contender], name: &str) -> Option<&'a Contender> {
    contenders.iter().find(|one| one.name == name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A server of these throughputs, a round each.
    pub(in crate::result) fn contender(name: &str, throughputs: &[f64]) -> Contender {
        let round = |&throughput: &f64| Round {
            throughput,
            p50_ns: Some(1000),
            p99_ns: None,
            cpu_us: None,
            generator_cpu: 0.1,
            bytes_per_connection: None,
            loaded_bytes_per_connection: None,
            bulk_per_s: None,
        };
        let empty = Contender::new(name.into(), String::new(), BTreeMap::new());
        Contender { rounds: throughputs.iter().map(round).collect(), ..empty }
    }
}
