//! Writes of many sizes, as a table: each server to the floor.

use super::comparison::in_words;
use super::ratio::called;
use super::runtimes::{Measured, put};
use super::{Comparison, Statistic};
use crate::record::median;
use std::io::{self, Write};

/// A figure of one server to that of another, or none where one of them was not measured; `*` where the generator was the limit of one of them, unless it is cpu.
fn ratio(comparison: &Comparison, statistic: Statistic, of: &str, to: &str) -> String {
    let contenders = &comparison.contenders;
    let (Some(of), Some(to)) = (called(contenders, of), called(contenders, to)) else { return "-".into() };
    let is_bound = statistic != Statistic::Cpu && (of.is_generator_bound() || to.is_generator_bound());
    let star = if is_bound { "*" } else { " " };
    let found = median(&statistic.ratios(of, to));
    found.map_or("-".into(), |found| format!("{}{star}", in_words(&found)))
}

/// A row for each load. The floor is the last of its servers; ratios are of each of the others to it, and of the first to each of the others.
pub(crate) fn print(all: &[Measured], statistic: Statistic, out: &mut impl Write) -> io::Result<()> {
    let Some(first) = all.first() else { return Ok(()) };
    let names: Vec<&str> = first.comparison.contenders.iter().map(|one| one.name.as_str()).collect();
    let Some((floor, servers)) = names.split_last() else { return Ok(()) };
    let to_floor = servers.iter().map(|name| (*name, *floor));
    let to_others = servers.iter().skip(1).map(|name| (servers[0], *name));
    let pairs: Vec<(&str, &str)> = to_floor.chain(to_others).collect();
    let mut head = vec!["load".to_owned(), format!("{floor}/s")];
    head.extend(pairs.iter().map(|(of, to)| format!("{of}/{to}")));
    let mut table = vec![head];
    for Measured { id, comparison, .. } in all {
        let per_second = called(&comparison.contenders, floor)
            .and_then(|one| one.median(|round| Statistic::Throughput.of(round)))
            .map_or("-".into(), |value| format!("{value:.0}"));
        let mut row = vec![id.clone(), per_second];
        row.extend(pairs.iter().map(|(of, to)| ratio(comparison, statistic, of, to)));
        table.push(row);
    }
    let rounds = first.comparison.contenders.first().map_or(0, |one| one.rounds.len());
    writeln!(
        out,
        "operations per second of {floor}, and ratios of {} with their 95 % intervals; {rounds} rounds of {} s; *: the generator was the limit of one of the two\n",
        statistic.name(),
        first.comparison.plan.duration_s
    )?;
    put(out, &table)?;
    for Measured { id, comparison, .. } in all {
        for (goal, verdict) in comparison.goals() {
            writeln!(out, "{id}: {goal}: {verdict}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::ratio::tests::contender;
    use crate::result::{Planned, VERSION};
    use std::collections::BTreeMap;

    #[test]
    fn every_server_is_divided_by_the_floor() {
        let plan = serde_json::json!({
            "open_loop": false, "arrivals": null, "rate": null, "connections": 1, "depth": 1, "operations": "write",
            "sizes": "4096", "files": 1, "file_bytes": 1, "zipf": 0.0, "sequential": false, "warmup_s": 0.0,
            "duration_s": 1.0, "seed": 1, "verified": false,
        });
        let comparison = Comparison {
            version: VERSION,
            began: String::new(),
            plan: serde_json::from_value::<Planned>(plan).expect("a plan"),
            contenders: vec![contender("a", &[10.0; 6]), contender("b", &[5.0; 6]), contender("floor", &[20.0; 6])],
            ratios: Vec::new(),
            verdicts: Vec::new(),
            warnings: Vec::new(),
            environment: BTreeMap::new(),
        };
        let all = [Measured { id: "x".into(), one_cpu: true, bulk: false, idle_connections: 0, comparison }];
        let mut text = Vec::new();
        print(&all, Statistic::Throughput, &mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        let row = text.lines().last().expect("a row").split_whitespace().collect::<Vec<_>>();
        assert_eq!([row[0], row[1], row[2], row[6], row[10]], ["x", "20", "0.50", "0.25", "2.00"], "{text}");
        assert!(text.contains("a/floor") && text.contains("b/floor") && text.contains("a/b"), "{text}");
    }
}
