//! A tree that answers late: the same bytes as at once, and what becomes of files, fids and tags meanwhile.
//!
//! [`Slow`] is the memory tree, and holds back the calls that a test has chosen until [`Late::go`].

use super::*;
use crate::arena::Arena;
use crate::fs::mem::{Mem, Options};
use crate::fs::{Answer, Call, CallBuf, Cancel, FileId, Grant, Outcome, Payload, Result, Show, Simple};
use std::collections::{BTreeMap, BTreeSet};

/// An operation that is not done.
pub(super) enum Kept {
    Call(CallBuf),
    /// A walk that has been there, and is not told yet.
    Walked(Answer, Vec<Qid>),
}

/// A tree that holds calls back, and gives answers a gate.
pub(super) struct Slow {
    pub(super) tree: Simple<Mem>,
    /// The calls that are held back, and those whose answers have [`gate`](Self::gate).
    pub(super) holds: fn(&Call<'_>) -> bool,
    pub(super) gated: fn(&Call<'_>) -> bool,
    pub(super) gate: Gate,
    pub(super) opened: Gate,
    pub(super) behind: bool,
    /// A walk takes its steps before it is held back.
    pub(super) eager: bool,
    pub(super) too_late: bool,
    /// Payloads land in memory of the tree.
    pub(super) lends: bool,
    pub(super) kept: BTreeMap<OpId, (Kept, Vec<FileId>)>,
    /// Names of the calls that were held back, and the files that were closed.
    seen: BTreeSet<String>,
    pub(super) closed: Vec<FileId>,
}

/// The files that a call works on.
fn files(call: &Call<'_>) -> Vec<FileId> {
    match *call {
        Call::Attach { .. } => vec![],
        Call::Walk { from, .. } => vec![from],
        Call::Create { dir, .. } | Call::List { dir, .. } | Call::Make { dir, .. } | Call::Unlink { dir, .. } => {
            vec![dir]
        }
        Call::Link { dir, file, .. } => vec![dir, file],
        Call::Rename { from, to, .. } => vec![from, to],
        Call::RenameFile { file, to, .. } => vec![file, to],
        Call::Open { file, .. } | Call::Read { file, .. } | Call::Write { file, .. } | Call::Commit { file, .. } => {
            vec![file]
        }
        Call::Stat { file, .. } | Call::Wstat { file, .. } | Call::ReadLink { file } | Call::Remove { file } => {
            vec![file]
        }
        Call::Close { file } | Call::Fsync { file, .. } | Call::StatFs { file } => vec![file],
        Call::Xattr { file, .. } | Call::CheckXattr { file, .. } | Call::SetXattr { file, .. } => vec![file],
        Call::Lock { file, .. } | Call::Conflict { file, .. } => vec![file],
    }
}

impl Slow {
    pub(super) fn new() -> Slow {
        let tree = Simple::from(Mem::new(Arena::new(1 << 20).expect("a small mapping"), Options::default()));
        Slow {
            tree,
            holds: |_| false,
            gated: |_| false,
            gate: Gate(1),
            opened: Gate::OPEN,
            behind: false,
            eager: false,
            too_late: false,
            lends: true,
            kept: BTreeMap::new(),
            seen: BTreeSet::new(),
            closed: Vec::new(),
        }
    }
}

impl Service for Slow {
    const FILE_BYTES: usize = Simple::<Mem>::FILE_BYTES;

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        assert!(!self.kept.contains_key(&op), "the name of an operation that waits is taken");
        if let Call::Close { file } = call {
            let in_use = self.kept.values().any(|(_, files)| files.contains(&file));
            assert!(!in_use, "a file is closed after the last operation that names it");
            assert!(!self.closed.contains(&file), "a file is closed once");
            self.closed.push(file);
        }
        let call = match call {
            // Two names of it, for a join.
            Call::Attach { user, aname: b"one" | b"two" } => Call::Attach { user, aname: b"" },
            call => call,
        };
        let is_gated = (self.gated)(&call);
        if !(self.holds)(&call) {
            let outcome = self.tree.call(op, call, show, at);
            let Outcome::Done(answer) = outcome else { panic!("nothing waits in there") };
            return Outcome::Done(Answer { gate: if is_gated { self.gate } else { Gate::OPEN }, ..answer });
        }
        self.seen.extend(format!("{call:?}").split(' ').next().map(str::to_owned));
        let files = files(&call);
        let kept = if self.eager && matches!(call, Call::Walk { .. }) {
            let mut steps = Vec::new();
            let outcome = self.tree.call(op, call, Show::Steps(&mut |qid| steps.push(qid)), at);
            let Outcome::Done(answer) = outcome else { panic!("nothing waits in there") };
            Kept::Walked(answer, steps)
        } else {
            Kept::Call(call.into())
        };
        self.kept.insert(op, (kept, files));
        Outcome::Pending
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        match self.kept.remove(&op).expect("finished once").0 {
            Kept::Call(call) => call.with(|call| self.tree.call(op, call, show, at)),
            Kept::Walked(answer, qids) => {
                if let Show::Steps(step) = show {
                    qids.into_iter().for_each(step);
                }
                Outcome::Done(answer)
            }
        }
    }

    fn cancel(&mut self, op: OpId) -> Cancel {
        let is_done = matches!(self.kept.get(&op).expect("it waits").0, Kept::Walked(..));
        if is_done || self.too_late {
            return Cancel::TooLate;
        }
        self.kept.remove(&op);
        Cancel::Cancelled
    }

    fn grant(&mut self, file: FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        if self.lends { Service::grant(&mut self.tree, file, offset, count, at) } else { Ok(Payload::Parts) }
    }

    fn extend(&mut self, file: FileId, grant: &mut Grant) -> Result<()> {
        Service::extend(&mut self.tree, file, grant)
    }

    fn refused(&self, _: FileId) -> Gate {
        self.gate
    }

    fn is_open(&self, gate: Gate) -> bool {
        gate <= self.opened
    }

    fn is_behind(&self) -> bool {
        self.behind
    }
}

/// A session on it.
pub(super) struct Late {
    pub(super) session: Session<Slow>,
    pub(super) tree: Slow,
    dialect: Dialect,
    pub(super) budget: Arc<Budget>,
}

impl Late {
    /// Fid 0 is the root. There is a file `f`, which says "hello", and a directory `d`.
    pub(super) fn new(dialect: Dialect) -> Late {
        let budget = Arc::new(Budget::default());
        let session = Session::new(Config { budget: Arc::clone(&budget), ..config() });
        let mut late = Late { session, tree: Slow::new(), dialect, budget };
        late.send(NOTAG, &Message::Tversion { msize: MSIZE, version: dialect.name().as_bytes() });
        late.send(1, &attach(0, b"", 0));
        late.send(1, &walk(0, 1, &[]));
        if dialect == Dialect::L {
            late.send(1, &Message::Tlcreate { fid: 1, name: b"f", flags: 2, mode: 0o644, gid: 0 });
            late.send(1, &Message::Tmkdir { dfid: 0, name: b"d", mode: 0o755, gid: 0 });
        } else {
            late.send(1, &Message::Tcreate { fid: 1, name: b"f", perm: 0o644, mode: 2, extension: UOnly(b"") });
        }
        late.send(1, &write(1, 0, b"hello"));
        late.send(1, &Message::Tclunk { fid: 1 });
        assert!(late.lines().iter().all(|line| !line.contains("error")));
        late
    }

