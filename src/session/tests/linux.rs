//! 9P2000.L: replies of its own messages.

use super::*;
use crate::fs::mode;
use crate::wire::{DirEntry, Opt, qt};

fn peer() -> Peer {
    Peer::new(Dialect::L)
}

fn lcreate(fid: u32, name: &[u8], flags: u32) -> Message<'_> {
    Message::Tlcreate { fid, name, flags, mode: 0o100640, gid: !0 }
}

const IOUNIT: u32 = MSIZE - 24;

#[test]
fn lopen_passes_over_flags_that_it_does_not_know() {
    let mut peer = peer();
    let qid = peer.tree.qid(1);
    // O_RDWR | O_LARGEFILE | O_DIRECT | O_NOFOLLOW: what Linux 6.1 sends.
    for (fid, flags) in [(1, 0), (2, 0o2), (3, 0o2 | 0o100000 | 0o40000 | 0o400000)] {
        peer.walks(fid, &[b"hello"]);
        peer.says(&Message::Tlopen { fid, flags }, &Message::Rlopen { qid, iounit: IOUNIT });
    }
    peer.walks(4, &[b"hello"]);
    peer.fails(&Message::Tlopen { fid: 4, flags: 0o200000 }, Error::ENOTDIR);
    peer.fails(&Message::Tlopen { fid: 4, flags: 3 }, Error::EINVAL);
    peer.fails(&Message::Tlopen { fid: 0, flags: 1 }, Error::EISDIR);
    peer.says(&Message::Tlopen { fid: 4, flags: 0o1001 }, &Message::Rlopen { qid, iounit: IOUNIT });
    assert_eq!(peer.tree.data("hello"), b"", "truncated");
    peer.ends();
}

#[test]
fn lcreate_opens_what_it_makes_or_what_is_there() {
    let mut peer = peer();
    for name in [&b"."[..], b"..", b"", b"a/b"] {
        peer.fails(&lcreate(0, name, 0o102), Error::EINVAL);
    }
    peer.fails(&lcreate(0, &[b'n'; 256], 0o102), Error::ENAMETOOLONG);
    peer.walks(1, &[]);
    let qid = Qid { kind: 0, version: 1, path: 108 };
    peer.says(&lcreate(1, b"new", 0o302), &Message::Rlcreate { qid, iounit: IOUNIT });
    assert_eq!(peer.tree.nodes[8].mode, mode::IFREG | 0o640);
    peer.says(&write(1, 0, b"text"), &Message::Rwrite { count: 4 });
    peer.fails(&lcreate(1, b"newer", 0o102), Error::EINVAL);
    peer.walks(2, &[]);
    peer.fails(&lcreate(2, b"new", 0o302), Error::EEXIST);
    peer.fails(&lcreate(2, b"dir", 0o102), Error::EISDIR);
    peer.fails(&lcreate(2, b"secret", 0o102), Error::EACCES);
    // A failed create leaves the fid where it was.
    peer.says(&lcreate(2, b"new", 0o102), &Message::Rlcreate { qid, iounit: IOUNIT });
    peer.says(&read(2, 0, 10), &data(b"text"));
    peer.ends();
}

#[test]
fn getattr_shows_all_that_is_asked_for() {
    let mut peer = peer();
    peer.walks(1, &[b"hello"]);
    for (request_mask, valid) in [(0x7ff, 0x7ff), (0x17ff, 0x17ff), (0x3fff, 0x3fff), (!0, 0x3fff)] {
        let (sec, nsec) = (1_700_000_000, 5);
        let reply = Message::Rgetattr {
            valid,
            qid: peer.tree.qid(1),
            mode: 0o100644,
            uid: 1000,
            gid: 50,
            nlink: 1,
            rdev: 0,
            size: 12,
            blksize: 4096,
            blocks: 8,
            atime_sec: sec,
            atime_nsec: nsec,
            mtime_sec: sec,
            mtime_nsec: nsec,
            ctime_sec: sec,
            ctime_nsec: nsec,
            btime_sec: sec,
            btime_nsec: nsec,
            generation: 0,
            data_version: 1,
        };
        peer.says(&Message::Tgetattr { fid: 1, request_mask }, &reply);
    }
    peer.fails(&Message::Tgetattr { fid: 9, request_mask: 1 }, Error::EBADF);
    peer.ends();
}

