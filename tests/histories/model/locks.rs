//! Locks of ranges of bytes.

use super::Model;
use ring9::fs::{Lock, LockKind};

/// A range of bytes that somebody has locked.
#[derive(Clone, Debug)]
pub(super) struct Locked {
    pub(super) node: usize,
    pub(super) owner: (u32, u32, Vec<u8>),
    pub(super) kind: LockKind,
    pub(super) range: std::ops::Range<u64>,
    /// The handle by which it was locked.
    pub(super) by: usize,
}

impl Model {
    /// Whether somebody else has something that keeps this lock from being granted. Of an unknown kind: whatever is not shared with others of the same peer.
    pub fn conflicts(&self, at: usize, lock: &Lock<'_>) -> bool {
        let handle = self.handle(at);
        let owner = (handle.user.peer, lock.process, lock.client.to_vec());
        self.locks.iter().any(|held| {
            let both = held.range.start.max(lock.range.start)..held.range.end.min(lock.range.end);
            held.node == handle.node
                && held.owner != owner
                && !both.is_empty()
                && match lock.kind {
                    LockKind::None => held.kind == LockKind::Exclusive || held.owner.0 != handle.user.peer,
                    kind => held.kind == LockKind::Exclusive || kind == LockKind::Exclusive,
                }
        })
    }

    /// Whether this is locked, and all of it so, by one owner.
    pub fn is_locked(&self, at: usize, lock: &Lock<'_>) -> bool {
        let node = self.handle(at).node;
        let is_part = |held: &&Locked| {
            held.node == node
                && held.kind == lock.kind
                && (held.owner.1, &held.owner.2[..]) == (lock.process, lock.client)
        };
        let mut parts: Vec<_> = self.locks.iter().filter(is_part).map(|held| held.range.clone()).collect();
        parts.sort_by_key(|range| range.start);
        let end =
            parts.iter().fold(lock.range.start, |end, part| if part.start <= end { end.max(part.end) } else { end });
        end >= lock.range.end
    }

    pub fn lock(&mut self, at: usize, lock: &Lock<'_>) -> bool {
        if lock.kind != LockKind::None && self.conflicts(at, lock) {
            return false;
        }
        let handle = self.handle(at);
        let owner = (handle.user.peer, lock.process, lock.client.to_vec());
        let (mine, mut all): (Vec<_>, Vec<_>) =
            self.locks.drain(..).partition(|held| held.node == handle.node && held.owner == owner);
        for held in mine {
            let left = held.range.start..held.range.end.min(lock.range.start);
            let right = held.range.start.max(lock.range.end)..held.range.end;
            let rest = [left, right].into_iter().filter(|rest| !rest.is_empty());
            all.extend(rest.map(|range| Locked { range, ..held.clone() }));
        }
        if lock.kind != LockKind::None {
            all.push(Locked { node: handle.node, owner, kind: lock.kind, range: lock.range.clone(), by: at });
        }
        self.locks = all;
        true
    }
}
