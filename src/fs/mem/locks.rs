//! Record locks (fcntl_locking(2)): ranges of bytes, each owned by one process of a client.
//!
//! A request never waits here: a lock that is held by another process is refused, and the client
//! asks again. Locking a range again changes its kind; unlocking a part keeps the rest. Closing a
//! file value removes the locks that were taken through it.

use super::key::Key;
use crate::fs::{Error, Lock, LockKind, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Ranges of all files at a time. Each takes at most [`BYTES_MAX`].
pub const LOCKS_MAX: usize = 1 << 15;
/// What a range takes, with a name of its own for its client, in bytes.
pub const BYTES_MAX: usize = 448;
/// Ranges of one file: all of them are looked at for each request.
const FILE_MAX: usize = 4096;
/// Ranges of one peer, so that it leaves some to others.
const PEER_MAX: usize = LOCKS_MAX / 4;
/// Longest name of a client in bytes. Linux says utsname.nodename, which has at most 64.
const CLIENT_BYTES_MAX: usize = 255;

/// Whose lock it is. Clients may call themselves what they want, so the peer belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    peer: u32,
    process: u32,
    client: Arc<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    range: Range<u64>,
    kind: LockKind,
    owner: Owner,
    /// The file value by which it was taken.
    by: u64,
}

impl Held {
    fn shows(&self) -> Lock<'_> {
        Lock { kind: self.kind, range: self.range.clone(), process: self.owner.process, client: &self.owner.client }
    }
}

/// All locks, of each file by where they start.
#[derive(Debug, Default)]
pub(super) struct Locks {
    files: BTreeMap<Key, Vec<Held>>,
    count: usize,
    peers: BTreeMap<u32, usize>,
}

