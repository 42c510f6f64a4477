//! A relay and its far server in one process: a real session over a tree, and a loop that executes the relay's asks, in
//! pieces of random size and in random order. A far server may speak older dialects, vanish, be silent, or send rubbish.

#![allow(dead_code, unreachable_pub, reason = "each user needs a part of it")]

use ring9::arena::Arena;
use ring9::fs::{
    Answer, Ask, AskId, At, Call, Cancel, Done, Error, FileId, Grant, Iovec, OpId, Open, Outcome, Payload, Remote,
    Result, Service, Show, User,
};
use ring9::relay::{Config, Relay};
use ring9::session::{self, Session, Trust};
use ring9::wire::{self, Dialect, Kind, Message};
use std::collections::{BTreeMap, VecDeque};

/// A connection as the far server has it.
pub struct Peer<S: Service> {
    session: Session<S>,
    inbox: Vec<u8>,
    /// The message that is not whole yet.
    unheard: Vec<u8>,
    outbox: VecDeque<u8>,
    /// Either side has ended it.
    is_shut: bool,
    dialect: Dialect,
}

/// The far server, and the loop between.
pub struct Far<S: Service> {
    pub tree: S,
    pub peers: BTreeMap<i32, Peer<S>>,
    /// The best dialect that it speaks.
    pub dialect: Dialect,
    pub msize: u32,
    /// Connections are refused.
    pub refuses: bool,
    /// Nothing that it says arrives.
    pub is_silent: bool,
    /// Large payloads come to nothing: a receive of a whole one does not end.
    pub stalls_payloads: bool,
    /// The largest piece that is moved at once, in bytes.
    pub piece_max: usize,
    in_flight: Vec<(AskId, Ask)>,
    next_fd: i32,
    random: u64,
    /// Requests that have come, by their types.
    pub heard: Vec<Kind>,
    /// The tag of the last one.
    pub tag: u16,
    /// Sizes of receives into memory of the arena, and of views of it that were sent.
    pub landed: Vec<usize>,
    pub gathered: usize,
}

impl<S: Service> Far<S> {
    pub fn new(tree: S, seed: u64) -> Far<S> {
        Far {
            tree,
            peers: BTreeMap::new(),
            dialect: Dialect::L,
            msize: 64 << 10,
            refuses: false,
            is_silent: false,
            stalls_payloads: false,
            piece_max: 100_000,
            in_flight: Vec::new(),
            next_fd: 3,
            random: seed,
            heard: Vec::new(),
            tag: 0,
            landed: Vec::new(),
            gathered: 0,
        }
    }

    /// A number below `end` (splitmix64).
    pub fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    /// All connections end.
    pub fn vanish(&mut self, at: At) {
        for peer in self.peers.values_mut() {
            peer.is_shut = true;
            peer.outbox.clear();
            peer.session.close(&mut self.tree, at);
        }
    }

