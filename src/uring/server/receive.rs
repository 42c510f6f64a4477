//! Receiving: into which memory a peer's bytes go next, and how they are served.
//!
//! Must not know: which peer has its turn, and how a peer ends.

use super::clock::Clock;
use super::io::Io;
use super::kept::Kept;
use super::{BACKLOG_BYTES, BACKLOG_BYTES_ALL};
use crate::fs::Service;
use crate::session::Broken;
use crate::stats::Stats;
use crate::uring::buffers::{SharedBuffers, Sink, Spares, WINDOW_BYTES};
use crate::uring::flight::{self, PayloadReceive, Way};
use crate::uring::intake::INTAKE_BYTES_MAX;
use crate::uring::peer::{Life, Peer, Receiving};
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;
use std::rc::Rc;

/// Payloads are received whole while all windows, those of the usual size included, have at most this many bytes.
const WHOLE_BYTES_ALL: usize = BACKLOG_BYTES_ALL / 2;

/// What receives of all peers share.
pub(super) struct Receives {
    /// `None` where the kernel has no such thing: then every peer has a window.
    shared: Option<SharedBuffers>,
    pub(super) spares: Spares,
    sink: Sink,
    stats: Rc<Stats>,
}

/// What became of arming a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armed {
    /// What can be received is being received.
    Done,
    /// All windows together leave no room to receive payloads whole. The peer's window is to be served once more, so that the
    /// payload that has begun lands.
    Lands,
}

impl Receives {
    pub(super) fn new(ring: &mut impl Ring, stats: Rc<Stats>) -> Receives {
        let shared = if ring.features().multishot { SharedBuffers::new(ring).ok() } else { None };
        Receives { shared, spares: Spares::default(), sink: Sink::new(), stats }
    }

    /// Shared buffers that the kernel does not have.
    pub(super) fn spare_buffers(&self) -> usize {
        self.shared.as_ref().map_or(0, SharedBuffers::spares)
    }

    /// Whether peers are received from by shared buffers.
    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// A turn has ended: the kernel may need more shared buffers.
    #[inline]
    pub(super) fn turned(&mut self, ring: &mut impl Ring) {
        if let Some(shared) = &mut self.shared {
            shared.turned(ring);
        }
    }

