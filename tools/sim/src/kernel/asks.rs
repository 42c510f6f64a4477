//! Files and remote sockets: what a tree may ask for beyond its peers. A remote socket is one to a server that says whatever it
//! hears, or to a far server (`remote`).
//!
//! An ask runs when the scheduler picks it. It may be interrupted, fail, or be short; its completion may be late like any other.

use super::faults::Fault;
use super::forget::Unsynced;
use super::memory;
use super::remote::{Far, Remote};
use super::sqe::{Call, Kind, Sqe};
use super::{Fd, Kernel, Op, trace};
use nix::libc;
use std::collections::{BTreeMap, VecDeque};

/// Bytes that a remote server holds before it takes no more.
const ECHO_BYTES: usize = 300;
/// Errors of operations on files, and of connections.
const FATAL: &[i32] = &[libc::ENOSPC, libc::EIO, libc::ENOMEM, libc::EDQUOT];
pub(super) const REFUSED: &[i32] = &[libc::ECONNREFUSED, libc::ETIMEDOUT, libc::ENETUNREACH];
pub(super) const TRANSIENT: &[i32] = &[libc::EINTR, libc::EAGAIN];

/// All files, and all sockets that were made.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) names: BTreeMap<Vec<u8>, usize>,
    pub(super) files: Vec<Vec<u8>>,
    /// Of a disk that forgets.
    pub(super) unsynced: Option<Unsynced>,
    pub(super) remotes: Vec<Remote>,
    /// The far server that all remote sockets lead to, if there is one.
    pub(super) far: Option<Far>,
}

impl Kernel {
    /// Whether a tree has asked for this.
    pub(super) fn is_asked(&self, sqe: &Sqe) -> bool {
        matches!(sqe.kind, Kind::Ask(_))
            || (sqe.is_receive() || sqe.is_send()) && matches!(self.fds.get(&sqe.fd), Some(Fd::Remote(_)))
    }

    pub(crate) fn is_remote(&self, fd: i32) -> bool {
        matches!(self.fds.get(&fd), Some(Fd::Remote(_)))
    }

    /// Files that a tree has made and not removed.
    pub(crate) fn files(&self) -> usize {
        self.disk.names.len()
    }

    pub(super) fn remote(&self, fd: i32) -> usize {
        match self.fds.get(&fd) {
            Some(Fd::Remote(number)) => *number,
            _ => panic!("descriptors: {fd} is no open remote socket"),
        }
    }

    fn file(&self, fd: i32) -> usize {
        match self.fds.get(&fd) {
            Some(Fd::File(number)) => *number,
            _ => panic!("descriptors: {fd} is no open file"),
        }
    }

    /// What must be true of an ask that is submitted.
    pub(super) fn check_asked(&self, sqe: &Sqe, total: usize) {
        let mut others = self.in_flight.iter().filter(|other| other.sqe.fd == sqe.fd);
        match sqe.kind {
            Kind::Ask(Call::Close) => {
                let names_none = !others.any(|other| self.names_fd(&other.sqe));
                assert!(names_none, "descriptors: {} is closed with asks in flight", sqe.fd);
            }
            Kind::Ask(Call::Write { .. } | Call::Read { .. } | Call::Sync | Call::Allocate { .. }) => {
                self.file(sqe.fd);
            }
            Kind::Ask(Call::Connect) => {
                assert!(!self.disk.remotes[self.remote(sqe.fd)].is_connected, "submission: twice")
            }
            Kind::Ask(_) => {}
            _ => {
                assert!(
                    self.disk.remotes[self.remote(sqe.fd)].is_connected,
                    "submission: {sqe:?} before it is connected"
                );
                let same = |other: &Op| other.sqe.is_receive() == sqe.is_receive() && self.is_asked(&other.sqe);
                assert!(!others.any(same), "submission: {sqe:?} while another is under way");
            }
        }
        let moves =
            matches!(sqe.kind, Kind::Ask(Call::Write { .. } | Call::Read { .. })) || !matches!(sqe.kind, Kind::Ask(_));
        assert!(!moves || total > 0, "submission: {sqe:?} of nothing");
    }

    /// Whether its descriptor is one, and not a folder or a family of sockets.
    fn names_fd(&self, sqe: &Sqe) -> bool {
        let is_none =
            matches!(sqe.kind, Kind::Ask(Call::Open { .. } | Call::Rename { .. } | Call::Unlink { .. } | Call::Socket));
        self.is_asked(sqe) && !is_none
    }

