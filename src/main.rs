//! The server program: flags to bounds, trees, ring and listeners; then it runs the loop.
//!
//! Here are also the start of the log, the tables of users and groups, the ready line, and the
//! exit codes. `durable` has what is said and done about a store.
//! This is the one file that names every concrete tree.

mod durable;
mod flags;

use anyhow::{Context, anyhow, bail};
use flags::{Command, Flags, Serve};
use log::LevelFilter;
use ring9::arena::{Arena, Gauge, Heads, Memory};
use ring9::client::Address;
use ring9::fs::ctl::{self, Ctl};
use ring9::fs::dev::{self, Dev};
use ring9::fs::join::{End, Join};
use ring9::fs::mem::{self, Mem};
use ring9::fs::{At, Remote, Service, Simple};
use ring9::limits::{self, Bounds};
use ring9::logging::{self, Log, Logger, direct};
use ring9::session::{Budget, Users};
use ring9::stats::{Lines, Stats, StoreFigures};
use ring9::uring::{self, Bound, Finding, Grow, Kernel, Listener, LogTo, Ring, Server, Signals, Trust};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsStr;
use std::io::{ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// EX_UNAVAILABLE of sysexits(3): io_uring is missing or forbidden.
const EXIT_UNAVAILABLE: u8 = 69;
/// EX_NOINPUT of sysexits(3): a file named by a flag cannot be read.
const EXIT_NO_INPUT: u8 = 66;
/// How much `--grow` populates before the ready line, in bytes.
const GROW_FROM: usize = 64 << 20;
/// How long a direct write of the ready line, of an error or of a panic may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log, and the lines of it that `ctl` shows.
struct Logs {
    log: Arc<Log>,
    kept: Arc<Mutex<Lines>>,
}

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
    logs.log.finish(PATIENCE);
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
    uring::pin_to_cpu(cpu).with_context(|| {
        let cpus: Vec<_> = uring::cpus().unwrap_or_default().iter().map(usize::to_string).collect();
        format!(
            "--cpu {cpu}: sched_setaffinity(2) refuses it; this process runs on {} (see taskset(1))",
            cpus.join(", ")
        )
    })
}

