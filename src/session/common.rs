//! Messages that the three dialects share: version, auth, attach, walk, read, write, clunk, remove.
//! All others go to `classic.rs` or `linux.rs`, by dialect; Tflush is in `pending.rs`.

use super::fids::State;
use super::what::{What, closed, kind};
use super::{COPIED_BYTES_PER_UNIT, FIRST_MESSAGE_BYTES_MAX, MSIZE_MIN, Request, SHOWN_BYTES_PER_UNIT, Session};
use crate::fs::{At, Call, Error, Gate, Result, Service};
use crate::wire::{Data, Dialect, Fid, IOHDR, Message, NOFID, Names, READ_HEAD, UOnly};

impl<S: Service> Session<S> {
    /// Serves one request. An error is its reply, and it has changed nothing.
    #[inline(always)]
    pub(super) fn dispatch(
        &mut self,
        fs: &mut S,
        request: Request,
        message: &Message<'_>,
        frame: &[u8],
        at: At,
    ) -> Result<()> {
        match *message {
            Message::Tversion { msize, version } => self.version(fs, request, msize, version, at),
            Message::Tauth { .. } => self.auth(request),
            Message::Tattach { fid, afid, uname, aname, n_uname } => {
                self.attach(fs, request, fid, afid, (uname, n_uname.0), aname, at)
            }
            Message::Tflush { oldtag } => self.flush(fs, request, oldtag, at),
            Message::Twalk { fid, newfid, wnames } => self.walk(fs, request, fid, newfid, wnames, at),
            Message::Tread { fid, offset, count } => self.read(fs, request, fid, offset, count, at),
            Message::Twrite { fid, offset, data } => self.write(fs, request, fid, offset, data, at),
            Message::Tclunk { fid } => self.clunk(fs, request, fid, at),
            Message::Tremove { fid } => self.remove(fs, request, fid, at),
            _ if self.dialect == Some(Dialect::L) => self.dispatch_linux(fs, request, message, frame, at),
            _ => self.dispatch_classic(fs, request, message, frame, at),
        }
    }

    /// version(9P): starts the session anew. All I/O is abandoned and all fids are clunked; nothing of the old session is answered any more.
    fn version(&mut self, fs: &mut S, request: Request, msize: u32, version: &[u8], at: At) -> Result<()> {
        if !self.reset_part(fs, at) {
            self.unfinished = true;
            return Ok(());
        }
        self.out.forget_gated();
        let agreed = Dialect::negotiate(version);
        self.dialect = agreed;
        self.msize = FIRST_MESSAGE_BYTES_MAX;
        if agreed.is_some() && msize < MSIZE_MIN {
            self.reply_error(Gate::OPEN, request, Error::EMSGSIZE);
            self.dialect = None;
            return Ok(());
        }
        let msize = msize.min(self.config.msize_max);
        let version = agreed.map_or("unknown", Dialect::name).as_bytes();
        if agreed.is_some() {
            self.msize = msize;
        }
        self.reply(Gate::OPEN, request, &Message::Rversion { msize, version });
        Ok(())
    }

