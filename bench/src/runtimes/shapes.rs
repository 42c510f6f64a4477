//! The loads: each server in each of them, in interleaved rounds.

use super::baselines;
use clap::ValueEnum;

/// How servers are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

impl Transport {
    /// As names of loads begin.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Unix => "unix",
        }
    }
}

/// Where server and generator run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// Both on one: the length of the code decides.
    One,
    /// On one each: what many connections are served with.
    Each,
}

/// Who takes part, and what there is beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// All servers and the floors that sleep, all the time.
    Together,
    /// All servers; each is started for each round and is alone in it, as so many connections are too many for all of them at a time; and rounds are fewer.
    Apart,
    /// All servers, each started for each round, while another client reads in large pieces.
    Bulk,
    /// ring9, and the runtimes in the tier that their users write first.
    Idiomatic,
    /// ring9, which looks for work before it sleeps, the epoll baseline and all floors; each is started for each round, as one of them leaves its cpu to nobody.
    Spinning,
    /// ring9 and the epoll baseline with so many connections that are idle, each beside another process of the same server that has none.
    Idle(u64),
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// In files and tables.
    pub(crate) id: &'static str,
    pub(crate) transport: Transport,
    pub(crate) cpus: Cpus,
    pub(crate) connections: usize,
    pub(crate) depth: u16,
    /// As for --op and --size.
    pub(crate) op: &'static str,
    pub(crate) size: &'static str,
    /// How operations follow each other, as flags; empty for a closed loop.
    pub(crate) pace: &'static str,
    /// Also where time is short.
    pub(crate) quick: bool,
    /// Times as many rounds as others, where time is not short: of what single pauses of the machine would leave undecided.
    pub(crate) more: u32,
    pub(crate) company: Company,
    /// What ring9 ought to reach; where a server is beside another process of itself, what each of them ought to.
    pub(crate) goals: &'static [&'static str],
    /// The load is one that async runtimes are made for: the goals of `bench/baselines/roster.json` are added.
    pub(crate) runtimes: bool,
}

impl Shape {
    /// All goals.
    pub(crate) fn goals(&self) -> impl Iterator<Item = &'static str> {
        self.goals.iter().copied().chain(self.runtimes.then(baselines::goals).into_iter().flatten())
    }
}

const BASE: Shape = Shape {
    id: "",
    transport: Transport::Tcp,
    cpus: Cpus::Each,
    connections: 1,
    depth: 1,
    op: "read",
    size: "4KiB",
    pace: "",
    quick: false,
    more: 1,
    company: Company::Together,
    goals: &[],
    runtimes: false,
};

/// The baseline that ring9 is held against is as good as a server that only answers, or nearly.
const JUDGE: &str = "throughput >= 0.9 of epoll against epoll-floor";
const BULK: &[&str] = &["cpu <= 1.05 against epoll"];

