//! A server on a ring whose completions the test chooses, and what its peers say and hear.

use crate::support::hand_ring::{ACCEPT, HandRing};
use crate::support::host::request;
use crate::support::script::{Script, pattern};
use crate::support::sqe::{CQE_F_MORE, TIMEOUT};
use crate::support::tree_in;
use crate::{ETIME, FD, LISTENER};
use ring9::arena::{Arena, Gauge};
use ring9::fs::Simple;
use ring9::fs::mem::Mem;
use ring9::stats::Stats;
use ring9::uring::{Listener, LogTo, Options, Server, Trust};
use ring9::wire::{Dialect, Kind};
use std::rc::Rc;

pub(crate) struct Host {
    pub(crate) server: Server<HandRing, Simple<Mem>>,
    pub(crate) stats: Rc<Stats>,
    pub(crate) gauge: Gauge,
}

impl Host {
    pub(crate) fn new(ring: HandRing) -> Host {
        Host::of(ring, 1)
    }

    /// For so many peers.
    pub(crate) fn of(ring: HandRing, peers: usize) -> Host {
        Host::with_log(ring, peers, None)
    }

    pub(crate) fn with_log(ring: HandRing, peers: usize, log: Option<LogTo>) -> Host {
        let arena = Arena::new(16 << 20).expect("a small mapping");
        let (parts, gauge) = ((arena.memory(), arena.heads(), arena.gauge()), arena.gauge());
        let stats = Rc::new(Stats::default());
        let options = Options { stats: Rc::clone(&stats), log, ..Options::new(1 << 20, peers) };
        Host { server: Server::new(ring, tree_in(arena), parts, options), stats, gauge }
    }

    /// With one peer, which has fid 1 open on a new file of this length.
    pub(crate) fn with_peer(ring: HandRing, len: usize) -> Host {
        let mut host = Host::new(ring);
        host.server.connect(FD, Trust::All);
        host.turns();
        host.opens(len);
        host
    }

    /// With two peers that came by one listener and have windows, of which the first has fid 1 open, as above.
    pub(crate) fn with_two(tcp: bool, len: usize) -> Host {
        let mut ring = HandRing::default();
        ring.multishot = false;
        let mut host = Host::of(ring, 2);
        host.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp });
        host.turns();
        let accept = host.ring().of(ACCEPT)[0];
        host.ends(accept.user_data, FD, CQE_F_MORE);
        host.ends(accept.user_data, FD + 1, CQE_F_MORE);
        host.ring().says(FD + 1, &Script::new(Dialect::L).attach(0).bytes);
        host.opens(len);
        host
    }

    pub(crate) fn opens(&mut self, len: usize) {
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, b"file").write(1, 0, &pattern(len, 1));
        self.says(&script.bytes);
        assert_eq!(last_kind(&self.ring().heard), Kind::TWRITE.0 + 1);
        self.ring().heard.clear();
    }

    pub(crate) fn sends(&self) -> u64 {
        self.stats.counters.sends_small.get() + self.stats.counters.sends_plain.get()
    }

    /// The second peer is served, and time goes on.
    pub(crate) fn serves_another(&mut self, later_ns: u64) {
        self.ring().says(FD + 1, &request(|script| script.stat(0)));
        self.turns();
        self.ring().heard.clear();
        self.ring().now_ns += later_ns;
    }

    /// Begins to accept; the accept in flight.
    pub(crate) fn accepts(&mut self) -> u64 {
        self.server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp: false });
        self.turns();
        self.ring().of(ACCEPT)[0].user_data
    }

    /// Time goes by, and deadlines are looked at.
    pub(crate) fn passes(&mut self, seconds: u64) {
        self.ring().now_ns += seconds * 1_000_000_000;
        let sweep = self.ring().of(TIMEOUT)[0];
        self.ends(sweep.user_data, -ETIME, 0);
    }

    /// A receive ends with the connection.
    pub(crate) fn ring_ends(&mut self, user_data: u64) {
        self.ring().ends(user_data, 0, 0);
    }

    pub(crate) fn ring(&mut self) -> &mut HandRing {
        self.server.ring()
    }

    /// Bytes that the receive in flight has room for.
    pub(crate) fn room(&mut self) -> usize {
        let receive = self.ring().receives(FD)[0];
        receive.views().iter().map(|(_, len)| len).sum()
    }

    /// So many that what a completion leads to is submitted.
    pub(crate) fn turns(&mut self) {
        (0..3).for_each(|_| self.server.turn_now().expect("the ring works"));
    }

    pub(crate) fn says(&mut self, bytes: &[u8]) {
        self.ring().says(FD, bytes);
        self.turns();
    }

    pub(crate) fn ends(&mut self, user_data: u64, res: i32, flags: u32) {
        self.ring().ends(user_data, res, flags);
        self.turns();
    }
}

pub(crate) fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some(head) = ring9::wire::head(bytes) {
        let (this, rest) = bytes.split_at(head.size as usize);
        all.push(this);
        bytes = rest;
    }
    all
}

pub(crate) fn last_kind(bytes: &[u8]) -> u8 {
    messages(bytes).last().expect("a reply")[4]
}
