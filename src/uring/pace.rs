//! Whether the replies of a peer with large payloads leave early, or wait until its socket is empty
//! (docs/decisions/19-one-cpu.md).
//!
//! Must not know: sockets, sessions, memory, clocks.

/// Messages of an interval: several times what a client usually has in flight. With more, a client with large
/// payloads would be timed for too long; with fewer, what is in flight from the interval before counts for too much.
const INTERVAL_MESSAGES: u32 = 48;
/// From this score on pairs of intervals are rare.
const SURE: i8 = 3;
/// Limit on the score, on both sides of zero. With a higher one a client that moves to another cpu would be found late.
const SCORE_MAX: i8 = 6;
/// Intervals from one pair to the next while pairs are rare. The slower interval of a pair may take twice the time of
/// the faster one, so that pairs cost less than 2 %.
const PAIR_EVERY: u8 = 64;

/// Whether the replies of a peer wait until its socket is empty (docs/decisions/19-one-cpu.md).
///
/// A client on a cpu of its own works on the first replies while the next requests are served. A client
/// that shares the cpu of the server cannot, and each send that is not the last one is a cost without
/// a gain. No counter of the loop tells the two apart, so both ways are timed: an interval in which
/// replies leave early, and one in which they leave together. The way that wins most of these pairs is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Above zero: replies that leave together have won more pairs.
    score: i8,
    /// Number of the interval. 0 and 1 are a pair: replies leave early in interval 0, together in interval 1.
    interval: u8,
    /// Bytes of the last large message; 0 before the first one.
    message_bytes: u32,
    /// Bytes that were received in this interval.
    bytes: u32,
    began_ns: u64,
    /// Picoseconds for each byte in interval 0 of this pair.
    early_ps: u64,
}

impl Pace {
    /// The peer has sent a large payload, in a message of so many bytes.
    pub(crate) fn saw(&mut self, bytes: u32) {
        self.message_bytes = bytes;
    }

    /// Whether replies wait until the socket is empty.
    pub(crate) fn is_together(&self) -> bool {
        self.interval == 1 || self.interval > 1 && self.score > 0
    }

    /// A receive has brought `bytes` at `now`. Unless the peer is `alone` with the server, time says nothing
    /// about its client, and replies leave early.
    pub(crate) fn received(&mut self, bytes: usize, now: u64, alone: bool) {
        if self.message_bytes == 0 || !alone {
            (self.interval, self.bytes, self.began_ns) = (0, 0, now);
            return;
        }
        self.bytes += bytes as u32;
        if self.bytes >= INTERVAL_MESSAGES.saturating_mul(self.message_bytes) {
            self.ends(now);
        }
    }

    /// An interval ends.
    fn ends(&mut self, now: u64) {
        let ps = now.saturating_sub(self.began_ns).saturating_mul(1000) / u64::from(self.bytes);
        // Less than one part in 32 is no difference.
        let is_less = |one: u64, other: u64| one.saturating_mul(32) < other.saturating_mul(31);
        match self.interval {
            0 => self.early_ps = ps,
            1 => {
                let vote = i8::from(is_less(ps, self.early_ps)) - i8::from(is_less(self.early_ps, ps));
                self.score = (self.score + vote).clamp(-SCORE_MAX, SCORE_MAX);
            }
            _ => {}
        }
        let is_pair_over = self.interval > 0;
        let is_sure = self.score.abs() >= SURE;
        self.interval = if is_pair_over && !is_sure { 0 } else { (self.interval + 1) % PAIR_EVERY };
        (self.bytes, self.began_ns) = (0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: usize = (32 << 10) + 23;

    /// Intervals of a client for which a message takes `ns[0]` where replies leave early, `ns[1]` where they leave
    /// together; each `late`th interval takes ten times as long. In how many of them replies left together.
    fn serves(pace: &mut Pace, now: &mut u64, ns: [u64; 2], intervals: usize, late: usize) -> usize {
        let mut together = 0;
        for interval in 1..=intervals {
            let is_together = pace.is_together();
            let each_ns = ns[usize::from(is_together)] * if interval % late == 0 { 10 } else { 1 };
            for _ in 0..INTERVAL_MESSAGES {
                assert_eq!(pace.is_together(), is_together, "it changes from one interval to the next only");
                *now += each_ns;
                pace.received(EACH, *now, true);
            }
            together += usize::from(is_together);
        }
        together
    }

    /// A peer that has sent a large payload, at 1 ns.
    fn begun() -> (Pace, u64) {
        let mut pace = Pace::default();
        pace.received(EACH, 1, true);
        assert!(!pace.is_together());
        pace.saw(EACH as u32);
        (pace, 1)
    }

    #[test]
    fn the_faster_way_is_taken() {
        for (ns, late, together) in [
            ([20_000, 10_000], usize::MAX, 980..=985),
            ([10_000, 20_000], usize::MAX, 15..=25),
            ([20_000, 15_000], 7, 900..=985),
            ([15_000, 20_000], 7, 15..=100),
            // No difference: as many of one as of the other.
            ([10_000, 10_000], usize::MAX, 500..=500),
            ([10_000, 9_800], usize::MAX, 500..=500),
        ] {
            let (mut pace, mut now) = begun();
            serves(&mut pace, &mut now, ns, 10, late);
            let count = serves(&mut pace, &mut now, ns, 1000, late);
            assert!(together.contains(&count), "{ns:?}: {count} of 1000");
        }
    }

    #[test]
    fn a_client_that_moves_to_another_cpu_is_found() {
        let (mut pace, mut now) = begun();
        for ns in [[20_000, 10_000], [10_000, 20_000], [20_000, 10_000]] {
            serves(&mut pace, &mut now, ns, 600, usize::MAX);
            let count = serves(&mut pace, &mut now, ns, 640, usize::MAX);
            assert_eq!(count, if ns[0] < ns[1] { 10 } else { 630 });
        }
    }

    #[test]
    fn replies_leave_early_while_others_are_served() {
        let (mut pace, mut now) = begun();
        serves(&mut pace, &mut now, [20_000, 10_000], 40, usize::MAX);
        assert!(pace.is_together());
        for _ in 0..3 * INTERVAL_MESSAGES {
            now += 10_000;
            pace.received(EACH, now, false);
            assert!(!pace.is_together());
        }
        // What is known of the client is kept. Time that was shared is in no interval.
        serves(&mut pace, &mut now, [20_000, 10_000], 3, usize::MAX);
        assert_eq!((pace.is_together(), pace.score), (true, SURE + 1));
    }

    #[test]
    fn neither_long_pauses_nor_huge_messages_overflow() {
        let mut pace = Pace::default();
        pace.saw(u32::MAX);
        pace.received(1 << 30, u64::MAX / 2, true);
        pace.saw(1);
        pace.received(1, u64::MAX, true);
        pace.received(1 << 20, 0, true);
        assert!(pace.score.abs() <= SCORE_MAX);
    }
}
