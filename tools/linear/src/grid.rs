//! Where the registers lie in the file, and what their bytes say.
//!
//! ```text
//! shift          region 0               region 1
//! |....|---------------------------|---------------------------|
//!      |   cell 0   |   cell 1     |   cell 2   |   cell 3     |      with a cut
//!      |          cell 0           |          cell 1           |      without
//! ```
//! A region has 4 KiB. The whole grid may be shifted, so that what is aligned to it lies across the blocks and pages of a server. A cut splits every region into two
//! cells, so that a write may begin and end inside of a region. A cell is a register: every request covers it or does not touch it.
//!
//! A write fills each of its cells with one stamp of 8 bytes, again and again. The stamp tells history, cell, client and number, so bytes that come from another
//! file, place or time are as visible as two stamps in one cell.
//!
//! Must not know: clocks, connections.

use std::fmt;
use std::ops::Range;

/// Bytes of a region.
pub(crate) const REGION_BYTES: usize = 4096;
/// Bytes of a stamp. Cells are multiples of it.
pub(crate) const STAMP_BYTES: usize = 8;
/// Cells at most: what the stamp has bits for.
pub(crate) const CELLS_MAX: usize = 1 << 12;
/// Operations of a client at most, for the same reason.
pub(crate) const SEQ_MAX: u32 = (1 << 24) - 1;

/// The value that a write leaves: unique in its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId {
    pub(crate) client: u8,
    /// Number of the operation within its client, from 1.
    pub(crate) seq: u32,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.client, self.seq)
    }
}

/// What a read saw in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Zeros, or the end of the file.
    Initial,
    /// What this write left.
    Written(WriteId),
    /// Something that no write of this history leaves in this cell.
    Alien(u64),
    /// Two things in one cell.
    Torn {
        /// What is in front.
        first: u64,
        /// Where something else begins, in bytes from the start of the cell.
        at: usize,
        /// What it is.
        then: u64,
    },
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Initial => f.write_str("zeros"),
            Value::Written(write) => write!(f, "{write}"),
            Value::Alien(bytes) => write!(f, "alien {}", describe(*bytes)),
            Value::Torn { first, at, then } => {
                write!(f, "torn: {}, from byte {at} on {}", describe(*first), describe(*then))
            }
        }
    }
}

/// The registers of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) regions: usize,
    /// Bytes in front of the first region. They are never written.
    pub(crate) shift: usize,
    /// Where each region is split: a multiple of the stamp, inside of the region.
    pub(crate) cut: Option<usize>,
}

impl Grid {
    /// Cells of a region.
    pub(crate) fn per_region(&self) -> usize {
        1 + usize::from(self.cut.is_some())
    }

    pub(crate) fn cells(&self) -> usize {
        self.regions * self.per_region()
    }

    pub(crate) fn region_of(&self, cell: usize) -> usize {
        cell / self.per_region()
    }

    /// Offset in the file where a cell starts; for the number behind the last one, where the file ends.
    pub(crate) fn start(&self, cell: usize) -> usize {
        let half = if cell.is_multiple_of(self.per_region()) { 0 } else { self.cut.unwrap_or(0) };
        self.shift + self.region_of(cell) * REGION_BYTES + half
    }

    /// The bytes of the file that cells cover.
    pub(crate) fn bytes(&self, cells: &Range<usize>) -> Range<usize> {
        self.start(cells.start)..self.start(cells.end)
    }

    /// Appends what a write puts into its cells.
    pub(crate) fn fill(&self, history: u32, cells: &Range<usize>, write: WriteId, payload: &mut Vec<u8>) {
        for cell in cells.clone() {
            let stamp = stamp(history, cell, write).to_le_bytes();
            let bytes = self.bytes(&(cell..cell + 1)).len();
            (0..bytes / STAMP_BYTES).for_each(|_| payload.extend_from_slice(&stamp));
        }
    }

    /// What a read of these cells saw. What is missing lies behind the end of the file, where nothing was written yet.
    pub(crate) fn see(&self, history: u32, cells: &Range<usize>, data: &[u8]) -> Vec<Value> {
        let mut rest = data;
        let mut values = Vec::with_capacity(cells.len());
        for cell in cells.clone() {
            let bytes = self.bytes(&(cell..cell + 1)).len();
            let (here, behind) = rest.split_at(bytes.min(rest.len()));
            rest = behind;
            values.push(value(history, cell, here, bytes));
        }
        values
    }
}

fn stamp(history: u32, cell: usize, write: WriteId) -> u64 {
    debug_assert!(cell < CELLS_MAX && (1..=SEQ_MAX).contains(&write.seq));
    u64::from(history) << 44 | (cell as u64) << 32 | u64::from(write.client) << 24 | u64::from(write.seq)
}

