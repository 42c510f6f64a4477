//! A submission, decoded from its 64 bytes (Linux: `include/uapi/linux/io_uring.h`).
#![expect(unsafe_code, reason = "it plays the kernel, which reads lists by address")]

use io_uring::squeue::Entry;
use nix::libc::{iovec, msghdr};

pub const SENDMSG: u8 = 9;
const RECVMSG: u8 = 10;
pub const TIMEOUT: u8 = 11;
pub const ASYNC_CANCEL: u8 = 14;
pub const WRITE: u8 = 23;
pub const MADVISE: u8 = 25;
pub const SEND: u8 = 26;
const RECV: u8 = 27;
const WRITEV_FIXED: u8 = 61;
const MSG_DONTWAIT: u32 = 0x40;
const RWF_NOWAIT: u32 = 8;
pub const FIXED_FILE: u8 = 1;
const VECTORIZED: u16 = 1 << 5;
const BUFFER_SELECT: u8 = 1 << 5;
pub const CQE_SKIP_SUCCESS: u8 = 1 << 6;
pub const CQE_F_BUFFER: u32 = 1;
pub const CQE_F_MORE: u32 = 1 << 1;
pub const CQE_F_SOCK_NONEMPTY: u32 = 1 << 2;

/// An operation as it was submitted.
#[derive(Clone, Copy, Debug)]
pub struct Sqe {
    pub opcode: u8,
    pub flags: u8,
    pub fd: i32,
    addr: u64,
    len: u32,
    op_flags: u32,
    priority: u16,
    pub user_data: u64,
    buffer: u16,
}

impl Sqe {
    pub fn of(entry: Entry) -> Sqe {
        // SAFETY: an Entry is the 64 bytes that the kernel is given.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Sqe {
            opcode: bytes[0],
            flags: bytes[1],
            fd: long(0).wrapping_shr(32) as i32,
            addr: long(16),
            len: long(24) as u32,
            op_flags: (long(24) >> 32) as u32,
            priority: (long(0) >> 16) as u16,
            user_data: long(32),
            buffer: long(40) as u16,
        }
    }

    /// The memory that it names, in order.
    pub fn views(&self) -> Vec<(usize, usize)> {
        // SAFETY: the loop keeps lists and headers until the CQE; that is what it promised when it pushed.
        let list = |at: *const iovec, count: usize| unsafe { std::slice::from_raw_parts(at, count) }.to_vec();
        let list = match self.opcode {
            SEND if self.priority & VECTORIZED != 0 => list(self.addr as *const iovec, self.len as usize),
            SEND | RECV | WRITE => return vec![(self.addr as usize, self.len as usize)],
            SENDMSG | RECVMSG => {
                // SAFETY: as above.
                let message = unsafe { &*(self.addr as *const msghdr) };
                list(message.msg_iov, message.msg_iovlen)
            }
            _ => list(self.addr as *const iovec, self.len as usize),
        };
        list.iter().map(|view| (view.iov_base as usize, view.iov_len)).collect()
    }

    /// The slot of the table of buffers that it goes through.
    pub fn slot(&self) -> Option<u32> {
        (self.opcode == WRITEV_FIXED).then_some(self.buffer.into())
    }

    /// A receive into shared buffers.
    pub fn shares(&self) -> bool {
        self.flags & BUFFER_SELECT != 0
    }

    pub fn is_receive(&self) -> bool {
        matches!(self.opcode, RECV | RECVMSG)
    }

    pub fn is_send(&self) -> bool {
        matches!(self.opcode, SEND | SENDMSG | WRITEV_FIXED)
    }

    /// A send that answers EAGAIN rather than wait for room.
    pub fn never_waits(&self) -> bool {
        match self.opcode {
            SEND | SENDMSG => self.op_flags & MSG_DONTWAIT != 0,
            WRITEV_FIXED => self.op_flags & RWF_NOWAIT != 0,
            _ => false,
        }
    }
}
