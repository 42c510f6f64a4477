//! How log lines leave: by one write at a time, which the ring completes when the descriptor
//! takes it.
//!
//! - A write to a full pipe or a stopped terminal stays in flight, and one to a slow disk completes
//!   late. The loop serves meanwhile; the log drops lines for which it has no room.
//! - After an error (EPIPE, ENOSPC, EBADF) the lines of the write are dropped, and the descriptor
//!   rests until the next sweep. So there is one failed write per second at most.
//! - After EAGAIN (another process has set `O_NONBLOCK`) it rests as well, and no line is dropped.
//! - At the end of a drain a write that does not complete is left in flight, with its memory.
//!
//! Must not know: what lines say.

use super::io::Io;
use crate::logging::{Log, Missing};
use crate::stats::Stats;
use crate::uring::flight::LogWrite;
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use nix::errno::Errno;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// How long the last lines may take once everything else has ended, in nanoseconds.
const LAST_LINES_NS: u64 = 500_000_000;

/// A log, and the descriptor that its lines are written to. The loop does not close it.
#[derive(Clone, Debug)]
pub struct LogTo {
    /// The log.
    pub log: Arc<Log>,
    /// The descriptor.
    pub fd: RawFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    InFlight,
    /// Until the next sweep.
    Resting,
}

/// A log's descriptor, and the write to it.
pub(super) struct Outlet {
    to: Option<LogTo>,
    /// Its chunk is done unless a write is in flight, or the descriptor took only a part.
    write: LogWrite,
    state: State,
    /// The numbers that are in the counters.
    shown: Missing,
    /// Since when only log lines keep the loop from ending, in monotonic nanoseconds.
    last_since_ns: Option<u64>,
    /// The loop may end although lines wait.
    is_abandoned: bool,
    stats: Rc<Stats>,
}

/// How far the loop has come with its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// Connections and listeners are gone for good.
    pub(super) is_drained: bool,
    /// The drain was asked for twice.
    pub(super) is_hurried: bool,
    /// By when the drain is to be over, in monotonic nanoseconds.
    pub(super) until_ns: Option<u64>,
    /// The time of this turn.
    pub(super) now_ns: u64,
}

impl Outlet {
    pub(super) fn new(to: Option<LogTo>, stats: Rc<Stats>) -> Outlet {
        Outlet {
            to,
            write: LogWrite::default(),
            state: State::Idle,
            shown: Missing::default(),
            last_since_ns: None,
            is_abandoned: false,
            stats,
        }
    }

    /// Takes over from direct writes.
    pub(super) fn open(&mut self) {
        if let Some(to) = &self.to {
            self.write.chunk = to.log.leave_to_loop();
        }
    }

    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to.log.has_news())
    }

    /// There is work for the next sweep.
    pub(super) fn waits_for_time(&self) -> bool {
        let Some(to) = &self.to else { return false };
        self.state == State::Resting && self.has_lines(&to.log) || to.log.owes()
    }

    fn has_lines(&self, log: &Log) -> bool {
        !self.write.chunk.is_done() || log.is_waiting()
    }

    /// The loop may end. A descriptor that rests is not waited for.
    pub(super) fn is_done(&self) -> bool {
        let Some(to) = &self.to else { return true };
        self.is_abandoned
            || match self.state {
                State::InFlight => false,
                State::Resting => true,
                State::Idle => !self.has_lines(&to.log),
            }
    }

    fn count(&mut self) {
        let Some(to) = &self.to else { return };
        let now = to.log.look();
        let stats = &self.stats;
        stats.counters.log_lines_dropped.add(now.dropped - self.shown.dropped);
        stats.counters.log_lines_left_out.add(now.left_out - self.shown.left_out);
        self.shown = now;
    }

    /// Leaks the memory of a write in flight: the kernel may read it after the ring is closed.
    pub(super) fn forget_in_flight(&mut self) {
        if self.state == State::InFlight {
            std::mem::forget(std::mem::take(&mut self.write));
        }
    }

    /// Updates the counters, and submits a write of the waiting lines if none is in flight.
    pub(super) fn write<R: Ring>(&mut self, io: &mut Io<R>, ending: Ending) -> io::Result<()> {
        if self.last_since_ns.is_none() && ending.is_drained {
            self.last_since_ns = Some(ending.now_ns);
            self.to.iter().for_each(|to| to.log.end());
        }
        self.count();
        let Outlet { to, write, state, .. } = self;
        let Some(LogTo { log, fd }) = to else { return Ok(()) };
        if *state == State::Idle && (!write.chunk.is_done() || log.take(&mut write.chunk)) {
            *state = State::InFlight;
            // A pipe may be full again when the write is woken: it waits on then, without a CQE.
            io.begin_patient(1);
            io.push(|ring| write.start(ring, *fd, Token::new(Op::Log, 0, 0)))?;
        }
        Ok(())
    }

    /// A write has completed. The rest of its chunk goes next, or the waiting lines.
    pub(super) fn wrote<R: Ring>(&mut self, res: i32, io: &mut Io<R>, ending: Ending) -> io::Result<()> {
        let Outlet { to, write, state, .. } = &mut *self;
        let Some(LogTo { log, .. }) = to.as_ref().filter(|_| *state == State::InFlight) else {
            self.stats.counters.cqes_stale.up();
            return Ok(());
        };
        io.end_patient(1);
        *state = State::Resting;
        match errno(res) {
            None if res > 0 => {
                write.chunk.advance(res as usize);
                if write.chunk.is_done() {
                    log.written();
                }
                *state = State::Idle;
            }
            None | Some(Errno::EAGAIN | Errno::EINTR | Errno::ECANCELED) => {}
            Some(_) => log.failed(&mut write.chunk),
        }
        self.write(io, ending)
    }

    /// Once a second: logs what was left out, ends the rest of a descriptor, and abandons a write
    /// that keeps the loop from ending.
    pub(super) fn sweep<R: Ring>(&mut self, io: &mut Io<R>, ending: Ending) -> io::Result<()> {
        let Some(LogTo { log, .. }) = &self.to else { return Ok(()) };
        log.tick(io.ring.monotonic());
        if self.state == State::Resting {
            self.state = State::Idle;
        }
        let now_ns = ending.now_ns;
        let is_late = self.last_since_ns.is_some_and(|since| now_ns >= since + LAST_LINES_NS);
        // While something else keeps the loop from ending, the write may end, too.
        let is_last = ending.is_drained || ending.is_hurried;
        let is_stuck = is_last && self.state == State::InFlight && ending.until_ns.is_some_and(|until| now_ns >= until);
        if is_late || is_stuck {
            self.is_abandoned = true;
            log.abandon();
        }
        self.write(io, ending)
    }
}
