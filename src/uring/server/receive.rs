//! Receiving: into which memory a peer's bytes go next, and when they are served.

use super::{BACKLOG_BYTES, BACKLOG_BYTES_ALL, Server};
use crate::fs::Service;
use crate::uring::buffers::{Shared, WINDOW_BYTES};
use crate::uring::flight::{self, Inbound, Way};
use crate::uring::intake::INTAKE_BYTES_MAX;
use crate::uring::peer::{Life, Receiving};
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;

/// Payloads are received whole while all windows, those of the usual size included, have no more than so many bytes.
const WHOLE_BYTES_ALL: usize = BACKLOG_BYTES_ALL / 2;

impl<R: Ring, S: Service> Server<R, S> {
    pub(super) fn received(&mut self, slot: u32, res: i32, flags: u32) {
        let alone = !self.is_shared(slot);
        let peer = &mut self.peers[slot as usize];
        let n = res.max(0) as usize;
        let room = peer.intake_bytes();
        peer.pace.received(n, self.at.mono_ns, alone);
        peer.readable = n > 0 && io_uring::cqueue::sock_nonempty(flags);
        let counters = &self.options.stats.counters;
        counters.received_bytes.add(n as u64);
        peer.shown.received_bytes.add(n as u64);
        let open = peer.life == Life::Open;
        // Of a receive into shared buffers: cancelled, or no buffer was left. Whatever it was is submitted again.
        let again = matches!(errno(res), Some(Errno::EINTR | Errno::EAGAIN | Errno::ECANCELED | Errno::ENOBUFS));
        self.kept.lend(&mut peer.session);
        let receiving = std::mem::replace(&mut peer.receiving, Receiving::Nothing);
        self.patient -= usize::from(matches!(&receiving, Receiving::Blocks(inbound) if !inbound.is_mixed()));
        match receiving {
            Receiving::Window if n > 0 => {
                counters.receives.up();
                peer.window.received(n);
                peer.intake.received(room, peer.window.unread().len());
                peer.fresh = true;
            }
            Receiving::Sink if n > 0 => {
                counters.skipped_bytes.add(n as u64);
                peer.skip -= n as u32;
                if open {
                    peer.session.skipped(&mut self.fs, n, self.at);
                }
            }
            Receiving::Blocks(inbound) if open && again => peer.receiving = Receiving::MoreBlocks(inbound),
            Receiving::Blocks(inbound) => {
                let (landing, gather) = inbound.into_parts();
                let behind = n.saturating_sub(landing.left());
                let n = n - behind;
                if behind > 0 {
                    peer.window.received(behind);
                    peer.fresh = true;
                }
                // Dropping the landing of a peer that is going abandons its write.
                let rest = if open && n > 0 { peer.session.landed(&mut self.fs, landing, n, self.at) } else { None };
                match rest {
                    Some(landing) => peer.receiving = Receiving::MoreBlocks(Inbound::new(landing, gather)),
                    None => self.kept.keep_gather(gather),
                }
            }
            Receiving::Window | Receiving::Sink | Receiving::Shared { .. } => {}
            Receiving::Nothing | Receiving::MoreBlocks(_) => unreachable!("a CQE of a receive ends one in flight"),
        }
        if n > 0 || again || !open {
            return;
        }
        match errno(res) {
            None => peer.life = Life::Finishing,
            Some(error) => {
                log::debug!(target: "failed-receive", "peer {slot}: receive: {error}");
                self.end(slot);
            }
        }
    }

    /// A receive has brought a shared buffer with `res` bytes. They are served from there; what is left goes to the peer's window.
    pub(super) fn received_shared(&mut self, slot: u32, res: i32, flags: u32) {
        let Server { peers, shared, ring, fs, spares, kept, options, at, turns, .. } = self;
        let peer = &mut peers[slot as usize];
        if !io_uring::cqueue::more(flags) {
            peer.receiving = Receiving::Nothing;
        }
        let counters = &options.stats.counters;
        let n = res.max(0) as usize;
        counters.receives.up();
        counters.received_bytes.add(n as u64);
        peer.shown.received_bytes.add(n as u64);
        let shared = shared.as_mut().expect("a buffer comes from those that were shared");
        let broken = shared.look(ring, flags, n, |bytes| {
            let mut rest = bytes;
            kept.lend(&mut peer.session);
            peer.begin_turn(*turns);
            while !rest.is_empty() && peer.life == Life::Open && !peer.held && !peer.fresh {
                // A message that is not whole would need a window with room for all of it.
                if peer.intake.is_whole() && spares.lent_bytes() + INTAKE_BYTES_MAX > WHOLE_BYTES_ALL {
                    peer.lands();
                }
                let received = if peer.window.unread().is_empty() {
                    let received = peer.session.receive_in_turn(fs, *at, rest)?;
                    let left = &rest[received.consumed..];
                    if !left.is_empty() {
                        peer.window.append(left, spares);
                    }
                    rest = &[];
                    received
                } else {
                    // Only the end of the message that has begun: what comes behind it is served from where it is.
                    let (end, behind) = rest.split_at((peer.more as usize).clamp(1, rest.len()));
                    rest = behind;
                    peer.window.append(end, spares);
                    let received = peer.session.receive_in_turn(fs, *at, peer.window.unread())?;
                    peer.window.consume(received.consumed);
                    peer.window.release(spares);
                    received
                };
                peer.note(received.need);
                peer.note_large(&received, at.mono_ns);
            }
            if !rest.is_empty() && peer.life == Life::Open {
                peer.fresh = true;
                peer.window.append(rest, spares);
            }
            Ok(())
        });
        if let Some(Err(broken)) = broken {
            self.broken(slot, broken);
        }
    }

