//! Asks: system calls that the tree asks for, a bounded number of them in flight.
//!
//! Once a turn, before the enter, the tree is asked for as many as there are free places; with no free place it is not asked,
//! which is the backpressure. Asks that may take any time have a bound below that, beyond which they end at once (EAGAIN): so
//! there is always a place for a cancellation, soon. The CQE of an ask gives it back to the tree with its memory, unless it is to be submitted again
//! (EINTR, EAGAIN, the second operation of a connect).
//!
//! Must not know: what a system call is for, and which memory it names (`uring/ask.rs`).

use super::io::Io;
use super::quiet::Quiet;
use crate::fs::{Ask, AskId, At, Error, Service};
use crate::uring::ask::{ASKS_MAX, Ending, Flight, LONG_ASKS_MAX, Step};
use crate::uring::ring::Ring;
use crate::uring::table::Table;
use crate::uring::token::{Op, Token};
use slab::Slab;
use std::io;

/// Asks in flight.
#[derive(Default)]
pub(super) struct Asks {
    /// Each is in flight, or listed in `again`.
    flights: Slab<Box<Flight>>,
    generation: u32,
    /// Slots of those that are to be submitted again.
    again: Vec<u32>,
    /// Slots of quiet sends, with generations.
    quiet: Vec<(u32, u32)>,
    /// The next turn must not wait: an ask ended without a CQE, so the tree may have more to do.
    is_restless: bool,
    /// The tree was told that serving has ended.
    is_retired: bool,
}

impl Asks {
    /// Asks in flight.
    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// The loop must not wait.
    #[inline]
    pub(super) fn has_work(&self) -> bool {
        self.is_restless || !self.again.is_empty()
    }

    /// Submits what is to be submitted again, and new asks while there are free places.
    pub(super) fn begin<R: Ring, S: Service>(
        &mut self,
        fs: &mut S,
        (io, quiet): (&mut Io<R>, &mut Quiet),
        table: &Table,
        at: At,
    ) -> io::Result<()> {
        for slot in std::mem::take(&mut self.again) {
            self.submit(slot, io, quiet, table)?;
        }
        self.is_restless = false;
        // An ask may end at once, and another one follow: no more than this many in a turn.
        for _ in 0..ASKS_MAX {
            if self.flights.len() == ASKS_MAX {
                return Ok(());
            }
            let Some((id, ask)) = fs.ask() else { return Ok(()) };
            match self.prepare(id, ask, &mut io.ring) {
                Ok(flight) => {
                    let slot = self.insert(flight);
                    self.submit(slot, io, quiet, table)?;
                }
                Err((ask, result)) => {
                    self.is_restless = true;
                    fs.answered(id, ask, result, at);
                }
            }
        }
        Ok(())
    }

    /// An ask to be submitted, or one that is over already, with its result.
    fn prepare(
        &mut self,
        id: AskId,
        ask: Ask,
        ring: &mut impl Ring,
    ) -> Result<Box<Flight>, (Ask, crate::fs::Result<u32>)> {
        let Ask::Cancel { of } = ask else {
            let flight = Flight::new(id, ask, None)?;
            return if flight.is_long() && !self.has_long_place(id.tree()) {
                Err((flight.into_ask(), Err(Error::EAGAIN)))
            } else {
                Ok(flight)
            };
        };
        let Some((slot, target)) = self.flights.iter_mut().find(|(_, flight)| flight.id == of) else {
            return Err((ask, Err(Error::ENOENT)));
        };
        // It may end with EINTR or EAGAIN before the cancellation comes to it, or because of it.
        target.cancel();
        match target.ending() {
            Ending::Cancel => {
                let target = Token::new(Op::Ask, target.generation, slot as u32);
                Flight::new(id, ask, Some(target))
            }
            Ending::Shutdown(fd) => {
                ring.shutdown(fd);
                Err((ask, Ok(0)))
            }
            Ending::Itself => Err((ask, Ok(0))),
        }
    }

    /// Whether a tree may have one more ask that may take any time.
    fn has_long_place(&self, tree: u8) -> bool {
        let (mut all, mut own) = (0, 0);
        for (_, flight) in self.flights.iter().filter(|(_, flight)| flight.is_long()) {
            all += 1;
            own += usize::from(flight.id.tree() == tree);
        }
        own < LONG_ASKS_MAX.saturating_sub(all)
    }

    fn insert(&mut self, mut flight: Box<Flight>) -> u32 {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        flight.generation = self.generation;
        self.flights.insert(flight) as u32
    }

