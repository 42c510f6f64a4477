//! The text of `connections`, which is made in parts as it is read: with 10,000 connections the whole text
//! takes milliseconds.
//!
//! Each open has a text of its own, so what was read once stays as it was. Every line shows its connection
//! at the moment of the read that made the line.

use super::text;
use crate::fs::{At, Error, Out, Result};
use crate::stats::Stats;
use slab::Slab;

/// Lines that one read makes at most. The reader comes back for more.
pub(super) const LINES_MAX: usize = 128;

/// Number of an open.
pub(super) type ListingId = usize;

/// The opens.
#[derive(Debug, Default)]
pub(super) struct Listings(Slab<Listing>);

#[derive(Debug)]
struct Listing {
    /// What was made so far.
    text: String,
    /// The moment of the open: ages are counted up to it.
    at: At,
    /// The number of the next connection; `None` at the end.
    next: Option<u32>,
    /// Bytes that the text may have. Connections that come later than the open may find no room.
    bytes_max: usize,
}

impl Listings {
    /// A text that ends with the connections that fit into `bytes_max`.
    pub(super) fn open(&mut self, at: At, bytes_max: usize) -> ListingId {
        let mut text = String::with_capacity(bytes_max);
        text.push_str(&text::connections_head());
        self.0.insert(Listing { text, at, next: Some(0), bytes_max })
    }

    /// Ends an open; the bytes that its text might have had.
    pub(super) fn close(&mut self, id: ListingId) -> usize {
        self.0.remove(id).bytes_max
    }

    /// The length of the whole text, as far as it is known.
    pub(super) fn len(&self, id: ListingId) -> usize {
        let listing = &self.0[id];
        if listing.next.is_some() { listing.bytes_max } else { listing.text.len() }
    }

    /// Appends what is at `offset` to `out`, and makes it first if need be; how many lines were made. EINVAL behind the end of what was made.
    pub(super) fn read(&mut self, id: ListingId, stats: &Stats, offset: u64, mut out: Out<'_>) -> Result<usize> {
        let listing = &mut self.0[id];
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let wanted = offset.saturating_add(out.room() as usize);
        let mut lines = 0;
        if let Some(from) = listing.next.filter(|_| listing.text.len() < wanted) {
            listing.next = None;
            stats.each_connection_from(from, |number, connection| {
                if lines == LINES_MAX || listing.text.len() >= wanted {
                    listing.next = Some(number);
                    return false;
                }
                let before = listing.text.len();
                text::connection(&mut listing.text, number, connection, listing.at);
                lines += 1;
                let fits = listing.text.len() <= listing.bytes_max;
                if !fits {
                    listing.text.truncate(before);
                }
                fits
            });
        }
        if offset > listing.text.len() && listing.next.is_some() {
            return Err(Error::EINVAL);
        }
        out.bytes(listing.text.as_bytes().get(offset..).unwrap_or_default());
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_with_its_open() {
        let mut listings = Listings::default();
        for bytes in 100..200 {
            let (first, second) = (listings.open(At::default(), bytes), listings.open(At::default(), 2 * bytes));
            assert_eq!((listings.close(first), listings.close(second)), (bytes, 2 * bytes));
        }
        assert!(listings.0.is_empty() && listings.0.capacity() < 10);
    }
}
