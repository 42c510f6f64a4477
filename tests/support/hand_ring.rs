//! A ring whose completions are in the hand of a test: what is submitted stays in flight until the test says how it ends.
//!
//! Only a send that never waits ends at its submission, as it does in the kernel; the test says how much room the sockets have for those.
#![expect(unsafe_code, reason = "it plays the kernel, which reads and writes memory by address")]

use super::AT;
use super::sqe::{CQE_F_BUFFER, CQE_F_MORE, CQE_F_SOCK_NONEMPTY, CQE_SKIP_SUCCESS, FIXED_FILE, Sqe};
use io_uring::squeue::Entry;
use ring9::fs::Time;
use ring9::uring::{Features, Ring};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;

pub const ACCEPT: u8 = 13;
const EAGAIN: i32 = 11;

pub struct HandRing {
    pub multishot: bool,
    /// Lists may go through the table of buffers.
    pub vectored_fixed: bool,
    /// A send takes a list.
    pub vectored_send: bool,
    /// SQEs that the queue has room for, and whether none of them is submitted, as where completions overflow (EBUSY).
    pub room: usize,
    pub stuck: bool,
    /// Bytes that each socket takes of a send that never waits.
    pub socket_bytes: usize,
    pub in_flight: Vec<Sqe>,
    pub heard: Vec<u8>,
    pub shut: Vec<RawFd>,
    pub closed: Vec<RawFd>,
    /// For how long the machines of sockets have been silent.
    pub silent_ns: BTreeMap<RawFd, u64>,
    /// Sockets whose other end will say nothing more.
    pub hung_up: Vec<RawFd>,
    /// The table of files.
    places: BTreeMap<u32, RawFd>,
    /// Who is at the other end of a unix socket.
    pub identity: Option<u32>,
    /// Slots of the table of buffers that were emptied.
    pub emptied: Vec<u32>,
    pub now_ns: u64,
    /// How often memory was given back to the system.
    pub trims: usize,
    /// What the sockets have, which the next receives bring while they are submitted, a part each.
    pub there: BTreeMap<RawFd, VecDeque<Vec<u8>>>,
    /// What a peer says after so many further enters.
    pub soon: Option<(usize, RawFd, Vec<u8>)>,
    /// Sockets with a receive in flight, each time that the loop began to wait.
    pub waits: Vec<Vec<RawFd>>,
    queued: Vec<Sqe>,
    done: Vec<(u64, i32, u32)>,
    /// Where the shared buffers are, how long each is, and which are here.
    buffers: (usize, usize),
    free: Vec<u16>,
}

impl Default for HandRing {
    fn default() -> HandRing {
        HandRing {
            multishot: true,
            vectored_fixed: false,
            vectored_send: true,
            room: 100,
            stuck: false,
            socket_bytes: usize::MAX,
            in_flight: Vec::new(),
            heard: Vec::new(),
            shut: Vec::new(),
            closed: Vec::new(),
            silent_ns: BTreeMap::new(),
            hung_up: Vec::new(),
            places: BTreeMap::new(),
            identity: None,
            emptied: Vec::new(),
            now_ns: AT.mono_ns,
            trims: 0,
            there: BTreeMap::new(),
            soon: None,
            waits: Vec::new(),
            queued: Vec::new(),
            done: Vec::new(),
            buffers: (0, 0),
            free: Vec::new(),
        }
    }
}

impl HandRing {
    /// What is in flight of this kind.
    pub fn of(&self, opcode: u8) -> Vec<Sqe> {
        self.in_flight.iter().filter(|sqe| sqe.opcode == opcode).copied().collect()
    }

    /// The receives of a socket.
    pub fn receives(&self, fd: RawFd) -> Vec<Sqe> {
        self.in_flight.iter().filter(|sqe| sqe.fd == fd && sqe.is_receive()).copied().collect()
    }

