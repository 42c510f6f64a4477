//! Messages that only 9P2000 and 9P2000.u have: open, create, stat, wstat; and directories, which
//! they read as stat records.

use super::common::{give_back, iounit};
use super::convert;
use super::fids::State;
use super::linux::open_or_execute;
use super::pending::What;
use super::{LISTED_BYTES_PER_UNIT, Request, Session};
use crate::fs::{At, Error, Filesystem, Make, Open, Outcome, Result, check_name, mode};
use crate::wire::{Dialect, Fid, Message, READ_HEAD, dm};

impl<F: Filesystem> Session<F> {
    pub(super) fn dispatch_classic(
        &mut self,
        fs: &mut F,
        request: Request,
        message: &Message<'_>,
        at: At,
    ) -> Result<()> {
        match *message {
            Message::Topen { fid, mode } => self.open(fs, request, fid, self.open_flags(mode)?, at),
            Message::Tcreate { fid, name, perm, mode, extension } => {
                self.create(fs, request, fid, (name, perm, mode, extension.0), at)
            }
            Message::Tstat { fid } => self.stat(fs, request, fid),
            Message::Twstat { fid, ref stat } => self.wstat(fs, request, fid, stat, at),
            _ => Err(Error::EOPNOTSUPP),
        }
    }

    fn is_u(&self) -> bool {
        self.dialect == Some(Dialect::U)
    }

    fn open_flags(&self, mode: u8) -> Result<Open> {
        use crate::wire::open::{ACCESS, APPEND, CEXEC, EXEC, RCLOSE, READ_WRITE, TRUNC, WRITE};
        let append = if self.is_u() { APPEND } else { 0 };
        if mode & !(ACCESS | TRUNC | CEXEC | RCLOSE | append) != 0 {
            return Err(Error::EINVAL);
        }
        let access = mode & ACCESS;
        Ok(Open {
            read: access != WRITE && access != EXEC,
            write: access == WRITE || access == READ_WRITE,
            exec: access == EXEC,
            truncate: mode & TRUNC != 0,
            append: mode & append != 0,
            remove_on_close: mode & RCLOSE != 0,
        })
    }

    /// Opens a fid; shared with Tlopen.
    pub(super) fn open(&mut self, fs: &mut F, request: Request, fid: Fid, flags: Open, at: At) -> Result<()> {
        let held = self.fids.get(fid)?;
        if !held.state.is_walked() {
            return Err(Error::EINVAL);
        }
        if self.dialect == Some(Dialect::L) {
            open_or_execute(fs, &mut held.file, flags, at)?;
        } else {
            fs.open(&mut held.file, flags, at)?;
        }
        held.state = opened(fs.attr(&held.file).kind, flags);
        let (qid, iounit) = (fs.attr(&held.file), iounit(fs, &held.file, self.msize));
        let message = match self.dialect {
            Some(Dialect::L) => Message::Rlopen { qid, iounit },
            _ => Message::Ropen { qid, iounit },
        };
        self.reply(fs.gate(), request, &message);
        Ok(())
    }

    fn create(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        (name, perm, mode, extension): (&[u8], u32, u8, &[u8]),
        at: At,
    ) -> Result<()> {
        check_name(name)?;
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let flags = self.open_flags(mode)?;
        let (held, source) = match special(perm, extension, dialect)? {
            Some(Special::Link(source)) => {
                let (held, source) = self.fids.with(fid, source)?;
                (held, Some(Special::Link(source)))
            }
            other => (self.fids.get(fid)?, other.map(Special::without_link)),
        };
        if !held.state.is_walked() {
            return Err(Error::EINVAL);
        }
        let parent = fs.stat(&held.file)?;
        if parent.mode & mode::IFMT != mode::IFDIR {
            return Err(Error::ENOTDIR);
        }
        // open(9P): a new file has no permission that its directory lacks; execution of files is exempt.
        let is_dir = perm & dm::DIR != 0;
        let asked = convert::permissions_of(perm, dialect);
        let allowed =
            if is_dir { asked & (!0o777 | parent.mode & 0o777) } else { asked & (!0o666 | parent.mode & 0o666) };
        if let Some(source) = source {
            match source {
                Special::Link(source) => fs.link(&held.file, name, &source.file, at)?,
                Special::Make(make) => fs.make(&held.file, name, make, allowed, None, at).map(|_| ())?,
            }
            let file = fs.lookup(&held.file, name)?;
            give_back(fs, std::mem::replace(&mut held.file, file), at);
            held.state = State::Open { read: false, write: false };
        } else {
            if is_dir && (flags.write || flags.truncate || flags.remove_on_close) {
                return Err(Error::EISDIR);
            }
            let kind = if is_dir { mode::IFDIR } else { mode::IFREG };
            fs.create(&mut held.file, name, flags, kind | allowed, convert::bits_of(perm), None, at)?;
            held.state = opened(fs.attr(&held.file).kind, flags);
        }
        let (qid, iounit) = (fs.attr(&held.file), iounit(fs, &held.file, self.msize));
        self.reply(fs.gate(), request, &Message::Rcreate { qid, iounit });
        Ok(())
    }

