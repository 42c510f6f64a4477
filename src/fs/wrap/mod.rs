//! Trees around a tree. A [`Hook`] sees each call and makes it, another one, or none; what is not a call goes to the
//! tree inside. `late` is more than that: it has answers of its own.
//!
//! Must not know: which tree is inside.

mod late;
mod read_only;
mod trace;

pub use late::{Late, Times};
pub use read_only::ReadOnly;
pub use trace::Trace;

use super::service::{Call, Cancel, FileId, Gate, OpId, Outcome, Payload, Service, Show};
use super::{At, Grant, Result};

/// What a wrapper does with a call.
pub trait Hook {
    /// Makes the call of the tree inside, or answers by itself.
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome;
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

    #[inline(always)]
    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        self.hook.call(&mut self.tree, op, call, show, at)
    }

    fn init(&mut self, at: At) -> Result<()> {
        self.tree.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.tree.cleanup()
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        self.tree.is_private(aname)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        self.tree.finish(op, show, at)
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        self.tree.cancel(op)
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        self.tree.grant(file, offset, count, at)
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        self.tree.extend(file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        self.tree.ready()
    }

    fn has_work(&self) -> bool {
        self.tree.has_work()
    }

    fn is_open(&self, gate: Gate) -> bool {
        self.tree.is_open(gate)
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
}
