//! The path of a log line, from the record to the descriptor.
//!
//! ```text
//! record -> limiter -> text -> lines that `ctl` shows
//!                        `---> outbox -> the loop's ring -> stderr
//!                                  `---> direct, while no loop runs
//! ```
//! - `text`: the format of a line.
//! - `limiter`: how many lines of one kind pass in a second.
//! - `outbox`: the bounded buffer of lines that wait for the descriptor.
//! - `direct`: writes that do not hang, before the loop and after it.
//!
//! While the loop runs, nothing here waits for the descriptor. A line for which there is no room
//! is dropped and counted.
//!
//! Must not know: the ring, sessions, trees.

pub mod direct;
mod limiter;
mod outbox;
mod text;

pub use log::Level;
pub use outbox::Chunk;

use crate::stats::Lines;
use limiter::Limiter;
use log::{Metadata, Record};
use outbox::Outbox;
use std::fmt::{self, Arguments};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bounds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of lines that wait for the descriptor, with those that are being written.
    pub bytes_max: usize,
    /// Lines of one kind in a second.
    pub lines_per_second: u32,
}

/// Numbers of lines that were not written, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// The descriptor did not take them in time, or failed.
    pub dropped: u64,
    /// Above the bound of their kind.
    pub left_out: u64,
}

/// A log. Its lines are kept for `ctl`, and wait here for the descriptor.
pub struct Log {
    state: Mutex<State>,
    /// Something has happened since the last [`look`](Log::look). The one thing that the loop
    /// checks in each turn.
    news: AtomicBool,
}

struct State {
    limiter: Limiter,
    kept: Arc<Mutex<Lines>>,
    outbox: Outbox,
    /// No loop runs. Each line is written to stderr at once, if that does not block.
    is_direct: bool,
    /// A write of the loop was left in flight. Nothing more is written.
    is_abandoned: bool,
}

impl State {
    /// Keeps a line and queues it. Messages (`--trace`) are not kept: each read of `ctl/log` would
    /// add lines to it.
    fn put(&mut self, level: Level, line: &str) {
        if level < Level::Trace {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(line.as_bytes());
        }
        self.outbox.push(line.as_bytes());
    }

    /// Logs how many lines were left out in seconds that have ended, or with `None` in any.
    fn say_left_out(&mut self, now_ns: Option<u64>) {
        while let Some((kind, count)) = self.limiter.ended(now_ns) {
            let line = text::left_out(kind, count);
            self.put(Level::Info, &line);
        }
    }

    fn flush(&mut self, patience: Duration) {
        if !self.is_abandoned {
            self.outbox.flush(|bytes| direct::write(io::stderr().as_fd(), bytes, patience));
        }
    }
}

impl Log {
    /// An empty log whose lines a loop writes, and which are kept in `kept`.
    pub fn new(kept: Arc<Mutex<Lines>>, options: Options) -> Log {
        let limiter = Limiter::new(options.lines_per_second);
        let outbox = Outbox::new(options.bytes_max);
        let state = State { limiter, kept, outbox, is_direct: false, is_abandoned: false };
        Log { state: Mutex::new(state), news: AtomicBool::new(false) }
    }

    /// A panic while the lock was held leaves the state usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a line of this kind at this monotonic time, unless the kind is above its bound.
    /// Messages (`--trace`) are not limited.
    pub fn say(&self, level: Level, kind: &str, words: Arguments<'_>, now_ns: u64) {
        let mut state = self.state();
        let passes = level == Level::Trace || {
            let verdict = state.limiter.admit(kind, now_ns);
            if verdict.left_out > 0 {
                state.put(Level::Info, &text::left_out(kind, verdict.left_out));
            }
            verdict.passes
        };
        if passes {
            state.put(level, &text::line(level, words));
        }
        if state.is_direct {
            state.flush(Duration::ZERO);
        }
        self.news.store(true, Ordering::Relaxed);
    }

    /// Something has happened since the last [`look`](Self::look).
    #[inline]
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Moves the waiting lines into a chunk that is done. False if there are none.
    pub fn take(&self, chunk: &mut Chunk) -> bool {
        self.state().outbox.take(chunk)
    }

    /// A chunk was written to its end.
    pub fn written(&self) {
        self.state().outbox.written();
    }

    /// The rest of a chunk cannot be written. Its lines count as dropped.
    pub fn failed(&self, chunk: &mut Chunk) {
        self.state().outbox.failed(chunk);
    }

    /// There is something to write.
    pub fn is_waiting(&self) -> bool {
        self.state().outbox.is_waiting()
    }

