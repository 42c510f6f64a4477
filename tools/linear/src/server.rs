//! The server that the histories are of: started here, or running already.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ring9::client::Address;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Addresses of a server. One that was started here ends with the value.
pub(crate) struct Server {
    pub(crate) addresses: Vec<Address>,
    started: Option<Started>,
}

struct Started {
    child: Child,
    /// Where its socket is; of ours alone.
    folder: PathBuf,
}

impl Server {
    /// One that runs already.
    pub(crate) fn running(addresses: &[Address]) -> Server {
        Server { addresses: addresses.to_vec(), started: None }
    }

    /// Starts one with a unix socket and a TCP port, and waits for its ready line.
    pub(crate) fn start(program: &Path, memory: &str) -> anyhow::Result<Server> {
        let folder = std::env::temp_dir().join(format!("ring9-linear-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let spawned = Command::new(program)
            .args(["--memory", memory, "--trust", "all", "--listen"])
            .arg(format!("unix:{}", folder.join("socket").display()))
            .args(["--listen", "tcp:127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                let _ = std::fs::remove_dir(&folder);
                return Err(error).with_context(|| format!("cannot start {}", program.display()));
            }
        };
        let mut server = Server { addresses: Vec::new(), started: Some(Started { child, folder }) };
        let started = server.started.as_mut().expect("just put there");
        let mut line = String::new();
        BufReader::new(started.child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let Some(addresses) = line.strip_prefix("ring9 ready ") else {
            bail!("{} is not ready: {line:?}", program.display());
        };
        for address in addresses.split_whitespace() {
            server.addresses.push(address.parse().map_err(anyhow::Error::msg)?);
        }
        Ok(server)
    }

    /// Says why nothing answers any more, if the reason is that it is gone.
    pub(crate) fn end(&mut self) -> Option<String> {
        let status = self.started.as_mut()?.child.try_wait().ok().flatten()?;
        Some(format!("the server has ended: {status}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(started) = &mut self.started else { return };
        if let Ok(None) = started.child.try_wait() {
            // It was started here and not waited for, so the pid is its own.
            let _ = kill(Pid::from_raw(started.child.id() as i32), Signal::SIGTERM);
            let _ = started.child.wait();
        }
        let _ = std::fs::remove_file(started.folder.join("socket"));
        let _ = std::fs::remove_dir(&started.folder);
    }
}
