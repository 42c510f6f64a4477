//! Conversations that are written down: what a client says, and exactly what it hears. A new case is a new file, or more lines in one; no Rust.
//!
//! ```text
//! # a comment
//! ! start 9P2000.L 1000        Tversion, and Tattach of fid 0 as this user, answered as they should be. Optional: an attach name
//! > Twalk fid=0 newfid=1 wnames=["usr"]            what the client says, in the form of `--trace`; what is left out is unset, tag=1
//! < Rwalk wqids=[(0x80 1 1)]                       what it hears; tag=1 is left out, * stands for anything
//! > hex 0b00000078 0100 ffff                       any bytes
//! ! wait 5                                         5 s pass
//! ! peer 2                                         from here on another connection speaks
//! ! trust peer-uid 1000 100                        for whom it may act, before its start: this user of this group, or "squash"; else "all"
//! < closed a message of 3 bytes                    the connection ends, and this is in the reason
//! ```
//! After an Rreaddir, and an Rread of `>stat`, each entry is a line that starts with `|`. A request without a `<` line behind it gets no reply (yet).
//!
//! Each file runs three times: in whole messages, a byte at a time, and with everything up to the next `!` or closing at once. In the end nothing may be left. With
//! `RING9_TRANSCRIPTS=write` the heard lines are written into the files, to be read before they are believed.

mod support;

use bytes::BytesMut;
use ring9::arena::{Arena, Gauge};
use ring9::fs::dev::{self, Dev};
use ring9::fs::join::{End, Join};
use ring9::fs::mem::{self, Mem, Options};
use ring9::fs::{At, Service, Simple};
use ring9::session::{Broken, Config, Session, Trust, Users};
use ring9::wire::{self, Data, Dialect, DirEntry, Message, Stat};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::AT;

const PASSWD: &str = "root:x:0:0\nann:x:1000:100\nbob:x:1001:100\nnobody:x:65534:65534\n";
const GROUP: &str = "root:x:0\nstaff:x:100:ann,bob\nnogroup:x:65534\n";
const MSIZE: u32 = 65_536;
/// Inodes: few, so that a transcript can use them up.
const INODES: usize = 40;

type Trees = Join<Simple<Mem>, Join<Simple<Dev>, End>>;

/// How the bytes of a file arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Whole,
    Bytes,
    AtOnce,
}

struct Peer {
    session: Session<Trees>,
    dialect: Dialect,
    /// Bytes that the session wants to see again.
    kept: Vec<u8>,
    broken: Option<Broken>,
}

struct World {
    fs: Trees,
    gauge: Gauge,
    peers: BTreeMap<u32, Peer>,
    /// By peer; the others are believed.
    trusts: BTreeMap<u32, Trust>,
    now: At,
}

impl World {
    fn new() -> World {
        let arena = Arena::new(1 << 20).expect("a small mapping");
        let (zeros, gauge) = (arena.zeros(), arena.gauge());
        let mem = Mem::new(arena, Options { inodes_max: INODES, ..Options::default() });
        let dev = Join::new((dev::ATTACH_NAMES, Dev::new(zeros, [7; 32]).into()), End);
        let mut fs: Trees = Join::new((mem::ATTACH_NAMES, mem.into()), dev);
        fs.init(AT).expect("memory is there");
        World { fs, gauge, peers: BTreeMap::new(), trusts: BTreeMap::new(), now: AT }
    }

    fn peer(&mut self, number: u32) -> &mut Peer {
        let trust = self.trusts.get(&number).copied().unwrap_or(Trust::All);
        self.peers.entry(number).or_insert_with(|| {
            let users = Arc::new(Users::parse(PASSWD, GROUP));
            let config = Config { trust, users, hash_key: 1, ..Config::new(number, MSIZE) };
            Peer { session: Session::new(config), dialect: Dialect::P9, kept: Vec::new(), broken: None }
        })
    }

