//! Which peers are closed for the sake of the others: those that hold more than their share, and those that are overdue
//! while something that they hold is scarce; what idle peers give back; and when the allocator gives memory back.
//!
//! A peer is overdue when a message has begun and does not end, or replies have not left, within their allowance. That
//! alone does not close it: a machine that is paused in the middle of a write goes on later, and a Linux mount never
//! reconnects. Once others need what it holds (a connection, memory of the arena, of replies or of windows), the peer that
//! is overdue for longest is closed first.
//!
//! This room chooses peers; the loop ends them.

use super::BACKLOG_BYTES_ALL;
use super::options::Options;
use super::peers::Peers;
use crate::arena::Gauge;
use crate::fs::Service;
use crate::session::Budget;
use crate::stats::Stats;
use crate::uring::buffers::WINDOW_BYTES;
use crate::uring::peer::{Life, Peer, Receiving};
use crate::uring::ring::Ring;
use std::rc::Rc;
use std::sync::Arc;

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
/// Replies alone may hold one part in this many of the memory.
const ORPHANED_SHARE: usize = 8;

/// Fids of peers that give back memory with one look at all peers: a table that shrinks moves all of its fids.
const TRIMMED_MAX: usize = 4096;

/// What holders have, and which peers are overdue.
pub(super) struct Reclaim {
    gauge: Gauge,
    /// Bytes of the arena, head slots included.
    arena_bytes: usize,
    budget: Arc<Budget>,
    /// Bounds on the size of a message and on the number of connections.
    msize_max: usize,
    peers_max: usize,
    /// Memory of replies, windows and fids in bytes: now, and the most since the allocator last gave memory back.
    held: usize,
    held_most: usize,
    /// A peer that was ended to have its blocks back, until it has left.
    evicted: Option<u32>,
    overdue: Overdue,
    stats: Rc<Stats>,
}

/// Whether one more connection may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// There is a place.
    Free,
    /// There is one once this peer is closed for it.
    Of(u32),
    /// There is none.
    None,
}

/// What a look at one peer has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is to be done.
    Well,
    /// It is to be closed.
    TooSlow,
    /// Its client has gone while it was not received from.
    HungUp,
    /// It has been idle, and is to leave its window.
    LeavesWindow,
}

/// A look at all peers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    pub(super) now: u64,
    /// All peers are to be closed.
    pub(super) is_last: bool,
    /// Peers are received from by shared buffers.
    pub(super) has_shared: bool,
    /// Fids of peers that have given memory back.
    trimmed: usize,
}

impl Reclaim {
    pub(super) fn new(gauge: Gauge, arena_bytes: usize, options: &Options) -> Reclaim {
        Reclaim {
            gauge,
            arena_bytes,
            budget: Arc::clone(&options.budget),
            msize_max: options.msize_max as usize,
            peers_max: options.peers_max,
            held: 0,
            held_most: 0,
            evicted: None,
            overdue: Overdue::default(),
            stats: Rc::clone(&options.stats),
        }
    }

    /// Connections that were overdue at the last sweep and are not closed for it yet.
    pub(super) fn overdue(&self) -> usize {
        self.overdue.peers.len()
    }

    /// Shows how much memory holders have, and notes the most since memory was given back. `kept` and `windows` are bytes that
    /// batches and windows have.
    #[inline]
    pub(super) fn note(&mut self, kept: usize, windows: usize) {
        let counters = &self.stats.counters;
        let (replies, fids) = (self.budget.reply_bytes(), self.budget.fid_bytes());
        counters.fid_bytes.set(fids as u64);
        counters.reply_bytes.set(replies as u64);
        counters.kept_bytes.set(kept as u64);
        counters.window_bytes.set(windows as u64);
        self.held = replies + kept + windows + fids;
        self.held_most = self.held_most.max(self.held);
    }

    /// A look at all peers begins.
    pub(super) fn begin_sweep<S: Service>(
        &mut self,
        peers: &Peers<S>,
        ring: &mut impl Ring,
        now: u64,
        (is_last, has_shared): (bool, bool),
    ) -> Sweep {
        self.overdue.begin();
        self.ask_silent(peers, ring, now);
        Sweep { now, is_last, has_shared, trimmed: 0 }
    }

