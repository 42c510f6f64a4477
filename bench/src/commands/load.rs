//! Flags of everything that makes a load.

use crate::generator::{Arrivals, Mix, Op, Pace, Plan, Weighted, size_of};
use crate::server::Server;
use crate::target::Target;
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use ring9::client::Address;
use ring9::wire::{Dialect, IOHDR};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Connections and operations in flight of a run, at most.
const SLOTS_MAX: usize = 1 << 20;
/// Fids of one connection, at most.
const FILES_MAX: u32 = 100_000;
/// Operations of a burst where nothing else is asked for.
const BURST: u32 = 10;
/// Messages where nothing larger is asked for, in bytes.
const MSIZE: u32 = 64 << 10;
/// Folders of this process so far: several loads may be on one server.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Files where nothing larger is asked for, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// A server.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct TargetFlags {
    /// Where it listens: tcp:HOST:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", required_unless_present = "server", conflicts_with = "server")]
    target: Option<Address>,
    /// Start this instead; it prints `ring9 ready ADDRESS`
    #[arg(long, value_name = "COMMAND")]
    server: Option<String>,
    /// Its process, for its cpu time and memory; that of --server is known
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    speech: SpeechFlags,
}

impl TargetFlags {
    /// The server, started if that is what is asked for.
    pub(crate) fn start(&self) -> anyhow::Result<Site> {
        let server = self.server.as_deref().map(Server::start).transpose()?;
        let address = server.as_ref().map(|server| &server.address).or(self.target.as_ref()).context("no address")?;
        let pid = server.as_ref().map(Server::pid).or(self.pid);
        Ok(Site { address: address.clone(), pid, server })
    }

    pub(crate) fn speech(&self) -> &SpeechFlags {
        &self.speech
    }
}

/// A server that listens. If it was started here, it ends with the value.
pub(crate) struct Site {
    pub(crate) address: Address,
    /// Its process, if that is known.
    pub(crate) pid: Option<u32>,
    #[expect(dead_code, reason = "it ends when it is dropped")]
    pub(crate) server: Option<Server>,
}

impl Site {
    /// Starts a command.
    pub(crate) fn start(command: &str) -> anyhow::Result<Site> {
        let server = Server::start(command)?;
        Ok(Site { address: server.address.clone(), pid: Some(server.pid()), server: Some(server) })
    }
}

/// How servers are spoken to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct SpeechFlags {
    /// 9P2000.L, 9P2000.u or 9P2000
    #[arg(long, default_value = "9P2000.L", value_parser = dialect)]
    dialect: Dialect,
    /// Largest message; by default 64 KiB, or what the largest read or write needs
    #[arg(long, value_name = "BYTES", value_parser = size_of)]
    msize: Option<u64>,
    #[arg(long, default_value = "root")]
    uname: String,
    #[arg(long, default_value_t = 0)]
    uid: u32,
    /// The tree to attach to
    #[arg(long, default_value = "")]
    aname: String,
    /// A folder there, in which the run makes its own and removes it
    #[arg(long, value_name = "PATH", default_value = "/")]
    folder: String,
}

fn dialect(name: &str) -> Result<Dialect, String> {
    let all = [Dialect::L, Dialect::U, Dialect::P9];
    all.into_iter().find(|dialect| dialect.name() == name).ok_or_else(|| "9P2000.L, 9P2000.u or 9P2000".into())
}

impl SpeechFlags {
    pub(crate) fn is_linux(&self) -> bool {
        self.dialect == Dialect::L
    }

    /// The server at an address, for a load.
    pub(crate) fn target(&self, address: &Address, mix: &Mix) -> anyhow::Result<Target> {
        let payload = if mix.has_sizes() { mix.size_max() } else { 0 };
        let msize = match self.msize {
            Some(msize) => u32::try_from(msize).context("--msize")?,
            None => MSIZE.max(payload + IOHDR),
        };
        ensure!(msize > IOHDR, "--msize: more than {IOHDR} bytes");
        ensure!(
            payload <= msize - IOHDR,
            "reads and writes of {payload} bytes do not fit into messages of {msize}: --msize {}",
            payload + IOHDR
        );
        Ok(Target {
            address: address.clone(),
            dialect: self.dialect,
            msize,
            uname: self.uname.clone(),
            uid: self.uid,
            aname: self.aname.clone(),
            parent: self.folder.clone(),
            name: format!("ring9-bench.{}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)),
        })
    }
}

/// Loads that many people ask for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// Attributes, walks, listings, files made and removed
    Metadata,
    /// 4 KiB from 64 files of which few are popular
    SmallRead,
    /// Reads of 1 MiB, one behind the other
    Streaming,
    /// Reads and writes of 4 KiB, attributes, files made and removed
    Mixed,
}

