//! Servers that were measured side by side.

use super::warning::GENERATOR_CPU_MAX;
use super::{Planned, VERSION, Warning};
use crate::environment::Environment;
use crate::generator::{Pace, Plan};
use crate::record::{Median, median};
use anyhow::{Context, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::time::SystemTime;

/// Why a throughput goal is neither met nor missed.
const GENERATOR_IS_LIMIT: &str = "the generator is the limit";

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

    fn is_more_than_half(&self, rounds: usize) -> bool {
        2 * rounds > self.rounds.len()
    }

    /// Whether most of its rounds say how quick the generator is, not the server.
    fn is_generator_bound(&self) -> bool {
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

/// Of one server to another, round by round.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) statistic: Statistic,
    pub(crate) rounds: Vec<f64>,
    pub(crate) median: Median,
}

/// `throughput >= 1.1`, `throughput >= 1.1 against NAME` or `throughput >= 1.1 of NAME against NAME`: what a ratio ought to be, of the first server to every other or to one, or of any
/// server to any other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    text: String,
    /// None: the first.
    of: Option<String>,
    /// None: each of the others.
    to: Option<String>,
    statistic: Statistic,
    at_least: bool,
    value: f64,
}

impl FromStr for Goal {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Goal> {
        let form = "throughput >= 1.1, p99 <= 0.9, p50 or cpu, perhaps 'against' the name of a server, and before that 'of' the name of another";
        let named = |text: &str, word: &str| match text.split_once(word) {
            Some((what, name)) => (what.to_owned(), Some(name.trim().to_owned())),
            None => (text.to_owned(), None),
        };
        let (what, to) = named(text, " against ");
        let (what, of) = named(&what, " of ");
        ensure!(of.is_none() || to.is_some(), "{text:?} has no 'against': {form}");
        let (name, at_least, value) = match (what.split_once(">="), what.split_once("<=")) {
            (Some((name, value)), None) => (name.trim(), true, value.trim()),
            (None, Some((name, value))) => (name.trim(), false, value.trim()),
            _ => bail!("{text:?} is not of the form {form}"),
        };
        let statistic = Statistic::ALL.into_iter().find(|statistic| statistic.name() == name);
        let statistic = statistic.with_context(|| format!("{name:?} is no ratio: {form}"))?;
        let value = value.parse().with_context(|| format!("{value:?} is no number"))?;
        Ok(Goal { text: what.trim().into(), of, to, statistic, at_least, value })
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
    /// It has both sides in it, or there are too few rounds for one; or it says nothing about the servers.
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
    /// Whose ratio it is; empty in older files, where it is always the first server's.
    #[serde(default)]
    pub(crate) of: String,
    pub(crate) to: String,
    pub(crate) verdict: Verdict,
    /// Why it is undecided, where the interval alone would have decided.
    #[serde(default)]
    pub(crate) why: Option<String>,
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

impl Comparison {
    /// Of what was measured: ratios, verdicts, and what spoils them.
    pub(crate) fn new(
        began: SystemTime,
        plan: &Plan,
        contenders: Vec<Contender>,
        goals: &[Goal],
        environment: Environment,
    ) -> anyhow::Result<Comparison> {
        let ratios = ratios(&contenders, goals);
        Ok(Comparison {
            version: VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            plan: Planned::of(plan),
            verdicts: judge(goals, &contenders, &ratios, matches!(plan.pace, Pace::Closed))?,
            warnings: warnings(&contenders),
            contenders,
            ratios,
            environment,
        })
    }

