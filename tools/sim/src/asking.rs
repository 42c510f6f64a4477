//! A tree around a tree that asks the loop for I/O at random, and checks every answer.
//!
//! A job makes a file, writes and reads it, and removes it; or talks to a server that says whatever it hears; or waits for a
//! timer. What it writes and says is kept, and must come back. Several jobs run side by side, and anything may be cancelled.

use crate::kernel::faults::Fault;
use crate::random::Random;
use crate::world::World;
use ring9::arena::{Arena, Block, Space};
use ring9::fs::wrap::Hook;
use ring9::fs::{
    Ask, AskId, At, Call, Descriptor, Error, Incoming, Iovec, OpId, OpenHow, Outcome, Outgoing, Remote, Result,
    Service, Show,
};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::rc::Rc;

/// Jobs at a time.
const JOBS_AT_ONCE: usize = 6;
/// The bytes of the block of which slices are written.
const BLOCK_BYTES: usize = 4096;
/// Errors that a sound ask may have.
const PASSING: [u16; 9] = [5, 12, 28, 101, 104, 110, 111, 122, 125];

/// What a job does.
enum Kind {
    File { name: CString, renamed: bool },
    Talk { sent: usize, is_cut: bool, send: Option<AskId>, receive: Option<AskId> },
    Timer { ns: u64, asked_ns: u64, is_cancelled: bool },
}

struct Job {
    kind: Kind,
    descriptor: Option<Descriptor>,
    /// What the file has, or what is said.
    model: Vec<u8>,
    /// Bytes that were read and compared, or heard.
    seen: usize,
    /// Further writes, or none.
    writes: usize,
    /// Asks of it in flight or wanted.
    pending: usize,
    /// The kernel has failed it: all that is left is to close and remove.
    is_broken: bool,
    is_closed: bool,
    is_over: bool,
}

/// What is shared with who looks at the end.
pub(crate) struct State {
    random: Random,
    arena: Arena,
    block: Option<Block>,
    world: Rc<RefCell<World>>,
    jobs: BTreeMap<u64, Job>,
    jobs_left: usize,
    next: u64,
    wants: VecDeque<(AskId, Ask)>,
    /// Asks in flight, and whose each is.
    in_flight: BTreeMap<AskId, u64>,
    /// Answers so far.
    pub(crate) answered: u64,
}

/// The hook in front of a tree.
#[derive(Clone)]
pub(crate) struct Asking(pub(crate) Rc<RefCell<State>>);

impl Asking {
    pub(crate) fn new(seed: u64, jobs: usize, world: Rc<RefCell<World>>) -> Asking {
        let mut arena = Arena::new(1 << 20).expect("a small mapping");
        let block = arena.alloc(BLOCK_BYTES).expect("a block");
        arena.write(&block, 0, &(0..BLOCK_BYTES).map(|at| (at * 7 % 251) as u8).collect::<Vec<u8>>());
        Asking(Rc::new(RefCell::new(State {
            random: Random::new(seed ^ 0xa5c5),
            arena,
            block: Some(block),
            world,
            jobs: BTreeMap::new(),
            jobs_left: jobs,
            next: 0,
            wants: VecDeque::new(),
            in_flight: BTreeMap::new(),
            answered: 0,
        })))
    }

    /// All is over: nothing is pinned, and no file is left.
    pub(crate) fn check_end(&self) {
        let state = &mut *self.0.borrow_mut();
        assert!(state.is_idle(), "asks: the loop has ended, and the tree wants more");
        let block = state.block.take().expect("it is checked once");
        state.arena.free(block);
        assert_eq!(state.arena.gauge().pins(), 0, "asks: pins of what was answered");
        assert_eq!(state.world.borrow().kernel.files(), 0, "asks: files that were to be removed");
    }

