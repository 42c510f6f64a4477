//! The kernel and the clients together: which of them acts next, by seed; and the ring that the server
//! is given.

use crate::client::scripted::Scripted;
use crate::client::{Client, Surroundings};
use crate::far::Far;
use crate::kernel::faults::{Fault, Faults};
use crate::kernel::{Kernel, TASK_WORK_MAX, trace};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::scribe::Scribe;
use io_uring::squeue::Entry;
use ring9::arena::Gauge;
use ring9::fs::Time;
use ring9::session::NOBODY;
use ring9::stats::Stats;
use ring9::uring::{Features, Ring, Trust};
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

/// How far a simulation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Clients come and go, and all that may go wrong does.
    Storm,
    /// Nothing goes wrong any more; clients hear what they are owed and leave.
    Calm,
}

/// All but the server.
pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) clients: Vec<Client>,
    /// Or one that has nothing of its own to say.
    pub(crate) scripted: Option<Scripted>,
    /// The server that a relay has behind it.
    pub(crate) far: Option<Far>,
    pub(crate) ledger: Rc<RefCell<Ledger>>,
    pub(crate) phase: Phase,
    /// Clients that are still to come.
    pub(crate) to_come: usize,
    /// Clients at a time.
    pub(crate) clients_max: usize,
    /// Steps done, and after how many it becomes calm.
    pub(crate) steps: u64,
    pub(crate) storm_steps: u64,
    /// Nothing can happen any more, unless the server does something.
    pub(crate) at_rest: bool,
    /// Whether unix sockets say who is there.
    pub(crate) identities: bool,
    /// In whom the listener trusts.
    pub(crate) trust: Option<Trust>,
    /// The server was told to end while clients were there.
    pub(crate) ends_early: bool,
    /// What the server counts and holds; how many it has evicted so far.
    pub(crate) stats: Rc<Stats>,
    pub(crate) gauge: Option<Gauge>,
    /// The source of log lines, if there is one.
    pub(crate) scribe: Option<Scribe>,
    evicted: u64,
    /// Turns in a row that did nothing and did not wait.
    idle_turns: u32,
    runnable: Vec<usize>,
}

/// No message and no reply is overdue before this time, in virtual nanoseconds.
const ALLOWANCE_NS_MIN: u64 = 30_000_000_000;
/// Calm must set in within so many steps.
const CALM_STEPS_MAX: u64 = 3_000_000;
/// And every request must have its reply within so many virtual nanoseconds.
const CALM_NS_MAX: u64 = 400_000_000_000;

impl World {
    pub(crate) fn new(kernel: Kernel, ledger: Rc<RefCell<Ledger>>, storm_steps: u64) -> World {
        World {
            kernel,
            clients: Vec::new(),
            scripted: None,
            far: None,
            ledger,
            phase: Phase::Storm,
            to_come: 0,
            clients_max: 0,
            steps: 0,
            storm_steps,
            at_rest: false,
            identities: false,
            trust: None,
            ends_early: false,
            stats: Rc::default(),
            gauge: None,
            scribe: None,
            evicted: 0,
            idle_turns: 0,
            runnable: Vec::new(),
        }
    }

    fn here(&self) -> usize {
        self.clients.iter().filter(|client| !client.is_gone()).count()
    }

