//! Servers that were measured side by side.

use super::Planned;
use crate::record::{Median, median};
use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// `compare.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Comparison {
    /// Version of this format: 1.
    pub(crate) version: u32,
    pub(crate) began: String,
    pub(crate) plan: Planned,
    /// In the order in which they were given; the first is divided by each of the others.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) verdicts: Vec<Judged>,
    /// What spoils the comparison; empty if nothing does.
    pub(crate) warnings: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// A server of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Contender {
    pub(crate) name: String,
    /// Its address or its command.
    pub(crate) place: String,
    /// What is known of its process.
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) rounds: Vec<Round>,
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
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
}

/// Of the first server to another, round by round.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) statistic: Statistic,
    pub(crate) rounds: Vec<f64>,
    pub(crate) median: Median,
}

/// `throughput >= 1.1`, or `throughput >= 1.1 against NAME`: what a ratio ought to be, to every other server or to one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    text: String,
    to: Option<String>,
    statistic: Statistic,
    at_least: bool,
    value: f64,
}

impl FromStr for Goal {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Goal> {
        let form = "throughput >= 1.1, p99 <= 0.9, p50 or cpu, and perhaps 'against' the name of a server";
        let (what, to) = match text.split_once(" against ") {
            Some((what, to)) => (what, Some(to.trim().to_owned())),
            None => (text, None),
        };
        let (name, at_least, value) = match (what.split_once(">="), what.split_once("<=")) {
            (Some((name, value)), None) => (name.trim(), true, value.trim()),
            (None, Some((name, value))) => (name.trim(), false, value.trim()),
            _ => bail!("{text:?} is not of the form {form}"),
        };
        let statistic = Statistic::ALL.into_iter().find(|statistic| statistic.name() == name);
        let statistic = statistic.with_context(|| format!("{name:?} is no ratio: {form}"))?;
        let value = value.parse().with_context(|| format!("{value:?} is no number"))?;
        Ok(Goal { text: what.trim().into(), to, statistic, at_least, value })
    }
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// All of the interval is on the right side.
    Met,
    /// All of it is on the wrong side.
    Missed,
    /// It has both sides in it, or there are too few rounds for one.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Undecided => "undecided",
        })
    }
}

/// A goal, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Judged {
    pub(crate) goal: String,
    pub(crate) to: String,
    pub(crate) verdict: Verdict,
}

impl Goal {
    fn judge(&self, median: &Median) -> Verdict {
        let Some([low, high]) = median.interval else { return Verdict::Undecided };
        let (low, high) =
            if self.at_least { (low - self.value, high - self.value) } else { (self.value - high, self.value - low) };
        match (low >= 0.0, high < 0.0) {
            (true, _) => Verdict::Met,
            (_, true) => Verdict::Missed,
            _ => Verdict::Undecided,
        }
    }
}

/// Of the first to each of the others.
pub(crate) fn ratios(contenders: &[Contender]) -> Vec<Ratio> {
    let Some((first, others)) = contenders.split_first() else { return Vec::new() };
    let mut ratios = Vec::new();
    for other in others {
        for statistic in Statistic::ALL {
            let pairs = first.rounds.iter().zip(&other.rounds);
            let rounds: Vec<f64> = pairs
                .filter_map(|(one, other)| Some(statistic.of(one)? / statistic.of(other)?))
                .filter(|ratio| ratio.is_finite())
                .collect();
            if let Some(median) = median(&rounds) {
                ratios.push(Ratio { of: first.name.clone(), to: other.name.clone(), statistic, rounds, median });
            }
        }
    }
    ratios
}

/// Each goal against each ratio that it is about.
pub(crate) fn judge(goals: &[Goal], ratios: &[Ratio]) -> anyhow::Result<Vec<Judged>> {
    let mut verdicts = Vec::new();
    for goal in goals {
        let before = verdicts.len();
        let is_of = |ratio: &&Ratio| goal.to.as_ref().is_none_or(|to| *to == ratio.to);
        for ratio in ratios.iter().filter(|ratio| ratio.statistic == goal.statistic).filter(is_of) {
            verdicts.push(Judged { goal: goal.text.clone(), to: ratio.to.clone(), verdict: goal.judge(&ratio.median) });
        }
        if verdicts.len() == before {
            bail!(
                "{}: there is no such ratio: too few operations, or a server that is not there or whose process is not known",
                goal.text
            );
        }
    }
    Ok(verdicts)
}

