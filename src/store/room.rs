//! How much room the log has, and what that allows: the arithmetic of segments, live bytes and checkpoints.
//!
//! `live` is what everything in the tree takes once it is told. A checkpoint tells all of it, and needs that room beside the log
//! before it. A batch does not cross the end of a segment, so a part of each segment is left over: never more than a
//! quarter, since what clients change in a batch is at most a quarter of a segment ([`batch_bytes`] and the largest request),
//! and a checkpoint fills what is left.
//!
//! ```text
//! | log before the checkpoint | checkpoint, and changes meanwhile | room |
//!                             ^ start                             ^ end of the log, `log` bytes behind the last start
//! ```
//! **How large a store gets.** A checkpoint begins once the log since the last start is longer than live + [`MARGIN_BYTES`], and has
//! grown by a quarter of live since the last checkpoint ended: so a store in which nothing changes writes nothing. While a checkpoint goes on a
//! batch carries twice as many bytes of it as of changes, so the log grows by 1.5 live until it ends: with what is left over in
//! segments 1.6 live. So the log has at most live + 256 MiB, or 1.9 live, when the next one begins, and 1.6 live more when that
//! ends. With the segments in stock, and that which is written to, a store takes at most 4 times the largest live size since
//! the last checkpoint, and 512 MiB. Segments that the end of a checkpoint has taken out of the log are used again: as many of them stay
//! as the log will need until the next checkpoint ends.
//!
//! **A smaller store.** Within `--store-size` a checkpoint begins earlier: once there is room for it and little more. Requests
//! wait while the room is short and a checkpoint goes on. A change that takes room is refused beyond [`live_bytes_max`]: a
//! quarter of the store, so that a checkpoint makes room for as much as it writes.
//!
//! Must not know: trees, sessions, files on disk.

/// Bytes of changes that are sealed at once, or an eighth of a segment if that is less. A batch has at most one request more.
const BATCH_BYTES: u64 = 4 << 20;
/// Bytes that a batch has at most, with those of a checkpoint, or half of a segment if that is less.
const BATCH_BYTES_MOST: u64 = 16 << 20;
/// Bytes of a checkpoint in a batch of no or few changes: 0.1 ms of a disk that writes 2.2 GB/s.
const SHARE_BYTES: u64 = 256 << 10;
/// Bytes of the log beyond the live ones before a checkpoint begins, of a server.
pub const MARGIN_BYTES: u64 = 256 << 20;
/// Bytes of changes that are not durable. Beyond it nothing more is asked of the tree.
pub(super) const BEHIND_BYTES_MAX: u64 = 64 << 20;
/// Memory in bytes that a store takes beside its tree: marks of what has changed take less than the records that tell them, and
/// what is sealed has its records in memory. While a batch is sealed its marks are there, its records in a list that grows by
/// doubling, and a copy of them that is aligned. Pages are in the memory of files.
pub const MEMORY_BYTES_MAX: u64 = BEHIND_BYTES_MAX + 4 * BATCH_BYTES_MOST;
/// Segments that a store needs: those of a log and a checkpoint of next to nothing, two in stock, and two for removals.
pub const SEGMENTS_MIN: u64 = 12;
/// Bytes by which the length of a batch may exceed those of its records and pages: its head, and zeros up to a page.
pub(super) const HEAD_BYTES: u64 = 2 * 4096;

/// Bytes of changes that are sealed at once.
pub(super) fn batch_bytes(segment_bytes: u64) -> u64 {
    BATCH_BYTES.min(segment_bytes / 8)
}

/// Live bytes that a store of this size may have. Beyond it what takes room gets ENOSPC.
pub(super) fn live_bytes_max(store_bytes: u64, segment_bytes: u64) -> u64 {
    store_bytes.saturating_sub(8 * segment_bytes) / 4
}

/// Bytes of segments that batches of `bytes` bytes take, with the unused ends of the segments.
pub(super) fn packed(bytes: u64) -> u64 {
    bytes + bytes / 3
}

/// Bytes of the largest thing that a sweep marks at once: 64 KiB of a file, or an extended attribute, each with its records.
const PART_BYTES: u64 = 68 << 10;