    pub(super) fn can_run_asked(&self, op: &Op) -> bool {
        if let Some(far) = &self.disk.far {
            return self.can_run_far(op, far);
        }
        if matches!(op.sqe.kind, Kind::Ask(_)) {
            return true;
        }
        let remote = &self.disk.remotes[self.remote(op.sqe.fd)];
        remote.is_shut || if op.sqe.is_receive() { !remote.echo.is_empty() } else { remote.echo.len() < ECHO_BYTES }
    }

    pub(super) fn shutdown_remote(&mut self, fd: i32) -> bool {
        let is_remote = self.is_remote(fd);
        if is_remote {
            let number = self.remote(fd);
            self.disk.remotes[number].is_shut = true;
        }
        is_remote
    }

    /// What comes of an ask.
    pub(super) fn run_asked(&mut self, op: Op) {
        let Kind::Ask(call) = op.sqe.kind else { return self.run_transfer(op) };
        if let Call::Close = call {
            return self.close_asked(&op.sqe);
        }
        let holds = matches!(call, Call::Write { .. });
        if holds {
            self.check_held(&op, 0, op.total);
        } else if let Call::Read { .. } = call {
            assert!(memory::is_poisoned(&op.views, 0), "memory: somebody wrote where {:?} is under way", op.sqe);
        }
        if self.fires(Fault::AskInterrupted) {
            let error = self.random.of(TRANSIENT);
            return self.post(&op.sqe, -error, 0);
        }
        if self.fires(Fault::AskFails) {
            self.far_fails(call);
            if let (Call::Sync, Some(Fd::File(file))) = (call, self.fds.get(&op.sqe.fd)) {
                self.disk.unsynced.iter_mut().for_each(|unsynced| unsynced.not_synced(*file));
            }
            let error = self.random.of(if matches!(call, Call::Connect) { REFUSED } else { FATAL });
            return self.post(&op.sqe, -error, 0);
        }
        let res = self.does(&op);
        self.post(&op.sqe, res, 0);
    }

    /// Does what is asked for. Its result.
    pub(super) fn does(&mut self, op: &Op) -> i32 {
        let Kind::Ask(call) = op.sqe.kind else { unreachable!("a call") };
        match call {
            Call::Open { path, flags } => self.open_file(&memory::path(path), flags),
            Call::Rename { path, new_path } => self.rename(memory::path(path), memory::path(new_path)),
            Call::Unlink { path } => self.unlink(memory::path(path)),
            Call::Allocate { offset, len } => {
                let file = self.file(op.sqe.fd);
                let bytes = &mut self.disk.files[file];
                let end = (offset + len) as usize;
                bytes.resize(bytes.len().max(end), 0);
                0
            }
            Call::Write { offset, .. } => self.write_file(op, offset as usize),
            Call::Read { offset, .. } => self.read_file(op, offset as usize),
            Call::Sync => {
                let file = self.file(op.sqe.fd);
                self.disk.unsynced.iter_mut().for_each(|unsynced| unsynced.synced(file));
                0
            }
            Call::Socket => {
                self.check_pause();
                let fd = self.free_fd();
                self.fds.insert(fd, Fd::Remote(self.disk.remotes.len()));
                self.disk.remotes.push(Remote::default());
                fd
            }
            Call::Connect if self.disk.far.is_some() => self.connect_far(self.remote(op.sqe.fd)),
            Call::Connect => {
                let number = self.remote(op.sqe.fd);
                self.disk.remotes[number].is_connected = true;
                0
            }
            Call::Close => unreachable!("it ends in another way"),
        }
    }

    /// However it ends, the descriptor is gone (Linux: `io_uring/openclose.c`, io_close).
    fn close_asked(&mut self, sqe: &Sqe) {
        let was = self.fds.remove(&sqe.fd);
        if let Some(Fd::Remote(number)) = was {
            self.disk.remotes[number].is_closed = true;
        }
        assert!(matches!(was, Some(Fd::File(_) | Fd::Remote(_))), "descriptors: {} is closed and is not open", sqe.fd);
        let res = if self.fires(Fault::AskInterrupted) { -libc::EINTR } else { 0 };
        // The number may be another one's before the completion is handed out.
        self.post(&Sqe { fd: -1, ..*sqe }, res, 0);
    }

    fn open_file(&mut self, path: &[u8], flags: i32) -> i32 {
        let number = match self.disk.names.get(path) {
            Some(_) if flags & libc::O_EXCL != 0 => return -libc::EEXIST,
            Some(&number) => number,
            None if flags & libc::O_CREAT == 0 => return -libc::ENOENT,
            None => {
                self.disk.files.push(Vec::new());
                self.disk.names.insert(path.to_vec(), self.disk.files.len() - 1);
                self.disk.unsynced.iter_mut().for_each(|unsynced| unsynced.made(path));
                self.disk.files.len() - 1
            }
        };
        if let Some(unsynced) = &mut self.disk.unsynced {
            if flags & libc::O_TRUNC != 0 {
                self.disk.files[number].clear();
                unsynced.truncated(number);
            }
            return self.open_mounted(number);
        }
        let fd = self.free_fd();
        self.fds.insert(fd, Fd::File(number));
        fd
    }