    pub(super) fn shows(&mut self, tag: Tag, message: &Message<'_>) -> std::result::Result<Received, Broken> {
        self.session.receive(&mut self.tree, AT, &frame(tag, message, self.dialect))
    }

    #[track_caller]
    pub(super) fn send(&mut self, tag: Tag, message: &Message<'_>) {
        let received = self.shows(tag, message).expect("not broken");
        assert!(received.consumed > 0 && !received.need.held, "{received:?}");
    }

    /// Walks, and opens for both. Everything at once.
    pub(super) fn opens(&mut self, fid: u32, names: &[&[u8]]) {
        self.send(1, &walk(0, fid, names));
        self.send(1, &Message::Tlopen { fid, flags: 2 });
        assert_eq!(self.kinds(), ["Rwalk 1", "Rlopen 1"]);
    }

    /// Bytes of the replies that may leave.
    pub(super) fn replies(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(mut batch) = self.session.take(&self.tree) {
            all.extend_from_slice(&batch.to_vec());
            batch.advance(batch.len(), |_| ());
            self.session.recycle(batch);
        }
        all
    }

    pub(super) fn lines(&mut self) -> Vec<String> {
        let replies = self.replies();
        let (mut rest, mut lines) = (replies.as_slice(), Vec::new());
        while let Some(head) = wire::head(rest) {
            let (this, next) = rest.split_at(head.size as usize);
            let (tag, message) = Message::parse(this, self.dialect).expect("a reply");
            lines.push(message.line(tag, self.dialect).to_string());
            rest = next;
        }
        lines
    }

