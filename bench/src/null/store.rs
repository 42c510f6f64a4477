//! A server that keeps what is written: each payload ends at a place of its own in 16 MiB, which are
//! used in turn. Offsets are not looked at, and nothing is ever read back.
//!
//! A payload that is whole in what one receive brought is copied to its place, and what is missing of
//! another one is received into its place. Or payloads are predicted: behind a Twrite of 4 KiB or more, more
//! of the same size are expected, and one receive is given room for their heads and their places in turn.
//! What comes otherwise is taken out of there.
//!
//! Must not know: fids, files, sockets other than as something to read from.

use super::RECEIVE_BYTES;
use super::reply::{self, HEAD, Replies};
use memmap2::{Advice, MmapMut};
use std::array::from_fn;
use std::io::{self, IoSliceMut, Read};
use std::ops::Range;

/// Bytes of all places together.
const PLACES_BYTES: usize = 16 << 20;
/// The size of a huge page, for which the places are aligned.
const HUGE_PAGE_BYTES: usize = 2 << 20;
const TWRITE: u8 = 118;
/// Bytes of a Twrite before its payload: size, type, tag, fid, offset, count.
const WRITE_HEAD: usize = HEAD + 16;
/// Payloads from this size on are received into their places. Below it one more copy costs no more than
/// two more entries of the list of a receive: both take as long at 1 to 2 KiB.
const DIRECT_BYTES_MIN: usize = 4 << 10;
/// Payloads that one receive has room for, and their bytes if there are several.
const AHEAD_MAX: usize = 16;
const AHEAD_BYTES: usize = 256 << 10;

/// The memory of all payloads.
pub(super) struct Places {
    memory: MmapMut,
    /// Where the first place starts in `memory`.
    start: usize,
    /// Where the next payload goes.
    next: usize,
}

impl Places {
    pub(super) fn new() -> io::Result<Places> {
        let mut memory = MmapMut::map_anon(PLACES_BYTES + HUGE_PAGE_BYTES)?;
        // As ring9 asks for the memory of files. Where there are no huge pages, small ones do.
        let _ = memory.advise(Advice::HugePage);
        let start = memory.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // The first write to a page belongs to no request.
        memory.fill(0);
        Ok(Places { memory, start, next: 0 })
    }

    fn all(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..PLACES_BYTES]
    }

    /// The next place for `count` bytes, at most for [`PLACES_BYTES`]. Does not take it.
    fn look(&self, count: usize) -> Range<usize> {
        let count = count.min(PLACES_BYTES);
        let start = if self.next + count > PLACES_BYTES { 0 } else { self.next };
        start..start + count
    }

    fn take(&mut self, count: usize) -> Range<usize> {
        let place = self.look(count);
        self.next = place.end;
        place
    }

    fn store(&mut self, payload: &[u8]) {
        let place = self.take(payload.len());
        let count = place.len();
        self.all()[place].copy_from_slice(&payload[..count]);
    }
}

/// A payload that is received into its place.
struct Landing {
    head: [u8; WRITE_HEAD],
    /// What is still to come.
    rest: Range<usize>,
}

/// The requests of a connection, as far as they are received and not answered.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that are received.
    received: usize,
    /// Before `bytes`.
    landing: Option<Landing>,
    predicts: bool,
    /// Bytes of the last payload, if it was large.
    ahead: Option<usize>,
    /// For how many payloads the next receive has room: one more than the last one brought, or twice as many if it had room for no more.
    width: usize,
    heads: [[u8; WRITE_HEAD]; AHEAD_MAX],
}

/// The bytes of the payload behind this head, if it is that of a Twrite.
fn payload_of(head: &[u8; WRITE_HEAD]) -> Option<usize> {
    let number = |at: usize| u32::from_le_bytes(from_fn(|n| head[at + n])) as usize;
    let count = number(WRITE_HEAD - 4);
    (head[4] == TWRITE && number(0) == WRITE_HEAD + count && count <= PLACES_BYTES).then_some(count)
}

fn answer_write(head: &[u8; WRITE_HEAD], replies: &mut Replies) {
    reply::one(TWRITE, [head[5], head[6]], &head[HEAD..], replies);
}

impl Inbox {
    pub(super) fn new(predicts: bool) -> Inbox {
        let heads = [[0; WRITE_HEAD]; AHEAD_MAX];
        Inbox { bytes: vec![0; RECEIVE_BYTES], received: 0, landing: None, predicts, ahead: None, width: 1, heads }
    }

