//! Clients that stall, hoard, flood and vanish, on the real ring: how each is ended or bounded,
//! that an honest client is served meanwhile, and that everything is given back.

mod support;

use nix::sys::socket::{setsockopt, sockopt};
use ring9::session::Budget;
use ring9::wire::{Dialect, Kind, Message};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use support::host::{Host, request};
use support::script::{Script, conversation, pattern};

const MIB: usize = 1 << 20;

/// An honest peer beside the others, and what the server held when only that one was there.
struct Honest {
    client: UnixStream,
    used: usize,
}

impl Honest {
    fn in_(host: &mut Host) -> Honest {
        let mut client = host.client(b"honest");
        host.ask(&mut client, |script| script.write(1, 0, &pattern(10_000, 1)));
        Honest { client, used: host.gauge.used_bytes() }
    }

    fn is_served(&mut self, host: &mut Host) {
        let reply = host.ask(&mut self.client, |script| script.read(1, 5, 9000));
        assert!(reply[4] == Kind::TREAD.0 + 1 && reply[11..] == pattern(10_000, 1)[5..9005]);
    }

    /// The others are gone, and so is all that they had.
    fn ends_alone(mut self, host: &mut Host) {
        self.is_served(host);
        host.until(|host| host.server.peers() == 1 && host.gauge.pins() == 0);
        host.turn();
        let gauge = host.gauge;
        assert_eq!((host.server.fids(), gauge.granted_bytes(), gauge.orphaned_bytes()), (2, 0, 0));
        assert_eq!((host.server.window_bytes(), host.budget.fids(), host.budget.reply_bytes()), (0, 2, 0));
        assert!(gauge.used_bytes() <= self.used + 64, "{} bytes used, {} before", gauge.used_bytes(), self.used);
    }
}

