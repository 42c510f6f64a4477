//! Payloads of large writes, from the head of the message to its reply; and payloads of refused
//! writes, which are thrown away.

use super::fids::{FidEntry, State};
use super::what::{What, kind};
use super::{Broken, Request, Session};
use crate::fs::{Answer, At, Call, Done, Error, FileId, Gate, Grant, Payload, Service};
use crate::wire::{Data, Dialect, Fid, Message, NOTAG};

/// What the next bytes belong to.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A new message.
    Between,
    /// A payload with memory of its own; `landing` is `None` while a driver has it.
    Landing { request: Request, file: FileId, landing: Option<Landing> },
    /// A payload that is written in parts as it comes, to a file that has no memory to lend. The first part that is not taken whole ends that.
    Parts(Parts),
    /// Bytes to be thrown away, then the reply: a count, or an error.
    Skipping { request: Request, left: usize, answer: Result<u32, Error>, gate: Gate },
}

/// A payload that is written in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    request: Request,
    fid: Fid,
    file: FileId,
    offset: u64,
    done: u32,
    left: usize,
    /// The tree has not taken the last part yet.
    waits: bool,
    /// What the parts so far wait for.
    gate: Gate,
}

impl Inbound {
    pub(super) fn is_between(&self) -> bool {
        matches!(self, Inbound::Between)
    }

    /// Bytes until the next message.
    pub(super) fn left(&self) -> usize {
        match self {
            Inbound::Between => 0,
            Inbound::Landing { landing, .. } => {
                landing.as_ref().map_or(0, |landing| landing.left() + landing.0.missing())
            }
            Inbound::Parts(Parts { left, .. }) | Inbound::Skipping { left, .. } => *left,
        }
    }

    /// Nothing of the payload is taken before an operation has ended.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Inbound::Parts(Parts { waits: true, .. }))
    }

    /// Bytes that need not be looked at.
    pub(super) fn skip(&self) -> usize {
        match self {
            Inbound::Skipping { left, .. } => *left,
            _ => 0,
        }
    }
}

/// Where the rest of a large payload may be received: stable memory of a file's blocks. Owned; dropping it abandons the write.
#[derive(Debug)]
pub struct Landing(Grant);

impl Landing {
    /// Bytes still to come.
    pub fn left(&self) -> usize {
        self.0.space.left()
    }

    /// Nothing of this write comes behind them: the next byte is that of a new message.
    pub fn is_last(&self) -> bool {
        self.0.missing() == 0
    }

    /// Where they go, in order. The addresses stay the same wherever the landing is moved.
    pub fn unfilled(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.0.space.unfilled()
    }
}

impl<S: Service> Session<S> {
    /// Starts a large write from its head: checked, and given memory, before its payload is there.
    pub(super) fn begin_bulk(&mut self, fs: &mut S, request: Request, head: &[u8], at: At) -> Result<(), Broken> {
        let dialect = self.dialect.expect("a write comes after the version");
        let size = crate::wire::head(head).map_or(0, |head| head.size as usize);
        let (fid, offset, count) = match Message::parse_head(head, dialect) {
            Ok((tag, message @ Message::Twrite { fid, offset, data: Data::Away(count) })) if tag != NOTAG => {
                self.trace('>', &message, request.tag);
                (fid, offset, count)
            }
            _ => return self.refuse(request, Error::EINVAL, size - head.len()),
        };
        let left = count as usize;
        let open = |error| (error, Gate::OPEN);
        let granted = self.check_writable(fid).map_err(open).and_then(|held| {
            let file = held.file;
            let parts = Parts { request, fid, file, offset, done: 0, left, waits: false, gate: Gate::OPEN };
            if let State::Attr(attr) = &held.state {
                attr.check(offset, left).map_err(open)?;
                return Ok(Inbound::Parts(parts));
            }
            Ok(match fs.grant(file, offset, count, at).map_err(|error| (error, fs.refused(file)))? {
                Payload::Memory(grant) => Inbound::Landing { request, file, landing: Some(Landing(grant)) },
                Payload::Discarded => Inbound::Skipping { request, left, answer: Ok(count), gate: Gate::OPEN },
                Payload::Parts => Inbound::Parts(parts),
            })
        });
        self.inbound = match granted {
            Ok(inbound) => inbound,
            Err((error, gate)) => Inbound::Skipping { request, left, answer: Err(error), gate },
        };
        Ok(())
    }

