//! Every bound that a request takes from is given back: each case takes and gives 10,000 times
//! under bounds of a few, and in the end nothing is held.

mod support;

use ring9::arena::{Arena, Gauge};
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{Service, Simple};
use ring9::session::{Budget, Config, Session};
use ring9::wire::{Dialect, Kind, Message, NOFID, NOTAG, lock_type};
use std::sync::Arc;
use support::script::{Script, pattern};
use support::{AT, Style, config, feed};

const TIMES: usize = 10_000;
/// Rounds in one piece of a client's bytes.
const TOGETHER: usize = 20;
const FIDS_MAX: usize = 8;
/// Of all connections, beside what each has in any case.
const FID_BYTES_MAX: usize = 64 << 10;
const INODES_MAX: usize = 6;

struct Server {
    fs: Simple<Mem>,
    gauge: Gauge,
    budget: Arc<Budget>,
}

impl Server {
    /// A tree with a file "file" and room for a few more.
    fn new() -> Server {
        let arena = Arena::new(2 << 20).expect("a small mapping");
        let gauge = arena.gauge();
        let mem = Mem::new(arena, Options { inodes_max: INODES_MAX, ..Options::default() });
        let mut fs = Simple::from(mem);
        fs.init(AT).expect("nothing can fail");
        let mut server = Server { fs, gauge, budget: Arc::new(Budget::new(FID_BYTES_MAX, 1 << 20)) };
        let mut session = server.session();
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, b"file").write(1, 0, b"content").clunk(1);
        assert_eq!(server.errors(&mut session, &script), 0);
        session.close(&mut server.fs, AT);
        server
    }

    fn session(&self) -> Session<Simple<Mem>> {
        Session::new(Config { fids_max: FIDS_MAX, budget: Arc::clone(&self.budget), ..config() })
    }

    /// How many of the requests fail.
    fn errors(&mut self, session: &mut Session<Simple<Mem>>, script: &Script) -> usize {
        let driven = feed(session, &mut self.fs, &script.bytes, std::iter::empty(), Style::ReceiveOnly);
        assert_eq!(driven.broken, None);
        let (mut rest, mut errors) = (driven.replies.as_slice(), 0);
        while let Some(head) = ring9::wire::head(rest) {
            errors += usize::from(matches!(head.kind, Kind::RLERROR | Kind::RERROR));
            rest = &rest[head.size as usize..];
        }
        errors
    }

    /// What is held, and must not be in the end.
    fn held(&self) -> [usize; 5] {
        let Server { budget, gauge, .. } = self;
        [budget.fids(), budget.fid_bytes(), budget.reply_bytes(), budget.attr_bytes(), gauge.pins()]
    }
}

/// Runs these requests 10,000 times on one connection. Each time this many of them fail.
fn again(dialect: Dialect, fails: usize, round: impl Fn(&mut Script)) {
    let mut server = Server::new();
    let mut session = server.session();
    let mut script = Script::new(dialect);
    script.attach(0);
    assert_eq!(server.errors(&mut session, &script), 0);
    script.bytes.clear();
    (0..TOGETHER).for_each(|_| round(&mut script));
    // The first rounds leave blocks that are set aside for the next ones.
    let mut used = 0;
    for n in 0..TIMES / TOGETHER {
        assert_eq!(server.errors(&mut session, &script), fails * TOGETHER, "rounds from {} on", n * TOGETHER);
        used = if n == 0 { server.gauge.used_bytes() } else { used };
    }
    session.close(&mut server.fs, AT);
    assert_eq!((server.held(), server.gauge.used_bytes()), ([0; 5], used));
}

fn unlink(script: &mut Script, name: &[u8], flags: u32) {
    script.ask(Message::Tunlinkat { dfid: 0, name, flags });
}

fn resize(script: &mut Script, fid: u32, size: u64) {
    script.ask(Message::set_size(fid, size));
}

/// Announces the value of an attribute; with flags 2 (XATTR_REPLACE) and no bytes the attribute goes.
fn announce(script: &mut Script, fid: u32, name: &[u8], size: u64, flags: u32) {
    script.ask(Message::Txattrcreate { fid, name, attr_size: size, flags });
}

fn lock(script: &mut Script, fid: u32, type_: u8, start: u64) {
    script.ask(Message::Tlock { fid, type_, flags: 0, start, length: 10, proc_id: 1, client_id: b"client" });
}

/// C3.
#[test]
fn fids() {
    for dialect in Dialect::ALL {
        again(dialect, 2, |script| {
            script.walk(0, 1, &[b"file"]).walk(0, 2, &[]).open(2, false).clunk(1).clunk(2);
            // A walk that fails, one that ends early, and a fid in use.
            script.walk(0, 3, &[b"none"]).walk(0, 3, &[b"file", b"none"]).walk(0, 0, &[b"none"]);
            // Remove clunks. A walk onto the fid itself makes no new one.
            script.walk(0, 4, &[]).walk(4, 4, &[]).create(4, b"gone").remove(4);
            script.attach(5).clunk(5);
        });
    }
}

/// C3 and G1: an attribute fid counts among the fids, among the attribute fids of its connection,
/// and with its bytes.
#[test]
fn attribute_fids() {
    again(Dialect::L, 4, |script| {
        let list = |newfid| Message::Txattrwalk { fid: 0, newfid, name: b"" };
        script.ask(list(1)).clunk(1);
        // Remove clunks it as well, and fails.
        script.ask(list(1)).remove(1);
        script.ask(Message::Txattrwalk { fid: 0, newfid: 1, name: b"user.none" });
        script.walk(0, 2, &[b"file"]);
        announce(script, 2, b"user.a", 3, 0);
        // Announced anew: what was written before is forgotten.
        script.write(2, 0, b"abc");
        announce(script, 2, b"user.b", 5, 0);
        script.write(2, 0, b"abcde").clunk(2);
        script.walk(0, 2, &[b"file"]);
        announce(script, 2, b"user.c", 3, 0);
        // Not all of it was written: the clunk fails, and the fid is gone.
        script.write(2, 0, b"ab").clunk(2);
        script.ask(Message::Txattrwalk { fid: 0, newfid: 3, name: b"user.none" });
        script.walk(0, 2, &[b"file"]);
        announce(script, 2, b"user.b", 0, 2);
        script.clunk(2);
    });
}

