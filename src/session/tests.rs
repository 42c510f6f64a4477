//! Tests of a session against [`Tree`]: every rule has its exact reply. Rules of one dialect, payloads and requests that wait have files of their own.

mod bounds;
mod chunks;
mod classic;
mod framing;
mod gates;
mod late;
mod lifetimes;
mod linux;
mod payloads;
mod refused;
mod waiting;
mod work;

use super::testtree::Tree;
use super::*;
use crate::wire::{Data, Ext, NOFID, Names, Qid, Qids, UOnly};
use bytes::BytesMut;

const AT: At = At { wall: super::testtree::TIME, mono_ns: 1_000 };
const MSIZE: u32 = 64 << 10;

/// A session, its tree, and what has come back.
struct Peer {
    session: Session<Tree>,
    tree: Tree,
    dialect: Dialect,
}

fn frame(tag: Tag, message: &Message<'_>, dialect: Dialect) -> BytesMut {
    let mut bytes = BytesMut::new();
    message.emit(tag, dialect, &mut bytes);
    bytes
}

fn config() -> Config {
    Config { trust: Trust::All, ..Config::new(3, MSIZE) }
}

impl Peer {
    /// Before the version.
    fn unversioned(config: Config) -> Peer {
        Peer { session: Session::new(config), tree: Tree::new(), dialect: Dialect::P9 }
    }

    /// After version and attach: fid 0 is the root.
    fn new(dialect: Dialect) -> Peer {
        Peer::with(dialect, config())
    }

    fn with(dialect: Dialect, config: Config) -> Peer {
        let mut peer = Peer::unversioned(config);
        peer.version(dialect);
        peer.says(&attach(0, b"", 1000), &Message::Rattach { qid: peer.tree.qid(0) });
        peer
    }

    fn version(&mut self, dialect: Dialect) {
        self.dialect = dialect;
        let version = dialect.name().as_bytes();
        let asked = frame(NOTAG, &Message::Tversion { msize: MSIZE, version }, dialect);
        self.feed(&asked).expect("a sound message");
        assert_eq!(self.replies(), frame(NOTAG, &Message::Rversion { msize: MSIZE, version }, dialect));
    }

    /// Shows all bytes until nothing is held.
    fn feed(&mut self, bytes: &[u8]) -> Result<Need, Broken> {
        let mut rest = bytes;
        loop {
            let received = self.session.receive(&mut self.tree, AT, rest)?;
            rest = &rest[received.consumed..];
            assert!(received.consumed > 0 || !received.need.held, "held for good: nothing takes replies in here");
            if !received.need.held {
                assert!(rest.is_empty() || received.need.more > 0);
                return Ok(received.need);
            }
        }
    }

    fn send(&mut self, tag: Tag, message: &Message<'_>) -> Result<Need, Broken> {
        let bytes = frame(tag, message, self.dialect);
        self.feed(&bytes)
    }

    /// Bytes of all replies that may leave.
    fn replies(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(mut batch) = self.session.take(&self.tree) {
            all.extend_from_slice(&batch.to_vec());
            batch.advance(batch.len(), |_| ());
            self.session.recycle(batch);
        }
        all
    }

    /// What came back, as lines.
    fn lines(&mut self) -> Vec<String> {
        let replies = self.replies();
        let mut rest = replies.as_slice();
        let mut lines = Vec::new();
        while let Some(head) = wire::head(rest) {
            let (this, next) = rest.split_at(head.size as usize);
            let (tag, message) = Message::parse(this, self.dialect).expect("a reply");
            lines.push(message.line(tag, self.dialect).to_string());
            rest = next;
        }
        lines
    }

