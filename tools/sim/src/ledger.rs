//! What each connection has asked to be written, and what the tree has shown it: so that every write and every reply can be held against what was executed.
//!
//! Calls are made in the order in which the tree executes them; the replies of a connection leave in that order, but for those whose gates are closed. So what a client
//! hears is found in the list of what it was shown, front to back; and what the tree is given to write is found in the list of what the client said. Requests that
//! fail leave gaps, which is why it is searched for and not taken from the front. What has a closed gate is not heard before that is open; others overtake it.
//!
//! Which request a call is made for is known where only one that has no reply can ask for it: while the tree is called for a request, that one has no reply. So the gate
//! of the reply with that tag is known, whatever the reply says.

use crate::relayed::Relayed;
use ring9::fs::{Call, Gate, Stat, Time};
use ring9::session::ATTRS_MAX;
use ring9::wire::{Dialect, Kind, Qid, Tag};
use std::collections::{BTreeMap, VecDeque};

/// A file as it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
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

impl File {
    pub(crate) fn of(stat: &Stat<'_>) -> File {
        File {
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
    Entries(Vec<(u64, File)>),
    /// A file.
    File(File),
}

/// An answer with the gate of its reply, and its tag if that is known.
#[derive(Debug)]
struct Shown {
    answer: Answer,
    gate: Gate,
    tag: Option<Tag>,
}

/// A request that has no reply yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) tag: Tag,
    pub(crate) kind: Kind,
    /// Most bytes that may be read, or that were to be written.
    pub(crate) count: u32,
    /// It clunks what may be an attribute that is to be set: then its file is closed for nobody.
    pub(crate) of_attr: bool,
}

/// A request: its tag, and in which session of its connection that is.
pub(crate) type Which = (Tag, u32);

/// One connection.
#[derive(Debug, Default)]
struct Account {
    writes: VecDeque<(u64, Vec<u8>)>,
    answers: VecDeque<Shown>,
    /// The last values and lists of attributes that were shown.
    attrs: VecDeque<Shown>,
    /// Whom it acts for.
    uid: Option<u32>,
    /// Operations that wait in the tree.
    waiting: usize,
    /// Requests that have no reply yet.
    asked: Vec<Asked>,
    /// The gates of the replies to those of them that the tree has answered, as far as that is known.
    told: BTreeMap<Tag, Gate>,
    /// It has attached, and then asked for a version again: what it asked for before may go on in the tree for nobody.
    attached: bool,
    began_again: bool,
    /// It says nothing more.
    is_leaving: bool,
    /// Versions that it has agreed on. What was asked for before is answered to nobody.
    versions: u32,
    /// The last gate of all that a reply of this connection has.
    last_gate: Gate,
    /// Behind a relay.
    relayed: Relayed,
}

/// All of them, by number; and figures.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: Vec<Account>,
    /// There are no clients to account for.
    is_idle: bool,
    /// What replies show is not noted.
    is_blind: bool,
    /// The server relays to a far one, which speaks this dialect. What that executes is what there is.
    far: Option<Dialect>,
    /// What has gone wrong so far with the connections to it. `None`: something is wrong with them now.
    pub(crate) troubles: Option<u64>,
    /// The tree may have no memory to lend: then payloads are written in parts.
    pub(crate) in_parts: bool,
    /// Calls may be made later than they were asked for, in another order; replies may have gates.
    pub(crate) is_late: bool,
    /// Gates up to this one are open.
    pub(crate) opened: Gate,
    /// The server was told to end.
    pub(crate) is_draining: bool,
    /// So many of them are closed that the tree takes no more.
    pub(crate) is_behind: bool,
    /// Replies that were heard while one that the tree had answered waited for its gate; and those that had waited for theirs.
    pub(crate) overtaken: u64,
    pub(crate) let_out: u64,
    /// Writes that were executed, replies that were held against what was executed, operations of the tree.
    pub(crate) writes: u64,
    pub(crate) answers: u64,
    pub(crate) operations: u64,
}

impl Ledger {
    pub(crate) fn new(in_parts: bool, is_late: bool) -> Ledger {
        Ledger { in_parts, is_late, ..Ledger::default() }
    }

