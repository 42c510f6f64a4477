//! A growing text as a file: a read returns what is there, and at the end it waits for the next
//! line.
//!
//! Each open has a position of its own. The last lines are kept once, for all readers together. A
//! slow reader misses whole lines; a comment line in their place says how many bytes. Closing a
//! reader frees all that it had.

use crate::fs::{Error, Out, Result};
use crate::stats::Lines;
use slab::Slab;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Opens of one text at a time.
pub(super) const READERS_MAX: usize = 1024;

/// A text that others write, and its readers.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Arc<Mutex<Lines>>,
    readers: Slab<Reader>,
}

/// Number of an open.
pub(super) type ReaderId = usize;

/// An open: `head` stands at offset `head_at` of the file, and behind it the text from its place `next` on.
#[derive(Debug)]
struct Reader {
    head: Box<[u8]>,
    head_at: u64,
    next: u64,
    /// The last byte that was read did not end a line.
    cut: bool,
}

impl Reader {
    /// The place in the text that is at this offset. `None` in the head.
    fn place(&self, offset: u64) -> Option<u64> {
        let behind = offset.checked_sub(self.head_at)?.checked_sub(self.head.len() as u64)?;
        Some(self.next.saturating_add(behind))
    }

    /// Whether a read there would answer at once.
    fn can_go_on(&self, offset: u64, end: u64) -> bool {
        self.place(offset).is_none_or(|place| place < end)
    }

    /// Reads what is there. What was in front of lines that are gone cannot be read again.
    fn copy(&mut self, lines: &Lines, offset: u64, mut out: Out<'_>) -> Result<()> {
        if let Some(lost) = self.place(offset).and_then(|place| lines.start().checked_sub(place)).filter(|&n| n > 0) {
            let cut = if self.cut { "\n" } else { "" };
            self.head = format!("{cut}# {lost} bytes were missed\n").into_bytes().into();
            (self.head_at, self.next) = (offset, lines.start());
        }
        let in_head = offset.checked_sub(self.head_at).ok_or(Error::EINVAL)?;
        let head = usize::try_from(in_head).ok().and_then(|at| self.head.get(at..)).unwrap_or_default();
        let [front, back] = lines.from(self.place(offset).unwrap_or(self.next));
        for part in [head, front, back] {
            let part = &part[..part.len().min(out.room() as usize)];
            if let Some(&last) = part.last() {
                self.cut = last != b'\n';
            }
            out.bytes(part);
        }
        Ok(())
    }
}

impl Tail {
    /// Readers of these lines.
    pub(super) fn new(lines: Arc<Mutex<Lines>>) -> Tail {
        Tail { lines, readers: Slab::new() }
    }

    /// The lines. Whoever panicked with them in hand has left them whole enough to be shown.
    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens of this text.
    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// A new reader, who sees `head` and then the text from its place `next` on.
    pub(super) fn open(&mut self, head: Box<[u8]>, next: u64) -> Result<ReaderId> {
        if self.readers.len() == READERS_MAX {
            return Err(Error::ENFILE);
        }
        Ok(self.readers.insert(Reader { head, head_at: 0, next, cut: false }))
    }

    pub(super) fn close(&mut self, reader: ReaderId) {
        self.readers.remove(reader);
    }

    /// Reads what is there.
    pub(super) fn read(&mut self, reader: ReaderId, offset: u64, out: Out<'_>) -> Result<()> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        self.readers[reader].copy(&lines, offset, out)
    }

    /// Whether there is nothing to read there yet.
    pub(super) fn waits(&self, reader: ReaderId, offset: u64) -> bool {
        !self.readers[reader].can_go_on(offset, self.end())
    }

    /// The end of the text.
    pub(super) fn end(&self) -> u64 {
        self.lines().end()
    }
}
