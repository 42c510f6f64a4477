//! Who is at the other end of a socket, and what follows from it.

use crate::host::{Host, last_kind, messages};
use crate::support::hand_ring::{ACCEPT, HandRing};
use crate::support::script::Script;
use crate::support::sqe::CQE_F_MORE;
use crate::{EPERM, FD, LISTENER};
use ring9::arena::Arena;
use ring9::fs::Simple;
use ring9::fs::ctl::Ctl;
use ring9::session::NOBODY;
use ring9::stats::Lines;
use ring9::uring::{Listener, Options, Server, Trust};
use ring9::wire::{Dialect, Kind, Message};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

/// Attaches as root and makes a file; its owner, or the errno of the attach.
fn owner(identity: Option<u32>, trust: Trust) -> Result<u32, u8> {
    let mut host = Host::new(HandRing::default());
    host.ring().identity = identity;
    host.server.connect(FD, trust);
    host.turns();
    let mut script = Script::new(Dialect::L);
    script.attach(0).walk(0, 1, &[]).create(1, b"file").stat(1);
    host.says(&script.bytes);
    let heard = host.ring().heard.clone();
    let replies = messages(&heard);
    match Message::parse(replies.last().expect("a reply"), Dialect::L).expect("a message").1 {
        Message::Rgetattr { uid, .. } => Ok(uid),
        _ => Err(replies[1][7]),
    }
}

/// Whether a peer of this identity may attach to `ctl` as root, of a server that runs as user 1000.
fn sees_ctl(identity: Option<u32>, trust: Trust, tcp: bool) -> bool {
    let arena = Arena::new(16 << 20).expect("a small mapping");
    let parts = (arena.memory(), arena.heads(), arena.gauge());
    let log = Arc::new(Mutex::new(Lines::new(1000)));
    let ctl = Simple::from(Ctl::new(Rc::default(), arena.gauge(), log));
    let mut ring = HandRing::default();
    ring.identity = identity;
    let mut server = Server::new(ring, ctl, parts, Options { owner: 1000, ..Options::new(1 << 20, 1) });
    server.listen(Listener { fd: LISTENER, name: "here".into(), trust, tcp });
    let turns =
        |server: &mut Server<HandRing, Simple<Ctl>>| (0..3).for_each(|_| server.turn_now().expect("the ring works"));
    turns(&mut server);
    let accept = server.ring().of(ACCEPT)[0];
    server.ring().ends(accept.user_data, FD, CQE_F_MORE);
    turns(&mut server);
    server.ring().says(FD, &Script::new(Dialect::L).attach(0).bytes);
    turns(&mut server);
    last_kind(&server.ring().heard) == Kind::TATTACH.0 + 1
}

/// K11: the server shows itself to root and its own user at the other end of a unix socket,
/// whatever the listener's trust.
#[test]
fn the_server_shows_itself_to_its_owner_alone() {
    for trust in [Trust::All, Trust::PeerUid] {
        assert!(sees_ctl(Some(0), trust, false));
        assert!(!sees_ctl(Some(0), trust, true), "by TCP");
        assert!(!sees_ctl(Some(1001), trust, false));
        assert!(!sees_ctl(None, trust, false));
    }
    assert!(sees_ctl(Some(1000), Trust::All, false));
    assert!(!sees_ctl(Some(0), Trust::Squash, false), "as nobody");
}

/// K1, K3: what a listener's trust makes of a peer that says it is root.
#[test]
fn the_trust_of_a_listener_decides_who_a_peer_is() {
    assert_eq!(owner(None, Trust::All), Ok(0));
    assert_eq!(owner(Some(0), Trust::Squash), Ok(NOBODY));
    assert_eq!(owner(Some(0), Trust::PeerUid), Ok(0));
    assert_eq!(owner(Some(1000), Trust::PeerUid), Err(EPERM));
    assert_eq!(owner(None, Trust::PeerUid), Ok(NOBODY), "who cannot be known is nobody");
}
