//! The far server of a relay: sessions over a watched tree. Its calls are late, fail or wait. It vanishes and comes back, refuses
//! connections or lets them hang, is silent for a while, and sends bytes that are not valid 9P.
//!
//! A reply that is valid says what the far server has executed, so the ledger compares with it what clients hear.
//!
//! Must not know: the ring, the relay.

use crate::kernel::faults::{Fault, Faults};
use crate::kernel::remote::Door;
use crate::kernel::{Kernel, trace};
use crate::ledger::Ledger;
use crate::random::Random;
use crate::watch::Watch;
use ring9::arena::Arena;
use ring9::fs::mem::{Mem, Options};
use ring9::fs::wrap::{Hook, Late, Times, Wrapped};
use ring9::fs::{At, Call, CallBuf, Cancel, Error, OpId, Outcome, Service, Show, Simple, Time};
use ring9::session::{self, Config, Session, Trust};
use ring9::wire::{self, Dialect, Kind, Message, Tag};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// How long it is away or silent, in virtual nanoseconds.
const TIMES_NS: &[u64] = &[1_000, 1_000_000, 300_000_000, 3_000_000_000, 25_000_000_000];
/// One of so many of its acts may be a fault of the far server as a whole, where the rate allows.
const ACTS: usize = 20;
/// What a call may fail with, whatever it is.
/// EIO is not among them: it is what a relay says of a connection that has failed.
const ERRORS: &[Error] = &[Error::EDQUOT, Error::ENOSPC, Error::EACCES, Error::ENOENT, Error::EINVAL, Error::EAGAIN];

type Tree = Wrapped<Wrapped<Simple<Watch<Mem>>, Late>, Failing>;

/// Calls fail without being made, and reads wait as those of a log do.
#[derive(Clone)]
struct Failing(Rc<RefCell<Failures>>);

struct Failures {
    random: Random,
    faults: Faults,
    /// Reads that wait until they are flushed, or until nothing else happens in the calm.
    held: BTreeMap<OpId, CallBuf>,
    /// Those of them that go on.
    freed: VecDeque<OpId>,
}

impl Hook for Failing {
    fn call<T: Service>(&mut self, tree: &mut T, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        // A close ends a file, and memory that has landed goes to the tree.
        let may_fail = !matches!(call, Call::Close { .. } | Call::Commit { .. });
        let Failures { random, faults, held, .. } = &mut *self.0.borrow_mut();
        if may_fail && faults.fires(Fault::FarFails, random) {
            return Outcome::now(Err(random.of(ERRORS)));
        }
        if matches!(call, Call::Read { .. }) && faults.fires(Fault::FarWaits, random) {
            held.insert(op, call.into());
            return Outcome::Waiting;
        }
        tree.call(op, call, show, at)
    }

    fn finish<T: Service>(&mut self, tree: &mut T, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let held = self.0.borrow_mut().held.remove(&op);
        match held {
            Some(call) => call.with(|call| tree.call(op, call, show, at)),
            None => tree.finish(op, show, at),
        }
    }

    fn cancel<T: Service>(&mut self, tree: &mut T, op: OpId) -> Cancel {
        let mut failures = self.0.borrow_mut();
        failures.freed.retain(|freed| *freed != op);
        if failures.held.remove(&op).is_some() { Cancel::Cancelled } else { tree.cancel(op) }
    }

    fn ready<T: Service>(&mut self, tree: &mut T) -> Option<OpId> {
        let freed = self.0.borrow_mut().freed.pop_front();
        freed.or_else(|| tree.ready())
    }

    fn has_work<T: Service>(&self, tree: &T) -> bool {
        !self.0.borrow().freed.is_empty() || tree.has_work()
    }
}

/// A request that has no reply yet.
struct Asked {
    kind: Kind,
    /// Most bytes that it asks for.
    count: u32,
    /// The tag that it flushes.
    oldtag: Option<Tag>,
}

/// A connection of the relay.
struct Peer {
    session: Session<Tree>,
    inbox: Vec<u8>,
    outbox: VecDeque<u8>,
    /// What was heard and is no whole message yet.
    unheard: Vec<u8>,
    /// Requests without a reply.
    asked: BTreeMap<Tag, Asked>,
    /// It has said what is no 9P. The relay has to end the connection.
    is_rubbish: bool,
    /// It was asked for more than a version.
    is_up: bool,
    /// Troubles so far when it was accepted.
    troubles: u64,
}

