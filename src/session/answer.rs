//! The answers of the tree, and the replies that they become: now or later, by the same path.
//!
//! A request asks by [`Session::ask`]. What its answer means is a [`What`], which is kept while the operation waits.
//!
//! Must not know: how a request is checked. `common.rs`, `classic.rs`, `linux.rs` and `lock.rs` do that.

use super::budget::LateBytes;
use super::convert;
use super::fids::State;
use super::outgoing::Outgoing;
use super::pending::{WAITING_BYTES, Waiting};
use super::what::{Asking, Finishing, How, Shown, What, closed, ended, kind, listed, opened, statfs};
use super::xattr::Attr;
use super::{LISTED_BYTES_PER_UNIT, NAMES_PER_UNIT, Request, SHOWN_BYTES_PER_UNIT, Session, allowed_iounit};
use crate::fs::{
    Answer, At, Call, Done, Error, FileId, Gate, Lock, LockKind, Mark, OpId, Open, Outcome, Result, Service, Show,
    StatFs, mode,
};
use crate::wire::{
    Data, Dialect, DirEntry, Fid, Kind, Message, QID_BYTES, Qid, READ_HEAD, Tag, WALK_HEAD, lock_type, put_qid,
    put_walk_head,
};

impl<S: Service> Session<S> {
    /// The name of the next operation. It is used again unless that operation waits.
    #[inline]
    pub(super) fn op(&self) -> OpId {
        OpId { peer: self.config.peer, serial: self.serial }
    }

    /// Asks the tree, and answers the request, now or later.
    #[inline(always)]
    pub(super) fn ask<const KIND: u8>(&mut self, fs: &mut S, request: Request, what: What, call: Call<'_>, at: At) {
        self.ask_about::<KIND>(fs, request, what, call, None, at);
    }

    /// The same where the answer needs the message.
    #[inline(always)]
    pub(super) fn ask_about<const KIND: u8>(
        &mut self,
        fs: &mut S,
        request: Request,
        what: What,
        mut call: Call<'_>,
        message: Shown<'_>,
        at: At,
    ) {
        let op = self.op();
        let files = call.files().map(|file| file.copied());
        let outcome = self.conduct::<KIND>(fs, request, op, what, message, at, Asking(call));
        if let Err(waits) = outcome {
            self.wait(request, what, files, waits, message);
        }
    }

    #[cold]
    fn wait(&mut self, request: Request, what: What, files: [Option<FileId>; 2], waits: bool, message: Shown<'_>) {
        let op = self.op();
        self.serial += 1;
        let frame = message.filter(|_| what.needs_message()).map(|(_, frame)| frame.into());
        // The tree may keep all of the message, too.
        let bytes = WAITING_BYTES + self.message_bytes as usize + frame.as_deref().map_or(0, <[u8]>::len);
        let taken = LateBytes::new(&self.config.budget, bytes);
        let request = Some(request);
        self.pending.add(Waiting { op, request, what, files, waits, frame, flushes: Vec::new(), _taken: taken });
    }

    /// Finishes an operation that has waited.
    #[cold]
    pub(super) fn finish(&mut self, fs: &mut S, mut waiting: Waiting, request: Request, at: At) {
        let op = waiting.op;
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let frame = waiting.frame.take();
        let parsed = frame.as_deref().and_then(|frame| Message::parse(frame, dialect).ok().zip(Some(frame)));
        let message = parsed.as_ref().map(|((_, message), frame)| (message, *frame));
        if let What::Entries { room } | What::Records { room, .. } = &mut waiting.what {
            *room = self.listing_room(*room) as u32;
        }
        let outcome = self.conduct_any(fs, request, op, waiting.what, message, at);
        if let (What::Part { .. }, Some(begun)) = (waiting.what, &mut self.begun) {
            // The time that the tree took is not the peer's.
            begun.at_ns = at.mono_ns;
        }
        match outcome {
            Err(waits) => {
                let files = waiting.files;
                waiting.waits = waits;
                waiting.frame = frame;
                self.pending.add(waiting);
                // The fid of one of them is gone already.
                if waits && let Some(file) = files.into_iter().flatten().find(|file| self.pending.is_leaving(*file)) {
                    self.interrupt(fs, file, at);
                }
            }
            Ok(()) => self.follow(request, waiting.flushes),
        }
    }

