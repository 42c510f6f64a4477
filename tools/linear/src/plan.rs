//! What the clients of one history do, from its seed. Only times and interleavings differ from run to run.
//!
//! Must not know: sockets.

use crate::grid::{Grid, REGION_BYTES};
use crate::random::Random;
use ring9::wire::{Dialect, IOHDR};
use std::ops::Range;

/// Largest messages. Payloads of up to 8 KiB are copied from the window, whatever the server thinks of larger ones.
const MSIZES: &[u32] = &[(8 << 10) + IOHDR, (64 << 10) + IOHDR, (256 << 10) + IOHDR, 1 << 20];
/// Operations of all clients of a history together, about.
const OPS: Range<usize> = 200..400;

/// One client of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientPlan {
    /// Which address of the server it takes.
    pub(crate) address: usize,
    pub(crate) dialect: Dialect,
    pub(crate) msize: u32,
    /// Requests that it has in flight together.
    pub(crate) depth: usize,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) ask: Ask,
    /// What it covers; of a change of the length, what it takes.
    pub(crate) cells: Range<usize>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Read,
    Write,
    Resize,
}

/// What the file becomes before a round, while nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutPlan {
    /// Cells in front that stay.
    pub(crate) kept: usize,
    /// It gets its whole length again at once, in zeros; else writes make it grow.
    pub(crate) regrow: bool,
}

/// A part of a history: all clients start together, and it ends when all are done. Then one of them reads the whole file. What is lost in a crowd may have been
/// overwritten as well as lost; by then, only what was written last has an excuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) cut: Option<CutPlan>,
    /// By client.
    pub(crate) steps: Vec<Vec<Step>>,
    /// Of the first client, when all are done.
    pub(crate) closing: Vec<Step>,
}

/// A history to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) number: u32,
    pub(crate) grid: Grid,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) rounds: Vec<Round>,
}

/// How the steps of a history are drawn.
struct Mix {
    writes_percent: usize,
    /// Several regions, up to what one message of the client carries.
    large_percent: usize,
    hot_percent: usize,
    hot_region: usize,
    /// Changes of the length while others read and write.
    resizes_percent: usize,
    grid: Grid,
}

impl Plan {
    /// The plan of history `number`, for a server with so many addresses.
    pub(crate) fn new(seed: u64, number: u32, addresses: usize) -> Plan {
        let mut random = Random::new(seed ^ u64::from(number) << 32);
        let random = &mut random;
        let grid = Grid {
            // 16 fill a block of memfs; more lie in several.
            regions: random.of(&[1, 2, 4, 8, 15, 24, 40, 100]),
            shift: if random.percent(40) { 1 + random.below(2 * REGION_BYTES) } else { 0 },
            cut: random.percent(40).then(|| 8 * (1 + random.below(REGION_BYTES / 8 - 1))),
        };
        // All at one address, or each where it likes; the same for the dialect.
        let one = (random.percent(60), random.below(addresses), random.of(&[Dialect::L, Dialect::U, Dialect::P9]));
        let depth_max = random.of(&[1, 1, 2, 2, 4, 16]);
        let clients: Vec<ClientPlan> = (0..random.of(&[2, 3, 4, 5, 6, 7, 8]))
            .map(|_| ClientPlan {
                address: if one.0 { one.1 } else { random.below(addresses) },
                dialect: if one.0 { one.2 } else { random.of(&[Dialect::L, Dialect::U, Dialect::P9]) },
                msize: random.of(MSIZES),
                depth: 1 + random.below(depth_max),
            })
            .collect();
        let mix = Mix {
            writes_percent: random.of(&[20, 35, 60]),
            large_percent: random.of(&[10, 30, 60]),
            hot_percent: random.of(&[20, 60]),
            hot_region: random.below(grid.regions),
            resizes_percent: random.of(&[0, 0, 0, 2, 5]),
            grid,
        };
        let ops = OPS.start + random.below(OPS.len());
        let rounds = 1 + random.below(8);
        let per_client = ops.div_ceil(rounds * clients.len());
        let rounds = (0..rounds)
            .map(|number| Round {
                cut: mix.cut(random, number),
                steps: clients
                    .iter()
                    .map(|client| (0..per_client).map(|_| mix.step(random, client)).collect())
                    .collect(),
                closing: mix.closing(&clients[0]),
            })
            .collect();
        Plan { number, grid, clients, rounds }
    }

    /// On one line.
    pub(crate) fn title(&self, seed: u64, addresses: &[String]) -> String {
        let of = |client: &ClientPlan| {
            let kind = addresses[client.address].split(':').next().unwrap_or_default();
            format!("{kind} {} msize {} depth {}", client.dialect.name(), client.msize, client.depth)
        };
        let clients: Vec<String> = self.clients.iter().map(of).collect();
        format!("history {} of seed {seed}; clients: {}", self.number, clients.join(", "))
    }
}

impl Mix {
    /// A file is new before the first round, so only its length is in question then.
    fn cut(&self, random: &mut Random, round: usize) -> Option<CutPlan> {
        let regrow = random.percent(50);
        if round == 0 {
            return regrow.then_some(CutPlan { kept: 0, regrow });
        }
        let kept = if random.percent(50) { 0 } else { random.below(self.grid.cells()) };
        random.percent(60).then_some(CutPlan { kept, regrow })
    }

