//! Places for fids: numbers to values, for two of them and for a million alike.
//!
//! ```text
//! number -> index: one table, or 1,024 -> place -> chunk of 64 values
//! ```
//! Values lie in chunks that never move, so a place costs little more than its value, and growing copies at most one chunk or
//! one small table. A table that holds a million values by itself would be half empty at worst, and move all of them at once.
//!
//! Must not know: what a value is.

use crate::wire::Fid;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// Values of a chunk.
const CHUNK: usize = u64::BITS as usize;
/// Numbers beyond which there are many tables: what growing a table moves at once is no more than this.
const TABLE_MAX: usize = 4096;
/// Tables of the index of many numbers: of a million, each has a thousand.
const TABLES: usize = 1024;
/// Bytes of an entry of a table: a number, a place and the table's own mark.
const ENTRY_BYTES: usize = size_of::<(Fid, Place)>() + 1;

type Place = u32;
type Table = HashMap<Fid, Place, Key>;

/// Up to 64 values, each at a place that does not change.
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

    /// Puts a value into the first free place of a chunk that is not full.
    #[inline]
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
    fn take(&mut self, at: usize) -> Option<T> {
        let value = self.values[at].take()?;
        self.used &= !(1 << at);
        if self.used == 0 {
            self.values = Vec::new();
        }
        Some(value)
    }

    /// The value that came last, wherever the others are.
    fn pop(&mut self) -> Option<T> {
        let at = self.used.checked_ilog2()? as usize;
        self.take(at)
    }
}

/// What more than a chunk of values needs.
struct Many<T> {
    /// Those behind the first one.
    chunks: Vec<Chunk<T>>,
    /// Chunks of these that are not full.
    roomy: Vec<u32>,
    /// Bytes of the chunks.
    chunk_bytes: usize,
    /// The index, where one table would be too long; else empty.
    tables: Vec<Table>,
    /// Bytes of the tables.
    table_bytes: usize,
}

/// Values by number.
pub(super) struct Store<T> {
    table: Table,
    first: Chunk<T>,
    many: Option<Box<Many<T>>>,
    len: usize,
}

impl<T> Store<T> {
    pub(super) fn new(hash_key: u64) -> Store<T> {
        Store { table: Table::with_hasher(Key(hash_key | 1)), first: Chunk::EMPTY, many: None, len: 0 }
    }

