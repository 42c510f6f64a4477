//! Two clients of one tree play a script: one reply to each request, in order, of the right kind and within its bounds; and in the end nothing is left.
//!
//! The tree may be any ([`play_on`]). What files say is looked at where it compares itself with a model ([`play_watched`]).

use crate::memory::{self, Trees};
use crate::say::tag_of;
use crate::script::{How, Script, Step, World};
use crate::support::{AT, fill};
use ring9::fs::mem::Options;
use ring9::fs::{At, Service, Simple};
use ring9::session::{self, BULK_BYTES_MIN, Broken, Budget, Config, Landing, Segments, Session, Trust};
use ring9::wire::{self, Dialect, DirEntry, Fid, IOHDR, Kind, Message, NOTAG, Stat, Tag};
use ring9_sim::Watch;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Largest message before a Tversion.
const FIRST_MSIZE: u32 = 8192;
/// So many messages that are none end a session.
const ERRORS_MAX: u32 = 64;
/// Batches of replies that are on their way at a time.
const IN_FLIGHT_MAX: usize = 8;

/// Plays it on a small memfs beside the devices.
pub fn play(script: &Script) {
    let inodes_max = if script.world.tree & 4 == 0 { 1 << 20 } else { 6 };
    memory::with_trees(None, Options { inodes_max, ..Options::default() }, |mut trees: Trees| {
        play_on(&mut trees, script);
        (trees, ())
    });
}

/// Plays it on a small memfs that plays everything on a naive model as well.
pub fn play_watched(script: &Script) {
    let inodes_max = if script.world.tree & 4 == 0 { 1 << 20 } else { 6 };
    memory::with_mem(None, Options { inodes_max, root: (0, 0, 0o777), ..Options::default() }, |mem| {
        let mut watch = Simple::from(Watch::alone(mem, inodes_max));
        Service::init(&mut watch, AT).expect("memory is there");
        play_on(&mut watch, script);
        assert_eq!(watch.held(), 0, "files after all sessions are closed");
        watch.check_all_and_remove(AT, false);
        (watch.into_inner().into_inner(), ())
    });
}

/// Plays it on any tree. What the sessions held of it is given back in the end.
pub fn play_on<S: Service>(fs: &mut S, script: &Script) {
    let budget = Arc::new(budget(script.world));
    let config = |peer| config(script.world, peer, Arc::clone(&budget));
    let mut driver = Driver {
        at: AT,
        uses_landings: script.world.driver & 1 != 0,
        peers: [0, 1].map(|peer| Peer::new(config(peer))),
        in_flight: VecDeque::new(),
    };
    for step in &script.steps {
        driver.step(fs, step);
    }
    driver.end(fs);
    assert_eq!((budget.fids(), budget.reply_bytes(), budget.attr_bytes()), (0, 0, 0), "what is left of the budget");
}

fn config(world: World, peer: u32, budget: Arc<Budget>) -> Config {
    let bits = usize::from(world.session);
    let msize_max = [1 << 20, 65_536, 20_000, 8192][bits % 4];
    Config {
        trust: [Trust::All, Trust::Squash, Trust::Peer { uid: 0, gid: 0 }, Trust::Peer { uid: 1000, gid: 1000 }]
            [usize::from(world.driver >> 1) % 4],
        fids_max: [1 << 16, 3][bits >> 2 & 1],
        pending_max: [256, 1][bits >> 3 & 1],
        queued_bytes_max: [2 * msize_max as usize, 1, 5000, 100_000][bits >> 4 & 3],
        messages_max: [64, 1, 3, 64][bits >> 6 & 3],
        hash_key: 1,
        budget,
        ..Config::new(peer, msize_max)
    }
}

fn budget(world: World) -> Budget {
    Budget::new([usize::MAX, 5][usize::from(world.tree) & 1], [usize::MAX, 200][usize::from(world.tree) >> 1 & 1])
}

/// The driver of both sessions.
struct Driver<S: Service> {
    at: At,
    uses_landings: bool,
    peers: [Peer<S>; 2],
    /// Replies that have been taken and not sent yet, with what they said when they were taken.
    in_flight: VecDeque<(Segments, Vec<u8>)>,
}