    /// Goes on with an operation, and answers the request if it has ended. Otherwise whether it waits for news.
    ///
    /// `KIND` is that of `what`. It is inlined where requests ask: each has its own kind alone.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "those of `ask`, and how it goes on")]
    fn conduct<const KIND: u8>(
        &mut self,
        fs: &mut S,
        request: Request,
        op: OpId,
        what: What,
        message: Shown<'_>,
        at: At,
        how: impl How<S>,
    ) -> std::result::Result<(), bool> {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        match KIND {
            kind::READ => {
                let What::Read { room } = what else { unreachable!() };
                let batch = self.out.batch();
                let mark = batch.iovec().mark();
                batch.iovec().put_copy(&[0; READ_HEAD]);
                let outcome = how.go(fs, op, Show::Data(batch.iovec().out(room)), at);
                self.end_data(fs, mark, request, outcome, |data| Message::Rread { data })
            }
            kind::ENTRIES => {
                let What::Entries { room } = what else { unreachable!() };
                let iovec = self.out.batch().iovec();
                let mark = iovec.mark();
                iovec.put_copy(&[0; READ_HEAD]);
                let (mut used, mut full) = (0, false);
                let outcome = how.go(
                    fs,
                    op,
                    Show::Entries(&mut |entry| {
                        let stat = &entry.stat;
                        // DT_ values are the type bits of the mode (readdir(3)).
                        let kind = ((stat.mode & mode::IFMT) >> 12) as u8;
                        let entry = DirEntry { qid: stat.qid, offset: entry.cookie, kind, name: stat.name };
                        let fits = used + entry.size() <= room as usize;
                        if fits {
                            entry.emit(&mut iovec.put_small(entry.size()));
                            used += entry.size();
                        }
                        full |= !fits;
                        fits
                    }),
                    at,
                );
                let outcome = listed(outcome, full && used == 0);
                self.charge_bytes(used, LISTED_BYTES_PER_UNIT);
                self.end_data(fs, mark, request, outcome, |data| Message::Rreaddir { data })
            }
            kind::RECORDS => {
                let What::Records { fid, offset, cookie, room } = what else { unreachable!() };
                self.records(fs, request, (fid, offset, cookie, room), (op, how, at))
            }
            kind::WALK => {
                let What::Walk { fid, newfid, steps } = what else { unreachable!() };
                let iovec = self.out.batch().iovec();
                let mark = iovec.mark();
                let bytes = iovec.put_small(WALK_HEAD + usize::from(steps) * QID_BYTES);
                let mut qids = bytes[WALK_HEAD..].chunks_exact_mut(QID_BYTES);
                let mut left = usize::from(steps);
                let step = &mut |qid: Qid| {
                    if let Some(bytes) = qids.next() {
                        put_qid(qid, bytes);
                        left -= 1;
                    }
                };
                let answer = match ended(how.go(fs, op, Show::Steps(step), at)) {
                    Ok(answer) => answer,
                    Err(waits) => {
                        self.out.batch().iovec().rollback(mark);
                        return Err(waits);
                    }
                };
                let count = usize::from(steps) - left;
                self.charge_bytes(count, NAMES_PER_UNIT);
                let mut shown = Err(Error::EIO);
                if let Ok(Done::Walked(reached)) = answer.result {
                    let iovec = self.out.batch().iovec();
                    iovec.cut(left * QID_BYTES);
                    put_walk_head(iovec.patch(mark), request.tag, count);
                    self.reach(fs, fid, newfid, reached, at);
                    shown = Ok(());
                }
                self.end_shown(fs, mark, request, Outcome::Done(answer), shown)
            }
            kind::ATTRIBUTES => {
                let What::Attributes { mask } = what else { unreachable!() };
                let mark = self.out.batch().iovec().mark();
                let Session { out, .. } = self;
                // A tree that shows nothing has not answered.
                let mut shown = Err(Error::EIO);
                let show = &mut |stat: &crate::fs::Stat<'_>| {
                    let reply = convert::getattr(stat, mask);
                    reply.emit(request.tag, dialect, &mut out.batch().iovec().put_small(reply.size(dialect)));
                    shown = Ok(());
                };
                let outcome = how.go(fs, op, Show::Stat(show), at);
                self.end_shown(fs, mark, request, outcome, shown)
            }
            kind::STAT => {
                let mark = self.out.batch().iovec().mark();
                let mut shown = Err(Error::EIO);
                let Session { out, config, msize, .. } = self;
                let show = &mut |stat: &crate::fs::Stat<'_>| {
                    convert::with_record(stat, dialect, &config.users, |stat| {
                        shown = put_text(out, *msize, request.tag, dialect, &Message::Rstat { stat });
                    });
                };
                let outcome = how.go(fs, op, Show::Stat(show), at);
                self.end_shown(fs, mark, request, outcome, shown)
            }
            kind::LINK => {
                let mark = self.out.batch().iovec().mark();
                let mut shown = Err(Error::EIO);
                let Session { out, msize, .. } = self;
                let show = &mut |target: &[u8]| {
                    shown = put_text(out, *msize, request.tag, dialect, &Message::Rreadlink { target });
                    shown
                };
                let outcome = how.go(fs, op, Show::Bytes(show), at);
                self.end_shown(fs, mark, request, outcome, shown)
            }
            kind::LOOK => {
                let What::Look { file } = what else { unreachable!() };
                let Some((Message::Twstat { stat, .. }, _)) = message else { unreachable!() };
                let mut change = Err(Error::EIO);
                let users = std::sync::Arc::clone(&self.config.users);
                let show = &mut |now: &crate::fs::Stat<'_>| change = convert::change_of(stat, now, dialect, &users);
                let answer = ended(how.go(fs, op, Show::Stat(show), at))?;
                match answer.result.and(change) {
                    Ok(Some(change)) => match change.name.map_or(Ok(()), crate::fs::check_name) {
                        Ok(()) => {
                            self.ask_plain(fs, request, Call::Wstat { file, change }, at);
                        }
                        Err(error) => self.answer(fs, request, answer.gate, Err(error)),
                    },
                    Ok(None) => {
                        self.ask_plain(fs, request, Call::Fsync { file, data_only: false }, at);
                    }
                    Err(error) => self.answer(fs, request, answer.gate, Err(error)),
                }
                Ok(())
            }
            kind::STAT_FS => {
                let mut of = StatFs::default();
                let answer = ended(how.go(fs, op, Show::StatFs(&mut of), at))?;
                self.answer(fs, request, answer.gate, answer.result.map(|_| statfs(&of)));
                Ok(())
            }
            kind::XATTR => {
                let What::Xattr { newfid } = what else { unreachable!() };
                let mut attr = Attr::to_read(&self.config.budget);
                let answer = ended(how.go(fs, op, Show::Bytes(&mut |bytes| attr.extend(bytes)), at))?;
                let size = attr.len() as u64;
                attr.gate = answer.gate;
                let reply = match answer.result {
                    Ok(Done::File { file, .. }) => match self.fids.put_attr(newfid, file, attr) {
                        Ok(()) => Ok(Message::Rxattrwalk { size }),
                        Err((error, file)) => {
                            self.drop_file(fs, file, None, at);
                            Err(error)
                        }
                    },
                    Ok(_) => Err(Error::EIO),
                    Err(error) => Err(error),
                };
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            kind::CONFLICT => {
                let Some((&Message::Tgetlock { start, length, proc_id, client_id, .. }, _)) = message else {
                    unreachable!()
                };
                let mark = self.out.batch().iovec().mark();
                let mut found = None;
                let Session { out, msize, .. } = self;
                let show = &mut |lock: &Lock<'_>| {
                    let reply = Message::Rgetlock {
                        type_: if lock.kind == LockKind::Shared { lock_type::SHARED } else { lock_type::EXCLUSIVE },
                        start: lock.range.start,
                        length: if lock.range.end == u64::MAX { 0 } else { lock.range.end - lock.range.start },
                        proc_id: lock.process,
                        client_id: lock.client,
                    };
                    found = Some(put_text(out, *msize, request.tag, dialect, &reply));
                };
                let outcome = how.go(fs, op, Show::Lock(show), at);
                let free = Message::Rgetlock { type_: lock_type::NONE, start, length, proc_id, client_id };
                let shown = found.unwrap_or_else(|| put_text(out, *msize, request.tag, dialect, &free));
                self.end_shown(fs, mark, request, outcome, shown)
            }
            kind::COUNT => {
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let reply = answer.result.and_then(|done| match done {
                    Done::Count(count) => Ok(Message::Rwrite { count }),
                    _ => Err(Error::EIO),
                });
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            kind::PART => {
                let What::Part { bytes } = what else { unreachable!() };
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                self.wrote_part(fs, bytes, answer);
                Ok(())
            }
            kind::PLAIN | kind::CLOSED => {
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                self.answer_plain(fs, request, answer);
                Ok(())
            }
            kind::REMOVE => {
                let What::Remove { file } = what else { unreachable!() };
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                self.answer_plain(fs, request, answer);
                self.drop_file(fs, file, None, at);
                Ok(())
            }
            kind::ATTACH => {
                let What::Attach { fid } = what else { unreachable!() };
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let reply = answer.result.and_then(|done| {
                    let Done::File { file, qid } = done else { return Err(Error::EIO) };
                    self.fids.put(fid, file);
                    Ok(Message::Rattach { qid })
                });
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            kind::OPEN => {
                let What::Open { fid, flags } = what else { unreachable!() };
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let reply = self.opened(fid, answer, flags).map(|(qid, iounit)| match request.kind {
                    Kind::TLOPEN => Message::Rlopen { qid, iounit },
                    Kind::TLCREATE => Message::Rlcreate { qid, iounit },
                    Kind::TOPEN => Message::Ropen { qid, iounit },
                    _ => Message::Rcreate { qid, iounit },
                });
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            kind::MADE => {
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let reply = match answer.result {
                    Ok(Done::Made(qid)) => Ok(match request.kind {
                        Kind::TSYMLINK => Message::Rsymlink { qid },
                        Kind::TMKNOD => Message::Rmknod { qid },
                        _ => Message::Rmkdir { qid },
                    }),
                    Ok(_) => Err(Error::EIO),
                    Err(error) => Err(error),
                };
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            kind::XATTR_CREATE => {
                let What::XattrCreate { fid } = what else { unreachable!() };
                let Some((message, _)) = message else { unreachable!() };
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let reply = answer.result.and_then(|_| self.becomes_attr(fid, message));
                self.answer(fs, request, answer.gate, reply.map(|()| Message::Rxattrcreate {}));
                Ok(())
            }
            kind::LOCK => {
                use crate::wire::lock_status::{BLOCKED, SUCCESS};
                let answer = ended(how.go(fs, op, Show::Nothing, at))?;
                let status = |done| if done == Done::Locked(true) { SUCCESS } else { BLOCKED };
                let reply = answer.result.map(|done| Message::Rlock { status: status(done) });
                self.answer(fs, request, answer.gate, reply);
                Ok(())
            }
            _ => unreachable!(),
        }
    }

    /// The same for an operation that has waited.
    fn conduct_any(
        &mut self,
        fs: &mut S,
        request: Request,
        op: OpId,
        what: What,
        message: Shown<'_>,
        at: At,
    ) -> std::result::Result<(), bool> {
        macro_rules! each {
            ($($variant:ident $kind:ident,)*) => {
                match what {
                    $(What::$variant { .. } => {
                        self.conduct::<{ kind::$kind }>(fs, request, op, what, message, at, Finishing)
                    })*
                }
            };
        }
        each! {
            Attach ATTACH,
            Walk WALK,
            Open OPEN,
            Read READ,
            Records RECORDS,
            Entries ENTRIES,
            Count COUNT,
            Part PART,
            Plain PLAIN,
            Closed CLOSED,
            Remove REMOVE,
            Stat STAT,
            Attributes ATTRIBUTES,
            Look LOOK,
            StatFs STAT_FS,
            Link LINK,
            Made MADE,
            Xattr XATTR,
            XattrCreate XATTR_CREATE,
            Lock LOCK,
            Conflict CONFLICT,
        }
    }

    /// Asks for something whose reply has no fields.
    #[inline(always)]
    pub(super) fn ask_plain(&mut self, fs: &mut S, request: Request, call: Call<'_>, at: At) {
        self.ask::<{ kind::PLAIN }>(fs, request, What::Plain, call, at);
    }

    /// The reply to an answer, as what the session has made of it.
    #[inline(always)]
    fn answer(&mut self, fs: &S, request: Request, gate: Gate, reply: Result<Message<'_>>) {
        let gate = closed(fs, gate);
        match reply {
            Ok(message) => self.reply(gate, request, &message),
            Err(error) => self.reply_error(gate, request, error),
        }
    }

    /// A reply without fields, or an error.
    #[inline(always)]
    fn answer_plain(&mut self, fs: &S, request: Request, answer: Answer) {
        let gate = closed(fs, answer.gate);
        match answer.result {
            Ok(_) => self.reply_plain(gate, request),
            Err(error) => self.reply_error(gate, request, error),
        }
    }

    /// What was appended since `mark` is the reply, unless the operation waits or has failed.
    #[inline(always)]
    fn end_shown(
        &mut self,
        fs: &S,
        mark: Mark,
        request: Request,
        outcome: Outcome,
        shown: Result<()>,
    ) -> std::result::Result<(), bool> {
        let answer = match ended(outcome) {
            Ok(answer) => answer,
            Err(waits) => {
                self.out.batch().iovec().rollback(mark);
                return Err(waits);
            }
        };
        let gate = closed(fs, answer.gate);
        match answer.result.and(shown) {
            Ok(()) => self.end_reply(gate, mark, request),
            Err(error) => {
                self.out.batch().iovec().rollback(mark);
                self.reply_error(gate, request, error);
            }
        }
        Ok(())
    }

    /// Writes the head of an Rread or Rreaddir in front of what was appended since `mark`.
    #[inline(always)]
    pub(super) fn end_data(
        &mut self,
        fs: &S,
        mark: Mark,
        request: Request,
        outcome: Outcome,
        message: impl FnOnce(Data<'static>) -> Message<'static>,
    ) -> std::result::Result<(), bool> {
        let shown = if let Outcome::Done(Answer { result: Ok(_), .. }) = outcome {
            let dialect = self.dialect.unwrap_or(Dialect::P9);
            let iovec = self.out.batch().iovec();
            let count = iovec.since(mark) - READ_HEAD;
            message(Data::Away(count as u32)).emit(request.tag, dialect, &mut iovec.patch(mark));
            self.charge_bytes(count, SHOWN_BYTES_PER_UNIT);
            Ok(())
        } else {
            Err(Error::EIO)
        };
        self.end_shown(fs, mark, request, outcome, shown)
    }

    /// Stat records of a directory (read(9P)).
    fn records(
        &mut self,
        fs: &mut S,
        request: Request,
        (fid, offset, cookie, room): (Fid, u64, u64, u32),
        (op, how, at): (OpId, impl How<S>, At),
    ) -> std::result::Result<(), bool> {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let Session { out, config, .. } = self;
        let iovec = out.batch().iovec();
        let mark = iovec.mark();
        iovec.put_copy(&[0; READ_HEAD]);
        let (mut used, mut last, mut full) = (0, cookie, false);
        let outcome = how.go(
            fs,
            op,
            Show::Entries(&mut |entry| {
                let is_dot = matches!(entry.stat.name, b"." | b"..");
                let took = is_dot
                    || convert::with_record(&entry.stat, dialect, &config.users, |record| {
                        let size = record.size(dialect);
                        let fits = used + size <= room as usize && size <= FIELD_BYTES_MAX;
                        if fits {
                            record.emit(dialect, &mut iovec.put_small(size));
                            used += size;
                        }
                        fits
                    });
                full |= !took;
                if took {
                    last = entry.cookie;
                }
                took
            }),
            at,
        );
        let outcome = listed(outcome, full && used == 0);
        if let Outcome::Done(Answer { result: Ok(_), .. }) = outcome
            && let Ok(held) = self.fids.get(fid)
            && let State::OpenDir { next_offset, cookie } = &mut held.state
        {
            (*next_offset, *cookie) = (offset + used as u64, last);
        }
        self.charge_bytes(used, LISTED_BYTES_PER_UNIT);
        self.end_data(fs, mark, request, outcome, |data| Message::Rread { data })
    }

    /// walk(9P): `newfid` stays what it was unless all steps were taken.
    #[inline(always)]
    fn reach(&mut self, fs: &mut S, fid: Fid, newfid: Fid, reached: Option<FileId>, at: At) {
        let Some(file) = reached else { return };
        if newfid != fid {
            self.fids.put(newfid, file);
        } else if let Ok(held) = self.fids.get(fid) {
            let passed = std::mem::replace(&mut held.file, file);
            self.drop_file(fs, passed, None, at);
        }
    }

    /// The fid's file is open with these flags; without any it is there, and neither to be read nor to be written.
    #[inline(always)]
    fn opened(&mut self, fid: Fid, answer: Answer, flags: Option<Open>) -> Result<(Qid, u32)> {
        let Done::Opened { qid, iounit } = answer.result? else { return Err(Error::EIO) };
        self.fids.get(fid)?.state = match flags {
            Some(flags) => opened(qid, flags),
            None => State::Open { read: false, write: false },
        };
        Ok((qid, allowed_iounit(iounit, self.msize)))
    }
}

/// Bytes that a field of 16 bits may count.
const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// Whether the texts of a tree and the stat record around them fit their sizes on the wire.
fn fits_its_fields(reply: &Message<'_>, dialect: Dialect) -> bool {
    let bytes = match reply {
        Message::Rstat { stat } => stat.size(dialect),
        Message::Rreadlink { target } => target.len(),
        Message::Rgetlock { client_id, .. } => client_id.len(),
        _ => 0,
    };
    bytes <= FIELD_BYTES_MAX
}

/// Appends a reply with a text of the tree: EMSGSIZE if the peer could not receive it. Many end the connection then.
#[inline]
fn put_text(out: &mut Outgoing, msize: u32, tag: Tag, dialect: Dialect, reply: &Message<'_>) -> Result<()> {
    let size = reply.size(dialect);
    if size > msize as usize || !fits_its_fields(reply, dialect) {
        return Err(Error::EMSGSIZE);
    }
    reply.emit(tag, dialect, &mut out.batch().iovec().put_small(size));
    Ok(())
}
