//! A growing text as a file: a read returns what is there, and at the end it waits for the next
//! line.
//!
//! Each open has a position of its own. The last lines are kept once, for all readers together. A
//! slow reader misses whole lines; a comment line in their place says how many bytes. Closing a
//! reader frees all that it had.

use crate::fs::{Cancel, Error, Out, Outcome, Result, Token};
use crate::stats::Lines;
use slab::Slab;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Opens of one text at a time.
pub(super) const READERS_MAX: usize = 1024;
/// Reads that wait for one text at a time.
pub(super) const WAITING_MAX: usize = 4096;

/// A text that others write, and its readers.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Arc<Mutex<Lines>>,
    readers: Slab<Reader>,
    /// By their serials, which is the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    /// The end of the text when `ready` last looked, and the first serial that it has not looked at since.
    seen: u64,
    unseen: u64,
    /// Of the next token. Texts of one tree take turns.
    serial: u64,
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

/// A read that waits at the end.
#[derive(Debug)]
struct Waiting {
    token: Token,
    reader: ReaderId,
    offset: u64,
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

    /// Reads what is there; the number of bytes. What was in front of lines that are gone cannot be read again.
    fn copy(&mut self, lines: &Lines, offset: u64, mut out: Out<'_>) -> Result<u32> {
        let room = out.room();
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
        Ok(room - out.room())
    }
}

impl Tail {
    /// Readers of these lines. `serial` tells the texts of one tree apart.
    pub(super) fn new(lines: Arc<Mutex<Lines>>, serial: u64) -> Tail {
        Tail { lines, readers: Slab::new(), waiting: BTreeMap::new(), seen: 0, unseen: 0, serial }
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
        debug_assert!(self.waiting.values().all(|waiting| waiting.reader != reader), "what waits is taken back first");
    }

    /// Reads what is there, or waits.
    pub(super) fn read(&mut self, reader: ReaderId, peer: u32, offset: u64, out: Out<'_>) -> Result<Outcome<()>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut self.readers[reader];
        if out.room() == 0 || state.can_go_on(offset, lines.end()) {
            state.copy(&lines, offset, out)?;
            return Ok(Outcome::Done(()));
        }
        if self.waiting.len() == WAITING_MAX {
            return Err(Error::EAGAIN);
        }
        let token = Token { peer, serial: self.serial };
        self.serial += 2;
        self.waiting.insert(token.serial, Waiting { token, reader, offset });
        Ok(Outcome::Pending(token))
    }

    /// A read that can go on.
    #[inline]
    pub(super) fn ready(&mut self) -> Option<Token> {
        // Every turn asks, and hardly ever does anybody wait.
        if self.waiting.is_empty() { None } else { self.can_go_on() }
    }

    /// Looks at each read once for each new end of the text, however many reads can go on.
    fn can_go_on(&mut self) -> Option<Token> {
        let end = self.lines().end();
        if std::mem::replace(&mut self.seen, end) != end {
            self.unseen = 0;
        }
        let mut unseen = self.waiting.range(self.unseen..).map(|(_, waiting)| waiting);
        let found = unseen.find(|waiting| self.readers[waiting.reader].can_go_on(waiting.offset, end));
        let token = found.map(|waiting| waiting.token);
        // What is found is named until it is finished.
        self.unseen = token.map_or(self.serial, |token| token.serial);
        token
    }

    /// What a read that waited has come to.
    pub(super) fn finish(&mut self, token: Token, out: Out<'_>) -> Result<u32> {
        let waiting = self.take(token).ok_or(Error::EIO)?;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        self.readers[waiting.reader].copy(&lines, waiting.offset, out)
    }

    pub(super) fn cancel(&mut self, token: Token) -> Cancel {
        if self.take(token).is_some() { Cancel::Cancelled } else { Cancel::TooLate }
    }

    fn take(&mut self, token: Token) -> Option<Waiting> {
        self.waiting.remove(&token.serial).filter(|waiting| waiting.token == token)
    }
}
