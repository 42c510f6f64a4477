//! Replies that leave together: whether a peer whose socket has more requests is received from again before its replies leave
//! (docs/decisions/15-replies-together.md, docs/decisions/19-one-cpu.md).
//!
//! The turn (`turn.rs`) asks between two handlers, and receives again.
//!
//! Must not know: into which memory bytes are received, and how they are served.

use super::work::Work;
use crate::fs::Service;
use crate::uring::flight;
use crate::uring::peer::{Life, Peer, Receiving};

/// Limit on how often a peer is received from again before its replies leave.
const AGAIN_MAX: usize = 4;
/// The same limit while no other peer is served.
const TOGETHER_MAX: usize = 16;

/// How often the peer may be received from again in its turn, which has begun.
#[inline]
pub(super) fn times<S: Service>(slot: u32, peer: &Peer<S>, work: &Work, now: u64) -> usize {
    if !peer.readable {
        0
    } else if work.is_shared(slot, now) {
        AGAIN_MAX
    } else {
        TOGETHER_MAX
    }
}

/// Whether the peer is to be received from again before its replies leave. While others are served that is so on TCP, where a send is dearer than a receive.
/// A peer that is alone is received from again if its replies leave faster together ([`Pace`](crate::uring::pace::Pace)), until another peer has something to do.
pub(super) fn has_more<S: Service>(slot: u32, peer: &Peer<S>, work: &Work, now: u64) -> bool {
    let (is_idle, ends_at_once) = match &peer.receiving {
        Receiving::MoreBlocks(payload) => (true, payload.is_mixed()),
        Receiving::Nothing => (true, peer.session.next_landing().is_none_or(flight::is_mixed)),
        _ => (false, false),
    };
    let is_due = if work.is_shared(slot, now) {
        // Whatever is there ends these receives: none is left in flight for long.
        peer.tcp && ends_at_once
    } else {
        peer.pace.is_together() && is_idle && work.is_last()
    };
    is_due && peer.readable && (peer.life, peer.need.held) == (Life::Open, false) && peer.session.queued_bytes() > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::peer;

    #[test]
    fn only_a_peer_with_more_in_its_socket_is_received_from_again() {
        let mut work = Work::default();
        let mut peer = peer(1, 0, true);
        assert_eq!(times(1, &peer, &work, 0), 0);
        peer.readable = true;
        assert_eq!(times(1, &peer, &work, 0), TOGETHER_MAX);
        assert!(!has_more(1, &peer, &work, 0), "it has no reply that could wait");
        let mut listed = false;
        work.list(2, &mut listed);
        work.take_round();
        work.begin(2, 0);
        assert_eq!(times(1, &peer, &work, 0), AGAIN_MAX, "while others are served");
    }
}
