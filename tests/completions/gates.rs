//! Replies that wait for gates of the tree, and a tree that is behind: whom the loop goes on with, and when.

use crate::support::hand_ring::HandRing;
use crate::support::host::request;
use crate::support::script::Script;
use crate::support::tree_in;
use crate::{FD, messages};
use ring9::arena::Arena;
use ring9::fs::mem::Mem;
use ring9::fs::{Answer, At, Call, CallBuf, Gate, OpId, Outcome, Payload, Result, Service, Show, Simple};
use ring9::uring::{Options, Server, Trust};
use ring9::wire::{Dialect, Kind, Message, Opt};

/// A memfs whose Tfsync is answered behind a gate: each has one of its own, and the test opens them. It may hold a walk back.
struct Gated {
    tree: Simple<Mem>,
    gates: u64,
    opened: u64,
    behind: bool,
    holds: bool,
    held: Option<(OpId, CallBuf)>,
}

impl Service for Gated {
    const FILE_BYTES: usize = Simple::<Mem>::FILE_BYTES;

    fn init(&mut self, at: At) -> Result<()> {
        Service::init(&mut self.tree, at)
    }

    fn call(&mut self, op: OpId, call: Call<'_>, show: Show<'_>, at: At) -> Outcome {
        let waits = matches!(call, Call::Fsync { .. });
        if self.holds && matches!(call, Call::Walk { .. }) {
            self.held = Some((op, call.into()));
            return Outcome::Pending;
        }
        match self.tree.call(op, call, show, at) {
            Outcome::Done(answer) if waits => {
                self.gates += 1;
                Outcome::Done(Answer { gate: Gate(self.gates), ..answer })
            }
            outcome => outcome,
        }
    }

    fn grant(&mut self, file: ring9::fs::FileId, offset: u64, count: u32, at: At) -> Result<Payload> {
        Service::grant(&mut self.tree, file, offset, count, at)
    }

    fn finish(&mut self, op: OpId, show: Show<'_>, at: At) -> Outcome {
        let (held, call) = self.held.take().expect("it is held back");
        assert_eq!(held, op);
        call.with(|call| self.tree.call(op, call, show, at))
    }

    fn ready(&mut self) -> Option<OpId> {
        self.held.as_ref().filter(|_| !self.holds).map(|&(op, _)| op)
    }

    fn is_open(&self, gate: Gate) -> bool {
        gate.0 <= self.opened
    }

    fn is_behind(&self) -> bool {
        self.behind
    }
}

struct Host(Server<HandRing, Gated>);

impl Host {
    /// With two peers that have attached.
    fn new() -> Host {
        Host::on(HandRing::default())
    }