    /// What it has said and has not arrived never does.
    pub fn forget(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.outbox.clear());
    }

    /// These bytes come next from the far server.
    pub fn says(&mut self, bytes: &[u8]) {
        self.peers.values_mut().for_each(|peer| peer.outbox.extend(bytes));
    }

    /// Connections that are open here.
    pub fn connections(&self) -> usize {
        self.peers.len()
    }

    /// Asks in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Executes one ask. False: none of them can go on.
    pub fn step(&mut self, relay: &mut Relay, at: At) -> bool {
        while self.in_flight.len() < 16 {
            let Some(asked) = relay.ask() else { break };
            assert!(self.in_flight.iter().all(|(id, _)| *id != asked.0), "a name that is in use");
            self.in_flight.push(asked);
        }
        let count = self.in_flight.len();
        let first = self.below(count);
        for at_place in 0..count {
            let (id, mut ask) = self.in_flight.swap_remove((first + at_place) % count);
            match self.execute(&mut ask, at) {
                Some(result) => {
                    relay.answered(id, ask, result, at);
                    return true;
                }
                None => {
                    self.in_flight.push((id, ask));
                    let last = count - 1;
                    self.in_flight.swap((first + at_place) % count, last);
                }
            }
        }
        false
    }

    /// Executes asks until none can go on.
    pub fn settle(&mut self, relay: &mut Relay, at: At) {
        while self.step(relay, at) {}
    }

    /// All timers end. Returns how long each was to run, in nanoseconds.
    pub fn ring(&mut self, relay: &mut Relay, at: At) -> Vec<u64> {
        let (timers, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.in_flight).into_iter().partition(|(_, ask)| matches!(ask, Ask::Timer { .. }));
        self.in_flight = rest;
        let ring = |(id, ask): (AskId, Ask)| {
            let Ask::Timer { ns } = ask else { unreachable!("only timers are taken out") };
            relay.answered(id, ask, Ok(0), at);
            ns
        };
        timers.into_iter().map(ring).collect()
    }

    fn execute(&mut self, ask: &mut Ask, at: At) -> Option<Result<u32>> {
        match ask {
            Ask::Connect { .. } if self.refuses => Some(Err(Error(111))),
            Ask::Connect { .. } => {
                let config =
                    session::Config { trust: Trust::All, ..session::Config::new(self.next_fd as u32, self.msize) };
                let (inbox, unheard, outbox) = (Vec::new(), Vec::new(), VecDeque::new());
                let session = Session::new(config);
                let peer = Peer { session, inbox, unheard, outbox, is_shut: false, dialect: self.dialect };
                self.peers.insert(self.next_fd, peer);
                self.next_fd += 1;
                Some(Ok(self.next_fd as u32 - 1))
            }
            Ask::Send { socket, data, .. } => {
                let fd = socket.0;
                if self.peers.get(&fd).expect("a socket that is open").is_shut {
                    return Some(Err(Error::EPIPE));
                }
                assert!(data.left() > 0 && data.views().count() <= 128);
                let n = 1 + self.below(data.left().min(self.piece_max));
                self.gathered += data.parts().filter(|(_, pinned)| *pinned).count();
                let bytes: Vec<u8> = data.views().flatten().copied().take(n).collect();
                self.feed(fd, &bytes, at);
                Some(Ok(n as u32))
            }
            Ask::Receive { socket, into, whole } => {
                let piece = 1 + self.below(self.piece_max);
                let peer = self.peers.get_mut(&socket.0).expect("a socket that is open");
                let left = into.left();
                assert!(left > 0);
                let there = peer.outbox.len().min(left);
                let n = if *whole { there } else { there.min(piece) };
                if *whole && self.stalls_payloads && !peer.is_shut {
                    return None;
                }
                if n < left && *whole && !peer.is_shut || n == 0 && !peer.is_shut || self.is_silent && !peer.is_shut {
                    return None;
                }
                if into.space.left() > 0 {
                    self.landed.push(n);
                }
                let mut bytes = peer.outbox.drain(..n);
                for view in into.views() {
                    view.iter_mut().zip(&mut bytes).for_each(|(room, byte)| *room = byte);
                }
                drop(bytes);
                Some(Ok(n as u32))
            }
            Ask::Timer { .. } => None,
            Ask::Cancel { of } => {
                let Some(found) = self.in_flight.iter().position(|(id, _)| id == of) else {
                    return Some(Err(Error::ENOENT));
                };
                match &self.in_flight[found].1 {
                    Ask::Send { socket, .. } | Ask::Receive { socket, .. } => {
                        let peer = self.peers.get_mut(&socket.0).expect("a socket that is open");
                        peer.is_shut = true;
                        peer.outbox.clear();
                    }
                    _ => self.in_flight[found].1 = Ask::Cancel { of: AskId(0) },
                }
                Some(Ok(0))
            }
            Ask::Close { descriptor } => {
                let names = |ask: &Ask| match ask {
                    Ask::Send { socket, .. } | Ask::Receive { socket, .. } => socket == descriptor,
                    _ => false,
                };
                assert!(!self.in_flight.iter().any(|(_, ask)| names(ask)), "it is closed while it is in use");
                let mut peer = self.peers.remove(&descriptor.0).expect("a socket that is open");
                peer.session.close(&mut self.tree, at);
                Some(Ok(0))
            }
            other => panic!("a relay does not ask for {other:?}"),
        }
    }

    /// Shows bytes to the session, and takes its replies.
    fn feed(&mut self, fd: i32, bytes: &[u8], at: At) {
        let Far { tree, peers, heard, tag, .. } = self;
        let peer = peers.get_mut(&fd).expect("a socket that is open");
        peer.inbox.extend_from_slice(bytes);
        peer.unheard.extend_from_slice(bytes);
        while let Some(head) = wire::head(&peer.unheard).filter(|head| head.size as usize <= peer.unheard.len()) {
            heard.push(head.kind);
            *tag = u16::from_le_bytes([peer.unheard[5], peer.unheard[6]]);
            peer.unheard.drain(..head.size as usize);
        }
        Self::negotiate(peer);
        loop {
            let Ok(received) = peer.session.receive(tree, at, &peer.inbox) else {
                peer.is_shut = true;
                return;
            };
            peer.inbox.drain(..received.consumed);
            while let Some(mut batch) = peer.session.take(tree) {
                peer.outbox.extend(batch.to_vec());
                batch.advance(batch.len(), |_| ());
                peer.session.recycle(batch);
            }
            while let Some(op) = tree.ready() {
                peer.session.complete(tree, op, at);
            }
            if received.consumed == 0 && !received.need.held {
                return;
            }
            if received.consumed == 0 {
                panic!("the far server waits for ever");
            }
        }
    }

    /// A server that does not know a dialect takes it for the plain one (version(9P)).
    fn negotiate(peer: &mut Peer<S>) {
        let Some(head) = wire::head(&peer.inbox).filter(|head| head.kind == Kind::TVERSION) else { return };
        let Ok((tag, Message::Tversion { msize, version })) = Message::parse(&peer.inbox, Dialect::L) else { return };
        if Dialect::negotiate(version).is_some_and(|dialect| dialect > peer.dialect) {
            let mut frame = Vec::new();
            Message::Tversion { msize, version: b"9P2000.x" }.emit(tag, Dialect::L, &mut frame);
            assert_eq!(frame.len() as u32, head.size);
            peer.inbox = frame;
        }
    }
}

