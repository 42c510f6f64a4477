//! A relay: it serves the tree of another 9P server. `relay --listen ADDR --to ADDR [--aname NAME] [--trust WHO]`.
//!
//! ```text
//! cargo run --release --example relay -- --listen tcp:127.0.0.1:5650 --trust all --to tcp:127.0.0.1:5640
//! r9 --addr tcp:127.0.0.1:5650 ls -l /
//! ```
//! Users attach at the other server by the numbers that they have here, so it has to trust this one: over a Unix socket as
//! root, or `--trust all`. Without `--aname` a client may name any tree of it.

use anyhow::{Context, bail};
use ring9::arena::Arena;
use ring9::client::Address;
use ring9::fs::Remote;
use ring9::limits::{self, Bounds};
use ring9::logging::{self, Log, Logger};
use ring9::relay::{self, Config, Relay};
use ring9::session::{Budget, Users};
use ring9::stats::{Lines, Stats};
use ring9::uring::{self, Kernel, Listener, LogTo, Server, Signals, Trust};
use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Memory for payloads on their way, in bytes.
const MEMORY_BYTES: usize = 256 << 20;

struct Flags {
    listen: Address,
    to: Address,
    aname: Option<Box<[u8]>>,
    trust: Option<Trust>,
}

fn flags() -> anyhow::Result<Flags> {
    let (mut listen, mut to, mut aname, mut trust) = (None, None, None, None);
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--listen" => listen = Some(address(&flag, &value)?),
            "--to" => to = Some(address(&flag, &value)?),
            "--aname" => aname = Some(value.into_bytes().into()),
            "--trust" => {
                trust = Some(match value.as_str() {
                    "all" => Trust::All,
                    "peer-uid" => Trust::PeerUid,
                    "squash" => Trust::Squash,
                    other => bail!("--trust {other}: it is all, peer-uid or squash"),
                })
            }
            other => bail!("unknown flag {other}: --listen, --to, --aname or --trust"),
        }
    }
    let (listen, to) = (listen.context("--listen ADDR is missing")?, to.context("--to ADDR is missing")?);
    Ok(Flags { listen, to, aname, trust })
}

fn address(flag: &str, text: &str) -> anyhow::Result<Address> {
    text.parse().map_err(|error: String| anyhow::anyhow!("{flag} {text}: {error}"))
}

/// Whom the listener trusts. The rules are those of ring9: TCP does not say which user connects.
fn trust_of(listen: &Address, flag: Option<Trust>) -> anyhow::Result<Trust> {
    match (flag, listen) {
        (Some(Trust::PeerUid), Address::Tcp { .. }) => {
            bail!("--trust peer-uid: {listen} does not tell who connects, unix sockets do; use --trust squash or all")
        }
        (Some(trust), _) => Ok(trust),
        (None, Address::Tcp { .. }) => Ok(Trust::Squash),
        (None, Address::Unix(_)) => Ok(Trust::PeerUid),
    }
}

/// What an address stands for, which is looked up once.
fn look_up(flag: &str, address: &Address) -> anyhow::Result<Remote> {
    address.look_up().with_context(|| format!("{flag} {address}"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let flags = flags()?;
    let trust = trust_of(&flags.listen, flags.trust)?;
    let kept = Arc::new(Mutex::new(Lines::new(limits::LOG_BYTES_MAX)));
    let options =
        logging::Options { bytes_max: limits::LOG_WAITING_BYTES_MAX, lines_per_second: limits::LOG_LINES_PER_SECOND };
    let log = Arc::new(Log::new(kept, options));
    log.write_directly();
    log::set_boxed_logger(Box::new(Logger::new(Arc::clone(&log), uring::monotonic_ns))).expect("there is no other");
    log::set_max_level(log::LevelFilter::Info);
    Signals::block_meaningless()?;

    let connections = limits::CONNECTIONS.min(uring::open_files(limits::CONNECTIONS + limits::OTHER_FILES)?);
    let connections = connections - limits::OTHER_FILES.min(connections / 2);
    let ring =
        Kernel::new(connections as usize).map_err(|error| anyhow::anyhow!("{}", uring::explain_setup_error(&error)))?;
    let arena = Arena::new(MEMORY_BYTES)?;
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let users = Arc::new(Users::parse(&read("/etc/passwd"), &read("/etc/group")));
    let config = Config {
        to: look_up("--to", &flags.to)?,
        aname: flags.aname,
        msize: limits::MSIZE_MAX,
        users: Arc::clone(&users),
    };
    let tree = Relay::new(config, arena);
    let bounds = Bounds { memory: MEMORY_BYTES as u64, inodes: 0, connections };
    let stats = Rc::new(Stats::default());
    stats.counters.memory_bound_bytes.add(bounds.total() + relay::heap_bytes_max(limits::MSIZE_MAX));
    let signals = Signals::new()?;
    let options = uring::Options {
        msize_max: limits::MSIZE_MAX,
        peers_max: connections as usize,
        owner: nix::unistd::geteuid().as_raw(),
        users,
        budget: Arc::new(Budget::new(limits::FID_BYTES_MAX, limits::REPLY_BYTES_MAX)),
        busy_poll_ns: 0,
        signals: Some(signals.raw()),
        stats,
        grow: None,
        log: Some(LogTo { log: Arc::clone(&log), fd: std::io::stderr().as_raw_fd() }),
    };
    let mut server = Server::new(ring, tree, parts, options);
    if let Err(error) = server.register(MEMORY_BYTES) {
        log::warn!("serving without registered memory: {error}");
    }
    let bound = match look_up("--listen", &flags.listen)? {
        Remote::Tcp(at) => uring::listen_tcp(at),
        Remote::Unix(path) => uring::listen_unix(Path::new(OsStr::from_bytes(&path))),
    };
    let bound = bound.with_context(|| format!("--listen {}", flags.listen))?;
    let tcp = matches!(flags.listen, Address::Tcp { .. });
    let shown = match (bound.local, &flags.listen) {
        (Some(local), _) => Address::Tcp { host: local.ip().to_string(), port: local.port() },
        (None, named) => named.clone(),
    };
    // The path of a Unix socket is removed at the end.
    let (fd, _removal) = bound.into_raw();
    server.listen(Listener { fd, name: shown.to_string().into(), trust, tcp });
    println!("relay ready {shown}");
    let ended = server.run(|_| ()).context("io_uring");
    log.write_directly();
    log.finish(Duration::from_secs(1));
    ended
}