    /// Throws the rest of a message away, then answers with an error.
    pub(super) fn refuse(&mut self, request: Request, error: Error, left: usize) -> Result<(), Broken> {
        self.errors += 1;
        if self.errors >= super::PROTOCOL_ERRORS_MAX {
            return Err(Broken::TooManyErrors);
        }
        self.inbound = Inbound::Skipping { request, left, answer: Err(error), gate: Gate::OPEN };
        Ok(())
    }

    /// The fid, if it may be written to.
    pub(super) fn check_writable(&mut self, fid: Fid) -> Result<&mut FidEntry, Error> {
        let held = self.fids.any(fid)?;
        match &held.state {
            State::Open { write: true, .. } => Ok(held),
            State::OpenDir { .. } if self.dialect == Some(Dialect::L) => Err(Error::EISDIR),
            State::Attr(attr) if attr.takes() => Ok(held),
            _ => Err(Error::EBADF),
        }
    }

    /// Takes bytes that belong to the payload; how many that were.
    pub(super) fn payload(&mut self, fs: &mut S, bytes: &[u8], at: At) -> usize {
        match &mut self.inbound {
            Inbound::Between => 0,
            // A tree is not asked to write nothing just because no byte has come yet.
            _ if bytes.is_empty() => 0,
            Inbound::Landing { landing, .. } => {
                let landing = landing.as_mut().expect("nothing is received while a landing is lent");
                let n = landing.0.space.fill(bytes);
                if landing.left() == 0 {
                    self.filled(fs, at);
                }
                n
            }
            Inbound::Parts(Parts { waits: true, .. }) => 0,
            &mut Inbound::Parts(parts) => {
                let n = bytes.len().min(parts.left);
                self.write_part(fs, parts, &bytes[..n], at);
                n
            }
            Inbound::Skipping { left, .. } => {
                let n = bytes.len().min(*left);
                self.skipped(fs, n, at);
                n
            }
        }
    }

    /// Writes the next part of a payload.
    fn write_part(&mut self, fs: &mut S, parts: Parts, part: &[u8], at: At) {
        let bytes = part.len() as u32;
        self.message_bytes = bytes;
        let Parts { request, fid, file, offset, done, left, .. } = parts;
        self.inbound = Inbound::Parts(Parts { left: left - part.len(), waits: true, ..parts });
        let Some(offset) = offset.checked_add(done.into()) else {
            return self.wrote_part(fs, bytes, Answer::now(Err(Error::EFBIG)));
        };
        match self.fids.any(fid) {
            Ok(FidEntry { state: State::Attr(attr), .. }) => {
                let written = attr.write(offset, part).map(Done::Count);
                self.wrote_part(fs, bytes, Answer::now(written));
            }
            _ => {
                let call = Call::Write { file, offset, data: part };
                self.ask::<{ kind::PART }>(fs, request, What::Part { bytes }, call, at);
            }
        }
    }