fn is_closed(client: &mut UnixStream) -> bool {
    client.set_nonblocking(true).expect("a socket");
    let mut sink = [0; 65_536];
    loop {
        match client.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A4: a frame that began and does not end; A3: however slowly bytes come, the total counts. The clients keep their
/// connections until others need them: then the one that is overdue for longest goes first.
#[test]
fn a_frame_has_a_total_deadline() {
    let mut host = Host::with(16 * MIB, |options| options.peers_max = 3);
    let address = host.listen();
    let mut honest = Honest::in_(&mut host);
    let mut silent = host.client(b"silent");
    let mut dripping = host.client(b"dripping");
    let bytes = request(|script| script.write(1, 0, &pattern(100, 1)));
    silent.write_all(&bytes[..5]).expect("room");
    for byte in &bytes[..40] {
        dripping.write_all(&[*byte]).expect("room");
        host.later(1);
        (0..3).for_each(|_| host.turn());
        honest.is_served(&mut host);
    }
    host.until(|host| host.server.overdue() == 2);
    assert!(!is_closed(&mut silent) && !is_closed(&mut dripping));
    let mut one = UnixStream::connect_addr(&address).expect("it listens");
    host.until(|_| is_closed(&mut silent));
    host.say(&mut one, &Script::new(Dialect::L).bytes);
    host.until_heard(&mut one, 19 + 2);
    assert!(!is_closed(&mut dripping), "one place was needed");
    let two = UnixStream::connect_addr(&address).expect("it listens");
    host.until(|_| is_closed(&mut dripping));
    let mut three = UnixStream::connect_addr(&address).expect("it listens");
    host.until(|_| is_closed(&mut three));
    assert_eq!((host.stats.counters.evicted.get(), host.stats.counters.refused.get()), (2, 1));
    drop((silent, dripping, one, two, three));
    honest.ends_alone(&mut host);
}

/// D9, D10: a payload of which only a part comes changes nothing, holds only its own grant, and not when others need it.
#[test]
fn a_payload_that_stalls_is_given_up() {
    let mut host = Host::new(16 * MIB);
    let mut honest = Honest::in_(&mut host);
    let mut stalled = host.client(b"stalled");
    let mut vanishing = host.client(b"vanishing");
    for client in [&mut stalled, &mut vanishing] {
        host.ask(client, |script| script.write(1, 0, b"as it was"));
        let payload = request(|script| script.write(1, 0, &pattern(500_000, 2)));
        client.write_all(&payload[..70_000]).expect("room");
    }
    host.until(|host| host.gauge.granted_bytes() >= 1_000_000);
    drop(vanishing);
    host.until(|host| host.server.peers() == 2);
    assert!(host.gauge.granted_bytes() < 1_000_000, "the grant of the one that is gone");
    honest.is_served(&mut host);
    // Others need the grant, but 30 s and 500,000 bytes at 64 KiB/s have not passed.
    host.later(36);
    let mut second = host.client(b"second");
    let payload = request(|script| script.write(1, 0, &pattern(1_000_000, 2)));
    host.say(&mut second, &payload[..70_000]);
    host.until(|host| host.gauge.granted_bytes() >= 1_500_000);
    (0..3).for_each(|_| host.turn());
    assert!(!is_closed(&mut stalled));
    host.later(3);
    host.until(|_| is_closed(&mut stalled));
    assert!(!is_closed(&mut second), "it is not overdue");
    host.say(&mut second, &payload[70_000..]);
    assert_eq!(host.until_heard(&mut second, 11)[4], Kind::TWRITE.0 + 1);
    host.ask(&mut second, |script| script.remove(1));
    drop(second);
    for name in [&b"stalled"[..], b"vanishing"] {
        host.ask(&mut honest.client, |script| script.walk(0, 5, &[name]));
        host.ask(&mut honest.client, |script| script.open(5, false));
        let reply = host.ask(&mut honest.client, |script| script.read(5, 0, 100));
        assert_eq!(reply[11..], *b"as it was");
        host.ask(&mut honest.client, |script| script.remove(5));
    }
    drop(stalled);
    honest.ends_alone(&mut host);
}

/// H5, D7: who asks and does not read is not served without end, and evicted in the end; others are served.
#[test]
fn a_peer_that_never_reads_is_held_and_then_closed() {
    let mut host = Host::new(32 * MIB);
    let mut honest = Honest::in_(&mut host);
    let mut writer = host.client(b"greedy");
    host.ask(&mut writer, |script| script.write(1, 0, &pattern(MIB - 100, 3)));
    drop(writer);
    let mut greedy = host.connect();
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[b"greedy"]).open(1, false);
    host.say(&mut greedy, &script.bytes);
    greedy.set_nonblocking(true).expect("a socket");
    let asks = request(|script| {
        for _ in 0..1000 {
            script.read(1, 0, 1_000_000);
        }
        script
    });
    let mut said = 0;
    let mut rounds = 0;
    while rounds < 2000 {
        said += greedy.write(&asks[said % asks.len()..]).unwrap_or(0);
        host.turn();
        rounds += 1;
    }
    honest.is_served(&mut host);
    let queued = host.stats.counters.replies.get();
    assert!(queued < 20, "{queued} replies to one who reads none");
    assert!(said < 4 * MIB, "the server stopped listening after {said} bytes");
    // 30 s and 3 MiB at 64 KiB/s.
    host.later(100);
    host.until(|host| host.server.overdue() == 1);
    assert_eq!(host.server.peers(), 2, "nothing that it holds is needed");
    honest.is_served(&mut host);
    host.later(12 * 3600);
    host.until(|host| host.server.peers() == 1);
    drop(greedy);
    let mut client = honest.client.try_clone().expect("a handle");
    host.ask(&mut client, |script| script.walk(0, 5, &[b"greedy"]));
    host.ask(&mut client, |script| script.remove(5));
    honest.ends_alone(&mut host);
}

/// H9: replies that nobody receives pin blocks that a writer replaces. Past a share of the memory the oldest such peer goes, and the writer never hears ENOSPC.
#[test]
fn pin_and_overwrite_evicts_the_reader_and_not_the_writer() {
    let mut host = Host::new(32 * MIB);
    let mut honest = Honest::in_(&mut host);
    let mut writer = host.client(b"file");
    let mut hoarders = Vec::new();
    for round in 0..40 {
        for at in 0..4 {
            let reply = host.ask(&mut writer, |script| script.write(1, at * 500_000, &pattern(500_000, round)));
            assert_eq!(reply[4], Kind::TWRITE.0 + 1, "round {round}: the writer is served");
        }
        let mut hoarder = host.connect();
        setsockopt(&hoarder, sockopt::RcvBuf, &4096).expect("a socket");
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[b"file"]).open(1, false).read(1, 0, 1_000_000).read(1, 1_000_000, 1_000_000);
        hoarder.write_all(&script.bytes).expect("room");
        (0..20).for_each(|_| host.turn());
        hoarders.push(hoarder);
        honest.is_served(&mut host);
    }
    let evicted = host.stats.counters.evicted.get();
    assert!(evicted > 10, "{evicted} evicted");
    let held = host.gauge.orphaned_bytes();
    assert!(held <= 32 * MIB / 8 + 3 * MIB, "{held} bytes held by replies alone");
    let gone: Vec<bool> = hoarders.iter_mut().map(is_closed).collect();
    let evicted = evicted as usize;
    assert!(gone[..evicted].iter().all(|gone| *gone) && !gone[evicted..].contains(&true), "the oldest go: {gone:?}");
    drop(hoarders);
    host.ask(&mut writer, |script| script.remove(1));
    drop(writer);
    honest.ends_alone(&mut host);
}

