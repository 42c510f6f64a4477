//! A kernel as far as ring9 can see one: submissions, completions, sockets, registered and shared buffers, timers, and a clock that it moves itself.
//!
//! - `sqe`: what a submission says; refuses what none should say.
//! - `memory`: the program's memory, by address.
//! - `socket`: the queues between client and server.
//! - `faults`: what goes wrong, and how often.
//! - `asks`: files and remote sockets, for what a tree asks.
//! - `buffers`: the group of shared receive buffers.
//! - `calls`: what the loop does with descriptors by calls of its own.
//! - `remote`: remote sockets that lead to a far server.
//! - `ops`: what each operation does, when it runs.
//!
//! An operation that is submitted runs when the scheduler picks it, as late and in as many parts as it likes; its completion is handed out later still. What a send
//! names is summed up at its submission and must be the same whenever it is looked at; what a receive names is poisoned at its submission and must be poison until the
//! kernel itself writes there.
//!
//! Must not know: 9P, sessions, trees.

mod asks;
mod buffers;
mod calls;
pub(crate) mod faults;
pub(crate) mod forget;
pub(crate) mod memory;
mod ops;
pub(crate) mod remote;
pub(crate) mod socket;
mod sqe;

use crate::random::Random;
use asks::Disk;
use buffers::Buffers;
use faults::{Fault, Faults};
use io_uring::{cqueue, squeue::Entry};
use memory::View;
use nix::libc;
use ring9::uring::Features;
use socket::Socket;
use sqe::{Call, Kind, Sqe};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

/// Where log lines go.
pub(crate) const STDERR: i32 = 2;
/// The descriptor that becomes readable once the server shall end.
pub(crate) const SIGNALS: i32 = 3;
/// The signal that ends the server, by its number on Linux.
const SIGTERM: i32 = 15;
/// SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and a real-time signal.
const MEANINGLESS: [i32; 5] = [1, 3, 10, 12, 40];
/// The listening socket.
pub(crate) const LISTENER: i32 = 4;

/// How long a listener waits when it has failed.
const PAUSE_NS: u64 = 50_000_000;

/// A completion.
#[derive(Clone, Copy, Debug)]
struct Cqe {
    user_data: u64,
    res: i32,
    flags: u32,
    /// Whose it is, and whether the operation goes on.
    fd: i32,
}

/// An operation under way.
#[derive(Debug)]
struct Op {
    sqe: Sqe,
    views: Vec<View>,
    total: usize,
    done: usize,
    /// Of what a send shows, a number for each chunk of it.
    sums: Vec<u64>,
    /// When a timer ends.
    due: u64,
    /// A write that never completes.
    stuck: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fd {
    Signals,
    Listener,
    Socket(usize),
    /// Of what a tree asks: a file, and a socket to another server.
    File(usize),
    Remote(usize),
}

/// Items of task work that an enter runs: fewer than in a real one, so that there are soon too many.
pub(crate) const TASK_WORK_MAX: u32 = 2;

/// All that it knows.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) features: Features,
    /// Monotonic nanoseconds.
    pub(crate) now: u64,
    pub(crate) sockets: Vec<Socket>,
    backlog: VecDeque<usize>,
    fds: BTreeMap<i32, Fd>,
    disk: Disk,
    queued: Vec<Sqe>,
    queue_room: usize,
    in_flight: Vec<Op>,
    late: VecDeque<Cqe>,
    /// Task work: completions of quiet operations, and operations that were woken and are not over, in the order in which an enter runs them.
    deferred: VecDeque<Option<Cqe>>,
    /// It is said that there is some.
    flagged: bool,
    completed: VecDeque<Cqe>,
    completed_room: usize,
    overflown: VecDeque<Cqe>,
    table: Vec<View>,
    /// The table of files: which descriptors have a place.
    pub(crate) places: Vec<Option<i32>>,
    buffers: Option<Buffers>,
    signalled: bool,
    /// Signals that nobody has taken yet, by number. One that waits already is not sent again
    /// (signal(7)).
    signals: BTreeSet<i32>,
    /// When an accept has failed for want of descriptors or memory.
    accept_failed: Option<u64>,
    /// Addresses that several receive into at a time: the sink.
    sinks: Vec<usize>,
    /// Names of operations of peers that are gone.
    past: Vec<u64>,
    /// Bytes written to stderr; writes whose completion was not handed out yet; whether the last
    /// write took all of its bytes.
    pub(crate) stderr: VecDeque<u8>,
    writes: Vec<u64>,
    pub(crate) last_write_took_all: bool,
    /// Connections that were closed as they came.
    pub(crate) refused: u64,
    /// Completions that were handed out.
    pub(crate) events: u64,
    /// Submissions that were taken.
    pub(crate) submitted: u64,
    /// The submission of this number fails.
    pub(crate) fails_at: Option<u64>,
    pub(crate) digest: u64,
    pub(crate) traces: bool,
}

