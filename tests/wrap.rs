//! Trees around a tree: one that answers late says the same as at once, a read-only one changes nothing, and a traced one
//! names its calls.

mod support;

use ring9::arena::{Arena, Gauge};
use ring9::fs::ctl::Ctl;
use ring9::fs::mem::Mem;
use ring9::fs::wrap::{Late, ReadOnly, Times, Trace, Wrapped};
use ring9::fs::{Error, Service, Simple};
use ring9::session::{Config, Session};
use ring9::stats::Lines;
use ring9::wire::{self, Dialect, Ext, Message, NOFID};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use support::script::{Script, conversation};
use support::{AT, config, tree};

/// Turns within which an answer comes, whatever was put off.
const TURNS: usize = 200;

fn messages(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (this, behind) = rest.split_at(wire::head(rest)?.size as usize);
        rest = behind;
        Some(this)
    })
}

/// Asks one request after the other, each when the one before is answered; the replies.
fn converse<S: Service>(session: &mut Session<S>, fs: &mut S, requests: &[u8]) -> Vec<Vec<u8>> {
    let answer = |request: &[u8]| {
        let (mut left, mut reply) = (request.to_vec(), Vec::new());
        for _ in 0..TURNS {
            let received = session.receive(fs, AT, &left).expect("a sound conversation");
            left.drain(..received.consumed);
            turn(session, fs);
            while let Some(mut batch) = session.take(fs) {
                reply.extend(batch.to_vec());
                batch.advance(batch.len(), |_| ());
                session.recycle(batch);
            }
            if !reply.is_empty() {
                assert!(left.is_empty() && messages(&reply).count() == 1, "one reply, after the whole request");
                return reply;
            }
        }
        panic!("no reply to {:?}", wire::head(request));
    };
    messages(requests).map(answer).collect()
}

fn turn<S: Service>(session: &mut Session<S>, fs: &mut S) {
    while let Some(op) = fs.ready() {
        session.complete(fs, op, AT);
    }
}

/// The session ends, and nothing is left of it in the tree.
fn ends<S: Service>(mut session: Session<S>, fs: &mut S) {
    session.close(fs, AT);
    (0..TURNS).for_each(|_| turn(&mut session, fs));
    assert!(!session.is_ending());
}

fn at_once(requests: &[u8]) -> Vec<Vec<u8>> {
    let (mut session, mut fs) = (Session::new(config()), tree());
    let replies = converse(&mut session, &mut fs, requests);
    ends(session, &mut fs);
    assert_eq!(fs.held(), 0);
    replies
}

/// Effects and answers are put off, answers have gates, payloads land or come in parts; a client that waits for each reply
/// hears the same.
#[test]
fn a_late_tree_says_what_it_says_at_once() {
    for dialect in Dialect::ALL {
        let requests = conversation(dialect);
        let expected = at_once(&requests);
        for seed in 0..24 {
            let times = Times { seed, turns_max: 1 + seed as u32 % 4, gates: seed as u32 % 3, grants: seed % 2 == 0 };
            let (mut session, mut fs) = (Session::new(config()), Wrapped::new(tree(), Late::new(times)));
            let replies = converse(&mut session, &mut fs, &requests);
            for (number, (reply, expected)) in replies.iter().zip(&expected).enumerate() {
                assert!(reply == expected, "{dialect:?}, {times:?}: reply {number} is another one");
            }
            assert_eq!(replies.len(), expected.len());
            ends(session, &mut fs);
            let gauge: Gauge = fs.inner().arena().gauge();
            assert_eq!((fs.inner().held(), gauge.pins()), (0, 0), "{dialect:?}, {times:?}");
        }
    }
}

/// A client that asks for everything at once gets an answer to each request, once, however late they are; and what it has made
/// in order with each fid is there.
#[test]
fn a_late_tree_answers_each_request_of_many_once() {
    for seed in 0..24 {
        let times = Times { seed, turns_max: 4, gates: 2, grants: true };
        let (mut session, mut fs) = (Session::new(config()), Wrapped::new(tree(), Late::new(times)));
        converse(&mut session, &mut fs, &Script::new(Dialect::L).attach(0).bytes);
        let mut script = Script::new(Dialect::L);
        let start = script.bytes.len();
        for fid in 1..20 {
            let name = format!("file.{fid}");
            script.walk(0, fid, &[]).create(fid, name.as_bytes()).write(fid, 0, name.as_bytes()).read(fid, 0, 100);
            script.clunk(fid).walk(0, fid, &[]).clunk(fid);
        }
        let requests = script.bytes[start..].to_vec();
        let (mut left, mut heard) = (requests.clone(), Vec::new());
        for _ in 0..TURNS {
            let received = session.receive(&mut fs, AT, &left).expect("a sound conversation");
            left.drain(..received.consumed);
            turn(&mut session, &mut fs);
            while let Some(batch) = session.take(&fs) {
                heard.extend(batch.to_vec());
            }
        }
        let mut tags: Vec<u16> = messages(&heard).filter_map(|reply| wire::head(reply).map(|head| head.tag)).collect();
        let mut asked: Vec<u16> = messages(&requests).filter_map(|ask| wire::head(ask).map(|head| head.tag)).collect();
        tags.sort_unstable();
        asked.sort_unstable();
        assert_eq!(tags, asked, "seed {seed}");
        let failed = messages(&heard).filter(|reply| reply[4] == 7).count();
        assert_eq!(failed, 0, "seed {seed}: walks, creates, writes and clunks of a fid keep their order");
        ends(session, &mut fs);
        assert_eq!(fs.inner().held(), 0);
    }
}

