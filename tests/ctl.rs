//! The files that block, behind a session and behind the loop: reads that wait, Tflush, and readers that vanish.

mod support;

use ring9::arena::Arena;
use ring9::fs::ctl::Ctl;
use ring9::fs::join::{End, Join};
use ring9::fs::{At, Error, Filesystem, Open, Out, Result, Service, Simple, Stat, User};
use ring9::session::{Config, Session};
use ring9::stats::{Lines, Stats};
use ring9::uring::{Kernel, Options, Server, Trust};
use ring9::wire::{Dialect, Ext, Kind, Message, NOFID, NOTAG, Names, Qid};
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use support::random::Random;
use support::{AT, config};

const LOG: u32 = 1;
const INTERVALS: u32 = 2;

fn frame(tag: u16, message: &Message<'_>, dialect: Dialect) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    message.emit(tag, dialect, &mut bytes);
    bytes.to_vec()
}

fn open(fid: u32, dialect: Dialect) -> Message<'static> {
    if dialect == Dialect::L { Message::Tlopen { fid, flags: 0 } } else { Message::Topen { fid, mode: 0 } }
}

fn read(fid: u32, offset: u64) -> Message<'static> {
    Message::Tread { fid, offset, count: 4096 }
}

/// Requests up to fids 1 and 2 open on `log` and `latency.hlog`; each has a reply.
fn beginning(dialect: Dialect) -> [Vec<u8>; 6] {
    let version = frame(NOTAG, &Message::Tversion { msize: 1 << 20, version: dialect.name().as_bytes() }, dialect);
    let attach = Message::Tattach { fid: 0, afid: NOFID, uname: b"root", aname: b"ctl", n_uname: Ext(0) };
    let walk =
        |newfid, name: &[u8]| frame(1, &Message::Twalk { fid: 0, newfid, wnames: Names::list(&[name]) }, dialect);
    [
        version,
        frame(1, &attach, dialect),
        walk(LOG, b"log"),
        walk(INTERVALS, b"latency.hlog"),
        frame(1, &open(LOG, dialect), dialect),
        frame(1, &open(INTERVALS, dialect), dialect),
    ]
}

/// A session on `ctl`, with both files open.
struct Peer {
    dialect: Dialect,
    session: Session<Simple<Ctl>>,
    ctl: Simple<Ctl>,
    stats: Rc<Stats>,
    log: Arc<Mutex<Lines>>,
}

impl Peer {
    fn new(dialect: Dialect) -> Peer {
        let (stats, log) = (Rc::<Stats>::default(), Arc::new(Mutex::new(Lines::new(1000))));
        let gauge = Arena::new(1 << 20).expect("a small mapping").gauge();
        let ctl = Ctl::new(Rc::clone(&stats), gauge, Arc::clone(&log)).into();
        let mut peer = Peer { dialect, session: Session::new(Config { owner: Some(0), ..config() }), ctl, stats, log };
        for request in beginning(dialect) {
            peer.feed(&request);
            assert_eq!(peer.replies().len(), 1);
        }
        peer
    }

    fn feed(&mut self, bytes: &[u8]) {
        let received = self.session.receive(&mut self.ctl, AT, bytes).expect("a sound conversation");
        assert_eq!(received.consumed, bytes.len());
    }

    fn send(&mut self, tag: u16, message: &Message<'_>) {
        self.feed(&frame(tag, message, self.dialect));
    }

    /// What a driver does once per turn.
    fn turn(&mut self) {
        while let Some(op) = self.ctl.ready() {
            self.session.complete(&mut self.ctl, op, AT);
        }
    }

    fn logs(&mut self, line: &str) {
        self.log.lock().expect("nobody panics").push(line.as_bytes());
        self.turn();
    }

    /// A second goes by in which something was read.
    fn second(&mut self) {
        self.stats.replied(Kind::TREAD, 1000);
        self.ctl.tick(AT);
        self.turn();
    }

    /// Tags and names of the replies.
    fn replies(&mut self) -> Vec<(u16, &'static str)> {
        let mut found = Vec::new();
        while let Some(mut batch) = self.session.take(&self.ctl) {
            let bytes = batch.to_vec();
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (one, more) = rest.split_at(u32::from_le_bytes(*rest.first_chunk().expect("whole")) as usize);
                let (tag, message) = Message::parse(one, self.dialect).expect("a sound reply");
                found.push((tag, message.kind().name().expect("known")));
                rest = more;
            }
            batch.advance(bytes.len(), |_| ());
            self.session.recycle(batch);
        }
        found
    }

    /// Both files at their ends: what is there is read, and two reads wait, with tags 1 and 2.
    fn waiting(dialect: Dialect) -> (Peer, u64) {
        let mut peer = Peer::new(dialect);
        peer.send(7, &read(INTERVALS, 0));
        let head = peer.session.queued_bytes() as u64 - 11;
        assert_eq!(peer.replies(), [(7, "Rread")]);
        peer.send(1, &read(LOG, 0));
        peer.send(2, &read(INTERVALS, head));
        assert_eq!((peer.replies(), peer.session.pending()), (vec![], 2));
        (peer, head)
    }

    fn error(&self) -> &'static str {
        if self.dialect == Dialect::L { "Rlerror" } else { "Rerror" }
    }
}

