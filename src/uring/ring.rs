//! The ring, and every other system call that the running loop makes. **Unsafe.**
//!
//! [`Ring`] is the interface to a kernel. It uses the kernel's own terms (SQEs in; `user_data`,
//! `res` and `flags` out), so that a simulated kernel can stand behind the same loop. [`Kernel`] is
//! the real one.
//!
//! Ownership: the caller of [`Ring::push`] keeps the memory that the SQE names until the terminal
//! CQE (`flight.rs`, `buffers.rs` and `ask.rs` do). The arena, the sink and the shared buffers are never
//! unmapped.

use super::ask::ASKS_MAX;
use super::listen::{KEEPALIVE, USER_TIMEOUT_MS};
use crate::fs::Time;
use io_uring::types::BufRingEntry;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, getsockopt, setsockopt, sockopt};
use std::alloc::Layout;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes of one signal, as a signalfd tells it (signalfd(2)).
const SIGNAL_BYTES: usize = size_of::<libc::signalfd_siginfo>();
/// Signals that one read of a signalfd takes.
const SIGNALS_MAX: usize = 16;

/// Submission entries; more in one turn are submitted in parts.
pub const SQ_ENTRIES: u32 = 1024;
/// Most completion entries (Linux: `io_uring/io_uring.h`, IORING_MAX_CQ_ENTRIES). Beyond that the kernel keeps completions in a list until there is room.
const CQ_ENTRIES_MAX: usize = 1 << 16;
/// In the priority of a RECV or RECVMSG: it waits until the socket has something before it looks (Linux: IORING_RECVSEND_POLL_FIRST, 5.19).
pub(crate) const RECEIVE_POLL_FIRST: u16 = 1 << 0;
/// In the priority of a SEND: its buffer is a list of views (Linux: IORING_SEND_VECTORIZED).
pub(crate) const SEND_VECTORIZED: u16 = 1 << 5;
/// The one group of shared receive buffers.
pub(crate) const BUFFER_GROUP: u16 = 0;
/// Of io_uring_enter(2): completions are asked for, and with them task work.
const ENTER_GETEVENTS: u32 = 1;

/// What a ring can do beyond the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// WRITEV_FIXED (Linux 6.15).
    pub vectored_fixed: bool,
    /// Completions run only when asked for (Linux 6.1).
    pub defer_taskrun: bool,
    /// One receive goes on through many messages, into buffers that are picked when data is there (Linux 6.0).
    pub multishot: bool,
    /// SEND takes a list of views (Linux 6.17).
    pub vectored_send: bool,
}

impl Features {
    /// Everything.
    pub const ALL: Features =
        Features { vectored_fixed: true, defer_taskrun: true, multishot: true, vectored_send: true };
}

/// What the loop needs of a kernel.
pub trait Ring {
    /// What this one offers.
    fn features(&self) -> Features;

    /// Queues an SQE; false if the queue is full, then `build` was not called.
    ///
    /// # Safety
    /// - All memory that the entry names is valid for what its opcode does until the operation's terminal CQE was drained.
    /// - Nobody else writes there until then, nor reads where the kernel writes.
    unsafe fn push(&mut self, build: impl FnOnce() -> squeue::Entry) -> bool;

    /// Submits what is queued, runs task work, at most so much of it as [`task_work_max`](Ring::task_work_max) says, and waits until `want` CQEs are there. There is no time-out: a
    /// timer per wait costs more than a small request.
    fn submit_and_wait(&mut self, want: u32) -> io::Result<()>;

    /// Everything that was pushed is submitted, and no CQE is left or held back for want of room. If there is no task work left either, a quiet operation
    /// (IOSQE_CQE_SKIP_SUCCESS) that had to end at submission, and of which no CQE was drained, has succeeded.
    fn is_settled(&mut self) -> bool;

    /// What the last enter has left as task work is never denied. It may be said to be there although it is not: another cpu says so after it has added work, and by then that may
    /// have been run (Linux: `io_uring/io_uring.c`, io_req_local_work_add and __io_run_local_work).
    fn has_task_work(&mut self) -> bool;

