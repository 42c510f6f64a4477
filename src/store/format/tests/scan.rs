//! A small log, torn and damaged in every way: what was durable is never lost without a word, and what was not is cut.

use super::*;
use std::convert::Infallible;

const SEGMENT_BYTES: usize = 64 << 10;

/// A log in segments, and where each of its batches is: segment, offset, length, last change.
struct Log {
    start: Superblock,
    segments: Vec<Vec<u8>>,
    batches: Vec<(usize, usize, usize, u64)>,
    next: Next,
}

impl Log {
    fn new(epoch: u64) -> Log {
        let start = Superblock {
            store: STORE,
            epoch,
            segment_bytes: SEGMENT_BYTES as u64,
            segment: 7,
            lsn: 1,
            ..Superblock::default()
        };
        // Two segments in stock, as a store has them.
        Log { start, segments: vec![vec![0; SEGMENT_BYTES]; 3], batches: Vec::new(), next: Next::from(&start) }
    }

    fn add(&mut self, random: &mut Random) {
        let count = 1 + random.below(4);
        let (mut writer, mut pages, mut numbers) = (Writer::default(), Vec::new(), 0);
        for _ in 0..count {
            if random.below(3) == 0 {
                let data = random.bytes((1 + numbers % 2) * PAGE_BYTES);
                writer.pages(9, 4096, &data);
                pages.extend(data);
            } else {
                let name = random.bytes(20).iter().map(|byte| b'a' + byte % 26).collect::<Vec<_>>();
                writer.record(&Record::Entry { dir: 1, cookie: 3, path: 2, doomed: false, name: &name });
            }
            numbers += 1;
        }
        if self.next.offset as usize + writer.len() > SEGMENT_BYTES {
            self.next = self.next.in_next_segment();
            self.segments.push(vec![0; SEGMENT_BYTES]);
        }
        let (mut bytes, _) = writer.seal(self.next.head(self.next.lsn + random.below(3) as u64));
        bytes.extend(pages);
        let batch = Batch::parse(&bytes).expect("a batch");
        let (segment, offset) = ((self.next.segment - self.start.segment) as usize, self.next.offset as usize);
        self.segments[segment][offset..offset + bytes.len()].copy_from_slice(&bytes);
        self.batches.push((segment, offset, bytes.len(), batch.head.last_lsn));
        self.next = Next { epoch: batch.head.epoch, ..self.next.behind(&batch) };
    }

    fn scan(&self) -> Result<End, Damage<Infallible>> {
        self.scan_from(&self.start)
    }

    fn scan_from(&self, start: &Superblock) -> Result<End, Damage<Infallible>> {
        let mut last = start.lsn - 1;
        let read = |segment: u64, into: &mut Vec<u8>| {
            let found = segment.checked_sub(7).and_then(|at| self.segments.get(at as usize));
            let found = found.filter(|segment| !segment.is_empty());
            found.inspect(|bytes| into.clone_from(bytes));
            Ok(found.is_some())
        };
        let end = scan(start, &self.present(), read, |batch| {
            assert_eq!(batch.head.first_lsn, last + 1);
            last = batch.head.last_lsn;
            Ok(())
        })?;
        assert_eq!(end.next.lsn, last + 1);
        Ok(end)
    }

    /// The numbers of its segments; one without bytes is missing.
    fn present(&self) -> Vec<u64> {
        let there = self.segments.iter().zip(7..).filter(|(segment, _)| !segment.is_empty());
        there.map(|(_, number)| number).collect()
    }

    fn place(&self, batch: usize) -> Place {
        let (segment, offset, ..) = self.batches[batch];
        Place { segment: segment as u64 + 7, offset: offset as u64 }
    }

    /// The log with only this many batches.
    fn end_behind(&self, count: usize) -> u64 {
        count.checked_sub(1).map_or(0, |last| self.batches[last].3)
    }
}

fn log(seed: u64, batches: usize) -> Log {
    let (mut log, mut random) = (Log::new(4), Random(seed));
    (0..batches).for_each(|_| log.add(&mut random));
    log
}

