//! The server under load: where it is, how it is spoken to, and the files that the load needs.

use crate::generator::{Op, Own, Pattern, World};
use anyhow::{Context, ensure};
use ring9::client::{Access, Address, Client};
use ring9::wire::{Dialect, IOHDR};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest write when files are made, in bytes.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Bytes that a listing may take.
const LIST_BYTES_MAX: u32 = 64 << 10;

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

    fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address, self.dialect, self.msize, (&self.uname, self.uid), &self.aname)
            .with_context(|| self.address.to_string())
    }

    /// Makes the folder and its files; `slots` are those whose files are renamed.
    pub(crate) fn prepare(
        &self,
        files: u32,
        file_bytes: u64,
        verify: bool,
        ops: &[Op],
        slots: &[Own],
    ) -> anyhow::Result<World> {
        for op in ops {
            ensure!(op.is_in(self.dialect), "{op} is not in {}", self.dialect.name());
        }
        let mut world = World {
            dialect: self.dialect,
            has_at: false,
            names: (0..files).map(|number| format!("file.{number}").into_bytes().into_boxed_slice()).collect(),
            pattern: Pattern::new(WRITE_BYTES_MAX.max(self.payload_max() as usize)),
            list_bytes: self.payload_max().min(LIST_BYTES_MAX),
            verify,
        };
        let mut client = self.client()?;
        let parent = client.walk(Client::ROOT, self.parent.as_bytes()).with_context(|| self.parent.clone())?;
        client.mkdir(parent, self.name.as_bytes(), 0o755).with_context(|| format!("mkdir {}", self.name))?;
        let dir = client.walk(parent, self.name.as_bytes())?;
        // What a server does not have is known once it was asked for.
        let fid = client.create(dir, b"tried", 0o644, Access::Write)?;
        client.clunk(fid)?;
        client.rename(dir, b"tried", dir, b"renamed")?;
        client.remove(dir, b"renamed", false)?;
        world.has_at = client.has_at();
        for name in &world.names {
            let fid = client.create(dir, name, 0o644, Access::Write)?;
            let mut at = 0;
            while at < file_bytes {
                let size = (file_bytes - at).min(WRITE_BYTES_MAX as u64) as usize;
                client.write(fid, at, world.pattern.at(at, size)).context("the files of the run")?;
                at += size as u64;
            }
            client.clunk(fid)?;
        }
        if ops.contains(&Op::Rename) {
            for own in slots {
                let fid = client.create(dir, own.first_name(), 0o644, Access::Write)?;
                client.clunk(fid)?;
            }
        }
        Ok(world)
    }

    /// Removes what `prepare` and the run have made.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        let mut client = self.client()?;
        let parent = client.walk(Client::ROOT, self.parent.as_bytes())?;
        let dir = client.walk(parent, self.name.as_bytes())?;
        for named in client.list(dir)? {
            client.remove(dir, &named.name, named.is_dir())?;
        }
        client.clunk(dir)?;
        client.remove(parent, self.name.as_bytes(), true)?;
        Ok(())
    }
}
