//! Payloads of large writes, from the head of the message to its reply; and payloads of refused
//! writes, which are thrown away.

use super::fids::{Held, State};
use super::pending::What;
use super::{Broken, Request, Session};
use crate::fs::{At, Error, Filesystem, Grant, Outcome};
use crate::wire::{Data, Dialect, Fid, Message, NOTAG};

/// What the next bytes belong to.
#[derive(Debug)]
pub(super) enum Inbound {
    /// A new message.
    Between,
    /// A payload with memory of its own; `landing` is `None` while a driver has it.
    Landing { request: Request, fid: Fid, landing: Option<Landing> },
    /// A payload that is written in parts as it comes, to a file that has no memory to lend. The first part that is not taken whole ends that.
    Parts { request: Request, fid: Fid, offset: u64, done: u32, left: usize },
    /// Bytes to be thrown away, then the reply: a count, or an error.
    Skipping { request: Request, left: usize, answer: Result<u32, Error> },
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
            Inbound::Parts { left, .. } | Inbound::Skipping { left, .. } => *left,
        }
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

impl<F: Filesystem> Session<F> {
    /// Starts a large write from its head: checked, and given memory, before its payload is there.
    pub(super) fn begin_bulk(&mut self, fs: &mut F, request: Request, head: &[u8], at: At) -> Result<(), Broken> {
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
        let granted = self.check_writable(fid).and_then(|held| {
            if let State::Attr(attr) = &held.state {
                attr.check(offset, left)?;
                return Ok(Inbound::Parts { request, fid, offset, done: 0, left });
            }
            if fs.discards(&held.file) {
                return Ok(Inbound::Skipping { request, left, answer: Ok(count) });
            }
            Ok(match fs.grant(&mut held.file, offset, count, at)? {
                Some(grant) => Inbound::Landing { request, fid, landing: Some(Landing(grant)) },
                None => Inbound::Parts { request, fid, offset, done: 0, left },
            })
        });
        self.inbound = match granted {
            Ok(inbound) => inbound,
            Err(error) => Inbound::Skipping { request, left, answer: Err(error) },
        };
        Ok(())
    }

    /// Throws the rest of a message away, then answers with an error.
    pub(super) fn refuse(&mut self, request: Request, error: Error, left: usize) -> Result<(), Broken> {
        self.errors += 1;
        if self.errors >= super::PROTOCOL_ERRORS_MAX {
            return Err(Broken::TooManyErrors);
        }
        self.inbound = Inbound::Skipping { request, left, answer: Err(error) };
        Ok(())
    }

    /// The fid, if it may be written to.
    pub(super) fn check_writable(&mut self, fid: Fid) -> Result<&mut Held<F::File>, Error> {
        let held = self.fids.any(fid)?;
        match &held.state {
            State::Open { write: true, .. } => Ok(held),
            State::OpenDir { .. } if self.dialect == Some(Dialect::L) => Err(Error::EISDIR),
            State::Attr(attr) if attr.takes() => Ok(held),
            _ => Err(Error::EBADF),
        }
    }

    /// Takes bytes that belong to the payload; how many that were.
    pub(super) fn payload(&mut self, fs: &mut F, bytes: &[u8], at: At) -> usize {
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
            &mut Inbound::Parts { request, fid, offset, done, left } => {
                let n = bytes.len().min(left);
                let (taken, stopped) = self.write_part(fs, fid, offset, done, &bytes[..n], at);
                let (done, left) = (done + taken, left - n);
                self.inbound = match stopped {
                    None => Inbound::Parts { request, fid, offset, done, left },
                    Some(error) => {
                        // What was taken before is in the file: the reply says how much that is (write(2)).
                        let answer = error.filter(|_| done == 0).map_or(Ok(done), Err);
                        Inbound::Skipping { request, left, answer }
                    }
                };
                if left == 0 {
                    self.end_payload(fs);
                }
                n
            }
            Inbound::Skipping { left, .. } => {
                let n = bytes.len().min(*left);
                self.skipped(fs, n, at);
                n
            }
        }
    }

    /// One part of a payload: how much of it was taken, and whether that ends it, with which error.
    fn write_part(
        &mut self,
        fs: &mut F,
        fid: Fid,
        offset: u64,
        done: u32,
        part: &[u8],
        at: At,
    ) -> (u32, Option<Option<Error>>) {
        let place = offset.checked_add(done.into()).ok_or(Error::EFBIG);
        let written = place.and_then(|place| match self.fids.any(fid)? {
            Held { state: State::Attr(attr), .. } => attr.write(place, part).map(Outcome::Done),
            Held { file, .. } => fs.write(file, place, part, at),
        });
        match written {
            Ok(Outcome::Done(count)) if count as usize >= part.len() => (part.len() as u32, None),
            Ok(Outcome::Done(count)) => (count, Some(None)),
            // A part cannot wait: the next one is already there.
            Ok(Outcome::Pending(token)) => {
                fs.cancel(token);
                (0, Some(Some(Error::EIO)))
            }
            Err(error) => (0, Some(Some(error))),
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
    pub fn landed(&mut self, fs: &mut F, mut landing: Landing, n: usize, at: At) -> Option<Landing> {
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
    pub fn skipped(&mut self, fs: &mut F, n: usize, at: At) {
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
    fn filled(&mut self, fs: &mut F, at: At) {
        let Inbound::Landing { request, fid, landing: Some(Landing(grant)) } = &mut self.inbound else { return };
        let (request, left) = (*request, grant.missing());
        if left == 0 {
            return self.commit(fs, at);
        }
        let extended = self.fids.get(*fid).and_then(|held| fs.extend(&mut held.file, grant));
        if let Err(error) = extended {
            // What has landed goes with the grant: nothing was written.
            self.inbound = Inbound::Skipping { request, left, answer: Err(error) };
        }
    }

    fn commit(&mut self, fs: &mut F, at: At) {
        let Inbound::Landing { request, fid, landing: Some(Landing(grant)) } =
            std::mem::replace(&mut self.inbound, Inbound::Between)
        else {
            unreachable!("a landing that is whole is committed");
        };
        let done = self.fids.get(fid).and_then(|held| fs.commit(&mut held.file, grant, at));
        self.answer_count(fs, request, fid, done);
    }

    /// The last byte of a payload without memory of its own is there.
    fn end_payload(&mut self, fs: &mut F) {
        match std::mem::replace(&mut self.inbound, Inbound::Between) {
            Inbound::Parts { request, done: count, .. } | Inbound::Skipping { request, answer: Ok(count), .. } => {
                self.reply(fs.gate(), request, &Message::Rwrite { count });
            }
            Inbound::Skipping { request, answer: Err(error), .. } => self.reply_error(fs.gate(), request, error),
            Inbound::Between | Inbound::Landing { .. } => {}
        }
    }

    /// The reply to a write of any kind.
    pub(super) fn answer_count(&mut self, fs: &F, request: Request, fid: Fid, done: Result<Outcome<u32>, Error>) {
        match done {
            Ok(Outcome::Done(count)) => self.reply(fs.gate(), request, &Message::Rwrite { count }),
            Ok(Outcome::Pending(token)) => self.pending.add(token, request, fid, What::Write),
            Err(error) => self.reply_error(fs.gate(), request, error),
        }
    }
}