#[test]
fn a_read_waits_for_a_line_and_for_an_interval() {
    for dialect in Dialect::ALL {
        let (mut peer, _) = Peer::waiting(dialect);
        peer.turn();
        peer.ctl.tick(AT);
        peer.turn();
        assert_eq!(peer.replies(), [], "nothing has happened");
        peer.logs("a line");
        assert_eq!(peer.replies(), [(1, "Rread")]);
        peer.second();
        assert_eq!(peer.replies(), [(2, "Rread")]);
        assert_eq!(peer.session.pending(), 0);
    }
}

#[test]
fn a_flush_takes_a_read_back_and_its_tag_is_free() {
    for dialect in Dialect::ALL {
        let (mut peer, head) = Peer::waiting(dialect);
        peer.send(3, &Message::Tflush { oldtag: 1 });
        peer.send(4, &Message::Tflush { oldtag: 2 });
        // The tags are used again before the replies are on the wire.
        peer.send(2, &read(LOG, 0));
        peer.send(1, &read(INTERVALS, head));
        assert_eq!(peer.replies(), [(3, "Rflush"), (4, "Rflush")]);
        peer.logs("a line");
        peer.second();
        assert_eq!(peer.replies(), [(2, "Rread"), (1, "Rread")], "each once");
        assert_eq!(peer.session.pending(), 0);
    }
}

#[test]
fn a_flush_that_comes_after_the_line_follows_the_reply() {
    for dialect in Dialect::ALL {
        let (mut peer, _) = Peer::waiting(dialect);
        peer.logs("a line");
        peer.send(3, &Message::Tflush { oldtag: 1 });
        peer.send(4, &Message::Tflush { oldtag: 2 });
        peer.second();
        assert_eq!(peer.replies(), [(1, "Rread"), (3, "Rflush"), (4, "Rflush")]);
    }
}

#[test]
fn a_clunk_answers_what_waits_first() {
    for dialect in Dialect::ALL {
        let (mut peer, _) = Peer::waiting(dialect);
        peer.send(3, &Message::Tclunk { fid: INTERVALS });
        peer.send(4, &Message::Tremove { fid: LOG });
        let error = peer.error();
        // Removing is not allowed, but ends the fid all the same.
        assert_eq!(peer.replies(), [(2, error), (3, "Rclunk"), (1, error), (4, error)]);
        peer.logs("a line");
        peer.second();
        assert_eq!((peer.replies(), peer.session.pending(), peer.session.fids()), (vec![], 0, 1));
    }
}

#[test]
fn a_reader_that_vanishes_leaves_nothing() {
    for dialect in Dialect::ALL {
        let (mut peer, _) = Peer::waiting(dialect);
        peer.session.close(&mut peer.ctl, AT);
        peer.log.lock().expect("nobody panics").push(b"a line");
        peer.stats.replied(Kind::TREAD, 1000);
        peer.ctl.tick(AT);
        assert_eq!((peer.ctl.ready(), peer.session.fids(), peer.session.pending()), (None, 0, 0));
        let mut intervals = 0;
        let _ = peer.stats.latency_mut().end_interval_of(Kind(0), |_, _| intervals += 1);
        assert_eq!(intervals, 0, "nobody watches any more");

        let (mut peer, _) = Peer::waiting(dialect);
        peer.feed(&beginning(dialect)[0]);
        peer.logs("a line");
        peer.second();
        assert_eq!((peer.replies(), peer.session.fids()), (vec![(NOTAG, "Rversion")], 0), "nor does a Tversion");
    }
}