/// H5: while replies take all the memory that they may, the peer goes whose replies should have left for longest.
#[test]
fn replies_that_are_overdue_give_their_memory_to_those_of_others() {
    let mut host = Host::with(32 * MIB, |options| options.budget = Arc::new(Budget::new(usize::MAX, 150 << 10)));
    let mut honest = Honest::in_(&mut host);
    let mut maker = host.client(b"dir");
    for number in 0..200_u32 {
        let name = format!("{number:0>200}").into_bytes();
        assert_eq!(host.ask(&mut maker, |script| script.mkdir(0, &name))[4], Kind::TMKDIR.0 + 1);
    }
    // Each listing has 40 KiB, in 64 KiB of memory. The sockets take four of them, and are full.
    let hoards = |host: &mut Host| {
        let mut client = host.connect();
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).open(1, false);
        (0..12).for_each(|tag| {
            script.ask(Message::Treaddir { fid: 1, offset: 0, count: 60_000 + tag });
        });
        host.say(&mut client, &script.bytes);
        (0..50).for_each(|_| host.turn());
        client
    };
    let first = hoards(&mut host);
    host.later(20);
    let second = hoards(&mut host);
    assert!(host.budget.reply_bytes() >= 150 << 10, "{} bytes", host.budget.reply_bytes());
    (0..100).for_each(|_| host.turn());
    assert_eq!(host.server.peers(), 4, "20 s have passed");
    host.later(15);
    host.until(|host| host.stats.counters.evicted.get() == 1);
    (0..100).for_each(|_| host.turn());
    assert_eq!((host.server.peers(), host.stats.counters.evicted.get()), (3, 1), "one was enough");
    honest.is_served(&mut host);
    drop((first, second));
    for number in 0..200_u32 {
        let name = format!("{number:0>200}").into_bytes();
        host.ask(&mut maker, |script| script.ask(Message::Tunlinkat { dfid: 0, name: &name, flags: 0x200 }));
    }
    host.ask(&mut maker, |script| script.remove(1));
    drop(maker);
    honest.ends_alone(&mut host);
}

/// H10: a flood of cheap requests is served in portions, between which others are.
#[test]
fn a_flood_is_served_in_portions() {
    let mut host = Host::new(16 * MIB);
    let mut honest = Honest::in_(&mut host);
    let mut flooding = host.client(b"flood");
    let flood = request(|script| {
        for _ in 0..4000 {
            script.stat(1);
        }
        script
    });
    flooding.set_nonblocking(true).expect("a socket");
    let mut most = 0;
    let mut said = 0;
    for _ in 0..300 {
        said += flooding.write(&flood[said % flood.len()..]).unwrap_or(0);
        let before = host.stats.counters.replies.get();
        host.turn();
        most = most.max(host.stats.counters.replies.get() - before);
        let mut sink = [0; 1 << 16];
        while flooding.read(&mut sink).is_ok_and(|n| n == sink.len()) {}
    }
    assert!((32..=130).contains(&most), "{most} replies in one turn");
    honest.is_served(&mut host);
    let mut client = honest.client.try_clone().expect("a handle");
    drop(flooding);
    host.ask(&mut client, |script| script.walk(0, 5, &[b"flood"]));
    host.ask(&mut client, |script| script.remove(5));
    honest.ends_alone(&mut host);
}

