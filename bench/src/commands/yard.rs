//! Where the servers of `runtimes` are started, each load is made, and everything is measured that one can know of them.
//!
//! Must not know: which loads are asked for, and what becomes of results.

use super::compare::{Entry, RoundFlags, order};
use super::demo::Of;
use super::floor::null;
use super::load::{LoadFlags, Site, SpeechFlags};
use super::run::progress;
use super::sweep::SweepFlags;
use super::{Blame, Failure};
use crate::environment::{environment, of_process};
use crate::generator::{Crowd, Plan, size_of};
use crate::measure::{Prepared, pin, raise_descriptors};
use crate::null::Kind;
use crate::record::median;
use crate::result::{Borne, Comparison, Contender, Goal, Held, Measured, Profile, Round, Statistic};
use crate::runtimes::{Built, Company, Cpus, Roster, Shape, Transport};
use crate::syscalls::Traced;
use anyhow::{Context, ensure};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::Cell;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// Rounds of a load, and of each server in one: in full, and where time is short. Six rounds are the fewest with an interval.
const ROUNDS: [u32; 2] = [15, 7];
const DURATIONS: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(100)];
/// Of servers that are started for each round.
const ROUNDS_APART: u32 = 6;
/// Before anything counts.
const WARMUP: Duration = Duration::from_millis(40);
/// Of what a server reaches in a closed loop.
const SHARES: [f64; 4] = [0.1, 0.5, 0.8, 0.95];
/// Of the slowest server's, for all.
const COMMON_SHARE: f64 = 0.5;
/// Of open loops: rounds, and each one's time.
const RATE_ROUNDS: [u32; 2] = [3, 1];
const RATE_DURATION: Duration = Duration::from_millis(500);
/// The load of open loops, over connections enough that none has to wait for a slot.
const RATED_LOAD: &str = "--connections 64 --depth 4 --op read --size 4KiB";
/// What each server is asked to keep to, and by how many rates the highest is looked for: of a grid, and between two of it; and for how long each, where time is not short long enough that a pause of a
/// few milliseconds is less than a hundredth of it.
const OBJECTIVE: &str = "p99=1ms";
const OBJECTIVE_RATES: [[&str; 3]; 2] = [["6", "4", "500ms"], ["3", "1", "100ms"]];
/// At which system calls are counted, of operations of the same load: low enough that servers that are traced keep up.
const COUNTED_RATE: f64 = 2000.0;
const COUNTED: Duration = Duration::from_secs(1);
/// Until threads that were interrupted are back where they were.
const SETTLE: Duration = Duration::from_millis(20);
/// The floor on io_uring keeps larger messages in a list.
const RING_FLOOR_BYTES_MAX: u64 = 16 << 10;
/// For idle servers.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_LOAD: &str = "--connections 64 --op getattr";
/// Connections that are idle leave so many descriptors for all else.
const DESCRIPTORS_SPARE: u64 = 256;
/// That a server has beside those of a load and a crowd: to make files, and to be asked what it spent.
const CONNECTIONS_SPARE: u64 = 16;
/// That a server takes without being asked to.
const CONNECTIONS_USUAL: u64 = 10_000;
/// For what ring9 does with --busy-poll: longer than a reply and the next request take.
const SPINS: &str = " --busy-poll 1000";
/// Until a client that reads in large pieces does.
const BULK_WARMUP: Duration = Duration::from_millis(200);

/// A load from words.
#[derive(Debug, Parser)]
struct Load {
    #[command(flatten)]
    load: LoadFlags,
}

fn plan(words: &str, duration: Duration) -> anyhow::Result<Plan> {
    let words = words.split_whitespace();
    let load = Load::try_parse_from(["load"].into_iter().chain(words))?.load;
    Ok(Plan { warmup: WARMUP, ..load.plan(duration)? })
}