impl<S: Service> Driver<S> {
    fn step(&mut self, fs: &mut S, step: &Step) {
        match *step {
            Step::Say { how, tag, ref say } => {
                let peer = &mut self.peers[how.peer()];
                peer.say(say.frame(tag_of(tag), peer.speaks, peer.asked_msize));
                if !how.holds_back() {
                    self.deliver(fs, how, usize::MAX);
                }
            }
            Step::Deliver(how, amount) => self.deliver(fs, how, usize::from(amount) * usize::from(amount)),
            Step::Take(how) => self.take(fs, how),
            Step::Sent => self.sent(),
            Step::Vanish(how) => self.peers[how.peer()].vanish(fs, self.at),
            Step::Wait(seconds) => {
                self.at.wall.sec += i64::from(seconds);
                self.at.mono_ns += u64::from(seconds) * 1_000_000_000;
                fs.tick(self.at);
            }
        }
    }

    /// Lets bytes arrive. What is held until replies have left goes on when they are taken here.
    fn deliver(&mut self, fs: &mut S, how: How, bytes: usize) {
        let mut left = bytes;
        loop {
            let peer = &mut self.peers[how.peer()];
            let before = peer.unserved();
            let held = peer.receive(fs, self.at, &mut left, self.uses_landings);
            let served = peer.unserved() < before;
            let waiting = peer.session.queued_bytes() > 0;
            self.finish(fs);
            if !how.leaves_replies() {
                self.take(fs, how);
            }
            if !held || how.leaves_replies() {
                break;
            }
            assert!(served || waiting, "a session that is held goes on once its replies have left");
        }
    }

    /// What has waited for the tree, for whomever.
    fn finish(&mut self, fs: &mut S) {
        while let Some(op) = fs.ready() {
            let peer =
                self.peers.iter_mut().find(|peer| peer.config.peer == op.peer).expect("an operation names a peer");
            peer.session.complete(fs, op, self.at);
        }
    }

    fn take(&mut self, fs: &mut S, how: How) {
        let peer = &mut self.peers[how.peer()];
        while let Some(mut batch) = peer.session.take(fs) {
            let bytes = bytes_of(&batch);
            peer.hear(&bytes);
            if how.keeps_replies() && self.in_flight.len() < IN_FLIGHT_MAX {
                self.in_flight.push_back((batch, bytes));
            } else {
                batch.advance(bytes.len(), |_| ());
                peer.session.recycle(batch);
            }
        }
        peer.rests();
    }

    /// The oldest batch has left, in two parts; all the while it said the same.
    fn sent(&mut self) {
        let Some((mut batch, bytes)) = self.in_flight.pop_front() else { return };
        assert!(bytes_of(&batch) == bytes, "replies on their way never change");
        let half = bytes.len() / 2;
        batch.advance(half, |_| ());
        assert!(bytes_of(&batch) == bytes[half..], "what is left of replies on their way never changes");
        batch.advance(bytes.len() - half, |_| ());
        assert_eq!(batch.len(), 0);
    }

    /// Everything that was said arrives and is answered. Then everyone goes; replies on their way stay what they are, even then.
    fn end(&mut self, fs: &mut S) {
        for how in [How(0), How(1)] {
            self.deliver(fs, how, usize::MAX);
            let peer = &mut self.peers[how.peer()];
            assert!(peer.wire.is_empty() && peer.inbox.is_empty(), "every message was served");
            peer.rests();
            peer.vanish(fs, self.at);
        }
        while let Some(op) = fs.ready() {
            // Too late to be cancelled: nobody waits any more.
            session::discard(fs, op, self.at);
        }
        while !self.in_flight.is_empty() {
            self.sent();
        }
    }
}

/// A request without a reply.
struct Asked {
    frame: Vec<u8>,
    /// Where it ends in all that this client said.
    end: usize,
}

impl Asked {
    fn kind(&self) -> Kind {
        Kind(self.frame[4])
    }
    fn tag(&self) -> Tag {
        Tag::from_le_bytes([self.frame[5], self.frame[6]])
    }
}

/// A client, and the session that serves it.
struct Peer<S: Service> {
    session: Session<S>,
    config: Config,
    /// Said and not arrived.
    wire: Vec<u8>,
    said: usize,
    arrived: usize,
    /// Arrived and not served.
    inbox: Vec<u8>,
    landing: Option<Landing>,
    asked: VecDeque<Asked>,
    /// What the client speaks and how large it may write, after what it asked for last.
    speaks: Dialect,
    asked_msize: u32,
    /// What was agreed on, from the replies.
    dialect: Option<Dialect>,
    msize: u32,
    fids: BTreeSet<Fid>,
    /// Messages that were none.
    errors: u32,
    /// Something has waited for its tree, so replies may come in another order.
    has_waited: bool,
}