/// A read that was put off turns out to wait for news when its fid has gone already: it ends, and so does the clunk.
#[test]
fn a_late_read_of_a_log_does_not_outlive_its_fid() {
    for seed in 0..16 {
        let log = Arc::new(Mutex::new(Lines::new(1000)));
        let ctl = Ctl::new(Rc::default(), Arena::new(1 << 20).expect("a small mapping").gauge(), log);
        let times = Times { seed, turns_max: 2, gates: 0, grants: true };
        let mut fs = Wrapped::new(Simple::from(ctl), Late::new(times));
        let mut session = Session::new(Config { owner: Some(0), ..config() });
        let mut script = Script::new(Dialect::L);
        script.ask(Message::Tattach { fid: 0, afid: NOFID, uname: b"", aname: b"ctl", n_uname: Ext(0) });
        script.walk(0, 1, &[b"log"]).open(1, false);
        converse(&mut session, &mut fs, &script.bytes);
        let start = script.bytes.len();
        script.read(1, 0, 100).clunk(1);
        session.receive(&mut fs, AT, &script.bytes[start..]).expect("a sound conversation");
        let mut heard = Vec::new();
        for _ in 0..TURNS {
            turn(&mut session, &mut fs);
            while let Some(batch) = session.take(&fs) {
                heard.extend(batch.to_vec());
            }
        }
        let kinds: Vec<u8> = messages(&heard).map(|reply| reply[4]).collect();
        assert_eq!(kinds, [7, 121], "seed {seed}: EINTR, then Rclunk");
        ends(session, &mut fs);
        assert_eq!(fs.inner().held(), 0);
    }
}

#[test]
fn a_read_only_tree_is_read_and_not_changed() {
    let (mut session, mut fs) = (Session::new(config()), tree());
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[]).create(1, b"file").write(1, 0, b"kept").clunk(1);
    converse(&mut session, &mut fs, &script.bytes);
    session.close(&mut fs, AT);
    let mut fs = Wrapped::new(fs, ReadOnly);
    let mut session = Session::new(config());
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[b"file"]).walk(0, 2, &[b"file"]).walk(0, 3, &[]).open(1, false).read(1, 0, 100);
    let replies = converse(&mut session, &mut fs, &script.bytes);
    assert!(replies.iter().all(|reply| reply[4] != 7), "all of it is reading");
    assert_eq!(&replies.last().expect("a read")[11..], b"kept");
    let mut script = Script::new(Dialect::L);
    let start = script.bytes.len();
    script.open(2, true).create(3, b"new").mkdir(0, b"dir").ask(Message::set_size(2, 0)).remove(2);
    script.ask(Message::Tunlinkat { dfid: 0, name: b"file", flags: 0 });
    script.ask(Message::Trenameat { olddirfid: 0, oldname: b"file", newdirfid: 0, newname: b"other" });
    script.ask(Message::Tsymlink { fid: 0, name: b"link", target: b"file", gid: 0 });
    script.ask(Message::Tlink { dfid: 0, fid: 1, name: b"link" });
    script.walk(0, 4, &[b"file"]);
    script.ask(Message::Txattrcreate { fid: 4, name: b"user.x", attr_size: 1, flags: 0 });
    let asked = script.bytes[start..].to_vec();
    let replies = converse(&mut session, &mut fs, &asked);
    let refused = Message::Rlerror { ecode: Error::EROFS.0.into() };
    let kinds: Vec<u8> = messages(&asked).map(|request| request[4]).collect();
    for (reply, kind) in replies.iter().zip(kinds).filter(|(_, kind)| *kind != 110) {
        let (_, reply) = Message::parse(reply, Dialect::L).expect("a reply");
        assert_eq!(reply, refused, "a request of type {kind}");
    }
    let mut script = Script::new(Dialect::L);
    let start = script.bytes.len();
    script.read(1, 0, 100).list(0);
    assert_eq!(&converse(&mut session, &mut fs, &script.bytes[start..])[0][11..], b"kept");
    ends(session, &mut fs);
    assert_eq!(fs.inner().held(), 0);
}

struct Kept(Mutex<Vec<String>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

impl log::Log for Kept {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "ring9::call"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().expect("no test panics with it").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_traced_tree_names_its_calls_and_answers_as_before() {
    log::set_logger(&KEPT).expect("the only logger");
    log::set_max_level(log::LevelFilter::Trace);
    let mut fs: Wrapped<Simple<Mem>, Trace> = Wrapped::new(tree(), Trace);
    let mut session = Session::new(config());
    let requests = conversation(Dialect::L);
    assert_eq!(converse(&mut session, &mut fs, &requests), at_once(&requests));
    let lines = KEPT.0.lock().expect("no test panics with it");
    let attach = lines.first().expect("an attach is a call");
    assert!(attach.starts_with("peer 0 operation 0: Attach") && attach.contains("Done"), "{attach}");
    assert!(lines.iter().any(|line| line.contains("Read {") && line.contains("Ok(Nothing)")));
}