    fn submit<R: Ring>(&mut self, slot: u32, io: &mut Io<R>, quiet: &mut Quiet, table: &Table) -> io::Result<()> {
        let flight = &mut self.flights[slot as usize];
        let token = Token::new(Op::Ask, flight.generation, slot);
        io.push(|ring| flight.start(ring, token, table))?;
        if flight.is_quiet() {
            self.quiet.push((slot, flight.generation));
            quiet.pushed_another(io);
        } else {
            io.begin_patient(1);
        }
        Ok(())
    }

    /// Quiet sends may be in flight.
    #[inline]
    pub(super) fn has_quiet(&self) -> bool {
        !self.quiet.is_empty()
    }

    /// Once quiet operations are [settled](Quiet::settle): ends those that have no CQE.
    pub(super) fn end_quiet<S: Service>(&mut self, fs: &mut S, at: At) {
        let mut quiet = std::mem::take(&mut self.quiet);
        for (slot, generation) in quiet.drain(..) {
            let flight = self.flights.get(slot as usize).filter(|flight| flight.generation == generation);
            if let Some(flight) = flight.filter(|flight| flight.is_quiet()) {
                self.over(slot, Ok(flight.offered() as u32), fs, at);
            }
        }
        self.quiet = quiet;
    }

    /// The CQE of an ask. False if it is none of those in flight.
    pub(super) fn ended<R: Ring, S: Service>(
        &mut self,
        token: Token,
        res: i32,
        fs: &mut S,
        io: &mut Io<R>,
        at: At,
    ) -> bool {
        let slot = token.slot as usize;
        let Some(flight) = self.flights.get_mut(slot).filter(|flight| flight.generation == token.generation) else {
            return false;
        };
        if !flight.is_quiet() {
            io.end_patient(1);
        }
        match flight.ended(res, &mut io.ring) {
            Step::Again => self.again.push(token.slot),
            Step::Over(result) => self.over(token.slot, result, fs, at),
        }
        true
    }

    /// Gives an ask back to the tree.
    fn over<S: Service>(&mut self, slot: u32, result: crate::fs::Result<u32>, fs: &mut S, at: At) {
        let flight = self.flights.remove(slot as usize);
        fs.answered(flight.id, flight.into_ask(), result, at);
    }

    /// Serving has ended, and every file is closed: tells the tree, once.
    pub(super) fn retire<S: Service>(&mut self, fs: &mut S, at: At) {
        if !std::mem::replace(&mut self.is_retired, true) {
            fs.retire(at);
        }
    }

    /// The tree was told that serving has ended, it has no further ask, and none is in flight.
    pub(super) fn are_over<S: Service>(&self, fs: &S) -> bool {
        self.is_retired && self.flights.is_empty() && !fs.has_asks()
    }

