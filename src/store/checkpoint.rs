//! A checkpoint: the log begins anew at a later place, and the segments before it go.
//!
//! ```text
//! rest -> sweep: batches carry marks of everything, from the place `start` on
//!      -> sealed: the last mark is in a batch -> durable up to that change, `whole`
//!      -> superblock written -> synced -> its other copy as well -> rest
//! ```
//! Until a copy of the superblock is durable the log begins where it did, and nothing of it has changed. From then on it begins at
//! `start`. So a crash at any point leaves a store that opens. The segments before it are free once both copies say the same, so
//! either of them may be damaged.
//!
//! Must not know: trees, sessions.

use super::format::{Next, PAGE_BYTES, Superblock};
use super::log::whole_pages;
use crate::fs::mem::Sweep;
use crate::fs::{Ask, Descriptor, Iovec, Outgoing, Result};

#[derive(Debug)]
enum Step {
    Rest,
    /// Marks are made. `swept`: bytes that those made so far take, or fewer.
    Sweep {
        start: Next,
        sweep: Sweep,
        swept: u64,
    },
    /// All is marked and sealed, up to this change.
    Sealed {
        start: Next,
        whole: u64,
    },
    /// The bytes of the superblock that are not written yet.
    Write(Superblock, Outgoing),
    Sync(Superblock),
}

/// The superblock, and the checkpoint that is on its way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The file of the superblock.
    file: Descriptor,
    /// The one that counts on disk.
    superblock: Superblock,
    /// The first segment of the log that both copies name.
    first: u64,
    step: Step,
    in_flight: bool,
    done: u64,
}

impl Checkpoint {
    pub(super) fn new(file: Descriptor, superblock: Superblock) -> Checkpoint {
        let first = superblock.segment;
        Checkpoint { file, superblock, first, step: Step::Rest, in_flight: false, done: 0 }
    }

    /// The superblock that counts on disk.
    pub(super) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Where the log begins: segment and offset.
    pub(super) fn start(&self) -> (u64, u64) {
        (self.superblock.segment, self.superblock.offset)
    }

    /// The first segment of the log, whichever copy of the superblock is read.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Checkpoints that have ended since the start.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    pub(super) fn is_resting(&self) -> bool {
        matches!(self.step, Step::Rest)
    }

    /// Whether an ask is in flight.
    pub(super) fn has_asks(&self) -> bool {
        self.in_flight
    }

    /// Begins at the batch that is sealed next.
    pub(super) fn begin(&mut self, start: Next) {
        self.step = Step::Sweep { start, sweep: Sweep::default(), swept: 0 };
    }

    /// The sweep, and how many bytes its marks have taken so far.
    pub(super) fn sweeping(&mut self) -> Option<(&mut Sweep, &mut u64)> {
        if let Step::Sweep { sweep, swept, .. } = &mut self.step { Some((sweep, swept)) } else { None }
    }

    /// Bytes that marks have taken so far; `None` if everything is marked, or nothing is to be.
    pub(super) fn swept(&self) -> Option<u64> {
        if let Step::Sweep { swept, .. } = self.step { Some(swept) } else { None }
    }

    /// Everything was marked, and is sealed up to this change.
    pub(super) fn sealed(&mut self, whole: u64) {
        if let Step::Sweep { start, .. } = self.step {
            self.step = Step::Sealed { start, whole };
        }
    }

    /// Serving ends: what is not sealed yet is left to the next start.
    pub(super) fn retire(&mut self) {
        if matches!(self.step, Step::Sweep { .. } | Step::Sealed { .. }) {
            self.step = Step::Rest;
        }
    }

    /// The next ask. `durable`: the last change that is.
    pub(super) fn ask(&mut self, durable: u64) -> Option<Ask> {
        if self.in_flight {
            return None;
        }
        if let Step::Sealed { start, whole } = self.step
            && durable >= whole
        {
            let Next { segment, offset, lsn, previous, .. } = start;
            let generation = self.superblock.generation + 1;
            let new = Superblock { generation, segment, offset, lsn, previous, whole, ..self.superblock };
            self.step = write(new);
        }
        let file = self.file;
        let ask = match &mut self.step {
            Step::Rest | Step::Sweep { .. } | Step::Sealed { .. } => return None,
            Step::Write(new, data) => {
                let data = std::mem::take(data);
                let offset = ((new.copy() + 1) * PAGE_BYTES - data.left()) as u64;
                Ask::Write { file, offset, data }
            }
            Step::Sync(_) => Ask::Sync { file, data_only: false },
        };
        self.in_flight = true;
        Some(ask)
    }

    /// The result of an ask. An error is fatal.
    pub(super) fn answered(&mut self, ask: Ask, result: Result<u32>) -> Result<()> {
        self.in_flight = false;
        match (std::mem::replace(&mut self.step, Step::Rest), ask) {
            (Step::Write(new, _), Ask::Write { mut data, .. }) => {
                data.advance(whole_pages(result?)? as usize);
                self.step = if data.left() > 0 { Step::Write(new, data) } else { Step::Sync(new) };
            }
            (Step::Sync(new), _) => {
                result?;
                let is_first = self.superblock.whole != new.whole;
                self.superblock = new;
                if is_first {
                    self.step = write(Superblock { generation: new.generation + 1, ..new });
                } else {
                    self.first = new.segment;
                    self.done += 1;
                }
            }
            (step, _) => self.step = step,
        }
        Ok(())
    }
}

/// All bytes of a superblock are to be written.
fn write(superblock: Superblock) -> Step {
    let mut bytes = Iovec::default();
    bytes.put_copy(&superblock.emit());
    Step::Write(superblock, bytes.into())
}