    /// That of a store: only the gates of replies are known.
    pub(crate) fn stored() -> Ledger {
        Ledger { in_parts: true, is_late: true, is_blind: true, ..Ledger::default() }
    }

    /// That of a relay.
    pub(crate) fn relayed(far: Dialect) -> Ledger {
        Ledger { in_parts: true, far: Some(far), ..Ledger::default() }
    }

    pub(crate) fn is_relayed(&self) -> bool {
        self.far.is_some()
    }

    /// The dialect of the far server, if there is one.
    pub(crate) fn far(&self) -> Option<Dialect> {
        self.far
    }

    /// The far server shows a connection what it reads.
    pub(crate) fn shows_read(&mut self, number: u32, offset: u64, bytes: Vec<u8>) {
        self.account(number).relayed.shows_read(offset, bytes);
    }

    /// Whether the far server has shown a connection these bytes, at this offset if one is known.
    pub(crate) fn hears_read(&mut self, number: u32, offset: Option<u64>, bytes: &[u8]) -> bool {
        let has = self.account(number).relayed.hears_read(offset, bytes);
        self.answers += u64::from(has);
        has
    }

    /// Whether the far server has shown a connection a file in a state of which this is so.
    pub(crate) fn knows(&mut self, number: u32, path: u64, is_it: impl Fn(&File) -> bool) -> bool {
        let knows = self.account(number).relayed.knows(path, is_it);
        self.answers += u64::from(knows);
        knows
    }

    /// What the far server has told a connection of files.
    pub(crate) fn of_far(&mut self, number: u32) -> &mut Relayed {
        &mut self.account(number).relayed
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
        if self.is_blind {
            return;
        }
        self.account(number).writes.push_back((offset, bytes));
    }