/// Linux: new_encode_dev.
#[test]
fn device_numbers_have_the_layout_of_linux() {
    let mut peer = peer();
    let node = Message::Tmknod { dfid: 0, name: b"node", mode: 0o060600, major: 8, minor: 260, gid: 0 };
    peer.says(&node, &Message::Rmknod { qid: Qid { kind: 0, version: 1, path: 108 } });
    peer.walks(1, &[b"node"]);
    peer.send(7, &Message::Tgetattr { fid: 1, request_mask: 0x3fff }).expect("not broken");
    // Major 8, minor 0x104: 0x04 | 8 << 8 | 0x100 << 12.
    assert!(peer.lines()[0].contains(" rdev=0x100804 "));
    peer.ends();
}

#[test]
fn setattr_changes_what_is_valid() {
    let mut peer = peer();
    peer.walks(1, &[b"hello"]);
    let set = |valid, mode, size, nsec| Message::Tsetattr {
        fid: 1,
        valid,
        mode,
        uid: !0,
        gid: !0,
        size,
        atime_sec: 0,
        atime_nsec: nsec,
        mtime_sec: 0,
        mtime_nsec: 0,
    };
    let done = Message::Rsetattr {};
    for valid in [0, 0x40, 0x70, 0x1f0, 0x8000_0000] {
        peer.says(&set(valid, 0, 0, 0), &done);
        assert_eq!((peer.tree.nodes[1].mode, peer.tree.data("hello").len()), (0o100644, 12));
    }
    peer.says(&set(0x1, 0o100600, 0, 0), &done);
    peer.says(&set(0x68, 0, 5, 0), &done);
    assert_eq!((peer.tree.nodes[1].mode, peer.tree.data("hello")), (0o100600, &b"hello"[..]));
    peer.fails(&set(0x98, 0, 1, 1_000_000_000), Error::EINVAL);
    assert_eq!(peer.tree.data("hello"), b"hello", "all or nothing");
    peer.ends();
}