/// The load at a rate.
fn open_loop(rate: f64, duration: Duration) -> anyhow::Result<Plan> {
    plan(&format!("{RATED_LOAD} --rate {rate} --arrivals poisson"), duration)
}

/// Who takes part in a load.
enum Contestant<'a> {
    /// With what its command line ends with.
    Server(&'a Built, String),
    Floor(Kind),
    RingFloor,
}

impl Contestant<'_> {
    fn name(&self) -> String {
        match self {
            Contestant::Server(server, end) if end == SPINS => format!("{}-spinning", server.name),
            Contestant::Server(server, _) => server.name.clone(),
            Contestant::Floor(kind) => format!("{}-floor", kind.name()),
            Contestant::RingFloor => "ring-floor".into(),
        }
    }
}

/// A load that is to be made.
struct Trial<'a> {
    shape: &'a Shape,
    plan: Plan,
    goals: Vec<Goal>,
    /// Of the generator.
    cpu: usize,
    rounds: u32,
}

/// Where servers are started and measured.
pub(super) struct Yard<'a> {
    roster: &'a Roster,
    server_cpu: usize,
    /// Of this program, but for the loads that have both on one.
    cpu: usize,
    quick: bool,
    /// That this process may have, and each that it starts.
    descriptors: u64,
    /// For sockets, of which there were so many.
    scratch: TempDir,
    paths: Cell<u32>,
}

/// A client that reads in large pieces, until it goes.
struct Bulk(Child);

impl Drop for Bulk {
    fn drop(&mut self) {
        // It was started here, so the pid is its own until it is waited for.
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

impl Yard<'_> {
    pub(super) fn new(roster: &Roster, server_cpu: usize, cpu: usize, quick: bool) -> anyhow::Result<Yard<'_>> {
        let (descriptors, scratch) = (raise_descriptors()?, tempfile::tempdir()?);
        Ok(Yard { roster, server_cpu, cpu, quick, descriptors, scratch, paths: Cell::new(0) })
    }

    /// As [quick or not] says.
    fn of<T: Copy>(&self, full_and_quick: [T; 2]) -> T {
        full_and_quick[usize::from(self.quick)]
    }

    fn address(&self, transport: Transport, name: &str) -> String {
        match transport {
            Transport::Tcp => "tcp:127.0.0.1:0".into(),
            Transport::Unix => {
                // A path that was used stays, and may still be somebody's.
                let number = self.paths.replace(self.paths.get() + 1);
                format!("unix:{}", self.scratch.path().join(format!("{name}.{number}")).display())
            }
        }
    }

    fn start(&self, who: &Contestant<'_>, transport: Transport) -> Result<Entry, Failure> {
        let name = who.name();
        let address = self.address(transport, &name);
        let place = match who {
            Contestant::Server(server, end) => server.command(&address, self.server_cpu) + end,
            Contestant::RingFloor => format!("{} {address} {}", self.roster.ring_floor, self.server_cpu),
            Contestant::Floor(kind) => return null(*kind, &address, Some(self.server_cpu)).target(),
        };
        let site = Site::start(&place).with_context(|| name.clone()).target()?;
        Ok(Entry { name, place, site })
    }

    /// Without anything that the load did not ask for.
    fn start_server(&self, server: &Built) -> Result<Entry, Failure> {
        self.start(&Contestant::Server(server, String::new()), Transport::Tcp)
    }

    /// What is known without load.
    pub(super) fn profile(&self, server: &Built) -> Result<Profile, Failure> {
        let mut profile = self.roster.profile(server).usage()?;
        let Entry { site, .. } = self.start_server(server)?;
        let plan = plan(IDLE_LOAD, IDLE).usage()?;
        let target = speech()?.target(&site.address, &plan.mix).usage()?;
        let prepared = Prepared::new(target, &plan, site.pid, Some(self.cpu))?;
        let connected = prepared.connect(&plan)?;
        profile.idle_cpu_us =
            prepared.cpu_while(|| sleep(IDLE)).target()?.map(|time| time.as_secs_f64() * 1e6 / IDLE.as_secs_f64());
        profile.threads = site.pid.and_then(|pid| of_process(pid).get("threads")?.parse().ok());
        drop(connected);
        prepared.clear()?;
        profile.syscalls_per_operation = self.syscalls(server)?;
        Ok(profile)
    }

