//! Peers whose replies wait for gates of the tree: when a gate opens, these have a turn, and no others.
//!
//! Must not know: what a gate stands for.

use crate::fs::Gate;
use std::collections::BTreeSet;

/// Gates that are waited for, with the slots of the peers that wait.
#[derive(Debug, Default)]
pub(super) struct Gates(BTreeSet<(Gate, u32)>);

impl Gates {
    /// A peer's replies wait for these gates.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, gates: impl Iterator<Item = Gate>) {
        gates.for_each(|gate| {
            self.0.insert((gate, slot));
        });
    }

    /// Takes a peer whose gate is open by now. Gates of a tree open in their order.
    #[inline]
    pub(super) fn next_open(&mut self, is_open: impl Fn(Gate) -> bool) -> Option<u32> {
        let mut next = self.0.first().copied();
        while let Some((gate, slot)) = next {
            if is_open(gate) {
                self.0.remove(&(gate, slot));
                return Some(slot);
            }
            // None of the same tree is open.
            next = self.0.range((gate.next_tree()?, 0)..).next().copied();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_those_whose_gates_are_open_come_and_each_once() {
        let mut gates = Gates::default();
        let second = |gate: u64| Gate(1 << 56 | gate);
        gates.note(1, [Gate(5), second(3)].into_iter());
        gates.note(2, [Gate(6)].into_iter());
        gates.note(2, [Gate(6)].into_iter());
        gates.note(3, [second(2)].into_iter());
        assert_eq!(gates.next_open(|_| false), None);
        let opened = |gate: Gate| if gate.tree() == 0 { gate <= Gate(4) } else { gate <= second(2) };
        assert_eq!((gates.next_open(opened), gates.next_open(opened)), (Some(3), None));
        let all: Vec<u32> = std::iter::from_fn(|| gates.next_open(|_| true)).collect();
        assert_eq!(all, [1, 2, 1]);
    }
}
