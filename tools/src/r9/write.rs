//! The command write: standard input to a file of the server.
//!
//! A file is written aside and takes its name at the end of the input. Where that cannot be, and where
//! something is appended, the input goes straight into the file.

use crate::say::{Why, shown};
use crate::{Run, split};
use anyhow::anyhow;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ring9::client::{Access, Attr, Client, Error, Interrupt, temporary_name};
use ring9::fs::{Change, Error as Errno, mode};
use ring9::wire::{Dialect, Fid, qt};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// Bytes of standard input taken at a time.
const PART_BYTES: usize = 4 << 20;
/// Permissions of a file that replaces none.
const PERMISSIONS: u32 = 0o644;

/// A file of the server that is open for writing, and how it was made.
struct Target {
    fid: Fid,
    /// Where the input goes.
    offset: u64,
    /// It was made aside, in place of this file if there is one.
    aside: Option<Option<Attr>>,
}

impl Run {
    pub(crate) fn write(
        &mut self,
        append: bool,
        in_place: bool,
        path: &OsStr,
        interrupt: &Interrupt,
    ) -> anyhow::Result<()> {
        let path = path.as_bytes();
        let (parent, name) = split(path);
        let walked = self.client.walk(Client::ROOT, parent);
        let Some(dir) = self.go_on(shown(path), walked)? else { return Ok(()) };
        let in_place = in_place || !append && !self.renames(dir, parent)?;
        self.aside.0 = parent.to_vec();
        let opened = self.open_target(dir, name, append, in_place);
        let Some(mut target) = self.go_on(shown(path), opened)? else { return Ok(()) };
        let is_sent = self.send_input(&mut target, append, path, interrupt)?;
        let is_named = is_sent && self.finish_target(&target, dir, path)?;
        if !is_named && let Some(made) = self.aside.1.pop() {
            let removed = self.client.remove(dir, &made, false);
            self.go_on(shown(&crate::join(parent, &made)), removed)?;
        }
        self.aside.1.clear();
        if is_named {
            self.tally.finish(&shown(path));
        }
        self.client.clunk(dir)?;
        Ok(())
    }

    fn open_target(&mut self, dir: Fid, name: &[u8], append: bool, in_place: bool) -> Result<Target, Error> {
        if !append && !in_place {
            let old = match self.client.walk(dir, name) {
                Ok(fid) => {
                    let found = self.client.stat(fid);
                    Some(self.client.clunk_after(fid, found)?)
                }
                Err(error) if error.errno() == Some(Errno::ENOENT) => None,
                Err(error) => return Err(error),
            };
            // A file that appends does so whoever writes, and a name that others have open alone is not to be taken from them.
            let is_ordinary = |attr: &Attr| attr.kind() == mode::IFREG && attr.qid.kind & (qt::APPEND | qt::EXCL) == 0;
            if old.as_ref().is_none_or(is_ordinary) {
                let made = temporary_name(name);
                self.aside.1.push(made.clone());
                match self.client.create(dir, &made, PERMISSIONS, Access::New) {
                    Ok(fid) => return Ok(Target { fid, offset: 0, aside: Some(old) }),
                    // The directory takes no new file; the file that is there may be written.
                    Err(error) if error.is_refusal() && old.is_some() => self.aside.1.clear(),
                    Err(error) => return Err(error),
                }
            }
        }
        let access = if append { Access::Append } else { Access::Truncate };
        let fid = self.client.create(dir, name, PERMISSIONS, access)?;
        if !append {
            return Ok(Target { fid, offset: 0, aside: None });
        }
        match self.client.stat(fid) {
            Ok(attr) => Ok(Target { fid, offset: attr.size, aside: None }),
            Err(error) => self.client.clunk_after(fid, Err(error)),
        }
    }

    /// Sends the input to its end; whether all of it was taken.
    fn send_input(
        &mut self,
        target: &mut Target,
        append: bool,
        path: &[u8],
        interrupt: &Interrupt,
    ) -> anyhow::Result<bool> {
        // What is appended in one message stays together.
        let part_bytes = if append { self.client.chunk() as usize } else { PART_BYTES };
        let mut part = Vec::with_capacity(part_bytes);
        loop {
            part.clear();
            read_part(&mut part, part_bytes, interrupt).map_err(|error| anyhow!("standard input: {}", error.why()))?;
            if interrupt.is_given() {
                return Err(Error::Interrupted.into());
            }
            if part.is_empty() {
                return Ok(true);
            }
            let written = if append {
                self.client.append(target.fid, target.offset, &part)
            } else {
                self.client.write(target.fid, target.offset, &part)
            };
            if self.go_on(shown(path), written)?.is_none() {
                self.client.clunk(target.fid)?;
                return Ok(false);
            }
            target.offset += part.len() as u64;
            self.tally.moved(part.len() as u64);
        }
    }

    /// Closes the file, and gives it its name if it was made aside. Whether that is done.
    fn finish_target(&mut self, target: &Target, dir: Fid, path: &[u8]) -> anyhow::Result<bool> {
        let mut set = Ok(());
        if let Some(Some(old)) = &target.aside {
            let (uid, gid) = (old.uid.parse().ok(), old.gid.parse().ok());
            if self.client.dialect() == Dialect::L && (uid.is_some() || gid.is_some()) {
                // As far as the server lets this user.
                match self.client.set(target.fid, &Change { uid, gid, ..Change::default() }, old) {
                    Err(error) if !error.is_refusal() => return Err(error.into()),
                    _ => {}
                }
            }
            let change = Change { mode: Some(old.mode & mode::PERM), ..Change::default() };
            set = self.client.set(target.fid, &change, old);
        }
        // A server may keep its last error for the end.
        let closed = self.client.clunk_after(target.fid, set);
        if self.go_on(shown(path), closed)?.is_none() {
            return Ok(false);
        }
        if target.aside.is_some() {
            let made = self.aside.1.last().expect("it was made aside").clone();
            let named = self.client.replace(dir, &made, split(path).1);
            if self.go_on(shown(path), named)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads until the part is full, the input has ended, or the interrupt was given.
fn read_part(part: &mut Vec<u8>, part_bytes: usize, interrupt: &Interrupt) -> io::Result<()> {
    let stdin = io::stdin();
    let mut buffer = vec![0; 64 << 10];
    while part.len() < part_bytes {
        let mut fds =
            [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if interrupt.is_given() {
            return Ok(());
        }
        let room = buffer.len().min(part_bytes - part.len());
        // Past the buffer of std, in which poll(2) sees nothing.
        match nix::unistd::read(&stdin, &mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(n) => part.extend_from_slice(&buffer[..n]),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
