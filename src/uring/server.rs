//! The loop itself: its state, a turn, and what a peer's turn does.
//!
//! - `receive`, `send`, `together`: bytes of a peer, in and out.
//! - `accept`: listeners, and the drain at the end. `eviction`: peers that are closed by the loop.
//! - `growth`: memory for more files. `recent`: which peers were active a moment ago.
//! - `late`: what the tree answers later. `gates`: whose replies wait for it. `options`: what a loop is given.

mod accept;
mod eviction;
mod gates;
mod growth;
mod kept;
mod late;
mod lines;
mod options;
mod receive;
mod recent;
mod send;
mod together;

use self::accept::{AcceptState, Accepting};
pub use self::accept::{Listener, Trust};
pub use self::eviction::CLOSING_MAX;
use self::eviction::Overdue;
use self::gates::Gates;
pub use self::growth::Grow;
use self::kept::Kept;
pub use self::kept::{KEPT_BATCH_BYTES_ALL, KEPT_GATHERS};
pub use self::lines::LogTo;
use self::lines::Outlet;
pub use self::options::Options;
use self::recent::Recent;
use super::buffers::{Shared, Sink, Spares};
use super::flight;
use super::peer::{Life, Peer, Sending};
use super::ring::Ring;
use super::socket::Socket;
use super::table::Table;
use super::token::{Op, Token};
use crate::arena::{Gauge, Heads, Memory};
use crate::fs::{At, Service};
use crate::session::{self, Session};
use crate::stats::Connection;
use nix::libc;
use slab::Slab;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// A turn that comes so late, in nanoseconds, shows that the process was stopped.
const STOPPED_NS: u64 = 3_000_000_000;
/// A peer with so many unserved bytes is not received from.
const BACKLOG_BYTES: usize = 64 << 10;
/// What all windows together may have beyond one of the usual size for each peer.
pub const BACKLOG_BYTES_ALL: usize = 64 << 20;

/// A running server: a ring, a tree and the peers.
pub struct Server<R: Ring, S: Service> {
    ring: R,
    peers: Slab<Peer<S>>,
    fs: S,
    listeners: Vec<Accepting>,
    options: Options,
    table: Table,
    heads: Heads,
    gauge: Gauge,
    memory: Memory,
    sink: Sink,
    /// `None` where the kernel has no such thing: then every peer has a window.
    shared: Option<Shared>,
    spares: Spares,
    /// Memory of replies that is kept for the next ones.
    kept: Kept,
    events: Vec<(u64, i32, u32)>,
    /// Slots of peers to go on with. Those of this turn are taken out first, and leave their memory to the next ones.
    work: Vec<u32>,
    worked: Vec<u32>,
    /// Peers that are to be gone on with in this turn, after the one that it is at.
    left: usize,
    generation: u32,
    hash_key: u64,
    at: At,
    /// Nanoseconds in which the process was stopped.
    stopped_ns: u64,
    /// Peers whose quiet sends were pushed since the last look at completions, with their generations.
    quiet: Vec<(u32, u32)>,
    /// When those left, in monotonic nanoseconds.
    left_ns: u64,
    /// Turns so far.
    turns: u64,
    /// More operations of the tree can be finished than a turn finishes.
    completing: bool,
    /// Some may have ended, but it is not known yet.
    unsettled: bool,
    /// Enters, and CQEs drained, since the last quiet send was pushed.
    looks: usize,
    seen: usize,
    /// Whose replies wait for gates of the tree.
    gates: Gates,
    /// Peers that are not served until the tree is no longer behind.
    behind: BTreeSet<u32>,
    /// Who has had short replies, and who has had a turn.
    short: Recent,
    busy: Recent,
    /// Operations in flight that a wake-up may leave without a CQE: receives into blocks, and sends that wait for room.
    patient: usize,
    /// A wait for the next look at deadlines is in flight.
    sweeping: bool,
    drain: Option<u64>,
    /// Peers that were ended and are not gone yet.
    closing: usize,
    overdue: Overdue,
    /// Memory of replies, windows and fids in bytes: now, and the most since the allocator last gave memory back.
    held: usize,
    held_most: usize,
    /// A peer that was ended to have its blocks back, until it is gone.
    evicted: Option<u32>,
    outlet: Outlet,
}

