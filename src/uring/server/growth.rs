//! Populating and registering more of the arena, ahead of need.

use super::Server;
use crate::fs::Service;
use crate::uring::flight;
use crate::uring::ring::{Ring, errno};
use crate::uring::token::{Op, Token};
use std::io;

/// Most bytes that are populated at once.
const STEP_BYTES_MAX: usize = 1 << 30;

/// Populating the arena ahead of need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grow {
    /// Bytes populated from the start.
    pub populated: usize,
    /// A population is in flight, up to this many bytes.
    running: Option<usize>,
    /// The longest time that registering has kept the loop, in nanoseconds.
    pub longest_stall_ns: u64,
}

impl Grow {
    /// The first `populated` bytes are there.
    pub fn from(populated: usize) -> Grow {
        Grow { populated, ..Grow::default() }
    }
}

impl<R: Ring, S: Service> Server<R, S> {
    /// Populates and registers more of the arena once three quarters of what is populated are in use.
    pub(super) fn grow(&mut self) -> io::Result<()> {
        let Some(grow) = self.options.grow else { return Ok(()) };
        let total = self.memory.len();
        if grow.running.is_some() || grow.populated >= total || self.gauge.used_bytes() < grow.populated / 4 * 3 {
            return Ok(());
        }
        // The length in an SQE has 32 bits.
        let until = (grow.populated * 2).min(grow.populated + STEP_BYTES_MAX).min(total);
        let (start, len) = (self.memory.address() + grow.populated, until - grow.populated);
        self.retry(|server| flight::populate(&mut server.ring, start, len, Token::new(Op::Populate, 0, 0)))?;
        self.options.grow = Some(Grow { running: Some(until), ..grow });
        Ok(())
    }

    pub(super) fn populated(&mut self, res: i32) {
        let Some(mut grow) = self.options.grow.take() else { return };
        let Some(until) = grow.running.take() else { return };
        if let Some(error) = errno(res) {
            // The kernel has no memory now; what is used beyond is populated page by page, and sent by address.
            log::warn!(target: "grow", "--grow: populating up to {until} bytes: {error}: growing no further ahead of need");
            return;
        }
        grow.populated = until;
        if self.table.registered_bytes() > 0 {
            let before = self.ring.monotonic();
            if let Err(error) = self.table.register(&mut self.ring, until) {
                log::warn!(target: "grow", "--grow: registering up to {until} bytes: {error}: serving the rest unregistered");
                return;
            }
            grow.longest_stall_ns = grow.longest_stall_ns.max(self.ring.monotonic() - before);
        }
        log::info!(
            target: "grow",
            "--grow: {} MiB populated, {} MiB registered, longest stall {} us",
            until >> 20,
            self.table.registered_bytes() >> 20,
            grow.longest_stall_ns / 1000
        );
        self.options.grow = Some(grow);
    }
}
