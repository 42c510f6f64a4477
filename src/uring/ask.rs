//! An ask of the tree in flight: the SQE of its system call, and all memory that the SQE names. **Unsafe.**
//!
//! Ownership: a [`Flight`] is boxed, and owns the ask with its memory, the list of views, the message header, the address and
//! the time. The loop keeps it until the terminal CQE. Between `start` and that CQE it changes nothing that the SQE names, and reads
//! nothing that the kernel writes; so every `push` in here is sound. Descriptors are numbers that the tree gives: the loop checks none of them.
//!
//! All opcodes are those of Linux 5.19, but for READV_FIXED and WRITEV_FIXED (6.15) and sends of lists (6.17). Before these the
//! plain forms are used: READV, WRITEV, SENDMSG.
//!
//! Must not know: the tree, peers.

use super::ring::{RECEIVE_POLL_FIRST, Ring, SEND_VECTORIZED, errno};
use super::table::Table;
use super::token::Token;
use crate::fs::{Ask, AskId, Error, OpenHow, Remote, Result};
use io_uring::{opcode, squeue, types};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, UnixAddr};
use std::os::fd::RawFd;

/// Limit on asks in flight. Beyond it the tree is not asked for more until one has ended.
pub const ASKS_MAX: usize = 256;
/// Limit on those of them that may take any time ([`Flight::is_long`]). The other places are for what ends by itself, and for
/// cancellations. A tree may have one more while it has fewer than are free for all: alone it has half of them.
pub(crate) const LONG_ASKS_MAX: usize = ASKS_MAX * 3 / 4;
/// Limit on the views of an ask; an operation on more of them is short (Linux: UIO_MAXIOV).
const VIEWS_MAX: usize = 1024;
/// Limit on how often an ask is submitted again after EINTR or EAGAIN. Beyond it the tree has the error.
const REPEATS_MAX: u16 = 1000;
/// Memory of an ask in flight, without that of the ask itself.
pub const ASK_BYTES: usize = VIEWS_MAX * size_of::<libc::iovec>() + size_of::<Flight>();

/// The address of a remote socket in the kernel's form.
enum Address {
    Inet(SockaddrStorage),
    Unix(UnixAddr),
}

impl Address {
    fn new(remote: &Remote) -> Result<Address> {
        match remote {
            Remote::Tcp(address) => Ok(Address::Inet(SockaddrStorage::from(*address))),
            Remote::Unix(path) => UnixAddr::new(&**path).map(Address::Unix).map_err(|errno| error_of(errno as i32)),
        }
    }

    fn family(&self) -> AddressFamily {
        match self {
            Address::Inet(address) => address.family().expect("of the internet"),
            Address::Unix(_) => AddressFamily::Unix,
        }
    }

    fn parts(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        match self {
            Address::Inet(address) => (address.as_ptr(), address.len()),
            Address::Unix(address) => (address.as_ptr().cast(), address.len()),
        }
    }
}

/// What a CQE means for an ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is to be submitted again, or its next operation.
    Again,
    /// It is over.
    Over(Result<u32>),
}

/// How the loop ends an ask early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By the cancellation of its operation.
    Cancel,
    /// By the shutdown of its socket.
    Shutdown(RawFd),
    /// Not at all: it ends with the operation in flight, which is a short one.
    Itself,
}

/// An ask in flight.
pub(crate) struct Flight {
    pub(crate) id: AskId,
    pub(crate) generation: u32,
    ask: Ask,
    /// Of a cancellation: the operation to be ended.
    target: Option<Token>,
    views: Vec<libc::iovec>,
    message: libc::msghdr,
    address: Option<Address>,
    time: types::Timespec,
    /// The socket of a connect, once it is made.
    socket: Option<RawFd>,
    /// It is to end with the operation in flight.
    is_cancelled: bool,
    /// The operation in flight has a CQE only if it does not send all.
    is_quiet: bool,
    repeats: u16,
}

