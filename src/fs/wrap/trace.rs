//! A tree whose calls are logged at the level `trace`, under the target `ring9::call`, with what became of each at once.

use super::Hook;
use crate::fs::{At, Call, OpId, Outcome, Service, Show};

/// Logs the calls of a tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

impl Hook for Trace {
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        if !log::log_enabled!(target: "ring9::call", log::Level::Trace) {
            return tree.call(op, call, show, at);
        }
        let asked = format!("{call:?}");
        let outcome = tree.call(op, call, show, at);
        log::trace!(target: "ring9::call", "peer {} operation {}: {asked}: {outcome:?}", op.peer, op.serial);
        outcome
    }
}