impl<S: Service> Peer<S> {
    fn new(config: Config) -> Peer<S> {
        Peer {
            session: Session::new(config.clone()),
            config,
            wire: Vec::new(),
            said: 0,
            arrived: 0,
            inbox: Vec::new(),
            landing: None,
            asked: VecDeque::new(),
            speaks: Dialect::P9,
            asked_msize: FIRST_MSIZE,
            dialect: None,
            msize: FIRST_MSIZE,
            fids: BTreeSet::new(),
            errors: 0,
            has_waited: false,
        }
    }

    fn say(&mut self, frame: Vec<u8>) {
        if let Ok((_, Message::Tversion { msize, version })) = Message::parse(&frame, self.speaks) {
            self.speaks = Dialect::negotiate(version).unwrap_or(self.speaks);
            self.asked_msize = msize.clamp(4096, self.config.msize_max);
        }
        self.wire.extend_from_slice(&frame);
        self.said += frame.len();
        self.asked.push_back(Asked { frame, end: self.said });
    }

    fn unserved(&self) -> usize {
        self.inbox.len() + self.wire.len()
    }

    /// Hands at most `left` bytes to the session, in one piece or into landings; whether it is held.
    fn receive(&mut self, fs: &mut S, at: At, left: &mut usize, uses_landings: bool) -> bool {
        loop {
            if let Some(mut landing) = self.landing.take() {
                let n = self.wire.len().min(*left).min(landing.left());
                if n == 0 {
                    self.landing = Some(landing);
                    return false;
                }
                let bytes = self.arrive(n, left);
                fill(&mut landing, &bytes);
                self.landing = self.session.landed(fs, landing, n, at);
                continue;
            }
            let n = self.wire.len().min(*left);
            let bytes = self.arrive(n, left);
            self.inbox.extend(bytes);
            let received = match self.session.receive(fs, at, &self.inbox) {
                Ok(received) => received,
                Err(broken) => {
                    self.breaks(fs, broken, at);
                    return false;
                }
            };
            self.inbox.drain(..received.consumed);
            self.has_waited |= self.session.pending() > 0;
            assert!(self.session.pending() <= 2 * self.config.pending_max, "requests that wait are bounded");
            if uses_landings && !received.need.held {
                self.landing = self.session.landing();
                assert!(self.landing.is_none() || self.inbox.is_empty(), "what belongs to a landing was taken");
                let n = received.need.skip.min(self.wire.len()).min(*left);
                if n > 0 {
                    self.arrive(n, left);
                    self.session.skipped(fs, n, at);
                }
            }
            if received.need.held || self.wire.is_empty() || *left == 0 {
                return received.need.held;
            }
        }
    }

    fn arrive(&mut self, n: usize, left: &mut usize) -> Vec<u8> {
        *left -= n;
        self.arrived += n;
        let rest = self.wire.split_off(n);
        std::mem::replace(&mut self.wire, rest)
    }

    /// The session does not go on: after the replies to all that came before, and for a reason.
    fn breaks(&mut self, fs: &mut S, broken: Broken, at: At) {
        while let Some(batch) = self.session.take(fs) {
            self.hear(&bytes_of(&batch));
        }
        // Where something waits for its tree, requests in front of the one that breaks it have no reply.
        let front = self.asked.front().filter(|_| !self.has_waited);
        assert!(front.is_some() || self.has_waited, "{broken}, and everything was answered");
        let is_front = |fits: fn(&Asked, Broken) -> bool| front.is_none_or(|asked| fits(asked, broken));
        let is_it = match broken {
            Broken::TooLarge(size) => {
                size > self.msize && is_front(|asked, broken| broken == Broken::TooLarge(asked.frame.len() as u32))
            }
            Broken::NotNegotiated(kind) => {
                self.dialect.is_none()
                    && kind != Kind::TVERSION
                    && is_front(|asked, broken| broken == Broken::NotNegotiated(asked.kind()))
            }
            Broken::TagInFlight(_) => self.has_waited,
            Broken::TooManyErrors => self.errors + 1 == ERRORS_MAX,
            Broken::TooSmall(_) => false,
        };
        assert!(is_it, "{broken}: msize {}, {:?}, {} errors", self.msize, self.dialect, self.errors);
        self.vanish(fs, at);
    }

