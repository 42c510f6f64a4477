//! Extended attributes through a session: what a client may have of them at a time, and values that come as large payloads (rows G1 to G3).

mod support;

use ring9::fs::mem::Mem;
use ring9::fs::{Filesystem, SetXattr, Simple, User, XATTR_BYTES_MAX};
use ring9::session::{ATTR_BYTES_ALL, ATTRS_MAX, Budget, Config, Session};
use ring9::wire::{Data, Dialect, Message};
use std::sync::Arc;
use support::script::{Script, pattern};
use support::{AT, Style, config, feed, tree};

struct Client {
    session: Session<Simple<Mem>>,
}

impl Client {
    fn new(fs: &mut Simple<Mem>, budget: &Arc<Budget>) -> Client {
        let session = Session::new(Config { budget: Arc::clone(budget), ..config() });
        let mut client = Client { session };
        let mut hello = Script::new(Dialect::L);
        hello.attach(0);
        client.replies(fs, &hello.bytes, Style::ReceiveOnly);
        client
    }

    fn replies(&mut self, fs: &mut Simple<Mem>, bytes: &[u8], style: Style) -> Vec<String> {
        // A payload that is not received in one piece.
        let pieces = std::iter::repeat(30_000);
        let driven = feed(&mut self.session, fs, bytes, pieces, style);
        assert_eq!(driven.broken, None);
        let mut rest = driven.replies.as_slice();
        let mut lines = Vec::new();
        while let Some(head) = ring9::wire::head(rest) {
            let (this, next) = rest.split_at(head.size as usize);
            let (tag, message) = Message::parse(this, Dialect::L).expect("a reply");
            lines.push(message.line(tag, Dialect::L).to_string());
            rest = next;
        }
        lines
    }

    fn asks(&mut self, fs: &mut Simple<Mem>, style: Style, build: impl FnOnce(&mut Script)) -> Vec<String> {
        let mut script = Script::new(Dialect::L);
        script.bytes.clear();
        build(&mut script);
        self.replies(fs, &script.bytes, style)
    }

    /// Announces a value for a fid of its own.
    fn announces(&mut self, fs: &mut Simple<Mem>, fid: u32, name: &[u8], size: usize) -> String {
        let lines = self.asks(fs, Style::ReceiveOnly, |script| {
            script.walk(0, fid, &[]);
            script.ask(Message::Txattrcreate { fid, name, attr_size: size as u64, flags: 0 });
        });
        lines[1].clone()
    }

    fn gone(mut self, fs: &mut Simple<Mem>) {
        self.session.close(fs, AT);
    }
}

fn value_of_root(fs: &mut Simple<Mem>, name: &[u8]) -> Option<Vec<u8>> {
    let root = fs.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 9 }, b"").expect("it is there");
    let value = fs.xattr(&root, name).ok().map(<[u8]>::to_vec);
    fs.close(root, AT).expect("merely walked to");
    value
}

#[test]
fn a_largest_value_comes_in_one_payload_or_in_several() {
    for style in [Style::ReceiveOnly, Style::Landings] {
        for parts in [1, 2, 5] {
            let (mut fs, budget) = (tree(), Arc::default());
            let mut client = Client::new(&mut fs, &budget);
            let value = pattern(XATTR_BYTES_MAX, parts);
            assert_eq!(client.announces(&mut fs, 1, b"user.large", value.len()), "Rxattrcreate tag=1");
            let lines = client.asks(&mut fs, style, |script| {
                for (n, part) in value.chunks(value.len().div_ceil(parts)).enumerate() {
                    script.write(1, (n * value.len().div_ceil(parts)) as u64, part);
                }
            });
            assert!(lines.iter().all(|line| line.starts_with("Rwrite")), "{lines:?}");
            assert_eq!(budget.attr_bytes(), XATTR_BYTES_MAX);
            assert_eq!(value_of_root(&mut fs, b"user.large"), None, "it is set by the clunk");
            let lines = client.asks(&mut fs, style, |script| {
                script.clunk(1);
            });
            assert_eq!(lines, ["Rclunk tag=0"]);
            assert_eq!(value_of_root(&mut fs, b"user.large"), Some(value));
            assert_eq!(budget.attr_bytes(), 0);
            client.gone(&mut fs);
        }
    }
}

