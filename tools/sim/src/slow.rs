//! The watched tree as a service that is late, outside of the watch, so that model and ledger follow the order of execution.
//!
//! - `tree-waits`: a read, a write or an fsync has been done and is told later. What a read has found is shown to its client then.
//! - `tree-late`: any call is made later, or has been made and is told later.
//! - `reply-gated`: an answer has a gate, an error as well. Gates open in their order, some time later.
//! - `tree-behind`: while many gates are closed, nothing more may be asked for.

use crate::kernel::faults::{Fault, Faults};
use crate::ledger::{Answer as Shows, Ledger, Which};
use crate::random::Random;
use crate::watch::Watch;
use ring9::fs::{
    Answer, At, Call, CallBuf, Cancel, Done, FileId, Filesystem, Gate, Grant, Iovec, OpId, Out, Outcome, Part, Payload,
    Result, Service, Show, Simple,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// How long something may take, in virtual nanoseconds.
const TIMES_NS: &[u64] = &[0, 1_000, 100_000, 1_000_000_000];

/// Whom a call is made for: a connection, by the ledger, and its request, if that is known.
#[derive(Clone, Copy, Debug)]
struct Whose {
    number: u32,
    which: Option<Which>,
}

/// How far an operation is that waits.
enum Kept {
    /// Not begun.
    Call(CallBuf),
    /// Done, with what a read has found.
    Done(Result<Done>, Option<Iovec>),
}

/// An operation that waits.
struct Waiting {
    op: OpId,
    whose: Whose,
    /// When it goes on, in monotonic nanoseconds.
    due: u64,
    told: bool,
    can_be_taken_back: bool,
    kept: Kept,
}

/// The tree.
pub(crate) struct Slow<F: Filesystem> {
    tree: Simple<Watch<F>>,
    ledger: Rc<RefCell<Ledger>>,
    waiting: Vec<Waiting>,
    /// What waits does so for long.
    lazy: bool,
    /// Which connection is at this slot of the server.
    numbers: BTreeMap<u32, u32>,
    /// Gates that are closed, and when they open.
    gates: VecDeque<(Gate, u64)>,
    last_gate: Gate,
    /// Closed gates with which the tree is behind.
    behind_at: usize,
}

impl<F: Filesystem> Deref for Slow<F> {
    type Target = Watch<F>;

    fn deref(&self) -> &Watch<F> {
        &self.tree
    }
}

impl<F: Filesystem> DerefMut for Slow<F> {
    fn deref_mut(&mut self) -> &mut Watch<F> {
        &mut self.tree
    }
}

impl<F: Filesystem> Slow<F> {
    pub(crate) fn new(watch: Watch<F>, ledger: Rc<RefCell<Ledger>>, seed: u64) -> Slow<F> {
        let lazy = watch.random().one_in(2);
        let behind_at = Random::new(seed ^ 0xbe41d).of(&[1, 3, 12]);
        Slow {
            tree: watch.into(),
            ledger,
            waiting: Vec::new(),
            lazy,
            numbers: BTreeMap::new(),
            gates: VecDeque::new(),
            last_gate: Gate::OPEN,
            behind_at,
        }
    }

    /// Whether it is late in more than reads, writes and fsyncs, or has gates.
    pub(crate) fn is_late(faults: &Faults) -> bool {
        faults.has(Fault::TreeLate) || faults.has(Fault::ReplyGated)
    }

    /// All sessions have ended: operations that wait are done now, and none that could be finished is left. `left`: but for
    /// those of sessions that the server has left where they are.
    pub(crate) fn let_go(&mut self, left: bool) {
        assert!(left || !self.waiting.iter().any(|waiting| waiting.told), "leaks: an operation that could be finished");
        let at = self.tree.now();
        for Waiting { op, kept, .. } in std::mem::take(&mut self.waiting) {
            if let Kept::Call(call) = kept {
                let outcome = call.with(|call| self.tree.call(op, call, Show::Nothing, at));
                let Outcome::Done(answer) = outcome else { unreachable!("the tree itself lets nothing wait") };
                let is_for_nobody = matches!(answer.result, Ok(Done::Nothing) | Err(_));
                assert!(left || is_for_nobody, "leaks: {answer:?} for nobody");
            }
        }
    }

    fn time(&self) -> u64 {
        if self.lazy { TIMES_NS[TIMES_NS.len() - 1] } else { self.tree.random().of(TIMES_NS) }
    }

    /// Lets an operation wait.
    fn wait(&mut self, op: OpId, whose: Whose, can_be_taken_back: bool, kept: Kept) {
        assert!(self.waiting.iter().all(|waiting| waiting.op != op), "flush: {op:?} waits already");
        let due = self.time() + self.tree.now().mono_ns;
        self.ledger.borrow_mut().waits(whose.number, true);
        self.waiting.push(Waiting { op, whose, due, told: false, can_be_taken_back, kept });
    }

    /// Whom this call is for.
    fn whose(&mut self, op: OpId, call: &Call<'_>) -> Whose {
        if let Call::Attach { aname, .. } = call
            && let Some(number) = Watch::<F>::number(aname)
        {
            self.numbers.insert(op.peer, number);
        }
        let number = *self.numbers.get(&op.peer).expect("replies: who has no file can only attach, and says who it is");
        let mut ledger = self.ledger.borrow_mut();
        let which = if ledger.is_late { ledger.asks(number, call) } else { None };
        Whose { number, which }
    }

    /// Makes the call. Its answer may wait, and so may its reply.
    fn make(&mut self, op: OpId, whose: Whose, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let before = self.ledger.borrow_mut().shown(whose.number);
        let is_attr = matches!(call, Call::Xattr { .. });
        let outcome = match (call, show) {
            (call @ Call::Read { .. }, Show::Data(mut out)) => {
                let mut found = Iovec::default();
                let outcome = self.tree.call(op, call, Show::Data(found.out(out.room())), at);
                let Outcome::Done(Answer { result: Ok(done), .. }) = outcome else {
                    return self.answered(whose, before, is_attr, outcome);
                };
                if out.room() > 0 && self.tree.fires(Fault::TreeWaits) {
                    self.wait(op, whose, true, Kept::Done(Ok(done), Some(found)));
                    return self.reads_wait();
                }
                self.show(whose.number, found, &mut out);
                outcome
            }
            (call @ (Call::Write { .. } | Call::Commit { .. } | Call::Fsync { .. }), show) => {
                let can_be_taken_back = matches!(call, Call::Fsync { .. });
                let outcome = self.tree.call(op, call, show, at);
                if let Outcome::Done(Answer { result: Ok(done), .. }) = outcome
                    && self.tree.fires(Fault::TreeWaits)
                {
                    self.wait(op, whose, can_be_taken_back, Kept::Done(Ok(done), None));
                    return Outcome::Pending;
                }
                outcome
            }
            (call, show) => self.tree.call(op, call, show, at),
        };
        self.answered(whose, before, is_attr, outcome)
    }

    /// A read waits for something that comes by itself; or it could be waited for without an end as well.
    fn reads_wait(&self) -> Outcome {
        if self.tree.random().one_in(2) { Outcome::Waiting } else { Outcome::Pending }
    }

    /// What a read has found goes to whose it is.
    fn show(&self, number: u32, found: Iovec, out: &mut Out<'_>) {
        self.ledger.borrow_mut().shows(number, Shows::Bytes(found.to_vec()));
        hand_over(found, out);
    }

    /// An operation has been done, and shown to its client what is in the ledger since `before`. Its reply may have a gate.
    fn answered(&mut self, whose: Whose, before: usize, is_attr: bool, outcome: Outcome) -> Outcome {
        let Outcome::Done(Answer { result, .. }) = outcome else { unreachable!("the tree itself lets nothing wait") };
        let gate = if self.tree.fires(Fault::ReplyGated) { self.gate() } else { Gate::OPEN };
        let mut ledger = self.ledger.borrow_mut();
        if ledger.is_late {
            let gate = if ledger.is_open(gate) { Gate::OPEN } else { gate };
            ledger.holds(whose.number, before, is_attr && result.is_ok(), gate, whose.which.map(|(tag, _)| tag));
        }
        if let Some(which) = whose.which {
            ledger.tells(whose.number, which, gate);
        }
        Outcome::Done(Answer { result, gate })
    }

    /// A new gate, or the last one, open or not.
    fn gate(&mut self) -> Gate {
        if self.last_gate != Gate::OPEN && self.tree.random().one_in(3) {
            return self.last_gate;
        }
        // They open in their order.
        let opens = self.tree.now().mono_ns + self.tree.random().of(TIMES_NS);
        let opens = self.gates.back().map_or(opens, |&(_, last)| last.max(opens));
        self.last_gate.0 += 1;
        self.gates.push_back((self.last_gate, opens));
        if self.gates.len() >= self.behind_at && !self.is_behind() && self.tree.fires(Fault::TreeBehind) {
            self.ledger.borrow_mut().is_behind = true;
        }
        self.last_gate
    }

    /// Once a turn.
    fn open_gates(&mut self) {
        let now = self.tree.now().mono_ns;
        let mut ledger = self.ledger.borrow_mut();
        while let Some(&(gate, _)) = self.gates.front().filter(|(_, opens)| *opens <= now) {
            ledger.opened = gate;
            self.gates.pop_front();
        }
        ledger.is_behind &= self.gates.len() >= self.behind_at;
    }
}

impl<F: Filesystem> Service for Slow<F> {
    const FILE_BYTES: usize = Simple::<Watch<F>>::FILE_BYTES;

    fn init(&mut self, at: At) -> Result<()> {
        Service::init(&mut self.tree, at)
    }

    fn cleanup(&mut self) -> Result<()> {
        Service::cleanup(&mut self.tree)
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        // What was begun before may go on, and what is clunked may go.
        let goes_on =
            matches!(call, Call::Write { .. } | Call::Commit { .. } | Call::Wstat { .. } | Call::Fsync { .. });
        let ends = matches!(call, Call::Close { .. } | Call::Remove { .. } | Call::SetXattr { .. });
        assert!(goes_on || ends || !self.is_behind(), "gates: a tree that is behind is asked for {call:?}");
        let whose = self.whose(op, &call);
        if !self.tree.fires(Fault::TreeLate) {
            return self.make(op, whose, call, show, at);
        }
        self.tree.is_now(at);
        if matches!(show, Show::Nothing) && self.tree.random().one_in(2) {
            let outcome = self.tree.call(op, call, show, at);
            let Outcome::Done(answer) = outcome else { unreachable!("the tree itself lets nothing wait") };
            self.wait(op, whose, false, Kept::Done(answer.result, None));
            return Outcome::Pending;
        }
        let is_read = matches!(call, Call::Read { .. });
        self.wait(op, whose, true, Kept::Call(call.into()));
        if is_read { self.reads_wait() } else { Outcome::Pending }
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        self.tree.is_now(at);
        let found = self.waiting.iter().position(|waiting| waiting.op == op);
        let Waiting { whose, kept, can_be_taken_back, told, .. } =
            self.waiting.remove(found.expect("flush: what is finished waited, and once"));
        assert!(told, "flush: {op:?} is finished, and could not go on yet");
        self.ledger.borrow_mut().waits(whose.number, false);
        match kept {
            // Not after all.
            Kept::Call(call) if self.tree.random().one_in(8) => {
                let is_read = call.is_read();
                self.wait(op, whose, can_be_taken_back, Kept::Call(call));
                if is_read { self.reads_wait() } else { Outcome::Pending }
            }
            Kept::Call(call) => call.with(|call| self.make(op, whose, call, show, at)),
            Kept::Done(result, found) => {
                let before = self.ledger.borrow_mut().shown(whose.number);
                // Where nothing is to be shown, the request was taken back.
                if let (Some(found), Show::Data(mut out)) = (found, show) {
                    self.show(whose.number, found, &mut out);
                }
                self.answered(whose, before, false, Outcome::now(result))
            }
        }
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.op == op) else {
            panic!("flush: {op:?} is cancelled and does not wait")
        };
        let late = self.tree.random().one_in(3);
        if self.waiting[at].told || !self.waiting[at].can_be_taken_back || late {
            return Cancel::TooLate;
        }
        let waiting = self.waiting.remove(at);
        self.ledger.borrow_mut().waits(waiting.whose.number, false);
        Cancel::Cancelled
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        Service::grant(&mut self.tree, file, offset, count, at)
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        Service::extend(&mut self.tree, file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        assert_eq!(self.tree.ready(), None, "the tree itself lets nothing wait");
        self.open_gates();
        let now = self.tree.now().mono_ns;
        let due = self.waiting.iter_mut().find(|waiting| waiting.due <= now && !waiting.told)?;
        due.told = true;
        Some(due.op)
    }

    fn has_work(&self) -> bool {
        Service::has_work(&self.tree)
    }

    fn is_open(&self, gate: Gate) -> bool {
        self.ledger.borrow().is_open(gate)
    }

    fn is_behind(&self) -> bool {
        self.ledger.borrow().is_behind
    }

    fn tick(&mut self, at: At) {
        Service::tick(&mut self.tree, at);
    }

    fn spent(&mut self) -> u32 {
        Service::spent(&mut self.tree)
    }
}

/// What was read goes where it is wanted, pinned as it is.
pub(crate) fn hand_over(mut from: Iovec, to: &mut Out<'_>) {
    for part in std::mem::take(from.parts_mut()) {
        match part {
            Part::Slice(slice) => to.slice(slice),
            Part::Small(range) => to.bytes(&from.small()[range]),
        }
    }
}