impl<R: Ring, S: Service> Server<R, S> {
    /// A server that serves nothing yet. `heads`, `memory` and `gauge` are those of the arena behind `fs`.
    pub fn new(mut ring: R, fs: S, arena: (Memory, Heads, Gauge), mut options: Options) -> Server<R, S> {
        let (memory, heads, gauge) = arena;
        let hash_key = ring.entropy();
        let at = At { wall: ring.wall(), mono_ns: ring.monotonic() };
        let shared = if ring.features().multishot { Shared::new(&mut ring).ok() } else { None };
        Server {
            ring,
            peers: Slab::new(),
            fs,
            listeners: Vec::new(),
            table: Table::new(memory),
            heads,
            gauge,
            memory,
            sink: Sink::new(),
            shared,
            spares: Spares::default(),
            kept: Kept::default(),
            events: Vec::new(),
            work: Vec::new(),
            worked: Vec::new(),
            left: 0,
            generation: 0,
            hash_key,
            at,
            stopped_ns: 0,
            quiet: Vec::new(),
            left_ns: 0,
            turns: 0,
            completing: false,
            unsettled: false,
            looks: 0,
            seen: 0,
            gates: Gates::default(),
            behind: BTreeSet::new(),
            short: Recent::default(),
            busy: Recent::default(),
            patient: 0,
            sweeping: false,
            drain: None,
            closing: 0,
            overdue: Overdue::default(),
            held: 0,
            held_most: 0,
            evicted: None,
            outlet: Outlet::new(options.log.take()),
            options,
        }
    }

