//! Messages that the three dialects share: version, auth, attach, walk, read, write, clunk, remove.
//! All others go to `classic.rs` or `linux.rs`, by dialect; Tflush is in `pending.rs`.

use super::fids::State;
use super::pending::What;
use super::{COPIED_BYTES_PER_UNIT, FIRST_MESSAGE_BYTES_MAX, MSIZE_MIN, NAMES_PER_UNIT, Request, Session};
use crate::fs::{At, Error, Filesystem, NAME_BYTES_MAX, Outcome, Result};
use crate::wire::{Data, Dialect, Fid, IOHDR, Message, NAMES_MAX, NOFID, Names, Qid, Qids, READ_HEAD, UOnly};

impl<F: Filesystem> Session<F> {
    /// Serves one request. An error is its reply, and it has changed nothing.
    pub(super) fn dispatch(&mut self, fs: &mut F, request: Request, message: &Message<'_>, at: At) -> Result<()> {
        match *message {
            Message::Tversion { msize, version } => self.version(fs, request, msize, version, at),
            Message::Tauth { .. } => self.auth(request),
            Message::Tattach { fid, afid, uname, aname, n_uname } => {
                self.attach(fs, request, fid, afid, (uname, n_uname.0), aname)
            }
            Message::Tflush { oldtag } => self.flush(fs, request, oldtag),
            Message::Twalk { fid, newfid, wnames } => self.walk(fs, request, fid, newfid, wnames, at),
            Message::Tread { fid, offset, count } => self.read(fs, request, fid, offset, count, at),
            Message::Twrite { fid, offset, data } => self.write(fs, request, fid, offset, data, at),
            Message::Tclunk { fid } => self.clunk(fs, request, fid, at),
            Message::Tremove { fid } => self.remove(fs, request, fid, at),
            _ if self.dialect == Some(Dialect::L) => self.dispatch_linux(fs, request, message, at),
            _ => self.dispatch_classic(fs, request, message, at),
        }
    }

    /// version(9P): starts the session anew. All I/O is abandoned and all fids are clunked; nothing of the old session is answered any more.
    fn version(&mut self, fs: &mut F, request: Request, msize: u32, version: &[u8], at: At) -> Result<()> {
        if !self.reset_part(fs, at) {
            self.unfinished = true;
            return Ok(());
        }
        let agreed = Dialect::negotiate(version);
        self.dialect = agreed;
        self.msize = FIRST_MESSAGE_BYTES_MAX;
        if agreed.is_some() && msize < MSIZE_MIN {
            self.reply_error(0, request, Error::EMSGSIZE);
            self.dialect = None;
            return Ok(());
        }
        let msize = msize.min(self.config.msize_max);
        let version = agreed.map_or("unknown", Dialect::name).as_bytes();
        if agreed.is_some() {
            self.msize = msize;
        }
        self.reply(0, request, &Message::Rversion { msize, version });
        Ok(())
    }

    /// Nobody has to prove anything by a message. diod's tools give up on any errno but ENOENT; others show the text (attach(9P)).
    fn auth(&mut self, request: Request) -> Result<()> {
        if self.dialect == Some(Dialect::L) {
            return Err(Error::ENOENT);
        }
        let (ename, errno) = (b"authentication not required", UOnly(Error::EINVAL.0.into()));
        self.reply(0, request, &Message::Rerror { ename, errno });
        Ok(())
    }

    fn attach(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        afid: Fid,
        (uname, n_uname): (&[u8], u32),
        aname: &[u8],
    ) -> Result<()> {
        self.fids.check_new(fid)?;
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
        let file = fs.attach(user, aname)?;
        let qid = fs.attr(&file);
        self.fids.put(fid, file);
        self.reply(fs.gate(), request, &Message::Rattach { qid });
        Ok(())
    }

