//! ring9 beside the same server on other I/O layers.

use super::comparison::in_words;
use super::json::put_compressed;
use super::sweep::{Rated, edge};
use super::warning::{ACHIEVED_MIN, LATE};
use super::{Comparison, Contender, Edge, Objective, Round, Statistic, nanoseconds};
use crate::record::Median;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// What some loads have beside ratios, in a unit.
struct Beside {
    name: &'static str,
    unit: f64,
    of: fn(&Round) -> Option<f64>,
}

const BESIDE: [Beside; 3] = [
    Beside { name: "KiB/connection", unit: 1024.0, of: |round| round.bytes_per_connection },
    Beside { name: "loaded", unit: 1024.0, of: |round| round.loaded_bytes_per_connection },
    Beside { name: "MB/s of the other", unit: 1.0, of: |round| round.bulk_per_s },
];

/// `result.json.gz` of `runtimes`, decompressed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Runtimes {
    /// Version of this format: 1.
    pub(crate) version: u32,
    pub(crate) began: String,
    /// A part of the loads, in fewer and shorter rounds.
    pub(crate) quick: bool,
    /// ring9 first.
    pub(crate) servers: Vec<Profile>,
    pub(crate) shapes: Vec<Measured>,
    /// Open loops at shares of what each server reached, and at one rate for all.
    pub(crate) rates: Vec<HeldRate>,
    /// The same load: how much of it each server bears.
    #[serde(default)]
    pub(crate) objectives: Vec<Borne>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// What is known of a server beside its load.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// What it says of itself: version, release, how it does its I/O.
    pub(crate) facts: BTreeMap<String, serde_json::Value>,
    /// Of code, of its I/O layer.
    pub(crate) lines: usize,
    /// That it is built of, beside itself.
    pub(crate) crates: usize,
    /// Code and data of the program.
    pub(crate) binary_bytes: Option<u64>,
    /// Of the running server.
    pub(crate) threads: Option<u64>,
    /// Microseconds of cpu in a second, with connections that are idle.
    pub(crate) idle_cpu_us: Option<f64>,
    /// System calls of all its threads for an operation, in an open loop at a rate that is the same for all; none where a process may not be traced.
    #[serde(default)]
    pub(crate) syscalls_per_operation: Option<f64>,
}

/// A load, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Measured {
    pub(crate) id: String,
    /// One cpu for server and generator, not one each.
    pub(crate) one_cpu: bool,
    /// Another client read in large pieces meanwhile.
    pub(crate) bulk: bool,
    /// Connections that the first of each two servers had beside those of the load, attached and idle.
    #[serde(default)]
    pub(crate) idle_connections: u64,
    pub(crate) comparison: Comparison,
}

/// An open loop.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HeldRate {
    pub(crate) server: String,
    /// Of what it did in a closed loop of the same connections, one operation on each; none: the rate that all have in common.
    pub(crate) share: Option<f64>,
    pub(crate) rate: f64,
    /// Medians of the rounds: of what was due, done in time; response times in nanoseconds, microseconds of cpu for an operation.
    pub(crate) achieved: f64,
    pub(crate) p50_ns: Option<f64>,
    pub(crate) p99_ns: Option<f64>,
    pub(crate) cpu_us: Option<f64>,
    /// Of p99, at 95 %.
    #[serde(default)]
    pub(crate) p99_interval_ns: Option<[f64; 2]>,
    #[serde(default)]
    pub(crate) rounds: u32,
    /// How many of the rounds were spoilt, by the kind of warning.
    #[serde(default)]
    pub(crate) spoilt: BTreeMap<String, u32>,
}

impl Rated for &HeldRate {
    fn rate(&self) -> f64 {
        self.rate
    }
}

impl HeldRate {
    /// Whether most rounds were as the objective wants them, and what was due was done.
    fn keeps_to(&self, objective: &Objective) -> bool {
        self.achieved >= ACHIEVED_MIN && self.p99_ns.is_some_and(|ns| ns <= objective.at_most_ns as f64)
    }

    /// Whether in most rounds operations were sent late, so that their times are in part the generator's. How much of its cpu that used says less: of what comes one by one
    /// it has as much work as the server, at any rate.
    fn is_late(&self) -> bool {
        self.spoilt.get(LATE).is_some_and(|rounds| 2 * rounds > self.rounds)
    }
}