/// Bytes of the tree that the next batch of a copy carries. `left`: those that are left in its segment. What does not fit is in
/// the next segment.
pub(super) fn share_of_copy(segment_bytes: u64, left: u64) -> u64 {
    let most = |bytes: u64| bytes.saturating_sub(HEAD_BYTES + PART_BYTES).min(BATCH_BYTES_MOST.min(segment_bytes / 2));
    // A batch has a part more than its share.
    if most(left) > 0 { most(left) } else { most(segment_bytes) }
}

/// What is known of the room when a decision is due. All numbers are bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) segment: u64,
    /// Live bytes, and the most that there may be.
    pub(super) live: u64,
    pub(super) live_max: u64,
    /// Bytes that the checkpoint on its way has marked; `None` if there is none, or it has marked everything.
    pub(super) swept: Option<u64>,
    /// A checkpoint is on its way.
    pub(super) is_checkpoint: bool,
    /// Of the log since its start, and as it was when the last checkpoint had ended.
    pub(super) log: u64,
    pub(super) base: u64,
    /// Of what has changed and is not sealed.
    pub(super) changed: u64,
    /// That can still be sealed, at all and in segments that are there.
    pub(super) free: u64,
    pub(super) ready: u64,
    /// A further segment is to come.
    pub(super) is_making: bool,
    pub(super) margin: u64,
}

impl Room {
    /// Room for what is not sealed yet and more.
    fn room(&self) -> u64 {
        self.free.saturating_sub(self.changed)
    }

    fn ready_room(&self) -> u64 {
        self.ready.saturating_sub(self.changed)
    }

    /// Room that the checkpoint on its way still needs, or the next one.
    fn needed(&self) -> u64 {
        match (self.is_checkpoint, self.swept) {
            (true, None) => 0,
            (_, swept) => packed(self.live.saturating_sub(swept.unwrap_or(0))),
        }
    }

    /// Whether a change that takes room may be made.
    pub(super) fn takes(&self) -> bool {
        self.live < self.live_max && self.room() >= self.needed() + self.segment && self.ready_room() >= self.segment
    }

    /// Whether a removal may be made: it takes room as well until the next checkpoint.
    pub(super) fn removes(&self) -> bool {
        self.ready_room() >= self.segment / 2
    }

    /// Whether requests are to wait, since there will be more room.
    pub(super) fn is_short(&self) -> bool {
        let waits_for_segment = self.is_making && self.ready_room() < self.segment * 3 / 2;
        let waits_for_checkpoint = self.is_checkpoint
            && (self.swept.is_none() || self.share_room() > 0)
            && self.room() < self.needed() + 2 * self.segment;
        waits_for_segment || waits_for_checkpoint
    }

    /// Whether a checkpoint is to begin.
    pub(super) fn is_due(&self) -> bool {
        let is_long = self.log > self.live.saturating_add(self.margin);
        // Less is not worth the effort.
        let has_grown = self.log > self.base + self.live / 4 + self.margin.min(self.segment / 2);
        let fits = self.room() >= self.needed() + self.segment / 2;
        !self.is_checkpoint && (is_long || self.is_tight()) && has_grown && fits
    }

    /// Segments that the log will need until the next checkpoint has ended.
    pub(super) fn spares(&self) -> u64 {
        let begins = self.live.saturating_add(self.margin).max(self.live / 10 * 19);
        begins.saturating_add(self.live / 10 * 16).saturating_sub(self.log).div_ceil(self.segment)
    }

    /// Whether there is room for a checkpoint and what changes meanwhile, and little more.
    fn is_tight(&self) -> bool {
        self.room() < self.needed() / 4 * 5 + 4 * self.segment
    }

    /// Bytes of the checkpoint that the next batch may carry without what removals need.
    fn share_room(&self) -> u64 {
        if self.room() < self.needed() + self.segment / 2 {
            // It would not end.
            return 0;
        }
        self.ready_room().saturating_sub(self.segment / 2)
    }

