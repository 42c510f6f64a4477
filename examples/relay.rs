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
use ring9::limits;
use ring9::relay::{self, Config, Relay};
use ring9::serve::{self, Address, Builder, Error, Logs, Trust};
use ring9::uring::Signals;
use std::process::ExitCode;
use std::sync::Arc;

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
    let logs = Logs::install(log::LevelFilter::Info)?;
    Signals::block_meaningless()?;
    let arena = Arena::new(MEMORY_BYTES)?;
    let config = Config {
        to: flags.to.look_up().with_context(|| format!("--to {}", flags.to))?,
        aname: flags.aname,
        msize: limits::MSIZE_MAX,
        users: Arc::new(serve::users_of_this_machine(None)),
    };
    let ended = Builder::new()
        .arena(&arena)
        .logs(&logs)
        .service(Relay::new(config, arena))
        .tree_bytes(relay::heap_bytes_max(limits::MSIZE_MAX))
        .listen_with_trust(flags.listen, trust)
        .on_ready(|listening| println!("relay ready {}", listening[0].address))
        .run();
    logs.finish();
    ended.map_err(|error| match error {
        Error::Listen { .. } => anyhow::anyhow!("--listen {error}"),
        other => other.into(),
    })
}
