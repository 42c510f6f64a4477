//! The fids of one peer: which file each stands for, in which state, and how many there may be.

use super::budget::Budget;
use super::fidstore::Store;
use super::xattr::Attr;
use crate::fs::{Error, FileId, Result};
use crate::wire::{Fid, NOFID};
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
#[derive(Debug)]
pub(super) struct FidEntry {
    pub(super) file: FileId,
    pub(super) state: State,
}

/// Files are counted by so many: fids that come and go then mostly change no count.
const COUNTED: usize = 8;
/// Fids that are closed in the order of their numbers when a session ends. To sort more takes too long.
const SORTED_MAX: usize = 64;

/// Fids by number. Their order never decides anything.
pub(super) struct Fids {
    held: Store<FidEntry>,
    /// Those of a session that ended. They are closed in parts; none of them has a number any more.
    leaving: Option<Box<Store<FidEntry>>>,
    /// How many stand for attributes.
    attrs: usize,
    most: usize,
    /// Bytes of memory that the tree has for each file.
    file_bytes: usize,
    budget: Arc<Budget>,
    /// Bytes of memory that are counted there.
    charged: usize,
    /// What they were counted for.
    shape: Option<(u32, u32, u32)>,
}

impl Fids {
    pub(super) fn new(most: usize, file_bytes: usize, hash_key: u64, budget: Arc<Budget>) -> Fids {
        Fids { held: Store::new(hash_key), leaving: None, attrs: 0, most, file_bytes, budget, charged: 0, shape: None }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len() + self.leaving.as_ref().map_or(0, |leaving| leaving.len())
    }

    /// Counts the memory that they have, used or not.
    #[inline(always)]
    fn charge(&mut self) {
        // Few fids that come and go leave the memory as it is.
        let shape = self.held.shape().map(|(index, values)| (index, values, self.held.len().div_ceil(COUNTED) as u32));
        if shape.is_none() || shape != self.shape {
            self.shape = shape.filter(|_| self.leaving.is_none());
            self.charge_anew();
        }
    }

    #[inline(never)]
    fn charge_anew(&mut self) {
        let bytes = self.held.bytes()
            + self.leaving.as_ref().map_or(0, |leaving| leaving.bytes())
            + self.len().next_multiple_of(COUNTED) * self.file_bytes;
        if bytes != self.charged {
            self.budget.change_fid_bytes(self.charged, bytes);
            self.charged = bytes;
        }
    }

    /// Whatever it stands for.
    pub(super) fn any(&mut self, fid: Fid) -> Result<&mut FidEntry> {
        self.held.get_mut(fid).ok_or(Error::EBADF)
    }

    /// A file.
    pub(super) fn get(&mut self, fid: Fid) -> Result<&mut FidEntry> {
        self.held.get_mut(fid).filter(|held| held.state.is_file()).ok_or(Error::EBADF)
    }

    /// The file of a fid that stands for one.
    #[inline]
    pub(super) fn file(&self, fid: Fid) -> Result<FileId> {
        self.held.get(fid).filter(|held| held.state.is_file()).map(|held| held.file).ok_or(Error::EBADF)
    }

    /// Two different fids. EINVAL if they are one.
    pub(super) fn two(&self, one: Fid, other: Fid) -> Result<(FileId, FileId)> {
        if one == other {
            return Err(Error::EINVAL);
        }
        Ok((self.file(one)?, self.file(other)?))
    }

    /// Whether a new fid may be made under this number, beside those that answers to come will make.
    pub(super) fn check_new(&self, fid: Fid, coming: usize) -> Result<()> {
        match fid {
            NOFID => Err(Error::EINVAL),
            _ if self.held.has(fid) => Err(Error::EINVAL),
            _ if self.held.len() + coming >= self.most => Err(Error::EMFILE),
            _ if !self.budget.has_fids(self.charged + coming * (size_of::<Option<FidEntry>>() + self.file_bytes)) => {
                Err(Error::EMFILE)
            }
            _ => Ok(()),
        }
    }

    /// Makes a new fid.
    pub(super) fn put(&mut self, fid: Fid, file: FileId) {
        self.add(fid, FidEntry { file, state: State::Walked });
    }

    fn add(&mut self, fid: Fid, held: FidEntry) {
        self.held.put(fid, held);
        self.budget.add_fid();
        self.charge();
    }

    /// Makes a new fid for an attribute. Where there are too many of them the file comes back.
    pub(super) fn put_attr(&mut self, fid: Fid, file: FileId, attr: Attr) -> std::result::Result<(), (Error, FileId)> {
        if self.attrs >= ATTRS_MAX {
            return Err((Error::ENOSPC, file));
        }
        self.attrs += 1;
        self.add(fid, FidEntry { file, state: State::Attr(Box::new(attr)) });
        Ok(())
    }

