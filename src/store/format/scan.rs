//! Goes through a log from its beginning, and says how it ends.
//!
//! ```text
//! batch, batch, batch, nothing             the end
//! batch, batch, a part of one              torn: cut off, and reported
//! batch, a bad one, a later one behind it  damaged: refused
//! ```
//! A store writes a batch only once the one before it is durable. So a bad batch was whole once if the head of a later one is
//! behind it. If there is none, then no reply has left that waited for the bad batch.
//!
//! Each start of serving goes on in a new file for the next segment. A write of the process before it may still have been on
//! its way, and may then make a batch whole that the start has cut. So where both are valid, a batch of a later epoch at the start of the next
//! segment comes before the batch that is behind the last one.
//!
//! Must not know: files on disk, trees.

use super::{Batch, HEAD_BYTES, Head, Next, PAGE_BYTES, Superblock, Wrong};

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment.
    pub segment: u64,
    /// The byte of it.
    pub offset: u64,
}

/// Something at the place of the next batch that is no valid batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Where it is.
    pub at: Place,
    /// What is wrong with it.
    pub why: Wrong,
}

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// What the next batch must say.
    pub next: Next,
    /// Batches in the log.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// What was cut off, if the log does not simply end.
    pub torn: Option<Torn>,
}

/// Why a log cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage<E> {
    /// There is no segment where the log begins.
    NoSegment(u64),
    /// A segment has another length than those of its store.
    Length {
        /// The segment.
        segment: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// A batch is bad, and it was whole once: the head of a later one is at `later`.
    Batch {
        /// The bad batch.
        bad: Torn,
        /// A later one.
        later: Place,
    },
    /// What a batch says was refused, or a segment could not be read.
    Refused(Place, E),
}

/// Goes through the log that begins where `start` says. `present`: the numbers of all segments that are there, in order: a later
/// batch may be behind one that is missing. `read` puts the bytes of a segment into a buffer, all of them, or
/// answers false if there is no segment of this number. `each` is given every batch, in order.
pub fn scan<B: AsRef<[u8]> + Default, E>(
    start: &Superblock,
    present: &[u64],
    mut read: impl FnMut(u64, &mut B) -> Result<bool, E>,
    mut each: impl FnMut(&Batch<'_>) -> Result<(), E>,
) -> Result<End, Damage<E>> {
    let mut get = |segment, into: &mut B| {
        let had = read(segment, into).map_err(|error| Damage::Refused(Place { segment, offset: 0 }, error))?;
        let bytes = into.as_ref().len() as u64;
        if had && bytes != start.segment_bytes { Err(Damage::Length { segment, bytes }) } else { Ok(had) }
    };
    let mut end = End { next: Next::from(start), batches: 0, bytes: 0, torn: None };
    let (mut here, mut further) = (B::default(), B::default());
    if !get(start.segment, &mut here)? {
        return Err(Damage::NoSegment(start.segment));
    }
    let mut has_further = get(start.segment + 1, &mut further)?;
    let (why, why_further) = loop {
        let behind = batch_at(here.as_ref(), &end.next);
        let in_next =
            if has_further { batch_at(further.as_ref(), &end.next.in_next_segment()) } else { Err(Wrong::Short) };
        let goes_on = match (&behind, &in_next) {
            (Ok(behind), Ok(in_next)) => in_next.head.epoch > behind.head.epoch,
            (_, in_next) => in_next.is_ok(),
        };
        if goes_on {
            end.next = end.next.in_next_segment();
            std::mem::swap(&mut here, &mut further);
            has_further = get(end.next.segment + 1, &mut further)?;
            continue;
        }
        match behind {
            Ok(batch) => {
                each(&batch).map_err(|error| Damage::Refused(place(&end.next), error))?;
                (end.batches, end.bytes) = (end.batches + 1, end.bytes + batch.head.len());
                end.next = end.next.behind(&batch);
            }
            Err(why) => break (why, in_next.err().unwrap_or(Wrong::Short)),
        }
    };
    let at = place(&end.next);
    let has_bytes = |segment: &[u8], from: u64| {
        let rest = segment.get(from as usize..).unwrap_or_default();
        rest.iter().take(PAGE_BYTES).any(|&byte| byte != 0)
    };
    let mut bad = Torn { at, why };
    if has_bytes(here.as_ref(), at.offset) {
        end.torn = Some(bad);
    } else if has_further && has_bytes(further.as_ref(), 0) {
        // It did not fit into the rest of the segment.
        bad = Torn { at: place(&end.next.in_next_segment()), why: why_further };
        end.torn = Some(bad);
    }
    let mut later = later_head(here.as_ref(), at.segment, at.offset, &end.next);
    if has_further && later.is_none() {
        later = later_head(further.as_ref(), at.segment + 1, 0, &end.next);
    }
    for &segment in present.iter().filter(|&&segment| segment > at.segment + 1) {
        if later.is_some() {
            break;
        }
        if get(segment, &mut further)? {
            later = later_head(further.as_ref(), segment, 0, &end.next);
        }
    }
    match later {
        Some(later) => Err(Damage::Batch { bad, later }),
        None => Ok(end),
    }
}

fn place(next: &Next) -> Place {
    Place { segment: next.segment, offset: next.offset }
}

/// The next batch, if it is in this segment.
fn batch_at<'a>(segment: &'a [u8], next: &Next) -> Result<Batch<'a>, Wrong> {
    let rest = segment.get(next.offset as usize..).ok_or(Wrong::Short)?;
    // Whether it is the next one is known from its head, before all of it is summed.
    next.check(&Head::parse(rest)?.0)?;
    Batch::parse(rest)
}

/// The first head in a segment, from a byte on, of a batch that can only have been written behind the next one.
fn later_head(segment: &[u8], number: u64, from: u64, next: &Next) -> Option<Place> {
    let pages = (from as usize..segment.len().saturating_sub(HEAD_BYTES - 1)).step_by(PAGE_BYTES);
    let is_later = |head: &Head, offset: usize| {
        head.store == next.store
            && (head.segment, head.offset) == (number, offset as u64)
            // The superblock of an epoch is durable before any batch of it is written.
            && (head.epoch > next.epoch_max || head.epoch >= next.epoch && head.first_lsn > next.lsn)
    };
    let found = pages.into_iter().find(|&at| Head::parse(&segment[at..]).is_ok_and(|(head, _)| is_later(&head, at)));
    found.map(|at| Place { segment: number, offset: at as u64 })
}
