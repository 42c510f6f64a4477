//! Remote sockets that lead to a far server: two queues of bytes each, a door, and how each end has left.
//!
//! Must not know: what the far server says.

use super::asks::TRANSIENT;
use super::faults::Fault;
use super::memory;
use super::sqe::{Call, Kind};
use super::{Kernel, Op, trace};
use nix::libc;
use std::collections::VecDeque;

/// How long a relay waits at least after an attempt that has failed.
const PAUSE_NS: u64 = 100_000_000;
/// Where each failure ends the connection there would be nothing else: one of so many that the rate allows.
const FAILURES: usize = 20;

/// A connection to another server.
#[derive(Debug, Default)]
pub(super) struct Remote {
    /// What an echo holds, or what a far server has said.
    pub(super) echo: VecDeque<u8>,
    pub(super) is_connected: bool,
    /// The program has shut it down.
    pub(super) is_shut: bool,
    /// The program has closed it.
    pub(super) is_closed: bool,
    /// What the program has sent to a far server.
    sent: VecDeque<u8>,
    /// The far server has ended it.
    has_ended: bool,
    /// With a reset.
    is_reset: bool,
}

/// What comes of an attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Refuses,
    /// Nothing comes of it.
    Hangs,
}

/// The far server, as the kernel sees it.
#[derive(Debug)]
pub(super) struct Far {
    door: Door,
    /// Connections that it has not accepted yet.
    arrived: VecDeque<usize>,
    /// Most bytes in each queue.
    room: usize,
    /// When the last attempt failed, unless one has come to something since.
    failed: Option<u64>,
}

impl Kernel {
    /// All remote sockets lead to one far server.
    pub(crate) fn has_far(&mut self, room: usize) {
        self.disk.far = Some(Far { door: Door::Open, arrived: VecDeque::new(), room, failed: None });
    }

    // The far server.

    pub(crate) fn set_door(&mut self, door: Door) {
        self.disk.far.iter_mut().for_each(|far| far.door = door);
    }

    /// Connections that wait to be accepted by the far server.
    pub(crate) fn has_arrived(&self) -> bool {
        self.disk.far.as_ref().is_some_and(|far| !far.arrived.is_empty())
    }

    pub(crate) fn take_arrived(&mut self) -> Option<usize> {
        self.disk.far.as_mut()?.arrived.pop_front()
    }

    /// Bytes that the far server has not taken yet.
    pub(crate) fn unheard(&self, number: usize) -> usize {
        self.disk.remotes[number].sent.len()
    }

    pub(crate) fn hear(&mut self, number: usize, n: usize) -> Vec<u8> {
        self.disk.remotes[number].sent.drain(..n).collect()
    }

    /// Bytes that the far server may say now.
    pub(crate) fn far_room(&self, number: usize) -> usize {
        let room = self.disk.far.as_ref().map_or(0, |far| far.room);
        room.saturating_sub(self.disk.remotes[number].echo.len())
    }

    pub(crate) fn far_says(&mut self, number: usize, bytes: impl Iterator<Item = u8>) {
        self.disk.remotes[number].echo.extend(bytes);
    }

    /// The program has ended the connection, or it was lost.
    pub(crate) fn is_over(&self, number: usize) -> bool {
        let remote = &self.disk.remotes[number];
        remote.is_shut || remote.is_closed || remote.is_reset
    }

    /// The far server ends a connection.
    pub(crate) fn far_ends(&mut self, number: usize, reset: bool) {
        trace!(self, "remote {number}: ended by the far server, reset: {reset}");
        let remote = &mut self.disk.remotes[number];
        (remote.has_ended, remote.is_reset) = (true, remote.is_reset || reset);
        remote.sent.clear();
        if reset {
            remote.echo.clear();
        }
    }

    // The program.

    /// A relay does not try again and again.
    pub(super) fn check_pause(&self) {
        let failed = self.disk.far.as_ref().and_then(|far| far.failed);
        assert!(failed.is_none_or(|at| self.now >= at + PAUSE_NS), "relay: it connects again without a pause");
    }

    /// An attempt to connect has failed.
    pub(super) fn far_fails(&mut self, call: Call) {
        let now = self.now;
        if let (Some(far), Call::Socket | Call::Connect) = (&mut self.disk.far, call) {
            far.failed = Some(now);
        }
    }

    pub(super) fn connect_far(&mut self, number: usize) -> i32 {
        let now = self.now;
        let Some(far) = &mut self.disk.far else { return -libc::ECONNREFUSED };
        if far.door != Door::Open {
            far.failed = Some(now);
            return -libc::ECONNREFUSED;
        }
        far.failed = None;
        far.arrived.push_back(number);
        self.disk.remotes[number].is_connected = true;
        0
    }

    pub(super) fn can_run_far(&self, op: &Op, far: &Far) -> bool {
        match op.sqe.kind {
            Kind::Ask(Call::Connect) => far.door != Door::Hangs,
            Kind::Ask(_) => true,
            _ => {
                let remote = &self.disk.remotes[self.remote(op.sqe.fd)];
                let is_over = remote.is_shut || remote.has_ended || remote.is_reset;
                is_over || if op.sqe.is_receive() { !remote.echo.is_empty() } else { remote.sent.len() < far.room }
            }
        }
    }

    /// A step of a send to the far server, or of a receive from it.
    pub(super) fn run_far_transfer(&mut self, mut op: Op, number: usize) {
        if op.done == 0 && self.fires(Fault::AskInterrupted) {
            let error = self.random.of(TRANSIENT);
            return self.post(&op.sqe, -error, 0);
        }
        if self.random.one_in(FAILURES) && self.fires(Fault::AskFails) {
            let remote = &mut self.disk.remotes[number];
            remote.is_reset = true;
            remote.echo.clear();
            return self.post(&op.sqe, -libc::ECONNRESET, 0);
        }
        let is_receive = op.sqe.is_receive();
        let Remote { ref echo, ref sent, is_shut, has_ended, is_reset, .. } = self.disk.remotes[number];
        let (there, under_way) = (echo.len(), sent.len());
        if (is_shut || has_ended || is_reset) && (!is_receive || there == 0) {
            let res = match (op.done, is_receive) {
                (0, _) if is_reset && !is_shut => -libc::ECONNRESET,
                (0, false) => -libc::EPIPE,
                (done, _) => done as i32,
            };
            return self.post(&op.sqe, res, 0);
        }
        let left = op.total - op.done;
        if is_receive {
            let n = self.part(there.min(left));
            let bytes: Vec<u8> = self.disk.remotes[number].echo.drain(..n).collect();
            memory::write(&op.views, op.done, &bytes);
            op.done += n;
        } else {
            self.check_held(&op, 0, op.total);
            let room = self.disk.far.as_ref().map_or(0, |far| far.room);
            let n = self.part(left.min(room - under_way));
            memory::read(&op.views, op.done, op.done + n, &mut self.disk.remotes[number].sent);
            op.done += n;
        }
        trace!(self, "remote {number}: {} bytes moved in all", op.done);
        // What asks for all of it waits for all of it; anything else ends with what there is.
        if is_receive && op.sqe.waits_for_all && op.done < op.total {
            return self.in_flight.push(op);
        }
        self.end_transfer(&op);
    }
}