    /// One receive, and the replies to all that is whole. False: the peer has gone.
    pub(super) fn receive(
        &mut self,
        from: &mut impl Read,
        places: &mut Places,
        replies: &mut Replies,
    ) -> io::Result<bool> {
        let is_expected = self.predicts && self.ahead.is_some() && self.received < WRITE_HEAD;
        let is_direct = self.landing.is_some() || is_expected;
        if is_direct {
            return self.receive_direct(from, places, replies);
        }
        if self.received == self.bytes.len() {
            self.bytes.resize(2 * self.received, 0);
        }
        let read = from.read(&mut self.bytes[self.received..])?;
        self.received += read;
        self.answer(places, replies);
        Ok(read > 0)
    }

    /// Stores and answers all that is whole in `bytes`, and begins with a large payload that is not.
    fn answer(&mut self, places: &mut Places, replies: &mut Replies) {
        let mut taken = 0;
        while let Some(head) = self.bytes[taken..self.received].first_chunk::<HEAD>() {
            let [a, b, c, d, kind, tag @ ..] = *head;
            let size = (u32::from_le_bytes([a, b, c, d]) as usize).max(HEAD);
            let rest = &self.bytes[taken..self.received];
            let write = rest.first_chunk::<WRITE_HEAD>().and_then(|head| Some((*head, payload_of(head)?)));
            if let Some((_, count)) = write {
                self.ahead = (count >= DIRECT_BYTES_MIN).then_some(count);
            }
            let Some(request) = rest.get(..size) else {
                if let (Some((head, count)), Some(_)) = (write, self.ahead) {
                    let part = &rest[WRITE_HEAD..];
                    let place = places.take(count);
                    let start = place.start + part.len();
                    places.all()[place.start..start].copy_from_slice(part);
                    self.landing = Some(Landing { head, rest: start..place.end });
                    taken = self.received;
                }
                break;
            };
            match write {
                Some((head, _)) => {
                    places.store(&request[WRITE_HEAD..]);
                    answer_write(&head, replies);
                }
                None => reply::one(kind, tag, &request[HEAD..], replies),
            }
            taken += size;
        }
        self.bytes.copy_within(taken..self.received, 0);
        self.received -= taken;
    }

    /// Receives the rest of a payload, then heads and payloads as they are expected.
    fn receive_direct(&mut self, from: &mut impl Read, places: &mut Places, replies: &mut Replies) -> io::Result<bool> {
        let rest = self.landing.as_ref().map_or(0..0, |landing| landing.rest.clone());
        let count = self.ahead.unwrap_or(0).max(1);
        let is_predicted = self.predicts && self.ahead.is_some();
        let ahead = if is_predicted { (AHEAD_BYTES / count).clamp(1, self.width) } else { 0 };
        let mut chain = places.look(count * ahead);
        if rest.start < chain.end && chain.start < rest.end {
            // Payloads of others have come round to this one's place, so it is received alone.
            chain = 0..0;
        }
        let had = std::mem::take(&mut self.received);
        self.heads[0][..had].copy_from_slice(&self.bytes[..had]);
        let mut views = Vec::with_capacity(2 * AHEAD_MAX + 1);
        let mut expected = 0;
        let [landing, chain_bytes] =
            places.all().get_disjoint_mut([rest, chain.clone()]).expect("the two do not overlap");
        if !landing.is_empty() {
            views.push(IoSliceMut::new(landing));
        }
        for (place, head) in chain_bytes.chunks_exact_mut(count).zip(&mut self.heads) {
            let start = if expected == 0 { had } else { 0 };
            views.push(IoSliceMut::new(&mut head[start..]));
            views.push(IoSliceMut::new(place));
            expected += 1;
        }
        let read = match from.read_vectored(&mut views) {
            Ok(read) => read,
            Err(error) => {
                self.received = had;
                return Err(error);
            }
        };
        drop(views);
        let mut left = read;
        if let Some(landing) = &mut self.landing {
            let here = left.min(landing.rest.len());
            landing.rest.start += here;
            left -= here;
            if !landing.rest.is_empty() {
                self.received = had;
                return Ok(read > 0);
            }
            answer_write(&landing.head, replies);
            self.landing = None;
        }
        left += had;
        let brought = left / (WRITE_HEAD + count);
        self.width = if brought < self.width { brought + 1 } else { (2 * self.width).min(AHEAD_MAX) };
        for number in 0..expected {
            if left < WRITE_HEAD {
                self.bytes[..left].copy_from_slice(&self.heads[number][..left]);
                self.received = left;
                // A request that is shorter than the head of a Twrite may be whole.
                self.answer(places, replies);
                return Ok(read > 0);
            }
            let place = chain.start + number * count..chain.start + (number + 1) * count;
            if payload_of(&self.heads[number]) != Some(count) {
                self.take_out(number, place.start, left, places, replies);
                return Ok(read > 0);
            }
            left -= WRITE_HEAD;
            places.next = place.end;
            let head = self.heads[number];
            if left < count {
                self.landing = Some(Landing { head, rest: place.start + left..place.end });
                return Ok(read > 0);
            }
            answer_write(&head, replies);
            left -= count;
        }
        Ok(read > 0)
    }