    /// What was measured by itself in the same load: no ratio is of servers of both.
    pub(crate) fn append(&mut self, other: Comparison) {
        self.contenders.extend(other.contenders);
        self.ratios.extend(other.ratios);
        self.verdicts.extend(other.verdicts);
        self.warnings.extend(other.warnings);
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

fn called<'a>(contenders: &'a [Contender], name: &str) -> Option<&'a Contender> {
    contenders.iter().find(|one| one.name == name)
}

impl Goal {
    /// Whether a verdict may be another one without a generator that is the limit for `[one, other]`. Who is held back by it does more, and sooner, than was seen; and
    /// where both are, their ratio is nearer to 1 than it would be.
    fn may_be_the_generators(&self, verdict: Verdict, bound: [bool; 2]) -> bool {
        let one_does_better_if_met = self.at_least == (self.statistic == Statistic::Throughput);
        match (bound, verdict) {
            (_, Verdict::Undecided) | ([false, false], _) => false,
            _ if !one_does_better_if_met => true,
            ([true, false], verdict) => verdict == Verdict::Missed,
            ([false, true], verdict) => verdict == Verdict::Met,
            ([true, true], verdict) => {
                let is_beyond_one = if self.at_least { self.value > 1.0 } else { self.value < 1.0 };
                self.value != 1.0 && is_beyond_one == (verdict == Verdict::Missed)
            }
        }
    }
}

/// Of the first to each of the others, and those that goals name beside them.
fn ratios(contenders: &[Contender], goals: &[Goal]) -> Vec<Ratio> {
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
            let rounds: Vec<f64> = one
                .rounds
                .iter()
                .zip(&other.rounds)
                .filter_map(|(one, other)| Some(statistic.of(one)? / statistic.of(other)?))
                .filter(|ratio| ratio.is_finite())
                .collect();
            if let Some(median) = median(&rounds) {
                ratios.push(Ratio { of: one.name.clone(), to: other.name.clone(), statistic, rounds, median });
            }
        }
    }
    ratios
}