    #[track_caller]
    fn hears(&mut self, expected: &[(Tag, Message<'_>)]) {
        let expected: Vec<_> =
            expected.iter().map(|(tag, message)| message.line(*tag, self.dialect).to_string()).collect();
        assert_eq!(self.lines(), expected);
    }

    /// This request has exactly this reply.
    #[track_caller]
    fn says(&mut self, request: &Message<'_>, reply: &Message<'_>) {
        self.send(7, request).expect("not broken");
        self.hears(&[(7, *reply)]);
    }

    #[track_caller]
    fn fails(&mut self, request: &Message<'_>, error: Error) {
        self.says(request, &failure(self.dialect, error));
    }

    #[track_caller]
    fn walks(&mut self, newfid: u32, names: &[&[u8]]) {
        self.send(7, &walk(0, newfid, names)).expect("not broken");
        let lines = self.lines();
        assert!(lines.len() == 1 && lines[0].starts_with("Rwalk"), "{lines:?}");
    }

    /// Walks to a file of the root and opens it for both.
    #[track_caller]
    fn opens(&mut self, fid: u32, names: &[&[u8]]) {
        self.walks(fid, names);
        let request = match self.dialect {
            Dialect::L => Message::Tlopen { fid, flags: 2 },
            _ => Message::Topen { fid, mode: 2 },
        };
        self.send(7, &request).expect("not broken");
        assert_eq!(self.lines().len(), 1);
    }

    /// The end: nothing is left over.
    fn ends(mut self) {
        self.session.close(&mut self.tree, AT);
        assert_eq!(
            (self.tree.uses, self.session.fids(), self.session.pending(), self.session.queued_bytes()),
            (0, 0, 0, 0)
        );
    }
}

fn failure(dialect: Dialect, error: Error) -> Message<'static> {
    match dialect {
        Dialect::L => Message::Rlerror { ecode: error.0.into() },
        _ => Message::Rerror { ename: error.text().as_bytes(), errno: UOnly(error.0.into()) },
    }
}

fn attach<'a>(fid: u32, aname: &'a [u8], n_uname: u32) -> Message<'a> {
    Message::Tattach { fid, afid: NOFID, uname: b"", aname, n_uname: Ext(n_uname) }
}

/// The names of one walk; leaked, since a message borrows its list.
fn walk(fid: u32, newfid: u32, names: &[&[u8]]) -> Message<'static> {
    let names: Vec<&'static [u8]> = names.iter().map(|name| &*name.to_vec().leak()).collect();
    Message::Twalk { fid, newfid, wnames: Names::list(names.leak()) }
}

fn walked(qids: &[Qid]) -> Message<'static> {
    Message::Rwalk { wqids: Qids::list(qids.to_vec().leak()) }
}

fn read(fid: u32, offset: u64, count: u32) -> Message<'static> {
    Message::Tread { fid, offset, count }
}

fn write(fid: u32, offset: u64, data: &[u8]) -> Message<'_> {
    Message::Twrite { fid, offset, data: Data::Here(data) }
}

fn data(data: &[u8]) -> Message<'_> {
    Message::Rread { data: Data::Here(data) }
}

/// version(9P): the smaller msize wins, unknown suffixes are stripped, anything else is "unknown" and not an error.
#[test]
fn version_negotiates() {
    let cases: [(u32, &[u8], u32, &[u8]); 6] = [
        (1 << 20, b"9P2000.L", MSIZE, b"9P2000.L"),
        (8192, b"9P2000.u", 8192, b"9P2000.u"),
        (u32::MAX, b"9P2000", MSIZE, b"9P2000"),
        (8192, b"9P2000.zzz", 8192, b"9P2000"),
        (8192, b"9P2001", 8192, b"unknown"),
        (8192, b"", 8192, b"unknown"),
    ];
    for (msize, version, msize_back, version_back) in cases {
        // Any tag is answered: real clients do not all send NOTAG.
        for tag in [NOTAG, 5] {
            let mut peer = Peer::unversioned(config());
            peer.send(tag, &Message::Tversion { msize, version }).expect("not broken");
            peer.hears(&[(tag, Message::Rversion { msize: msize_back, version: version_back })]);
        }
    }
}