    /// What became of a part of so many bytes.
    pub(super) fn wrote_part(&mut self, fs: &mut S, bytes: u32, answer: Answer) {
        let Inbound::Parts(parts) = self.inbound else { return };
        let Parts { request, done, left, .. } = parts;
        let gate = parts.gate.max(answer.gate);
        // One that is not taken whole ends it. What was taken before is in the file: the reply says how much that is (write(2)).
        let (done, ends) = match answer.result {
            Ok(Done::Count(count)) if count >= bytes => (done + bytes, None),
            Ok(Done::Count(count)) => (done + count, Some(Ok(done + count))),
            Ok(_) if done == 0 => (done, Some(Err(Error::EIO))),
            Err(error) if done == 0 => (done, Some(Err(error))),
            _ => (done, Some(Ok(done))),
        };
        self.inbound = match ends {
            None => Inbound::Parts(Parts { done, waits: false, gate, ..parts }),
            Some(answer) => Inbound::Skipping { request, left, answer, gate },
        };
        if left == 0 {
            self.end_payload(fs);
            self.begun = None;
        }
    }

    /// Where the rest of a large write may be received, if one is under way. The driver owns it from now on.
    pub fn landing(&mut self) -> Option<Landing> {
        match &mut self.inbound {
            Inbound::Landing { landing, .. } => landing.take(),
            _ => None,
        }
    }

    /// What [`landing`](Self::landing) would give.
    pub fn next_landing(&self) -> Option<&Landing> {
        match &self.inbound {
            Inbound::Landing { landing, .. } => landing.as_ref(),
            _ => None,
        }
    }

    /// `n` more bytes are in the landing. It comes back while bytes are missing; the last one publishes the write and queues its reply.
    pub fn landed(&mut self, fs: &mut S, mut landing: Landing, n: usize, at: At) -> Option<Landing> {
        landing.0.space.advance(n);
        if landing.left() > 0 {
            return Some(landing);
        }
        if let Inbound::Landing { landing: slot, .. } = &mut self.inbound {
            *slot = Some(landing);
            self.filled(fs, at);
        }
        if self.inbound.is_between() {
            self.begun = None;
        }
        self.landing()
    }

    /// `n` bytes that [`Need::skip`](super::Need::skip) named were received and thrown away.
    pub fn skipped(&mut self, fs: &mut S, n: usize, at: At) {
        let _ = at;
        if let Inbound::Skipping { left, .. } = &mut self.inbound {
            debug_assert!(n <= *left, "no more is thrown away than may be");
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.end_payload(fs);
                self.begun = None;
            }
        }
    }

    /// The space that a payload was given is full: it is whole, or needs more.
    fn filled(&mut self, fs: &mut S, at: At) {
        let Inbound::Landing { request, file, landing: Some(Landing(grant)) } = &mut self.inbound else { return };
        let (request, left) = (*request, grant.missing());
        if left == 0 {
            return self.commit(fs, at);
        }
        if let Err(error) = fs.extend(*file, grant) {
            // What has landed goes with the grant: nothing was written.
            let gate = fs.refused(*file);
            self.inbound = Inbound::Skipping { request, left, answer: Err(error), gate };
        }
    }

    fn commit(&mut self, fs: &mut S, at: At) {
        let Inbound::Landing { request, file, landing: Some(Landing(grant)) } =
            std::mem::replace(&mut self.inbound, Inbound::Between)
        else {
            unreachable!("a landing that is whole is committed");
        };
        self.ask::<{ kind::COUNT }>(fs, request, What::Count, Call::Commit { file, grant }, at);
    }

    /// The last byte of a payload without memory of its own is there.
    fn end_payload(&mut self, fs: &S) {
        let (request, answer, gate) = match std::mem::replace(&mut self.inbound, Inbound::Between) {
            Inbound::Parts(Parts { request, done, gate, .. }) => (request, Ok(done), gate),
            Inbound::Skipping { request, answer, gate, .. } => (request, answer, gate),
            Inbound::Between | Inbound::Landing { .. } => return,
        };
        let gate = if gate == Gate::OPEN || fs.is_open(gate) { Gate::OPEN } else { gate };
        match answer {
            Ok(count) => self.reply(gate, request, &Message::Rwrite { count }),
            Err(error) => self.reply_error(gate, request, error),
        }
    }
}