    /// The one send of a socket.
    pub fn send(&self, fd: RawFd) -> Sqe {
        *self.in_flight.iter().find(|sqe| sqe.fd == fd && sqe.is_send()).expect("a send is in flight")
    }

    /// Any completion, of an operation in flight or of none.
    pub fn ends(&mut self, user_data: u64, res: i32, flags: u32) {
        if flags & CQE_F_MORE == 0
            && let Some(at) = self.in_flight.iter().position(|sqe| sqe.user_data == user_data)
        {
            self.in_flight.remove(at);
        }
        self.done.push((user_data, res, flags));
    }

    /// A peer says this, and its receive brings it.
    pub fn says(&mut self, fd: RawFd, bytes: &[u8]) {
        self.brings(fd, bytes, CQE_F_MORE);
    }

    /// The same, and a receive into shared buffers ends with it.
    pub fn says_last(&mut self, fd: RawFd, bytes: &[u8]) {
        self.brings(fd, bytes, 0);
    }

    /// The same, and its socket has more of it.
    pub fn says_part(&mut self, fd: RawFd, bytes: &[u8]) {
        self.brings(fd, bytes, CQE_F_SOCK_NONEMPTY);
    }

    /// Shared buffers that are not lent to the loop.
    pub fn buffers_here(&self) -> usize {
        self.free.len()
    }

    fn brings(&mut self, fd: RawFd, bytes: &[u8], said: u32) {
        let sqe = *self.receives(fd).first().expect("a receive is in flight");
        let (mut place, mut flags) = (Vec::new(), said & CQE_F_SOCK_NONEMPTY);
        if sqe.shares() {
            let id = self.free.pop().expect("a buffer is here");
            place.push((self.buffers.0 + usize::from(id) * self.buffers.1, self.buffers.1));
            flags |= CQE_F_BUFFER | u32::from(id) << 16 | said;
        } else {
            place = sqe.views();
        }
        let mut left = bytes;
        for (at, len) in place {
            let (here, rest) = left.split_at(len.min(left.len()));
            // SAFETY: the memory of an operation in flight, which is the kernel's until its CQE.
            unsafe { std::slice::from_raw_parts_mut(at as *mut u8, here.len()) }.copy_from_slice(here);
            left = rest;
        }
        assert!(left.is_empty(), "there is room for all of it");
        self.ends(sqe.user_data, bytes.len() as i32, flags);
    }

    /// A peer takes `n` bytes of the send that is in flight.
    pub fn hears(&mut self, fd: RawFd, n: usize) {
        let sqe = self.send(fd);
        let n = self.take(&sqe, n);
        self.ends(sqe.user_data, n as i32, 0);
    }

    /// What an operation in flight offers.
    pub fn offered(&self, sqe: &Sqe) -> Vec<u8> {
        // SAFETY: as above.
        let part = |(at, len)| unsafe { std::slice::from_raw_parts(at as *const u8, len) };
        sqe.views().into_iter().flat_map(part).copied().collect()
    }

    fn take(&mut self, sqe: &Sqe, n: usize) -> usize {
        let mut left = n;
        for (at, len) in sqe.views() {
            let len = len.min(left);
            // SAFETY: as above.
            self.heard.extend_from_slice(unsafe { std::slice::from_raw_parts(at as *const u8, len) });
            left -= len;
        }
        n - left
    }
}

impl Ring for HandRing {
    fn features(&self) -> Features {
        let HandRing { vectored_fixed, multishot, vectored_send, .. } = *self;
        Features { vectored_fixed, defer_taskrun: true, multishot, vectored_send }
    }

