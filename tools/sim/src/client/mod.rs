//! A client: its habits, what it has asked and not heard yet, and how it talks, listens and leaves.
//!
//! - `talk`: the requests.
//! - `hear`: the replies, and what must be true of them.
//! - `scripted`: one that only says what it was given.
//!
//! Must not know: the server, the ring.

mod hear;
pub(crate) mod scripted;
mod talk;

use crate::kernel::faults::{Fault, Faults};
use crate::kernel::socket::Socket;
use crate::ledger::{Asked, Ledger};
use crate::random::Random;
use bytes::BytesMut;
use ring9::wire::{Dialect, Kind, Tag};

/// What a client does that it should not.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    drips: bool,
    stalls: bool,
    vanishes: bool,
    resets: bool,
    never_reads: bool,
    talks_rubbish: bool,
    reuses_tags: bool,
    /// Asks for the same again and again, without waiting for an answer.
    hoards: bool,
}

/// A request that has no reply yet.
#[derive(Clone, Debug)]
struct Ask {
    tag: Tag,
    /// `None` for one that can only be refused.
    kind: Option<Kind>,
    /// Most bytes that may be read, or that were to be written.
    count: u32,
    /// Where a read begins.
    offset: u64,
    /// The tag that a flush names.
    oldtag: Tag,
    /// Names of a walk.
    names: usize,
    /// It clunks or writes what may be an attribute that is to be set.
    of_attr: bool,
    /// The fid that the request gives another meaning, and the one that it has if that fails.
    changes: Option<(usize, Fid)>,
}

/// What a fid stands for, as far as the client knows: it believes that what it asks for will be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fid {
    Free,
    Walked,
    File,
    Dir { cookie: u64 },
}

const FIDS: usize = 8;

/// How far a client is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Here,
    /// Says nothing more, and hears the rest.
    Leaving,
    Gone,
}

/// One client on one connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u32,
    dialect: Dialect,
    agreed: bool,
    /// A Tattach was answered as asked.
    pub(crate) attached: bool,
    /// It begins as it should.
    is_gentle: bool,
    /// The troubles of the connections to a far server when it asked for the version that holds, and for the next one.
    troubles: [Option<u64>; 2],
    /// It was told that its files are gone.
    has_lost: bool,
    msize: u32,
    uid: u32,
    /// Says to the tree which connection it is.
    aname: String,
    habits: Habits,
    depth: usize,
    /// Requests that it has still in mind.
    left: usize,
    saying: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    asks: Vec<Ask>,
    fids: [Fid; FIDS],
    changes: Option<(usize, Fid)>,
    tag: Tag,
    serial: u64,
    life: Life,
    /// It stays in the middle of something.
    stalled: bool,
    /// What it hears may be anything.
    lenient: bool,
    out: BytesMut,
    pub(crate) requests: u64,
    pub(crate) replies: u64,
    /// A line per message.
    pub(crate) trace: Option<Vec<String>>,
}

/// What a client needs of the world.
pub(crate) struct Surroundings<'a> {
    pub(crate) socket: &'a mut Socket,
    pub(crate) random: &'a mut Random,
    pub(crate) ledger: &'a mut Ledger,
}

impl Client {
    pub(crate) fn new(number: u32, uid: u32, random: &mut Random, faults: &mut Faults) -> Client {
        let mut has = |fault: Fault| {
            let has = faults.has(fault) && random.one_in(6);
            if has {
                faults.count(fault);
            }
            has
        };
        let habits = Habits {
            drips: has(Fault::PeerDrips),
            stalls: has(Fault::PeerStalls),
            vanishes: has(Fault::PeerVanishes),
            resets: has(Fault::PeerResets),
            never_reads: has(Fault::PeerNeverReads),
            talks_rubbish: has(Fault::PeerTalksRubbish),
            reuses_tags: has(Fault::PeerReusesTags),
            hoards: has(Fault::PeerHoards),
        };
        Client {
            number,
            dialect: random.of(&[Dialect::P9, Dialect::U, Dialect::L, Dialect::L]),
            agreed: false,
            attached: false,
            is_gentle: false,
            troubles: [None; 2],
            has_lost: false,
            msize: random.of(&[4096, 9000, 66_000, 1 << 20]),
            uid,
            aname: format!("c{number}"),
            habits,
            depth: if habits.hoards { 700 } else { random.of(&[1, 2, 8, 40, 600]) },
            left: if habits.hoards { 2000 } else { 1 + random.below(400) },
            saying: Vec::new(),
            said: 0,
            heard: Vec::new(),
            asks: Vec::new(),
            fids: [Fid::Free; FIDS],
            changes: None,
            tag: 0,
            serial: 0,
            life: Life::Here,
            stalled: false,
            lenient: false,
            out: BytesMut::new(),
            requests: 0,
            replies: 0,
            trace: None,
        }
    }

    /// One that behaves, for the calm.
    pub(crate) fn gentle(number: u32, uid: u32, random: &mut Random) -> Client {
        let mut client = Client::new(number, uid, random, &mut Faults::none());
        (client.left, client.is_gentle) = (30, true);
        client
    }

