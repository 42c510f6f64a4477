//! Each kind of message against the largest state that the limits allow, or a part of it: `ring9-work PARTS`, where 1 is the whole state and 16 a sixteenth of it.
//! `tests/e2e/work.py` counts the instructions of each message and of each turn.
//!
//! Every message is one call of [`measured`], and so is every turn, so that callgrind can tell them apart. The names are printed in the order of those calls.

use ring9::arena::Arena;
use ring9::fs::ctl::Ctl;
use ring9::fs::dev::Dev;
use ring9::fs::join::{End, Join};
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{At, Service, Simple, Time};
use ring9::session::{Config, Session, Trust};
use ring9::stats::{Connection, Lines, Stats};
use ring9::wire::{Data, Dialect, Ext, Kind, Message, NOFID, Names, Opt, UOnly};
use std::hint::black_box;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

const AT: At = At { wall: Time { sec: 1_700_000_000, nsec: 0 }, mono_ns: 1_000_000_000 };
const MSIZE: u32 = 1 << 20;
const BLOCK: u64 = 64 << 10;
const FAR: u64 = 1 << 62;
/// The user of a session that names none, and the owner of `ctl`, which is private.
const NOBODY: u32 = 65534;

/// What there is at most: ranges and attributes of a file, names in a directory, directories on a path, blocks of a file, fids and connections. The limits of locks and attributes
/// are those of ring9; the others are limited by memory alone, or take too long to build.
struct Sizes {
    ranges: u64,
    attrs: u64,
    names: u64,
    depth: u64,
    blocks: u64,
    fids: u32,
    connections: u32,
}

impl Sizes {
    fn of(parts: u64) -> Sizes {
        Sizes {
            ranges: 4095 / parts,
            attrs: 5000 / parts,
            names: 8192 / parts,
            depth: 8192 / parts,
            blocks: 4096 / parts,
            fids: 8192 / parts as u32,
            connections: 10_000 / parts as u32,
        }
    }
}

type Trees = Join<Simple<Mem>, Join<Simple<Dev>, Join<Simple<Ctl>, End>>>;

/// One call for each message, or for each turn: callgrind writes its counts down before it, and before [`counted`].
#[inline(never)]
fn measured(session: &mut Session<Trees>, fs: &mut Trees, bytes: &[u8]) -> Option<usize> {
    session.receive(fs, AT, bytes).ok().map(|received| received.consumed)
}

/// The end of what is counted.
#[inline(never)]
fn counted(consumed: Option<usize>) -> Option<usize> {
    black_box(consumed)
}

struct Peer {
    session: Session<Trees>,
    dialect: Dialect,
}

struct World {
    fs: Trees,
    stats: Rc<Stats>,
    peers: u32,
}

/// The state that one session has built, with its fids.
mod fid {
    pub(super) const ROOT: u32 = 0;
    pub(super) const LOCKED: u32 = 1;
    pub(super) const ATTRS: u32 = 2;
    pub(super) const NAMES: u32 = 3;
    pub(super) const DEEP: u32 = 4;
    pub(super) const BIG: u32 = 5;
    pub(super) const SMALL: u32 = 6;
    pub(super) const CTL: u32 = 7;
    pub(super) const DEV: u32 = 8;
    pub(super) const TABLE: u32 = 9;
    pub(super) const LINK: u32 = 10;
    pub(super) const LIST: u32 = 11;
    /// Comes and goes.
    pub(super) const PASSING: u32 = 20;
    pub(super) const OTHER: u32 = 21;
    pub(super) const MANY: u32 = 1000;
}

fn frame(message: &Message<'_>, tag: u16, dialect: Dialect) -> Vec<u8> {
    let mut frame = Vec::new();
    message.emit(tag, dialect, &mut frame);
    frame
}

