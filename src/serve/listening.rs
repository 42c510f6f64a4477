//! Listeners: from what the builder was told to sockets that listen.

use super::{Address, Error, Trust};
use crate::fs::Remote;
use crate::uring::{self, Bound};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A listener as the builder was told about it.
pub(super) enum Wanted {
    /// To be bound.
    At(Address, Option<Trust>),
    /// It listens already.
    Here(Bound, Trust),
    /// It is no address, and why.
    Wrong(String),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The address in fact: where port 0 was asked for, it has the port that was free. It parses
    /// back, and `r9 --addr` takes it.
    pub address: Address,
    /// Who the users of its connections are.
    pub trust: Trust,
    /// The number behind an address of TCP.
    pub local: Option<SocketAddr>,
}

impl Listening {
    /// Whether anyone who reaches this address, from another machine perhaps, may be any user.
    pub fn is_open_to_all(&self) -> bool {
        self.trust == Trust::All && self.local.is_some_and(|local| !local.ip().to_canonical().is_loopback())
    }
}

impl Wanted {
    /// A socket that listens, and what is known of it.
    pub(super) fn listen(self) -> Result<(Bound, Listening), Error> {
        let (bound, address, trust) = match self {
            Wanted::Wrong(why) => return Err(Error::Address(why)),
            Wanted::Here(bound, trust) => {
                let address = Address::Unix(bound.path().unwrap_or(Path::new("-")).to_owned());
                (bound, address, trust)
            }
            Wanted::At(address, trust) => {
                let trust = match (trust, &address) {
                    (None, Address::Tcp { .. }) => Trust::Squash,
                    (None, Address::Unix(_)) => Trust::PeerUid,
                    (Some(trust), _) => trust,
                };
                let bound = match bind(&address) {
                    Ok(bound) => bound,
                    Err(error) => return Err(Error::Listen { address, error }),
                };
                (bound, address, trust)
            }
        };
        let local = bound.local;
        let address = match local {
            Some(local) => Address::Tcp { host: local.ip().to_string(), port: local.port() },
            None => address,
        };
        if trust == Trust::PeerUid && local.is_some() {
            return Err(Error::Trust(address));
        }
        Ok((bound, Listening { address, trust, local }))
    }
}

fn bind(address: &Address) -> std::io::Result<Bound> {
    match address.look_up()? {
        Remote::Tcp(at) => uring::listen_tcp(at),
        Remote::Unix(path) => uring::listen_unix(Path::new(OsStr::from_bytes(&path))),
    }
}
