//! Any bytes as a frame, as records and as a line of text: what is accepted comes out as it went in.
//!
//! The first byte says which dialect, and what the rest is.

use bytes::BytesMut;
use ring9::wire::{Data, Dialect, DirEntry, Error, HEAD, Kind, Message, Stat, Tag, head};

/// Of the first byte: the rest is a line of text.
const TEXT: u8 = 0x04;
/// Of the first byte: the size field stays as it is. Otherwise it is made to fit, or hardly an input would pass the first check.
const OWN_SIZE: u8 = 0x08;
/// Bytes of a payload that its line shows.
const SHOWN: usize = 32;

/// The dialect that a byte stands for.
pub fn dialect_of(byte: u8) -> Dialect {
    [Dialect::P9, Dialect::U, Dialect::L][usize::from(byte & 3) % 3]
}

/// The byte of a dialect.
pub fn byte_of(dialect: Dialect) -> u8 {
    match dialect {
        Dialect::P9 => 0,
        Dialect::U => 1,
        Dialect::L => 2,
    }
}

/// Tries one input.
pub fn check(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let dialect = dialect_of(first);
    if first & TEXT != 0 {
        if let Ok(line) = std::str::from_utf8(rest) {
            check_text(line, dialect);
        }
        return;
    }
    check_records(rest, dialect);
    let mut frame = rest.to_vec();
    if first & OWN_SIZE == 0 && frame.len() >= HEAD {
        let size = u32::try_from(frame.len()).expect("inputs are small");
        frame[..4].copy_from_slice(&size.to_le_bytes());
    }
    if let Ok((tag, message)) = Message::parse(&frame, dialect) {
        check_message(&frame, tag, &message, dialect);
    }
    check_prefix(&frame, usize::from(first >> 4), dialect);
}

/// Parse, emit and size agree, and so does the line.
fn check_message(frame: &[u8], tag: Tag, message: &Message<'_>, dialect: Dialect) {
    let once = emitted(tag, message, dialect);
    assert_eq!(once.len(), message.size(dialect), "size() of {message:?}");
    let (same_tag, same) = Message::parse(&once, dialect).expect("what was emitted is a message");
    assert_eq!((same_tag, &same), (tag, message), "parse, emit, parse");
    assert_eq!(emitted(tag, &same, dialect), once, "emit, parse, emit");
    // Its last field may be left out.
    if message.kind() != Kind::TFSYNC {
        assert_eq!(once, frame, "there is one way to write {message:?}");
    }
    let shown = match message {
        Message::Rreaddir { data } | Message::Rread { data } | Message::Twrite { data, .. } => data.len(),
        _ => 0,
    };
    let line = message.line(tag, dialect).to_string();
    if shown <= SHOWN {
        let back = Message::frame_of(&line, dialect).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(back, once, "{line}");
    }
}

/// The front of a frame is a message only where nothing but payload is missing, and then the same one.
fn check_prefix(frame: &[u8], cut: usize, dialect: Dialect) {
    let whole = Message::parse(frame, dialect);
    for cut in [HEAD + cut, HEAD + 16 + cut, frame.len().saturating_sub(1)] {
        let Some(prefix) = frame.get(..cut).filter(|prefix| prefix.len() < frame.len()) else { continue };
        let is_whole = head(prefix).is_some_and(|head| head.size as usize == prefix.len());
        assert!(is_whole || Message::parse(prefix, dialect).is_err(), "a part of a frame is none");
        let front = Message::parse_head(prefix, dialect);
        let Ok((tag, message)) = whole else { continue };
        match (front, payload(&message)) {
            (Ok((same_tag, same)), Some(count)) => {
                assert_eq!((same_tag, same.kind(), payload(&same)), (tag, message.kind(), Some(count)));
                let head = emitted(tag, &same, dialect);
                assert!(frame.starts_with(&head) && head.len() == frame.len() - count, "the head of {message:?}");
                assert!(cut >= head.len(), "no payload is away before its count has come");
            }
            (Ok(_), None) => panic!("{message:?} has no payload, and a part of it is a message"),
            (Err(error), Some(count)) => assert!(cut < frame.len() - count, "{error} although only payload is missing"),
            (Err(error), None) => assert_eq!(error, Error::Short, "{message:?}"),
        }
    }
}

fn payload(message: &Message<'_>) -> Option<usize> {
    match message {
        Message::Rreaddir { data } | Message::Rread { data } | Message::Twrite { data, .. } => Some(Data::len(data)),
        _ => None,
    }
}

/// The same bytes as a listing.
fn check_records(bytes: &[u8], dialect: Dialect) {
    let mut rest = bytes;
    while let Ok((stat, next)) = Stat::parse(rest, dialect) {
        let mut once = BytesMut::new();
        stat.emit(dialect, &mut once);
        assert_eq!((&once[..], stat.size(dialect)), (&rest[..rest.len() - next.len()], once.len()), "{stat:?}");
        rest = next;
    }
    rest = bytes;
    while let Ok((entry, next)) = DirEntry::parse(rest) {
        let mut once = BytesMut::new();
        entry.emit(&mut once);
        assert_eq!((&once[..], entry.size()), (&rest[..rest.len() - next.len()], once.len()), "{entry:?}");
        rest = next;
    }
}

/// A line is a frame or an error. If the frame is a message, its line leads back to it.
fn check_text(line: &str, dialect: Dialect) {
    let Ok(frame) = Message::frame_of(line, dialect) else { return };
    // A line can say what no message may: a NUL in a name, 17 names.
    if let Ok((tag, message)) = Message::parse(&frame, dialect) {
        check_message(&frame, tag, &message, dialect);
    }
}

fn emitted(tag: Tag, message: &Message<'_>, dialect: Dialect) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.emit(tag, dialect, &mut bytes);
    bytes
}