impl World {
    fn new() -> Option<World> {
        let options = Options { inodes_max: 1 << 20, hash_key: 1, ..Options::default() };
        let arena = Arena::new(2 << 30).ok()?;
        let (zeros, gauge, stats) = (arena.zeros(), arena.gauge(), Rc::<Stats>::default());
        let log = Arc::new(Mutex::new(Lines::new(1000)));
        let ctl = Ctl::new(Rc::clone(&stats), gauge, log);
        let ctl = Join::new((&[b"ctl"], ctl.into()), End);
        let dev = Join::new((&[b"dev"], Dev::new(zeros, [7; 32]).into()), ctl);
        let mut fs: Trees = Join::new((&[b""], Mem::new(arena, options).into()), dev);
        fs.init(AT).ok()?;
        Some(World { fs, stats, peers: 0 })
    }

    fn peer(&mut self, dialect: Dialect) -> Option<Peer> {
        self.peers += 1;
        let config = Config { trust: Trust::All, owner: Some(NOBODY), hash_key: 1, ..Config::new(self.peers, MSIZE) };
        let mut peer = Peer { session: Session::new(config), dialect };
        let version = frame(&Message::Tversion { msize: MSIZE, version: dialect.name().as_bytes() }, !0, Dialect::L);
        peer.session.receive(&mut self.fs, AT, &version).ok()?;
        self.sent(&mut peer);
        for (fid, aname) in [(fid::ROOT, &b""[..]), (fid::CTL, b"ctl"), (fid::DEV, b"dev")] {
            self.say(&mut peer, &Message::Tattach { fid, afid: NOFID, uname: b"", aname, n_uname: Ext(0) })?;
        }
        Some(peer)
    }

    /// Replies leave, and the turn ends.
    fn sent(&mut self, peer: &mut Peer) -> bool {
        let mut failed = false;
        while let Some(mut segments) = peer.session.take(&self.fs) {
            // The type of the first reply: errors are Rlerror and Rerror.
            let kind = segments.views().next().and_then(|view| view.bytes.get(4).copied());
            failed |= matches!(kind, Some(7 | 107));
            segments.advance(segments.len(), |_| {});
            peer.session.recycle(segments);
        }
        self.fs.ready();
        failed
    }

    /// A request while the state is built: it must not fail.
    fn say(&mut self, peer: &mut Peer, message: &Message<'_>) -> Option<()> {
        let frame = frame(message, 1, peer.dialect);
        let received = peer.session.receive(&mut self.fs, AT, &frame).ok()?;
        let failed = self.sent(peer);
        if failed || received.consumed != frame.len() {
            eprintln!("ring9-work: {message:?} was refused");
        }
        (!failed).then_some(())
    }

    fn walk(&mut self, peer: &mut Peer, from: u32, newfid: u32, names: &[&[u8]]) -> Option<()> {
        self.say(peer, &Message::Twalk { fid: from, newfid, wnames: Names::list(names) })
    }

    fn create(&mut self, peer: &mut Peer, fid: u32, name: &[u8]) -> Option<()> {
        self.walk(peer, fid::ROOT, fid, &[])?;
        self.say(peer, &Message::Tlcreate { fid, name, flags: 0o102, mode: 0o666, gid: 0 })
    }

    /// A file of many blocks.
    fn big(&mut self, peer: &mut Peer, fid: u32, name: &[u8], blocks: u64) -> Option<()> {
        self.create(peer, fid, name)?;
        (0..blocks).try_for_each(|block| {
            self.say(peer, &Message::Twrite { fid, offset: block * BLOCK, data: Data::Here(b"x") })
        })
    }

    fn attributes(&mut self, peer: &mut Peer, fid: u32, name: &[u8], count: u64) -> Option<()> {
        self.create(peer, fid, name)?;
        self.say(peer, &Message::Tclunk { fid })?;
        for number in 0..count {
            let attr = format!("user.{number:04}");
            self.walk(peer, fid::ROOT, fid, &[name])?;
            self.say(peer, &Message::Txattrcreate { fid, name: attr.as_bytes(), attr_size: 0, flags: 0 })?;
            self.say(peer, &Message::Tclunk { fid })?;
        }
        self.walk(peer, fid::ROOT, fid, &[name])
    }

    fn locked(&mut self, peer: &mut Peer, fid: u32, name: &[u8], ranges: u64) -> Option<()> {
        self.create(peer, fid, name)?;
        (0..ranges).try_for_each(|range| self.say(peer, &lock(fid, 1, 2 * range, 1, 7)))
    }

