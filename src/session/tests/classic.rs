//! 9P2000 and 9P2000.u: replies of their own messages.

use super::*;
use crate::fs::mode;
use crate::wire::{Stat, qt};

const CLASSIC: [Dialect; 2] = [Dialect::P9, Dialect::U];
const IOUNIT: u32 = MSIZE - 24;
const DMDIR: u32 = 1 << 31;

fn create<'a>(fid: u32, name: &'a [u8], perm: u32, mode: u8, extension: &'a [u8]) -> Message<'a> {
    Message::Tcreate { fid, name, perm, mode, extension: UOnly(extension) }
}

fn wstat(fid: u32, stat: Stat<'_>) -> Message<'_> {
    Message::Twstat { fid, stat }
}

/// `hello` as its record shows it.
fn record(peer: &Peer) -> Stat<'static> {
    Stat {
        type_: 0,
        dev: 0,
        qid: peer.tree.qid(1),
        mode: 0o644,
        atime: 1_700_000_000,
        mtime: 1_700_000_000,
        length: 12,
        name: b"hello",
        uid: b"1000",
        gid: b"50",
        muid: b"root",
        extension: UOnly(b""),
        n_uid: UOnly(1000),
        n_gid: UOnly(50),
        n_muid: UOnly(0),
    }
}

/// open(9P).
#[test]
fn open_modes() {
    for dialect in CLASSIC {
        let mut peer = Peer::new(dialect);
        let reply = Message::Ropen { qid: peer.tree.qid(1), iounit: IOUNIT };
        for (fid, mode) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 0x20)] {
            peer.walks(fid, &[b"hello"]);
            peer.says(&Message::Topen { fid, mode }, &reply);
        }
        // OEXEC reads and does not write.
        peer.says(&read(4, 0, 5), &data(b"hello"));
        peer.fails(&write(4, 0, b"x"), Error::EBADF);
        peer.walks(6, &[b"hello"]);
        peer.fails(&Message::Topen { fid: 6, mode: 0x08 }, Error::EINVAL);
        match dialect {
            // OAPPEND is of .u (Linux: P9_OAPPEND).
            Dialect::U => peer.says(&Message::Topen { fid: 6, mode: 0x81 }, &reply),
            _ => peer.fails(&Message::Topen { fid: 6, mode: 0x81 }, Error::EINVAL),
        }
        peer.walks(7, &[b"hello"]);
        peer.says(&Message::Topen { fid: 7, mode: 0x11 }, &reply);
        assert_eq!(peer.tree.data("hello"), b"");
        peer.fails(&Message::Topen { fid: 0, mode: 1 }, Error::EISDIR);
        peer.fails(&Message::Topen { fid: 99, mode: 0 }, Error::EBADF);
        peer.ends();
    }
}

/// open(9P), ORCLOSE: at the clunk, and when the connection ends; an error of it is the clunk's, and the fid is gone.
#[test]
fn remove_on_close() {
    let mut peer = Peer::new(Dialect::P9);
    let reply = Message::Ropen { qid: peer.tree.qid(1), iounit: IOUNIT };
    peer.walks(1, &[b"hello"]);
    peer.says(&Message::Topen { fid: 1, mode: 0x40 }, &reply);
    peer.says(&Message::Tclunk { fid: 1 }, &Message::Rclunk {});
    assert_eq!(peer.tree.find(0, b"hello"), None);
    peer.walks(1, &[]);
    peer.send(7, &create(1, b"stuck", 0o644, 0x42, b"")).expect("not broken");
    assert_eq!(peer.lines().len(), 1);
    peer.fails(&Message::Tclunk { fid: 1 }, Error::EACCES);
    peer.fails(&Message::Tclunk { fid: 1 }, Error::EBADF);
    peer.walks(1, &[]);
    peer.send(7, &create(1, b"gone", 0o644, 0x42, b"")).expect("not broken");
    peer.session.close(&mut peer.tree, AT);
    assert_eq!(peer.tree.find(0, b"gone"), None);
    peer.ends();
}

/// open(9P): permissions are limited by those of the directory.
#[test]
fn create_opens_what_it_makes() {
    for dialect in CLASSIC {
        let mut peer = Peer::new(dialect);
        let made = |kind, path| Message::Rcreate { qid: Qid { kind, version: 1, path }, iounit: IOUNIT };
        for name in [&b"."[..], b"..", b"", b"a/b"] {
            peer.fails(&create(0, name, 0o644, 1, b""), Error::EINVAL);
        }
        peer.walks(1, &[]);
        peer.says(&create(1, b"new", 0o777, 1, b""), &made(0, 108));
        // The directory is 0755: group and others lose their right to write, not that to execute.
        assert_eq!(peer.tree.nodes[8].mode, mode::IFREG | 0o755);
        peer.says(&write(1, 0, b"text"), &Message::Rwrite { count: 4 });
        peer.fails(&create(1, b"newer", 0o644, 1, b""), Error::EINVAL);
        peer.walks(2, &[]);
        peer.fails(&create(2, b"new", 0o644, 1, b""), Error::EEXIST);
        peer.fails(&create(2, b"sub", DMDIR | 0o755, 1, b""), Error::EISDIR);
        peer.fails(&create(2, b"sub", DMDIR | 0o755, 0x40, b""), Error::EISDIR);
        // A failed create leaves the fid where it was.
        peer.says(&create(2, b"sub", DMDIR | 0o777, 0, b""), &made(qt::DIR, 109));
        assert_eq!(peer.tree.nodes[9].mode, mode::IFDIR | 0o755);
        peer.says(&read(2, 0, 1000), &data(b""));
        peer.walks(3, &[b"hello"]);
        peer.fails(&create(3, b"x", 0o644, 1, b""), Error::ENOTDIR);
        peer.ends();
    }
}

