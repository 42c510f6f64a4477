//! Reading an open file to its end.
//!
//! The length that a file shows only says how many reads may be in flight: what is behind it is asked for one read at a time, and the first read that brings nothing is
//! the end. So files that show no true length are read whole, and a file that waits at its end gives out what it has.

use ring9::client::{Client, Error};
use ring9::wire::Fid;
use std::collections::BTreeMap;
use std::io;

/// Reads in flight together.
const READS: u64 = 16;
/// And bytes that these ask for, unless one alone asks for more.
const READ_BYTES: u64 = 16 << 20;
/// Reads ask for whole pages, so that a hole here is a hole there.
const PAGE: u64 = 4096;

/// Shows the bytes of an open file from `from` to its end, in order; where that end is. An error of `each` ends it.
pub(crate) fn pour(
    client: &mut Client,
    fid: Fid,
    from: u64,
    size: u64,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<io::Result<u64>, Error> {
    let mut at = from;
    let mut piece = match u64::from(client.chunk()) {
        chunk if chunk < PAGE => chunk,
        chunk => chunk - chunk % PAGE,
    };
    loop {
        let start = at;
        let reads = size.saturating_sub(start).div_ceil(piece).min(READ_BYTES / piece).clamp(1, READS);
        let ranges: Vec<(u64, u32)> =
            (0..reads).map_while(|n| Some((start.checked_add(n * piece)?, piece as u32))).collect();
        // What came before its turn.
        let mut early: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut done = Ok(());
        client.read(fid, &ranges, |offset, bytes| {
            if done.is_err() || bytes.is_empty() {
                return;
            }
            if offset != at {
                early.insert(offset, bytes.to_vec());
                return;
            }
            done = each(at, bytes);
            at += bytes.len() as u64;
            while let Some(bytes) = early.remove(&at).filter(|_| done.is_ok()) {
                done = each(at, &bytes);
                at += bytes.len() as u64;
            }
        })?;
        if let Err(error) = done {
            return Ok(Err(error));
        }
        let came = at - start;
        if came == 0 {
            return Ok(Ok(at));
        }
        if came < piece && at < size {
            // The server gives less at a time; more at once would be thrown away.
            piece = came;
        }
    }
}
