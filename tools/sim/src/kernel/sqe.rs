//! The 64 bytes of a submission, decoded and checked (Linux: `include/uapi/linux/io_uring.h`, struct io_uring_sqe). **Unsafe**: reads an opaque type as its bytes.
//!
//! What ring9 has no reason to submit is refused, whether a kernel would take it or not.

use super::forget::FILES_FD;
use io_uring::squeue::Entry;
use nix::libc;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// recv(2) into one buffer.
    Receive { at: usize, len: usize },
    /// A receive that goes on, into shared buffers.
    ReceiveShared,
    /// recvmsg(2), until the list is full.
    ReceiveList { header: usize },
    /// send(2) of one buffer.
    Send { at: usize, len: usize },
    /// sendmsg(2).
    SendList { header: usize },
    /// send(2) of a list of buffers.
    SendViews { list: usize, count: usize },
    /// writev(2) through a registered buffer.
    WriteFixed { list: usize, count: usize, index: usize },
    /// An accept(2) that goes on.
    Accept,
    /// One poll for readability.
    Poll,
    /// Ends another operation.
    Cancel { target: u64 },
    /// Ends after so many nanoseconds.
    Timeout { ns: u64 },
    /// madvise(2) with MADV_POPULATE_WRITE.
    Populate { at: usize, len: usize },
    /// write(2) where the descriptor stands.
    Write { at: usize, len: usize },
    /// What a tree asks for, beside sends, receives, timers and cancellations.
    Ask(Call),
}

/// A system call on a file, or one that makes or ends a descriptor. Paths and addresses are those of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// openat(2).
    Open { path: usize, flags: i32 },
    /// renameat(2), in one folder.
    Rename { path: usize, new_path: usize },
    /// unlinkat(2) of a file.
    Unlink { path: usize },
    /// close(2).
    Close,
    /// fallocate(2).
    Allocate { offset: u64, len: u64 },
    /// pwritev(2), from this entry of the table of buffers if there is one.
    Write { offset: u64, memory: Views, index: Option<usize> },
    /// preadv(2).
    Read { offset: u64, memory: Views },
    /// fsync(2).
    Sync,
    /// socket(2) for a stream.
    Socket,
    /// connect(2).
    Connect,
}

/// What a transfer names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Views {
    One { at: usize, len: usize },
    List { list: usize, count: usize },
}

/// A submission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sqe {
    pub(crate) kind: Kind,
    /// The descriptor, or if it `is_place` where that is in the table of files.
    pub(crate) fd: i32,
    pub(crate) is_place: bool,
    pub(crate) user_data: u64,
    /// No completion if all goes well.
    pub(crate) quiet: bool,
    /// It ends at once, whatever the socket takes.
    pub(crate) never_waits: bool,
    /// It is over when all of its bytes are there, or may be woken before it can end.
    pub(crate) waits_for_all: bool,
}

impl Kind {
    /// For traces.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Kind::Receive { .. } => "receive",
            Kind::ReceiveShared => "receive into shared buffers",
            Kind::ReceiveList { .. } => "receive into a list",
            Kind::Send { .. } => "send",
            Kind::SendList { .. } | Kind::SendViews { .. } => "send of a list",
            Kind::WriteFixed { .. } => "write through the table",
            Kind::Accept => "accept",
            Kind::Poll => "poll",
            Kind::Cancel { .. } => "cancel",
            Kind::Timeout { .. } => "time-out",
            Kind::Populate { .. } => "populate",
            Kind::Write { .. } => "write",
            Kind::Ask(_) => "call",
        }
    }
}

impl Sqe {
    /// The sink is one buffer for all: receives into it start at the same place, with at most its length.
    pub(super) fn is_same_sink(&self, other: &Sqe) -> bool {
        matches!((self.kind, other.kind), (Kind::Receive { at: a, .. }, Kind::Receive { at: b, .. }) if a == b)
    }

    pub(crate) fn is_receive(&self) -> bool {
        matches!(self.kind, Kind::Receive { .. } | Kind::ReceiveShared | Kind::ReceiveList { .. })
    }

    pub(crate) fn is_send(&self) -> bool {
        matches!(
            self.kind,
            Kind::Send { .. } | Kind::SendList { .. } | Kind::SendViews { .. } | Kind::WriteFixed { .. }
        )
    }
}

