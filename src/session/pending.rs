//! Operations that the tree has not ended yet, Tflush (flush(9P)), and files that go once their last operation has ended.
//!
//! An operation names the files that it works on, not their fids: a fid may be gone, or stand for another file, before it
//! ends. A flushed request is answered before its Rflush, or never. Flushes of one request are answered in order, after
//! the request.

use super::budget::LateBytes;
use super::what::{What, kind};
use super::{Request, Session};
use crate::fs::{Answer, At, Call, Cancel, Done, Error, FileId, Gate, OpId, Outcome, Result, Service, Show};
use crate::wire::{Fid, Message, Tag};

/// An operation that has not ended.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) op: OpId,
    /// Whom its answer is for. `None`: nobody any more.
    pub(super) request: Option<Request>,
    pub(super) what: What,
    /// The files that it works on: they are not closed before it has ended.
    pub(super) files: [Option<FileId>; 2],
    /// Nothing is certain to end it.
    pub(super) waits: bool,
    /// The message, where the answer needs it.
    pub(super) frame: Option<Box<[u8]>>,
    /// Flushes that came too late to take it back.
    pub(super) flushes: Vec<Request>,
    /// What it takes here and in the tree.
    pub(super) _taken: LateBytes,
}

/// Bytes of an operation that waits, here and in the tree, beside its message.
pub(super) const WAITING_BYTES: usize = 2 * size_of::<Waiting>();

impl Waiting {
    /// Takes it back in the tree, if that is still possible. What ends a file has its way: the fid is gone.
    fn is_taken_back<S: Service>(&self, fs: &mut S) -> bool {
        !self.what.ends_file() && fs.cancel(self.op) == Cancel::Cancelled
    }
}

/// A file without a fid, to be closed after its last operation.
#[derive(Debug)]
struct Leaving {
    file: FileId,
    /// Whose reply says what became of that, and whether the file is removed first.
    request: Option<Request>,
    removes: bool,
    /// Flushes of that request. Its fid is gone, so they come too late.
    flushes: Vec<Request>,
}

/// What waits. Short: bounded by the configuration.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: Vec<Waiting>,
    leaving: Vec<Leaving>,
    /// Closes that the tree has not ended, and that no request waits for. A session that ends may have one for each fid.
    closes: usize,
}

impl Pending {
    /// Requests and flushes that have no reply yet.
    pub(super) fn len(&self) -> usize {
        let waiting = self.waiting.iter().map(|waiting| usize::from(waiting.request.is_some()) + waiting.flushes.len());
        let leaving = self.leaving.iter().map(|leaving| usize::from(leaving.request.is_some()) + leaving.flushes.len());
        waiting.chain(leaving).sum()
    }

    /// The same with what is left of requests that nobody waits for any more: it takes memory, too.
    pub(super) fn in_all(&self) -> usize {
        let flushes = self.waiting.iter().map(|waiting| waiting.flushes.len());
        let leaving = self.leaving.iter().map(|leaving| leaving.flushes.len());
        self.waiting.len() + self.leaving.len() + flushes.chain(leaving).sum::<usize>()
    }

    /// Whether the tree has an operation, or a close that no request waits for.
    pub(super) fn is_ending(&self) -> bool {
        !self.is_empty() || self.closes > 0
    }

    /// The tree has nothing but closes that no request waits for.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.leaving.is_empty()
    }

    pub(super) fn add(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Whether a request or a flush with this tag has no reply yet.
    pub(super) fn has(&self, tag: Tag) -> bool {
        let requests = self.waiting.iter().filter_map(|waiting| waiting.request.as_ref());
        let flushes = self.waiting.iter().flat_map(|waiting| &waiting.flushes);
        let flushes = flushes.chain(self.leaving.iter().flat_map(|leaving| &leaving.flushes));
        let leaving = self.leaving.iter().filter_map(|leaving| leaving.request.as_ref());
        requests.chain(flushes).chain(leaving).any(|request| request.tag == tag)
    }

    /// The fids that operations are about to change.
    pub(super) fn changing(&self) -> impl Iterator<Item = Fid> {
        let live = self.waiting.iter().filter(|waiting| waiting.request.is_some());
        live.flat_map(|waiting| waiting.what.changes()).flatten()
    }

    /// Fids at most that answers will make.
    #[inline]
    pub(super) fn coming(&self) -> usize {
        if self.waiting.is_empty() { 0 } else { self.changing().count() }
    }

    /// Whether an operation works on this file.
    fn uses(&self, file: FileId) -> bool {
        self.waiting.iter().any(|waiting| waiting.files.contains(&Some(file)))
    }

    /// Whether a file without a fid waits for its last operation.
    pub(super) fn is_leaving(&self, file: FileId) -> bool {
        self.leaving.iter().any(|leaving| leaving.file == file)
    }

    pub(super) fn trim(&mut self) {
        self.waiting.shrink_to_fit();
        self.leaving.shrink_to_fit();
    }

    /// Places for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.waiting.capacity() + self.leaving.capacity()
    }
}

