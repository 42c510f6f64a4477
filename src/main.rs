//! The server program: flags to bounds, ring and trees, of which `ring9::serve` makes a server and
//! runs it.
//!
//! Here are also the hook of panics, the file of `--groups`, the ready line, and the exit codes.
//! `durable` has what is said and done about a store.

mod durable;
mod flags;

use anyhow::{Context, anyhow};
use flags::{Command, Flags, Serve};
use log::LevelFilter;
use ring9::arena::Arena;
use ring9::client::Address;
use ring9::fs::mem::{self, Mem};
use ring9::fs::{At, Service, Simple};
use ring9::limits::{self, Bounds};
use ring9::logging::direct;
use ring9::serve::{self, Builder, Error, Listening, Logs};
use ring9::session::Users;
use ring9::stats::Stats;
use ring9::uring::{self, Finding, Kernel, Ring, Signals, Trust};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// EX_UNAVAILABLE of sysexits(3): io_uring is missing or forbidden.
const EXIT_UNAVAILABLE: u8 = 69;
/// EX_NOINPUT of sysexits(3): a file named by a flag cannot be read.
const EXIT_NO_INPUT: u8 = 66;
/// How much `--grow` populates before the ready line, in bytes.
const GROW_FROM: usize = 64 << 20;
/// How long a direct write of the ready line, of an error or of a panic may take.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let flags = Flags::of_process();
    let serve = match flags.command {
        Some(Command::Check(serve)) => return check(&serve),
        Some(Command::Store(look)) => return durable::look(&look),
        Some(Command::Serve(serve)) => serve,
        None => flags.serve,
    };
    let logs = start_log(if serve.trace { LevelFilter::Trace } else { LevelFilter::Info });
    let code = run(serve, &logs).unwrap_or_else(|error| {
        log::error!("{error:#}");
        ExitCode::FAILURE
    });
    logs.finish();
    code
}

/// What a check has found so far.
#[derive(Default)]
struct Look {
    findings: Vec<Finding>,
    /// That of the first failure.
    code: Option<u8>,
}

impl Look {
    fn at(&mut self, what: &'static str, found: anyhow::Result<String>, failure: u8) {
        let good = found.is_ok();
        self.code = self.code.or((!good).then_some(failure));
        let found = found.unwrap_or_else(|error| format!("{error:#}"));
        self.findings.push(Finding { what, good, found });
    }
}

/// Does what [`run`] does before it takes memory or an address, by the same functions, and says
/// what each has found. The exit code is the one that `run` would end with.
fn check(serve: &Serve) -> ExitCode {
    let mut look = Look::default();
    if let Some(path) = &serve.groups {
        look.at("--groups", users(serve).map(|_| format!("{} can be read", path.display())), EXIT_NO_INPUT);
    }
    let bounds = bounds(serve);
    let fits = bounds.as_ref().ok().map(|(bounds, _)| *bounds);
    let found = bounds.map(|(bounds, warning)| {
        let bound = format!(
            "at most {} MiB, {} connections, {} inodes",
            (bounds.total() + beside(serve)) >> 20,
            bounds.connections,
            bounds.inodes
        );
        warning.map_or(bound.clone(), |warning| format!("{bound}; {warning}"))
    });
    look.at("what it may take", found, 1);
    let kernel = uring::check(fits.map(|_| populated(serve, serve.memory.0)), serve.allowed());
    if !kernel.can_serve {
        look.code = look.code.or(Some(EXIT_UNAVAILABLE));
    }
    if let Some(cpu) = serve.cpu {
        look.at("--cpu", pin(cpu).map(|()| format!("{cpu} can be had")), 1);
    }
    if serve.require_registered && kernel.can_serve && !kernel.registers {
        look.at("--require-registered", Err(anyhow!("the memory cannot be registered, see above")), 1);
    }
    if let (Some(dir), Some(bounds)) = (&serve.store, fits) {
        let found = durable::check(store(dir, serve), serve.memory.0, tree(serve, bounds, &Users::default(), 0));
        let code = found.as_ref().err().map_or(1, |refused| refused.exit);
        look.at("--store", found.map_err(Into::into), code);
    }
    if serve.names_addresses() {
        let listeners = serve.listeners().map(|listeners| {
            let shown: Vec<_> =
                listeners.iter().map(|(address, trust)| format!("{address}: {}", meaning(*trust))).collect();
            shown.join("; ")
        });
        look.at("--listen", listeners, 1);
    }
    let findings = [kernel.findings, look.findings].concat();
    println!("{}", uring::Check { findings, can_serve: look.code.is_none(), ..kernel });
    look.code.map_or(ExitCode::SUCCESS, ExitCode::from)
}

