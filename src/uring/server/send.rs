//! Sending: how much of a peer's replies one send takes, and through which memory.
//!
//! `quiet.rs` says how the loop learns that a send without a CQE has ended.
//!
//! Must not know: what is received, and which peer has its turn.

use super::io::Io;
use super::kept::Kept;
use super::quiet::Quiet;
use super::recent::Recent;
use crate::arena::{Heads, Memory};
use crate::fs::Service;
use crate::stats::Stats;
use crate::uring::flight::{Outbound, Way};
use crate::uring::peer::{Life, Peer, Sending};
use crate::uring::ring::{Ring, errno};
use crate::uring::table::Table;
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;
use std::rc::Rc;

/// Limit, in bytes, on replies that are short: a peer that has them waits for little else.
const SHORT_BYTES: usize = 64 << 10;
/// For this many nanoseconds after short replies of a peer, the long ones of others leave in pieces: a send copies all that the
/// socket takes, and delays every other peer meanwhile (docs/decisions/14-long-replies.md).
const SHORT_NS: u64 = 1_000_000;
/// Limit, in bytes, on one of these pieces.
const PIECE_BYTES: usize = 256 << 10;

/// What sends of all peers share.
pub(super) struct Sends {
    /// The ring's table of registered memory.
    pub(super) table: Table,
    heads: Heads,
    /// Peers that have had short replies a moment ago.
    short: Recent,
    stats: Rc<Stats>,
}

impl Sends {
    pub(super) fn new(memory: Memory, heads: Heads, stats: Rc<Stats>) -> Sends {
        Sends { table: Table::new(memory), heads, short: Recent::default(), stats }
    }

    /// A send ended with `res`, at `now` in monotonic nanoseconds. An error: nothing more can be sent, so the peer ends.
    pub(super) fn ended<R: Ring, S: Service>(
        &mut self,
        peer: &mut Peer<S>,
        (res, now): (i32, u64),
        io: &mut Io<R>,
        kept: &mut Kept,
    ) -> Result<(), Errno> {
        let Sending::Replies(mut out) = std::mem::replace(&mut peer.sending, Sending::Nothing) else {
            unreachable!("a CQE of a send ends one in flight");
        };
        out.ended(&mut self.heads);
        io.end_patient(usize::from(out.waits));
        let stats = &self.stats;
        let failed = errno(res).filter(|error| !matches!(error, Errno::EINTR | Errno::EAGAIN));
        let n = res.max(0) as usize;
        stats.counters.sent_bytes.add(n as u64);
        peer.shown.sent_bytes.add(n as u64);
        if failed.is_none() && n < out.offered {
            stats.counters.sends_short.up();
        }
        out.segments.advance(n, |reply| stats.replied(reply.kind, now.saturating_sub(reply.at_ns)));
        if out.segments.len() > 0 && failed.is_none() && peer.life != Life::Closing {
            // A gather is cut where its list ends; otherwise the socket is full. What follows a part that has waited for room will have to wait as well.
            out.waits |= n < out.offered;
            peer.sending = Sending::MoreReplies(out);
            return Ok(());
        }
        kept.put_away(out);
        failed.map_or(Ok(()), Err)
    }

    /// Submits a send of the replies that the peer has, or of what a short send has left. `ends`: more is done once it has
    /// ended, so it needs a CQE.
    pub(super) fn start<R: Ring, S: Service>(
        &mut self,
        (slot, peer): (u32, &mut Peer<S>),
        (now, ends): (u64, bool),
        fs: &S,
        io: &mut Io<R>,
        kept: &mut Kept,
        quiet: &mut Quiet,
    ) -> io::Result<()> {
        let mut out = match std::mem::replace(&mut peer.sending, Sending::Nothing) {
            Sending::Replies(out) => {
                peer.sending = Sending::Replies(out);
                return Ok(());
            }
            Sending::MoreReplies(out) => out,
            Sending::Nothing => {
                let Some(segments) = peer.session.take(fs) else { return Ok(()) };
                if segments.len() <= SHORT_BYTES {
                    self.short.note(slot, now);
                }
                Outbound::new(segments, kept.gather(), now)
            }
        };
        let token = Token::new(Op::Send, peer.generation, slot);
        let most = self.most(slot, now);
        out.last = peer.life == Life::Open && !peer.need.held && !ends && peer.session.queued_bytes() == 0;
        let mut way = None;
        io.push(|ring| {
            way = out.start(ring, peer.socket, token, &self.table, &mut self.heads, most);
            way.is_some()
        })?;
        let counters = &self.stats.counters;
        match way {
            Some(Way::Fixed) => counters.sends_fixed.up(),
            Some(Way::Plain) => counters.sends_plain.up(),
            Some(Way::Single | Way::Mixed) | None => counters.sends_small.up(),
        }
        if out.is_quiet() {
            quiet.push(slot, peer.generation, io);
        }
        io.begin_patient(usize::from(out.waits));
        peer.sending = Sending::Replies(out);
        Ok(())
    }

    /// How much of a peer's replies leaves at once.
    fn most(&self, slot: u32, now: u64) -> usize {
        let others_are_short = self.short.has_another(slot, now, SHORT_NS);
        if others_are_short { PIECE_BYTES } else { usize::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    #[test]
    fn long_replies_leave_in_pieces_while_others_have_short_ones() {
        let arena = Arena::new(1 << 20).expect("memory");
        let mut sends = Sends::new(arena.memory(), arena.heads(), Rc::default());
        assert_eq!(sends.most(1, 0), usize::MAX);
        sends.short.note(1, 1000);
        assert_eq!(sends.most(1, 1000), usize::MAX, "its own short replies are no reason");
        assert_eq!(sends.most(2, 999 + SHORT_NS), PIECE_BYTES);
        assert_eq!(sends.most(2, 1000 + SHORT_NS), usize::MAX);
    }
}
