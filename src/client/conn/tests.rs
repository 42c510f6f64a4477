//! Calls, replies in pieces, and what a server must not do.

use super::*;
use crate::fs::Error as Errno;
use crate::wire::Data;

fn frame(message: &Message<'_>, tag: Tag) -> Vec<u8> {
    let mut out = Vec::new();
    message.emit(tag, Dialect::L, &mut out);
    out
}

#[test]
fn an_inbox_that_is_lent_keeps_what_is_there() {
    let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
    let tags = [0; 2].map(|_| conn.call(&Message::Tclunk { fid: 1 }));
    let bytes: Vec<u8> = tags.iter().flat_map(|tag| frame(&Message::Rclunk {}, *tag)).collect();
    conn.received(&bytes[..10]);
    let see = |tag, _: Result<Message<'_>, Error>| tag;
    assert_eq!(conn.next_reply(see), Ok(Some(tags[0])));
    let (mut buffer, filled) = conn.lend(100);
    assert_eq!((buffer.len(), filled, conn.next_reply(see)), (103, 3, Ok(None)));
    buffer[3..7].copy_from_slice(&bytes[10..]);
    conn.give_back(buffer, 7);
    assert_eq!(conn.next_reply(see), Ok(Some(tags[1])));
    // The room is no larger than was asked for, whatever the inbox has grown to.
    let (buffer, filled) = conn.lend(50);
    assert_eq!((buffer.len(), filled), (50, 0));
}

#[test]
fn replies_find_their_requests_in_any_order_and_in_any_pieces() {
    let payload = vec![7; 40_000];
    for step in (1..64).chain([20_000, 100_000]) {
        let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
        let clunk = conn.call(&Message::Tclunk { fid: 1 });
        let read = conn.call(&Message::Tread { fid: 2, offset: 0, count: 40_000 });
        assert_ne!(clunk, read);
        let mut bytes = frame(&Message::Rread { data: Data::Here(&payload) }, read);
        bytes.extend_from_slice(&frame(&Message::Rlerror { ecode: 9 }, clunk));
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            conn.received(piece);
            let see = |tag, reply: Result<Message<'_>, Error>| match reply {
                Ok(reply) => (tag, reply == Message::Rread { data: Data::Here(&payload) }),
                Err(error) => (tag, error == Error::Refused(Errno::EBADF, None)),
            };
            while let Some(reply) = conn.next_reply(see).expect("a sound server") {
                seen.push(reply);
            }
        }
        assert_eq!(seen, [(read, true), (clunk, true)], "in pieces of {step}");
        assert_eq!(conn.in_flight(), 0);
    }
}

#[test]
fn buffers_stop_growing() {
    let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
    let payload = vec![7; 30_000];
    let mut sizes = Vec::new();
    for _ in 0..100 {
        for _ in 0..8 {
            let tag = conn.call(&Message::Tread { fid: 2, offset: 0, count: 30_000 });
            conn.received(&frame(&Message::Rread { data: Data::Here(&payload) }, tag));
        }
        while conn.next_reply(|_, _| ()).expect("a sound server").is_some() {}
        // A socket that never takes all.
        conn.sent(conn.outgoing().len() - 1);
        sizes.push((conn.inbox.capacity(), conn.out.capacity()));
    }
    assert_eq!(sizes[2], sizes[99]);
}

#[test]
fn what_is_sent_in_pieces_is_what_was_queued() {
    let mut conn = Conn::new(Dialect::L, 8192, 100);
    let (mut whole, mut sent) = (Vec::new(), Vec::new());
    for fid in 0..50 {
        let tag = conn.call(&Message::Tclunk { fid });
        Message::Tclunk { fid }.emit(tag, Dialect::L, &mut whole);
        let n = conn.outgoing().len().min(7);
        sent.extend_from_slice(&conn.outgoing()[..n]);
        conn.sent(n);
    }
    sent.extend_from_slice(conn.outgoing());
    assert_eq!(sent, whole);
}

#[test]
fn what_a_server_must_not_do_is_an_error() {
    let see = |bytes: &[u8]| {
        let mut conn = Conn::new(Dialect::L, 8192, 8);
        conn.call(&Message::Tclunk { fid: 1 });
        conn.received(bytes);
        conn.next_reply(|_, _| ()).expect_err("an unsound server").to_string()
    };
    assert!(see(&frame(&Message::Rclunk {}, 5)).contains("no request"));
    assert!(see(&frame(&Message::Rclunk {}, NOTAG)).contains("no request"));
    assert!(see(&frame(&Message::Rremove {}, 0)).contains("another request"));
    assert!(see(b"\xff\xff\xff\x7f\x79\0\0").contains("bytes"));
    assert!(see(b"\x06\0\0\0\x79\0\0").contains("bytes"));
    assert!(see(b"\x08\0\0\0\x79\0\0\0").contains("left behind"));
}