    /// Leaks the memory of what is in flight: the kernel may use it after the ring is closed.
    pub(super) fn forget_in_flight(&mut self) {
        self.flights.drain().for_each(std::mem::forget);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::fs::Descriptor;
    use crate::uring::testring::{TestRing, TestTree};
    use nix::libc::{EAGAIN, ECANCELED};
    use std::rc::Rc;

    /// It does not take long.
    const SYNC: Ask = Ask::Sync { file: Descriptor(7), data_only: true };

    struct Begun {
        asks: Asks,
        tree: TestTree,
        io: Io<TestRing>,
        quiet: Quiet,
        table: Table,
    }

    impl Begun {
        fn new() -> Begun {
            let arena = Arena::new(0).expect("memory");
            let io = Io::new(TestRing::default(), Rc::default());
            let (asks, tree, quiet) = (Asks::default(), TestTree::default(), Quiet::default());
            Begun { asks, tree, io, quiet, table: Table::new(arena.memory()) }
        }

        fn want(&mut self, id: u64, ask: Ask) {
            self.tree.wants.push_back((AskId(id), ask));
        }

        /// A turn begins; how many entries that pushes.
        fn begin(&mut self) -> usize {
            let before = self.io.ring.pushed.len();
            let Begun { asks, tree, io, quiet, table } = self;
            asks.begin(tree, (io, quiet), table, At::default()).expect("the ring works");
            self.io.ring.pushed.len() - before
        }

        fn settle(&mut self) {
            self.asks.end_quiet(&mut self.tree, At::default());
        }

        fn ends(&mut self, slot: u32, res: i32) -> bool {
            let token = Token::new(Op::Ask, self.asks.flights[slot as usize].generation, slot);
            self.asks.ended(token, res, &mut self.tree, &mut self.io, At::default())
        }
    }

    #[test]
    fn a_tree_is_not_asked_while_no_place_is_free() {
        let mut begun = Begun::new();
        (0..ASKS_MAX as u64 + 2).for_each(|id| begun.want(id, SYNC));
        for pushed in [ASKS_MAX, 0] {
            assert_eq!((begun.begin(), begun.tree.wants.len()), (pushed, 2));
            assert!(!begun.asks.has_work(), "a completion ends the wait");
        }
        assert_eq!(begun.io.patient(), ASKS_MAX);
        assert!(begun.ends(7, 0));
        assert_eq!((begun.begin(), begun.asks.len()), (1, ASKS_MAX));
    }

    #[test]
    fn a_quiet_send_ends_once_all_is_settled_unless_it_has_found_no_room() {
        let mut begun = Begun::new();
        let send = || {
            let mut data = crate::fs::Iovec::default();
            data.put_copy(b"four");
            Ask::Send { socket: Descriptor(7), data: data.into(), quiet: true }
        };
        begun.want(1, send());
        begun.want(2, send());
        assert_eq!((begun.begin(), begun.io.patient(), begun.asks.has_quiet()), (2, 0, true));
        assert!(begun.ends(1, -EAGAIN));
        begun.settle();
        let ended: Vec<_> = begun.tree.results.drain(..).collect();
        assert_eq!(ended, [(AskId(1), Ok(4))]);
        // The other one waits for room now, and has a CQE in any case.
        assert_eq!((begun.begin(), begun.io.patient(), begun.asks.has_quiet()), (1, 1, false));
        begun.settle();
        assert!(begun.tree.results.is_empty());
        assert!(begun.ends(1, 4));
        assert_eq!((begun.tree.results.len(), begun.asks.len(), begun.io.patient()), (1, 0, 0));
    }

    #[test]
    fn asks_that_may_take_any_time_leave_places_for_others_and_for_cancellations() {
        let mut begun = Begun::new();
        let timer = || Ask::Timer { ns: 1 };
        let alone = LONG_ASKS_MAX as u64 / 2;
        (0..ASKS_MAX as u64).for_each(|id| begun.want(id, timer()));
        assert_eq!(begun.begin() as u64, alone);
        let refused = begun.tree.results.drain(..).collect::<Vec<_>>();
        assert!(refused.iter().map(|(id, _)| id.0).eq(alone..ASKS_MAX as u64));
        assert!(refused.iter().all(|(_, result)| *result == Err(Error::EAGAIN)));
        // Of another tree.
        let other = |id: u64| 1 << 56 | id;
        (0..ASKS_MAX as u64).for_each(|id| begun.want(other(id), timer()));
        assert_eq!(begun.begin() as u64, alone / 2);
        begun.tree.results.clear();
        begun.want(1000, SYNC);
        begun.want(1001, Ask::Cancel { of: AskId(0) });
        assert_eq!(begun.begin(), 2);
        assert!(begun.ends(0, -ECANCELED));
        (1002..1004).for_each(|id| begun.want(id, timer()));
        assert_eq!(begun.begin(), 0, "it still has more than are free");
        (1002..1004).for_each(|id| begun.want(other(id), timer()));
        assert_eq!(begun.begin(), 1, "the place of the one that has ended");
    }

    #[test]
    fn what_ends_without_a_completion_keeps_the_loop_from_waiting_once() {
        let mut begun = Begun::new();
        begun.want(1, Ask::Cancel { of: AskId(9) });
        assert_eq!((begun.begin(), begun.asks.has_work()), (0, true));
        assert_eq!(begun.tree.results, [(AskId(1), Err(Error::ENOENT))]);
        assert_eq!((begun.begin(), begun.asks.has_work()), (0, false));
    }

    #[test]
    fn a_tree_that_asks_for_nothing_again_and_again_does_not_keep_a_turn() {
        let mut begun = Begun::new();
        (0..2 * ASKS_MAX as u64).for_each(|id| begun.want(id, Ask::Cancel { of: AskId(u64::MAX) }));
        begun.begin();
        assert_eq!((begun.tree.results.len(), begun.asks.has_work()), (ASKS_MAX, true));
    }

    #[test]
    fn asks_are_over_once_the_tree_was_told_and_wants_nothing_more() {
        let mut begun = Begun::new();
        begun.want(1, Ask::Timer { ns: 1 });
        begun.begin();
        assert!(!begun.asks.are_over(&begun.tree), "it was not told");
        for _ in 0..2 {
            begun.asks.retire(&mut begun.tree, At::default());
        }
        assert_eq!(begun.tree.retired, 1);
        assert!(!begun.asks.are_over(&begun.tree), "one is in flight");
        assert!(begun.ends(0, -62));
        begun.want(2, Ask::Timer { ns: 1 });
        assert!(!begun.asks.are_over(&begun.tree), "one is wanted");
        begun.tree.wants.clear();
        assert!(begun.asks.are_over(&begun.tree));
    }
}
