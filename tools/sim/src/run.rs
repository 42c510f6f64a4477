//! One simulation: a server, a world, and what must be true in every turn and at the end.

use crate::asking::Asking;
use crate::far::Far;
use crate::figures::Figures;
use crate::kernel::Kernel;
use crate::kernel::faults::{Fault, Faults};
use crate::kernel::memory;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::relaying::Relaying;
use crate::scribe::Scribe;
use crate::slow::Slow;
use crate::storing::{self, Past, Storing};
use crate::watch::Watch;
use crate::world::{Phase, SimKernel, World, faults_of, places_of};
use ring9::arena::{Arena, Gauge};
use ring9::fs::mem::{Mem, Options as MemOptions};
use ring9::fs::wrap::Wrapped;
use ring9::fs::{At, Service};
use ring9::limits::Bounds;
use ring9::session::Budget;
use ring9::stats::Stats;
use ring9::uring::{
    BACKLOG_BYTES_ALL, CLOSING_MAX, Features, Grow, Listener, LogTo, Options, Ring, Server, Trust, WINDOW_BYTES,
};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::Arc;

/// Steps between signals that have no meaning.
const DISTURBED_STEPS: u64 = 64;
/// Jobs of the tree for which it asks the loop for I/O.
const ASKING_JOBS: usize = 60;
/// How long the server may take to end once it was told so twice, in virtual nanoseconds: less than a drain.
const URGED_NS_MAX: u64 = 3_000_000_000;
/// Turns for each thing that happens, and for others.
const TURNS_EACH: u64 = 4;
const TURNS_MORE: u64 = 2_000;
/// Turns in which all that is under way without clients comes to its end.
const SETTLING_TURNS: u64 = 100_000;

/// Steps of a simulation whose first choices are an input of the fuzz target.
pub const INPUT_STEPS: u64 = 300;

/// What a simulated server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// A tree in memory, which is late.
    Tree,
    /// A relay to a far server.
    Relay,
    /// A store on a disk that forgets.
    Store,
}

impl Serves {
    /// The flag of `ring9-sim`.
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Serves::Tree => None,
            Serves::Relay => Some("--relay"),
            Serves::Store => Some("--store"),
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything random comes from it.
    pub seed: u64,
    /// But for the first choices, which are these (two bytes each): an input of the fuzz target.
    pub schedule: Vec<u8>,
    /// Steps before it becomes calm.
    pub steps: u64,
    /// Clients in all; as many as come if `None`.
    pub clients: Option<usize>,
    /// Kinds of fault that do not happen.
    pub without: Vec<Fault>,
    /// The submission of this number fails.
    pub fails_at: Option<u64>,
    /// What the server serves.
    pub serves: Serves,
    /// A line for everything that happens.
    pub traces: bool,
}

impl Plan {
    /// The usual one.
    pub fn new(seed: u64, steps: u64) -> Plan {
        let (schedule, without) = (Vec::new(), Vec::new());
        Plan { seed, schedule, steps, clients: None, without, fails_at: None, serves: Serves::Tree, traces: false }
    }

    /// What any bytes stand for: two of a seed, which has the kinds of fault and what comes last; then choices.
    pub fn of_input(input: &[u8], steps: u64) -> Plan {
        let (seed, schedule) = input.split_at(input.len().min(2));
        let seed = seed.iter().rev().fold(0, |seed, &byte| seed << 8 | u64::from(byte));
        Plan { schedule: schedule.to_vec(), ..Plan::new(seed, steps) }
    }
}

/// Simulates; the oracle that has found something, and what.
pub fn run(plan: &Plan) -> Result<Figures, String> {
    let result = panic::catch_unwind(AssertUnwindSafe(|| simulate(plan)));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
    })
}

/// What the server serves, and what must be true of it.
pub(crate) trait Served {
    type Tree: Service;

    /// Largest message.
    const MSIZE: u32 = 1 << 20;

    /// Everybody has gone: what they had of the tree is back, but for what was left.
    fn check_given_back(&self, tree: &mut Self::Tree, left: Left);