    /// The tree is given this to write: all of what was said at once, or a part of it.
    pub(crate) fn writes(&mut self, number: u32, offset: u64, bytes: &[u8]) {
        self.writes += 1;
        if self.is_idle {
            return;
        }
        let (is_late, far) = (self.is_late, self.far);
        let account = self.account(number);
        if far.is_some() {
            return account.relayed.writes(number, &mut account.writes, offset, bytes, far == Some(Dialect::P9));
        }
        let writes = &mut account.writes;
        if let Some(at) = writes.iter().position(|(place, said)| *place == offset && said == bytes) {
            // Those in front of it have failed, unless they are still to come.
            writes.drain(if is_late { at } else { 0 }..=at);
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
        let is_relayed = self.is_relayed();
        let account = self.account(number);
        if is_relayed {
            return account.relayed.shows(answer);
        }
        let shown = Shown { answer, gate: Gate::OPEN, tag: None };
        if let Answer::Attr(_) = shown.answer {
            account.attrs.push_back(shown);
            if account.attrs.len() > ATTRS_MAX {
                account.attrs.pop_front();
            }
        } else {
            account.answers.push_back(shown);
        }
    }

    /// How much it was shown so far, for [`holds`](Self::holds).
    pub(crate) fn shown(&mut self, number: u32) -> usize {
        self.account(number).answers.len()
    }

    /// What was shown since, or the last attribute, is in the reply with this tag, if that is known, and waits for this gate.
    pub(crate) fn holds(&mut self, number: u32, since: usize, is_attr: bool, gate: Gate, tag: Option<Tag>) {
        let account = self.account(number);
        account.last_gate = account.last_gate.max(gate);
        account.answers.range_mut(since..).for_each(|shown| (shown.gate, shown.tag) = (gate, tag));
        if let Some(shown) = account.attrs.back_mut().filter(|_| is_attr) {
            shown.gate = gate;
        }
    }

    pub(crate) fn is_open(&self, gate: Gate) -> bool {
        gate <= self.opened
    }

    /// A client hears something that was shown.
    pub(crate) fn hears(&mut self, number: u32, tag: Tag, what: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        self.answers += 1;
        if self.is_blind {
            return Answer::Bytes(Vec::new());
        }
        if self.is_relayed() {
            return self.account(number).relayed.hears(number, what, is_it);
        }
        let opened = self.opened;
        let Account { answers, attrs, .. } = self.account(number);
        // What is read of an attribute was shown when its fid was made, and is heard before or behind what has waited meanwhile.
        if let Some(shown) = attrs.iter().find(|shown| shown.gate <= opened && is_it(&shown.answer)) {
            return shown.answer.clone();
        }
        // What has waited for its gate is heard in front of what was shown before, and behind what was on its way before the gate opened.
        let (mut waited, mut found) = (None, None);
        for (at, shown) in answers.iter().enumerate().filter(|(_, shown)| shown.gate <= opened && is_it(&shown.answer))
        {
            if shown.tag == Some(tag) {
                (waited, found) = (None, Some(at));
                break;
            }
            let first = if shown.gate == Gate::OPEN { &mut found } else { &mut waited };
            *first = first.or(Some(at).filter(|_| shown.tag.is_none()));
        }
        let at = match (waited, found) {
            // It may be either.
            (Some(_), Some(at)) => return answers[at].answer.clone(),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => {
                let is_closed =
                    answers.iter().chain(attrs.iter()).any(|shown| shown.gate > opened && is_it(&shown.answer));
                let why =
                    if is_closed { "whose gate is closed" } else { "that was not shown: torn, or of another moment" };
                panic!("replies: connection {number} hears {what} {why}");
            }
        };
        let Shown { answer, gate, .. } = answers.remove(at).expect("found just now");
        if gate == Gate::OPEN && at > 0 {
            // Those in front of it are not heard any more, unless they wait for their gates.
            let mut place = 0;
            answers.retain(|shown| {
                place += 1;
                place > at || shown.gate != Gate::OPEN
            });
        }
        answer
    }

    /// What a client has asked and not heard so far.
    pub(crate) fn asked(&mut self, number: u32, leaves: bool, asked: impl Iterator<Item = Asked>) {
        if !self.is_late {
            return;
        }
        let Account { asked: all, told, attached, began_again, is_leaving, .. } = self.account(number);
        *is_leaving = leaves;
        all.clear();
        all.extend(asked);
        told.retain(|&tag, _| all.iter().any(|asked| asked.tag == tag));
        *attached |= all.iter().any(|asked| asked.kind == Kind::TATTACH);
        *began_again |= *attached && all.iter().any(|asked| asked.kind == Kind::TVERSION);
    }

    /// A client hears Rversion.
    pub(crate) fn begins(&mut self, number: u32) {
        self.account(number).versions += 1;
    }

    /// The request that this call is made for, if only one can ask for it.
    pub(crate) fn asks(&mut self, number: u32, call: &Call<'_>) -> Option<Which> {
        let is_draining = self.is_draining;
        let account = self.account(number);
        let mut fits = account.asked.iter().filter(|asked| may_ask(asked, call));
        let found = fits.next()?;
        // Files are closed for nobody, too: when the last operation on them has ended, and when their session ends.
        let others =
            account.asked.len() > 1 || found.of_attr || account.began_again || account.is_leaving || is_draining;
        let may_be_nobodys = others && matches!(call, Call::Close { .. });
        if fits.next().is_some() || may_be_nobodys {
            return None;
        }
        let is_last = match call {
            Call::Stat { .. } => found.kind != Kind::TWSTAT,
            Call::Write { data, .. } => data.len() == found.count as usize,
            _ => true,
        };
        let tag = found.tag;
        account.told.remove(&tag);
        is_last.then_some((tag, account.versions))
    }

    /// The tree has answered a request; its reply has this gate.
    pub(crate) fn tells(&mut self, number: u32, (tag, versions): Which, gate: Gate) {
        let account = self.account(number);
        if account.versions == versions && account.asked.iter().any(|asked| asked.tag == tag) {
            account.told.insert(tag, gate);
        }
    }

    /// A reply with this tag has left: its gate is open.
    pub(crate) fn sends_tag(&self, number: u32, tag: Tag) {
        let gate = self.accounts.get(number as usize).and_then(|account| account.told.get(&tag));
        assert!(
            gate.is_none_or(|&gate| gate <= self.opened),
            "gates: a reply of tag {tag} is on its way to connection {number}, and its gate is closed"
        );
    }

    /// A reply with this tag is heard: its gate is open.
    pub(crate) fn hears_tag(&mut self, number: u32, tag: Tag) {
        let opened = self.opened;
        let told = &mut self.account(number).told;
        let gate = told.remove(&tag);
        assert!(
            gate.is_none_or(|gate| gate <= opened),
            "gates: connection {number} hears a reply of tag {tag}, whose gate is closed"
        );
        let overtakes = told.values().any(|&gate| gate > opened);
        self.overtaken += u64::from(overtakes);
        self.let_out += u64::from(gate.is_some_and(|gate| gate != Gate::OPEN));
    }

    /// A request was flushed and has no reply by now: there is none that waits.
    pub(crate) fn hears_flushed(&mut self, number: u32, oldtag: Tag) {
        let gate = self.account(number).told.remove(&oldtag);
        assert!(
            gate.is_none(),
            "flush: connection {number} hears Rflush in front of the reply of tag {oldtag}, whose gate is {gate:?}"
        );
    }

    /// A reply whose gate is open, or that has none, and that has not come.
    pub(crate) fn overdue(&mut self, number: u32) -> Option<Tag> {
        let opened = self.opened;
        let account = self.account(number);
        let begins = account.asked.iter().any(|asked| asked.kind == Kind::TVERSION);
        account.told.iter().find(|&(_, gate)| !begins && *gate <= opened).map(|(&tag, _)| tag)
    }

    /// Whether a client may have to wait: for an operation, for a gate, or because the tree is behind.
    pub(crate) fn may_wait(&mut self, number: u32) -> bool {
        let (opened, is_behind) = (self.opened, self.is_behind);
        let account = self.account(number);
        is_behind || account.waiting > 0 || account.last_gate > opened
    }

    /// One more, or one less, waits.
    pub(crate) fn waits(&mut self, number: u32, more: bool) {
        let waiting = &mut self.account(number).waiting;
        *waiting = if more { *waiting + 1 } else { *waiting - 1 };
    }
}

/// Whether this request may make the session ask for this.
fn may_ask(asked: &Asked, call: &Call<'_>) -> bool {
    match call {
        Call::Attach { .. } => asked.kind == Kind::TATTACH,
        Call::Walk { .. } => asked.kind == Kind::TWALK,
        Call::Open { .. } => matches!(asked.kind, Kind::TOPEN | Kind::TLOPEN),
        Call::Create { .. } => matches!(asked.kind, Kind::TCREATE | Kind::TLCREATE),
        Call::Read { .. } => asked.kind == Kind::TREAD,
        Call::List { .. } => matches!(asked.kind, Kind::TREAD | Kind::TREADDIR),
        Call::Write { .. } | Call::Commit { .. } => asked.kind == Kind::TWRITE,
        Call::Stat { .. } => matches!(asked.kind, Kind::TSTAT | Kind::TGETATTR | Kind::TWSTAT),
        Call::Wstat { .. } => matches!(asked.kind, Kind::TWSTAT | Kind::TSETATTR),
        Call::ReadLink { .. } => asked.kind == Kind::TREADLINK,
        Call::Make { .. } => matches!(asked.kind, Kind::TCREATE | Kind::TMKDIR | Kind::TSYMLINK | Kind::TMKNOD),
        Call::Link { .. } => matches!(asked.kind, Kind::TCREATE | Kind::TLINK),
        Call::Unlink { .. } => asked.kind == Kind::TUNLINKAT,
        Call::Rename { .. } => asked.kind == Kind::TRENAMEAT,
        Call::RenameFile { .. } => asked.kind == Kind::TRENAME,
        Call::Remove { .. } => asked.kind == Kind::TREMOVE,
        Call::Close { .. } | Call::SetXattr { .. } => asked.kind == Kind::TCLUNK,
        Call::Fsync { .. } => matches!(asked.kind, Kind::TWSTAT | Kind::TFSYNC),
        Call::Xattr { .. } => asked.kind == Kind::TXATTRWALK,
        Call::CheckXattr { .. } => asked.kind == Kind::TXATTRCREATE,
        Call::Lock { .. } => asked.kind == Kind::TLOCK,
        Call::Conflict { .. } => asked.kind == Kind::TGETLOCK,
        Call::StatFs { .. } => asked.kind == Kind::TSTATFS,
    }
}
