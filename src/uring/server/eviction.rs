//! Which peers are closed for the sake of the others: those that hold more than their share, and those that are overdue
//! while something that they hold is scarce; and what idle peers give back.
//!
//! A peer is overdue when a message has begun and does not end, or replies have not left, within their allowance. That
//! alone does not close it: a machine that is paused in the middle of a write goes on later, and a Linux mount never
//! reconnects. Once others need what it holds (a connection, memory of the arena, of replies or of windows), the peer that
//! is overdue for longest is closed first.

use super::{BACKLOG_BYTES_ALL, Server};
use crate::fs::Service;
use crate::uring::buffers::WINDOW_BYTES;
use crate::uring::flight;
use crate::uring::peer::{Life, Peer, Receiving};
use crate::uring::ring::Ring;
use crate::uring::token::{Op, Token};
use std::io;

/// A peer that is overdue by this many nanoseconds is closed although nothing that it holds is scarce: 12 h, the time in
/// which the kernel, too, gives up a machine that does not answer (`listen.rs`).
const PATIENCE_NS: u64 = 12 * 3600 * 1_000_000_000;
/// A machine that has acknowledged nothing for this many nanoseconds, while a keepalive is due every 60 s and unanswered
/// ones are repeated every 15 s (`listen.rs`), is overdue: 3 min.
const SILENT_NS: u64 = 180_000_000_000;
/// Connections that are asked in one second how long their machine has been silent.
const ASKED_MAX: usize = 1024;
/// Connections that may be on their way out beyond those that are open.
pub const CLOSING_MAX: usize = 32;
/// Grants together may hold one part in this many of the memory (`fs/mem/landing.rs`), and this part of it is to be free.
const GRANTED_SHARE: usize = 8;
const FREE_SHARE: usize = 16;
/// Once holders have given back this many bytes, so does the allocator. It keeps the memory of a usual load.
const TRIMMED_BYTES: usize = 16 << 20;
/// Replies alone may hold one part in so many of the memory.
const ORPHANED_SHARE: usize = 8;

/// Fids of peers that give back memory with one look at all peers: a table that shrinks moves all of its fids.
const TRIMMED_MAX: usize = 4096;

impl<R: Ring, S: Service> Server<R, S> {
    /// Looks at all peers, once a second: who is too slow, and who has memory that it does not use.
    pub(super) fn sweep(&mut self) -> io::Result<()> {
        let now = self.at.mono_ns;
        self.overdue.begin();
        self.ask_silent();
        let drained = self.drain.is_some_and(|until| now >= until);
        let mut trimmed = 0;
        for slot in 0..self.peers.capacity() as u32 {
            let Some(peer) = self.peers.get_mut(slot as usize) else { continue };
            let overdue = peer.overdue_since(now).filter(|_| peer.life != Life::Closing);
            let is_over = drained || overdue.is_some_and(|since| now - since > PATIENCE_NS);
            if is_over && peer.life != Life::Closing {
                log::info!(target: "slow-peer", "peer {slot}: too slow, closed");
                self.end(slot);
                self.list(slot);
                continue;
            }
            if let Some(since) = overdue {
                self.overdue.peers.push((since, slot, peer.generation));
            }
            if peer.is_stuck() && peer.session.pending() > 0 && self.ring.has_hung_up(peer.socket.fd()) {
                peer.hung_up = true;
                self.list(slot);
                continue;
            }
            peer.idle_sweeps = peer.idle_sweeps.saturating_add(1);
            if peer.idle_sweeps == 2 && trimmed > TRIMMED_MAX {
                // Its turn comes with the next look.
                peer.idle_sweeps = 1;
            }
            if peer.idle_sweeps == 2 {
                trimmed += peer.session.fids();
                peer.session.trim();
                let is_large = peer.window.capacity() > WINDOW_BYTES;
                if matches!(peer.receiving, Receiving::Window) && (self.shared.is_some() || is_large) {
                    // Back to shared buffers, or to a window of the usual size, once this receive has ended.
                    let target = Token::new(Op::Receive, peer.generation, slot);
                    peer.ends_bulk();
                    self.retry(|server| flight::cancel(&mut server.ring, target, Token::new(Op::Cancel, 0, 0)))?;
                }
            }
        }
        self.overdue.peers.sort_unstable();
        if self.held + TRIMMED_BYTES <= self.held_most {
            self.held_most = self.held;
            self.ring.trim_memory();
        }
        Ok(())
    }

