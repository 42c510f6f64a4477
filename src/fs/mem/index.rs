//! Cookies by the hashes of their names: one search finds most of them.
//!
//! A cookie stands at the hash of its name, or at the first free number behind it if another cookie has that hash. Hashes are
//! keyed, so a client cannot make such runs long.
//!
//! Must not know: entries, nodes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hasher};

/// Hashes of names with a secret key. A client that does not know the key cannot choose names with equal hashes.
pub(super) struct Hashes {
    /// It has taken in the secret.
    keyed: DefaultHasher,
}

impl Hashes {
    pub(super) fn new(secret: u64) -> Hashes {
        let mut keyed = DefaultHasher::new();
        keyed.write_u64(secret);
        Hashes { keyed }
    }

    #[inline]
    pub(super) fn of(&self, name: &[u8]) -> u64 {
        let mut hasher = self.keyed.clone();
        hasher.write(name);
        hasher.finish()
    }
}

/// Cookies, each at its hash or behind it.
#[derive(Debug, Default)]
pub(super) struct Index {
    cookies: BTreeMap<u64, u64>,
}

impl Index {
    /// The first answer of `look` that is not `None`. It is asked about each cookie with this hash, and about others of the run.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u64) -> Option<T>) -> Option<T> {
        let mut at = hash;
        loop {
            let found = look(*self.cookies.get(&at)?);
            if found.is_some() {
                return found;
            }
            at = at.wrapping_add(1);
        }
    }

    /// Puts in a cookie that is not there.
    pub(super) fn put(&mut self, hash: u64, cookie: u64) {
        let mut at = hash;
        loop {
            match self.cookies.entry(at) {
                Entry::Vacant(free) => {
                    free.insert(cookie);
                    return;
                }
                Entry::Occupied(_) => at = at.wrapping_add(1),
            }
        }
    }

    /// Takes out a cookie that is there. Those behind it go to where they are found; `hash_of` knows their hashes.
    pub(super) fn take(&mut self, hash: u64, cookie: u64, hash_of: impl Fn(u64) -> u64) {
        let mut at = hash;
        while let Entry::Occupied(there) = self.cookies.entry(at) {
            if *there.get() == cookie {
                there.remove();
                break;
            }
            at = at.wrapping_add(1);
        }
        loop {
            at = at.wrapping_add(1);
            let Some(other) = self.cookies.remove(&at) else { break };
            self.put(hash_of(other), other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that often meet, at the end of the numbers and at their start.
    fn hash_of(cookie: u64) -> u64 {
        (cookie % 5).wrapping_sub(2)
    }

    #[test]
    fn cookies_whose_hashes_meet_are_all_found_whichever_goes() {
        let mut index = Index::default();
        let mut there = Vec::new();
        let mut random: u64 = 1;
        for cookie in 0..2000 {
            index.put(hash_of(cookie), cookie);
            there.push(cookie);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if there.len() > 12 || random >> 63 == 0 {
                let gone = there.swap_remove((random >> 33) as usize % there.len());
                index.take(hash_of(gone), gone, hash_of);
                assert_eq!(index.find(hash_of(gone), |other| (other == gone).then_some(())), None);
            }
            for &cookie in &there {
                let found = index.find(hash_of(cookie), |other| (other == cookie).then_some(other));
                assert_eq!(found, Some(cookie));
            }
            assert_eq!(index.cookies.len(), there.len());
        }
    }
}
