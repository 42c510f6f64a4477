//! Results as one page with pictures, which needs nothing but itself.
//!
//! - here: what is put on the page, in which order.
//! - `pictures`: each kind of picture.
//! - `page.html`: the page around them.
//!
//! Must not know: how anything was measured.

mod pictures;

use crate::result::{Comparison, Measured, RunResult, Runtimes, Statistic, Sweep, nanoseconds};
use anyhow::Context;
use minijinja::{AutoEscape, Environment, context};
use pictures::Picture;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("page.html");

/// What a page is made of.
#[derive(Default)]
pub(crate) struct Given {
    /// With their names.
    pub(crate) runs: Vec<(String, RunResult)>,
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) runtimes: Vec<Runtimes>,
}

/// A part of the page.
#[derive(Serialize)]
struct Section {
    title: String,
    text: String,
    pictures: Vec<Picture>,
    /// The first row is its head.
    table: Vec<Vec<String>>,
    warnings: Vec<String>,
}

/// Makes the folder and its report.html.
pub(crate) fn write(folder: &Path, given: &Given) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join("report.html");
    fs::write(&path, page(given)?).with_context(|| path.display().to_string())
}

fn page(given: &Given) -> anyhow::Result<String> {
    let mut sections: Vec<Section> = given.runtimes.iter().flat_map(of_runtimes).collect();
    let (open, closed): (Vec<_>, Vec<_>) = given.runs.iter().partition(|(_, run)| run.plan.open_loop);
    // What a closed loop hides, an open one shows: they are not drawn beside each other.
    for runs in [open, closed] {
        if !runs.is_empty() {
            sections.push(of_runs(&runs));
        }
    }
    sections.extend(given.sweeps.iter().map(of_sweep));
    sections.extend(given.comparisons.iter().map(of_comparison));
    let runs = given.runs.iter().map(|(_, run)| &run.environment);
    let all = runs.chain(given.sweeps.iter().map(|sweep| &sweep.environment));
    let all = all.chain(given.comparisons.iter().map(|comparison| &comparison.environment));
    let mut all = all.chain(given.runtimes.iter().map(|runtimes| &runtimes.environment));
    let machine: BTreeMap<String, String> = all.next().cloned().unwrap_or_default();
    let mut differences = Vec::new();
    for other in all {
        differences.extend(crate::environment::differences(&machine, other));
    }
    differences.sort();
    differences.dedup();
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page", PAGE)?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(environment.get_template("page")?.render(context! { sections, machine, differences, version })?)
}

fn of_runs(runs: &[&(String, RunResult)]) -> Section {
    let open = runs[0].1.plan.open_loop;
    let mut table =
        vec![row(["run", "operation", "time", "count", "p50", "p90", "p99", "p99.9", "max", "95 % of p99"])];
    let mut warnings = Vec::new();
    for (name, run) in runs {
        for (operation, times) in &run.operations {
            for (time, summary) in [("response", &times.response), ("service", &times.service), ("lag", &times.lag)] {
                let at = |p| summary.percentile(p).map_or("-".into(), |found| nanoseconds(found.value));
                let interval = summary.percentile(0.99).and_then(|found| found.interval);
                let interval =
                    interval.map_or("-".into(), |[low, high]| format!("{} to {}", nanoseconds(low), nanoseconds(high)));
                let max = nanoseconds(summary.max_ns);
                table.push(vec![
                    name.clone(),
                    operation.clone(),
                    time.into(),
                    summary.count.to_string(),
                    at(0.5),
                    at(0.9),
                    at(0.99),
                    at(0.999),
                    max,
                    interval,
                ]);
            }
        }
        warnings.extend(run.warnings.iter().map(|warning| format!("{name}: {}: {}", warning.kind, warning.text)));
    }
    let mut pictures = vec![pictures::percentiles(runs)];
    pictures.extend(pictures::over_time(runs));
    let names: Vec<String> = runs
        .iter()
        .map(|(name, run)| format!("{name}: {}, {:.0}/s done", run.plan.words(), run.throughput.achieved_per_s))
        .collect();
    let title = if open { "Open loop" } else { "Closed loop" };
    Section { title: title.into(), text: names.join(". "), pictures, table, warnings }
}

