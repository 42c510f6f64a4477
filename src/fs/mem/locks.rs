//! Record locks (fcntl_locking(2)): ranges of bytes, each owned by one process of a client.
//!
//! A request never waits here: a lock that is held by another process is refused, and the client
//! asks again. Locking a range again changes its kind; unlocking a part keeps the rest. Closing a
//! file value removes the locks that were taken through it.

use super::key::Key;
use crate::fs::{Error, Lock, LockKind, Result};
use slab::Slab;
use std::cell::Cell;
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

/// Ranges that are looked at for one unit of work: a range takes some 12 instructions for each look.
const RANGES_PER_UNIT: usize = 64;

/// Whose lock it is. Clients may call themselves what they want, so the peer belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    peer: u32,
    process: u32,
    client: Arc<[u8]>,
}

/// Number of an owner.
type OwnerId = u32;

/// A range of one file. Small and without pointers: a request looks at the ranges of its file, and moves
/// those behind a range that comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeldRange {
    start: u64,
    end: u64,
    /// The file value by which it was taken.
    by: u64,
    owner: OwnerId,
    exclusive: bool,
}

const _: () = assert!(size_of::<HeldRange>() <= 32);

impl HeldRange {
    fn kind(&self) -> LockKind {
        if self.exclusive { LockKind::Exclusive } else { LockKind::Shared }
    }
}

/// The owners that have a range, each once.
#[derive(Debug, Default)]
struct Owners {
    ids: BTreeMap<Owner, OwnerId>,
    /// By id, with the number of their ranges.
    all: Slab<(Owner, usize)>,
}

impl Owners {
    /// An owner that has nothing is taken in, and goes with [`count`](Self::count).
    fn id(&mut self, owner: Owner) -> OwnerId {
        match self.ids.get(&owner) {
            Some(&id) => id,
            None => {
                let id = self.all.insert((owner.clone(), 0)) as OwnerId;
                self.ids.insert(owner, id);
                id
            }
        }
    }

    fn find(&self, owner: &Owner) -> Option<OwnerId> {
        self.ids.get(owner).copied()
    }

    /// The owner has `more` ranges, and `less` of those that it had. Without any it is forgotten.
    fn count(&mut self, id: OwnerId, more: usize, less: usize) {
        let (_, ranges) = &mut self.all[id as usize];
        *ranges = *ranges + more - less;
        if *ranges == 0 {
            let (owner, _) = self.all.remove(id as usize);
            self.ids.remove(&owner);
        }
    }
}

/// All locks, of each file by where they start.
#[derive(Debug, Default)]
pub(super) struct Locks {
    files: BTreeMap<Key, Vec<HeldRange>>,
    owners: Owners,
    count: usize,
    peers: BTreeMap<u32, usize>,
    /// Ranges that were looked at since [`spent`](Self::spent) was asked.
    looked_at: Cell<usize>,
}

/// What an owner's request makes of its ranges.
struct Plan {
    /// The range that joins what the owner has beside it of the same kind.
    new: HeldRange,
    /// What is left of the ranges that it cuts, at both ends.
    rests: [Option<HeldRange>; 2],
    /// Ranges that go.
    gone: usize,
}

impl Plan {
    fn comes(&self, kind: LockKind) -> usize {
        usize::from(kind != LockKind::None) + self.rests.iter().flatten().count()
    }
}

impl Locks {
    /// Ranges of all files.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Units of work since the last call, beyond that of an ordinary request.
    pub(super) fn spent(&self) -> u32 {
        (self.looked_at.take() / RANGES_PER_UNIT) as u32
    }