#[test]
fn version_refuses_a_small_msize_and_nothing_may_follow() {
    for msize in [0, 7, 4095] {
        let mut peer = Peer::unversioned(config());
        peer.fails(&Message::Tversion { msize, version: b"9P2000" }, Error::EMSGSIZE);
        assert_eq!(peer.send(1, &attach(0, b"", 0)), Err(Broken::NotNegotiated(Kind::TATTACH)));
    }
    let mut peer = Peer::new(Dialect::L);
    peer.says(
        &Message::Tversion { msize: MSIZE, version: b"?" },
        &Message::Rversion { msize: MSIZE, version: b"unknown" },
    );
    assert_eq!(peer.session.msize(), FIRST_MESSAGE_BYTES_MAX, "what was agreed on is void");
    assert_eq!(peer.send(1, &attach(0, b"", 0)), Err(Broken::NotNegotiated(Kind::TATTACH)));
}

#[test]
fn a_second_version_clunks_everything_and_silences_what_waits() {
    for too_late in [false, true] {
        let mut peer = Peer::new(Dialect::L);
        peer.opens(1, &[b"log"]);
        peer.tree.too_late = too_late;
        peer.send(1, &read(1, 0, 10)).expect("not broken");
        peer.send(2, &Message::Tflush { oldtag: 9 }).expect("not broken");
        assert_eq!(peer.session.pending(), 1);
        peer.send(NOTAG, &Message::Tversion { msize: 8192, version: b"9P2000" }).expect("not broken");
        peer.dialect = Dialect::P9;
        let version = Message::Rversion { msize: 8192, version: b"9P2000" };
        peer.hears(&[(2, Message::Rflush {}), (NOTAG, version)]);
        // Its file is closed once the operation has ended.
        let left = usize::from(too_late);
        assert_eq!((peer.session.fids(), peer.session.pending(), peer.tree.uses), (0, 0, left));
        assert_eq!(peer.session.is_ending(), too_late);
        peer.tree.release(b"late");
        while let Some(token) = peer.tree.ready() {
            peer.session.complete(&mut peer.tree, token, AT);
        }
        peer.hears(&[]);
        assert!(peer.tree.waiting.is_empty(), "the tree is rid of the late result");
        assert_eq!((peer.tree.uses, peer.session.is_ending()), (0, false));
        peer.ends();
    }
}

/// attach(9P), auth(9P): diod's tools want ENOENT, others read the text.
#[test]
fn auth_is_refused_in_the_words_of_each_dialect() {
    for dialect in Dialect::ALL {
        let mut peer = Peer::new(dialect);
        let auth = Message::Tauth { afid: 9, uname: b"ann", aname: b"", n_uname: Ext(1000) };
        let reply = match dialect {
            Dialect::L => failure(dialect, Error::ENOENT),
            _ => Message::Rerror { ename: b"authentication not required", errno: UOnly(22) },
        };
        peer.says(&auth, &reply);
        let with_afid = Message::Tattach { fid: 1, afid: 9, uname: b"", aname: b"", n_uname: Ext(0) };
        peer.fails(&with_afid, Error::EACCES);
        peer.fails(&attach(1, b"other", 0), Error::ENOENT);
        peer.fails(&attach(0, b"", 0), Error::EINVAL);
        peer.fails(&attach(NOFID, b"", 0), Error::EINVAL);
        peer.ends();
    }
}

#[test]
fn attach_obeys_the_trust_of_the_connection() {
    let strict = Config { trust: Trust::Peer { uid: 1000, gid: 1000 }, ..config() };
    let mut peer = Peer::with(Dialect::L, strict);
    peer.fails(&attach(1, b"", 0), Error::EPERM);
    peer.says(&attach(1, b"", !0), &Message::Rattach { qid: peer.tree.qid(0) });
    peer.ends();
}

