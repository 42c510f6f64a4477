//! What the tree answers later: operations that can go on, gates that have opened, a tree that is no longer behind.
//!
//! Must not know: what an operation is.

use super::gates::Gates;
use super::kept::Kept;
use super::peers::Peers;
use super::work::Work;
use crate::fs::{At, Gate, Service};
use crate::session;

/// Operations that the tree ends in one half of a turn. A line of the log may end thousands of reads.
const COMPLETIONS_MAX: usize = 64;

/// What peers wait for from the tree.
#[derive(Default)]
pub(super) struct Late {
    /// More operations of the tree can be finished than a turn finishes.
    has_more: bool,
    /// Peers whose replies wait for gates of the tree.
    gates: Gates,
}

impl Late {
    /// The next turn must not wait: more operations can be finished.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Replies of a peer wait for these gates.
    #[inline]
    pub(super) fn note(&mut self, slot: u32, gates: impl Iterator<Item = Gate>) {
        self.gates.note(slot, gates);
    }

    /// Ends what the tree can end by now, 64 operations at most, and lists the peers that have a reply. Where this round is over,
    /// they have a turn in the next one, which starts without waiting.
    #[inline]
    pub(super) fn complete<S: Service>(
        &mut self,
        fs: &mut S,
        peers: &mut Peers<S>,
        work: &mut Work,
        kept: &mut Kept,
        at: At,
    ) {
        for _ in 0..COMPLETIONS_MAX {
            let Some(op) = fs.ready() else {
                self.has_more = false;
                break;
            };
            self.has_more = true;
            if let Some(peer) = peers.get_mut(op.peer) {
                kept.lend(&mut peer.session);
                peer.session.complete(fs, op, at);
                peer.need.held |= peer.session.is_held();
                work.list(op.peer, &mut peer.listed);
            } else {
                // The peer that has asked is gone: the tree must not keep the answer.
                session::discard(fs, op, at);
            }
        }
        // A peer that waited may be gone by now. If its slot is another one's, that one has a turn for nothing.
        let mut list = |work: &mut Work, slot| {
            if let Some(peer) = peers.get_mut(slot) {
                work.list(slot, &mut peer.listed);
            }
        };
        while let Some(slot) = self.gates.next_open(|gate| fs.is_open(gate)) {
            list(work, slot);
        }
        if work.has_behind() && !fs.is_behind() {
            for slot in work.take_behind() {
                list(work, slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::OpId;
    use crate::uring::testring::{TestTree, peer};

    /// Two peers, neither of them listed.
    fn begun() -> (Late, TestTree, Peers<TestTree>, Work) {
        let mut peers = Peers::new();
        for slot in 0..2 {
            peers.insert(peer(slot, 0, false));
        }
        (Late::default(), TestTree::default(), peers, Work::default())
    }

    #[test]
    fn a_turn_finishes_some_operations_and_the_next_one_the_others() {
        let (mut late, mut tree, mut peers, mut work) = begun();
        tree.ready.extend((0..COMPLETIONS_MAX as u64 + 1).map(|serial| OpId { peer: 1, serial }));
        late.complete(&mut tree, &mut peers, &mut work, &mut Kept::default(), At::default());
        assert!(late.has_more() && tree.ready.len() == 1);
        late.complete(&mut tree, &mut peers, &mut work, &mut Kept::default(), At::default());
        assert!(!late.has_more() && tree.ready.is_empty());
        assert_eq!(work.take_round(), [1], "once");
    }

    #[test]
    fn the_answer_for_a_peer_that_is_gone_is_taken_from_the_tree() {
        let (mut late, mut tree, mut peers, mut work) = begun();
        let op = OpId { peer: 9, serial: 1 };
        tree.ready.push_back(op);
        late.complete(&mut tree, &mut peers, &mut work, &mut Kept::default(), At::default());
        assert_eq!(tree.finished, [op]);
        assert!(work.is_empty());
    }

    #[test]
    fn a_peer_that_waits_for_the_tree_has_a_turn_once_it_is_no_longer_behind() {
        let (mut late, mut tree, mut peers, mut work) = begun();
        [1, 9].into_iter().for_each(|slot| work.wait_behind(slot));
        for is_behind in [true, false] {
            tree.is_behind = is_behind;
            late.complete(&mut tree, &mut peers, &mut work, &mut Kept::default(), At::default());
            assert_eq!((work.is_empty(), work.has_behind()), (is_behind, is_behind));
        }
        assert_eq!(work.take_round(), [1], "the other one is gone");
    }
}