    /// Reads of the whole file, each as large as a message may be.
    fn closing(&self, client: &ClientPlan) -> Vec<Step> {
        let carried = (client.msize - IOHDR) as usize / REGION_BYTES * self.grid.per_region();
        let all = 0..self.grid.cells();
        all.clone().step_by(carried).map(|at| Step { ask: Ask::Read, cells: at..all.end.min(at + carried) }).collect()
    }

    fn step(&self, random: &mut Random, client: &ClientPlan) -> Step {
        if random.percent(self.resizes_percent) {
            let end = self.grid.cells();
            // To nothing, to some length, or to all.
            let some = random.below(end);
            let kept = random.of(&[0, some, end]);
            return Step { ask: Ask::Resize, cells: kept..end };
        }
        let ask = if random.percent(self.writes_percent) { Ask::Write } else { Ask::Read };
        let carried = (client.msize - IOHDR) as usize / REGION_BYTES;
        let most = if random.percent(self.large_percent) { carried } else { 1 };
        let regions = 1 + random.below(most.min(self.grid.regions));
        // Somewhere, or so that the hot region is among them.
        let last = self.grid.regions - regions;
        let first = if random.percent(self.hot_percent) {
            let from = (self.hot_region + 1).saturating_sub(regions);
            from + random.below(self.hot_region.min(last) - from + 1)
        } else {
            random.below(last + 1)
        };
        let per_region = self.grid.per_region();
        let mut cells = first * per_region..(first + regions) * per_region;
        if per_region > 1 && random.percent(50) {
            // From inside of a region, to inside of one, or both: still within what a message carries.
            let (late, early) = (random.percent(50), random.percent(50));
            cells.start += usize::from(late);
            cells.end -= usize::from(early && cells.len() > 1);
        }
        Step { ask, cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{CELLS_MAX, SEQ_MAX};

    #[test]
    fn a_seed_gives_one_plan() {
        assert_eq!(Plan::new(1, 5, 2), Plan::new(1, 5, 2));
        assert_ne!(Plan::new(1, 5, 2), Plan::new(1, 6, 2));
        assert_ne!(Plan::new(1, 5, 2), Plan::new(2, 5, 2));
    }

    #[test]
    fn every_step_fits_its_file_and_its_message() {
        for number in 0..500 {
            let plan = Plan::new(3, number, 2);
            assert!(plan.grid.cells() <= CELLS_MAX && (2..=8).contains(&plan.clients.len()));
            for round in &plan.rounds {
                assert!(round.cut.is_none_or(|cut| cut.kept < plan.grid.cells()));
                assert_eq!(round.closing.iter().map(|step| step.cells.len()).sum::<usize>(), plan.grid.cells());
                for (client, steps) in plan.clients.iter().zip(&round.steps) {
                    assert!(steps.len() * plan.rounds.len() <= SEQ_MAX as usize);
                    let closing = if *client == plan.clients[0] { round.closing.as_slice() } else { &[] };
                    for step in steps.iter().chain(closing) {
                        assert!(step.cells.end <= plan.grid.cells(), "{step:?}");
                        if step.ask == Ask::Resize {
                            continue;
                        }
                        assert!(!step.cells.is_empty(), "{step:?}");
                        assert!(plan.grid.bytes(&step.cells).len() <= (client.msize - IOHDR) as usize, "{step:?}");
                    }
                }
            }
        }
    }

    /// What a thousand histories are to be made of is really there.
    #[test]
    fn plans_differ_in_everything_they_should() {
        let plans: Vec<Plan> = (0..300).map(|number| Plan::new(3, number, 2)).collect();
        let clients = || plans.iter().flat_map(|plan| &plan.clients);
        let steps = || {
            let rounds = |plan: &Plan| plan.rounds.clone();
            plans.iter().flat_map(move |plan| {
                let grid = plan.grid;
                rounds(plan).into_iter().flat_map(move |round| {
                    round.steps.into_iter().flatten().map(move |step| (step.ask, grid.bytes(&step.cells)))
                })
            })
        };
        for dialect in [Dialect::L, Dialect::U, Dialect::P9] {
            assert!(clients().filter(|client| client.dialect == dialect).count() > 100, "{dialect:?}");
        }
        for address in 0..2 {
            assert!(clients().filter(|client| client.address == address).count() > 100, "address {address}");
        }
        assert!(
            steps().filter(|(ask, bytes)| *ask == Ask::Write && bytes.len() > 16 << 10).count() > 1_000,
            "landings"
        );
        assert!(steps().filter(|(ask, bytes)| *ask == Ask::Write && bytes.len() < 4096).count() > 1_000, "parts");
        assert!(steps().filter(|(_, bytes)| bytes.start % 4096 != 0).count() > 1_000, "unaligned");
        assert!(steps().filter(|(ask, bytes)| *ask == Ask::Resize && !bytes.is_empty()).count() > 300, "resizes");
        assert!(plans.iter().filter(|plan| plan.rounds.iter().skip(1).any(|round| round.cut.is_some())).count() > 50);
    }
}