macro_rules! trace {
    ($kernel:expr, $($text:tt)*) => {
        if $kernel.traces {
            println!("{:>12} ns  {}", $kernel.now, format_args!($($text)*));
        }
    };
}
pub(crate) use trace;

impl Kernel {
    pub(crate) fn new(mut random: Random, faults: Faults, features: Features) -> Kernel {
        // In some simulations the queues are so short that they are full all the time.
        let queue_room = if faults.has(Fault::QueueFull) { random.of(&[1, 2, 3, 8]) } else { 1024 };
        let completed_room = if faults.has(Fault::CompletionsOverflow) { random.of(&[1, 2, 4]) } else { 4096 };
        Kernel {
            random,
            faults,
            features,
            now: 5_000_000_000,
            sockets: Vec::new(),
            backlog: VecDeque::new(),
            fds: BTreeMap::from([(SIGNALS, Fd::Signals), (LISTENER, Fd::Listener)]),
            disk: Disk::default(),
            queued: Vec::new(),
            queue_room,
            in_flight: Vec::new(),
            late: VecDeque::new(),
            deferred: VecDeque::new(),
            flagged: false,
            completed: VecDeque::new(),
            completed_room,
            overflown: VecDeque::new(),
            table: Vec::new(),
            places: Vec::new(),
            buffers: None,
            signalled: false,
            signals: BTreeSet::new(),
            accept_failed: None,
            sinks: Vec::new(),
            past: Vec::new(),
            stderr: VecDeque::new(),
            writes: Vec::new(),
            last_write_took_all: true,
            refused: 0,
            events: 0,
            submitted: 0,
            fails_at: None,
            digest: 0,
            traces: false,
        }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&mut self) {
        self.faults.calm();
        (self.queue_room, self.completed_room) = (1024, 4096);
    }

