//! Landings, from the side of a driver: what a session and memfs make of payloads that are received straight into blocks.

mod support;

use ring9::fs::mem::Mem;
use ring9::fs::{Filesystem, Simple};
use ring9::session::{Landing, Need, Session, allowance_ns};
use ring9::wire::{Dialect, Message};
use support::script::{Script, pattern};
use support::{AT, config, tree};

const HEAD: usize = 23;
const LEN: usize = 100_000;

/// A session with fid 1 open on an empty file.
fn session(fs: &mut Simple<Mem>) -> Session<Simple<Mem>> {
    session_with(fs, b"file")
}

fn session_with(fs: &mut Simple<Mem>, name: &[u8]) -> Session<Simple<Mem>> {
    let mut session = Session::new(config());
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[]).create(1, name);
    session.receive(fs, AT, &script.bytes).expect("a sound conversation");
    assert_eq!(replies(&mut session, fs).len(), 4);
    session
}

/// One request, without the version in front.
fn ask(build: impl FnOnce(&mut Script) -> &mut Script) -> Vec<u8> {
    let mut script = Script::new(Dialect::L);
    script.bytes.clear();
    build(&mut script);
    script.bytes.to_vec()
}

fn large() -> Vec<u8> {
    ask(|script| script.write(1, 0, &pattern(LEN, 1)))
}

fn replies(session: &mut Session<Simple<Mem>>, fs: &Simple<Mem>) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(mut batch) = session.take(fs) {
        let bytes = batch.to_vec();
        let mut rest = bytes.as_slice();
        while let Some(head) = ring9::wire::head(rest) {
            let (this, next) = rest.split_at(head.size as usize);
            let (tag, message) = Message::parse(this, Dialect::L).expect("a reply");
            lines.push(message.line(tag, Dialect::L).to_string());
            rest = next;
        }
        batch.advance(batch.len(), |_| ());
        session.recycle(batch);
    }
    lines
}

fn fill(landing: &mut Landing, bytes: &[u8]) {
    let mut bytes = bytes;
    for rest in landing.unfilled() {
        let n = rest.len().min(bytes.len());
        rest[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
    }
}

/// What a read of the whole file says.
fn content(session: &mut Session<Simple<Mem>>, fs: &mut Simple<Mem>) -> Vec<u8> {
    session.receive(fs, AT, &ask(|script| script.read(1, 0, 1 << 20))).expect("a sound request");
    let batch = session.take(fs).expect("a reply");
    batch.to_vec()[11..].to_vec()
}

#[test]
fn a_landing_offers_the_rest_and_its_last_byte_publishes() {
    let (mut fs, bytes) = (tree(), large());
    let mut session = session(&mut fs);
    let shown = HEAD + 5_000;
    let received = session.receive(&mut fs, AT, &bytes[..shown]).expect("a sound request");
    assert_eq!(
        (received.consumed, received.need),
        (shown, Need { more: LEN - 5_000, skip: 0, held: false, again: false })
    );
    assert_eq!(session.deadline(), Some(AT.mono_ns + allowance_ns(bytes.len())));
    let mut landing = session.landing().expect("a large write is under way");
    assert!(session.landing().is_none(), "there is one");
    let mut fed = shown;
    for n in [1, 65_536, LEN] {
        assert_eq!(landing.left(), bytes.len() - fed);
        let n = n.min(landing.left());
        fill(&mut landing, &bytes[fed..fed + n]);
        fed += n;
        match session.landed(&mut fs, landing, n, AT) {
            Some(rest) => landing = rest,
            None => break,
        }
        assert!(replies(&mut session, &fs).is_empty(), "nothing is acknowledged before it is whole");
    }
    assert_eq!((fed, session.deadline()), (bytes.len(), None));
    assert_eq!(replies(&mut session, &fs), ["Rwrite tag=0 count=100000"]);
    assert_eq!(content(&mut session, &mut fs), pattern(LEN, 1));
    session.close(&mut fs, AT);
}

/// The peer dies before the driver has asked for the landing: its memory goes at once, not with the session.
#[test]
fn a_closed_session_has_no_grant() {
    let (mut fs, bytes) = (tree(), large());
    let mut session = session(&mut fs);
    session.receive(&mut fs, AT, &bytes[..HEAD]).expect("a sound request");
    assert!(session.next_landing().is_some() && fs.arena().gauge().granted_bytes() >= LEN);
    session.close(&mut fs, AT);
    assert_eq!((session.next_landing().is_none(), fs.arena().gauge().granted_bytes()), (true, 0));
}

/// The peer dies while the kernel still writes: the driver keeps the landing until its completion, and the file is unchanged.
#[test]
fn a_landing_outlives_its_session_and_then_changes_nothing() {
    let (mut fs, bytes) = (tree(), large());
    let mut first = session(&mut fs);
    first.receive(&mut fs, AT, &bytes[..HEAD]).expect("a sound request");
    let mut landing = first.landing().expect("a large write is under way");
    first.close(&mut fs, AT);
    fill(&mut landing, &bytes[HEAD..]);
    assert!(first.landed(&mut fs, landing, LEN, AT).is_none());
    assert_eq!((first.queued_bytes(), first.fids(), first.deadline()), (0, 0, None));
    // Another one sees an empty file, and all memory is back once that is gone too.
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[b"file"]).open(1, false);
    let mut second = Session::new(config());
    second.receive(&mut fs, AT, &script.bytes).expect("a sound conversation");
    replies(&mut second, &fs);
    assert_eq!(content(&mut second, &mut fs), b"");
    second.close(&mut fs, AT);
    fs.cleanup().expect("nothing is in use");
    assert_eq!(fs.arena().gauge().used_bytes(), 0);
}

