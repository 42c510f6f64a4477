//! A server as a program builds it: addresses, clients, ends, and what it refuses.

#[path = "../examples/hello.rs"]
#[expect(dead_code, reason = "a program, of which the tree is used")]
mod hello;

use ring9::client::{Access, Client};
use ring9::fs::Error as Errno;
use ring9::serve::{self, Address, Builder, Error, Trust};
use ring9::wire::Dialect;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

fn client(address: &Address, aname: &str) -> Result<Client, ring9::client::Error> {
    Client::connect(address, Dialect::L, 65536, ("root", nix::unistd::geteuid().as_raw()), aname)
}

fn text(client: &mut Client, path: &str) -> String {
    let fid = client.walk(Client::ROOT, path.as_bytes()).expect("it is there");
    client.open(fid, Access::Read).expect("it may be read");
    let mut bytes = Vec::new();
    client.read(fid, &[(0, 4096)], |_, part| bytes.extend_from_slice(part)).expect("it can be read");
    client.clunk(fid).expect("it is ours");
    String::from_utf8(bytes).expect("a text")
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ring9-serve-{name}-{}", std::process::id()))
}

#[test]
fn a_tree_is_served_under_its_names_beside_others() {
    let server = serve::spawn(|| {
        Builder::new()
            .tree(hello::Hello::tree())
            .tree_at(&[b"more"], hello::Hello::tree())
            .dev()
            .listen("tcp:127.0.0.1:0")
    })
    .expect("a port is free");
    assert!(matches!(server.address(), Address::Tcp { port, .. } if *port != 0));
    let mut one = client(server.address(), "").expect("the main tree");
    assert_eq!(text(&mut one, "/hello"), "hello, world\n");
    assert_eq!((text(&mut one, "/count").trim(), text(&mut one, "/count").trim()), ("1", "2"));
    let mut more = client(server.address(), "more").expect("the tree beside it");
    assert_eq!(text(&mut more, "/count").trim(), "1", "it is another one");
    let mut dev = client(server.address(), "dev").expect("dev");
    assert_eq!(text(&mut dev, "/null"), "");
    drop((one, more, dev));
    let handle = server.handle();
    assert!(!handle.is_over());
    server.stop().expect("it ends well");
    assert!(handle.is_over());
    handle.stop();
}

#[test]
fn names_that_no_tree_has_are_refused() {
    let server = serve::spawn(|| Builder::new().dev().listen("tcp:127.0.0.1:0")).expect("a port is free");
    let error = client(server.address(), "nowhere").err().expect("there is no such tree");
    assert_eq!(error.errno(), Some(Errno::ENOENT));
}

#[test]
fn a_socket_that_listens_already_is_served_and_its_path_stays() {
    let path = scratch("given");
    let listener = UnixListener::bind(&path).expect("a path of our own");
    listener.set_nonblocking(true).expect("a socket");
    let server = serve::spawn(move || Builder::new().tree(hello::Hello::tree()).listener(listener, Trust::PeerUid));
    let server = server.expect("it listens");
    assert_eq!(*server.address(), Address::Unix(path.clone()));
    assert_eq!(text(&mut client(server.address(), "").expect("a tree"), "/hello"), "hello, world\n");
    drop(server);
    std::fs::remove_file(&path).expect("it is still there");
}

#[test]
fn a_path_that_the_builder_has_bound_goes_with_the_server() {
    let path = scratch("own");
    let address = format!("unix:{}", path.display());
    let again = address.clone();
    let server = serve::spawn(move || Builder::new().tree(hello::Hello::tree()).listen(address)).expect("a free path");
    let twice = serve::spawn(move || Builder::new().tree(hello::Hello::tree()).listen(again));
    let said = twice.expect_err("the path is taken").to_string();
    assert!(said.contains("another server is listening there; end that one, or name another path"), "{said}");
    drop(server);
    assert!(!path.exists());
}

#[test]
fn what_is_wrong_is_said_before_anything_listens() {
    fn refused(build: impl FnOnce(Builder) -> Builder) -> Error {
        build(Builder::new()).bind().err().expect("it is refused")
    }
    let said = |error: Error| error.to_string();
    assert!(matches!(refused(|builder| builder), Error::NoListener));
    assert_eq!(said(refused(|builder| builder.listen("tcp:host"))), "tcp:host: the port is missing: tcp:HOST:PORT");
    assert_eq!(
        said(refused(|builder| builder.listen("there"))),
        "\"there\" is no address: tcp:HOST:PORT or unix:PATH is"
    );
    let wrong = refused(|builder| builder.listen_with_trust("tcp:127.0.0.1:0", Trust::PeerUid));
    assert!(said(wrong).starts_with("peer-uid: tcp:127.0.0.1:"));
    let missing = scratch("missing").join("sock");
    let wrong = refused(|builder| builder.listen(Address::Unix(missing)));
    assert!(said(wrong).ends_with("; make its folder first"));
    let wrong = refused(|builder| builder.listen("tcp:127.0.0.1:0").cpu(777));
    assert!(said(wrong).starts_with("cpu 777: sched_setaffinity(2) refuses it"));
}

#[test]
fn a_server_that_is_stopped_before_it_runs_ends_at_once() {
    let server = Builder::new().tree(hello::Hello::tree()).listen("tcp:127.0.0.1:0").bind().expect("a port is free");
    server.handle().stop();
    server.run().expect("it ends well");
}