    /// Everything that the messages of a peer meet.
    fn build(&mut self, sizes: &Sizes) -> Option<Peer> {
        let mut peer = self.peer(Dialect::L)?;
        let peer_ = &mut peer;
        self.locked(peer_, fid::LOCKED, b"locked", sizes.ranges)?;
        self.attributes(peer_, fid::ATTRS, b"attrs", sizes.attrs)?;
        self.big(peer_, fid::BIG, b"big", sizes.blocks)?;
        self.create(peer_, fid::SMALL, b"small")?;
        self.say(peer_, &Message::Tsymlink { fid: fid::ROOT, name: b"link", target: &[b't'; 4000], gid: 0 })?;
        self.walk(peer_, fid::ROOT, fid::LINK, &[b"link"])?;
        self.say(peer_, &Message::Tmkdir { dfid: fid::ROOT, name: b"names", mode: 0o777, gid: 0 })?;
        self.walk(peer_, fid::ROOT, fid::NAMES, &[b"names"])?;
        for number in 0..sizes.names {
            let name = format!("{number:05}");
            let node =
                Message::Tmknod { dfid: fid::NAMES, name: name.as_bytes(), mode: 0o666, major: 0, minor: 0, gid: 0 };
            self.say(peer_, &node)?;
        }
        self.walk(peer_, fid::NAMES, fid::LIST, &[])?;
        self.say(peer_, &Message::Tlopen { fid: fid::LIST, flags: 0 })?;
        self.say(peer_, &Message::Tmkdir { dfid: fid::ROOT, name: b"top", mode: 0o777, gid: 0 })?;
        self.say(peer_, &Message::Tmkdir { dfid: fid::ROOT, name: b"other", mode: 0o777, gid: 0 })?;
        self.walk(peer_, fid::ROOT, fid::DEEP, &[b"other"])?;
        for _ in 0..sizes.depth {
            self.say(peer_, &Message::Tmkdir { dfid: fid::DEEP, name: b"d", mode: 0o777, gid: 0 })?;
            self.walk(peer_, fid::DEEP, fid::DEEP, &[b"d"])?;
        }
        self.walk(peer_, fid::ROOT, fid::PASSING, &[b"top"])?;
        self.say(peer_, &Message::Tmkdir { dfid: fid::PASSING, name: b"d", mode: 0o777, gid: 0 })?;
        self.say(peer_, &Message::Tclunk { fid: fid::PASSING })?;
        self.walk(peer_, fid::CTL, fid::TABLE, &[b"latency", b"Tread"])?;
        for number in 0..sizes.connections {
            let connection = Connection::new("tcp:127.0.0.1:564".into(), "squash".into(), 0);
            self.stats.connected(number, Rc::new(connection));
        }
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            self.stats.replied(Kind::TREAD, random >> (30 + random % 30));
        }
        for number in 0..sizes.fids {
            self.walk(peer_, fid::ROOT, fid::MANY + number, &[])?;
        }
        Some(peer)
    }

    /// One message, measured.
    fn one(&mut self, peer: &mut Peer, name: &str, message: &Message<'_>) -> Option<()> {
        let bytes = frame(message, 1, peer.dialect);
        println!("message {name}");
        counted(measured(&mut peer.session, &mut self.fs, &bytes))?;
        self.sent(peer);
        Some(())
    }

    /// As many messages as a turn serves, of 198 that are repeated; measured.
    fn turn(&mut self, peer: &mut Peer, name: &str, messages: &[Message<'_>]) -> Option<()> {
        let bytes: Vec<u8> = (1_u16..)
            .zip(messages.iter().cycle().take(198))
            .flat_map(|(tag, message)| frame(message, tag, peer.dialect))
            .collect();
        println!("turn {name}");
        let mut rest = &bytes[counted(measured(&mut peer.session, &mut self.fs, &bytes))?..];
        self.sent(peer);
        while !rest.is_empty() {
            let consumed = peer.session.receive(&mut self.fs, AT, rest).ok()?.consumed;
            self.sent(peer);
            rest = &rest[consumed..];
        }
        Some(())
    }
}

