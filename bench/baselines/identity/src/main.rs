//! `baseline-identity COMMAND...`: starts each server anew for each conversation, over TCP and over a path, and holds what all of them answer against the first one's, byte by byte. Only times,
//! which are the servers' own, count for nothing: they are masked by the field of the message.

#[path = "../../../../tests/support/script.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "a part of what the tests of drivers share")]
mod script;

use anyhow::{Context, bail, ensure};
use bytes::BytesMut;
use ring9::client::Address;
use ring9::wire::{Data, Dialect, Message, Stat};
use script::conversation;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// Bytes of the pieces in which the client speaks.
const PIECES: [usize; 3] = [999, 65_537, usize::MAX];
/// A server that says nothing for so long is not the same.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> anyhow::Result<ExitCode> {
    let commands: Vec<String> = std::env::args().skip(1).collect();
    ensure!(commands.len() > 1, "usage: baseline-identity COMMAND COMMAND...; each is a server's, without --listen");
    let folder = std::env::temp_dir().join(format!("baseline-identity-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let different = compare(&commands, &folder);
    std::fs::remove_dir_all(&folder)?;
    let different = different?;
    println!("{} servers, {different} conversations differ", commands.len());
    Ok(ExitCode::from(u8::from(different > 0)))
}

fn compare(commands: &[String], folder: &std::path::Path) -> anyhow::Result<usize> {
    let (mut different, mut servers) = (0, 0);
    for kind in ["tcp", "unix"] {
        for dialect in Dialect::ALL {
            for size in PIECES {
                let mut first: Option<Vec<Vec<u8>>> = None;
                for command in commands {
                    // A path of its own: a ring may hold its sockets for a moment longer than its process lives.
                    servers += 1;
                    let address = match kind {
                        "tcp" => "tcp:127.0.0.1:0".to_owned(),
                        _ => format!("unix:{}", folder.join(servers.to_string()).display()),
                    };
                    let what = format!("{command}, {kind}, {} in pieces of {size}", dialect.name());
                    let heard = converse(command, &address, dialect, size).with_context(|| what.clone())?;
                    let replies = replies(&heard, dialect).with_context(|| what.clone())?;
                    let Some(first) = &first else {
                        first = Some(replies);
                        continue;
                    };
                    let at = first.iter().zip(&replies).position(|(a, b)| a != b);
                    if at.is_some() || first.len() != replies.len() {
                        different += 1;
                        println!("{what}: {} replies, the first server gave {}", replies.len(), first.len());
                        for reply in at.into_iter().flat_map(|at| [&first[at], &replies[at]]) {
                            let (tag, message) = Message::parse(reply, dialect).expect("it was parsed before");
                            println!("    {}", message.line(tag, dialect));
                        }
                    }
                }
            }
        }
    }
    Ok(different)
}

/// A server that is stopped when this goes.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn converse(command: &str, address: &str, dialect: Dialect, size: usize) -> anyhow::Result<Vec<u8>> {
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().context("an empty command")?);
    child.args(words).args(["--trust", "all", "--memory", "16MiB", "--listen", address]);
    // `--trust` applies to the listeners behind it.
    let mut server = Server(child.stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().expect("it is piped")).read_line(&mut line)?;
    let address = line.trim().strip_prefix("ring9 ready ").with_context(|| format!("not ready: {line:?}"))?;
    match address.parse().map_err(anyhow::Error::msg)? {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream.try_clone()?, || stream.shutdown(Shutdown::Write), &stream, &conversation(dialect), size)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            talk(stream.try_clone()?, || stream.shutdown(Shutdown::Write), &stream, &conversation(dialect), size)
        }
    }
}

/// Says everything in pieces and listens meanwhile, to the end.
fn talk(
    mut listening: impl Read + Send,
    finish: impl Fn() -> std::io::Result<()>,
    mut saying: impl Write,
    requests: &[u8],
    size: usize,
) -> anyhow::Result<Vec<u8>> {
    std::thread::scope(|scope| {
        let listener = scope.spawn(move || {
            let mut heard = Vec::new();
            listening.read_to_end(&mut heard).map(|_| heard)
        });
        for piece in requests.chunks(size.min(requests.len())) {
            saying.write_all(piece)?;
        }
        finish()?;
        Ok(listener.join().expect("a read does not panic")?)
    })
}

/// The replies, with their times masked.
fn replies(heard: &[u8], dialect: Dialect) -> anyhow::Result<Vec<Vec<u8>>> {
    let (mut all, mut rest) = (Vec::new(), heard);
    while let Some(size) = rest.first_chunk::<4>() {
        let size = u32::from_le_bytes(*size) as usize;
        ensure!(size <= rest.len(), "the last reply is cut");
        let (reply, behind) = rest.split_at(size);
        match Message::parse(reply, dialect) {
            Ok((tag, message)) => {
                let mut bytes = BytesMut::new();
                mask(message, dialect, |message| message.emit(tag, dialect, &mut bytes));
                all.push(bytes.to_vec());
            }
            Err(error) => bail!("a reply that cannot be parsed: {error}"),
        }
        rest = behind;
    }
    ensure!(rest.is_empty(), "the last reply is cut");
    Ok(all)
}

/// Shows `emit` the message without its times.
fn mask(message: Message<'_>, dialect: Dialect, emit: impl FnOnce(Message<'_>)) {
    match message {
        Message::Rgetattr {
            valid,
            qid,
            mode,
            uid,
            gid,
            nlink,
            rdev,
            size,
            blksize,
            blocks,
            generation,
            data_version,
            ..
        } => {
            emit(Message::Rgetattr {
                valid,
                qid,
                mode,
                uid,
                gid,
                nlink,
                rdev,
                size,
                blksize,
                blocks,
                atime_sec: 0,
                atime_nsec: 0,
                mtime_sec: 0,
                mtime_nsec: 0,
                ctime_sec: 0,
                ctime_nsec: 0,
                btime_sec: 0,
                btime_nsec: 0,
                generation,
                data_version,
            });
        }
        Message::Rstat { stat } => emit(Message::Rstat { stat: Stat { atime: 0, mtime: 0, ..stat } }),
        // What a directory reads as, outside of 9P2000.L, is its records.
        Message::Rread { data: Data::Here(bytes) } => match records(bytes, dialect) {
            Some(masked) => emit(Message::Rread { data: Data::Here(&masked) }),
            None => emit(message),
        },
        _ => emit(message),
    }
}

/// Records of a directory without their times; none if these bytes are something else.
fn records(bytes: &[u8], dialect: Dialect) -> Option<BytesMut> {
    let (mut masked, mut rest) = (BytesMut::new(), bytes);
    while !rest.is_empty() {
        let (stat, behind) = Stat::parse(rest, dialect).ok()?;
        Stat { atime: 0, mtime: 0, ..stat }.emit(dialect, &mut masked);
        rest = behind;
    }
    (!masked.is_empty()).then_some(masked)
}
