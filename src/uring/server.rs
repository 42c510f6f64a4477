//! The server: rooms, each with a concern and its state, and what joins them.
//!
//! | room | concern |
//! |---|---|
//! | `io`, `clock` | the ring with its counts; the time of a turn |
//! | `peers`, `work` | who is there; who has a turn |
//! | `accepts`, `receives`, `sends`, `quiet` | listeners; bytes of a peer, in and out; sends without a CQE |
//! | `kept` | memory of replies and lists of views, for the next ones |
//! | `asks` | system calls that the tree asks for |
//! | `late` | what the tree answers later (`gates`: whose replies wait for it) |
//! | `reclaim`, `growth` | whose memory is taken back; memory for more files |
//! | `outlet`, `drain` | log lines; the end, with signals and the timer |
//!
//! A room has methods that take what they need of the others. `turn.rs` is a turn, with what a peer's turn does; the join in
//! here hands each CQE to its room, and ends the peers that rooms have chosen. `options`: what a loop is given.

mod accept;
mod asks;
mod clock;
mod drain;
mod gates;
mod growth;
mod io;
mod kept;
mod late;
mod lines;
mod options;
mod peers;
mod quiet;
mod receive;
mod recent;
mod reclaim;
mod send;
mod together;
mod turn;
mod work;

use self::accept::{Accepts, Identity};
pub use self::accept::{Listener, Trust};
use self::asks::Asks;
use self::clock::Clock;
use self::drain::Drain;
pub use self::growth::Grow;
use self::growth::Growth;
use self::io::Io;
use self::kept::Kept;
pub use self::kept::{KEPT_BATCH_BYTES_ALL, KEPT_GATHERS};
use self::late::Late;
pub use self::lines::LogTo;
use self::lines::{Ending, Outlet};
pub use self::options::Options;
use self::peers::Peers;
use self::quiet::Quiet;
use self::receive::{Armed, Receives};
pub use self::reclaim::CLOSING_MAX;
use self::reclaim::{Look, Place, Reclaim, Scarce};
use self::send::Sends;
use self::work::Work;
use super::flight;
use super::peer::{Life, Peer};
use super::ring::Ring;
use super::socket::Socket;
use super::token::{Op, Token};
use crate::arena::{Gauge, Heads, Memory};
use crate::fs::Service;
use crate::session::{self, Session};
use crate::stats::Connection;
use nix::errno::Errno;
use nix::libc;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// A peer with this many unserved bytes is not received from.
const BACKLOG_BYTES: usize = 64 << 10;
/// What all windows together may have beyond one of the usual size for each peer.
pub const BACKLOG_BYTES_ALL: usize = 64 << 20;

/// A running server: a ring, a tree and the peers. See the head of the file for its rooms.
pub struct Server<R: Ring, S: Service> {
    io: Io<R>,
    clock: Clock,
    fs: S,
    peers: Peers<S>,
    work: Work,
    accepts: Accepts,
    receives: Receives,
    sends: Sends,
    quiet: Quiet,
    kept: Kept,
    late: Late,
    asks: Asks,
    reclaim: Reclaim,
    growth: Growth,
    outlet: Outlet,
    drain: Drain,
    options: Options,
}

impl<R: Ring, S: Service> Server<R, S> {
    /// A server that serves nothing yet. `heads`, `memory` and `gauge` are those of the arena behind `fs`.
    pub fn new(mut ring: R, fs: S, arena: (Memory, Heads, Gauge), mut options: Options) -> Server<R, S> {
        let (memory, heads, gauge) = arena;
        let stats = || Rc::clone(&options.stats);
        let accepts = Accepts::new(&mut ring);
        let clock = Clock::new(&mut ring);
        let receives = Receives::new(&mut ring, stats());
        let sends = Sends::new(memory, heads, stats());
        let io = Io::new(ring, stats());
        Server {
            io,
            clock,
            fs,
            peers: Peers::new(),
            work: Work::default(),
            accepts,
            receives,
            sends,
            quiet: Quiet::default(),
            kept: Kept::default(),
            late: Late::default(),
            asks: Asks::default(),
            reclaim: Reclaim::new(gauge, memory.len(), &options),
            growth: Growth::new(options.grow.take(), memory, gauge),
            outlet: Outlet::new(options.log.take(), Rc::clone(&options.stats)),
            drain: Drain::new(options.signals),
            options,
        }
    }

