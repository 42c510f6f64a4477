//! What each operation does when the scheduler lets it run. Which errors a call can have: the manual's pages of recv(2), send(2), accept(2).

use super::faults::Fault;
use super::memory;
use super::sqe::{Kind, Sqe};
use super::{Kernel, Op, trace};
use nix::libc;

const CQE_F_BUFFER: u32 = 1;
const CQE_F_MORE: u32 = 1 << 1;
const CQE_F_SOCK_NONEMPTY: u32 = 1 << 2;

/// How a step of a send ends.
enum Sent {
    /// The socket took a part. The send goes on at another moment.
    Part,
    /// All of it was sent, and the send asked for no completion.
    Quiet,
    /// The completion has this result.
    Ends(i32),
    /// The connection is lost by this error.
    Lost(i32),
}

/// After these the same call may be made again.
const TRANSIENT_RECEIVE: &[i32] = &[libc::EINTR, libc::EAGAIN, libc::ECANCELED, libc::ENOBUFS];
const TRANSIENT_SEND: &[i32] = &[libc::EINTR, libc::EAGAIN];
/// Errors of a write to stderr: those after which it may be tried again, and the others.
const TRANSIENT_WRITE: &[i32] = &[libc::EINTR, libc::EAGAIN, libc::ECANCELED];
const FATAL_WRITE: &[i32] = &[libc::EPIPE, libc::ENOSPC, libc::EIO, libc::EBADF, libc::ENOMEM];
/// After these the connection is lost.
const FATAL: &[i32] = &[libc::ENOMEM, libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::EIO];

impl Kernel {
    /// What a send shows must not change until it has ended. Looks at the chunks that hold bytes `from..to`.
    pub(super) fn check_held(&self, op: &Op, from: usize, to: usize) {
        let same = memory::sums(&op.views, from, to).all(|(chunk, sum)| op.sums[chunk] == sum);
        assert!(same, "memory: what {:?} shows has changed under way", op.sqe);
    }

    /// Nobody else writes where a receive is under way. Into the sink anyone may.
    fn check_untouched(&self, op: &Op) {
        let sink = self.sinks.contains(&op.views[0].at);
        assert!(
            sink || memory::is_poisoned(&op.views, op.done) || op.done > 0,
            "memory: somebody wrote where {:?} is under way",
            op.sqe
        );
    }

    pub(super) fn interrupt(&mut self, op: Op) {
        let error = self.random.of(TRANSIENT_RECEIVE);
        self.post(&op.sqe, -error, 0);
    }

    /// The operation fails, whatever it is, as one that is tried again; sends and receives of which that is not true end their connection.
    pub(super) fn fail(&mut self, op: Op) {
        match op.sqe.kind {
            Kind::Accept => self.post(&op.sqe, -libc::ENOMEM, 0),
            Kind::Populate { .. } => self.post(&op.sqe, -libc::ENOMEM, 0),
            Kind::Poll => self.post(&op.sqe, -libc::ECANCELED, 0),
            Kind::Write { .. } => self.end_write(&op, -libc::EIO),
            Kind::Timeout { .. } => self.post(&op.sqe, -libc::ECANCELED, 0),
            // It needs nothing that could be missing.
            Kind::Cancel { target } => self.cancel(op.sqe, target),
            _ if self.is_asked(&op.sqe) => self.post(&op.sqe, -libc::ENOMEM, 0),
            _ => self.lose(&op.sqe, libc::ENOMEM),
        }
    }

    /// The connection is lost by an error.
    fn lose(&mut self, sqe: &Sqe, error: i32) {
        let number = self.socket(sqe.fd);
        let socket = &mut self.sockets[number];
        socket.excuse = Some("an operation failed");
        if matches!(error, libc::ECONNRESET | libc::ETIMEDOUT) {
            socket.reset = true;
        }
        self.post(sqe, -error, 0);
    }