impl Flight {
    /// An ask that is to be submitted; or one that is over without any operation, with its result.
    pub(crate) fn new(
        id: AskId,
        ask: Ask,
        target: Option<Token>,
    ) -> std::result::Result<Box<Flight>, (Ask, Result<u32>)> {
        let address = match &ask {
            Ask::Connect { to } => match Address::new(to) {
                Ok(address) => Some(address),
                Err(error) => return Err((ask, Err(error))),
            },
            Ask::Write { data, .. } | Ask::Send { data, .. } if data.left() == 0 => return Err((ask, Ok(0))),
            Ask::Read { into, .. } | Ask::Receive { into, .. } if into.left() == 0 => return Err((ask, Ok(0))),
            _ => None,
        };
        // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
        let message = unsafe { std::mem::zeroed() };
        let time = types::Timespec::new();
        let views = Vec::new();
        Ok(Box::new(Flight {
            id,
            generation: 0,
            ask,
            target,
            views,
            message,
            address,
            time,
            socket: None,
            is_cancelled: false,
            is_quiet: false,
            repeats: 0,
        }))
    }

    pub(crate) fn into_ask(self) -> Ask {
        self.ask
    }

    /// Whether it may take any time: it waits for another machine, or until a time has come.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self.ask, Ask::Connect { .. } | Ask::Send { .. } | Ask::Receive { .. } | Ask::Timer { .. })
    }

    /// The operation in flight has a CQE only if it does not send all.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// Bytes of its views, as they were listed last. A quiet send that will have no CQE has sent them all.
    pub(crate) fn offered(&self) -> usize {
        self.views.iter().map(|view| view.iov_len).sum()
    }

    /// How it is ended early.
    pub(crate) fn ending(&self) -> Ending {
        match self.ask {
            Ask::Send { socket, .. } | Ask::Receive { socket, .. } => Ending::Shutdown(socket.0),
            Ask::Connect { .. } if self.socket.is_none() => Ending::Itself,
            // A descriptor whose close was cancelled would stay open.
            Ask::Close { .. } => Ending::Itself,
            _ => Ending::Cancel,
        }
    }

    /// It is to end with the operation in flight, which its [`ending`](Self::ending) may hasten.
    pub(crate) fn cancel(&mut self) {
        self.is_cancelled = true;
    }

    /// Submits its operation, or its next one. False if the queue is full.
    pub(crate) fn start(&mut self, ring: &mut impl Ring, token: Token, table: &Table) -> bool {
        let is_vectored = ring.features().vectored_send;
        self.list_views();
        let offered = self.offered();
        self.message.msg_iov = self.views.as_mut_ptr();
        self.message.msg_iovlen = self.views.len();
        let message = &raw mut self.message;
        let entry = match &mut self.ask {
            Ask::Open { dir, path, how, mode } => {
                opcode::OpenAt::new(types::Fd(dir.0), path.as_ptr()).flags(open_flags(*how)).mode(*mode).build()
            }
            Ask::Rename { from, path, to, new_path } => {
                let (from, to) = (types::Fd(from.0), types::Fd(to.0));
                opcode::RenameAt::new(from, path.as_ptr(), to, new_path.as_ptr()).build()
            }
            Ask::Unlink { dir, path, want_dir } => {
                let flags = if *want_dir { libc::AT_REMOVEDIR } else { 0 };
                opcode::UnlinkAt::new(types::Fd(dir.0), path.as_ptr()).flags(flags).build()
            }
            Ask::Close { descriptor } => opcode::Close::new(types::Fd(descriptor.0)).build(),
            Ask::Allocate { file, offset, len } => {
                opcode::Fallocate::new(types::Fd(file.0), *len).offset(*offset).build()
            }
            Ask::Write { file, offset, .. } => {
                write(types::Fd(file.0), *offset, &self.views, slot_of(&self.views, table))
            }
            Ask::Read { file, offset, .. } => {
                read(types::Fd(file.0), *offset, &self.views, slot_of(&self.views, table))
            }
            Ask::Sync { file, data_only } => {
                let flags = if *data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
                opcode::Fsync::new(types::Fd(file.0)).flags(flags).build()
            }
            Ask::Connect { .. } => {
                let address = self.address.as_ref().expect("a connect has an address");
                match self.socket {
                    None => {
                        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
                        opcode::Socket::new(address.family() as i32, kind, 0).build()
                    }
                    Some(fd) => {
                        let (at, len) = address.parts();
                        opcode::Connect::new(types::Fd(fd), at, len).build()
                    }
                }
            }
            Ask::Send { socket, quiet, .. } => {
                // A quiet send does not wait for room. If it has found none, the send after it is not quiet, and waits.
                self.is_quiet = *quiet && self.repeats == 0 && offered <= i32::MAX as usize;
                send(types::Fd(socket.0), &self.views, message, is_vectored, self.is_quiet)
            }
            Ask::Receive { socket, whole, .. } => receive(types::Fd(socket.0), &self.views, message, *whole),
            Ask::Timer { ns } => {
                self.time = types::Timespec::new().sec(*ns / 1_000_000_000).nsec((*ns % 1_000_000_000) as u32);
                opcode::Timeout::new(&raw const self.time).build()
            }
            Ask::Cancel { .. } => {
                opcode::AsyncCancel::new(self.target.expect("a cancellation has a target").encode()).build()
            }
        };
        let entry = entry.user_data(token.encode());
        // SAFETY: what the entry names is in the box and in the ask that it owns, and is kept until the CQE: see the head of the
        // file.
        unsafe { ring.push(|| entry) }
    }

    /// Lists the views of the ask anew.
    fn list_views(&mut self) {
        self.views.clear();
        let mut push =
            |at: *const u8, len| self.views.push(libc::iovec { iov_base: at.cast_mut().cast(), iov_len: len });
        match &mut self.ask {
            Ask::Write { data, .. } | Ask::Send { data, .. } => {
                data.views().take(VIEWS_MAX).for_each(|view| push(view.as_ptr(), view.len()));
            }
            Ask::Read { into, .. } | Ask::Receive { into, .. } => {
                into.views().take(VIEWS_MAX).for_each(|view| push(view.as_mut_ptr(), view.len()));
            }
            _ => {}
        }
    }

    /// The CQE of its operation.
    pub(crate) fn ended(&mut self, res: i32, ring: &mut impl Ring) -> Step {
        let failed = errno(res);
        self.is_quiet = false;
        // A close has closed its descriptor, however it ends (close(2)).
        let may_repeat = !matches!(self.ask, Ask::Close { .. });
        if may_repeat && matches!(failed, Some(Errno::EINTR | Errno::EAGAIN)) {
            if self.is_cancelled {
                self.close_socket(ring);
                return Step::Over(Err(error_of(libc::ECANCELED)));
            }
            if self.repeats < REPEATS_MAX {
                self.repeats += 1;
                self.close_socket(ring);
                return Step::Again;
            }
        }
        let result = if res < 0 { Err(error_of(-res)) } else { Ok(res as u32) };
        match (&self.ask, failed) {
            (Ask::Timer { .. }, Some(Errno::ETIME)) => Step::Over(Ok(0)),
            // The target is running, and ends by itself.
            (Ask::Cancel { .. }, Some(Errno::EALREADY)) => Step::Over(Ok(0)),
            (Ask::Connect { to }, None) if self.socket.is_none() => {
                self.socket = Some(res);
                if matches!(to, Remote::Tcp(_)) {
                    ring.prepare_tcp(res);
                }
                if self.is_cancelled {
                    self.close_socket(ring);
                    return Step::Over(Err(error_of(libc::ECANCELED)));
                }
                Step::Again
            }
            (Ask::Connect { .. }, None) => Step::Over(Ok(self.socket.take().expect("it is connected") as u32)),
            (Ask::Connect { .. }, Some(_)) => {
                self.close_socket(ring);
                Step::Over(result)
            }
            _ => Step::Over(result),
        }
    }

    /// Closes the socket of a connect that has failed.
    fn close_socket(&mut self, ring: &mut impl Ring) {
        if let Some(fd) = self.socket.take() {
            ring.close(fd);
        }
    }
}

