//! The work list: which peers have a turn, which wait for a tree that is behind, and whether others are being served.
//!
//! Must not know: what a peer's turn does.

use super::recent::Recent;
use std::collections::BTreeSet;

/// A peer that had a turn less than this many nanoseconds ago is being served: the loop has more to do than to wait for
/// another one's client.
const BUSY_NS: u64 = 20_000;

/// Peers to go on with.
#[derive(Default)]
pub(super) struct Work {
    /// Slots for the next round.
    next: Vec<u32>,
    /// The memory of the last round's list.
    spare: Vec<u32>,
    /// Peers of this round behind the one that has its turn.
    left: usize,
    /// Peers that are not served until the tree is no longer behind.
    behind: BTreeSet<u32>,
    /// The slot from which the next list of these starts.
    first: u32,
    /// Peers that have had a turn a moment ago.
    busy: Recent,
}

impl Work {
    /// Lists a peer for the next round. `listed` is the peer's own mark, so that it is on the list once.
    #[inline]
    pub(super) fn list(&mut self, slot: u32, listed: &mut bool) {
        if !std::mem::replace(listed, true) {
            self.next.push(slot);
        }
    }

    /// Takes the list of a round. The caller says [`begin`](Self::begin) for each slot, and returns the list to
    /// [`end_round`](Self::end_round).
    #[inline]
    pub(super) fn take_round(&mut self) -> Vec<u32> {
        let next = std::mem::take(&mut self.spare);
        let round = std::mem::replace(&mut self.next, next);
        self.left = round.len();
        round
    }

    /// The turn of a peer of this round begins.
    #[inline]
    pub(super) fn begin(&mut self, slot: u32, now: u64) {
        self.left -= 1;
        self.busy.note(slot, now);
    }

    /// Keeps the memory of a round's list.
    pub(super) fn end_round(&mut self, round: Vec<u32>) {
        debug_assert!(round.is_empty() && self.left == 0, "every peer of the round had its turn");
        self.spare = round;
    }

    /// No peer is listed for the next round.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// No peer has something to do but the one that has its turn.
    #[inline]
    pub(super) fn is_last(&self) -> bool {
        self.next.is_empty() && self.left == 0
    }

    /// Whether other peers than this one are being served.
    #[inline]
    pub(super) fn is_shared(&self, slot: u32, now: u64) -> bool {
        self.busy.has_another(slot, now, BUSY_NS)
    }

    /// A peer waits until the tree is no longer behind.
    pub(super) fn wait_behind(&mut self, slot: u32) {
        self.behind.insert(slot);
    }

    /// Peers wait for the tree.
    #[inline]
    pub(super) fn has_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Takes the peers that wait for the tree. Each list starts one of them later, since the tree may be behind again after the
    /// first.
    pub(super) fn take_behind(&mut self) -> impl Iterator<Item = u32> + use<> {
        let mut behind = std::mem::take(&mut self.behind);
        let first = behind.range(self.first..).next().or(behind.first()).copied().unwrap_or(0);
        self.first = first + 1;
        behind.split_off(&first).into_iter().chain(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_listed_once_and_has_one_turn_in_a_round() {
        let mut work = Work::default();
        let mut marks = [false; 2];
        for slot in [0, 1, 0] {
            work.list(slot, &mut marks[slot as usize]);
        }
        let mut round = work.take_round();
        assert_eq!(round, [0, 1]);
        for slot in round.drain(..) {
            work.begin(slot, 0);
            assert_eq!(work.is_last(), slot == 1);
            marks[slot as usize] = false;
        }
        work.list(1, &mut marks[1]);
        assert!(!work.is_last() && !work.is_empty(), "it has something to do in the next round");
        work.end_round(round);
        assert_eq!(work.take_round(), [1]);
    }

    #[test]
    fn others_are_served_for_a_moment_after_their_turn() {
        let mut work = Work { left: 3, ..Work::default() };
        work.begin(1, 1000);
        assert!(!work.is_shared(1, 1000), "a peer is no company for itself");
        assert!(work.is_shared(2, 999 + BUSY_NS) && !work.is_shared(2, 1000 + BUSY_NS));
        work.begin(2, 1001);
        work.begin(2, 1002);
        assert!(work.is_shared(1, 1002) && work.is_shared(2, 1002));
    }

    #[test]
    fn a_peer_that_waits_for_the_tree_comes_once() {
        let mut work = Work::default();
        assert!(!work.has_behind());
        [2, 1, 2].into_iter().for_each(|slot| work.wait_behind(slot));
        assert!(work.has_behind());
        assert_eq!(work.take_behind().collect::<Vec<_>>(), [1, 2]);
        assert!(!work.has_behind());
    }

    #[test]
    fn each_peer_that_waits_for_the_tree_comes_first_in_its_turn() {
        let mut work = Work::default();
        for order in [[1, 5, 9], [5, 9, 1], [9, 1, 5], [1, 5, 9]] {
            [9, 1, 5].into_iter().for_each(|slot| work.wait_behind(slot));
            assert_eq!(work.take_behind().collect::<Vec<_>>(), order);
        }
    }
}