    /// Everyone has left, and nobody comes any more.
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Calm && self.here() == 0
    }

    fn arrive(&mut self) {
        self.to_come -= 1;
        let random = &mut self.kernel.random;
        let uid = random.of(&[0, 0, 0, 1, 1000]);
        let identity = self.identities.then_some(if random.one_in(4) { 0 } else { uid });
        let number = self.kernel.connect(identity);
        let acts_for = match (self.trust, identity) {
            (Some(Trust::All), _) | (Some(Trust::PeerUid), Some(0)) => uid,
            (Some(Trust::PeerUid), Some(uid)) => uid,
            _ => NOBODY,
        };
        self.ledger.borrow_mut().is(number as u32, acts_for);
        let mut client = Client::new(number as u32, uid, &mut self.kernel.random, &mut self.kernel.faults);
        client.trace = self.kernel.traces.then(Vec::new);
        trace!(self.kernel, "connection {number}: {client:?}");
        self.clients.push(client);
    }

    /// One more client in the calm: everything works again.
    pub(crate) fn arrive_gently(&mut self) {
        let number = self.kernel.connect(self.identities.then_some(0));
        let acts_for = if self.trust == Some(Trust::All) || self.identities { 0 } else { NOBODY };
        self.ledger.borrow_mut().is(number as u32, acts_for);
        let mut client = Client::gentle(number as u32, 0, &mut self.kernel.random);
        client.trace = self.kernel.traces.then(Vec::new);
        self.clients.push(client);
    }

    pub(crate) fn become_calm(&mut self) {
        trace!(self.kernel, "calm");
        self.phase = Phase::Calm;
        self.to_come = 0;
        self.kernel.calm();
        if let Some(far) = &mut self.far {
            far.calm(&mut self.kernel);
        }
        for client in self.clients.iter_mut().filter(|client| !client.is_gone()) {
            client.wind_down(&mut self.kernel.sockets[client.number as usize]);
        }
    }

    /// One thing happens that may happen; false if there is none, however long one waits.
    fn step(&mut self) -> bool {
        self.steps += 1;
        if self.phase == Phase::Storm && self.steps >= self.storm_steps {
            self.become_calm();
            return true;
        }
        let over = self.steps - self.storm_steps.min(self.steps);
        assert!(over < CALM_STEPS_MAX, "stall: calm does not set in within {CALM_STEPS_MAX} steps");
        self.kernel.now += self.kernel.random.below(20_000) as u64;
        self.kernel.haunt();
        let mut runnable = std::mem::take(&mut self.runnable);
        runnable.clear();
        self.kernel.runnable(&mut runnable);
        let operations = runnable.len();
        let late = self.kernel.late();
        let sockets = &self.kernel.sockets;
        let able = |client: &&Client| client.can_act(&sockets[client.number as usize]);
        let talkers: usize = self.clients.iter().filter(able).count();
        let arrivals = usize::from(self.to_come > 0 && self.here() < self.clients_max);
        let scripted = usize::from(self.can_speak());
        let far = usize::from(self.far_acts());
        let choices = operations * 2 + late + talkers * 2 + arrivals + scripted * 2 + far * 4;
        if choices == 0 {
            self.runnable = runnable;
            return self.wait();
        }
        let choice = self.kernel.random.below(choices);
        self.kernel.mix(choice as u64);
        if choice < operations * 2 {
            self.kernel.run(runnable[choice / 2]);
        } else if choice < operations * 2 + late {
            self.kernel.deliver(choice - operations * 2);
        } else if choice < operations * 2 + late + talkers * 2 {
            let talker = (choice - operations * 2 - late) / 2;
            self.act(talker);
        } else if choice < operations * 2 + late + talkers * 2 + arrivals {
            self.arrive();
        } else if let Some(far) = self.far.as_mut().filter(|_| far > 0) {
            far.act(&mut self.kernel);
        } else if let Some(scripted) = &mut self.scripted {
            let Kernel { sockets, random, .. } = &mut self.kernel;
            scripted.act(&mut sockets[scripted.number], random);
        }
        self.runnable = runnable;
        true
    }

    /// The far server can do something.
    fn far_acts(&self) -> bool {
        self.far.as_ref().is_some_and(|far| far.can_act(&self.kernel))
    }

    /// Whoever says a script can go on.
    fn can_speak(&self) -> bool {
        self.scripted.as_ref().is_some_and(|scripted| scripted.can_act(&self.kernel.sockets[scripted.number]))
    }

    /// The client of this number among those that can act does something.
    fn act(&mut self, talker: usize) {
        let World { kernel, clients, ledger, far, .. } = self;
        if let Some(far) = far {
            ledger.borrow_mut().troubles = far.is_talking(kernel).then(|| Far::troubles(kernel));
        }
        let Kernel { sockets, random, .. } = kernel;
        let mut able = clients.iter_mut().filter(|client| client.can_act(&sockets[client.number as usize]));
        let client = able.nth(talker).expect("counted just now");
        let socket = &mut sockets[client.number as usize];
        client.act(Surroundings { socket, random, ledger: &mut ledger.borrow_mut() });
        if let Some(lines) = &mut client.trace {
            lines.drain(..).for_each(|line| println!("{:>12} ns  {line}", kernel.now));
        }
    }

    /// Nothing happens before the next timer ends.
    fn wait(&mut self) -> bool {
        let change = self.far.as_ref().and_then(Far::next_change).filter(|&due| due > self.kernel.now);
        let Some(due) = self.kernel.next_timer().into_iter().chain(change).min() else {
            self.at_rest = true;
            return false;
        };
        self.check_nobody_waits();
        self.far.iter().for_each(|far| far.check_rubbish(&self.kernel));
        let calm = self.phase == Phase::Calm;
        if let Some(far) = self.far.as_mut().filter(|far| calm && far.held() > 0) {
            far.free_held();
            return true;
        }
        assert!(!calm || due < self.kernel.now + CALM_NS_MAX, "stall: a timer far away");
        self.kernel.now = self.kernel.now.max(due);
        true
    }

    /// Only a timer can end the sleep: then whoever has asked must have been answered. But for who is at fault, and for what waits in the tree.
    fn check_nobody_waits(&self) {
        if self.kernel.is_signalled() {
            return;
        }
        let silent = self.scripted.is_none();
        assert!(silent, "stall: the server waits for a timer in the middle of a conversation");
        let mut ledger = self.ledger.borrow_mut();
        if let Some(far) = self.far.as_ref().filter(|far| far.is_talking(&self.kernel)) {
            // A read that its client has flushed, or whose client has left, is flushed at the far server.
            let reads: usize = self.clients.iter().filter(|client| !client.is_gone()).map(Client::reads).sum();
            assert!(
                far.held() <= reads,
                "relay: {} reads wait at the far server, and clients wait for {reads}",
                far.held()
            );
        }
        for client in self.clients.iter().filter(|client| !client.is_gone()) {
            let socket = &self.kernel.sockets[client.number as usize];
            let served = socket.fd.is_some() && socket.excuse.is_none() && !client.is_stalled();
            let waits = ledger.may_wait(client.number)
                || self.far.as_ref().is_some_and(|far| !far.is_talking(&self.kernel) || far.held() > 0);
            let overdue = ledger.overdue(client.number);
            assert!(
                !(served && client.is_owed() && overdue.is_some()),
                "stall: connection {} waits for the reply of tag {overdue:?}, whose gate is open, and the server for a timer",
                client.number
            );
            assert!(
                !(served && client.is_owed() && !waits),
                "stall: connection {} waits for a reply, and the server for a timer ({} bytes not received)",
                client.number,
                socket.to_server.len()
            );
        }
    }

    /// The server ends a connection; to have its memory back, if it has just counted that.
    fn shutdown(&mut self, fd: RawFd) {
        if self.kernel.is_remote(fd) {
            return self.kernel.shutdown(fd);
        }
        let evicted = self.stats.counters.evicted.get();
        if std::mem::replace(&mut self.evicted, evicted) < evicted {
            let gauge = self.gauge.as_ref().expect("set before the server runs");
            let scarce = gauge.orphaned_bytes() > gauge.total_bytes() / 8;
            let was_full = self.kernel.was_full(fd);
            // Only such a client is ever overdue: it takes no replies, or leaves a message unfinished.
            let number = self.kernel.socket(fd);
            let is_slow = was_full || self.clients.iter().any(|one| one.number as usize == number && one.is_stalled());
            let may_be_overdue = self.kernel.now > ALLOWANCE_NS_MIN;
            assert!(scarce || may_be_overdue, "bounds: a connection is ended for its memory, and there is enough");
            assert!(is_slow, "bounds: {fd} is ended for what it holds, and it is not slow");
            self.kernel.excuse(fd, "it was evicted");
        }
        self.kernel.shutdown(fd);
    }

    /// An enter, after which the server logs some lines now and then.
    fn submit_and_wait(&mut self, want: u32) {
        self.enter(want);
        let (random, faults) = (&mut self.kernel.random, &mut self.kernel.faults);
        if let Some(scribe) = &mut self.scribe
            && faults.fires(Fault::LogLines, random)
        {
            scribe.say(random, self.kernel.now);
        }
    }

    fn enter(&mut self, want: u32) {
        self.kernel.now += self.kernel.random.below(3_000) as u64;
        let submitted = self.kernel.has_queued();
        self.kernel.submit();
        self.at_rest = false;
        // Who has submitted less than asked does not wait (Linux: `io_uring/io_uring.c`, io_uring_enter).
        let want = if self.kernel.has_queued() { 0 } else { want };
        if self.phase == Phase::Storm {
            let (random, faults) = (&mut self.kernel.random, &mut self.kernel.faults);
            // Rare whatever the rate: it moves everything that is due.
            if random.one_in(50) && faults.fires(Fault::TimeStops, random) {
                self.kernel.now += 4_000_000_000 + self.kernel.random.number() % 1_000_000_000_000;
            }
        }
        // Who does not wait has something to do.
        let idle = want == 0 && self.kernel.ready() == 0 && self.kernel.is_settled() && !submitted;
        self.idle_turns = if idle { self.idle_turns + 1 } else { 0 };
        assert!(self.idle_turns < 1000, "stall: the server turns and turns, and has nothing to do");
        self.kernel.run_task_work();
        // It is quick: meanwhile nothing happens.
        if idle {
            return;
        }
        // What is wanted is waited for; beyond that only happens what can happen at once.
        while self.kernel.ready() < want as usize {
            if !self.step() {
                return;
            }
            self.kernel.run_task_work();
        }
        for _ in 0..self.kernel.random.below(3) {
            if !self.can_step() {
                return;
            }
            self.step();
        }
    }

    /// Whether something can happen without a timer.
    fn can_step(&mut self) -> bool {
        let mut runnable = std::mem::take(&mut self.runnable);
        runnable.clear();
        self.kernel.runnable(&mut runnable);
        let sockets = &self.kernel.sockets;
        let can = !runnable.is_empty()
            || self.kernel.late() > 0
            || self.to_come > 0 && self.here() < self.clients_max
            || self.can_speak()
            || self.far_acts()
            || self.clients.iter().any(|client| client.can_act(&sockets[client.number as usize]));
        self.runnable = runnable;
        can
    }
}