/// What one cell says. A cell that ends early is one in which the file ends: only one that was never written may do so.
fn value(history: u32, cell: usize, here: &[u8], bytes: usize) -> Value {
    let Some((first, rest)) = here.split_first_chunk::<STAMP_BYTES>() else {
        return if here.iter().all(|&byte| byte == 0) { Value::Initial } else { Value::Alien(u64::MAX) };
    };
    if let Some(at) = rest.chunks(STAMP_BYTES).position(|next| next != &first[..next.len()]) {
        let at = (at + 1) * STAMP_BYTES;
        let mut other = [0; STAMP_BYTES];
        let shown = &here[at..here.len().min(at + STAMP_BYTES)];
        other[..shown.len()].copy_from_slice(shown);
        return Value::Torn { first: u64::from_le_bytes(*first), at, then: u64::from_le_bytes(other) };
    }
    let found = u64::from_le_bytes(*first);
    let write = write_of(found);
    match found {
        0 => Value::Initial,
        _ if here.len() < bytes => Value::Torn { first: found, at: here.len(), then: 0 },
        _ if write.seq > 0 && stamp(history, cell, write) == found => Value::Written(write),
        _ => Value::Alien(found),
    }
}

fn write_of(stamp: u64) -> WriteId {
    WriteId { client: (stamp >> 24) as u8, seq: stamp as u32 & SEQ_MAX }
}

/// Bytes that should not be there, for people.
fn describe(stamp: u64) -> String {
    if stamp == 0 {
        return "zeros".into();
    }
    let (history, cell) = (stamp >> 44, stamp >> 32 & (CELLS_MAX as u64 - 1));
    format!("{stamp:016x} (as a stamp: {} for cell {cell} of history {history})", write_of(stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRIDS: [Grid; 4] = [
        Grid { regions: 3, shift: 0, cut: None },
        Grid { regions: 3, shift: 777, cut: None },
        Grid { regions: 3, shift: 0, cut: Some(1000) },
        Grid { regions: 3, shift: 4095, cut: Some(8) },
    ];
    const WRITE: WriteId = WriteId { client: 7, seq: 123_456 };

    #[test]
    fn cells_lie_side_by_side_and_fill_their_regions() {
        for grid in GRIDS {
            assert_eq!(grid.bytes(&(0..grid.cells())), grid.shift..grid.shift + 3 * REGION_BYTES);
            for cell in 0..grid.cells() {
                let bytes = grid.bytes(&(cell..cell + 1));
                assert!(!bytes.is_empty() && bytes.len().is_multiple_of(STAMP_BYTES), "{grid:?} {cell}");
                assert_eq!((bytes.start - grid.shift) / REGION_BYTES, grid.region_of(cell));
                assert_eq!((bytes.end - 1 - grid.shift) / REGION_BYTES, grid.region_of(cell));
            }
        }
    }

    #[test]
    fn what_was_filled_is_seen() {
        for grid in GRIDS {
            let cells = 1..grid.cells();
            let mut payload = Vec::new();
            grid.fill(9, &cells, WRITE, &mut payload);
            assert_eq!(payload.len(), grid.bytes(&cells).len());
            assert_eq!(grid.see(9, &cells, &payload), vec![Value::Written(WRITE); cells.len()]);
            // The file ends behind the first of these cells.
            let first = grid.bytes(&(1..2)).len();
            let mut seen = vec![Value::Initial; cells.len()];
            seen[0] = Value::Written(WRITE);
            assert_eq!(grid.see(9, &cells, &payload[..first]), seen);
        }
    }

    #[test]
    fn one_wrong_byte_anywhere_is_seen() {
        let grid = Grid { regions: 1, shift: 0, cut: None };
        let mut payload = Vec::new();
        grid.fill(9, &(0..1), WRITE, &mut payload);
        for at in 0..payload.len() {
            payload[at] ^= 0x10;
            assert!(matches!(grid.see(9, &(0..1), &payload)[0], Value::Torn { .. }), "byte {at}");
            payload[at] ^= 0x10;
        }
        let early = grid.see(9, &(0..1), &payload[..4088]);
        assert_eq!(early, [Value::Torn { first: stamp(9, 0, WRITE), at: 4088, then: 0 }]);
    }

    #[test]
    fn bytes_of_another_file_or_place_are_aliens() {
        let grid = Grid { regions: 2, shift: 0, cut: None };
        let mut payload = Vec::new();
        grid.fill(8, &(0..1), WRITE, &mut payload);
        grid.fill(9, &(0..1), WRITE, &mut payload);
        let (other_file, other_place) = (stamp(8, 0, WRITE), stamp(9, 0, WRITE));
        assert_eq!(grid.see(9, &(0..2), &payload), [Value::Alien(other_file), Value::Alien(other_place)]);
        assert_eq!(grid.see(9, &(0..1), &[1, 2, 3]), [Value::Alien(u64::MAX)]);
    }
}