#[test]
fn specials_of_u() {
    let mut peer = Peer::new(Dialect::U);
    let cases: [(&[u8], u32, &[u8], u32); 5] = [
        (b"link", 0x0200_0000, b"to/where", mode::IFLNK),
        (b"block", 0x0080_0000, b"b 8 260", mode::IFBLK),
        (b"char", 0x0080_0000, b"c 8 260", mode::IFCHR),
        (b"pipe", 0x0020_0000, b"", mode::IFIFO),
        (b"socket", 0x0010_0000, b"", mode::IFSOCK),
    ];
    for (at, (name, perm, extension, kind)) in cases.into_iter().enumerate() {
        let (fid, node) = (at as u32 + 1, at + 8);
        peer.walks(fid, &[]);
        peer.send(7, &create(fid, name, perm | 0o644, 0, extension)).expect("not broken");
        peer.hears(&[(7, Message::Rcreate { qid: peer.tree.qid(node), iounit: IOUNIT })]);
        assert_eq!(peer.tree.nodes[node].mode & mode::IFMT, kind);
        peer.fails(&read(fid, 0, 1), Error::EBADF);
        // What was sent comes back in the record.
        peer.send(7, &Message::Tstat { fid }).expect("not broken");
        let reply = peer.replies();
        let Ok((7, Message::Rstat { stat })) = Message::parse(&reply, Dialect::U) else { panic!("an Rstat") };
        assert_eq!((stat.mode & !0o777, stat.extension.0), (perm, extension));
    }
    for (perm, extension) in [
        (0x0200_0000, &b""[..]),
        (0x0080_0000, b"d 1 2"),
        (0x0080_0000, b"b 1"),
        (0x0080_0000, b"b 1 2 3"),
        (0x0080_0000, b"b 1 4294967296"),
        (0x0100_0000, b"no number"),
        (0x0100_0000, b"0\n"),
    ] {
        peer.fails(&create(0, b"x", perm, 0, extension), Error::EINVAL);
    }
    peer.fails(&create(0, b"x", 0x0100_0000, 0, b"99\n"), Error::EBADF);
    // The tree has no links; what matters is that it was asked.
    peer.fails(&create(0, b"x", 0x0100_0000, 0, b"1\n"), Error::EOPNOTSUPP);
    peer.ends();
}

#[test]
fn stat_shows_the_record() {
    for dialect in CLASSIC {
        let mut peer = Peer::new(dialect);
        peer.walks(1, &[b"hello"]);
        peer.says(&Message::Tstat { fid: 1 }, &Message::Rstat { stat: record(&peer) });
        let root = Stat { qid: peer.tree.qid(0), mode: DMDIR | 0o755, length: 0, name: b"/", ..record(&peer) };
        peer.says(&Message::Tstat { fid: 0 }, &Message::Rstat { stat: root });
        peer.fails(&Message::Tstat { fid: 9 }, Error::EBADF);
        peer.ends();
    }
}

/// stat(9P): all or nothing; "don't touch" and what is already so are no changes.
#[test]
fn wstat_changes_what_may_change() {
    for dialect in CLASSIC {
        let dont = Stat::dont_touch();
        let done = Message::Rwstat {};
        let mut peer = Peer::new(dialect);
        peer.walks(1, &[b"hello"]);
        peer.says(&wstat(1, dont), &done);
        peer.says(&wstat(1, record(&peer)), &done);
        let forbidden = [
            Stat { type_: 1, ..dont },
            Stat { dev: 1, ..dont },
            Stat { qid: Qid { path: 1, ..dont.qid }, ..dont },
            Stat { qid: Qid { version: 9, ..dont.qid }, ..dont },
            Stat { qid: Qid { kind: 0x80, ..dont.qid }, ..dont },
            Stat { mode: DMDIR | 0o644, ..dont },
            Stat { muid: b"glenda", ..dont },
        ];
        for stat in forbidden {
            // The name shows that nothing was applied.
            peer.fails(&wstat(1, Stat { name: b"half", ..stat }), Error::EPERM);
        }
        if dialect == Dialect::U {
            peer.fails(&wstat(1, Stat { n_muid: UOnly(7), ..dont }), Error::EPERM);
        } else {
            peer.fails(&wstat(1, Stat { uid: b"root", ..dont }), Error::EPERM);
        }
        // A name that is there: an error, but .u has rename(2).
        let onto = wstat(1, Stat { name: b"secret", ..dont });
        if dialect == Dialect::U {
            peer.says(&onto, &done);
            assert_eq!((peer.tree.data("secret"), peer.tree.find(0, b"hello")), (&b"hello, world"[..], None));
        } else {
            peer.fails(&onto, Error::EEXIST);
        }
        peer.fails(&wstat(1, Stat { name: b"a/b", ..dont }), Error::EINVAL);
        peer.fails(&wstat(0, Stat { mode: 0o755, ..dont }), Error::EPERM);
        peer.says(&wstat(1, Stat { name: b"renamed", length: 5, mode: 0o600, ..dont }), &done);
        assert_eq!((peer.tree.data("renamed"), peer.tree.nodes[1].mode), (&b"hello"[..], mode::IFREG | 0o600));
        peer.ends();
    }
}