    /// Lines were left out, and their number is to be logged when their second ends.
    pub fn owes(&self) -> bool {
        self.state().limiter.owes()
    }

    /// Logs how many lines were left out in seconds that have ended by now.
    pub fn tick(&self, now_ns: u64) {
        self.state().say_left_out(Some(now_ns));
    }

    /// Logs how many lines were left out so far.
    pub fn end(&self) {
        self.state().say_left_out(None);
    }

    /// The numbers of missing lines. Clears [`has_news`](Self::has_news).
    pub fn look(&self) -> Missing {
        self.news.store(false, Ordering::Relaxed);
        let state = self.state();
        Missing { dropped: state.outbox.dropped(), left_out: state.limiter.left_out() }
    }

    /// Bytes of memory that the waiting lines have.
    pub fn capacity(&self) -> usize {
        self.state().outbox.capacity()
    }

    /// From now on each line is written to stderr at once, if that does not block.
    pub fn write_directly(&self) {
        self.state().is_direct = true;
    }

    /// From now on a loop writes. Returns what direct writes have left of their chunk.
    pub fn leave_to_loop(&self) -> Chunk {
        let mut state = self.state();
        state.is_direct = false;
        state.outbox.take_chunk()
    }

    /// A write of the loop does not complete and was left in flight. Nothing more is written: a
    /// direct write might hang as well.
    pub fn abandon(&self) {
        self.state().is_abandoned = true;
    }

    /// Writes the waiting lines directly, as many as stderr takes within this time.
    pub fn finish(&self, patience: Duration) {
        let mut state = self.state();
        state.say_left_out(None);
        state.flush(patience);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// Receives the records of the crate `log`. The target of a record is the kind of its line.
pub struct Logger {
    log: Arc<Log>,
    /// Monotonic nanoseconds.
    clock: fn() -> u64,
}

impl Logger {
    /// A receiver for this log, with this clock.
    pub fn new(log: Arc<Log>, clock: fn() -> u64) -> Logger {
        Logger { log, clock }
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        self.log.say(record.level(), record.target(), *record.args(), (self.clock)());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { bytes_max: 4096, lines_per_second: 2 };

    fn written(log: &Log) -> String {
        let (mut chunk, mut text) = (Chunk::default(), String::new());
        while log.take(&mut chunk) {
            text += std::str::from_utf8(chunk.rest()).expect("text");
            chunk.advance(chunk.rest().len());
            log.written();
        }
        text
    }

    #[test]
    fn strangers_push_no_other_line_out() {
        let kept = Arc::new(Mutex::new(Lines::new(200)));
        let log = Log::new(Arc::clone(&kept), OPTIONS);
        log.say(Level::Warn, "memory", format_args!("precious"), 0);
        for n in 0..5000 {
            log.say(Level::Info, "stranger", format_args!("peer {n}: rubbish"), n * 100_000);
        }
        assert!(log.has_news() && log.owes());
        log.tick(999_999_999);
        assert!(log.owes());
        log.tick(1_000_000_000);
        let all = "ring9: warn: precious\nring9: peer 0: rubbish\nring9: peer 1: rubbish\n\
                   ring9: 4998 more lines of the kind stranger were left out\n";
        assert_eq!(written(&log), all);
        assert_eq!(kept.lock().expect("nobody panicked").from(0).concat(), all.as_bytes());
        assert_eq!(log.look(), Missing { dropped: 0, left_out: 4998 });
        assert!(!log.has_news() && !log.owes() && !log.is_waiting());
    }

    #[test]
    fn messages_are_not_limited_and_not_kept() {
        let kept = Arc::new(Mutex::new(Lines::new(200)));
        let log = Log::new(Arc::clone(&kept), OPTIONS);
        (0..3).for_each(|n| log.say(Level::Trace, "message", format_args!("> {n}"), 0));
        assert_eq!(written(&log), "> 0\n> 1\n> 2\n");
        assert_eq!(kept.lock().expect("nobody panicked").end(), 0);
    }

    #[test]
    fn what_a_stuck_descriptor_costs_is_bounded() {
        let log = Log::new(Arc::new(Mutex::new(Lines::new(0))), OPTIONS);
        (0..10_000).for_each(|n| log.say(Level::Trace, "message", format_args!("> {n}"), 0));
        let dropped = log.look().dropped;
        assert!(log.capacity() <= OPTIONS.bytes_max / 2 && dropped > 9_000);
        let text = written(&log);
        assert!(text.ends_with(&format!("\nring9: warn: {dropped} lines were dropped\n")), "{text}");
    }
}