    /// A fid stands for an attribute from now on, maybe another one than before.
    pub(super) fn become_attr(&mut self, fid: Fid, attr: Attr) -> Result<()> {
        let held = self.held.get_mut(fid).ok_or(Error::EBADF)?;
        if held.state.is_file() {
            if self.attrs >= ATTRS_MAX {
                return Err(Error::ENOSPC);
            }
            self.attrs += 1;
        }
        held.state = State::Attr(Box::new(attr));
        Ok(())
    }

    #[inline]
    pub(super) fn take(&mut self, fid: Fid) -> Result<FidEntry> {
        let held = self.held.take(fid).ok_or(Error::EBADF)?;
        self.attrs -= usize::from(!held.state.is_file());
        self.budget.give_fids(1);
        self.charge();
        Ok(held)
    }

    pub(super) fn trim(&mut self) {
        self.held.trim();
        self.charge();
    }

    /// The session has ended: the next of its files to be closed. `None` once all are.
    pub(super) fn leave(&mut self) -> Option<FidEntry> {
        self.attrs = 0;
        if self.leaving.is_none() && self.held.len() > SORTED_MAX {
            let fresh = self.held.fresh();
            self.leaving = Some(Box::new(std::mem::replace(&mut self.held, fresh)));
        }
        let next = match &mut self.leaving {
            Some(leaving) => leaving.pop(),
            None => self.held.least().and_then(|least| self.held.take(least)),
        };
        if next.is_some() {
            self.budget.give_fids(1);
        } else {
            self.leaving = None;
            self.held.trim();
        }
        self.charge();
        next
    }
}

impl Drop for Fids {
    fn drop(&mut self) {
        self.budget.give_fids(self.len());
        self.budget.change_fid_bytes(self.charged, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::FID_BYTES_OWN;
    use super::*;

    const FILE_BYTES: usize = 50;

    fn file(number: u32) -> FileId {
        FileId::new(number, number)
    }

    /// What is counted for all sessions is what is there, after each change; and nothing once they are dropped.
    fn check(fids: &Fids, budget: &Budget) {
        let leaving = fids.leaving.as_ref().map_or(0, |leaving| leaving.bytes());
        let bytes = fids.held.bytes() + leaving + fids.len().next_multiple_of(COUNTED) * FILE_BYTES;
        assert_eq!((budget.fids(), budget.fid_bytes()), (fids.len(), bytes));
    }

    #[test]
    fn fids_and_their_memory_are_counted_as_they_come_and_go() {
        let budget = Arc::new(Budget::default());
        let new = || Fids::new(usize::MAX, FILE_BYTES, 1, Arc::clone(&budget));
        for count in [10, 3000] {
            let mut fids = new();
            for fid in 0..count {
                fids.put(fid, file(fid));
                check(&fids, &budget);
            }
            for fid in 5..count {
                assert!(fids.take(fid).is_ok_and(|held| held.file == file(fid)));
                check(&fids, &budget);
            }
            fids.trim();
            check(&fids, &budget);
            assert!(budget.fid_bytes() < FID_BYTES_OWN, "{} bytes for five", budget.fid_bytes());
            // The session ends, in parts.
            (0..count).for_each(|fid| fids.put(10_000 + fid, file(fid)));
            assert!(fids.put_attr(1_000_000, file(0), Attr::to_read(&budget)).is_ok());
            while fids.leave().is_some() {
                check(&fids, &budget);
            }
            assert_eq!((budget.fids(), budget.fid_bytes()), (0, 0));
            // The same connection begins a new session, with as many attributes as it may have.
            (0..ATTRS_MAX as u32)
                .for_each(|fid| assert!(fids.put_attr(fid, file(fid), Attr::to_read(&budget)).is_ok()));
            assert!(fids.put_attr(1000, file(0), Attr::to_read(&budget)).is_err());
            check(&fids, &budget);
            // It is dropped with them, and with those of a session that is ending.
            let mut ending = new();
            (0..count).for_each(|fid| ending.put(fid, file(fid)));
            assert!(ending.leave().is_some());
            drop((fids, ending));
            assert_eq!((budget.fids(), budget.fid_bytes()), (0, 0));
        }
    }

    /// A tree keeps memory of files that were closed: it is not free for others.
    #[test]
    fn memory_that_a_tree_keeps_is_counted() {
        let budget = Budget::new(100 * FID_BYTES_OWN, usize::MAX);
        assert!(budget.has_fids(2 * FID_BYTES_OWN));
        budget.note_files(99 * FID_BYTES_OWN, FILE_BYTES);
        assert_eq!((budget.fid_bytes(), budget.has_fids(2 * FID_BYTES_OWN)), (99 * FID_BYTES_OWN, false));
        budget.add_fid();
        budget.note_files(FILE_BYTES, FILE_BYTES);
        assert_eq!((budget.fid_bytes(), budget.has_fids(2 * FID_BYTES_OWN)), (0, true));
    }
}
