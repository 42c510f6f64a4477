//! What a far server says and does not say, and what one client may take from the others.

use super::{AT, BOTH, USER, World, pattern};
use ring9::fs::{
    Call, Cancel, Change, Done, Error, FileId, Iovec, Lock, LockKind, Make, New, OpId, Open, Outcome, Service,
    SetXattr, Show, User, mode,
};
use ring9::wire::{Dialect, Kind, Message, Names, UOnly};

const LONG: usize = 65_500;
/// Between two looks at what has a deadline.
const WATCH_NS: u64 = 5_000_000_000;

impl World {
    /// This is what the far server says in place of its reply to the last request.
    fn says_instead(&mut self, message: &Message<'_>) {
        self.far.forget();
        let mut bytes = Vec::new();
        message.emit(self.far.tag, self.far.dialect, &mut bytes);
        self.far.says(&bytes);
        self.far.is_silent = false;
        self.settle();
    }

    /// Executes asks until the far server has had a request of this kind, which it does not answer.
    fn until(&mut self, kind: Kind) {
        self.far.heard.clear();
        while !self.far.heard.contains(&kind) {
            assert!(self.far.step(&mut self.relay, AT), "it is not asked for {kind:?}");
        }
        self.far.is_silent = true;
        self.settle();
    }

    fn ended(&mut self, op: OpId) -> Result<Done, Error> {
        assert_eq!(self.ready(), [op]);
        self.finish(op, Show::Nothing)
    }

    fn symlink(&mut self, dir: FileId, name: &[u8], target: &[u8]) -> Result<Done, Error> {
        let what = Make::Symlink(target);
        self.does(Call::Make { dir, name, what, mode: 0o777, gid: None, enter: false })
    }
}

/// A stat record has 16 bits for its size. A far server in .L may name a target that no record of a client in .u holds,
/// and a record may nearly fill them before the names of users are added.
#[test]
fn texts_that_are_too_long_are_refused() {
    let mut world = World::new(20);
    let root = world.attach().expect("the root");
    world.symlink(root, b"l", b"target").expect("room");
    let link = world.walk(root, &[b"l"]).expect("it is there");
    let long = vec![b'x'; LONG];
    for call in [Call::ReadLink { file: link }, Call::Stat { file: link, target: true }] {
        let op = world.ask(call).expect("it waits");
        world.until(Kind::TREADLINK);
        world.says_instead(&Message::Rreadlink { target: &long });
        assert_eq!(world.ended(op), Err(Error::EPROTO));
    }
    for dialect in [Dialect::U, Dialect::P9] {
        let mut world = World::new(21);
        world.far.dialect = dialect;
        let root = world.attach().expect("the root");
        for is_link in [false, true] {
            let op = world.ask(Call::Stat { file: root, target: false }).expect("it waits");
            world.until(Kind::TSTAT);
            let (name, extension) = if is_link { (&b"l"[..], &long[..60_000]) } else { (&long[..60_000], &b""[..]) };
            let mode = if is_link { ring9::wire::dm::SYMLINK } else { 0 };
            let stat = ring9::wire::Stat { name, extension: UOnly(extension), mode, ..ring9::wire::Stat::dont_touch() };
            world.says_instead(&Message::Rstat { stat });
            let is_refused = !is_link || dialect == Dialect::U;
            assert_eq!(world.ended(op), if is_refused { Err(Error::EPROTO) } else { Ok(Done::Nothing) });
        }
    }
}