/// H7: a peer goes after any number of bytes.
#[test]
fn a_peer_may_vanish_after_every_byte() {
    let mut host = Host::new(32 * MIB);
    let mut honest = Honest::in_(&mut host);
    let whole = conversation(Dialect::L);
    let cuts = (0..400).chain((400..whole.len()).step_by(997));
    for (count, cut) in cuts.enumerate() {
        let mut client = host.connect();
        client.set_nonblocking(true).expect("a socket");
        let (mut said, mut sink) = (0, vec![0; 1 << 16]);
        while said < cut {
            said += client.write(&whole[said..cut]).unwrap_or(0);
            host.turn();
            // Half of them listen.
            while count % 2 == 0 && client.read(&mut sink).is_ok_and(|n| n > 0) {}
            if count % 2 == 1 && said > 200_000 {
                break;
            }
        }
        if count % 3 == 0 {
            client.shutdown(Shutdown::Write).expect("a socket");
            host.turn();
        }
        drop(client);
        host.until(|host| host.server.peers() == 1);
    }
    honest.is_served(&mut host);
    // What they created is theirs no more, but there.
    let listed = host.ask(&mut honest.client, |script| script.walk(0, 7, &[b"dir"]));
    assert_eq!(listed[4], Kind::TWALK.0 + 1);
    let gauge = host.gauge;
    assert_eq!((host.server.fids(), gauge.pins(), gauge.granted_bytes()), (3, 0, 0));
}

/// C3: a connection with many fids ends, or starts anew. They are closed in parts, between which others are served.
#[test]
fn many_fids_are_closed_in_parts() {
    const FIDS: u32 = 20_000;
    const PART: usize = 64;
    for vanishes in [true, false] {
        let mut host = Host::new(16 * MIB);
        let mut honest = Honest::in_(&mut host);
        let mut client = host.client(b"many");
        for first in (2..FIDS).step_by(1000) {
            let walks = request(|script| {
                for fid in first..first + 1000 {
                    script.walk(0, fid, &[b"many"]);
                }
                script
            });
            host.say(&mut client, &walks);
            host.until_heard(&mut client, 1000 * (9 + 13));
        }
        let all = host.budget.fids();
        assert!(all > 20_000 && host.budget.fid_bytes() < all * 150, "{all} fids, {} bytes", host.budget.fid_bytes());
        let stays = if vanishes {
            drop(client);
            None
        } else {
            host.say(&mut client, &Script::new(Dialect::L).bytes);
            Some(client)
        };
        let (mut before, mut served) = (all, 0);
        host.say(&mut honest.client, &request(|script| script.stat(1)));
        honest.client.set_nonblocking(true).expect("a socket");
        while host.budget.fids() > 2 {
            host.turn();
            let now = host.budget.fids();
            assert!(before - now <= 2 * PART, "{} fids in one turn", before - now);
            before = now;
            if honest.client.read(&mut [0; 1000]).is_ok() {
                served += 1;
                honest.client.write_all(&request(|script| script.stat(1))).expect("room");
            }
        }
        assert!(served > 50, "{served} requests of others were served meanwhile");
        honest.client.set_nonblocking(false).expect("a socket");
        host.until_heard(&mut honest.client, 160);
        drop(stays);
        host.ask(&mut honest.client, |script| script.walk(0, 5, &[b"many"]));
        host.ask(&mut honest.client, |script| script.remove(5));
        honest.ends_alone(&mut host);
    }
}

/// H8: who has said all and still listens hears all.
#[test]
fn a_half_closed_peer_hears_its_replies() {
    let mut host = Host::new(16 * MIB);
    let honest = Honest::in_(&mut host);
    let mut client = host.client(b"half");
    host.ask(&mut client, |script| script.write(1, 0, &pattern(900_000, 4)));
    let asks = request(|script| script.read(1, 0, 900_000).read(1, 0, 900_000).remove(1));
    client.write_all(&asks).expect("room");
    client.shutdown(Shutdown::Write).expect("a socket");
    let heard = host.until_heard(&mut client, 2 * (11 + 900_000) + 7);
    assert!(heard[11..900_011] == pattern(900_000, 4) && heard[heard.len() - 3] == Kind::TREMOVE.0 + 1);
    host.until(|_| is_closed(&mut client));
    honest.ends_alone(&mut host);
}