fn of_sweep(sweep: &Sweep) -> Section {
    let mut table = vec![row(["offered/s", "achieved/s", "p50", "p99", "p99.9", "max", "cpu us", ""])];
    for point in &sweep.points {
        let at = |p| point.percentile(p).map_or("-".into(), |found| nanoseconds(found.value));
        let cpu = point.cpu_us.map_or("-".into(), |cpu| format!("{cpu:.2}"));
        let judged = if point.meets {
            "within the objective"
        } else if point.keeps_up {
            "too slow"
        } else {
            "does not keep up"
        };
        table.push(vec![
            format!("{:.0}", point.rate),
            format!("{:.0}", point.achieved_per_s),
            at(0.5),
            at(0.99),
            at(0.999),
            nanoseconds(point.max_ns),
            cpu,
            judged.into(),
        ]);
    }
    let found = |edge: Option<crate::result::Edge>| {
        edge.map_or("none of these rates".into(), |edge| format!("{:.0}/s", edge.holds))
    };
    let text = format!(
        "{}. Highest rate within {}: {}. Highest with which the server keeps up: {}.",
        sweep.plan.words_without_pace(),
        sweep.objective,
        found(sweep.slo),
        found(sweep.max)
    );
    Section {
        title: "Latency against throughput".into(),
        text,
        pictures: vec![pictures::rates(sweep)],
        table,
        warnings: Vec::new(),
    }
}

fn of_comparison(comparison: &Comparison) -> Section {
    let mut table = vec![row(["ratio", "median", "95 % interval"])];
    for ratio in &comparison.ratios {
        let interval =
            ratio.median.interval.map_or("too few rounds".into(), |[low, high]| format!("{low:.3} to {high:.3}"));
        table.push(vec![
            format!("{} {}/{}", ratio.statistic.name(), ratio.of, ratio.to),
            format!("{:.3}", ratio.median.value),
            interval,
        ]);
    }
    table.extend(comparison.goals().into_iter().map(|(goal, verdict)| vec![goal, verdict, String::new()]));
    let pictures = Statistic::ALL.into_iter().filter_map(|statistic| pictures::ratios(comparison, statistic)).collect();
    let places: Vec<String> = comparison.contenders.iter().map(|one| format!("{}: {}", one.name, one.place)).collect();
    let text = format!("{}. {}", comparison.plan.words(), places.join(". "));
    Section { title: "Side by side".into(), text, pictures, table, warnings: comparison.warnings.clone() }
}

fn of_runtimes(runtimes: &Runtimes) -> Vec<Section> {
    let text = "The same protocol core and file system on each; what differs is how they wait for the kernel and ask it. Threads are those of the whole process, one of which waits for \
                signals; calls/op are system calls of all threads for an operation, at the same rate for all, counted while they were traced; lines are code of the I/O layer; KiB are code and data of the program. Ratios are of ring9 to the server of the row, round by round, with intervals of 95 %.";
    let mut sections = vec![Section {
        title: "Servers".into(),
        text: text.into(),
        pictures: Vec::new(),
        table: runtimes.profiles(),
        warnings: Vec::new(),
    }];
    sections.extend(runtimes.shapes.iter().map(of_measured));
    if !runtimes.rates.is_empty() {
        sections.push(Section {
            title: "At a rate".into(),
            text: "Open loops of 4 KiB reads over 64 TCP connections with room for four at a time each: at shares of what each server does in a closed loop of them, one operation on each, and at one rate for all. The last rows: up to \
                which of its rates most rounds kept to the objective, and at which no more. *: operations were sent late in most rounds, so that times are in part the generator's.".into(),
            pictures: vec![pictures::shares(&runtimes.rates)],
            table: runtimes.held(),
            warnings: Vec::new(),
        });
    }
    sections
}

fn of_measured(measured: &Measured) -> Section {
    let comparison = &measured.comparison;
    let mut table = measured.table();
    let columns = table[0].len();
    for (goal, verdict) in comparison.goals() {
        let mut row = vec![goal, verdict];
        row.resize(columns, String::new());
        table.push(row);
    }
    let pictures = [Statistic::Throughput, Statistic::Cpu];
    Section {
        title: measured.id.clone(),
        text: format!("{}, {}. {}", comparison.plan.words(), measured.place(), comparison.other_ratios().join(". ")),
        pictures: pictures.into_iter().filter_map(|statistic| pictures::forest(measured, statistic)).collect(),
        table,
        warnings: comparison.warnings_by_kind(),
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}
