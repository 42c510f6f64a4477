//! The server that the histories are of: started here, or running already.

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ring9::arena::Arena;
use ring9::client::Address;
use ring9::fs::mem::{Mem, Options as MemOptions};
use ring9::fs::wrap::{Late, Times, Wrapped};
use ring9::fs::{Service, Simple};
use ring9::limits::MSIZE_MAX;
use ring9::relay::{Config, Relay};
use ring9::uring::{Kernel, Listener, Options, Trust};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Memory of a loop in this process in bytes.
const MEMORY_BYTES: usize = 64 << 20;

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

    /// A loop in a thread of this process, for as long as that lives, on a tree that is late in all that it does.
    pub(crate) fn late(seed: u64) -> anyhow::Result<Server> {
        let address = serve(move |arena| {
            let options = MemOptions { root: (0, 0, 0o777), ..MemOptions::default() };
            let times = Times { seed, turns_max: 3, gates: 4, grants: true };
            Wrapped::new(Simple::from(Mem::new(arena, options)), Late::new(times))
        })?;
        Ok(Server { addresses: vec![address], started: None })
    }

    /// With a relay in front of each address, each a loop in a thread of this process, for as long as that lives.
    pub(crate) fn relayed(mut self) -> anyhow::Result<Server> {
        for address in &mut self.addresses {
            let config = Config { to: address.look_up()?, aname: None, msize: MSIZE_MAX, users: Arc::default() };
            *address = serve(move |arena| Relay::new(config, arena))?;
        }
        Ok(self)
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

/// A loop on a tree in a thread of its own; its address.
fn serve<S: Service>(tree: impl FnOnce(Arena) -> S + Send + 'static) -> anyhow::Result<Address> {
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("tcp:{}", socket.local_addr()?).parse().map_err(anyhow::Error::msg)?;
    std::thread::spawn(move || {
        let arena = Arena::new(MEMORY_BYTES).expect("a mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let ring = Kernel::new(1000).expect("io_uring works here");
        let mut server = ring9::uring::Server::new(ring, tree(arena), parts, Options::new(MSIZE_MAX, 100));
        // Where it cannot be registered everything goes by address.
        let _ = server.register(MEMORY_BYTES);
        let fd = socket.into_raw_fd();
        server.listen(Listener { fd, name: "linear".into(), trust: Trust::All, tcp: true });
        server.run(|_| ())
    });
    Ok(address)
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
