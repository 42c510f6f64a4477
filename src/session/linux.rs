//! Messages that only 9P2000.L has; its locks are in `lock.rs`. Layouts and meanings: diod's
//! protocol.md and the kernel's `fs/9p`.

use super::classic::opened;
use super::common::{give_back, iounit};
use super::convert;
use super::fids::{Held, State};
use super::pending::What;
use super::xattr::Attr;
use super::{LISTED_BYTES_PER_UNIT, Request, Session};
use crate::fs::{
    At, Error, Filesystem, Make, NAME_BYTES_MAX, Open, Outcome, Result, SetXattr, TARGET_BYTES_MAX, XATTR_BYTES_MAX,
    XATTR_NAME_BYTES_MAX, check_name, mode,
};
use crate::wire::{DirEntry, Fid, Message, READ_HEAD, REMOVEDIR, lopen, xattr};

/// V9FS_MAGIC (Linux: `include/uapi/linux/magic.h`).
const STATFS_TYPE: u32 = 0x0102_1997;

impl<F: Filesystem> Session<F> {
    pub(super) fn dispatch_linux(&mut self, fs: &mut F, request: Request, message: &Message<'_>, at: At) -> Result<()> {
        let reply = match *message {
            Message::Tlopen { fid, flags } => return self.lopen(fs, request, fid, flags, at),
            Message::Tlcreate { fid, name, flags, mode, gid } => {
                return self.lcreate(fs, request, fid, (name, flags, mode, gid), at);
            }
            Message::Treaddir { fid, offset, count } => return self.readdir(fs, request, fid, offset, count, at),
            Message::Txattrwalk { fid, newfid, name } => return self.xattrwalk(fs, request, fid, newfid, name, at),
            Message::Txattrcreate { fid, name, attr_size, flags } => {
                return self.xattrcreate(fs, request, fid, name, attr_size, flags);
            }
            Message::Tlock { .. } => return self.lock(fs, request, message),
            Message::Tgetlock { .. } => return self.getlock(fs, request, message),
            Message::Tgetattr { fid, request_mask } => {
                convert::getattr(&fs.stat(&self.fids.get(fid)?.file)?, request_mask)
            }
            Message::Tsetattr { fid, .. } => {
                let change = convert::change_of_setattr(message)?;
                fs.wstat(&mut self.fids.get(fid)?.file, &change, at)?;
                Message::Rsetattr {}
            }
            Message::Tstatfs { fid } => self.statfs(fs, fid)?,
            Message::Treadlink { fid } => return self.readlink(fs, request, fid, at),
            Message::Tsymlink { fid, name, target, gid } => {
                if target.is_empty() || target.len() > TARGET_BYTES_MAX {
                    return Err(if target.is_empty() { Error::ENOENT } else { Error::ENAMETOOLONG });
                }
                Message::Rsymlink { qid: self.make(fs, fid, name, Make::Symlink(target), 0o777, gid, at)? }
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
                Message::Rmknod { qid: self.make(fs, dfid, name, what, mode, gid, at)? }
            }
            Message::Tmkdir { dfid, name, mode, gid } => {
                Message::Rmkdir { qid: self.make(fs, dfid, name, Make::Dir, mode, gid, at)? }
            }
            Message::Tlink { dfid, fid, name } => {
                check_name(name)?;
                let (dir, file) = self.fids.both(dfid, fid)?;
                fs.link(&dir.file, name, &file.file, at)?;
                Message::Rlink {}
            }
            Message::Trename { fid, dfid, name } => {
                check_name(name)?;
                let (file, dir) = self.fids.with(fid, dfid)?;
                fs.rename_file(&mut file.file, &dir.file, name, at)?;
                Message::Rrename {}
            }
            Message::Trenameat { olddirfid, oldname, newdirfid, newname } => {
                check_name(oldname)?;
                check_name(newname)?;
                let (from, to) = self.fids.both(olddirfid, newdirfid)?;
                fs.rename(&from.file, oldname, &to.file, newname, at)?;
                Message::Rrenameat {}
            }
            Message::Tunlinkat { dfid, name, flags } => {
                check_name(name)?;
                // The directory's fid may be open: v9fs removes what it is listing.
                fs.unlink(&self.fids.get(dfid)?.file, name, flags & REMOVEDIR != 0, at)?;
                Message::Runlinkat {}
            }
            Message::Tfsync { fid, datasync } => {
                if let Outcome::Pending(token) = fs.fsync(&self.fids.get(fid)?.file, datasync.0 != 0)? {
                    self.pending.add(token, request, fid, What::Sync);
                    return Ok(());
                }
                Message::Rfsync {}
            }
            _ => return Err(Error::EOPNOTSUPP),
        };
        self.reply(fs.gate(), request, &reply);
        Ok(())
    }