    /// Items of task work that an enter runs before it leaves others for the next one (Linux 6.13: `io_uring/io_uring.c`, IO_LOCAL_TW_DEFAULT_MAX).
    fn task_work_max(&self) -> u32 {
        20
    }

    /// Hands out and consumes all CQEs that are there.
    fn drain(&mut self, each: impl FnMut(u64, i32, u32));

    /// CQEs are there, or could be made by an enter that does not wait.
    fn has_work(&mut self) -> bool;

    /// Makes a table of `entries` empty registered buffers.
    fn register_table(&mut self, entries: u32) -> io::Result<()>;

    /// Registers memory in a slot of the table, in place of what is there.
    ///
    /// # Safety
    /// The memory stays mapped for as long as the ring.
    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()>;

    /// Makes a group of shared receive buffers: `count`, a power of two, of `bytes` bytes each, one behind the other from `start` on. The kernel has none of them yet.
    ///
    /// # Safety
    /// The memory is never unmapped.
    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()>;

    /// Gives a shared buffer to the kernel, for the first time or again.
    ///
    /// # Safety
    /// If it was given before, a CQE has named it since; and nobody touches it before one does again.
    unsafe fn give_buffer(&mut self, id: u16);

    /// Puts a socket into a place of the ring's table of files, which is empty. False if there is no such place.
    fn adopt(&mut self, place: u32, fd: RawFd) -> bool;

    /// Empties a place. Operations in flight keep the socket.
    fn let_go(&mut self, place: u32);

    /// Ends both directions of a socket; operations in flight complete.
    fn shutdown(&mut self, fd: RawFd);

    /// Sets the options that connections of TCP have: TCP_NODELAY, keepalives and TCP_USER_TIMEOUT.
    fn prepare_tcp(&mut self, fd: RawFd) {
        let _ = fd;
    }

    /// Whether the other end of a socket has said that it sends nothing more, or is gone. Does not wait.
    fn has_hung_up(&mut self, fd: RawFd) -> bool;

    /// For how long the machine at the other end of a TCP connection has acknowledged nothing, in nanoseconds. `None` for
    /// other sockets.
    fn silent_ns(&mut self, fd: RawFd) -> Option<u64> {
        let _ = fd;
        None
    }

    /// Gives memory that the allocator keeps for later back to the kernel.
    fn trim_memory(&mut self) {}

    /// Closes a descriptor that no operation in flight uses.
    fn close(&mut self, fd: RawFd);

    /// The uid and the gid at the other end of a unix socket, `None` for other sockets (SO_PEERCRED, unix(7)).
    fn peer_identity(&mut self, fd: RawFd) -> Option<(u32, u32)>;

    /// Takes signals that a signalfd has, a few at a time, and hands out their numbers. If there
    /// are more, a poll of it ends at once.
    fn take_signals(&mut self, fd: RawFd, each: impl FnMut(i32));

    /// Monotonic nanoseconds.
    fn monotonic(&mut self) -> u64;

    /// The time of day.
    fn wall(&mut self) -> Time;

    /// Randomness; the only source.
    fn entropy(&mut self) -> u64;
}