const FIXED_FILE: u8 = 1;
const BUFFER_SELECT: u8 = 1 << 5;
const CQE_SKIP_SUCCESS: u8 = 1 << 6;
const MULTISHOT_RECEIVE: u16 = 1 << 1;
const MULTISHOT_ACCEPT: u16 = 1 << 0;
const POLL_FIRST: u16 = 1 << 0;
const VECTORIZED: u16 = 1 << 5;
const RWF_NOWAIT: u32 = 8;
const NOSIGNAL: u32 = libc::MSG_NOSIGNAL as u32;
const WAITALL: u32 = libc::MSG_WAITALL as u32;
const DONTWAIT: u32 = libc::MSG_DONTWAIT as u32;

struct Fields {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buffer: u16,
    rest: [u8; 22],
}

impl Fields {
    fn of(bytes: &[u8; 64]) -> Fields {
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Fields {
            opcode: bytes[0],
            flags: bytes[1],
            priority: (long(0) >> 16) as u16,
            fd: (long(0) >> 32) as i32,
            off: long(8),
            addr: long(16),
            len: long(24) as u32,
            op_flags: (long(24) >> 32) as u32,
            user_data: long(32),
            buffer: long(40) as u16,
            rest: bytes[42..].try_into().expect("22 bytes"),
        }
    }

    /// Anything but these is a mistake: flags of the entry, the priority, flags of the operation, a buffer.
    fn allow(&self, flags: u8, priority: u16, op_flags: u32, buffer: bool) {
        let fits = self.flags & !flags & !FIXED_FILE == 0
            && self.priority == priority
            && self.op_flags & !op_flags == 0
            && (buffer || self.buffer == 0)
            && self.rest == [0; 22];
        assert!(
            fits,
            "submission: opcode {}: flags {:#x}, priority {:#x}, flags of the operation {:#x}, buffer {}",
            self.opcode, self.flags, self.priority, self.op_flags, self.buffer
        );
    }
}

/// Decodes an entry. Panics where it is one that no kernel should be given.
pub(crate) fn decode(entry: Entry) -> Sqe {
    #[expect(unsafe_code, reason = "the crate shows no field of an entry")]
    // SAFETY: an Entry is `repr(transparent)` over the 64 bytes that the kernel is given, all of them initialised.
    let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
    let sqe = Fields::of(&bytes);
    let (at, len) = (sqe.addr as usize, sqe.len as usize);
    let kind = match sqe.opcode {
        9 => {
            sqe.allow(CQE_SKIP_SUCCESS, 0, NOSIGNAL | WAITALL | DONTWAIT, false);
            Kind::SendList { header: at }
        }
        10 => {
            sqe.allow(0, sqe.priority & POLL_FIRST, WAITALL, false);
            Kind::ReceiveList { header: at }
        }
        6 => {
            sqe.allow(0, 0, libc::POLLIN as u32, false);
            Kind::Poll
        }
        11 => {
            sqe.allow(0, 0, 0, false);
            assert!(sqe.off == 0 && len == 1, "submission: a time-out has one time and counts no completions");
            Kind::Timeout { ns: nanoseconds(at) }
        }
        13 => {
            sqe.allow(0, MULTISHOT_ACCEPT, libc::SOCK_CLOEXEC as u32, false);
            assert!(at == 0 && sqe.off == 0, "submission: nobody asks for the address");
            Kind::Accept
        }
        14 => {
            sqe.allow(0, 0, 0, false);
            Kind::Cancel { target: sqe.addr }
        }
        23 if sqe.off == u64::MAX => {
            sqe.allow(0, 0, 0, false);
            assert!(sqe.flags == 0, "submission: a write to a socket");
            Kind::Write { at, len }
        }
        1 | 2 | 3 | 5 | 16..=19 | 22 | 23 | 35 | 36 | 45 => Kind::Ask(call(&sqe)),
        61 if sqe.fd >= FILES_FD => Kind::Ask(call(&sqe)),
        25 => {
            assert!(sqe.op_flags == libc::MADV_POPULATE_WRITE as u32, "submission: advice {}", sqe.op_flags);
            Kind::Populate { at, len }
        }
        26 => {
            sqe.allow(CQE_SKIP_SUCCESS, sqe.priority & VECTORIZED, NOSIGNAL | WAITALL | DONTWAIT, false);
            assert!(sqe.op_flags & NOSIGNAL != 0, "submission: a send that raises SIGPIPE");
            if sqe.priority == 0 { Kind::Send { at, len } } else { Kind::SendViews { list: at, count: len } }
        }
        27 if sqe.flags & BUFFER_SELECT != 0 => {
            sqe.allow(BUFFER_SELECT, MULTISHOT_RECEIVE, 0, true);
            assert!(at == 0 && len == 0, "submission: shared buffers, and one of its own");
            Kind::ReceiveShared
        }
        27 => {
            sqe.allow(0, sqe.priority & POLL_FIRST, WAITALL, false);
            Kind::Receive { at, len }
        }
        61 => {
            sqe.allow(CQE_SKIP_SUCCESS, 0, RWF_NOWAIT, true);
            Kind::WriteFixed { list: at, count: len, index: sqe.buffer.into() }
        }
        other => panic!("submission: opcode {other}"),
    };
    let never_waits = match kind {
        Kind::Send { .. } | Kind::SendList { .. } | Kind::SendViews { .. } => sqe.op_flags & DONTWAIT != 0,
        Kind::WriteFixed { .. } => sqe.op_flags & RWF_NOWAIT != 0,
        _ => false,
    };
    let quiet = sqe.flags & CQE_SKIP_SUCCESS != 0;
    assert!(!quiet || never_waits, "submission: who is not told of the end must know it from the submission");
    let waits_for_all = match kind {
        Kind::Receive { .. } | Kind::ReceiveList { .. } => sqe.op_flags & WAITALL != 0,
        Kind::Send { .. } | Kind::SendList { .. } | Kind::SendViews { .. } | Kind::WriteFixed { .. } => !never_waits,
        Kind::Write { .. } => true,
        _ => false,
    };
    let is_place = sqe.flags & FIXED_FILE != 0;
    Sqe { kind, fd: sqe.fd, is_place, user_data: sqe.user_data, quiet, never_waits, waits_for_all }
}

