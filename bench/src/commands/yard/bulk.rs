//! The client that reads in large pieces beside a load.

use crate::commands::load::Site;
use crate::result::{self, RunResult};
use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Until it reads as it will.
const WARMUP: Duration = Duration::from_millis(200);

/// A client that reads in large pieces, until it goes.
pub(super) struct Bulk<'a> {
    child: Child,
    out: &'a Path,
}

impl Bulk<'_> {
    /// Starts this program again as one, on a cpu. It measures for so long once it reads as it will; what it has measured goes to a folder.
    pub(super) fn start<'a>(site: &Site, cpu: usize, duration: Duration, out: &'a Path) -> anyhow::Result<Bulk<'a>> {
        let program = std::env::current_exe().context("this program")?;
        let (address, cpu) = (site.address.to_string(), cpu.to_string());
        let times = [WARMUP, duration].map(|time| humantime::format_duration(time).to_string());
        let child = Command::new(program)
            .args(["run", "--target", &address, "--op", "read", "--size", "1000000", "--depth", "4"])
            .args(["--warmup", &times[0], "--duration", &times[1], "--cpu", &cpu, "--out"])
            .arg(out)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        sleep(WARMUP);
        Ok(Bulk { child, out })
    }

    /// Operations per second, once it has ended.
    pub(super) fn end(mut self) -> anyhow::Result<f64> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the client that reads in large pieces: {status}");
        let result: RunResult = result::read_in(self.out, "result.json")?.context("its result")?;
        Ok(result.throughput.achieved_per_s)
    }
}

impl Drop for Bulk<'_> {
    fn drop(&mut self) {
        // It was started here, so the pid is its own until it is waited for; after that nothing is done.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
