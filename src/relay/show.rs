//! What an operation shows once it has ended.
//!
//! Must not know: requests, replies.

use super::op::{LockBuf, Op, Shown};
use super::stat::StatBuf;
use super::{Listing, Relay};
use crate::fs::{Done, Entry, Error, FileId, Lock, Result, Show};
use crate::wire::{self, DirEntry};

/// Bytes of directories that are kept for listings to go on, of all files together.
pub(super) const LISTING_BYTES_ALL: usize = 8 << 20;

impl Relay {
    /// Shows what has come, and returns the answer. The caller may want to see nothing.
    pub(super) fn shown(&mut self, mut op: Op, show: Show<'_>) -> Result<Done> {
        let done = op.result.unwrap_or(Err(Error::EIO))?;
        match (std::mem::take(&mut op.shown), show) {
            (_, Show::Nothing) => {}
            (Shown::Steps(qids), Show::Steps(step)) => qids.into_iter().for_each(step),
            (Shown::Bytes(bytes), Show::Data(mut out)) => out.bytes(&bytes),
            (Shown::Slices(slices), Show::Data(mut out)) => slices.into_iter().for_each(|slice| out.slice(slice)),
            (Shown::Bytes(bytes), Show::Bytes(show)) => {
                if let Err(error) = show(&bytes) {
                    // The caller does not learn of the file that stands for the attribute, so it cannot close it.
                    if let Done::File { file, .. } = done {
                        let _ = self.close(file);
                    }
                    return Err(error);
                }
            }
            (Shown::Stat(mut stat), Show::Stat(show)) => {
                if stat.name.is_empty()
                    && let Some(Ok(file)) = op.file.map(|file| self.file(file))
                {
                    stat.name = file.name.clone();
                }
                show(&stat.stat());
            }
            (Shown::Entries(bytes), Show::Entries(each)) => {
                let mut rest = &*bytes;
                while let Ok((entry, behind)) = DirEntry::parse(rest) {
                    let stat = StatBuf::of_entry(entry.qid, entry.kind, entry.name);
                    if !each(&Entry { cookie: entry.offset, stat }) {
                        break;
                    }
                    rest = behind;
                }
            }
            (Shown::Stats(stats), Show::Entries(each)) => {
                for (cookie, stat) in &stats {
                    if !each(&Entry { cookie: *cookie, stat: stat.stat() }) {
                        break;
                    }
                }
            }
            (Shown::Nothing, Show::Entries(each)) => self.list(&op, each)?,
            (Shown::Lock(LockBuf { kind, range, process, client }), Show::Lock(show)) => {
                show(&Lock { kind, range, process, client: &client });
            }
            (Shown::StatFs(now), Show::StatFs(of)) => *of = now,
            (Shown::Nothing, Show::Lock(_)) => {}
            _ => return Err(Error::EIO),
        }
        Ok(done)
    }

    /// Whether the part of a directory that is kept has the entry behind the cookie. A listing from the start is read
    /// anew.
    pub(super) fn is_listed(&self, op: &Op) -> bool {
        op.offset > 0
            && self.listing(op).is_some_and(|Listing { start, bytes }| {
                let from = op.offset.saturating_sub(Listing::DOTS);
                (*start..start + bytes.len() as u64).contains(&from)
            })
    }

    /// Entries behind a cookie, in the last part that was read of a directory. That part is forgotten once all of it was
    /// taken, and also where all listings take too much memory: then the directory is read from its start again.
    fn list(&mut self, op: &Op, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        let id = op.file.ok_or(Error::EIO)?;
        let qid = self.file(id)?.qid;
        for (cookie, name) in [(1, &b"."[..]), (2, b"..")] {
            if op.offset < cookie {
                let stat = StatBuf::of_dir(qid, name);
                if !each(&Entry { cookie, stat: stat.stat() }) {
                    return Ok(());
                }
            }
        }
        let Some(mut listing) = self.put_listing(id, None)? else { return Ok(()) };
        let end = listing.start + listing.bytes.len() as u64;
        if op.offset.saturating_sub(Listing::DOTS) < listing.start {
            // Another listing of the same file has gone on meanwhile.
            self.put_listing(id, Some(listing))?;
            return Err(Error::EIO);
        }
        let mut rest = &*listing.bytes;
        let mut took_all = true;
        while let Ok((record, behind)) = wire::Stat::parse(rest, self.link.dialect()) {
            rest = behind;
            let cookie = end - rest.len() as u64 + Listing::DOTS;
            if cookie > op.offset {
                let stat = StatBuf::of_record(&record, &self.config.users)?;
                took_all = each(&Entry { cookie, stat: stat.stat() });
                if !took_all {
                    break;
                }
            }
        }
        if took_all || self.listing_bytes + listing.bytes.len() > LISTING_BYTES_ALL {
            *listing = Listing { start: end, bytes: Vec::new() };
        }
        self.put_listing(id, Some(listing)).map(|_| ())
    }

    /// Exchanges what was read of a directory, and counts its bytes.
    pub(super) fn put_listing(&mut self, id: FileId, listing: Option<Box<Listing>>) -> Result<Option<Box<Listing>>> {
        let added = listing.as_ref().map_or(0, |listing| listing.bytes.len());
        let former = std::mem::replace(&mut self.file_mut(id)?.listing, listing);
        self.listing_bytes += added;
        self.listing_bytes -= former.as_ref().map_or(0, |listing| listing.bytes.len());
        Ok(former)
    }
}