    /// Looks at one peer, once a second: whether it is too slow, and whether it has memory that it does not use.
    pub(super) fn look<S: Service>(
        &mut self,
        slot: u32,
        peer: &mut Peer<S>,
        ring: &mut impl Ring,
        sweep: &mut Sweep,
    ) -> Look {
        let now = sweep.now;
        let overdue = peer.overdue_since(now).filter(|_| peer.life != Life::Closing);
        let is_over = sweep.is_last || overdue.is_some_and(|since| now - since > PATIENCE_NS);
        if is_over && peer.life != Life::Closing {
            return Look::TooSlow;
        }
        if let Some(since) = overdue {
            self.overdue.peers.push((since, slot, peer.generation));
        }
        if peer.is_stuck() && peer.session.pending() > 0 && ring.has_hung_up(peer.socket.fd()) {
            return Look::HungUp;
        }
        peer.idle_sweeps = peer.idle_sweeps.saturating_add(1);
        if peer.idle_sweeps == 2 && sweep.trimmed > TRIMMED_MAX {
            // Its turn comes with the next look.
            peer.idle_sweeps = 1;
        }
        if peer.idle_sweeps == 2 {
            sweep.trimmed += peer.session.fids();
            peer.session.trim();
            let is_large = peer.window.capacity() > WINDOW_BYTES;
            if matches!(peer.receiving, Receiving::Window) && (sweep.has_shared || is_large) {
                return Look::LeavesWindow;
            }
        }
        Look::Well
    }

    /// A look at all peers is over: the allocator gives memory back if holders have given back much.
    pub(super) fn end_sweep(&mut self, ring: &mut impl Ring) {
        self.overdue.peers.sort_unstable();
        if self.held + TRIMMED_BYTES <= self.held_most {
            self.held_most = self.held;
            ring.trim_memory();
        }
    }

    /// Which peer is to be ended because something is scarce, one at a time. Blocks that replies alone hold are memory that no
    /// writer can have: past a share of the memory, the peer that has taken longest to receive its replies goes. Past the bound
    /// of all windows, an overdue peer goes, or else the one with the largest. Where grants, free memory or memory of replies
    /// are scarce, only an overdue peer goes.
    #[inline]
    pub(super) fn relieve<S: Service>(
        &mut self,
        peers: &Peers<S>,
        window_bytes: usize,
        ring: &mut impl Ring,
        now: u64,
    ) -> Option<u32> {
        if self.evicted.is_some() {
            return None;
        }
        self.evicted = if self.gauge.orphaned_bytes() > self.arena_bytes / ORPHANED_SHARE {
            // Only a socket that is full holds replies.
            let out = peers.open().filter_map(|(slot, peer)| Some((peer.outbound()?, slot)));
            let waiting = out.filter(|(out, _)| out.waits).map(|(out, slot)| (out.began_ns, slot));
            waiting.min().map(|(_, slot)| slot)
        } else if window_bytes > self.peers_max * WINDOW_BYTES + BACKLOG_BYTES_ALL {
            let largest = peers.open().map(|(slot, peer)| (peer.window.capacity(), slot)).max();
            let largest = largest.map(|(_, slot)| slot);
            self.longest_overdue(Scarce::Windows, peers, ring, now).or(largest)
        } else if self.overdue.peers.is_empty() {
            None
        } else if self.is_memory_scarce() {
            self.longest_overdue(Scarce::Memory, peers, ring, now)
        } else if self.budget.is_tight() {
            self.longest_overdue(Scarce::Replies, peers, ring, now)
        } else {
            None
        };
        self.evicted
    }

    /// A peer has left: what it held is free.
    pub(super) fn gone(&mut self, slot: u32) {
        self.evicted = self.evicted.filter(|&evicted| evicted != slot);
    }

    /// Whether a largest write would not be granted at once, or hardly any memory is free.
    fn is_memory_scarce(&self) -> bool {
        let (total, largest) = (self.gauge.total_bytes(), self.msize_max);
        let free = total.saturating_sub(self.gauge.used_bytes());
        self.gauge.granted_bytes() + largest > total / GRANTED_SHARE || free < largest.max(total / FREE_SHARE)
    }

    /// Whether one more connection may come. Where there are as many as there may be, the one that is overdue for longest
    /// is closed for it.
    ///
    /// Peers that have left hold what their tree has not ended. Beyond as many as there may be connections, or once requests
    /// that wait take all the memory that they may, no further connection comes.
    pub(super) fn place<S: Service>(&mut self, peers: &Peers<S>, ring: &mut impl Ring, now: u64) -> Place {
        if peers.left() >= self.peers_max || peers.left() > 0 && self.budget.is_late() {
            return Place::None;
        }
        if peers.connected() - peers.closing() < self.peers_max {
            return if peers.closing() <= CLOSING_MAX { Place::Free } else { Place::None };
        }
        self.overdue.wants_place = true;
        if peers.closing() >= CLOSING_MAX {
            return Place::None;
        }
        self.longest_overdue(Scarce::Places, peers, ring, now).map_or(Place::None, Place::Of)
    }

    /// The peer that is overdue for longest of those that hold what is scarce.
    pub(super) fn longest_overdue<S: Service>(
        &mut self,
        what: Scarce,
        peers: &Peers<S>,
        ring: &mut impl Ring,
        now: u64,
    ) -> Option<u32> {
        self.overdue.longest(what, |slot, generation| {
            peers.get_same(slot, generation).is_some_and(|peer| {
                let is_open = peer.life != Life::Closing;
                is_open
                    && what.is_held_by(peer)
                    && (peer.overdue_since(now).is_some() || is_silent(ring, peer).is_some())
            })
        })
    }

