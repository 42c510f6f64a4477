//! A relay driven by hand, over a session of ring9 as its far server: what is asked of the loop, in which order things
//! end, and what becomes of it where the far server vanishes, is late, or says what it must not.
#![allow(missing_docs, reason = "the names of cases say what they show")]

mod bounds;
#[path = "../support/far.rs"]
mod far;
mod limits;
mod soak;

use far::{Far, relay_to};
use ring9::arena::{Arena, Gauge};
use ring9::fs::mem::{Mem, Options};
use ring9::fs::{
    Answer, At, Call, Cancel, Done, Error, FileId, Iovec, Lock, LockKind, New, OpId, Open, Outcome, Payload, Result,
    Service, Show, Simple, User, mode,
};
use ring9::relay::Relay;
use ring9::wire::{Data, Dialect, Kind, Message, Names};

const AT: At = At { wall: ring9::fs::Time { sec: 1_000, nsec: 0 }, mono_ns: 1_000 };
const USER: User = User { uid: 0, gid: Some(0), vouched: true, peer: 1 };
const BOTH: Open = Open { read: true, write: true, ..Open::NONE };

struct World {
    relay: Relay,
    far: Far<Simple<Mem>>,
    /// What the arena of the relay counts.
    gauge: Gauge,
    serial: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let options = Options { inodes_max: 1000, hash_key: 7, root: (0, 0, 0o777), ..Options::default() };
        let mem = Mem::new(Arena::new(64 << 20).expect("a mapping"), options);
        let mut far = Far::new(Simple::from(mem), seed);
        far.msize = 1 << 20;
        let arena = Arena::new(32 << 20).expect("a mapping");
        let gauge = arena.gauge();
        let mut world = World { relay: relay_to(1 << 20, arena), far, gauge, serial: 0 };
        world.far.tree.init(AT).expect("a fresh tree starts");
        world
    }

    /// Asks, and does not wait for the answer.
    fn ask(&mut self, call: Call<'_>) -> std::result::Result<OpId, Result<Done>> {
        self.ask_to_show(call, Show::Nothing)
    }

    fn ask_to_show(&mut self, call: Call<'_>, show: Show<'_>) -> std::result::Result<OpId, Result<Done>> {
        self.serial += 1;
        let op = OpId { peer: 1, serial: self.serial };
        // A read may wait for a line that is never written.
        let unended = if let Call::Read { .. } = call { Outcome::Waiting } else { Outcome::Pending };
        match self.relay.call(op, call, show, AT) {
            Outcome::Done(Answer { result, .. }) => Err(result),
            outcome => {
                assert_eq!(outcome, unended);
                Ok(op)
            }
        }
    }

    /// Requests of this kind that have come to the far server.
    fn count(&self, kind: Kind) -> usize {
        self.far.heard.iter().filter(|heard| **heard == kind).count()
    }

    fn settle(&mut self) {
        self.far.settle(&mut self.relay, AT);
    }

    /// What can be finished now, in order.
    fn ready(&mut self) -> Vec<OpId> {
        std::iter::from_fn(|| self.relay.ready()).collect()
    }

    fn finish(&mut self, op: OpId, show: Show<'_>) -> Result<Done> {
        match self.relay.finish(op, show, AT) {
            Outcome::Done(Answer { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    /// One call from its beginning to its end.
    fn does_and_shows(&mut self, call: Call<'_>, show: Show<'_>) -> Result<Done> {
        match self.ask(call) {
            Err(result) => {
                self.settle();
                result
            }
            Ok(op) => {
                self.settle();
                assert_eq!(self.ready(), [op]);
                self.finish(op, show)
            }
        }
    }

    fn does(&mut self, call: Call<'_>) -> Result<Done> {
        self.does_and_shows(call, Show::Nothing)
    }

    fn attach(&mut self) -> Result<FileId> {
        self.attach_as(USER)
    }

    fn attach_as(&mut self, user: User) -> Result<FileId> {
        match self.does(Call::Attach { user, aname: b"" })? {
            Done::File { file, .. } => Ok(file),
            other => panic!("{other:?}"),
        }
    }

    fn walk(&mut self, from: FileId, names: &[&[u8]]) -> Result<FileId> {
        match self.does(Call::Walk { from, names: Names::list(names), dots: true })? {
            Done::Walked(Some(file)) => Ok(file),
            Done::Walked(None) => Err(Error::ENOENT),
            other => panic!("{other:?}"),
        }
    }

    /// A new file, open for both.
    fn create(&mut self, root: FileId, name: &[u8]) -> FileId {
        let file = self.walk(root, &[]).expect("another one for the root");
        let new = New { flags: BOTH, mode: mode::IFREG | 0o666, ..New::default() };
        let made = self.does(Call::Create { dir: file, name, new });
        assert!(matches!(made, Ok(Done::Opened { .. })), "{made:?}");
        file
    }

    fn read(&mut self, file: FileId, offset: u64, room: u32) -> Result<Vec<u8>> {
        let mut unused = Iovec::default();
        match self.ask_to_show(Call::Read { file, offset }, Show::Data(unused.out(room))) {
            Err(result) => result.map(|_| Vec::new()),
            Ok(op) => {
                self.settle();
                assert_eq!(self.ready(), [op]);
                self.shown(op, room)
            }
        }
    }

    fn shown(&mut self, op: OpId, room: u32) -> Result<Vec<u8>> {
        let mut bytes = Iovec::default();
        let result = self.finish(op, Show::Data(bytes.out(room)));
        result.map(|_| bytes.to_vec())
    }

    /// The end: nothing is left over on either side.
    fn ends(mut self) {
        self.relay.retire(AT);
        self.settle();
        assert!(!self.relay.has_asks() && self.far.in_flight() == 0 && self.far.connections() == 0);
        assert_eq!(self.far.tree.held(), 0);
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// The far server is asked in the best dialect that it speaks, and pieces of bytes may be cut anywhere.
#[test]
fn files_are_made_and_read_in_each_dialect_and_in_pieces_of_any_size() {
    for (seed, dialect) in (0..).zip(Dialect::ALL) {
        for piece_max in [1, 3, 60, 5000, 2 << 20] {
            let mut world = World::new(seed);
            (world.far.dialect, world.far.piece_max) = (dialect, piece_max);
            let root = world.attach().expect("the root");
            let len = if piece_max < 60 { 500 } else { 300_000 };
            let file = world.create(root, b"f");
            let data = pattern(len);
            assert_eq!(world.does(Call::Write { file, offset: 0, data: &data }), Ok(Done::Count(len as u32)));
            assert_eq!(world.read(file, 0, len as u32 + 10), Ok(data.clone()));
            assert_eq!(world.read(file, 7, 100).as_deref(), Ok(&data[7..107]));
            let again = world.walk(root, &[b"f"]).expect("it is there");
            for file in [file, again, root] {
                assert_eq!(world.does(Call::Close { file }), Ok(Done::Nothing));
            }
            assert_eq!((world.relay.held(), world.far.tree.held()), (0, 0));
            assert_eq!(world.count(Kind::TVERSION), 3 - dialect as usize);
            world.ends();
        }
    }
}

/// The payload of a large read comes into memory of the arena, and that of a large write leaves from there.
#[test]
fn large_payloads_land_in_the_arena_and_leave_from_it() {
    let mut world = World::new(1);
    world.far.piece_max = 40_000;
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(700_000);
    let Ok(Payload::Memory(mut grant)) = world.relay.grant(file, 0, data.len() as u32, AT) else { panic!("memory") };
    assert_eq!(grant.space.fill(&data), data.len());
    assert_eq!(world.does(Call::Commit { file, grant }), Ok(Done::Count(data.len() as u32)));
    assert!(world.far.gathered >= 700_000 / (64 << 10), "{} views", world.far.gathered);
    let counts = |world: &World| (world.gauge.landed_bytes(), world.gauge.filled_bytes());
    let (landed_before, filled_before) = counts(&world);
    assert_eq!(world.read(file, 0, 1 << 20), Ok(data.clone()));
    let landed: usize = world.far.landed.iter().sum();
    assert!(landed > 600_000, "{:?}", world.far.landed);
    // What came along with the head was copied.
    let (landed_now, filled_now) = counts(&world);
    assert!(landed < data.len());
    assert_eq!((landed_now - landed_before, filled_now - filled_before), (landed, data.len() - landed));
    for file in [file, root] {
        world.does(Call::Close { file }).expect("nothing to do");
    }
    world.ends();
}

/// A message of the far server may be smaller than one of the peer.
#[test]
fn what_does_not_fit_one_message_goes_in_parts() {
    let mut world = World::new(11);
    world.far.msize = 64 << 10;
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(300_000);
    let Ok(Payload::Memory(mut grant)) = world.relay.grant(file, 5, data.len() as u32, AT) else { panic!("memory") };
    grant.space.fill(&data);
    assert_eq!(world.does(Call::Commit { file, grant }), Ok(Done::Count(data.len() as u32)));
    assert_eq!(world.count(Kind::TWRITE), 5);
    let mut read = Vec::new();
    while read.len() < data.len() {
        let part = world.read(file, 5 + read.len() as u64, 1 << 20).expect("it may");
        assert!(!part.is_empty());
        read.extend(part);
    }
    assert!(read == data);
}

/// Each request has its reply, in whatever order they are made and waited for.
#[test]
fn many_requests_are_in_flight_and_those_without_a_tag_wait() {
    let mut world = World::new(2);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(4096);
    world.does(Call::Write { file, offset: 0, data: &data }).expect("room");
    let mut unused = Iovec::default();
    let ops: Vec<OpId> = (0..300)
        .map(|offset| {
            let out = unused.out(8);
            world.ask_to_show(Call::Read { file, offset }, Show::Data(out)).expect("it has to wait")
        })
        .collect();
    world.settle();
    assert_eq!(world.ready(), ops);
    for (op, offset) in ops.into_iter().zip(0..) {
        assert_eq!(world.shown(op, 8).as_deref(), Ok(&data[offset..offset + 8]));
    }
    world.does(Call::Close { file }).expect("nothing to do");
    world.does(Call::Close { file: root }).expect("nothing to do");
    world.ends();
}

/// All that is pending answers EIO, all files of that connection do from then on, and the next attach connects anew.
#[test]
fn a_far_server_that_vanishes_takes_its_files_with_it() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        world.far.piece_max = 50;
        let root = world.attach().expect("the root");
        let file = world.create(root, b"f");
        world.does(Call::Write { file, offset: 0, data: &pattern(1000) }).expect("room");
        let large = world.create(root, b"large");
        world.does(Call::Write { file: large, offset: 0, data: &pattern(40_000) }).expect("room");
        let mut unused = Iovec::default();
        let mut ops = Vec::new();
        for offset in 0..20 {
            let out = unused.out(100);
            ops.push(world.ask_to_show(Call::Read { file, offset }, Show::Data(out)).expect("it has to wait"));
        }
        let out = unused.out(40_000);
        ops.push(world.ask_to_show(Call::Read { file: large, offset: 0 }, Show::Data(out)).expect("it waits"));
        let names: [&[u8]; 1] = [b"f"];
        ops.push(world.ask(Call::Walk { from: root, names: Names::list(&names), dots: true }).expect("it waits"));
        // The steps of the last seeds end within the large payload.
        for _ in 0..seed * 5 {
            world.far.step(&mut world.relay, AT);
        }
        world.far.vanish(AT);
        world.settle();
        let mut ready = world.ready();
        ready.sort();
        assert_eq!(ready, ops, "each has ended once");
        let results: Vec<_> = ops.iter().map(|&op| world.shown(op, 40_000).err()).collect();
        let answered = results.iter().filter(|result| result.is_none()).count();
        assert!(results.iter().skip(answered).all(|error| *error == Some(Error::EIO)), "{results:?}");
        assert_eq!(world.read(file, 0, 10), Err(Error::EIO));
        assert_eq!(world.does(Call::Fsync { file, data_only: false }), Err(Error::EIO));
        // A new connection has fids of the same numbers: old files are not mistaken for new ones.
        let new_root = world.attach().expect("a new connection");
        assert_eq!(world.far.connections(), 1);
        assert_eq!(world.read(file, 0, 10), Err(Error::EIO));
        let again = world.walk(new_root, &[b"f"]).expect("the file is still there");
        // The last operations may have answered with a file.
        assert!(world.relay.held() >= 4);
        for file in [root, file, large, new_root, again] {
            assert_eq!(world.does(Call::Close { file }), Ok(Done::Nothing));
        }
        world.relay.retire(AT);
        world.settle();
        assert_eq!((world.far.connections(), world.far.in_flight()), (0, 0));
    }
}

/// What is left of a payload is not looked for in what the next connection says.
#[test]
fn a_payload_that_has_begun_goes_with_its_connection() {
    let mut world = World::new(12);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    world.does(Call::Write { file, offset: 0, data: &pattern(900_000) }).expect("room");
    world.far.stalls_payloads = true;
    let mut unused = Iovec::default();
    let read = world.ask_to_show(Call::Read { file, offset: 0 }, Show::Data(unused.out(900_000))).expect("it waits");
    world.settle();
    assert_eq!(world.ready(), []);
    world.far.vanish(AT);
    world.settle();
    assert_eq!(world.ready(), [read]);
    assert_eq!(world.shown(read, 900_000), Err(Error::EIO));
    let root = world.attach().expect("a new connection");
    world.does(Call::Stat { file: root, target: false }).expect("it speaks 9P");
}

/// The next attempt waits for a timer, and answers those that want it.
#[test]
fn a_connection_that_cannot_be_made_is_tried_again_by_a_timer() {
    let mut world = World::new(3);
    world.far.refuses = true;
    assert_eq!(world.attach(), Err(Error(111)));
    let waits = world.ask(Call::Attach { user: USER, aname: b"" }).expect("it waits for the timer");
    world.settle();
    assert_eq!((world.ready(), world.far.connections()), (vec![], 0));
    world.far.refuses = false;
    assert_eq!(world.far.ring(&mut world.relay, AT), [100_000_000]);
    world.settle();
    assert_eq!(world.ready(), [waits]);
    assert!(matches!(world.finish(waits, Show::Nothing), Ok(Done::File { .. })));
    world.relay.retire(AT);
    world.settle();
    assert!(!world.relay.has_asks());
}

/// A server that accepts a connection and says nothing is given up after 10 s.
#[test]
fn a_silent_greeting_ends_with_a_timer() {
    let mut world = World::new(4);
    world.far.is_silent = true;
    let attach = world.ask(Call::Attach { user: USER, aname: b"" }).expect("it waits");
    world.settle();
    assert_eq!(world.ready(), []);
    assert_eq!(world.far.ring(&mut world.relay, AT), [10_000_000_000]);
    world.settle();
    assert_eq!(world.ready(), [attach]);
    assert_eq!(world.finish(attach, Show::Nothing), Err(Error::EIO));
    world.ends();
}

/// flush(9P): a request that has no reply before that of its flush has none at all, and its tag is free again.
#[test]
fn a_flushed_request_ends_and_its_tag_is_used_again() {
    let mut world = World::new(5);
    let root = world.attach().expect("the root");
    world.far.is_silent = true;
    let fsync = world.ask(Call::Fsync { file: root, data_only: false }).expect("it waits");
    world.settle();
    assert_eq!((world.relay.cancel(fsync), world.relay.cancel(fsync)), (Cancel::TooLate, Cancel::TooLate));
    world.settle();
    assert_eq!(world.count(Kind::TFLUSH), 1);
    assert_eq!(world.ready(), []);
    // Its reply was on its way: it is answered, and the flush behind it changes nothing.
    world.far.is_silent = false;
    world.settle();
    assert_eq!(world.ready(), [fsync]);
    assert_eq!(world.finish(fsync, Show::Nothing), Ok(Done::Nothing));
    // The same where the far server has thrown it away.
    world.far.is_silent = true;
    let lost = world.ask(Call::Fsync { file: root, data_only: false }).expect("it waits");
    world.settle();
    world.far.forget();
    assert_eq!(world.relay.cancel(lost), Cancel::TooLate);
    world.far.is_silent = false;
    world.settle();
    assert_eq!(world.ready(), [lost]);
    assert_eq!(world.finish(lost, Show::Nothing), Err(Error::EINTR));
    for _ in 0..1000 {
        world.does(Call::Stat { file: root, target: false }).expect("tags are left");
    }
    world.does(Call::Close { file: root }).expect("nothing to do");
    world.ends();
}

/// The tag of a reply that has begun may be that of another request already.
#[test]
fn a_read_whose_payload_is_arriving_is_not_flushed() {
    let mut world = World::new(13);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(900_000);
    world.does(Call::Write { file, offset: 0, data: &data }).expect("room");
    world.far.stalls_payloads = true;
    let mut unused = Iovec::default();
    let read = world.ask_to_show(Call::Read { file, offset: 0 }, Show::Data(unused.out(900_000))).expect("it waits");
    world.settle();
    assert_eq!(world.relay.cancel(read), Cancel::TooLate);
    world.settle();
    assert!(!world.far.heard.contains(&Kind::TFLUSH));
    world.far.stalls_payloads = false;
    world.settle();
    assert_eq!(world.ready(), [read]);
    assert!(world.shown(read, 900_000) == Ok(data));
}

/// What the far server has not been asked for is taken back without a word.
#[test]
fn what_waits_for_a_tag_is_taken_back() {
    let mut world = World::new(6);
    let root = world.attach().expect("the root");
    let ops: Vec<OpId> =
        (0..130).map(|_| world.ask(Call::Stat { file: root, target: false }).expect("it waits")).collect();
    assert_eq!(world.relay.cancel(ops[129]), Cancel::Cancelled);
    world.settle();
    assert_eq!(world.ready(), ops[..129]);
    assert!(!world.far.heard.contains(&Kind::TFLUSH));
    assert_eq!(world.count(Kind::TGETATTR), 129);
}

/// Sizes, tags, types and counts that were not agreed on or asked for end the connection.
#[test]
fn rubbish_ends_the_connection() {
    let frame = |tag: u16, message: &Message<'_>| {
        let mut bytes = Vec::new();
        message.emit(tag, Dialect::L, &mut bytes);
        bytes
    };
    let long = pattern(200);
    let qids = [ring9::wire::Qid::default(); 3];
    let qids = ring9::wire::Qids::list(&qids);
    let cases: Vec<Vec<u8>> = vec![
        vec![0xff, 0xff, 0xff, 0x7f, 117, 0, 0, 1, 2, 3],
        vec![3, 0, 0, 0, 117, 0, 0],
        frame(77, &Message::Rclunk {}),
        frame(0xffff, &Message::Rclunk {}),
        frame(0, &Message::Rwrite { count: 1 }),
        frame(0, &Message::Rread { data: Data::Here(&long) }),
        frame(0, &Message::Rwalk { wqids: qids }),
        frame(1, &Message::Rread { data: Data::Here(b"") }),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    for (number, mut bytes) in cases.into_iter().enumerate() {
        let mut world = World::new(7);
        let root = world.attach().expect("the root");
        let file = world.create(root, b"f");
        world.far.is_silent = true;
        let mut unused = Iovec::default();
        let read = world.ask_to_show(Call::Read { file, offset: 0 }, Show::Data(unused.out(100))).expect("it waits");
        world.settle();
        world.far.forget();
        if bytes[5..7] == [0, 0] {
            bytes[5..7].copy_from_slice(&world.far.tag.to_le_bytes());
        }
        world.far.says(&bytes);
        world.far.is_silent = false;
        world.settle();
        assert_eq!(world.ready(), [read], "case {number}");
        assert_eq!(world.shown(read, 100), Err(Error::EIO), "case {number}");
        assert_eq!(world.read(file, 0, 10), Err(Error::EIO));
        assert_eq!(world.far.connections(), 0, "case {number}: it is closed");
        world.attach().expect("a new connection");
    }
}

/// The far server has one peer for all of ours, so what tells their locks apart is in the names.
#[test]
fn locks_of_two_peers_exclude_each_other() {
    let mut world = World::new(8);
    let root = world.attach().expect("the root");
    let other_root = world.attach_as(User { peer: 2, ..USER }).expect("the root");
    let file = world.create(root, b"f");
    let other = world.walk(other_root, &[b"f"]).expect("it is there");
    world.does(Call::Open { file: other, flags: BOTH }).expect("it may");
    let lock = Lock { kind: LockKind::Exclusive, range: 0..10, process: 9, client: b"host:1" };
    assert_eq!(world.does(Call::Lock { file, lock: lock.clone() }), Ok(Done::Locked(true)));
    assert_eq!(world.does(Call::Lock { file: other, lock: lock.clone() }), Ok(Done::Locked(false)));
    let mut found = None;
    let show = &mut |lock: &Lock<'_>| found = Some((lock.range.clone(), lock.process, lock.client.to_vec()));
    world.does_and_shows(Call::Conflict { file: other, lock }, Show::Lock(show)).expect("it is told");
    assert_eq!(found, Some((0..10, 9, b"host:1".to_vec())));
}

/// remove(9P) clunks, so the close behind it says nothing to the far server, which may use the number again.
#[test]
fn a_close_behind_a_removal_clunks_nothing() {
    let mut world = World::new(9);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    assert_eq!(world.does(Call::Remove { file }), Ok(Done::Nothing));
    let before = world.count(Kind::TCLUNK);
    let next = world.walk(root, &[]).expect("it may have the number of the one that was removed");
    assert_eq!(world.does(Call::Close { file }), Ok(Done::Nothing));
    assert_eq!(world.count(Kind::TCLUNK), before);
    world.does(Call::Stat { file: next, target: false }).expect("it is not clunked");
    assert_eq!(world.walk(root, &[b"f"]), Err(Error::ENOENT));
    for file in [next, root] {
        world.does(Call::Close { file }).expect("nothing to do");
    }
    world.ends();
}

/// walk(9P): what fails behind the first name is no error, and leaves no fid behind.
#[test]
fn walks_that_end_early_leave_nothing_behind() {
    for dialect in Dialect::ALL {
        let mut world = World::new(10);
        world.far.dialect = dialect;
        let root = world.attach().expect("the root");
        let file = world.create(root, b"f");
        world.does(Call::Close { file }).expect("nothing to do");
        let held = world.far.tree.held();
        let steps = |world: &mut World, names: &[&[u8]]| {
            let mut count = 0;
            let walk = Call::Walk { from: root, names: Names::list(names), dots: true };
            let walked = world.does_and_shows(walk, Show::Steps(&mut |_| count += 1));
            (walked, count)
        };
        assert_eq!(steps(&mut world, &[b"x", b"f"]), (Err(Error::ENOENT), 0));
        assert_eq!(steps(&mut world, &[b".", b"x"]), (Ok(Done::Walked(None)), 1));
        assert_eq!(steps(&mut world, &[b"..", b"x", b"f"]), (Ok(Done::Walked(None)), 1));
        assert_eq!(world.count(Kind::TCLUNK), 1, "that of the file: a walk that ends early has made no fid");
        assert_eq!(steps(&mut world, &[b".", b"..", b"a/b"]), (Ok(Done::Walked(None)), 2));
        assert_eq!(world.far.tree.held(), held, "in {dialect:?}");
        let (walked, count) = steps(&mut world, &[b".", b"..", b".", b"f"]);
        assert!(matches!(walked, Ok(Done::Walked(Some(_)))) && count == 4, "{walked:?}, {count} steps");
    }
}
