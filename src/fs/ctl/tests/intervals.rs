//! `latency.hlog`, as tools read it.

use super::*;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry, Tag};

/// The histograms of a log, by tag, read as a tool reads them.
fn parse(text: &str) -> Vec<(String, f64, f64, Histogram<u64>)> {
    let entries = IntervalLogIterator::new(text.as_bytes()).map(|entry| entry.expect("a sound log"));
    let intervals = entries.filter_map(|entry| match entry {
        LogEntry::Interval(interval) => Some(interval),
        _ => None,
    });
    intervals
        .map(|interval| {
            let bytes = base64(interval.encoded_histogram());
            let histogram = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("a sound histogram");
            let tag = interval.tag().map(|tag: Tag<'_>| tag.as_str().to_owned()).expect("each has a tag");
            (tag, interval.start_timestamp().as_secs_f64(), interval.duration().as_secs_f64(), histogram)
        })
        .collect()
}

/// RFC 4648, section 4.
fn base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |c: u8| digits.iter().position(|&digit| digit == c).map(|at| at as u32);
    let four = |four: &[u8]| {
        let bits = four.iter().fold(0, |bits, &c| bits << 6 | value(c).unwrap_or(0));
        let len = 3 - four.iter().filter(|&&c| c == b'=').count();
        bits.to_be_bytes()[1..=len].to_vec()
    };
    text.as_bytes().chunks(4).flat_map(four).collect()
}

#[test]
fn each_interval_is_a_line_per_type_that_tools_can_read() {
    let mut fixture = Fixture::new(1000);
    fixture.stats.replied(Kind::TREAD, 1);
    let file = fixture.open("latency.hlog");
    let head = done(fixture.read(file, 0, 10_000));
    let start = "#[Histogram log format version 1.3]\n#[StartTime: 1700000000.250 (seconds since epoch)]\n";
    assert!(head.starts_with(start) && head.ends_with("\"Interval_Compressed_Histogram\"\n"), "{head}");
    let op = fixture.waits(file, head.len() as u64);
    for ns in [5000, 7_000_000, u64::MAX] {
        fixture.stats.replied(Kind::TREAD, ns);
    }
    fixture.stats.replied(Kind::TWALK, 42_000);
    assert_eq!(fixture.ctl.ready(), None);
    fixture.tick(at(1));
    assert_eq!(fixture.ctl.ready(), Some(op));
    let first = fixture.finish(op, 10_000).expect("lines");
    // A second without a request has no line, and its reader waits on.
    let op = fixture.waits(file, (head.len() + first.len()) as u64);
    fixture.tick(at(2));
    assert_eq!(fixture.ctl.ready(), None);
    fixture.stats.replied(Kind::TREAD, 1_000_000);
    fixture.tick(at(4));
    assert_eq!(fixture.ctl.ready(), Some(op));
    let second = fixture.finish(op, 10_000).expect("a line");
    let found = parse(&(head + &first + &second));
    let of: Vec<_> = found.iter().map(|(tag, start, length, h)| (tag.as_str(), *start, *length, h.len())).collect();
    let began = 1_700_000_000.25;
    assert_eq!(
        of,
        [("Twalk", began, 1.0, 1), ("Tread", began, 1.0, 3), ("Tread", began + 2.0, 2.0, 1)],
        "what was before the open is in none"
    );
    let read = &found[1].3;
    assert!(read.count_between(5000, 5000) == 1 && read.count_between(6_990_000, 7_010_000) == 1);
    assert!(read.max() >= 60_000_000_000, "slower ones count as 60 s");
    assert!(first.lines().nth(1).is_some_and(|line| line.starts_with("Tag=Tread,1700000000.250,1.000,60")), "{first}");
}

#[test]
fn intervals_are_kept_for_nobody() {
    let mut fixture = Fixture::new(1000);
    fixture.stats.replied(Kind::TREAD, 1000);
    fixture.tick(at(1));
    let file = fixture.open("latency.hlog");
    let second = fixture.open("latency.hlog");
    fixture.stats.replied(Kind::TREAD, 1000);
    fixture.tick(at(2));
    fixture.close(file);
    let text = done(fixture.read(second, 0, 100_000));
    assert_eq!(parse(&text).len(), 1, "the other one reads on");
    fixture.stats.replied(Kind::TREAD, 1000);
    fixture.close(second);
    fixture.stats.replied(Kind::TREAD, 1000);
    fixture.tick(at(3));
    let third = fixture.open("latency.hlog");
    fixture.tick(at(4));
    let text = done(fixture.read(third, 0, 100_000));
    assert_eq!(parse(&text).len(), 0, "{text}");
}

/// The slowest of readers: 256 KiB of lines go by while it does not look.
#[test]
fn a_log_of_intervals_with_a_gap_can_still_be_read() {
    let mut fixture = Fixture::new(1000);
    let file = fixture.open("latency.hlog");
    let head = done(fixture.read(file, 0, 10_000));
    for second in 1..300 {
        (0..1000).for_each(|n| fixture.stats.replied(Kind::TREAD, (second * 7919 + n * n * 104_729) % 50_000_000));
        fixture.tick(at(second));
    }
    let rest = done(fixture.read(file, head.len() as u64, 1 << 20));
    let text = head + &rest;
    let found = parse(&text);
    let comment = text.lines().find(|line| line.ends_with("bytes were missed")).expect("lines were missed");
    assert!(comment.starts_with("# "), "{comment}");
    assert!(found.len() > 50 && found.len() < 298, "{} lines", found.len());
    assert!(rest.len() <= 257 << 10);
}
