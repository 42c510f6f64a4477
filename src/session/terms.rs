//! What a session and its driver tell each other: how a session is set up, what it waits for, and why it cannot go on.
//!
//! Must not know: how messages are served.

use super::PROTOCOL_ERRORS_MAX;
use super::budget::Budget;
use super::users::{Trust, Users};
use crate::wire::{Kind, Tag};
use std::fmt;
use std::sync::Arc;

/// What a session is told about its peer.
#[derive(Clone, Debug)]
pub struct Config {
    /// The driver's number of this peer; comes back in tokens.
    pub peer: u32,
    /// Largest message in bytes that may be negotiated.
    pub msize_max: u32,
    /// Whom it may act for.
    pub trust: Trust,
    /// The user that the server runs as, if that user or root is at the other end of the
    /// connection. Else `None`: then no private tree can be attached to.
    pub owner: Option<u32>,
    /// Names of users and groups.
    pub users: Arc<Users>,
    /// Fids at a time.
    pub fids_max: usize,
    /// Requests that wait for their tree at a time. Flushes of them may be as many again.
    pub pending_max: usize,
    /// Bytes of replies that may be queued before no more is served.
    pub queued_bytes_max: usize,
    /// Messages served by one call of `receive`.
    pub messages_max: u32,
    /// A secret for the hash of fids.
    pub hash_key: u64,
    /// What it shares with other sessions.
    pub budget: Arc<Budget>,
    /// The serial of its first operation. Those of an earlier session with the same `peer` must not come up to it.
    pub first_op: u64,
}

impl Config {
    /// The usual bounds.
    pub fn new(peer: u32, msize_max: u32) -> Config {
        Config {
            peer,
            msize_max,
            trust: Trust::Squash,
            owner: None,
            users: Arc::default(),
            fids_max: usize::MAX,
            pending_max: 256,
            queued_bytes_max: 2 * msize_max as usize,
            messages_max: 64,
            hash_key: 0,
            budget: Arc::default(),
            first_op: 0,
        }
    }
}

/// How far `receive` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that need not be shown again.
    pub consumed: usize,
    /// What the session waits for.
    pub need: Need,
    /// Bytes of the last large write whose payload began and was not whole in what was shown; 0 if none began. A
    /// [`Landing`](super::Landing) takes the rest, unless the write is refused, discarded or taken in parts.
    pub bulk: u32,
    /// Bytes of the last write above [`BULK_BYTES_MIN`](super::BULK_BYTES_MIN) that was whole; 0 if there was none.
    pub whole: u32,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes that complete the message that has begun, or the head of a large write, as far as is known; 0 if none has.
    pub more: usize,
    /// Bytes that may be thrown away without being shown.
    pub skip: usize,
    /// A cap was reached: whole messages may be left. Show them again once replies have left or what waits has ended; or in the next turn, see `again`.
    pub held: bool,
    /// The cap is that of one call: another one goes on at once, and nothing else will bring it about.
    pub again: bool,
}

/// Why one cannot go on with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A size field below that of a head: where the next message starts is unknown.
    TooSmall(u32),
    /// A message larger than was agreed on.
    TooLarge(u32),
    /// A request before Tversion.
    NotNegotiated(Kind),
    /// A tag whose request has no reply yet: the next reply would be ambiguous.
    TagInFlight(Tag),
    /// Too many messages that are none.
    TooManyErrors,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::TooSmall(size) => write!(f, "a message of {size} bytes cannot be; is this a 9P client?"),
            Broken::TooLarge(size) => write!(f, "a message of {size} bytes is above what was agreed on"),
            Broken::NotNegotiated(kind) => write!(f, "{kind} before Tversion"),
            Broken::TagInFlight(tag) => write!(f, "tag {tag} was used again before its reply"),
            Broken::TooManyErrors => write!(f, "{PROTOCOL_ERRORS_MAX} broken messages"),
        }
    }
}

impl std::error::Error for Broken {}