#[test]
fn names_are_made_linked_moved_and_removed() {
    let mut peer = peer();
    let qid = |kind, path| Qid { kind, version: 1, path };
    let mkdir = Message::Tmkdir { dfid: 0, name: b"sub", mode: 0o40755, gid: 0 };
    peer.says(&mkdir, &Message::Rmkdir { qid: qid(qt::DIR, 108) });
    peer.fails(&mkdir, Error::EEXIST);
    let symlink = |name, target| Message::Tsymlink { fid: 0, name, target, gid: 0 };
    peer.says(&symlink(b"link", b"to/where"), &Message::Rsymlink { qid: qid(qt::SYMLINK, 109) });
    peer.fails(&symlink(b"l", b""), Error::ENOENT);
    peer.fails(&symlink(b"l", &[b't'; 4096]), Error::ENAMETOOLONG);
    peer.walks(1, &[b"link"]);
    peer.says(&Message::Treadlink { fid: 1 }, &Message::Rreadlink { target: b"to/where" });
    peer.fails(&Message::Treadlink { fid: 0 }, Error::EINVAL);
    let mknod = |name, mode| Message::Tmknod { dfid: 0, name, mode, major: 0, minor: 0, gid: 0 };
    for (at, (name, mode)) in [(&b"f"[..], 0o100644), (b"p", 0o10644), (b"s", 0o140644)].into_iter().enumerate() {
        peer.says(&mknod(name, mode), &Message::Rmknod { qid: qid(0, 110 + at as u64) });
        assert_eq!(peer.tree.nodes[10 + at].mode, mode);
    }
    peer.fails(&mknod(b"d", 0o40755), Error::EINVAL);
    let renameat = |oldname, newname| Message::Trenameat { olddirfid: 0, oldname, newdirfid: 2, newname };
    peer.walks(2, &[b"sub"]);
    peer.says(&renameat(b"hello", b"moved"), &Message::Rrenameat {});
    peer.fails(&renameat(b"hello", b"moved"), Error::ENOENT);
    peer.fails(&renameat(b"secret", b".."), Error::EINVAL);
    peer.walks(3, &[b"sub", b"moved"]);
    // Removing what is being listed: the directory's fid may be open.
    peer.says(&Message::Tlopen { fid: 2, flags: 0 }, &Message::Rlopen { qid: qid(qt::DIR, 108), iounit: IOUNIT });
    peer.says(&Message::Tunlinkat { dfid: 2, name: b"moved", flags: 0 }, &Message::Runlinkat {});
    peer.fails(&Message::Tunlinkat { dfid: 0, name: b"sub", flags: 0 }, Error::EISDIR);
    peer.fails(&Message::Tunlinkat { dfid: 0, name: b"link", flags: 0x200 }, Error::ENOTDIR);
    peer.fails(&Message::Tunlinkat { dfid: 0, name: b".", flags: 0x200 }, Error::EINVAL);
    peer.says(&Message::Tunlinkat { dfid: 0, name: b"sub", flags: 0x200 }, &Message::Runlinkat {});
    peer.says(&Message::Tclunk { fid: 3 }, &Message::Rclunk {});
    // One fid cannot be moved into itself; the tree decides the rest.
    peer.fails(&Message::Trename { fid: 1, dfid: 1, name: b"x" }, Error::EINVAL);
    peer.fails(&Message::Trename { fid: 1, dfid: 99, name: b"x" }, Error::EBADF);
    peer.fails(&Message::Trename { fid: 1, dfid: 0, name: b"x" }, Error::EOPNOTSUPP);
    peer.fails(&Message::Tlink { dfid: 0, fid: 1, name: b"x" }, Error::EOPNOTSUPP);
    peer.fails(&Message::Tlink { dfid: 0, fid: 99, name: b"x" }, Error::EBADF);
    peer.ends();
}

#[test]
fn fsync_comes_with_and_without_datasync() {
    let mut peer = peer();
    peer.says(&Message::Tfsync { fid: 0, datasync: Opt(1) }, &Message::Rfsync {});
    let mut short = frame(7, &Message::Tfsync { fid: 0, datasync: Opt(0) }, Dialect::L);
    short.truncate(11);
    short[0] = 11;
    peer.feed(&short).expect("not broken");
    peer.hears(&[(7, Message::Rfsync {})]);
    peer.ends();
}

/// What is not there yet says so; the connection and the fids go on. These are sound messages: they are not counted.
#[test]
fn what_is_not_served_is_not_supported() {
    let mut peer = peer();
    let (client_id, start, length, proc_id) = (&b"(none)"[..], 0, 0, 1);
    for _ in 0..2 * PROTOCOL_ERRORS_MAX {
        peer.fails(&Message::Txattrwalk { fid: 0, newfid: 5, name: b"" }, Error::EOPNOTSUPP);
    }
    peer.walks(1, &[]);
    peer.send(7, &Message::Tlopen { fid: 1, flags: 0 }).expect("not broken");
    assert_eq!(peer.lines().len(), 1);
    peer.fails(&Message::Tlock { fid: 1, type_: 0, flags: 0, start, length, proc_id, client_id }, Error::EOPNOTSUPP);
    peer.fails(&Message::Tgetlock { fid: 1, type_: 2, start, length, proc_id, client_id }, Error::EOPNOTSUPP);
    peer.says(&Message::Tclunk { fid: 1 }, &Message::Rclunk {});
    // What was announced fails when it would be set.
    peer.walks(1, &[]);
    peer.says(&Message::Txattrcreate { fid: 1, name: b"user.a", attr_size: 0, flags: 0 }, &Message::Rxattrcreate {});
    peer.fails(&Message::Tclunk { fid: 1 }, Error::EOPNOTSUPP);
    peer.fails(&Message::Tstatfs { fid: 0 }, Error::EOPNOTSUPP);
    assert_eq!((peer.session.fids(), peer.session.errors), (1, 0));
    peer.ends();
}