    /// The connection ends, and another begins.
    fn vanish(&mut self, fs: &mut S, at: At) {
        self.session.close(fs, at);
        let session = &self.session;
        assert_eq!(
            (session.fids(), session.pending(), session.queued_bytes()),
            (0, 0, 0),
            "a closed session has nothing"
        );
        let first_op = self.config.first_op + (1 << 40);
        *self = Peer::new(Config { first_op, ..self.config.clone() });
    }

    /// Nothing is on its way in or out: what the client knows is how things are.
    fn rests(&self) {
        if self.session.queued_bytes() > 0
            || self.asked.iter().any(|asked| asked.end <= self.arrived - self.inbox.len() && self.has_waited)
        {
            return;
        }
        let served = self.arrived - self.inbox.len();
        let unanswered = self.asked.iter().find(|asked| asked.end <= served);
        let unanswered = unanswered.map(|asked| (asked.kind(), asked.tag()));
        assert!(unanswered.is_none(), "no reply to {unanswered:?}");
        assert_eq!(self.session.fids(), self.fids.len(), "fids: the client has {:?}", self.fids);
    }

    /// Replies, in order.
    fn hear(&mut self, mut bytes: &[u8]) {
        while let Some(head) = wire::head(bytes) {
            let (reply, rest) = bytes.split_at_checked(head.size as usize).expect("whole replies");
            bytes = rest;
            let place = self.asked.iter().position(|asked| asked.tag() == head.tag);
            let place = place.unwrap_or_else(|| panic!("nothing was asked under tag {}: {}", head.tag, head.kind));
            assert!(place == 0 || self.has_waited, "{} under tag {} comes out of order", head.kind, head.tag);
            let asked = self.asked.remove(place).expect("just found");
            assert!(asked.end <= self.arrived, "a reply to what has not arrived");
            self.answer(&asked, reply);
        }
        assert!(bytes.is_empty(), "whole replies");
    }

    fn answer(&mut self, asked: &Asked, reply: &[u8]) {
        let dialect = self.dialect.unwrap_or(Dialect::P9);
        let request = Message::parse(&asked.frame, dialect).ok().map(|(_, message)| message);
        let is_version = matches!(request, Some(Message::Tversion { .. }));
        let is_refused = asked.frame.len() > BULK_BYTES_MIN && asked.kind() != Kind::TWRITE;
        let served =
            request.filter(|_| asked.kind().is_request() && (is_version || asked.tag() != NOTAG) && !is_refused);
        let Some(request) = served else {
            self.errors += 1;
            self.check_error(asked, reply, dialect);
            return;
        };
        if let Message::Tversion { msize, version } = request {
            return self.version(reply, msize, version);
        }
        assert!(
            reply.len() <= self.msize as usize,
            "a reply of {} bytes, {} agreed: {}",
            reply.len(),
            self.msize,
            request.line(asked.tag(), dialect)
        );
        let kind = Kind(reply[4]);
        let is_error = kind != asked.kind().reply();
        if is_error {
            self.check_error(asked, reply, dialect);
        }
        let (_, message) = Message::parse(reply, dialect)
            .unwrap_or_else(|error| panic!("{error}: a reply to {}", request.line(asked.tag(), dialect)));
        self.follow(&request, &message, is_error);
        if !is_error {
            check_bounds(&request, &message, dialect, self.msize);
        }
    }

    fn check_error(&self, asked: &Asked, reply: &[u8], dialect: Dialect) {
        let wanted = if dialect == Dialect::L { Kind::RLERROR } else { Kind::RERROR };
        assert_eq!(Kind(reply[4]), wanted, "the reply to {}", asked.kind());
        Message::parse(reply, dialect).expect("an error is a message");
    }

