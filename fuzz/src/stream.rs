//! A client's bytes, whatever they are, cut in different places: the replies are the same, and so is the end.
//!
//! ```text
//! n[1] piece[2]*n bytes...        the pieces come round and round; none: all at once
//! ```

use crate::memory::{self, Trees};
use crate::support::{AT, Driven, Style, config, feed};
use ring9::fs::Error;
use ring9::fs::mem::Options;
use ring9::session::{Budget, Config, Session};
use ring9::wire::{self, Dialect, Message, UOnly};
use std::sync::Arc;

/// Large payloads are some that are not very large, so that an input of some KiB can hold one.
const MSIZE_MAX: u32 = 20_000;
/// Most pieces that an input can name.
const PIECES_MAX: usize = 16;

/// Tries one input.
pub fn check(input: &[u8]) {
    let Some((&n, rest)) = input.split_first() else { return };
    let n = usize::from(n) % (PIECES_MAX + 1);
    let (pieces, bytes) = rest.split_at((2 * n).min(rest.len()));
    let pieces: Vec<_> = pieces.chunks_exact(2).map(|piece| u16::from_le_bytes([piece[0], piece[1]]).into()).collect();
    let whole = run(bytes, &[], Style::ReceiveOnly, 0xa5);
    for style in [Style::ReceiveOnly, Style::Landings] {
        let cut = run(bytes, &pieces, style, 0x5a);
        compare(&whole, &cut, &format!("{style:?} in pieces of {pieces:?}"));
    }
}

fn run(bytes: &[u8], pieces: &[usize], style: Style, poison: u8) -> Driven {
    let budget = Arc::new(Budget::default());
    let driven = memory::with_trees(Some(poison), Options::default(), |mut fs: Trees| {
        let mut session = Session::new(Config { msize_max: MSIZE_MAX, budget: Arc::clone(&budget), ..config() });
        let driven = feed(&mut session, &mut fs, bytes, pieces.iter().copied().cycle(), style);
        session.close(&mut fs, AT);
        assert_eq!(
            (session.fids(), session.pending(), session.queued_bytes()),
            (0, 0, 0),
            "a closed session has nothing"
        );
        (fs, driven)
    });
    assert_eq!((budget.fids(), budget.reply_bytes()), (0, 0), "what a closed session has of the budget");
    driven
}

fn compare(whole: &Driven, cut: &Driven, how: &str) {
    let (all, some) = (frames(&whole.replies), frames(&cut.replies));
    for (at, (one, other)) in all.iter().zip(&some).enumerate() {
        assert!(one.frame == other.frame, "reply {at}: {how}\n    whole {}\n    cut   {}", one.line, other.line);
        if one.is_full || other.is_full {
            // Memory that replies hold is free once they have left. Who is out of memory has another history from here on.
            return;
        }
    }
    let full = all.get(some.len()).or(some.get(all.len())).is_some_and(|reply| reply.is_full);
    assert!(all.len() == some.len() || full, "{} replies, {} when {how}", all.len(), some.len());
    assert_eq!(whole.broken, cut.broken, "the end, when {how}");
}

struct Reply {
    /// With zeros where a reply may differ.
    frame: Vec<u8>,
    line: String,
    /// The memory, or the table of files, is full.
    is_full: bool,
}

/// The replies one by one.
fn frames(mut bytes: &[u8]) -> Vec<Reply> {
    let (mut dialect, mut replies) = (Dialect::P9, Vec::new());
    while let Some(head) = wire::head(bytes) {
        let (frame, rest) = bytes.split_at_checked(head.size as usize).expect("whole replies");
        bytes = rest;
        if let Ok((_, Message::Rversion { version, .. })) = Message::parse(frame, Dialect::P9) {
            dialect = Dialect::negotiate(version).unwrap_or(Dialect::P9);
        }
        // A Tversion that asks for a small msize is refused in the dialect that it asked for.
        let dialects = [dialect, Dialect::L, Dialect::U, Dialect::P9];
        let parsed = dialects.into_iter().find_map(|dialect| Some((dialect, Message::parse(frame, dialect).ok()?)));
        let (dialect, (tag, message)) = parsed.expect("a reply is a message");
        let full = u32::from(Error::ENOSPC.0);
        let is_full = match message {
            Message::Rlerror { ecode } => ecode == full,
            Message::Rerror { ename, errno: UOnly(errno) } => errno == full || ename == Error::ENOSPC.text().as_bytes(),
            _ => false,
        };
        let line = message.line(tag, dialect).to_string();
        replies.push(Reply { frame: comparable(frame, &message), line, is_full });
    }
    assert!(bytes.is_empty(), "whole replies");
    replies
}

/// What must be the same. Free memory need not: replies that have not left hold some. What a file holds need not: a large payload
/// that comes in pieces lands in one block, and one that is there in one piece may be written to several smaller blocks.
fn comparable(frame: &[u8], message: &Message<'_>) -> Vec<u8> {
    let mut frame = frame.to_vec();
    match message {
        // type[4] bsize[4] blocks[8] bfree[8] bavail[8]
        Message::Rstatfs { .. } => frame[wire::HEAD + 16..wire::HEAD + 32].fill(0),
        // valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8] blocks[8]
        Message::Rgetattr { .. } => frame[wire::HEAD + 65..wire::HEAD + 73].fill(0),
        _ => {}
    }
    frame
}