/// Whatever is asked and flushed in whatever order, each tag is answered once: a read before its flush or not at all.
#[test]
fn every_tag_is_answered_once_or_taken_back() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut peer = Peer::new(Dialect::ALL[random.below(3)]);
        let mut at = [0u64; 3];
        // What each tag in use is for: a read, or a flush of a tag.
        let mut open: Vec<(u16, Option<u16>)> = Vec::new();
        for step in 0..200 {
            let tag = (1..).find(|&tag| open.iter().all(|one| one.0 != tag)).expect("a free tag");
            match random.below(6) {
                0 => peer.logs(&"x".repeat(random.below(400))),
                1 => peer.second(),
                2 | 3 if open.len() < 20 => {
                    let fid = [LOG, INTERVALS][random.below(2)];
                    at[fid as usize] += random.below(2) as u64 * 10;
                    peer.send(tag, &read(fid, at[fid as usize]));
                    open.push((tag, None));
                }
                4 => {
                    let oldtag = random.below(20) as u16;
                    peer.send(tag, &Message::Tflush { oldtag });
                    // A request that comes later with that tag is another one.
                    let is_it = open.iter().any(|one| one.0 == oldtag);
                    open.push((tag, Some(if is_it { oldtag } else { NOTAG })));
                }
                _ => peer.turn(),
            }
            if step < 199 && random.below(3) > 0 {
                continue;
            }
            for (tag, name) in peer.replies() {
                let what = open.iter().position(|one| one.0 == tag);
                let what = open.remove(what.unwrap_or_else(|| panic!("seed {seed} step {step}: {name} to no request")));
                if let Some(oldtag) = what.1 {
                    assert_eq!(name, "Rflush");
                    // What was asked with that tag before is over.
                    open.retain(|one| one.0 != oldtag || one.1.is_some());
                }
            }
        }
        assert_eq!(peer.session.pending(), open.len(), "seed {seed}: only reads at the end of a text wait");
    }
}

/// A tree that counts the seconds of the loop.
struct Seconds(Arc<AtomicU32>);

impl Filesystem for Seconds {
    type File = ();

    fn attach(&mut self, _: User, _: &[u8]) -> Result<()> {
        Err(Error::ENOENT)
    }
    fn lookup(&mut self, (): &(), _: &[u8]) -> Result<()> {
        Err(Error::ENOENT)
    }
    fn attr(&self, (): &()) -> Qid {
        Qid::default()
    }
    fn open(&mut self, (): &mut (), _: Open, _: At) -> Result<()> {
        Err(Error::EIO)
    }
    fn read(&mut self, (): &mut (), _: u64, _: Out<'_>, _: At) -> Result<()> {
        Err(Error::EIO)
    }
    fn close(&mut self, (): (), _: At) -> Result<()> {
        Ok(())
    }
    fn stat(&self, (): &()) -> Result<Stat<'_>> {
        Err(Error::EIO)
    }
    fn tick(&mut self, _: At) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes the loop's lines to a text that is made by the test.
struct Logger(OnceLock<Arc<Mutex<Lines>>>);

static LOGGER: Logger = Logger(OnceLock::new());

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if let Some(lines) = self.0.get() {
            lines.lock().expect("nobody panics").push(record.args().to_string().as_bytes());
        }
    }
    fn flush(&self) {}
}

/// A client that blocks, on a thread of its own.
struct Client {
    socket: UnixStream,
    /// Replies that came before the one that was asked for.
    early: Vec<(u16, Kind, Vec<u8>)>,
}

impl Client {
    /// With both files open.
    fn new(socket: UnixStream) -> Client {
        let mut client = Client { socket, early: Vec::new() };
        for request in beginning(Dialect::L) {
            client.socket.write_all(&request).expect("the server listens");
            client.receive();
        }
        client
    }

    fn send(&mut self, tag: u16, message: &Message<'_>) {
        self.socket.write_all(&frame(tag, message, Dialect::L)).expect("the server listens");
    }

    fn receive(&mut self) -> (u16, Kind, Vec<u8>) {
        let mut head = [0; 7];
        self.socket.read_exact(&mut head).expect("a reply");
        let [a, b, c, d, kind, tag @ ..] = head;
        let mut body = vec![0; u32::from_le_bytes([a, b, c, d]) as usize - head.len()];
        self.socket.read_exact(&mut body).expect("a whole reply");
        (u16::from_le_bytes(tag), Kind(kind), body)
    }

    /// The reply to this tag.
    fn hear(&mut self, tag: u16) -> (Kind, Vec<u8>) {
        if let Some(at) = self.early.iter().position(|one| one.0 == tag) {
            let (_, kind, body) = self.early.remove(at);
            return (kind, body);
        }
        loop {
            let (found, kind, body) = self.receive();
            if found == tag {
                return (kind, body);
            }
            self.early.push((found, kind, body));
        }
    }

    /// The bytes of an Rread.
    fn hear_data(&mut self, tag: u16) -> String {
        let (kind, body) = self.hear(tag);
        assert_eq!(kind, Kind::TREAD.reply());
        String::from_utf8(body[4..].to_vec()).expect("texts")
    }