#[test]
fn a_log_is_gone_through_to_its_end() {
    for (seed, count) in (1..60).zip([0, 1, 2, 5, 20, 40].into_iter().cycle()) {
        let log = log(seed, count);
        let end = log.scan().expect("nothing is damaged");
        let bytes = log.batches.iter().map(|(_, _, len, _)| *len as u64).sum();
        assert_eq!((end.batches, end.bytes, end.torn), (count as u64, bytes, None));
        let Next { segment, offset, lsn, previous, .. } = log.next;
        assert_eq!(end.next, Next { segment, offset, lsn, previous, ..end.next });
        // From any batch on, if the superblock says so.
        for (number, &(_, _, _, last_lsn)) in log.batches.iter().enumerate() {
            let Place { segment, offset } = log.place(number);
            let bytes = &log.segments[segment as usize - 7][offset as usize..];
            let (Head { first_lsn, previous, .. }, _) = Head::parse(bytes).expect("a head");
            assert!(first_lsn <= last_lsn);
            let start = Superblock { segment, offset, lsn: first_lsn, previous, ..log.start };
            assert_eq!(log.scan_from(&start).map(|end| end.batches), Ok((count - number) as u64));
        }
        assert_eq!(log.scan_from(&Superblock { segment: 3, ..log.start }), Err(Damage::NoSegment(3)));
    }
}

/// Of the last batch any subset of its 512 bytes is on disk: it is cut, unless it is whole.
#[test]
fn a_torn_tail_is_cut_and_reported() {
    let mut random = Random(0x7042);
    let (mut cut, mut silent, mut whole) = (0, 0, 0);
    for seed in 1..400 {
        let mut log = log(seed, 1 + seed as usize % 12);
        let last = log.batches.len() - 1;
        let (segment, offset, len, _) = log.batches[last];
        let at = log.place(last);
        let kept = random.below(3);
        for sector in (offset..offset + len).step_by(512) {
            // None, about half, or nearly all of them.
            if random.below(20) >= [0, 10, 19][kept] {
                log.segments[segment][sector..sector + 512].fill(0);
            }
        }
        let end = log.scan().expect("a torn tail is no damage");
        if end.next.lsn == log.next.lsn {
            whole += 1;
            continue;
        }
        assert_eq!((end.batches, end.next.lsn - 1), (last as u64, log.end_behind(last)));
        match end.torn {
            Some(torn) => {
                assert_eq!(torn.at, at);
                cut += 1;
            }
            // Nothing of its first page is there.
            None => {
                let page = &log.segments[segment][offset..offset + PAGE_BYTES];
                assert!(page.iter().all(|&byte| byte == 0), "{at:?}");
                silent += 1;
            }
        }
    }
    assert!(cut > 50 && silent > 20 && whole > 0, "{cut} {silent} {whole}");
}

/// A bit of any batch but the last one: damage, with the place of the batch. A bit of the last one: cut. A bit behind it: harmless.
#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let mut log = log(99, 9);
    let mut random = Random(0xf11);
    let last = log.batches.len() - 1;
    for number in 0..=last {
        let (segment, offset, len, _) = log.batches[number];
        for _ in 0..60 {
            // Heads and first records more often than pages.
            let byte = offset + if random.below(2) == 0 { random.below(300) } else { random.below(len) };
            let bit = random.below(8);
            log.segments[segment][byte] ^= 1 << bit;
            let (found, bad) = (log.scan(), log.place(number));
            match found {
                Err(Damage::Batch { bad: Torn { at, .. }, later }) => {
                    assert!(number < last, "{number}");
                    assert_eq!(at, bad);
                    assert_eq!(later, log.place(number + 1));
                }
                Ok(end) => {
                    assert_eq!((number, end.batches), (last, last as u64));
                    assert_eq!(end.torn.map(|torn| torn.at), Some(bad));
                }
                other => panic!("{other:?}"),
            }
            log.segments[segment][byte] ^= 1 << bit;
        }
    }
    let behind = (log.next.segment as usize - 7, log.next.offset as usize + 70);
    log.segments[behind.0][behind.1] ^= 4;
    let end = log.scan().expect("nothing is lost");
    assert_eq!((end.batches, end.torn.map(|torn| torn.why)), (9, Some(Wrong::Magic)));
}

/// The last batch of a log may be the first of its segment. It is reported as any other one.
#[test]
fn a_torn_batch_at_the_start_of_a_segment_is_reported() {
    let mut random = Random(0x5e6);
    for seed in 1..20 {
        let mut log = log(seed, 4);
        // As after a start, which goes on in a new segment.
        log.next = log.next.in_next_segment();
        log.segments.push(vec![0; SEGMENT_BYTES]);
        log.add(&mut random);
        let (segment, offset, len, _) = log.batches[4];
        assert_eq!(offset, 0);
        log.segments[segment][random.below(len)] ^= 1;
        let end = log.scan().expect("there is no later batch");
        assert_eq!((end.batches, end.torn.map(|torn| torn.at)), (4, Some(log.place(4))));
    }
}