    fn lopen(&mut self, fs: &mut F, request: Request, fid: Fid, flags: u32, at: At) -> Result<()> {
        let held = self.fids.get(fid)?;
        if flags & lopen::DIRECTORY != 0 && fs.attr(&held.file).kind & crate::wire::qt::DIR == 0 {
            return Err(Error::ENOTDIR);
        }
        self.open(fs, request, fid, linux_flags(flags)?, at)
    }

    fn lcreate(
        &mut self,
        fs: &mut F,
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
        let open = linux_flags(flags)?;
        let gid = self.config.users.named_group(self.config.trust, gid);
        // Kernels differ in whether they send the type; it can only be a file.
        match fs.create(&mut held.file, name, open, mode::IFREG | mode & mode::PERM, 0, gid, at) {
            // Another client was quicker: open(2) with O_CREAT alone opens what is there.
            Err(Error::EEXIST) if flags & lopen::EXCL == 0 => {
                let mut there = fs.lookup(&held.file, name)?;
                let can = if fs.attr(&there).kind & crate::wire::qt::DIR != 0 { Err(Error::EISDIR) } else { Ok(()) };
                if let Err(error) = can.and_then(|()| open_or_execute(fs, &mut there, open, at)) {
                    give_back(fs, there, at);
                    return Err(error);
                }
                give_back(fs, std::mem::replace(&mut held.file, there), at);
            }
            created => created?,
        }
        let (qid, iounit) = (fs.attr(&held.file), iounit(fs, &held.file, self.msize));
        held.state = opened(qid.kind, open);
        self.reply(fs.gate(), request, &Message::Rlcreate { qid, iounit });
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the three messages that make something")]
    fn make(
        &mut self,
        fs: &mut F,
        dfid: Fid,
        name: &[u8],
        what: Make<'_>,
        mode: u32,
        gid: u32,
        at: At,
    ) -> Result<crate::wire::Qid> {
        check_name(name)?;
        let gid = self.config.users.named_group(self.config.trust, gid);
        fs.make(&self.fids.get(dfid)?.file, name, what, mode & mode::PERM, gid, at)
    }

    fn statfs(&mut self, fs: &mut F, fid: Fid) -> Result<Message<'static>> {
        let of = fs.statfs(&self.fids.get(fid)?.file)?;
        Ok(Message::Rstatfs {
            type_: STATFS_TYPE,
            bsize: of.bsize,
            blocks: of.blocks,
            bfree: of.bfree,
            bavail: of.bfree,
            files: of.files,
            ffree: of.ffree,
            fsid: of.fsid,
            namelen: NAME_BYTES_MAX as u32,
        })
    }

    fn readlink(&mut self, fs: &mut F, request: Request, fid: Fid, at: At) -> Result<()> {
        let stat = fs.stat(&self.fids.get(fid)?.file)?;
        if stat.mode & mode::IFMT != mode::IFLNK {
            return Err(Error::EINVAL);
        }
        self.reply_text(fs.gate(), request, &Message::Rreadlink { target: stat.target })?;
        fs.target_read(&self.fids.get(fid)?.file, at);
        Ok(())
    }

    /// The value of an attribute, or the names of all, each with a NUL, under a new fid.
    fn xattrwalk(&mut self, fs: &mut F, request: Request, fid: Fid, newfid: Fid, name: &[u8], at: At) -> Result<()> {
        self.fids.check_new(newfid)?;
        let held = self.fids.get(fid)?;
        let budget = &self.config.budget;
        let attr = if name.is_empty() {
            let mut names = Vec::new();
            fs.xattrs(&held.file, &mut |name| {
                names.extend_from_slice(name);
                names.push(0);
            })?;
            Attr::with_bytes(budget, names)?
        } else {
            let mut attr = Attr::to_read(budget);
            attr.extend(fs.xattr(&held.file, name)?)?;
            attr
        };
        let size = attr.len() as u64;
        let file = fs.duplicate(&held.file);
        if let Err((error, file)) = self.fids.put_attr(newfid, file, attr) {
            let _ = fs.close(file, at);
            return Err(error);
        }
        self.reply(fs.gate(), request, &Message::Rxattrwalk { size });
        Ok(())
    }

