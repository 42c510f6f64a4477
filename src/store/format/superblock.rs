//! The superblock: which store it is, and where its log begins. A store has two copies, written in turn.
//!
//! Must not know: files on disk.

use super::{LSN_END, PAGE_BYTES, StoreId, Wrong, front};

/// Bytes of a copy.
pub const SUPERBLOCK_BYTES: usize = PAGE_BYTES;

const MAGIC: &front::Magic = b"r9store\0";

/// Generations, epochs and segments are below it.
const NUMBERS_END: u64 = 1 << 63;

/// One copy of the superblock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// Which store this is.
    pub store: StoreId,
    /// Grows by one with each superblock that is written. The copy with the higher one counts.
    pub generation: u64,
    /// Raised before each start of serving. Batches of an earlier start never follow those of a later one.
    pub epoch: u64,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// The segment in which the log begins.
    pub segment: u64,
    /// Where in this segment its first batch is.
    pub offset: u64,
    /// The number of the first change in that batch.
    pub lsn: u64,
    /// The checksum that the first batch has of the batch before it.
    pub previous: u32,
    /// The change by which the log has told all of the tree. Before it a record may name a file that was not told yet. 0 in a
    /// log that begins with the first change of the store.
    pub whole: u64,
}

impl Superblock {
    /// The bytes of this copy.
    pub fn emit(&self) -> [u8; SUPERBLOCK_BYTES] {
        let (bytes, _) = front::emit(MAGIC, &self.store, |to| {
            let Superblock { generation, epoch, segment_bytes, segment, offset, lsn, .. } = *self;
            for number in [generation, epoch, segment_bytes, segment, offset, lsn] {
                to.extend_from_slice(&number.to_le_bytes());
            }
            to.extend_from_slice(&self.previous.to_le_bytes());
            to.extend_from_slice(&self.whole.to_le_bytes());
        });
        bytes
    }

    /// Reads a copy. Magic number, version, checksum and length of a superblock are the same in all versions of the format.
    pub fn parse(bytes: &[u8]) -> Result<Superblock, Wrong> {
        let (mut cut, _, store) = front::parse::<SUPERBLOCK_BYTES>(MAGIC, bytes)?;
        let found = Superblock {
            store,
            generation: cut.u64()?,
            epoch: cut.u64()?,
            segment_bytes: cut.u64()?,
            segment: cut.u64()?,
            offset: cut.u64()?,
            lsn: cut.u64()?,
            previous: cut.u32()?,
            whole: cut.u64()?,
        };
        let page = PAGE_BYTES as u64;
        cut.zeros(cut.0.len())?;
        if found.segment_bytes == 0 || !found.segment_bytes.is_multiple_of(page) {
            return Err(Wrong::Field("segment size"));
        }
        if !found.offset.is_multiple_of(page) || found.offset > found.segment_bytes {
            return Err(Wrong::Field("offset"));
        }
        // No store comes to such numbers; those that follow them are to have room.
        let fits = [found.generation, found.epoch, found.segment].into_iter().all(|number| number < NUMBERS_END);
        if !fits || !(1..LSN_END).contains(&found.lsn) {
            return Err(Wrong::Field("number"));
        }
        Ok(found)
    }

    /// The copy that counts: the valid one with the higher generation. A copy of another version is an error, whatever the
    /// other copy is. If both are invalid, the error is that of the first one.
    pub fn choose([first, second]: [Result<Superblock, Wrong>; 2]) -> Result<Superblock, Wrong> {
        match (first, second) {
            (Err(wrong @ Wrong::Version(_)), _) | (_, Err(wrong @ Wrong::Version(_))) => Err(wrong),
            (Ok(one), Ok(other)) => Ok(if one.generation >= other.generation { one } else { other }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(wrong), Err(_)) => Err(wrong),
        }
    }

    /// Which copy a superblock of this generation is written to: 0 or 1.
    pub fn copy(&self) -> usize {
        (self.generation % 2) as usize
    }
}
