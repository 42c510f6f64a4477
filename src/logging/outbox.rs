//! The bounded buffer of lines that wait for the descriptor, and the chunk that is being written.
//!
//! ```text
//! push -> queue -> take -> chunk -> written by the loop, or directly
//!           `- full: counted               `- failed: counted
//! ```
//! A note in front of a chunk says how many lines are missing there. Queue and chunk have half of
//! the bytes each, allocated once.
//!
//! Must not know: descriptors, times.

use super::text;
use nix::errno::Errno;

/// Bound of the note in front of a chunk: a newline, less than 50 bytes of text, a number.
const NOTE_BYTES_MAX: usize = 72;

/// Lines on their way to the descriptor. It is not changed while an operation in flight names its
/// memory.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    written: usize,
    /// Offset of the first line, behind the note.
    lines_at: usize,
    /// Number of missing lines that the note tells.
    noted: u64,
    /// The bytes before it on the descriptor end in the middle of a line.
    behind_cut: bool,
}

impl Chunk {
    /// The bytes that are not written yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// `n` more bytes were written.
    pub fn advance(&mut self, n: usize) {
        self.written += n;
        assert!(self.written <= self.bytes.len(), "no more is written than was offered");
    }

    /// All of it was written.
    pub fn is_done(&self) -> bool {
        self.rest().is_empty()
    }

    /// Lines that are not written to their end. A line of which only the newline is missing counts
    /// as written: the next chunk begins with a newline then.
    fn lines_left(&self) -> u64 {
        let from = self.written.max(self.lines_at);
        let only_newline =
            from > self.lines_at && self.bytes[from - 1] != b'\n' && self.bytes.get(from) == Some(&b'\n');
        count_lines(&self.bytes[from..]) - u64::from(only_newline)
    }

