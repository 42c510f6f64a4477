//! What a server's process spent: cpu time, context switches, memory; and of ring9 its enters and
//! CQEs.

use anyhow::Context;
use ring9::client::{Access, Client};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;

use crate::target::Target;

/// More than ctl/stats has.
const STATS_BYTES_MAX: u32 = 32 << 10;

/// Counters of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) cpu_ns: u64,
    voluntary: u64,
    involuntary: u64,
    pub(crate) resident_bytes: u64,
    ring: Option<Ring>,
}

/// From ring9's own ctl/stats.
#[derive(Clone, Copy, Debug)]
struct Ring {
    enters: u64,
    cqes: u64,
}

/// Of one operation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Cost {
    /// Operations that it was divided by: all of the run, warm-up included.
    pub(crate) operations: u64,
    pub(crate) cpu_us: f64,
    pub(crate) voluntary_switches: f64,
    pub(crate) involuntary_switches: f64,
    /// Of a ring9: calls of io_uring_enter.
    pub(crate) enters: Option<f64>,
    pub(crate) cqes_per_enter: Option<f64>,
    /// Resident memory of the process with the connections of the run beyond that before them, divided by their number.
    pub(crate) bytes_per_connection: Option<f64>,
    /// The same at the end of the run.
    #[serde(default)]
    pub(crate) loaded_bytes_per_connection: Option<f64>,
}

impl Sample {
    /// Of a process, and of a ring9 if it is one, which is asked.
    pub(crate) fn take(pid: u32, target: &Target) -> anyhow::Result<Sample> {
        let ring = ring(target);
        Ok(Sample { ring, ..Sample::of_process(pid)? })
    }

    /// Of a process, which does not notice.
    pub(crate) fn of_process(pid: u32) -> anyhow::Result<Sample> {
        let cpu = nix::time::ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(pid as i32))?.now()?;
        // Threads that have ended count as well, as those of the kernel's that serve a ring.
        let mut sample = Sample { cpu_ns: std::time::Duration::from(cpu).as_nanos() as u64, ..Sample::default() };
        for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))? {
            let folder = task?.path();
            // A thread may end meanwhile.
            let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
            let status = read("status");
            sample.voluntary += of(&status, "voluntary_ctxt_switches").unwrap_or(0);
            sample.involuntary += of(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        sample.resident_bytes = of(&status, "VmRSS").unwrap_or(0) << 10;
        Ok(sample)
    }

    /// What lies between two of them, by operation.
    pub(crate) fn until(&self, after: &Sample, operations: u64) -> Cost {
        let each = |count: u64| count as f64 / operations.max(1) as f64;
        let ring = self.ring.zip(after.ring);
        Cost {
            operations,
            cpu_us: each(after.cpu_ns - self.cpu_ns) / 1000.0,
            voluntary_switches: each(after.voluntary.saturating_sub(self.voluntary)),
            involuntary_switches: each(after.involuntary.saturating_sub(self.involuntary)),
            enters: ring.map(|(before, after)| each(after.enters - before.enters)),
            cqes_per_enter: ring.map(|(before, after)| {
                (after.cqes - before.cqes) as f64 / (after.enters - before.enters).max(1) as f64
            }),
            bytes_per_connection: None,
            loaded_bytes_per_connection: None,
        }
    }
}

/// A number of a file of lines "name: number", or "name  number".
fn of(text: &str, name: &str) -> Option<u64> {
    let rest =
        text.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([':', ' ', '\t'])))?;
    rest.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

fn ring(target: &Target) -> Option<Ring> {
    let connect = Client::connect(&target.address, target.dialect, target.msize, (&target.uname, target.uid), "ctl");
    let mut client = connect.ok()?;
    let fid = client.walk(Client::ROOT, b"stats").ok()?;
    client.open(fid, Access::Read).ok()?;
    let mut text = Vec::new();
    let whole = [(0, client.chunk().min(STATS_BYTES_MAX))];
    client.read(fid, &whole, |_, bytes| text.extend_from_slice(bytes)).ok()?;
    let text = String::from_utf8(text).ok()?;
    Some(Ring { enters: of(&text, "enters")?, cqes: of(&text, "cqes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_names() {
        let text =
            "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\ncqes_stale  1\ncqes   3\nVmRSS:\t  12 kB\n";
        let found = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "cqes", "VmRSS", "none"]
            .map(|name| of(text, name));
        assert_eq!(found, [Some(5), Some(7), Some(3), Some(12), None]);
    }
}
