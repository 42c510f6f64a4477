//! The table held against the manual's section 5 and the kernel's `include/net/9p/9p.h`: numbers, and the order of fields.
//! A round trip cannot see a mistake there, since both directions come from one line.

use super::frame;
use crate::wire::*;

/// Two fields of one width that are swapped survive every round trip: each field of these holds its own place in the manual's layout.
#[test]
fn fields_stand_in_the_order_of_the_manual() {
    let layout = |message: Message<'_>, dialect| frame(&message, dialect, 0)[HEAD..].to_vec();
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|digit| *digit != b' ').collect();
        let pair = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two hex digits");
        digits.chunks(2).map(pair).collect()
    };
    let qid = Qid { kind: 0x80, version: 0x0102_0304, path: 0x1112_1314_1516_1718 };
    let (l, u) = (Dialect::L, Dialect::U);
    let cases = [
        (layout(Message::Tlopen { fid: 1, flags: 2 }, l), "01000000 02000000"),
        (layout(Message::Rlopen { qid, iounit: 9 }, l), "80 04030201 1817161514131211 09000000"),
        (
            layout(Message::Tlcreate { fid: 1, name: b"a", flags: 2, mode: 3, gid: 4 }, l),
            "01000000 0100 61 02000000 03000000 04000000",
        ),
        (
            layout(Message::Tsymlink { fid: 1, name: b"a", target: b"b", gid: 2 }, l),
            "01000000 0100 61 0100 62 02000000",
        ),
        (
            layout(Message::Tmknod { dfid: 1, name: b"a", mode: 2, major: 3, minor: 4, gid: 5 }, l),
            "01000000 0100 61 02000000 03000000 04000000 05000000",
        ),
        (layout(Message::Trename { fid: 1, dfid: 2, name: b"a" }, l), "01000000 02000000 0100 61"),
        (layout(Message::Tlink { dfid: 1, fid: 2, name: b"a" }, l), "01000000 02000000 0100 61"),
        (
            layout(Message::Trenameat { olddirfid: 1, oldname: b"a", newdirfid: 2, newname: b"b" }, l),
            "01000000 0100 61 02000000 0100 62",
        ),
        (layout(Message::Tunlinkat { dfid: 1, name: b"a", flags: 0x200 }, l), "01000000 0100 61 00020000"),
        (layout(Message::Tmkdir { dfid: 1, name: b"a", mode: 2, gid: 3 }, l), "01000000 0100 61 02000000 03000000"),
        (layout(Message::Txattrwalk { fid: 1, newfid: 2, name: b"a" }, l), "01000000 02000000 0100 61"),
        (
            layout(Message::Txattrcreate { fid: 1, name: b"a", attr_size: 2, flags: 3 }, l),
            "01000000 0100 61 0200000000000000 03000000",
        ),
        (
            layout(Message::Tlock { fid: 1, type_: 2, flags: 3, start: 4, length: 5, proc_id: 6, client_id: b"c" }, l),
            "01000000 02 03000000 0400000000000000 0500000000000000 06000000 0100 63",
        ),
        (
            layout(Message::Tgetlock { fid: 1, type_: 2, start: 4, length: 5, proc_id: 6, client_id: b"c" }, l),
            "01000000 02 0400000000000000 0500000000000000 06000000 0100 63",
        ),
        (
            layout(Message::Rgetlock { type_: 2, start: 4, length: 5, proc_id: 6, client_id: b"c" }, l),
            "02 0400000000000000 0500000000000000 06000000 0100 63",
        ),
        (layout(Message::Treaddir { fid: 1, offset: 2, count: 3 }, l), "01000000 0200000000000000 03000000"),
        (layout(Message::Tread { fid: 1, offset: 2, count: 3 }, l), "01000000 0200000000000000 03000000"),
        (layout(Message::Tfsync { fid: 1, datasync: Opt(2) }, l), "01000000 02000000"),
        (
            layout(
                Message::Tsetattr {
                    fid: 1,
                    valid: 2,
                    mode: 3,
                    uid: 4,
                    gid: 5,
                    size: 6,
                    atime_sec: 7,
                    atime_nsec: 8,
                    mtime_sec: 9,
                    mtime_nsec: 10,
                },
                l,
            ),
            "01000000 02000000 03000000 04000000 05000000 0600000000000000 0700000000000000 0800000000000000 \
             0900000000000000 0a00000000000000",
        ),
        (
            layout(
                Message::Rgetattr {
                    valid: 1,
                    qid,
                    mode: 2,
                    uid: 3,
                    gid: 4,
                    nlink: 5,
                    rdev: 6,
                    size: 7,
                    blksize: 8,
                    blocks: 9,
                    atime_sec: 10,
                    atime_nsec: 11,
                    mtime_sec: 12,
                    mtime_nsec: 13,
                    ctime_sec: 14,
                    ctime_nsec: 15,
                    btime_sec: 16,
                    btime_nsec: 17,
                    generation: 18,
                    data_version: 19,
                },
                l,
            ),
            "0100000000000000 80 04030201 1817161514131211 02000000 03000000 04000000 0500000000000000 \
             0600000000000000 0700000000000000 0800000000000000 0900000000000000 0a00000000000000 0b00000000000000 \
             0c00000000000000 0d00000000000000 0e00000000000000 0f00000000000000 1000000000000000 1100000000000000 \
             1200000000000000 1300000000000000",
        ),
        (
            layout(
                Message::Rstatfs {
                    type_: 1,
                    bsize: 2,
                    blocks: 3,
                    bfree: 4,
                    bavail: 5,
                    files: 6,
                    ffree: 7,
                    fsid: 8,
                    namelen: 9,
                },
                l,
            ),
            "01000000 02000000 0300000000000000 0400000000000000 0500000000000000 0600000000000000 \
             0700000000000000 0800000000000000 09000000",
        ),
        (
            layout(Message::Tcreate { fid: 1, name: b"a", perm: 2, mode: 3, extension: UOnly(b"e") }, u),
            "01000000 0100 61 02000000 03 0100 65",
        ),
        (
            layout(
                Message::Rstat {
                    stat: Stat {
                        type_: 1,
                        dev: 2,
                        qid,
                        mode: 3,
                        atime: 4,
                        mtime: 5,
                        length: 6,
                        name: b"n",
                        uid: b"u",
                        gid: b"g",
                        muid: b"m",
                        extension: UOnly(b"e"),
                        n_uid: UOnly(7),
                        n_gid: UOnly(8),
                        n_muid: UOnly(9),
                    },
                },
                u,
            ),
            "4400 4200 0100 02000000 80 04030201 1817161514131211 03000000 04000000 05000000 0600000000000000 \
             0100 6e 0100 75 0100 67 0100 6d 0100 65 07000000 08000000 09000000",
        ),
    ];
    for (at, (emitted, manual)) in cases.iter().enumerate() {
        assert_eq!(*emitted, hex(manual), "case {at}");
    }
}

