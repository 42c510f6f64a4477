//! Bounds over all sessions of a server: fids, bytes of replies, of requests that wait, of extended attributes.
//!
//! Each bound is one atomic counter, which any thread that drives a session may change. A check and
//! the change after it are two steps. So with several threads a counter may pass its bound by what
//! one request of each thread adds.

use crate::fs::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of extended attributes that are being read or written, of all sessions together.
pub const ATTR_BYTES_ALL: usize = 16 << 20;

/// Bytes of requests that wait for their tree, of all sessions together. Beyond it, a session that has one takes no further one.
pub const LATE_BYTES_ALL: usize = 32 << 20;

/// Memory of fids in bytes that each session has for itself, however much others have: some 30 fids. What is there grows by
/// doubling, so it may be twice as much.
pub const FID_BYTES_OWN: usize = 4 << 10;

/// Bounds that hold for all sessions together.
#[derive(Debug)]
pub struct Budget {
    fid_bytes_max: usize,
    reply_bytes_max: usize,
    fids: AtomicUsize,
    fid_bytes: AtomicUsize,
    /// Bytes of memory of files in trees beyond what is counted for the fids that there are.
    idle_file_bytes: AtomicUsize,
    reply_bytes: AtomicUsize,
    attr_bytes: AtomicUsize,
    late_bytes: AtomicUsize,
}

impl Default for Budget {
    /// No bounds.
    fn default() -> Budget {
        Budget::new(usize::MAX, usize::MAX)
    }
}

impl Budget {
    /// At most this many bytes of memory of fids, and of replies (what is shown of files is theirs).
    pub fn new(fid_bytes_max: usize, reply_bytes_max: usize) -> Budget {
        let [fids, fid_bytes, idle_file_bytes, reply_bytes, attr_bytes, late_bytes] =
            [(); 6].map(|()| AtomicUsize::new(0));
        Budget { fid_bytes_max, reply_bytes_max, fids, fid_bytes, idle_file_bytes, reply_bytes, attr_bytes, late_bytes }
    }

    /// Fids of all sessions.
    pub fn fids(&self) -> usize {
        self.fids.load(Ordering::Relaxed)
    }

    /// Bytes of memory of replies that wait or are on their way, without what they show of files.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of extended attributes that are being read or written.
    pub fn attr_bytes(&self) -> usize {
        self.attr_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn take_attr_bytes(&self, bytes: usize) -> Result<()> {
        if self.attr_bytes() + bytes > ATTR_BYTES_ALL {
            return Err(Error::ENOSPC);
        }
        self.attr_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn give_attr_bytes(&self, bytes: usize) {
        self.attr_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes of memory of the fids of all sessions, with what trees keep of files that were closed.
    pub fn fid_bytes(&self) -> usize {
        self.fid_bytes.load(Ordering::Relaxed) + self.idle_file_bytes.load(Ordering::Relaxed)
    }

    /// The tree has so many bytes of memory for files, where each fid is counted with `file_bytes` for its file. A driver says
    /// so in each turn.
    pub fn note_files(&self, memory_bytes: usize, file_bytes: usize) {
        let idle = memory_bytes.saturating_sub(self.fids() * file_bytes);
        self.idle_file_bytes.store(idle, Ordering::Relaxed);
    }

    /// Whether a session whose fids have `own` bytes of memory may have one more: while as much is free for the others, so
    /// that the first one that takes all it can has half, and each further one half of what is left. [`FID_BYTES_OWN`] are
    /// there for each in any case.
    pub(super) fn has_fids(&self, own: usize) -> bool {
        own < FID_BYTES_OWN || own < self.fid_bytes_max.saturating_sub(self.fid_bytes())
    }

    /// The fids of a session have `now` bytes of memory, and had `before`.
    pub(super) fn change_fid_bytes(&self, before: usize, now: usize) {
        self.fid_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Whether replies are to be few and short.
    pub fn is_tight(&self) -> bool {
        self.reply_bytes() >= self.reply_bytes_max
    }

    /// Bytes of requests that wait, as far as they are known: of their messages, and of what the tree keeps of them.
    pub fn late_bytes(&self) -> usize {
        self.late_bytes.load(Ordering::Relaxed)
    }

    /// Whether requests that wait are to be few.
    pub fn is_late(&self) -> bool {
        self.late_bytes() >= LATE_BYTES_ALL
    }

    pub(super) fn add_fid(&self) {
        self.fids.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give_fids(&self, count: usize) {
        self.fids.fetch_sub(count, Ordering::Relaxed);
    }

    /// A batch of replies has `now` bytes of memory, and had `before`.
    pub(super) fn change_reply_bytes(&self, before: usize, now: usize) {
        self.reply_bytes.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// What a request that waits takes, counted until this is dropped.
#[derive(Debug)]
pub(super) struct LateBytes {
    budget: Arc<Budget>,
    bytes: usize,
}

impl LateBytes {
    pub(super) fn new(budget: &Arc<Budget>, bytes: usize) -> LateBytes {
        budget.late_bytes.fetch_add(bytes, Ordering::Relaxed);
        LateBytes { budget: Arc::clone(budget), bytes }
    }
}

impl Drop for LateBytes {
    fn drop(&mut self) {
        self.budget.late_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
