//! ring9 beside the same server on other I/O layers: one command, one page.

use super::compare::{Entry, RoundFlags, order};
use super::demo::Of;
use super::floor::null;
use super::load::{LoadFlags, Site, SpeechFlags};
use super::run::progress;
use super::{Blame, Ending, Failure};
use crate::environment::{environment, of_process};
use crate::generator::Plan;
use crate::measure::{Prepared, pin};
use crate::null::Kind;
use crate::record::median;
use crate::report::{self, Given};
use crate::result::{self, Comparison, Contender, Goal, Held, Measured, Profile, Round, Runtimes, Statistic};
use crate::runtimes::{Built, Cpus, Roster, SHAPES, Shape, Transport};
use crate::syscalls::Traced;
use anyhow::{Context, ensure};
use clap::{Args, Parser};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

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
/// The load whose throughput the shares are of; over connections enough that none has to wait for a slot.
const RATED: &str = "tcp-64-read-4k";
const RATED_LOAD: &str = "--connections 64 --depth 4 --op read --size 4KiB";
/// At which system calls are counted, of operations of the same load: low enough that servers that are traced keep up.
const COUNTED_RATE: f64 = 2000.0;
const COUNTED: Duration = Duration::from_secs(1);
/// Until threads that were interrupted are back where they were.
const SETTLE: Duration = Duration::from_millis(20);
/// For idle servers.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_LOAD: &str = "--connections 64 --op getattr";
/// Until a client that reads in large pieces does.
const BULK_WARMUP: Duration = Duration::from_millis(200);

/// ring9 beside the same server on eight other I/O layers: builds and starts them, and measures them in interleaved rounds
#[derive(Debug, Args)]
pub(crate) struct RuntimesFlags {
    /// A part of the loads, in fewer and shorter rounds: under three minutes after the build
    #[arg(long)]
    quick: bool,
    /// Where result.json and report.html go
    #[arg(long, default_value = "ring9-runtimes", value_name = "FOLDER")]
    out: PathBuf,
    /// Only these loads, by the names that the report gives them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep servers on this cpu
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    server_cpu: usize,
    /// Keep this program on this cpu, but for the loads that have both on one
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    cpu: usize,
    /// Where ring9's sources are; by default this folder, or one that this program was built in
    #[arg(long, value_name = "FOLDER")]
    repository: Option<PathBuf>,
}

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