/// The simulated kernel, as the server sees it.
#[derive(Clone)]
pub struct SimKernel(pub(crate) Rc<RefCell<World>>);

/// Faults after which a conversation goes on.
const HARMLESS: &[Fault] = &[
    Fault::ShortReceive,
    Fault::ShortSend,
    Fault::ReceiveInterrupted,
    Fault::SendInterrupted,
    Fault::FullSocket,
    Fault::NoBuffer,
    Fault::MultishotEnds,
    Fault::LateCompletion,
    Fault::CancelMisses,
    Fault::QueueFull,
    Fault::PartialSubmit,
    Fault::NothingSubmitted,
    Fault::CompletionsOverflow,
];

impl SimKernel {
    /// One with a connected socket, at whose other end somebody says a script and hears the replies: whole, however late, short and out of order.
    pub fn with_script(seed: u64, script: &[u8], vectored_fixed: bool) -> (SimKernel, RawFd) {
        let mut random = Random::new(seed);
        let without: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| !HARMLESS.contains(fault)).collect();
        let faults = faults_of(seed, &without);
        let features = Features {
            vectored_fixed,
            defer_taskrun: true,
            multishot: random.below(3) > 0,
            vectored_send: seed.is_multiple_of(2),
        };
        let in_turn = random.one_in(2);
        let mut kernel = Kernel::new(random, faults, features);
        kernel.places = places_of(seed);
        let mut world = World::new(kernel, Rc::default(), u64::MAX);
        let (number, fd) = world.kernel.pair();
        world.scripted = Some(Scripted::new(number, script, in_turn));
        (SimKernel(Rc::new(RefCell::new(world))), fd)
    }

    /// What the other end has heard.
    pub fn heard(&self) -> Vec<u8> {
        let world = self.0.borrow();
        let Some(scripted) = &world.scripted else { return Vec::new() };
        // What is on its way is heard in the end.
        let rest = world.kernel.sockets[scripted.number].to_client.iter().copied();
        scripted.heard.iter().copied().chain(rest).collect()
    }

    /// How often each kind of fault has happened.
    pub fn fired(&self) -> Vec<(&'static str, u64)> {
        let world = self.0.borrow();
        Fault::ALL.iter().map(|fault| fault.name()).zip(world.kernel.faults.fired().iter().copied()).collect()
    }
}

