//! Sending: how much of a peer's replies one send takes, and how the loop learns that a send has
//! ended, also one that has no CQE.

use super::Server;
use crate::fs::Service;
use crate::uring::flight::{Outbound, Way};
use crate::uring::peer::{Life, Sending};
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;

/// Replies of at most so many bytes are short: whoever has them waits for little else.
const SHORT_BYTES: usize = 64 << 10;
/// So long after somebody's short replies, in nanoseconds, the long ones of others leave in pieces of at most so many bytes: a send copies all that the socket takes,
/// and keeps everybody waiting meanwhile (docs/decisions/14-long-replies.md).
const SHORT_NS: u64 = 1_000_000;
const PIECE_BYTES: usize = 256 << 10;

impl<R: Ring, S: Service> Server<R, S> {
    /// A send ended with `res`, at `now` in monotonic nanoseconds.
    pub(super) fn sent(&mut self, slot: u32, res: i32, now: u64) {
        let peer = &mut self.peers[slot as usize];
        let Sending::Replies(mut out) = std::mem::replace(&mut peer.sending, Sending::Nothing) else {
            unreachable!("a CQE of a send ends one in flight");
        };
        out.ended(&mut self.heads);
        self.patient -= usize::from(out.waits);
        let stats = &self.options.stats;
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
            return;
        }
        self.put_away(out);
        if let Some(error) = failed {
            log::debug!(target: "failed-send", "peer {slot}: send: {error}");
            self.end(slot);
        }
    }

    fn put_away(&mut self, out: Outbound) {
        let (segments, gather) = out.into_parts();
        self.kept.keep_gather(gather);
        self.kept.keep(segments);
    }

    pub(super) fn send(&mut self, slot: u32) -> io::Result<()> {
        let peer = &mut self.peers[slot as usize];
        let mut out = match std::mem::replace(&mut peer.sending, Sending::Nothing) {
            Sending::Replies(out) => {
                peer.sending = Sending::Replies(out);
                return Ok(());
            }
            Sending::MoreReplies(out) => out,
            Sending::Nothing => {
                let Some(segments) = peer.session.take(&self.fs) else { return Ok(()) };
                if segments.len() <= SHORT_BYTES {
                    self.short.note(slot, self.at.mono_ns);
                }
                Outbound::new(segments, self.kept.gather(), self.at.mono_ns)
            }
        };
        let peer = &self.peers[slot as usize];
        let (socket, generation) = (peer.socket, peer.generation);
        let token = Token::new(Op::Send, generation, slot);
        let most = self.most(slot);
        out.last = peer.life == Life::Open && !peer.held && self.drain.is_none() && peer.session.queued_bytes() == 0;
        let mut way = None;
        self.retry(|server| {
            way = out.start(&mut server.ring, socket, token, &server.table, &mut server.heads, most);
            way.is_some()
        })?;
        let counters = &self.options.stats.counters;
        match way {
            Some(Way::Fixed) => counters.sends_fixed.up(),
            Some(Way::Plain) => counters.sends_plain.up(),
            Some(Way::Single | Way::Mixed) | None => counters.sends_small.up(),
        }
        if out.is_quiet() {
            self.quiet.push((slot, generation));
            (self.looks, self.seen) = (0, 0);
        }
        self.patient += usize::from(out.waits);
        self.peers[slot as usize].sending = Sending::Replies(out);
        Ok(())
    }

    /// How much of a peer's replies leaves at once.
    fn most(&self, slot: u32) -> usize {
        let others_are_short = self.short.has_another(slot, self.at.mono_ns, SHORT_NS);
        if others_are_short { PIECE_BYTES } else { usize::MAX }
    }

    /// Once everything is submitted, and all that came of it was seen: ends the quiet sends that have no CQE (they have sent everything), and tidies the table.
    pub(super) fn settle(&mut self) {
        let due = !self.quiet.is_empty() || self.table.is_untidy();
        self.unsettled = due && !self.is_settled();
        if !due || self.unsettled {
            return;
        }
        self.table.tidy(&mut self.ring);
        let mut quiet = std::mem::take(&mut self.quiet);
        for (slot, generation) in quiet.drain(..) {
            let peer = self.peers.get(slot as usize).filter(|peer| peer.generation == generation);
            let Some(Sending::Replies(out)) = peer.map(|peer| &peer.sending) else { continue };
            if out.is_quiet() {
                let offered = out.offered as i32;
                self.sent(slot, offered, self.left_ns);
                self.list(slot);
            }
        }
        self.quiet = quiet;
    }

    /// Whether everything that was pushed is submitted, and each CQE of a quiet send was drained. The error of a write comes as task work (Linux: `io_uring/rw.c`, io_complete_rw):
    /// an enter runs that of its own submissions, but behind all that was there before, and only so much. Each item has a CQE, but for those of operations that were woken before
    /// all they wait for is there; an operation has one item at a time.
    fn is_settled(&mut self) -> bool {
        if !self.ring.is_settled() {
            (self.looks, self.seen) = (0, 0);
            return false;
        }
        let run = self.looks * self.ring.task_work_max() as usize;
        let all_run = run > self.seen + self.patient;
        all_run || !self.ring.has_task_work()
    }
}