/// The error of this number. EIO for one that Linux has no name for.
fn error_of(number: i32) -> Error {
    match number {
        1..=libc::EHWPOISON => Error(number as u16),
        _ => Error::EIO,
    }
}

fn open_flags(how: OpenHow) -> i32 {
    let access = match (how.read, how.write) {
        (_, false) => libc::O_RDONLY,
        (false, true) => libc::O_WRONLY,
        (true, true) => libc::O_RDWR,
    };
    let flags = [
        (how.create, libc::O_CREAT),
        (how.exclusive, libc::O_EXCL),
        (how.truncate, libc::O_TRUNC),
        (how.directory, libc::O_DIRECTORY),
        (how.direct, libc::O_DIRECT),
    ];
    let flags = flags.into_iter().filter(|(wanted, _)| *wanted).fold(access, |all, (_, flag)| all | flag);
    flags | libc::O_CLOEXEC
}

/// The slot of the table through which all views can be reached.
fn slot_of(views: &[libc::iovec], table: &Table) -> Option<u16> {
    let slot = |view: &libc::iovec| table.slot_at(view.iov_base as usize, view.iov_len);
    let first = slot(views.first()?)?;
    views.iter().all(|view| slot(view) == Some(first)).then_some(first)
}

/// A write at an offset. With one view there is no list; registered memory is used where one slot has all of it.
fn write(file: types::Fd, offset: u64, views: &[libc::iovec], slot: Option<u16>) -> squeue::Entry {
    let (list, count) = (views.as_ptr(), views.len() as u32);
    match (single(views), slot) {
        (Some((at, len)), Some(slot)) => opcode::WriteFixed::new(file, at, len, slot).offset(offset).build(),
        (Some((at, len)), None) => opcode::Write::new(file, at, len).offset(offset).build(),
        (None, Some(slot)) => opcode::WritevFixed::new(file, list, count, slot).offset(offset).build(),
        (None, None) => opcode::Writev::new(file, list, count).offset(offset).build(),
    }
}