    /// Takes, changes or gives back. False: another owner has a part of the range.
    pub(super) fn set(&mut self, key: Key, peer: u32, by: u64, lock: &Lock<'_>) -> Result<bool> {
        if lock.client.len() > CLIENT_BYTES_MAX || lock.range.is_empty() {
            return Err(Error::EINVAL);
        }
        let owner = Owner { peer, process: lock.process, client: lock.client.into() };
        let known = self.owners.find(&owner);
        if lock.kind != LockKind::None && self.in_the_way(key, peer, known, lock).is_some() {
            return Ok(false);
        }
        let held = self.files.get(&key).map_or(&[][..], Vec::as_slice);
        let new = HeldRange {
            start: lock.range.start,
            end: lock.range.end,
            by,
            owner: known.unwrap_or(OwnerId::MAX),
            exclusive: lock.kind == LockKind::Exclusive,
        };
        self.looked_at.set(self.looked_at.get() + held.len());
        let mut plan = plan(held, &lock.range, lock.kind, new);
        let (gone, comes) = (plan.gone, plan.comes(lock.kind));
        let more = comes.saturating_sub(gone);
        let of_peer = self.peers.get(&peer).copied().unwrap_or_default();
        let full = held.len() + more > FILE_MAX || self.count + more > LOCKS_MAX || of_peer + more > PEER_MAX;
        if more > 0 && full {
            return Err(Error::ENOLCK);
        }
        if gone == 0 && comes == 0 {
            return Ok(true);
        }
        let id = known.unwrap_or_else(|| self.owners.id(owner));
        plan.new.owner = id;
        self.apply(key, &lock.range, lock.kind, &plan);
        self.owners.count(id, comes, gone);
        self.count_again(peer, comes, gone);
        Ok(true)
    }

    /// Changes the ranges of a file where they are: nothing is copied but what moves up or down.
    fn apply(&mut self, key: Key, asked: &Range<u64>, kind: LockKind, plan: &Plan) {
        let held = self.files.entry(key).or_default();
        if plan.gone > 0 {
            let mut at = 0;
            let until = held.partition_point(|held| held.start <= asked.end);
            held.retain(|held| {
                at += 1;
                at > until || !goes(held, asked, plan.new.owner)
            });
        }
        let new = Some(plan.new).filter(|_| kind != LockKind::None);
        for held_now in plan.rests.into_iter().flatten().chain(new) {
            let place = held.partition_point(|held| held.start <= held_now.start);
            held.insert(place, held_now);
        }
        if held.is_empty() {
            self.files.remove(&key);
        }
    }