/// The highest rate within an objective.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Borne {
    pub(crate) server: String,
    pub(crate) objective: Objective,
    /// None: not even the lowest rate that was tried.
    pub(crate) edge: Option<Edge>,
    /// At the rate that ends it operations were sent late in most rounds: the server may bear more.
    #[serde(default)]
    pub(crate) by_generator: bool,
}

impl Borne {
    /// Of open loops of all servers, a server's: it holds at all rates below the first at which it does not. Rates with too few operations for that percentile say nothing.
    pub(crate) fn new(server: &str, objective: Objective, rates: &[HeldRate]) -> Borne {
        let mut mine: Vec<&HeldRate> =
            rates.iter().filter(|held| held.server == server && held.p99_ns.is_some()).collect();
        mine.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let edge = edge(&mine, |held| held.keeps_to(&objective));
        let by_generator = mine.iter().find(|held| !held.keeps_to(&objective)).is_some_and(|held| held.is_late());
        Borne { server: server.into(), objective, edge, by_generator }
    }
}

impl Measured {
    /// Where servers and generator ran, and beside what.
    pub(crate) fn place(&self) -> String {
        let cpus = if self.one_cpu { "server and generator on one cpu" } else { "a cpu each" };
        let bulk = if self.bulk { ", beside a client that reads 1 MB at a time" } else { "" };
        let idle = match self.idle_connections {
            0 => String::new(),
            count => format!(", beside {count} idle connections, and without"),
        };
        format!("{cpus}{bulk}{idle}")
    }

    fn contender(&self, server: &str) -> Option<&Contender> {
        self.comparison.contenders.iter().find(|contender| contender.name == server)
    }

    /// The median of a server.
    pub(crate) fn median(&self, server: &str, statistic: Statistic) -> Option<f64> {
        self.contender(server)?.median(|round| statistic.of(round))
    }

    /// Of ring9 to a server.
    pub(crate) fn ratio(&self, server: &str, statistic: Statistic) -> Option<Median> {
        self.comparison.ratio(server, statistic)
    }

    /// The median of what rounds of a server have beside their load.
    fn beside(&self, server: &str, of: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        self.contender(server)?.median(of)
    }

    fn ratio_in_words(&self, server: &str, statistic: Statistic) -> String {
        self.ratio(server, statistic).map_or("-".into(), |median| in_words(&median))
    }

    /// Its rows: one for each server, after a head.
    pub(crate) fn table(&self) -> Vec<Vec<String>> {
        let mut head =
            vec!["server", "per second", "p50", "p99", "cpu us", "operations of ring9", "cpu of ring9", "p50 of ring9"];
        // Where it is what counts.
        let has_p99 = self.comparison.verdicts.iter().any(|judged| judged.goal.starts_with(Statistic::P99.name()));
        if has_p99 {
            head.push("p99 of ring9");
        }
        let more: Vec<&Beside> = BESIDE
            .iter()
            .filter(|beside| self.comparison.contenders.iter().any(|one| self.beside(&one.name, beside.of).is_some()))
            .collect();
        head.extend(more.iter().map(|beside| beside.name));
        let mut table = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for contender in &self.comparison.contenders {
            let name = &contender.name;
            let number = |statistic, digits: usize| {
                self.median(name, statistic).map_or("-".into(), |value| format!("{value:.digits$}"))
            };
            let time = |statistic| self.median(name, statistic).map_or("-".into(), |ns| nanoseconds(ns as u64));
            let mut row = vec![
                name.clone(),
                number(Statistic::Throughput, 0),
                time(Statistic::P50),
                time(Statistic::P99),
                number(Statistic::Cpu, 2),
                self.ratio_in_words(name, Statistic::Throughput),
                self.ratio_in_words(name, Statistic::Cpu),
                self.ratio_in_words(name, Statistic::P50),
            ];
            if has_p99 {
                row.push(self.ratio_in_words(name, Statistic::P99));
            }
            row.extend(more.iter().map(|beside| {
                self.beside(name, beside.of).map_or("-".into(), |value| format!("{:.1}", value / beside.unit))
            }));
            table.push(row);
        }
        table
    }
}

impl Runtimes {
    /// Makes the folder and its `result.json.gz`.
    pub(crate) fn put(&self, folder: &Path) -> anyhow::Result<()> {
        let mut packed = self.clone();
        packed.shapes.iter_mut().for_each(|shape| shape.comparison.pack());
        put_compressed(folder, "result.json", &packed)
    }

