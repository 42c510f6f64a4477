//! Every message of the table: whole, cut short, and with false lengths.

mod layout;

use super::*;
use bytes::BytesMut;

fn frame(message: &Message<'_>, dialect: Dialect, tag: Tag) -> BytesMut {
    let mut out = BytesMut::new();
    message.emit(tag, dialect, &mut out);
    out
}

/// Each message in each dialect, several times with other values.
fn samples() -> impl Iterator<Item = (Dialect, Message<'static>)> {
    (0..40).flat_map(|seed| Message::samples(seed * 1_000_003))
}

/// Parses; what comes out must emit the same bytes, except where a field was left out that may be.
fn parse_emits_the_same(bytes: &[u8], dialect: Dialect) -> Option<Message<'_>> {
    let (tag, message) = Message::parse(bytes, dialect).ok()?;
    let again = frame(&message, dialect, tag);
    if message.kind() == Kind::TFSYNC && bytes.len() == HEAD + 4 {
        assert_eq!(again[HEAD..HEAD + 4], bytes[HEAD..]);
    } else {
        assert_eq!(again, bytes, "{}", message.line(tag, dialect));
    }
    Some(message)
}

/// Only what a dialect lacks may come back changed, as its default.
#[test]
fn every_message_survives_the_round_trip() {
    for (dialect, message) in samples() {
        let bytes = frame(&message, dialect, 7);
        assert_eq!(bytes.len(), message.size(dialect));
        assert_eq!(head(&bytes), Some(Head { size: bytes.len() as u32, kind: message.kind(), tag: 7 }));
        let parsed = parse_emits_the_same(&bytes, dialect).expect("what was emitted parses");
        // The line leaves out what the dialect lacks, so it can be compared in all of them.
        assert_eq!(parsed.line(7, dialect).to_string(), message.line(7, dialect).to_string());
        let whole = match message.kind() {
            Kind::RERROR | Kind::TCREATE | Kind::RSTAT | Kind::TWSTAT => dialect == Dialect::U,
            Kind::TAUTH | Kind::TATTACH => dialect != Dialect::P9,
            _ => true,
        };
        assert!(parsed == message || !whole, "{}", message.line(7, dialect));
    }
}

/// What is printed reads back as the same frame; payloads above what a line shows do not.
#[test]
fn every_line_reads_back_as_its_message() {
    for (dialect, message) in samples() {
        let bytes = frame(&message, dialect, 7);
        let line = message.line(7, dialect).to_string();
        match Message::frame_of(&line, dialect) {
            Ok(again) => assert_eq!(again, bytes, "{line}"),
            Err(error) => assert!(line.ends_with("..."), "{line}: {error}"),
        }
    }
}

#[test]
fn a_line_that_is_no_message_says_why() {
    let fails = |line| Message::frame_of(line, Dialect::L).expect_err("no message");
    assert_eq!(fails("Topen fid=1"), "Topen of 9P2000.L: no such message");
    assert_eq!(fails("Tclunk fid=1 fid=2"), "fid twice");
    assert_eq!(fails("Tclunk fed=1"), "no such field: fed");
    assert_eq!(fails("Tclunk fid=x"), "Tclunk of 9P2000.L: no number: x");
    assert_eq!(fails("Tmkdir name=\"a"), "no end: \"a");
    assert_eq!(fails("Twrite data=3:\"abcd\""), "Twrite of 9P2000.L: not 3 bytes");
    let unset = Message::frame_of("Tattach uname=\"root\"", Dialect::L).expect("what is left out is unset");
    let attach = Message::Tattach { fid: NOFID, afid: NOFID, uname: b"root", aname: b"", n_uname: Ext(!0) };
    assert_eq!(unset, frame(&attach, Dialect::L, 1));
    let long = Message::frame_of("Twrite fid=0 offset=0x10 data=5*\"ab\"", Dialect::L).expect("a payload");
    assert_eq!(long, frame(&Message::Twrite { fid: 0, offset: 16, data: Data::Here(b"ababababab") }, Dialect::L, 1));
}

#[test]
fn every_truncation_is_an_error() {
    for (dialect, message) in samples() {
        let bytes = frame(&message, dialect, 7);
        for cut in 0..bytes.len() {
            assert!(Message::parse(&bytes[..cut], dialect).is_err(), "the size field gives it away");
            let mut short = bytes[..cut].to_vec();
            if cut >= HEAD {
                short[..4].copy_from_slice(&(cut as u32).to_le_bytes());
                let optional = message.kind() == Kind::TFSYNC && cut == HEAD + 4;
                assert_eq!(Message::parse(&short, dialect).is_ok(), optional, "{}", message.line(7, dialect));
            }
        }
        let mut long = bytes.to_vec();
        long.push(0);
        long[..4].copy_from_slice(&(bytes.len() as u32 + 1).to_le_bytes());
        assert!(Message::parse(&long, dialect).is_err(), "{}", message.line(7, dialect));
    }
}

