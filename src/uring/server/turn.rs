//! A turn of the loop.
//!
//! ```text
//! arm accepts -> take asks of the tree -> enter -> drain -> settle quiet sends -> ask the tree what has ended -> relieve
//!   -> for each listed peer: serve -> (receive again: enter -> drain -> serve) -> answer
//!   -> timer, growth, shared buffers -> ask the tree once more -> log lines
//! ```
//! Only the turn enters to wait, and only the turn drains. Handlers (what a CQE does, and serve and answer of a peer) push
//! entries. A push into a full queue submits it, and does not drain.
//!
//! Must not know: how bytes are received, served and sent.

use super::{Server, together};
use crate::fs::Service;
use crate::uring::peer::{Life, Sending};
use crate::uring::ring::Ring;
use std::io;

impl<R: Ring, S: Service> Server<R, S> {
    pub(super) fn turn_with(&mut self, waits: bool) -> io::Result<()> {
        self.clock.turn += 1;
        self.accepts.arm(&mut self.io)?;
        if S::NEEDS_ASKS {
            let Server { asks, fs, io, quiet, sends, clock, .. } = self;
            asks.begin(fs, (io, quiet), &sends.table, clock.at)?;
        }
        self.enter(waits)?;
        self.clock.read(&mut self.io.ring, self.drain.is_timed());
        self.hear()?;
        self.settle();
        self.complete();
        self.relieve();
        let mut round = self.work.take_round();
        for slot in round.drain(..) {
            self.go_on(slot)?;
        }
        self.work.end_round(round);
        if !self.peers.is_empty() || self.drain.is_on() || self.outlet.waits_for_time() {
            self.drain.arm_timer(&mut self.io)?;
        }
        self.growth.grow(&mut self.io)?;
        self.receives.turned(&mut self.io.ring);
        // What this turn has set off (a line of the log, say) must not wait until something else ends the sleep.
        self.complete();
        if S::NEEDS_ASKS && (self.serves_nobody() || self.has_no_peers() && self.drain.is_over(self.clock.at.mono_ns)) {
            self.asks.retire(&mut self.fs, self.clock.at);
        }
        if self.outlet.has_news() || self.drain.is_on() {
            let ending = self.ending();
            self.outlet.write(&mut self.io, ending)?;
        }
        self.options.budget.note_files(self.fs.file_memory_bytes(), S::FILE_BYTES);
        self.reclaim.note(self.kept.batch_bytes(), self.receives.spares.lent_bytes());
        Ok(())
    }

    /// Submits, and waits unless there is work left.
    fn enter(&mut self, waits: bool) -> io::Result<()> {
        if !self.quiet.is_empty() {
            self.quiet.leave(self.clock.now_ns(&mut self.io.ring));
        }
        let has_work = !self.work.is_empty() || self.quiet.is_open() || self.late.has_more() || self.fs.has_work();
        let has_work = has_work || S::NEEDS_ASKS && self.asks.has_work();
        let io = &mut self.io;
        if !waits || has_work {
            return io.enter(0);
        }
        if self.options.busy_poll_ns > 0 {
            io.enter(0)?;
            let until = io.ring.monotonic() + self.options.busy_poll_ns;
            while !io.ring.has_work() && io.ring.monotonic() < until {
                std::hint::spin_loop();
            }
            if io.ring.has_work() {
                return io.enter(0);
            }
        }
        // A send that succeeds at once is quiet and does not end this wait.
        io.enter(1)
    }

    /// Drains: hears what has ended, and lists the peers that it concerns.
    fn hear(&mut self) -> io::Result<()> {
        let mut events = self.io.drain();
        for (user_data, res, flags) in events.drain(..) {
            self.event(user_data, res, flags)?;
        }
        self.io.keep(events);
        Ok(())
    }

    /// Once everything is submitted, and all that came of it was seen: ends the quiet sends that have no CQE (they have sent everything), and tidies the table.
    fn settle(&mut self) {
        let others = self.sends.table.is_untidy() || S::NEEDS_ASKS && self.asks.has_quiet();
        if !self.quiet.settle(&mut self.io, others) {
            return;
        }
        self.sends.table.tidy(&mut self.io.ring);
        if S::NEEDS_ASKS {
            self.asks.end_quiet(&mut self.fs, self.clock.at);
        }
        let mut ended = self.quiet.take();
        for (slot, generation) in ended.drain(..) {
            let peer = self.peers.get_same(slot, generation);
            let Some(Sending::Replies(out)) = peer.map(|peer| &peer.sending) else { continue };
            if out.is_quiet() {
                let offered = out.offered as i32;
                self.sent(slot, offered, self.quiet.left_ns());
                self.list(slot);
            }
        }
        self.quiet.keep(ended);
    }

    /// Ends what the tree can end by now.
    fn complete(&mut self) {
        let Server { fs, peers, work, kept, clock, .. } = self;
        self.late.complete(fs, peers, work, kept, clock.at);
    }

