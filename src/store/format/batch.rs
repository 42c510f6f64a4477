//! A batch: the unit of a commit. All of it counts or nothing.
//!
//! ```text
//! head 128 B | records ... | zeros up to a multiple of 4 KiB | page | page | ...
//! ```
//! Pages are whole pages of files. Their checksums are in the records that name them, so that a page can be written from
//! where it lies.
//!
//! Must not know: files on disk, where pages come from.

use super::cut::Cut;
use super::record::{self, Found};
use super::{BATCH_BYTES_MAX, LSN_END, PAGE_BYTES, StoreId, Wrong, checksum, front};
use crate::fs::Record;

/// Bytes of the head of a batch.
pub const HEAD_BYTES: usize = 128;

const MAGIC: &front::Magic = b"r9batch\0";
/// Reserved bytes at the end of a head.
const RESERVED_BYTES: usize = 40;

/// The head of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The store that the batch belongs to.
    pub store: StoreId,
    /// The start of serving in which it was written.
    pub epoch: u64,
    /// The segment in which it is.
    pub segment: u64,
    /// Where it is in the segment.
    pub offset: u64,
    /// Number of its first change. Changes are numbered from 1, without gaps.
    pub first_lsn: u64,
    /// Number of its last change.
    pub last_lsn: u64,
    /// Checksum of the head of the batch before it; 0 for the first batch of a store.
    pub previous: u32,
    /// Checksum of what follows the head, up to the first page.
    pub records_checksum: u32,
    /// Bytes of all records, without the zeros behind them.
    pub record_bytes: u32,
    /// Pages behind the records.
    pub pages: u32,
}

impl Head {
    /// The bytes of a head, and the checksum by which the next batch names this one.
    pub fn emit(&self) -> ([u8; HEAD_BYTES], u32) {
        front::emit(MAGIC, &self.store, |to| {
            let Head { epoch, segment, offset, first_lsn, last_lsn, .. } = *self;
            for number in [epoch, segment, offset, first_lsn, last_lsn] {
                to.extend_from_slice(&number.to_le_bytes());
            }
            for number in [self.previous, self.records_checksum, self.record_bytes, self.pages] {
                to.extend_from_slice(&number.to_le_bytes());
            }
        })
    }

    /// Reads the head at the front of some bytes. Returns it with its checksum.
    pub fn parse(bytes: &[u8]) -> Result<(Head, u32), Wrong> {
        let (mut cut, checksum, store) = front::parse::<HEAD_BYTES>(MAGIC, bytes)?;
        let head = Head {
            store,
            epoch: cut.u64()?,
            segment: cut.u64()?,
            offset: cut.u64()?,
            first_lsn: cut.u64()?,
            last_lsn: cut.u64()?,
            previous: cut.u32()?,
            records_checksum: cut.u32()?,
            record_bytes: cut.u32()?,
            pages: cut.u32()?,
        };
        cut.zeros(RESERVED_BYTES)?;
        if head.first_lsn == 0 || head.first_lsn > head.last_lsn || head.last_lsn >= LSN_END {
            return Err(Wrong::Field("numbers of changes"));
        }
        if !head.offset.is_multiple_of(PAGE_BYTES as u64) {
            return Err(Wrong::Field("offset"));
        }
        if head.record_bytes as usize > BATCH_BYTES_MAX || head.len() > BATCH_BYTES_MAX as u64 {
            return Err(Wrong::Field("length"));
        }
        Ok((head, checksum))
    }