/// How many bytes of `all` are populated before the ready line.
fn populated(serve: &Serve, all: u64) -> u64 {
    if serve.grow { all.min(GROW_FROM as u64) } else { all }
}

/// Stays on one cpu from here on.
fn pin(cpu: usize) -> anyhow::Result<()> {
    serve::pin(cpu).map_err(|error| anyhow!("--{error}"))
}

/// A log that writes to stderr directly, until the loop does.
fn start_log(level: LevelFilter) -> Logs {
    let logs = Logs::install(level).expect("no other logger is set");
    // The default hook blocks on a full stderr. The lock of the log may be held here.
    std::panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        let shown = if backtrace.status() == BacktraceStatus::Captured { backtrace.to_string() } else { String::new() };
        let text = format!("ring9: {info}\n{shown}");
        let _ = direct::write(std::io::stderr().as_fd(), text.as_bytes(), PATIENCE);
    }));
    logs
}

fn run(serve: Serve, logs: &Logs) -> anyhow::Result<ExitCode> {
    Signals::block_meaningless().context("pthread_sigmask(3)")?;
    let users = match users(&serve) {
        Ok(users) => users,
        Err(error) => {
            log::error!("{error:#}");
            return Ok(ExitCode::from(EXIT_NO_INPUT));
        }
    };
    let (bounds, warning) = bounds(&serve)?;
    warning.inspect(|warning| log::warn!("{warning}"));
    let mut ring = match Kernel::with(bounds.connections as usize, serve.allowed()) {
        Ok(ring) => ring,
        Err(error) => {
            log::error!("{}", uring::explain_setup_error(&error));
            return Ok(ExitCode::from(EXIT_UNAVAILABLE));
        }
    };
    if let Some(cpu) = serve.cpu {
        pin(cpu)?;
    }
    let (arena, populated) =
        arena(&serve).with_context(|| format!("--memory: {} MiB were asked for", serve.memory.0 >> 20))?;
    let tree = tree(&serve, bounds, &users, ring.entropy());
    let builder = Builder::new().arena(&arena).populated(populated, serve.grow).logs(logs).bounds(bounds).users(users);
    let Some(dir) = &serve.store else {
        let files = Simple::from(Mem::new(arena, tree));
        return run_with(files, say_what_is_lost, builder.ring(ring), &serve);
    };
    let id = durable::new_id();
    let at = At { wall: ring.wall(), mono_ns: ring.monotonic() };
    let fail = durable::failure(dir, Arc::clone(logs.log()));
    match durable::open(store(dir, &serve), arena, tree, (id, at), fail) {
        Ok(files) => {
            let stats = Rc::new(Stats::default());
            stats.keep(files.figures());
            run_with(files, durable::say_what_is_kept, builder.stats(stats).ring(ring), &serve)
        }
        Err(refused) => {
            log::error!("{refused}");
            Ok(refused.code())
        }
    }
}

/// The store that the files are to be kept in.
fn store<'a>(path: &'a Path, serve: &Serve) -> durable::Asked<'a> {
    durable::Asked { path, store_bytes: serve.store_size(), sync: serve.sync() }
}

/// Serves files until a signal comes. `last` says what becomes of them.
fn run_with<F: Service>(
    files: F,
    last: impl FnOnce(&mut F),
    builder: Builder,
    serve: &Serve,
) -> anyhow::Result<ExitCode> {
    let mut builder = builder
        .ctl()
        .dev()
        .service_at(mem::ATTACH_NAMES, files)
        .msize(serve.msize.0 as u32)
        .busy_poll(Duration::from_micros(serve.busy_poll))
        .require_registered(serve.require_registered)
        .tree_bytes(beside(serve))
        .on_listening(say_who_users_are)
        .on_ready(announce);
    for (address, trust) in serve.listeners()? {
        builder = builder.listen_with_trust(address, trust);
    }
    let server = builder.bind().map_err(|error| match error {
        Error::Listen { .. } => anyhow!("--listen {error}"),
        Error::Register(why) => anyhow!("--require-registered: {why}"),
        other => other.into(),
    })?;
    server.run_then(|trees| last(trees.first()))?;
    Ok(ExitCode::SUCCESS)
}

/// One line for each listener, and one more for an address that other machines may reach.
fn say_who_users_are(listening: &Listening) {
    let Listening { address, trust, .. } = listening;
    if listening.is_open_to_all() {
        log::warn!(
            target: "open-listener",
            "{address}: --trust all on an address that other machines may reach: who reaches it can be root there; \
             use --trust squash, an address of loopback, or a firewall"
        );
    }
    // Each is a kind of line of its own: there may be more than a second has room for.
    let line = address.to_string();
    log::info!(target: &line, "{line}: {}", meaning(*trust));
}

