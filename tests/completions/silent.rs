//! A tree that does not end its operations, and cannot take them back: what its clients have left behind blocks nobody.

use crate::lines::log;
use crate::support::asker::Asker;
use crate::support::hand_ring::{ACCEPT, HandRing};
use crate::support::script::Script;
use crate::support::sqe::{CQE_F_MORE, TIMEOUT, WRITE};
use crate::{ECANCELED, ECONNRESET, ETIME, LISTENER};
use ring9::arena::Arena;
use ring9::logging::Level;
use ring9::stats::Stats;
use ring9::uring::{CLOSING_MAX, Listener, LogTo, Options, Server, Trust};
use ring9::wire::Dialect;
use std::os::fd::RawFd;
use std::rc::Rc;

struct Silent {
    server: Server<HandRing, Asker>,
    stats: Rc<Stats>,
}

impl Silent {
    /// For so many connections.
    fn new(connections: usize) -> Silent {
        Silent::with_log(connections, None)
    }

    fn with_log(connections: usize, log: Option<LogTo>) -> Silent {
        let arena = Arena::new(4 << 20).expect("a small mapping");
        let parts = (arena.memory(), arena.heads(), arena.gauge());
        let stats = Rc::new(Stats::default());
        let options = Options { stats: Rc::clone(&stats), log, ..Options::new(1 << 16, connections) };
        let tree = Asker { is_silent: true, ..Asker::default() };
        let mut server = Server::new(HandRing::default(), tree, parts, options);
        server.start().expect("the ring works");
        server.listen(Listener { fd: LISTENER, name: "here".into(), trust: Trust::All, tcp: false });
        let mut silent = Silent { server, stats };
        silent.turns();
        silent
    }

    fn turns(&mut self) {
        (0..3).for_each(|_| self.server.turn_now().expect("the ring works"));
    }

    /// A client comes. Whether it was let in.
    fn comes(&mut self, fd: RawFd) -> bool {
        let accept = self.server.ring().of(ACCEPT)[0];
        let refused = self.stats.counters.refused.get();
        self.server.ring().ends(accept.user_data, fd, CQE_F_MORE);
        self.turns();
        self.stats.counters.refused.get() == refused
    }

    /// A client comes, and asks for something.
    fn asks(&mut self, fd: RawFd) {
        assert!(self.comes(fd), "client {fd}");
        self.server.ring().says(fd, &Script::new(Dialect::L).attach(0).bytes);
        self.turns();
    }

    /// Its connection breaks.
    fn breaks(&mut self, fd: RawFd) {
        let receive = self.server.ring().receives(fd)[0];
        self.server.ring().ends(receive.user_data, -ECONNRESET, 0);
        self.turns();
    }

    /// The end of serving begins, and its time passes.
    fn drains(&mut self) {
        self.server.begin_drain().expect("the ring works");
        self.turns();
        let accept = self.server.ring().of(ACCEPT)[0];
        self.server.ring().ends(accept.user_data, -ECANCELED, 0);
        self.turns();
        for _ in 0..5 {
            assert!(!self.server.fs().is_retired);
            self.server.ring().now_ns += 1_000_000_000;
            let sweep = self.server.ring().of(TIMEOUT)[0];
            self.server.ring().ends(sweep.user_data, -ETIME, 0);
            self.turns();
            self.end_receives();
        }
    }

    /// What was received from is shut down.
    fn end_receives(&mut self) {
        let ring = self.server.ring();
        let ended: Vec<u64> =
            ring.shut.clone().into_iter().flat_map(|fd| ring.receives(fd)).map(|sqe| sqe.user_data).collect();
        ended.into_iter().for_each(|user_data| ring.ends(user_data, 0, 0));
        self.turns();
    }
}

#[test]
fn who_has_left_takes_no_place_from_those_that_come() {
    let clients = 2 * CLOSING_MAX as RawFd;
    let mut silent = Silent::new(clients as usize);
    for fd in 100..100 + clients {
        silent.asks(fd);
        silent.breaks(fd);
        assert_eq!(silent.server.ring().closed.last(), Some(&fd));
    }
    assert_eq!((silent.server.peers(), silent.server.left()), (0, clients as usize));
    assert_eq!(silent.stats.connections(), (0, 0));
    // What has been left behind is bounded.
    assert!(!silent.comes(90));
    let first = silent.server.fs().waiting.remove(0);
    silent.server.fs().end(first);
    silent.turns();
    assert_eq!(silent.server.left(), clients as usize - 1);
    silent.asks(91);
    silent.server.fs().ends();
    silent.turns();
    assert_eq!((silent.server.peers(), silent.server.left()), (1, 0));
    assert!(!silent.server.ring().heard.is_empty(), "who is there is answered");
}

#[test]
fn a_tree_that_ends_nothing_does_not_keep_the_server_from_its_end() {
    let mut silent = Silent::new(4);
    silent.asks(100);
    silent.asks(101);
    silent.breaks(100);
    silent.drains();
    assert_eq!((silent.server.peers(), silent.server.left()), (0, 2));
    assert!(silent.server.fs().is_retired, "once the time is over");
    assert!(!silent.server.is_over(), "its operations are waited for");
    silent.server.begin_drain().expect("the ring works");
    assert!(silent.server.is_over());
}

/// While the tree is waited for, a write of log lines may take its time as well.
#[test]
fn the_log_is_not_given_up_before_the_tree_has_ended() {
    let (log, to) = log(1000, 5);
    let mut silent = Silent::with_log(4, Some(to));
    silent.asks(100);
    log.say(Level::Info, "first", format_args!("first"), 0);
    silent.turns();
    let write = silent.server.ring().of(WRITE)[0];
    silent.drains();
    silent.server.fs().ends();
    silent.turns();
    assert!(silent.server.fs().is_retired && silent.server.left() == 0);
    assert!(!silent.server.is_over(), "the line has not left");
    silent.server.ring().ends(write.user_data, b"ring9: first\n".len() as i32, 0);
    silent.turns();
    for write in silent.server.ring().of(WRITE) {
        let len = silent.server.ring().offered(&write).len();
        silent.server.ring().ends(write.user_data, len as i32, 0);
        silent.turns();
    }
    assert!(silent.server.is_over());
}

#[test]
fn a_tree_that_is_told_of_the_end_ends_its_operations() {
    let mut silent = Silent::new(4);
    silent.server.fs().ends_retired = true;
    silent.asks(100);
    silent.drains();
    assert!(silent.server.fs().is_retired && silent.server.is_over());
    assert_eq!(silent.server.left(), 0);
}
