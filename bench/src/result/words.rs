//! A result on a terminal.

use super::{Operation, Planned, RunResult, Summary};
use std::io::{self, Write};

/// Percentiles of the table.
const SHOWN: [(f64, &str); 5] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// Nanoseconds, in the unit that suits them, with three digits.
pub(crate) fn nanoseconds(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

impl Planned {
    /// What is done, in how many places, and how fast.
    pub(crate) fn words(&self) -> String {
        let pace = match (&self.arrivals, self.rate) {
            (Some(arrivals), Some(rate)) => format!("open loop, {rate}/s, {arrivals}"),
            _ => "closed loop: what a stall would have done to others does not show".into(),
        };
        format!("{}; {pace}", self.words_without_pace())
    }

    /// What is done, in how many places.
    pub(crate) fn words_without_pace(&self) -> String {
        let sizes = self.sizes.as_ref().map_or(String::new(), |sizes| format!(" of {sizes} bytes"));
        format!("{}{sizes}, {} x {} in flight", self.operations, self.connections, self.depth)
    }
}

/// One table, and what is to be said of it.
pub(crate) fn print(result: &RunResult, out: &mut impl Write) -> io::Result<()> {
    let plan = &result.plan;
    writeln!(out, "{} {}, {}", result.target.address, result.target.dialect, plan.words())?;
    writeln!(out, "{} s after {} s", plan.duration_s, plan.warmup_s)?;
    writeln!(out)?;
    write!(out, "{:<10} {:<9} {:>10}", "operation", "time", "count")?;
    for (_, name) in SHOWN {
        write!(out, " {name:>9}")?;
    }
    writeln!(out, " {:>9}   95 % of p99", "max")?;
    for (name, operation) in &result.operations {
        let Operation { response, service, lag } = operation;
        for (time, summary) in [("response", response), ("service", service), ("lag", lag)] {
            row(name, time, summary, out)?;
        }
    }
    writeln!(out)?;
    let throughput = &result.throughput;
    if plan.open_loop {
        writeln!(out, "{:.1}/s of {:.1}/s offered", throughput.achieved_per_s, throughput.offered_per_s)?;
    } else {
        writeln!(out, "{:.1}/s", throughput.achieved_per_s)?;
    }
    if let Some(cost) = &result.cost {
        write!(
            out,
            "the server: {:.2} us of cpu, {:.3} switches",
            cost.cpu_us,
            cost.voluntary_switches + cost.involuntary_switches
        )?;
        if let (Some(enters), Some(cqes)) = (cost.enters, cost.cqes_per_enter) {
            write!(out, ", {enters:.3} enters per operation; {cqes:.2} CQEs per enter")?;
        } else {
            write!(out, " per operation")?;
        }
        if let Some(bytes) = cost.bytes_per_connection {
            write!(out, "; {bytes:.0} bytes per connection")?;
        }
        if let Some(bytes) = cost.loaded_bytes_per_connection {
            write!(out, ", {bytes:.0} at the end")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "the generator: {:.0} % of its cpu", result.generator_cpu * 100.0)?;
    for warning in &result.warnings {
        writeln!(out, "WARNING: {}: {}", warning.kind, warning.text)?;
    }
    Ok(())
}

fn row(name: &str, time: &str, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{name:<10} {time:<9} {:>10}", summary.count)?;
    for (p, _) in SHOWN {
        let text = summary.percentile(p).map_or("-".into(), |percentile| nanoseconds(percentile.value));
        write!(out, " {text:>9}")?;
    }
    write!(out, " {:>9}", nanoseconds(summary.max_ns))?;
    if let Some([low, high]) = summary.percentile(0.99).and_then(|percentile| percentile.interval) {
        write!(out, "   {} to {}", nanoseconds(low), nanoseconds(high))?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let texts = [0, 999, 1_000, 12_345, 123_456, 999_999, 1_000_000, 250_000_000, 12_000_000_000].map(nanoseconds);
        assert_eq!(texts, ["0 ns", "999 ns", "1.00 us", "12.3 us", "123 us", "1000 us", "1.00 ms", "250 ms", "12.0 s"]);
    }
}
