//! One directory: names in the order of their cookies, and an index by name.
//!
//! A cookie is given once per directory and grows, so a listing goes on behind any cookie whatever came and went meanwhile. A name that is replaced keeps its cookie, and so does
//! one that changes within its directory: see [`Dir::put`]. The index goes by a keyed hash: no choice of names makes it slow.

use super::index::{Hashes, Index};
use super::key::Key;
use std::collections::BTreeMap;
use std::ops::Bound;

/// The cookies of "." and ".."; entries start behind them.
pub(super) const DOT: u64 = 1;
pub(super) const DOT_DOT: u64 = 2;

pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) node: Key,
    /// Tells names apart for ever; it stays the same when the name is changed or moved.
    pub(super) id: u64,
    /// It is to be removed when a file that was reached by it is closed.
    pub(super) doomed: bool,
}

pub(super) struct Dir {
    entries: BTreeMap<u64, Entry>,
    index: Index,
    next_cookie: u64,
    /// The directory above; the root's is itself.
    pub(super) parent: Key,
    /// Directories in it.
    pub(super) subdirs: u64,
}

impl Dir {
    #[inline]
    pub(super) fn new(parent: Key) -> Dir {
        Dir { entries: BTreeMap::new(), index: Index::default(), next_cookie: DOT_DOT + 1, parent, subdirs: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn find(&self, hashes: &Hashes, name: &[u8]) -> Option<(u64, &Entry)> {
        self.index.find(hashes.of(name), |cookie| {
            let entry = &self.entries[&cookie];
            (*entry.name == *name).then_some((cookie, entry))
        })
    }

    #[inline]
    pub(super) fn get(&self, cookie: u64) -> Option<&Entry> {
        self.entries.get(&cookie)
    }

    /// The name at this cookie is to be removed when a file that was reached by it is closed.
    pub(super) fn doom(&mut self, cookie: u64) {
        self.entries.get_mut(&cookie).into_iter().for_each(|entry| entry.doomed = true);
    }

    /// New names get this cookie and those behind it, unless that has happened already.
    pub(super) fn skip_to(&mut self, cookie: u64) {
        self.next_cookie = self.next_cookie.max(cookie);
    }

    /// Puts in a name that is not there, at a cookie that is free, or else at a new one; the cookie.
    ///
    /// What a running listing demands (rename(2), readdir(3)): a name that is replaced is there all the time, so it comes once, and has to keep its cookie. A name
    /// that is changed where it is could get a new one, but then a program that renames all that it lists would never see the end.
    pub(super) fn put(&mut self, hashes: &Hashes, cookie: Option<u64>, entry: Entry) -> u64 {
        let cookie = cookie.unwrap_or_else(|| {
            self.next_cookie += 1;
            self.next_cookie - 1
        });
        self.index.put(hashes.of(&entry.name), cookie);
        let there = self.entries.insert(cookie, entry);
        debug_assert!(there.is_none(), "a cookie is given once");
        cookie
    }

    pub(super) fn take(&mut self, hashes: &Hashes, cookie: u64) -> Option<Entry> {
        let entry = self.entries.remove(&cookie)?;
        self.index.take(hashes.of(&entry.name), cookie, |other| hashes.of(&self.entries[&other].name));
        Some(entry)
    }

    /// The cookie that was given last. No entry that is there now has a larger one.
    pub(super) fn last_cookie(&self) -> u64 {
        self.next_cookie - 1
    }

    /// The entries behind `cookie`, up to `last` and with it.
    pub(super) fn between(&self, cookie: u64, last: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let from = Bound::Excluded(cookie.max(DOT_DOT));
        let behind = self.entries.range((from, Bound::Unbounded)).map(|(cookie, entry)| (*cookie, entry));
        behind.take_while(move |(cookie, _)| *cookie <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(dir: &mut Dir, name: &str, node: Key) -> u64 {
        dir.put(&Hashes::new(7), None, Entry { name: name.as_bytes().into(), node, id: node.into(), doomed: false })
    }

    #[test]
    fn entries_that_stay_are_listed_once_whatever_comes_and_goes() {
        let mut dir = Dir::new(0);
        for n in 0..100u32 {
            add(&mut dir, &n.to_string(), n);
        }
        let (mut cookie, mut seen) = (0, Vec::new());
        let last = dir.last_cookie();
        for round in 0u32.. {
            let Some((next, entry)) = dir.between(cookie, last).next().map(|(next, entry)| (next, entry.node)) else {
                break;
            };
            seen.push(entry);
            cookie = next;
            if entry < 100 {
                // The one just listed goes, and another one comes.
                dir.take(&Hashes::new(7), next);
                add(&mut dir, &format!("new {round}"), 1000 + round);
            }
            assert!(round < 1000, "a listing ends");
        }
        assert_eq!(seen, (0..100).collect::<Vec<_>>(), "what came later is left to the next listing");
        let new: Vec<_> = dir.between(0, dir.last_cookie()).map(|(_, entry)| entry.node).collect();
        assert_eq!(new, (1000..1100).collect::<Vec<_>>());
        assert!([2, 102, 202, u64::MAX].into_iter().all(|cookie| dir.between(cookie, 102).next().is_none()));
        assert_eq!(dir.find(&Hashes::new(7), b"new 3").map(|(_, entry)| entry.node), Some(1003));
        assert!(dir.find(&Hashes::new(7), b"3").is_none());
    }
}