/// Each goal against each ratio that it is about.
fn judge(goals: &[Goal], contenders: &[Contender], ratios: &[Ratio], is_closed: bool) -> anyhow::Result<Vec<Judged>> {
    let is_bound = |name: &str| called(contenders, name).is_some_and(Contender::is_generator_bound);
    let mut verdicts = Vec::new();
    for goal in goals {
        let before = verdicts.len();
        let of = goal.of.as_ref().or(contenders.first().map(|first| &first.name));
        let is_of = |ratio: &&Ratio| Some(&ratio.of) == of && goal.to.as_ref().is_none_or(|to| *to == ratio.to);
        for ratio in ratios.iter().filter(|ratio| ratio.statistic == goal.statistic).filter(is_of) {
            let mut verdict = goal.judge(&ratio.median);
            let mut why = None;
            if goal.statistic != Statistic::Cpu
                && is_closed
                && goal.may_be_the_generators(verdict, [is_bound(&ratio.of), is_bound(&ratio.to)])
            {
                verdict = Verdict::Undecided;
                why = Some(GENERATOR_IS_LIMIT.to_owned());
            }
            let (of, to) = (ratio.of.clone(), ratio.to.clone());
            verdicts.push(Judged { goal: goal.text.clone(), of, to, verdict, why });
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

    fn contender(name: &str, throughputs: &[f64]) -> Contender {
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

    /// The same, with a generator that uses so much of its cpu in each round.
    fn with_generator(contender: Contender, cpus: &[f64]) -> Contender {
        let rounds = contender.rounds.into_iter().zip(cpus);
        let rounds = rounds.map(|(round, &generator_cpu)| Round { generator_cpu, ..round }).collect();
        Contender { rounds, ..contender }
    }

    fn goal(text: &str) -> Goal {
        text.parse().expect("a goal")
    }

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

    #[test]
    fn a_goal_is_met_by_all_of_the_interval() {
        let verdict = |goal: &str, interval| super::tests::goal(goal).judge(&Median { value: 1.0, interval });
        assert_eq!(verdict("throughput >= 1", Some([1.0, 1.2])), Verdict::Met);
        assert_eq!(verdict("throughput >= 1.1", Some([1.0, 1.2])), Verdict::Undecided);
        assert_eq!(verdict("throughput >= 1.3", Some([1.0, 1.2])), Verdict::Missed);
        assert_eq!(verdict("p99 <= 0.9", Some([0.7, 0.9])), Verdict::Met);
        assert_eq!(verdict("p99 <= 0.8", Some([0.7, 0.9])), Verdict::Undecided);
        assert_eq!(verdict("p99 <= 0.6", Some([0.7, 0.9])), Verdict::Missed);
        assert_eq!(verdict("throughput >= 0.1", None), Verdict::Undecided);
        for text in ["", "p99", "p99 > 1", "speed >= 1", "cpu <= much", "cpu <= 1 of one"] {
            assert!(text.parse::<Goal>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_goal_is_about_the_first_server_or_those_that_it_names() {
        let all = [contender("one", &[1.0; 9]), contender("two", &[3.0; 9]), contender("three", &[2.0; 9])];
        let judged = |text: &str| {
            let goals = [goal(text)];
            let judged = judge(&goals, &all, &ratios(&all, &goals), true)?;
            anyhow::Ok(judged.into_iter().map(|one| (one.of, one.to, one.verdict)).collect::<Vec<_>>())
        };
        let row = |of: &str, to: &str, verdict| (of.to_owned(), to.to_owned(), verdict);
        assert!(judged("cpu <= 1").is_err());
        assert!(judged("p50 <= 1 against nobody").is_err());
        assert!(judged("p50 <= 1 of nobody against one").is_err());
        let both = [row("one", "two", Verdict::Missed), row("one", "three", Verdict::Missed)];
        assert_eq!(judged("throughput >= 1").expect("it is there"), both);
        assert_eq!(judged("throughput >= 1 against two").expect("it is there"), both[..1]);
        let further = [row("two", "three", Verdict::Met)];
        assert_eq!(judged("throughput >= 1 of two against three").expect("it is there"), further);
    }

    #[test]
    fn what_may_be_the_generators_doing_is_undecided() {
        let (bound, free) = (GENERATOR_CPU_MAX + 0.1, GENERATOR_CPU_MAX - 0.1);
        let verdict_of = |is_closed: bool, text: &str, of: [f64; 7], to: [f64; 7]| {
            let one = with_generator(contender("one", &[1.0; 7]), &of);
            let all = [one, with_generator(contender("other", &[2.0; 7]), &to)];
            let judged = judge(&[goal(text)], &all, &ratios(&all, &[]), is_closed).expect("it is there").remove(0);
            (judged.verdict, judged.why.is_some())
        };
        let verdict = |text: &str, of, to| verdict_of(true, text, of, to);
        let half = [bound, bound, bound, free, free, free, free];
        let most = [bound, bound, bound, bound, free, free, free];
        // One does half of what the other does, in the same time.
        let missed = "throughput >= 1.1";
        assert_eq!(verdict(missed, [free; 7], [free; 7]), (Verdict::Missed, false));
        assert_eq!(verdict(missed, half, half), (Verdict::Missed, false));
        assert_eq!(verdict(missed, most, most), (Verdict::Undecided, true));
        assert_eq!(verdict(missed, most, [free; 7]), (Verdict::Undecided, true));
        // The other would do even more.
        assert_eq!(verdict(missed, [free; 7], most), (Verdict::Missed, false));
        // Without that generator they might be further apart.
        assert_eq!(verdict("throughput >= 0.4", most, most), (Verdict::Undecided, true));
        assert_eq!(verdict("throughput >= 0.6", most, most), (Verdict::Missed, false));
        assert_eq!(verdict("throughput >= 0.4", [free; 7], most), (Verdict::Undecided, true));
        assert_eq!(verdict("throughput >= 0.4", most, [free; 7]), (Verdict::Met, false));
        // But on the same side of 1.
        assert_eq!(verdict("throughput >= 1", most, most), (Verdict::Missed, false));
        // In a closed loop a time is how much is in flight by how much is done.
        assert_eq!(verdict("p50 <= 0.5", most, most), (Verdict::Undecided, true));
        assert_eq!(verdict("p50 <= 1.3", most, most), (Verdict::Undecided, true));
        assert_eq!(verdict_of(false, "p50 <= 1.3", most, most), (Verdict::Met, false));
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
