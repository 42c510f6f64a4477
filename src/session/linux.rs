//! Messages that only 9P2000.L has; its locks are in `lock.rs`. Layouts and meanings: diod's
//! protocol.md and the kernel's `fs/9p`.

use super::convert;
use super::fids::State;
use super::what::{What, kind};
use super::xattr::Attr;
use super::{Request, Session};
use crate::fs::{
    At, Call, Error, Make, New, Open, Result, Service, SetXattr, TARGET_BYTES_MAX, XATTR_BYTES_MAX,
    XATTR_NAME_BYTES_MAX, check_name, mode,
};
use crate::wire::{Fid, Message, REMOVEDIR, lopen, xattr};

impl<S: Service> Session<S> {
    pub(super) fn dispatch_linux(
        &mut self,
        fs: &mut S,
        request: Request,
        message: &Message<'_>,
        frame: &[u8],
        at: At,
    ) -> Result<()> {
        match *message {
            Message::Tlopen { fid, flags } => {
                self.fids.file(fid)?;
                let mut flags = linux_flags(flags)?;
                flags.or_execute = true;
                self.open(fs, request, fid, flags, at)
            }
            Message::Tlcreate { fid, name, flags, mode, gid } => {
                self.lcreate(fs, request, fid, (name, flags, mode, gid), at)
            }
            Message::Treaddir { fid, offset, count } => self.readdir(fs, request, fid, offset, count, at),
            Message::Txattrwalk { fid, newfid, name } => self.xattrwalk(fs, request, fid, newfid, name, at),
            Message::Txattrcreate { fid, .. } => self.xattrcreate(fs, request, fid, (message, frame), at),
            Message::Tlock { .. } => self.lock(fs, request, message, at),
            Message::Tgetlock { .. } => self.getlock(fs, request, (message, frame), at),
            Message::Tgetattr { fid, request_mask: mask } => {
                let file = self.fids.file(fid)?;
                let call = Call::Stat { file, target: false };
                self.ask::<{ kind::ATTRIBUTES }>(fs, request, What::Attributes { mask }, call, at);
                Ok(())
            }
            Message::Tsetattr { fid, .. } => {
                let change = convert::change_of_setattr(message)?;
                let file = self.fids.file(fid)?;
                self.ask_plain(fs, request, Call::Wstat { file, change }, at);
                Ok(())
            }
            Message::Tstatfs { fid } => {
                let file = self.fids.file(fid)?;
                self.ask::<{ kind::STAT_FS }>(fs, request, What::StatFs, Call::StatFs { file }, at);
                Ok(())
            }
            Message::Treadlink { fid } => {
                let file = self.fids.file(fid)?;
                self.ask::<{ kind::LINK }>(fs, request, What::Link, Call::ReadLink { file }, at);
                Ok(())
            }
            Message::Tsymlink { fid, name, target, gid } => {
                if target.is_empty() || target.len() > TARGET_BYTES_MAX {
                    return Err(if target.is_empty() { Error::ENOENT } else { Error::ENAMETOOLONG });
                }
                self.make(fs, request, fid, name, Make::Symlink(target), (0o777, gid), at)
            }
            Message::Tmknod { dfid, name, mode, major, minor, gid } => {
                let what = match mode & mode::IFMT {
                    0 | mode::IFREG => Make::File,
                    mode::IFCHR => Make::Device { block: false, major, minor },
                    mode::IFBLK => Make::Device { block: true, major, minor },
                    mode::IFIFO => Make::Fifo,
                    mode::IFSOCK => Make::Socket,
                    _ => return Err(Error::EINVAL),
                };
                self.make(fs, request, dfid, name, what, (mode, gid), at)
            }
            Message::Tmkdir { dfid, name, mode, gid } => self.make(fs, request, dfid, name, Make::Dir, (mode, gid), at),
            Message::Tlink { dfid, fid, name } => {
                check_name(name)?;
                let (dir, file) = (self.fids.file(dfid)?, self.fids.file(fid)?);
                let call = Call::Link { dir, name, file, enter: false };
                self.ask::<{ kind::PLAIN }>(fs, request, What::Plain, call, at);
                Ok(())
            }
            Message::Trename { fid, dfid, name } => {
                check_name(name)?;
                let (file, to) = self.fids.two(fid, dfid)?;
                let call = Call::RenameFile { file, to, new_name: name };
                self.ask::<{ kind::PLAIN }>(fs, request, What::Plain, call, at);
                Ok(())
            }
            Message::Trenameat { olddirfid, oldname: name, newdirfid, newname: new_name } => {
                check_name(name)?;
                check_name(new_name)?;
                let (from, to) = (self.fids.file(olddirfid)?, self.fids.file(newdirfid)?);
                let call = Call::Rename { from, name, to, new_name };
                self.ask::<{ kind::PLAIN }>(fs, request, What::Plain, call, at);
                Ok(())
            }
            Message::Tunlinkat { dfid, name, flags } => {
                check_name(name)?;
                // The directory's fid may be open: v9fs removes what it is listing.
                let dir = self.fids.file(dfid)?;
                self.ask_plain(fs, request, Call::Unlink { dir, name, want_dir: flags & REMOVEDIR != 0 }, at);
                Ok(())
            }
            Message::Tfsync { fid, datasync } => {
                let file = self.fids.file(fid)?;
                self.ask_plain(fs, request, Call::Fsync { file, data_only: datasync.0 != 0 }, at);
                Ok(())
            }
            _ => Err(Error::EOPNOTSUPP),
        }
    }

