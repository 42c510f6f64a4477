//! A list of views into memory: what replies are made of.
//!
//! The series' rule: a view may only be narrowed, an Iovec only grows by concatenation. Here a view is a pinned slice of the arena, or a
//! range of the Iovec's own small buffer, in which heads, directory entries and other short texts lie.
//!
//! ```text
//! small buffer:  [Rread head][Rstat .......][Rread head]
//! parts:          Small(0..11) Slice Slice   Small(11..90)      neighbouring small ranges are one part
//! ```
//! Must not know: messages, sockets.

use crate::arena::Slice;
use bytes::BytesMut;
use std::ops::Range;

/// One view.
#[derive(Debug)]
pub enum Part {
    /// Bytes of the small buffer.
    Small(Range<usize>),
    /// Pinned bytes of the arena.
    Slice(Slice),
}

/// Bytes to send, in order. Owns what it shows: `'static` and `Send`.
#[derive(Debug, Default)]
pub struct Iovec {
    small: BytesMut,
    parts: Vec<Part>,
    len: usize,
}

/// A place in an [`Iovec`] to fall back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    small: usize,
    parts: usize,
    last_small_end: usize,
    len: usize,
}

impl Iovec {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all views, which unpins them, and keeps the memory of the lists.
    pub fn clear(&mut self) {
        self.small.clear();
        self.parts.clear();
        self.len = 0;
    }

    /// Bytes of memory that the lists have.
    pub fn capacity_bytes(&self) -> usize {
        self.small.capacity() + self.parts.capacity() * size_of::<Part>()
    }

    /// The views, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The views, to be drained as they are sent.
    pub fn parts_mut(&mut self) -> &mut Vec<Part> {
        &mut self.parts
    }

    /// The bytes behind [`Part::Small`].
    pub fn small(&self) -> &[u8] {
        &self.small
    }

    /// The bytes of one view of this Iovec.
    pub fn bytes<'a>(&'a self, part: &'a Part) -> &'a [u8] {
        match part {
            Part::Small(range) => &self.small[range.clone()],
            Part::Slice(slice) => slice,
        }
    }

    /// Appends `size` small bytes. They are zero until the caller writes to them.
    #[inline(always)]
    pub fn put_small(&mut self, size: usize) -> &mut [u8] {
        let start = self.small.len();
        self.small.resize(start + size, 0);
        self.note_small(start);
        &mut self.small[start..]
    }

    /// Appends a copy of small bytes.
    #[inline(always)]
    pub fn put_copy(&mut self, bytes: &[u8]) {
        let start = self.small.len();
        self.small.extend_from_slice(bytes);
        self.note_small(start);
    }

    /// Appends a copy of bytes to an empty list, in memory that is aligned to `align` bytes, a power of two.
    pub fn put_aligned(&mut self, bytes: &[u8], align: usize) {
        assert!(self.is_empty(), "nothing else moves these bytes");
        self.small = BytesMut::with_capacity(bytes.len() + align);
        let start = self.small.as_ptr().align_offset(align);
        self.small.resize(start, 0);
        self.small.extend_from_slice(bytes);
        self.parts.push(Part::Small(start..start + bytes.len()));
        self.len = bytes.len();
    }

    /// The small bytes from `start` on are new.
    #[inline(always)]
    fn note_small(&mut self, start: usize) {
        let end = self.small.len();
        self.len += end - start;
        match self.parts.last_mut() {
            Some(Part::Small(range)) if range.end == start => range.end = end,
            _ if start == end => {}
            _ => self.parts.push(Part::Small(start..end)),
        }
    }

