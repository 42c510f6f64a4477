//! Places for fids: numbers to values, for two of them and for a million alike.
//!
//! ```text
//! number -> index: one table, or 1,024 -> place -> chunk of 64 values
//! ```
//! Values lie in chunks that never move, so a place costs little more than its value, and growing copies at most one chunk or
//! one small table. A table that holds a million values by itself would be half empty at worst, and move all of them at once.
//!
//! Must not know: what a value is.

use crate::fs::places::{CHUNK, Places};
use crate::wire::Fid;
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// Numbers beyond which there are many tables: what growing a table moves at once is no more than this.
const TABLE_MAX: usize = 4096;
/// Tables of the index of many numbers: of a million, each has a thousand.
const TABLES: usize = 1024;
/// Bytes of an entry of a table: a number, a place and the table's own mark.
const ENTRY_BYTES: usize = size_of::<(Fid, Place)>() + 1;

type Place = u32;
type Table = HashMap<Fid, Place, Key>;

/// The index of many numbers: what one table would be too long for.
struct Tables {
    tables: Vec<Table>,
    /// Bytes of the tables.
    bytes: usize,
}

/// Values by number.
pub(super) struct Store<T> {
    table: Table,
    values: Places<T>,
    /// In place of `table`, where that would be too long.
    tables: Option<Box<Tables>>,
    /// The number that was looked up last, which is mostly the next one too, and its place.
    last: Cell<(Fid, Place)>,
}

/// No place has this number.
const NO_PLACE: Place = Place::MAX;

impl<T> Store<T> {
    pub(super) fn new(hash_key: u64) -> Store<T> {
        let last = Cell::new((0, NO_PLACE));
        Store { table: Table::with_hasher(Key(hash_key | 1)), values: Places::default(), tables: None, last }
    }

    /// One without values and the same key.
    pub(super) fn fresh(&self) -> Store<T> {
        Store::new(self.table.hasher().0)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// What [`bytes`](Self::bytes) depends on where there are few values: room of the table and of the values.
    #[inline]
    pub(super) fn shape(&self) -> Option<(u32, u32)> {
        if self.tables.is_some() {
            None
        } else {
            Some((self.table.capacity() as u32, self.values.first_room()? as u32))
        }
    }

    /// Bytes of memory that it has, used or not.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.tables.as_ref().map_or(0, |tables| size_of::<Tables>() + tables.bytes);
        table_bytes(&self.table) + self.values.bytes() + tables
    }

    #[inline(always)]
    fn place(&self, fid: Fid) -> Option<usize> {
        match self.last.get() {
            (last, place) if last == fid && place != NO_PLACE => Some(place as usize),
            _ => self.find(fid),
        }
    }

    fn find(&self, fid: Fid) -> Option<usize> {
        let table = match self.tables.as_deref() {
            Some(tables) => &tables.tables[number_of_table(&self.table, fid)],
            None => &self.table,
        };
        let place = *table.get(&fid)?;
        self.last.set((fid, place));
        Some(place as usize)
    }

    pub(super) fn has(&self, fid: Fid) -> bool {
        self.place(fid).is_some()
    }

    pub(super) fn get(&self, fid: Fid) -> Option<&T> {
        self.values.get(self.place(fid)?)
    }

    pub(super) fn get_mut(&mut self, fid: Fid) -> Option<&mut T> {
        let place = self.place(fid)?;
        self.values.get_mut(place)
    }

    /// Puts a value under a number that has none.
    pub(super) fn put(&mut self, fid: Fid, value: T) {
        debug_assert!(!self.has(fid), "the number is free");
        let place = self.values.put(value) as Place;
        self.last.set((fid, place));
        if self.values.len() > TABLE_MAX && self.tables.is_none() {
            self.tables = Some(Tables::of(&mut self.table));
        }
        match self.tables.as_deref_mut() {
            Some(tables) => tables.note(number_of_table(&self.table, fid), |table| table.insert(fid, place)),
            None => self.table.insert(fid, place),
        };
    }

    #[inline]
    pub(super) fn take(&mut self, fid: Fid) -> Option<T> {
        self.last.set((fid, NO_PLACE));
        let place = match self.tables.as_deref_mut() {
            Some(tables) => tables.note(number_of_table(&self.table, fid), |table| {
                let place = table.remove(&fid);
                // No more moves at once than when it grows.
                if table.len() * 4 < table.capacity() {
                    table.shrink_to(table.len() * 2);
                }
                place
            })?,
            None => self.table.remove(&fid)?,
        };
        self.values.take(place as usize)
    }

    /// The number that is the least. Looks at all of them.
    pub(super) fn least(&self) -> Option<Fid> {
        let tables = self.tables.iter().flat_map(|tables| &tables.tables);
        tables.chain([&self.table]).flat_map(Table::keys).copied().min()
    }

    /// Takes any value. Numbers lead nowhere from then on.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.tables = None;
        self.last.set((0, NO_PLACE));
        self.values.pop()
    }

    /// Gives back memory that a few values do not need.
    pub(super) fn trim(&mut self) {
        self.values.trim();
        if self.values.len() <= CHUNK {
            if let Some(tables) = self.tables.take() {
                self.table.extend(tables.tables.into_iter().flatten());
            }
            self.table.shrink_to_fit();
        }
    }
}

impl Tables {
    /// Many tables of one.
    fn of(table: &mut Table) -> Box<Tables> {
        let key = *table.hasher();
        let mut tables: Vec<Table> = std::iter::repeat_with(|| Table::with_hasher(key)).take(TABLES).collect();
        for (fid, place) in std::mem::replace(table, Table::with_hasher(key)) {
            tables[number_of_table(table, fid)].insert(fid, place);
        }
        let bytes = TABLES * size_of::<Table>() + tables.iter().map(table_bytes).sum::<usize>();
        Box::new(Tables { tables, bytes })
    }

    /// Changes a table, and counts its memory.
    fn note<R>(&mut self, number: usize, change: impl FnOnce(&mut Table) -> R) -> R {
        let table = &mut self.tables[number];
        let before = table_bytes(table);
        let done = change(table);
        self.bytes = self.bytes + table_bytes(table) - before;
        done
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
            assert_eq!(store.get_mut(other).copied(), model.get(&other).copied());
            assert_eq!(store.has(other), model.contains_key(&other));
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
        assert!(left == values && store.len() == 0);
        store.trim();
        assert_eq!(store.values.bytes(), 0);
    }

    /// The sum is that of what is there.
    fn check<T>(store: &Store<T>) {
        let many = store.tables.as_ref().expect("more numbers than a table has");
        let tables = many.tables.iter().map(|table| size_of::<Table>() + table_bytes(table)).sum::<usize>();
        assert_eq!(many.bytes, tables);
        assert_eq!(store.bytes(), size_of::<Tables>() + tables + store.values.bytes() + table_bytes(&store.table));
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
        assert!(store.tables.is_none() && table_bytes(&store.table) == 0);
        for left in (1..COUNT).rev() {
            assert_eq!((store.len(), store.bytes()), (left as usize, store.values.bytes()));
            assert!(store.pop().is_some());
        }
        assert!(store.pop().is_none() && store.len() == 0);
        store.trim();
        assert_eq!(store.bytes(), 0);
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