    /// The types of the replies that may leave, with their tags, and errors with their numbers.
    pub(super) fn kinds(&mut self) -> Vec<String> {
        let replies = self.replies();
        let (mut rest, mut kinds) = (replies.as_slice(), Vec::new());
        while let Some(head) = wire::head(rest) {
            let (this, next) = rest.split_at(head.size as usize);
            kinds.push(match Message::parse(this, self.dialect) {
                Ok((tag, Message::Rlerror { ecode })) => format!("{} {tag} {ecode}", head.kind),
                _ => format!("{} {}", head.kind, head.tag),
            });
            rest = next;
        }
        kinds
    }

    /// Finishes one of the operations that are held back.
    pub(super) fn finish(&mut self, op: OpId) {
        self.session.complete(&mut self.tree, op, AT);
    }

    pub(super) fn first(&self) -> OpId {
        *self.tree.kept.keys().next().expect("something is held back")
    }

    /// Finishes all of them, and those that come behind.
    pub(super) fn go(&mut self) {
        while let Some(&op) = self.tree.kept.keys().next() {
            self.finish(op);
        }
    }

    /// Shows a message in two pieces if it is large. Its reply.
    pub(super) fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = if bytes.len() > BULK_BYTES_MIN { 10_000 } else { bytes.len() };
        let mut rest = bytes;
        while !rest.is_empty() {
            let received =
                self.session.receive(&mut self.tree, AT, &rest[..shown.min(rest.len())]).expect("not broken");
            rest = &rest[received.consumed..];
            shown = rest.len();
            self.go();
        }
        self.replies()
    }

    pub(super) fn file(&self, fid: u32) -> FileId {
        self.session.fids.file(fid).expect("a fid of a file")
    }

    /// The end: nothing is left over, however much is still held back.
    pub(super) fn ends(mut self) {
        self.session.close(&mut self.tree, AT);
        self.go();
        assert_eq!((self.session.fids(), self.session.pending(), self.session.is_ending()), (0, 0, false));
        assert_eq!(self.replies(), b"");
        assert_eq!(self.tree.tree.held(), 0, "each file was given back");
        self.session.trim();
        drop(self.session.take_spare());
        assert_eq!((self.budget.fids(), self.budget.fid_bytes(), self.budget.reply_bytes()), (0, 0, 0));
        assert_eq!(self.budget.late_bytes(), 0);
    }
}

/// Behind requests that wait for a fid, however many, one of another fid is served as soon as nothing is in its way.
#[test]
fn many_that_wait_do_not_hide_one_that_can_go_on() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. });
    late.send(1, &walk(0, 1, &[b"f"]));
    let first = late.first();
    late.send(2, &walk(0, 2, &[b"f"]));
    let second = late.tree.kept.keys().copied().find(|&op| op != first).expect("both wait");
    let getattr = |fid| Message::Tgetattr { fid, request_mask: 0x3fff };
    (10..210).for_each(|tag| late.send(tag, &getattr(1)));
    late.send(3, &getattr(2));
    late.finish(second);
    for _ in 0..2 {
        late.session.receive(&mut late.tree, AT, b"").expect("not broken");
    }
    assert_eq!(late.kinds(), ["Rwalk 2", "Rgetattr 3"]);
    late.go();
    assert_eq!(late.session.pending(), 200 - late.kinds().len() + 1, "the rest comes in parts");
    late.ends();
}