/// A11: Tversion clunks all.
#[test]
fn what_a_version_ends() {
    again(Dialect::L, 0, |script| {
        script.walk(0, 1, &[b"file"]).open(1, true);
        lock(script, 1, lock_type::EXCLUSIVE, 0);
        script.ask(Message::Txattrwalk { fid: 0, newfid: 2, name: b"" }).walk(0, 3, &[b"file"]);
        announce(script, 3, b"user.a", 1000, 0);
        script.write(3, 0, &[1; 500]);
        let hello = Message::Tversion { msize: 1 << 20, version: b"9P2000.L" };
        hello.emit(NOTAG, Dialect::L, &mut script.bytes);
        script.attach(0);
    });
}

/// E9: files, directories, further names and attributes.
#[test]
fn inodes() {
    again(Dialect::L, 0, |script| {
        script.walk(0, 1, &[]).create(1, b"a").clunk(1);
        script.ask(Message::Tmkdir { dfid: 0, name: b"d", mode: 0o755, gid: 0 });
        script.ask(Message::Tsymlink { fid: 0, name: b"s", target: b"a", gid: 0 });
        script.ask(Message::Tmknod { dfid: 0, name: b"p", mode: 0o010644, major: 0, minor: 0, gid: 0 });
        unlink(script, b"d", 0x200);
        unlink(script, b"s", 0);
        unlink(script, b"p", 0);
        // A further name, which replaces another file.
        script.walk(0, 1, &[b"a"]).ask(Message::Tlink { dfid: 0, fid: 1, name: b"b" }).clunk(1);
        script.ask(Message::Tmkdir { dfid: 0, name: b"e", mode: 0o755, gid: 0 });
        unlink(script, b"e", 0x200);
        script.walk(0, 2, &[]).create(2, b"c").clunk(2);
        script.ask(Message::Trenameat { olddirfid: 0, oldname: b"b", newdirfid: 0, newname: b"c" });
        unlink(script, b"c", 0);
        // An attribute that goes by itself, and one that goes with its file, which is open by then.
        script.walk(0, 1, &[b"file"]);
        announce(script, 1, b"user.a", 1, 0);
        script.write(1, 0, b"x").clunk(1).walk(0, 1, &[b"file"]);
        announce(script, 1, b"user.a", 0, 2);
        script.clunk(1).walk(0, 1, &[b"a"]);
        announce(script, 1, b"user.a", 1, 0);
        script.write(1, 0, b"x").clunk(1).walk(0, 1, &[b"a"]).open(1, false);
        unlink(script, b"a", 0);
        script.read(1, 0, 1).clunk(1);
    });
}

/// H9: blocks, and the memory of grants.
#[test]
fn memory() {
    let payload = pattern(150_000, 1);
    again(Dialect::L, 1, |script| {
        script.walk(0, 1, &[]).create(1, b"a");
        script.write(1, 0, &payload[..20_000]).write(1, 5, &payload[..100]).read(1, 0, 10_000);
        resize(script, 1, 70_000);
        // Beyond the largest size.
        script.write(1, u64::MAX - 1, b"12345");
        resize(script, 1, 3);
        unlink(script, b"a", 0);
        script.write(1, 1 << 20, b"a block").read(1, 0, 100).clunk(1);
    });
}

/// G7: ranges of a file, of a connection and of all.
#[test]
fn locks() {
    again(Dialect::L, 0, |script| {
        script.walk(0, 1, &[b"file"]).open(1, true).walk(0, 2, &[b"file"]).open(2, true);
        for start in [0, 20, 40] {
            lock(script, 1, lock_type::EXCLUSIVE, start);
        }
        lock(script, 1, lock_type::SHARED, 20);
        lock(script, 1, lock_type::NONE, 25);
        lock(script, 2, lock_type::SHARED, 100);
        script.clunk(1).clunk(2);
    });
}

/// H2, H7: whatever a connection holds when it ends.
#[test]
fn what_the_end_of_a_connection_ends() {
    let (mut server, mut used) = (Server::new(), 0);
    let payload = pattern(100_000, 2);
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[b"file"]).open(1, true).walk(0, 2, &[b"file"]);
    lock(&mut script, 1, lock_type::EXCLUSIVE, 0);
    announce(&mut script, 2, b"user.a", 1000, 0);
    script.write(2, 0, &[1; 500]).ask(Message::Txattrwalk { fid: 0, newfid: 3, name: b"" });
    script.ask(Message::Twalk { fid: 0, newfid: NOFID, wnames: ring9::wire::Names::list(&[]) });
    let whole = script.bytes.len();
    script.write(1, 0, &payload);
    for n in 0..TIMES {
        let mut session = server.session();
        // Some of a payload has come.
        let until = whole + 23 + n % payload.len();
        let driven = feed(&mut session, &mut server.fs, &script.bytes[..until], std::iter::empty(), Style::Landings);
        assert_eq!(driven.broken, None);
        session.close(&mut server.fs, AT);
        used = if n == 0 { server.gauge.used_bytes() } else { used };
    }
    assert_eq!((server.held(), server.gauge.used_bytes()), ([0; 5], used));
}