    /// Bytes of the checkpoint that the next batch carries. `left`: those that are left in its segment.
    pub(super) fn share(&self, left: u64) -> u64 {
        let (least, times) = if self.is_tight() { (batch_bytes(self.segment), 4) } else { (SHARE_BYTES, 2) };
        let most = BATCH_BYTES_MOST.min(self.segment / 2).saturating_sub(self.changed + HEAD_BYTES);
        let share = least.max(self.changed * times).min(most).min(self.share_room());
        // What fits is to fill the segment. What does not is in the next one in any case.
        let fits = left.saturating_sub(self.changed + HEAD_BYTES);
        if fits >= HEAD_BYTES { share.min(fits) } else { share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room() -> Room {
        Room {
            segment: 64 * MIB,
            live: 1024 * MIB,
            live_max: 4096 * MIB,
            swept: None,
            is_checkpoint: false,
            log: 100 * MIB,
            base: 0,
            changed: 0,
            free: 8192 * MIB,
            ready: 180 * MIB,
            is_making: false,
            margin: MARGIN_BYTES,
        }
    }

    /// A store that clients write to as fast as they can, in turns: how large it gets, in bytes of segments.
    fn largest(live: u64, store: u64, changes: u64) -> u64 {
        let segment = 64 * MIB;
        let (mut start, mut end, mut first) = (0_u64, 0_u64, 0_u64);
        let (mut sweep, mut largest, mut done, mut base) = (None::<(u64, u64)>, 0, 0, 0);
        // Segments that were made, and those of them that are spare.
        let (mut made, mut spares) = (0, 0);
        while done < 4 {
            let free = (first / segment + store / segment) * segment - end;
            let mut now = Room {
                segment,
                live,
                live_max: live_bytes_max(store, segment),
                swept: sweep.map(|(_, swept)| swept),
                is_checkpoint: sweep.is_some(),
                log: end - start,
                base,
                changed: 0,
                free,
                ready: free.min(2 * segment),
                ..room()
            };
            if now.is_due() {
                (now.is_checkpoint, now.swept) = (true, Some(0));
                sweep = Some((end, 0));
            }
            if !now.is_short() {
                assert!(now.takes(), "a store that is not full takes changes: {now:?}");
                now.changed = changes;
            }
            let left = segment - end % segment;
            let share = if sweep.is_some() { now.share(left) } else { 0 };
            let batch = (now.changed + share).next_multiple_of(4096);
            assert!(batch > 0, "it goes on: {now:?}");
            end = if batch > left { end.next_multiple_of(segment) + batch } else { end + batch };
            if let Some((from, swept)) = &mut sweep {
                *swept += share;
                if *swept >= live {
                    let freed = (*from / segment * segment - first) / segment;
                    (start, first) = (*from, *from / segment * segment);
                    base = end - start;
                    spares = (spares + freed).min(Room { log: base, ..now }.spares());
                    sweep = None;
                    done += 1;
                }
            }
            let wanted = end.div_ceil(segment) + 2;
            spares -= spares.min(wanted - made.min(wanted));
            made = made.max(wanted);
            largest = largest.max((made + spares) * segment - first);
        }
        largest
    }

    #[test]
    fn a_store_is_at_most_four_times_as_large_as_what_lives_and_512_mib() {
        for live in [MIB, 100 * MIB, 300 * MIB, 1024 * MIB, 3000 * MIB] {
            for changes in [4096, 100_000, 5 * MIB] {
                let largest = largest(live, 1 << 40, changes);
                assert!(largest <= 4 * live + 512 * MIB, "{live} live, {changes} a batch: {largest}");
            }
        }
    }

    #[test]
    fn a_small_store_stays_within_its_size_and_goes_on() {
        for live in [MIB, 100 * MIB, 300 * MIB, 1000 * MIB] {
            // The least that takes so much.
            let store = (live * 4 + 9 * 64 * MIB).next_multiple_of(64 * MIB).max(SEGMENTS_MIN * 64 * MIB);
            for changes in [4096, 100_000, 5 * MIB] {
                let largest = largest(live, store, changes);
                assert!(largest <= store + 3 * 64 * MIB, "{live} live, {changes} a batch: {largest} of {store}");
            }
        }
    }

    #[test]
    fn a_full_disk_keeps_room_for_removals() {
        let full = Room { free: 70 * MIB, ready: 70 * MIB, is_checkpoint: true, swept: Some(0), ..room() };
        assert!(full.removes() && !full.takes() && !full.is_short() && full.share(70 * MIB) == 0);
        let empty = Room { free: 20 * MIB, ready: 20 * MIB, ..full };
        assert!(!empty.removes() && !empty.is_short());
        // What lives is little, and a checkpoint ends the want.
        let little = Room { live: 10 * MIB, ..full };
        assert!(little.is_short() && little.share(70 * MIB) > 0);
    }
}
