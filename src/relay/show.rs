//! What an operation shows once it has ended.
//!
//! Must not know: requests, replies.

use super::op::{Op, Shown};
use super::stat::StatBuf;
use super::{Listing, Relay};
use crate::fs::{Done, Entry, Error, Lock, Result, Show};
use crate::wire::{self, DirEntry};

impl Relay {
    /// Shows what has come. Where nobody wants to see it, the answer is the same.
    pub(super) fn shown(&self, mut op: Op, show: Show<'_>) -> Result<Done> {
        let done = op.result.unwrap_or(Err(Error::EIO))?;
        match (std::mem::take(&mut op.shown), show) {
            (_, Show::Nothing) => {}
            (Shown::Steps(qids), Show::Steps(step)) => qids.into_iter().for_each(step),
            (Shown::Bytes(bytes), Show::Data(mut out)) => out.bytes(&bytes),
            (Shown::Slices(slices), Show::Data(mut out)) => slices.into_iter().for_each(|slice| out.slice(slice)),
            (Shown::Bytes(bytes), Show::Bytes(show)) => show(&bytes)?,
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
            (Shown::Lock(kind, range, process, client), Show::Lock(show)) => {
                show(&Lock { kind, range, process, client: &client });
            }
            (Shown::StatFs(now), Show::StatFs(of)) => *of = now,
            (Shown::Nothing, Show::Lock(_)) => {}
            _ => return Err(Error::EIO),
        }
        Ok(done)
    }

    /// Whether all that there is behind the cookie of a listing has been read before.
    pub(super) fn is_listed(&self, op: &Op) -> bool {
        let listing = op.file.and_then(|file| self.file(file).ok()).and_then(|file| file.listing.as_deref());
        listing.is_some_and(|Listing { start, bytes }| {
            let from = op.offset.saturating_sub(Listing::DOTS);
            (*start..start + bytes.len() as u64).contains(&from)
        })
    }

    /// Entries behind a cookie in the last part that was read of a directory.
    fn list(&self, op: &Op, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        let file = op.file.map(|file| self.file(file)).transpose()?.ok_or(Error::EIO)?;
        for (cookie, name) in [(1, &b"."[..]), (2, b"..")] {
            if op.offset < cookie {
                let stat = StatBuf::of_dir(file.qid, name);
                if !each(&Entry { cookie, stat: stat.stat() }) {
                    return Ok(());
                }
            }
        }
        let Some(Listing { start, bytes }) = file.listing.as_deref() else { return Ok(()) };
        let mut rest = &**bytes;
        while let Ok((record, behind)) = wire::Stat::parse(rest, self.link.dialect()) {
            rest = behind;
            let cookie = start + (bytes.len() - rest.len()) as u64 + Listing::DOTS;
            if cookie > op.offset {
                let stat = StatBuf::of_record(&record, &self.config.users);
                if !each(&Entry { cookie, stat: stat.stat() }) {
                    break;
                }
            }
        }
        Ok(())
    }
}