    fn stat(&mut self, fs: &mut F, request: Request, fid: Fid) -> Result<()> {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let users = std::sync::Arc::clone(&self.config.users);
        let stat = fs.stat(&self.fids.get(fid)?.file)?;
        let gate = fs.gate();
        convert::with_record(&stat, dialect, &users, |stat| self.reply_text(gate, request, &Message::Rstat { stat }))
    }

    fn wstat(&mut self, fs: &mut F, request: Request, fid: Fid, record: &crate::wire::Stat<'_>, at: At) -> Result<()> {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let held = self.fids.get(fid)?;
        let stat = fs.stat(&held.file)?;
        match convert::change_of(record, &stat, dialect, &self.config.users)? {
            Some(change) => {
                if let Some(name) = change.name {
                    check_name(name)?;
                }
                fs.wstat(&mut held.file, &change, at)?;
            }
            None => {
                if let Outcome::Pending(token) = fs.fsync(&held.file, false)? {
                    self.pending.add(token, request, fid, What::Sync);
                    return Ok(());
                }
            }
        }
        self.reply(fs.gate(), request, &Message::Rwstat {});
        Ok(())
    }

    /// read(9P) of a directory: whole records, from the start or from where the last read ended.
    pub(super) fn read_dir(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        offset: u64,
        room: usize,
        at: At,
    ) -> Result<()> {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let held = self.fids.get(fid)?;
        let State::OpenDir { next_offset, cookie } = &mut held.state else { return Err(Error::EBADF) };
        let from = match offset {
            0 => 0,
            _ if offset == *next_offset => *cookie,
            _ => return Err(Error::EINVAL),
        };
        let iovec = self.out.batch(fs.gate()).iovec();
        let mark = iovec.mark();
        iovec.put_copy(&[0; READ_HEAD]);
        let (mut used, mut last, mut full) = (0, from, false);
        let users = &self.config.users;
        let listed = fs.list(&mut held.file, from, at, &mut |entry| {
            let is_dot = matches!(entry.stat.name, b"." | b"..");
            let took = is_dot
                || convert::with_record(&entry.stat, dialect, users, |record| {
                    let size = record.size(dialect);
                    let fits = used + size <= room;
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
        });
        let too_small = if full && used == 0 { Err(Error::EINVAL) } else { Ok(()) };
        if let Err(error) = listed.and(too_small) {
            iovec.rollback(mark);
            return Err(error);
        }
        (*next_offset, *cookie) = (offset + used as u64, last);
        self.charge_bytes(used, LISTED_BYTES_PER_UNIT);
        self.end_data(fs.gate(), mark, request, |data| Message::Rread { data });
        Ok(())
    }
}

/// The state that an open leads to.
pub(super) fn opened(qid_kind: u8, flags: Open) -> State {
    if qid_kind & crate::wire::qt::DIR != 0 {
        State::OpenDir { next_offset: 0, cookie: 0 }
    } else {
        State::Open { read: flags.read || flags.exec, write: flags.write }
    }
}

/// What a Tcreate of .u makes that is neither file nor directory.
enum Special<'a, L> {
    Make(Make<'a>),
    Link(L),
}

impl<'a> Special<'a, Fid> {
    fn without_link<L>(self) -> Special<'a, L> {
        match self {
            Special::Make(make) => Special::Make(make),
            Special::Link(_) => unreachable!("links were taken care of"),
        }
    }
}

fn special(perm: u32, extension: &[u8], dialect: Dialect) -> Result<Option<Special<'_, Fid>>> {
    if dialect != Dialect::U {
        return Ok(None);
    }
    let make = if perm & dm::SYMLINK != 0 {
        if extension.is_empty() || extension.len() > crate::fs::TARGET_BYTES_MAX {
            return Err(Error::EINVAL);
        }
        Make::Symlink(extension)
    } else if perm & dm::LINK != 0 {
        // v9fs sends the number of the fid with a newline.
        let number = std::str::from_utf8(extension).ok().and_then(|text| text.trim_end().parse().ok());
        return number.map(|fid| Some(Special::Link(fid))).ok_or(Error::EINVAL);
    } else if perm & dm::DEVICE != 0 {
        device(extension).ok_or(Error::EINVAL)?
    } else if perm & dm::NAMED_PIPE != 0 {
        Make::Fifo
    } else if perm & dm::SOCKET != 0 {
        Make::Socket
    } else {
        return Ok(None);
    };
    Ok(Some(Special::Make(make)))
}

/// "b 8 1" or "c 1 3".
fn device(extension: &[u8]) -> Option<Make<'static>> {
    let mut words = std::str::from_utf8(extension).ok()?.split_ascii_whitespace();
    let block = match words.next()? {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Make::Device { block, major, minor })
}