    /// System calls for an operation, if they can be counted, of a server that is used for nothing else: while it is traced it is slow.
    fn syscalls(&self, server: &Built) -> Result<Option<f64>, Failure> {
        pin(Some(self.cpu)).usage()?;
        let Entry { site, .. } = self.start_server(server)?;
        let Some(pid) = site.pid else { return Ok(None) };
        let plan = open_loop(COUNTED_RATE, COUNTED).usage()?;
        let target = speech()?.target(&site.address, &plan.mix).usage()?;
        // Who asked it what it spent would make it spend more.
        let prepared = Prepared::new(target, &plan, None, Some(self.cpu))?;
        let mut connected = prepared.connect(&plan)?;
        let traced = match Traced::start(pid, Some(self.server_cpu)) {
            Ok(traced) => traced,
            Err(error) => {
                eprintln!("{}: its system calls are not counted: {error:#}", server.name);
                return Ok(None);
            }
        };
        sleep(SETTLE);
        let before = traced.calls();
        let done = connected.run(|_| {})?;
        let calls = traced.calls() - before;
        drop(traced);
        drop(connected);
        prepared.clear()?;
        Ok(Some(calls as f64 / done.outcome.all.max(1) as f64))
    }

    pub(super) fn measure(&self, shape: &Shape) -> Result<Measured, Failure> {
        let words = format!(
            "--connections {} --depth {} --op {} --size {} {}",
            shape.connections, shape.depth, shape.op, shape.size, shape.pace
        );
        let plan = plan(&words, self.of(DURATIONS)).usage()?;
        let goals = shape.goals().map(str::parse).collect::<anyhow::Result<_>>().usage()?;
        let cpu = match shape.cpus {
            Cpus::One => self.server_cpu,
            Cpus::Each => self.cpu,
        };
        let rounds = self.of([ROUNDS[0] * shape.more, ROUNDS[1]]);
        let trial = Trial { shape, plan, goals, cpu, rounds };
        let mut idle_connections = 0;
        let connections = shape.connections as u64 + CONNECTIONS_SPARE;
        let end = |server: &Built| {
            if connections < CONNECTIONS_USUAL { String::new() } else { server.for_connections(connections) }
        };
        let all = self.roster.servers.iter().map(|server| Contestant::Server(server, end(server)));
        let comparison = match shape.company {
            Company::Together => {
                let is_small = size_of(shape.size).usage()? <= RING_FLOOR_BYTES_MAX;
                let ring_floor = is_small.then_some(Contestant::RingFloor);
                self.together(all.chain(Kind::SLEEPING.map(Contestant::Floor)).chain(ring_floor), &trial)?
            }
            Company::Apart | Company::Bulk => self.apart(all.collect(), &Trial { rounds: ROUNDS_APART, ..trial })?,
            Company::Spinning => self.apart(self.spinning(), &trial)?,
            Company::Idle(count) => {
                idle_connections = count.min(self.descriptors_left(&trial));
                self.beside_idle(idle_connections, &trial)?
            }
        };
        Ok(Measured {
            id: shape.id.into(),
            one_cpu: shape.cpus == Cpus::One,
            bulk: shape.company == Company::Bulk,
            idle_connections,
            comparison,
        })
    }

