//! What makes a result a failure: a limit that it breaks, or an earlier result that it is worse than.

use super::{RunResult, nanoseconds};
use anyhow::{Context, bail, ensure};
use std::fmt;
use std::str::FromStr;

/// `read.response.p99 > 250us`: if that is so, the run has failed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    text: String,
    what: What,
    above: bool,
    /// Nanoseconds, or operations per second.
    value: f64,
}

/// Of what.
#[derive(Clone, Debug, PartialEq)]
enum What {
    /// Operations per second.
    Throughput,
    /// Microseconds of the server's cpu for an operation.
    Cpu,
    /// Calls of io_uring_enter for an operation, of a ring9.
    Enters,
    Time {
        operation: String,
        time: String,
        of: Of,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Of {
    Percentile(f64),
    Mean,
    Max,
}

impl Of {
    fn parse(text: &str) -> anyhow::Result<Of> {
        Ok(match text {
            "mean" => Of::Mean,
            "max" => Of::Max,
            _ => {
                let percent = text.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
                let percent = percent.filter(|percent| (0.0..100.0).contains(percent));
                Of::Percentile(
                    percent.with_context(|| format!("{text:?} is neither mean, max nor p50, p99, p99.9"))? / 100.0,
                )
            }
        })
    }

    /// None if there are too few values for it.
    fn value(self, result: &RunResult, operation: &str, time: &str) -> anyhow::Result<Option<f64>> {
        let found = result.operations.get(operation).or((operation == "all").then(|| result.all()));
        let names: Vec<&str> = result.operations.keys().map(String::as_str).collect();
        let operation = found.with_context(|| format!("no {operation} in this run; there are {}", names.join(", ")))?;
        let summary = operation.time(time).with_context(|| format!("{time:?} is neither response, service nor lag"))?;
        Ok(match self {
            Of::Mean => Some(summary.mean_ns),
            Of::Max => Some(summary.max_ns as f64),
            Of::Percentile(p) => summary.percentile(p).map(|percentile| percentile.value as f64),
        })
    }
}

impl FromStr for Limit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Limit> {
        let form = "OPERATION.TIME.STATISTIC > TIME, as read.response.p99 > 250us, or throughput < 1000, cpu > 5 (us of the server), enters > 1.5";
        let (left, above, right) = match (text.split_once('>'), text.split_once('<')) {
            (Some((left, right)), None) => (left.trim(), true, right.trim()),
            (None, Some((left, right))) => (left.trim(), false, right.trim()),
            _ => bail!("{text:?} is not of the form {form}"),
        };
        let number = || right.parse::<f64>().with_context(|| format!("{right:?} is no number"));
        let (what, value) = if left == "throughput" {
            (What::Throughput, number()?)
        } else if left == "cpu" {
            (What::Cpu, number()?)
        } else if left == "enters" {
            (What::Enters, number()?)
        } else {
            let parts: Vec<&str> = left.splitn(3, '.').collect();
            let [operation, time, of] = parts[..] else { bail!("{left:?}: {form}") };
            ensure!(["response", "service", "lag"].contains(&time), "{time:?} is neither response, service nor lag");
            let what = What::Time { operation: operation.into(), time: time.into(), of: Of::parse(of)? };
            let value =
                humantime::parse_duration(right).with_context(|| format!("{right:?} is no time: 250us, 1ms"))?;
            (what, value.as_nanos() as f64)
        };
        Ok(Limit { text: text.into(), what, above, value })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Limit {
    /// What it is, if the limit is broken.
    pub(crate) fn broken(&self, result: &RunResult) -> anyhow::Result<Option<String>> {
        let (value, shown) = match &self.what {
            What::Throughput => {
                let value = result.throughput.achieved_per_s;
                (value, format!("{value:.1}/s"))
            }
            What::Cpu => {
                let cost = result.cost.as_ref().with_context(|| format!("{self}: --server or --pid says whose"))?;
                (cost.cpu_us, format!("{:.2} us", cost.cpu_us))
            }
            What::Enters => {
                let enters = result.cost.as_ref().and_then(|cost| cost.enters);
                let enters = enters.with_context(|| {
                    format!("{self}: only a ring9 of --server or --pid says so, and by a unix socket")
                })?;
                (enters, format!("{enters:.3}"))
            }
            What::Time { operation, time, of } => {
                let value = of.value(result, operation, time)?;
                let value = value.with_context(|| format!("{self}: there are too few operations to say"))?;
                (value, nanoseconds(value as u64))
            }
        };
        let broken = if self.above { value > self.value } else { value < self.value };
        Ok(broken.then(|| format!("{self}: it is {shown}")))
    }
}

/// `p99=10%`: response times may be so much worse than those of an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Regress {
    text: String,
    of: Of,
    share: f64,
}

impl FromStr for Regress {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Regress> {
        let (of, share) = text.split_once('=').with_context(|| format!("{text:?} is not of the form p99=10%"))?;
        let percent = share.trim().strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
        let percent =
            percent.filter(|percent| *percent >= 0.0).with_context(|| format!("{share:?} is not of the form 10%"))?;
        Ok(Regress { text: text.into(), of: Of::parse(of.trim())?, share: percent / 100.0 })
    }
}

impl Regress {
    /// The operations of both runs that are worse by more, each in words.
    pub(crate) fn worse(&self, before: &RunResult, now: &RunResult) -> anyhow::Result<Vec<String>> {
        let mut worse = Vec::new();
        for name in now.operations.keys().filter(|name| before.operations.contains_key(*name)) {
            let [old, new] = [before, now].map(|result| self.of.value(result, name, "response"));
            let (Some(old), Some(new)) = (old?, new?) else {
                bail!("{}: {name}: there are too few operations to say", self.text)
            };
            if new > old * (1.0 + self.share) {
                let change = (new / old - 1.0) * 100.0;
                let [old, new] = [old, new].map(|ns| nanoseconds(ns as u64));
                worse.push(format!("{name}.response {}: {new}, {change:.1} % above {old}", self.text));
            }
        }
        Ok(worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limit: Limit = "read.response.p99.9 > 250us".parse().expect("a limit");
        let What::Time { operation, time, of: Of::Percentile(p) } = limit.what else { panic!("{limit:?}") };
        assert_eq!((&*operation, &*time, limit.value, limit.above), ("read", "response", 250_000.0, true));
        assert!((p - 0.999).abs() < 1e-12);
        let limit: Limit = "throughput < 1000".parse().expect("a limit");
        assert_eq!((limit.what, limit.value, limit.above), (What::Throughput, 1000.0, false));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            "read.p99 > 1ms",
            "read.response.p99",
            "read.reply.p99 > 1ms",
            "read.response.p101 > 1ms",
            "read.response.max > 1",
            "throughput > fast",
        ] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
        for text in ["p99", "p99=10", "p99=-1%", "fast=1%"] {
            assert!(text.parse::<Regress>().is_err(), "{text}");
        }
    }
}