/// A far server may never answer a request, nor its Tflush.
#[test]
fn what_changes_nothing_is_taken_back_whatever_the_far_server_says() {
    for answers in [true, false] {
        let mut world = World::new(22);
        let root = world.attach().expect("the root");
        let file = world.create(root, b"f");
        let held = (world.relay.held(), world.far.tree.held());
        world.far.is_silent = true;
        world.far.heard.clear();
        let mut unused = Iovec::default();
        let names: [&[u8]; 1] = [b"f"];
        let calls = [
            Call::Read { file, offset: 0 },
            Call::Stat { file, target: false },
            Call::List { dir: root, cookie: 0, stats: true },
            Call::Walk { from: root, names: Names::list(&names), dots: true },
            Call::Xattr { file, name: b"user.a" },
            Call::StatFs { file },
            Call::Attach { user: USER, aname: b"" },
        ];
        let ops = calls.map(|call| world.ask_to_show(call, Show::Data(unused.out(100))).expect("it waits"));
        world.settle();
        for op in ops {
            assert_eq!(world.relay.cancel(op), Cancel::Cancelled);
        }
        world.settle();
        assert_eq!(world.count(Kind::TFLUSH), ops.len());
        if !answers {
            world.far.forget();
        }
        world.far.is_silent = false;
        world.settle();
        assert_eq!((world.ready(), world.relay.held()), (vec![], held.0));
        // A walk that was flushed may have made its fid. That of a walk whose end is not known is not used again.
        assert!(!answers || world.far.tree.held() == held.1);
        for _ in 0..300 {
            let walked = world.walk(root, &[b"f"]).expect("fids and tags are left");
            world.does(Call::Close { file: walked }).expect("nothing to do");
        }
        assert_eq!(world.far.ring(&mut world.relay, AT), [], "nothing has a deadline");
    }
}

/// An operation that has changed something is waited for after its Tflush, but for 20 s at most.
#[test]
fn a_tflush_without_an_answer_ends_the_connection() {
    let mut world = World::new(23);
    let root = world.attach().expect("the root");
    world.far.is_silent = true;
    let op = world.ask(Call::Fsync { file: root, data_only: false }).expect("it waits");
    world.settle();
    assert_eq!(world.far.ring(&mut world.relay, AT), [], "it may take any time");
    assert_eq!(world.relay.cancel(op), Cancel::TooLate);
    for _ in 0..3 {
        world.settle();
        assert_eq!(world.far.ring(&mut world.relay, AT), [WATCH_NS]);
    }
    assert_eq!(world.ready(), []);
    world.settle();
    assert_eq!(world.far.ring(&mut world.relay, AT), [WATCH_NS]);
    assert_eq!(world.ended(op), Err(Error::EIO));
    world.settle();
    assert_eq!(world.far.connections(), 0);
}

/// A message that has begun has to come to its end.
#[test]
fn a_message_that_has_begun_has_a_deadline() {
    let mut world = World::new(24);
    world.attach().expect("the root");
    world.far.says(&[100, 0, 0, 0, 117]);
    // 30 s, and 16 s for 1 MiB of msize: 10 looks of 5 s. The next one is too late.
    for _ in 0..10 {
        world.settle();
        assert_eq!(world.far.ring(&mut world.relay, AT), [WATCH_NS]);
    }
    world.settle();
    assert_eq!(world.far.connections(), 1);
    world.far.ring(&mut world.relay, AT);
    world.settle();
    assert_eq!(world.far.connections(), 0);
}

/// A client whose requests never end leaves tags to the others, and to its own requests that are no reads.
#[test]
fn one_peer_leaves_tags_to_the_others() {
    let mut world = World::new(25);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    world.far.is_silent = true;
    world.far.heard.clear();
    let mut unused = Iovec::default();
    for _ in 0..200 {
        world.ask_to_show(Call::Read { file, offset: 0 }, Show::Data(unused.out(10))).expect("it waits");
    }
    world.settle();
    assert_eq!(world.count(Kind::TREAD), 32);
    for _ in 0..200 {
        world.ask(Call::Stat { file, target: false }).expect("it waits");
    }
    world.settle();
    assert_eq!(world.count(Kind::TGETATTR), 32);
    for (serial, call) in [(1, Call::Stat { file, target: false }), (2, Call::Read { file, offset: 0 })] {
        let op = OpId { peer: 2, serial };
        assert!(!matches!(world.relay.call(op, call, Show::Nothing, AT), Outcome::Done(_)));
    }
    world.settle();
    assert_eq!((world.count(Kind::TREAD), world.count(Kind::TGETATTR)), (33, 33));
    world.far.is_silent = false;
    world.settle();
    assert_eq!(world.ready().len(), 402);
}