    /// All at the same time.
    fn together<'a>(
        &self,
        who: impl Iterator<Item = Contestant<'a>>,
        trial: &Trial<'_>,
    ) -> Result<Comparison, Failure> {
        let entries = who.map(|one| self.start(&one, trial.shape.transport)).collect::<Result<Vec<_>, _>>()?;
        RoundFlags::new(trial.rounds, trial.cpu).compare(&entries, &speech()?, &trial.plan, &trial.goals)
    }

    /// ring9 that looks for work before it sleeps, what it is held against, and the floors.
    fn spinning(&self) -> Vec<Contestant<'_>> {
        let servers = self.roster.servers.iter().zip([SPINS, ""]);
        let servers = servers.map(|(server, end)| Contestant::Server(server, end.into()));
        servers.chain([Kind::Spinning, Kind::Epoll, Kind::Blocking].map(Contestant::Floor)).collect()
    }

    /// For connections that are idle, in this process, which has the load's to both twins beside them.
    fn descriptors_left(&self, trial: &Trial<'_>) -> u64 {
        self.descriptors.saturating_sub(2 * trial.plan.connections as u64 + DESCRIPTORS_SPARE)
    }

    /// ring9 and the epoll baseline: each with so many connections that are idle, beside a twin that has none. One after the other, as all of them have too many descriptors for this process.
    fn beside_idle(&self, count: u64, trial: &Trial<'_>) -> Result<Comparison, Failure> {
        let mut all: Option<Comparison> = None;
        for server in self.roster.servers.iter().take(2) {
            let end = server.for_connections(count + trial.plan.connections as u64 + CONNECTIONS_SPARE);
            let who = Contestant::Server(server, end);
            let crowded = self.start(&who, trial.shape.transport)?;
            let alone = Entry { name: format!("{}-alone", server.name), ..self.start(&who, trial.shape.transport)? };
            let entries = [crowded, alone];
            let [Entry { site, .. }, _] = &entries;
            let target = speech()?.target(&site.address, &trial.plan.mix).usage()?;
            let mut crowd = Crowd::connect(&target, count).target()?;
            let rounds = RoundFlags::new(trial.rounds, trial.cpu);
            let one = rounds.compare(&entries, &speech()?, &trial.plan, &trial.goals)?;
            (|| {
                ensure!(crowd.stands(), "{}: it has hung up connections that were idle", server.name);
                Ok(())
            })()
            .target()?;
            match &mut all {
                Some(all) => all.append(one),
                None => all = Some(one),
            }
        }
        all.context("no servers").usage()
    }

    /// Each round of each with a server that was started for it.
    fn apart(&self, who: Vec<Contestant<'_>>, trial: &Trial<'_>) -> Result<Comparison, Failure> {
        let Trial { shape, plan, goals, cpu, rounds } = trial;
        pin(Some(*cpu)).usage()?;
        let began = SystemTime::now();
        let mut random = SmallRng::seed_from_u64(plan.seed);
        let mut contenders: Vec<Contender> =
            who.iter().map(|one| Contender::new(one.name(), String::new(), Default::default())).collect();
        let bar = progress((plan.warmup + plan.duration) * *rounds * who.len() as u32);
        for round in 0..*rounds {
            for number in order(who.len(), round, &mut random) {
                let Entry { site, place, .. } = self.start(&who[number], shape.transport)?;
                let target = speech()?.target(&site.address, &plan.mix).usage()?;
                let prepared = Prepared::new(target, plan, site.pid, Some(*cpu))?;
                {
                    let mut connected = prepared.connect(plan)?;
                    let bulk = (shape.company == Company::Bulk).then(|| bulk(&site, *cpu));
                    let _bulk = bulk.transpose().usage()?;
                    contenders[number].add(connected.run(|_| {})?.round(plan));
                }
                prepared.clear()?;
                let facts = site.pid.map(of_process).unwrap_or_default();
                (contenders[number].place, contenders[number].facts) = (place, facts);
                bar.inc((plan.warmup + plan.duration).as_millis() as u64);
            }
        }
        bar.finish_and_clear();
        Comparison::new(began, plan, contenders, goals, environment(Some(*cpu))).usage()
    }

    /// Open loops at shares of what each server reached, and at a rate that all of them bear.
    pub(super) fn rates(&self, reached: &Measured) -> Result<Vec<Held>, Failure> {
        pin(Some(self.cpu)).usage()?;
        let most = |server: &Built| reached.median(&server.name, Statistic::Throughput).unwrap_or(0.0);
        let slowest = self.roster.servers.iter().map(most).fold(f64::MAX, f64::min);
        let mut loads = Vec::new();
        for server in &self.roster.servers {
            loads.extend(SHARES.iter().map(|share| (server, Some(*share), share * most(server))));
            loads.push((server, None, COMMON_SHARE * slowest));
        }
        let mut random = SmallRng::seed_from_u64(1);
        let mut rounds: Vec<Vec<(Round, f64)>> = vec![Vec::new(); loads.len()];
        for round in 0..self.of(RATE_ROUNDS) {
            for number in order(loads.len(), round, &mut random) {
                let (server, _, rate) = loads[number];
                let plan = open_loop(rate, RATE_DURATION).usage()?;
                let Entry { site, .. } = self.start_server(server)?;
                let target = speech()?.target(&site.address, &plan.mix).usage()?;
                let prepared = Prepared::new(target, &plan, site.pid, Some(self.cpu))?;
                let done = prepared.connect(&plan)?.run(|_| {})?;
                let achieved = done.outcome.achieved as f64 / done.outcome.offered.max(1) as f64;
                rounds[number].push((done.round(&plan).0, achieved));
                prepared.clear()?;
            }
        }
        let held = loads.iter().zip(rounds).map(|((server, share, rate), rounds)| {
            let middle = |of: &dyn Fn(&(Round, f64)) -> Option<f64>| {
                median(&rounds.iter().filter_map(of).collect::<Vec<_>>()).map(|median| median.value)
            };
            Held {
                server: server.name.clone(),
                share: *share,
                rate: *rate,
                achieved: middle(&|(_, achieved)| Some(*achieved)).unwrap_or(0.0),
                p50_ns: middle(&|(round, _)| round.p50_ns.map(|ns| ns as f64)),
                p99_ns: middle(&|(round, _)| round.p99_ns.map(|ns| ns as f64)),
                cpu_us: middle(&|(round, _)| round.cpu_us),
            }
        });
        Ok(held.collect())
    }

    /// The highest rate of the same load with which each server keeps to the objective.
    pub(super) fn objectives(&self) -> Result<Vec<Borne>, Failure> {
        let [points, steps, duration] = self.of(OBJECTIVE_RATES);
        let cpu = self.cpu.to_string();
        let mut all = Vec::new();
        for server in &self.roster.servers {
            let command = server.command(&self.address(Transport::Tcp, &server.name), self.server_cpu);
            let words = ["sweep", "--server", &command, "--cpu", &cpu, "--arrivals", "poisson", "--slo", OBJECTIVE];
            let extent = ["--points", points, "--steps", steps, "--duration", duration];
            let words = words.into_iter().chain(extent).chain(RATED_LOAD.split_whitespace());
            let sweep = Of::<SweepFlags>::try_parse_from(words).usage()?.flags.sweep(false)?;
            all.push(Borne { server: server.name.clone(), objective: sweep.objective, edge: sweep.slo });
        }
        Ok(all)
    }
}

/// As every server here is spoken to.
fn speech() -> Result<SpeechFlags, Failure> {
    Ok(Of::<SpeechFlags>::try_parse_from(["speech"]).usage()?.flags)
}

/// Starts this program again as a client that reads in large pieces.
fn bulk(site: &Site, cpu: usize) -> anyhow::Result<Bulk> {
    let program = std::env::current_exe().context("this program")?;
    let address = site.address.to_string();
    let child = Command::new(program)
        .args(["run", "--target", &address, "--op", "read", "--size", "1000000", "--depth", "4", "--duration", "60s"])
        .args(["--cpu", &cpu.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    sleep(BULK_WARMUP);
    Ok(Bulk(child))
}