fn linux_script(large: &'static [u8]) -> Vec<Message<'static>> {
    let lock =
        |fid, type_, proc_id| Message::Tlock { fid, type_, flags: 0, start: 0, length: 9, proc_id, client_id: b"c" };
    let getlock = |proc_id| Message::Tgetlock { fid: 1, type_: 1, start: 5, length: 9, proc_id, client_id: b"c" };
    let list = |offset, count| Message::Treaddir { fid: 4, offset, count };
    let set_mode = Message::Tsetattr {
        fid: 1,
        valid: 1,
        mode: 0o600,
        uid: !0,
        gid: !0,
        size: 0,
        atime_sec: 0,
        atime_nsec: 0,
        mtime_sec: 0,
        mtime_nsec: 0,
    };
    vec![
        attach(20, b"", 0),
        attach(21, b"nowhere", 0),
        walk(0, 1, &[b"f"]),
        Message::Tlopen { fid: 1, flags: 2 },
        write(1, 5, b", world"),
        read(1, 0, 100),
        write(1, 3, large),
        read(1, 20_000, 60_000),
        Message::Tgetattr { fid: 1, request_mask: 0x3fff },
        set_mode,
        Message::Tfsync { fid: 1, datasync: crate::wire::Opt(0) },
        lock(1, 1, 5),
        getlock(5),
        getlock(6),
        Message::Tstatfs { fid: 0 },
        Message::Tmkdir { dfid: 0, name: b"dir", mode: 0o755, gid: 0 },
        Message::Tmkdir { dfid: 0, name: b"dir", mode: 0o755, gid: 0 },
        Message::Tsymlink { fid: 0, name: b"s", target: b"f", gid: 0 },
        walk(0, 2, &[b"s"]),
        Message::Treadlink { fid: 2 },
        Message::Treadlink { fid: 1 },
        Message::Tmknod { dfid: 0, name: b"p", mode: 0o010644, major: 0, minor: 0, gid: 0 },
        Message::Tlink { dfid: 0, fid: 1, name: b"g" },
        Message::Trenameat { olddirfid: 0, oldname: b"g", newdirfid: 0, newname: b"h" },
        Message::Trenameat { olddirfid: 0, oldname: b"g", newdirfid: 0, newname: b"h" },
        walk(0, 3, &[b"h"]),
        Message::Trename { fid: 3, dfid: 0, name: b"i" },
        Message::Tunlinkat { dfid: 0, name: b"i", flags: 0 },
        Message::Tunlinkat { dfid: 0, name: b"i", flags: 0 },
        walk(0, 4, &[]),
        Message::Tlopen { fid: 4, flags: 0 },
        list(0, 1000),
        list(0, 5),
        Message::Txattrcreate { fid: 3, name: b"user.a", attr_size: 3, flags: 0 },
        write(3, 0, b"abc"),
        Message::Tclunk { fid: 3 },
        Message::Txattrwalk { fid: 1, newfid: 5, name: b"user.a" },
        Message::Txattrwalk { fid: 1, newfid: 6, name: b"user.b" },
        read(5, 0, 100),
        Message::Tclunk { fid: 5 },
        Message::Tremove { fid: 2 },
        walk(0, 2, &[b"s"]),
        walk(0, 2, &[b"dir", b"nowhere"]),
        walk(0, 7, &[b"dir"]),
        walk(7, 7, &[b"..", b"f"]),
        Message::Tgetattr { fid: 7, request_mask: 0x3fff },
        walk(0, 8, &[]),
        Message::Tlcreate { fid: 8, name: b"new", flags: 2, mode: 0o644, gid: 0 },
        write(8, 0, b"new"),
        Message::Tclunk { fid: 8 },
        Message::Tclunk { fid: 1 },
        Message::Tclunk { fid: 1 },
    ]
}

fn classic_script(large: &'static [u8]) -> Vec<Message<'static>> {
    let dont = crate::wire::Stat::dont_touch();
    let wstat = |stat| Message::Twstat { fid: 1, stat };
    let create =
        |fid, name, perm, extension| Message::Tcreate { fid, name, perm, mode: 0, extension: UOnly(extension) };
    vec![
        walk(0, 1, &[b"f"]),
        Message::Tstat { fid: 1 },
        wstat(crate::wire::Stat { mode: 0o600, ..dont }),
        wstat(dont),
        wstat(crate::wire::Stat { name: b"g", ..dont }),
        wstat(crate::wire::Stat { name: b"a/b", ..dont }),
        wstat(crate::wire::Stat { type_: 1, ..dont }),
        Message::Tstat { fid: 1 },
        Message::Topen { fid: 1, mode: 2 },
        write(1, 0, large),
        read(1, 30_000, 20_000),
        walk(0, 2, &[]),
        create(2, b"s", 0x0200_0000, b"g"),
        Message::Tstat { fid: 2 },
        walk(0, 3, &[]),
        create(3, b"d", 0x8000_01ed, b""),
        walk(0, 4, &[]),
        create(4, b"link", 0x0100_0000, b"1\n"),
        walk(0, 5, &[]),
        Message::Topen { fid: 5, mode: 0 },
        read(5, 0, 150),
        read(5, 1, 150),
        read(5, 0, 10),
        read(5, 0, 4000),
        Message::Tremove { fid: 2 },
        Message::Tremove { fid: 0 },
        Message::Tclunk { fid: 1 },
    ]
}

#[test]
fn every_operation_may_be_late_and_says_the_same() {
    let large: &[u8] = (0..50_000).map(|at| (at * 7) as u8).collect::<Vec<_>>().leak();
    for (dialect, lends) in [(Dialect::L, true), (Dialect::L, false), (Dialect::U, true), (Dialect::U, false)] {
        let script = if dialect == Dialect::L { linux_script(large) } else { classic_script(large) };
        let (mut at_once, mut late, mut walks) = (Late::new(dialect), Late::new(dialect), Late::new(dialect));
        late.tree.holds = |_| true;
        walks.tree.holds = |_| true;
        walks.tree.eager = true;
        for (tag, message) in (1..).zip(&script) {
            let bytes = frame(tag, message, dialect);
            at_once.tree.lends = lends;
            let expected = at_once.exchange(&bytes);
            for late in [&mut late, &mut walks] {
                late.tree.lends = lends;
                assert_eq!(late.exchange(&bytes), expected, "{}", message.line(tag, dialect));
                assert_eq!((late.session.pending(), late.session.deadline()), (0, None));
            }
        }
        let mut expected = vec!["Walk", "Open", "Create", "Read", "List", "Stat", "Wstat", "Make", "Link", "Remove"];
        expected.extend(["Close", "Fsync", if lends { "Commit" } else { "Write" }]);
        if dialect == Dialect::L {
            expected.extend(["Attach", "ReadLink", "Unlink", "Rename", "RenameFile", "Xattr", "CheckXattr"]);
            expected.extend(["SetXattr", "Lock", "Conflict", "StatFs", "Write"]);
            expected.sort_unstable();
            expected.dedup();
        }
        let missing: Vec<_> = expected.iter().filter(|&&name| !late.tree.seen.contains(name)).collect();
        assert!(missing.is_empty(), "never late: {missing:?}");
        [at_once, late, walks].into_iter().for_each(Late::ends);
    }
}

#[test]
fn requests_behind_a_late_walk_are_served_in_order() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |_| true;
    let requests =
        [walk(0, 1, &[b"f"]), Message::Tlopen { fid: 1, flags: 0 }, read(1, 0, 9), Message::Tclunk { fid: 1 }];
    let bytes: Vec<u8> =
        (1..).zip(&requests).flat_map(|(tag, message)| frame(tag, message, Dialect::L).to_vec()).collect();
    let received = late.session.receive(&mut late.tree, AT, &bytes).expect("not broken");
    assert_eq!((received.consumed, received.need.held, late.tree.kept.len()), (bytes.len(), false, 1));
    for said in [&["Rwalk 1"][..], &["Rlopen 2"], &["Rread 3"], &["Rclunk 4"]] {
        assert_eq!(late.kinds(), [""; 0]);
        late.finish(late.first());
        assert_eq!(late.kinds(), said);
    }
    late.ends();
}

/// The order is that of each fid, and through a request that names two fids that of both.
#[test]
fn requests_on_a_fid_keep_their_order_and_others_pass() {
    let mut late = Late::new(Dialect::L);
    late.tree.holds = |call| matches!(call, Call::Walk { .. } | Call::Open { .. });
    late.send(1, &walk(0, 5, &[b"f"]));
    late.send(2, &Message::Tlopen { fid: 5, flags: 2 });
    late.send(3, &write(5, 0, b"A"));
    late.send(4, &write(5, 0, b"B"));
    late.send(5, &read(5, 0, 1));
    late.send(6, &Message::Tstatfs { fid: 0 });
    assert_eq!(late.kinds(), ["Rstatfs 6"]);
    late.send(7, &Message::Tlink { dfid: 0, fid: 5, name: b"g" });
    late.send(8, &Message::Tunlinkat { dfid: 0, name: b"g", flags: 0 });
    late.send(9, &Message::Tclunk { fid: 5 });
    assert_eq!((late.kinds(), late.session.pending()), (vec![], 8));
    late.go();
    let lines = late.lines();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(kinds, ["Rwalk", "Rlopen", "Rwrite", "Rwrite", "Rread", "Rlink", "Runlinkat", "Rclunk"]);
    assert!(lines[4].contains("B"), "{}", lines[4]);
    late.ends();
}