    /// A new session, whatever it is.
    fn version(&mut self, reply: &[u8], msize: u32, version: &[u8]) {
        self.fids.clear();
        (self.dialect, self.msize) = (None, FIRST_MSIZE);
        let wanted = Dialect::negotiate(version);
        match Message::parse(reply, wanted.unwrap_or(Dialect::P9)).expect("a reply is a message").1 {
            Message::Rversion { msize: agreed, version } => {
                assert_eq!(version, wanted.map_or("unknown", Dialect::name).as_bytes());
                assert_eq!(agreed, msize.min(self.config.msize_max), "msize");
                if wanted.is_some() {
                    assert!(agreed >= 4096, "msize {agreed}");
                    (self.dialect, self.msize) = (wanted, agreed);
                }
            }
            Message::Rerror { .. } | Message::Rlerror { .. } => {
                assert!(wanted.is_some() && msize < 4096, "only a small msize is an error");
                let kind = if wanted == Some(Dialect::L) { Kind::RLERROR } else { Kind::RERROR };
                assert_eq!(Kind(reply[4]), kind);
            }
            other => panic!("{other:?} answers Tversion"),
        }
    }

    /// What becomes of fids and of flushed requests.
    fn follow(&mut self, request: &Message<'_>, reply: &Message<'_>, is_error: bool) {
        match *request {
            Message::Tclunk { fid } | Message::Tremove { fid } => {
                let was_there = self.fids.remove(&fid);
                assert!(was_there || is_error, "fid {fid} was not there");
            }
            Message::Txattrwalk { fid, newfid, .. } if !is_error => {
                assert!(self.fids.contains(&fid) && self.fids.insert(newfid), "fid {newfid} for attributes of {fid}");
            }
            Message::Tattach { fid, .. } if !is_error => assert!(self.fids.insert(fid), "fid {fid} was there"),
            Message::Twalk { fid, newfid, wnames } => {
                if let Message::Rwalk { wqids } = reply {
                    assert!(self.fids.contains(&fid), "a walk from fid {fid}");
                    assert!(
                        wqids.len() <= wnames.len() && (!wqids.is_empty() || wnames.is_empty()),
                        "{reply:?} to {request:?}"
                    );
                    if wqids.len() == wnames.len() {
                        self.fids.insert(newfid);
                    }
                }
            }
            Message::Tflush { oldtag } => {
                assert!(!is_error, "a Tflush has no error");
                if let Some(place) = self.asked.iter().position(|asked| asked.tag() == oldtag && self.has_waited) {
                    self.asked.remove(place);
                }
            }
            _ => {}
        }
    }
}

/// What is left to be sent, view by view: replies may be large.
fn bytes_of(batch: &Segments) -> Vec<u8> {
    batch.views().map(|view| view.bytes).collect::<Vec<_>>().concat()
}

/// What a reply may be, given the request.
fn check_bounds(request: &Message<'_>, reply: &Message<'_>, dialect: Dialect, msize: u32) {
    let room = msize - IOHDR;
    match (*request, *reply) {
        (Message::Tread { count, .. }, Message::Rread { data }) => {
            assert!(data.len() <= count.min(room) as usize, "{} bytes read", data.len())
        }
        (Message::Twrite { data, .. }, Message::Rwrite { count }) => {
            assert!(count as usize <= data.len(), "{count} bytes written")
        }
        (Message::Treaddir { count, offset, .. }, Message::Rreaddir { data }) => {
            assert!(data.len() <= count.min(room) as usize, "{} bytes listed", data.len());
            let (mut rest, mut last) = (data.here().expect("whole replies"), offset);
            while !rest.is_empty() {
                let (entry, next) = DirEntry::parse(rest).expect("whole entries");
                assert!(entry.offset > last, "cookies grow");
                (rest, last) = (next, entry.offset);
            }
        }
        (Message::Tgetattr { request_mask, .. }, Message::Rgetattr { valid, .. }) => {
            assert_eq!(valid, request_mask & 0x3fff)
        }
        (Message::Topen { .. }, Message::Ropen { iounit, .. })
        | (Message::Tcreate { .. }, Message::Rcreate { iounit, .. })
        | (Message::Tlopen { .. }, Message::Rlopen { iounit, .. })
        | (Message::Tlcreate { .. }, Message::Rlcreate { iounit, .. }) => assert!(iounit <= room, "iounit {iounit}"),
        (Message::Tstat { .. }, Message::Rstat { stat }) => {
            assert!(Stat::size(&stat, dialect) <= usize::from(u16::MAX))
        }
        _ => {}
    }
}