    /// The fid stands for an attribute from now on. One that already does starts anew.
    fn xattrcreate(
        &mut self,
        fs: &mut F,
        request: Request,
        fid: Fid,
        name: &[u8],
        size: u64,
        flags: u32,
    ) -> Result<()> {
        let how = match flags {
            0 => SetXattr::Any,
            xattr::CREATE => SetXattr::Create,
            xattr::REPLACE => SetXattr::Replace,
            _ => return Err(Error::EINVAL),
        };
        let Held { file, state } = self.fids.any(fid)?;
        match state {
            State::Walked => {}
            State::Attr(attr) if attr.takes() => {}
            State::Attr(_) => return Err(Error::EBADF),
            _ => return Err(Error::EINVAL),
        }
        if name.is_empty() {
            return Err(Error::EINVAL);
        }
        if name.len() > XATTR_NAME_BYTES_MAX {
            return Err(Error::ERANGE);
        }
        let size = usize::try_from(size).ok().filter(|&size| size <= XATTR_BYTES_MAX).ok_or(Error::E2BIG)?;
        // What is sure to fail is said now; the clunk has the last word.
        match (how, fs.xattr(file, name)) {
            (SetXattr::Create, Ok(_)) => return Err(Error::EEXIST),
            (SetXattr::Replace, Err(Error::ENODATA)) => return Err(Error::ENODATA),
            _ => {}
        }
        self.fids.become_attr(fid, Attr::to_set(&self.config.budget, name, size, how))?;
        self.reply(fs.gate(), request, &Message::Rxattrcreate {});
        Ok(())
    }

    /// Part of an attribute that was asked for.
    pub(super) fn read_attr(&mut self, fs: &F, request: Request, fid: Fid, offset: u64, room: usize) -> Result<()> {
        let held = self.fids.any(fid)?;
        let State::Attr(attr) = &held.state else { return Err(Error::EBADF) };
        let part = attr.read(offset, room)?;
        let iovec = self.out.batch(fs.gate()).iovec();
        let mark = iovec.mark();
        iovec.put_copy(&[0; READ_HEAD]);
        iovec.put_copy(part);
        self.end_data(fs.gate(), mark, request, |data| Message::Rread { data });
        Ok(())
    }

    /// Whole entries behind a cookie. The client keeps what fits its buffer and may come back to any cookie that it was given.
    fn readdir(&mut self, fs: &mut F, request: Request, fid: Fid, offset: u64, count: u32, at: At) -> Result<()> {
        let room = self.listing_room(count);
        let held = self.fids.get(fid)?;
        match held.state {
            State::OpenDir { .. } => {}
            State::Open { .. } => return Err(Error::ENOTDIR),
            State::Walked | State::Attr(_) => return Err(Error::EBADF),
        }
        let iovec = self.out.batch(fs.gate()).iovec();
        let mark = iovec.mark();
        iovec.put_copy(&[0; READ_HEAD]);
        let (mut used, mut full) = (0, false);
        let listed = fs.list(&mut held.file, offset, at, &mut |entry| {
            let stat = &entry.stat;
            // DT_ values are the type bits of the mode (readdir(3)).
            let kind = ((stat.mode & mode::IFMT) >> 12) as u8;
            let entry = DirEntry { qid: stat.qid, offset: entry.cookie, kind, name: stat.name };
            let fits = used + entry.size() <= room;
            if fits {
                entry.emit(&mut iovec.put_small(entry.size()));
                used += entry.size();
            }
            full |= !fits;
            fits
        });
        let too_small = if full && used == 0 { Err(Error::EINVAL) } else { Ok(()) };
        if let Err(error) = listed.and(too_small) {
            iovec.rollback(mark);
            return Err(error);
        }
        self.charge_bytes(used, LISTED_BYTES_PER_UNIT);
        self.end_data(fs.gate(), mark, request, |data| Message::Rreaddir { data });
        Ok(())
    }
}

/// Opens a file. A regular file that the user may execute but not read is opened for reading nonetheless, as NFS servers
/// do: Tlopen has no flag for execution, so execve(2) of a Linux client comes as an open for reading.
pub(super) fn open_or_execute<F: Filesystem>(fs: &mut F, file: &mut F::File, flags: Open, at: At) -> Result<()> {
    let reads_only = flags.read && !flags.write && !flags.truncate;
    match fs.open(file, flags, at) {
        Err(Error::EACCES) if reads_only && fs.stat(file)?.mode & mode::IFMT == mode::IFREG => {
            fs.open(file, Open { read: false, exec: true, ..flags }, at)
        }
        opened => opened,
    }
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
        exec: false,
        truncate: flags & lopen::TRUNC != 0,
        append: flags & lopen::APPEND != 0,
        remove_on_close: false,
    })
}