/// A load.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadFlags {
    /// Operations, with weights if they are several: read, or read=70,write=25,getattr=5; read, write, getattr (stat), walk, open, create, put (a new file with a write), readdir, rename, lock
    #[arg(long, value_name = "MIX", visible_alias = "mix")]
    op: Option<Weighted<Op>>,
    /// What --op, --size, --files, --zipf and --sequential are if they are not given
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Bytes of reads and writes, with weights if there are several sizes: 4096, or 4KiB=9,64KiB=1
    #[arg(long, value_name = "SIZES")]
    size: Option<Weighted<u32>>,
    /// Open loop: operations per second, whether the server keeps up or not. Without, a closed loop: each slot begins anew when its operation has ended
    #[arg(long, value_name = "PER-SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// How operations follow each other in an open loop
    #[arg(long, value_enum)]
    arrivals: Option<Arrivals>,
    /// Operations of a burst; 10 unless it is said otherwise
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    burst: Option<u32>,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Operations in flight on each connection, at most
    #[arg(long, default_value_t = 1)]
    depth: u16,
    /// Of what is measured; by default 10s, and less where there are many rounds
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Before anything counts; by default a tenth of --duration
    #[arg(long, value_parser = humantime::parse_duration)]
    warmup: Option<Duration>,
    #[arg(long)]
    files: Option<u32>,
    /// Of each file; by default 1 MiB, or the largest size
    #[arg(long, value_name = "BYTES", value_parser = size_of)]
    file_size: Option<u64>,
    /// Which file is chosen follows Zipf's law with this exponent; 0: all alike
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// Reads and writes go through a file from its start to its end
    #[arg(long)]
    sequential: bool,
    /// Compare every byte that is read
    #[arg(long)]
    verify: bool,
    /// Behind each Twrite a Tfsync, which belongs to the operation
    #[arg(long)]
    fsync: bool,
    /// Of all that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text.parse()?;
    if !(rate > 0.0 && rate <= 1e9) {
        bail!("more than 0 operations per second, and no more than 10^9");
    }
    Ok(rate)
}

impl LoadFlags {
    fn mix(&self) -> anyhow::Result<Mix> {
        // The texts are constants.
        let parse = |operations: &str, sizes: &str| anyhow::Ok((operations.parse()?, sizes.parse()?));
        let ((operations, sizes), files, zipf, sequential) = match self.preset {
            None => (parse("read", "4096")?, 1, 0.0, false),
            Some(Preset::Metadata) => (parse("getattr=50,walk=30,readdir=5,create=15", "4096")?, 64, 0.0, false),
            Some(Preset::SmallRead) => (parse("read", "4096")?, 64, 1.0, false),
            Some(Preset::Streaming) => (parse("read", "1MiB")?, 1, 0.0, true),
            Some(Preset::Mixed) => (parse("read=50,write=25,getattr=20,create=5", "4096")?, 64, 1.0, false),
        };
        let sizes = self.size.clone().unwrap_or(sizes);
        let size_max = sizes.values().max().context("--size")?;
        let streaming = matches!(self.preset, Some(Preset::Streaming));
        let mix = Mix {
            operations: self.op.clone().unwrap_or(operations),
            files: self.files.unwrap_or(files),
            file_bytes: self.file_size.unwrap_or(FILE_BYTES.max(u64::from(size_max)) << if streaming { 4 } else { 0 }),
            zipf: self.zipf.unwrap_or(zipf),
            sequential: self.sequential || sequential,
            sizes,
        };
        ensure!((1..=FILES_MAX).contains(&mix.files), "--files: 1 to {FILES_MAX}");
        ensure!(mix.zipf >= 0.0 && mix.zipf.is_finite(), "--zipf: 0 or more");
        ensure!(!mix.has_sizes() || mix.file_bytes >= u64::from(mix.size_max()), "--file-size: no less than --size");
        Ok(mix)
    }

    /// An open loop of so many operations per second.
    pub(crate) fn pace(&self, per_second: f64) -> Pace {
        Pace::Open {
            per_second,
            arrivals: self.arrivals.unwrap_or(Arrivals::Constant),
            burst: self.burst.unwrap_or(BURST),
        }
    }

    /// The load, of `duration` unless it says otherwise.
    pub(crate) fn plan(&self, duration: Duration) -> anyhow::Result<Plan> {
        ensure!(
            self.rate.is_some() || self.arrivals.is_none() && self.burst.is_none(),
            "--arrivals and --burst are of an open loop: --rate"
        );
        self.plan_without_rate(duration)
    }

    /// The same, where rates are chosen later.
    pub(crate) fn plan_without_rate(&self, duration: Duration) -> anyhow::Result<Plan> {
        let duration = self.duration.unwrap_or(duration);
        ensure!(self.connections > 0 && self.depth > 0, "at least one connection, and one operation in flight");
        ensure!(self.connections * usize::from(self.depth) <= SLOTS_MAX, "at most {SLOTS_MAX} operations in flight");
        ensure!(duration >= Duration::from_millis(10), "--duration: at least 10ms");
        Ok(Plan {
            pace: self.rate.map_or(Pace::Closed, |rate| self.pace(rate)),
            connections: self.connections,
            depth: self.depth,
            mix: self.mix()?,
            warmup: self.warmup.unwrap_or(duration / 10),
            duration,
            seed: self.seed,
            verify: self.verify,
            fsync: self.fsync,
        })
    }
}
