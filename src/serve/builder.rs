//! Options, listeners and trees, and what is made of them.

use super::listening::{Listening, Wanted};
use super::server::Server;
use super::{Address, Error, Logs, Trust};
use crate::arena::{Arena, Gauge, Heads, Memory, Zeros};
use crate::fs::ctl::{self, Ctl};
use crate::fs::dev::{self, Dev};
use crate::fs::join::{AttachNames, End, Join};
use crate::fs::{Filesystem, Service, Simple};
use crate::limits::{self, Bounds};
use crate::session::{Budget, Users};
use crate::stats::{Lines, Stats};
use crate::uring::{self, Bound, Grow, Kernel, Listener, LogTo, Ring, Signals};
use std::fmt::Display;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Makes a server: where it listens, its options, and its trees.
///
/// `S` is what it serves so far: a `Builder<End>` has no tree yet. [`arena`](Self::arena), [`logs`](Self::logs) and
/// [`stats`](Self::stats) come before the trees, since `dev` and `ctl` need them; all else may come in any order.
///
/// Nothing is done before [`bind`](Self::bind) or [`run`](Self::run), which also report what was wrong with what the builder was given.
///
/// ```no_run
/// # use ring9::fs::mem::{Mem, Options};
/// # use ring9::{arena::Arena, serve::{Builder, Error, Trust}};
/// # fn main() -> Result<(), Error> {
/// # let arena = Arena::new(64 << 20).unwrap();
/// Builder::new()
///     .arena(&arena)
///     .tree(Mem::new(arena, Options::default()))
///     .dev()
///     .ctl()
///     .listen("unix:/run/user/1000/files.sock")
///     .listen_with_trust("tcp:127.0.0.1:5640", Trust::All)
///     .max_connections(100)
///     .run()
/// # }
/// ```
pub struct Builder<S = End> {
    tree: S,
    options: Options,
}

type OnReady = Box<dyn FnOnce(&[Listening])>;
type OnListening = Box<dyn FnMut(&Listening)>;

struct Options {
    listeners: Vec<Wanted>,
    msize: u32,
    connections: Option<u64>,
    bounds: Option<Bounds>,
    busy_poll: Duration,
    cpu: Option<usize>,
    users: Option<Users>,
    arena: Option<Parts>,
    /// Bytes of the arena to register.
    registered: usize,
    grows: bool,
    require_registered: bool,
    tree_bytes: u64,
    stats: Rc<Stats>,
    logs: Option<Logs>,
    ring: Option<Kernel>,
    on_listening: Option<OnListening>,
    on_ready: Option<OnReady>,
}

/// What the loop and `dev` have of an arena.
struct Parts {
    memory: Memory,
    heads: Heads,
    gauge: Gauge,
    zeros: Zeros,
}

impl Parts {
    fn of(arena: &Arena) -> Parts {
        Parts { memory: arena.memory(), heads: arena.heads(), gauge: arena.gauge(), zeros: arena.zeros() }
    }
}

impl Options {
    /// Those of the arena, or of the least that a loop can have: 256 KiB of address space for heads of replies and zeros.
    fn parts(&mut self) -> &mut Parts {
        self.arena.get_or_insert_with(|| Parts::of(&Arena::new(0).expect("256 KiB of address space")))
    }
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// A server without trees and listeners: messages up to 1 MiB, 10,000 connections or as many as the limit of open files allows,
    /// no busy polling, names of users from /etc/passwd and /etc/group.
    pub fn new() -> Builder {
        let options = Options {
            listeners: Vec::new(),
            msize: limits::MSIZE_MAX,
            connections: None,
            bounds: None,
            busy_poll: Duration::ZERO,
            cpu: None,
            users: None,
            arena: None,
            registered: 0,
            grows: false,
            require_registered: false,
            tree_bytes: 0,
            stats: Rc::default(),
            logs: None,
            ring: None,
            on_listening: None,
            on_ready: None,
        };
        Builder { tree: End, options }
    }

    /// The arena in which the tree keeps the bytes that its replies show. It is registered with the kernel, which makes it resident; where that fails
    /// the server says so in a line of the log, and serves without.
    ///
    /// A tree that copies what it shows needs no arena, and then the server maps 256 KiB. One arena is for one server: its head slots are taken here.
    pub fn arena(mut self, arena: &Arena) -> Self {
        self.options.registered = arena.memory().len();
        self.options.arena = Some(Parts::of(arena));
        self
    }