impl RuntimesFlags {
    pub(crate) fn run(&self) -> Result<Ending, Failure> {
        let shapes: Vec<&Shape> = SHAPES
            .iter()
            .filter(|shape| match self.only.is_empty() {
                true => shape.quick || !self.quick,
                false => self.only.iter().any(|id| id == shape.id),
            })
            .collect();
        for id in &self.only {
            let known = || SHAPES.iter().map(|shape| shape.id).collect::<Vec<_>>().join(", ");
            (|| {
                ensure!(shapes.iter().any(|shape| shape.id == id), "--only {id}: there are {}", known());
                Ok(())
            })()
            .usage()?;
        }
        let cpus = std::thread::available_parallelism().usage()?.get();
        (|| {
            ensure!(self.cpu < cpus && self.server_cpu < cpus, "this machine has {cpus} cpus: --cpu, --server-cpu");
            Ok(())
        })()
        .usage()?;
        let began = SystemTime::now();
        let roster = Roster::build(&self.repository().usage()?).usage()?;
        let scratch = tempfile::tempdir().usage()?;
        let yard = Yard { flags: self, roster: &roster, scratch: scratch.path(), paths: Cell::new(0) };
        let mut servers = Vec::new();
        for server in &roster.servers {
            servers.push(yard.profile(server)?);
        }
        let (mut measured, mut rates, mut failure) = (Vec::new(), Vec::new(), None);
        for (number, shape) in shapes.iter().enumerate() {
            eprintln!("{} of {}: {}", number + 1, shapes.len(), shape.id);
            match yard.measure(shape) {
                Ok(one) => measured.push(one),
                Err(error) => {
                    // What was measured before is not lost.
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(reached) = measured.iter().find(|measured| measured.id == RATED)
            && failure.is_none()
        {
            eprintln!("open loops");
            rates = yard.rates(reached)?;
        }
        let runtimes = Runtimes {
            version: result::VERSION,
            began: humantime::format_rfc3339_millis(began).to_string(),
            quick: self.quick,
            servers,
            shapes: measured,
            rates,
            environment: environment(Some(self.cpu)),
        };
        result::print_runtimes(&runtimes, &mut std::io::stdout().lock()).usage()?;
        result::put_json(&self.out, "result.json", &runtimes).usage()?;
        report::write(&self.out, &Given { runtimes: vec![runtimes], ..Default::default() }).usage()?;
        println!("{}", self.out.join("report.html").display());
        failure.map_or(Ok(Ending::Well), Err)
    }

    fn repository(&self) -> anyhow::Result<PathBuf> {
        if let Some(repository) = &self.repository {
            return Ok(repository.clone());
        }
        let (here, this) = (std::env::current_dir()?, std::env::current_exe()?);
        let found =
            here.ancestors().chain(this.ancestors()).find(|folder| folder.join("bench/baselines/Cargo.toml").exists());
        found.map(Path::to_owned).context("ring9's sources are not here: --repository")
    }
}

/// Where servers are started and measured.
struct Yard<'a> {
    flags: &'a RuntimesFlags,
    roster: &'a Roster,
    /// For sockets, of which there were so many.
    scratch: &'a Path,
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
    /// As [quick or not] says.
    fn of<T: Copy>(&self, full_and_quick: [T; 2]) -> T {
        full_and_quick[usize::from(self.flags.quick)]
    }

    fn address(&self, transport: Transport, name: &str) -> String {
        match transport {
            Transport::Tcp => "tcp:127.0.0.1:0".into(),
            Transport::Unix => {
                // A path that was used stays, and may still be somebody's.
                let number = self.paths.replace(self.paths.get() + 1);
                format!("unix:{}", self.scratch.join(format!("{name}.{number}")).display())
            }
        }
    }

    fn start(&self, server: &Built, transport: Transport) -> Result<Entry, Failure> {
        let command = server.command(&self.address(transport, &server.name), self.flags.server_cpu);
        let site = Site::start(&command).with_context(|| server.name.clone()).target()?;
        Ok(Entry { name: server.name.clone(), place: command, site })
    }

    /// What is known without load.
    fn profile(&self, server: &Built) -> Result<Profile, Failure> {
        let mut profile = self.roster.profile(server).usage()?;
        let Entry { site, .. } = self.start(server, Transport::Tcp)?;
        let plan = plan(IDLE_LOAD, IDLE).usage()?;
        let target = speech()?.target(&site.address, &plan.mix).usage()?;
        let prepared = Prepared::new(target, &plan, site.pid, Some(self.flags.cpu))?;
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
        let Entry { site, .. } = self.start(server, Transport::Tcp)?;
        let Some(pid) = site.pid else { return Ok(None) };
        let plan = open_loop(COUNTED_RATE, COUNTED).usage()?;
        let target = speech()?.target(&site.address, &plan.mix).usage()?;
        // Who asked it what it spent would make it spend more.
        let prepared = Prepared::new(target, &plan, None, Some(self.flags.cpu))?;
        let mut connected = prepared.connect(&plan)?;
        let traced = match Traced::start(pid, Some(self.flags.server_cpu)) {
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

    fn measure(&self, shape: &Shape) -> Result<Measured, Failure> {
        let words = format!(
            "--connections {} --depth {} --op {} --size {}",
            shape.connections, shape.depth, shape.op, shape.size
        );
        let plan = plan(&words, self.of(DURATIONS)).usage()?;
        let goals = shape.goals.iter().map(|goal| goal.parse()).collect::<anyhow::Result<Vec<Goal>>>().usage()?;
        let ours = match shape.cpus {
            Cpus::One => self.flags.server_cpu,
            Cpus::Each => self.flags.cpu,
        };
        let comparison = if shape.apart {
            self.apart(shape, &plan, &goals, ours)?
        } else {
            let mut entries = Vec::new();
            for server in &self.roster.servers {
                entries.push(self.start(server, shape.transport)?);
            }
            for kind in [Kind::Epoll, Kind::Blocking] {
                let address = self.address(shape.transport, &format!("{}-floor", kind.name()));
                entries.push(null(kind, &address, Some(self.flags.server_cpu)).target()?);
            }
            RoundFlags::new(self.of(ROUNDS), ours).compare(&entries, &speech()?, &plan, &goals)?
        };
        Ok(Measured { id: shape.id.into(), one_cpu: shape.cpus == Cpus::One, bulk: shape.bulk, comparison })
    }

    /// Each round of each server with a server that was started for it.
    fn apart(&self, shape: &Shape, plan: &Plan, goals: &[Goal], cpu: usize) -> Result<Comparison, Failure> {
        pin(Some(cpu)).usage()?;
        let began = SystemTime::now();
        let servers = &self.roster.servers;
        let mut random = SmallRng::seed_from_u64(plan.seed);
        let mut contenders: Vec<Contender> = servers
            .iter()
            .map(|server| Contender::new(server.name.clone(), String::new(), Default::default()))
            .collect();
        let bar = progress((plan.warmup + plan.duration) * ROUNDS_APART * servers.len() as u32);
        for round in 0..ROUNDS_APART {
            for number in order(servers.len(), round, &mut random) {
                let Entry { site, place, .. } = self.start(&servers[number], shape.transport)?;
                let target = speech()?.target(&site.address, &plan.mix).usage()?;
                let prepared = Prepared::new(target, plan, site.pid, Some(cpu))?;
                {
                    let mut connected = prepared.connect(plan)?;
                    let _bulk = if shape.bulk { Some(bulk(&site, cpu).usage()?) } else { None };
                    contenders[number].add(connected.run(|_| {})?.round(plan));
                }
                prepared.clear()?;
                let facts = site.pid.map(of_process).unwrap_or_default();
                (contenders[number].place, contenders[number].facts) = (place, facts);
                bar.inc((plan.warmup + plan.duration).as_millis() as u64);
            }
        }
        bar.finish_and_clear();
        Comparison::new(began, plan, contenders, goals, environment(Some(cpu))).usage()
    }

    /// Open loops at shares of what each server reached, and at a rate that all of them bear.
    fn rates(&self, reached: &Measured) -> Result<Vec<Held>, Failure> {
        pin(Some(self.flags.cpu)).usage()?;
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
                let Entry { site, .. } = self.start(server, Transport::Tcp)?;
                let target = speech()?.target(&site.address, &plan.mix).usage()?;
                let prepared = Prepared::new(target, &plan, site.pid, Some(self.flags.cpu))?;
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