/// Sets the options of a connection of TCP, of those that are accepted from a listener and of those that the loop makes.
pub(super) fn set_tcp_options(fd: &impl AsFd) -> nix::Result<()> {
    // A message must not wait for the acknowledgement of the one before it.
    setsockopt(fd, sockopt::TcpNoDelay, &true)?;
    let (idle, interval) = KEEPALIVE;
    setsockopt(fd, sockopt::KeepAlive, &true)?;
    setsockopt(fd, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(fd, sockopt::TcpKeepInterval, &interval)?;
    // With this the number of keepalives does not matter (Linux: `net/ipv4/tcp_timer.c`, tcp_keepalive_timer).
    setsockopt(fd, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)
}

/// The ring of this kernel. Belongs to the thread that made it (SINGLE_ISSUER).
pub struct Kernel {
    ring: IoUring,
    features: Features,
    buffers: Option<BufferRing>,
    /// Of the table of files.
    places: u32,
}

/// The ring of buffers behind a group (io_uring_register_buf_ring(3)). Only this thread writes to it; the kernel reads.
struct BufferRing {
    /// `count` entries that live for ever.
    entries: NonNull<BufRingEntry>,
    count: u16,
    tail: u16,
    start: u64,
    bytes: u32,
}

impl BufferRing {
    /// A ring for `count` buffers from `start` on, empty. Its memory lives for ever, since the kernel lets go of it only some time after the ring is closed.
    fn new(count: u16, start: u64, bytes: u32) -> BufferRing {
        assert!(count.is_power_of_two());
        let size = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(size, 4096).expect("a page-aligned size below 1 MiB");
        // SAFETY: the layout is not empty.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast();
        let entries = NonNull::new(memory).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
        BufferRing { entries, count, tail: 0, start, bytes }
    }

    fn give(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: one of `count` entries; no other reference to it exists, and the kernel reads it only once the tail has passed it.
        let entry = unsafe { self.entries.add(at).as_mut() };
        entry.set_addr(self.start + u64::from(id) * u64::from(self.bytes));
        entry.set_len(self.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is the reserved field of the first entry (Linux: struct io_uring_buf_ring), which the lines above leave alone.
        let shown = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: whoever sees the tail sees the entry.
        shown.store(self.tail, Ordering::Release);
    }
}

impl Kernel {
    /// A ring with room for the completions of `peers_max` peers and of all asks. The error is that of io_uring_setup(2), or of the first io_uring_enter(2).
    pub fn new(peers_max: usize) -> io::Result<Kernel> {
        Kernel::with(peers_max, Features::ALL)
    }

    /// The same, with nothing beyond the minimum that is not `allowed`: as on an older kernel.
    pub fn with(peers_max: usize, allowed: Features) -> io::Result<Kernel> {
        let cq_entries = (peers_max * 4 + ASKS_MAX).next_power_of_two().clamp(4096, CQ_ENTRIES_MAX) as u32;
        let deferred = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(cq_entries)
            .build(SQ_ENTRIES);
        let (ring, defer_taskrun) = match deferred {
            Ok(ring) if allowed.defer_taskrun => (ring, true),
            // A kernel that does not know a flag says EINVAL; then the oldest set that the loop can live with (Linux 5.19).
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {
                let plain = IoUring::builder()
                    .setup_coop_taskrun()
                    .setup_taskrun_flag()
                    .setup_cqsize(cq_entries)
                    .build(SQ_ENTRIES)?;
                (plain, false)
            }
        };
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let vectored_fixed = probe.is_supported(opcode::WritevFixed::CODE);
        // No probe knows flags of an opcode; SEND_ZC came with the same kernel as multishot receives.
        let multishot = probe.is_supported(opcode::SendZc::CODE);
        let features = Features {
            vectored_fixed: vectored_fixed && allowed.vectored_fixed,
            defer_taskrun,
            multishot: multishot && allowed.multishot,
            vectored_send: false,
        };
        // Before Linux 6.13 an emptied place lets go of its file only after all operations that began earlier, whichever place they name: an idle receive would keep every
        // connection that has ended since. The table may have as many places as the process may have files (`io_uring/rsrc.c`, io_sqe_files_register).
        let places = if vectored_fixed { peers_max as u32 } else { 0 };
        let has_places = places > 0 && ring.submitter().register_files_sparse(places).is_ok();
        let places = if has_places { places } else { 0 };
        let mut kernel = Kernel { ring, features, buffers: None, places };
        kernel.features.vectored_send = allowed.vectored_send && kernel.sends_lists()?;
        Ok(kernel)
    }

    /// Whether sockets have places in a table of files.
    pub(crate) fn has_places(&self) -> bool {
        self.places > 0
    }

    /// Whether SEND takes a list. No probe knows flags of an opcode either, so it is tried on two sockets of its own.
    fn sends_lists(&mut self) -> io::Result<bool> {
        let Ok((ours, theirs)) = UnixStream::pair() else { return Ok(false) };
        // Whoever takes it for a buffer sends one byte of it.
        let bytes = [0; 2];
        let views = [IoSlice::new(&bytes)];
        let build = || {
            opcode::Send::new(types::Fd(ours.as_raw_fd()), views.as_ptr().cast(), views.len() as u32)
                .ioprio(SEND_VECTORIZED)
                .build()
        };
        // SAFETY: an IoSlice is an iovec. List, bytes and sockets are there until the only operation in flight has ended: two bytes always fit a new socket. If the enter
        // fails, nothing was submitted, and the ring goes.
        let pushed = unsafe { self.push(build) };
        assert!(pushed, "a new queue has room");
        let mut sent = None;
        while sent.is_none() {
            self.submit_and_wait(1)?;
            self.drain(|_, res, _| sent = Some(res));
        }
        drop(theirs);
        Ok(sent == Some(bytes.len() as i32))
    }
}

impl Ring for Kernel {
    fn features(&self) -> Features {
        self.features
    }

    #[inline]
    unsafe fn push(&mut self, build: impl FnOnce() -> squeue::Entry) -> bool {
        let mut queue = self.ring.submission();
        if queue.is_full() {
            return false;
        }
        // SAFETY: the caller keeps what the entry names; there is room.
        unsafe { queue.push(&build()) }.is_ok()
    }

    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        let submitted = self.ring.submission().len() as u32;
        // Without this flag an enter that does not wait leaves task work where it is, its own included.
        // SAFETY: there is no argument.
        match unsafe { self.ring.submitter().enter::<libc::sigset_t>(submitted, want, ENTER_GETEVENTS, None) } {
            Ok(_) => Ok(()),
            // A signal came, or completions have to be drained first: the next turn goes on.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_settled(&mut self) -> bool {
        let queue = self.ring.submission();
        let submitted = queue.is_empty() && !queue.cq_overflow();
        drop(queue);
        submitted && self.ring.completion().is_empty()
    }

    fn has_task_work(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    fn drain(&mut self, mut each: impl FnMut(u64, i32, u32)) {
        for cqe in self.ring.completion() {
            each(cqe.user_data(), cqe.result(), cqe.flags());
        }
    }

    fn has_work(&mut self) -> bool {
        // Under DEFER_TASKRUN no CQE appears until an enter runs the work behind it; the flag says that there is some.
        !self.ring.completion().is_empty() || self.ring.submission().taskrun()
    }

    fn register_table(&mut self, entries: u32) -> io::Result<()> {
        self.ring.submitter().register_buffers_sparse(entries)
    }

    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        let buffer = libc::iovec { iov_base: start as *mut libc::c_void, iov_len: len };
        // SAFETY: the caller keeps the memory mapped.
        unsafe { self.ring.submitter().register_buffers_update(slot, &[buffer], None) }.map(|_| ())
    }

    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()> {
        let ring = BufferRing::new(count, start as u64, bytes);
        let at = ring.entries.as_ptr() as u64;
        // SAFETY: the entries live for ever.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(at, count, BUFFER_GROUP, 0) }?;
        self.buffers = Some(ring);
        Ok(())
    }

    unsafe fn give_buffer(&mut self, id: u16) {
        if let Some(buffers) = &mut self.buffers {
            buffers.give(id);
        }
    }

    fn adopt(&mut self, place: u32, fd: RawFd) -> bool {
        place < self.places && self.ring.submitter().register_files_update(place, &[fd]).is_ok()
    }

    fn let_go(&mut self, place: u32) {
        let emptied = self.ring.submitter().register_files_update(place, &[-1]);
        emptied.expect("a place that was filled can be emptied");
    }

    fn shutdown(&mut self, fd: RawFd) {
        // The peer may have gone first (ENOTCONN): the aim is reached all the same.
        let _ = nix::sys::socket::shutdown(fd, Shutdown::Both);
    }

    fn prepare_tcp(&mut self, fd: RawFd) {
        // SAFETY: the descriptor is the socket that a connect of the loop has just made.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // Without them the connection is slower, or ends later than it should, and works.
        let _ = set_tcp_options(&fd);
    }

    fn has_hung_up(&mut self, fd: RawFd) -> bool {
        // SAFETY: the descriptor is open: its peer closes it only at its end.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let asks = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut asked = [PollFd::new(fd, asks)];
        // POLLHUP and POLLERR are always shown (poll(2)).
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn silent_ns(&mut self, fd: RawFd) -> Option<u64> {
        // SAFETY: all zero is a valid tcp_info: numbers only.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes of `info`.
        let said =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len) };
        (said == 0).then(|| u64::from(info.tcpi_last_ack_recv) * 1_000_000)
    }

    #[cfg(target_env = "gnu")]
    fn trim_memory(&mut self) {
        // SAFETY: no memory that is in use changes (malloc_trim(3)).
        unsafe { libc::malloc_trim(0) };
    }

    fn close(&mut self, fd: RawFd) {
        // On Linux the descriptor is gone whatever close(2) says.
        let _ = nix::unistd::close(fd);
    }

    fn peer_identity(&mut self, fd: RawFd) -> Option<(u32, u32)> {
        // SAFETY: the loop owns the descriptor and closes it only when the peer is gone.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        // SO_PEERCRED answers on TCP sockets too, with nobody's pid.
        let known = getsockopt(&borrowed, sockopt::PeerCredentials).ok().filter(|who| who.pid() != 0);
        known.map(|who| (who.uid(), who.gid()))
    }

    fn take_signals(&mut self, fd: RawFd, mut each: impl FnMut(i32)) {
        // SAFETY: the descriptor is the caller's for as long as the loop runs.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut arrived = [0; SIGNALS_MAX * SIGNAL_BYTES];
        // It does not block: it is an error if there are none.
        let bytes = nix::unistd::read(borrowed, &mut arrived).unwrap_or(0);
        for info in arrived[..bytes].chunks_exact(SIGNAL_BYTES) {
            #[expect(clippy::host_endian_bytes, reason = "the kernel writes it in the order of this machine")]
            let field = |at| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes"));
            let signal = field(std::mem::offset_of!(libc::signalfd_siginfo, ssi_signo)) as i32;
            let sender = field(std::mem::offset_of!(libc::signalfd_siginfo, ssi_pid));
            // The kernel sends SIGPIPE in the name of the process whose write found no reader. A
            // gather through the table has no flag against it, and its error has been told.
            if signal != libc::SIGPIPE || sender != std::process::id() {
                each(signal);
            }
        }
    }

    fn monotonic(&mut self) -> u64 {
        monotonic_ns()
    }

    fn wall(&mut self) -> Time {
        clock(libc::CLOCK_REALTIME)
    }

    fn entropy(&mut self) -> u64 {
        entropy()
    }
}

/// The random number of [`Kernel::entropy`](Ring::entropy).
pub fn entropy() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: eight writable bytes.
    let n = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Eight bytes are never cut short (random(7)); an ancient kernel without the call leaves the clock.
    if n == 8 { u64::from_le_bytes(bytes) } else { monotonic_ns() }
}

