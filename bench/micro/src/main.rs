//! One operation, many times: `ring9-micro NAME COUNT`; `ring9-micro` prints the names. `tests/e2e/micro.py` counts the instructions of each.
//!
//! Sessions are given frames as a socket would bring them, one at a time; their replies are taken and given back, as if they had been sent.

use ring9::arena::Arena;
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{At, Filesystem, Service, Simple, Time, User};
use ring9::session::{Config, Session, Trust};
use ring9::wire::{Data, Dialect, Ext, Message, NOFID, Names};
use std::hint::black_box;
use std::process::ExitCode;

const AT: At = At { wall: Time { sec: 1_700_000_000, nsec: 0 }, mono_ns: 1_000_000_000 };
const MSIZE: u32 = 1 << 20;
const PAYLOAD: [u8; 4096] = [7; 4096];
static LARGE: [u8; 64 << 10] = [8; 64 << 10];
/// Parts of 4 KiB of a file of 64 KiB, or far from each other, in the order in which they are written: neither up nor down.
const SCATTERED: [u64; 16] = [5, 12, 0, 9, 14, 3, 7, 10, 1, 15, 6, 11, 2, 13, 8, 4];
/// Bytes between parts that are far from each other.
const FAR: u64 = 1 << 20;
/// Fids of the root, of a file and of a directory that is open, and one that comes and goes.
const ROOT: u32 = 0;
const FILE: u32 = 1;
const LIST: u32 = 2;
const PASSING: u32 = 3;
/// Of a file that a row makes for itself.
const OWN: u32 = 4;

type Run = fn(u64) -> Option<()>;

/// By name, in the order of the rooms.
const ALL: [(&str, Run); 14] = [
    ("wire/parse-twalk", |count| parse(&walk(), count)),
    ("wire/parse-twrite-4k", |count| parse(&write(), count)),
    ("wire/emit-rgetattr", emit),
    ("session/getattr", |count| serve(&[Message::Tgetattr { fid: FILE, request_mask: 0x7ff }], count)),
    ("session/read-4k", |count| serve(&[Message::Tread { fid: FILE, offset: 4096, count: 4096 }], count)),
    ("session/write-4k", |count| serve(&[write()], count)),
    ("session/write-16k", |count| serve(&[overwrite(&LARGE[..16 << 10])], count)),
    ("session/write-64k", |count| serve(&[overwrite(&LARGE)], count)),
    ("session/write-4k-sparse-16", |count| {
        // Holes again and again: the file is emptied and grows to its size before each round of 16.
        let mut messages = vec![resize(0), resize(16 * FAR)];
        messages.extend(SCATTERED.map(|part| part_of(part * FAR)));
        serve_own(&[], &messages, count)
    }),
    ("session/read-64k-parts", |count| {
        let read = Message::Tread { fid: OWN, offset: 0, count: LARGE.len() as u32 };
        serve_own(&SCATTERED.map(|part| part_of(part * PAYLOAD.len() as u64)), &[read], count)
    }),
    ("session/walk-clunk", |count| serve(&[walk(), Message::Tclunk { fid: PASSING }], count)),
    ("session/readdir", |count| serve(&[Message::Treaddir { fid: LIST, offset: 0, count: 8192 }], count)),
    ("session/create-unlink", |count| {
        let clone = Message::Twalk { fid: ROOT, newfid: PASSING, wnames: Names::list(&[]) };
        let create = Message::Tlcreate { fid: PASSING, name: b"new", flags: 0o102, mode: 0o644, gid: 0 };
        let unlink = Message::Tunlinkat { dfid: ROOT, name: b"new", flags: 0 };
        serve(&[clone, create, Message::Tclunk { fid: PASSING }, unlink], count)
    }),
    ("memfs/lookup-close", lookup),
];

fn walk() -> Message<'static> {
    Message::Twalk { fid: ROOT, newfid: PASSING, wnames: Names::list(&[b"file"]) }
}

fn write() -> Message<'static> {
    Message::Twrite { fid: FILE, offset: 8192, data: Data::Here(&PAYLOAD) }
}

/// Writes from the start of the file of 64 KiB.
fn overwrite(bytes: &'static [u8]) -> Message<'static> {
    Message::Twrite { fid: FILE, offset: 0, data: Data::Here(bytes) }
}

fn part_of(offset: u64) -> Message<'static> {
    Message::Twrite { fid: OWN, offset, data: Data::Here(&PAYLOAD) }
}

fn resize(size: u64) -> Message<'static> {
    Message::set_size(OWN, size)
}

fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    message.emit(1, Dialect::L, &mut frame);
    frame
}

fn parse(message: &Message<'_>, count: u64) -> Option<()> {
    let frame = frame(message);
    for _ in 0..count {
        black_box(Message::parse(black_box(&frame), Dialect::L).ok()?);
    }
    Some(())
}

