//! Plays a plan on a server and writes down what happened: a thread and a connection for each client.
//!
//! The time of a call is taken before the first byte of its request is sent, that of its return after its reply was read, both on one monotonic clock. So an operation
//! took effect within the time that is written down for it, and the check can miss a fault but cannot invent one.

use crate::grid::WriteId;
use crate::history::{Cut, History, Op, What};
use crate::plan::{Ask, CutPlan, Plan, Step};
use anyhow::{Context, bail};
use ring9::client::{Access, Address, Attr, Client};
use ring9::fs::Change;
use ring9::wire::{Data, Fid, Message};
use std::cell::Cell;
use std::sync::Barrier;
use std::time::Instant;

/// A client at work.
struct Player {
    client: Client,
    number: u8,
    depth: usize,
    reading: Fid,
    writing: Fid,
    /// Operations so far.
    seq: u32,
    ops: Vec<Op>,
    payload: Vec<u8>,
}

/// The one clock of a history. It never shows 0.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        1 + self.0.elapsed().as_nanos() as u64
    }
}

/// Plays the plan on a new file, which is gone afterwards.
pub(crate) fn play(plan: &Plan, title: String, addresses: &[Address]) -> anyhow::Result<History> {
    let name = format!("linear-{}-{}", std::process::id(), plan.number);
    let mut players = (0..plan.clients.len())
        .map(|number| Player::new(plan, number, addresses, name.as_bytes()))
        .collect::<anyhow::Result<Vec<Player>>>()?;
    let clock = Clock(Instant::now());
    let mut cuts = Vec::new();
    for round in &plan.rounds {
        if let Some(cut) = round.cut {
            players[0].cut(plan, cut)?;
            cuts.push(Cut { at_ns: clock.now(), kept: cut.kept });
        }
        let start = Barrier::new(players.len());
        let played = std::thread::scope(|scope| {
            let together = players.iter_mut().zip(&round.steps).map(|(player, steps)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    player.play(plan, steps, clock)
                })
            });
            let threads: Vec<_> = together.collect();
            threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect::<Vec<_>>()
        });
        played.into_iter().collect::<anyhow::Result<()>>()?;
        players[0].play(plan, &round.closing, clock)?;
    }
    players[0].client.remove(Client::ROOT, name.as_bytes(), false)?;
    let mut ops: Vec<Op> = players.into_iter().flat_map(|player| player.ops).collect();
    ops.sort_by_key(|op| op.call_ns);
    Ok(History { number: plan.number, title, grid: plan.grid, ops, cuts })
}

impl Player {
    fn new(plan: &Plan, number: usize, addresses: &[Address], name: &[u8]) -> anyhow::Result<Player> {
        let its = &plan.clients[number];
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let address = &addresses[its.address];
        let mut client = Client::connect(address, its.dialect, its.msize, (&user, uid.as_raw()), "")
            .with_context(|| format!("cannot reach {address}"))?;
        let writing = if number == 0 {
            client.create(Client::ROOT, name, 0o666, Access::Write)?
        } else {
            open(&mut client, name, Access::Write)?
        };
        let reading = open(&mut client, name, Access::Read)?;
        if client.chunk() < its.msize - ring9::wire::IOHDR {
            bail!("{address} takes messages of {} bytes, {} are needed", client.chunk(), its.msize);
        }
        let number = number as u8;
        Ok(Player { client, number, depth: its.depth, reading, writing, seq: 0, ops: Vec::new(), payload: Vec::new() })
    }

    /// Changes the length, while nobody else is at work.
    fn cut(&mut self, plan: &Plan, cut: CutPlan) -> anyhow::Result<()> {
        let whole = cut.regrow.then(|| plan.grid.cells());
        let mut ends = [Some(cut.kept), whole].into_iter().flatten();
        ends.try_for_each(|end| Ok(self.client.set(self.writing, &size(plan, end), &Attr::default())?))
    }

    /// All steps, `depth` at a time: the next ones when all of these are answered.
    fn play(&mut self, plan: &Plan, steps: &[Step], clock: Clock) -> anyhow::Result<()> {
        steps.chunks(self.depth).try_for_each(|steps| self.play_together(plan, steps, clock))
    }

    fn play_together(&mut self, plan: &Plan, steps: &[Step], clock: Clock) -> anyhow::Result<()> {
        let (number, base, grid) = (self.number, self.seq + 1, &plan.grid);
        let id = |nth: usize| WriteId { client: number, seq: base + nth as u32 };
        self.seq += steps.len() as u32;
        self.payload.clear();
        let mut parts = Vec::with_capacity(steps.len());
        for (nth, step) in steps.iter().enumerate() {
            let start = self.payload.len();
            if step.ask == Ask::Write {
                grid.fill(plan.number, &step.cells, id(nth), &mut self.payload);
            }
            parts.push(start..self.payload.len());
        }
        let resize =
            |step: &Step| self.client.set_message(self.writing, &size(plan, step.cells.start), &Attr::default());
        let resizes: Vec<Message<'static>> = steps.iter().map(resize).collect();
        let (payload, reading, writing) = (&self.payload, self.reading, self.writing);
        let calls: Vec<Cell<u64>> = vec![Cell::new(0); steps.len()];
        // The transport asks for a message just before it puts its bytes out.
        let messages = steps.iter().zip(&parts).zip(&calls).zip(&resizes).map(|(((step, part), call), &resize)| {
            let bytes = grid.bytes(&step.cells);
            let (offset, count) = (bytes.start as u64, bytes.len() as u32);
            call.set(clock.now());
            match step.ask {
                Ask::Write => Message::Twrite { fid: writing, offset, data: Data::Here(&payload[part.clone()]) },
                Ask::Read => Message::Tread { fid: reading, offset, count },
                Ask::Resize => resize,
            }
        });
        let (ops, mut wrong) = (&mut self.ops, None);
        self.client.transport().exchange(messages, |nth, reply| {
            let (ret_ns, step) = (clock.now(), &steps[nth]);
            let what = match reply {
                Ok(Message::Rread { data: Data::Here(bytes) }) => What::Read(grid.see(plan.number, &step.cells, bytes)),
                Ok(Message::Rsetattr { .. } | Message::Rwstat { .. }) => What::Resize,
                Ok(Message::Rwrite { count }) if count as usize == parts[nth].len() => What::Write,
                Ok(other) => return wrong = Some(format!("{step:?} was answered {other:?}")),
                Err(error) => return wrong = Some(format!("{step:?} was refused: {error}")),
            };
            ops.push(Op { id: id(nth), cells: step.cells.clone(), call_ns: calls[nth].get(), ret_ns, what });
        })?;
        match wrong {
            Some(wrong) => bail!("{wrong}"),
            None => Ok(()),
        }
    }
}

/// The file ends in front of this cell; of the first one, nothing is left.
fn size(plan: &Plan, cell: usize) -> Change<'static> {
    let size = if cell == 0 { 0 } else { plan.grid.start(cell) };
    Change { size: Some(size as u64), ..Change::default() }
}

fn open(client: &mut Client, name: &[u8], access: Access) -> anyhow::Result<Fid> {
    let fid = client.walk(Client::ROOT, name)?;
    client.open(fid, access)?;
    Ok(fid)
}