    /// `pending` of each connection, in the order of their numbers.
    fn pending(&mut self) -> Vec<String> {
        let names: [&[u8]; 1] = [b"connections"];
        self.send(9, &Message::Twalk { fid: 0, newfid: 9, wnames: Names::list(&names) });
        self.hear(9);
        self.send(9, &open(9, Dialect::L));
        self.hear(9);
        self.send(9, &read(9, 0));
        let text = self.hear_data(9);
        self.send(9, &Message::Tclunk { fid: 9 });
        self.hear(9);
        text.lines().skip(1).map(|line| line.split_whitespace().nth(4).expect("a column").to_owned()).collect()
    }
}

/// Serves `ctl` to so many connections for as long as any of them is there. `clients` has a thread of its own.
fn serve(
    log: Arc<Mutex<Lines>>,
    connections: usize,
    clients: impl FnOnce(Vec<UnixStream>, &AtomicU32) + Send + 'static,
) {
    let (arena, stats) = (Arena::new(1 << 20).expect("a small mapping"), Rc::<Stats>::default());
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let seconds = Arc::new(AtomicU32::new(0));
    let ctl = Ctl::new(Rc::clone(&stats), arena.gauge(), log);
    let owner = nix::unistd::geteuid().as_raw();
    let options = Options { stats: Rc::clone(&stats), owner, ..Options::new(1 << 20, 100) };
    let ctl = Join::new((&[b"ctl"], Simple::from(ctl)), End);
    let tree = Join::new((&[b"seconds"], Simple::from(Seconds(Arc::clone(&seconds)))), ctl);
    let mut server = Server::new(Kernel::new(100).expect("io_uring works here"), tree, parts, options);
    let sockets = (0..connections).map(|_| {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        server.connect(ours.into_raw_fd(), Trust::All);
        theirs
    });
    let sockets = sockets.collect();
    let clients = std::thread::spawn(move || clients(sockets, &seconds));
    while server.peers() > 0 {
        server.turn().expect("the ring works");
    }
    clients.join().expect("all went well");
    stats.each_connection(|number, _| panic!("connection {number} is still shown"));
}

/// What one connection makes the server log, another one that waits for it hears at once, and not when the loop wakes for its second.
#[test]
fn a_line_that_one_connection_causes_wakes_the_reader_on_another() {
    let log = Arc::new(Mutex::new(Lines::new(10_000)));
    LOGGER.0.set(Arc::clone(&log)).expect("set once");
    log::set_logger(&LOGGER).expect("set once");
    log::set_max_level(log::LevelFilter::Info);
    serve(log, 6, |mut sockets, seconds| {
        let mut client = Client::new(sockets.pop().expect("six of them"));
        let mut at = 0;
        let rounds = sockets.into_iter().map(|mut other| {
            client.send(1, &read(LOG, at));
            // Something else is served meanwhile, on the same connection and after the read.
            client.send(2, &Message::Tclunk { fid: 99 });
            client.hear(2);
            let before = seconds.load(Ordering::Relaxed);
            other.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the server listens");
            let text = client.hear_data(1);
            assert!(text.starts_with("peer ") && text.ends_with('\n'), "{text}");
            at += text.len() as u64;
            seconds.load(Ordering::Relaxed) - before
        });
        assert_eq!(rounds.min(), Some(0), "the reply waited for the loop's timer, five times of five");
    });
}

/// A reader dies while it waits: the next line finds nobody, and the loop goes on for the other one.
#[test]
fn a_reader_that_dies_is_forgotten() {
    serve(Arc::new(Mutex::new(Lines::new(1000))), 2, |mut sockets, _| {
        let mut dying = Client::new(sockets.pop().expect("two of them"));
        let mut living = Client::new(sockets.pop().expect("two of them"));
        for client in [&mut living, &mut dying] {
            client.send(1, &read(LOG, 1 << 40));
            client.send(2, &read(LOG, 1 << 40));
            client.send(3, &read(INTERVALS, 1 << 40));
        }
        while living.pending()[1] != "3" {}
        drop(dying);
        while living.pending().len() > 1 {}
        living.send(4, &read(INTERVALS, 0));
        let head = living.hear_data(4).len() as u64;
        // The lines of an interval come one in each turn.
        let mut lines = String::new();
        while !lines.contains("Tag=Tread,") {
            living.send(4, &read(INTERVALS, head + lines.len() as u64));
            let line = living.hear_data(4);
            assert!(line.contains("Tag=T") && line.ends_with('\n'), "{line}");
            lines.push_str(&line);
        }
        assert_eq!(living.pending(), ["3"], "it still waits for what is far away");
        living.send(5, &Message::Tflush { oldtag: 2 });
        assert_eq!(living.hear(5).0, Kind::TFLUSH.reply());
        assert_eq!(living.pending(), ["2"]);
    });
}

