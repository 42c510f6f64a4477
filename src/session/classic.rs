//! Messages that only 9P2000 and 9P2000.u have: open, create, stat, wstat; and directories, which
//! they read as stat records.

use super::convert;
use super::what::{What, kind};
use super::{Request, Session};
use crate::fs::{At, Call, Error, Make, New, Open, Result, Service, check_name, mode};
use crate::wire::{Dialect, Fid, Message, dm};

impl<S: Service> Session<S> {
    pub(super) fn dispatch_classic(
        &mut self,
        fs: &mut S,
        request: Request,
        message: &Message<'_>,
        frame: &[u8],
        at: At,
    ) -> Result<()> {
        match *message {
            Message::Topen { fid, mode } => self.open(fs, request, fid, self.open_flags(mode)?, at),
            Message::Tcreate { fid, name, perm, mode, extension } => {
                self.create(fs, request, fid, (name, perm, mode, extension.0), at)
            }
            Message::Tstat { fid } => {
                let (file, target) = (self.fids.file(fid)?, self.is_u());
                self.ask::<{ kind::STAT }>(fs, request, What::Stat, Call::Stat { file, target }, at);
                Ok(())
            }
            // What it changes depends on what the file shows.
            Message::Twstat { fid, .. } => {
                let file = self.fids.file(fid)?;
                let message = Some((message, frame));
                let call = Call::Stat { file, target: false };
                self.ask_about::<{ kind::LOOK }>(fs, request, What::Look { file }, call, message, at);
                Ok(())
            }
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
            ..Open::default()
        })
    }

    /// Opens a fid; shared with Tlopen.
    pub(super) fn open(&mut self, fs: &mut S, request: Request, fid: Fid, flags: Open, at: At) -> Result<()> {
        let held = self.fids.get(fid)?;
        if !held.state.is_walked() {
            return Err(Error::EINVAL);
        }
        let file = held.file;
        self.ask::<{ kind::OPEN }>(fs, request, What::Open { fid, flags: Some(flags) }, Call::Open { file, flags }, at);
        Ok(())
    }

    fn create(
        &mut self,
        fs: &mut S,
        request: Request,
        fid: Fid,
        (name, perm, mode, extension): (&[u8], u32, u8, &[u8]),
        at: At,
    ) -> Result<()> {
        check_name(name)?;
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let flags = self.open_flags(mode)?;
        let special = special(perm, extension, dialect)?;
        let source = match special {
            Some(Special::Link(source)) => Some(self.fids.two(fid, source)?.1),
            _ => None,
        };
        let held = self.fids.get(fid)?;
        if !held.state.is_walked() {
            return Err(Error::EINVAL);
        }
        let dir = held.file;
        let mode = convert::permissions_of(perm, dialect);
        if let Some(file) = source {
            let call = Call::Link { dir, name, file, enter: true };
            self.ask::<{ kind::OPEN }>(fs, request, What::Open { fid, flags: None }, call, at);
        } else if let Some(Special::Make(what)) = special {
            let call = Call::Make { dir, name, what, mode, gid: None, enter: true };
            self.ask::<{ kind::OPEN }>(fs, request, What::Open { fid, flags: None }, call, at);
        } else {
            let kind = if perm & dm::DIR != 0 { mode::IFDIR } else { mode::IFREG };
            let bits = convert::bits_of(perm);
            let new = New { flags, mode: kind | mode, bits, gid: None, or_open: false, inherits: true };
            let call = Call::Create { dir, name, new };
            self.ask::<{ kind::OPEN }>(fs, request, What::Open { fid, flags: Some(flags) }, call, at);
        }
        Ok(())
    }

    /// read(9P): a directory is read from where the last read ended, or from its start.
    pub(super) fn read_dir(
        &mut self,
        fs: &mut S,
        request: Request,
        (fid, offset, room): (Fid, u64, u32),
        (next_offset, cookie): (u64, u64),
        at: At,
    ) -> Result<()> {
        let cookie = match offset {
            0 => 0,
            offset if offset == next_offset => cookie,
            _ => return Err(Error::EINVAL),
        };
        let dir = self.fids.file(fid)?;
        let what = What::Records { fid, offset, cookie, room };
        self.ask::<{ kind::RECORDS }>(fs, request, what, Call::List { dir, cookie, stats: true }, at);
        Ok(())
    }
}

/// What a Tcreate of .u makes that is neither file nor directory.
#[derive(Clone, Copy)]
enum Special<'a> {
    Make(Make<'a>),
    Link(Fid),
}

fn special(perm: u32, extension: &[u8], dialect: Dialect) -> Result<Option<Special<'_>>> {
    if dialect != Dialect::U {
        return Ok(None);
    }
    let make = if perm & dm::SYMLINK != 0 {
        if extension.is_empty() || extension.len() > crate::fs::TARGET_BYTES_MAX {
            return Err(Error::EINVAL);
        }
        Make::Symlink(extension)
    } else if perm & dm::LINK != 0 {
        return linked(perm, extension).map(|fid| Some(Special::Link(fid))).ok_or(Error::EINVAL);
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

/// The fid of the file that a Tcreate of .u makes a further name for. v9fs sends its number with a newline.
pub(super) fn linked(perm: u32, extension: &[u8]) -> Option<Fid> {
    let is_link = perm & (dm::LINK | dm::SYMLINK) == dm::LINK;
    is_link.then(|| std::str::from_utf8(extension).ok()?.trim_end().parse().ok())?
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
