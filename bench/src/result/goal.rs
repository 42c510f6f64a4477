//! What a ratio ought to be, and whether it is.

use super::ratio::{Contender, Ratio, Statistic, called};
use crate::record::Median;
use anyhow::{Context, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a throughput goal is neither met nor missed.
const GENERATOR_IS_LIMIT: &str = "the generator is the limit";

/// `throughput >= 1.1`, `throughput >= 1.1 against NAME` or `throughput >= 1.1 of NAME against NAME`: what a ratio ought to be, of the first server to every other or to one, or of any
/// server to any other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    text: String,
    /// None: the first.
    pub(super) of: Option<String>,
    /// None: each of the others.
    pub(super) to: Option<String>,
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

/// Each goal against each ratio that it is about.
pub(super) fn judge(
    goals: &[Goal],
    contenders: &[Contender],
    ratios: &[Ratio],
    is_closed: bool,
) -> anyhow::Result<Vec<Judged>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Round;
    use crate::result::comparison::ratios;
    use crate::result::ratio::tests::contender;
    use crate::result::warning::GENERATOR_CPU_MAX;

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
}