    pub(super) fn accept(&mut self, op: Op) {
        if self.fires(Fault::AcceptNoFiles) {
            self.accept_failed = Some(self.now);
            let error = self.random.of(&[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM]);
            return self.post(&op.sqe, -error, 0);
        }
        if self.fires(Fault::AcceptFails) {
            self.take_from_backlog();
            return self.post(&op.sqe, -libc::ECONNABORTED, 0);
        }
        let Some(number) = self.backlog.pop_front() else { return self.in_flight.push(op) };
        let fd = self.open(number);
        trace!(self, "connection {number}: accepted as {fd}");
        if self.fires(Fault::AcceptEnds) {
            self.post(&op.sqe, fd, 0);
        } else {
            self.post(&op.sqe, fd, CQE_F_MORE);
            self.in_flight.push(op);
        }
    }

    /// A connection goes before it is accepted.
    fn take_from_backlog(&mut self) {
        if let Some(number) = self.backlog.pop_front() {
            let socket = &mut self.sockets[number];
            (socket.reset, socket.closed, socket.excuse) = (true, true, Some("it was not accepted"));
        }
    }

    /// Ends an operation, unless it is over. Its completion may be held back like any other.
    pub(super) fn cancel(&mut self, sqe: Sqe, target: u64) {
        let found = self.in_flight.iter().position(|op| op.sqe.user_data == target);
        let Some(at) = found else {
            self.faults.count(Fault::CancelMisses);
            return self.post(&sqe, -libc::ENOENT, 0);
        };
        // It is running just then: too late for it.
        if self.in_flight[at].sqe.is_receive() && self.fires(Fault::CancelMisses) {
            return self.post(&sqe, -libc::EALREADY, 0);
        }
        let op = self.in_flight.remove(at);
        trace!(self, "cancelled {target:x}");
        if self.random.one_in(2) {
            self.post(&op.sqe, -libc::ECANCELED, 0);
            self.post(&sqe, 0, 0);
        } else {
            self.post(&sqe, 0, 0);
            self.post(&op.sqe, -libc::ECANCELED, 0);
        }
    }

    pub(super) fn receive(&mut self, mut op: Op) {
        self.check_untouched(&op);
        let number = self.socket(op.sqe.fd);
        if op.done == 0 && self.fires(Fault::ReceiveInterrupted) {
            return self.interrupt(op);
        }
        if self.fires(Fault::ReceiveFails) {
            let error = self.random.of(FATAL);
            return self.lose(&op.sqe, error);
        }
        let socket = &mut self.sockets[number];
        let there = socket.to_server.len();
        if there == 0 {
            let res = if op.done == 0 && socket.reset && !socket.shut { -libc::ECONNRESET } else { op.done as i32 };
            return self.post(&op.sqe, res, 0);
        }
        let mut n = there.min(op.total - op.done);
        let short = self.fires(Fault::ShortReceive);
        if short {
            n = self.random.part(n);
        }
        let bytes = self.sockets[number].take(n);
        memory::write(&op.views, op.done, &bytes);
        op.done += n;
        trace!(self, "connection {number}: {n} bytes received");
        let waits_for_all = op.sqe.waits_for_all && !short;
        if waits_for_all && op.done < op.total {
            return self.in_flight.push(op);
        }
        // A kernel that does not say that there is more says nothing wrong. It does where that is an odd number of bytes.
        let says = self.sockets[number].to_server.len() % 2 == 1;
        self.post(&op.sqe, op.done as i32, if says { CQE_F_SOCK_NONEMPTY } else { 0 });
    }

    pub(super) fn receive_shared(&mut self, op: Op) {
        let number = self.socket(op.sqe.fd);
        if self.fires(Fault::ReceiveInterrupted) {
            return self.interrupt(op);
        }
        if self.fires(Fault::ReceiveFails) {
            let error = self.random.of(FATAL);
            return self.lose(&op.sqe, error);
        }
        let socket = &self.sockets[number];
        if socket.to_server.is_empty() {
            let res = if socket.reset && !socket.shut { -libc::ECONNRESET } else { 0 };
            return self.post(&op.sqe, res, 0);
        }
        let none = self.fires(Fault::NoBuffer);
        let buffers = self.buffers.as_mut().expect("submission: a receive into buffers that were shared");
        let id = if none { None } else { buffers.free.pop_front() };
        let Some(id) = id else { return self.post(&op.sqe, -libc::ENOBUFS, 0) };
        let view = [buffers.view(id)];
        let poisoned = std::mem::take(&mut buffers.poisoned[usize::from(id)]);
        assert!(!poisoned || memory::is_poisoned(&view, 0), "shared buffers: {id} was touched after it was given back");
        let mut n = self.sockets[number].to_server.len().min(view[0].len);
        if self.fires(Fault::ShortReceive) {
            n = self.random.part(n);
        }
        let bytes = self.sockets[number].take(n);
        memory::poison(&view, n);
        memory::write(&view, 0, &bytes);
        trace!(self, "connection {number}: {n} bytes received into shared buffer {id}");
        let ends = self.fires(Fault::MultishotEnds);
        let flags = CQE_F_BUFFER | u32::from(id) << 16 | if ends { 0 } else { CQE_F_MORE };
        self.post(&op.sqe, n as i32, flags);
        if !ends {
            self.in_flight.push(op);
        }
    }