    pub(crate) fn mix(&mut self, number: u64) {
        self.digest = (self.digest ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn fires(&mut self, fault: Fault) -> bool {
        self.faults.fires(fault, &mut self.random)
    }

    // Clients.

    /// A connection that waits to be accepted; its number.
    pub(crate) fn connect(&mut self, uid: Option<u32>) -> usize {
        let rooms = [300, 5_000, 70_000, 300_000];
        let mut socket = Socket::new(self.random.of(&rooms), self.random.of(&rooms), uid);
        socket.excuse = self.signalled.then_some("the server ends");
        self.sockets.push(socket);
        self.backlog.push_back(self.sockets.len() - 1);
        self.sockets.len() - 1
    }

    /// A connection that needs no accept; its number and descriptor.
    pub(crate) fn pair(&mut self) -> (usize, i32) {
        let number = self.connect(None);
        self.backlog.clear();
        (number, self.open(number))
    }

    /// Signals that have no meaning to the server.
    pub(crate) fn disturb(&mut self) {
        self.signals.extend(MEANINGLESS);
    }

    /// Signals that wait to be taken.
    pub(crate) fn untaken_signals(&self) -> usize {
        self.signals.len()
    }

    /// SIGTERM. Whether the server will hear it: one that is pending already is not sent again
    /// (signal(7)).
    pub(crate) fn signal(&mut self) -> bool {
        self.signalled = true;
        for socket in &mut self.sockets {
            socket.excuse = socket.excuse.or(Some("the server ends"));
        }
        self.signals.insert(SIGTERM)
    }

    /// As many as one read takes.
    pub(crate) fn take_signals(&mut self) -> Vec<i32> {
        let taken = self.signals.iter().copied().take(2).collect::<Vec<_>>();
        taken.iter().for_each(|signal| {
            self.signals.remove(signal);
        });
        taken
    }

    pub(crate) fn is_signalled(&self) -> bool {
        self.signalled
    }

    /// The lowest free descriptor, as Linux has it: one that was closed is soon used again.
    fn open(&mut self, number: usize) -> i32 {
        let fd = self.free_fd();
        self.fds.insert(fd, Fd::Socket(number));
        self.sockets[number].fd = Some(fd);
        fd
    }

    fn free_fd(&self) -> i32 {
        (LISTENER + 1..).find(|fd| !self.fds.contains_key(fd)).expect("numbers do not end")
    }

    pub(crate) fn socket(&self, fd: i32) -> usize {
        match self.fds.get(&fd) {
            Some(Fd::Socket(number)) => *number,
            _ => panic!("descriptors: {fd} is no open socket"),
        }
    }

    /// Descriptors that are open but for the signals'.
    pub(crate) fn open_files(&self) -> usize {
        self.fds.len() - 1
    }

    /// Operations and completions under way that touch memory of connections.
    pub(crate) fn touching(&self) -> usize {
        let transfers = self.in_flight.iter().filter(|op| op.sqe.is_receive() || op.sqe.is_send());
        transfers.filter(|op| !self.is_asked(&op.sqe)).count()
    }

    /// Writes of log lines that are queued, under way, or not handed out yet.
    pub(crate) fn writes(&self) -> usize {
        self.writes.len() + self.queued.iter().filter(|sqe| matches!(sqe.kind, Kind::Write { .. })).count()
    }

    // Submission.

    pub(crate) fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        if self.queued.len() >= self.queue_room {
            self.faults.count(Fault::QueueFull);
            return false;
        }
        self.queued.push(sqe::decode(build()));
        true
    }

    /// Takes what is queued, or some of it.
    pub(crate) fn submit(&mut self) {
        let room = self.completed_room.saturating_sub(self.completed.len()).min(self.overflown.len());
        self.completed.extend(self.overflown.drain(..room));
        if self.queued.iter().any(|sqe| sqe.quiet) {
            self.wake_some();
        }
        let mut count = self.queued.len();
        if count > 0 && self.fires(Fault::NothingSubmitted) {
            count = 0;
        } else if count > 1 && self.fires(Fault::PartialSubmit) {
            count = 1 + self.random.below(count - 1);
        }
        for sqe in self.queued.drain(..count).collect::<Vec<_>>() {
            self.submitted += 1;
            self.start(sqe);
        }
    }

    /// Submissions are left in the queue.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.queued.is_empty() && self.overflown.is_empty() && self.completed.is_empty()
    }

    /// Task work is said to be there.
    pub(crate) fn has_task_work(&self) -> bool {
        self.flagged
    }

    /// Every enter runs some. The flag goes when work is run, and comes back if some is left; another cpu may set it after its work is done.
    pub(crate) fn run_task_work(&mut self) {
        if !self.deferred.is_empty() {
            self.flagged = false;
        }
        for _ in 0..TASK_WORK_MAX {
            match self.deferred.pop_front() {
                Some(Some(cqe)) => self.complete(cqe),
                Some(None) => {}
                None => break,
            }
        }
        self.flagged |= !self.deferred.is_empty() || self.fires(Fault::StaleFlag);
    }

    /// Some of the operations that wait for all of their bytes are woken for a part.
    fn wake_some(&mut self) {
        let patient = self.in_flight.iter().filter(|op| op.sqe.waits_for_all).count();
        let woken = self.deferred.iter().filter(|item| item.is_none()).count();
        for _ in woken..patient {
            if self.fires(Fault::WokenForNothing) {
                self.deferred.push_back(None);
            }
        }
    }