impl Ring for SimKernel {
    fn features(&self) -> Features {
        self.0.borrow().kernel.features
    }

    #[expect(unsafe_code, reason = "the seam's promise: see the trait")]
    unsafe fn push(&mut self, build: impl FnOnce() -> Entry) -> bool {
        self.0.borrow_mut().kernel.push(build)
    }

    fn submit_and_wait(&mut self, want: u32) -> io::Result<()> {
        self.0.borrow_mut().submit_and_wait(want);
        Ok(())
    }

    fn is_settled(&mut self) -> bool {
        self.0.borrow().kernel.is_settled()
    }

    fn has_task_work(&mut self) -> bool {
        self.0.borrow().kernel.has_task_work()
    }

    fn task_work_max(&self) -> u32 {
        TASK_WORK_MAX
    }

    fn drain(&mut self, each: impl FnMut(u64, i32, u32)) {
        self.0.borrow_mut().kernel.drain(each);
    }

    fn has_work(&mut self) -> bool {
        let mut world = self.0.borrow_mut();
        let _ = world.can_step() && world.step();
        world.kernel.ready() > 0
    }

    fn register_table(&mut self, entries: u32) -> io::Result<()> {
        self.0.borrow_mut().kernel.register_table(entries)
    }

    #[expect(unsafe_code, reason = "the seam's promise: see the trait")]
    unsafe fn register_region(&mut self, slot: u32, start: usize, len: usize) -> io::Result<()> {
        self.0.borrow_mut().kernel.register_region(slot, start, len)
    }

