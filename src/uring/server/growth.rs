//! Populating and registering more of the arena, ahead of need.
//!
//! Must not know: what the memory is used for.

use super::io::Io;
use crate::arena::{Gauge, Memory};
use crate::uring::flight;
use crate::uring::ring::{Ring, errno};
use crate::uring::table::Table;
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

/// The arena, and how much of it is populated.
pub(super) struct Growth {
    /// `None`: it is not populated ahead of need, or no further.
    grow: Option<Grow>,
    memory: Memory,
    gauge: Gauge,
}

impl Growth {
    pub(super) fn new(grow: Option<Grow>, memory: Memory, gauge: Gauge) -> Growth {
        Growth { grow, memory, gauge }
    }

    /// Populates more of the arena once three quarters of what is populated are in use.
    #[inline]
    pub(super) fn grow<R: Ring>(&mut self, io: &mut Io<R>) -> io::Result<()> {
        let Some(grow) = &mut self.grow else { return Ok(()) };
        let total = self.memory.len();
        if grow.running.is_some() || grow.populated >= total || self.gauge.used_bytes() < grow.populated / 4 * 3 {
            return Ok(());
        }
        // The length in an SQE has 32 bits.
        let until = (grow.populated * 2).min(grow.populated + STEP_BYTES_MAX).min(total);
        let (start, len) = (self.memory.address() + grow.populated, until - grow.populated);
        io.push(|ring| flight::populate(ring, start, len, Token::new(Op::Populate, 0, 0)))?;
        grow.running = Some(until);
        Ok(())
    }

    /// A population has ended: registers what is there by now, if the start of the arena is registered.
    pub(super) fn populated(&mut self, res: i32, table: &mut Table, ring: &mut impl Ring) {
        let Some(mut grow) = self.grow.take() else { return };
        let Some(until) = grow.running.take() else { return };
        if let Some(error) = errno(res) {
            // The kernel has no memory now; what is used beyond is populated page by page, and sent by address.
            log::warn!(target: "grow", "--grow: populating up to {until} bytes: {error}: growing no further ahead of need");
            return;
        }
        grow.populated = until;
        if table.registered_bytes() > 0 {
            let before = ring.monotonic();
            if let Err(error) = table.register(ring, until) {
                log::warn!(target: "grow", "--grow: registering up to {until} bytes: {error}: serving the rest unregistered");
                return;
            }
            grow.longest_stall_ns = grow.longest_stall_ns.max(ring.monotonic() - before);
        }
        log::info!(
            target: "grow",
            "--grow: {} MiB populated, {} MiB registered, longest stall {} us",
            until >> 20,
            table.registered_bytes() >> 20,
            grow.longest_stall_ns / 1000
        );
        self.grow = Some(grow);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;
    use crate::uring::testring::TestRing;
    use std::rc::Rc;

    const MIB: usize = 1 << 20;

    fn begun() -> (Arena, Growth, Table, Io<TestRing>) {
        let arena = Arena::new(8 * MIB).expect("memory");
        let growth = Growth::new(Some(Grow::from(MIB)), arena.memory(), arena.gauge());
        let table = Table::new(arena.memory());
        (arena, growth, table, Io::new(TestRing::default(), Rc::default()))
    }

    #[test]
    fn memory_grows_once_three_quarters_are_used_by_one_population_at_a_time() {
        let (mut arena, mut growth, mut table, mut io) = begun();
        table.register(&mut io.ring, MIB).expect("the ring works");
        growth.grow(&mut io).expect("the ring works");
        assert!(io.ring.pushed.is_empty(), "hardly any is used");
        let _used: Vec<_> = (0..32).map(|_| arena.alloc(64 << 10).expect("there is room")).collect();
        for populated in [2 * MIB, 4 * MIB] {
            for _ in 0..2 {
                growth.grow(&mut io).expect("the ring works");
            }
            assert_eq!(io.ring.pushed.drain(..).count(), 1);
            growth.populated(0, &mut table, &mut io.ring);
            assert_eq!(growth.grow.map(|grow| grow.populated), Some(populated));
            assert_eq!(table.registered_bytes(), populated);
        }
        growth.grow(&mut io).expect("the ring works");
        assert!(io.ring.pushed.is_empty(), "half of it is used");
    }

    #[test]
    fn memory_that_cannot_be_populated_or_registered_is_not_asked_for_again() {
        for res in [-12, 0] {
            let (mut arena, mut growth, mut table, mut io) = begun();
            table.register(&mut io.ring, MIB).expect("the ring works");
            let _used: Vec<_> = (0..32).map(|_| arena.alloc(64 << 10).expect("there is room")).collect();
            growth.grow(&mut io).expect("the ring works");
            io.ring.refuses_regions = true;
            growth.populated(res, &mut table, &mut io.ring);
            growth.grow(&mut io).expect("the ring works");
            assert_eq!((io.ring.pushed.len(), table.registered_bytes()), (1, MIB));
        }
    }
}
