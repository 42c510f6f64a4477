//! Which batch may follow which one.
//!
//! Must not know: files on disk.

use super::{Batch, Head, PAGE_BYTES, StoreId, Superblock, Wrong};

/// What the next batch of a log must say. So bytes that lie where the next batch is expected count only if they were
/// written as the next batch: not those of an earlier start, of an earlier use of the segment, or of another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The store.
    pub store: StoreId,
    /// The epoch of the batch before it; the next one is of this epoch or of a later one.
    pub epoch: u64,
    /// The epoch of the superblock: none is later.
    pub epoch_max: u64,
    /// The segment, if there is room in it.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// Number of its first change.
    pub lsn: u64,
    /// Checksum of the batch before it.
    pub previous: u32,
}

impl From<&Superblock> for Next {
    fn from(of: &Superblock) -> Next {
        let Superblock { store, epoch, segment, offset, lsn, previous, .. } = *of;
        Next { store, epoch: 0, epoch_max: epoch, segment, offset, lsn, previous }
    }
}

impl Next {
    /// Whether this is the head of the next batch. The error names the first field that differs.
    pub fn check(&self, head: &Head) -> Result<(), Wrong> {
        let fields = [
            (head.store == self.store, "store of a batch"),
            ((head.segment, head.offset) == (self.segment, self.offset), "place of a batch"),
            ((self.epoch..=self.epoch_max).contains(&head.epoch), "epoch of a batch"),
            (head.first_lsn == self.lsn, "first change of a batch"),
            (head.previous == self.previous, "checksum of the batch before"),
        ];
        fields.iter().try_for_each(|&(is_so, what)| if is_so { Ok(()) } else { Err(Wrong::Field(what)) })
    }

    /// What the batch behind this one must say, if it is in the same segment.
    pub fn behind(&self, batch: &Batch<'_>) -> Next {
        let Head { epoch, last_lsn, .. } = batch.head;
        Next { epoch, ..self.written(batch.head.len(), last_lsn, batch.checksum) }
    }

    /// The same for a batch that was written here in the epoch of the superblock. `bytes`: its length. `last_lsn`: the LSN of its
    /// last change. `checksum`: that of its head.
    pub fn written(&self, bytes: u64, last_lsn: u64, checksum: u32) -> Next {
        let offset = self.offset + bytes;
        Next { epoch: self.epoch_max, offset, lsn: last_lsn + 1, previous: checksum, ..*self }
    }

    /// What it must say if it is the first batch of the next segment.
    pub fn in_next_segment(&self) -> Next {
        Next { segment: self.segment + 1, offset: 0, ..*self }
    }

    /// The head of the next batch. `last_lsn`: the LSN of its last change.
    pub fn head(&self, last_lsn: u64) -> Head {
        let Next { store, epoch_max: epoch, segment, offset, lsn: first_lsn, previous, .. } = *self;
        debug_assert!(offset.is_multiple_of(PAGE_BYTES as u64));
        Head { store, epoch, segment, offset, first_lsn, last_lsn, previous, ..Head::default() }
    }
}