    /// walk(9P): the first name that fails is an error; a later one ends the walk early, and `newfid` stays what it was.
    fn walk(&mut self, fs: &mut F, request: Request, fid: Fid, newfid: Fid, names: Names<'_>, at: At) -> Result<()> {
        if newfid != fid {
            self.fids.check_new(newfid)?;
        }
        let dialect = self.dialect;
        let from = self.fids.get(fid)?;
        if !from.state.is_walked() && (newfid == fid || self.dialect == Some(Dialect::P9) && !names.is_empty()) {
            return Err(Error::EINVAL);
        }
        let mut qids = [Qid::default(); NAMES_MAX];
        let mut done = 0;
        let mut reached: Option<F::File> = None;
        for name in names.iter() {
            let step =
                check_walk_name(name, dialect).and_then(|()| fs.lookup(reached.as_ref().unwrap_or(&from.file), name));
            match step {
                Ok(file) => {
                    qids[done] = fs.attr(&file);
                    done += 1;
                    if let Some(passed) = reached.replace(file) {
                        give_back(fs, passed, at);
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if done == names.len() {
            let file = match reached {
                Some(file) => file,
                None => fs.duplicate(&from.file),
            };
            if newfid == fid {
                give_back(fs, std::mem::replace(&mut from.file, file), at);
            } else {
                self.fids.put(newfid, file);
            }
        } else if let Some(file) = reached {
            give_back(fs, file, at);
        }
        self.charge_bytes(done, NAMES_PER_UNIT);
        self.reply(fs.gate(), request, &Message::Rwalk { wqids: Qids::list(&qids[..done]) });
        Ok(())
    }

    fn read(&mut self, fs: &mut F, request: Request, fid: Fid, offset: u64, count: u32, at: At) -> Result<()> {
        let room = count.min(self.msize - IOHDR);
        let held = self.fids.any(fid)?;
        match held.state {
            State::Open { read: true, .. } => {}
            State::OpenDir { .. } if self.dialect == Some(Dialect::L) => return Err(Error::EISDIR),
            State::OpenDir { .. } => {
                let room = self.listing_room(count);
                return self.read_dir(fs, request, fid, offset, room, at);
            }
            State::Attr(_) => {
                let room = self.listing_room(count);
                return self.read_attr(fs, request, fid, offset, room);
            }
            _ => return Err(Error::EBADF),
        }
        let batch = self.out.batch(fs.gate());
        let mark = batch.iovec().mark();
        batch.iovec().put_copy(&[0; READ_HEAD]);
        match fs.read(&mut held.file, offset, batch.iovec().out(room), at) {
            Ok(Outcome::Done(())) => self.end_data(fs.gate(), mark, request, |data| Message::Rread { data }),
            Ok(Outcome::Pending(token)) => {
                batch.iovec().rollback(mark);
                self.pending.add(token, request, fid, What::Read { room });
            }
            Err(error) => {
                batch.iovec().rollback(mark);
                return Err(error);
            }
        }
        Ok(())
    }

    /// A write whose payload came with it.
    fn write(&mut self, fs: &mut F, request: Request, fid: Fid, offset: u64, data: Data<'_>, at: At) -> Result<()> {
        let held = self.check_writable(fid)?;
        let bytes = data.here().map_err(|_| Error::EINVAL)?;
        let done = match &mut held.state {
            State::Attr(attr) => attr.write(offset, bytes).map(Outcome::Done),
            _ => fs.write(&mut held.file, offset, bytes, at),
        };
        self.charge_bytes(bytes.len(), COPIED_BYTES_PER_UNIT);
        self.answer_count(fs, request, fid, done);
        Ok(())
    }

    /// clunk(9P): the fid is gone even if this fails.
    fn clunk(&mut self, fs: &mut F, request: Request, fid: Fid, at: At) -> Result<()> {
        let held = self.fids.take(fid)?;
        self.interrupt(fs, fid);
        let set = if let State::Attr(attr) = &held.state { attr.commit(fs, &held.file, at) } else { Ok(()) };
        set.and(fs.close(held.file, at))?;
        self.reply(fs.gate(), request, &Message::Rclunk {});
        Ok(())
    }

    /// remove(9P): clunks even if it fails.
    fn remove(&mut self, fs: &mut F, request: Request, fid: Fid, at: At) -> Result<()> {
        let mut held = self.fids.take(fid)?;
        self.interrupt(fs, fid);
        let is_attr = matches!(held.state, State::Attr(_));
        let removed = if is_attr { Err(Error::EBADF) } else { fs.remove(&mut held.file, at) };
        let closed = fs.close(held.file, at);
        removed.and(closed)?;
        self.reply(fs.gate(), request, &Message::Rremove {});
        Ok(())
    }
}

/// Closes a file that was only walked to. Nothing acts at such a close, so there is no failure that a reply could tell.
pub(super) fn give_back<F: Filesystem>(fs: &mut F, file: F::File, at: At) {
    let _ = fs.close(file, at);
}

/// What Ropen and Rlopen say: 0 of a tree means that msize is the only bound.
pub(super) fn iounit<F: Filesystem>(fs: &F, file: &F::File, msize: u32) -> u32 {
    match fs.iounit(file) {
        0 => msize - IOHDR,
        iounit => iounit.min(msize - IOHDR),
    }
}

/// A name that no directory can have: ENOENT, or ENAMETOOLONG for one that is too long, as open(2) has it. ".." leads up. "." stays in .L, since Treaddir shows that
/// name to clients; the other dialects list no "." and do not use it in the protocol (walk(9P)).
fn check_walk_name(name: &[u8], dialect: Option<Dialect>) -> Result<()> {
    match name {
        b"" => Err(Error::ENOENT),
        b"." if dialect != Some(Dialect::L) => Err(Error::ENOENT),
        _ if name.contains(&b'/') => Err(Error::ENOENT),
        _ if name.len() > NAME_BYTES_MAX => Err(Error::ENAMETOOLONG),
        _ => Ok(()),
    }
}