    /// Ends one peer at a time while something is scarce. Blocks that replies alone hold are memory that no writer can have:
    /// past a share of the memory, the peer that has taken longest to receive its replies goes. Past the bound of all
    /// windows, an overdue peer goes, or else the one with the largest. Where grants, free memory or memory of replies
    /// are scarce, only an overdue peer goes.
    pub(super) fn relieve(&mut self) {
        if self.evicted.is_some() {
            return;
        }
        let open = || self.peers.iter().filter(|(_, peer)| peer.life != Life::Closing);
        let goes = if self.gauge.orphaned_bytes() > self.memory.len() / ORPHANED_SHARE {
            // Only a socket that is full holds replies.
            let out = open().filter_map(|(slot, peer)| Some((peer.outbound()?, slot as u32)));
            let waiting = out.filter(|(out, _)| out.waits).map(|(out, slot)| (out.began_ns, slot));
            waiting.min().map(|(_, slot)| slot)
        } else if self.spares.lent_bytes() > self.options.peers_max * WINDOW_BYTES + BACKLOG_BYTES_ALL {
            let largest = || open().map(|(slot, peer)| (peer.window.capacity(), slot as u32)).max();
            let largest = largest().map(|(_, slot)| slot);
            self.longest_overdue(Scarce::Windows).or(largest)
        } else if self.overdue.peers.is_empty() {
            None
        } else if self.is_memory_scarce() {
            self.longest_overdue(Scarce::Memory)
        } else if self.options.budget.is_tight() {
            self.longest_overdue(Scarce::Replies)
        } else {
            None
        };
        if let Some(slot) = goes {
            self.evict(slot);
            self.evicted = Some(slot);
        }
    }

    fn evict(&mut self, slot: u32) {
        log::info!(target: "greedy-peer", "peer {slot}: holds what others need, closed");
        self.options.stats.counters.evicted.up();
        self.end(slot);
        self.list(slot);
    }

    /// Whether a largest write would not be granted at once, or hardly any memory is free.
    fn is_memory_scarce(&self) -> bool {
        let (total, largest) = (self.gauge.total_bytes(), self.options.msize_max as usize);
        let free = total.saturating_sub(self.gauge.used_bytes());
        self.gauge.granted_bytes() + largest > total / GRANTED_SHARE || free < largest.max(total / FREE_SHARE)
    }

    /// Whether one more connection may come. Where there are as many as there may be, the one that is overdue for longest
    /// is closed for it.
    pub(super) fn has_place(&mut self) -> bool {
        if self.peers.len() - self.closing < self.options.peers_max {
            return self.closing <= CLOSING_MAX;
        }
        self.overdue.wants_place = true;
        self.closing < CLOSING_MAX && self.gives_place()
    }

    /// Closes the connection that is overdue for longest, if there is any.
    pub(super) fn gives_place(&mut self) -> bool {
        let goes = self.longest_overdue(Scarce::Places);
        if let Some(slot) = goes {
            self.evict(slot);
        }
        goes.is_some()
    }

    /// The peer that is overdue for longest of those that hold what is scarce.
    fn longest_overdue(&mut self, what: Scarce) -> Option<u32> {
        if self.overdue.fruitless[what as usize] {
            return None;
        }
        let Server { peers, overdue, ring, at, .. } = self;
        let found = overdue.peers.iter().position(|&(_, slot, generation)| {
            let peer = peers.get(slot as usize).filter(|peer| peer.generation == generation);
            peer.is_some_and(|peer| {
                let is_open = peer.life != Life::Closing;
                is_open
                    && what.is_held_by(peer)
                    && (peer.overdue_since(at.mono_ns).is_some() || is_silent(ring, peer).is_some())
            })
        });
        match found {
            Some(index) => Some(overdue.peers.remove(index).1),
            None => {
                overdue.fruitless[what as usize] = true;
                None
            }
        }
    }

    /// Where connections are refused: which machines have not answered for long. They have sent all of their last message
    /// and received all replies, so no deadline shows it.
    fn ask_silent(&mut self) {
        if !std::mem::take(&mut self.overdue.wants_place) {
            return;
        }
        let Server { peers, overdue, ring, at, .. } = self;
        let count = peers.capacity().max(1);
        for slot in (0..count.min(ASKED_MAX)).map(|step| (overdue.asked + step) % count) {
            let Some(peer) = peers.get(slot).filter(|peer| peer.life != Life::Closing) else { continue };
            if let Some(silent_ns) = is_silent(ring, peer) {
                overdue.peers.push((at.mono_ns.saturating_sub(silent_ns), slot as u32, peer.generation));
            }
        }
        overdue.asked = (overdue.asked + ASKED_MAX) % count;
    }
}

/// How long the machine of a peer has been silent, if that is too long.
fn is_silent<S: Service>(ring: &mut impl Ring, peer: &Peer<S>) -> Option<u64> {
    if peer.tcp { ring.silent_ns(peer.socket.fd()).filter(|&ns| ns > SILENT_NS) } else { None }
}

/// What there may be too little of.
#[derive(Clone, Copy)]
enum Scarce {
    Places,
    Memory,
    Replies,
    Windows,
}

impl Scarce {
    fn is_held_by<S: Service>(self, peer: &Peer<S>) -> bool {
        match self {
            Scarce::Places => true,
            Scarce::Memory => peer.has_grant() || peer.outbound().is_some(),
            Scarce::Replies => peer.outbound().is_some(),
            Scarce::Windows => peer.window.capacity() > 0,
        }
    }
}

/// The peers that were overdue at the last sweep.
#[derive(Default)]
pub(super) struct Overdue {
    /// Since when, slot and generation, from the longest on.
    pub(super) peers: Vec<(u64, u32, u32)>,
    /// Nothing of this kind was found since that sweep.
    fruitless: [bool; 4],
    /// A connection was refused since that sweep.
    wants_place: bool,
    /// Slot of the next connection that is asked how long its machine has been silent.
    asked: usize,
}

impl Overdue {
    fn begin(&mut self) {
        self.peers.clear();
        self.fruitless = [false; 4];
    }
}
