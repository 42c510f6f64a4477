//! Deadlines of a connection: of a Tflush that an operation waits for, and of a message that has begun.
//!
//! There is no clock here. While something has a deadline a timer is in flight. Each time it ends, all deadlines are
//! looked at.
//!
//! Must not know: asks, messages.

use crate::wire::Tag;

/// Time between two looks.
pub(super) const WATCH_NS: u64 = 5_000_000_000;
/// An Rflush may take this many looks, 15 s to 20 s, while an operation waits for it. At the next look the connection fails.
const FLUSH_LOOKS: u64 = 3;

/// What has a deadline.
#[derive(Debug, Default)]
pub(super) struct Watch {
    looks: u64,
    /// Tags of Tflushes, and the look before each.
    flushes: Vec<(Tag, u64)>,
    /// The look before the message that has begun.
    begun: Option<u64>,
}

impl Watch {
    /// A Tflush with this tag was sent.
    pub(super) fn flush(&mut self, tag: Tag) {
        self.flushes.push((tag, self.looks));
    }

    /// The Tflush with this tag is answered.
    pub(super) fn flushed(&mut self, tag: Tag) {
        self.flushes.retain(|(flush, _)| *flush != tag);
    }

    /// A message has come whole.
    pub(super) fn whole(&mut self) {
        self.begun = None;
    }

    /// Notes whether a message has begun that is not whole yet.
    pub(super) fn begun(&mut self, has_begun: bool) {
        self.begun = has_begun.then(|| self.begun.unwrap_or(self.looks));
    }

    /// Whether something has a deadline.
    pub(super) fn is_needed(&self) -> bool {
        self.begun.is_some() || !self.flushes.is_empty()
    }

    /// Looks at all deadlines. Returns whether one has passed. A message that has begun may take 30 s, and a second for
    /// each 64 KiB of msize. That is rounded up to whole looks.
    pub(super) fn is_late(&mut self, msize: u32) -> bool {
        self.looks += 1;
        let begun_looks = (30 + u64::from(msize >> 16)).div_ceil(WATCH_NS / 1_000_000_000);
        self.begun.is_some_and(|since| self.looks - since > begun_looks)
            || self.flushes.iter().any(|(_, since)| self.looks - since > FLUSH_LOOKS)
    }
}
