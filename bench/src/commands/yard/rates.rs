//! Open loops: response times of servers at rates that they can serve, and the highest such rate.

use super::{Yard, open_loop, plan, speech};
use crate::commands::compare::order;
use crate::commands::{Blame, Failure};
use crate::generator::Plan;
use crate::measure::{Prepared, pin};
use crate::record::{Median, median};
use crate::result::{Borne, HeldRate, Round};
use crate::runtimes::Built;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::time::Duration;

/// The closed loop that shares are of. Operations of an open loop come one by one, and so do these: with more in flight on each connection they would come and go by the batch, which is more than any open
/// loop can do, and more than the generator.
const CLOSED_LOAD: &str = "--connections 64 --op read --size 4KiB";
/// Of what a server does in it: in full, and where time is short.
const SHARES: [&[f64]; 2] = [&[0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 0.95], &[0.1, 0.5, 0.8, 0.95]];
/// Of the slowest server's, for all; none of its own shares.
const COMMON_SHARE: f64 = 0.4;
const ROUNDS: [u32; 2] = [15, 3];
/// Of the closed loop.
const ROUNDS_CLOSED: [u32; 2] = [7, 3];
const DURATION: Duration = Duration::from_millis(100);
/// What each server is asked to keep to in most rounds.
const OBJECTIVE: &str = "p99=1ms";

/// A round: what it was, what of it was done in time, and what spoilt it.
type Done = (Round, f64, Vec<String>);

/// A server that is ready.
struct Ready<'a> {
    server: &'a Built,
    prepared: Prepared,
    /// Operations per second that it does at most.
    most: f64,
}

impl Yard<'_> {
    /// Open loops at shares of what each server does in a closed loop of the same connections, and at a rate that all of them bear; and up to which of these rates each keeps to the objective.
    /// All servers are there all the time, and wait while they are not asked.
    pub(crate) fn rates(&self) -> Result<(Vec<HeldRate>, Vec<Borne>), Failure> {
        pin(Some(self.cpu)).usage()?;
        let mut entries = Vec::new();
        for server in &self.roster.servers {
            entries.push(self.start_server(server)?);
        }
        let closed = plan(CLOSED_LOAD, DURATION).usage()?;
        let mut ready = Vec::new();
        for (server, entry) in self.roster.servers.iter().zip(&entries) {
            let target = speech()?.target(&entry.site.address, &closed.mix).usage()?;
            let prepared = Prepared::new(target, &closed, entry.site.pid, Some(self.cpu))?;
            ready.push(Ready { server, prepared, most: 0.0 });
        }
        let mut random = SmallRng::seed_from_u64(1);
        let mut reached = vec![Vec::new(); ready.len()];
        for round in 0..self.of(ROUNDS_CLOSED) {
            for number in order(ready.len(), round, &mut random) {
                reached[number].push(ready[number].round(&closed)?.0.throughput);
            }
        }
        for (ready, reached) in ready.iter_mut().zip(reached) {
            ready.most = median(&reached).map_or(0.0, |median| median.value);
        }
        let common = COMMON_SHARE * ready.iter().map(|ready| ready.most).fold(f64::MAX, f64::min);
        let mut loads = Vec::new();
        for ready in &ready {
            loads.extend(self.of(SHARES).iter().map(|share| (ready, Some(*share), share * ready.most)));
            loads.push((ready, None, common));
        }
        let mut done: Vec<Vec<Done>> = vec![Vec::new(); loads.len()];
        for round in 0..self.of(ROUNDS) {
            for number in order(loads.len(), round, &mut random) {
                let (ready, _, rate) = &loads[number];
                done[number].push(ready.round(&open_loop(*rate, DURATION).usage()?)?);
            }
        }
        let held = loads.iter().zip(&done).map(|((ready, share, rate), done)| held(ready.server, *share, *rate, done));
        let held: Vec<HeldRate> = held.collect();
        let objective = OBJECTIVE.parse().usage()?;
        let borne = ready.iter().map(|ready| Borne::new(&ready.server.name, objective, &held)).collect();
        for ready in ready {
            ready.prepared.clear()?;
        }
        Ok((held, borne))
    }
}

impl Ready<'_> {
    fn round(&self, plan: &Plan) -> Result<Done, Failure> {
        let done = self.prepared.connect(plan)?.run(|_| {})?;
        let in_time = done.outcome.achieved as f64 / done.outcome.offered.max(1) as f64;
        let (round, warnings) = done.round(plan);
        Ok((round, in_time, warnings.into_iter().map(|warning| warning.kind).collect()))
    }
}

/// What rounds at a rate have in the middle.
fn held(server: &Built, share: Option<f64>, rate: f64, done: &[Done]) -> HeldRate {
    let middle = |of: &dyn Fn(&Round) -> Option<f64>| -> Option<Median> {
        median(&done.iter().filter_map(|(round, ..)| of(round)).collect::<Vec<_>>())
    };
    let value = |median: Option<Median>| median.map(|median| median.value);
    let in_time: Vec<f64> = done.iter().map(|(_, in_time, _)| *in_time).collect();
    let p99 = middle(&|round| round.p99_ns.map(|ns| ns as f64));
    let mut spoilt = BTreeMap::new();
    done.iter().flat_map(|(.., kinds)| kinds).for_each(|kind| *spoilt.entry(kind.clone()).or_default() += 1);
    HeldRate {
        server: server.name.clone(),
        share,
        rate,
        achieved: value(median(&in_time)).unwrap_or(0.0),
        p50_ns: value(middle(&|round| round.p50_ns.map(|ns| ns as f64))),
        p99_ns: value(p99),
        cpu_us: value(middle(&|round| round.cpu_us)),
        p99_interval_ns: p99.and_then(|median| median.interval),
        rounds: done.len() as u32,
        spoilt,
    }
}