    /// The tree wants nothing more of the loop.
    fn is_idle(&self, tree: &Self::Tree) -> bool;

    /// What must be true after every turn.
    fn check_turn(&self) {}

    /// Descriptors that the tree keeps to the end.
    fn files(&self) -> usize {
        0
    }

    /// What must be true when all is over, and how often faults have happened out of sight of the kernel.
    fn check_end(&self, tree: &mut Self::Tree, at: At, left: Left) -> Vec<(Fault, u64)>;

    /// Asks that were answered, or requests to a far server.
    fn asks(&self) -> u64;
}

/// What a server leaves where it is that was told twice to end.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    /// Asks in flight.
    pub(crate) asks: bool,
    /// Sessions of which the tree has an operation.
    pub(crate) sessions: bool,
}

/// What a world is made of before there is a kernel.
pub(crate) struct Parts<'a> {
    pub(crate) seed: u64,
    pub(crate) arena: Arena,
    pub(crate) files: usize,
    pub(crate) random: &'a mut Random,
    pub(crate) faults: &'a Faults,
    pub(crate) ledger: &'a Rc<RefCell<Ledger>>,
}

struct Simulation<S: Served> {
    server: Server<SimKernel, S::Tree>,
    served: S,
    world: Rc<RefCell<World>>,
    gauge: Gauge,
    budget: Arc<Budget>,
    stats: Rc<Stats>,
    bounds: Bounds,
    /// Where its memory is, and how many bytes.
    memory: (usize, usize),
    /// Signals without a meaning come now and then.
    disturbed: bool,
    /// The server was told twice to end.
    urged: bool,
    /// Turns so far.
    turns: u64,
}

/// The watched tree, which is late, and asks for itself.
struct Watched(Asking);

type WatchedTree = Wrapped<Slow<Mem>, Asking>;

impl Watched {
    fn begin(parts: Parts<'_>) -> impl FnOnce(&Rc<RefCell<World>>) -> (WatchedTree, Watched) + use<> {
        let Parts { seed, arena, files, random, faults, ledger } = parts;
        let hash_key = random.number();
        let options = MemOptions { inodes_max: files, hash_key, root: (0, 0, 0o777), ..MemOptions::default() };
        let mem = Mem::new(arena, options);
        let watch = Watch::new(mem, files, Random::new(random.number()), faults.clone(), Rc::clone(ledger));
        let tree = Slow::new(watch, Rc::clone(ledger), seed);
        move |world| {
            // In some simulations, as for signals.
            let jobs = if seed % 4 == 2 { ASKING_JOBS } else { 0 };
            let asking = Asking::new(seed, jobs, Rc::clone(world));
            (Wrapped::new(tree, asking.clone()), Watched(asking))
        }
    }
}

impl Served for Watched {
    type Tree = WatchedTree;

    fn check_given_back(&self, tree: &mut Self::Tree, left: Left) {
        tree.inner().let_go(left.sessions);
        let held = (tree.inner().handles(), tree.inner().inner().locks());
        assert!(left.sessions || held == (0, 0), "leaks: {held:?} file values, locks");
    }

    fn is_idle(&self, _: &Self::Tree) -> bool {
        self.0.is_idle()
    }

    fn check_end(&self, tree: &mut Self::Tree, at: At, left: Left) -> Vec<(Fault, u64)> {
        if !left.asks {
            self.0.check_end();
        }
        let tree = tree.inner();
        tree.check_all_and_remove(at, left.sessions);
        let arena = tree.inner().arena();
        let (free, usable) = (arena.free_bytes(), arena.usable_bytes());
        let lost = usable - free;
        assert!(left.sessions || lost == 0, "leaks: {lost} bytes of blocks that no file and no operation has");
        let kinds = [Fault::TreeWaits, Fault::TreeLendsNothing, Fault::TreeLate, Fault::ReplyGated, Fault::TreeBehind];
        kinds.map(|fault| (fault, tree.fired(fault))).to_vec()
    }

    fn asks(&self) -> u64 {
        self.0.0.borrow().answered
    }
}

