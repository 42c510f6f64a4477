//! Signs that a run did not measure the server: its numbers are those of the generator or of the
//! machine.

use super::nanoseconds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A run in which the generator used more of its cpu is one of the generator.
pub(super) const GENERATOR_CPU_MAX: f64 = 0.7;
/// What it is called when operations were sent late.
pub(crate) const LATE: &str = "late";
/// Less of what was offered was too much.
pub(crate) const ACHIEVED_MIN: f64 = 0.995;
/// Late by so much in 99 of 100 sleeps, or once by the other, is a machine that does other things.
const HICCUP_P99_MAX_NS: u64 = 1_000_000;
const HICCUP_MAX_NS: u64 = 20_000_000;
/// Of the response time, at the 99th percentile, before it was sent at all.
const LAG_SHARE_MAX: f64 = 0.25;

/// What spoils a run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Warning {
    /// `overloaded`, `lost`, `generator-bound`, `late` or `noise`.
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// By what it is known.
pub(crate) struct Signs {
    pub(crate) open_loop: bool,
    pub(crate) offered: u64,
    pub(crate) achieved: u64,
    pub(crate) backlog: u64,
    pub(crate) lost: u64,
    pub(crate) lag_p99_ns: u64,
    pub(crate) response_p99_ns: u64,
    /// Share of one cpu.
    pub(crate) generator_cpu: f64,
    pub(crate) hiccups_p99_ns: u64,
    pub(crate) hiccups_max_ns: u64,
}

impl Signs {
    /// As many operations were done in time as were due.
    pub(crate) fn keeps_up(&self) -> bool {
        self.lost == 0 && self.achieved as f64 >= self.offered as f64 * ACHIEVED_MIN
    }

    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let &Signs { offered, achieved, backlog, lost, .. } = self;
        let mut found: Vec<(&str, String)> = Vec::new();
        if lost > 0 {
            found.push((
                "lost",
                format!("{lost} of {offered} operations were never answered: their times are missing, and what is there looks too good"),
            ));
        }
        if self.open_loop && (achieved as f64) < offered as f64 * ACHIEVED_MIN {
            let share = achieved as f64 / offered as f64 * 100.0;
            found.push((
                "overloaded",
                format!("{share:.1} % of what was offered was done in time, and {backlog} operations waited to be sent at the end: the server, or this program, cannot do so many"),
            ));
        } else if self.open_loop && self.lag_p99_ns as f64 > self.response_p99_ns as f64 * LAG_SHARE_MAX {
            let (lag, response) = (nanoseconds(self.lag_p99_ns), nanoseconds(self.response_p99_ns));
            found.push((
                LATE,
                format!("operations were sent late: p99 {lag}, of a response time of {response}; there are too few slots, or the generator is too slow"),
            ));
        }
        if self.generator_cpu > GENERATOR_CPU_MAX {
            let share = self.generator_cpu * 100.0;
            found.push((
                "generator-bound",
                format!("the generator used {share:.0} % of its cpu: this measures the generator"),
            ));
        }
        if self.hiccups_p99_ns > HICCUP_P99_MAX_NS || self.hiccups_max_ns > HICCUP_MAX_NS {
            let (p99, max) = (nanoseconds(self.hiccups_p99_ns), nanoseconds(self.hiccups_max_ns));
            found.push((
                "noise",
                format!("the machine does other things: a sleeping thread woke late by {p99} (p99), {max} at most"),
            ));
        }
        found.into_iter().map(|(kind, text)| Warning { kind: kind.into(), text }).collect()
    }
}
