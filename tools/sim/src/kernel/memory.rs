//! Memory of the program, as a kernel reads and writes it. **Unsafe**: by address.
//!
//! Sound as long as the loop keeps what its submissions name until the last completion, which is what it promises to every ring. Where it does not, what is read
//! or found here is not what it should be, and an oracle says so.
#![expect(unsafe_code, reason = "it plays the kernel")]

use super::sqe::{Call, Kind, Views};
use nix::libc::{iovec, msghdr};
use std::collections::VecDeque;

/// A byte that nobody writes on purpose in long runs.
const POISON: u8 = 0xa5;
const POISONED: [u8; 4096] = [POISON; 4096];
/// Bytes of a send that are summed up together. A send of 1 MiB may leave in thousands of steps,
/// and each of them looks at one or two chunks.
const CHUNK: usize = 4096;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// What an operation reads or writes, in order.
pub(crate) fn views(kind: Kind) -> Vec<View> {
    let (list, count) = match kind {
        Kind::Receive { at, len } | Kind::Send { at, len } | Kind::Write { at, len } => return vec![View { at, len }],
        Kind::ReceiveList { header } | Kind::SendList { header } => {
            // SAFETY: see the head of this file.
            let message = unsafe { &*(header as *const msghdr) };
            assert!(
                message.msg_name.is_null() && message.msg_control.is_null() && message.msg_flags == 0,
                "submission: a header with more than a list"
            );
            (message.msg_iov.cast_const(), message.msg_iovlen)
        }
        Kind::Ask(
            Call::Write { memory: Views::One { at, len }, .. } | Call::Read { memory: Views::One { at, len }, .. },
        ) => {
            return vec![View { at, len }];
        }
        Kind::Ask(
            Call::Write { memory: Views::List { list, count }, .. }
            | Call::Read { memory: Views::List { list, count }, .. },
        ) => (list as *const iovec, count),
        Kind::WriteFixed { list, count, .. } | Kind::SendViews { list, count } => (list as *const iovec, count),
        _ => return Vec::new(),
    };
    assert!((1..=1024).contains(&count), "submission: a list of {count}");
    // SAFETY: see the head of this file.
    let list = unsafe { std::slice::from_raw_parts(list, count) };
    list.iter().map(|view| View { at: view.iov_base as usize, len: view.iov_len }).collect()
}

/// The bytes of a path.
pub(crate) fn path(at: usize) -> Vec<u8> {
    // SAFETY: see the head of this file.
    unsafe { std::ffi::CStr::from_ptr(at as *const std::ffi::c_char) }.to_bytes().to_vec()
}

/// Calls `each` with the parts of views that lie in `from..to` of all their bytes.
fn parts(views: &[View], from: usize, to: usize, mut each: impl FnMut(View)) {
    let mut start = 0;
    for view in views {
        let (lo, hi) = (from.clamp(start, start + view.len), to.clamp(start, start + view.len));
        if lo < hi {
            each(View { at: view.at + (lo - start), len: hi - lo });
        }
        start += view.len;
    }
}

/// Appends bytes `from..to` of these views.
pub(crate) fn read(views: &[View], from: usize, to: usize, into: &mut VecDeque<u8>) {
    parts(views, from, to, |view| {
        // SAFETY: see the head of this file.
        into.extend(unsafe { std::slice::from_raw_parts(view.at as *const u8, view.len) });
    });
}

/// Writes bytes behind the first `from` of these views.
pub(crate) fn write(views: &[View], from: usize, bytes: &[u8]) {
    let mut rest = bytes;
    parts(views, from, from + bytes.len(), |view| {
        let (here, behind) = rest.split_at(view.len);
        // SAFETY: see the head of this file.
        unsafe { std::slice::from_raw_parts_mut(view.at as *mut u8, view.len) }.copy_from_slice(here);
        rest = behind;
    });
}

/// Makes what is behind the first `from` bytes unfit for use.
pub(crate) fn poison(views: &[View], from: usize) {
    // SAFETY: see the head of this file.
    parts(views, from, usize::MAX, |view| unsafe {
        std::slice::from_raw_parts_mut(view.at as *mut u8, view.len).fill(POISON);
    });
}

/// Whether that is still so.
pub(crate) fn is_poisoned(views: &[View], from: usize) -> bool {
    let mut all = true;
    parts(views, from, usize::MAX, |view| {
        // SAFETY: see the head of this file.
        let bytes = unsafe { std::slice::from_raw_parts(view.at as *const u8, view.len) };
        all &= bytes.chunks(POISONED.len()).all(|chunk| *chunk == POISONED[..chunk.len()]);
    });
    all
}

/// For each chunk that holds some of the bytes `from..to` of these views: its index, and a number
/// that changes with any byte of the chunk.
pub(crate) fn sums(views: &[View], from: usize, to: usize) -> impl Iterator<Item = (usize, u64)> {
    (from / CHUNK..to.div_ceil(CHUNK)).map(|chunk| (chunk, sum(views, chunk * CHUNK, (chunk + 1) * CHUNK)))
}

/// A number that changes with any of the bytes `from..to` of these views.
fn sum(views: &[View], from: usize, to: usize) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    parts(views, from, to, |view| {
        // SAFETY: see the head of this file.
        let bytes = unsafe { std::slice::from_raw_parts(view.at as *const u8, view.len) };
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
        for &byte in words.remainder() {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    });
    sum
}

/// Gives the pages of a mapping back, whose content nobody needs any more.
pub(crate) fn forget(at: usize, len: usize) {
    let start = at.next_multiple_of(4096);
    let end = (at + len) & !4095;
    if start < end {
        // SAFETY: called when the simulation is over and nobody reads that memory again; it stays mapped.
        let _ = unsafe { nix::libc::madvise(start as *mut _, end - start, nix::libc::MADV_DONTNEED) };
    }
}