    /// Registers the first `bytes` of the arena, so that blocks are reached through the table.
    pub fn register(&mut self, bytes: usize) -> io::Result<()> {
        if !self.ring.features().vectored_fixed {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        self.table.register(&mut self.ring, bytes)
    }

    /// Serves the connections of a listening socket.
    pub fn listen(&mut self, listener: Listener) {
        self.listeners.push(Accepting { listener, state: AcceptState::Idle, warned_ns: None });
    }

    /// Serves a connected socket.
    pub fn connect(&mut self, fd: RawFd, trust: Trust) {
        self.connect_by("-".into(), fd, trust, false);
    }

    /// Serves a socket that came by this listener.
    fn connect_by(&mut self, listener: Rc<str>, fd: RawFd, trust: Trust, tcp: bool) {
        // Whatever the listener's trust, the server shows itself to those who the kernel says are
        // at the other end.
        let identity = self.ring.peer_identity(fd);
        let is_owner = !tcp && identity.is_some_and(|(uid, _)| uid == 0 || uid == self.options.owner);
        let owner = is_owner.then_some(self.options.owner);
        let trust = match trust {
            Trust::All => session::Trust::All,
            Trust::Squash => session::Trust::Squash,
            Trust::PeerUid => match identity {
                Some((uid, gid)) => session::Trust::Peer { uid, gid },
                None => session::Trust::Squash,
            },
        };
        let shown = match trust {
            session::Trust::All => "all".into(),
            session::Trust::Squash => "squash".into(),
            session::Trust::Peer { uid, .. } => format!("uid={uid}").into(),
        };
        let connection = Rc::new(Connection::new(listener, shown, self.at.mono_ns));
        self.generation = self.generation.wrapping_add(1) & 0xff_ffff;
        let entry = self.peers.vacant_entry();
        let slot = entry.key() as u32;
        let config = session::Config {
            trust,
            owner,
            users: Arc::clone(&self.options.users),
            hash_key: self.hash_key,
            budget: Arc::clone(&self.options.budget),
            // 2^40 operations of each connection before the numbers come to those of the next one.
            first_op: u64::from(self.generation) << 40,
            ..session::Config::new(slot, self.options.msize_max)
        };
        self.options.stats.connected(slot, Rc::clone(&connection));
        let socket = Socket::new(&mut self.ring, fd, slot);
        entry.insert(Peer::new(socket, self.generation, Session::new(config), connection, tcp));
        self.options.stats.counters.accepted.up();
        self.list(slot);
    }

    /// The tree.
    pub fn fs(&mut self) -> &mut S {
        &mut self.fs
    }

    /// The ring.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Connections that are not gone yet.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Connections that were overdue at the last sweep and are not closed for it yet.
    pub fn overdue(&self) -> usize {
        self.overdue.peers.len()
    }

    /// Fids of all connections.
    pub fn fids(&self) -> usize {
        self.peers.iter().map(|(_, peer)| peer.session.fids()).sum()
    }

    /// Operations in flight that may be woken without an end.
    pub fn patient(&self) -> usize {
        self.patient
    }

    /// Shared receive buffers that the kernel does not have.
    pub fn spare_buffers(&self) -> usize {
        self.shared.as_ref().map_or(0, Shared::spares)
    }

    /// Bytes of the windows of all connections.
    pub fn window_bytes(&self) -> usize {
        self.spares.lent_bytes()
    }

    /// Turns until a signal came and everything is closed; then the tree is cleaned up. `last` sees
    /// it before that.
    pub fn run(&mut self, last: impl FnOnce(&mut S)) -> io::Result<()> {
        self.start()?;
        while !self.is_over() {
            self.turn()?;
        }
        last(&mut self.fs);
        self.fs.cleanup().map_err(io::Error::other)
    }

    /// Before the first turn: readies the tree and arms what waits for signals.
    pub fn start(&mut self) -> io::Result<()> {
        self.fs.init(self.at).map_err(io::Error::other)?;
        self.outlet.open();
        self.watch_signals()
    }

    fn watch_signals(&mut self) -> io::Result<()> {
        let Some(fd) = self.options.signals else { return Ok(()) };
        self.retry(|server| flight::poll(&mut server.ring, fd, Token::new(Op::Signal, 0, 0)))
    }

    /// Whether a drain has ended, and no log line is waited for.
    pub fn is_over(&self) -> bool {
        self.is_drained() && self.outlet.is_done()
    }

    /// Whether connections and listeners are gone for good.
    fn is_drained(&self) -> bool {
        self.drain.is_some()
            && self.peers.is_empty()
            && self.listeners.iter().all(|listener| listener.state == AcceptState::Closed)
    }

    /// One turn of the loop; waits until there is something to do.
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_with(true)
    }

    /// One turn that does not wait, for who drives both ends from one thread.
    pub fn turn_now(&mut self) -> io::Result<()> {
        self.turn_with(false)
    }

    fn turn_with(&mut self, waits: bool) -> io::Result<()> {
        self.turns += 1;
        self.arm_listeners()?;
        self.enter(waits)?;
        self.read_clocks();
        self.hear()?;
        self.settle();
        self.complete();
        self.relieve();
        let next = std::mem::take(&mut self.worked);
        let mut work = std::mem::replace(&mut self.work, next);
        self.left = work.len();
        for slot in work.drain(..) {
            self.left -= 1;
            self.go_on(slot)?;
        }
        self.worked = work;
        if !self.sweeping && (!self.peers.is_empty() || self.drain.is_some() || self.outlet.waits_for_time()) {
            self.sweeping = true;
            let token = Token::new(Op::Sweep, 0, 0);
            self.retry(|server| flight::wait(&mut server.ring, &flight::SWEEP, token))?;
        }
        self.grow()?;
        if let Some(shared) = &mut self.shared {
            shared.turned(&mut self.ring);
        }
        // What this turn has set off (a line of the log, say) must not wait until something else ends the sleep.
        self.complete();
        if self.outlet.has_news() || self.drain.is_some() {
            self.write_lines()?;
        }
        self.show_held();
        Ok(())
    }