    fn lcreate(
        &mut self,
        fs: &mut S,
        request: Request,
        fid: Fid,
        (name, flags, mode, gid): (&[u8], u32, u32, u32),
        at: At,
    ) -> Result<()> {
        check_name(name)?;
        let held = self.fids.get(fid)?;
        if !held.state.is_walked() {
            return Err(Error::EINVAL);
        }
        let dir = held.file;
        // What is there already is opened as by Tlopen.
        let open = Open { directory: false, or_execute: true, ..linux_flags(flags)? };
        let new = New {
            flags: open,
            // Kernels differ in whether they send the type; it can only be a file.
            mode: mode::IFREG | mode & mode::PERM,
            bits: 0,
            gid: self.config.users.named_group(self.config.trust, gid),
            or_open: flags & lopen::EXCL == 0,
            inherits: false,
        };
        let what = What::Open { fid, flags: Some(open) };
        self.ask::<{ kind::OPEN }>(fs, request, what, Call::Create { dir, name, new }, at);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the three messages that make something")]
    fn make(
        &mut self,
        fs: &mut S,
        request: Request,
        dfid: Fid,
        name: &[u8],
        what: Make<'_>,
        (mode, gid): (u32, u32),
        at: At,
    ) -> Result<()> {
        check_name(name)?;
        let gid = self.config.users.named_group(self.config.trust, gid);
        let dir = self.fids.file(dfid)?;
        let call = Call::Make { dir, name, what, mode: mode & mode::PERM, gid, enter: false };
        self.ask::<{ kind::MADE }>(fs, request, What::Made, call, at);
        Ok(())
    }

    /// The value of an attribute, or the names of all, each with a NUL, under a new fid.
    fn xattrwalk(&mut self, fs: &mut S, request: Request, fid: Fid, newfid: Fid, name: &[u8], at: At) -> Result<()> {
        self.fids.check_new(newfid, self.pending.coming())?;
        let file = self.fids.file(fid)?;
        self.ask::<{ kind::XATTR }>(fs, request, What::Xattr { newfid }, Call::Xattr { file, name }, at);
        Ok(())
    }

    /// The fid stands for an attribute from now on. One that already does starts anew.
    fn xattrcreate(
        &mut self,
        fs: &mut S,
        request: Request,
        fid: Fid,
        (message, frame): (&Message<'_>, &[u8]),
        at: At,
    ) -> Result<()> {
        attribute_flags(message)?;
        let held = self.fids.any(fid)?;
        let file = held.file;
        match &held.state {
            State::Walked => {}
            State::Attr(attr) if attr.takes() => {}
            State::Attr(_) => return Err(Error::EBADF),
            _ => return Err(Error::EINVAL),
        }
        let (name, _, how) = attribute(message)?;
        // What is sure to fail is said now; the clunk has the last word.
        let call = Call::CheckXattr { file, name, how };
        self.ask_about::<{ kind::XATTR_CREATE }>(
            fs,
            request,
            What::XattrCreate { fid },
            call,
            Some((message, frame)),
            at,
        );
        Ok(())
    }

    /// The answer to it.
    pub(super) fn becomes_attr(&mut self, fid: Fid, message: &Message<'_>) -> Result<()> {
        let (name, size, how) = attribute(message)?;
        self.fids.become_attr(fid, Attr::to_set(&self.config.budget, name, size, how))
    }

    /// Whole entries behind a cookie. The client keeps what fits its buffer and may come back to any cookie that it was given.
    fn readdir(&mut self, fs: &mut S, request: Request, fid: Fid, offset: u64, count: u32, at: At) -> Result<()> {
        let room = self.listing_room(count) as u32;
        let held = self.fids.get(fid)?;
        match held.state {
            State::OpenDir { .. } => {}
            State::Open { .. } => return Err(Error::ENOTDIR),
            State::Walked | State::Attr(_) => return Err(Error::EBADF),
        }
        let (dir, cookie) = (held.file, offset);
        self.ask::<{ kind::ENTRIES }>(
            fs,
            request,
            What::Entries { room },
            Call::List { dir, cookie, stats: false },
            at,
        );
        Ok(())
    }
}

/// The condition of a Txattrcreate.
fn attribute_flags(message: &Message<'_>) -> Result<SetXattr> {
    match *message {
        Message::Txattrcreate { flags: 0, .. } => Ok(SetXattr::Any),
        Message::Txattrcreate { flags: xattr::CREATE, .. } => Ok(SetXattr::Create),
        Message::Txattrcreate { flags: xattr::REPLACE, .. } => Ok(SetXattr::Replace),
        _ => Err(Error::EINVAL),
    }
}

/// Name, size and condition of a Txattrcreate.
fn attribute<'a>(message: &Message<'a>) -> Result<(&'a [u8], usize, SetXattr)> {
    let Message::Txattrcreate { name, attr_size, .. } = *message else { return Err(Error::EINVAL) };
    let how = attribute_flags(message)?;
    if name.is_empty() {
        return Err(Error::EINVAL);
    }
    if name.len() > XATTR_NAME_BYTES_MAX {
        return Err(Error::ERANGE);
    }
    let size = usize::try_from(attr_size).ok().filter(|&size| size <= XATTR_BYTES_MAX).ok_or(Error::E2BIG)?;
    Ok((name, size, how))
}

/// How a file is opened by these flags. Bits that have no meaning here are passed over.
fn linux_flags(flags: u32) -> Result<Open> {
    let access = flags & lopen::ACCESS;
    if access == lopen::ACCESS {
        return Err(Error::EINVAL);
    }
    Ok(Open {
        read: access != lopen::WRITE,
        write: access == lopen::WRITE || access == lopen::READ_WRITE,
        truncate: flags & lopen::TRUNC != 0,
        append: flags & lopen::APPEND != 0,
        directory: flags & lopen::DIRECTORY != 0,
        sync: flags & (lopen::DSYNC | lopen::SYNC) != 0,
        ..Open::default()
    })
}