    /// The first lock of another owner that keeps this one from being granted. A kind of `None` is an unknown one: see [`Filesystem::conflict`].
    ///
    /// [`Filesystem::conflict`]: crate::fs::Filesystem::conflict
    pub(super) fn conflict(&self, key: Key, peer: u32, lock: &Lock<'_>) -> Option<Lock<'_>> {
        let owner = Owner { peer, process: lock.process, client: lock.client.into() };
        let held = self.in_the_way(key, peer, self.owners.find(&owner), lock)?;
        let (owner, _) = &self.owners.all[held.owner as usize];
        Some(Lock { kind: held.kind(), range: held.start..held.end, process: owner.process, client: &owner.client })
    }

    fn in_the_way(&self, key: Key, peer: u32, owner: Option<OwnerId>, lock: &Lock<'_>) -> Option<&HeldRange> {
        let held = self.files.get(&key)?;
        self.looked_at.set(self.looked_at.get() + held.len());
        let conflicts = |held: &HeldRange| match lock.kind {
            LockKind::Exclusive => true,
            LockKind::Shared => held.exclusive,
            LockKind::None => held.exclusive || self.owners.all[held.owner as usize].0.peer != peer,
        };
        // Those that start behind the range are not in it.
        let starts_before = held.iter().take_while(|held| held.start < lock.range.end);
        let mut overlaps = starts_before.filter(|held| lock.range.start < held.end);
        overlaps.find(|held| Some(held.owner) != owner && conflicts(held))
    }

    /// A file value is closed: what it has locked goes.
    pub(super) fn release(&mut self, key: Key, peer: u32, by: u64) {
        let Locks { files, owners, looked_at, .. } = self;
        let Some(held) = files.get_mut(&key) else { return };
        looked_at.set(looked_at.get() + held.len());
        let before = held.len();
        held.retain(|held| {
            let stays = held.by != by;
            if !stays {
                owners.count(held.owner, 0, 1);
            }
            stays
        });
        let gone = before - held.len();
        // Those that go take another look at their owner.
        looked_at.set(looked_at.get() + gone);
        if held.is_empty() {
            self.files.remove(&key);
        }
        self.count_again(peer, 0, gone);
    }

    /// Every file is gone.
    pub(super) fn clear(&mut self) {
        *self = Locks::default();
    }

    /// A peer has `more` ranges, and `less` of those that it had.
    fn count_again(&mut self, peer: u32, more: usize, less: usize) {
        self.count = self.count + more - less;
        let of_peer = self.peers.entry(peer).or_default();
        *of_peer = *of_peer + more - less;
        if *of_peer == 0 {
            self.peers.remove(&peer);
        }
    }
}

/// Whether a range is the owner's and overlaps what is asked for, or lies beside it.
fn goes(held: &HeldRange, asked: &Range<u64>, owner: OwnerId) -> bool {
    held.owner == owner && held.start <= asked.end && asked.start <= held.end
}

/// What becomes of the ranges of a file when the owner of `new` asks for a range: what it had there makes
/// room, what it has beside it of the same kind joins it.
fn plan(held: &[HeldRange], asked: &Range<u64>, kind: LockKind, mut new: HeldRange) -> Plan {
    let (mut rests, mut gone) = ([None; 2], 0);
    for held in held.iter().take_while(|held| held.start <= asked.end) {
        if !goes(held, asked, new.owner) {
            continue;
        }
        gone += 1;
        if held.kind() == kind && held.by == new.by {
            (new.start, new.end) = (new.start.min(held.start), new.end.max(held.end));
            continue;
        }
        // Ranges of one owner do not overlap, so that each side is cut from one range at most.
        let left = HeldRange { end: held.end.min(asked.start), ..*held };
        let right = HeldRange { start: held.start.max(asked.end), ..*held };
        for (rest, place) in [left, right].into_iter().zip(&mut rests) {
            if rest.start < rest.end {
                *place = Some(rest);
            }
        }
    }
    Plan { new, rests, gone }
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
            let (owner, _) = &locks.owners.all[held.owner as usize];
            for at in held.start..held.end {
                let old = bytes[at as usize].insert((owner.peer, owner.process), (held.kind(), held.by));
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
                let next = |other: &&HeldRange| other.start == one.end && other.owner == one.owner;
                let same = all.iter().filter(next).any(|other| other.kind() == one.kind() && other.by == one.by);
                assert!(!same, "{all:?}");
            }
            assert_eq!(locks.len(), all.len());
            assert!(all.is_sorted_by_key(|held| held.start), "{all:?}");
            assert_eq!(locks.owners.all.iter().map(|(_, (_, ranges))| ranges).sum::<usize>(), all.len());
        }
        assert!(granted > 5000 && refused > 5000 && released > 500, "{granted} {refused} {released}");
        for by in [0, 1, 100, 101] {
            locks.release(1, (by / 100) as u32, by);
        }
        assert_eq!((locks.len(), locks.files.len(), locks.peers.len()), (0, 0, 0));
        assert_eq!((locks.owners.ids.len(), locks.owners.all.len()), (0, 0));
    }

    /// The work for one request has a bound, and it is counted: for the session, which stops serving then.
    #[test]
    fn requests_are_charged_for_the_ranges_of_their_file() {
        let mut locks = Locks::default();
        for at in 0..FILE_MAX as u64 {
            assert_eq!(locks.set(1, 1, 1, &lock(LockKind::Exclusive, 2 * at..2 * at + 1, 1)), Ok(true));
        }
        locks.spent();
        let most = (2 * FILE_MAX / RANGES_PER_UNIT) as u32;
        assert_eq!(locks.set(1, 2, 2, &lock(LockKind::Exclusive, 9000..9001, 1)), Err(Error::ENOLCK));
        assert_eq!((locks.spent(), locks.spent()), (most, 0));
        assert!(locks.conflict(1, 2, &lock(LockKind::Exclusive, 8190..8191, 1)).is_some());
        assert_eq!(locks.spent(), most / 2);
        locks.release(1, 1, 1);
        assert_eq!((locks.spent(), locks.len()), (most, 0));
        assert_eq!(locks.set(1, 2, 2, &lock(LockKind::Exclusive, 9000..9001, 1)), Ok(true));
        assert_eq!(locks.spent(), 0);
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
        assert!(!locks.files.contains_key(&0), "a file without ranges has no list of them");
    }
}