#[test]
fn every_length_lie_is_an_error_or_another_message() {
    for (dialect, message) in samples().take(2000) {
        let bytes = frame(&message, dialect, 7);
        for at in HEAD..bytes.len() {
            for lie in [0u32, 1, 0xff, 0xffff, 0x7fff_ffff, u32::MAX] {
                for width in [2, 4] {
                    let mut lied = bytes.to_vec();
                    let width = width.min(lied.len() - at);
                    lied[at..at + width].copy_from_slice(&lie.to_le_bytes()[..width]);
                    parse_emits_the_same(&lied, dialect);
                }
            }
            for change in [1u8, 0xff] {
                let mut lied = bytes.to_vec();
                lied[at] = lied[at].wrapping_add(change);
                parse_emits_the_same(&lied, dialect);
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let all: Vec<_> = samples().map(|(dialect, message)| (dialect, frame(&message, dialect, 7))).collect();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let mut parsed = 0;
    for _ in 0..200_000 {
        let (dialect, bytes) = &all[next(all.len())];
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + next(3) {
            let at = 4 + next(bytes.len() - 4);
            bytes[at] = next(256) as u8;
        }
        parsed += usize::from(parse_emits_the_same(&bytes, *dialect).is_some());
        let _ = Message::parse_head(&bytes[..next(bytes.len() + 1)], *dialect);
        let record = &bytes[next(bytes.len())..];
        if let Ok((stat, rest)) = Stat::parse(record, *dialect) {
            let mut again = BytesMut::new();
            stat.emit(*dialect, &mut again);
            assert_eq!([&again, rest].concat(), record);
        }
        if let Ok((entry, rest)) = DirEntry::parse(record) {
            let mut again = BytesMut::new();
            entry.emit(&mut again);
            assert_eq!([&again, rest].concat(), record);
        }
    }
    assert!(parsed > 20_000, "the mutations leave most messages whole");
}

#[test]
fn exact_bytes() {
    let cases: &[(Dialect, Message<'_>, &[u8])] = &[
        (
            Dialect::P9,
            Message::Tversion { msize: 8192, version: b"9P2000" },
            b"\x13\0\0\0\x64\x07\0\0\x20\0\0\x06\x009P2000",
        ),
        (Dialect::P9, Message::Tclunk { fid: 1 }, b"\x0b\0\0\0\x78\x07\0\x01\0\0\0"),
        (Dialect::P9, Message::Rclunk {}, b"\x07\0\0\0\x79\x07\0"),
        (Dialect::L, Message::Rlerror { ecode: 2 }, b"\x0b\0\0\0\x07\x07\0\x02\0\0\0"),
        (Dialect::P9, Message::Rerror { ename: b"no", errno: UOnly(2) }, b"\x0b\0\0\0\x6b\x07\0\x02\0no"),
        (Dialect::U, Message::Rerror { ename: b"no", errno: UOnly(2) }, b"\x0f\0\0\0\x6b\x07\0\x02\0no\x02\0\0\0"),
        (
            Dialect::P9,
            Message::Twalk { fid: 0, newfid: 1, wnames: Names::list(&[b"a", b"bc"]) },
            b"\x18\0\0\0\x6e\x07\0\0\0\0\0\x01\0\0\0\x02\0\x01\0a\x02\0bc",
        ),
        (
            Dialect::L,
            Message::Rwalk { wqids: Qids::list(&[Qid { kind: 0x80, version: 1, path: 2 }]) },
            b"\x16\0\0\0\x6f\x07\0\x01\0\x80\x01\0\0\0\x02\0\0\0\0\0\0\0",
        ),
        (
            Dialect::L,
            Message::Twrite { fid: 1, offset: 2, data: Data::Here(b"xyz") },
            b"\x1a\0\0\0\x76\x07\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0xyz",
        ),
        (
            Dialect::U,
            Message::Tattach { fid: 0, afid: NOFID, uname: b"u", aname: b"", n_uname: Ext(1000) },
            b"\x18\0\0\0\x68\x07\0\0\0\0\0\xff\xff\xff\xff\x01\0u\0\0\xe8\x03\0\0",
        ),
    ];
    for (dialect, message, bytes) in cases {
        assert_eq!(frame(message, *dialect, 7), *bytes, "{}", message.line(7, *dialect));
    }
}

#[test]
fn what_a_dialect_lacks_has_a_safe_default() {
    let error = frame(&Message::Rerror { ename: b"no", errno: UOnly(5) }, Dialect::P9, 1);
    let expected = Message::Rerror { ename: b"no", errno: UOnly(0) };
    assert_eq!(Message::parse(&error, Dialect::P9), Ok((1, expected)));
    let attach = Message::Tattach { fid: 0, afid: NOFID, uname: b"u", aname: b"", n_uname: Ext(0) };
    let expected = Message::Tattach { fid: 0, afid: NOFID, uname: b"u", aname: b"", n_uname: Ext(!0) };
    assert_eq!(Message::parse(&frame(&attach, Dialect::P9, 1), Dialect::P9), Ok((1, expected)));
    let stat = Stat { n_uid: UOnly(0), n_gid: UOnly(0), n_muid: UOnly(0), ..Stat::dont_touch() };
    let wstat = frame(&Message::Twstat { fid: 1, stat }, Dialect::P9, 1);
    let expected = Message::Twstat { fid: 1, stat: Stat::dont_touch() };
    assert_eq!(Message::parse(&wstat, Dialect::P9), Ok((1, expected)));
    let fsync = Message::parse(b"\x0b\0\0\0\x32\x01\0\x02\0\0\0", Dialect::L);
    assert_eq!(fsync, Ok((1, Message::Tfsync { fid: 2, datasync: Opt(0) })));
}

/// The size of a record stands three times: that of the message, n, and its own. Bytes that one of them counts and the fields do not are refused, wherever they are.
#[test]
fn a_record_fills_all_the_sizes_that_are_given_for_it() {
    for dialect in [Dialect::P9, Dialect::U] {
        let sound = frame(&Message::Twstat { fid: 1, stat: Stat::dont_touch() }, dialect, 1);
        let (message, n, own) = (0, 11, 13);
        for (longer, error) in [
            (&[message][..], Error::Trailing),
            (&[message, n], Error::Trailing),
            (&[message, n, own], Error::Trailing),
            (&[n], Error::Short),
            (&[n, own], Error::Short),
        ] {
            let mut bytes = sound.to_vec();
            longer.iter().for_each(|at| bytes[*at] += 1);
            bytes.resize(usize::from(bytes[0]), 0);
            assert_eq!(Message::parse(&bytes, dialect), Err(error), "{} longer at {longer:?}", dialect.name());
        }
    }
}

#[test]
fn sizes_that_other_rooms_rely_on() {
    let getattr = Message::samples(1).into_iter().find(|(_, message)| message.kind() == Kind::RGETATTR);
    assert_eq!(getattr.map(|(dialect, message)| message.size(dialect)), Some(160));
    assert_eq!(Message::Twrite { fid: 0, offset: 0, data: Data::Away(0) }.size(Dialect::L), WRITE_HEAD);
    assert_eq!(Message::Rread { data: Data::Away(0) }.size(Dialect::L), READ_HEAD);
    assert_eq!(Message::Rread { data: Data::Away(5) }.size(Dialect::L), READ_HEAD + 5);
}

#[test]
fn a_write_can_be_parsed_before_its_payload_is_there() {
    let bytes = frame(&Message::Twrite { fid: 1, offset: 2, data: Data::Here(&[9; 100]) }, Dialect::L, 3);
    for cut in WRITE_HEAD..bytes.len() {
        let parsed = Message::parse_head(&bytes[..cut], Dialect::L);
        assert_eq!(parsed, Ok((3, Message::Twrite { fid: 1, offset: 2, data: Data::Away(100) })));
    }
    assert_eq!(Message::parse_head(&bytes[..WRITE_HEAD - 1], Dialect::L), Err(Error::Short));
    assert_eq!(Message::parse_head(&bytes, Dialect::L), Err(Error::Size), "a whole frame is no head");
    let mut lied = bytes[..WRITE_HEAD].to_vec();
    lied[WRITE_HEAD - 4] += 1;
    assert_eq!(Message::parse_head(&lied, Dialect::L), Err(Error::Count));
    let walk = frame(&Message::Tclunk { fid: 1 }, Dialect::L, 3);
    assert_eq!(Message::parse_head(&walk[..9], Dialect::L), Err(Error::Short), "no payload, nothing to be missing");
}

#[test]
fn dialects_have_their_own_messages() {
    let stat = frame(&Message::Tstat { fid: 1 }, Dialect::P9, 1);
    assert_eq!(Message::parse(&stat, Dialect::L), Err(Error::Unknown(Kind::TSTAT)));
    let getattr = frame(&Message::Tgetattr { fid: 1, request_mask: 1 }, Dialect::L, 1);
    assert_eq!(Message::parse(&getattr, Dialect::U), Err(Error::Unknown(Kind::TGETATTR)));
    let mut unknown = stat.to_vec();
    unknown[4] = 200;
    assert_eq!(Message::parse(&unknown, Dialect::U), Err(Error::Unknown(Kind(200))));
}

#[test]
fn seventeen_names_and_a_nul_are_refused() {
    let mut walk = BytesMut::from(&b"\0\0\0\0\x6e\x01\0\0\0\0\0\x01\0\0\0\x11\0"[..]);
    for _ in 0..17 {
        walk.extend_from_slice(b"\x01\0a");
    }
    let size = (walk.len() as u32).to_le_bytes();
    walk[..4].copy_from_slice(&size);
    assert_eq!(Message::parse(&walk, Dialect::L), Err(Error::Names));
    let nul = frame(&Message::Treadlink { fid: 1 }, Dialect::L, 1);
    assert!(Message::parse(&nul, Dialect::L).is_ok());
    let nul = frame(&Message::Tunlinkat { dfid: 1, name: b"a\0b", flags: 0 }, Dialect::L, 1);
    assert_eq!(Message::parse(&nul, Dialect::L), Err(Error::Nul));
}

#[test]
fn one_line_each() {
    let line = |message: Message<'_>, dialect| message.line(NOTAG, dialect).to_string();
    assert_eq!(
        line(Message::Twalk { fid: 0, newfid: NOFID, wnames: Names::list(&[b"usr", b"\xff\""]) }, Dialect::L),
        r#"Twalk tag=NOTAG fid=0 newfid=NOFID wnames=["usr" "\xff\""]"#
    );
    let attach = Message::Tattach { fid: 0, afid: NOFID, uname: b"root", aname: b"", n_uname: Ext(0) };
    assert_eq!(line(attach, Dialect::P9), r#"Tattach tag=NOTAG fid=0 afid=NOFID uname="root" aname="""#);
    assert_eq!(line(attach, Dialect::U), r#"Tattach tag=NOTAG fid=0 afid=NOFID uname="root" aname="" n_uname=0"#);
    let write = Message::Twrite { fid: 1, offset: 0, data: Data::Here(&[b'a'; 40]) };
    assert_eq!(line(write, Dialect::L), format!("Twrite tag=NOTAG fid=1 offset=0 data=40:\"{}\"...", "a".repeat(32)));
    assert_eq!(
        line(Message::Tmkdir { dfid: 1, name: b"d", mode: 0o40755, gid: 5 }, Dialect::L),
        r#"Tmkdir tag=NOTAG dfid=1 name="d" mode=040755 gid=5"#
    );
}

#[test]
fn versions_are_negotiated_down() {
    for (version, dialect) in [
        ("9P2000.L", Some(Dialect::L)),
        ("9P2000.u", Some(Dialect::U)),
        ("9P2000", Some(Dialect::P9)),
        ("9P2000.zzz", Some(Dialect::P9)),
        ("9P1999", None),
        ("", None),
        ("9P20000", None),
    ] {
        assert_eq!(Dialect::negotiate(version.as_bytes()), dialect, "{version}");
    }
}

#[test]
fn directory_records_stand_one_behind_the_other() {
    for dialect in [Dialect::P9, Dialect::U] {
        let stats = [Stat { name: b"a", ..Stat::dont_touch() }, Stat { name: b"bcd", length: 7, ..Stat::dont_touch() }];
        let mut out = BytesMut::new();
        stats.iter().for_each(|stat| stat.emit(dialect, &mut out));
        assert_eq!(out.len(), stats.iter().map(|stat| stat.size(dialect)).sum::<usize>());
        let (first, rest) = Stat::parse(&out, dialect).expect("the first record");
        let (second, rest) = Stat::parse(rest, dialect).expect("the second record");
        assert_eq!((first.name, second.name, second.length, rest.len()), (&b"a"[..], &b"bcd"[..], 7, 0));
        assert!(Stat::parse(&out[..out.len() - stats[1].size(dialect) - 1], dialect).is_err());
    }
}

#[test]
fn directory_entries_stand_one_behind_the_other() {
    for n in 0..20 {
        let entries = [DirEntry::sample_fields(n), DirEntry::sample_fields(n + 1)];
        let mut out = BytesMut::new();
        entries.iter().for_each(|entry| entry.emit(&mut out));
        assert_eq!(out.len(), entries.iter().map(DirEntry::size).sum::<usize>());
        let (first, rest) = DirEntry::parse(&out).expect("the first entry");
        assert_eq!((first, DirEntry::parse(rest)), (entries[0], Ok((entries[1], &b""[..]))));
        for cut in 0..entries[0].size() {
            assert_eq!(DirEntry::parse(&out[..cut]), Err(Error::Short));
        }
    }
    let entry = DirEntry { qid: Qid::default(), offset: 5, kind: 4, name: b"dir" };
    let mut out = BytesMut::new();
    entry.emit(&mut out);
    assert_eq!((out.len(), DirEntry::parse(&out)), (entry.size(), Ok((entry, &b""[..]))));
}