    #[expect(unsafe_code, reason = "the seam's promise: see the trait")]
    unsafe fn share_buffers(&mut self, start: *mut u8, count: u16, bytes: u32) -> io::Result<()> {
        self.0.borrow_mut().kernel.share_buffers(start, count, bytes);
        Ok(())
    }

    #[expect(unsafe_code, reason = "the seam's promise: see the trait")]
    unsafe fn give_buffer(&mut self, id: u16) {
        self.0.borrow_mut().kernel.give_buffer(id);
    }

    fn adopt(&mut self, place: u32, fd: RawFd) -> bool {
        self.0.borrow_mut().kernel.adopt(place, fd)
    }

    fn let_go(&mut self, place: u32) {
        self.0.borrow_mut().kernel.let_go(place);
    }

    fn shutdown(&mut self, fd: RawFd) {
        // A simulation that has failed is over: nothing more is said.
        if !std::thread::panicking() {
            self.0.borrow_mut().shutdown(fd);
        }
    }

    fn has_hung_up(&mut self, fd: RawFd) -> bool {
        self.0.borrow().kernel.has_hung_up(fd)
    }

    fn close(&mut self, fd: RawFd) {
        self.0.borrow_mut().kernel.close(fd);
    }

    fn take_signals(&mut self, _: RawFd, each: impl FnMut(i32)) {
        let taken = self.0.borrow_mut().kernel.take_signals();
        taken.into_iter().for_each(each);
    }

    fn peer_identity(&mut self, fd: RawFd) -> Option<(u32, u32)> {
        self.0.borrow().kernel.peer_identity(fd)
    }

    fn monotonic(&mut self) -> u64 {
        let mut world = self.0.borrow_mut();
        world.kernel.now += 100;
        world.kernel.now
    }

    fn wall(&mut self) -> Time {
        let now = self.0.borrow().kernel.now;
        Time { sec: 1_700_000_000 + (now / 1_000_000_000) as i64, nsec: (now % 1_000_000_000) as u32 }
    }

    fn entropy(&mut self) -> u64 {
        self.0.borrow_mut().kernel.random.number()
    }
}

/// The table of files of a seed: in some there is none, or too short a one.
pub(crate) fn places_of(seed: u64) -> Vec<Option<i32>> {
    vec![None; [0, 2, 100][(seed % 3) as usize]]
}

/// Which kinds of fault a seed has, before it begins.
pub(crate) fn faults_of(seed: u64, without: &[Fault]) -> Faults {
    Faults::new(&mut Random::new(seed ^ 0xfa_0175), without)
}
