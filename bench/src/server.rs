//! A server under test: a command that prints `ring9 ready ADDR …`.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ring9::client::Address;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running server. Ends with the value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: Address,
}

impl Server {
    /// Starts a command line, words between blanks, and waits for its ready line.
    pub(crate) fn start(command: &str) -> anyhow::Result<Server> {
        let mut words = command.split_whitespace();
        let program = words.next().context("an empty command")?;
        let mut child = Command::new(program)
            .args(words)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let Some(address) = line.strip_prefix("ring9 ready ").and_then(|rest| rest.split_whitespace().next()) else {
            bail!("{program} is not ready: {line:?}");
        };
        let address = address.parse().map_err(anyhow::Error::msg)?;
        Ok(Server { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It was started here, so the pid is its own until it is waited for.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
