//! What the baseline servers share, so that they differ in nothing but how they drive sessions: flags, listeners, the tree, the clock.
//!
//! A baseline serves one memfs and nothing beside it, knows no deadlines, and ends at once on SIGTERM and SIGINT.

pub mod call;
mod facts;
mod flags;
mod listen;
pub mod task;
mod tier;

pub use facts::Facts;
pub use flags::{Bytes, Flags, RuntimeFlags, TrustFlag};
pub use listen::{Listener, Socket, exit_on_signals};
pub use tier::Tier;

use anyhow::Context;
use nix::time::{ClockId, clock_gettime};
use ring9::arena::Arena;
use ring9::fs::mem::{self, Mem};
use ring9::fs::{At, Service, Simple, Time};
use ring9::limits;
use ring9::session::{Config, Users};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::Arc;

/// Bytes of a peer's receive buffer.
pub const INBOX_BYTES: usize = 64 << 10;
/// Most views in one gather, as in the completion loop.
pub const VIEWS_MAX: usize = ring9::uring::VIEWS_MAX;

// Every message that is no landing fits, with what was left of the one before it already moved away.
const _: () = assert!(INBOX_BYTES >= ring9::session::BULK_BYTES_MIN);

/// Where a driver gets the moment of a turn from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The clocks of this machine.
    Real,
    /// Always this moment; for comparisons byte by byte.
    Fixed(At),
}

impl Clock {
    /// Now. Asked once per turn.
    pub fn now(&self) -> At {
        match self {
            Clock::Fixed(at) => *at,
            Clock::Real => {
                let read = |clock| clock_gettime(clock).expect("Linux has these clocks");
                let (wall, mono) = (read(ClockId::CLOCK_REALTIME), read(ClockId::CLOCK_MONOTONIC));
                At {
                    wall: Time { sec: wall.tv_sec(), nsec: wall.tv_nsec() as u32 },
                    mono_ns: mono.tv_sec() as u64 * 1_000_000_000 + mono.tv_nsec() as u64,
                }
            }
        }
    }
}

/// A server that is ready but for its driver.
pub struct Start {
    /// The tree, in populated memory.
    pub fs: Simple<Mem>,
    /// Sockets that listen.
    pub listeners: Vec<Listener>,
    /// What sessions are made with.
    pub configs: Configs,
}

/// What sessions are made with.
#[derive(Clone, Debug)]
pub struct Configs(Config);

impl Configs {
    /// For the driver's peer of this number.
    pub fn of_peer(&self, peer: u32) -> Config {
        Config { peer, ..self.0.clone() }
    }
}

/// Does what the flags say, up to the ready line.
pub fn start(flags: &Flags) -> anyhow::Result<Start> {
    if let Some(cpu) = flags.cpu {
        ring9::uring::pin_to_cpu(cpu).with_context(|| format!("--cpu {cpu}"))?;
    }
    let arena = Arena::new(usize::try_from(flags.memory.0)?)?;
    arena.memory().populate(0..arena.memory().len()).context("--memory: it does not fit into this machine's")?;
    let hash_key = RandomState::new().hash_one(std::process::id());
    let inodes_max = usize::try_from(flags.memory.0 / limits::MEMORY_BYTES_PER_INODE)?;
    let options = mem::Options { inodes_max, hash_key, ..mem::Options::default() };
    let mut fs = Simple::from(Mem::new(arena, options));
    Service::init(&mut fs, Clock::Real.now()).map_err(std::io::Error::other)?;
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let users = Arc::new(Users::parse(&read("/etc/passwd"), &read("/etc/group")));
    let config = Config { trust: flags.trust.into(), users, hash_key, ..Config::new(0, flags.msize.0 as u32) };
    let listeners: anyhow::Result<Vec<_>> = flags
        .listen
        .iter()
        .map(|address| Listener::bind(address).with_context(|| format!("--listen {address}")))
        .collect();
    let listeners = listeners?;
    exit_on_signals(&listeners)?;
    announce(&listeners)?;
    Ok(Start { fs, listeners, configs: Configs(config) })
}

/// The line that programs wait for, the same as the server's.
fn announce(listeners: &[Listener]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut line = String::from("ring9 ready");
    for listener in listeners {
        line.push_str(&format!(" {}", listener.address()?));
    }
    // Nobody may be reading; the server serves all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    Ok(())
}