    /// Where connections are refused: which machines have not answered for long. They have sent all of their last message
    /// and received all replies, so no deadline shows it.
    fn ask_silent<S: Service>(&mut self, peers: &Peers<S>, ring: &mut impl Ring, now: u64) {
        for slot in self.overdue.next_asked(peers.slots() as usize) {
            let Some(peer) = peers.get(slot as u32).filter(|peer| peer.life != Life::Closing) else { continue };
            if let Some(silent_ns) = is_silent(ring, peer) {
                self.overdue.peers.push((now.saturating_sub(silent_ns), slot as u32, peer.generation));
            }
        }
    }
}

/// How long the machine of a peer has been silent, if that is too long.
fn is_silent<S: Service>(ring: &mut impl Ring, peer: &Peer<S>) -> Option<u64> {
    if peer.tcp { ring.silent_ns(peer.socket.fd()).filter(|&ns| ns > SILENT_NS) } else { None }
}

/// What there may be too little of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scarce {
    /// Connections, or descriptors.
    Places,
    /// Memory of the arena.
    Memory,
    /// Memory of replies.
    Replies,
    /// Memory of windows.
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
struct Overdue {
    /// Since when, slot and generation, from the longest on.
    peers: Vec<(u64, u32, u32)>,
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

    /// Takes the peer that is overdue for longest, of those that `holds` says have what is scarce.
    fn longest(&mut self, what: Scarce, mut holds: impl FnMut(u32, u32) -> bool) -> Option<u32> {
        if self.fruitless[what as usize] {
            return None;
        }
        let found = self.peers.iter().position(|&(_, slot, generation)| holds(slot, generation));
        match found {
            Some(index) => Some(self.peers.remove(index).1),
            None => {
                self.fruitless[what as usize] = true;
                None
            }
        }
    }

    /// The slots, of `count`, that are asked in this second, if a connection was refused since the last one.
    fn next_asked(&mut self, count: usize) -> impl Iterator<Item = usize> + use<> {
        let is_due = std::mem::take(&mut self.wants_place);
        let (count, first) = (count.max(1), self.asked);
        if is_due {
            self.asked = (first + ASKED_MAX) % count;
        }
        (0..count.min(if is_due { ASKED_MAX } else { 0 })).map(move |step| (first + step) % count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::uring::testring::TestRing;

    fn reclaim() -> Reclaim {
        let arena = Arena::new(8 << 20).expect("memory");
        Reclaim::new(arena.gauge(), arena.memory().len(), &Options::new(1 << 16, 4))
    }

    #[test]
    fn the_longest_overdue_that_holds_it_goes_and_a_vain_search_is_not_repeated() {
        let mut overdue = Overdue { peers: vec![(1, 10, 0), (2, 11, 0), (3, 12, 0)], ..Overdue::default() };
        assert_eq!(overdue.longest(Scarce::Memory, |slot, _| slot != 10), Some(11));
        assert_eq!(overdue.longest(Scarce::Memory, |_, _| false), None);
        assert_eq!(overdue.longest(Scarce::Memory, |_, _| true), None, "until the next sweep");
        assert_eq!(overdue.longest(Scarce::Windows, |_, _| true), Some(10), "another thing may be found");
        overdue.begin();
        overdue.peers.push((4, 13, 0));
        assert_eq!(overdue.longest(Scarce::Memory, |_, _| true), Some(13));
    }

    #[test]
    fn silence_is_asked_for_where_a_connection_was_refused_and_in_turns() {
        let mut overdue = Overdue::default();
        assert_eq!(overdue.next_asked(5000).count(), 0);
        let mut seen = Vec::new();
        for _ in 0..5 {
            overdue.wants_place = true;
            seen.extend(overdue.next_asked(5000));
            assert_eq!(overdue.next_asked(5000).count(), 0, "once for each refusal");
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 5000, "each has its turn");
        overdue.wants_place = true;
        assert_eq!(overdue.next_asked(3).count(), 3);
    }

    #[test]
    fn the_allocator_gives_back_what_holders_have_given_back() {
        let (mut reclaim, mut ring) = (reclaim(), TestRing::default());
        reclaim.note(TRIMMED_BYTES, 0);
        reclaim.end_sweep(&mut ring);
        assert_eq!(ring.trims, 0, "it is in use");
        reclaim.note(1, 0);
        reclaim.end_sweep(&mut ring);
        assert_eq!(ring.trims, 0, "one byte is missing");
        reclaim.note(0, 0);
        for _ in 0..2 {
            reclaim.end_sweep(&mut ring);
        }
        assert_eq!(ring.trims, 1, "once");
    }

    #[test]
    fn memory_is_scarce_where_a_largest_write_would_not_be_granted() {
        let mut reclaim = reclaim();
        assert!(!reclaim.is_memory_scarce());
        reclaim.msize_max = reclaim.gauge.total_bytes() / GRANTED_SHARE + 1;
        assert!(reclaim.is_memory_scarce());
    }
}