    /// The log that the loop writes, and that `ctl` shows.
    pub fn logs(mut self, logs: &Logs) -> Self {
        self.options.logs = Some(logs.clone());
        self
    }

    /// Where the loop counts, for a tree that shows these figures or adds to them.
    pub fn stats(mut self, stats: Rc<Stats>) -> Self {
        self.options.stats = stats;
        self
    }

    /// The tree under all attach names that no other tree has. It is asked with the name ([`Filesystem::attach`]), and should answer ENOENT to those
    /// that it does not know.
    pub fn tree<F: Filesystem>(self, tree: F) -> Builder<Simple<F>> {
        self.service(tree.into())
    }

    /// The same for a tree that answers later.
    pub fn service<S: Service>(self, service: S) -> Builder<S> {
        Builder { tree: service, options: self.options }
    }
}

impl<S: Service> Builder<S> {
    /// A further tree, under exactly these attach names, which are then no names of the trees before it.
    pub fn tree_at<F: Filesystem>(self, names: AttachNames, tree: F) -> Builder<Join<Simple<F>, S>> {
        self.service_at(names, tree.into())
    }

    /// The same for a tree that answers later.
    pub fn service_at<T: Service>(self, names: AttachNames, service: T) -> Builder<Join<T, S>> {
        Builder { tree: Join::new((names, service), self.tree), options: self.options }
    }

    /// The tree `dev` under the attach name `dev`: `zero`, `null`, `full` and `random`.
    pub fn dev(mut self) -> Builder<Join<Simple<Dev>, S>> {
        let dev = Dev::new(self.options.parts().zeros, seed());
        self.tree_at(dev::ATTACH_NAMES, dev)
    }

    /// The tree `ctl` under the attach name `ctl`: counters, connections, percentiles, the log. For root and the user of this process, over unix sockets.
    pub fn ctl(mut self) -> Builder<Join<Simple<Ctl>, S>> {
        let kept = match &self.options.logs {
            Some(logs) => Arc::clone(&logs.kept),
            None => Arc::new(Mutex::new(Lines::new(limits::LOG_BYTES_MAX))),
        };
        let gauge = self.options.parts().gauge;
        let ctl = Ctl::new(Rc::clone(&self.options.stats), gauge, kept);
        self.tree_at(ctl::ATTACH_NAMES, ctl)
    }

    /// Listens here: `"tcp:HOST:PORT"`, `"unix:PATH"` or an [`Address`]. Port 0 takes a free one. May be called more than once.
    ///
    /// Who connects to a unix socket is the user that it is on this machine, and the socket has mode 0600. Over TCP everyone is
    /// nobody; [`listen_with_trust`](Self::listen_with_trust) says otherwise.
    pub fn listen<A>(self, address: A) -> Self
    where
        A: TryInto<Address>,
        A::Error: Display,
    {
        self.want(address, None)
    }

    /// The same, and says who the users of the connections are.
    pub fn listen_with_trust<A>(self, address: A, trust: Trust) -> Self
    where
        A: TryInto<Address>,
        A::Error: Display,
    {
        self.want(address, Some(trust))
    }

    fn want<A>(mut self, address: A, trust: Option<Trust>) -> Self
    where
        A: TryInto<Address>,
        A::Error: Display,
    {
        self.options.listeners.push(match address.try_into() {
            Ok(address) => Wanted::At(address, trust),
            Err(why) => Wanted::Wrong(why.to_string()),
        });
        self
    }

    /// Serves a socket that listens already: a [`TcpListener`](std::net::TcpListener) or a
    /// [`UnixListener`](std::os::unix::net::UnixListener), perhaps from a service manager. Its path is not removed at the end.
    pub fn listener(mut self, listener: impl Into<Bound>, trust: Trust) -> Self {
        self.options.listeners.push(Wanted::Here(listener.into(), trust));
        self
    }

    /// The largest message in bytes that a client may negotiate, within 4 KiB and 1 MiB.
    pub fn msize(mut self, bytes: u32) -> Self {
        self.options.msize = bytes.clamp(limits::MSIZE_MIN, limits::MSIZE_MAX);
        self
    }