/// The sizes of the records of the root's six members.
fn sizes(peer: &Peer) -> Vec<usize> {
    let names: [&[u8]; 6] = [b"hello", b"secret", b"log", b"null", b"short", b"dir"];
    names.iter().map(|name| Stat { name, ..record(peer) }.size(peer.dialect)).collect()
}

/// read(9P): whole records, from 0 or from where the last read ended.
#[test]
fn directories_are_read_in_whole_records() {
    for dialect in CLASSIC {
        let mut peer = Peer::new(dialect);
        peer.walks(1, &[]);
        peer.says(&Message::Topen { fid: 1, mode: 0 }, &Message::Ropen { qid: peer.tree.qid(0), iounit: IOUNIT });
        let sizes = sizes(&peer);
        let all: usize = sizes.iter().sum();
        let mut whole = Vec::new();
        for count in [8000, (sizes[0] + sizes[1]) as u32, sizes[1] as u32] {
            let (mut offset, mut found) = (0, Vec::new());
            loop {
                peer.send(7, &read(1, offset, count)).expect("not broken");
                let reply = peer.replies();
                let Ok((7, Message::Rread { data: Data::Here(bytes) })) = Message::parse(&reply, dialect) else {
                    panic!("an Rread, not {reply:?}");
                };
                let mut rest = bytes;
                while !rest.is_empty() {
                    rest = Stat::parse(rest, dialect).expect("whole records").1;
                }
                offset += bytes.len() as u64;
                found.extend_from_slice(bytes);
                assert!(found.len() <= all, "a list that ends");
                if bytes.is_empty() {
                    break;
                }
            }
            assert_eq!(found.len(), all, "neither . nor ..");
            if whole.is_empty() {
                whole = found;
            } else {
                assert_eq!(found, whole);
            }
        }
        let mut first = record(&peer);
        if dialect == Dialect::P9 {
            // The numbers do not travel.
            (first.n_uid, first.n_gid, first.n_muid) = (UOnly(!0), UOnly(!0), UOnly(!0));
        }
        assert_eq!(Stat::parse(&whole, dialect).expect("a record").0, first);
        // From the start again, and from nowhere else.
        peer.says(&read(1, 0, sizes[0] as u32), &data(&whole[..sizes[0]]));
        peer.fails(&read(1, 1, 8000), Error::EINVAL);
        peer.fails(&read(1, all as u64, 8000), Error::EINVAL);
        peer.fails(&read(1, sizes[0] as u64, sizes[1] as u32 - 1), Error::EINVAL);
        // A failed read has moved nothing.
        peer.says(&read(1, sizes[0] as u64, 8000), &data(&whole[sizes[0]..]));
        peer.says(&read(1, all as u64, 8000), &data(b""));
        peer.fails(&write(1, 0, b"x"), Error::EBADF);
        peer.ends();
    }
}

/// A record has 16 bits for its size, whatever the tree shows: a tree may be another server.
#[test]
fn a_record_that_does_not_fit_its_size_is_refused() {
    let mut peer = Peer::unversioned(Config { trust: Trust::All, ..Config::new(3, 1 << 20) });
    peer.dialect = Dialect::U;
    let version = Dialect::U.name().as_bytes();
    let asked = frame(NOTAG, &Message::Tversion { msize: 1 << 20, version }, Dialect::U);
    peer.feed(&asked).expect("a sound message");
    peer.replies();
    peer.says(&attach(0, b"", 1000), &Message::Rattach { qid: peer.tree.qid(0) });
    peer.tree.add(0, b"long", mode::IFLNK | 0o777, &vec![b'x'; 65_500]);
    peer.walks(1, &[b"long"]);
    peer.fails(&Message::Tstat { fid: 1 }, Error::EMSGSIZE);
    // A listing ends in front of it.
    peer.walks(2, &[]);
    peer.send(7, &Message::Topen { fid: 2, mode: 0 }).expect("not broken");
    peer.replies();
    peer.send(7, &read(2, 0, 200_000)).expect("not broken");
    assert!(peer.replies().len() > 100);
    peer.ends();
}
