//! The least that a server on io_uring does: one ring, one enter per turn, multishot receives into shared buffers, sockets in the table of files, and one SEND without a completion for all
//! replies of a turn. What it sends has the right size and nothing behind it, as with `ring9-bench null`. No loop on this interface answers small requests with less.
//!
//! `ring_floor ADDRESS CPU`, for `ring9-bench compare`: docs/decisions/12-what-a-loop-can-save.md.
//!
//! Must not know: files, sessions. **Unsafe**: names memory to the kernel. Buffers live for ever; replies are kept as they are until the send that shows them has ended.
#![expect(unsafe_code, reason = "memory that the kernel touches: see the head of the file")]

#[path = "../src/null/reply.rs"]
mod reply;

use io_uring::{cqueue, opcode, squeue, types};
use nix::libc;
use reply::Replies;
use ring9::client::Address;
use ring9::uring::{Kernel, Ring, listen_tcp, listen_unix, pin_to_cpu};
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::RawFd;

const PEERS_MAX: usize = 1024;
/// Shared buffers: so many to begin with, since the kernel fills all that it has in turn, and those shall fit a cache; and as many as turns need.
const BUFFERS_FIRST: u16 = 8;
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 64 << 10;
/// In user_data: of the accept; and of a send, beside the number of its peer.
const ACCEPT: u64 = u64::MAX;
const SEND: u64 = 1 << 32;

struct Peer {
    fd: RawFd,
    /// Of requests that are not whole, or not answered yet.
    requests: Vec<u8>,
    replies: Replies,
    /// Bytes of the replies that have left, unless a completion says otherwise; and how many had when the last send was pushed.
    sent: usize,
    before: usize,
    /// A send waits for room.
    waits: bool,
    receives: bool,
    gone: bool,
}

impl Peer {
    fn new(fd: RawFd) -> Peer {
        let (requests, replies) = (Vec::new(), Replies::default());
        Peer { fd, requests, replies, sent: 0, before: 0, waits: false, receives: false, gone: false }
    }

    /// Answers what is whole of the requests that are left and of these.
    fn answer(&mut self, bytes: &[u8]) {
        if !self.waits && self.sent > 0 {
            self.replies.clear();
            self.sent = 0;
        }
        if self.waits || !self.requests.is_empty() {
            self.requests.extend_from_slice(bytes);
            if !self.waits {
                let taken = reply::answer(&self.requests, &mut self.replies);
                self.requests.drain(..taken);
            }
        } else {
            let taken = reply::answer(bytes, &mut self.replies);
            self.requests.extend_from_slice(&bytes[taken..]);
        }
    }
}

struct Floor {
    ring: Kernel,
    peers: Vec<Peer>,
    buffers: *mut u8,
    /// So many of them the kernel has had, and so many have come in this turn.
    given: u16,
    seen: u16,
    /// Peers of which something has ended in this turn.
    work: Vec<usize>,
}

impl Floor {
    fn new() -> io::Result<Floor> {
        let mut ring = Kernel::new(PEERS_MAX)?;
        let buffers = Box::leak(vec![0; BUFFER_BYTES * usize::from(BUFFERS)].into_boxed_slice()).as_mut_ptr();
        // SAFETY: the buffers live for ever.
        unsafe { ring.share_buffers(buffers, BUFFERS, BUFFER_BYTES as u32) }?;
        let mut floor = Floor { ring, peers: Vec::new(), buffers, given: 0, seen: 0, work: Vec::new() };
        floor.give(BUFFERS_FIRST);
        Ok(floor)
    }

    /// Gives the kernel more buffers, up to so many.
    fn give(&mut self, count: u16) {
        for id in self.given..count.min(BUFFERS) {
            // SAFETY: it was never given before.
            unsafe { self.ring.give_buffer(id) };
            self.given = id + 1;
        }
    }

