//! Servers that were measured side by side.

use super::goal::judge;
use super::ratio::{Contender, Ratio, Statistic, called};
use super::{Goal, Judged, Planned, VERSION};
use crate::environment::Environment;
use crate::generator::Plan;
use crate::record::{Median, median};
use anyhow::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

/// `compare.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Comparison {
    /// Version of this format: 1.
    pub(crate) version: u32,
    pub(crate) began: String,
    pub(crate) plan: Planned,
    /// In the order in which they were given; the first is divided by each of the others.
    pub(crate) contenders: Vec<Contender>,
    /// Of the first to each of the others, then those that a goal names beside them.
    pub(crate) ratios: Vec<Ratio>,
    pub(crate) verdicts: Vec<Judged>,
    /// What spoils the comparison; empty if nothing does.
    pub(crate) warnings: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

impl Comparison {
    /// Of what was measured: ratios, verdicts, and what spoils them.
    pub(crate) fn new(
        began: SystemTime,
        plan: &Plan,
        contenders: Vec<Contender>,
        goals: &[Goal],
        environment: Environment,
    ) -> anyhow::Result<Comparison> {
        Comparison {
            version: VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            plan: Planned::of(plan),
            contenders,
            ratios: Vec::new(),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            environment,
        }
        .judged(goals)
    }

    /// With what follows from its rounds.
    fn judged(mut self, goals: &[Goal]) -> anyhow::Result<Comparison> {
        self.ratios = ratios(&self.contenders, goals);
        self.verdicts = judge(goals, &self.contenders, &self.ratios, !self.plan.open_loop)?;
        self.warnings = warnings(&self.contenders);
        Ok(self)
    }

    /// More rounds of the same servers, in the same order, in the same load.
    pub(crate) fn with_rounds_of(mut self, other: Comparison, goals: &[Goal]) -> anyhow::Result<Comparison> {
        let names =
            |comparison: &Comparison| comparison.contenders.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
        ensure!(names(&self) == names(&other), "rounds of other servers");
        for (one, more) in self.contenders.iter_mut().zip(other.contenders) {
            one.rounds.extend(more.rounds);
            more.spoilt.into_iter().for_each(|(kind, rounds)| *one.spoilt.entry(kind).or_default() += rounds);
        }
        self.judged(goals)
    }

    /// What was measured by itself in the same load: no ratio is of servers of both.
    pub(crate) fn append(&mut self, other: Comparison) {
        self.contenders.extend(other.contenders);
        self.ratios.extend(other.ratios);
        self.verdicts.extend(other.verdicts);
        self.warnings.extend(other.warnings);
    }

    /// Leaves out the rounds of ratios that follow from the rounds of the servers: two fifths of the
    /// compressed bytes of a result.
    pub(super) fn pack(&mut self) {
        for ratio in &mut self.ratios {
            if ratio.rounds == ratio.of_rounds(&self.contenders) {
                ratio.rounds.clear();
            }
        }
    }

    /// Puts the rounds of ratios back. A ratio without rounds was packed: none is made of no rounds.
    pub(super) fn unpack(&mut self) {
        for ratio in &mut self.ratios {
            if ratio.rounds.is_empty() {
                ratio.rounds = ratio.of_rounds(&self.contenders);
            }
        }
    }

    fn is_of_first(&self, name: &str) -> bool {
        name.is_empty() || self.contenders.first().is_some_and(|first| first.name == name)
    }

    /// Of the first server to another.
    pub(super) fn ratio(&self, to: &str, statistic: Statistic) -> Option<Median> {
        let is_it = |ratio: &&Ratio| self.is_of_first(&ratio.of) && ratio.to == to && ratio.statistic == statistic;
        self.ratios.iter().find(is_it).map(|ratio| ratio.median)
    }

    /// Ratios that are not of the first server, a line for each pair.
    pub(crate) fn other_ratios(&self) -> Vec<String> {
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for ratio in self.ratios.iter().filter(|ratio| !self.is_of_first(&ratio.of)) {
            let pair = format!("{} to {}", ratio.of, ratio.to);
            let text = format!("{} {}", ratio.statistic.name(), in_words(&ratio.median));
            match lines.last_mut() {
                Some((last, texts)) if *last == pair => texts.push(text),
                _ => lines.push((pair, vec![text])),
            }
        }
        lines.into_iter().map(|(pair, texts)| format!("{pair}: {}", texts.join(", "))).collect()
    }

    /// Each goal, and what became of it.
    pub(crate) fn goals(&self) -> Vec<(String, String)> {
        let goal = |judged: &Judged| {
            let of = if self.is_of_first(&judged.of) { String::new() } else { format!(" of {}", judged.of) };
            let why = judged.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            (format!("goal {}{of} against {}", judged.goal, judged.to), format!("{}{why}", judged.verdict))
        };
        self.verdicts.iter().map(goal).collect()
    }

    /// The warnings, with one line for each kind; all of them where an older file does not say more.
    pub(crate) fn warnings_by_kind(&self) -> Vec<String> {
        let lines = by_kind(&self.contenders);
        if lines.is_empty() { self.warnings.clone() } else { lines }
    }
}

/// `1.03 (0.98 to 1.08)`.
pub(super) fn in_words(median: &Median) -> String {
    match median.interval {
        Some([low, high]) => format!("{:.2} ({low:.2} to {high:.2})", median.value),
        None => format!("{:.2}", median.value),
    }
}