    /// Feeds bytes to a peer; what it hears, as lines.
    fn say(&mut self, number: u32, bytes: &[u8], stats: bool, pace: Pace) -> Vec<String> {
        self.peer(number);
        let pieces: Vec<&[u8]> = if pace == Pace::Bytes { bytes.chunks(1).collect() } else { vec![bytes] };
        let mut heard = Vec::new();
        for piece in pieces {
            let (fs, peer) = (&mut self.fs, self.peers.get_mut(&number).expect("it speaks"));
            peer.kept.extend_from_slice(piece);
            loop {
                if peer.broken.is_some() {
                    break;
                }
                let kept = std::mem::take(&mut peer.kept);
                match peer.session.receive(fs, self.now, &kept) {
                    Ok(received) => {
                        peer.kept = kept[received.consumed..].to_vec();
                        hear(fs, peer, stats, &mut heard);
                        if received.consumed == 0 || !received.need.held {
                            break;
                        }
                    }
                    Err(broken) => {
                        hear(fs, peer, stats, &mut heard);
                        heard.push(format!("< closed {broken}"));
                        peer.session.close(fs, self.now);
                        peer.broken = Some(broken);
                    }
                }
            }
        }
        heard
    }

    fn end(mut self, what: &str) {
        for peer in self.peers.values_mut() {
            peer.session.close(&mut self.fs, self.now);
            assert_eq!((peer.session.fids(), peer.session.pending()), (0, 0), "{what}");
        }
        self.fs.ready();
        assert_eq!(self.fs.first().locks(), 0, "{what}");
        assert_eq!((self.gauge.pins(), self.gauge.granted_bytes()), (0, 0), "{what}");
        self.fs.cleanup().expect("memory is always released");
        assert_eq!(self.gauge.used_bytes(), 0, "{what}");
    }
}

/// Takes what a peer is sent.
fn hear(fs: &Trees, peer: &mut Peer, stats: bool, heard: &mut Vec<String>) {
    while let Some(mut batch) = peer.session.take(fs) {
        let bytes = batch.to_vec();
        batch.advance(batch.len(), |_| ());
        peer.session.recycle(batch);
        let mut rest = bytes.as_slice();
        while let Some(head) = wire::head(rest) {
            let (frame, next) = rest.split_at(head.size as usize);
            rest = next;
            if let Ok((_, Message::Rversion { version, .. })) = Message::parse(frame, Dialect::P9) {
                peer.dialect = Dialect::negotiate(version).unwrap_or(peer.dialect);
            }
            let (tag, message) = Message::parse(frame, peer.dialect).expect("replies are messages");
            let entries = entries(&message, peer.dialect, stats);
            let line = message.line(tag, peer.dialect).to_string();
            // Entries have lines of their own.
            let line =
                if entries.is_empty() { &line } else { line.split_once(":\"").map_or(line.as_str(), |(line, _)| line) };
            heard.push(format!("< {}", line.replacen(" tag=1 ", " ", 1).trim_end_matches(" tag=1")));
            heard.extend(entries);
        }
    }
}

/// The entries in the payload of a listing, a line each.
fn entries(message: &Message<'_>, dialect: Dialect, stats: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match *message {
        Message::Rreaddir { data: Data::Here(mut rest) } => {
            while !rest.is_empty() {
                let (entry, next) = DirEntry::parse(rest).expect("whole entries");
                lines.push(format!("| {entry}"));
                rest = next;
            }
        }
        Message::Rread { data: Data::Here(mut rest) } if stats => {
            while !rest.is_empty() {
                let (stat, next) = Stat::parse(rest, dialect).expect("whole records");
                lines.push(format!(
                    "| {}",
                    Message::Rstat { stat }.line(0, dialect).to_string().replacen("Rstat tag=0 stat=", "", 1)
                ));
                rest = next;
            }
        }
        _ => {}
    }
    lines
}