    fn run(mut self, listener: RawFd) -> io::Result<()> {
        self.push(|| opcode::AcceptMulti::new(types::Fd(listener)).build().user_data(ACCEPT))?;
        let mut events = Vec::new();
        loop {
            self.ring.submit_and_wait(1)?;
            self.ring.drain(|user_data, res, flags| events.push((user_data, res, flags)));
            // What has not left must be known before the next replies are made.
            events.sort_by_key(|(user_data, ..)| *user_data & SEND == 0);
            for (user_data, res, flags) in events.drain(..) {
                match user_data {
                    ACCEPT => self.accepted(res),
                    _ if user_data & SEND != 0 => self.sent((user_data & !SEND) as usize, res),
                    _ => self.received(user_data as usize, res, flags),
                }
            }
            for number in std::mem::take(&mut self.work) {
                self.go_on(number)?;
            }
            if std::mem::take(&mut self.seen) > self.given / 2 {
                self.give(2 * self.given);
            }
        }
    }

    fn push(&mut self, build: impl Fn() -> squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entries of this program name is kept: see the head of the file.
        while !unsafe { self.ring.push(&build) } {
            self.ring.submit_and_wait(0)?;
        }
        Ok(())
    }

    fn accepted(&mut self, fd: RawFd) {
        let number = self.peers.len();
        if fd < 0 || number == PEERS_MAX || !self.ring.adopt(number as u32, fd) {
            eprintln!("a connection is not served: {fd}");
            return;
        }
        self.peers.push(Peer::new(fd));
        self.work.push(number);
    }

    fn received(&mut self, number: usize, res: i32, flags: u32) {
        let peer = &mut self.peers[number];
        peer.receives &= cqueue::more(flags);
        if let Some(id) = cqueue::buffer_select(flags) {
            self.seen += 1;
            let start = usize::from(id) * BUFFER_BYTES;
            // SAFETY: one of the buffers, which is ours since the CQE that names it.
            peer.answer(unsafe { std::slice::from_raw_parts(self.buffers.add(start), res as usize) });
            // SAFETY: the CQE has named it, and nobody looks at it any more.
            unsafe { self.ring.give_buffer(id) };
        } else if res != -libc::ENOBUFS {
            peer.gone = true;
        }
        self.work.push(number);
    }

    /// A send has a completion only if it has waited, or has not sent everything at once.
    fn sent(&mut self, number: usize, res: i32) {
        let peer = &mut self.peers[number];
        peer.sent = peer.before + res.max(0) as usize;
        peer.gone |= res < 0 && res != -libc::EAGAIN;
        peer.waits = peer.sent < peer.replies.bytes().len();
        if !peer.waits {
            peer.answer(&[]);
        }
        self.work.push(number);
    }

    fn go_on(&mut self, number: usize) -> io::Result<()> {
        let peer = &mut self.peers[number];
        if peer.gone {
            if peer.fd >= 0 && !peer.receives {
                self.ring.let_go(number as u32);
                self.ring.close(std::mem::replace(&mut peer.fd, -1));
            }
            return Ok(());
        }
        let place = types::Fixed(number as u32);
        let left = &peer.replies.bytes()[peer.sent..];
        let (at, len, waits) = (left.as_ptr(), left.len(), peer.waits);
        let receives = std::mem::replace(&mut peer.receives, true);
        if len > 0 {
            peer.before = peer.sent;
            peer.sent += len;
            self.push(|| {
                let send = opcode::Send::new(place, at, len as u32);
                let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
                let send = match waits {
                    true => send.flags(flags).build(),
                    false => send.flags(flags | libc::MSG_DONTWAIT).build().flags(squeue::Flags::SKIP_SUCCESS),
                };
                send.user_data(SEND | number as u64)
            })?;
        }
        if !receives {
            self.push(|| opcode::RecvMulti::new(place, 0).build().user_data(number as u64))?;
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "ring_floor tcp:HOST:PORT|unix:PATH CPU";
    let address = args.next().and_then(|text| text.parse::<Address>().ok()).ok_or(io::Error::other(usage))?;
    let cpu = args.next().and_then(|text| text.parse().ok()).ok_or(io::Error::other(usage))?;
    pin_to_cpu(cpu)?;
    let bound = match &address {
        Address::Tcp { host, port } => {
            let found = (host.as_str(), *port).to_socket_addrs()?.next();
            listen_tcp(found.ok_or(io::Error::other("the name has no address"))?)?
        }
        Address::Unix(path) => listen_unix(path)?,
    };
    let shown = bound.local.map_or(address.to_string(), |local| format!("tcp:{local}"));
    println!("ring9 ready {shown}");
    Floor::new()?.run(bound.raw())
}