    /// One without values and the same key.
    pub(super) fn fresh(&self) -> Store<T> {
        Store::new(self.table.hasher().0)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it has, used or not.
    pub(super) fn bytes(&self) -> usize {
        let many = self.many.as_ref().map_or(0, |many| {
            let lists = many.chunks.capacity() * size_of::<Chunk<T>>() + many.roomy.capacity() * size_of::<u32>();
            size_of::<Many<T>>() + lists + many.chunk_bytes + many.table_bytes
        });
        table_bytes(&self.table) + self.first.bytes() + many
    }

    fn place(&self, fid: Fid) -> Option<usize> {
        let table = match self.many.as_deref() {
            Some(Many { tables, .. }) if !tables.is_empty() => &tables[number_of_table(&self.table, fid)],
            _ => &self.table,
        };
        table.get(&fid).map(|&place| place as usize)
    }

    pub(super) fn has(&self, fid: Fid) -> bool {
        self.place(fid).is_some()
    }

    pub(super) fn get(&self, fid: Fid) -> Option<&T> {
        let place = self.place(fid)?;
        match place / CHUNK {
            0 => self.first.values[place].as_ref(),
            chunk => self.many.as_ref()?.chunks[chunk - 1].values[place % CHUNK].as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, fid: Fid) -> Option<&mut T> {
        let place = self.place(fid)?;
        match place / CHUNK {
            0 => self.first.values[place].as_mut(),
            chunk => self.many.as_mut()?.chunks[chunk - 1].values[place % CHUNK].as_mut(),
        }
    }

    /// Two values of different numbers.
    pub(super) fn two_mut(&mut self, one: Fid, other: Fid) -> Option<(&mut T, &mut T)> {
        let (one, other) = (self.place(one)?, self.place(other)?);
        let Store { first, many, .. } = self;
        let (one_at, other_at) = (one % CHUNK, other % CHUNK);
        let (one, other) = match (one / CHUNK, other / CHUNK) {
            (a, b) if a == b => {
                let chunk = if a == 0 { first } else { &mut many.as_mut()?.chunks[a - 1] };
                chunk.values.get_disjoint_mut([one_at, other_at]).ok()?.into()
            }
            (0, b) => (&mut first.values[one_at], &mut many.as_mut()?.chunks[b - 1].values[other_at]),
            (a, 0) => (&mut many.as_mut()?.chunks[a - 1].values[one_at], &mut first.values[other_at]),
            (a, b) => {
                let [one, other] = many.as_mut()?.chunks.get_disjoint_mut([a - 1, b - 1]).ok()?;
                (&mut one.values[one_at], &mut other.values[other_at])
            }
        };
        one.as_mut().zip(other.as_mut())
    }

    /// Puts a value under a number that has none.
    pub(super) fn put(&mut self, fid: Fid, value: T) {
        debug_assert!(!self.has(fid), "the number is free");
        let place = if self.first.is_full() {
            self.many.get_or_insert_with(Many::boxed).put(value)
        } else {
            self.first.put(value) as Place
        };
        self.len += 1;
        if self.len > TABLE_MAX {
            let many = self.many.get_or_insert_with(Many::boxed);
            if many.tables.is_empty() {
                many.split(&mut self.table);
            }
            many.note(number_of_table(&self.table, fid), |table| table.insert(fid, place));
        } else {
            match self.many.as_deref_mut().filter(|many| !many.tables.is_empty()) {
                Some(many) => many.note(number_of_table(&self.table, fid), |table| table.insert(fid, place)),
                None => {
                    self.table.insert(fid, place);
                }
            }
        }
    }

    #[inline]
    pub(super) fn take(&mut self, fid: Fid) -> Option<T> {
        let place = match self.many.as_deref_mut().filter(|many| !many.tables.is_empty()) {
            Some(many) => {
                let mut place = None;
                many.note(number_of_table(&self.table, fid), |table| {
                    place = table.remove(&fid);
                    // No more moves at once than when it grows.
                    if table.len() * 4 < table.capacity() {
                        table.shrink_to(table.len() * 2);
                    }
                });
                place?
            }
            None => self.table.remove(&fid)?,
        } as usize;
        self.len -= 1;
        match place / CHUNK {
            0 => self.first.take(place),
            chunk => self.many.as_mut()?.take(chunk - 1, place % CHUNK),
        }
    }

    /// The number that is the least. Looks at all of them.
    pub(super) fn least(&self) -> Option<Fid> {
        let tables = self.many.iter().flat_map(|many| &many.tables);
        tables.chain([&self.table]).flat_map(Table::keys).copied().min()
    }

    /// Takes any value. Numbers lead nowhere from then on.
    pub(super) fn pop(&mut self) -> Option<T> {
        let popped = self.many.as_mut().and_then(|many| many.pop());
        let value = popped.or_else(|| self.first.pop())?;
        self.len -= 1;
        Some(value)
    }

    /// Gives back memory that a few values do not need.
    pub(super) fn trim(&mut self) {
        if let Some(many) = self.many.take_if(|many| many.chunk_bytes == 0) {
            self.table.extend(many.tables.into_iter().flatten());
        }
        if self.len <= CHUNK {
            self.table.shrink_to_fit();
            self.first.values.shrink_to_fit();
        }
    }
}

impl<T> Many<T> {
    fn boxed() -> Box<Many<T>> {
        Box::new(Many { chunks: Vec::new(), roomy: Vec::new(), chunk_bytes: 0, tables: Vec::new(), table_bytes: 0 })
    }

    /// Puts a value into a chunk that has room, or into a new one.
    fn put(&mut self, value: T) -> Place {
        let index = *self.roomy.last().unwrap_or(&(self.chunks.len() as u32));
        if index as usize == self.chunks.len() {
            self.chunks.push(Chunk::EMPTY);
            self.roomy.push(index);
        }
        let chunk = &mut self.chunks[index as usize];
        if chunk.values.capacity() == 0 {
            chunk.values.reserve_exact(CHUNK);
            self.chunk_bytes += chunk.bytes();
        }
        let at = chunk.put(value);
        if chunk.is_full() {
            self.roomy.pop();
        }
        (index + 1) * CHUNK as u32 + at as u32
    }

    fn take(&mut self, index: usize, at: usize) -> Option<T> {
        let chunk = &mut self.chunks[index];
        let (was_full, before) = (chunk.is_full(), chunk.bytes());
        let value = chunk.take(at);
        self.chunk_bytes -= before - chunk.bytes();
        if was_full {
            self.roomy.push(index as u32);
        }
        value
    }

    fn pop(&mut self) -> Option<T> {
        (self.tables, self.table_bytes) = (Vec::new(), 0);
        while let Some(chunk) = self.chunks.last_mut() {
            let before = chunk.bytes();
            let value = chunk.pop();
            self.chunk_bytes -= before - chunk.bytes();
            if value.is_some() {
                return value;
            }
            self.chunks.pop();
        }
        None
    }

    /// Makes many tables of one.
    fn split(&mut self, table: &mut Table) {
        let key = *table.hasher();
        self.tables = std::iter::repeat_with(|| Table::with_hasher(key)).take(TABLES).collect();
        for (fid, place) in std::mem::replace(table, Table::with_hasher(key)) {
            self.tables[number_of_table(table, fid)].insert(fid, place);
        }
        let tables = self.tables.iter().map(table_bytes).sum::<usize>();
        self.table_bytes = TABLES * size_of::<Table>() + tables;
    }

    /// Changes a table, and counts its memory.
    fn note<R>(&mut self, number: usize, change: impl FnOnce(&mut Table) -> R) {
        let table = &mut self.tables[number];
        let before = table_bytes(table);
        change(table);
        self.table_bytes = self.table_bytes + table_bytes(table) - before;
    }
}

/// Bytes of a table: a power of two of entries, of which it fills seven of eight.
fn table_bytes(table: &Table) -> usize {
    if table.capacity() == 0 { 0 } else { (table.capacity() + 1).next_power_of_two() * ENTRY_BYTES + 16 }
}

/// The table in which a number is, where there are many: by other bits of its hash than those by which it is found there.
fn number_of_table(any: &Table, fid: Fid) -> usize {
    (any.hasher().hash_one(fid) >> 40) as usize % TABLES
}

/// Multiplication by a secret odd number: no client knows which fids collide.
#[derive(Clone, Copy)]
struct Key(u64);

impl BuildHasher for Key {
    type Hasher = Multiply;
    fn build_hasher(&self) -> Multiply {
        Multiply { key: self.0, hash: 0 }
    }
}

struct Multiply {
    key: u64,
    hash: u64,
}

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }
    fn write_u32(&mut self, number: u32) {
        let product = (u128::from(self.hash) + u128::from(number) + 1) * u128::from(self.key);
        self.hash = (product as u64) ^ (product >> 64) as u64;
    }
    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and a tag from the high ones.
        self.hash ^ self.hash.rotate_left(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Whatever comes and goes, it is a map; and its memory is what is counted for it.
    #[test]
    fn it_is_a_map_of_any_size() {
        let (mut store, mut model) = (Store::new(7), BTreeMap::new());
        let mut random = 1_u64;
        for step in 0..120_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let fid = (random >> 33) as u32 % 12_000;
            // It grows to 9,000, shrinks to a few, and grows again.
            let grows = (step / 30_000) % 2 == 0;
            if (random >> 20) % 8 < if grows { 6 } else { 1 } {
                assert_eq!(store.take(fid), model.insert(fid, step));
                store.put(fid, step);
            } else {
                assert_eq!(store.take(fid), model.remove(&fid));
            }
            assert_eq!((store.len(), store.get(fid).copied()), (model.len(), model.get(&fid).copied()));
            let other = (random >> 13) as u32 % 12_000;
            if other != fid {
                let both = store.two_mut(fid, other).map(|(one, other)| (*one, *other));
                assert_eq!(both, model.get(&fid).copied().zip(model.get(&other).copied()));
            }
            if step % 10_000 == 0 {
                store.trim();
                assert_eq!(store.least(), model.keys().next().copied());
                assert!(model.iter().all(|(fid, value)| store.get(*fid) == Some(value)));
            }
        }
        let mut left: Vec<u64> = std::iter::from_fn(|| store.pop()).collect();
        let mut values: Vec<u64> = model.into_values().collect();
        left.sort_unstable();
        values.sort_unstable();
        assert!(left == values && store.len() == 0 && store.first.bytes() == 0);
    }

