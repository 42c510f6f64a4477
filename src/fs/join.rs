//! Trees side by side: an attach goes to the first one that has the name, and everything below stays there.
//!
//! ```text
//! Join { names, first, rest: Join { names, first, rest: End } }
//! ```
//! A [`FileId`], a [`Gate`] and an [`AskId`] say which tree they belong to; a call goes there by one comparison for each tree on the way. An [`OpId`]
//! names one operation among all trees, and each join remembers which ones are in the rest.
//!
//! Must not know: what the trees are.

use super::service::{Answer, Call, Cancel, Done, FileId, Gate, OpId, Outcome, Payload, Service, Show};
use super::{Ask, AskId, At, Error, Grant, Result};
use std::collections::BTreeSet;

/// Attach names of a tree.
pub type AttachNames = &'static [&'static [u8]];

/// A tree, and further ones behind it.
#[derive(Debug)]
pub struct Join<A, B> {
    names: AttachNames,
    first: A,
    rest: B,
    /// Operations of the rest that are not done.
    in_rest: BTreeSet<OpId>,
    /// The rest is asked first next time, so that no tree keeps the others from asking.
    rest_asks: bool,
}

/// No tree at all: the end of the joins.
#[derive(Debug, Default)]
pub struct End;

impl<A, B> Join<A, B> {
    /// `first` under these attach names, exactly as they stand, and the `rest` under all others.
    pub fn new((names, first): (AttachNames, A), rest: B) -> Join<A, B> {
        Join { names, first, rest, in_rest: BTreeSet::new(), rest_asks: false }
    }

    /// The first tree.
    pub fn first(&mut self) -> &mut A {
        &mut self.first
    }

    /// The trees behind it.
    pub fn rest(&mut self) -> &mut B {
        &mut self.rest
    }

    /// Takes them apart.
    pub fn into_parts(self) -> (A, B) {
        (self.first, self.rest)
    }
}

impl Service for End {
    const FILE_BYTES: usize = 0;

    #[inline(always)]
    fn call(&mut self, _: OpId, call: Call<'_>, _: Show<'_>, _: At) -> Outcome {
        Outcome::now(Err(if matches!(call, Call::Attach { .. }) { Error::ENOENT } else { Error::EBADF }))
    }
}

/// An answer of the rest as this join gives it.
#[inline(always)]
fn outer(outcome: Outcome) -> Outcome {
    let Outcome::Done(Answer { result, gate }) = outcome else { return outcome };
    let result = match result {
        Ok(Done::File { file, qid }) => Ok(Done::File { file: file.behind(1), qid }),
        Ok(Done::Walked(file)) => Ok(Done::Walked(file.map(|file| file.behind(1)))),
        other => other,
    };
    Outcome::Done(Answer { result, gate: gate.behind(1) })
}

impl<A: Service, B: Service> Service for Join<A, B> {
    const FILE_BYTES: usize = if A::FILE_BYTES > B::FILE_BYTES { A::FILE_BYTES } else { B::FILE_BYTES };
    const NEEDS_ASKS: bool = A::NEEDS_ASKS || B::NEEDS_ASKS;

    fn init(&mut self, at: At) -> Result<()> {
        self.first.init(at)?;
        self.rest.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        let first = self.first.cleanup();
        self.rest.cleanup()?;
        first
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        if self.names.contains(&aname) { self.first.is_private(aname) } else { self.rest.is_private(aname) }
    }

    /// One look at the tree of the call's files, and one call of that tree: each place that asks has this inlined.
    #[inline(always)]
    fn call(&mut self, op: OpId, mut call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let in_first = match call.files() {
            [None, _] => matches!(&call, Call::Attach { aname, .. } if self.names.contains(aname)),
            [Some(file), None] => file.tree() == 0,
            [Some(one), Some(other)] if (one.tree() == 0) != (other.tree() == 0) => {
                return Outcome::now(Err(Error::EXDEV));
            }
            [Some(file), Some(_)] => file.tree() == 0,
        };
        if in_first {
            return self.first.call(op, call, show, at);
        }
        call.files().into_iter().flatten().for_each(|file| *file = file.in_rest());
        let outcome = self.rest.call(op, call, show, at);
        if !matches!(outcome, Outcome::Done(_)) {
            self.in_rest.insert(op);
        }
        outer(outcome)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        if !self.in_rest.contains(&op) {
            return self.first.finish(op, show, at);
        }
        let outcome = self.rest.finish(op, show, at);
        if let Outcome::Done(_) = outcome {
            self.in_rest.remove(&op);
        }
        outer(outcome)
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        if !self.in_rest.contains(&op) {
            return self.first.cancel(op);
        }
        let cancel = self.rest.cancel(op);
        if cancel == Cancel::Cancelled {
            self.in_rest.remove(&op);
        }
        cancel
    }

    #[inline]
    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        if file.tree() == 0 {
            self.first.grant(file, offset, count, at)
        } else {
            self.rest.grant(file.in_rest(), offset, count, at)
        }
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        if file.tree() == 0 { self.first.extend(file, grant) } else { self.rest.extend(file.in_rest(), grant) }
    }

    #[inline]
    fn ready(&mut self) -> Option<OpId> {
        self.first.ready().or_else(|| self.rest.ready())
    }

    fn has_work(&self) -> bool {
        self.first.has_work() || self.rest.has_work()
    }

    fn refused(&self, file: FileId) -> Gate {
        if file.tree() == 0 { self.first.refused(file) } else { self.rest.refused(file.in_rest()).behind(1) }
    }

    fn is_open(&self, gate: Gate) -> bool {
        if gate.tree() == 0 { self.first.is_open(gate) } else { self.rest.is_open(gate.in_rest()) }
    }

    fn is_behind(&self) -> bool {
        self.first.is_behind() || self.rest.is_behind()
    }

    #[inline]
    fn file_memory_bytes(&self) -> usize {
        self.first.file_memory_bytes() + self.rest.file_memory_bytes()
    }

    fn tick(&mut self, at: At) {
        self.first.tick(at);
        self.rest.tick(at);
    }

    #[inline]
    fn spent(&mut self) -> u32 {
        self.first.spent() + self.rest.spent()
    }

    #[inline]
    fn ask(&mut self) -> Option<(AskId, Ask)> {
        if !Self::NEEDS_ASKS {
            return None;
        }
        let rest_first = self.rest_asks;
        self.rest_asks = !rest_first;
        if !rest_first && let Some(asked) = self.first.ask() {
            return Some(asked);
        }
        if let Some((id, mut ask)) = self.rest.ask() {
            ask.other().into_iter().for_each(|other| *other = other.behind(1));
            return Some((id.behind(1), ask));
        }
        if rest_first { self.first.ask() } else { None }
    }

    fn answered(&mut self, id: AskId, mut ask: Ask, result: Result<u32>, at: At) {
        if id.tree() == 0 {
            return self.first.answered(id, ask, result, at);
        }
        ask.other().into_iter().for_each(|other| *other = other.in_rest());
        self.rest.answered(id.in_rest(), ask, result, at);
    }

    fn has_asks(&self) -> bool {
        self.first.has_asks() || self.rest.has_asks()
    }

    fn retire(&mut self, at: At) {
        self.first.retire(at);
        self.rest.retire(at);
    }
}

#[cfg(test)]
mod tests;