    /// Shows how much memory holders have, and notes the most since memory was given back.
    fn show_held(&mut self) {
        let counters = &self.options.stats.counters;
        let budget = &self.options.budget;
        budget.note_files(self.fs.file_memory_bytes(), S::FILE_BYTES);
        let held = [budget.reply_bytes(), self.kept.batch_bytes(), self.spares.lent_bytes(), budget.fid_bytes()];
        let [replies, kept, windows, fids] = held;
        counters.fid_bytes.set(fids as u64);
        counters.reply_bytes.set(replies as u64);
        counters.kept_bytes.set(kept as u64);
        counters.window_bytes.set(windows as u64);
        self.held = held.iter().sum();
        self.held_most = self.held_most.max(self.held);
    }

    /// Hears what has ended, and lists whom that concerns.
    fn hear(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.ring.drain(|user_data, res, flags| events.push((user_data, res, flags)));
        self.options.stats.counters.cqes.add(events.len() as u64);
        self.seen += events.len();
        for (user_data, res, flags) in events.drain(..) {
            self.event(user_data, res, flags)?;
        }
        self.events = events;
        Ok(())
    }

    /// Time in which the process was stopped (SIGSTOP, a machine that slept) does not count: nobody was slow then. It shows, since a look at deadlines is due every
    /// second.
    fn read_clocks(&mut self) {
        let mono_ns = self.ring.monotonic() - self.stopped_ns;
        let gap = mono_ns.saturating_sub(self.at.mono_ns);
        let stopped = if self.sweeping && gap > STOPPED_NS { gap } else { 0 };
        self.stopped_ns += stopped;
        self.at = At { wall: self.ring.wall(), mono_ns: mono_ns - stopped };
    }

    /// Submits, and waits unless there is work left.
    fn enter(&mut self, waits: bool) -> io::Result<()> {
        if !self.quiet.is_empty() {
            self.left_ns = self.ring.monotonic() - self.stopped_ns;
        }
        if !waits || !self.work.is_empty() || self.unsettled || self.completing || self.fs.has_work() {
            return self.enter_once(0);
        }
        if self.options.busy_poll_ns > 0 {
            self.enter_once(0)?;
            let until = self.ring.monotonic() + self.options.busy_poll_ns;
            while !self.ring.has_work() && self.ring.monotonic() < until {
                std::hint::spin_loop();
            }
            if self.ring.has_work() {
                return self.enter_once(0);
            }
        }
        // A send that succeeds at once is quiet and does not end this wait.
        self.enter_once(1)
    }

    fn enter_once(&mut self, want: u32) -> io::Result<()> {
        self.options.stats.counters.enters.up();
        self.looks += 1;
        self.ring.submit_and_wait(want)
    }

    /// Pushes, and where the queue is full submits what is there and pushes again.
    fn retry(&mut self, mut push: impl FnMut(&mut Self) -> bool) -> io::Result<()> {
        while !push(self) {
            self.enter_once(0)?;
        }
        Ok(())
    }

    fn list(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if !std::mem::replace(&mut peer.listed, true) {
            self.work.push(slot);
        }
    }

    fn event(&mut self, user_data: u64, res: i32, flags: u32) -> io::Result<()> {
        let Some(token) = Token::decode(user_data) else {
            self.options.stats.counters.cqes_stale.up();
            return Ok(());
        };
        match token.op {
            Op::Accept => self.accepted(token.slot as usize, res, flags)?,
            Op::Backoff => {
                let listener = &mut self.listeners[token.slot as usize];
                listener.state = AcceptState::Idle;
                if self.drain.is_some() {
                    self.close_listener(token.slot as usize);
                }
            }
            Op::Signal => self.signalled()?,
            Op::Cancel => {}
            Op::Populate => self.populated(res),
            Op::Log => self.wrote_lines(res)?,
            Op::Sweep => {
                self.sweeping = false;
                self.sweep()?;
                if let Some(shared) = &mut self.shared {
                    shared.swept();
                }
                self.sweep_lines()?;
                self.fs.tick(self.at);
            }
            Op::Receive | Op::Send => {
                let known = self.peers.get(token.slot as usize).is_some_and(|peer| peer.generation == token.generation);
                if !known {
                    self.options.stats.counters.cqes_stale.up();
                    if let Some(shared) = &mut self.shared {
                        shared.look(&mut self.ring, flags, 0, |_| ());
                    }
                    return Ok(());
                }
                match token.op {
                    Op::Send => self.sent(token.slot, res, self.at.mono_ns),
                    _ if io_uring::cqueue::buffer_select(flags).is_some() => {
                        self.received_shared(token.slot, res, flags)
                    }
                    _ => self.received(token.slot, res, flags),
                }
                self.list(token.slot);
            }
        }
        Ok(())
    }

