//! Replies that leave together: a peer whose socket has more requests is received from again, a few
//! times, before its replies are sent (docs/decisions/15-replies-together.md,
//! docs/decisions/19-one-cpu.md).
//!
//! Each time the loop enters without waiting, and drains all CQEs inside the peer's turn. CQEs of
//! other peers change and list them as at the start of a turn; they send and receive in turns of
//! their own.
//!
//! Must not know: into which memory bytes are received, and how they are served.

use super::Server;
use crate::fs::Service;
use crate::uring::flight;
use crate::uring::peer::{Life, Receiving};
use crate::uring::ring::Ring;
use std::io;

/// A peer is received from so many times more before its replies leave.
const AGAIN_MAX: usize = 4;
/// The same while no other peer is served.
const TOGETHER_MAX: usize = 16;
/// Somebody who had a turn less than so many nanoseconds ago is being served: there is more to do than to wait for this peer's client.
const BUSY_NS: u64 = 20_000;

impl<R: Ring, S: Service> Server<R, S> {
    /// Receives and serves what a peer's socket has already, a few times.
    pub(super) fn receive_again(&mut self, slot: u32) -> io::Result<()> {
        self.busy.note(slot, self.at.mono_ns);
        if !self.peers[slot as usize].readable {
            return Ok(());
        }
        let times = if self.is_shared(slot) { AGAIN_MAX } else { TOGETHER_MAX };
        for _ in 0..times {
            if !self.has_more(slot) {
                break;
            }
            self.options.stats.counters.receives_again.up();
            self.receive(slot)?;
            self.enter_once(0)?;
            // It goes on here, whatever is heard of it.
            self.peers[slot as usize].listed = true;
            self.hear()?;
            self.peers[slot as usize].listed = false;
            if self.peers[slot as usize].life != Life::Closing {
                self.serve(slot);
            }
        }
        Ok(())
    }

    /// Whether the peer is to be received from again before its replies leave. While others are served that is so on TCP, where a send is dearer than a receive.
    /// A peer that is alone is received from again if its replies leave faster together ([`Pace`](crate::uring::pace::Pace)), until another peer has something to do.
    fn has_more(&self, slot: u32) -> bool {
        let peer = &self.peers[slot as usize];
        let (is_idle, ends_at_once) = match &peer.receiving {
            Receiving::MoreBlocks(inbound) => (true, inbound.is_mixed()),
            Receiving::Nothing => (true, peer.session.next_landing().is_none_or(flight::is_mixed)),
            _ => (false, false),
        };
        let is_due = if self.is_shared(slot) {
            // Whatever is there ends these receives: none is left in flight for long.
            peer.tcp && ends_at_once
        } else {
            peer.pace.is_together() && is_idle && self.work.is_empty() && self.left == 0
        };
        is_due
            && peer.readable
            && (peer.life, peer.held, self.drain) == (Life::Open, false, None)
            && peer.session.queued_bytes() > 0
    }

    /// Whether others than this peer are being served.
    pub(super) fn is_shared(&self, slot: u32) -> bool {
        self.busy.has_another(slot, self.at.mono_ns, BUSY_NS)
    }
}