/// The numbers of plan9port's `include/fcall.h` and of the kernel's `include/net/9p/9p.h`, written out once more.
#[test]
fn every_number_has_its_name_and_every_request_its_reply() {
    let requests = [
        (8, "statfs"),
        (12, "lopen"),
        (14, "lcreate"),
        (16, "symlink"),
        (18, "mknod"),
        (20, "rename"),
        (22, "readlink"),
        (24, "getattr"),
        (26, "setattr"),
        (30, "xattrwalk"),
        (32, "xattrcreate"),
        (40, "readdir"),
        (50, "fsync"),
        (52, "lock"),
        (54, "getlock"),
        (70, "link"),
        (72, "mkdir"),
        (74, "renameat"),
        (76, "unlinkat"),
        (100, "version"),
        (102, "auth"),
        (104, "attach"),
        (108, "flush"),
        (110, "walk"),
        (112, "open"),
        (114, "create"),
        (116, "read"),
        (118, "write"),
        (120, "clunk"),
        (122, "remove"),
        (124, "stat"),
        (126, "wstat"),
    ];
    let mut named = vec![(7, "Rlerror".to_owned()), (107, "Rerror".to_owned())];
    for (number, name) in requests {
        named.extend([(number, format!("T{name}")), (number + 1, format!("R{name}"))]);
        assert!(Kind(number).is_request() && !Kind(number).reply().is_request());
        let in_dialects = |kind: Kind| -> Vec<Dialect> {
            Message::samples(0)
                .iter()
                .filter(|(_, message)| message.kind() == kind)
                .map(|(dialect, _)| *dialect)
                .collect()
        };
        assert_eq!(in_dialects(Kind(number)), in_dialects(Kind(number).reply()), "{name}");
    }
    named.sort();
    let known = (0..=u8::MAX).filter_map(|number| Some((number, Kind(number).name()?.to_owned())));
    assert_eq!(known.collect::<Vec<_>>(), named);
    assert_eq!((Kind(200).to_string(), Kind::RREAD.to_string()), ("type 200".to_owned(), "Rread".to_owned()));
}