    unsafe fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        let fits = self.queued.len() < self.room;
        if fits {
            let mut sqe = Sqe::of(build());
            if sqe.flags & FIXED_FILE != 0 {
                sqe.fd = self.places[&(sqe.fd as u32)];
            }
            self.queued.push(sqe);
        }
        fits
    }

    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        if self.stuck {
            return Ok(());
        }
        for sqe in std::mem::take(&mut self.queued) {
            if !sqe.never_waits() {
                self.in_flight.push(sqe);
                if sqe.is_receive()
                    && let Some(bytes) = self.there.get_mut(&sqe.fd).and_then(VecDeque::pop_front)
                {
                    let more = !self.there[&sqe.fd].is_empty();
                    self.brings(sqe.fd, &bytes, if more { CQE_F_SOCK_NONEMPTY } else { 0 });
                }
                continue;
            }
            let whole: usize = sqe.views().iter().map(|(_, len)| len).sum();
            let n = self.take(&sqe, self.socket_bytes);
            if n < whole || sqe.flags & CQE_SKIP_SUCCESS == 0 {
                self.done.push((sqe.user_data, if n == 0 { -EAGAIN } else { n as i32 }, 0));
            }
        }
        match self.soon.take() {
            Some((0, fd, bytes)) => self.says(fd, &bytes),
            Some((left, fd, bytes)) => self.soon = Some((left - 1, fd, bytes)),
            None => {}
        }
        if want > 0 && self.done.is_empty() {
            self.waits.push(self.in_flight.iter().filter(|sqe| sqe.is_receive()).map(|sqe| sqe.fd).collect());
        }
        Ok(())
    }

    fn is_settled(&mut self) -> bool {
        self.queued.is_empty()
    }

    fn has_task_work(&mut self) -> bool {
        false
    }

    fn drain(&mut self, mut each: impl FnMut(u64, i32, u32)) {
        self.done.drain(..).for_each(|(user_data, res, flags)| each(user_data, res, flags));
    }

    fn has_work(&mut self) -> bool {
        true
    }

    fn register_table(&mut self, _: u32) -> io::Result<()> {
        Ok(())
    }

    unsafe fn register_region(&mut self, slot: u32, _: usize, len: usize) -> io::Result<()> {
        if len == 0 {
            assert!(self.queued.iter().all(|sqe| sqe.slot() != Some(slot)), "what is queued names no empty slot");
            self.emptied.push(slot);
        }
        Ok(())
    }

    unsafe fn share_buffers(&mut self, start: *mut u8, _: u16, bytes: u32) -> io::Result<()> {
        self.buffers = (start as usize, bytes as usize);
        Ok(())
    }

    unsafe fn give_buffer(&mut self, id: u16) {
        assert!(!self.free.contains(&id), "a buffer is given once");
        self.free.push(id);
    }

    fn adopt(&mut self, place: u32, fd: RawFd) -> bool {
        assert_eq!(self.places.insert(place, fd), None, "the place is empty");
        true
    }

    fn let_go(&mut self, place: u32) {
        self.places.remove(&place).expect("somebody has the place");
    }

    fn shutdown(&mut self, fd: RawFd) {
        self.shut.push(fd);
    }

    fn has_hung_up(&mut self, fd: RawFd) -> bool {
        self.hung_up.contains(&fd)
    }

    fn silent_ns(&mut self, fd: RawFd) -> Option<u64> {
        self.silent_ns.get(&fd).copied()
    }

    fn close(&mut self, fd: RawFd) {
        assert!(self.in_flight.iter().all(|sqe| sqe.fd != fd), "closed with something in flight");
        assert!(self.places.values().all(|&there| there != fd), "closed, and the table still has it");
        self.closed.push(fd);
    }

    fn take_signals(&mut self, _: RawFd, _: impl FnMut(i32)) {}

    fn peer_identity(&mut self, _: RawFd) -> Option<(u32, u32)> {
        self.identity.map(|uid| (uid, uid))
    }

    fn monotonic(&mut self) -> u64 {
        self.now_ns
    }

    fn wall(&mut self) -> Time {
        AT.wall
    }

    fn entropy(&mut self) -> u64 {
        1
    }

    fn trim_memory(&mut self) {
        self.trims += 1;
    }
}