    /// Connections at a time; more are accepted and closed. An error where the limit of open files does not allow as many.
    pub fn max_connections(mut self, connections: u64) -> Self {
        self.options.connections = Some(connections);
        self
    }

    /// Bounds that were computed before. Without them they are computed from the arena, the connections and the memory of the machine.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.options.bounds = Some(bounds);
        self
    }

    /// Looks for work this long before it sleeps. 0, the default, sleeps at once.
    pub fn busy_poll(mut self, time: Duration) -> Self {
        self.options.busy_poll = time;
        self
    }

    /// Keeps the thread on this cpu.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.options.cpu = Some(cpu);
        self
    }

    /// Names of users and groups instead of those of /etc/passwd and /etc/group.
    pub fn users(mut self, users: Users) -> Self {
        self.options.users = Some(users);
        self
    }

    /// Registers only the first `bytes` of the arena, which are populated. With `grows` more is populated and registered ahead of need.
    pub fn populated(mut self, bytes: usize, grows: bool) -> Self {
        (self.options.registered, self.options.grows) = (bytes, grows);
        self
    }

    /// Fails where the arena cannot be registered, instead of serving without.
    pub fn require_registered(mut self, required: bool) -> Self {
        self.options.require_registered = required;
        self
    }

    /// Bytes of memory that the trees may take beside the arena. They count in `memory_bound_bytes` of `ctl`, and nowhere else.
    pub fn tree_bytes(mut self, bytes: u64) -> Self {
        self.options.tree_bytes = bytes;
        self
    }

    /// A ring that was made before by the thread that calls [`bind`](Self::bind), for a program that needs its clock or its randomness for the tree.
    pub fn ring(mut self, ring: Kernel) -> Self {
        self.options.ring = Some(ring);
        self
    }

    /// Calls this for each listener as soon as it listens.
    pub fn on_listening(mut self, listening: impl FnMut(&Listening) + 'static) -> Self {
        self.options.on_listening = Some(Box::new(listening));
        self
    }

    /// Calls this once when all listeners listen, in the order in which they were given, before the first connection is served.
    pub fn on_ready(mut self, ready: impl FnOnce(&[Listening]) + 'static) -> Self {
        self.options.on_ready = Some(Box::new(ready));
        self
    }

    /// Makes the ring, registers the arena, and listens. Connections wait until the server [runs](Server::run), which is to be done by the same thread.
    ///
    /// From here on this thread reads SIGTERM and SIGINT from a descriptor, and those that would end the process without a meaning here. They stay blocked in it, and in threads
    /// that it starts later.
    pub fn bind(self) -> Result<Server<S>, Error> {
        let Builder { tree, mut options } = self;
        if options.listeners.is_empty() {
            return Err(Error::NoListener);
        }
        options.cpu.map_or(Ok(()), pin)?;
        let parts = options.parts();
        let memory = parts.memory;
        let bounds = match options.bounds {
            Some(bounds) => bounds,
            None => bounds(options.connections, options.registered.max(memory.len()))?,
        };
        let connections = bounds.connections as usize;
        let ring = options.ring.map_or_else(|| Kernel::new(connections), Ok).map_err(Error::Ring)?;
        options.stats.counters.memory_bound_bytes.add(bounds.total() + options.tree_bytes);
        let signals = Signals::new().map_err(Error::Signals)?;
        let Parts { heads, gauge, .. } = options.arena.take().expect("there are some");
        let loop_options = uring::Options {
            msize_max: options.msize,
            peers_max: connections,
            owner: nix::unistd::geteuid().as_raw(),
            users: Arc::new(options.users.unwrap_or_else(|| users_of_this_machine(None))),
            budget: Arc::new(Budget::new(limits::FID_BYTES_MAX, limits::REPLY_BYTES_MAX)),
            busy_poll_ns: options.busy_poll.as_nanos() as u64,
            signals: Some(signals.raw()),
            stats: options.stats,
            grow: options.grows.then(|| Grow::from(options.registered)),
            log: options
                .logs
                .as_ref()
                .map(|logs| LogTo { log: Arc::clone(&logs.log), fd: std::io::stderr().as_raw_fd() }),
        };
        let mut server = uring::Server::new(ring, tree, (memory, heads, gauge), loop_options);
        if options.registered > 0 {
            register(&mut server, options.registered, options.require_registered)?;
        }
        let (mut listening, mut removals) = (Vec::new(), Vec::new());
        for wanted in options.listeners {
            let (bound, at) = wanted.listen()?;
            let (fd, removal) = bound.into_raw();
            removals.push(removal);
            let name = at.address.to_string().into();
            server.listen(Listener { fd, name, trust: at.trust, tcp: at.local.is_some() });
            if let Some(see) = &mut options.on_listening {
                see(&at);
            }
            listening.push(at);
        }
        if let Some(ready) = options.on_ready {
            ready(&listening);
        }
        Ok(Server::new(server, listening, removals, signals, options.logs))
    }

    /// Serves until SIGTERM or SIGINT, or a [`Handle`](super::Handle), ends it: `Ok` then. Replies have 5 s to leave; a second signal closes all connections at once.
    ///
    /// The main thread is to do this, before it starts others: signals go to threads that do not block them.
    pub fn run(self) -> Result<(), Error> {
        self.bind()?.run()
    }
}