    fn start(&mut self, mut sqe: Sqe) {
        if sqe.is_place {
            let place = self.places.get(sqe.fd as usize).copied().flatten();
            sqe.fd = place.expect("submission: a place of the table of files that is empty");
        }
        let views = memory::views(sqe.kind);
        let knows_lists = self.features.vectored_send || !matches!(sqe.kind, Kind::SendViews { .. });
        assert!(knows_lists, "submission: a list for a kernel that knows none");
        self.check_table(&sqe, &views);
        let total: usize = views.iter().map(|view| view.len).sum();
        let asked = self.is_asked(&sqe);
        let touches = (sqe.is_receive() || sqe.is_send()) && !asked;
        if asked {
            self.check_asked(&sqe, total);
        }
        if touches {
            let number = self.socket(sqe.fd);
            self.sockets[number].remember(sqe.user_data);
            assert!(total > 0 || sqe.kind == Kind::ReceiveShared, "submission: {sqe:?} of nothing");
            self.check_alone(&sqe, &views);
        }
        let mut op = Op { sqe, views, total, done: 0, sums: Vec::new(), due: 0, stuck: false };
        if let Kind::Write { .. } = sqe.kind {
            assert!(sqe.fd == STDERR && total > 0, "submission: a write of {total} bytes to {}", sqe.fd);
            assert!(self.writes.is_empty(), "submission: a write while another is under way: lines would mix");
            self.writes.push(sqe.user_data);
            op.sums = memory::sums(&op.views, 0, total).map(|(_, sum)| sum).collect();
            op.stuck = self.fires(Fault::LogStuck);
        }
        trace!(self, "submitted {:x} {} of {total} bytes on {}", sqe.user_data, sqe.kind.name(), sqe.fd);
        if sqe.is_receive() && sqe.kind != Kind::ReceiveShared {
            memory::poison(&op.views, 0);
        } else if let Kind::Ask(Call::Read { .. }) = sqe.kind {
            memory::poison(&op.views, 0);
        } else if sqe.is_send() || matches!(sqe.kind, Kind::Ask(Call::Write { .. })) {
            op.sums = memory::sums(&op.views, 0, total).map(|(_, sum)| sum).collect();
        }
        if self.fails_at == Some(self.submitted) {
            return self.fail(op);
        }
        match sqe.kind {
            Kind::Cancel { target } => self.cancel(sqe, target),
            Kind::Accept => {
                // Unless it was the pause itself that failed.
                let failed = self.accept_failed.take().filter(|_| self.fails_at.is_none());
                assert!(
                    failed.is_none_or(|at| self.now >= at + PAUSE_NS),
                    "descriptors: accepting again without a pause"
                );
                self.in_flight.push(op);
            }
            Kind::Timeout { ns } => {
                op.due = self.now + ns;
                self.in_flight.push(op);
            }
            _ if asked && sqe.never_waits => self.run_asked_now(op),
            _ if asked => self.in_flight.push(op),
            _ if sqe.never_waits => self.send(op),
            _ if sqe.is_receive() && self.fires(Fault::ReceiveInterrupted) => self.interrupt(op),
            _ => self.in_flight.push(op),
        }
    }

    fn check_table(&self, sqe: &Sqe, views: &[View]) {
        let (Kind::WriteFixed { index, .. } | Kind::Ask(Call::Write { index: Some(index), .. })) = sqe.kind else {
            return;
        };
        let entry = *self.table.get(index).expect("submission: an entry that the table has");
        let inside = |view: &View| view.at >= entry.at && view.at + view.len <= entry.at + entry.len;
        assert!(views.iter().all(inside), "submission: a list that leaves entry {index} of the table");
    }

    /// One receive and one send at a time for a socket; and no receive into memory that another receive has. But for the sink, which is one buffer for all.
    fn check_alone(&mut self, sqe: &Sqe, views: &[View]) {
        for other in &self.in_flight {
            let same = other.sqe.fd == sqe.fd && other.sqe.is_receive() == sqe.is_receive();
            let touches = other.sqe.is_receive() || other.sqe.is_send();
            assert!(!(same && touches), "submission: {sqe:?} while {:?} is under way", other.sqe);
            if !sqe.is_receive() || !other.sqe.is_receive() {
                continue;
            }
            if sqe.is_same_sink(&other.sqe) {
                self.sinks.push(views[0].at);
                continue;
            }
            let meet = |a: &View, b: &View| a.at < b.at + b.len && b.at < a.at + a.len;
            let shared = views.iter().any(|view| other.views.iter().any(|there| meet(view, there)));
            assert!(!shared, "memory: {sqe:?} receives where {:?} does", other.sqe);
        }
    }

    // Completion.

    /// The completion of an operation: now, or later.
    fn post(&mut self, sqe: &Sqe, res: i32, flags: u32) {
        let cqe = Cqe { user_data: sqe.user_data, res, flags, fd: sqe.fd };
        // Who was woken has been looked at before it can end.
        let woken = self.deferred.iter().position(Option::is_none).filter(|_| sqe.waits_for_all);
        if let Some(woken) = woken {
            self.deferred.remove(woken);
        }
        // Those of one operation stay in order.
        let behind = self.late.iter().any(|late| late.user_data == cqe.user_data);
        if !sqe.never_waits && (behind || self.fires(Fault::LateCompletion)) {
            self.late.push_back(cqe);
        } else if sqe.quiet && self.fires(Fault::LateCompletion) {
            self.deferred.push_back(Some(cqe));
            self.flagged = true;
        } else {
            self.complete(cqe);
        }
    }