/// What shows the server itself is for root and the server's own user, where one of them is at the
/// other end.
#[test]
fn a_private_tree_is_for_root_and_the_owner() {
    const OWNER: u32 = 1000;
    let (here, elsewhere) = (Some(OWNER), None);
    for (owner, trust, n_uname, lets_in) in [
        (here, Trust::Peer { uid: 0, gid: 7 }, 0, true),
        (here, Trust::Peer { uid: 0, gid: 7 }, OWNER, true),
        (here, Trust::Peer { uid: OWNER, gid: 7 }, OWNER, true),
        (here, Trust::Peer { uid: OWNER, gid: 7 }, !0, true),
        (here, Trust::All, 0, true),
        // Root's client asks for one of its users.
        (here, Trust::Peer { uid: 0, gid: 7 }, 1001, false),
        (here, Trust::Squash, 0, false),
        // A peer that is somebody else, or on TCP, says that it is root, or the owner.
        (elsewhere, Trust::All, 0, false),
        (elsewhere, Trust::All, OWNER, false),
        (elsewhere, Trust::Peer { uid: 1001, gid: 7 }, 1001, false),
        (elsewhere, Trust::Squash, 0, false),
    ] {
        for dialect in [Dialect::L, Dialect::U, Dialect::P9] {
            let mut peer = Peer::unversioned(Config { trust, owner, ..config() });
            peer.version(dialect);
            // 9P2000 has no number.
            let uname = if n_uname == !0 { String::new() } else { n_uname.to_string() };
            let ask =
                |aname| Message::Tattach { fid: 9, afid: NOFID, uname: uname.as_bytes(), aname, n_uname: Ext(n_uname) };
            if lets_in {
                peer.says(&ask(b"private"), &Message::Rattach { qid: peer.tree.qid(0) });
            } else {
                peer.fails(&ask(b"private"), Error::EPERM);
                peer.fails(&Message::Tclunk { fid: 9 }, Error::EBADF);
                peer.says(&ask(b""), &Message::Rattach { qid: peer.tree.qid(0) });
            }
            peer.ends();
        }
    }
}

/// walk(9P).
#[test]
fn walk_reaches_all_or_leaves_newfid_alone() {
    for dialect in Dialect::ALL {
        let mut peer = Peer::new(dialect);
        let (root, dir, inner) = (peer.tree.qid(0), peer.tree.qid(6), peer.tree.qid(7));
        peer.says(&walk(0, 1, &[]), &walked(&[]));
        peer.says(&walk(0, 2, &[b"dir", b"inner"]), &walked(&[dir, inner]));
        peer.says(&walk(2, 3, &[]), &walked(&[]));
        // A short walk makes no fid; the first name's failure is an error.
        peer.says(&walk(0, 4, &[b"dir", b"nowhere", b"x"]), &walked(&[dir]));
        peer.fails(&Message::Tclunk { fid: 4 }, Error::EBADF);
        peer.fails(&walk(0, 4, &[b"nowhere"]), Error::ENOENT);
        peer.fails(&walk(2, 4, &[b"x"]), Error::ENOTDIR);
        // newfid == fid moves on full success alone.
        peer.says(&walk(1, 1, &[b"dir", b"nowhere"]), &walked(&[dir]));
        peer.says(&walk(1, 1, &[b"dir"]), &walked(&[dir]));
        peer.says(&walk(1, 1, &[b"inner"]), &walked(&[inner]));
        // Up, and no further than the root.
        peer.says(&walk(0, 4, &[b"dir", b"..", b".."]), &walked(&[dir, root, root]));
        // Names that no directory has.
        (peer.tree.nodes[4].name, peer.tree.nodes[5].name) = (b"a/b".to_vec(), b"".to_vec());
        for name in [&b""[..], b"a/b", b"dir/inner"] {
            peer.fails(&walk(0, 5, &[name]), Error::ENOENT);
        }
        // "." stays where Treaddir shows it. The other dialects do not use it (walk(9P)).
        if dialect == Dialect::L {
            peer.says(&walk(0, 5, &[b".", b"dir", b".", b"inner", b"."]), &walked(&[root, dir, dir, inner]));
            peer.fails(&walk(2, 5, &[b"."]), Error::ENOTDIR);
            peer.says(&walk(0, 5, &[b"dir", b"."]), &walked(&[dir, dir]));
            peer.says(&Message::Tclunk { fid: 5 }, &Message::Rclunk {});
        } else {
            peer.fails(&walk(0, 5, &[b"."]), Error::ENOENT);
            peer.says(&walk(0, 5, &[b"dir", b"."]), &walked(&[dir]));
        }
        // Numbers that cannot be.
        peer.fails(&walk(0, 2, &[]), Error::EINVAL);
        peer.fails(&walk(0, NOFID, &[]), Error::EINVAL);
        peer.fails(&walk(99, 5, &[]), Error::EBADF);
        peer.fails(&walk(99, 99, &[]), Error::EBADF);
        // Sixteen names are allowed.
        let up = [&b".."[..]; 16];
        peer.says(&walk(0, 5, &up), &walked(&[root; 16]));
        assert_eq!(peer.session.fids(), 6);
        peer.ends();
    }
}