/// What spoiled rounds, and how many.
fn warnings(contenders: &[Contender]) -> Vec<String> {
    let of = |one: &Contender| {
        let (name, all) = (one.name.clone(), one.rounds.len());
        let line = move |(kind, rounds): (&String, &u32)| format!("{name}: {kind} in {rounds} of {all} rounds");
        one.spoilt.iter().map(line).collect::<Vec<_>>()
    };
    contenders.iter().flat_map(of).collect()
}

/// A line for each kind of warning, with those whose rounds it has spoilt.
fn by_kind(contenders: &[Contender]) -> Vec<String> {
    let mut kinds = BTreeMap::<&str, [Vec<&str>; 2]>::new();
    for contender in contenders {
        for (kind, rounds) in &contender.spoilt {
            let few = usize::from(!contender.is_more_than_half(*rounds as usize));
            kinds.entry(kind).or_default()[few].push(&contender.name);
        }
    }
    let line = |(kind, [most, few]): (&str, [Vec<&str>; 2])| {
        let parts = [("in more than half of the rounds", most), ("in fewer", few)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<String> = parts.map(|(when, names)| format!("{when}: {}", names.join(", "))).collect();
        format!("{kind} {}", parts.join("; "))
    };
    kinds.into_iter().map(line).collect()
}

/// Of the first to each of the others, and those that goals name beside them.
pub(super) fn ratios(contenders: &[Contender], goals: &[Goal]) -> Vec<Ratio> {
    let Some((first, others)) = contenders.split_first() else { return Vec::new() };
    let mut pairs: Vec<(&Contender, &Contender)> = others.iter().map(|other| (first, other)).collect();
    for goal in goals {
        let (Some(of), Some(to)) = (&goal.of, &goal.to) else { continue };
        if let (Some(of), Some(to)) = (called(contenders, of), called(contenders, to))
            && !pairs.iter().any(|(one, other)| one.name == of.name && other.name == to.name)
        {
            pairs.push((of, to));
        }
    }
    let mut ratios = Vec::new();
    for (one, other) in pairs {
        for statistic in Statistic::ALL {
            let rounds = statistic.ratios(one, other);
            if let Some(median) = median(&rounds) {
                ratios.push(Ratio { of: one.name.clone(), to: other.name.clone(), statistic, rounds, median });
            }
        }
    }
    ratios
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
    for contender in &comparison.contenders {
        let name = &contender.name;
        let of = |statistic: Statistic| contender.median(|round| statistic.of(round));
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
    for (goal, verdict) in comparison.goals() {
        writeln!(out, "{goal}: {verdict}")?;
    }
    for warning in &comparison.warnings {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::ratio::tests::contender;

    #[test]
    fn ratios_are_of_each_round() {
        let one = contender("one", &[10.0, 20.0, 30.0]);
        let other = contender("other", &[5.0, 40.0, 10.0]);
        let ratios = ratios(&[one, other], &[]);
        let names: Vec<_> = ratios.iter().map(|ratio| ratio.statistic.name()).collect();
        // Nothing is said of what was not measured.
        assert_eq!(names, ["throughput", "p50"]);
        assert_eq!(ratios[0].rounds, [2.0, 0.5, 3.0]);
        assert_eq!(ratios[0].median, Median { value: 2.0, interval: None });
    }

    fn closed_loop() -> Planned {
        Planned {
            open_loop: false,
            arrivals: None,
            rate: None,
            connections: 1,
            depth: 1,
            operations: String::new(),
            sizes: None,
            files: 1,
            file_bytes: 1,
            zipf: 0.0,
            sequential: false,
            warmup_s: 0.0,
            duration_s: 1.0,
            seed: 1,
            verified: false,
        }
    }

    #[test]
    fn rounds_of_more_starts_are_rounds_like_all_others() {
        let comparison = |one: &[f64], other: &[f64]| Comparison {
            version: VERSION,
            began: String::new(),
            plan: closed_loop(),
            contenders: vec![contender("one", one), contender("other", other)],
            ratios: Vec::new(),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            environment: BTreeMap::new(),
        };
        let goals = ["throughput >= 1.5".parse().expect("a goal")];
        let (first, second) = (comparison(&[4.0; 3], &[2.0; 3]), comparison(&[3.0; 3], &[2.0; 3]));
        let both = first.with_rounds_of(second, &goals).expect("the same servers");
        assert_eq!(both.ratios[0].rounds, [2.0, 2.0, 2.0, 1.5, 1.5, 1.5]);
        assert_eq!(both.verdicts[0].verdict, crate::result::Verdict::Met);
        let alone = Comparison { contenders: vec![contender("one", &[1.0])], ..comparison(&[], &[]) };
        assert!(both.with_rounds_of(alone, &goals).is_err());
    }

    #[test]
    fn warnings_of_a_kind_share_a_line() {
        let with = |name: &str, spoilt: &[(&str, u32)]| {
            let spoilt = spoilt.iter().map(|(kind, rounds)| ((*kind).to_owned(), *rounds)).collect();
            Contender { spoilt, ..contender(name, &[1.0; 4]) }
        };
        let contenders =
            [with("one", &[("noise", 1), ("late", 3)]), with("two", &[("late", 4)]), with("three", &[("late", 2)])];
        let lines = ["late in more than half of the rounds: one, two; in fewer: three", "noise in fewer: one"];
        assert_eq!(by_kind(&contenders), lines);
        assert_eq!(warnings(&contenders)[0], "one: late in 3 of 4 rounds");
        assert_eq!(warnings(&contenders).len(), 4);
    }
}
