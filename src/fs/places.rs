//! Places for values, for two of them and for a million alike.
//!
//! Values lie in chunks of 64 that never move, so a place costs little more than its value, and growing copies at most
//! one chunk. A chunk that has become empty gives its memory back.
//!
//! Must not know: what a value is.

/// Values of a chunk.
pub(crate) const CHUNK: usize = u64::BITS as usize;

/// Up to 64 values, each at a place that does not change.
#[derive(Debug)]
struct Chunk<T> {
    values: Vec<Option<T>>,
    /// A bit for each place that has a value.
    used: u64,
}

impl<T> Chunk<T> {
    const EMPTY: Chunk<T> = Chunk { values: Vec::new(), used: 0 };

    fn is_full(&self) -> bool {
        self.used == u64::MAX
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<Option<T>>()
    }

    /// Takes the value that came last, wherever the others are.
    fn pop(&mut self) -> Option<T> {
        let at = self.used.checked_ilog2()? as usize;
        self.take_if(at, |_| true)
    }

    /// Puts a value into the first free place of a chunk that is not full.
    #[inline(always)]
    fn put(&mut self, value: T) -> usize {
        let at = self.used.trailing_ones() as usize;
        self.used |= 1 << at;
        if at < self.values.len() {
            self.values[at] = Some(value);
            return at;
        }
        if at == self.values.capacity() {
            self.values.reserve_exact(at.max(2));
        }
        self.values.push(Some(value));
        at
    }

    #[inline(always)]
    fn take_if(&mut self, at: usize, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let value = self.values.get_mut(at)?.take_if(|value| is_it(value))?;
        self.used &= !(1 << at);
        if self.used == 0 {
            self.values = Vec::new();
        }
        Some(value)
    }
}

/// What more than a chunk of values needs.
#[derive(Debug)]
struct More<T> {
    chunks: Vec<Chunk<T>>,
    /// Those that are not full.
    roomy: Vec<u32>,
    /// Bytes of the chunks.
    chunk_bytes: usize,
}

/// Values by place. The first chunk grows; the others have room for all of their values at once.
#[derive(Debug)]
pub(crate) struct Places<T> {
    first: Chunk<T>,
    more: Option<Box<More<T>>>,
    len: usize,
}

impl<T> Default for Places<T> {
    fn default() -> Places<T> {
        Places { first: Chunk::EMPTY, more: None, len: 0 }
    }
}

impl<T> Places<T> {
    /// Bytes that a value takes.
    pub(crate) const VALUE_BYTES: usize = size_of::<Option<T>>();

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Values that the first chunk has room for. `None` if there are more chunks.
    #[inline]
    pub(crate) fn first_room(&self) -> Option<usize> {
        if self.more.is_none() { Some(self.first.values.capacity()) } else { None }
    }

    /// Bytes of memory that the values have, used or not.
    pub(crate) fn bytes(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| {
            let lists = more.chunks.capacity() * size_of::<Chunk<T>>() + more.roomy.capacity() * size_of::<u32>();
            size_of::<More<T>>() + lists + more.chunk_bytes
        });
        self.first.bytes() + more
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let chunk = if place < CHUNK { &self.first } else { self.more.as_ref()?.chunks.get(place / CHUNK - 1)? };
        chunk.values.get(place % CHUNK)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let chunk =
            if place < CHUNK { &mut self.first } else { self.more.as_mut()?.chunks.get_mut(place / CHUNK - 1)? };
        chunk.values.get_mut(place % CHUNK)?.as_mut()
    }

    /// Two values at different places.
    pub(crate) fn two_mut(&mut self, one: usize, other: usize) -> Option<(&mut T, &mut T)> {
        let Places { first, more, .. } = self;
        let (one_at, other_at) = (one % CHUNK, other % CHUNK);
        let (one, other) = match (one / CHUNK, other / CHUNK) {
            (a, b) if a == b => {
                let chunk = if a == 0 { first } else { more.as_mut()?.chunks.get_mut(a - 1)? };
                let [one, other] = chunk.values.get_disjoint_mut([one_at, other_at]).ok()?;
                (one, other)
            }
            (0, b) => (first.values.get_mut(one_at)?, more.as_mut()?.chunks.get_mut(b - 1)?.values.get_mut(other_at)?),
            (a, 0) => (more.as_mut()?.chunks.get_mut(a - 1)?.values.get_mut(one_at)?, first.values.get_mut(other_at)?),
            (a, b) => {
                let [one, other] = more.as_mut()?.chunks.get_disjoint_mut([a - 1, b - 1]).ok()?;
                (one.values.get_mut(one_at)?, other.values.get_mut(other_at)?)
            }
        };
        one.as_mut().zip(other.as_mut())
    }

    /// Puts a value into a free place.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: T) -> usize {
        self.len += 1;
        if self.first.is_full() { self.put_more(value) } else { self.first.put(value) }
    }

    #[cold]
    fn put_more(&mut self, value: T) -> usize {
        let more =
            self.more.get_or_insert_with(|| Box::new(More { chunks: Vec::new(), roomy: Vec::new(), chunk_bytes: 0 }));
        more.put(value)
    }

    #[inline]
    pub(crate) fn take(&mut self, place: usize) -> Option<T> {
        self.take_if(place, |_| true)
    }

    /// Takes a value if it is the one that is meant.
    #[inline]
    pub(crate) fn take_if(&mut self, place: usize, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let value = if place < CHUNK {
            self.first.take_if(place, is_it)
        } else {
            self.more.as_mut()?.take_if(place / CHUNK - 1, place % CHUNK, is_it)
        };
        self.len -= usize::from(value.is_some());
        value
    }

    /// Takes any value.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let popped = self.more.as_mut().and_then(|more| more.pop());
        let value = popped.or_else(|| self.first.pop())?;
        self.len -= 1;
        Some(value)
    }

    /// Gives back memory that a few values do not need.
    pub(crate) fn trim(&mut self) {
        self.more.take_if(|more| more.chunk_bytes == 0);
        if self.len <= CHUNK {
            self.first.values.shrink_to_fit();
        }
    }
}