/// A request that the far server cannot receive would end the connection of all clients.
#[test]
fn requests_that_are_too_large_are_refused() {
    let mut world = World::new(26);
    world.far.msize = 4096;
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let long = vec![b'x'; 4095];
    assert_eq!(world.symlink(root, b"l", &long), Err(Error::EMSGSIZE));
    let names = vec![&long[..255]; 16];
    assert_eq!(world.walk(root, &names), Err(Error::EMSGSIZE));
    let aname = vec![b'x'; 4096];
    assert_eq!(world.does(Call::Attach { user: USER, aname: &aname }), Err(Error::ENAMETOOLONG));
    let lock = Lock { kind: LockKind::Exclusive, range: 0..10, process: 9, client: &long[..256] };
    assert_eq!(world.does(Call::Lock { file, lock: lock.clone() }), Err(Error::ENAMETOOLONG));
    assert_eq!(world.does(Call::Conflict { file, lock }), Err(Error::ENAMETOOLONG));
    assert_eq!(world.does(Call::Xattr { file, name: &long[..256] }), Err(Error::ERANGE));
    // A write goes in parts.
    let data = pattern(10_000);
    assert_eq!(world.does(Call::Write { file, offset: 0, data: &data }), Ok(Done::Count(10_000)));
    assert_eq!(world.far.connections(), 1);
    world.does(Call::Stat { file, target: false }).expect("the connection stands");
    let mut world = World::new(27);
    world.far.msize = 4095;
    assert_eq!(world.attach(), Err(Error::EPROTO));
}