    /// The number in the note, if the note is not written.
    fn noted_left(&self) -> u64 {
        if self.written + 1 < self.lines_at { self.noted } else { 0 }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

pub(super) struct Outbox {
    queue: Vec<u8>,
    /// Bytes of the queue, and of a chunk.
    part_bytes: usize,
    /// Numbers of lines that are missing before the queue, and behind it.
    before: u64,
    behind: u64,
    /// The written bytes end in the middle of a line.
    is_cut: bool,
    /// The last write has failed.
    has_failed: bool,
    /// Since the start.
    dropped: u64,
    /// Of direct writes.
    chunk: Chunk,
}

impl Outbox {
    /// A buffer of `bytes_max` bytes: one half for the queue, one for the chunk.
    pub(super) fn new(bytes_max: usize) -> Outbox {
        let part_bytes = bytes_max / 2;
        assert!(part_bytes > NOTE_BYTES_MAX, "a note and a line have room");
        Outbox {
            queue: Vec::new(),
            part_bytes,
            before: 0,
            behind: 0,
            is_cut: false,
            has_failed: false,
            dropped: 0,
            chunk: Chunk::default(),
        }
    }

    /// Adds a line, or counts it if there is no room. After that no line is added until the queue
    /// is taken, so that the missing lines are in one place.
    pub(super) fn push(&mut self, line: &[u8]) {
        if self.behind > 0 || self.queue.len() + line.len() + 1 > self.part_bytes - NOTE_BYTES_MAX {
            self.behind += 1;
            self.dropped += 1;
            return;
        }
        self.queue.reserve_exact(self.part_bytes - self.queue.len());
        self.queue.extend_from_slice(line);
        self.queue.push(b'\n');
    }

    /// There is something to write. A note alone is not written to a descriptor that has failed.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || self.before > 0 && !self.has_failed
    }

    /// Moves the queue into a chunk that is done. False if nothing waits.
    pub(super) fn take(&mut self, chunk: &mut Chunk) -> bool {
        debug_assert!(chunk.is_done(), "one chunk after the other");
        if !self.is_waiting() {
            return false;
        }
        let Chunk { bytes, .. } = chunk;
        bytes.clear();
        bytes.reserve_exact(self.part_bytes);
        if self.is_cut {
            bytes.push(b'\n');
        }
        if self.before > 0 {
            bytes.extend_from_slice(text::dropped(self.before).as_bytes());
            bytes.push(b'\n');
        }
        (chunk.written, chunk.lines_at) = (0, bytes.len());
        (chunk.noted, chunk.behind_cut) = (self.before, self.is_cut);
        bytes.append(&mut self.queue);
        self.before = std::mem::take(&mut self.behind);
        true
    }

    /// A chunk was written to its end.
    pub(super) fn written(&mut self) {
        (self.is_cut, self.has_failed) = (false, false);
    }

    /// The rest of a chunk cannot be written and is dropped.
    pub(super) fn failed(&mut self, chunk: &mut Chunk) {
        let lost = chunk.lines_left();
        self.before += lost + chunk.noted_left();
        self.dropped += lost;
        self.is_cut = match chunk.written.checked_sub(1) {
            Some(last) => chunk.bytes[last] != b'\n',
            None => chunk.behind_cut,
        };
        self.has_failed = true;
        chunk.written = chunk.bytes.len();
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes of memory that the queue has.
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Writes what waits by `write`, which returns how many bytes it has written, and an error.
    pub(super) fn flush(&mut self, write: impl Fn(&[u8]) -> (usize, Option<Errno>)) {
        let mut chunk = std::mem::take(&mut self.chunk);
        while !chunk.is_done() || self.take(&mut chunk) {
            let (n, error) = write(chunk.rest());
            chunk.advance(n);
            if error.is_some() {
                self.failed(&mut chunk);
                break;
            } else if !chunk.is_done() {
                break;
            }
            self.written();
        }
        self.chunk = chunk;
    }

    /// The rest of the chunk of direct writes.
    pub(super) fn take_chunk(&mut self) -> Chunk {
        std::mem::take(&mut self.chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(outbox: &mut Outbox) -> Option<Chunk> {
        let mut chunk = Chunk::default();
        outbox.take(&mut chunk).then_some(chunk)
    }

    fn text_of(chunk: &Chunk) -> &str {
        std::str::from_utf8(chunk.rest()).expect("text")
    }

    #[test]
    fn what_finds_no_room_is_counted_and_said_when_there_is_room_again() {
        let mut outbox = Outbox::new(2 * (NOTE_BYTES_MAX + 20));
        outbox.push(b"0123456789");
        outbox.push(b"01234567890");
        outbox.push(b"");
        assert_eq!((outbox.dropped(), outbox.capacity()), (2, NOTE_BYTES_MAX + 20));
        let first = taken(&mut outbox).expect("a line waits");
        assert_eq!(text_of(&first), "0123456789\n");
        outbox.push(b"next");
        let second = taken(&mut outbox).expect("a line waits");
        assert_eq!(text_of(&second), "ring9: warn: 2 lines were dropped\nnext\n");
        assert!(taken(&mut outbox).is_none());
    }

    #[test]
    fn what_was_dropped_is_said_although_no_line_follows() {
        let mut outbox = Outbox::new(2 * (NOTE_BYTES_MAX + 4));
        (0..4).for_each(|_| outbox.push(b"abc"));
        assert_eq!(text_of(&taken(&mut outbox).expect("a line waits")), "abc\n");
        assert_eq!(text_of(&taken(&mut outbox).expect("the note waits")), "ring9: warn: 3 lines were dropped\n");
        assert!(taken(&mut outbox).is_none());
    }

    #[test]
    fn the_longest_note_and_a_full_queue_fit_a_chunk() {
        let mut outbox = Outbox::new(1000);
        outbox.before = u64::MAX;
        outbox.is_cut = true;
        while outbox.dropped() == 0 {
            outbox.push(b"");
        }
        let chunk = taken(&mut outbox).expect("lines wait");
        assert_eq!(chunk.bytes.capacity(), 500);
    }

    #[test]
    fn a_chunk_that_fails_is_counted_in_front_of_what_follows() {
        let mut outbox = Outbox::new(1000);
        ["one", "two", "three"].iter().for_each(|line| outbox.push(line.as_bytes()));
        let mut chunk = taken(&mut outbox).expect("lines wait");
        chunk.advance("one\ntw".len());
        outbox.push(b"four");
        outbox.failed(&mut chunk);
        assert_eq!((outbox.dropped(), chunk.is_done()), (2, true));
        // The line that was cut is ended, whatever fails meanwhile; and a lost note is said again.
        let mut chunk = taken(&mut outbox).expect("a line waits");
        assert_eq!(text_of(&chunk), "\nring9: warn: 2 lines were dropped\nfour\n");
        outbox.failed(&mut chunk);
        assert_eq!(outbox.dropped(), 3);
        assert!(taken(&mut outbox).is_none(), "nothing to say but that it has failed");
        outbox.push(b"five");
        let chunk = taken(&mut outbox).expect("a line waits");
        assert_eq!(text_of(&chunk), "\nring9: warn: 3 lines were dropped\nfive\n");
        outbox.written();
        outbox.push(b"six");
        let mut chunk = taken(&mut outbox).expect("a line waits");
        assert_eq!(text_of(&chunk), "six\n");
        // Only its newline is missing.
        chunk.advance("six".len());
        outbox.failed(&mut chunk);
        outbox.push(b"seven");
        assert_eq!((outbox.dropped(), text_of(&taken(&mut outbox).expect("a line waits"))), (3, "\nseven\n"));
    }

    #[test]
    fn direct_writes_go_on_where_they_were_stopped() {
        use std::cell::{Cell, RefCell};
        let (heard, room) = (RefCell::new(Vec::new()), Cell::new(6));
        let write = |bytes: &[u8]| {
            let n = bytes.len().min(room.get());
            room.set(room.get() - n);
            heard.borrow_mut().extend_from_slice(&bytes[..n]);
            (n, None)
        };
        let mut outbox = Outbox::new(1000);
        outbox.push(b"first");
        outbox.push(b"second");
        outbox.flush(write);
        outbox.push(b"third");
        room.set(9);
        outbox.flush(write);
        let rest = outbox.take_chunk();
        assert_eq!((heard.into_inner(), text_of(&rest)), (b"first\nsecond\nth".to_vec(), "ird\n"));
    }
}
