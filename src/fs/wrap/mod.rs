//! Trees around a tree. A [`Hook`] sees each call and makes it, another one, or none. What it has no method for goes to the
//! tree inside.
//!
//! Must not know: which tree is inside.

mod late;
mod read_only;
mod trace;

pub use late::{Late, Times};
pub use read_only::ReadOnly;
pub use trace::Trace;

use super::service::{Call, Cancel, FileId, Gate, OpId, Outcome, Payload, Service, Show};
use super::{Ask, AskId, At, Grant, Result};

/// What a wrapper does with a call, and with what follows from calls that it has put off.
pub trait Hook {
    /// As [`Service::NEEDS_ASKS`], for what the hook itself asks.
    const NEEDS_ASKS: bool = false;

    /// Makes the call of the tree inside, or answers by itself.
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome;

    /// As [`Service::finish`].
    fn finish<T: Service>(&mut self, tree: &mut T, op: OpId, show: Show<'_>, at: At) -> Outcome {
        tree.finish(op, show, at)
    }

    /// As [`Service::cancel`].
    fn cancel<T: Service>(&mut self, tree: &mut T, op: OpId) -> Cancel {
        tree.cancel(op)
    }

    /// As [`Service::grant`].
    fn grant<T: Service>(&mut self, tree: &mut T, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        tree.grant(file, offset, count, at)
    }

    /// As [`Service::ready`].
    fn ready<T: Service>(&mut self, tree: &mut T) -> Option<OpId> {
        tree.ready()
    }

    /// As [`Service::has_work`].
    fn has_work<T: Service>(&self, tree: &T) -> bool {
        tree.has_work()
    }

    /// As [`Service::is_open`].
    fn is_open<T: Service>(&self, tree: &T, gate: Gate) -> bool {
        tree.is_open(gate)
    }

    /// As [`Service::ask`].
    fn ask<T: Service>(&mut self, tree: &mut T) -> Option<(AskId, Ask)> {
        tree.ask()
    }

    /// As [`Service::answered`].
    fn answered<T: Service>(&mut self, tree: &mut T, id: AskId, ask: Ask, result: Result<u32>, at: At) {
        tree.answered(id, ask, result, at);
    }

    /// As [`Service::has_asks`].
    fn has_asks<T: Service>(&self, tree: &T) -> bool {
        tree.has_asks()
    }

    /// As [`Service::retire`].
    fn retire<T: Service>(&mut self, tree: &mut T, at: At) {
        tree.retire(at);
    }

    /// As [`Service::cleanup`].
    fn cleanup<T: Service>(&mut self, tree: &mut T) -> Result<()> {
        tree.cleanup()
    }
}

/// A tree with a hook in front of it.
#[derive(Debug)]
pub struct Wrapped<T, H> {
    tree: T,
    hook: H,
}

impl<T, H> Wrapped<T, H> {
    /// The hook in front of the tree.
    pub fn new(tree: T, hook: H) -> Wrapped<T, H> {
        Wrapped { tree, hook }
    }

    /// The tree inside.
    pub fn inner(&mut self) -> &mut T {
        &mut self.tree
    }
}

impl<T: Service, H: Hook> Service for Wrapped<T, H> {
    const FILE_BYTES: usize = T::FILE_BYTES;
    const NEEDS_ASKS: bool = T::NEEDS_ASKS || H::NEEDS_ASKS;

    #[inline(always)]
    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        self.hook.call(&mut self.tree, op, call, show, at)
    }

    fn init(&mut self, at: At) -> Result<()> {
        self.tree.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.hook.cleanup(&mut self.tree)
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        self.tree.is_private(aname)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        self.hook.finish(&mut self.tree, op, show, at)
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        self.hook.cancel(&mut self.tree, op)
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        self.hook.grant(&mut self.tree, file, offset, count, at)
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        self.tree.extend(file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        self.hook.ready(&mut self.tree)
    }

    fn has_work(&self) -> bool {
        self.hook.has_work(&self.tree)
    }

    fn refused(&self, file: FileId) -> Gate {
        self.tree.refused(file)
    }

    fn is_open(&self, gate: Gate) -> bool {
        self.hook.is_open(&self.tree, gate)
    }

    fn is_behind(&self) -> bool {
        self.tree.is_behind()
    }

    fn file_memory_bytes(&self) -> usize {
        self.tree.file_memory_bytes()
    }

    fn tick(&mut self, at: At) {
        self.tree.tick(at);
    }

    fn spent(&mut self) -> u32 {
        self.tree.spent()
    }

    fn ask(&mut self) -> Option<(AskId, Ask)> {
        self.hook.ask(&mut self.tree)
    }

    fn answered(&mut self, id: AskId, ask: Ask, result: Result<u32>, at: At) {
        self.hook.answered(&mut self.tree, id, ask, result, at);
    }

    fn has_asks(&self) -> bool {
        self.hook.has_asks(&self.tree)
    }

    fn retire(&mut self, at: At) {
        self.hook.retire(&mut self.tree, at);
    }
}