/// What a tree asks for. Its files are never sockets of peers, so none has a place in the table of files.
fn call(sqe: &Fields) -> Call {
    let (at, len) = (sqe.addr as usize, sqe.len as usize);
    assert!(sqe.flags == 0, "submission: opcode {}: flags {:#x}", sqe.opcode, sqe.flags);
    let (one, list) = (Views::One { at, len }, Views::List { list: at, count: len });
    let is_fixed = matches!(sqe.opcode, 5 | 61);
    let index = is_fixed.then_some(sqe.buffer.into());
    let (call, op_flags) = match sqe.opcode {
        1 => (Call::Read { offset: sqe.off, memory: list }, 0),
        22 => (Call::Read { offset: sqe.off, memory: one }, 0),
        2 | 61 => (Call::Write { offset: sqe.off, memory: list, index }, 0),
        5 | 23 => (Call::Write { offset: sqe.off, memory: one, index }, 0),
        // IORING_FSYNC_DATASYNC.
        3 => (Call::Sync, 1),
        16 => (Call::Connect, 0),
        17 => (Call::Allocate { offset: sqe.off, len: sqe.addr }, 0),
        18 => {
            assert!(sqe.op_flags & libc::O_CLOEXEC as u32 != 0, "submission: a file that a child would have");
            (Call::Open { path: at, flags: sqe.op_flags as i32 }, u32::MAX)
        }
        19 => (Call::Close, 0),
        35 => (Call::Rename { path: at, new_path: sqe.off as usize }, 0),
        36 => (Call::Unlink { path: at }, libc::AT_REMOVEDIR as u32),
        45 => {
            let kind = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC) as u64;
            assert!(sqe.off == kind && len == 0, "submission: a socket of kind {}", sqe.off);
            (Call::Socket, 0)
        }
        other => unreachable!("opcode {other}"),
    };
    sqe.allow(0, 0, op_flags, is_fixed);
    call
}

#[expect(unsafe_code, reason = "it plays the kernel")]
fn nanoseconds(at: usize) -> u64 {
    // SAFETY: whoever pushed the entry keeps the time that it names.
    let [seconds, nanoseconds] = unsafe { *(at as *const [i64; 2]) };
    seconds as u64 * 1_000_000_000 + nanoseconds as u64
}