    fn rename(&mut self, path: Vec<u8>, new_path: Vec<u8>) -> i32 {
        let Some(number) = self.disk.names.remove(&path) else { return -libc::ENOENT };
        let over = self.disk.names.insert(new_path.clone(), number);
        self.disk.unsynced.iter_mut().for_each(|unsynced| unsynced.moved(path.clone(), new_path.clone(), over));
        0
    }

    fn unlink(&mut self, path: Vec<u8>) -> i32 {
        let Some(number) = self.disk.names.remove(&path) else { return -libc::ENOENT };
        self.disk.unsynced.iter_mut().for_each(|unsynced| unsynced.removed(path.clone(), number));
        0
    }

    pub(super) fn part(&mut self, total: usize) -> usize {
        if total > 0 && self.fires(Fault::AskShort) { self.random.part(total) } else { total }
    }

    fn write_file(&mut self, op: &Op, offset: usize) -> i32 {
        let n = self.part(op.total);
        let mut bytes = VecDeque::new();
        memory::read(&op.views, 0, n, &mut bytes);
        let number = self.file(op.sqe.fd);
        let file = &mut self.disk.files[number];
        file.resize(file.len().max(offset + n), 0);
        if let Some(unsynced) = &mut self.disk.unsynced {
            unsynced.writes(number, offset, &file[offset..offset + n]);
        }
        file[offset..offset + n].copy_from_slice(bytes.make_contiguous());
        n as i32
    }

    fn read_file(&mut self, op: &Op, offset: usize) -> i32 {
        let number = self.file(op.sqe.fd);
        let there = self.disk.files[number].len().saturating_sub(offset);
        let n = self.part(there.min(op.total));
        let bytes = self.disk.files[number].get(offset..offset + n).unwrap_or_default().to_vec();
        memory::write(&op.views, 0, &bytes);
        n as i32
    }

    /// A step of a send to another server, or of a receive from it.
    fn run_transfer(&mut self, mut op: Op) {
        let number = self.remote(op.sqe.fd);
        if self.disk.far.is_some() {
            return self.run_far_transfer(op, number);
        }
        if op.done == 0 && self.fires(Fault::AskInterrupted) {
            let error = self.random.of(TRANSIENT);
            return self.post(&op.sqe, -error, 0);
        }
        let (is_shut, there) = (self.disk.remotes[number].is_shut, self.disk.remotes[number].echo.len());
        let is_receive = op.sqe.is_receive();
        if is_shut && (!is_receive || there == 0) {
            let res = if op.done > 0 || is_receive { op.done as i32 } else { -libc::EPIPE };
            return self.post(&op.sqe, res, 0);
        }
        if self.fires(Fault::AskFails) {
            self.disk.remotes[number].is_shut = true;
            self.disk.remotes[number].echo.clear();
            return self.post(&op.sqe, -libc::ECONNRESET, 0);
        }
        let left = op.total - op.done;
        let n = if is_receive {
            let n = self.part(there.min(left));
            let bytes: Vec<u8> = self.disk.remotes[number].echo.drain(..n).collect();
            memory::write(&op.views, op.done, &bytes);
            n
        } else {
            self.check_held(&op, 0, op.total);
            let n = self.part(left.min(ECHO_BYTES - there));
            memory::read(&op.views, op.done, op.done + n, &mut self.disk.remotes[number].echo);
            n
        };
        op.done += n;
        trace!(self, "remote {number}: {n} bytes moved");
        // What asks for all of it waits for all of it; anything else ends with what there is.
        if is_receive && op.sqe.waits_for_all && op.done < op.total {
            return self.in_flight.push(op);
        }
        self.end_transfer(&op);
    }

    /// A send that does not wait.
    pub(super) fn run_asked_now(&mut self, op: Op) {
        if self.can_run_asked(&op) { self.run_asked(op) } else { self.post(&op.sqe, -libc::EAGAIN, 0) }
    }

    /// A transfer has ended. A quiet one says so only if something is left.
    pub(super) fn end_transfer(&mut self, op: &Op) {
        if !op.sqe.quiet || op.done < op.total {
            self.post(&op.sqe, op.done as i32, 0);
        }
    }
}
