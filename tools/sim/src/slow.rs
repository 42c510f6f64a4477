//! The watched tree as a service whose operations wait now and then. What waits has been done: it is told later, and what a
//! read has found is shown to its client then.

use crate::kernel::faults::Fault;
use crate::ledger::{Answer as Shows, Ledger};
use crate::watch::Watch;
use ring9::fs::{
    Answer, At, Call, Cancel, Done, FileId, Filesystem, Gate, Grant, Iovec, OpId, Out, Outcome, Part, Payload, Result,
    Service, Show, Simple,
};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// An operation that waits.
struct Waiting {
    op: OpId,
    /// Whose it is, by the ledger.
    number: u32,
    /// When it ends, in monotonic nanoseconds.
    due: u64,
    told: bool,
    can_be_taken_back: bool,
    done: Done,
    /// What a read has found.
    found: Option<Iovec>,
}

/// The tree.
pub(crate) struct Slow<F: Filesystem> {
    tree: Simple<Watch<F>>,
    ledger: Rc<RefCell<Ledger>>,
    waiting: Vec<Waiting>,
    /// What waits does so for long.
    lazy: bool,
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
    pub(crate) fn new(watch: Watch<F>, ledger: Rc<RefCell<Ledger>>) -> Slow<F> {
        let lazy = watch.random().one_in(2);
        Slow { tree: watch.into(), ledger, waiting: Vec::new(), lazy }
    }

    /// What waits for nobody any more is given up; but what could be finished has been.
    pub(crate) fn let_go(&mut self) {
        assert!(!self.waiting.iter().any(|waiting| waiting.told), "leaks: an operation that could be finished");
        self.waiting.clear();
    }

    fn waits(&self) -> bool {
        self.tree.fires(Fault::TreeWaits)
    }

    /// Lets an operation wait that has been done.
    fn wait(&mut self, op: OpId, can_be_taken_back: bool, done: Done, found: Option<Iovec>) {
        assert!(self.waiting.iter().all(|waiting| waiting.op != op), "flush: {op:?} waits already");
        let waits_ns =
            if self.lazy { 1_000_000_000 } else { self.tree.random().of(&[0, 1_000, 100_000, 1_000_000_000]) };
        let (number, due) = (self.tree.last(), self.tree.now().mono_ns + waits_ns);
        self.ledger.borrow_mut().waits(number, true);
        self.waiting.push(Waiting { op, number, due, told: false, can_be_taken_back, done, found });
    }

    /// What a read has found goes to whose it is.
    fn show(&self, number: u32, found: Iovec, out: &mut Out<'_>) {
        self.ledger.borrow_mut().shows(number, Shows::Bytes(found.to_vec()));
        hand_over(found, out);
    }

    /// A write or an fsync: what it answers may have to wait.
    fn written(&mut self, op: OpId, can_be_taken_back: bool, outcome: Outcome) -> Outcome {
        if let Outcome::Done(Answer { result: Ok(done), .. }) = outcome
            && self.waits()
        {
            self.wait(op, can_be_taken_back, done, None);
            return Outcome::Pending;
        }
        outcome
    }
}

impl<F: Filesystem> Service for Slow<F> {
    const FILE_BYTES: usize = Simple::<Watch<F>>::FILE_BYTES;
    /// It is inside of a tree that asks (`asking.rs`).
    const NEEDS_ASKS: bool = true;

    fn init(&mut self, at: At) -> Result<()> {
        Service::init(&mut self.tree, at)
    }

    fn cleanup(&mut self) -> Result<()> {
        Service::cleanup(&mut self.tree)
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        match call {
            Call::Read { .. } => {
                let Show::Data(mut out) = show else { panic!("replies: a read that shows nothing") };
                let mut found = Iovec::default();
                let outcome = self.tree.call(op, call, Show::Data(found.out(out.room())), at);
                let Outcome::Done(Answer { result: Ok(done), .. }) = outcome else { return outcome };
                if out.room() > 0 && self.waits() {
                    self.wait(op, true, done, Some(found));
                    // It could be waited for without an end as well.
                    return if self.tree.random().one_in(2) { Outcome::Waiting } else { Outcome::Pending };
                }
                self.show(self.tree.last(), found, &mut out);
                outcome
            }
            Call::Write { .. } | Call::Commit { .. } => {
                let outcome = self.tree.call(op, call, show, at);
                self.written(op, false, outcome)
            }
            Call::Fsync { .. } => {
                let outcome = self.tree.call(op, call, show, at);
                self.written(op, true, outcome)
            }
            call => self.tree.call(op, call, show, at),
        }
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        self.tree.is_now(at);
        let at = self.waiting.iter().position(|waiting| waiting.op == op);
        let Waiting { number, done, found, .. } =
            self.waiting.remove(at.expect("flush: what is finished waited, and once"));
        self.ledger.borrow_mut().waits(number, false);
        // Where nothing is to be shown, nobody wants it any more.
        if let (Some(found), Show::Data(mut out)) = (found, show) {
            self.show(number, found, &mut out);
        }
        Outcome::now(Ok(done))
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
        self.ledger.borrow_mut().waits(waiting.number, false);
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
        let now = self.tree.now().mono_ns;
        let due = self.waiting.iter_mut().find(|waiting| waiting.due <= now && !waiting.told)?;
        due.told = true;
        Some(due.op)
    }

    fn has_work(&self) -> bool {
        Service::has_work(&self.tree)
    }

    fn is_open(&self, gate: Gate) -> bool {
        assert_eq!(gate, Gate::OPEN, "replies: nothing has a gate");
        true
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