    /// Once a second: the kernel may need fewer shared buffers.
    pub(super) fn swept(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.swept();
        }
    }

    /// The CQE of a peer that is gone may have brought a shared buffer, which goes back.
    pub(super) fn give_back(&mut self, ring: &mut impl Ring, flags: u32) {
        if let Some(shared) = &mut self.shared {
            shared.look(ring, flags, 0, |_| ());
        }
    }

    /// A receive ended that has brought no shared buffer. `alone`: no other peer is being served. An error: the peer ends.
    pub(super) fn ended<R: Ring, S: Service>(
        &mut self,
        peer: &mut Peer<S>,
        (res, flags, alone): (i32, u32, bool),
        fs: &mut S,
        clock: &Clock,
        io: &mut Io<R>,
        kept: &mut Kept,
    ) -> Result<(), Errno> {
        let n = res.max(0) as usize;
        let room = peer.intake_bytes();
        peer.pace.received(n, clock.at.mono_ns, alone);
        peer.readable = n > 0 && io_uring::cqueue::sock_nonempty(flags);
        let counters = &self.stats.counters;
        counters.received_bytes.add(n as u64);
        peer.shown.received_bytes.add(n as u64);
        let open = peer.life == Life::Open;
        // Of a receive into shared buffers: cancelled, or no buffer was left. Whatever it was is submitted again.
        let again = matches!(errno(res), Some(Errno::EINTR | Errno::EAGAIN | Errno::ECANCELED | Errno::ENOBUFS));
        kept.lend(&mut peer.session);
        let receiving = std::mem::replace(&mut peer.receiving, Receiving::Nothing);
        io.end_patient(usize::from(matches!(&receiving, Receiving::Blocks(payload) if !payload.is_mixed())));
        match receiving {
            Receiving::Window if n > 0 => {
                counters.receives.up();
                peer.window.received(n);
                peer.intake.received(room, peer.window.unread().len());
                peer.fresh = true;
            }
            Receiving::Sink if n > 0 => {
                counters.skipped_bytes.add(n as u64);
                peer.need.skip -= n;
                if open {
                    peer.session.skipped(fs, n, clock.at);
                }
            }
            Receiving::Blocks(payload) if open && again => peer.receiving = Receiving::MoreBlocks(payload),
            Receiving::Blocks(payload) => {
                let (landing, gather) = payload.into_parts();
                let behind = n.saturating_sub(landing.left());
                let n = n - behind;
                if behind > 0 {
                    peer.window.received(behind);
                    peer.fresh = true;
                }
                // Dropping the landing of a peer that is going abandons its write.
                let rest = if open && n > 0 { peer.session.landed(fs, landing, n, clock.at) } else { None };
                match rest {
                    Some(landing) => peer.receiving = Receiving::MoreBlocks(PayloadReceive::new(landing, gather)),
                    None => kept.keep_gather(gather),
                }
            }
            Receiving::Window | Receiving::Sink | Receiving::Shared { .. } => {}
            Receiving::Nothing | Receiving::MoreBlocks(_) => unreachable!("a CQE of a receive ends one in flight"),
        }
        if n > 0 || again || !open {
            return Ok(());
        }
        match errno(res) {
            None => peer.life = Life::Finishing,
            Some(error) => return Err(error),
        }
        Ok(())
    }

    /// A receive has brought a shared buffer with `res` bytes. They are served from there; what is left goes to the peer's window.
    pub(super) fn ended_shared<S: Service>(
        &mut self,
        peer: &mut Peer<S>,
        (res, flags): (i32, u32),
        fs: &mut S,
        clock: &Clock,
        ring: &mut impl Ring,
        kept: &mut Kept,
    ) -> Result<(), Broken> {
        let Receives { shared, spares, stats, .. } = self;
        if !io_uring::cqueue::more(flags) {
            peer.receiving = Receiving::Nothing;
        }
        let counters = &stats.counters;
        let n = res.max(0) as usize;
        counters.receives.up();
        counters.received_bytes.add(n as u64);
        peer.shown.received_bytes.add(n as u64);
        let shared = shared.as_mut().expect("a buffer comes from those that were shared");
        let broken = shared.look(ring, flags, n, |bytes| {
            let mut rest = bytes;
            kept.lend(&mut peer.session);
            peer.begin_turn(clock.turn);
            while !rest.is_empty() && peer.life == Life::Open && !peer.need.held && !peer.fresh {
                // A message that is not whole would need a window with room for all of it.
                if peer.intake.is_whole() && spares.lent_bytes() + INTAKE_BYTES_MAX > WHOLE_BYTES_ALL {
                    peer.lands();
                }
                let received = if peer.window.unread().is_empty() {
                    let received = peer.session.receive_in_turn(fs, clock.at, rest)?;
                    let left = &rest[received.consumed..];
                    if !left.is_empty() {
                        peer.window.append(left, spares);
                    }
                    rest = &[];
                    received
                } else {
                    // Only the end of the message that has begun: what comes behind it is served from where it is.
                    let (end, behind) = rest.split_at((peer.need.more).clamp(1, rest.len()));
                    rest = behind;
                    peer.window.append(end, spares);
                    let received = peer.session.receive_in_turn(fs, clock.at, peer.window.unread())?;
                    peer.window.consume(received.consumed);
                    peer.window.release(spares);
                    received
                };
                peer.need = received.need;
                peer.note_large(&received, clock.at.mono_ns);
            }
            if !rest.is_empty() && peer.life == Life::Open {
                peer.fresh = true;
                peer.window.append(rest, spares);
            }
            Ok(())
        });
        broken.unwrap_or(Ok(()))
    }

    /// Serves what the window has, if that is due.
    pub(super) fn serve<S: Service>(
        &mut self,
        peer: &mut Peer<S>,
        fs: &mut S,
        clock: &Clock,
        kept: &mut Kept,
    ) -> Result<(), Broken> {
        let due = std::mem::take(&mut peer.fresh) | std::mem::take(&mut peer.need.held);
        peer.need.again &= !due;
        if !due {
            return Ok(());
        }
        if !matches!(peer.receiving, Receiving::Nothing | Receiving::Shared { .. }) {
            // What waits in the session does not wait for what is received next.
            if peer.session.is_held() {
                kept.lend(&mut peer.session);
                peer.begin_turn(clock.turn);
                peer.need.again = peer.session.serve_held(fs, clock.at);
                peer.need.held = peer.session.is_held();
            }
            return Ok(());
        }
        kept.lend(&mut peer.session);
        peer.begin_turn(clock.turn);
        let received = peer.session.receive_in_turn(fs, clock.at, peer.window.unread())?;
        peer.window.consume(received.consumed);
        peer.need = received.need;
        peer.note_large(&received, clock.at.mono_ns);
        if matches!(peer.receiving, Receiving::Shared { .. }) {
            peer.window.release(&mut self.spares);
        }
        Ok(())
    }

    /// Arms the receive that the peer needs next.
    pub(super) fn arm<R: Ring, S: Service>(
        &mut self,
        (slot, peer): (u32, &mut Peer<S>),
        now: u64,
        io: &mut Io<R>,
        kept: &mut Kept,
    ) -> io::Result<Armed> {
        let (socket, token) = (peer.socket, Token::new(Op::Receive, peer.generation, slot));
        let payload = match std::mem::replace(&mut peer.receiving, Receiving::Nothing) {
            Receiving::MoreBlocks(payload) => Some(payload),
            Receiving::Nothing => peer.session.landing().map(|landing| PayloadReceive::new(landing, kept.gather())),
            in_flight => {
                peer.receiving = in_flight;
                stop_shared(peer, token, now, io)?;
                return Ok(Armed::Done);
            }
        };
        if let Some(mut payload) = payload {
            let mut way = None;
            io.push(|ring| {
                way = payload.start(ring, socket, token, (&mut peer.window, &mut self.spares));
                way.is_some()
            })?;
            match way {
                Some(Way::Mixed) => self.stats.counters.landings_mixed.up(),
                _ => self.stats.counters.landings_plain.up(),
            }
            io.begin_patient(usize::from(!payload.is_mixed()));
            peer.receiving = Receiving::Blocks(payload);
            return Ok(Armed::Done);
        }
        if peer.need.held {
            return Ok(Armed::Done);
        }
        if peer.need.skip > 0 && peer.window.unread().is_empty() {
            peer.receiving = Receiving::Sink;
            io.push(|ring| self.sink.start(ring, socket, token, peer.need.skip))?;
            return Ok(Armed::Done);
        }
        if self.shared.is_some() && !peer.is_bulk(now) {
            peer.receiving = Receiving::Shared { ends: false };
            peer.window.release(&mut self.spares);
            peer.ends_bulk();
            io.push(|ring| SharedBuffers::start(ring, socket, token))?;
            return Ok(Armed::Done);
        }
        let bytes = peer.window_bytes();
        if bytes == WINDOW_BYTES && peer.window.capacity() > WINDOW_BYTES {
            peer.window.release(&mut self.spares);
        }
        let others = self.spares.lent_bytes() - peer.window.capacity();
        if bytes > WINDOW_BYTES && others + bytes.next_power_of_two() > WHOLE_BYTES_ALL {
            peer.lands();
            peer.fresh = true;
            return Ok(Armed::Lands);
        }
        peer.receiving = Receiving::Window;
        io.push(|ring| peer.window.start(ring, socket, token, (&mut self.spares, bytes)))?;
        Ok(Armed::Done)
    }
}