/// Registers the arena, or says in one line why it is served without.
fn register<S: Service>(server: &mut uring::Server<Kernel, S>, bytes: usize, required: bool) -> Result<(), Error> {
    let features = server.ring().features();
    let Err(error) = server.register(bytes) else { return Ok(()) };
    let why = if !features.vectored_fixed {
        "this kernel has no WRITEV_FIXED (Linux 6.15 has); boot a newer one".to_owned()
    } else {
        format!("io_uring_register(2): {error}; {}", uring::memlock_advice(bytes as u64))
    };
    if required {
        return Err(Error::Register(why));
    }
    log::warn!("serving without registered memory: {why}");
    Ok(())
}

/// What a server of this arena may take.
fn bounds(wanted: Option<u64>, arena_bytes: usize) -> Result<Bounds, Error> {
    let (connections, warning) = connections(wanted)?;
    warning.inspect(|warning| log::warn!("{warning}"));
    let (memory, available) = (arena_bytes as u64, uring::available_memory());
    Bounds::fit(memory, Some(0), connections, available).ok_or_else(|| {
        let connections = connections.unwrap_or(limits::CONNECTIONS);
        Error::Memory { wanted: Bounds { memory, inodes: 0, connections }.total(), available }
    })
}

/// How many connections the limit of open files allows, if that is less than is wanted, or usual; and then a line that says so. An error where more are wanted than
/// it allows. Raises the soft limit as far as is needed.
pub fn connections(wanted: Option<u64>) -> Result<(Option<u64>, Option<String>), Error> {
    let most = wanted.unwrap_or(limits::CONNECTIONS);
    let files = uring::open_files(most + limits::OTHER_FILES).map_err(|error| {
        let why = format!("RLIMIT_NOFILE: {error}");
        Error::Connections { wanted: most, why }
    })?;
    let fit = files.saturating_sub(limits::OTHER_FILES);
    if fit >= most {
        return Ok((wanted, None));
    }
    let limit = most + limits::OTHER_FILES;
    let why = format!(
        "RLIMIT_NOFILE is at most {files}; shell: `ulimit -n {limit}` as root first; systemd: `LimitNOFILE={limit}`; \
         container: `--ulimit nofile={limit}`"
    );
    if wanted.is_some() || fit == 0 {
        return Err(Error::Connections { wanted: most, why });
    }
    Ok((Some(fit), Some(format!("serving at most {fit} connections: {why}"))))
}

/// Names of users and groups of this machine, whose tables may be missing. `groups` stands for the text of /etc/group.
pub fn users_of_this_machine(groups: Option<&str>) -> Users {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let groups = groups.map_or_else(|| read("/etc/group"), str::to_owned);
    Users::parse(&read("/etc/passwd"), &groups)
}

/// Keeps the calling thread on one cpu from here on.
pub fn pin(cpu: usize) -> Result<(), Error> {
    uring::pin_to_cpu(cpu).map_err(|error| Error::Cpu { cpu, error })
}

/// Random bytes of the kernel.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    seed.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&uring::entropy().to_le_bytes()));
    seed
}
