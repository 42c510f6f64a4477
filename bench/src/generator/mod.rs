//! One thread that makes load, with one epoll: operations are sent when they are due, and what comes back is timed.
//!
//! - `arrivals`: when operations are due.
//! - `mix`: which operation, on which file, of what size.
//! - `operation`: the messages of an operation.
//! - `line`: a connection, and its operations in flight.
//! - `crowd`: connections without any.
//! - `files`: the files of a load, made before it and removed after it.
//!
//! In an open loop the schedule alone says when an operation is due. One that finds no free slot waits, and its time runs on: it is taken from the schedule when a slot is free, so
//! what waits needs no memory, however much that is. In a closed loop an operation is due when the one before it in its slot has ended; such a loop is as slow as its server, and
//! says so.
//!
//! Must not know: files of results, statistics, pictures.

mod arrivals;
mod crowd;
mod files;
mod line;
mod mix;
mod operation;

pub(crate) use arrivals::Arrivals;
pub(crate) use crowd::Crowd;
pub(crate) use files::{clear, prepare};
pub(crate) use mix::{Mix, Weighted, size_of};
pub(crate) use operation::{Op, Own, World};

use crate::target::Target;
use anyhow::{Context, anyhow};
use arrivals::Schedule;
use line::Line;
use mix::Chooser;
use rustix::event::{Timespec, epoll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

/// Events taken from epoll at a time.
const EVENTS_MAX: usize = 256;
/// How long the last operations may take once the time is up.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections that are made at a time, if there are more than so many.
const SIDE_BY_SIDE: usize = 8;
const ALONE_MAX: usize = 64;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

/// When operations are due.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "loop", rename_all = "lowercase")]
pub(crate) enum Pace {
    /// By a schedule.
    Open { per_second: f64, arrivals: Arrivals, burst: u32 },
    /// As soon as the operation before has ended.
    Closed,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) connections: usize,
    /// Operations in flight on each.
    pub(crate) depth: u16,
    pub(crate) mix: Mix,
    /// Before anything is recorded.
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) verify: bool,
    /// A Tfsync follows each Twrite.
    pub(crate) fsync: bool,
}

/// Who hears of each operation that has ended. Times are nanoseconds from the start.
pub(crate) trait Record {
    fn record(&mut self, op: Op, scheduled_ns: u64, sent_ns: u64, received_ns: u64);
}

/// What came of it, of the time that is measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Operations that were due; in a closed loop those that were sent.
    pub(crate) offered: u64,
    /// Operations that ended before the time was up.
    pub(crate) achieved: u64,
    /// Due, and not sent when the time was up.
    pub(crate) backlog: u64,
    /// Due, and never answered: the drain took too long.
    pub(crate) lost: u64,
    /// Operations that ended at any time, warm-up included.
    pub(crate) all: u64,
    /// Cpu time of the generator, of `wall`.
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Outcome {
    /// Share of one cpu that the generator used.
    pub(crate) fn cpu_share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64().max(1e-9)
    }
}

/// Makes so many, in their order. Each waits for a server several times, so some are made meanwhile.
fn side_by_side<T: Send>(count: usize, one: impl Fn(usize) -> anyhow::Result<T> + Sync) -> anyhow::Result<Vec<T>> {
    let (next, one) = (count.div_ceil(SIDE_BY_SIDE).max(ALONE_MAX), &one);
    thread::scope(|scope| {
        let parts = (0..count).step_by(next).map(|first| {
            scope.spawn(move || (first..count.min(first + next)).map(one).collect::<anyhow::Result<Vec<T>>>())
        });
        let parts: Vec<_> = parts.collect();
        let mut all = Vec::with_capacity(count);
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow!("a connection could not be made: a panic"))??);
        }
        Ok(all)
    })
}

/// Connections that are ready for a load.
pub(crate) struct Generator<'a> {
    world: &'a World,
    plan: &'a Plan,
    lines: Vec<Line>,
    epoll: std::os::fd::OwnedFd,
    chooser: Chooser,
    /// Lines that have room, the one that waits longest first.
    roomy: VecDeque<u32>,
    /// Lines that have something to send.
    dirty: Vec<u32>,
}

impl<'a> Generator<'a> {
    /// Makes all connections.
    pub(crate) fn connect(target: &Target, world: &'a World, plan: &'a Plan) -> anyhow::Result<Generator<'a>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let ops: Vec<Op> = plan.mix.operations.values().collect();
        let one = |number| {
            Line::connect(target, world, number, plan.depth, &ops)
                .with_context(|| format!("connection {} of {}", number + 1, plan.connections))
        };
        let lines = side_by_side(plan.connections, one)?;
        for (number, line) in lines.iter().enumerate() {
            epoll::add(&epoll, line.as_fd(), epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
        }
        let roomy = (0..plan.connections as u32).collect();
        let chooser = Chooser::new(&plan.mix, plan.seed)?;
        Ok(Generator { world, plan, lines, epoll, chooser, roomy, dirty: Vec::new() })
    }