/// A relay to the far server of a test.
pub fn relay_to(msize: u32, arena: Arena) -> Relay {
    let to = Remote::Unix(b"/far".as_slice().into());
    Relay::new(Config { to, aname: None, msize, users: std::sync::Arc::default() }, arena)
}

/// A relay that answers at once: its far server is served in between.
pub struct Relayed<S: Service> {
    pub relay: Relay,
    pub far: Far<S>,
}

impl<S: Service> Relayed<S> {
    pub fn new(far: Far<S>) -> Relayed<S> {
        Relayed { relay: relay_to(far.msize, Arena::new(32 << 20).expect("a mapping")), far }
    }

    /// Executes asks until this operation can go on.
    fn wait(&mut self, op: OpId, at: At) {
        loop {
            while let Some(ready) = self.relay.ready() {
                if ready == op {
                    return;
                }
            }
            assert!(self.far.step(&mut self.relay, at), "nothing ends it");
        }
    }

    /// The numbers of the far tree, which is asked beside its connection.
    fn numbers(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let user = User { uid: 0, gid: Some(0), vouched: true, peer: 1 };
        let tree = &mut self.far.tree;
        let Outcome::Done(Answer { result: Ok(Done::File { file, .. }), .. }) =
            tree.call(op, Call::Attach { user, aname: b"" }, Show::Nothing, at)
        else {
            panic!("the tree is there");
        };
        let outcome = tree.call(op, Call::StatFs { file }, show, at);
        tree.call(op, Call::Close { file }, Show::Nothing, at);
        outcome
    }

    /// One call, and all that it takes.
    fn call_once(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        // A call that has to wait shows nothing yet.
        let mut unused = Iovec::default();
        let first = match &show {
            Show::Data(out) => Show::Data(unused.out(out.room())),
            _ => Show::Nothing,
        };
        match self.relay.call(op, call, first, at) {
            Outcome::Done(Answer { result, gate }) => {
                assert!(unused.is_empty());
                // A close answers before the far server has heard of it.
                self.far.settle(&mut self.relay, at);
                Outcome::Done(Answer { result, gate })
            }
            _ => {
                self.wait(op, at);
                let outcome = self.relay.finish(op, show, at);
                self.far.settle(&mut self.relay, at);
                outcome
            }
        }
    }
}

impl<S: Service> Service for Relayed<S> {
    const FILE_BYTES: usize = Relay::FILE_BYTES;

    fn init(&mut self, at: At) -> Result<()> {
        self.far.tree.init(at)?;
        self.relay.init(at)
    }

    /// The suite lists directories that nobody has opened, which no session does: each listing has an open file.
    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let dir = match call {
            Call::List { dir, .. } => dir,
            // And it goes on with files that are removed, whose fid the far server has clunked.
            Call::Remove { file } => file,
            // It wants numbers that older dialects do not have.
            Call::StatFs { .. } if self.far.dialect != Dialect::L => return self.numbers(op, show, at),
            call => return self.call_once(op, call, show, at),
        };
        let walk = Call::Walk { from: dir, names: wire::Names::list(&[]), dots: false };
        let walked = self.call_once(op, walk, Show::Steps(&mut |_| ()), at);
        let Outcome::Done(Answer { result: Ok(Done::Walked(Some(file))), .. }) = walked else { return walked };
        let Call::List { cookie, stats, .. } = call else {
            let removed = self.call_once(op, Call::Remove { file }, Show::Nothing, at);
            self.call_once(op, Call::Close { file }, Show::Nothing, at);
            return removed;
        };
        let flags = Open { read: true, ..Open::NONE };
        let opened = self.call_once(op, Call::Open { file, flags }, Show::Nothing, at);
        let listed = match opened {
            Outcome::Done(Answer { result: Ok(_), .. }) => {
                self.call_once(op, Call::List { dir: file, cookie, stats }, show, at)
            }
            failed => failed,
        };
        self.call_once(op, Call::Close { file }, Show::Nothing, at);
        listed
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        self.relay.cancel(op)
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        self.relay.grant(file, offset, count, at)
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        self.relay.extend(file, grant)
    }

    fn ready(&mut self) -> Option<OpId> {
        assert_eq!(self.far.tree.ready(), None, "nothing of the far tree waits");
        None
    }

    fn has_work(&self) -> bool {
        self.far.tree.has_work()
    }

    fn tick(&mut self, at: At) {
        self.far.tree.tick(at);
    }

    fn spent(&mut self) -> u32 {
        self.far.tree.spent();
        0
    }

    fn cleanup(&mut self) -> Result<()> {
        let at = At::default();
        self.relay.retire(at);
        self.far.settle(&mut self.relay, at);
        assert!(!self.relay.has_asks() && self.far.in_flight() == 0 && self.far.connections() == 0);
        self.relay.cleanup()?;
        self.far.tree.cleanup()
    }
}