fn lock(fid: u32, type_: u8, start: u64, length: u64, process: u32) -> Message<'static> {
    Message::Tlock { fid, type_, flags: 0, start, length, proc_id: process, client_id: b"client" }
}

fn run(parts: u64) -> Option<()> {
    let sizes = Sizes::of(parts);
    let mut world = World::new()?;
    let world = &mut world;
    let mut peer = world.build(&sizes)?;
    let peer = &mut peer;
    let end = sizes.blocks * BLOCK;
    let read = |fid, offset, count| Message::Tread { fid, offset, count };
    let clone = |fid, newfid| Message::Twalk { fid, newfid, wnames: Names::list(&[]) };
    let clunk = |fid| Message::Tclunk { fid };
    let list = |offset| Message::Treaddir { fid: fid::LIST, offset, count: MSIZE };
    let up: [&[u8]; 16] = [b".."; 16];
    let mib = vec![7; 16_000];
    // Messages that change nothing, or little, and can be repeated.
    let same: &[(&str, Message<'_>)] = &[
        ("Tauth", Message::Tauth { afid: 30, uname: b"", aname: b"", n_uname: Ext(0) }),
        ("Tflush", Message::Tflush { oldtag: 9 }),
        ("Tgetattr", Message::Tgetattr { fid: fid::BIG, request_mask: 0x3fff }),
        ("Tgetattr of a deep directory", Message::Tgetattr { fid: fid::DEEP, request_mask: 0x3fff }),
        ("Tgetattr of a table", Message::Tgetattr { fid: fid::TABLE, request_mask: 0x3fff }),
        ("Tgetattr of ctl", Message::Tgetattr { fid: fid::CTL, request_mask: 0x3fff }),
        (
            "Tsetattr of the mode",
            Message::Tsetattr {
                fid: fid::BIG,
                valid: 1,
                mode: 0o600,
                uid: 0,
                gid: 0,
                size: 0,
                atime_sec: 0,
                atime_nsec: 0,
                mtime_sec: 0,
                mtime_nsec: 0,
            },
        ),
        ("Tsetattr that grows", Message::set_size(fid::BIG, FAR)),
        ("Tstatfs", Message::Tstatfs { fid: fid::BIG }),
        ("Tfsync", Message::Tfsync { fid: fid::BIG, datasync: Opt(0) }),
        ("Treadlink", Message::Treadlink { fid: fid::LINK }),
        ("Treaddir from the start", list(0)),
        ("Treaddir in the middle", list(sizes.names / 2)),
        ("Twalk of 16 names", Message::Twalk { fid: fid::DEEP, newfid: fid::DEEP, wnames: Names::list(&up) }),
        ("Tread of 1 MiB", read(fid::BIG, 0, MSIZE)),
        ("Tread of holes", read(fid::BIG, end, MSIZE)),
        ("Twrite", Message::Twrite { fid: fid::BIG, offset: 100, data: Data::Here(&mib) }),
        ("Twrite far behind the end", Message::Twrite { fid: fid::BIG, offset: FAR, data: Data::Here(b"x") }),
        ("Tlock of a range more", lock(fid::LOCKED, 1, 2 * sizes.ranges, 1, 7)),
        ("Tlock that is refused", lock(fid::LOCKED, 1, 0, 0, 8)),
        ("Tlock that gives one back", lock(fid::LOCKED, 2, 2 * sizes.ranges, 1, 7)),
        (
            "Tgetlock",
            Message::Tgetlock {
                fid: fid::LOCKED,
                type_: 1,
                start: 2 * sizes.ranges - 2,
                length: 1,
                proc_id: 8,
                client_id: b"client",
            },
        ),
        (
            "Trenameat in a deep tree",
            Message::Trenameat { olddirfid: fid::ROOT, oldname: b"top", newdirfid: fid::DEEP, newname: b"x" },
        ),
        ("Tlopen that is refused", Message::Tlopen { fid: fid::BIG, flags: 0 }),
        ("Tunlinkat of nothing", Message::Tunlinkat { dfid: fid::NAMES, name: b"none", flags: 0 }),
    ];
    for (name, message) in same {
        world.one(peer, name, message)?;
    }
    // And those that come in pairs.
    let name = b"user.0001";
    let pairs: &[(&str, Message<'_>, &str, Message<'_>)] = &[
        (
            "Tattach",
            Message::Tattach { fid: fid::PASSING, afid: NOFID, uname: b"", aname: b"", n_uname: Ext(0) },
            "Tclunk",
            clunk(fid::PASSING),
        ),
        ("Twalk", clone(fid::ROOT, fid::PASSING), "Tclunk of a walk", clunk(fid::PASSING)),
        (
            "Txattrwalk of all names",
            Message::Txattrwalk { fid: fid::ATTRS, newfid: fid::PASSING, name: b"" },
            "Tclunk of a list",
            clunk(fid::PASSING),
        ),
        (
            "Txattrwalk of one",
            Message::Txattrwalk { fid: fid::ATTRS, newfid: fid::PASSING, name },
            "Tclunk of an attribute",
            clunk(fid::PASSING),
        ),
        (
            "Tmkdir",
            Message::Tmkdir { dfid: fid::NAMES, name: b"new", mode: 0o777, gid: 0 },
            "Tunlinkat of a directory",
            Message::Tunlinkat { dfid: fid::NAMES, name: b"new", flags: 0x200 },
        ),
        (
            "Tmknod",
            Message::Tmknod { dfid: fid::NAMES, name: b"new", mode: 0o666, major: 0, minor: 0, gid: 0 },
            "Tunlinkat",
            Message::Tunlinkat { dfid: fid::NAMES, name: b"new", flags: 0 },
        ),
        (
            "Tsymlink",
            Message::Tsymlink { fid: fid::NAMES, name: b"new", target: b"t", gid: 0 },
            "Tunlinkat of a link",
            Message::Tunlinkat { dfid: fid::NAMES, name: b"new", flags: 0 },
        ),
        (
            "Tlink",
            Message::Tlink { dfid: fid::NAMES, fid: fid::BIG, name: b"new" },
            "Tunlinkat of a further name",
            Message::Tunlinkat { dfid: fid::NAMES, name: b"new", flags: 0 },
        ),
        (
            "Trenameat",
            Message::Trenameat { olddirfid: fid::NAMES, oldname: b"00003", newdirfid: fid::NAMES, newname: b"new" },
            "Trenameat back",
            Message::Trenameat { olddirfid: fid::NAMES, oldname: b"new", newdirfid: fid::NAMES, newname: b"00003" },
        ),
    ];
    for (first, begins, second, ends) in pairs {
        world.one(peer, first, begins)?;
        world.one(peer, second, ends)?;
    }
    for (name, message) in same {
        world.turn(peer, name, &[*message])?;
    }
    for (first, begins, second, ends) in pairs {
        world.turn(peer, &format!("{first}, {second}"), &[*begins, *ends])?;
    }
    // What is made when it is opened.
    for (open, path) in
        [("a table", &[&b"latency"[..], b"Tread"][..]), ("stats", &[b"stats"]), ("connections", &[b"connections"])]
    {
        world.walk(peer, fid::CTL, fid::PASSING, path)?;
        world.one(peer, &format!("Tlopen of {open}"), &Message::Tlopen { fid: fid::PASSING, flags: 0 })?;
        world.one(peer, &format!("Tread of {open}"), &read(fid::PASSING, 0, MSIZE))?;
        world.one(peer, &format!("Tclunk of {open}"), &clunk(fid::PASSING))?;
    }
    let open = [
        Message::Twalk { fid: fid::CTL, newfid: fid::PASSING, wnames: Names::list(&[b"latency", b"Tread"]) },
        Message::Tlopen { fid: fid::PASSING, flags: 0 },
        clunk(fid::PASSING),
        Message::Twalk { fid: fid::CTL, newfid: fid::PASSING, wnames: Names::list(&[b"latency", b"Twalk"]) },
        Message::Tlopen { fid: fid::PASSING, flags: 0 },
        clunk(fid::PASSING),
    ];
    world.turn(peer, "Tlopen of tables", &open)?;
    world.walk(peer, fid::DEV, fid::PASSING, &[b"random"])?;
    world.say(peer, &Message::Tlopen { fid: fid::PASSING, flags: 0 })?;
    world.one(peer, "Tread of random", &read(fid::PASSING, 0, MSIZE))?;
    world.turn(peer, "Tread of random", &[read(fid::PASSING, 0, MSIZE)])?;
    world.say(peer, &clunk(fid::PASSING))?;
    // What lets go of much: each on a file of its own.
    world.one(peer, "Tsetattr that cuts half", &Message::set_size(fid::BIG, end / 2 + 1))?;
    world.one(peer, "Tsetattr that cuts all", &Message::set_size(fid::BIG, 0))?;
    world.big(peer, fid::OTHER, b"replaced", sizes.blocks)?;
    world.say(peer, &clunk(fid::OTHER))?;
    world.create(peer, fid::OTHER, b"replaces")?;
    world.say(peer, &clunk(fid::OTHER))?;
    world.one(
        peer,
        "Trenameat over a large file",
        &Message::Trenameat { olddirfid: fid::ROOT, oldname: b"replaces", newdirfid: fid::ROOT, newname: b"replaced" },
    )?;
    world.one(
        peer,
        "Twrite while blocks wait",
        &Message::Twrite { fid: fid::SMALL, offset: 0, data: Data::Here(b"x") },
    )?;
    world.big(peer, fid::OTHER, b"removed", sizes.blocks)?;
    world.one(peer, "Tremove of a large file", &Message::Tremove { fid: fid::OTHER })?;
    world.big(peer, fid::OTHER, b"truncated", sizes.blocks)?;
    world.walk(peer, fid::ROOT, fid::PASSING, &[b"truncated"])?;
    world.one(peer, "Tlopen that truncates", &Message::Tlopen { fid: fid::PASSING, flags: 0o1001 })?;
    world.say(peer, &clunk(fid::PASSING))?;
    world.one(peer, "Tremove of a file with attributes", &Message::Tremove { fid: fid::ATTRS })?;
    world.one(peer, "Tlock of all", &lock(fid::LOCKED, 1, 0, 0, 7))?;
    world.one(peer, "Tlock that gives all back", &lock(fid::LOCKED, 2, 0, 0, 7))?;
    world.locked(peer, fid::PASSING, b"clunked", sizes.ranges)?;
    world.one(peer, "Tclunk with locks", &clunk(fid::PASSING))?;
    world.one(peer, "Tversion with many fids", &Message::Tversion { msize: MSIZE, version: b"9P2000.L" })?;
    // The older dialects.
    let mut classic = world.peer(Dialect::P9)?;
    let classic = &mut classic;
    world.one(classic, "Tstat", &Message::Tstat { fid: fid::ROOT })?;
    for (name, from, path) in
        [("a large directory", fid::ROOT, &[&b"names"[..]][..]), ("latency", fid::CTL, &[b"latency"])]
    {
        world.walk(classic, from, fid::PASSING, path)?;
        world.one(classic, &format!("Topen of {name}"), &Message::Topen { fid: fid::PASSING, mode: 0 })?;
        world.one(classic, &format!("Tread of {name}"), &read(fid::PASSING, 0, MSIZE))?;
        world.turn(classic, &format!("Tread of {name}"), &[read(fid::PASSING, 0, MSIZE)])?;
        world.one(classic, &format!("Tclunk of {name}"), &clunk(fid::PASSING))?;
    }
    world.walk(classic, fid::ROOT, fid::PASSING, &[b"names"])?;
    world.one(
        classic,
        "Tcreate in a large directory",
        &Message::Tcreate { fid: fid::PASSING, name: b"made", perm: 0o666, mode: 0, extension: UOnly(b"") },
    )?;
    world.one(classic, "Tremove in a large directory", &Message::Tremove { fid: fid::PASSING })
}

fn main() -> ExitCode {
    let parts = std::env::args().nth(1).and_then(|parts| parts.parse().ok()).filter(|&parts| parts > 0);
    match parts.map(run) {
        Some(Some(())) => ExitCode::SUCCESS,
        Some(None) => ExitCode::FAILURE,
        None => {
            eprintln!("ring9-work: PARTS, 1 for the largest state");
            ExitCode::from(2)
        }
    }
}
