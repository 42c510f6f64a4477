//! Every allocation of a block fails once. The request is refused or does without the block, and
//! nothing has changed; repeated, it does what it would have done at first.

use super::*;
use crate::arena::Arena;
use crate::fs::Simple;
use crate::fs::mem::{Mem, Options};

/// What takes blocks: small files that grow, payloads that land, edges, gaps, copies on write, links, cuts.
fn requests() -> Vec<BytesMut> {
    let mut all = Vec::new();
    let mut ask = |message: Message<'_>| all.push(frame(1, &message, Dialect::L));
    let bytes = |len: usize, seed: usize| (0..len).map(|at| (at * 31 + seed) as u8).collect::<Vec<_>>();
    let cut = |size| Message::set_size(1, size);
    ask(attach(0, b"", 0));
    ask(walk(0, 1, &[]));
    ask(Message::Tlcreate { fid: 1, name: b"file", flags: 0o102, mode: 0o644, gid: 0 });
    for (offset, len) in [(0, 50), (50, 100), (150, 3000), (10, 20), (9_000, 1000), (0, 40_000), (60_000, 20_000)] {
        ask(write(1, offset, &bytes(len, len)));
        ask(read(1, 0, 60_000));
        // Shown by the reply before, so that it has to be copied.
        ask(write(1, offset + 1, &bytes(len / 2 + 1, 7)));
    }
    ask(read(1, 0, 60_000));
    for (offset, len) in [
        (0, 60_000),
        (30_000, 50_000),
        (200_000, 30_000),
        (65_000, 2000),
        (131_000, 17_000),
        (262_144, 500),
        (327_600, 200),
    ] {
        ask(write(1, offset, &bytes(len, 9)));
        ask(read(1, offset, 60_000));
        ask(write(1, offset + 3, &bytes(100, 3)));
    }
    ask(cut(70_000));
    ask(write(1, 90_000, b"behind a gap"));
    ask(read(1, 60_000, 40_000));
    ask(cut(10));
    ask(write(1, 300_000, &bytes(20_000, 1)));
    ask(Message::Tsymlink { fid: 0, name: b"link", target: &bytes(2000, 1).map_zeros(), gid: 0 });
    ask(walk(0, 2, &[b"link"]));
    ask(Message::Treadlink { fid: 2 });
    ask(Message::Tremove { fid: 2 });
    all
}

trait MapZeros {
    fn map_zeros(self) -> Vec<u8>;
}

impl MapZeros for Vec<u8> {
    /// A target has no NUL.
    fn map_zeros(mut self) -> Vec<u8> {
        self.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 1);
        self
    }
}

/// How requests are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// At once.
    Whole,
    /// In two parts, the first of 100 bytes.
    Parts,
    /// The same, but what a landing takes goes there.
    Landings,
}

struct Played {
    /// A reply for each request, the one that counts.
    replies: Vec<Vec<u8>>,
    refused: usize,
    failed: bool,
}

/// Plays all of it on a fresh tree whose allocation of this number fails; who is refused asks again. A few replies are always on their way.
fn play(requests: &[BytesMut], fails_at: usize, way: Way) -> Played {
    let arena = Arena::new(4 << 20).expect("a small mapping");
    let gauge = arena.gauge();
    let mut fs = Simple::from(Mem::new(arena, Options::default()));
    fs.fail_at(fails_at);
    let mut session: Session<Simple<Mem>> = Session::new(Config { msize_max: 1 << 20, ..config() });
    let version = frame(NOTAG, &Message::Tversion { msize: 1 << 20, version: b"9P2000.L" }, Dialect::L);
    session.receive(&mut fs, AT, &version).expect("a sound message");
    let mut on_their_way = std::collections::VecDeque::from([session.take(&fs).expect("a reply")]);
    let (mut replies, mut refused) = (Vec::new(), 0);
    for request in requests {
        loop {
            let before = shown(&mut session, &mut fs);
            deliver(&mut session, &mut fs, request, way);
            let batch = session.take(&fs).expect("every request has its reply");
            let reply = batch.to_vec();
            on_their_way.push_back(batch);
            if on_their_way.len() > 3 {
                on_their_way.pop_front();
            }
            let (_, message) = Message::parse(&reply, Dialect::L).expect("a sound reply");
            if message == (Message::Rlerror { ecode: u32::from(Error::ENOSPC.0) }) {
                refused += 1;
                assert!(
                    shown(&mut session, &mut fs) == before,
                    "allocation {fails_at}: refused, and yet something changed"
                );
                continue;
            }
            replies.push(reply);
            break;
        }
    }
    for ask in [Message::Tunlinkat { dfid: 0, name: b"file", flags: 0 }, Message::Tclunk { fid: 1 }] {
        session.receive(&mut fs, AT, &frame(1, &ask, Dialect::L)).expect("a sound message");
    }
    session.close(&mut fs, AT);
    on_their_way.clear();
    assert_eq!((gauge.pins(), gauge.granted_bytes()), (0, 0), "everything was given back");
    let (free, usable) = (fs.arena().free_bytes(), fs.arena().usable_bytes());
    assert_eq!(free, usable, "allocation {fails_at} fails: bytes that nobody has");
    Played { replies, refused, failed: fs.has_failed() }
}

/// The file and all of its bytes.
fn shown(session: &mut Session<Simple<Mem>>, fs: &mut Simple<Mem>) -> Vec<u8> {
    let mut shown = Vec::new();
    for ask in [Message::Tgetattr { fid: 1, request_mask: 0x3fff }, read(1, 0, 1 << 20)] {
        session.receive(fs, AT, &frame(1, &ask, Dialect::L)).expect("a sound message");
        shown.extend(session.take(fs).expect("a reply").to_vec());
    }
    shown
}

/// Shows a request.
fn deliver(session: &mut Session<Simple<Mem>>, fs: &mut Simple<Mem>, request: &[u8], way: Way) {
    let first = if way == Way::Whole { request.len() } else { request.len().min(100) };
    let mut at = session.receive(fs, AT, &request[..first]).expect("a sound message").consumed;
    while at < request.len() {
        if way == Way::Landings
            && let Some(mut landing) = session.landing()
        {
            let n = landing.left();
            let mut rest = &request[at..at + n];
            for room in landing.unfilled() {
                let (here, behind) = rest.split_at(room.len());
                room.copy_from_slice(here);
                rest = behind;
            }
            at += n;
            let again = session.landed(fs, landing, n, AT);
            assert!(again.is_none(), "nothing is scarce here");
        } else {
            at += session.receive(fs, AT, &request[at..]).expect("a sound message").consumed;
        }
    }
}

#[test]
fn an_allocation_that_fails_changes_nothing() {
    let requests = requests();
    for (way, allocations) in [(Way::Whole, 25), (Way::Parts, 40), (Way::Landings, 40)] {
        let expected = play(&requests, usize::MAX / 4, way);
        assert_eq!((expected.refused, expected.replies.len()), (0, requests.len()));
        let mut refused = 0;
        for number in 1.. {
            let played = play(&requests, number, way);
            if !played.failed {
                assert!(
                    number > allocations && refused >= allocations / 2,
                    "{number} allocations, {refused} requests refused"
                );
                break;
            }
            refused += played.refused;
            for (at, (reply, wanted)) in played.replies.iter().zip(&expected.replies).enumerate() {
                assert!(reply == wanted, "allocation {number} fails: reply {at} is another one");
            }
        }
    }
}