    /// Registers the first `bytes` of the arena, so that blocks are reached through the table.
    pub fn register(&mut self, bytes: usize) -> std::io::Result<()> {
        if !self.io.ring.features().vectored_fixed {
            return Err(std::io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        self.sends.table.register(&mut self.io.ring, bytes)
    }

    /// Serves the connections of a listening socket.
    pub fn listen(&mut self, listener: Listener) {
        self.accepts.add(listener);
    }

    /// Serves a connected socket.
    pub fn connect(&mut self, fd: RawFd, trust: Trust) {
        self.connect_by(Listener { fd, name: "-".into(), trust, tcp: false });
    }

    /// Serves a connected socket that came by this listener.
    fn connect_by(&mut self, Listener { fd, name, trust, tcp }: Listener) {
        let identity = Identity::new(trust, self.io.ring.peer_identity(fd), self.options.owner, tcp);
        let connection = Rc::new(Connection::new(name, identity.shown, self.clock.at.mono_ns));
        let generation = self.accepts.next_generation();
        let slot = self.peers.vacant();
        let config = session::Config {
            trust: identity.trust,
            owner: identity.owner,
            users: Arc::clone(&self.options.users),
            hash_key: self.accepts.hash_key(),
            budget: Arc::clone(&self.options.budget),
            // 2^40 operations of each connection before the numbers come to those of the next one.
            first_op: u64::from(generation) << 40,
            ..session::Config::new(slot, self.options.msize_max)
        };
        self.options.stats.connected(slot, Rc::clone(&connection));
        let socket = Socket::new(&mut self.io.ring, fd, slot);
        self.peers.insert(Peer::new(socket, generation, Session::with_asks(config), connection, tcp));
        self.options.stats.counters.accepted.up();
        self.list(slot);
    }

    /// The tree.
    pub fn fs(&mut self) -> &mut S {
        &mut self.fs
    }

    /// The ring.
    pub fn ring(&mut self) -> &mut R {
        &mut self.io.ring
    }

    /// Connections whose sockets are not closed yet.
    pub fn peers(&self) -> usize {
        self.peers.connected()
    }

    /// Sessions whose sockets are closed, and of which the tree has an operation.
    pub fn left(&self) -> usize {
        self.peers.left()
    }

    /// Connections that were overdue at the last sweep and are not closed for it yet.
    pub fn overdue(&self) -> usize {
        self.reclaim.overdue()
    }

    /// Fids of all connections.
    pub fn fids(&self) -> usize {
        self.peers.iter().map(|(_, peer)| peer.session.fids()).sum()
    }

    /// Operations in flight that may be woken without an end.
    pub fn patient(&self) -> usize {
        self.io.patient()
    }

    /// Asks of the tree in flight.
    pub fn asks(&self) -> usize {
        self.asks.len()
    }

    /// Shared receive buffers that the kernel does not have.
    pub fn spare_buffers(&self) -> usize {
        self.receives.spare_buffers()
    }

    /// Bytes of the windows of all connections.
    pub fn window_bytes(&self) -> usize {
        self.receives.spares.lent_bytes()
    }

    /// Turns until a signal came and everything is closed; then the tree is cleaned up. `last` sees
    /// it before that.
    pub fn run(&mut self, last: impl FnOnce(&mut S)) -> std::io::Result<()> {
        self.start()?;
        while !self.is_over() {
            self.turn()?;
        }
        last(&mut self.fs);
        self.fs.cleanup().map_err(std::io::Error::other)
    }

    /// Before the first turn: readies the tree and arms what waits for signals.
    pub fn start(&mut self) -> std::io::Result<()> {
        self.fs.init(self.clock.at).map_err(std::io::Error::other)?;
        self.outlet.open();
        self.drain.watch(&mut self.io)
    }

    /// Whether a drain has ended, and no log line is waited for.
    pub fn is_over(&self) -> bool {
        self.is_drained() && self.outlet.is_done()
    }

    /// Whether connections and listeners are gone for good, and the tree has ended everything and asks for nothing more. Once
    /// the drain was asked for twice the tree is not waited for.
    fn is_drained(&self) -> bool {
        if self.drain.is_hurried() {
            return self.has_no_peers();
        }
        self.serves_nobody() && (!S::NEEDS_ASKS || self.asks.are_over(&self.fs))
    }

    /// Whether connections and listeners are gone for good, and the tree has ended every operation.
    fn serves_nobody(&self) -> bool {
        self.has_no_peers() && self.peers.is_empty()
    }

    /// Whether connections and listeners are gone for good.
    fn has_no_peers(&self) -> bool {
        self.drain.is_on() && self.peers.connected() == 0 && self.accepts.are_closed()
    }

    /// One turn of the loop; waits until there is something to do.
    pub fn turn(&mut self) -> std::io::Result<()> {
        self.turn_with(true)
    }

    /// One turn that does not wait, for a caller that drives both ends from one thread.
    pub fn turn_now(&mut self) -> std::io::Result<()> {
        self.turn_with(false)
    }

    /// Stops accepting and lets replies leave, for a while. The second call closes all connections at once.
    pub fn begin_drain(&mut self) -> std::io::Result<()> {
        if !self.drain.begin(self.clock.at.mono_ns) {
            self.sweep()?;
            let ending = self.ending();
            return self.outlet.sweep(&mut self.io, ending);
        }
        self.accepts.end(&mut self.io)?;
        let slots: Vec<u32> = self.peers.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.list(slot));
        Ok(())
    }

    /// How far the loop has come with its end.
    fn ending(&self) -> Ending {
        Ending {
            is_drained: self.is_drained(),
            is_hurried: self.drain.is_hurried(),
            until_ns: self.drain.until_ns(),
            now_ns: self.clock.at.mono_ns,
        }
    }

    // CQEs.

    /// Hands a CQE to its room.
    fn event(&mut self, user_data: u64, res: i32, flags: u32) -> std::io::Result<()> {
        let Some(token) = Token::decode(user_data) else {
            self.options.stats.counters.cqes_stale.up();
            return Ok(());
        };
        match token.op {
            Op::Accept => self.accepted(token.slot as usize, res, flags)?,
            Op::Backoff => {
                self.accepts.backed_off(token.slot as usize);
                self.close_drained(token.slot as usize);
            }
            Op::Signal => {
                if self.drain.hears_end(&mut self.io.ring) {
                    self.begin_drain()?;
                }
                self.drain.watch(&mut self.io)?;
            }
            Op::Cancel => {}
            Op::Populate => self.growth.populated(res, &mut self.sends.table, &mut self.io.ring),
            Op::Log => {
                let ending = self.ending();
                self.outlet.wrote(res, &mut self.io, ending)?;
            }
            Op::Sweep => {
                self.drain.timer_ended();
                self.sweep()?;
                self.receives.swept();
                let ending = self.ending();
                self.outlet.sweep(&mut self.io, ending)?;
                self.fs.tick(self.clock.at);
            }
            Op::Ask => {
                let Server { asks, fs, io, clock, .. } = self;
                if !asks.ended(token, res, fs, io, clock.at) {
                    self.options.stats.counters.cqes_stale.up();
                }
            }
            Op::Receive | Op::Send => {
                if self.peers.get_same(token.slot, token.generation).is_none() {
                    self.options.stats.counters.cqes_stale.up();
                    self.receives.give_back(&mut self.io.ring, flags);
                    return Ok(());
                }
                match token.op {
                    Op::Send => self.sent(token.slot, res, self.clock.at.mono_ns),
                    _ => self.received(token.slot, res, flags),
                }
                self.list(token.slot);
            }
        }
        Ok(())
    }

    fn accepted(&mut self, index: usize, res: i32, flags: u32) -> std::io::Result<()> {
        match self.accepts.ended(index, res, flags) {
            Ok(fd) if self.drain.is_on() || !self.has_place() => {
                self.options.stats.counters.refused.up();
                self.io.ring.close(fd);
            }
            Ok(fd) => self.connect_by(Listener { fd, ..self.accepts.listener(index).clone() }),
            Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                let (ring, now) = (&mut self.io.ring, self.clock.at.mono_ns);
                if let Some(slot) = self.reclaim.longest_overdue(Scarce::Places, &self.peers, ring, now) {
                    self.evict(slot);
                }
                self.accepts.back_off(index, error, now, &mut self.io)?;
            }
            // The connection went before it was accepted, or the accept was cancelled.
            Err(error) => log::debug!(target: "failed-accept", "accept: {error}"),
        }
        self.close_drained(index);
        Ok(())
    }