    /// Nobody has to prove anything by a message. diod's tools give up on any errno but ENOENT; others show the text (attach(9P)).
    fn auth(&mut self, request: Request) -> Result<()> {
        if self.dialect == Some(Dialect::L) {
            return Err(Error::ENOENT);
        }
        let (ename, errno) = (b"authentication not required", UOnly(Error::EINVAL.0.into()));
        self.reply(Gate::OPEN, request, &Message::Rerror { ename, errno });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of Tattach")]
    fn attach(
        &mut self,
        fs: &mut S,
        request: Request,
        fid: Fid,
        afid: Fid,
        (uname, n_uname): (&[u8], u32),
        aname: &[u8],
        at: At,
    ) -> Result<()> {
        self.fids.check_new(fid, self.pending.coming())?;
        if afid != NOFID {
            return Err(Error::EACCES);
        }
        let user = self.config.users.resolve(self.config.trust, self.config.peer, uname, n_uname)?;
        let owner = self.config.owner;
        let is_owner = owner.is_some_and(|owner| user.uid == 0 || user.uid == owner);
        if fs.is_private(aname) && !is_owner {
            // As for another user than the socket's. mount(8) says "permission denied"; at EACCES
            // it would try again read-only.
            return Err(Error::EPERM);
        }
        let call = Call::Attach { user, aname };
        self.ask::<{ kind::ATTACH }>(fs, request, What::Attach { fid }, call, at);
        Ok(())
    }

    /// walk(9P). "." is a step in .L alone, since Treaddir shows that name to clients; the other dialects list no "." and do not
    /// use it in the protocol.
    fn walk(&mut self, fs: &mut S, request: Request, fid: Fid, newfid: Fid, names: Names<'_>, at: At) -> Result<()> {
        if newfid != fid {
            self.fids.check_new(newfid, self.pending.coming())?;
        }
        let is_classic = self.dialect == Some(Dialect::P9);
        let held = self.fids.get(fid)?;
        if !held.state.is_walked() && (newfid == fid || is_classic && !names.is_empty()) {
            return Err(Error::EINVAL);
        }
        let from = held.file;
        let what = What::Walk { fid, newfid, steps: names.len() as u8 };
        let call = Call::Walk { from, names, dots: self.dialect == Some(Dialect::L) };
        self.ask::<{ kind::WALK }>(fs, request, what, call, at);
        Ok(())
    }

    fn read(&mut self, fs: &mut S, request: Request, fid: Fid, offset: u64, count: u32, at: At) -> Result<()> {
        let room = count.min(self.msize - IOHDR);
        let held = self.fids.any(fid)?;
        let file = held.file;
        match held.state {
            State::Open { read: true, .. } => {}
            State::OpenDir { .. } if self.dialect == Some(Dialect::L) => return Err(Error::EISDIR),
            State::OpenDir { next_offset, cookie } => {
                let room = self.listing_room(count) as u32;
                return self.read_dir(fs, request, (fid, offset, room), (next_offset, cookie), at);
            }
            State::Attr(_) => {
                let room = self.listing_room(count);
                return self.read_attr(fs, request, fid, offset, room);
            }
            _ => return Err(Error::EBADF),
        }
        self.ask::<{ kind::READ }>(fs, request, What::Read { room }, Call::Read { file, offset }, at);
        Ok(())
    }

    /// Part of an attribute that was asked for.
    fn read_attr(&mut self, fs: &S, request: Request, fid: Fid, offset: u64, room: usize) -> Result<()> {
        let Session { fids, out, dialect, .. } = self;
        let State::Attr(attr) = &fids.any(fid)?.state else { return Err(Error::EBADF) };
        let part = attr.read(offset, room)?;
        let (bytes, gate) = (part.len(), closed(fs, attr.gate));
        let iovec = out.batch().iovec();
        let mark = iovec.mark();
        iovec.put_copy(&[0; READ_HEAD]);
        iovec.put_copy(part);
        let reply = Message::Rread { data: Data::Away(part.len() as u32) };
        reply.emit(request.tag, dialect.unwrap_or(Dialect::P9), &mut iovec.patch(mark));
        self.charge_bytes(bytes, SHOWN_BYTES_PER_UNIT);
        self.end_reply(gate, mark, request);
        Ok(())
    }

    /// A write whose payload came with it.
    fn write(&mut self, fs: &mut S, request: Request, fid: Fid, offset: u64, data: Data<'_>, at: At) -> Result<()> {
        let held = self.check_writable(fid)?;
        let file = held.file;
        let data = data.here().map_err(|_| Error::EINVAL)?;
        if let State::Attr(attr) = &mut held.state {
            let count = attr.write(offset, data)?;
            self.reply(Gate::OPEN, request, &Message::Rwrite { count });
        } else {
            self.ask::<{ kind::COUNT }>(fs, request, What::Count, Call::Write { file, offset, data }, at);
        }
        self.charge_bytes(data.len(), COPIED_BYTES_PER_UNIT);
        Ok(())
    }

    /// clunk(9P): the fid is gone even if this fails.
    fn clunk(&mut self, fs: &mut S, request: Request, fid: Fid, at: At) -> Result<()> {
        let held = self.fids.take(fid)?;
        let file = held.file;
        if !self.pending.is_empty() {
            self.interrupt(fs, file, at);
        }
        if let State::Attr(attr) = &held.state
            && let Some(becomes) = attr.becomes().transpose()
        {
            match becomes {
                Ok((name, value, how)) => {
                    let call = Call::SetXattr { file, name, value, how };
                    self.ask::<{ kind::REMOVE }>(fs, request, What::Remove { file }, call, at);
                }
                Err(error) => {
                    self.drop_file(fs, file, None, at);
                    return Err(error);
                }
            }
        } else if self.pending.is_empty() {
            self.ask::<{ kind::CLOSED }>(fs, request, What::Closed, Call::Close { file }, at);
        } else {
            self.drop_file(fs, file, Some(request), at);
        }
        Ok(())
    }

    /// remove(9P): clunks even if it fails.
    fn remove(&mut self, fs: &mut S, request: Request, fid: Fid, at: At) -> Result<()> {
        let held = self.fids.take(fid)?;
        self.interrupt(fs, held.file, at);
        if !held.state.is_file() {
            self.drop_file(fs, held.file, None, at);
            return Err(Error::EBADF);
        }
        self.remove_file(fs, held.file, request, at);
        Ok(())
    }
}