/// Segments that are missing or cut short, wherever they are, are no end of the log.
#[test]
fn a_segment_that_is_missing_or_short_is_damage() {
    let (mut cut, mut lost) = (0, 0);
    for seed in 1..20 {
        let whole = log(seed, 40);
        let used = whole.batches.last().map_or(0, |&(segment, ..)| segment);
        for number in 0..used {
            let mut log = log(seed, 40);
            log.segments[number].clear();
            match log.scan() {
                Err(Damage::NoSegment(7)) if number == 0 => {}
                Err(Damage::Batch { bad, later }) => {
                    assert!((bad.at.segment as usize) < number + 7 && later.segment as usize > number + 7);
                    lost += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        for number in 0..=used {
            let mut log = log(seed, 40);
            log.segments[number].truncate(SEGMENT_BYTES / 2);
            let (segment, bytes) = (number as u64 + 7, SEGMENT_BYTES as u64 / 2);
            assert_eq!(log.scan(), Err(Damage::Length { segment, bytes }));
            cut += 1;
        }
    }
    assert!(cut > 20 && lost > 20, "{cut} {lost}");
}

/// A start cuts a torn batch and writes others over it. What is left of it, and of batches that the earlier start wrote
/// elsewhere, never counts again.
#[test]
fn what_an_earlier_start_left_behind_does_not_count() {
    let mut random = Random(0x57a1e);
    for seed in 1..100 {
        let mut log = log(seed, 6);
        let last = log.batches.len() - 1;
        let (segment, offset, ..) = log.batches[last];
        // The last but one was whole; of the last one a later part is on disk, but not its head.
        log.segments[segment][offset..offset + 512].fill(0xee);
        let end = log.scan().expect("a torn tail is no damage");
        assert_eq!(end.batches, last as u64);
        log.start.epoch += 1;
        log.batches.truncate(last);
        log.next = Next { epoch_max: log.start.epoch, ..end.next };
        log.add(&mut random);
        let end = log.scan().expect("the old batch is gone");
        assert_eq!((end.batches, end.next.lsn, end.next.epoch), (last as u64 + 1, log.next.lsn, 5));
        // A batch of the earlier start that would fit the numbers, behind that of the later one.
        let mut stale = Log { segments: log.segments.clone(), batches: Vec::new(), ..log };
        stale.next = Next { epoch_max: 4, ..stale.next };
        stale.add(&mut random);
        assert_eq!(stale.scan().map(|end| end.next.lsn), Ok(end.next.lsn));
    }
}

/// A start cuts a torn batch and goes on in a new segment. Then the torn batch becomes whole: the kernel has ended a write of
/// the process before. What the later process wrote counts.
#[test]
fn a_batch_that_becomes_whole_after_it_was_cut_does_not_count() {
    let mut random = Random(0x1a7e);
    for seed in 1..30 {
        let mut log = log(seed, 5);
        let last = log.batches.len() - 1;
        let (segment, offset, len, _) = log.batches[last];
        if offset == 0 {
            // The start makes a new file for this segment, so the late write goes to one that has no name.
            continue;
        }
        let late = log.segments[segment][offset..offset + len].to_vec();
        log.segments[segment][offset..offset + len].fill(0);
        let end = log.scan().expect("it is not there");
        log.start.epoch += 1;
        log.batches.truncate(last);
        log.next = Next { epoch_max: log.start.epoch, ..end.next.in_next_segment() };
        (0..3).for_each(|_| log.add(&mut random));
        log.segments[segment][offset..offset + len].copy_from_slice(&late);
        let end = log.scan().expect("nothing is damaged");
        assert_eq!((end.batches, end.next.lsn), (last as u64 + 3, log.next.lsn), "seed {seed}");
    }
}

#[test]
fn what_a_batch_says_may_be_refused() {
    let log = log(5, 4);
    let read = |limit: u64| {
        let segments = &log.segments;
        move |segment: u64, into: &mut Vec<u8>| {
            into.clone_from(&segments[segment as usize - 7]);
            if segment > limit { Err("no memory") } else { Ok(true) }
        }
    };
    let mut count = 0;
    let present = log.present();
    let ended = scan(&log.start, &present, read(8), |_| {
        count += 1;
        if count == 2 { Err("two is too many") } else { Ok(()) }
    });
    assert_eq!(ended, Err(Damage::Refused(log.place(1), "two is too many")));
    let ended = scan(&log.start, &present, read(7), |_| Ok(()));
    assert_eq!(ended, Err(Damage::Refused(Place { segment: 8, offset: 0 }, "no memory")));
}
