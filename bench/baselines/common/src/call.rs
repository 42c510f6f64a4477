//! One system call on a socket: for drivers that ask the kernel themselves once a socket is ready, or wait in the call.

use crate::VIEWS_MAX;
use crate::task::Room;
use nix::sys::socket::{MsgFlags, recv, send, sendmsg};
use nix::sys::uio::readv;
use ring9::session::Segments;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

/// Receives once; how many bytes, 0 at the end.
pub fn receive(socket: &impl AsFd, room: &mut Room) -> io::Result<usize> {
    let fd = socket.as_fd();
    Ok(match room {
        Room::Bytes(bytes, range) => recv(fd.as_raw_fd(), &mut bytes[range.clone()], MsgFlags::empty())?,
        Room::Blocks(landing) => {
            let mut views: Vec<_> = landing.unfilled().take(VIEWS_MAX).map(IoSliceMut::new).collect();
            readv(fd, &mut views)?
        }
    })
}

/// Sends once, as many views as go into one gather; how many bytes were taken.
pub fn transmit(socket: &impl AsFd, out: &Segments) -> io::Result<usize> {
    let mut list = [IoSlice::new(&[]); VIEWS_MAX];
    let mut count = 0;
    for (slot, view) in list.iter_mut().zip(out.views()) {
        *slot = IoSlice::new(view.bytes);
        count += 1;
    }
    let fd = socket.as_fd().as_raw_fd();
    Ok(match &list[..count] {
        [one] => send(fd, one, MsgFlags::MSG_NOSIGNAL)?,
        many => sendmsg::<()>(fd, many, &[], MsgFlags::MSG_NOSIGNAL, None)?,
    })
}
