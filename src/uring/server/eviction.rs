//! Peers that the loop closes: too slow, or holding too much memory while it is scarce. And memory
//! that idle peers give back.

use super::{BACKLOG_BYTES_ALL, Server};
use crate::fs::Filesystem;
use crate::uring::buffers::WINDOW_BYTES;
use crate::uring::flight;
use crate::uring::peer::{Life, Receiving};
use crate::uring::ring::Ring;
use crate::uring::token::{Op, Token};
use std::io;

/// Once holders have given back this many bytes, so does the allocator. It keeps the memory of a usual load.
const TRIMMED_BYTES: usize = 16 << 20;
/// Replies alone may hold one part in so many of the memory.
const ORPHANED_SHARE: usize = 8;

impl<R: Ring, F: Filesystem> Server<R, F> {
    /// Looks at all peers, once a second: who is too slow, and who has memory that it does not use.
    pub(super) fn sweep(&mut self) -> io::Result<()> {
        let now = self.at.mono_ns;
        let drained = self.drain.is_some_and(|until| now >= until);
        for slot in 0..self.peers.capacity() as u32 {
            let Some(peer) = self.peers.get_mut(slot as usize) else { continue };
            if (drained || peer.is_late(now)) && peer.life != Life::Closing {
                log::info!(target: "slow-peer", "peer {slot}: too slow, closed");
                self.end(slot);
                self.list(slot);
                continue;
            }
            if peer.is_stuck() && peer.session.pending() > 0 && self.ring.has_hung_up(peer.socket.fd()) {
                peer.hung_up = true;
                self.list(slot);
                continue;
            }
            peer.idle_sweeps = peer.idle_sweeps.saturating_add(1);
            if peer.idle_sweeps == 2 {
                peer.session.trim();
                if matches!(peer.receiving, Receiving::Window) && self.shared.is_some() {
                    // Back to shared buffers, once this receive has ended.
                    let target = Token::new(Op::Receive, peer.generation, slot);
                    peer.ends_bulk();
                    self.retry(|server| flight::cancel(&mut server.ring, target, Token::new(Op::Cancel, 0, 0)))?;
                }
            }
        }
        if self.held + TRIMMED_BYTES <= self.held_most {
            self.held_most = self.held;
            self.ring.trim_memory();
        }
        Ok(())
    }

    /// Blocks that replies alone hold are memory that no writer can have. Past a share of the memory, who has taken longest to receive its replies goes; past the bound
    /// of all windows, who has the largest. One at a time.
    pub(super) fn relieve(&mut self) {
        if self.evicted.is_some() {
            return;
        }
        let open = || self.peers.iter().filter(|(_, peer)| peer.life != Life::Closing);
        let goes = if self.gauge.orphaned_bytes() > self.memory.len() / ORPHANED_SHARE {
            // Only a socket that is full holds replies.
            let out = open().filter_map(|(slot, peer)| Some((peer.outbound()?, slot as u32)));
            let waiting = out.filter(|(out, _)| out.waits).map(|(out, slot)| (out.began_ns, slot));
            waiting.min()
        } else if self.spares.lent_bytes() > self.options.peers_max * WINDOW_BYTES + BACKLOG_BYTES_ALL {
            open().map(|(slot, peer)| (peer.window.capacity() as u64, slot as u32)).max()
        } else {
            None
        };
        if let Some((_, slot)) = goes {
            log::info!(target: "greedy-peer", "peer {slot}: holds more than its share while memory is scarce, closed");
            self.options.stats.counters.evicted.up();
            self.evicted = Some(slot);
            self.end(slot);
            self.list(slot);
        }
    }
}
