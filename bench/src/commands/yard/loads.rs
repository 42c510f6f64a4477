//! Loads: each server in each of them, in interleaved rounds.

use super::bulk::Bulk;
use super::{Contestant, IDIOMATIC, SPINS, WARMUP, Yard, plan, speech};
use crate::commands::compare::{Entry, RoundFlags, order};
use crate::commands::run::progress;
use crate::commands::{Blame, Failure};
use crate::environment::{environment, of_process};
use crate::generator::{Crowd, Plan, size_of};
use crate::measure::{Prepared, pin};
use crate::null::Kind;
use crate::result::{Comparison, Contender, Goal, Measured};
use crate::runtimes::{Built, Company, Cpus, Shape};
use anyhow::{Context, ensure};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use ring9::limits::CONNECTIONS;
use std::time::{Duration, SystemTime};

/// Rounds of a load, and of each server in one: in full, and where time is short. Six rounds are the fewest with an interval.
const ROUNDS: [u32; 2] = [15, 7];
const DURATION: Duration = Duration::from_millis(100);
/// How often servers are started for the rounds of a load, where all are there at a time: where their memory lies, and into which step two cpus fall, is by chance and stays as long as they run.
const STARTS: [u32; 2] = [3, 1];
/// Of servers that are started for each round, to have hundreds of connections.
const ROUNDS_CROWDED: u32 = 6;
/// A round is not shorter than this for each connection, nor what goes before it: a server of 80,000 operations per second has eight of each connection by then.
const DURATION_EACH: Duration = Duration::from_micros(100);
const WARMUP_EACH: Duration = Duration::from_micros(30);
/// The floor on io_uring keeps larger messages in a list.
const RING_FLOOR_BYTES_MAX: u64 = 16 << 10;
/// Connections that are idle leave so many descriptors for all else.
const DESCRIPTORS_SPARE: u64 = 256;
/// That a server has beside those of a load and a crowd: to make files, and to be asked what it spent.
const CONNECTIONS_SPARE: u64 = 16;

/// A load that is to be made.
struct Trial<'a> {
    shape: &'a Shape,
    plan: Plan,
    goals: Vec<Goal>,
    /// Of the generator.
    cpu: usize,
    rounds: u32,
}

impl Yard<'_> {
    pub(crate) fn measure(&self, shape: &Shape) -> Result<Measured, Failure> {
        let words = format!(
            "--connections {} --depth {} --op {} --size {} {}",
            shape.connections, shape.depth, shape.op, shape.size, shape.pace
        );
        let count = shape.connections as u32;
        let duration = DURATION.max(DURATION_EACH * count);
        let plan = Plan { warmup: WARMUP.max(WARMUP_EACH * count), ..plan(&words, duration).usage()? };
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
            if connections < CONNECTIONS { String::new() } else { server.for_connections(connections) }
        };
        let all = self.roster.servers.iter().map(|server| Contestant::Server(server, end(server)));
        let comparison = match shape.company {
            Company::Together => {
                let is_small = size_of(shape.size).usage()? <= RING_FLOOR_BYTES_MAX;
                let ring_floor = is_small.then_some(Contestant::RingFloor);
                self.together(all.chain(Kind::SLEEPING.map(Contestant::Floor)).chain(ring_floor), &trial)?
            }
            Company::Idiomatic => self.together(self.idiomatic(), &trial)?,
            Company::Apart => self.apart(all.collect(), &Trial { rounds: ROUNDS_CROWDED, ..trial })?,
            Company::Bulk => self.apart(all.collect(), &trial)?,
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
        let Trial { shape, plan, goals, cpu, rounds } = trial;
        let who: Vec<_> = who.collect();
        let starts = self.of(STARTS);
        let mut all: Option<Comparison> = None;
        for start in 0..starts {
            let entries = who.iter().map(|one| self.start(one, shape.transport)).collect::<Result<Vec<_>, _>>()?;
            let plan = Plan { seed: plan.seed + u64::from(start), ..plan.clone() };
            let one = RoundFlags::new(rounds / starts, *cpu).compare(&entries, &speech()?, &plan, goals)?;
            all = Some(match all {
                Some(all) => all.with_rounds_of(one, goals).usage()?,
                None => one,
            });
        }
        all.context("no servers").usage()
    }

    /// ring9, and who has that tier.
    fn idiomatic(&self) -> impl Iterator<Item = Contestant<'_>> {
        let servers = self.roster.servers.iter().filter(|server| server.is_ring9() || server.has_tiers);
        servers
            .map(|server| Contestant::Server(server, if server.has_tiers { IDIOMATIC.into() } else { String::new() }))
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
        let results = self.scratch.path().join("bulk");
        let bar = progress((plan.warmup + plan.duration) * *rounds * who.len() as u32);
        for round in 0..*rounds {
            for number in order(who.len(), round, &mut random) {
                let Entry { site, place, .. } = self.start(&who[number], shape.transport)?;
                let target = speech()?.target(&site.address, &plan.mix).usage()?;
                let prepared = Prepared::new(target, plan, site.pid, Some(*cpu))?;
                {
                    let mut connected = prepared.connect(plan)?;
                    let duration = plan.warmup + plan.duration;
                    let start = || Bulk::start(&site, *cpu, duration, &results);
                    let bulk = (shape.company == Company::Bulk).then(start).transpose().usage()?;
                    let (mut round, warnings) = connected.run(|_| {})?.round(plan);
                    round.bulk_per_s = bulk.map(Bulk::end).transpose().target()?;
                    contenders[number].add((round, warnings));
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
}