#[test]
fn a_reply_brings_no_more_than_was_asked_for() {
    let see = |request: &Message<'_>, reply: &Message<'_>| {
        let mut conn = Conn::new(Dialect::L, 8192, 8);
        let tag = conn.call(request);
        conn.received(&frame(reply, tag));
        conn.next_reply(|_, reply| reply.is_ok())
    };
    let qids = [crate::wire::Qid::default(); 2];
    for n in [1, 2] {
        let wanted = n == 1;
        let data = Data::Here(&[1, 2][..n]);
        let read = Message::Tread { fid: 1, offset: 0, count: 1 };
        assert_eq!(see(&read, &Message::Rread { data }).is_ok(), wanted);
        let list = Message::Treaddir { fid: 1, offset: 0, count: 1 };
        assert_eq!(see(&list, &Message::Rreaddir { data }).is_ok(), wanted);
        let write = Message::Twrite { fid: 1, offset: 0, data: Data::Here(b"x") };
        assert_eq!(see(&write, &Message::Rwrite { count: n as u32 }).is_ok(), wanted);
        let walk = Message::Twalk { fid: 1, newfid: 2, wnames: crate::wire::Names::list(&[b"a"]) };
        assert_eq!(see(&walk, &Message::Rwalk { wqids: crate::wire::Qids::list(&qids[..n]) }).is_ok(), wanted);
    }
}

#[test]
fn a_reply_may_come_once_only() {
    let mut conn = Conn::new(Dialect::L, 8192, 8);
    let tag = conn.call(&Message::Tclunk { fid: 1 });
    for _ in 0..2 {
        conn.received(&frame(&Message::Rclunk {}, tag));
    }
    assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(tag)));
    assert!(conn.next_reply(|tag, _| tag).is_err());
}

/// flush(9P): the tag of a request that is flushed is used again once the flush is answered.
#[test]
fn the_tag_of_a_flushed_request_waits_for_the_flush() {
    for answers_both in [false, true] {
        let mut conn = Conn::new(Dialect::L, 8192, 2);
        let read = conn.call(&Message::Tread { fid: 1, offset: 0, count: 1 });
        let flush = conn.call(&Message::Tflush { oldtag: read });
        if answers_both {
            conn.received(&frame(&Message::Rread { data: Data::Here(b"x") }, read));
            assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(read)));
            assert!(!conn.has_room());
        }
        conn.received(&frame(&Message::Rflush {}, flush));
        assert_eq!(conn.next_reply(|tag, _| tag), Ok(Some(flush)));
        assert_eq!((conn.in_flight(), conn.free.len()), (0, 2));
        conn.received(&frame(&Message::Rread { data: Data::Here(b"x") }, read));
        assert!(conn.next_reply(|tag, _| tag).is_err());
    }
}

#[test]
fn a_large_payload_is_left_to_the_caller() {
    let payload = vec![7; 5000];
    let read = |most| {
        let mut conn = Conn::new(Dialect::L, 8192, 8);
        let tag = conn.call(&Message::Tread { fid: 1, offset: 0, count: most });
        let bytes = frame(&Message::Rread { data: Data::Here(&payload) }, tag);
        conn.received(&bytes[..READ_HEAD - 1]);
        assert_eq!(conn.begun_read(5000, |_, _, _| panic!("its head is not whole")), Ok(false));
        conn.received(&bytes[READ_HEAD - 1..100]);
        assert_eq!(conn.begun_read(5001, |_, _, _| panic!("it is smaller")), Ok(false));
        let mut seen = None;
        conn.begun_read(5000, |tag, size, here| seen = Some((tag, size, here.len()))).map(|begun| {
            assert_eq!((begun, seen, conn.in_flight()), (true, Some((tag, 5000, 100 - READ_HEAD)), 0));
            conn.received(&frame(&Message::Rclunk {}, tag));
            assert!(conn.next_reply(|_, _| ()).is_err(), "nothing of the payload is left here");
        })
    };
    assert_eq!(read(5000), Ok(()));
    assert!(read(4999).is_err());
}

#[test]
fn versions_are_agreed_on() {
    let agree = |msize, version: &[u8]| {
        let mut conn = Conn::new(Dialect::L, 1 << 20, 8);
        conn.version();
        conn.received(&frame(&Message::Rversion { msize, version }, NOTAG));
        conn.agree().map(|agreed| (agreed, conn.msize()))
    };
    assert_eq!(agree(8192, b"9P2000.L"), Ok((true, 8192)));
    assert!(agree(8192, b"9P2000").expect_err("lower").to_string().contains("9P2000"));
    assert!(agree(8192, b"unknown").is_err());
    assert!(agree(2 << 20, b"9P2000.L").is_err());
    assert!(agree(24, b"9P2000.L").is_err());
}