    pub(super) fn serve(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        let due = std::mem::take(&mut peer.fresh) | std::mem::take(&mut peer.held);
        peer.again &= !due;
        if !due || !matches!(peer.receiving, Receiving::Nothing | Receiving::Shared { .. }) {
            return;
        }
        self.kept.lend(&mut peer.session);
        peer.begin_turn(self.turns);
        match peer.session.receive_in_turn(&mut self.fs, self.at, peer.window.unread()) {
            Ok(received) => {
                peer.window.consume(received.consumed);
                peer.note(received.need);
                peer.note_large(&received, self.at.mono_ns);
                if matches!(peer.receiving, Receiving::Shared { .. }) {
                    peer.window.release(&mut self.spares);
                }
            }
            Err(broken) => self.broken(slot, broken),
        }
    }

    /// Arms the receive that the peer needs next.
    pub(super) fn receive(&mut self, slot: u32) -> io::Result<()> {
        let peer = &mut self.peers[slot as usize];
        let (socket, token) = (peer.socket, Token::new(Op::Receive, peer.generation, slot));
        let inbound = match std::mem::replace(&mut peer.receiving, Receiving::Nothing) {
            Receiving::MoreBlocks(inbound) => Some(inbound),
            Receiving::Nothing => peer.session.landing().map(|landing| Inbound::new(landing, self.kept.gather())),
            in_flight => {
                peer.receiving = in_flight;
                return self.stop_shared(slot, token);
            }
        };
        if let Some(mut inbound) = inbound {
            let mut way = None;
            self.retry(|server| {
                let Server { peers, ring, spares, .. } = server;
                way = inbound.start(ring, socket, token, (&mut peers[slot as usize].window, spares));
                way.is_some()
            })?;
            match way {
                Some(Way::Mixed) => self.options.stats.counters.landings_mixed.up(),
                _ => self.options.stats.counters.landings_plain.up(),
            }
            self.patient += usize::from(!inbound.is_mixed());
            self.peers[slot as usize].receiving = Receiving::Blocks(inbound);
            return Ok(());
        }
        let peer = &mut self.peers[slot as usize];
        if peer.held {
            return Ok(());
        }
        if peer.skip > 0 && peer.window.unread().is_empty() {
            let skip = peer.skip as usize;
            peer.receiving = Receiving::Sink;
            return self.retry(|server| server.sink.start(&mut server.ring, socket, token, skip));
        }
        if self.shared.is_some() && !peer.is_bulk(self.at.mono_ns) {
            peer.receiving = Receiving::Shared { ends: false };
            peer.window.release(&mut self.spares);
            peer.ends_bulk();
            return self.retry(|server| Shared::start(&mut server.ring, socket, token));
        }
        let bytes = peer.window_bytes();
        if bytes == WINDOW_BYTES && peer.window.capacity() > WINDOW_BYTES {
            peer.window.release(&mut self.spares);
        }
        let others = self.spares.lent_bytes() - peer.window.capacity();
        if bytes > WINDOW_BYTES && others + bytes.next_power_of_two() > WHOLE_BYTES_ALL {
            return self.receive_landing(slot);
        }
        peer.receiving = Receiving::Window;
        self.retry(|server| {
            let window = &mut server.peers[slot as usize].window;
            window.start(&mut server.ring, socket, token, (&mut server.spares, bytes))
        })
    }

    /// Goes on where there is no room to receive payloads whole: they land, also the one that has begun.
    fn receive_landing(&mut self, slot: u32) -> io::Result<()> {
        let peer = &mut self.peers[slot as usize];
        peer.lands();
        peer.fresh = true;
        self.serve(slot);
        if self.peers[slot as usize].life == Life::Open { self.receive(slot) } else { Ok(()) }
    }

    /// Ends a receive into shared buffers where a payload can land, or where the peer is ahead of what it is served. What has arrived before that still comes.
    fn stop_shared(&mut self, slot: u32, token: Token) -> io::Result<()> {
        let peer = &mut self.peers[slot as usize];
        let due = peer.is_bulk(self.at.mono_ns) || peer.window.unread().len() >= BACKLOG_BYTES;
        if !due || !matches!(peer.receiving, Receiving::Shared { ends: false }) {
            return Ok(());
        }
        peer.receiving = Receiving::Shared { ends: true };
        self.retry(|server| flight::cancel(&mut server.ring, token, Token::new(Op::Cancel, 0, 0)))
    }
}