    /// Ends a peer: what it had asked for is abandoned, and it is gone once nothing is in flight.
    fn end(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if peer.life != Life::Closing {
            peer.life = Life::Closing;
            self.closing += 1;
            peer.closed = peer.session.close_part(&mut self.fs, self.at);
            peer.socket.shutdown(&mut self.ring);
        }
    }

    // Peers.

    fn broken(&mut self, slot: u32, broken: session::Broken) {
        log::info!(target: "broken-peer", "peer {slot}: {broken}");
        self.end(slot);
    }

    /// Serves what has arrived, sends what is to be sent, receives what comes next.
    fn go_on(&mut self, slot: u32) -> io::Result<()> {
        let draining = self.drain.is_some();
        let peer = &mut self.peers[slot as usize];
        (peer.listed, peer.idle_sweeps) = (false, 0);
        if peer.life == Life::Closing && !peer.closed {
            peer.closed = peer.session.close_part(&mut self.fs, self.at);
        }
        // Nothing was in the socket when the last enter ended.
        let heard_all = peer.life == Life::Finishing || draining && peer.listens();
        if self.peers[slot as usize].life != Life::Closing {
            self.serve(slot);
        }
        self.receive_again(slot)?;
        self.interrupt(slot);
        if self.peers[slot as usize].life != Life::Closing {
            self.send(slot)?;
        }
        let at_rest = self.peers[slot as usize].is_at_rest();
        if at_rest && heard_all {
            self.end(slot);
        }
        if self.peers[slot as usize].life == Life::Open {
            self.receive(slot)?;
        }
        // Receiving may have served something, so that a batch was lent once more.
        if let Some(batch) = self.peers[slot as usize].session.take_spare() {
            self.kept.keep(batch);
        }
        let peer = &mut self.peers[slot as usize];
        peer.show();
        if peer.life == Life::Closing && !peer.closed {
            // Its fids are closed in parts. No CQE will come for the next part.
            peer.listed = true;
            self.work.push(slot);
        } else if peer.life == Life::Closing && !peer.in_flight() && !peer.session.is_ending() {
            let mut peer = self.peers.remove(slot as usize);
            self.closing -= 1;
            peer.window.discard(&mut self.spares);
            peer.socket.close(&mut self.ring);
            self.options.stats.disconnected(slot);
            self.options.stats.counters.closed.up();
            self.evicted = self.evicted.filter(|&evicted| evicted != slot);
        } else if peer.life != Life::Closing {
            self.gates.note(slot, peer.session.gates());
            if peer.held && self.fs.is_behind() {
                self.behind.insert(slot);
            }
            // No CQE will come for what is left, nor for a receive that finds nothing before a drained peer ends.
            // A quiet send ends without one.
            let ends_unheard = match &peer.sending {
                Sending::Nothing => true,
                Sending::Replies(out) => out.is_quiet(),
                Sending::MoreReplies(_) => false,
            };
            let left = peer.again && ends_unheard;
            if left || draining && at_rest && peer.listens() {
                peer.listed = true;
                self.work.push(slot);
            }
        }
        Ok(())
    }
}

impl<R: Ring, S: Service> Drop for Server<R, S> {
    /// A loop that ends early (an error of the ring itself, a test) leaves operations in flight. The kernel ends them only some time after the ring is
    /// gone, so the memory that they name is never given back.
    fn drop(&mut self) {
        self.outlet.forget_in_flight();
        for peer in self.peers.drain() {
            peer.socket.shutdown(&mut self.ring);
            if peer.in_flight() {
                std::mem::forget(peer);
            }
        }
    }
}
