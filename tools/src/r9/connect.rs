//! The way to the server: its address, from the flag, the environment or the default, and the attach.

use crate::flags::Flags;
use crate::say::Why;
use anyhow::{Context, anyhow};
use clap::CommandFactory;
use clap::error::ErrorKind;
use ring9::client::{Address, Client, Error, Transport};
use ring9::fs::Error as Errno;

/// Has the address where no flag gives one.
const VARIABLE: &str = "RING9_ADDR";

/// The address that the user has named: by the flag, or in the environment. An empty variable is none.
fn named(flags: &Flags) -> Option<Address> {
    if flags.addr.is_some() {
        return flags.addr.clone();
    }
    let text = std::env::var_os(VARIABLE).filter(|text| !text.is_empty())?;
    let address = text.to_str().ok_or_else(|| format!("{text:?} is not UTF-8")).and_then(str::parse);
    match address {
        Ok(address) => Some(address),
        Err(error) => {
            let text = format!("the environment variable {VARIABLE}: {error}");
            Flags::command().error(ErrorKind::InvalidValue, text).exit()
        }
    }
}

/// A connection to the server that the flags name, and its place in messages: the address, and the tree if it has a name.
pub(crate) fn connect(flags: &Flags) -> anyhow::Result<(Client, String)> {
    let uid = nix::unistd::geteuid().as_raw();
    let name = match &flags.uname {
        Some(name) => name.clone(),
        None => match nix::unistd::User::from_uid(uid.into()) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        },
    };
    // A name that is given goes without a number, so that the server looks it up.
    let uid = if flags.uname.is_some() { !0 } else { uid };
    let (dialect, msize, aname) = (flags.dialect.into(), flags.msize, flags.aname.as_str());
    let (address, transport) = match named(flags) {
        Some(address) => {
            let transport = Transport::connect(&address, dialect, msize);
            (address, transport)
        }
        None => {
            let address = Address::default_socket().context("no place for the default socket; use --addr")?;
            let transport = Transport::connect_own(&address, dialect, msize);
            (address, transport)
        }
    };
    let transport = transport.map_err(|error| unreached(&address, error))?;
    let mut client = Client::attach(transport, (&name, uid), aname).map_err(|error| match error.errno() {
        Some(_) => anyhow!("{address}: tree {aname:?}: attach as {name}: {}{}", error.why(), advice(aname, &error)),
        None => unreached(&address, error),
    })?;
    if flags.uname.is_none() {
        client.set_group(nix::unistd::getegid().as_raw());
    }
    let place = match aname {
        "" | "/" => address.to_string(),
        aname => format!("{address}: tree {aname}"),
    };
    Ok((client, place))
}

/// What went wrong, and what to do about it.
fn unreached(address: &Address, error: Error) -> anyhow::Error {
    match error {
        Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            anyhow!(
                "{address}: cannot be reached: {}; this user may not use that socket, or not enter its folder",
                error.why()
            )
        }
        Error::Io(error) => anyhow!(
            "{address}: cannot be reached: {}; is the server running? `ring9` starts one and prints its address, which --addr or {VARIABLE} takes",
            error.why()
        ),
        error => anyhow!("{address}: {error}"),
    }
}

/// What to do about a refused attach.
fn advice(aname: &str, error: &Error) -> &'static str {
    match error.errno() {
        Some(Errno::ENOENT) => "; ring9 has the trees \"\", \"dev\" and \"ctl\" (--aname)",
        Some(Errno::EPERM) if aname == "ctl" => "; ctl is for root and the server's own user, over a unix socket",
        Some(Errno::EPERM) => "; a unix socket takes nobody but the user at its other end (--uname)",
        _ => "",
    }
}
