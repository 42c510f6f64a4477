//! The end of a server that is told to end: by one signal, and by two.

mod support;

use nix::sys::signal::{Signal, raise};
use ring9::uring::Signals;
use ring9::wire::Dialect;
use std::io::Write;
use std::os::unix::net::UnixStream;
use support::host::Host;
use support::script::{Script, pattern};

/// A server, and a client that has asked for more than its socket holds and reads nothing.
fn host_and_deaf(signals: &Signals) -> (Host, UnixStream) {
    let mut host = Host::with(32 << 20, |options| options.signals = Some(signals.raw()));
    host.server.start().expect("a poll fits the queue");
    let mut client = host.client(b"file");
    host.ask(&mut client, |script| script.write(1, 0, &pattern(1_000_000, 1)));
    let mut script = Script::new(Dialect::L);
    script.bytes.clear();
    (0..4).for_each(|_| {
        script.read(1, 0, 1_000_000);
    });
    client.write_all(&script.bytes).expect("room in the socket");
    (0..100).for_each(|_| host.turn());
    (host, client)
}

/// Signals are of a thread here, so both ends are told in one test.
#[test]
fn one_signal_lets_replies_leave_and_a_second_one_does_not_wait() {
    let signals = Signals::new().expect("a signalfd");
    let (mut host, client) = host_and_deaf(&signals);
    raise(Signal::SIGTERM).expect("this thread is there");
    (0..1000).for_each(|_| host.turn());
    assert_eq!(host.server.peers(), 1, "who does not read has 5 s");
    host.later(4);
    assert!(!host.server.is_over());
    host.later(2);
    host.until(|host| host.server.is_over());
    drop(client);

    let (mut host, client) = host_and_deaf(&signals);
    raise(Signal::SIGINT).expect("this thread is there");
    (0..1000).for_each(|_| host.turn());
    assert!(!host.server.is_over());
    // The clock stands still.
    raise(Signal::SIGTERM).expect("this thread is there");
    let turns = host.until(|host| host.server.is_over());
    assert!(turns < 1000, "{turns} turns");
    drop(client);
}
