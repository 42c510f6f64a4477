//! What each connection has asked to be written, and what the tree has shown it: so that every write and every reply can be held against what was executed.
//!
//! A tree is entered in the order in which the server serves; the replies of a connection leave in that order. So what a client hears is found in the list of what it
//! was shown, front to back; and what the tree is given to write is found in the list of what the client said. Requests that fail leave gaps, which is why it is
//! searched for and not taken from the front.

use ring9::fs::{Stat, Time};
use ring9::session::ATTRS_MAX;
use ring9::wire::Qid;
use std::collections::VecDeque;

/// A file as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) qid: Qid,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u64,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) times: [Time; 4],
    pub(crate) name: Vec<u8>,
    pub(crate) target: Vec<u8>,
}

impl Shown {
    pub(crate) fn of(stat: &Stat<'_>) -> Shown {
        Shown {
            qid: stat.qid,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            size: stat.size,
            blocks: stat.blocks,
            times: [stat.atime, stat.mtime, stat.ctime, stat.btime],
            name: stat.name.to_vec(),
            target: stat.target.to_vec(),
        }
    }
}

/// An answer of the tree that a reply shows.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Bytes of a file.
    Bytes(Vec<u8>),
    /// An attribute, or the names of all; a reply may show its first part.
    Attr(Vec<u8>),
    /// Entries of a directory: cookie and file.
    Entries(Vec<(u64, Shown)>),
    /// A file.
    File(Shown),
}

/// One connection.
#[derive(Debug, Default)]
struct Account {
    writes: VecDeque<(u64, Vec<u8>)>,
    answers: VecDeque<Answer>,
    /// The last values and lists of attributes that were shown.
    attrs: VecDeque<Answer>,
    /// Whom it acts for.
    uid: Option<u32>,
    /// Operations that wait in the tree.
    waiting: usize,
}

/// All of them, by number; and figures.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// There are no clients to account for.
    is_idle: bool,
    /// The tree may have no memory to lend: then payloads are written in parts.
    pub(crate) in_parts: bool,
    /// Operations may wait in the tree.
    pub(crate) may_wait: bool,
    /// Writes that were executed, replies that were held against what was executed, operations of the tree.
    pub(crate) writes: u64,
    pub(crate) answers: u64,
    pub(crate) operations: u64,
}

impl Ledger {
    pub(crate) fn new(in_parts: bool, may_wait: bool) -> Ledger {
        Ledger { in_parts, may_wait, ..Ledger::default() }
    }

    /// One that only counts.
    pub(crate) fn idle() -> Ledger {
        Ledger { is_idle: true, ..Ledger::default() }
    }

    /// Whom a connection acts for, by the trust in it.
    pub(crate) fn is(&mut self, number: u32, uid: u32) {
        self.account(number).uid = Some(uid);
    }

    /// The tree is entered on somebody's behalf.
    pub(crate) fn enters(&mut self, number: u32, uid: u32) {
        if self.is_idle {
            return;
        }
        let by_trust = self.account(number).uid;
        assert!(by_trust == Some(uid), "trust: connection {number} acts for {uid}, and may for {by_trust:?}");
    }

    fn account(&mut self, number: u32) -> &mut Account {
        let number = number as usize;
        if self.accounts.len() <= number {
            self.accounts.resize_with(number + 1, Account::default);
        }
        &mut self.accounts[number]
    }

    /// A client is about to say this.
    pub(crate) fn asks_to_write(&mut self, number: u32, offset: u64, bytes: Vec<u8>) {
        self.account(number).writes.push_back((offset, bytes));
    }

    /// The tree is given this to write: all of what was said at once, or a part of it.
    pub(crate) fn writes(&mut self, number: u32, offset: u64, bytes: &[u8]) {
        self.writes += 1;
        if self.is_idle {
            return;
        }
        let writes = &mut self.account(number).writes;
        if let Some(at) = writes.iter().position(|(place, said)| *place == offset && said == bytes) {
            writes.drain(..=at);
            return;
        }
        let is_part = writes.iter().any(|(place, said)| {
            let from = usize::try_from(offset.wrapping_sub(*place)).unwrap_or(usize::MAX);
            said.get(from..from.saturating_add(bytes.len())).is_some_and(|part| part == bytes)
        });
        assert!(is_part, "writes: {} bytes at {offset} that connection {number} has not said so", bytes.len());
    }

    /// The tree shows this.
    pub(crate) fn shows(&mut self, number: u32, answer: Answer) {
        if self.is_idle {
            return;
        }
        let account = self.account(number);
        if let Answer::Attr(_) = answer {
            account.attrs.push_back(answer);
            if account.attrs.len() > ATTRS_MAX {
                account.attrs.pop_front();
            }
        } else {
            account.answers.push_back(answer);
        }
    }

    /// A client hears something that was shown.
    pub(crate) fn hears(&mut self, number: u32, what: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        self.answers += 1;
        let Account { answers, attrs, .. } = self.account(number);
        // What is read of an attribute was shown when its fid was made, and is heard before or behind what has waited meanwhile.
        if let Some(attr) = attrs.iter().find(|attr| is_it(attr)) {
            return attr.clone();
        }
        let Some(at) = answers.iter().position(is_it) else {
            panic!("replies: connection {number} hears {what} that was not shown: torn, or of another moment");
        };
        answers.drain(..at);
        answers.pop_front().expect("found just now")
    }

    /// One more, or one less, waits.
    pub(crate) fn waits(&mut self, number: u32, more: bool) {
        let waiting = &mut self.account(number).waiting;
        *waiting = if more { *waiting + 1 } else { *waiting - 1 };
    }

    pub(crate) fn waiting(&mut self, number: u32) -> usize {
        self.account(number).waiting
    }
}
