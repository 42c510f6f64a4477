//! Makes the corpora: of what real clients said and heard (`tests/e2e/capture.py`), of the transcripts and of the conversation of the driver tests.
//!
//! Usage: `cargo run --example seeds RECORDED-FOLDER`, in `fuzz/`. Writes `corpus/TARGET/NAME`. A session becomes a seed if it has two messages behind each other
//! that no earlier one has; payloads are cut, for small inputs are tried more often.

use bytes::BytesMut;
use ring9::wire::{self, Data, Dialect, Message, NOTAG, READ_HEAD, Tag, WRITE_HEAD};
use ring9_fuzz::like::{like, tag_code};
use ring9_fuzz::script::{How, Script, Step, World};
use ring9_fuzz::support::script::{Script as Script9p, conversation, pattern};
use ring9_fuzz::wire::byte_of;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a session that becomes a seed, large payloads aside.
const SESSION_BYTES_MAX: usize = 2000;
/// A payload that is kept large.
const LARGE: usize = 16_500;
/// All others.
const SMALL: usize = 48;
/// Ways to cut a stream; it is tried whole in any case.
const PIECES: [&[u16]; 5] = [&[1], &[7], &[23, 1], &[300, 11, 64], &[4096, 3]];

/// One side of a connection, message by message.
struct Side {
    name: String,
    frames: Vec<(Dialect, Vec<u8>)>,
}

fn main() {
    let recorded = std::env::args().nth(1).expect("usage: seeds RECORDED-FOLDER");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut said, mut heard) = (Vec::new(), Vec::new());
    for path in files(Path::new(&recorded)) {
        let name = path.file_stem().expect("recordings have names").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a recording");
        let said_bytes = fs::read(path.with_extension("said")).expect("both sides are recorded");
        let side = Side { name, frames: frames(&bytes, version(&said_bytes)) };
        if path.extension().is_some_and(|end| end == "said") { said.push(side) } else { heard.push(side) }
    }
    for dialect in [Dialect::L, Dialect::U, Dialect::P9] {
        let name = |of: &str| format!("{of}-{}", dialect.name());
        said.push(Side { name: name("script"), frames: frames(&conversation(dialect), dialect) });
        said.push(Side { name: name("large"), frames: frames(&large_write(dialect, 1), dialect) });
        said.push(Side { name: name("refused"), frames: frames(&large_write(dialect, 7), dialect) });
    }
    let transcripts = files(&here.join("../tests/transcripts"));
    said.extend(transcripts.iter().map(|path| transcript(path)));
    for target in ["wire", "stream", "session", "store"] {
        let folder = here.join("corpus").join(target);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the tree can be written");
        let seeds = match target {
            "wire" => wire(&said, &heard, &transcripts),
            "stream" => streams(&said),
            "store" => ring9_fuzz::store::seeds().into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect(),
            _ => scripts(&said),
        };
        let bytes: usize = seeds.iter().map(|(_, bytes)| bytes.len()).sum();
        println!("{target}: {} seeds, {bytes} bytes", seeds.len());
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes).expect("the tree can be written");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a folder").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The dialect of a conversation is that of its first message.
fn version(said: &[u8]) -> Dialect {
    let first = wire::head(said).and_then(|head| said.get(..head.size as usize)).unwrap_or_default();
    match Message::parse(first, Dialect::P9) {
        Ok((_, Message::Tversion { version, .. })) => Dialect::negotiate(version).unwrap_or(Dialect::P9),
        _ => Dialect::P9,
    }
}

/// What a large write does, with nothing behind it that would hide it. Fid 1 is the file, 7 is nobody.
fn large_write(dialect: Dialect, fid: u32) -> Vec<u8> {
    let mut script = Script9p::new(dialect);
    script.attach(0).walk(0, 1, &[]).create(1, b"large").write(1, 5, b"before").write(fid, 7, &pattern(LARGE + 1, 1));
    script.stat(1).read(1, 0, 19_000).clunk(1).list(0);
    script.bytes.to_vec()
}

/// Whole messages.
fn frames(mut bytes: &[u8], dialect: Dialect) -> Vec<(Dialect, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some(frame) = wire::head(bytes).and_then(|head| bytes.get(..head.size as usize)) {
        bytes = &bytes[frame.len()..];
        frames.push((dialect, frame.to_vec()));
    }
    cut(frames)
}

/// The same with short payloads: of the large ones that are written only the first stays large.
fn cut(mut frames: Vec<(Dialect, Vec<u8>)>) -> Vec<(Dialect, Vec<u8>)> {
    let mut has_large = false;
    for (dialect, frame) in &mut frames {
        let shorter = match Message::parse(frame, *dialect) {
            Ok((tag, Message::Twrite { fid, offset, data: Data::Here(data) })) => {
                let large = data.len() > LARGE && !has_large;
                has_large |= large;
                let data = Data::Here(&data[..data.len().min(if large { LARGE } else { SMALL })]);
                emitted(tag, &Message::Twrite { fid, offset, data }, *dialect)
            }
            Ok((tag, Message::Rread { data: Data::Here(data) })) => {
                emitted(tag, &Message::Rread { data: Data::Here(&data[..data.len().min(SMALL)]) }, *dialect)
            }
            _ => continue,
        };
        *frame = shorter;
    }
    frames
}

fn emitted(tag: Tag, message: &Message<'_>, dialect: Dialect) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    message.emit(tag, dialect, &mut bytes);
    bytes.to_vec()
}