/// A table of medians, the ratios, and the verdicts.
pub(crate) fn print(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    let plan = &comparison.plan;
    writeln!(out, "{}", plan.words())?;
    let rounds = comparison.contenders.first().map_or(0, |contender| contender.rounds.len());
    writeln!(
        out,
        "{rounds} rounds of {} s each, two servers A B, B A, ..., more in a random order\n",
        plan.duration_s
    )?;
    writeln!(out, "{:<16} {:>12} {:>10} {:>10} {:>10}   medians", "server", "per second", "p50", "p99", "cpu us")?;
    for Contender { name, rounds, .. } in &comparison.contenders {
        let of = |statistic: Statistic| {
            let values: Vec<f64> = rounds.iter().filter_map(|round| statistic.of(round)).collect();
            median(&values).map(|median| median.value)
        };
        let time = |statistic| of(statistic).map_or("-".into(), |ns: f64| super::nanoseconds(ns as u64));
        let number =
            |statistic, digits: usize| of(statistic).map_or("-".into(), |value: f64| format!("{value:.digits$}"));
        let [p50, p99] = [Statistic::P50, Statistic::P99].map(time);
        let (throughput, cpu) = (number(Statistic::Throughput, 0), number(Statistic::Cpu, 2));
        writeln!(out, "{name:<16} {throughput:>12} {p50:>10} {p99:>10} {cpu:>10}")?;
    }
    writeln!(out, "\n{:<34} {:>8}   95 % interval", "ratio", "median")?;
    for Ratio { of, to, statistic, median, .. } in &comparison.ratios {
        let name = format!("{} {of}/{to}", statistic.name());
        let interval = median.interval.map_or("too few rounds".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        writeln!(out, "{name:<34} {:>8.3}   {interval}", median.value)?;
    }
    for Judged { goal, to, verdict } in &comparison.verdicts {
        writeln!(out, "goal {goal} against {to}: {verdict}")?;
    }
    for warning in &comparison.warnings {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &str, throughputs: &[f64]) -> Contender {
        let round = |&throughput: &f64| Round {
            throughput,
            p50_ns: Some(1000),
            p99_ns: None,
            cpu_us: None,
            generator_cpu: 0.1,
            bytes_per_connection: None,
        };
        Contender {
            name: name.into(),
            place: String::new(),
            facts: BTreeMap::new(),
            rounds: throughputs.iter().map(round).collect(),
        }
    }

    #[test]
    fn ratios_are_of_each_round() {
        let one = contender("one", &[10.0, 20.0, 30.0]);
        let other = contender("other", &[5.0, 40.0, 10.0]);
        let ratios = ratios(&[one, other]);
        let names: Vec<_> = ratios.iter().map(|ratio| ratio.statistic.name()).collect();
        // Nothing is said of what was not measured.
        assert_eq!(names, ["throughput", "p50"]);
        assert_eq!(ratios[0].rounds, [2.0, 0.5, 3.0]);
        assert_eq!(ratios[0].median, Median { value: 2.0, interval: None });
    }

    #[test]
    fn a_goal_is_met_by_all_of_the_interval() {
        let verdict = |goal: &str, interval| {
            let goal: Goal = goal.parse().expect("a goal");
            goal.judge(&Median { value: 1.0, interval })
        };
        assert_eq!(verdict("throughput >= 1", Some([1.0, 1.2])), Verdict::Met);
        assert_eq!(verdict("throughput >= 1.1", Some([1.0, 1.2])), Verdict::Undecided);
        assert_eq!(verdict("throughput >= 1.3", Some([1.0, 1.2])), Verdict::Missed);
        assert_eq!(verdict("p99 <= 0.9", Some([0.7, 0.9])), Verdict::Met);
        assert_eq!(verdict("p99 <= 0.8", Some([0.7, 0.9])), Verdict::Undecided);
        assert_eq!(verdict("p99 <= 0.6", Some([0.7, 0.9])), Verdict::Missed);
        assert_eq!(verdict("throughput >= 0.1", None), Verdict::Undecided);
        for text in ["", "p99", "p99 > 1", "speed >= 1", "cpu <= much"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
        let ratios = ratios(&[contender("one", &[1.0; 9]), contender("other", &[1.0; 9])]);
        assert!(judge(&["cpu <= 1".parse().expect("a goal")], &ratios).is_err());
        let against = |name: &str| judge(&[format!("p50 <= 1 against {name}").parse().expect("a goal")], &ratios);
        assert_eq!(against("other").expect("it is there").len(), 1);
        assert!(against("nobody").is_err());
    }
}