/// Whether two ranges have a byte in common.
fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl Locks {
    /// Ranges of all files.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes, changes or gives back. False: somebody else has something there.
    pub(super) fn set(&mut self, key: Key, peer: u32, by: u64, lock: &Lock<'_>) -> Result<bool> {
        if lock.client.len() > CLIENT_BYTES_MAX || lock.range.is_empty() {
            return Err(Error::EINVAL);
        }
        if lock.kind != LockKind::None && self.in_the_way(key, peer, lock).is_some() {
            return Ok(false);
        }
        let is_mine = |held: &Held| is_owner(&held.owner, peer, lock);
        let old = self.files.get(&key).map_or(&[][..], |held| held);
        let client = old.iter().find(|held| is_mine(held)).map(|held| Arc::clone(&held.owner.client));
        let owner = Owner { peer, process: lock.process, client: client.unwrap_or_else(|| lock.client.into()) };
        let new = merge(old, &is_mine, Held { range: lock.range.clone(), kind: lock.kind, owner, by });
        let (before, after) = (old.len(), new.len());
        let of_peer = self.peers.get(&peer).copied().unwrap_or_default();
        let more = after.saturating_sub(before);
        let full = after > FILE_MAX || self.count + more > LOCKS_MAX || of_peer + more > PEER_MAX;
        if more > 0 && full {
            return Err(Error::ENOLCK);
        }
        self.count_again(peer, before, after);
        self.store(key, new);
        Ok(true)
    }

    /// The first lock of another owner that keeps this one from being granted. A kind of `None` is an unknown one: see [`Filesystem::conflict`].
    ///
    /// [`Filesystem::conflict`]: crate::fs::Filesystem::conflict
    pub(super) fn conflict(&self, key: Key, peer: u32, lock: &Lock<'_>) -> Option<Lock<'_>> {
        self.in_the_way(key, peer, lock).map(Held::shows)
    }

    fn in_the_way(&self, key: Key, peer: u32, lock: &Lock<'_>) -> Option<&Held> {
        self.files.get(&key)?.iter().find(|held| {
            let conflicts = match lock.kind {
                LockKind::Exclusive => true,
                LockKind::Shared => held.kind == LockKind::Exclusive,
                LockKind::None => held.kind == LockKind::Exclusive || held.owner.peer != peer,
            };
            conflicts && overlap(&held.range, &lock.range) && !is_owner(&held.owner, peer, lock)
        })
    }

    /// A file value is closed: what it has locked goes.
    pub(super) fn release(&mut self, key: Key, peer: u32, by: u64) {
        let Some(held) = self.files.get_mut(&key) else { return };
        let before = held.len();
        held.retain(|held| held.by != by);
        let after = held.len();
        if after == 0 {
            self.files.remove(&key);
        }
        self.count_again(peer, before, after);
    }

    /// Every file is gone.
    pub(super) fn clear(&mut self) {
        *self = Locks::default();
    }

    fn store(&mut self, key: Key, held: Vec<Held>) {
        if held.is_empty() {
            self.files.remove(&key);
        } else {
            self.files.insert(key, held);
        }
    }

    /// Of a file and of a peer there were `before` and are `after`.
    fn count_again(&mut self, peer: u32, before: usize, after: usize) {
        self.count = self.count + after - before;
        let of_peer = self.peers.entry(peer).or_default();
        *of_peer = *of_peer + after - before;
        if *of_peer == 0 {
            self.peers.remove(&peer);
        }
    }
}

fn is_owner(owner: &Owner, peer: u32, lock: &Lock<'_>) -> bool {
    owner.peer == peer && owner.process == lock.process && *owner.client == *lock.client
}

/// The locks of a file after its owner has asked for `new`: what it had there makes room, what it has beside it of the same kind joins it.
fn merge(old: &[Held], is_mine: &dyn Fn(&Held) -> bool, mut new: Held) -> Vec<Held> {
    let asked = new.range.clone();
    let mut all = Vec::with_capacity(old.len() + 2);
    for held in old {
        let range = &held.range;
        if !is_mine(held) || range.end < asked.start || asked.end < range.start {
            all.push(held.clone());
        } else if held.kind == new.kind && held.by == new.by {
            new.range = new.range.start.min(range.start)..new.range.end.max(range.end);
        } else {
            let left = range.start..range.end.min(asked.start);
            let right = range.start.max(asked.end)..range.end;
            let rest = [left, right].into_iter().filter(|rest| !rest.is_empty());
            all.extend(rest.map(|range| Held { range, ..held.clone() }));
        }
    }
    if new.kind != LockKind::None {
        all.push(new);
    }
    all.sort_by_key(|held| held.range.start);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each byte of a short file is locked with, by whom: as naive as can be.
    type Bytes = Vec<BTreeMap<(u32, u32), (LockKind, u64)>>;

    const LEN: u64 = 12;

    fn lock(kind: LockKind, range: Range<u64>, process: u32) -> Lock<'static> {
        Lock { kind, range, process, client: b"box" }
    }

    fn shown(locks: &Locks) -> Bytes {
        let mut bytes = vec![BTreeMap::new(); LEN as usize];
        for held in locks.files.get(&1).into_iter().flatten() {
            for at in held.range.clone() {
                let old = bytes[at as usize].insert((held.owner.peer, held.owner.process), (held.kind, held.by));
                assert_eq!(old, None, "byte {at} is locked twice by one owner");
            }
        }
        bytes
    }

    #[test]
    fn ranges_split_and_join_as_bytes_would() {
        let mut locks = Locks::default();
        let mut bytes: Bytes = vec![BTreeMap::new(); LEN as usize];
        let mut state = 7_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let (mut granted, mut refused, mut released) = (0, 0, 0);
        for _ in 0..30_000 {
            let (peer, process) = (random(2) as u32, random(2) as u32);
            let by = u64::from(peer) * 100 + random(2);
            if random(20) == 0 {
                locks.release(1, peer, by);
                bytes.iter_mut().for_each(|of| of.retain(|_, (_, held_by)| *held_by != by));
                released += 1;
                assert_eq!(shown(&locks), bytes);
                continue;
            }
            let start = random(LEN);
            let range = start..start + 1 + random(LEN - start);
            let kind = [LockKind::Shared, LockKind::Exclusive, LockKind::None][random(3) as usize];
            let owner = (peer, process);
            let conflicts = |of: &BTreeMap<(u32, u32), (LockKind, u64)>| {
                of.iter().any(|(other, (held, _))| {
                    *other != owner && (*held == LockKind::Exclusive || kind == LockKind::Exclusive)
                })
            };
            let blocked = kind != LockKind::None && range.clone().any(|at| conflicts(&bytes[at as usize]));
            assert_eq!(locks.set(1, peer, by, &lock(kind, range.clone(), process)), Ok(!blocked));
            let found = locks.conflict(1, peer, &lock(kind, range.clone(), process)).map(|lock| lock.range);
            let first = range.clone().find(|&at| conflicts(&bytes[at as usize])).filter(|_| kind != LockKind::None);
            if kind != LockKind::None {
                assert_eq!(found.is_some(), first.is_some());
                assert!(first.is_none_or(|first| found.is_some_and(|found| found.start <= first)));
            }
            if blocked {
                refused += 1;
            } else {
                granted += 1;
                for at in range {
                    match kind {
                        LockKind::None => drop(bytes[at as usize].remove(&owner)),
                        kind => drop(bytes[at as usize].insert(owner, (kind, by))),
                    }
                }
            }
            assert_eq!(shown(&locks), bytes);
            // Neighbours that are the same are one.
            let all = locks.files.get(&1).cloned().unwrap_or_default();
            for one in &all {
                let next = |other: &&Held| other.range.start == one.range.end && other.owner == one.owner;
                let same = all.iter().filter(next).any(|other| other.kind == one.kind && other.by == one.by);
                assert!(!same, "{all:?}");
            }
            assert_eq!(locks.len(), all.len());
        }
        assert!(granted > 5000 && refused > 5000 && released > 500, "{granted} {refused} {released}");
        for by in [0, 1, 100, 101] {
            locks.release(1, (by / 100) as u32, by);
        }
        assert_eq!((locks.len(), locks.files.len(), locks.peers.len()), (0, 0, 0));
    }

    #[test]
    fn a_peer_leaves_some_to_others() {
        let mut locks = Locks::default();
        let mut taken = 0_usize;
        // Every other byte, so that nothing joins.
        'all: for key in 0.. {
            for at in 0..FILE_MAX as u64 {
                match locks.set(key, 1, 1, &lock(LockKind::Exclusive, 2 * at..2 * at + 1, 1)) {
                    Ok(true) => taken += 1,
                    refused => {
                        assert_eq!(refused, Err(Error::ENOLCK));
                        break 'all;
                    }
                }
            }
        }
        assert_eq!((taken, locks.len()), (PEER_MAX, PEER_MAX));
        assert_eq!(
            locks.set(0, 2, 2, &lock(LockKind::Exclusive, 9001..9002, 1)),
            Err(Error::ENOLCK),
            "the file is full"
        );
        assert_eq!(locks.set(99, 2, 2, &lock(LockKind::Exclusive, 0..1, 1)), Ok(true));
        assert_eq!(locks.set(0, 1, 1, &lock(LockKind::None, 0..u64::MAX, 1)), Ok(true), "giving back always works");
        assert_eq!(locks.len(), PEER_MAX - FILE_MAX + 1);
    }
}