/// What this server may take, from its flags, the limit of open files, and the memory of the machine.
/// Beside it what is to be said where it is less than usual.
fn bounds(serve: &Serve) -> anyhow::Result<(Bounds, Option<String>)> {
    let (connections, warning) = serve::connections(serve.max_connections).map_err(|error| match error {
        Error::Connections { wanted, why } => anyhow!("--max-connections {wanted}: {why}"),
        other => other.into(),
    })?;
    let available = uring::available_memory().saturating_sub(beside(serve));
    let (memory, inodes) = (serve.memory.0, serve.max_inodes);
    let bounds = Bounds::fit(memory, inodes, connections, available).with_context(|| {
        let asked = Bounds {
            memory,
            inodes: inodes.unwrap_or(memory / limits::MEMORY_BYTES_PER_INODE),
            connections: serve.max_connections.unwrap_or(limits::CONNECTIONS),
        };
        let store = serve.store.is_some().then_some(("store", beside(serve)));
        let holders = asked.holders().into_iter().chain(store);
        let holders: Vec<_> = holders.map(|(who, bytes)| format!("{who} {}", bytes >> 20)).collect();
        format!(
            "this server could take {} MiB ({}), and there are {}; less --memory, --max-connections or --max-inodes",
            (asked.total() + beside(serve)) >> 20,
            holders.join(", "),
            uring::available_memory() >> 20
        )
    })?;
    Ok((bounds, warning))
}

/// Bytes that the store may take of memory, beside its files.
fn beside(serve: &Serve) -> u64 {
    if serve.store.is_some() { limits::STORE_BYTES_MAX } else { 0 }
}

/// Names of users and groups. This machine's tables may be missing, the one that was asked for may not.
fn users(serve: &Serve) -> anyhow::Result<Users> {
    let groups = serve
        .groups
        .as_ref()
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("--groups {}", path.display())));
    Ok(serve::users_of_this_machine(groups.transpose()?.as_deref()))
}

/// The memory for files; beside it how many bytes of it are populated.
fn arena(serve: &Serve) -> anyhow::Result<(Arena, usize)> {
    let arena = Arena::new(usize::try_from(serve.memory.0)?)?;
    let populated = populated(serve, arena.memory().len() as u64) as usize;
    arena.memory().populate(0..populated).with_context(|| {
        format!("{} MiB do not fit into the free memory of this machine; less --memory", populated >> 20)
    })?;
    Ok((arena, populated))
}

/// How the tree of files is made.
fn tree(serve: &Serve, bounds: Bounds, users: &Users, hash_key: u64) -> mem::Options {
    mem::Options {
        inodes_max: bounds.inodes as usize,
        hash_key,
        groups: serve.groups.is_some().then(|| users.memberships().collect()),
        atime: serve.atime(),
        ..mem::Options::default()
    }
}

/// The last line of a server: its files were nowhere else.
fn say_what_is_lost(files: &mut Simple<Mem>) {
    let (files, bytes) = files.count();
    log::info!("ended; lost, since they were in memory only: {files} files, {bytes} bytes");
}

/// What a trust means, and the flag for it.
fn meaning(trust: Trust) -> &'static str {
    match trust {
        Trust::All => "users are who they say (--trust all)",
        Trust::PeerUid => "users are who they are on this machine (--trust peer-uid)",
        Trust::Squash => "everyone is nobody (--trust squash)",
    }
}

/// One line for programs; below it, for people, what to type next.
fn announce(listening: &[Listening]) {
    let out = std::io::stdout();
    let line: String = listening.iter().map(|at| format!(" {}", at.address)).collect();
    let mut text = format!("ring9 ready{line}\n");
    if out.is_terminal() {
        listening.iter().for_each(|at| text.push_str(&hints(&at.address)));
    }
    let (written, error) = direct::write(out.as_fd(), text.as_bytes(), PATIENCE);
    if written < text.len() {
        // The server serves all the same.
        let why = error.map_or("nobody reads it".to_owned(), |error| error.to_string());
        log::warn!("stdout did not take the ready line: {why}");
    }
}

fn hints(address: &Address) -> String {
    let mount = match address {
        Address::Tcp { host, port } => {
            format!("mount -t 9p -o trans=tcp,port={port},version=9p2000.L,msize=262144,locktimeout=1 {host} /mnt")
        }
        Address::Unix(path) => {
            let options = "trans=unix,version=9p2000.L,msize=262144,locktimeout=1,uname=root";
            format!("mount -t 9p -o {options} {} /mnt", path.display())
        }
    };
    format!("  {address}\n    list   r9 --addr {address} ls -l /\n    mount  {mount}\n")
}