/// All of them, the most telling ones first.
pub(crate) const SHAPES: &[Shape] = &[
    Shape {
        id: "tcp-64-read-4k",
        connections: 64,
        quick: true,
        goals: &[
            "throughput >= 1.2 against epoll",
            "cpu <= 0.8 against epoll",
            "throughput >= 1.15 against epoll-floor",
            "cpu <= 0.85 against epoll-floor",
            JUDGE,
        ],
        runtimes: true,
        ..BASE
    },
    Shape {
        id: "unix-64-read-4k",
        transport: Transport::Unix,
        connections: 64,
        quick: true,
        goals: &["throughput >= 1.15 against epoll", "cpu <= 0.9 against epoll", JUDGE],
        ..BASE
    },
    Shape {
        id: "tcp-256-read-4k",
        connections: 256,
        goals: &["cpu <= 0.9 against epoll", "cpu <= 0.8 against epoll"],
        runtimes: true,
        ..BASE
    },
    Shape {
        id: "tcp-64x4-read-4k",
        connections: 64,
        depth: 4,
        goals: &["throughput >= 0.85 against epoll-floor", JUDGE],
        ..BASE
    },
    Shape { id: "tcp-1-read-4k", quick: true, more: 2, goals: &["p50 <= 1.05 against epoll"], ..BASE },
    Shape { id: "unix-1-read-4k", transport: Transport::Unix, more: 2, goals: &["p50 <= 1.05 against epoll"], ..BASE },
    Shape { id: "tcp-1x16-read-4k", depth: 16, quick: true, goals: &["throughput >= 1 against epoll"], ..BASE },
    Shape { id: "tcp-16-read-128", connections: 16, size: "128", ..BASE },
    Shape { id: "tcp-16-write-128", connections: 16, op: "write", size: "128", ..BASE },
    Shape { id: "tcp-16-write-4k", connections: 16, op: "write", ..BASE },
    Shape { id: "tcp-4x4-read-64k", connections: 4, depth: 4, size: "64KiB", ..BASE },
    Shape { id: "tcp-4x4-write-64k", connections: 4, depth: 4, op: "write", size: "64KiB", ..BASE },
    Shape { id: "tcp-1x4-read-1m", depth: 4, size: "1000000", quick: true, goals: BULK, ..BASE },
    Shape { id: "tcp-1x4-write-1m", depth: 4, op: "write", size: "1000000", quick: true, goals: BULK, ..BASE },
    Shape { id: "unix-1x4-read-1m", transport: Transport::Unix, depth: 4, size: "1000000", goals: BULK, ..BASE },
    Shape {
        id: "unix-1x4-write-1m",
        transport: Transport::Unix,
        depth: 4,
        op: "write",
        size: "1000000",
        goals: BULK,
        ..BASE
    },
    Shape { id: "one-cpu-1-read-4k", more: 2, goals: &["p50 <= 1.05 against epoll-floor"], ..ALONE },
    Shape { id: "one-cpu-1-write-4k", op: "write", more: 2, goals: &["p50 <= 1.05 against epoll-floor"], ..ALONE },
    Shape { id: "one-cpu-1-getattr", op: "getattr", goals: &["p50 <= 1.05 against epoll-floor"], ..ALONE },
    Shape { id: "one-cpu-1-create", op: "create", goals: &["p50 <= 1.15 against epoll-floor"], ..ALONE },
    Shape {
        id: "one-cpu-1x16-read-4k",
        depth: 16,
        quick: true,
        goals: &["throughput >= 0.7 against epoll-floor", "cpu <= 2 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x16-write-4k",
        depth: 16,
        op: "write",
        goals: &["throughput >= 0.65 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x16-getattr",
        depth: 16,
        op: "getattr",
        goals: &["throughput >= 0.6 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x16-read-32k",
        depth: 16,
        size: "32KiB",
        goals: &["throughput >= 0.9 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x16-write-32k",
        depth: 16,
        op: "write",
        size: "32KiB",
        goals: &["throughput >= 0.8 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x4-read-1m",
        depth: 4,
        size: "1000000",
        goals: &["throughput >= 0.95 against epoll-floor"],
        ..ALONE
    },
    Shape {
        id: "one-cpu-1x4-write-1m",
        depth: 4,
        op: "write",
        size: "1000000",
        goals: &["throughput >= 0.9 against epoll-floor"],
        ..ALONE
    },
    Shape { id: "tcp-64-read-4k-idiomatic", connections: 64, company: Company::Idiomatic, ..BASE },
    Shape { id: "tcp-1x4-read-1m-idiomatic", depth: 4, size: "1000000", company: Company::Idiomatic, ..BASE },
    Shape { id: "tcp-16-read-4k-beside-bulk", connections: 16, company: Company::Bulk, ..BASE },
    Shape { id: "tcp-1000-read-4k", connections: 1000, company: Company::Apart, ..BASE },
    Shape { id: "tcp-10000-read-4k", connections: 10_000, company: Company::Apart, ..BASE },
    Shape {
        id: "tcp-1-read-4k-spinning",
        more: 2,
        company: Company::Spinning,
        goals: &["p50 <= 1.1 against spinning-floor"],
        ..BASE
    },
    Shape {
        id: "tcp-64-read-4k-beside-10000-idle",
        connections: 64,
        pace: "--rate 30000 --arrivals poisson",
        more: 3,
        company: Company::Idle(10_000),
        goals: &["p99 <= 1.3"],
        ..BASE
    },
];

/// One connection, with server and generator on one cpu.
const ALONE: Shape = Shape { transport: Transport::Unix, cpus: Cpus::One, ..BASE };
