//! What signals do to a server: SIGTERM and SIGINT end it, the second one at once; others do
//! nothing.

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

/// Signals whose default action would end the process.
const MEANINGLESS: [Signal; 12] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGXCPU,
    Signal::SIGXFSZ,
    Signal::SIGIO,
    Signal::SIGPWR,
];

#[test]
fn signals_without_a_meaning_do_nothing() {
    let signals = Signals::new().expect("a signalfd");
    let mut host = Host::with(32 << 20, |options| options.signals = Some(signals.raw()));
    host.server.start().expect("a poll fits the queue");
    let mut client = host.client(b"file");
    for signal in MEANINGLESS.into_iter().chain(MEANINGLESS) {
        raise(signal).expect("this thread is there");
        (0..100).for_each(|_| host.turn());
        assert!(!host.server.is_over(), "{signal}");
    }
    host.ask(&mut client, |script| script.write(1, 0, &pattern(1000, 1)));
    assert_eq!(host.server.peers(), 1);
    // After all of these it still hears the one that counts.
    drop(client);
    raise(Signal::SIGTERM).expect("this thread is there");
    host.until(|host| host.server.is_over());
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