/// Something that it may do.
#[derive(Clone, Copy, Debug)]
enum Act {
    Accept,
    Hear(usize),
    Say(usize),
    /// The relay has ended the connection.
    End(usize),
    /// The tree goes on.
    Go,
    /// It is back, or speaks again.
    Wake,
}

/// The far server.
pub(crate) struct Far {
    tree: Tree,
    peers: BTreeMap<usize, Peer>,
    /// Sessions that are closed and whose operations have not ended.
    ending: BTreeMap<usize, Session<Tree>>,
    dialect: Dialect,
    msize: u32,
    random: Random,
    failing: Failing,
    /// Until when it is away, or silent.
    away: Option<u64>,
    silent: Option<u64>,
    /// Requests that it has heard.
    pub(crate) requests: u64,
}

impl Far {
    /// The dialect that the far server of this seed speaks.
    pub(crate) fn dialect_of(seed: u64) -> Dialect {
        Random::new(seed ^ 0xd1a1).of(&[Dialect::L, Dialect::L, Dialect::U, Dialect::P9])
    }

    pub(crate) fn new(seed: u64, faults: &Faults, ledger: Rc<RefCell<Ledger>>) -> Far {
        let mut random = Random::new(seed ^ 0xfa2);
        let files = random.of(&[10, 40, 40]);
        let arena = Arena::new(random.of(&[2 << 20, 4 << 20, 16 << 20])).expect("a small mapping");
        let options = Options { inodes_max: files, root: (0, 0, 0o777), ..Options::default() };
        let watch = Watch::new(Mem::new(arena, options), files, Random::new(random.number()), faults.clone(), ledger);
        let turns_max = if faults.has(Fault::FarLate) { random.of(&[1, 4, 20]) } else { 0 };
        let gates = if turns_max > 0 { random.of(&[0, 0, 2, 10]) } else { 0 };
        let late = Late::new(Times { seed, turns_max, gates, grants: random.one_in(2) });
        let (held, freed) = (BTreeMap::new(), VecDeque::new());
        let failures = Failures { random: Random::new(random.number()), faults: faults.clone(), held, freed };
        let failing = Failing(Rc::new(RefCell::new(failures)));
        let mut tree = Wrapped::new(Wrapped::new(Simple::from(watch), late), failing.clone());
        tree.init(at(0)).expect("the tree starts");
        Far {
            tree,
            peers: BTreeMap::new(),
            ending: BTreeMap::new(),
            dialect: Far::dialect_of(seed),
            msize: random.of(&[8192, 20_000, 66_000, 1 << 20]),
            random,
            failing,
            away: None,
            silent: None,
            requests: 0,
        }
    }

    /// The relay can ask for something, and will be answered: it has agreed on a version, and nothing is wrong.
    pub(crate) fn is_talking(&self, kernel: &Kernel) -> bool {
        let talks = |(&number, peer): (&usize, &Peer)| {
            peer.session.dialect().is_some() && !peer.is_rubbish && !kernel.is_over(number)
        };
        self.away.is_none() && self.silent.is_none() && self.peers.iter().any(talks)
    }

    /// When it comes back, or speaks again.
    pub(crate) fn next_change(&self) -> Option<u64> {
        self.away.or(self.silent)
    }

    /// From now on nothing goes wrong. Where it has talked rubbish it still waits for the end.
    pub(crate) fn calm(&mut self, kernel: &mut Kernel) {
        (self.away, self.silent) = (None, None);
        kernel.set_door(Door::Open);
        for number in self.peers.iter().filter(|(_, peer)| peer.is_rubbish).map(|(&number, _)| number) {
            kernel.far_ends(number, false);
        }
        self.failing.0.borrow_mut().faults.calm();
    }

    /// Reads that wait go on.
    pub(crate) fn free_held(&mut self) {
        let failures = &mut *self.failing.0.borrow_mut();
        failures.freed.extend(failures.held.keys());
    }

    /// What has gone wrong so far with connections of the relay, and with the time that its timers measure.
    pub(crate) fn troubles(kernel: &Kernel) -> u64 {
        let kinds = [
            Fault::FarVanishes,
            Fault::FarRefuses,
            Fault::FarHangs,
            Fault::FarSilent,
            Fault::FarTalksRubbish,
            Fault::AskFails,
            Fault::TimeStops,
        ];
        kinds.iter().map(|&fault| kernel.faults.fired()[fault as usize]).sum()
    }

