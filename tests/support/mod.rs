//! What tests of sessions and drivers share: a small tree, a session in memory that is fed in
//! pieces, a fixed time, a seeded source of numbers; and rings, conversations and hosts in files of
//! their own.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part, and another workspace includes it")]

pub mod asker;
pub mod fixed;
pub mod hand_ring;
pub mod host;
pub mod random;
pub mod script;
pub mod sqe;

use ring9::arena::Arena;
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{At, Service, Simple, Time};
use ring9::session::{Broken, Config, Landing, Session, Trust};

/// The only moment there is.
pub const AT: At = At { wall: Time { sec: 1_700_000_000, nsec: 123_456_789 }, mono_ns: 5_000_000_000 };

/// A small tree, always the same.
pub fn tree() -> Simple<Mem> {
    tree_in(Arena::new(16 << 20).expect("a small mapping"))
}

/// The same in a given memory.
pub fn tree_in(arena: Arena) -> Simple<Mem> {
    let mut mem = Simple::from(Mem::new(arena, Options::default()));
    mem.init(AT).expect("nothing can fail");
    mem
}

/// Believes everyone, like the drivers under test.
pub fn config() -> Config {
    Config { trust: Trust::All, hash_key: 1, ..Config::new(0, 1 << 20) }
}

/// How a simple driver uses the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Shows every byte to `receive`.
    ReceiveOnly,
    /// Receives payloads into landings and throws away what may be.
    Landings,
}

/// Drives a session in memory with these pieces; the replies.
pub fn drive(requests: &[u8], pieces: impl Iterator<Item = usize>, style: Style) -> Vec<u8> {
    drive_on(tree(), requests, pieces, style)
}

/// The same on a given tree.
pub fn drive_on(mut fs: Simple<Mem>, requests: &[u8], pieces: impl Iterator<Item = usize>, style: Style) -> Vec<u8> {
    let mut session = Session::new(config());
    let driven = feed(&mut session, &mut fs, requests, pieces, style);
    assert_eq!(driven.broken, None, "a sound conversation");
    assert_eq!(driven.left, 0, "every message was served");
    session.close(&mut fs, AT);
    driven.replies
}

/// What came of a client's bytes.
#[derive(Debug)]
pub struct Driven {
    pub replies: Vec<u8>,
    /// Why the session did not go on, if it did not.
    pub broken: Option<Broken>,
    /// Bytes of a message that was not whole in the end, as far as the session kept them with its driver.
    pub left: usize,
}

/// Feeds these bytes to a session, whatever they are, and takes its replies. The session is left open.
pub fn feed<S: Service>(
    session: &mut Session<S>,
    fs: &mut S,
    requests: &[u8],
    mut pieces: impl Iterator<Item = usize>,
    style: Style,
) -> Driven {
    let (mut replies, mut inbox, mut fed) = (Vec::new(), Vec::new(), 0);
    let mut piece = |left: usize| pieces.next().unwrap_or(usize::MAX).clamp(1, left);
    while fed < requests.len() {
        if style == Style::Landings
            && inbox.is_empty()
            && let Some(landing) = session.landing()
        {
            let mut at_hand = Some(landing);
            // Where the bytes end before the payload, the landing is dropped, as if the peer had gone.
            while fed < requests.len()
                && let Some(mut landing) = at_hand.take()
            {
                let n = piece(requests.len() - fed).min(landing.left());
                fill(&mut landing, &requests[fed..fed + n]);
                fed += n;
                at_hand = session.landed(fs, landing, n, AT);
            }
            collect(session, fs, &mut replies);
            continue;
        }
        let n = piece(requests.len() - fed);
        inbox.extend_from_slice(&requests[fed..fed + n]);
        fed += n;
        loop {
            let received = match session.receive(fs, AT, &inbox) {
                Ok(received) => received,
                Err(broken) => {
                    collect(session, fs, &mut replies);
                    return Driven { replies, broken: Some(broken), left: inbox.len() };
                }
            };
            inbox.drain(..received.consumed);
            let said = collect(session, fs, &mut replies);
            if style == Style::Landings && received.need.skip > 0 {
                let n = received.need.skip.min(requests.len() - fed);
                session.skipped(fs, n, AT);
                fed += n;
                collect(session, fs, &mut replies);
            }
            if !received.need.held {
                break;
            }
            assert!(received.consumed > 0 || said, "a session that is held goes on once its replies have left");
        }
    }
    Driven { replies, broken: None, left: inbox.len() }
}

pub fn fill(landing: &mut Landing, bytes: &[u8]) {
    let mut bytes = bytes;
    for rest in landing.unfilled() {
        let n = rest.len().min(bytes.len());
        rest[..n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
    }
}

/// Takes all replies; whether there were any.
fn collect<S: Service>(session: &mut Session<S>, fs: &S, replies: &mut Vec<u8>) -> bool {
    let before = replies.len();
    while let Some(mut batch) = session.take(fs) {
        batch.views().for_each(|view| replies.extend_from_slice(view.bytes));
        batch.advance(batch.len(), |_| ());
        session.recycle(batch);
    }
    replies.len() > before
}