/// Whether a line is what was expected, `*` being anything.
fn matches(expected: &str, line: &str) -> bool {
    let mut pieces = expected.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    match last {
        None => rest.is_empty(),
        Some("") => true,
        Some(piece) => rest.is_empty() || line.ends_with(piece),
    }
}

/// A request with the lines that are to be heard after it.
struct Turn<'a> {
    line: usize,
    said: &'a str,
    heard: Vec<&'a str>,
}

fn turns(text: &str) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match line.chars().next() {
            None | Some('#') => {}
            Some('<' | '|') => turns.last_mut().expect("a request comes first").heard.push(line.trim_end()),
            _ => turns.push(Turn { line: at + 1, said: line.trim_end(), heard: Vec::new() }),
        }
    }
    turns
}

/// Runs a file at one pace; what was heard after each turn.
fn run(path: &Path, text: &str, pace: Pace) -> Vec<Vec<String>> {
    let mut world = World::new();
    let mut number = 1;
    let mut all: Vec<Vec<String>> = Vec::new();
    // What is said at once: the bytes, and the turns that they came from.
    let (mut burst, mut burst_from, mut burst_stats) = (BytesMut::new(), 0, false);
    let turns = turns(text);
    for (index, turn) in turns.iter().enumerate() {
        let place = || format!("{}:{}: {}", path.display(), turn.line, turn.said);
        let (verb, rest) = turn.said.split_once(' ').unwrap_or((turn.said, ""));
        let dialect = world.peer(number).dialect;
        all.push(Vec::new());
        match verb {
            "!" => {
                let words: Vec<_> = rest.split(' ').collect();
                match words[..] {
                    ["start", version, user, ..] => {
                        let aname = words.get(3).copied().unwrap_or_default();
                        let lines = [
                            format!("Tversion tag=NOTAG msize={MSIZE} version=\"{version}\""),
                            format!("Tattach fid=0 n_uname={user} uname=\"{user}\" aname=\"{aname}\""),
                        ];
                        for line in lines {
                            let dialect = world.peer(number).dialect;
                            let line = if dialect == Dialect::P9 {
                                line.replace(&format!(" n_uname={user}"), "")
                            } else {
                                line
                            };
                            let frame = Message::frame_of(&line, dialect)
                                .unwrap_or_else(|error| panic!("{}: {error}", place()));
                            let heard = world.say(number, &frame, false, pace);
                            assert!(
                                heard.len() == 1 && !heard[0].contains("Rerror") && !heard[0].contains("Rlerror"),
                                "{}: {heard:?}",
                                place()
                            );
                        }
                    }
                    ["wait", seconds] => {
                        let seconds: i64 = seconds.parse().unwrap_or_else(|_| panic!("{}", place()));
                        world.now.wall.sec += seconds;
                        world.now.mono_ns += seconds as u64 * 1_000_000_000;
                    }
                    ["peer", other] => number = other.parse().unwrap_or_else(|_| panic!("{}", place())),
                    ["trust", ref of @ ..] => {
                        let number_of = |word: &str| word.parse().unwrap_or_else(|_| panic!("{}", place()));
                        let trust = match *of {
                            ["squash"] => Trust::Squash,
                            ["peer-uid", uid, gid] => Trust::Peer { uid: number_of(uid), gid: number_of(gid) },
                            _ => panic!("{}: unknown", place()),
                        };
                        world.trusts.insert(number, trust);
                        let early = world.peers.remove(&number).is_none_or(|peer| peer.session.fids() == 0);
                        assert!(early, "{}: it has started", place());
                    }
                    ["close"] => {
                        let (fs, now) = (&mut world.fs, world.now);
                        let peer = world.peers.get_mut(&number).unwrap_or_else(|| panic!("{}", place()));
                        peer.session.close(fs, now);
                        world.peers.remove(&number);
                    }
                    _ => panic!("{}: unknown", place()),
                }
            }
            ">" | ">stat" => {
                let frame = match rest.strip_prefix("hex ") {
                    Some(digits) => {
                        let digits: String = digits.split(' ').collect();
                        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
                        (0..digits.len())
                            .step_by(2)
                            .map(byte)
                            .collect::<Result<Vec<u8>, _>>()
                            .unwrap_or_else(|_| panic!("{}", place()))
                            .as_slice()
                            .into()
                    }
                    None => Message::frame_of(rest, dialect).unwrap_or_else(|error| panic!("{}: {error}", place())),
                };
                if burst.is_empty() {
                    (burst_from, burst_stats) = (index, verb == ">stat");
                }
                burst.extend_from_slice(&frame);
                let next = turns.get(index + 1);
                let goes_on = next
                    .is_some_and(|next| next.said.split(' ').next() == Some(if burst_stats { ">stat" } else { ">" }));
                // A version decides how the rest is written.
                if pace == Pace::AtOnce && goes_on && !rest.starts_with("Tversion") {
                    continue;
                }
                let heard = world.say(number, &burst, burst_stats, pace);
                burst.clear();
                all[burst_from] = heard;
            }
            _ => panic!("{}: a line starts with # ! > < or |", place()),
        }
    }
    world.end(&format!("{} {pace:?}: something was left", path.display()));
    all
}