    /// Reads that wait until they are flushed.
    pub(crate) fn held(&self) -> usize {
        self.failing.0.borrow().held.len()
    }

    /// Nothing happens before a timer ends: then the relay has ended each connection on which it was told what is no 9P.
    pub(crate) fn check_rubbish(&self, kernel: &Kernel) {
        let ends_all = self
            .peers
            .iter()
            .all(|(&number, peer)| !(peer.is_rubbish && peer.is_up) || self.silent.is_some() || kernel.is_over(number));
        assert!(ends_all, "relay: it goes on with a server that talks rubbish");
    }

    fn acts(&self, kernel: &Kernel) -> Vec<Act> {
        let mut acts = Vec::new();
        if let Some(until) = self.next_change() {
            acts.extend((until <= kernel.now).then_some(Act::Wake));
            return acts;
        }
        if kernel.has_arrived() {
            acts.push(Act::Accept);
        }
        for (&number, peer) in &self.peers {
            if kernel.is_over(number) {
                acts.push(Act::End(number));
                continue;
            }
            if kernel.unheard(number) > 0 && !peer.is_rubbish {
                acts.push(Act::Hear(number));
            }
            if !peer.outbox.is_empty() && kernel.far_room(number) > 0 {
                acts.push(Act::Say(number));
            }
        }
        if self.tree.has_work() {
            acts.push(Act::Go);
        }
        acts
    }

    pub(crate) fn can_act(&self, kernel: &Kernel) -> bool {
        !self.acts(kernel).is_empty()
    }

    /// One of the things that it can do.
    pub(crate) fn act(&mut self, kernel: &mut Kernel) {
        let acts = self.acts(kernel);
        let act = self.random.of(&acts);
        if !matches!(act, Act::Wake) {
            self.errs(kernel);
            if self.next_change().is_some() {
                return;
            }
        }
        let at = at(kernel.now);
        match act {
            Act::Accept => {
                if let Some(number) = kernel.take_arrived() {
                    self.accept(number, Far::troubles(kernel));
                }
            }
            Act::Hear(number) => {
                let n = self.random.part(kernel.unheard(number));
                let bytes = kernel.hear(number, n);
                self.hear(number, &bytes, at, kernel);
            }
            Act::Say(number) => {
                let peer = self.peers.get_mut(&number).expect("it is there");
                let n = self.random.part(peer.outbox.len().min(kernel.far_room(number)));
                kernel.far_says(number, peer.outbox.drain(..n));
            }
            Act::End(number) => {
                // A far server that was silent before it has accepted this may be too late with its version.
                let peer = &self.peers[&number];
                let may_end = !peer.is_up || Far::troubles(kernel) > peer.troubles || kernel.is_signalled();
                assert!(may_end, "relay: it ends a connection with which nothing is wrong");
                self.end(number, at);
            }
            Act::Go => self.go_on(at, kernel),
            Act::Wake => {
                (self.away, self.silent) = (None, None);
                kernel.set_door(Door::Open);
            }
        }
    }

    fn accept(&mut self, number: usize, troubles: u64) {
        let config = Config { trust: Trust::All, ..Config::new(number as u32, self.msize) };
        let peer = Peer {
            session: Session::new(config),
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            unheard: Vec::new(),
            asked: BTreeMap::new(),
            is_rubbish: false,
            is_up: false,
            troubles,
        };
        self.peers.insert(number, peer);
    }

    fn end(&mut self, number: usize, at: At) {
        let mut peer = self.peers.remove(&number).expect("it is there");
        peer.session.close(&mut self.tree, at);
        if peer.session.is_ending() {
            self.ending.insert(number, peer.session);
        }
    }

    /// What goes wrong with all of it.
    fn errs(&mut self, kernel: &mut Kernel) {
        if !self.random.one_in(ACTS) {
            return;
        }
        let Kernel { random, faults, .. } = kernel;
        let until = Some(kernel.now + self.random.of(TIMES_NS));
        if faults.fires(Fault::FarVanishes, random) {
            let door = if faults.fires(Fault::FarHangs, random) {
                Door::Hangs
            } else if faults.fires(Fault::FarRefuses, random) {
                Door::Refuses
            } else {
                Door::Open
            };
            let reset = self.random.one_in(2);
            self.vanish(kernel, reset);
            kernel.set_door(door);
            self.away = until;
        } else if faults.fires(Fault::FarSilent, random) {
            self.silent = until;
        } else if let Some(&number) = self.peers.keys().next_back()
            && !self.peers[&number].is_rubbish
            && kernel.faults.fires(Fault::FarTalksRubbish, &mut kernel.random)
        {
            self.talk_rubbish(number);
        }
    }