    /// Moves received bytes that are not the expected payloads to the buffer of other requests: `left` bytes, from
    /// head `first` on. The payload of that head was received at `at`.
    fn take_out(&mut self, first: usize, at: usize, left: usize, places: &mut Places, replies: &mut Replies) {
        let count = self.ahead.take().unwrap_or(0);
        self.bytes.resize(self.bytes.len().max(left + RECEIVE_BYTES), 0);
        let payloads = places.all()[at..].chunks_exact(count.max(1));
        for (head, payload) in self.heads[first..].iter().zip(payloads) {
            for part in [&head[..], payload] {
                let here = part.len().min(left - self.received);
                self.bytes[self.received..self.received + here].copy_from_slice(&part[..here]);
                self.received += here;
            }
        }
        self.answer(places, replies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    /// A socket that brings `bytes` in pieces of random sizes.
    struct Pieces<'a> {
        bytes: &'a [u8],
        random: SmallRng,
        max: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.read_vectored(&mut [IoSliceMut::new(into)])
        }

        fn read_vectored(&mut self, views: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
            let most = self.random.random_range(1..=self.max);
            let mut done = 0;
            for view in views {
                let here = view.len().min(most - done).min(self.bytes.len());
                let (now, later) = self.bytes.split_at(here);
                view[..here].copy_from_slice(now);
                self.bytes = later;
                done += here;
            }
            Ok(done)
        }
    }

    /// Every payload is behind the one before it, and every request has one reply, however the bytes come and whatever else comes between.
    #[test]
    fn payloads_are_kept_in_their_order() {
        for seed in 0..40 {
            let mut random = SmallRng::seed_from_u64(seed);
            let (mut requests, mut kept, mut tags) = (Vec::new(), Vec::new(), Vec::new());
            let usual = [100, 4096, 20_000, 65_536, 300_000][seed as usize % 5];
            for tag in 0..40_u16 {
                tags.push(tag);
                if random.random_range(0..8) == 0 {
                    requests.extend([11, 0, 0, 0, 120]);
                    requests.extend(tag.to_le_bytes());
                    requests.extend([1, 0, 0, 0]);
                    continue;
                }
                let len = if random.random_range(0..4) == 0 { random.random_range(0..70_000) } else { usual };
                let mut payload = vec![0; len as usize];
                random.fill(&mut payload[..]);
                requests.extend((WRITE_HEAD as u32 + len).to_le_bytes());
                requests.push(TWRITE);
                requests.extend(tag.to_le_bytes());
                requests.extend([0; 12]);
                requests.extend(len.to_le_bytes());
                requests.extend(&payload);
                kept.extend(payload);
            }
            let max = [50, 5000, 100_000, 1 << 20][seed as usize % 4];
            let mut from = Pieces { bytes: &requests, random, max };
            let (mut places, mut inbox) = (Places::new().expect("memory"), Inbox::new(seed % 2 == 0));
            let mut replies = Replies::default();
            while inbox.receive(&mut from, &mut places, &mut replies).expect("no error") {}
            assert!(kept.len() <= PLACES_BYTES && places.all().starts_with(&kept), "seed {seed}");
            let mut bytes = replies.bytes();
            for tag in tags {
                let size = usize::from(bytes[0]);
                assert_eq!(bytes[5..7], tag.to_le_bytes(), "seed {seed}");
                bytes = &bytes[size..];
            }
            assert!(bytes.is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn places_begin_anew_where_one_would_not_fit() {
        let mut places = Places::new().expect("memory");
        assert_eq!(places.take(PLACES_BYTES - 10), 0..PLACES_BYTES - 10);
        assert_eq!(places.take(11), 0..11);
        assert_eq!(places.take(5), 11..16);
    }
}
