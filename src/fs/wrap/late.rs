//! A tree that answers late: for tests, and for who wants to see what a slow tree does to clients.
//!
//! [`Late`] delays calls by a seeded number of turns. Sometimes that is the effect and the answer, sometimes the answer
//! alone, and an answer may have a gate that opens some turns later. A turn is over when [`Service::ready`] has answered `None`.

use super::Hook;
use crate::fs::{Answer, At, Call, CallBuf, Cancel, FileId, Gate, OpId, Outcome, Payload, Result, Service, Show};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How late a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Turns that a call waits at most, 0 for none. A gate stays closed for one turn at least, and for as many at most.
    pub turns_max: u32,
    /// One answer of so many has a gate. 0: none has.
    pub gates: u32,
    /// The tree lends memory for payloads; otherwise they are written in parts.
    pub grants: bool,
}

/// An operation that is not done.
#[derive(Debug)]
enum Kept {
    /// Not begun.
    Call(CallBuf),
    /// Done, but not told.
    Answer(Answer),
    /// The tree inside has it.
    Inside,
}

/// Makes a tree late.
#[derive(Debug)]
pub struct Late {
    times: Times,
    random: u64,
    turn: u64,
    kept: BTreeMap<OpId, Kept>,
    /// When those that are not inside can go on.
    due: BTreeSet<(u64, OpId)>,
    /// Gates that are closed, in order, and the turns in which they open.
    gates: VecDeque<(u64, u64)>,
    gate: u64,
    opened: u64,
}

/// Gates of this tree, apart from those of the tree inside.
const OWN: u64 = 1 << 55;

impl Late {
    /// As late as these times say.
    pub fn new(times: Times) -> Late {
        let random = times.seed ^ 0x9e37_79b9_7f4a_7c15;
        let (kept, due, gates) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Late { times, random, turn: 0, kept, due, gates, gate: OWN, opened: OWN }
    }

    /// A number below `end` (splitmix64).
    fn below(&mut self, end: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    fn keep(&mut self, op: OpId, kept: Kept, turns: u64) -> Outcome {
        if !matches!(kept, Kept::Inside) {
            self.due.insert((self.turn + turns, op));
        }
        self.kept.insert(op, kept);
        Outcome::Pending
    }

    /// What the tree inside has answered, maybe behind a gate.
    fn answered(&mut self, op: OpId, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Done(answer) if answer.gate == Gate::OPEN && self.times.gates > 0 => {
                if self.below(self.times.gates.into()) > 0 {
                    return Outcome::Done(answer);
                }
                let opens = self.turn + 1 + self.below(self.times.turns_max.into());
                // They open in their order.
                let opens = self.gates.back().map_or(opens, |&(_, last)| opens.max(last));
                self.gate += 1;
                self.gates.push_back((self.gate, opens));
                Outcome::Done(Answer { gate: Gate(self.gate), ..answer })
            }
            Outcome::Done(_) => outcome,
            Outcome::Pending | Outcome::Waiting => {
                self.keep(op, Kept::Inside, 0);
                outcome
            }
        }
    }

    fn next_turn(&mut self) {
        self.turn += 1;
        while let Some(&(gate, _)) = self.gates.front().filter(|(_, opens)| *opens <= self.turn) {
            self.opened = gate;
            self.gates.pop_front();
        }
    }
}

impl Hook for Late {
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let turns = self.below(u64::from(self.times.turns_max) + 1);
        if turns == 0 {
            let outcome = tree.call(op, call, show, at);
            return self.answered(op, outcome);
        }
        if matches!(show, Show::Nothing) && self.below(2) == 0 {
            return match tree.call(op, call, show, at) {
                Outcome::Done(answer) => self.keep(op, Kept::Answer(answer), turns),
                outcome => self.answered(op, outcome),
            };
        }
        self.keep(op, Kept::Call(call.into()), turns)
    }

    fn finish<T: Service>(&mut self, tree: &mut T, op: OpId, show: Show<'_>, at: At) -> Outcome {
        self.due.retain(|(_, due)| *due != op);
        let outcome = match self.kept.remove(&op) {
            Some(Kept::Call(call)) => call.with(|call| tree.call(op, call, show, at)),
            Some(Kept::Answer(answer)) => Outcome::Done(answer),
            Some(Kept::Inside) | None => tree.finish(op, show, at),
        };
        self.answered(op, outcome)
    }

    fn cancel<T: Service>(&mut self, tree: &mut T, op: OpId) -> Cancel {
        // It may be too late at any time, unless nothing is certain to end it then.
        let is_early = self.below(3) > 0;
        let cancel = match self.kept.get(&op) {
            Some(Kept::Call(call)) if is_early || call.is_read() => Cancel::Cancelled,
            Some(Kept::Inside) | None => tree.cancel(op),
            _ => Cancel::TooLate,
        };
        if cancel == Cancel::Cancelled {
            self.kept.remove(&op);
            self.due.retain(|(_, due)| *due != op);
        }
        cancel
    }

    fn grant<T: Service>(&mut self, tree: &mut T, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        match tree.grant(file, offset, count, at)? {
            Payload::Memory(_) if !self.times.grants => Ok(Payload::Parts),
            payload => Ok(payload),
        }
    }

    fn ready<T: Service>(&mut self, tree: &mut T) -> Option<OpId> {
        let due = self.due.first().filter(|(turn, _)| *turn <= self.turn).map(|&(_, op)| op);
        let next = due.or_else(|| tree.ready());
        if next.is_none() {
            self.next_turn();
        }
        next
    }

    fn has_work<T: Service>(&self, tree: &T) -> bool {
        !self.due.is_empty() || !self.gates.is_empty() || tree.has_work()
    }

    fn is_open<T: Service>(&self, tree: &T, gate: Gate) -> bool {
        if gate.0 & OWN != 0 { gate.0 <= self.opened } else { tree.is_open(gate) }
    }

    /// Calls that were put off are made first. No turn comes for them.
    fn cleanup<T: Service>(&mut self, tree: &mut T) -> Result<()> {
        self.due.clear();
        for (op, kept) in std::mem::take(&mut self.kept) {
            if let Kept::Call(call) = kept {
                call.with(|call| tree.call(op, call, Show::Nothing, At::default()));
            }
        }
        tree.cleanup()
    }
}