    /// All connections end.
    pub(crate) fn vanish(&mut self, kernel: &mut Kernel, reset: bool) {
        while let Some(number) = kernel.take_arrived() {
            kernel.far_ends(number, reset);
        }
        let at = at(kernel.now);
        for number in self.peers.keys().copied().collect::<Vec<_>>() {
            kernel.far_ends(number, reset);
            self.end(number, at);
        }
    }

    /// It hears bytes, all of which must be requests that it can serve.
    fn hear(&mut self, number: usize, bytes: &[u8], at: At, kernel: &Kernel) {
        let peer = self.peers.get_mut(&number).expect("it is there");
        peer.unheard.extend_from_slice(bytes);
        while let Some(head) = wire::head(&peer.unheard).filter(|head| head.size as usize <= peer.unheard.len()) {
            let mut frame: Vec<u8> = peer.unheard.drain(..head.size as usize).collect();
            let dialect = Dialect::ALL.into_iter().find(|one| Some(one.name()) == peer.session.dialect());
            let parsed = Message::parse(&frame, dialect.unwrap_or(Dialect::L));
            let (tag, message) = parsed.unwrap_or_else(|error| panic!("relay: it says what is no message: {error:?}"));
            self.requests += 1;
            trace!(kernel, "remote {number} > {}", message.line(tag, dialect.unwrap_or(Dialect::L)));
            let mut asked = Asked { kind: message.kind(), count: 0, oldtag: None };
            match message {
                Message::Tread { count, .. } => asked.count = count,
                Message::Tflush { oldtag } => asked.oldtag = Some(oldtag),
                _ => {}
            }
            let before = peer.asked.insert(tag, asked);
            assert!(before.is_none(), "relay: it uses tag {tag} for two requests");
            peer.is_up |= message.kind() != Kind::TVERSION;
            if let Message::Tversion { msize, version } = message
                && Dialect::negotiate(version).is_some_and(|asked| asked > self.dialect)
            {
                // A server that does not know a dialect takes it for the plain one (version(9P)).
                let unknown = Message::Tversion { msize, version: b"9P2000.x" };
                frame.clear();
                unknown.emit(tag, Dialect::L, &mut frame);
            }
            peer.inbox.extend_from_slice(&frame);
            serve(number, peer, &mut self.tree, at, kernel);
        }
    }

    /// The tree goes on, and so do those who have waited for it.
    fn go_on(&mut self, at: At, kernel: &Kernel) {
        while let Some(op) = self.tree.ready() {
            let number = op.peer as usize;
            let here = self.peers.get_mut(&number).map(|peer| &mut peer.session);
            match here.or_else(|| self.ending.get_mut(&number)) {
                Some(session) => session.complete(&mut self.tree, op, at),
                None => {
                    session::discard(&mut self.tree, op, at);
                }
            }
            self.ending.retain(|_, session| session.is_ending());
        }
        for (&number, peer) in self.peers.iter_mut().filter(|(_, peer)| !peer.is_rubbish) {
            serve(number, peer, &mut self.tree, at, kernel);
        }
    }

    /// Behind the last whole reply comes what is none. It says nothing more then.
    fn talk_rubbish(&mut self, number: usize) {
        let random = &mut self.random;
        let peer = self.peers.get_mut(&number).expect("it is there");
        peer.is_rubbish = true;
        let of = |kind: Kind| {
            peer.asked.iter().find(|(_, asked)| asked.kind == kind).map(|(&tag, asked)| (tag, asked.count))
        };
        let mut frame = Vec::new();
        let dialect = self.dialect;
        let mut say = |message: Message<'_>, tag: Tag| message.emit(tag, dialect, &mut frame);
        let any = peer.asked.keys().next().copied().unwrap_or(300);
        match random.below(9) {
            0 => say(Message::Rclunk {}, 60_000),
            1 => say(Message::Rwrite { count: 5 }, !0),
            2 => say(Message::Tclunk { fid: 1 }, any),
            3 => say(Message::Rversion { msize: 100, version: b"9P2000" }, any),
            4 => {
                let (tag, count) = of(Kind::TREAD).unwrap_or((any, 20));
                let data = vec![7; count as usize + 1];
                say(Message::Rread { data: wire::Data::Here(&data) }, tag);
            }
            5 => frame.extend_from_slice(&[3, 0, 0, 0, 120, 0, 0]),
            6 => frame.extend_from_slice(&[0xff, 0xff, 0xff, 0x7f, 117, 1, 0]),
            7 => frame.extend_from_slice(&[11, 0, 0, 0, 111, any as u8, (any >> 8) as u8, 9, 9, 9, 9]),
            _ => frame.extend((0..40).map(|_| random.number() as u8 | 0x80)),
        }
        peer.outbox.extend(frame);
    }

