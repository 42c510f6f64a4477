//! Where the servers of `runtimes` are started, and what is measured of them without load: cpu
//! while idle, threads, system calls.
//!
//! - `loads`: every server in every load.
//! - `rates`: open loops.
//! - `bulk`: a client of large reads beside a load.
//! - `writes`: writes of one size, beside a floor that keeps them.
//!
//! Must not know: which loads are asked for, and what becomes of results.

mod bulk;
mod loads;
mod rates;
mod writes;

pub(super) use writes::WriteLoad;

use super::compare::Entry;
use super::demo::Of;
use super::floor::null;
use super::load::{LoadFlags, Site, SpeechFlags};
use super::{Blame, Failure};
use crate::environment::of_process;
use crate::generator::Plan;
use crate::measure::{Prepared, pin, raise_descriptors};
use crate::null::Kind;
use crate::result::Profile;
use crate::runtimes::{Built, Roster, Transport};
use crate::syscalls::Traced;
use anyhow::Context;
use clap::Parser;
use std::cell::Cell;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// Before anything counts.
const WARMUP: Duration = Duration::from_millis(40);
/// The load of open loops, over connections enough that none has to wait for a slot.
const RATED_LOAD: &str = "--connections 64 --depth 4 --op read --size 4KiB";
/// At which system calls are counted, of operations of the same load: low enough that servers that are traced keep up.
const COUNTED_RATE: f64 = 2000.0;
const COUNTED: Duration = Duration::from_secs(1);
/// Until threads that were interrupted are back where they were.
const SETTLE: Duration = Duration::from_millis(20);
/// For idle servers.
const IDLE: Duration = Duration::from_secs(3);
const IDLE_LOAD: &str = "--connections 64 --op getattr";
/// For what ring9 does with --busy-poll: longer than a reply and the next request take.
const SPINS: &str = " --busy-poll 1000";
/// For what users of a runtime write first.
const IDIOMATIC: &str = " --tier idiomatic";
/// For what it does only where it can register its memory.
const REGISTERED: &str = " --require-registered";

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
            Contestant::Server(server, end) if end == IDIOMATIC => format!("{}-idiomatic", server.name),
            Contestant::Server(server, _) => server.name.clone(),
            Contestant::Floor(kind) => format!("{}-floor", kind.name()),
            Contestant::RingFloor => "ring-floor".into(),
        }
    }
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
            Contestant::RingFloor => {
                let program = self.roster.ring_floor.as_ref().context("the floor on io_uring was not built").usage()?;
                format!("{program} {address} {}", self.server_cpu)
            }
            Contestant::Floor(kind) => {
                let floor = null(*kind, &address, Some(self.server_cpu)).target()?;
                return Ok(Entry { place: self.shown(&floor.place), ..floor });
            }
        };
        let site = Site::start(&place).with_context(|| name.clone()).target()?;
        Ok(Entry { name, place: self.shown(&place), site })
    }

    /// A command without places of this machine.
    fn shown(&self, place: &str) -> String {
        let repository = self.roster.repository.canonicalize().ok();
        let folders = [Some(self.scratch.path().to_owned()), std::env::current_dir().ok(), repository];
        folders
            .iter()
            .flatten()
            .fold(place.to_owned(), |place, folder| place.replace(&format!("{}/", folder.display()), ""))
    }

    /// Without anything that the load did not ask for.
    fn start_server(&self, server: &Built) -> Result<Entry, Failure> {
        self.start(&Contestant::Server(server, String::new()), Transport::Tcp)
    }

    /// What is known without load.
    pub(super) fn profile(&self, server: &Built) -> Result<Profile, Failure> {
        let mut profile = self.roster.profile(server).usage()?;
        // ring9 serves without registered memory too, where this user may not lock so much.
        let registered = server.is_ring9().then(|| Contestant::Server(server, REGISTERED.into()));
        let registered = registered.map(|who| self.start(&who, Transport::Tcp));
        if let Some(registered) = &registered {
            profile.facts.insert("registered".into(), registered.is_ok().into());
        }
        let Entry { site, .. } = match registered {
            Some(Ok(entry)) => entry,
            _ => self.start_server(server)?,
        };
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
}

/// As every server here is spoken to.
fn speech() -> Result<SpeechFlags, Failure> {
    Ok(Of::<SpeechFlags>::try_parse_from(["speech"]).usage()?.flags)
}