    /// One peer's turn: it is served, received from again while its replies are to leave together, and answered.
    fn go_on(&mut self, slot: u32) -> io::Result<()> {
        self.work.begin(slot, self.clock.at.mono_ns);
        let heard_all = self.begin(slot);
        self.receive_again(slot)?;
        self.answer(slot, heard_all)
    }

    /// Serves what has arrived. Whether nothing more can arrive.
    fn begin(&mut self, slot: u32) -> bool {
        let peer = &mut self.peers[slot];
        (peer.listed, peer.idle_sweeps) = (false, 0);
        if peer.life == Life::Closing && !peer.closed {
            peer.closed = peer.session.close_part(&mut self.fs, self.clock.at);
        }
        // Nothing was in the socket when the last enter ended.
        let heard_all = peer.life == Life::Finishing || self.drain.is_on() && peer.listens();
        if peer.life != Life::Closing {
            self.serve(slot);
        }
        heard_all
    }

    /// Receives and serves what a peer's socket has already, a few times, before its replies leave. CQEs of other peers change
    /// and list them as at the start of a turn; they send and receive in turns of their own.
    fn receive_again(&mut self, slot: u32) -> io::Result<()> {
        let now = self.clock.at.mono_ns;
        let times = together::times(slot, &self.peers[slot], &self.work, now);
        for _ in 0..times {
            if self.drain.is_on() || !together::has_more(slot, &self.peers[slot], &self.work, now) {
                break;
            }
            self.options.stats.counters.receives_again.up();
            self.arm(slot)?;
            self.io.enter(0)?;
            // Its turn goes on, whatever is heard of it.
            self.peers[slot].listed = true;
            self.hear()?;
            self.peers[slot].listed = false;
            if self.peers[slot].life != Life::Closing {
                self.serve(slot);
            }
        }
        Ok(())
    }

    /// Sends what is to be sent, and receives what comes next.
    fn answer(&mut self, slot: u32, heard_all: bool) -> io::Result<()> {
        let draining = self.drain.is_on();
        self.interrupt(slot);
        if self.peers[slot].life != Life::Closing {
            let now = self.clock.at.mono_ns;
            let Server { peers, sends, fs, io, kept, quiet, .. } = self;
            sends.start((slot, &mut peers[slot]), (now, draining), fs, io, kept, quiet)?;
        }
        let at_rest = self.peers[slot].is_at_rest();
        if at_rest && heard_all {
            self.end(slot);
        }
        if self.peers[slot].life == Life::Open {
            self.arm(slot)?;
        }
        // Receiving may have served something, so that a batch was lent once more.
        if let Some(batch) = self.peers[slot].session.take_spare() {
            self.kept.keep(batch);
        }
        let peer = &mut self.peers[slot];
        peer.show();
        if peer.life == Life::Closing && !peer.closed {
            // Its fids are closed in parts. No CQE will come for the next part.
            self.work.list(slot, &mut peer.listed);
        } else if peer.life == Life::Closing && !peer.in_flight() {
            self.leave(slot);
        } else if peer.life != Life::Closing {
            // What is open already leaves when the send that is in flight has ended.
            let fs = &self.fs;
            let closed = peer.session.gates().filter(|&gate| !fs.is_open(gate));
            self.late.note(slot, closed);
            if peer.need.held && self.fs.is_behind() {
                self.work.wait_behind(slot);
            }
            // No CQE will come for what is left, nor for a receive that finds nothing before a drained peer ends.
            // A quiet send ends without one.
            let ends_unheard = match &peer.sending {
                Sending::Nothing => true,
                Sending::Replies(out) => out.is_quiet(),
                Sending::MoreReplies(_) => false,
            };
            let left = peer.need.again && ends_unheard;
            if left || draining && at_rest && peer.listens() {
                self.work.list(slot, &mut peer.listed);
            }
        }
        Ok(())
    }

    /// Nothing of a closing peer is in flight: its socket is closed, and it is gone unless the tree has an operation of it.
    fn leave(&mut self, slot: u32) {
        if let Some(peer) = self.peers.leave(slot) {
            peer.window.discard(&mut self.receives.spares);
            peer.session.trim();
            peer.socket.close(&mut self.io.ring);
            self.options.stats.disconnected(slot);
            self.options.stats.counters.closed.up();
            self.reclaim.gone(slot);
        }
        if !self.peers[slot].session.is_ending() {
            self.peers.remove(slot);
        }
    }

    /// The requests of a peer that are served must not wait for news behind which it can ask for nothing more: its
    /// reads that wait end with EINTR once all other replies have left.
    fn interrupt(&mut self, slot: u32) {
        let Server { peers, drain, kept, fs, clock, .. } = self;
        let peer = &mut peers[slot];
        let says_no_more = peer.life == Life::Finishing || peer.life == Life::Open && (peer.hung_up || drain.is_on());
        let waits = matches!(peer.sending, Sending::Nothing) && !peer.need.again && peer.session.pending() > 0;
        if says_no_more && waits && peer.session.queued_bytes() == 0 {
            kept.lend(&mut peer.session);
            peer.session.interrupt_reads(fs, clock.at);
        }
    }
}