    /// So many requests, said without hearing anything.
    pub(crate) fn monologue(seed: u64, dialect: Dialect, count: usize) -> Vec<u8> {
        let mut random = Random::new(seed);
        let mut socket = Socket::new(0, 0, None);
        let mut client = Client::new(0, 0, &mut random, &mut Faults::none());
        (client.dialect, client.msize, client.left) = (dialect, 1 << 20, count);
        client.aname.clear();
        client.version();
        while client.left > 0 {
            // As if whatever was asked for had been agreed on.
            client.agreed = true;
            client.asks.clear();
            client.ask(&mut socket, &mut random, &mut Ledger::default());
        }
        client.saying
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// It owes nothing and is owed something: everything that it has asked has left it.
    pub(crate) fn is_owed(&self) -> bool {
        !self.asks.is_empty() && !self.lenient && self.said == self.saying.len()
    }

    /// Reads that it has asked for and that have no reply.
    pub(crate) fn reads(&self) -> usize {
        self.asks.iter().filter(|ask| ask.kind == Some(Kind::TREAD)).count()
    }

    /// It has said only a part of a message and will not go on.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// No new requests. Who behaves hears the rest, the others go.
    pub(crate) fn wind_down(&mut self, socket: &mut Socket) {
        self.left = 0;
        if self.habits.never_reads || self.stalled {
            self.leave(socket, true);
        }
        self.habits = Habits::default();
    }

    fn leave(&mut self, socket: &mut Socket, reset: bool) {
        (socket.gone, socket.reset) = (true, socket.reset || reset);
        socket.excuse = socket.excuse.or(Some("the client left"));
        if reset {
            socket.to_server.clear();
        }
        socket.to_client.clear();
        self.life = Life::Gone;
    }

    fn can_say(&self, socket: &Socket) -> bool {
        let more = self.said < self.saying.len() || self.can_ask();
        self.life == Life::Here && !self.stalled && !socket.finished && more && socket.say_room() > 0
    }

    fn can_ask(&self) -> bool {
        self.left > 0
            && (self.asks.len() < self.depth || self.habits.never_reads)
            && (self.agreed && (self.attached || !self.is_gentle) || self.asks.is_empty())
    }

    fn can_hear(&self, socket: &Socket) -> bool {
        !self.habits.never_reads && (!socket.to_client.is_empty() || socket.is_over_for_client())
    }

    fn can_leave(&self, socket: &Socket) -> bool {
        self.life == Life::Here && self.left == 0 && self.said == self.saying.len() && !socket.finished
    }

    pub(crate) fn can_act(&self, socket: &Socket) -> bool {
        self.life != Life::Gone && (self.can_say(socket) || self.can_hear(socket) || self.can_leave(socket))
    }

    /// Does one of the things that it can do.
    pub(crate) fn act(&mut self, around: Surroundings<'_>) {
        let Surroundings { socket, random, ledger } = around;
        self.does(socket, random, ledger);
        let asked = self
            .asks
            .iter()
            .filter_map(|&Ask { tag, kind, count, of_attr, .. }| Some(Asked { tag, kind: kind?, count, of_attr }));
        ledger.asked(self.number, self.life != Life::Here, asked);
    }

    fn does(&mut self, socket: &mut Socket, random: &mut Random, ledger: &mut Ledger) {
        if (self.habits.vanishes || self.habits.resets) && random.one_in(150) {
            return self.leave(socket, self.habits.resets);
        }
        let says = self.can_say(socket);
        let hears = self.can_hear(socket);
        // Some wait until they have heard everything, others say that they will say no more.
        if self.can_leave(socket) && (random.one_in(4) || !hears && !says) {
            let heard_all = self.asks.is_empty() || self.lenient;
            if heard_all && random.one_in(2) {
                return self.leave(socket, random.one_in(2));
            }
            // Half-closed: what is under way still comes, then the end.
            socket.finished = true;
            self.life = Life::Leaving;
            return;
        }
        if says && (!hears || random.one_in(2)) {
            self.say(socket, random, ledger);
        } else if hears {
            self.hear(socket, random, ledger);
        }
    }

    fn say(&mut self, socket: &mut Socket, random: &mut Random, ledger: &mut Ledger) {
        if self.said == self.saying.len() {
            self.saying.clear();
            self.said = 0;
        }
        let batch = random.of(&[1, 1, 1, 3, 10, 90]);
        for _ in 0..batch {
            if self.can_ask() && self.saying.len() - self.said < 100_000 {
                self.ask(socket, random, ledger);
            }
        }
        let rest = self.saying.len() - self.said;
        if rest == 0 {
            return;
        }
        let most = socket.say_room().min(rest);
        let n = if self.habits.drips { most.min(1 + random.below(3)) } else { random.part(most) };
        socket.to_server.extend(&self.saying[self.said..self.said + n]);
        self.said += n;
        if self.habits.stalls && self.said < self.saying.len() && random.one_in(40) {
            (self.stalled, self.lenient) = (true, true);
            socket.excuse = socket.excuse.or(Some("the client stalls"));
        }
        if self.habits.never_reads {
            socket.excuse = socket.excuse.or(Some("the client never reads"));
        }
    }

    fn hear(&mut self, socket: &mut Socket, random: &mut Random, ledger: &mut Ledger) {
        if socket.to_client.is_empty() {
            // It is over.
            let heard_all = self.asks.is_empty();
            let clean = self.life == Life::Leaving && heard_all || self.lenient || socket.excuse.is_some();
            let number = self.number;
            assert!(clean, "replies: connection {number} was closed for no reason, {} requests open", self.asks.len());
            socket.gone = true;
            self.life = Life::Gone;
            return;
        }
        let n = random.part(socket.to_client.len());
        self.heard.extend(socket.to_client.drain(..n));
        self.replies(ledger);
    }
}