    /// The sums are those of what is there.
    fn check<T>(store: &Store<T>) {
        let many = store.many.as_ref().expect("more than a chunk of values");
        let tables = many.tables.iter().map(|table| size_of::<Table>() + table_bytes(table)).sum::<usize>();
        let chunks = many.chunks.iter().map(Chunk::bytes).sum::<usize>();
        assert_eq!((many.chunk_bytes, many.table_bytes), (chunks, tables));
    }

    #[test]
    fn places_and_memory_are_given_back() {
        const COUNT: u32 = 10_000;
        let mut store = Store::new(7);
        (0..COUNT).for_each(|fid| store.put(fid, [fid; 20]));
        check(&store);
        let most = store.bytes();
        for round in 0..10 {
            // Half of the places of each chunk become free, and have values again.
            (0..COUNT).filter(|fid| fid % 2 == round % 2).for_each(|fid| assert!(store.take(fid).is_some()));
            check(&store);
            (0..COUNT).filter(|fid| fid % 2 == round % 2).for_each(|fid| store.put(fid, [fid; 20]));
            check(&store);
            assert!(store.bytes() < most + most / 10, "{} bytes, {most} at first", store.bytes());
        }
        // The session ends: no number is looked up any more.
        assert!(store.pop().is_some());
        assert!(store.many.as_ref().is_some_and(|many| many.tables.is_empty()));
        for _ in 1..COUNT {
            check(&store);
            assert!(store.pop().is_some());
        }
        check(&store);
        assert_eq!((store.len(), store.many.as_ref().map(|many| many.chunk_bytes)), (0, Some(0)));
    }

    #[test]
    fn a_million_values_cost_little_more_than_themselves() {
        let mut store = Store::new(7);
        (0..1_000_000).for_each(|fid| store.put(fid, [u64::from(fid); 11]));
        let each = store.bytes() / 1_000_000;
        assert!(each <= 11 * 8 + 8 + 25, "{each} bytes");
        (0..1_000_000).for_each(|fid| assert_eq!(store.take(fid), Some([u64::from(fid); 11])));
        store.trim();
        assert!(store.bytes() < 1024, "{} bytes", store.bytes());
    }
}
