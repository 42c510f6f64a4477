//! The fids of one peer: which file each stands for, in which state, and how many there may be.

use super::budget::Budget;
use super::xattr::Attr;
use crate::fs::{Error, Result};
use crate::wire::{Fid, NOFID};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Fids of one peer that stand for extended attributes: each may have 64 KiB of its own.
pub const ATTRS_MAX: usize = 64;

/// What a fid stands for.
#[derive(Debug)]
pub(super) enum State {
    /// Walked to.
    Walked,
    /// An open file; what the open allowed holds whatever becomes of the file's mode (open(9P)).
    Open { read: bool, write: bool },
    /// An open directory: where a read of stat records must go on, and the cookie that stands for it.
    OpenDir { next_offset: u64, cookie: u64 },
    /// An extended attribute of the file; only read, write and clunk know it.
    Attr(Box<Attr>),
}

impl State {
    pub(super) fn is_walked(&self) -> bool {
        matches!(self, State::Walked)
    }

    /// Whether it is the file itself, and nothing beside it.
    pub(super) fn is_file(&self) -> bool {
        !matches!(self, State::Attr(_))
    }
}

/// A fid with its file.
pub(super) struct Held<T> {
    pub(super) file: T,
    pub(super) state: State,
}

/// Fids by number. Their order never decides anything.
pub(super) struct Fids<T> {
    held: HashMap<Fid, Held<T>, Key>,
    /// How many stand for attributes.
    attrs: usize,
    most: usize,
    budget: Arc<Budget>,
}

impl<T> Fids<T> {
    pub(super) fn new(most: usize, hash_key: u64, budget: Arc<Budget>) -> Fids<T> {
        Fids { held: HashMap::with_hasher(Key(hash_key | 1)), attrs: 0, most, budget }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whatever it stands for.
    pub(super) fn any(&mut self, fid: Fid) -> Result<&mut Held<T>> {
        self.held.get_mut(&fid).ok_or(Error::EBADF)
    }

    /// A file.
    pub(super) fn get(&mut self, fid: Fid) -> Result<&mut Held<T>> {
        self.held.get_mut(&fid).filter(|held| held.state.is_file()).ok_or(Error::EBADF)
    }

    /// Two files, maybe the same.
    pub(super) fn both(&self, one: Fid, other: Fid) -> Result<(&Held<T>, &Held<T>)> {
        let find = |fid| self.held.get(&fid).filter(|held| held.state.is_file());
        find(one).zip(find(other)).ok_or(Error::EBADF)
    }

    /// The first to change, the second to look at. EINVAL if they are one.
    pub(super) fn with(&mut self, one: Fid, other: Fid) -> Result<(&mut Held<T>, &Held<T>)> {
        if one == other {
            return Err(Error::EINVAL);
        }
        match self.held.get_disjoint_mut([&one, &other]) {
            [Some(one), Some(other)] if one.state.is_file() && other.state.is_file() => Ok((one, other)),
            _ => Err(Error::EBADF),
        }
    }

    /// Whether a new fid may be made under this number.
    pub(super) fn check_new(&self, fid: Fid) -> Result<()> {
        match fid {
            NOFID => Err(Error::EINVAL),
            _ if self.held.contains_key(&fid) => Err(Error::EINVAL),
            _ if self.held.len() >= self.most || !self.budget.has_fids() => Err(Error::EMFILE),
            _ => Ok(()),
        }
    }

    /// Puts a file under a number; gives back what was there.
    pub(super) fn put(&mut self, fid: Fid, file: T) -> Option<Held<T>> {
        let old = self.held.insert(fid, Held { file, state: State::Walked });
        if old.is_none() {
            self.budget.add_fid();
        }
        old
    }

    /// Makes a new fid for an attribute. Where there are too many of them the file comes back.
    pub(super) fn put_attr(&mut self, fid: Fid, file: T, attr: Attr) -> std::result::Result<(), (Error, T)> {
        if self.attrs >= ATTRS_MAX {
            return Err((Error::ENOSPC, file));
        }
        self.attrs += 1;
        let old = self.held.insert(fid, Held { file, state: State::Attr(Box::new(attr)) });
        debug_assert!(old.is_none(), "the number was free");
        self.budget.add_fid();
        Ok(())
    }

    /// A fid stands for an attribute from now on, maybe another one than before.
    pub(super) fn become_attr(&mut self, fid: Fid, attr: Attr) -> Result<()> {
        let held = self.held.get_mut(&fid).ok_or(Error::EBADF)?;
        if held.state.is_file() {
            if self.attrs >= ATTRS_MAX {
                return Err(Error::ENOSPC);
            }
            self.attrs += 1;
        }
        held.state = State::Attr(Box::new(attr));
        Ok(())
    }

    pub(super) fn take(&mut self, fid: Fid) -> Result<Held<T>> {
        let held = self.held.remove(&fid).ok_or(Error::EBADF)?;
        self.attrs -= usize::from(!held.state.is_file());
        self.budget.give_fids(1);
        Ok(held)
    }

    pub(super) fn trim(&mut self) {
        self.held.shrink_to_fit();
    }

    /// All of them, in the order of their numbers.
    pub(super) fn take_all(&mut self) -> Vec<(Fid, Held<T>)> {
        self.budget.give_fids(self.held.len());
        self.attrs = 0;
        let mut all: Vec<_> = self.held.drain().collect();
        all.sort_unstable_by_key(|(fid, _)| *fid);
        all
    }
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