/// A read at an offset.
fn read(file: types::Fd, offset: u64, views: &[libc::iovec], slot: Option<u16>) -> squeue::Entry {
    let (list, count) = (views.as_ptr(), views.len() as u32);
    match (single(views), slot) {
        (Some((at, len)), Some(slot)) => opcode::ReadFixed::new(file, at, len, slot).offset(offset).build(),
        (Some((at, len)), None) => opcode::Read::new(file, at, len).offset(offset).build(),
        (None, Some(slot)) => opcode::ReadvFixed::new(file, list, count, slot).offset(offset).build(),
        (None, None) => opcode::Readv::new(file, list, count).offset(offset).build(),
    }
}

/// A send. By address, since that is the cheapest (docs/decisions/13-how-replies-leave.md).
fn send(
    socket: types::Fd,
    views: &[libc::iovec],
    message: *const libc::msghdr,
    is_vectored: bool,
    is_quiet: bool,
) -> squeue::Entry {
    // With MSG_WAITALL a send that was cut short has failed, and so has a CQE although it is quiet (Linux: io_uring/net.c,
    // io_send).
    let (quiet, flags) = match is_quiet {
        true => (squeue::Flags::SKIP_SUCCESS, libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT),
        false => (squeue::Flags::empty(), libc::MSG_NOSIGNAL),
    };
    let entry = match views {
        [_] => {
            let (at, len) = single(views).expect("there is one");
            opcode::Send::new(socket, at, len).flags(flags).build()
        }
        views if is_vectored => opcode::Send::new(socket, views.as_ptr().cast(), views.len() as u32)
            .ioprio(SEND_VECTORIZED)
            .flags(flags)
            .build(),
        _ => opcode::SendMsg::new(socket, message).flags(flags as u32).build(),
    };
    entry.flags(quiet)
}