fn emit(count: u64) -> Option<()> {
    // What a session answers is what is emitted.
    let mut peer = Peer::new()?;
    let reply = peer.ask(&frame(&Message::Tgetattr { fid: FILE, request_mask: 0x7ff }))?;
    let (tag, message) = Message::parse(&reply, Dialect::L).ok()?;
    let mut out = Vec::with_capacity(reply.len());
    for _ in 0..count {
        out.clear();
        black_box(&message).emit(tag, Dialect::L, &mut out);
        black_box(&out);
    }
    Some(())
}

fn serve(messages: &[Message<'_>], count: u64) -> Option<()> {
    serve_with(Peer::new()?, messages, count)
}

/// The same beside a file of [`OWN`], to which `before` is said first.
fn serve_own(before: &[Message<'_>], messages: &[Message<'_>], count: u64) -> Option<()> {
    let mut peer = Peer::new()?;
    peer.make(OWN, b"own")?;
    before.iter().try_for_each(|message| peer.say(message))?;
    // What is refused would be counted as served.
    messages.iter().try_for_each(|message| peer.say(message))?;
    serve_with(peer, messages, count)
}

fn serve_with(mut peer: Peer, messages: &[Message<'_>], count: u64) -> Option<()> {
    let frames: Vec<Vec<u8>> = messages.iter().map(frame).collect();
    for _ in 0..count {
        for frame in &frames {
            peer.tell(black_box(frame))?;
        }
    }
    Some(())
}

fn lookup(count: u64) -> Option<()> {
    let Peer { mut fs, .. } = Peer::new()?;
    let root = fs.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 0 }, b"").ok()?;
    for _ in 0..count {
        let file = fs.lookup(&root, black_box(b"file")).ok()?;
        fs.close(black_box(file), AT).ok()?;
    }
    Some(())
}

/// A session that has attached, with a file of 64 KiB and a directory of a hundred.
struct Peer {
    fs: Simple<Mem>,
    session: Session<Simple<Mem>>,
}

impl Peer {
    fn new() -> Option<Peer> {
        let mut fs = Simple::from(Mem::new(Arena::new(16 << 20).ok()?, Options::default()));
        Service::init(&mut fs, AT).ok()?;
        let config = Config { trust: Trust::All, hash_key: 1, ..Config::new(0, MSIZE) };
        let mut peer = Peer { fs, session: Session::new(config) };
        let mut version = Vec::new();
        Message::Tversion { msize: MSIZE, version: b"9P2000.L" }.emit(!0, Dialect::L, &mut version);
        peer.tell(&version)?;
        peer.say(&Message::Tattach { fid: ROOT, afid: NOFID, uname: b"", aname: b"", n_uname: Ext(0) })?;
        for number in 0..100 {
            let name = format!("entry.{number}");
            peer.make(FILE, name.as_bytes())?;
            peer.say(&Message::Tclunk { fid: FILE })?;
        }
        peer.make(FILE, b"file")?;
        for block in 0..16 {
            peer.say(&Message::Twrite { fid: FILE, offset: block * 4096, data: Data::Here(&PAYLOAD) })?;
        }
        peer.say(&Message::Twalk { fid: ROOT, newfid: LIST, wnames: Names::list(&[]) })?;
        peer.say(&Message::Tlopen { fid: LIST, flags: 0o200_000 })?;
        Some(peer)
    }

    fn make(&mut self, fid: u32, name: &[u8]) -> Option<()> {
        self.say(&Message::Twalk { fid: ROOT, newfid: fid, wnames: Names::list(&[]) })?;
        self.say(&Message::Tlcreate { fid, name, flags: 0o102, mode: 0o644, gid: 0 })
    }

    fn say(&mut self, message: &Message<'_>) -> Option<()> {
        let reply = self.ask(&frame(message))?;
        let (_, reply) = Message::parse(&reply, Dialect::L).ok()?;
        (!matches!(reply, Message::Rlerror { .. })).then_some(())
    }

    /// A request; the bytes of its reply.
    fn ask(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.session.receive(&mut self.fs, AT, frame).ok()?;
        let mut segments = self.session.take(&self.fs)?;
        let bytes = segments.views().flat_map(|view| view.bytes).copied().collect();
        segments.advance(segments.len(), |_| {});
        self.session.recycle(segments);
        Some(bytes)
    }

    /// The same without a look at the reply.
    fn tell(&mut self, frame: &[u8]) -> Option<()> {
        let received = self.session.receive(&mut self.fs, AT, frame).ok()?;
        if received.consumed < frame.len() {
            return None;
        }
        let mut segments = self.session.take(&self.fs)?;
        segments.advance(black_box(&segments).len(), |_| {});
        self.session.recycle(segments);
        Some(())
    }
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [name, count] = &given[..] else {
        ALL.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let run = ALL.iter().find(|(known, _)| known == name);
    match run.zip(count.parse().ok()).map(|((_, run), count)| run(count)) {
        Some(Some(())) => ExitCode::SUCCESS,
        Some(None) => {
            eprintln!("ring9-micro: {name}: a request was refused");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("ring9-micro: NAME COUNT, or nothing for the names");
            ExitCode::from(2)
        }
    }
}