    /// Whether no job, no wanted ask and no ask in flight is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.borrow().is_idle()
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.jobs_left == 0 && self.jobs.is_empty() && self.wants.is_empty() && self.in_flight.is_empty()
    }

    fn now(&self) -> u64 {
        self.world.borrow().kernel.now
    }

    fn want(&mut self, number: u64, ask: Ask) -> AskId {
        self.next += 1;
        let id = AskId(self.next);
        self.jobs.get_mut(&number).expect("it is under way").pending += 1;
        self.in_flight.insert(id, number);
        self.wants.push_back((id, ask));
        id
    }

    fn begin_job(&mut self) {
        self.jobs_left -= 1;
        self.next += 1;
        let number = self.next;
        let mut job = Job {
            kind: Kind::Talk { sent: 0, is_cut: false, send: None, receive: None },
            descriptor: None,
            model: Vec::new(),
            seen: 0,
            writes: 1 + self.random.below(4),
            pending: 0,
            is_broken: false,
            is_closed: false,
            is_over: false,
        };
        let first = match self.random.below(3) {
            0 => {
                let ns = self.random.below(5_000_000) as u64;
                job.kind = Kind::Timer { ns, asked_ns: self.now(), is_cancelled: false };
                Ask::Timer { ns }
            }
            1 => {
                let name = CString::new(format!("file{number}")).expect("no zero in it");
                let path = name.clone().into_boxed_c_str();
                job.kind = Kind::File { name, renamed: false };
                let how = OpenHow { read: true, write: true, create: true, exclusive: true, ..OpenHow::default() };
                Ask::Open { dir: Descriptor::WORKING_DIR, path, how, mode: 0o600 }
            }
            _ => {
                let len = 1 + self.random.below(2000);
                job.model = (0..len).map(|_| self.random.number() as u8).collect();
                let unix = Remote::Unix(b"/sim"[..].into());
                let to = if self.random.one_in(2) { unix } else { Remote::Tcp(([127, 0, 0, 1], 9).into()) };
                Ask::Connect { to }
            }
        };
        self.jobs.insert(number, job);
        let id = self.want(number, first);
        self.may_cancel(number, id);
    }

    /// Now and then an ask is cancelled right away.
    fn may_cancel(&mut self, number: u64, of: AskId) {
        if !self.random.one_in(8) {
            return;
        }
        if let Some(Job { kind: Kind::Timer { is_cancelled, .. }, .. }) = self.jobs.get_mut(&number) {
            *is_cancelled = true;
        }
        self.want(number, Ask::Cancel { of });
    }

    /// These bytes, some of them in the arena where they are the same there.
    fn outgoing(&mut self, bytes: &[u8], from_block: Option<usize>) -> Outgoing {
        let mut data = Iovec::default();
        match from_block {
            Some(at) => {
                let half = bytes.len() / 2;
                let block = self.block.as_ref().expect("until the end");
                data.put_slice(self.arena.slice(block, at..at + half));
                data.put_slice(self.arena.slice(block, at + half..at + bytes.len()));
            }
            None => data.put_copy(bytes),
        }
        data.into()
    }

    /// Room for so many bytes: of the arena, plain, or both.
    fn incoming(&mut self, n: usize) -> Incoming {
        let in_space = self.random.of(&[0, n / 2, n]);
        let mut pieces = Vec::new();
        if in_space > 0 {
            let first = 1 + self.random.below(in_space);
            for len in [first, in_space - first].into_iter().filter(|&len| len > 0) {
                pieces.push(self.arena.land_fresh(len, 0..len).expect("there is room"));
            }
        }
        Incoming { space: Space::new(pieces, 0), buffer: vec![0; n - in_space], filled: 0 }
    }

    /// What has arrived, of which the first `n` bytes count.
    fn arrived(&mut self, mut into: Incoming, n: usize) -> Vec<u8> {
        into.advance(n);
        let (pieces, _) = into.space.into_parts();
        let mut bytes = Vec::new();
        for piece in pieces {
            bytes.extend_from_slice(piece.bytes());
            let block = self.arena.adopt(piece);
            self.arena.free(block);
        }
        self.arena.collect();
        bytes.extend_from_slice(&into.buffer);
        bytes.truncate(n);
        bytes
    }

    /// The next thing that a job wants, once nothing of it is in flight. A talk receives while it sends.
    fn go_on(&mut self, number: u64) {
        self.talks_on(number);
        let job = self.jobs.get_mut(&number).expect("it is under way");
        if job.pending > 0 {
            return;
        }
        if job.is_over {
            self.jobs.remove(&number);
            return;
        }
        if job.is_closed || job.descriptor.is_none() {
            // A file is removed after it was closed, and after an open that has failed there may be none.
            let path = match &job.kind {
                Kind::File { name, .. } if job.is_closed => name.clone(),
                _ => {
                    self.jobs.remove(&number);
                    return;
                }
            };
            self.want(number, Ask::Unlink { dir: Descriptor::WORKING_DIR, path: path.into(), want_dir: false });
            return;
        }
        let descriptor = job.descriptor.expect("just looked at");
        if job.is_broken {
            self.want(number, Ask::Close { descriptor });
            return;
        }
        match &job.kind {
            Kind::File { .. } => self.file_goes_on(number, descriptor),
            // All was heard.
            Kind::Talk { .. } => {
                self.want(number, Ask::Close { descriptor });
            }
            Kind::Timer { .. } => unreachable!("it has no descriptor"),
        }
    }

    fn file_goes_on(&mut self, number: u64, file: Descriptor) {
        let job = &self.jobs[&number];
        let (len, seen, writes) = (job.model.len(), job.seen, job.writes);
        let ask = if writes > 0 {
            self.jobs.get_mut(&number).expect("it is under way").writes -= 1;
            let count = 2 + self.random.below(1500);
            let offset = self.random.below(len + 1);
            let at = self.random.below(BLOCK_BYTES - count);
            let block = self.block.as_ref().expect("until the end");
            let bytes = self.arena.bytes(block, at..at + count).to_vec();
            let from_block = self.random.one_in(2).then_some(at);
            match self.random.below(5) {
                0 => Ask::Sync { file, data_only: self.random.one_in(2) },
                1 => Ask::Allocate { file, offset: offset as u64, len: count as u64 },
                _ => Ask::Write { file, offset: offset as u64, data: self.outgoing(&bytes, from_block) },
            }
        } else if seen <= len {
            let n = 1 + self.random.below(1000);
            Ask::Read { file, offset: seen as u64, into: self.incoming(n) }
        } else {
            let Kind::File { name, renamed } = &mut self.jobs.get_mut(&number).expect("it is under way").kind else {
                unreachable!("a file")
            };
            if *renamed {
                Ask::Close { descriptor: file }
            } else {
                *renamed = true;
                let dir = Descriptor::WORKING_DIR;
                let new = CString::new(format!("new{number}")).expect("no zero in it");
                Ask::Rename { from: dir, path: name.clone().into(), to: dir, new_path: new.into() }
            }
        };
        let id = self.want(number, ask);
        self.may_cancel(number, id);
    }

    /// Sends and receives, each whatever the other one does.
    fn talks_on(&mut self, number: u64) {
        self.says_more(number);
        let job = &self.jobs[&number];
        let Kind::Talk { receive: None, .. } = job.kind else { return };
        let left = job.model.len() - job.seen;
        let Some(socket) = job.descriptor.filter(|_| left > 0 && !job.is_broken && !job.is_closed) else { return };
        let n = 1 + self.random.below(left);
        let (into, whole) = (self.incoming(n), self.random.one_in(2));
        let id = self.want(number, Ask::Receive { socket, into, whole });
        let cuts = self.random.one_in(30);
        if let Some(Job { kind: Kind::Talk { receive, is_cut, .. }, .. }) = self.jobs.get_mut(&number) {
            (*receive, *is_cut) = (Some(id), *is_cut || cuts);
        }
        if cuts {
            self.want(number, Ask::Cancel { of: id });
        }
    }

    /// Says what is left to be said, whatever is received meanwhile.
    fn says_more(&mut self, number: u64) {
        let job = &self.jobs[&number];
        let Kind::Talk { sent, send: None, .. } = job.kind else { return };
        let rest = job.model[sent..].to_vec();
        let is_over = rest.is_empty() || job.is_broken || job.is_closed;
        let Some(socket) = job.descriptor.filter(|_| !is_over) else { return };
        let data = self.outgoing(&rest, None);
        let id = self.want(number, Ask::Send { socket, data, quiet: false });
        if let Some(Job { kind: Kind::Talk { send, .. }, .. }) = self.jobs.get_mut(&number) {
            *send = Some(id);
        }
    }

    /// One direction of a talk has failed: the other one would wait for ever.
    fn cut(&mut self, number: u64) {
        let Some(Job { kind: Kind::Talk { send, receive, is_cut, .. }, .. }) = self.jobs.get_mut(&number) else {
            return;
        };
        if let Some(of) = send.or(*receive).filter(|_| !std::mem::replace(is_cut, true)) {
            self.want(number, Ask::Cancel { of });
        }
    }

    /// An error that a kernel may give, after which the job ends.
    fn fails(&mut self, number: u64, error: Error) {
        assert!(PASSING.contains(&error.0) || error == Error::EPIPE, "asks: {error:?} of a sound ask");
        self.jobs.get_mut(&number).expect("it is under way").is_broken = true;
        self.cut(number);
    }

    fn hears(&mut self, id: AskId, ask: Ask, result: Result<u32>) {
        let number = self.in_flight.remove(&id).expect("asks: an answer to what was not asked, or a second one");
        self.answered += 1;
        let now = self.now();
        let job = self.jobs.get_mut(&number).expect("asks: the job has ended");
        job.pending -= 1;
        if let Kind::Talk { send, receive, .. } = &mut job.kind {
            *send = send.filter(|send| *send != id);
            *receive = receive.filter(|receive| *receive != id);
        }
        match (ask, result) {
            (Ask::Cancel { .. }, result) => assert!(matches!(result, Ok(0) | Err(Error::ENOENT)), "asks: {result:?}"),
            (Ask::Timer { .. }, result) => {
                let Kind::Timer { ns, asked_ns, is_cancelled } = job.kind else { unreachable!("a timer") };
                match result {
                    Ok(0) => assert!(now >= asked_ns + ns, "asks: a timer has ended early"),
                    // A kernel without memory cancels it, too.
                    error => assert!(
                        error == Err(Error::ECANCELED)
                            && (is_cancelled || self.world.borrow().kernel.fails_at.is_some()),
                        "asks: {error:?} of a timer"
                    ),
                }
            }
            (Ask::Unlink { .. }, Ok(_)) => job.is_over = true,
            // It is tried again, since a file that is left would be found.
            (Ask::Unlink { .. }, Err(error)) => assert!(PASSING.contains(&error.0), "asks: {error:?} of an unlink"),
            (Ask::Close { .. }, result) => {
                assert!(matches!(result, Ok(0) | Err(Error::EINTR | Error::ENOMEM)), "asks: {result:?} of a close");
                // A kernel that had no memory for the submission has closed nothing.
                job.is_closed = result != Err(Error::ENOMEM);
            }
            (Ask::Open { .. } | Ask::Connect { .. }, Ok(number)) => job.descriptor = Some(Descriptor(number as i32)),
            (Ask::Rename { new_path, .. }, Ok(_)) => {
                let Kind::File { name, .. } = &mut job.kind else { unreachable!("a file") };
                *name = new_path.into_c_string();
            }
            (Ask::Sync { .. }, Ok(_)) => {}
            (Ask::Allocate { offset, len, .. }, Ok(_)) => {
                let end = (offset + len) as usize;
                job.model.resize(job.model.len().max(end), 0);
            }
            (Ask::Write { offset, data, .. }, Ok(n)) => {
                let (offset, n) = (offset as usize, n as usize);
                assert!((1..=data.left()).contains(&n), "asks: {n} bytes of a write");
                job.model.resize(job.model.len().max(offset + n), 0);
                let bytes = data.views().flatten().take(n);
                job.model[offset..].iter_mut().zip(bytes).for_each(|(there, byte)| *there = *byte);
            }
            (Ask::Read { offset, into, .. }, Ok(n)) => {
                let (from, n) = (offset as usize, n as usize);
                assert!(n <= into.left(), "asks: {n} bytes of a read");
                let bytes = self.arrived(into, n);
                let job = self.jobs.get_mut(&number).expect("it is under way");
                assert!(job.model[from..].starts_with(&bytes), "asks: a file has other bytes than were written");
                assert!(n > 0 || from == job.model.len(), "asks: the end of a file is not where it was");
                // One further than the end: it was seen.
                job.seen += n.max(usize::from(from == job.model.len()));
            }
            (Ask::Send { data, .. }, Ok(n)) => {
                assert!((1..=data.left()).contains(&(n as usize)), "asks: {n} bytes of a send");
                let Kind::Talk { sent, .. } = &mut job.kind else { unreachable!("a talk") };
                *sent += n as usize;
            }
            (Ask::Receive { into, whole, .. }, Ok(n)) => {
                let (n, room) = (n as usize, into.left());
                let bytes = self.arrived(into, n);
                let job = self.jobs.get_mut(&number).expect("it is under way");
                assert!(job.model[job.seen..].starts_with(&bytes), "asks: other bytes came than were said");
                job.seen += n;
                let Kind::Talk { is_cut, .. } = job.kind else { unreachable!("a talk") };
                let world = self.world.borrow();
                let may_end = is_cut || world.kernel.faults.has(Fault::AskFails) || world.kernel.fails_at.is_some();
                assert!(n > 0 || may_end, "asks: the other server has ended, and has not");
                assert!(
                    n == room || !whole || may_end,
                    "asks: {n} bytes of {room}, of which all were to be waited for"
                );
                drop(world);
                job.is_broken |= is_cut || n == 0;
                if n == 0 {
                    self.cut(number);
                }
            }
            (Ask::Read { into, .. } | Ask::Receive { into, .. }, Err(error)) => {
                self.arrived(into, 0);
                self.fails(number, error);
            }
            (Ask::Allocate { .. } | Ask::Write { .. } | Ask::Sync { .. } | Ask::Rename { .. }, Err(error))
            | (Ask::Open { .. } | Ask::Connect { .. } | Ask::Send { .. }, Err(error)) => self.fails(number, error),
        }
        self.go_on(number);
    }
}

impl Hook for Asking {
    const NEEDS_ASKS: bool = true;

    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        tree.call(op, call, show, at)
    }

    fn ask<T: Service>(&mut self, _: &mut T) -> Option<(AskId, Ask)> {
        let state = &mut *self.0.borrow_mut();
        while state.jobs_left > 0 && state.jobs.len() < JOBS_AT_ONCE && state.wants.is_empty() {
            state.begin_job();
        }
        state.wants.pop_front()
    }

    fn answered<T: Service>(&mut self, _: &mut T, id: AskId, ask: Ask, result: Result<u32>, _: At) {
        self.0.borrow_mut().hears(id, ask, result);
    }

    fn has_asks<T: Service>(&self, _: &T) -> bool {
        !self.is_idle()
    }

    fn retire<T: Service>(&mut self, _: &mut T, _: At) {
        self.0.borrow_mut().jobs_left = 0;
    }
}