/// The clock of [`Kernel::monotonic`](Ring::monotonic), in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock(libc::CLOCK_MONOTONIC);
    now.sec as u64 * 1_000_000_000 + u64::from(now.nsec)
}

fn clock(id: libc::clockid_t) -> Time {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable. The two clocks exist on every Linux, so the call cannot fail.
    unsafe { libc::clock_gettime(id, &mut now) };
    Time { sec: now.tv_sec, nsec: now.tv_nsec as u32 }
}

/// The error of an operation, from the `res` of its CQE; 0 and more is no error.
pub(crate) fn errno(res: i32) -> Option<Errno> {
    (res < 0).then(|| Errno::from_raw(-res))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_place_holds_a_socket_until_it_is_emptied() {
        let mut kernel = Kernel::new(2).expect("io_uring works here");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.set_nonblocking(true).expect("a socket");
        assert_eq!(kernel.has_places(), kernel.features().vectored_fixed);
        assert!(!kernel.adopt(2, ours.as_raw_fd()), "there are two places");
        assert_eq!(kernel.adopt(1, ours.as_raw_fd()), kernel.has_places());
        drop(ours);
        if kernel.has_places() {
            let open = theirs.read(&mut [0]).expect_err("it is open");
            assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
            kernel.let_go(1);
        }
        assert_eq!(theirs.read(&mut [0]).expect("it is closed"), 0);
    }
}