/// Ends a receive into shared buffers where a payload can land, or where the peer is ahead of what it is served. What has arrived before that still comes.
fn stop_shared<R: Ring, S: Service>(peer: &mut Peer<S>, token: Token, now: u64, io: &mut Io<R>) -> io::Result<()> {
    let due = peer.is_bulk(now) || peer.window.unread().len() >= BACKLOG_BYTES;
    if !due || !matches!(peer.receiving, Receiving::Shared { ends: false }) {
        return Ok(());
    }
    peer.receiving = Receiving::Shared { ends: true };
    io.push(|ring| flight::cancel(ring, token, Token::new(Op::Cancel, 0, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::testring::{TestRing, TestTree, peer};

    struct Begun {
        receives: Receives,
        io: Io<TestRing>,
        clock: Clock,
        kept: Kept,
        tree: TestTree,
        peer: Peer<TestTree>,
    }

    impl Begun {
        fn new() -> Begun {
            let mut ring = TestRing { now_ns: 1000, ..TestRing::default() };
            let (clock, receives) = (Clock::new(&mut ring), Receives::new(&mut ring, Rc::default()));
            let io = Io::new(ring, Rc::default());
            Begun { receives, io, clock, kept: Kept::default(), tree: TestTree::default(), peer: peer(0, 0, false) }
        }

        /// What arming says, and how many entries it has pushed.
        fn arm(&mut self) -> (Armed, usize) {
            let before = self.io.ring.pushed.len();
            let armed = self.receives.arm((0, &mut self.peer), 1000, &mut self.io, &mut self.kept);
            (armed.expect("the ring works"), self.io.ring.pushed.len() - before)
        }

        fn ends(&mut self, res: i32) -> Result<(), Errno> {
            let Begun { receives, io, clock, kept, tree, peer } = self;
            receives.ended(peer, (res, 0, true), tree, clock, io, kept)
        }
    }

    #[test]
    fn a_peer_is_received_from_by_shared_buffers_until_it_is_ahead() {
        let mut begun = Begun::new();
        assert_eq!(begun.arm(), (Armed::Done, 1));
        assert_eq!(begun.arm(), (Armed::Done, 0), "it goes on");
        begun.peer.window.append(&[0; BACKLOG_BYTES], &mut begun.receives.spares);
        assert_eq!(begun.arm(), (Armed::Done, 1), "it is cancelled");
        assert_eq!(begun.arm(), (Armed::Done, 0), "once");
        assert_eq!(begun.ends(-(Errno::ECANCELED as i32)), Ok(()));
        assert!(matches!(begun.peer.receiving, Receiving::Nothing) && begun.peer.life == Life::Open);
    }

    #[test]
    fn a_peer_that_waits_is_not_received_from() {
        let mut begun = Begun::new();
        begun.peer.need.held = true;
        assert_eq!(begun.arm(), (Armed::Done, 0));
    }

    #[test]
    fn payload_that_is_thrown_away_goes_to_the_sink() {
        let mut begun = Begun::new();
        begun.peer.need.skip = 100;
        assert_eq!(begun.arm(), (Armed::Done, 1));
        assert!(matches!(begun.peer.receiving, Receiving::Sink));
    }

    #[test]
    fn the_end_of_a_connection_and_an_error_end_the_peer_and_a_passing_one_does_not() {
        for (res, life) in [(0, Life::Finishing), (-(Errno::EINTR as i32), Life::Open)] {
            let mut begun = Begun::new();
            begun.arm();
            assert_eq!((begun.ends(res), begun.peer.life), (Ok(()), life));
        }
        let mut begun = Begun::new();
        begun.arm();
        assert_eq!(begun.ends(-(Errno::ECONNRESET as i32)), Err(Errno::ECONNRESET));
    }

    #[test]
    fn windows_are_wide_only_while_all_of_them_leave_room() {
        let mut begun = Begun::new();
        let bulk = crate::session::Received { consumed: 0, need: Default::default(), bulk: 40_000, whole: 0 };
        begun.peer.note_large(&bulk, 1000);
        let mut other = crate::uring::buffers::Window::new();
        other.append(&vec![0; WHOLE_BYTES_ALL], &mut begun.receives.spares);
        assert_eq!(begun.arm(), (Armed::Lands, 0));
        assert!(begun.peer.fresh && matches!(begun.peer.receiving, Receiving::Nothing));
        begun.peer.note_large(&bulk, 1000);
        other.discard(&mut begun.receives.spares);
        assert_eq!(begun.arm(), (Armed::Done, 1));
        assert!(matches!(begun.peer.receiving, Receiving::Window) && begun.peer.window.capacity() > WINDOW_BYTES);
    }
}