/// H14: while the server was stopped nobody was late.
#[test]
fn time_in_which_the_server_was_stopped_does_not_count() {
    let mut host = Host::new(16 * MIB);
    let honest = Honest::in_(&mut host);
    let mut slower = host.client(b"slower");
    let mut slow = host.client(b"slow");
    let bytes = request(|script| script.write(1, 0, &pattern(100, 1)).remove(1));
    slower.write_all(&bytes[..5]).expect("room");
    host.later(11);
    slow.write_all(&bytes[..5]).expect("room");
    host.later(10);
    host.jump(100_000);
    host.later(10);
    // Who began first is overdue now, by a second. For the server 20 s have passed for the other one.
    host.until(|host| host.server.overdue() > 0);
    assert_eq!(host.server.overdue(), 1);
    assert!(!is_closed(&mut slower), "12 hours have not passed for the server");
    for client in [&mut slower, &mut slow] {
        client.set_nonblocking(false).expect("a socket");
        client.write_all(&bytes[5..]).expect("room");
        let heard = host.until_heard(client, 11 + 7);
        assert_eq!(heard[4], Kind::TWRITE.0 + 1);
    }
    drop((slower, slow));
    honest.ends_alone(&mut host);
}

/// A4, H6: a machine that is paused in the middle of a write, and of its replies, goes on where it was.
#[test]
fn a_client_that_is_paused_for_minutes_goes_on() {
    let mut host = Host::new(32 * MIB);
    let honest = Honest::in_(&mut host);
    let mut client = host.client(b"paused");
    let write = request(|script| script.write(1, 0, &pattern(900_000, 4)));
    host.say(&mut client, &write[..300_000]);
    host.later(600);
    host.until(|host| host.server.overdue() == 1);
    host.say(&mut client, &write[300_000..]);
    assert_eq!(host.until_heard(&mut client, 11)[4], Kind::TWRITE.0 + 1);
    host.say(&mut client, &request(|script| script.read(1, 0, 900_000).remove(1)));
    (0..20).for_each(|_| host.turn());
    host.later(600);
    host.until(|host| host.server.overdue() == 1);
    let heard = host.until_heard(&mut client, 11 + 900_000 + 7);
    assert!(heard[11..900_011] == pattern(900_000, 4) && heard[heard.len() - 3] == Kind::TREMOVE.0 + 1);
    drop(client);
    honest.ends_alone(&mut host);
}

/// A4: between two messages a client has all the time that it wants.
#[test]
fn a_client_that_is_quiet_for_days_goes_on() {
    let mut host = Host::new(32 * MIB);
    let honest = Honest::in_(&mut host);
    let mut client = host.client(b"quiet");
    host.later(3 * 24 * 3600);
    // The look at deadlines that finds this one late has looked at all of them.
    let mut late = host.client(b"late");
    host.say(&mut late, &request(|script| script.write(1, 0, &pattern(900_000, 4)))[..300_000]);
    host.later(600);
    host.until(|host| host.server.overdue() > 0);
    assert_eq!(host.server.overdue(), 1);
    drop(late);
    host.say(&mut client, &request(|script| script.read(1, 0, 100).remove(1)));
    assert_eq!(host.until_heard(&mut client, 11 + 7)[4], Kind::TREAD.0 + 1);
    drop(client);
    honest.ends_alone(&mut host);
}

/// D7, H5: the heads of replies that wait for room lie where those of other peers do. Each peer hears its own.
#[test]
fn replies_that_wait_keep_their_heads() {
    let mut host = Host::new(32 * MIB);
    let honest = Honest::in_(&mut host);
    // No two peers ask alike, so that no head is like another.
    let counts = [(300_000, 1000), (310_000, 2000), (320_000, 3000)];
    let mut clients = Vec::new();
    for (number, name) in [&b"first"[..], b"second", b"third"].into_iter().enumerate() {
        let (mut client, (large, small)) = (host.client(name), counts[number]);
        host.ask(&mut client, |script| script.write(1, 0, &pattern(320_000, number)));
        // A socket takes about 200 KiB, twice: the second time with the head of the second reply, which was put in its slot before the other peers came.
        host.say(&mut client, &request(|script| script.read(1, 0, large).read(1, 100, small).remove(1)));
        (0..20).for_each(|_| host.turn());
        clients.push(client);
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let (large, small) = (counts[number].0 as usize, counts[number].1 as usize);
        let heard = host.until_heard(&mut client, 11 + large + 11 + small + 7);
        let (first, rest) = heard.split_at(11 + large);
        let (second, third) = rest.split_at(11 + small);
        let size = |bytes: &[u8]| ring9::wire::head(bytes).expect("a head").size as usize;
        assert_eq!((size(first), size(second), size(third)), (first.len(), second.len(), 7), "heads of peer {number}");
        let file = pattern(320_000, number);
        assert!(first[11..] == file[..large] && second[11..] == file[100..100 + small]);
    }
    honest.ends_alone(&mut host);
}