#[test]
fn a_payload_that_does_not_fit_is_refused_whole() {
    for style in [Style::ReceiveOnly, Style::Landings] {
        let (mut fs, budget) = (tree(), Arc::default());
        let mut client = Client::new(&mut fs, &budget);
        client.announces(&mut fs, 1, b"user.short", 40_000);
        let lines = client.asks(&mut fs, style, |script| {
            // Longer than was announced.
            script.write(1, 0, &pattern(65_000, 1)).clunk(1);
            // At the wrong place; and one that is to be read.
            script.walk(0, 1, &[]).ask(Message::Txattrcreate {
                fid: 1,
                name: b"user.short",
                attr_size: 40_000,
                flags: 0,
            });
            script.write(1, 7, &pattern(40_000, 1));
            script.ask(Message::Txattrwalk { fid: 0, newfid: 2, name: b"" }).write(2, 0, &pattern(40_000, 1));
            script.clunk(2).clunk(1);
        });
        let (first, rest) = lines.split_first().expect("replies");
        assert_eq!(first, "Rlerror tag=0 ecode=28");
        assert_eq!(rest[0], "Rlerror tag=1 ecode=22", "not what was announced");
        assert_eq!(rest[3..5], ["Rlerror tag=4 ecode=22", "Rxattrwalk tag=5 size=0"]);
        assert_eq!(rest[5..], ["Rlerror tag=6 ecode=9", "Rclunk tag=7", "Rlerror tag=8 ecode=22"]);
        assert_eq!((value_of_root(&mut fs, b"user.short"), budget.attr_bytes()), (None, 0));
        client.gone(&mut fs);
    }
}

#[test]
fn a_peer_that_vanishes_sets_nothing() {
    let (mut fs, budget) = (tree(), Arc::default());
    let mut client = Client::new(&mut fs, &budget);
    client.announces(&mut fs, 1, b"user.a", 50_000);
    let mut script = Script::new(Dialect::L);
    script.bytes.clear();
    script.write(1, 0, &pattern(50_000, 1));
    // All but the last byte of the payload; and of another one all, but no clunk.
    client.replies(&mut fs, &script.bytes[..script.bytes.len() - 1], Style::Landings);
    assert!(budget.attr_bytes() > 0, "it has begun");
    client.gone(&mut fs);
    let mut client = Client::new(&mut fs, &budget);
    client.announces(&mut fs, 1, b"user.a", 50_000);
    client.replies(&mut fs, &script.bytes, Style::Landings);
    client.gone(&mut fs);
    assert_eq!((value_of_root(&mut fs, b"user.a"), budget.attr_bytes(), budget.fids()), (None, 0, 0));
}

#[test]
fn a_peer_and_all_peers_have_bounds() {
    let (mut fs, budget) = (tree(), Arc::default());
    let root = fs.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 9 }, b"").expect("it is there");
    fs.set_xattr(&root, b"user.large", Some(&pattern(XATTR_BYTES_MAX, 1)), SetXattr::Any, AT).expect("room");
    fs.close(root, AT).expect("merely walked to");
    let reads = |client: &mut Client, fs: &mut Simple<Mem>, newfid| {
        client.asks(fs, Style::ReceiveOnly, |script| {
            script.ask(Message::Txattrwalk { fid: 0, newfid, name: b"user.large" });
        })
    };
    let full = ["Rlerror tag=0 ecode=28"];
    let mut clients = Vec::new();
    for _ in 0..ATTR_BYTES_ALL / XATTR_BYTES_MAX / ATTRS_MAX {
        let mut client = Client::new(&mut fs, &budget);
        for fid in 1..=ATTRS_MAX as u32 {
            assert_eq!(reads(&mut client, &mut fs, fid), ["Rxattrwalk tag=0 size=65536"]);
        }
        assert_eq!(reads(&mut client, &mut fs, 100), full);
        assert_eq!(client.announces(&mut fs, 101, b"user.a", 1), "Rlerror tag=1 ecode=28");
        // What is refused is no fid, and takes nothing.
        let lines = client.asks(&mut fs, Style::ReceiveOnly, |script| {
            script.clunk(100);
        });
        assert_eq!(lines, ["Rlerror tag=0 ecode=9"]);
        clients.push(client);
    }
    assert_eq!(budget.attr_bytes(), ATTR_BYTES_ALL);
    // One more, who has none yet: not a byte is left, but what is not there can still be asked for.
    let mut late = Client::new(&mut fs, &budget);
    assert_eq!(reads(&mut late, &mut fs, 1), full);
    assert_eq!(late.announces(&mut fs, 2, b"user.a", 1), "Rxattrcreate tag=1");
    let lines = late.asks(&mut fs, Style::ReceiveOnly, |script| {
        script.write(2, 0, b"x").ask(Message::Txattrwalk { fid: 0, newfid: 3, name: b"user.none" });
    });
    assert_eq!(lines, ["Rlerror tag=0 ecode=28", "Rlerror tag=1 ecode=61"]);
    // Room again as soon as somebody has read.
    let lines = clients[0].asks(&mut fs, Style::ReceiveOnly, |script| {
        script.read(7, 0, 1 << 20).clunk(7);
    });
    let whole = Message::Rread { data: Data::Here(&pattern(XATTR_BYTES_MAX, 1)) }.line(0, Dialect::L).to_string();
    assert_eq!(lines, [whole.as_str(), "Rclunk tag=1"]);
    assert_eq!(reads(&mut late, &mut fs, 1), ["Rxattrwalk tag=0 size=65536"]);
    clients.into_iter().chain([late]).for_each(|client| client.gone(&mut fs));
    assert_eq!((budget.attr_bytes(), budget.fids()), (0, 0));
}