/// What is said in a transcript, as far as it is said in messages.
fn transcript(path: &Path) -> Side {
    let text = fs::read_to_string(path).expect("a transcript is text");
    let (mut dialect, mut frames) = (Dialect::P9, Vec::new());
    for line in text.lines() {
        let mut say = |line: &str, dialect| {
            if let Ok(frame) = Message::frame_of(line, dialect) {
                frames.push((dialect, frame.to_vec()));
            }
        };
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["!", "start", version, user, ..] => {
                say(&format!("Tversion tag=NOTAG msize=65536 version=\"{version}\""), dialect);
                dialect = Dialect::negotiate(version.as_bytes()).unwrap_or(dialect);
                let aname = words.get(4).unwrap_or(&"");
                say(&format!("Tattach fid=0 uname=\"{user}\" aname=\"{aname}\""), dialect);
            }
            [">" | ">stat", ..] => say(line.trim_start_matches(['>', 's', 't', 'a', ' ']), dialect),
            _ => {}
        }
    }
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = path.file_stem().expect("transcripts have names").to_string_lossy();
    Side { name: format!("transcript-{folder}-{name}"), frames: cut(frames) }
}

/// A message of each kind and dialect; in the dialects that write it alike, one.
fn wire(said: &[Side], heard: &[Side], transcripts: &[PathBuf]) -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut seeds) = (BTreeSet::new(), Vec::new());
    for side in said.iter().chain(heard) {
        for (dialect, frame) in &side.frames {
            let Ok((tag, message)) = Message::parse(frame, *dialect) else { continue };
            let large = frame.len() > 300;
            let same = [Dialect::P9, Dialect::U, Dialect::L]
                .into_iter()
                .find(|other| emitted(tag, &message, *other) == *frame);
            if !large && seen.insert((message.kind(), same)) {
                seeds.push((
                    format!("{}-{}", message.kind(), dialect.name()),
                    [&[byte_of(*dialect)], &frame[..]].concat(),
                ));
            }
        }
    }
    let mut kinds = BTreeSet::new();
    for path in transcripts {
        let text = fs::read_to_string(path).expect("a transcript is text");
        for line in text.lines().filter_map(|line| line.strip_prefix("> ")) {
            // A payload that is said so many times is another way to write a line.
            let times = if line.contains("*\"") { "-times" } else { "" };
            let name = format!("{}{times}", line.split(' ').next().unwrap_or_default());
            if name.starts_with('T') && line.len() < 200 && kinds.insert(name.clone()) {
                seeds.push((format!("line-{name}"), [&[byte_of(Dialect::L) | 4], line.as_bytes()].concat()));
            }
        }
    }
    seeds
}

/// Whether a session has something new, and what of it fits a seed.
fn novel(side: &Side, seen: &mut BTreeSet<(Dialect, u8, u8)>) -> Option<Vec<(Dialect, Vec<u8>)>> {
    let mut room = SESSION_BYTES_MAX;
    let fits = |(_, frame): &&(Dialect, Vec<u8>)| {
        let bytes = if frame.len() > LARGE { WRITE_HEAD } else { frame.len().max(READ_HEAD) };
        room = room.saturating_sub(bytes);
        room > 0
    };
    let frames: Vec<_> = side.frames.iter().take_while(fits).cloned().collect();
    let mut is_new = false;
    for pair in frames.windows(2) {
        is_new |= seen.insert((pair[1].0, pair[0].1[4], pair[1].1[4]));
    }
    // Large payloads take another way than small ones.
    let is_large = frames.iter().any(|(_, frame)| frame.len() > LARGE);
    (is_new || is_large).then_some(frames)
}

fn streams(said: &[Side]) -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut seeds) = (BTreeSet::new(), Vec::new());
    for side in said {
        let Some(frames) = novel(side, &mut seen) else { continue };
        let pieces = PIECES[seeds.len() % PIECES.len()];
        let mut bytes = vec![pieces.len() as u8];
        pieces.iter().for_each(|piece| bytes.extend(piece.to_le_bytes()));
        frames.iter().for_each(|(_, frame)| bytes.extend(frame));
        seeds.push((side.name.clone(), bytes));
    }
    seeds
}

/// Each session beside the one before it, in turns; every seed leaves something for later in another way.
fn scripts(said: &[Side]) -> Vec<(String, Vec<u8>)> {
    let (mut seen, mut seeds) = (BTreeSet::new(), Vec::new());
    let mut before: Vec<(Dialect, Vec<u8>)> = Vec::new();
    for side in said {
        let Some(frames) = novel(side, &mut seen) else { continue };
        let n = seeds.len();
        let mut steps = Vec::new();
        for at in 0..frames.len() {
            for (peer, frame) in [(0, frames.get(at)), (1, before.get(at))] {
                let Some((dialect, frame)) = frame else { continue };
                let Ok((tag, message)) = Message::parse(frame, *dialect) else { continue };
                let tag = if matches!(message, Message::Tversion { .. }) { NOTAG } else { tag };
                let later = if at % 5 == 4 { (n as u8 % 8) << 1 } else { 0 };
                if let Some(say) = like(&message) {
                    steps.push(Step::Say { how: How(peer | later), tag: tag_code(tag), say });
                }
                if at % 5 == 4 {
                    steps.extend([Step::Deliver(How(peer), 9), Step::Take(How(peer)), Step::Sent]);
                }
            }
        }
        let world = World { session: 0, tree: 0, driver: n as u8 % 2 };
        seeds.push((side.name.clone(), Script { world, steps }.bytes()));
        before = frames;
    }
    seeds
}
