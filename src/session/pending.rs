//! Requests that wait for their tree, and Tflush (flush(9P)).
//!
//! A flushed request is answered before its Rflush, or never. Flushes of one request are answered
//! in order, after the request.

use super::{Request, SHOWN_BYTES_PER_UNIT, Session};
use crate::fs::{At, Cancel, Error, Filesystem, Gate, Mark, Result, Token};
use crate::wire::{Data, Dialect, Fid, Message, READ_HEAD, Tag};

/// How a pending operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Rread with at most this many bytes.
    Read { room: u32 },
    /// Rwrite.
    Write,
    /// Rfsync, or Rwstat where that means fsync.
    Sync,
}

#[derive(Debug)]
struct Waiting {
    token: Token,
    request: Request,
    fid: Fid,
    what: What,
    /// Flushes that came too late to take it back.
    flushes: Vec<Request>,
}

/// What waits. Short: bounded by the configuration.
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<Waiting>);

impl Pending {
    /// Requests and flushes that have no reply yet.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|waiting| 1 + waiting.flushes.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, token: Token, request: Request, fid: Fid, what: What) {
        self.0.push(Waiting { token, request, fid, what, flushes: Vec::new() });
    }

    /// Whether a request or a flush with this tag has no reply yet.
    pub(super) fn has(&self, tag: Tag) -> bool {
        let is_it =
            |waiting: &Waiting| waiting.request.tag == tag || waiting.flushes.iter().any(|flush| flush.tag == tag);
        !self.0.is_empty() && self.0.iter().any(is_it)
    }

    pub(super) fn trim(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Token> {
        self.0.drain(..).map(|waiting| waiting.token)
    }
}

impl<F: Filesystem> Session<F> {
    pub(super) fn flush(&mut self, fs: &mut F, request: Request, oldtag: Tag) -> Result<()> {
        let waiting = &mut self.pending.0;
        if let Some(at) = waiting.iter().position(|waiting| waiting.request.tag == oldtag) {
            match fs.cancel(waiting[at].token) {
                Cancel::Cancelled => {
                    let flushes = waiting.remove(at).flushes;
                    flushes.into_iter().for_each(|flush| self.reply(0, flush, &Message::Rflush {}));
                }
                Cancel::TooLate => {
                    waiting[at].flushes.push(request);
                    return Ok(());
                }
            }
        } else {
            // A flush that waits is taken back by a flush of it; its own reply is the only one that is owed then.
            waiting.iter_mut().for_each(|waiting| waiting.flushes.retain(|flush| flush.tag != oldtag));
        }
        self.reply(0, request, &Message::Rflush {});
        Ok(())
    }

    /// The fid goes: what waits on it is answered, as far as it can be taken back.
    pub(super) fn interrupt(&mut self, fs: &mut F, fid: Fid) {
        while let Some(at) = self
            .pending
            .0
            .iter()
            .position(|waiting| waiting.fid == fid && fs.cancel(waiting.token) == Cancel::Cancelled)
        {
            let waiting = self.pending.0.remove(at);
            self.reply_error(fs.gate(), waiting.request, Error::EINTR);
            waiting.flushes.into_iter().for_each(|flush| self.reply(0, flush, &Message::Rflush {}));
        }
    }

    /// Ends the reads that wait for news with EINTR, as far as they can be taken back. For a peer that will say
    /// nothing more: no Tflush of its can come, and what it has said behind them is served next. Writes and
    /// syncs end by themselves, since they wait for the tree alone.
    pub fn interrupt_reads(&mut self, fs: &mut F) {
        let mut at = 0;
        while let Some(waiting) = self.pending.0.get(at) {
            let is_read = matches!(waiting.what, What::Read { .. });
            if is_read && fs.cancel(waiting.token) == Cancel::Cancelled {
                let waiting = self.pending.0.remove(at);
                self.reply_error(fs.gate(), waiting.request, Error::EINTR);
                waiting.flushes.into_iter().for_each(|flush| self.reply(0, flush, &Message::Rflush {}));
            } else {
                at += 1;
            }
        }
    }

    pub(super) fn finish(&mut self, fs: &mut F, token: Token, at: At) {
        let found = self.pending.0.iter().position(|waiting| waiting.token == token);
        let batch = self.out.batch(fs.gate());
        let mark = batch.iovec().mark();
        let Some(index) = found else {
            // Too late to be cancelled, and a Tversion ended its request: the tree is to be rid of its result too.
            let _ = fs.finish(token, batch.iovec().out(0), at);
            batch.iovec().rollback(mark);
            return;
        };
        let Waiting { request, what, flushes, .. } = self.pending.0.remove(index);
        let room = if let What::Read { room } = what { room } else { 0 };
        // A read that waited has waited for news, which no server can hasten: its service begins now. Writes and syncs have waited for the tree.
        let at_ns = if let What::Read { .. } = what { at.mono_ns } else { request.at_ns };
        let request = Request { at_ns, ..request };
        if let What::Read { .. } = what {
            batch.iovec().put_copy(&[0; READ_HEAD]);
        }
        let finished = fs.finish(token, batch.iovec().out(room), at);
        let gate = fs.gate();
        match (finished, what) {
            (Ok(_), What::Read { .. }) => self.end_data(gate, mark, request, |data| Message::Rread { data }),
            (Ok(count), What::Write) => self.reply(gate, request, &Message::Rwrite { count }),
            (Ok(_), What::Sync) if self.dialect == Some(Dialect::L) => self.reply(gate, request, &Message::Rfsync {}),
            (Ok(_), What::Sync) => self.reply(gate, request, &Message::Rwstat {}),
            (Err(error), _) => {
                batch.iovec().rollback(mark);
                self.reply_error(gate, request, error);
            }
        }
        flushes.into_iter().for_each(|flush| self.reply(gate, flush, &Message::Rflush {}));
    }

    /// Writes the head of an Rread or Rreaddir in front of what was appended since `mark`. `gate` is asked for after that: what a reply shows decides
    /// when it may leave.
    pub(super) fn end_data(
        &mut self,
        gate: Gate,
        mark: Mark,
        request: Request,
        message: impl FnOnce(Data<'static>) -> Message<'static>,
    ) {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let batch = self.out.last(gate);
        let count = batch.iovec().since(mark) - READ_HEAD;
        let message = message(Data::Away(count as u32));
        message.emit(request.tag, dialect, &mut batch.iovec().patch(mark));
        batch.end_reply(request.kind, request.at_ns);
        self.charge_bytes(count, SHOWN_BYTES_PER_UNIT);
        self.trace('<', &message, request.tag);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::testtree::Tree;
    use super::*;
    use crate::wire::Kind;

    #[test]
    fn a_quiet_session_gives_memory_of_what_waited_back() {
        let mut session = Session::<Tree>::new(Config::new(1, 8192));
        for serial in 0..100 {
            let request = Request { tag: serial as Tag, kind: Kind::TWRITE, at_ns: 0 };
            session.pending.add(Token { peer: 1, serial }, request, 1, What::Write);
        }
        assert_eq!(session.pending.take_all().count(), 100);
        session.trim();
        assert_eq!(session.pending.0.capacity(), 0);
    }
}