/// A log that writes to stderr directly, until the loop does.
fn start_log(level: LevelFilter) -> Logs {
    let kept = Arc::new(Mutex::new(Lines::new(limits::LOG_BYTES_MAX)));
    let options =
        logging::Options { bytes_max: limits::LOG_WAITING_BYTES_MAX, lines_per_second: limits::LOG_LINES_PER_SECOND };
    let log = Arc::new(Log::new(Arc::clone(&kept), options));
    log.write_directly();
    let logger = Logger::new(Arc::clone(&log), uring::monotonic_ns);
    log::set_boxed_logger(Box::new(logger)).expect("no other logger is set");
    log::set_max_level(level);
    // The default hook blocks on a full stderr. The lock of the log may be held here.
    std::panic::set_hook(Box::new(|info| {
        let backtrace = Backtrace::capture();
        let shown = if backtrace.status() == BacktraceStatus::Captured { backtrace.to_string() } else { String::new() };
        let text = format!("ring9: {info}\n{shown}");
        let _ = direct::write(std::io::stderr().as_fd(), text.as_bytes(), PATIENCE);
    }));
    Logs { log, kept }
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
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let dev = Dev::new(arena.zeros(), seed());
    let tree = tree(&serve, bounds, &users, ring.entropy());
    let base = Base { bounds, users, populated, parts, dev, store: None };
    let Some(dir) = &serve.store else {
        let files = Simple::from(Mem::new(arena, tree));
        return run_with(files, say_what_is_lost, ring, base, &serve, logs);
    };
    let id = durable::new_id();
    let at = At { wall: ring.wall(), mono_ns: ring.monotonic() };
    let fail = durable::failure(dir, Arc::clone(&logs.log));
    match durable::open(store(dir, &serve), arena, tree, (id, at), fail) {
        Ok(files) => {
            let base = Base { store: Some(files.figures()), ..base };
            run_with(files, durable::say_what_is_kept, ring, base, &serve, logs)
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

/// What there is beside the files, before they are served.
struct Base {
    bounds: Bounds,
    users: Users,
    /// Bytes of the memory that are populated.
    populated: usize,
    parts: (Memory, Heads, Gauge),
    dev: Dev,
    /// What is measured of the store, if there is one.
    store: Option<Rc<StoreFigures>>,
}

/// Serves files until a signal comes. `last` says what becomes of them.
fn run_with<F: Service>(
    files: F,
    last: impl FnOnce(&mut F),
    ring: Kernel,
    base: Base,
    serve: &Serve,
    logs: &Logs,
) -> anyhow::Result<ExitCode> {
    let populated = base.populated;
    let (mut server, _signals) = build(files, ring, base, serve, logs)?;
    register(&mut server, populated, serve)?;

    // What is removed at the end: the paths of unix sockets.
    let mut removals = Vec::new();
    let mut ready = Vec::new();
    for (address, trust) in serve.listeners()? {
        let bound =
            bind(&address).map_err(|error| anyhow!("--listen {address}: {error:#}{}", advice(&address, &error)))?;
        let (shown, bound_to) = (shown(&address, &bound), bound.local);
        let (fd, remove) = bound.into_raw();
        let tcp = matches!(shown, Address::Tcp { .. });
        removals.push(remove);
        server.listen(Listener { fd, name: shown.to_string().into(), trust, tcp });
        if is_open_to_all(&bound_to, trust) {
            log::warn!(
                target: "open-listener",
                "{shown}: --trust all on an address that other machines may reach: who reaches it can be root there; \
                 use --trust squash, an address of loopback, or a firewall"
            );
        }
        // Each is a kind of line of its own: there may be more than a second has room for.
        let line = shown.to_string();
        log::info!(target: &line, "{line}: {}", meaning(trust));
        ready.push(shown);
    }
    announce(&ready);
    let ended = server.run(|trees| last(trees.first())).context("io_uring");
    // For the error, if there is one.
    logs.log.write_directly();
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// What this server may take, from its flags, the limit of open files, and the memory of the machine.
/// Beside it what is to be said where it is less than usual.
fn bounds(serve: &Serve) -> anyhow::Result<(Bounds, Option<String>)> {
    let wanted = serve.max_connections.unwrap_or(limits::CONNECTIONS);
    let files = uring::open_files(wanted + limits::OTHER_FILES).context("RLIMIT_NOFILE")?;
    let fit = files.saturating_sub(limits::OTHER_FILES);
    let fix = format!(
        "shell: `ulimit -n {}` as root first; systemd: `LimitNOFILE={0}`; container: `--ulimit nofile={0}`",
        wanted + limits::OTHER_FILES
    );
    let (mut connections, mut warning) = (serve.max_connections, None);
    if fit < wanted {
        if serve.max_connections.is_some() || fit == 0 {
            bail!("--max-connections {wanted}: RLIMIT_NOFILE is at most {files}; {fix}");
        }
        warning = Some(format!("serving at most {fit} connections: RLIMIT_NOFILE is at most {files}; {fix}"));
        connections = Some(fit);
    }
    let available = uring::available_memory().saturating_sub(beside(serve));
    let (memory, inodes) = (serve.memory.0, serve.max_inodes);
    let bounds = Bounds::fit(memory, inodes, connections, available).with_context(|| {
        let asked =
            Bounds { memory, inodes: inodes.unwrap_or(memory / limits::MEMORY_BYTES_PER_INODE), connections: wanted };
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
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let groups = match &serve.groups {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("--groups {}", path.display()))?,
        None => read("/etc/group"),
    };
    Ok(Users::parse(&read("/etc/passwd"), &groups))
}

/// The files, and the trees of the server itself, each under its attach names.
type Trees<F> = Join<F, Join<Simple<Dev>, Join<Simple<Ctl>, End>>>;

fn join<F: Service>(files: F, dev: Dev, ctl: Ctl) -> Trees<F> {
    let ctl = Join::new((ctl::ATTACH_NAMES, ctl.into()), End);
    let dev = Join::new((dev::ATTACH_NAMES, dev.into()), ctl);
    Join::new((mem::ATTACH_NAMES, files), dev)
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

/// The loop with its trees; beside it what keeps the signal descriptor open.
fn build<F: Service>(
    files: F,
    ring: Kernel,
    base: Base,
    serve: &Serve,
    logs: &Logs,
) -> anyhow::Result<(Server<Kernel, Trees<F>>, Signals)> {
    let Base { bounds, users, populated, parts, dev, store } = base;
    let stats = Rc::new(Stats::default());
    store.into_iter().for_each(|store| stats.keep(store));
    stats.counters.memory_bound_bytes.add(bounds.total() + beside(serve));
    let ctl = Ctl::new(Rc::clone(&stats), parts.2, Arc::clone(&logs.kept));
    let trees = join(files, dev, ctl);
    let signals = Signals::new()?;
    let options = uring::Options {
        msize_max: serve.msize.0 as u32,
        peers_max: bounds.connections as usize,
        owner: nix::unistd::geteuid().as_raw(),
        users: Arc::new(users),
        budget: Arc::new(Budget::new(limits::FID_BYTES_MAX, limits::REPLY_BYTES_MAX)),
        busy_poll_ns: serve.busy_poll * 1000,
        signals: Some(signals.raw()),
        stats,
        grow: serve.grow.then(|| Grow::from(populated)),
        log: Some(LogTo { log: Arc::clone(&logs.log), fd: std::io::stderr().as_raw_fd() }),
    };
    Ok((Server::new(ring, trees, parts, options), signals))
}

/// The last line of a server: its files were nowhere else.
fn say_what_is_lost(files: &mut Simple<Mem>) {
    let (files, bytes) = files.count();
    log::info!("ended; lost, since they were in memory only: {files} files, {bytes} bytes");
}

fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&uring::entropy().to_le_bytes()));
    seed
}

/// Registers the arena, or says in one line why it is served without.
fn register<F: Service>(server: &mut Server<Kernel, Trees<F>>, bytes: usize, serve: &Serve) -> anyhow::Result<()> {
    let features = server.ring().features();
    let Err(error) = server.register(bytes) else { return Ok(()) };
    let why = if !features.vectored_fixed {
        "this kernel has no WRITEV_FIXED (Linux 6.15 has); boot a newer one".to_owned()
    } else {
        format!("io_uring_register(2): {error}; {}", uring::memlock_advice(bytes as u64))
    };
    if serve.require_registered {
        bail!("--require-registered: {why}");
    }
    log::warn!("serving without registered memory: {why}");
    Ok(())
}

fn bind(address: &Address) -> anyhow::Result<Bound> {
    Ok(match address.look_up()? {
        Remote::Tcp(at) => uring::listen_tcp(at)?,
        Remote::Unix(path) => uring::listen_unix(Path::new(OsStr::from_bytes(&path)))?,
    })
}

/// The address in fact, in the form that `--listen` takes.
fn shown(address: &Address, bound: &Bound) -> Address {
    match bound.local {
        Some(local) => Address::Tcp { host: local.ip().to_string(), port: local.port() },
        None => address.clone(),
    }
}

/// What to do about an address that cannot be listened on.
fn advice(address: &Address, error: &anyhow::Error) -> &'static str {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match (kind, address) {
        (Some(ErrorKind::AddrInUse), Address::Unix(_)) => "; end that one, or name another path",
        (Some(ErrorKind::AddrInUse), Address::Tcp { .. }) => {
            "; end what listens there (ss -ltnp), or name another port"
        }
        (Some(ErrorKind::AddrNotAvailable), _) => "; no interface of this machine has this address (ip address)",
        (Some(ErrorKind::PermissionDenied), Address::Tcp { .. }) => {
            "; ports below 1024 want root, or CAP_NET_BIND_SERVICE"
        }
        (Some(ErrorKind::PermissionDenied), Address::Unix(_)) => {
            "; name a path in a folder that this user may write to"
        }
        (Some(ErrorKind::NotFound), Address::Unix(_)) => "; make its folder first",
        _ => "",
    }
}

/// Whether anyone who reaches this address, from another machine perhaps, may be any user.
fn is_open_to_all(local: &Option<SocketAddr>, trust: Trust) -> bool {
    trust == Trust::All && local.is_some_and(|local| !local.ip().to_canonical().is_loopback())
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
fn announce(ready: &[Address]) {
    let out = std::io::stdout();
    let line: String = ready.iter().map(|address| format!(" {address}")).collect();
    let mut text = format!("ring9 ready{line}\n");
    if out.is_terminal() {
        ready.iter().for_each(|address| text.push_str(&hints(address)));
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
