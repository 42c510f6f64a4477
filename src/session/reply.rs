//! Replies: each retires its tag, now or once its gate is open, and `--trace` shows it.
//!
//! Must not know: trees, and what a reply says.

use super::{Request, Session};
use crate::fs::{Error, Gate, Mark, Service};
use crate::wire::{self, Dialect, HEAD, Message, Tag};

/// Whether messages are logged (`--trace`).
#[inline(always)]
fn is_traced() -> bool {
    log::log_enabled!(target: "ring9::message", log::Level::Trace)
}

impl<S: Service> Session<S> {
    /// Answers a request, once this gate is open, and so retires its tag.
    ///
    /// It is inlined: the message is then known at each call, and its size and its fields cost no
    /// dispatch by type.
    #[inline(always)]
    pub(super) fn reply(&mut self, gate: Gate, request: Request, message: &Message<'_>) {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let size = message.size(dialect);
        debug_assert!(size <= self.msize as usize, "{message:?} of {size} bytes");
        if gate != Gate::OPEN || is_traced() {
            return self.reply_unusual(gate, request, message);
        }
        let batch = self.out.batch();
        message.emit(request.tag, dialect, &mut batch.iovec().put_small(size));
        batch.end_reply(request.kind, request.at_ns);
    }

    /// The same where it waits, or is traced.
    #[cold]
    #[inline(never)]
    fn reply_unusual(&mut self, gate: Gate, request: Request, message: &Message<'_>) {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let iovec = self.out.batch().iovec();
        let mark = iovec.mark();
        message.emit(request.tag, dialect, &mut iovec.put_small(message.size(dialect)));
        self.end_reply(gate, mark, request);
    }

    /// Answers a request with a message that has no fields.
    #[inline(always)]
    pub(super) fn reply_plain(&mut self, gate: Gate, request: Request) {
        if gate != Gate::OPEN || is_traced() {
            return self.reply_plain_unusual(gate, request);
        }
        let batch = self.out.batch();
        wire::put_head(batch.iovec().put_small(HEAD), request.kind.reply(), request.tag);
        batch.end_reply(request.kind, request.at_ns);
    }

    #[cold]
    #[inline(never)]
    fn reply_plain_unusual(&mut self, gate: Gate, request: Request) {
        let iovec = self.out.batch().iovec();
        let mark = iovec.mark();
        wire::put_head(iovec.put_small(HEAD), request.kind.reply(), request.tag);
        self.end_reply(gate, mark, request);
    }

    #[cold]
    #[inline(never)]
    pub(super) fn reply_error(&mut self, gate: Gate, request: Request, error: Error) {
        let ecode = u32::from(error.0);
        match self.dialect {
            Some(Dialect::L) => self.reply(gate, request, &Message::Rlerror { ecode }),
            _ => {
                let message = Message::Rerror { ename: error.text().as_bytes(), errno: wire::UOnly(ecode) };
                self.reply(gate, request, &message);
            }
        }
    }

    /// Logs the reply that was appended since `mark`, if messages are.
    #[inline]
    fn trace_reply(&mut self, mark: Mark) {
        if is_traced() {
            let dialect = self.dialect.unwrap_or(Dialect::P9);
            let Session { out, config, .. } = self;
            let bytes = out.batch().iovec().patch(mark);
            if let Ok((tag, message)) = Message::parse(bytes, dialect).or_else(|_| Message::parse_head(bytes, dialect))
            {
                let line = message.line(tag, dialect);
                log::trace!(target: "ring9::message", "peer {} < {line}", config.peer);
            }
        }
    }

    /// Logs a message, if messages are.
    pub(super) fn trace(&self, direction: char, message: &Message<'_>, tag: Tag) {
        log::trace!(
            target: "ring9::message",
            "peer {} {direction} {}",
            self.config.peer,
            message.line(tag, self.dialect.unwrap_or(Dialect::P9))
        );
    }

    /// What was appended since `mark` is the reply. It leaves once this gate, which is closed, is open.
    #[inline(always)]
    pub(super) fn end_reply(&mut self, gate: Gate, mark: Mark, request: Request) {
        self.trace_reply(mark);
        if gate == Gate::OPEN {
            self.out.batch().end_reply(request.kind, request.at_ns);
        } else {
            self.out.hold(mark, gate, request.tag, request.kind, request.at_ns);
        }
    }
}