/// Lists with this count; the names in order, and how many calls that took.
fn list(peer: &mut Peer, count: u32) -> (Vec<String>, usize) {
    let (mut names, mut offset, mut calls) = (Vec::new(), 0, 0);
    loop {
        peer.send(7, &Message::Treaddir { fid: 1, offset, count }).expect("not broken");
        let reply = peer.replies();
        let Ok((7, Message::Rreaddir { data: Data::Here(mut rest) })) = Message::parse(&reply, Dialect::L) else {
            panic!("an Rreaddir, not {reply:?}");
        };
        assert!(rest.len() <= count as usize);
        calls += 1;
        if rest.is_empty() {
            return (names, calls);
        }
        while !rest.is_empty() {
            let (entry, next) = DirEntry::parse(rest).expect("whole entries");
            assert!(entry.offset > offset, "cookies grow");
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            (offset, rest) = (entry.offset, next);
        }
    }
}

#[test]
fn readdir_gives_whole_entries_from_any_cookie() {
    let mut peer = peer();
    peer.fails(&Message::Treaddir { fid: 0, offset: 0, count: 100 }, Error::EBADF);
    peer.walks(1, &[]);
    peer.send(7, &Message::Tlopen { fid: 1, flags: 0 }).expect("not broken");
    assert_eq!(peer.lines().len(), 1);
    let all = [".", "..", "hello", "secret", "log", "null", "short", "dir"];
    // An entry is 24 bytes and its name; 30 holds any one, 51 exactly the first two and then one at a time.
    for (count, calls) in [(8000, 2), (51, 8), (30, 9), (u32::MAX, 2)] {
        let (names, took) = list(&mut peer, count);
        assert_eq!((names.as_slice(), took), (all.map(String::from).as_slice(), calls), "{count}");
    }
    // Again from a cookie in the middle, from one of an entry that is gone, from beyond.
    for (offset, name) in [(2, "hello"), (11, "secret"), (15, "dir")] {
        peer.send(7, &Message::Treaddir { fid: 1, offset, count: 30 }).expect("not broken");
        let reply = peer.replies();
        assert!(reply.ends_with(name.as_bytes()), "{name} comes after {offset}");
    }
    peer.says(
        &Message::Treaddir { fid: 1, offset: u64::MAX, count: 100 },
        &Message::Rreaddir { data: Data::Here(b"") },
    );
    peer.fails(&Message::Treaddir { fid: 1, offset: 0, count: 24 }, Error::EINVAL);
    peer.fails(&read(1, 0, 100), Error::EISDIR);
    peer.fails(&write(1, 0, b"x"), Error::EISDIR);
    peer.opens(2, &[b"hello"]);
    peer.fails(&Message::Treaddir { fid: 2, offset: 0, count: 100 }, Error::ENOTDIR);
    peer.ends();
}

#[test]
fn messages_of_other_dialects_are_none() {
    let mut peer = peer();
    let mut open = frame(7, &Message::Topen { fid: 0, mode: 0 }, Dialect::P9);
    peer.feed(&open).expect("not broken");
    peer.hears(&[(7, failure(Dialect::L, Error::EOPNOTSUPP))]);
    let mut peer = Peer::new(Dialect::P9);
    open = frame(7, &Message::Tlopen { fid: 0, flags: 0 }, Dialect::L);
    peer.feed(&open).expect("not broken");
    peer.hears(&[(7, failure(Dialect::P9, Error::EOPNOTSUPP))]);
}