    /// Bytes of head and records, up to the first page.
    pub fn front_bytes(&self) -> usize {
        (HEAD_BYTES + self.record_bytes as usize).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of the whole batch.
    pub fn len(&self) -> u64 {
        self.front_bytes() as u64 + u64::from(self.pages) * PAGE_BYTES as u64
    }

    /// No batch is empty: its head is one page at least.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Writes the records of a batch down.
#[derive(Debug)]
pub struct Writer {
    /// Room for the head, then records.
    bytes: Vec<u8>,
    pages: u32,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer { bytes: vec![0; HEAD_BYTES], pages: 0 }
    }
}

impl Writer {
    /// Bytes that the batch has so far, with its pages.
    pub fn len(&self) -> usize {
        self.bytes.len().next_multiple_of(PAGE_BYTES) + self.pages as usize * PAGE_BYTES
    }

    /// Whether nothing was written down yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD_BYTES
    }

    /// Writes a record down, with all its bytes.
    pub fn record(&mut self, record: &Record<'_>) {
        record::emit(record, &mut self.bytes);
    }

    /// Writes down that these bytes of a file are in the next pages of the batch. The caller puts them there: behind
    /// [`seal`](Self::seal)'s bytes, in the order of these calls. Panics unless both are multiples of [`PAGE_BYTES`], and
    /// beyond 1 MiB.
    pub fn pages(&mut self, path: u64, offset: u64, pages: &[u8]) {
        record::emit_pages(path, offset, pages, &mut self.bytes);
        self.pages += (pages.len() / PAGE_BYTES) as u32;
    }

    /// Ends the batch: the bytes in front of its pages, and the checksum by which the next batch names it. `head` says
    /// where the batch is and what it follows; lengths and checksums are filled in.
    pub fn seal(mut self, head: Head) -> (Vec<u8>, u32) {
        let record_bytes = (self.bytes.len() - HEAD_BYTES) as u32;
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE_BYTES), 0);
        let records_checksum = checksum(&self.bytes[HEAD_BYTES..]);
        let (bytes, checksum) = Head { records_checksum, record_bytes, pages: self.pages, ..head }.emit();
        self.bytes[..HEAD_BYTES].copy_from_slice(&bytes);
        (self.bytes, checksum)
    }
}

/// A whole batch in which everything was checked.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Its head.
    pub head: Head,
    /// The checksum by which the next batch names it.
    pub checksum: u32,
    records: &'a [u8],
    pages: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Reads the batch at the front of some bytes, and checks each record and each page.
    pub fn parse(bytes: &'a [u8]) -> Result<Batch<'a>, Wrong> {
        let (head, own_checksum) = Head::parse(bytes)?;
        let bytes = bytes.get(..head.len() as usize).ok_or(Wrong::Short)?;
        let (front, pages) = bytes.split_at(head.front_bytes());
        if checksum(&front[HEAD_BYTES..]) != head.records_checksum {
            return Err(Wrong::RecordsChecksum);
        }
        let mut cut = Cut(&front[HEAD_BYTES..]);
        let records = cut.bytes(head.record_bytes as usize)?;
        cut.zeros(cut.0.len())?;
        let mut rest = Cut(records);
        let mut used = 0;
        while !rest.is_empty() {
            if let Found::Pages { checksums, .. } = record::parse(&mut rest)? {
                for want in checksums {
                    let page = pages.get(used as usize * PAGE_BYTES..).and_then(|rest| rest.get(..PAGE_BYTES));
                    if checksum(page.ok_or(Wrong::Field("number of pages"))?) != want {
                        return Err(Wrong::PageChecksum(used));
                    }
                    used += 1;
                }
            }
        }
        if used != head.pages {
            return Err(Wrong::Field("number of pages"));
        }
        Ok(Batch { head, checksum: own_checksum, records, pages })
    }

    /// What it says, in order. Pages are shown as the data that they are.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (mut rest, mut pages) = (Cut(self.records), self.pages);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            Some(match record::parse(&mut rest).expect("every record was checked") {
                Found::Record(record) => record,
                Found::Pages { path, offset, checksums } => {
                    let (bytes, others) = pages.split_at(checksums.len() * PAGE_BYTES);
                    pages = others;
                    Record::Data { path, offset, bytes }
                }
            })
        })
    }
}
