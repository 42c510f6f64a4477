//! Temporary names, the step from one to the name of the file, and exchanges that are interrupted: with a server of a few lines.

use super::*;
use crate::client::{Interrupt, Transport};
use crate::wire::{Qid, Qids, dm};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A server of one directory, as far as this client asks for it: names of files, and of directories with a slash. In the older dialects a Twstat does not
/// replace a name. It ends with its connection, and tells its names.
fn serve(mut socket: UnixStream, dialect: Dialect, mut names: Vec<String>) -> Vec<String> {
    let mut fids: BTreeMap<Fid, String> = BTreeMap::new();
    let mut size = [0; 4];
    while socket.read_exact(&mut size).is_ok() {
        let mut frame = size.to_vec();
        frame.resize(u32::from_le_bytes(size) as usize, 0);
        socket.read_exact(&mut frame[4..]).expect("a whole message");
        let (tag, message) = Message::parse(&frame, dialect).expect("a message");
        let refusal = |errno: Errno| match dialect {
            Dialect::L => Message::Rlerror { ecode: errno.0.into() },
            _ => Message::Rerror { ename: errno.text().as_bytes(), errno: crate::wire::UOnly(0) },
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let is_there = |names: &[String], name: &str| names.iter().any(|there| there.trim_end_matches('/') == name);
        let rename = |names: &mut Vec<String>, from: &str, to: &str| {
            names.retain(|name| name != from && name != to);
            names.push(to.to_owned());
        };
        let qids = [Qid::default()];
        let reply = match message {
            Message::Tversion { msize, version } => Message::Rversion { msize, version },
            Message::Tattach { fid, .. } => {
                fids.insert(fid, String::new());
                Message::Rattach { qid: Qid::default() }
            }
            Message::Twalk { newfid, wnames, .. } => match wnames.iter().next().map(text) {
                Some(name) if !is_there(&names, &name) => refusal(Errno::ENOENT),
                name => {
                    let walked = usize::from(name.is_some());
                    fids.insert(newfid, name.unwrap_or_default());
                    Message::Rwalk { wqids: Qids::list(&qids[..walked]) }
                }
            },
            Message::Tclunk { .. } => Message::Rclunk {},
            Message::Tstat { fid } => {
                let is_dir = names.contains(&format!("{}/", fids[&fid]));
                Message::Rstat { stat: Stat { mode: if is_dir { dm::DIR } else { 0 }, ..Stat::dont_touch() } }
            }
            Message::Tremove { fid } => {
                names.retain(|name| name.trim_end_matches('/') != fids[&fid]);
                Message::Rremove {}
            }
            Message::Twstat { stat, .. } if is_there(&names, &text(stat.name)) => refusal(Errno::EEXIST),
            Message::Twstat { fid, stat } => {
                rename(&mut names, &fids[&fid], &text(stat.name));
                Message::Rwstat {}
            }
            Message::Trenameat { oldname, newname, .. } => {
                rename(&mut names, &text(oldname), &text(newname));
                Message::Rrenameat {}
            }
            _ => refusal(Errno::EOPNOTSUPP),
        };
        let mut out = Vec::new();
        reply.emit(tag, dialect, &mut out);
        socket.write_all(&out).expect("the client reads");
    }
    names
}

/// A client of such a server, and the server's end.
fn client(dialect: Dialect, names: &[&str]) -> (Client, JoinHandle<Vec<String>>) {
    let name = format!("ring9-aside-{}-{}", std::process::id(), String::from_utf8_lossy(&temporary_name(b"")));
    let path: PathBuf = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).expect("a new name");
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let server = std::thread::spawn(move || serve(listener.accept().expect("a client").0, dialect, names));
    let address = crate::client::Address::Unix(path.clone());
    let transport = Transport::connect(&address, dialect, 8192).expect("the server listens");
    std::fs::remove_file(path).expect("it was made");
    (Client::attach(transport, ("nobody", 1), "").expect("it takes anyone"), server)
}

#[test]
fn temporary_names_are_names_and_differ() {
    let made = temporary_name(b"notes.txt");
    assert!(made.starts_with(b".notes.txt.r9-") && made.len() == 20, "{made:?}");
    assert!(made[14..].iter().all(u8::is_ascii_alphanumeric), "{made:?}");
    assert_ne!(made, temporary_name(b"notes.txt"));
    assert_eq!(temporary_name(&[b'n'; 255]).len(), 255);
    assert_eq!(temporary_name(&[b'n'; 244]).len(), 255);
    // Names of two bytes for each character: the cut at 244 is between two of them, and with one byte in front it is at 243.
    assert_eq!(temporary_name("ü".repeat(127).as_bytes()).len(), 255);
    let odd = temporary_name(format!("x{}", "ü".repeat(127)).as_bytes());
    assert_eq!((odd.len(), std::str::from_utf8(&odd).is_ok()), (254, true));
    // Bytes that are no characters are cut anywhere.
    assert!(temporary_name(&[0x80; 255]).len() <= 255);
}

#[test]
fn a_complete_file_takes_the_place_of_the_old_one() {
    for dialect in [Dialect::L, Dialect::U, Dialect::P9] {
        let (mut client, server) = client(dialect, &["aside", "name", "other"]);
        client.replace(Client::ROOT, b"aside", b"name").expect("the name is that of a file");
        client.replace(Client::ROOT, b"name", b"new").expect("nothing has the name");
        drop(client);
        let mut names = server.join().expect("it ends with its client");
        names.sort();
        assert_eq!(names, ["new", "other"], "{}", dialect.name());
    }
}

#[test]
fn an_empty_directory_does_not_give_way_to_a_file() {
    let (mut client, server) = client(Dialect::P9, &["aside", "name/"]);
    let refused = client.replace(Client::ROOT, b"aside", b"name").expect_err("it is a directory");
    assert_eq!(refused.errno(), Some(Errno::EISDIR));
    drop(client);
    assert_eq!(server.join().expect("it ends with its client"), ["aside", "name/"]);
}

#[test]
fn an_exchange_that_is_interrupted_leaves_a_connection_that_works() {
    let (mut client, server) = client(Dialect::P9, &["dir/"]);
    let interrupt = Arc::new(Interrupt::new().expect("two descriptors"));
    client.transport().end_on(interrupt.clone(), Duration::from_secs(10));
    let (mut made, mut answered) = (0, 0);
    let messages = (0..1000).map(|_| Message::Tstat { fid: Client::ROOT }).inspect(|_| made += 1);
    let ended = client.transport().exchange(messages, |_, _| {
        answered += 1;
        interrupt.give();
    });
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert!(answered > 0 && answered < 1000, "{answered} answers");
    // One that was looked at and not sent.
    assert!(made == answered || made == answered + 1, "{made} requests, {answered} answers");
    // Exchanges after that one are as before.
    let fid = client.walk(Client::ROOT, b"dir").expect("it is there");
    assert!(client.stat(fid).expect("a reply of its own").is_dir());
    drop(client);
    server.join().expect("it ends with its client");
}