/// A far server allows few fids of attributes for a peer, and all clients are one peer.
#[test]
fn an_attribute_that_was_read_has_no_fid() {
    let mut world = World::new(28);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let (name, value) = (&b"user.a"[..], Some(&b"value"[..]));
    world.does(Call::SetXattr { file, name, value, how: SetXattr::Any }).expect("room");
    let held = (world.relay.held(), world.far.tree.held());
    for _ in 0..100 {
        // The session has no memory for it.
        let refuses = &mut |_: &[u8]| Err(Error::ENOSPC);
        assert_eq!(world.does_and_shows(Call::Xattr { file, name }, Show::Bytes(refuses)), Err(Error::ENOSPC));
    }
    assert_eq!((world.relay.held(), world.far.tree.held()), held);
    let attributes: Vec<FileId> = (0..100)
        .map(|_| match world.does(Call::Xattr { file, name }) {
            Ok(Done::File { file, .. }) => file,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((world.relay.held(), world.far.tree.held()), (held.0 + 100, held.1));
    for file in attributes {
        assert_eq!(world.does(Call::Close { file }), Ok(Done::Nothing));
    }
    assert_eq!((world.relay.held(), world.far.tree.held()), held);
}

/// A client that leaves with many fids leaves tags to the others.
#[test]
fn a_close_is_done_at_once() {
    let mut world = World::new(29);
    let root = world.attach().expect("the root");
    let held = world.far.tree.held();
    let files: Vec<FileId> = (0..3000).map(|_| world.walk(root, &[]).expect("another one")).collect();
    world.far.is_silent = true;
    world.far.heard.clear();
    for file in files {
        assert_eq!(world.ask(Call::Close { file }), Err(Ok(Done::Nothing)));
    }
    world.settle();
    assert!(!world.relay.is_behind());
    assert!(world.count(Kind::TCLUNK) < 100, "tags are left to the others");
    world.far.is_silent = false;
    world.settle();
    assert_eq!((world.relay.held(), world.far.tree.held()), (1, held));
}

/// flush(9P): of a write that goes in parts those behind the flush are not written.
#[test]
fn an_operation_that_is_given_up_does_not_go_on() {
    let mut world = World::new(30);
    world.far.msize = 64 << 10;
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(600_000);
    let op = world.ask(Call::Write { file, offset: 0, data: &data }).expect("it waits");
    world.until(Kind::TWRITE);
    assert_eq!(world.relay.cancel(op), Cancel::TooLate);
    world.far.is_silent = false;
    world.settle();
    let chunk = (64 << 10) - 24;
    assert_eq!(world.ended(op), Ok(Done::Count(chunk)));
    // A listing has changed nothing.
    let held = world.far.tree.held();
    let dir = world.walk(root, &[]).expect("another one");
    let flags = Open { read: true, ..Open::NONE };
    world.does(Call::Open { file: dir, flags }).expect("it may");
    let op = world.ask(Call::List { dir, cookie: 0, stats: true }).expect("it waits");
    world.until(Kind::TWALK);
    assert_eq!(world.relay.cancel(op), Cancel::Cancelled);
    world.far.is_silent = false;
    world.settle();
    assert_eq!((world.ready(), world.far.tree.held()), (vec![], held + 1));
}

/// walk(9P): a clone that the far server refuses has taken no step.
#[test]
fn a_walk_to_the_same_file_may_be_refused() {
    let mut world = World::new(31);
    let root = world.attach().expect("the root");
    for names in [&[][..], &[&b"."[..]][..]] {
        let walk = Call::Walk { from: root, names: Names::list(names), dots: true };
        let op = world.ask(walk).expect("it waits");
        world.until(Kind::TWALK);
        world.says_instead(&Message::Rlerror { ecode: 24 });
        assert_eq!(world.ended(op), Err(Error(24)));
    }
}

/// open(2): what is there already is opened as it was asked for.
#[test]
fn flags_that_the_dialect_cannot_say_hold_for_what_is_there() {
    let mut world = World::new(32);
    (world.far.dialect, world.far.msize) = (Dialect::P9, 64 << 10);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    world.does(Call::Write { file, offset: 0, data: b"one" }).expect("room");
    let again = world.walk(root, &[]).expect("another one");
    let flags = Open { append: true, ..BOTH };
    let new = New { flags, mode: mode::IFREG | 0o666, or_open: true, ..New::default() };
    let opened = world.does(Call::Create { dir: again, name: b"f", new });
    let Ok(Done::Opened { iounit, .. }) = opened else { panic!("{opened:?}") };
    assert_eq!(iounit, (64 << 10) - 24, "no more than one message has");
    world.does(Call::Write { file: again, offset: 0, data: b"two" }).expect("room");
    assert_eq!(world.read(file, 0, 10).as_deref(), Ok(&b"onetwo"[..]));
}

/// read(9P): a listing from the start shows what is there then.
#[test]
fn a_listing_from_the_start_is_read_anew() {
    let mut world = World::new(33);
    world.far.dialect = Dialect::U;
    let root = world.attach().expect("the root");
    world.create(root, b"a");
    let dir = world.walk(root, &[]).expect("another one");
    world.does(Call::Open { file: dir, flags: Open { read: true, ..Open::NONE } }).expect("it may");
    let list = |world: &mut World, count: usize| {
        let mut names = Vec::new();
        let each = &mut |entry: &ring9::fs::Entry<'_>| {
            if names.len() < count {
                names.push(entry.stat.name.to_vec());
                return true;
            }
            false
        };
        let call = Call::List { dir, cookie: 0, stats: true };
        world.does_and_shows(call, Show::Entries(each)).expect("it is open");
        names.len()
    };
    assert_eq!(list(&mut world, 2), 2);
    world.create(root, b"b");
    assert_eq!(list(&mut world, 9), 4);
}

/// .L has no message that changes a name and attributes at once.
#[test]
fn a_name_and_a_mode_are_changed_together_or_not_at_all() {
    let mut world = World::new(34);
    let root = world.attach().expect("the root");
    let what = Make::Dir;
    world.does(Call::Make { dir: root, name: b"d", what, mode: 0o755, gid: None, enter: false }).expect("room");
    let user = User { uid: 5, gid: Some(5), ..USER };
    let other = world.attach_as(user).expect("the root");
    let dir = world.walk(other, &[b"d"]).expect("it is there");
    let change = Change { name: Some(b"e"), mode: Some(0o700), ..Change::default() };
    assert_eq!(world.does(Call::Wstat { file: dir, change }), Err(Error::EOPNOTSUPP));
    world.walk(root, &[b"d"]).expect("it has its name");
}