    /// Appends a pinned slice.
    pub fn put_slice(&mut self, slice: Slice) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.parts.push(Part::Slice(slice));
        }
    }

    /// Here; for [`rollback`](Self::rollback) and [`patch`](Self::patch).
    pub fn mark(&self) -> Mark {
        Mark {
            small: self.small.len(),
            parts: self.parts.len(),
            last_small_end: match self.parts.last() {
                Some(Part::Small(range)) => range.end,
                _ => 0,
            },
            len: self.len,
        }
    }

    /// Bytes appended since `mark`.
    pub fn since(&self, mark: Mark) -> usize {
        self.len - mark.len
    }

    /// Forgets what was appended since `mark`.
    pub fn rollback(&mut self, mark: Mark) {
        self.parts.truncate(mark.parts);
        if let Some(Part::Small(range)) = self.parts.last_mut() {
            range.end = mark.last_small_end;
        }
        self.small.truncate(mark.small);
        self.len = mark.len;
    }

    /// Removes the last `bytes` small bytes. One call has appended all of them.
    #[inline]
    pub fn cut(&mut self, bytes: usize) {
        if bytes > 0
            && let Some(Part::Small(range)) = self.parts.last_mut()
        {
            range.end -= bytes;
            self.small.truncate(self.small.len() - bytes);
            self.len -= bytes;
        }
    }

    /// Takes what was appended since `mark`.
    pub fn split_off(&mut self, mark: Mark) -> Iovec {
        // A copy: two halves of one allocation would keep each other.
        let small = BytesMut::from(&self.small[mark.small..]);
        self.small.truncate(mark.small);
        let mut rest = Iovec { small, parts: Vec::new(), len: self.len - mark.len };
        // The part at the mark may have grown since.
        let grown = match self.parts[..mark.parts].last() {
            Some(Part::Small(range)) if range.end > mark.last_small_end => Some(mark.last_small_end..range.end),
            _ => None,
        };
        let moved = self.parts.drain(mark.parts..);
        rest.parts.extend(grown.map(Part::Small).into_iter().chain(moved).map(|part| match part {
            Part::Small(range) => Part::Small(range.start - mark.small..range.end - mark.small),
            slice => slice,
        }));
        if let Some(Part::Small(range)) = self.parts.last_mut() {
            range.end = range.end.min(mark.last_small_end);
        }
        self.len = mark.len;
        rest
    }

    /// Appends all of another one.
    pub fn append(&mut self, other: Iovec) {
        let start = self.small.len();
        self.small.extend_from_slice(&other.small);
        self.len += other.len;
        self.parts.extend(other.parts.into_iter().map(|part| match part {
            Part::Small(range) => Part::Small(start + range.start..start + range.end),
            slice => slice,
        }));
    }

    /// The small bytes that were appended after `mark`, to be overwritten.
    #[inline]
    pub fn patch(&mut self, mark: Mark) -> &mut [u8] {
        &mut self.small[mark.small..]
    }

    /// Lets a tree append at most `room` bytes.
    pub fn out(&mut self, room: u32) -> Out<'_> {
        Out { iovec: self, room }
    }

    /// A copy of all bytes in one piece; for tests and traces.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        for part in &self.parts {
            all.extend_from_slice(self.bytes(part));
        }
        all
    }
}

/// An [`Iovec`] as a tree sees it: it can only be appended to, and not beyond what was asked for.
#[derive(Debug)]
pub struct Out<'a> {
    iovec: &'a mut Iovec,
    room: u32,
}

impl Out<'_> {
    /// Bytes that may still be appended.
    pub fn room(&self) -> u32 {
        self.room
    }

    /// No more than this may be appended from now on.
    pub fn limit(&mut self, room: u32) {
        self.room = self.room.min(room);
    }

    /// Appends a pinned slice, narrowed to the room.
    pub fn slice(&mut self, mut slice: Slice) {
        slice.narrow(0..slice.len().min(self.room as usize));
        self.room -= slice.len() as u32;
        self.iovec.put_slice(slice);
    }

    /// Appends a copy of short bytes, cut to the room.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.room as usize)];
        self.room -= bytes.len() as u32;
        self.iovec.put_copy(bytes);
    }

    /// Appends a copy of what `text` has from `offset` on, cut to the room: all that a file with this text answers to a read there.
    pub fn bytes_from(&mut self, text: &[u8], offset: u64) {
        let rest = usize::try_from(offset).ok().and_then(|offset| text.get(offset..));
        self.bytes(rest.unwrap_or_default());
    }

    /// Fills all of the room with bytes that are made in place.
    pub fn fill(&mut self, make: impl FnOnce(&mut [u8])) {
        let len = std::mem::take(&mut self.room) as usize;
        make(self.iovec.put_small(len));
    }
}