impl<S: Service> Session<S> {
    /// flush(9P)
    pub(super) fn flush(&mut self, fs: &mut S, request: Request, oldtag: Tag, at: At) -> Result<()> {
        let is_it = |waiting: &Waiting| waiting.request.is_some_and(|request| request.tag == oldtag);
        if let Some(found) = self.pending.waiting.iter().position(is_it) {
            if !self.take_back(fs, found) {
                self.pending.waiting[found].flushes.push(request);
                return Ok(());
            }
            self.reply(Gate::OPEN, request, &Message::Rflush {});
            self.ended(fs, at);
            return Ok(());
        }
        let is_it = |leaving: &&mut Leaving| leaving.request.is_some_and(|request| request.tag == oldtag);
        if let Some(leaving) = self.pending.leaving.iter_mut().find(is_it) {
            leaving.flushes.push(request);
            return Ok(());
        }
        if !self.queue.remove(oldtag) {
            // A flush that waits is taken back by a flush of it; its own reply is the only one that is owed then.
            let flushes = self.pending.waiting.iter_mut().map(|waiting| &mut waiting.flushes);
            let flushes = flushes.chain(self.pending.leaving.iter_mut().map(|leaving| &mut leaving.flushes));
            flushes.for_each(|flushes| flushes.retain(|flush| flush.tag != oldtag));
        }
        // A reply that waits for its gate leaves before that of the flush.
        let gate = self.out.gate_of(oldtag).unwrap_or(Gate::OPEN);
        self.reply(gate, request, &Message::Rflush {});
        self.ended(fs, at);
        Ok(())
    }

    /// Takes an operation back if that is still possible. Flushes that were too late before are answered then.
    fn take_back(&mut self, fs: &mut S, found: usize) -> bool {
        if !self.pending.waiting[found].is_taken_back(fs) {
            return false;
        }
        let flushes = self.pending.waiting.remove(found).flushes;
        flushes.into_iter().for_each(|flush| self.reply(Gate::OPEN, flush, &Message::Rflush {}));
        true
    }

    /// Ends operations that nothing is certain to end, on this file or on all, with EINTR, as far as they can be taken back.
    fn interrupt_waiting(&mut self, fs: &mut S, file: Option<FileId>) {
        let mut at = 0;
        while let Some(waiting) = self.pending.waiting.get(at) {
            let is_meant = waiting.waits
                && !waiting.what.ends_file()
                && file.is_none_or(|file| waiting.files.contains(&Some(file)));
            if is_meant && fs.cancel(waiting.op) == Cancel::Cancelled {
                let waiting = self.pending.waiting.remove(at);
                match (waiting.request, waiting.what) {
                    (Some(_), What::Part { bytes }) => self.wrote_part(fs, bytes, Answer::now(Err(Error::EINTR))),
                    (Some(request), _) => self.reply_error(Gate::OPEN, request, Error::EINTR),
                    (None, _) => {}
                }
                waiting.flushes.into_iter().for_each(|flush| self.reply(Gate::OPEN, flush, &Message::Rflush {}));
            } else {
                at += 1;
            }
        }
    }

    /// The file's fid goes: what waits for news on it ends.
    pub(super) fn interrupt(&mut self, fs: &mut S, file: FileId, at: At) {
        self.interrupt_waiting(fs, Some(file));
        self.ended(fs, at);
    }

    /// Ends the reads that wait for news with EINTR, as far as they can be taken back. For a peer that will say
    /// nothing more: no Tflush of its can come, and what it has said behind them is served next. Other operations
    /// end by themselves, since they wait for the tree alone.
    pub fn interrupt_reads(&mut self, fs: &mut S, at: At) {
        self.interrupt_waiting(fs, None);
        self.ended(fs, at);
    }

    /// A file has no fid any more: it is closed, after its last operation. `request`: whose reply says so.
    #[inline(never)]
    pub(super) fn drop_file(&mut self, fs: &mut S, file: FileId, request: Option<Request>, at: At) {
        self.leave(fs, Leaving { file, request, removes: false, flushes: Vec::new() }, at);
    }

    /// The same, but it is removed first.
    pub(super) fn remove_file(&mut self, fs: &mut S, file: FileId, request: Request, at: At) {
        self.leave(fs, Leaving { file, request: Some(request), removes: true, flushes: Vec::new() }, at);
    }