    /// Nobody is there any more, on either side.
    pub(crate) fn end_all(&mut self, kernel: &mut Kernel) -> [(Fault, u64); 3] {
        self.vanish(kernel, false);
        let at = at(kernel.now);
        for _ in 0..100_000 {
            if !self.tree.has_work() {
                break;
            }
            self.go_on(at, kernel);
        }
        assert!(!self.tree.has_work() && self.held() == 0, "leaks: operations of the far server");
        self.check_closed();
        let late = u64::from(kernel.faults.has(Fault::FarLate));
        let watch: &mut Watch<Mem> = self.tree.inner().inner();
        watch.check_all_and_remove(at, false);
        let arena = watch.inner().arena();
        assert_eq!(arena.free_bytes(), arena.usable_bytes(), "leaks: blocks of the far server");
        let memory = arena.memory();
        crate::kernel::memory::forget(memory.address(), memory.len());
        let failures = self.failing.0.borrow();
        let fired = |fault: Fault| (fault, failures.faults.fired()[fault as usize]);
        [fired(Fault::FarFails), fired(Fault::FarWaits), (Fault::FarLate, late)]
    }

    /// The relay has no file any more.
    pub(crate) fn check_closed(&mut self) {
        let fids: usize = self.peers.values().map(|peer| peer.session.fids()).sum();
        assert_eq!(fids, 0, "leaks: fids at the far server");
        let watch: &mut Watch<Mem> = self.tree.inner().inner();
        assert_eq!(watch.handles(), 0, "leaks: files at the far server");
        assert_eq!(watch.inner().locks(), 0, "leaks: locks at the far server");
    }
}

/// Serves what has come, and takes the replies.
fn serve(number: usize, peer: &mut Peer, tree: &mut Tree, at: At, kernel: &Kernel) {
    loop {
        let received = peer.session.receive(tree, at, &peer.inbox);
        let received = received.unwrap_or_else(|why| panic!("relay: the far server cannot go on with it: {why}"));
        peer.inbox.drain(..received.consumed);
        while let Some(mut batch) = peer.session.take(tree) {
            let bytes = batch.to_vec();
            let mut rest = &bytes[..];
            while let Some(head) = wire::head(rest) {
                let (frame, behind) = rest.split_at(head.size as usize);
                let dialect = Dialect::ALL.into_iter().find(|one| Some(one.name()) == peer.session.dialect());
                let dialect = dialect.unwrap_or(Dialect::L);
                let (tag, reply) = Message::parse(frame, dialect).expect("a reply of a session");
                trace!(kernel, "remote {number} < {}", reply.line(tag, dialect));
                let asked = peer.asked.remove(&tag);
                let kind = asked.as_ref().map(|asked| asked.kind);
                // A walk that was flushed may have made its fid or not, so the relay clunks it.
                assert!(
                    error_of(&reply) != Some(Error::EBADF) || kind == Some(Kind::TCLUNK),
                    "relay: its {kind:?} names a fid that the far server does not have, or has already"
                );
                // What was flushed has its reply, or never has one.
                if let Some(oldtag) = asked.and_then(|asked| asked.oldtag) {
                    peer.asked.remove(&oldtag);
                }
                rest = behind;
            }
            peer.outbox.extend(bytes);
            batch.advance(batch.len(), |_| ());
            peer.session.recycle(batch);
        }
        if received.consumed == 0 && !received.need.again {
            return;
        }
    }
}

/// The error that a reply says, if it is one.
pub(crate) fn error_of(reply: &Message<'_>) -> Option<Error> {
    match *reply {
        Message::Rlerror { ecode } => u16::try_from(ecode).ok().map(Error),
        Message::Rerror { ename, .. } => Error::from_text(ename),
        _ => None,
    }
}

/// Its clock.
fn at(now: u64) -> At {
    let wall = Time { sec: 1_700_000_000 + (now / 1_000_000_000) as i64, nsec: (now % 1_000_000_000) as u32 };
    At { wall, mono_ns: now }
}
