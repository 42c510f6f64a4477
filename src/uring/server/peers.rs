//! The peers by their slots, and how many of them are on their way out.
//!
//! A peer whose socket is closed stays in its slot until the tree has ended the last operation of its session: by the slot
//! the tree names that session.
//!
//! Must not know: what is received and sent.

use crate::fs::{At, Service};
use crate::uring::peer::{Life, Peer};
use crate::uring::ring::Ring;
use slab::Slab;
use std::ops::{Index, IndexMut};

/// All connections that are not gone, and sessions that have outlived theirs.
pub(super) struct Peers<S: Service> {
    slab: Slab<Peer<S>>,
    /// Peers that were ended and whose sockets are not closed yet.
    closing: usize,
    /// Peers whose sockets are closed.
    left: usize,
}

impl<S: Service> Peers<S> {
    pub(super) fn new() -> Peers<S> {
        Peers { slab: Slab::new(), closing: 0, left: 0 }
    }

    /// The slot of the next peer.
    pub(super) fn vacant(&self) -> u32 {
        self.slab.vacant_key() as u32
    }

    /// Adds a peer; its slot is the one that was [vacant](Self::vacant).
    pub(super) fn insert(&mut self, peer: Peer<S>) {
        self.slab.insert(peer);
    }

    /// The socket of a closing peer, of which nothing is in flight, is to be closed: the peer has left. `None` if it has before.
    pub(super) fn leave(&mut self, slot: u32) -> Option<&mut Peer<S>> {
        let peer = &mut self.slab[slot as usize];
        debug_assert!(peer.life == Life::Closing && !peer.in_flight());
        if std::mem::replace(&mut peer.has_left, true) {
            return None;
        }
        self.closing -= 1;
        self.left += 1;
        Some(peer)
    }

    /// Takes out a peer that has left.
    pub(super) fn remove(&mut self, slot: u32) {
        let peer = self.slab.remove(slot as usize);
        debug_assert!(peer.has_left && !peer.session.is_ending());
        self.left -= 1;
    }

    /// The peer in a slot.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Peer<S>> {
        self.slab.get(slot as usize)
    }

    /// The peer in a slot, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Peer<S>> {
        self.slab.get_mut(slot as usize)
    }

    /// The peer of this generation in a slot, if it has a socket. A slot is used again as soon as its peer is gone.
    #[inline]
    pub(super) fn get_same(&self, slot: u32, generation: u32) -> Option<&Peer<S>> {
        self.get(slot).filter(|peer| peer.generation == generation && !peer.has_left)
    }

    /// All peers, with their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Peer<S>)> {
        self.slab.iter().map(|(slot, peer)| (slot as u32, peer))
    }

    /// All peers that were not ended, with their slots.
    pub(super) fn open(&self) -> impl Iterator<Item = (u32, &Peer<S>)> {
        self.iter().filter(|(_, peer)| peer.life != Life::Closing)
    }

    /// All peers at the end of the loop.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Peer<S>> {
        (self.closing, self.left) = (0, 0);
        self.slab.drain()
    }

    /// One past the highest slot that may have a peer.
    pub(super) fn slots(&self) -> u32 {
        self.slab.capacity() as u32
    }

    /// Peers that have a socket, those included that are on their way out.
    pub(super) fn connected(&self) -> usize {
        self.slab.len() - self.left
    }

    /// There is no peer at all, with a socket or without.
    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Peers that were ended and whose sockets are not closed yet.
    pub(super) fn closing(&self) -> usize {
        self.closing
    }

    /// Peers without a socket: the tree has not ended their last operation.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Ends a peer: its operations are abandoned, and its socket is closed once nothing of it is in flight.
    pub(super) fn end(&mut self, slot: u32, fs: &mut S, at: At, ring: &mut impl Ring) {
        let peer = &mut self.slab[slot as usize];
        if peer.life != Life::Closing {
            peer.life = Life::Closing;
            self.closing += 1;
            peer.closed = peer.session.close_part(fs, at);
            peer.socket.shutdown(ring);
        }
    }
}

impl<S: Service> Index<u32> for Peers<S> {
    type Output = Peer<S>;

    #[inline]
    fn index(&self, slot: u32) -> &Peer<S> {
        &self.slab[slot as usize]
    }
}

impl<S: Service> IndexMut<u32> for Peers<S> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Peer<S> {
        &mut self.slab[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::{TestRing, TestTree, peer};

    #[test]
    fn a_peer_ends_once_and_its_slot_is_not_taken_for_another() {
        let (mut peers, mut tree, mut ring) = (Peers::new(), TestTree::default(), TestRing::default());
        for generation in [5, 6] {
            let slot = peers.vacant();
            peers.insert(peer(slot, generation, false));
        }
        for _ in 0..2 {
            peers.end(0, &mut tree, At::default(), &mut ring);
        }
        assert_eq!((peers.connected(), peers.closing()), (2, 1));
        assert_eq!(peers.open().map(|(slot, _)| slot).collect::<Vec<_>>(), [1]);
        assert!(peers.get_same(0, 5).is_some());
        assert!(peers.leave(0).is_some() && peers.leave(0).is_none());
        assert!(peers.get_same(0, 5).is_none(), "nothing of it is in flight");
        assert_eq!((peers.connected(), peers.closing(), peers.left(), peers.vacant()), (1, 0, 1, 2), "it has its slot");
        peers.remove(0);
        assert_eq!((peers.connected(), peers.closing(), peers.left(), peers.vacant()), (1, 0, 0, 0));
        peers.insert(peer(0, 7, false));
        assert!(peers.get_same(0, 5).is_none() && peers.get_same(0, 7).is_some());
    }
}