/// Linux walks from open fids; walk(9P) says that they are not open, but for a clone nobody minds.
#[test]
fn an_open_fid_can_be_cloned() {
    for dialect in Dialect::ALL {
        let mut peer = Peer::new(dialect);
        peer.opens(1, &[b"hello"]);
        peer.says(&walk(1, 2, &[]), &walked(&[]));
        peer.fails(&read(2, 0, 1), Error::EBADF);
        peer.fails(&walk(1, 1, &[]), Error::EINVAL);
        peer.says(&read(1, 0, 5), &data(b"hello"));
        peer.ends();
    }
}

#[test]
fn fids_have_a_cap() {
    let mut peer = Peer::with(Dialect::L, Config { fids_max: 3, ..config() });
    peer.walks(1, &[]);
    peer.walks(2, &[]);
    peer.fails(&walk(0, 3, &[]), Error::EMFILE);
    peer.fails(&attach(3, b"", 0), Error::EMFILE);
    peer.says(&walk(2, 2, &[b"dir"]), &walked(&[peer.tree.qid(6)]));
    peer.says(&Message::Tclunk { fid: 1 }, &Message::Rclunk {});
    peer.walks(3, &[]);
    peer.ends();
}

#[test]
fn read_and_write_need_a_fid_opened_for_that() {
    for dialect in Dialect::ALL {
        let open = |fid, write: bool| match dialect {
            Dialect::L => Message::Tlopen { fid, flags: write.into() },
            _ => Message::Topen { fid, mode: write.into() },
        };
        let mut peer = Peer::new(dialect);
        peer.walks(1, &[b"hello"]);
        peer.fails(&read(1, 0, 5), Error::EBADF);
        peer.fails(&write(1, 0, b"x"), Error::EBADF);
        peer.fails(&read(9, 0, 5), Error::EBADF);
        peer.send(7, &open(1, false)).expect("not broken");
        assert_eq!(peer.lines().len(), 1);
        peer.fails(&write(1, 0, b"x"), Error::EBADF);
        peer.says(&read(1, 7, 100), &data(b"world"));
        peer.says(&read(1, 12, 100), &data(b""));
        peer.says(&read(1, u64::MAX, u32::MAX), &data(b""));
        peer.says(&read(1, 0, 0), &data(b""));
        // Open once (open(9P)); the first open stays as it is.
        peer.fails(&open(1, true), Error::EINVAL);
        peer.says(&read(1, 0, 5), &data(b"hello"));
        peer.walks(2, &[b"hello"]);
        peer.send(7, &open(2, true)).expect("not broken");
        assert_eq!(peer.lines().len(), 1);
        peer.fails(&read(2, 0, 5), Error::EBADF);
        peer.says(&write(2, 0, b"HE"), &Message::Rwrite { count: 2 });
        peer.says(&write(2, 0, b""), &Message::Rwrite { count: 0 });
        peer.says(&read(1, 0, 5), &data(b"HEllo"));
        peer.walks(3, &[b"secret"]);
        peer.fails(&open(3, false), Error::EACCES);
        peer.ends();
    }
}