    /// The descriptor takes the bytes, or a part of them, or fails.
    pub(super) fn write(&mut self, op: Op) {
        self.check_held(&op, 0, op.total);
        if self.fires(Fault::LogInterrupted) {
            let error = self.random.of(TRANSIENT_WRITE);
            return self.end_write(&op, -error);
        }
        if self.fires(Fault::LogFails) {
            let error = self.random.of(FATAL_WRITE);
            return self.end_write(&op, -error);
        }
        let n = if self.fires(Fault::LogShort) { self.random.part(op.total) } else { op.total };
        memory::read(&op.views, 0, n, &mut self.stderr);
        self.end_write(&op, n as i32);
    }

    /// The bytes of a write that never completes stay as they are.
    pub(crate) fn check_stuck(&self) {
        self.in_flight.iter().filter(|op| op.stuck).for_each(|op| self.check_held(op, 0, op.total));
    }

    fn end_write(&mut self, op: &Op, res: i32) {
        self.last_write_took_all = res == op.total as i32;
        self.post(&op.sqe, res, 0);
    }

    /// A step of a send. The bytes that the step sends are compared with what they were at the
    /// submission; all bytes are compared once the send has ended.
    pub(super) fn send(&mut self, mut op: Op) {
        let sent = self.send_part(&mut op);
        if let Sent::Part = sent {
            return self.in_flight.push(op);
        }
        self.check_held(&op, 0, op.total);
        match sent {
            Sent::Part | Sent::Quiet => {}
            Sent::Ends(res) => self.post(&op.sqe, res, 0),
            Sent::Lost(error) => self.lose(&op.sqe, error),
        }
    }

    /// What the socket takes of a send, or some of that. One that never waits ends in any case.
    fn send_part(&mut self, op: &mut Op) -> Sent {
        let number = self.socket(op.sqe.fd);
        if op.done == 0 && self.fires(Fault::SendInterrupted) {
            self.sockets[number].was_full = true;
            return Sent::Ends(-self.random.of(TRANSIENT_SEND));
        }
        if self.sockets[number].is_deaf() {
            return Sent::Ends(if self.sockets[number].reset { -libc::ECONNRESET } else { -libc::EPIPE });
        }
        if self.fires(Fault::SendFails) {
            return Sent::Lost(self.random.of(FATAL));
        }
        let mut n = self.sockets[number].send_room().min(op.total - op.done);
        self.sockets[number].was_full = true;
        if n == 0 || op.sqe.never_waits && self.fires(Fault::FullSocket) {
            if n == 0 {
                self.faults.count(Fault::FullSocket);
            }
            return Sent::Ends(-libc::EAGAIN);
        }
        // A send that waits is taken in parts, each at a moment of its own.
        let ends = op.sqe.never_waits || self.fires(Fault::ShortSend);
        if ends && self.fires(Fault::ShortSend) || !op.sqe.never_waits && self.random.one_in(2) {
            n = self.random.part(n);
        }
        self.check_held(op, op.done, op.done + n);
        memory::read(&op.views, op.done, op.done + n, &mut self.sockets[number].to_client);
        op.done += n;
        if op.done < op.total || op.sqe.never_waits {
            self.sockets[number].was_full = op.done < op.total;
        }
        trace!(self, "connection {number}: {n} bytes sent");
        if op.done < op.total && !ends {
            Sent::Part
        } else if op.done == op.total && op.sqe.quiet {
            Sent::Quiet
        } else {
            Sent::Ends(op.done as i32)
        }
    }
}