    /// Closes a listener of which nothing is in flight, if the loop drains.
    fn close_drained(&mut self, index: usize) {
        if self.drain.is_on() {
            self.accepts.close_idle(index, &mut self.io.ring);
        }
    }

    /// Whether one more connection may come. A peer may be closed for it.
    fn has_place(&mut self) -> bool {
        match self.reclaim.place(&self.peers, &mut self.io.ring, self.clock.at.mono_ns) {
            Place::Free => true,
            Place::None => false,
            Place::Of(slot) => {
                self.evict(slot);
                true
            }
        }
    }

    /// Looks at all peers that have a socket, once a second.
    fn sweep(&mut self) -> std::io::Result<()> {
        let now = self.clock.at.mono_ns;
        let rules = (self.drain.is_over(now), self.receives.is_shared());
        let mut sweep = self.reclaim.begin_sweep(&self.peers, &mut self.io.ring, now, rules);
        for slot in 0..self.peers.slots() {
            let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.has_left) else { continue };
            match self.reclaim.look(slot, peer, &mut self.io.ring, &mut sweep) {
                Look::Well => {}
                Look::TooSlow => {
                    log::info!(target: "slow-peer", "peer {slot}: too slow, closed");
                    self.end(slot);
                    self.list(slot);
                }
                Look::HungUp => {
                    peer.hung_up = true;
                    self.list(slot);
                }
                Look::LeavesWindow => {
                    // Back to shared buffers, or to a window of the usual size, once this receive has ended.
                    let target = Token::new(Op::Receive, peer.generation, slot);
                    peer.ends_bulk();
                    self.io.push(|ring| flight::cancel(ring, target, Token::new(Op::Cancel, 0, 0)))?;
                }
            }
        }
        self.reclaim.end_sweep(&mut self.io.ring);
        Ok(())
    }

    // Peers.

    fn list(&mut self, slot: u32) {
        self.work.list(slot, &mut self.peers[slot].listed);
    }

    /// Ends a peer: what it had asked for is abandoned, and it leaves once nothing is in flight.
    fn end(&mut self, slot: u32) {
        self.peers.end(slot, &mut self.fs, self.clock.at, &mut self.io.ring);
    }

    fn broken(&mut self, slot: u32, broken: session::Broken) {
        log::info!(target: "broken-peer", "peer {slot}: {broken}");
        self.end(slot);
    }

    /// Ends a peer that holds what others need.
    fn evict(&mut self, slot: u32) {
        log::info!(target: "greedy-peer", "peer {slot}: holds what others need, closed");
        self.options.stats.counters.evicted.up();
        self.end(slot);
        self.list(slot);
    }

    /// Ends a peer if something is scarce.
    fn relieve(&mut self) {
        let windows = self.receives.spares.lent_bytes();
        let (ring, now) = (&mut self.io.ring, self.clock.at.mono_ns);
        if let Some(slot) = self.reclaim.relieve(&self.peers, windows, ring, now) {
            self.evict(slot);
        }
    }

    /// A send ended with `res`, at `now` in monotonic nanoseconds.
    fn sent(&mut self, slot: u32, res: i32, now: u64) {
        let ended = self.sends.ended(&mut self.peers[slot], (res, now), &mut self.io, &mut self.kept);
        if let Err(error) = ended {
            log::debug!(target: "failed-send", "peer {slot}: send: {error}");
            self.end(slot);
        }
    }

    /// A receive has brought something, or ended.
    fn received(&mut self, slot: u32, res: i32, flags: u32) {
        let Server { io, clock, fs, peers, work, receives, kept, .. } = self;
        let peer = &mut peers[slot];
        if io_uring::cqueue::buffer_select(flags).is_some() {
            if let Err(broken) = receives.ended_shared(peer, (res, flags), fs, clock, &mut io.ring, kept) {
                self.broken(slot, broken);
            }
            return;
        }
        let alone = !work.is_shared(slot, clock.at.mono_ns);
        if let Err(error) = receives.ended(peer, (res, flags, alone), fs, clock, io, kept) {
            log::debug!(target: "failed-receive", "peer {slot}: receive: {error}");
            self.end(slot);
        }
    }

    /// Serves what the window of a peer has, if that is due.
    fn serve(&mut self, slot: u32) {
        let Server { peers, fs, clock, kept, .. } = self;
        if let Err(broken) = self.receives.serve(&mut peers[slot], fs, clock, kept) {
            self.broken(slot, broken);
        }
    }

    /// Arms the receive that a peer needs next.
    fn arm(&mut self, slot: u32) -> std::io::Result<()> {
        loop {
            let (peer, now) = (&mut self.peers[slot], self.clock.at.mono_ns);
            if self.receives.arm((slot, peer), now, &mut self.io, &mut self.kept)? == Armed::Done {
                return Ok(());
            }
            self.serve(slot);
            if self.peers[slot].life != Life::Open {
                return Ok(());
            }
        }
    }
}

impl<R: Ring, S: Service> Drop for Server<R, S> {
    /// A loop that ends early (an error of the ring itself, a test) leaves operations in flight. The kernel ends them only some time after the ring is
    /// gone, so the memory that they name is never given back.
    fn drop(&mut self) {
        self.outlet.forget_in_flight();
        self.asks.forget_in_flight();
        for peer in self.peers.drain() {
            // The descriptor of one that has left may be another one's.
            if !peer.has_left {
                peer.socket.shutdown(&mut self.io.ring);
            }
            if peer.in_flight() {
                std::mem::forget(peer);
            }
        }
    }
}
