//! ring9's own logger, for a program that has no other.

use super::Error;
use crate::limits;
use crate::logging::{self, Log, Logger};
use crate::stats::Lines;
use crate::uring;
use log::LevelFilter;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long the last lines may take to leave once nothing serves any more.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process, and the last lines of it, which `ctl` shows.
///
/// Its lines go to stderr. While a server runs that was given them ([`Builder::logs`](super::Builder::logs)), its
/// loop writes them, so that a terminal that is stopped or a full pipe never stops the server.
/// A program that has a logger of its own needs none of this: ring9 logs through the crate `log`.
#[derive(Clone)]
pub struct Logs {
    pub(super) log: Arc<Log>,
    pub(super) kept: Arc<Mutex<Lines>>,
}

impl Logs {
    /// Makes the log, and sets it as the logger of this process. Each line is written directly until a server runs.
    /// At [`LevelFilter::Trace`] each message is a line. [`Error::Logger`] where another logger is set.
    pub fn install(level: LevelFilter) -> Result<Logs, Error> {
        let kept = Arc::new(Mutex::new(Lines::new(limits::LOG_BYTES_MAX)));
        let (bytes_max, lines_per_second) = (limits::LOG_WAITING_BYTES_MAX, limits::LOG_LINES_PER_SECOND);
        let log = Arc::new(Log::new(Arc::clone(&kept), logging::Options { bytes_max, lines_per_second }));
        log.write_directly();
        let logger = Logger::new(Arc::clone(&log), uring::monotonic_ns);
        log::set_boxed_logger(Box::new(logger)).map_err(|_| Error::Logger)?;
        log::set_max_level(level);
        Ok(Logs { log, kept })
    }

    /// The log itself.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Writes what still waits, for a second at most. Call it before the process ends.
    pub fn finish(&self) {
        self.log.finish(PATIENCE);
    }
}