#[test]
fn a_landing_that_nobody_takes_is_filled_by_what_is_shown() {
    let (mut fs, bytes) = (tree(), large());
    let mut session = session(&mut fs);
    for piece in bytes.chunks(30_000) {
        assert_eq!(session.receive(&mut fs, AT, piece).expect("a sound request").consumed, piece.len());
    }
    assert_eq!(replies(&mut session, &fs), ["Rwrite tag=0 count=100000"]);
    assert_eq!(content(&mut session, &mut fs), pattern(LEN, 1));
    session.close(&mut fs, AT);
}

/// Other grants hold an eighth of the memory: this one gets its memory block by block, in either way of receiving it.
#[test]
fn a_payload_without_memory_for_all_of_it_gets_more_as_it_arrives() {
    for lend in [false, true] {
        let mut fs = tree();
        let mut hoarders: Vec<_> = (0..2).map(|_| session_with(&mut fs, b"hoard")).collect();
        for hoarder in &mut hoarders {
            let claim = ask(|script| script.write(1, 0, &pattern(1_000_000, 2)));
            hoarder.receive(&mut fs, AT, &claim[..HEAD]).expect("a sound head");
        }
        let mut peer = session_with(&mut fs, b"file");
        let request = ask(|script| script.write(1, 5, &pattern(1_000_000, 3)));
        let mut at = peer.receive(&mut fs, AT, &request[..HEAD]).expect("a sound head").consumed;
        let (mut lent, mut parts) = (None, 0);
        while at < request.len() {
            if lend {
                lent = lent.or_else(|| peer.landing());
            }
            if let Some(mut landing) = lent.take() {
                let n = landing.left();
                fill(&mut landing, &request[at..at + n]);
                lent = peer.landed(&mut fs, landing, n, AT);
                (at, parts) = (at + n, parts + 1);
            } else {
                let end = request.len().min(at + 90_000);
                at += peer.receive(&mut fs, AT, &request[at..end]).expect("a sound payload").consumed;
            }
        }
        assert_eq!(replies(&mut peer, &fs), ["Rwrite tag=0 count=1000000"]);
        assert!(!lend || parts > 10, "{parts} parts");
        let file = content(&mut peer, &mut fs);
        assert!(file[..5] == [0; 5] && file[5..] == pattern(1_000_000, 3)[..file.len() - 5]);
    }
}
