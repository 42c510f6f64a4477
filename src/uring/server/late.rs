//! What the tree answers later: operations that can go on, gates that have opened, a tree that is no longer behind; and reads
//! for news of peers that say nothing more.
//!
//! Must not know: what an operation is.

use super::Server;
use crate::fs::Service;
use crate::session;
use crate::uring::peer::{Life, Sending};
use crate::uring::ring::Ring;

/// Operations that the tree ends in one half of a turn. A line of the log may end thousands of reads.
const COMPLETIONS_MAX: usize = 64;

impl<R: Ring, S: Service> Server<R, S> {
    /// Ends what the tree can end by now. Whose reply that is goes on in this turn, or if that is over in the next one, which does not wait then.
    pub(super) fn complete(&mut self) {
        for _ in 0..COMPLETIONS_MAX {
            let Some(op) = self.fs.ready() else {
                self.completing = false;
                break;
            };
            self.completing = true;
            if let Some(peer) = self.peers.get_mut(op.peer as usize) {
                self.kept.lend(&mut peer.session);
                peer.session.complete(&mut self.fs, op, self.at);
                peer.held |= peer.session.is_held();
                self.list(op.peer);
            } else {
                // Who asked is gone: the tree must not keep the answer.
                session::discard(&mut self.fs, op, self.at);
            }
        }
        while let Some(slot) = self.gates.next_open(|gate| self.fs.is_open(gate)) {
            self.list_known(slot);
        }
        if !self.behind.is_empty() && !self.fs.is_behind() {
            std::mem::take(&mut self.behind).into_iter().for_each(|slot| self.list_known(slot));
        }
    }

    /// Lists a peer that may be gone by now. If its slot is another one's, that one has a turn for nothing.
    fn list_known(&mut self, slot: u32) {
        if self.peers.contains(slot as usize) {
            self.list(slot);
        }
    }

    /// The requests of a peer that are served must not wait for news behind which it can ask for nothing more: its
    /// reads that wait end with EINTR once all other replies have left.
    pub(super) fn interrupt(&mut self, slot: u32) {
        let Server { peers, drain, kept, fs, at, .. } = self;
        let peer = &mut peers[slot as usize];
        let says_no_more = peer.life == Life::Finishing || peer.life == Life::Open && (peer.hung_up || drain.is_some());
        let waits = matches!(peer.sending, Sending::Nothing) && !peer.again && peer.session.pending() > 0;
        if says_no_more && waits && peer.session.queued_bytes() == 0 {
            kept.lend(&mut peer.session);
            peer.session.interrupt_reads(fs, *at);
        }
    }
}