    #[inline(never)]
    fn leave(&mut self, fs: &mut S, leaving: Leaving, at: At) {
        if !self.pending.is_empty() && self.pending.uses(leaving.file) {
            self.pending.leaving.push(leaving);
            return;
        }
        let Leaving { file, request, removes, flushes } = leaving;
        match request {
            Some(request) if removes => {
                self.ask::<{ kind::REMOVE }>(fs, request, What::Remove { file }, Call::Remove { file }, at);
            }
            Some(request) => self.ask::<{ kind::CLOSED }>(fs, request, What::Closed, Call::Close { file }, at),
            None => {
                if !matches!(fs.call(self.op(), Call::Close { file }, Show::Nothing, at), Outcome::Done(_)) {
                    self.serial += 1;
                    self.pending.closes += 1;
                }
            }
        }
        if let Some(request) = request.filter(|_| !flushes.is_empty()) {
            self.follow(request, flushes);
        }
    }

    /// Flushes that came too late for a request follow its reply: now, or once its next operation has ended.
    pub(super) fn follow(&mut self, request: Request, flushes: Vec<Request>) {
        let is_its = |waiting: &&mut Waiting| waiting.request.is_some_and(|waiting| waiting.tag == request.tag);
        if let Some(next) = self.pending.waiting.iter_mut().find(is_its) {
            next.flushes.extend(flushes);
            return;
        }
        let gate = self.out.gate_of(request.tag).unwrap_or(Gate::OPEN);
        flushes.into_iter().for_each(|flush| self.reply(gate, flush, &Message::Rflush {}));
    }

    /// An operation has ended: files that waited for it go, and so do requests behind it.
    #[inline]
    pub(super) fn ended(&mut self, fs: &mut S, at: At) {
        if !self.pending.leaving.is_empty() {
            self.close_unused(fs, at);
        }
        if !self.queue.is_empty() {
            self.serve_queue(fs, at);
        }
    }

    #[cold]
    fn close_unused(&mut self, fs: &mut S, at: At) {
        let mut place = 0;
        while let Some(leaving) = self.pending.leaving.get(place) {
            if self.pending.uses(leaving.file) {
                place += 1;
            } else {
                let leaving = self.pending.leaving.remove(place);
                self.leave(fs, leaving, at);
            }
        }
    }

    /// Nothing of what was asked for is answered any more. What can be taken back is.
    pub(super) fn forget_pending(&mut self, fs: &mut S) {
        self.queue.clear();
        self.pending.waiting.retain_mut(|waiting| {
            // What was too late once is not asked for again.
            let is_known = waiting.request.take().is_some();
            waiting.flushes = Vec::new();
            !(is_known && waiting.is_taken_back(fs))
        });
        for leaving in &mut self.pending.leaving {
            (leaving.request, leaving.removes, leaving.flushes) = (None, false, Vec::new());
        }
    }

    /// Goes on with an operation that the tree has named. An operation that is not in the list is a close that no request waits for.
    pub(super) fn go_on(&mut self, fs: &mut S, op: OpId, at: At) {
        let Some(found) = self.pending.waiting.iter().position(|waiting| waiting.op == op) else {
            if discard(fs, op, at) {
                self.pending.closes = self.pending.closes.saturating_sub(1);
            }
            return;
        };
        let waiting = self.pending.waiting.remove(found);
        let Some(request) = waiting.request else {
            let ended = end_for_nobody(fs, op, at);
            if ended.is_none() && !waiting.is_taken_back(fs) {
                return self.pending.add(waiting);
            }
            let removed = if let What::Remove { file } = waiting.what { Some(file) } else { None };
            for file in [ended.flatten(), removed].into_iter().flatten() {
                self.drop_file(fs, file, None, at);
            }
            return self.ended(fs, at);
        };
        // A read that waited has waited for news, which no server can hasten: its service begins now.
        let at_ns = if waiting.waits { at.mono_ns } else { request.at_ns };
        let request = Request { at_ns, ..request };
        self.finish(fs, Waiting { request: Some(request), ..waiting }, request, at);
        self.ended(fs, at);
    }
}

/// Ends an operation that nobody waits for any more, if it can end by now: whether it has. A file that it gives out is closed.
pub fn discard<S: Service>(fs: &mut S, op: OpId, at: At) -> bool {
    let Some(file) = end_for_nobody(fs, op, at) else { return false };
    if let Some(file) = file {
        // The name of the operation is free again.
        fs.call(op, Call::Close { file }, Show::Nothing, at);
    }
    true
}

/// The same, but a file that it gives out is to be closed by the caller. `None` if it cannot end by now.
fn end_for_nobody<S: Service>(fs: &mut S, op: OpId, at: At) -> Option<Option<FileId>> {
    let Outcome::Done(answer) = fs.finish(op, Show::Nothing, at) else { return None };
    Some(match answer.result {
        Ok(Done::File { file, .. } | Done::Walked(Some(file))) => Some(file),
        _ => None,
    })
}