    fn on(ring: HandRing) -> Host {
        let arena = Arena::new(16 << 20).expect("a small mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let tree = Gated { tree: tree_in(arena), gates: 0, opened: 0, behind: false, holds: false, held: None };
        let mut host = Host(Server::new(ring, tree, parts, Options::new(1 << 20, 2)));
        for fd in [FD, FD + 1] {
            host.0.connect(fd, Trust::All);
            host.turns();
            let kinds = host.says(fd, &Script::new(Dialect::L).attach(0).bytes);
            assert_eq!(kinds.len(), 2);
        }
        host
    }

    fn turns(&mut self) -> Vec<Kind> {
        (0..3).for_each(|_| self.0.turn_now().expect("the ring works"));
        let heard = std::mem::take(&mut self.0.ring().heard);
        messages(&heard).iter().map(|message| Kind(message[4])).collect()
    }

    fn says(&mut self, fd: i32, bytes: &[u8]) -> Vec<Kind> {
        self.0.ring().says(fd, bytes);
        self.turns()
    }

    fn opens(&mut self, gate: u64) -> Vec<Kind> {
        self.0.fs().opened = gate;
        self.turns()
    }
}

fn fsync() -> Vec<u8> {
    request(|script| script.ask(Message::Tfsync { fid: 0, datasync: Opt(0) }))
}

/// An open gate is heard of by the peer whose reply waited for it, and by no other one; what need not wait leaves before.
#[test]
fn a_gate_that_opens_lets_the_reply_of_its_peer_leave() {
    let mut host = Host::new();
    let reply = Kind::TFSYNC.reply();
    let both = request(|script| script.ask(Message::Tfsync { fid: 0, datasync: Opt(0) }).stat(0));
    assert_eq!(host.says(FD, &both), [Kind::TGETATTR.reply()]);
    assert_eq!(host.says(FD + 1, &fsync()), []);
    assert_eq!(host.turns(), []);
    assert_eq!((host.opens(1), host.opens(1)), (vec![reply], vec![]));
    assert_eq!((host.opens(2), host.opens(2)), (vec![reply], vec![]));
}

/// A gate opens while a send of its peer is in flight: the reply leaves behind that, and until then the loop sleeps.
#[test]
fn a_gate_that_opens_behind_a_full_socket_does_not_keep_the_loop_awake() {
    let mut host = Host::new();
    host.0.ring().socket_bytes = 0;
    let both = request(|script| script.ask(Message::Tfsync { fid: 0, datasync: Opt(0) }).stat(0));
    assert_eq!(host.says(FD, &both), []);
    assert_eq!(host.opens(1), []);
    host.0.ring().waits.clear();
    (0..3).for_each(|_| host.0.turn().expect("the ring works"));
    assert_eq!(host.0.ring().waits.len(), 3, "there is nothing to do");
    host.0.ring().socket_bytes = usize::MAX;
    let send = host.0.ring().send(FD);
    let bytes: usize = send.views().iter().map(|(_, len)| len).sum();
    host.0.ring().ends(send.user_data, bytes as i32, 0);
    assert_eq!(host.turns(), [Kind::TFSYNC.reply()]);
}

/// A client that says nothing more, and a server that ends, wait for the replies that were asked for before.
#[test]
fn replies_behind_gates_leave_before_a_connection_ends() {
    for drains in [false, true] {
        let mut host = Host::new();
        assert_eq!(host.says(FD, &fsync()), []);
        if drains {
            host.0.begin_drain().expect("the ring works");
        } else {
            let receive = host.0.ring().receives(FD)[0];
            host.0.ring().ends(receive.user_data, 0, 0);
        }
        assert_eq!(host.turns(), []);
        assert!(!host.0.ring().shut.contains(&FD), "its reply waits");
        assert_eq!(host.opens(1), [Kind::TFSYNC.reply()]);
        host.turns();
        assert!(host.0.ring().shut.contains(&FD), "nothing waits any more");
    }
}

/// A tree that is behind is asked for nothing, and once it is not the peers go on by themselves.
#[test]
fn peers_of_a_tree_that_was_behind_go_on() {
    let mut host = Host::new();
    host.0.fs().behind = true;
    let stat = request(|script| script.stat(0));
    for fd in [FD, FD + 1] {
        assert_eq!(host.says(fd, &stat), []);
    }
    assert_eq!(host.turns(), []);
    host.0.fs().behind = false;
    assert_eq!(host.turns(), [Kind::TGETATTR.reply(); 2]);
}

/// A request waits behind a walk, and then for a tree that is behind, while a receive into a window of its peer is in flight: it is
/// answered although nothing more is received.
#[test]
fn what_waits_behind_another_request_does_not_wait_for_a_receive() {
    let mut ring = HandRing::default();
    ring.multishot = false;
    let mut host = Host::on(ring);
    host.0.fs().holds = true;
    assert_eq!(host.says(FD, &request(|script| script.walk(0, 1, &[]).stat(1))), []);
    (host.0.fs().holds, host.0.fs().behind) = (false, true);
    assert_eq!(host.turns(), [Kind::TWALK.reply()]);
    assert_eq!(host.0.ring().receives(FD).len(), 1);
    host.0.fs().behind = false;
    assert_eq!(host.turns(), [Kind::TGETATTR.reply()]);
}