/// A receive. What a tree receives answers what it has just sent, so nothing is there yet: the operation first waits.
fn receive(socket: types::Fd, views: &[libc::iovec], message: *mut libc::msghdr, is_whole: bool) -> squeue::Entry {
    let flags = if is_whole { libc::MSG_WAITALL } else { 0 };
    match single(views) {
        Some((at, len)) => opcode::Recv::new(socket, at, len).ioprio(RECEIVE_POLL_FIRST).flags(flags).build(),
        None => opcode::RecvMsg::new(socket, message).ioprio(RECEIVE_POLL_FIRST).flags(flags as u32).build(),
    }
}

/// The only view of a list. If it is longer than an entry can say, the operation is short.
fn single(views: &[libc::iovec]) -> Option<(*mut u8, u32)> {
    match views {
        [only] => Some((only.iov_base.cast(), only.iov_len.min(u32::MAX as usize) as u32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Descriptor;
    use crate::uring::testring::TestRing;

    #[test]
    fn the_flags_of_an_open_are_those_of_linux() {
        let none = OpenHow::default();
        for (how, flags) in [
            (none, libc::O_RDONLY),
            (OpenHow { write: true, ..none }, libc::O_WRONLY),
            (OpenHow { read: true, write: true, truncate: true, ..none }, libc::O_RDWR | libc::O_TRUNC),
            (
                OpenHow { write: true, create: true, exclusive: true, ..none },
                libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL,
            ),
            (OpenHow { read: true, directory: true, ..none }, libc::O_RDONLY | libc::O_DIRECTORY),
            (OpenHow { read: true, write: true, direct: true, ..none }, libc::O_RDWR | libc::O_DIRECT),
        ] {
            assert_eq!(open_flags(how), flags | libc::O_CLOEXEC);
        }
    }

    #[test]
    fn a_connect_has_two_operations_and_the_last_one_gives_the_socket_away() {
        let to = Remote::Tcp(([127, 0, 0, 1], 9).into());
        let (mut ring, ask) = (TestRing::default(), Ask::Connect { to });
        let Ok(mut flight) = Flight::new(AskId(1), ask, None) else { panic!("it is to be submitted") };
        assert_eq!((flight.ending(), flight.ended(50, &mut ring)), (Ending::Itself, Step::Again));
        assert_eq!((flight.ending(), flight.ended(0, &mut ring)), (Ending::Cancel, Step::Over(Ok(50))));
        assert!(ring.closed.is_empty());
        assert_eq!(ring.prepared, [50]);
    }

    #[test]
    fn an_error_has_the_number_that_linux_gives_it() {
        for (res, error) in [(-1, 1), (-41, 41), (-133, 133), (-134, 5), (-512, 5), (-4095, 5)] {
            let ask = Ask::Sync { file: Descriptor(7), data_only: true };
            let Ok(mut flight) = Flight::new(AskId(1), ask, None) else { panic!("it is to be submitted") };
            assert_eq!(flight.ended(res, &mut TestRing::default()), Step::Over(Err(Error(error))));
        }
    }

    #[test]
    fn a_close_ends_with_its_first_completion() {
        let ask = Ask::Close { descriptor: Descriptor(7) };
        let Ok(mut flight) = Flight::new(AskId(1), ask, None) else { panic!("it is to be submitted") };
        let step = flight.ended(-(Errno::EINTR as i32), &mut TestRing::default());
        assert_eq!(step, Step::Over(Err(Error::EINTR)));
    }
}