/// A server of `ctl`, and a client that has said everything: 256 reads wait, and `asks` requests came behind them.
struct Ending {
    server: Server<Kernel, Simple<Ctl>>,
    client: UnixStream,
    asks: u16,
}

impl Ending {
    fn new(asks: u16) -> Ending {
        let (arena, stats) = (Arena::new(1 << 20).expect("a small mapping"), Rc::<Stats>::default());
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let ctl = Ctl::new(Rc::clone(&stats), arena.gauge(), Arc::new(Mutex::new(Lines::new(1000)))).into();
        let options = Options { stats, ..Options::new(1 << 20, 100) };
        let mut server = Server::new(Kernel::new(100).expect("io_uring works here"), ctl, parts, options);
        let (ours, mut client) = UnixStream::pair().expect("a pair of sockets");
        server.connect(ours.into_raw_fd(), Trust::All);
        client.set_nonblocking(true).expect("a socket");
        let mut bytes = beginning(Dialect::L).concat();
        (0..256).for_each(|tag| bytes.extend(frame(tag, &read(LOG, 1 << 40), Dialect::L)));
        let asks_for = |tag| frame(tag, &Message::Tgetattr { fid: 0, request_mask: 0 }, Dialect::L);
        (1000..1000 + asks).for_each(|tag| bytes.extend(asks_for(tag)));
        let mut said = 0;
        while said < bytes.len() {
            said += client.write(&bytes[said..]).unwrap_or(0);
            server.turn_now().expect("the ring works");
        }
        (0..50).for_each(|_| server.turn_now().expect("the ring works"));
        Ending { server, client, asks }
    }

    /// Each request is answered, in order; then the connection is closed.
    fn ends_answered(mut self) {
        let (mut heard, mut more) = (Vec::new(), [0; 65_536]);
        let waited = std::time::Instant::now();
        loop {
            match self.client.read(&mut more) {
                Ok(0) => break,
                Ok(n) => heard.extend_from_slice(&more[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.server.turn_now().expect("the ring works");
                }
                Err(error) => panic!("{error} after {} bytes", heard.len()),
            }
            assert!(waited.elapsed().as_secs() < 30, "it is not closed");
        }
        let (mut rest, mut found) = (heard.as_slice(), Vec::new());
        while let Some(head) = ring9::wire::head(rest) {
            let (one, behind) = rest.split_at(head.size as usize);
            found.push((head.tag, Message::parse(one, Dialect::L).expect("a sound reply").1.kind()));
            rest = behind;
        }
        let (reads, asked) = found.split_at(beginning(Dialect::L).len()).1.split_at(256);
        assert!(reads.iter().copied().eq((0..256).map(|tag| (tag, Kind(7)))), "reads end with Rlerror");
        assert!(asked.iter().copied().eq((1000..1000 + self.asks).map(|tag| (tag, Kind::TGETATTR.reply()))));
        (0..10).for_each(|_| self.server.turn_now().expect("the ring works"));
        assert_eq!(self.server.peers(), 0);
    }
}

/// A few requests fit behind those that wait; of many the socket still has a part when nothing more is received.
const FEW_AND_MANY: [u16; 2] = [10, 8_000];

/// H8: no Tflush can end the reads that wait, and no request behind them is lost.
#[test]
fn what_was_said_before_a_half_close_is_answered() {
    for asks in FEW_AND_MANY {
        let ending = Ending::new(asks);
        ending.client.shutdown(std::net::Shutdown::Write).expect("a socket");
        ending.ends_answered();
    }
}

/// H13: the same for a server that is told to end.
#[test]
fn what_was_said_before_the_server_ends_is_answered() {
    for asks in FEW_AND_MANY {
        let mut ending = Ending::new(asks);
        ending.server.begin_drain().expect("the ring works");
        ending.ends_answered();
    }
}

/// H7: a peer that is not received from is seen to go all the same.
#[test]
fn a_peer_may_vanish_while_its_requests_wait() {
    for asks in FEW_AND_MANY {
        let Ending { mut server, client, .. } = Ending::new(asks);
        drop(client);
        let waited = std::time::Instant::now();
        while server.peers() > 0 {
            server.turn_now().expect("the ring works");
            assert!(waited.elapsed().as_secs() < 30, "it is not seen");
        }
    }
}