    fn complete(&mut self, cqe: Cqe) {
        if self.completed.len() < self.completed_room && self.overflown.is_empty() {
            self.completed.push_back(cqe);
        } else {
            self.faults.count(Fault::CompletionsOverflow);
            self.overflown.push_back(cqe);
        }
    }

    /// Completions that could be handed out, with an enter where there is no room.
    pub(crate) fn ready(&self) -> usize {
        self.completed.len()
    }

    pub(crate) fn drain(&mut self, mut each: impl FnMut(u64, i32, u32)) {
        for Cqe { user_data, res, flags, .. } in std::mem::take(&mut self.completed) {
            self.events += 1;
            self.mix(user_data);
            self.mix((res as u32 as u64) << 32 | u64::from(flags));
            if let (Some(id), Some(buffers)) = (cqueue::buffer_select(flags), &mut self.buffers) {
                buffers.lent.push(id);
            }
            trace!(self, "completed {user_data:x} with {res}, flags {flags:x}");
            self.writes.retain(|&write| write != user_data);
            each(user_data, res, flags);
        }
    }

    // The scheduler's choices.

    /// Operations that can go on now.
    pub(crate) fn runnable(&self, into: &mut Vec<usize>) {
        into.extend((0..self.in_flight.len()).filter(|&at| self.can_run(&self.in_flight[at])));
    }

    fn can_run(&self, op: &Op) -> bool {
        match op.sqe.kind {
            Kind::Accept => !self.backlog.is_empty(),
            Kind::Poll => !self.signals.is_empty(),
            Kind::Timeout { .. } => op.due <= self.now,
            Kind::Populate { .. } | Kind::Cancel { .. } => true,
            Kind::Write { .. } => !op.stuck,
            _ if self.is_asked(&op.sqe) => self.can_run_asked(op),
            _ => {
                let socket = &self.sockets[self.socket(op.sqe.fd)];
                if op.sqe.is_receive() { socket.is_readable() } else { socket.send_room() > 0 || socket.is_deaf() }
            }
        }
    }

    /// Some of its work is done.
    pub(crate) fn run(&mut self, index: usize) {
        let op = self.in_flight.remove(index);
        match op.sqe.kind {
            Kind::Accept => self.accept(op),
            Kind::Poll => self.post(&op.sqe, 1, 0),
            Kind::Timeout { .. } => self.post(&op.sqe, -libc::ETIME, 0),
            Kind::Populate { .. } => {
                let res = if self.fires(Fault::PopulateFails) { -libc::ENOMEM } else { 0 };
                self.post(&op.sqe, res, 0);
            }
            Kind::ReceiveShared => self.receive_shared(op),
            Kind::Write { .. } => self.write(op),
            _ if self.is_asked(&op.sqe) => self.run_asked(op),
            _ if op.sqe.is_receive() => self.receive(op),
            _ => self.send(op),
        }
    }

    /// Completions that are held back.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }

    /// Hands one of them out, the first of its operation.
    pub(crate) fn deliver(&mut self, index: usize) {
        let user_data = self.late[index].user_data;
        let first = self.late.iter().position(|cqe| cqe.user_data == user_data).expect("it is there");
        let cqe = self.late.remove(first).expect("it is there");
        self.complete(cqe);
    }

    /// Now and then comes what is long over.
    pub(crate) fn haunt(&mut self) {
        if !self.past.is_empty() && self.fires(Fault::StaleCompletion) {
            let user_data = self.past[self.random.below(self.past.len())];
            let res = self.random.of(&[0, 1, 100, -libc::ECANCELED, -libc::EPIPE]);
            self.complete(Cqe { user_data, res, flags: 0, fd: -1 });
        }
    }

    /// When the next timer ends.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let timers = self.in_flight.iter().filter(|op| matches!(op.sqe.kind, Kind::Timeout { .. }));
        timers.map(|op| op.due).min()
    }

    // Registration.

    pub(crate) fn register_table(&mut self, entries: u32) -> io::Result<()> {
        assert!(self.table.is_empty(), "registration: one table");
        self.table = vec![View { at: 0, len: 0 }; entries as usize];
        Ok(())
    }

    pub(crate) fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        if len > 0 && self.fires(Fault::RegisterFails) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        assert!(len <= 1 << 30, "registration: an entry has at most 1 GiB");
        self.table[slot as usize] = View { at: start, len };
        Ok(())
    }
}