    /// Makes the load, on the calling thread. `tell` hears from time to time how far it is.
    pub(crate) fn run(&mut self, record: &mut impl Record, mut tell: impl FnMut(Duration)) -> anyhow::Result<Outcome> {
        // Sleeps end when they should, not up to 50 us later (prctl(2), PR_SET_TIMERSLACK).
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let Plan { warmup, duration, .. } = *self.plan;
        let (begin_ns, end_ns) = (warmup.as_nanos() as u64, (warmup + duration).as_nanos() as u64);
        let last_ns = end_ns + DRAIN.as_nanos() as u64;
        let mut schedule = match self.plan.pace {
            Pace::Open { per_second, arrivals, burst } => {
                Some(Schedule::new(arrivals, per_second, burst, self.plan.seed))
            }
            Pace::Closed => None,
        };
        let mut outcome = Outcome::default();
        let mut cpu = None;
        let mut told = Duration::ZERO;
        let mut in_flight = 0_u64;
        let mut backlog = None;
        let start = Instant::now();
        let now = || start.elapsed().as_nanos() as u64;
        let mut now_ns = 0;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            if now_ns >= begin_ns && cpu.is_none() {
                cpu = Some(cpu_time());
            }
            if now_ns >= end_ns && backlog.is_none() {
                outcome.cpu = cpu_time().saturating_sub(cpu.unwrap_or_default());
                outcome.wall = duration;
                backlog = Some(schedule.as_ref().map_or(0, |schedule| schedule.due_before(warmup + duration)));
            }
            // What is due begins, as long as there are slots.
            let mut due_ns = None;
            while let Some(&line) = self.roomy.front() {
                let scheduled_ns = schedule.as_ref().map_or(now_ns, Schedule::due_ns);
                if scheduled_ns > now_ns || scheduled_ns >= end_ns {
                    due_ns = (scheduled_ns < end_ns).then_some(scheduled_ns);
                    break;
                }
                if let Some(schedule) = &mut schedule {
                    schedule.advance();
                }
                outcome.offered += u64::from(scheduled_ns >= begin_ns);
                in_flight += 1;
                self.begin(line, scheduled_ns);
            }
            self.flush(&now)?;
            now_ns = now();
            let waits = schedule.as_ref().is_some_and(|schedule| schedule.due_ns() < end_ns);
            if now_ns >= end_ns && in_flight == 0 && !waits {
                break;
            }
            if now_ns >= last_ns {
                let unsent = schedule.as_ref().map_or(0, |schedule| schedule.due_before(warmup + duration));
                outcome.offered += unsent;
                outcome.lost = in_flight + unsent;
                break;
            }
            if start.elapsed() >= told + TELL {
                told = start.elapsed();
                tell(told);
            }
            // Nothing is late by more than this: the end of the time, progress, and what is due next.
            let mut wait_ns = TELL.as_nanos() as u64;
            if now_ns < end_ns {
                wait_ns = wait_ns.min(end_ns - now_ns);
            }
            if let Some(due_ns) = due_ns {
                wait_ns = wait_ns.min(due_ns.saturating_sub(now_ns));
            }
            let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ns as i64 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                let line = &mut self.lines[number];
                let had_room = line.has_room();
                line.receive(self.world, now, |flight, received_ns| {
                    in_flight -= 1;
                    outcome.all += 1;
                    if (begin_ns..end_ns).contains(&flight.scheduled_ns) {
                        record.record(flight.task.op, flight.scheduled_ns, flight.sent_ns, received_ns);
                    }
                    outcome.achieved += u64::from((begin_ns..end_ns).contains(&received_ns));
                })?;
                if line.has_room() && !had_room {
                    self.roomy.push_back(number as u32);
                }
                if line.has_more() {
                    self.dirty.push(number as u32);
                }
            }
            now_ns = now();
        }
        outcome.backlog = backlog.unwrap_or(0);
        Ok(outcome)
    }

    /// The next operation goes to the line that has waited longest.
    fn begin(&mut self, number: u32, scheduled_ns: u64) {
        let line = &mut self.lines[number as usize];
        if !line.has_more() {
            self.dirty.push(number);
        }
        line.start(self.world, self.chooser.next(), scheduled_ns);
        self.roomy.pop_front();
        if line.has_room() {
            self.roomy.push_back(number);
        }
    }

    fn flush(&mut self, now: &impl Fn() -> u64) -> anyhow::Result<()> {
        for number in self.dirty.drain(..) {
            let line = &mut self.lines[number as usize];
            let was_full = line.is_full;
            line.flush(now()).context("the connection")?;
            if line.is_full != was_full {
                let full = if line.is_full { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
                let data = epoll::EventData::new_u64(u64::from(number));
                epoll::modify(&self.epoll, line.as_fd(), data, epoll::EventFlags::IN | full)?;
            }
        }
        Ok(())
    }
}

/// Of the calling thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