impl<S: Served> Simulation<S> {
    fn new<F: FnOnce(&Rc<RefCell<World>>) -> (S::Tree, S)>(
        plan: &Plan,
        ledger: Ledger,
        faults: Faults,
        begin: impl FnOnce(Parts<'_>) -> F,
    ) -> Simulation<S> {
        let mut random = Random::following(plan.seed, plan.schedule.clone());
        let memory_bytes = random.of(&[1 << 20, 2 << 20, 4 << 20, 16 << 20]);
        let region_bytes = random.of(&[512 << 10, 1 << 30, 1 << 30]);
        let files = random.of(&[10, 40, 40]);
        let features = Features {
            vectored_fixed: random.below(4) > 0,
            defer_taskrun: true,
            multishot: random.below(4) > 0,
            vectored_send: plan.seed.is_multiple_of(2),
        };
        let peers_max = random.of(&[2, 6, 100]);
        let arena = Arena::with_regions(memory_bytes, region_bytes).expect("a small mapping");
        let (memory, gauge) = (arena.memory(), arena.gauge());
        let parts = (memory, arena.heads(), gauge);
        let ledger = Rc::new(RefCell::new(ledger));
        let made =
            begin(Parts { seed: plan.seed, arena, files, random: &mut random, faults: &faults, ledger: &ledger });
        let clients_max = random.of(&[1, 2, 4, 8]);
        let grows = random.one_in(4);
        let trust = random.of(&[Trust::All, Trust::All, Trust::All, Trust::PeerUid, Trust::PeerUid, Trust::Squash]);
        let identities = random.one_in(2);
        let ends_early = random.one_in(8);
        let busy_poll_ns = random.of(&[0, 0, 0, 5_000]);
        let mut kernel = Kernel::new(random, faults, features);
        (kernel.traces, kernel.fails_at) = (plan.traces, plan.fails_at);
        kernel.places = places_of(plan.seed);
        let mut world = World::new(kernel, ledger, plan.steps);
        world.clients_max = clients_max;
        world.to_come = plan.clients.unwrap_or(usize::MAX);
        world.trust = Some(trust);
        world.identities = trust == Trust::PeerUid && identities;
        world.ends_early = ends_early;
        let stats = Rc::new(Stats::default());
        (world.stats, world.gauge) = (Rc::clone(&stats), Some(gauge));
        let scribe = Scribe::new(plan.seed);
        let log = LogTo { log: scribe.log(), fd: crate::kernel::STDERR };
        world.scribe = Some(scribe);
        let world = Rc::new(RefCell::new(world));
        let budget = Arc::new(Budget::default());
        let registered = if grows { memory.len() / 16 } else { memory.len() };
        let options = Options {
            stats: Rc::clone(&stats),
            budget: Arc::clone(&budget),
            busy_poll_ns,
            signals: Some(crate::kernel::SIGNALS),
            grow: grows.then(|| Grow::from(registered)),
            log: Some(log),
            ..Options::new(S::MSIZE, peers_max)
        };
        let (tree, served) = made(&world);
        let mut server = Server::new(SimKernel(Rc::clone(&world)), tree, parts, options);
        // Where it cannot be registered everything goes by address.
        let _ = server.register(registered);
        server.listen(Listener { fd: crate::kernel::LISTENER, name: "sim".into(), trust, tcp: true });
        let bounds = Bounds { memory: memory.len() as u64, inodes: files as u64, connections: peers_max as u64 };
        let memory = (memory.address(), memory.len());
        // In some simulations, so that the seeds that were kept play as before in the others.
        let disturbed = plan.seed % 4 == 1;
        Simulation { server, served, world, gauge, budget, stats, bounds, memory, disturbed, urged: false, turns: 0 }
    }

    /// What must be true after every turn.
    fn check(&mut self) {
        let holders = self.bounds.holders();
        let bound = |name: &str| holders.iter().find(|(holder, _)| *holder == name).expect("a holder").1 as usize;
        let windows = self.server.window_bytes();
        assert!(
            windows <= bound("receive buffers")
                && windows <= self.bounds.connections as usize * WINDOW_BYTES + 2 * BACKLOG_BYTES_ALL,
            "bounds: {windows} bytes of windows"
        );
        assert!(
            self.budget.reply_bytes() <= bound("replies"),
            "bounds: {} bytes of replies",
            self.budget.reply_bytes()
        );
        assert!(self.gauge.used_bytes() <= bound("files"), "bounds: {} bytes of blocks", self.gauge.used_bytes());
        assert!(
            self.server.peers() <= self.bounds.connections as usize + CLOSING_MAX,
            "bounds: {} peers",
            self.server.peers()
        );
        assert!(
            self.server.left() <= self.bounds.connections as usize + CLOSING_MAX,
            "bounds: {} sessions without a socket",
            self.server.left()
        );
        self.world.borrow().scribe.iter().for_each(Scribe::check_bound);
        self.served.check_turn();
        let refused = self.stats.counters.refused.get();
        assert_eq!(self.world.borrow().kernel.refused, refused, "descriptors: closed without a shutdown");
        assert_eq!(
            self.world.borrow().kernel.lent_buffers(),
            self.server.spare_buffers(),
            "shared buffers: not given back in the turn that saw them"
        );
    }

    fn turn(&mut self) {
        self.server.turn().expect("the simulated ring works");
        self.check();
        self.turns += 1;
        let world = self.world.borrow();
        let happened = world.kernel.events + world.kernel.submitted + world.steps;
        assert!(self.turns <= TURNS_MORE + TURNS_EACH * happened, "stall: {} turns for {happened} events", self.turns);
    }

    fn storm(&mut self) {
        // Steps at which signals come: one, or two.
        let mut signals: VecDeque<u64> = {
            let mut world = self.world.borrow_mut();
            // In the last sixth, so that there is a storm before.
            let early = world.storm_steps - world.kernel.random.number() % (world.storm_steps / 6 + 1);
            let count = if world.ends_early { 1 + world.kernel.random.below(2) } else { 0 };
            (0..count as u64).map(|number| early + number * 40).collect()
        };
        // When the second one came, in virtual nanoseconds.
        let (mut told, mut urged) = (0, None);
        while !self.world.borrow().is_over() || self.server.peers() + self.server.left() > 0 {
            self.turn();
            let mut world = self.world.borrow_mut();
            if self.disturbed && world.phase == Phase::Storm && world.steps.is_multiple_of(DISTURBED_STEPS) {
                world.kernel.disturb();
            }
            if world.phase == Phase::Storm && signals.front().is_some_and(|&due| world.steps > due) {
                signals.pop_front();
                told += i32::from(world.kernel.signal());
                world.ledger.borrow_mut().is_draining = true;
                urged = (told == 2).then_some(world.kernel.now);
                self.urged |= urged.is_some();
            }
            let late = urged.is_some_and(|urged| world.kernel.now > urged + URGED_NS_MAX);
            assert!(
                !late || world.kernel.faults.has(Fault::TimeStops),
                "stall: a second signal does not end the server"
            );
            if world.at_rest {
                drop(world);
                self.rest();
                break;
            }
            drop(world);
            if self.server.is_over() {
                let told = self.world.borrow().kernel.is_signalled();
                assert!(told, "stall: the server has ended and was not told to");
                self.world.borrow_mut().become_calm();
                break;
            }
        }
    }

    /// Nothing can happen any more: then everyone must have what they are owed.
    fn rest(&mut self) {
        let mut world = self.world.borrow_mut();
        if world.phase == Phase::Storm {
            world.become_calm();
            world.at_rest = false;
            drop(world);
            return self.storm();
        }
        assert!(world.is_over(), "stall: clients are left and nothing happens any more");
        assert_eq!(world.kernel.untaken_signals(), 0, "stall: signals that were not heard");
        drop(world);
        assert_eq!(self.server.peers(), 0, "leaks: connections whose clients are gone");
    }

    /// Everybody is gone: what the tree still asks for comes to its end.
    fn settle(&mut self) {
        self.world.borrow_mut().at_rest = false;
        let last = self.turns + SETTLING_TURNS;
        while !self.world.borrow().at_rest {
            assert!(self.turns < last, "stall: nobody is there, and the server goes on");
            self.turn();
        }
    }

    /// Behind a relay everything works again once nothing goes wrong any more.
    fn works_again(&mut self) {
        self.settle();
        self.world.borrow_mut().arrive_gently();
        while !self.world.borrow().is_over() || self.server.peers() > 0 {
            self.turn();
            assert!(!self.world.borrow().at_rest, "stall: the last client waits and nothing happens any more");
        }
        let attached = self.world.borrow().clients.last().is_some_and(|client| client.attached);
        assert!(attached, "relay: nobody can attach any more");
        self.settle();
    }

    /// Everybody is gone: so must be all that they had. Then the server ends.
    fn end(self) -> Figures {
        self.end_and(|_| ()).0
    }

    /// As [`end`](Self::end). `then` is called before the world is gone; its result comes with the figures.
    fn end_and<T>(mut self, then: impl FnOnce(&S) -> T) -> (Figures, T) {
        if !self.server.is_over() {
            if self.world.borrow().far.is_some() && !self.world.borrow().kernel.is_signalled() {
                self.works_again();
            }
            self.given_back();
            self.urged |= self.world.borrow().kernel.is_signalled();
            self.world.borrow_mut().kernel.signal();
            self.world.borrow_mut().at_rest = false;
            let told = self.world.borrow().kernel.now;
            while !self.server.is_over() {
                self.turn();
                let late = self.world.borrow().kernel.now > told + URGED_NS_MAX;
                assert!(!late || self.server.is_over(), "stall: a server without connections does not end in time");
                assert!(!self.world.borrow().at_rest || self.server.is_over(), "stall: the server does not end");
            }
        }
        self.given_back();
        // A server that was told twice to end leaves its asks where they are, and the operations that the tree has not ended.
        let left = Left { asks: !self.served.is_idle(self.server.fs()), sessions: self.server.left() > 0 };
        let kernel = &mut *self.server.ring();
        let at = At { wall: kernel.wall(), mono_ns: kernel.monotonic() };
        assert!(!left.asks || self.urged, "asks: the loop has ended, and the tree wants more");
        let files = self.world.borrow().kernel.open_files() - self.served.files();
        assert!(left.asks || files == 0, "leaks: {files} descriptors");
        let of_tree = self.served.check_end(self.server.fs(), at, left);
        let world = self.world.borrow();
        if let Some(scribe) = &world.scribe {
            let nothing_under_way = world.kernel.writes() == 0 && world.kernel.last_write_took_all;
            scribe.judge(&world.kernel.stderr, nothing_under_way);
            world.kernel.check_stuck();
        }
        drop(world);
        let then = then(&self.served);
        (self.figures(of_tree), then)
    }

    /// The figures of this simulation. After this call the simulated kernel does not look at the memory of the server any more.
    fn figures(&self, of_tree: Vec<(Fault, u64)>) -> Figures {
        memory::forget(self.memory.0, self.memory.1);
        let world = self.world.borrow();
        world.kernel.forget_buffers();
        let mut fired = world.kernel.faults.fired().to_vec();
        of_tree.iter().for_each(|&(fault, count)| fired[fault as usize] += count);
        let ledger = world.ledger.borrow();
        fired[Fault::GateHolds as usize] += ledger.let_out;
        fired[Fault::ReplyOvertakes as usize] += ledger.overtaken;
        Figures {
            digest: world.kernel.digest,
            steps: world.steps,
            events: world.kernel.events,
            submitted: world.kernel.submitted,
            requests: world.clients.iter().map(|client| client.requests).sum(),
            replies: world.clients.iter().map(|client| client.replies).sum(),
            operations: ledger.operations,
            checked: ledger.writes + ledger.answers,
            asks: self.served.asks(),
            accepted: self.stats.counters.accepted.get(),
            lasted_ns: world.kernel.now - 5_000_000_000,
            fired,
        }
    }

    fn given_back(&mut self) {
        let gauge = self.gauge;
        let left = Left { asks: !self.served.is_idle(self.server.fs()), sessions: self.server.left() > 0 };
        assert!(!left.sessions || self.urged, "leaks: sessions whose operations the tree has not ended");
        self.served.check_given_back(self.server.fs(), left);
        assert_eq!(self.server.peers(), 0, "leaks: connections");
        // What a relay sends and receives pins, and what a store writes; so may an operation that was left.
        let asks_pin = self.world.borrow().far.is_some() || self.served.files() > 0;
        if !(left.sessions || left.asks && asks_pin) {
            assert_eq!((gauge.pins(), gauge.granted_bytes()), (0, 0), "leaks: pins, bytes of grants");
        }
        let held = (self.server.fids(), self.budget.fids(), self.budget.reply_bytes(), self.budget.attr_bytes());
        assert!(left.sessions || held == (0, 0, 0, 0), "leaks: {held:?} fids, replies, attributes");
        assert_eq!(self.server.window_bytes(), 0, "leaks: windows");
        let writes = self.world.borrow().kernel.writes();
        assert!(
            self.server.asks() > 0 || self.server.patient() == writes,
            "leaks: operations that may be woken before they end"
        );
        let world = self.world.borrow();
        assert_eq!(
            (world.kernel.touching(), world.kernel.missing_buffers()),
            (0, self.server.spare_buffers()),
            "leaks: operations, shared buffers"
        );
    }
}

fn simulate(plan: &Plan) -> Figures {
    let faults = faults_of(plan.seed, &plan.without);
    match plan.serves {
        Serves::Tree => {
            let ledger = Ledger::new(faults.has(Fault::TreeLendsNothing), Slow::<Mem>::is_late(&faults));
            play(Simulation::new(plan, ledger, faults, Watched::begin))
        }
        Serves::Relay => {
            let ledger = Ledger::relayed(Far::dialect_of(plan.seed));
            play(Simulation::new(plan, ledger, faults, Relaying::begin))
        }
        Serves::Store => lives(plan),
    }
}

/// The lives of a store: each ends with a power cut but the last one, which ends in order.
fn lives(plan: &Plan) -> Figures {
    let mut random = Random::new(plan.seed ^ 0x5704e);
    let count = 2 + random.below(3) as u64;
    let (mut all, mut past) = (Figures::default(), Past::default());
    for life in 0..count {
        let is_last = life + 1 == count;
        let without = if is_last { storing::without_of_last(&plan.without) } else { plan.without.clone() };
        let plan = Plan { seed: plan.seed ^ life << 48, steps: plan.steps / count, without, ..plan.clone() };
        let faults = faults_of(plan.seed, &plan.without);
        let before = std::mem::take(&mut past);
        let mut simulation = Simulation::new(&plan, Ledger::stored(), faults, |parts| Storing::begin(parts, before));
        simulation.server.start().expect("the tree starts");
        let (figures, left);
        if is_last {
            simulation.storm();
            (figures, left) = simulation.end_and(|served| served.power_cut());
            storing::check_last(&left);
        } else {
            let steps = random.below(plan.steps as usize + 1) as u64;
            (figures, left) = simulation.until_cut(steps);
            if storing::flip(&left, &mut random) {
                all.count(Fault::StartRefused);
            }
            all.count(Fault::DiskFlips);
        }
        all.add(&figures);
        past = left;
    }
    all
}

impl Simulation<Storing> {
    /// Runs the server for `steps` steps, or until its log cannot be written. Then the power fails.
    fn until_cut(mut self, steps: u64) -> (Figures, Past) {
        while !self.served.has_failed() {
            let world = self.world.borrow();
            if world.steps >= steps || world.at_rest {
                break;
            }
            drop(world);
            self.turn();
        }
        let left = self.served.power_cut();
        (self.figures(Vec::new()), left)
    }
}

fn play<S: Served>(mut simulation: Simulation<S>) -> Figures {
    simulation.server.start().expect("the tree starts");
    simulation.storm();
    simulation.end()
}
