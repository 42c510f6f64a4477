//! What a relay removes at a close, how many operations wait in it, which payloads go through the heap, and how long it
//! waits between attempts to connect.

use super::{AT, BOTH, USER, World, pattern};
use ring9::fs::{Call, Done, Error, Iovec, New, OpId, Open, Payload, Service, Show, mode};
use ring9::wire::{Dialect, Kind};

/// Operations that wait, beyond which the relay takes no more.
const WAITING_MAX: usize = 1024;

/// open(9P): the close of a file that was opened with ORCLOSE removes it. .L has no flag for it.
#[test]
fn a_file_is_removed_by_its_close_in_each_dialect() {
    for dialect in Dialect::ALL {
        let mut world = World::new(40);
        world.far.dialect = dialect;
        let root = world.attach().expect("the root");
        let held = world.far.tree.held();
        let flags = Open { remove_on_close: true, ..BOTH };
        let new = New { flags, mode: mode::IFREG | 0o666, ..New::default() };
        let file = world.walk(root, &[]).expect("another one for the root");
        world.does(Call::Create { dir: file, name: b"f", new }).expect("room");
        let kept = world.create(root, b"kept");
        let again = world.walk(root, &[b"f"]).expect("it is there until the close");
        for file in [again, file, kept] {
            assert_eq!(world.does(Call::Close { file }), Ok(Done::Nothing), "in {dialect:?}");
        }
        assert_eq!(world.walk(root, &[b"f"]), Err(Error::ENOENT), "in {dialect:?}");
        assert_eq!(world.count(Kind::TREMOVE), usize::from(dialect == Dialect::L));
        let kept = world.walk(root, &[b"kept"]).expect("it has no such flag");
        world.does(Call::Close { file: kept }).expect("nothing to do");
        assert_eq!((world.relay.held(), world.far.tree.held()), (1, held));
    }
}

/// A session asks a tree that is behind for nothing. What was asked for before is answered.
#[test]
fn a_relay_is_behind_while_many_operations_wait_for_a_tag() {
    let mut world = World::new(41);
    let root = world.attach().expect("the root");
    world.far.is_silent = true;
    // One peer has half of the tags in flight. The rest of its requests wait.
    let asked: Vec<OpId> = (0..64 + WAITING_MAX)
        .map(|_| {
            assert!(!world.relay.is_behind());
            world.ask(Call::Stat { file: root, target: false }).expect("it waits")
        })
        .collect();
    assert!(world.relay.is_behind());
    world.settle();
    assert!(world.relay.is_behind(), "the far server has answered nothing");
    // A request that waits is taken back, and another one may be asked for.
    world.relay.cancel(asked[asked.len() - 1]);
    assert!(!world.relay.is_behind());
    world.far.is_silent = false;
    world.settle();
    assert!(!world.relay.is_behind());
    assert_eq!(world.ready(), asked[..asked.len() - 1]);
}

/// Without a connection only attaches wait. One more is refused, and the tree is not behind.
#[test]
fn attaches_beyond_those_that_may_wait_are_refused() {
    let mut world = World::new(42);
    let attach = || Call::Attach { user: USER, aname: b"" };
    let asked: Vec<OpId> = (0..WAITING_MAX).map(|_| world.ask(attach()).expect("it waits")).collect();
    assert_eq!(world.ask(attach()), Err(Err(Error::EAGAIN)));
    assert!(!world.relay.is_behind());
    world.settle();
    assert_eq!(world.ready(), asked);
    for op in asked {
        assert!(matches!(world.finish(op, Show::Nothing), Ok(Done::File { .. })));
    }
    world.ask(attach()).expect("there is a connection");
}

/// Payloads hold half of the arena at most. The others are copied, and are the same bytes.
#[test]
fn payloads_beyond_half_of_the_arena_go_through_the_heap() {
    let mut world = World::new(43);
    let root = world.attach().expect("the root");
    let file = world.create(root, b"f");
    let data = pattern(1 << 20);
    world.does(Call::Write { file, offset: 0, data: &data }).expect("room");
    let mut grants = Vec::new();
    while let Ok(Payload::Memory(grant)) = world.relay.grant(file, 0, 1 << 20, AT) {
        grants.push(grant);
        assert!(grants.len() <= 16, "16 of 32 MiB");
    }
    assert!(grants.len() >= 14, "{} grants", grants.len());
    let room = (1 << 20) - 24;
    let read = |world: &mut World| {
        world.far.landed.clear();
        let read = world.read(file, 0, room).expect("it may");
        assert!(read == data[..room as usize]);
        world.far.landed.iter().sum::<usize>()
    };
    assert_eq!(read(&mut world), 0, "bytes have landed in the arena");
    // A read beside it, whose payload is arriving, is cut off.
    world.far.stalls_payloads = true;
    let mut unused = Iovec::default();
    let cut = world.ask_to_show(Call::Read { file, offset: 0 }, Show::Data(unused.out(room))).expect("it waits");
    world.settle();
    drop(grants);
    world.far.stalls_payloads = false;
    world.settle();
    assert_eq!(world.ready(), [cut]);
    assert!(world.shown(cut, room).as_deref() == Ok(&data[..room as usize]));
    assert!(read(&mut world) > 0, "there is memory again");
}

/// The pause after a failure is twice the last one, 5 s at most, and short again once a connection was made.
#[test]
fn pauses_between_attempts_grow_up_to_a_limit() {
    let mut world = World::new(44);
    // The last attempt of the first round succeeds.
    for (round, pauses) in [&[100, 200, 400, 800, 1600, 3200, 5000, 5000][..], &[100, 200]].into_iter().enumerate() {
        world.far.refuses = true;
        assert_eq!(world.attach(), Err(Error(111)));
        for (at, ms) in pauses.iter().enumerate() {
            let waits = world.ask(Call::Attach { user: USER, aname: b"" }).expect("it waits for the timer");
            world.settle();
            assert_eq!(world.ready(), []);
            world.far.refuses = round > 0 || at + 1 < pauses.len();
            assert_eq!(world.far.ring(&mut world.relay, AT), [ms * 1_000_000]);
            world.settle();
            assert_eq!(world.ready(), [waits]);
            let result = world.finish(waits, Show::Nothing);
            assert_eq!(result.err(), world.far.refuses.then_some(Error(111)));
        }
        world.far.vanish(AT);
        world.settle();
    }
}
