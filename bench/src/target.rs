//! The server under load: where it is, and how it is spoken to.
//!
//! Must not know: the load.

use ring9::client::{Address, Client};
use ring9::wire::{Dialect, IOHDR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A server, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) dialect: Dialect,
    pub(crate) msize: u32,
    pub(crate) uname: String,
    pub(crate) uid: u32,
    pub(crate) aname: String,
    /// The folder in which the run makes its own.
    pub(crate) parent: String,
    /// The name of its own.
    pub(crate) name: String,
}

/// The same, for the result.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spoken {
    /// `tcp:HOST:PORT` or `unix:PATH`.
    pub(crate) address: String,
    /// `9P2000.L`, `9P2000.u` or `9P2000`.
    pub(crate) dialect: String,
    pub(crate) msize: u32,
}

impl Target {
    pub(crate) fn spoken(&self) -> Spoken {
        Spoken { address: self.address.to_string(), dialect: self.dialect.name().into(), msize: self.msize }
    }

    /// The names on the way to the run's own folder.
    pub(crate) fn folder(&self) -> Vec<&[u8]> {
        let parents = self.parent.split('/').filter(|name| !name.is_empty());
        parents.chain([&*self.name]).map(str::as_bytes).collect()
    }

    /// Bytes of payload that fit one message.
    pub(crate) fn payload_max(&self) -> u32 {
        self.msize - IOHDR
    }

    /// A client of its own, which has attached.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let who = (&*self.uname, self.uid);
        Client::connect(&self.address, self.dialect, self.msize, who, &self.aname).map_err(|error| {
            let attach = match error.errno() {
                Some(_) => format!(": attach as user {:?}, number {} (--uname, --uid)", self.uname, self.uid),
                None => String::new(),
            };
            anyhow::Error::from(error).context(format!("{}{attach}", self.address))
        })
    }
}