impl<T> More<T> {
    /// Puts a value into a chunk that has room, or into a new one.
    fn put(&mut self, value: T) -> usize {
        let index = *self.roomy.last().unwrap_or(&(self.chunks.len() as u32)) as usize;
        if index == self.chunks.len() {
            self.chunks.push(Chunk::EMPTY);
            self.roomy.push(index as u32);
        }
        let chunk = &mut self.chunks[index];
        if chunk.values.capacity() == 0 {
            chunk.values.reserve_exact(CHUNK);
            self.chunk_bytes += chunk.bytes();
        }
        let at = chunk.put(value);
        if chunk.is_full() {
            self.roomy.pop();
        }
        (index + 1) * CHUNK + at
    }

    fn take_if(&mut self, index: usize, at: usize, is_it: impl FnOnce(&T) -> bool) -> Option<T> {
        let chunk = self.chunks.get_mut(index)?;
        let (was_full, before) = (chunk.is_full(), chunk.bytes());
        let value = chunk.take_if(at, is_it)?;
        self.chunk_bytes -= before - chunk.bytes();
        if was_full {
            self.roomy.push(index as u32);
        }
        Some(value)
    }

    /// Takes the last value. The chunks behind it go; those in front are then full or not as before.
    fn pop(&mut self) -> Option<T> {
        while let Some(chunk) = self.chunks.last_mut() {
            let before = chunk.bytes();
            let value = chunk.pop();
            self.chunk_bytes -= before - chunk.bytes();
            if value.is_some() {
                return value;
            }
            self.chunks.pop();
        }
        self.roomy.clear();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_where_they_are_and_empty_chunks_give_their_memory_back() {
        let mut places = Places::default();
        let all: Vec<usize> = (0..1000u32).map(|value| places.put(value)).collect();
        for (value, &place) in all.iter().enumerate() {
            assert_eq!(places.get(place), Some(&(value as u32)));
        }
        // Every third stays.
        for (value, &place) in all.iter().enumerate().filter(|(value, _)| value % 3 != 0) {
            assert_eq!(places.take(place), Some(value as u32));
            assert_eq!(places.get(place), None);
            assert_eq!(places.take(place), None);
        }
        let again: Vec<usize> = (0..666u32).map(|value| places.put(5000 + value)).collect();
        assert!(again.iter().all(|place| all.contains(place)), "free places are used first");
        for place in again.into_iter().chain(all.iter().step_by(3).copied()) {
            assert!(places.take(place).is_some());
        }
        places.trim();
        assert_eq!((places.len(), places.bytes()), (0, 0));
    }

    /// The sum is that of what is there.
    fn check<T>(places: &Places<T>) {
        let more = places.more.as_ref().expect("more than a chunk of values");
        assert_eq!(more.chunk_bytes, more.chunks.iter().map(Chunk::bytes).sum::<usize>());
    }

    #[test]
    fn memory_is_counted_as_values_come_and_go() {
        const COUNT: usize = 10_000;
        let mut places = Places::default();
        (0..COUNT).for_each(|value| assert_eq!(places.put([value; 10]), value));
        check(&places);
        let most = places.bytes();
        for round in 0..10 {
            // Half of the places of each chunk become free, and have values again.
            (0..COUNT).filter(|place| place % 2 == round % 2).for_each(|place| assert!(places.take(place).is_some()));
            check(&places);
            (0..COUNT).filter(|place| place % 2 == round % 2).for_each(|place| {
                places.put([place; 10]);
            });
            check(&places);
            assert!(places.bytes() < most + most / 10, "{} bytes, {most} at first", places.bytes());
        }
        for left in (0..COUNT).rev() {
            assert!(places.pop().is_some());
            check(&places);
            assert_eq!(places.len(), left);
        }
        assert!(places.pop().is_none());
        let chunk_bytes = places.more.as_ref().map(|more| more.chunk_bytes);
        assert_eq!((places.first.bytes(), chunk_bytes), (0, Some(0)));
    }

    #[test]
    fn two_values_are_lent_at_once_wherever_they_are() {
        let mut places = Places::default();
        let all: Vec<usize> = (0..200u32).map(|value| places.put(value)).collect();
        for (one, other) in [(0, 1), (3, 100), (150, 3), (70, 71), (70, 199)] {
            let found = places.two_mut(all[one], all[other]).map(|(one, other)| (*one, *other));
            assert_eq!(found, Some((one as u32, other as u32)));
        }
        assert_eq!(places.two_mut(5, 5), None);
    }
}
