//! Asks of the tree: system calls that it wants done, a bounded number of them in flight.
//!
//! Once a turn, before the enter, the tree is asked for as many as there are free places; with no free place it is not asked,
//! which is the backpressure. The CQE of an ask gives it back to the tree with its memory, unless it is to be submitted again
//! (EINTR, EAGAIN, the second operation of a connect).
//!
//! Must not know: what a system call is for, and which memory it names (`uring/ask.rs`).

use super::io::Io;
use crate::fs::{Ask, AskId, At, Error, Service};
use crate::uring::ask::{ASKS_MAX, Ending, Flight, Step};
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

    /// Submits what is to be submitted again, and what the tree wants while there are free places.
    pub(super) fn begin<R: Ring, S: Service>(
        &mut self,
        fs: &mut S,
        io: &mut Io<R>,
        table: &Table,
        at: At,
    ) -> io::Result<()> {
        for slot in std::mem::take(&mut self.again) {
            self.submit(slot, io, table)?;
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
                    self.submit(slot, io, table)?;
                }
                Err((ask, result)) => {
                    self.is_restless = true;
                    fs.answered(id, ask, result, at);
                }
            }
        }
        self.is_restless = true;
        Ok(())
    }

    /// An ask to be submitted, or one that is over already, with its result.
    fn prepare(
        &mut self,
        id: AskId,
        ask: Ask,
        ring: &mut impl Ring,
    ) -> Result<Box<Flight>, (Ask, crate::fs::Result<u32>)> {
        let Ask::Cancel { of } = ask else { return Flight::new(id, ask, None) };
        let Some((slot, target)) = self.flights.iter_mut().find(|(_, flight)| flight.id == of) else {
            return Err((ask, Err(Error::ENOENT)));
        };
        match target.ending() {
            Ending::Cancel => {
                let target = Token::new(Op::Ask, target.generation, slot as u32);
                Flight::new(id, ask, Some(target))
            }
            Ending::Shutdown(fd) => {
                ring.shutdown(fd);
                Err((ask, Ok(0)))
            }
            Ending::Itself => {
                target.cancel();
                Err((ask, Ok(0)))
            }
        }
    }

    fn insert(&mut self, mut flight: Box<Flight>) -> u32 {
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        flight.generation = self.generation;
        self.flights.insert(flight) as u32
    }

    fn submit<R: Ring>(&mut self, slot: u32, io: &mut Io<R>, table: &Table) -> io::Result<()> {
        let flight = &mut self.flights[slot as usize];
        let token = Token::new(Op::Ask, flight.generation, slot);
        io.begin_patient(usize::from(flight.is_patient()));
        io.push(|ring| flight.start(ring, token, table))
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
        io.end_patient(usize::from(flight.is_patient()));
        match flight.ended(res, &mut io.ring) {
            Step::Again => self.again.push(token.slot),
            Step::Over(result) => {
                let flight = self.flights.remove(slot);
                fs.answered(flight.id, flight.into_ask(), result, at);
            }
        }
        true
    }

    /// Serving has ended, and every file is closed: tells the tree, once.
    pub(super) fn retire<S: Service>(&mut self, fs: &mut S, at: At) {
        if !std::mem::replace(&mut self.is_retired, true) {
            fs.retire(at);
        }
    }

    /// The tree was told that serving has ended, wants nothing more, and nothing is in flight.
    pub(super) fn are_over<S: Service>(&self, fs: &S) -> bool {
        self.is_retired && self.flights.is_empty() && !fs.has_asks()
    }

    /// Leaks the memory of what is in flight: the kernel may use it after the ring is closed.
    pub(super) fn forget_in_flight(&mut self) {
        self.flights.drain().for_each(std::mem::forget);
    }
}