    /// A value as `put` leaves it, or one with all that it leaves out.
    pub(crate) fn of_json(value: serde_json::Value) -> serde_json::Result<Runtimes> {
        let mut runtimes: Runtimes = serde_json::from_value(value)?;
        runtimes.shapes.iter_mut().for_each(|shape| shape.comparison.unpack());
        Ok(runtimes)
    }

    /// Servers and what is known of them, after a head.
    pub(crate) fn profiles(&self) -> Vec<Vec<String>> {
        let head = [
            "server",
            "version",
            "released",
            "kernel",
            "lands",
            "gathers",
            "registered",
            "copies out, in",
            "threads",
            "idle us/s",
            "calls/op",
            "lines",
            "crates",
            "KiB",
        ];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        for server in &self.servers {
            let fact = |name: &str| match server.facts.get(name) {
                None | Some(serde_json::Value::Null) => "-".to_owned(),
                Some(serde_json::Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(serde_json::Value::Array(all)) => {
                    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                }
                Some(other) => other.to_string(),
            };
            table.push(vec![
                server.name.clone(),
                fact("version"),
                fact("released"),
                fact("kernel"),
                fact("lands"),
                fact("gathers"),
                fact("registered"),
                fact("copies"),
                server.threads.map_or("-".into(), |threads| threads.to_string()),
                server.idle_cpu_us.map_or("-".into(), |us| format!("{us:.0}")),
                server.syscalls_per_operation.map_or("-".into(), |calls| format!("{calls:.2}")),
                server.lines.to_string(),
                server.crates.to_string(),
                server.binary_bytes.map_or("-".into(), |bytes| (bytes >> 10).to_string()),
            ]);
        }
        table
    }

    /// Open loops, after a head.
    pub(crate) fn held(&self) -> Vec<Vec<String>> {
        let head = ["server", "rate", "share of its most", "done in time", "p50", "p99", "cpu us"];
        let mut table = vec![head.map(str::to_owned).to_vec()];
        for held in &self.rates {
            let time = |ns: Option<f64>| ns.map_or("-".into(), |ns| nanoseconds(ns as u64));
            table.push(vec![
                held.server.clone(),
                format!("{:.0}{}", held.rate, if held.is_late() { "*" } else { "" }),
                held.share.map_or("the same for all".into(), |share| format!("{:.0} %", share * 100.0)),
                format!("{:.1} %", held.achieved * 100.0),
                time(held.p50_ns),
                time(held.p99_ns),
                held.cpu_us.map_or("-".into(), |us| format!("{us:.2}")),
            ]);
        }
        for Borne { server, objective, edge, by_generator } in &self.objectives {
            let rate = edge.map_or("-".into(), |edge| match edge.ends {
                Some(ends) => format!("{:.0} to {ends:.0}", edge.holds),
                None => format!("{:.0} and more", edge.holds),
            });
            let rate = if *by_generator { rate + "*" } else { rate };
            let mut row = vec![server.clone(), rate, format!("most with {objective}")];
            row.resize(head.len(), "-".into());
            table.push(row);
        }
        table
    }
}

/// All tables, and the verdicts.
pub(crate) fn print(runtimes: &Runtimes, out: &mut impl Write) -> io::Result<()> {
    put(out, &runtimes.profiles())?;
    for measured in &runtimes.shapes {
        writeln!(out, "\n{}: {}, {}", measured.id, measured.comparison.plan.words(), measured.place())?;
        put(out, &measured.table())?;
        for line in measured.comparison.other_ratios() {
            writeln!(out, "{line}")?;
        }
        for (goal, verdict) in measured.comparison.goals() {
            writeln!(out, "{goal}: {verdict}")?;
        }
        for warning in measured.comparison.warnings_by_kind() {
            writeln!(out, "WARNING: {warning}")?;
        }
    }
    if !runtimes.rates.is_empty() {
        writeln!(out, "\nopen loops, 4 KiB reads over TCP")?;
        put(out, &runtimes.held())?;
        if runtimes.rates.iter().any(HeldRate::is_late) {
            writeln!(out, "*: sent late in most rounds, so that times are in part the generator's")?;
        }
    }
    Ok(())
}

/// Rows in columns, the first to the left.
pub(super) fn put(out: &mut impl Write, table: &[Vec<String>]) -> io::Result<()> {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in table {
        for (number, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match number {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::comparison::ratios;
    use crate::result::ratio::tests::contender;
    use crate::result::{VERSION, read_in};

    fn held(server: &str, rate: f64, p99_us: f64, late: u32) -> HeldRate {
        HeldRate {
            server: server.into(),
            share: None,
            rate,
            achieved: 1.0,
            p50_ns: None,
            p99_ns: Some(p99_us * 1000.0),
            cpu_us: None,
            p99_interval_ns: None,
            rounds: 3,
            spoilt: BTreeMap::from([(LATE.to_owned(), late)]),
        }
    }

    #[test]
    fn a_server_bears_what_lies_below_the_first_rate_that_it_does_not() {
        let objective = "p99=1ms".parse().expect("an objective");
        let mut rates = vec![
            held("one", 400.0, 500.0, 0),
            held("other", 50.0, 9000.0, 0),
            held("one", 100.0, 400.0, 0),
            held("one", 300.0, 1200.0, 2),
            held("one", 200.0, 1000.0, 0),
        ];
        let borne = |server: &str, rates: &[HeldRate]| {
            let Borne { edge, by_generator, .. } = Borne::new(server, objective, rates);
            (edge.map(|edge| (edge.holds, edge.ends)), by_generator)
        };
        assert_eq!(borne("one", &rates), (Some((200.0, Some(300.0))), true));
        assert_eq!(borne("other", &rates), (None, false));
        rates[3].p99_ns = Some(900_000.0);
        assert_eq!(borne("one", &rates), (Some((400.0, None)), false));
        // Too few operations for a percentile say nothing.
        rates[2].p99_ns = None;
        assert_eq!(borne("one", &rates), (Some((400.0, None)), false));
        // What was not done in time counts too, however quick the rest was.
        rates[0].achieved = 0.9;
        assert_eq!(borne("one", &rates), (Some((300.0, Some(400.0))), false));
    }

    fn compared(one: &[f64], other: &[f64]) -> Measured {
        let contenders = vec![contender("one", one), contender("other", other)];
        let plan = serde_json::json!({
            "open_loop": false, "connections": 1, "depth": 1, "operations": "read", "files": 1, "file_bytes": 1,
            "zipf": 0.0, "sequential": false, "warmup_s": 0.0, "duration_s": 1.0, "seed": 1, "verified": false,
        });
        let comparison = Comparison {
            version: VERSION,
            began: String::new(),
            plan: serde_json::from_value(plan).expect("a plan"),
            ratios: ratios(&contenders, &[]),
            contenders,
            verdicts: Vec::new(),
            warnings: Vec::new(),
            environment: BTreeMap::new(),
        };
        Measured { id: "load".into(), one_cpu: false, bulk: false, idle_connections: 0, comparison }
    }

    #[test]
    fn what_is_left_out_of_the_file_is_put_back_exactly() {
        // Quotients and roots need all of their 17 digits.
        let numbers = |first: u32| (first..first + 40).map(|number| f64::from(number).sqrt()).collect::<Vec<_>>();
        let mut own = compared(&numbers(3), &numbers(7));
        // These do not follow from the rounds of the servers, so they are in the file.
        own.comparison.ratios[0].rounds.push(0.5);
        let runtimes = Runtimes {
            version: VERSION,
            began: String::new(),
            quick: false,
            servers: Vec::new(),
            shapes: vec![compared(&numbers(2), &numbers(50)), own],
            rates: Vec::new(),
            objectives: Vec::new(),
            environment: BTreeMap::new(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        runtimes.put(folder.path()).expect("written");
        let json: serde_json::Value = read_in(folder.path(), "result.json").expect("read").expect("there");
        let there = |shape: usize, ratio: usize| json["shapes"][shape]["comparison"]["ratios"][ratio].get("rounds");
        assert_eq!((there(0, 0), there(0, 1), there(1, 1)), (None, None, None));
        assert_eq!(there(1, 0).and_then(|rounds| rounds.as_array()).map(Vec::len), Some(41));
        let value = |runtimes: &Runtimes| serde_json::to_value(runtimes).expect("plain fields");
        assert_eq!(value(&Runtimes::of_json(json).expect("a result")), value(&runtimes));
        // A file with all of it is read as well.
        assert_eq!(value(&Runtimes::of_json(value(&runtimes)).expect("a result")), value(&runtimes));
    }
}
