//! One directory: names in the order of their cookies, and an index by name.
//!
//! A cookie is given once per directory and grows, so a listing goes on behind any cookie whatever came and went meanwhile. The index is ordered by a keyed hash:
//! no choice of names makes it slow.

use super::node::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::ops::Bound;

/// The cookies of "." and ".."; entries start behind them.
pub(super) const DOT: u64 = 1;
pub(super) const DOT_DOT: u64 = 2;

pub(super) struct Entry {
    pub(super) name: Box<[u8]>,
    pub(super) node: Key,
}

pub(super) struct Dir {
    entries: BTreeMap<u64, Entry>,
    index: BTreeSet<(u64, u64)>,
    next_cookie: u64,
    /// The directory above; the root's is itself.
    pub(super) parent: Key,
    /// Directories in it.
    pub(super) subdirs: u64,
}

impl Dir {
    pub(super) fn new(parent: Key) -> Dir {
        Dir { entries: BTreeMap::new(), index: BTreeSet::new(), next_cookie: DOT_DOT + 1, parent, subdirs: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn find(&self, key: u64, name: &[u8]) -> Option<(u64, Key)> {
        let hash = hash(key, name);
        self.index.range((hash, 0)..=(hash, u64::MAX)).find_map(|(_, cookie)| {
            let entry = &self.entries[cookie];
            (*entry.name == *name).then_some((*cookie, entry.node))
        })
    }

    pub(super) fn get(&self, cookie: u64) -> Option<&Entry> {
        self.entries.get(&cookie)
    }

    /// Adds a name that is not there; its cookie.
    pub(super) fn add(&mut self, key: u64, name: &[u8], node: Key) -> u64 {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.index.insert((hash(key, name), cookie));
        self.entries.insert(cookie, Entry { name: name.into(), node });
        cookie
    }

    pub(super) fn remove(&mut self, key: u64, cookie: u64) -> Option<Entry> {
        let entry = self.entries.remove(&cookie)?;
        self.index.remove(&(hash(key, &entry.name), cookie));
        Some(entry)
    }

    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let from = Bound::Excluded(cookie.max(DOT_DOT));
        self.entries.range((from, Bound::Unbounded)).map(|(cookie, entry)| (*cookie, entry))
    }
}

fn hash(key: u64, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(key);
    hasher.write(name);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_stay_are_listed_once_whatever_comes_and_goes() {
        let mut dir = Dir::new(0);
        for n in 0..100u32 {
            dir.add(7, n.to_string().as_bytes(), n);
        }
        let (mut cookie, mut seen) = (0, Vec::new());
        for round in 0u32.. {
            let Some((next, entry)) = dir.after(cookie).next().map(|(next, entry)| (next, entry.node)) else { break };
            seen.push(entry);
            cookie = next;
            if entry < 100 {
                // The one just listed goes, and another one comes, at most a hundred times.
                dir.remove(7, next);
                if round < 50 {
                    dir.add(7, format!("new {round}").as_bytes(), 1000 + round);
                }
            }
        }
        let old: Vec<_> = seen.iter().copied().filter(|&node| node < 100).collect();
        assert_eq!(old, (0..100).collect::<Vec<_>>());
        assert_eq!(seen.len(), 150);
        assert_eq!(dir.find(7, b"new 3").map(|(_, node)| node), Some(1003));
        assert_eq!(dir.find(7, b"3"), None);
    }
}