#[test]
fn replies_stay_below_msize() {
    let mut peer = Peer::new(Dialect::L);
    peer.opens(1, &[b"hello"]);
    peer.tree.nodes[1].data = vec![b'x'; 2 * MSIZE as usize];
    peer.send(1, &read(1, 0, u32::MAX)).expect("not broken");
    assert_eq!(peer.replies().len(), MSIZE as usize - 24 + 11);
    peer.ends();
}

/// clunk(9P), remove(9P): the fid is gone whatever happens.
#[test]
fn clunk_and_remove_end_the_fid_even_if_they_fail() {
    for dialect in Dialect::ALL {
        let mut peer = Peer::new(dialect);
        peer.walks(1, &[b"hello"]);
        peer.says(&Message::Tclunk { fid: 1 }, &Message::Rclunk {});
        peer.fails(&Message::Tclunk { fid: 1 }, Error::EBADF);
        peer.fails(&Message::Tremove { fid: 1 }, Error::EBADF);
        peer.walks(1, &[b"dir", b"inner"]);
        peer.says(&Message::Tremove { fid: 1 }, &Message::Rremove {});
        peer.says(&walk(0, 1, &[b"dir", b"inner"]), &walked(&[peer.tree.qid(6)]));
        peer.fails(&Message::Tremove { fid: 0 }, Error::EBUSY);
        assert_eq!(peer.session.fids(), 0);
        peer.ends();
    }
}

/// Walks under new numbers until the session has no memory for more; how many it has.
fn walks_all(peer: &mut Peer) -> usize {
    let clone = |newfid| Message::Twalk { fid: 0, newfid, wnames: Names::list(&[]) };
    let first = (1..100_000).find(|newfid| peer.session.fids.check_new(*newfid, 0).is_ok());
    for newfid in first.expect("each session may have some").. {
        assert!(newfid < 100_000, "a session may take all that there is");
        if peer.session.fids.check_new(newfid, 0) == Err(Error::EMFILE) {
            peer.fails(&clone(newfid), Error::EMFILE);
            break;
        }
        peer.says(&clone(newfid), &Message::Rwalk { wqids: Qids::list(&[]) });
    }
    peer.session.fids()
}

#[test]
fn fids_of_all_sessions_share_memory() {
    const ALL: usize = 256 << 10;
    let budget = std::sync::Arc::new(Budget::new(ALL, usize::MAX));
    let shared = || Config { budget: std::sync::Arc::clone(&budget), ..config() };
    let mut peers: Vec<Peer> = (0..12).map(|_| Peer::with(Dialect::L, shared())).collect();
    let fids: Vec<usize> = peers.iter_mut().map(walks_all).collect();
    assert!(fids[0] > 1000 && fids[1] > 400, "half of the memory, and half of what is left: {fids:?}");
    assert!(fids[11] >= 20 && fids[0] > 2 * fids[11], "some for the last one: {fids:?}");
    let bound = ALL + peers.len() * 2 * FID_BYTES_OWN;
    assert!(budget.fid_bytes() <= bound, "{} of {bound} bytes", budget.fid_bytes());
    // What one gives back, another one may have.
    let first = &mut peers[0];
    first.session.close(&mut first.tree, AT);
    assert!(walks_all(&mut peers[11]) > 5 * fids[11]);
    for peer in &mut peers {
        peer.session.close(&mut peer.tree, AT);
    }
    assert_eq!((budget.fids(), budget.fid_bytes(), budget.reply_bytes()), (0, 0, 0));
}

/// Once its client is quiet, a session that had many fids has no memory of them.
#[test]
fn a_quiet_session_gives_memory_of_fids_back() {
    let budget = std::sync::Arc::new(Budget::default());
    let mut peer = Peer::with(Dialect::L, Config { budget: std::sync::Arc::clone(&budget), ..config() });
    let fids = 1..200;
    fids.clone().for_each(|fid| peer.walks(fid, &[]));
    fids.for_each(|fid| peer.says(&Message::Tclunk { fid }, &Message::Rclunk {}));
    let before = budget.fid_bytes();
    peer.session.trim();
    assert!(budget.fid_bytes() < before, "{} bytes, {before} before", budget.fid_bytes());
    peer.ends();
}
