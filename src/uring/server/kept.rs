//! Memory of replies, and lists of views, that are kept for the next ones: as much as a busy turn uses, and no more.
//!
//! Must not know: whose they were.

use crate::fs::Service;
use crate::session::{Segments, Session};
use crate::uring::flight::{Gather, Outbound};

/// Bytes of batches that are kept. Beyond that a batch that has left is freed.
pub const KEPT_BATCH_BYTES_ALL: usize = 4 << 20;
/// Lists of views that are kept. Beyond that a list that was sent, or received into, is freed.
pub const KEPT_GATHERS: usize = 512;

/// What is kept.
#[derive(Default)]
pub(super) struct Kept {
    batches: Vec<Segments>,
    batch_bytes: usize,
    #[expect(clippy::vec_box, reason = "what is in flight stays where it is")]
    gathers: Vec<Box<Gather>>,
}

impl Kept {
    /// Gives a session memory for its next replies. While replies take all the memory that they may, a batch is made anew,
    /// so that a short reply takes no more than it needs.
    pub(super) fn lend<S: Service>(&mut self, session: &mut Session<S>) {
        if !session.has_spare()
            && !session.is_tight()
            && let Some(batch) = self.batches.pop()
        {
            self.batch_bytes -= batch.memory_bytes();
            session.recycle(batch);
        }
    }

    /// A batch has left, or was not needed.
    pub(super) fn keep(&mut self, mut batch: Segments) {
        batch.clear();
        let bytes = batch.memory_bytes();
        if self.batch_bytes + bytes <= KEPT_BATCH_BYTES_ALL {
            self.batch_bytes += bytes;
            self.batches.push(batch);
        }
    }

    /// An empty list of views.
    pub(super) fn gather(&mut self) -> Box<Gather> {
        self.gathers.pop().unwrap_or_else(Gather::new)
    }

    /// A list of views whose operation has ended.
    pub(super) fn keep_gather(&mut self, gather: Box<Gather>) {
        if self.gathers.len() < KEPT_GATHERS {
            self.gathers.push(gather);
        }
    }

    /// Replies have left, or cannot leave.
    pub(super) fn put_away(&mut self, out: Outbound) {
        let (segments, gather) = out.into_parts();
        self.keep_gather(gather);
        self.keep(segments);
    }

    /// Bytes of the batches.
    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_views_are_kept_up_to_their_bound() {
        let mut kept = Kept::default();
        let first = kept.gather();
        let at = &raw const *first;
        kept.keep_gather(first);
        assert_eq!(&raw const *kept.gather(), at, "the same memory is used again");
        (0..KEPT_GATHERS + 1).for_each(|_| kept.keep_gather(Gather::new()));
        assert_eq!(kept.gathers.len(), KEPT_GATHERS);
    }
}