fn files() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("transcripts are there") {
            let path = entry.expect("transcripts are there").path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// The text with what was heard in place of what was expected.
fn rewritten(text: &str, heard: &[Vec<String>]) -> String {
    let mut heard = heard.iter();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with(['<', '|'])) {
        out += line;
        out.push('\n');
        if line.starts_with(['>', '!']) {
            heard.next().into_iter().flatten().for_each(|line| {
                out += line;
                out.push('\n');
            });
        }
    }
    out
}

#[test]
fn every_transcript_is_answered_as_it_says() {
    let write = std::env::var("RING9_TRANSCRIPTS").is_ok_and(|value| value == "write");
    let (mut wrong, mut exchanges) = (Vec::new(), 0);
    for path in files() {
        let text = std::fs::read_to_string(&path).expect("a transcript is text");
        if write {
            let heard = run(&path, &text, Pace::Whole);
            std::fs::write(&path, rewritten(&text, &heard)).expect("the tree can be written");
            continue;
        }
        let turns = turns(&text);
        exchanges += turns.len();
        for pace in [Pace::Whole, Pace::Bytes, Pace::AtOnce] {
            let heard = run(&path, &text, pace);
            // In a burst, replies come after its first request; so they are compared as a stream.
            let expected: Vec<_> =
                turns.iter().flat_map(|turn| turn.heard.iter().map(move |line| (turn, *line))).collect();
            let heard: Vec<_> = heard.iter().flatten().map(String::as_str).collect();
            let first = (0..expected.len().max(heard.len())).find(|&at| match (expected.get(at), heard.get(at)) {
                (Some((_, expected)), Some(heard)) => !matches(expected, heard),
                _ => true,
            });
            if let Some(at) = first {
                let (turn, line) = expected
                    .get(at)
                    .map_or((turns.last().expect("not empty"), "nothing"), |(turn, line)| (*turn, line));
                wrong.push(format!(
                    "{}:{}: {pace:?}: {}\n    expected {line}\n    heard    {}",
                    path.display(),
                    turn.line,
                    turn.said,
                    heard.get(at).unwrap_or(&"nothing")
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(write || exchanges > 100, "{exchanges} exchanges: where are the transcripts?");
}

#[test]
fn stars_stand_for_anything() {
    assert!(matches("a * c", "a b c") && matches("a*", "abc") && matches("abc", "abc") && matches("a*c*e", "abcde"));
    assert!(!matches("a*d", "abc") && !matches("ab", "abc") && !matches("b*", "abc") && !matches("a*c*x", "abcde"));
}
