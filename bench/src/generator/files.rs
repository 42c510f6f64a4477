//! The files of a load: they are made on the server before it, and removed after it.

use super::operation::{Op, Own, Pattern, World};
use crate::target::Target;
use anyhow::{Context, ensure};
use ring9::client::{Access, Client};
use ring9::wire::Dialect;

/// Largest write when files are made, in bytes.
const WRITE_BYTES_MAX: usize = 1 << 20;
/// Bytes that a listing may take.
const LIST_BYTES_MAX: u32 = 64 << 10;

/// Makes the folder and its files; `slots` are those whose files are renamed.
pub(crate) fn prepare(
    target: &Target,
    files: u32,
    file_bytes: u64,
    (verify, fsync): (bool, bool),
    ops: &[Op],
    slots: &[Own],
) -> anyhow::Result<World> {
    for op in ops {
        ensure!(op.is_in(target.dialect), "{op} is not in {}", target.dialect.name());
        ensure!(!fsync || target.dialect == Dialect::L, "Tfsync is not in {}", target.dialect.name());
    }
    let mut world = World {
        dialect: target.dialect,
        has_at: false,
        names: (0..files).map(|number| format!("file.{number}").into_bytes().into_boxed_slice()).collect(),
        pattern: Pattern::new(WRITE_BYTES_MAX.max(target.payload_max() as usize)),
        list_bytes: target.payload_max().min(LIST_BYTES_MAX),
        verify,
        fsync,
    };
    let mut client = target.client()?;
    let parent = client.walk(Client::ROOT, target.parent.as_bytes()).with_context(|| target.parent.clone())?;
    client.mkdir(parent, target.name.as_bytes(), 0o755).with_context(|| format!("mkdir {}", target.name))?;
    let dir = client.walk(parent, target.name.as_bytes())?;
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
pub(crate) fn clear(target: &Target) -> anyhow::Result<()> {
    let mut client = target.client()?;
    let parent = client.walk(Client::ROOT, target.parent.as_bytes())?;
    let dir = client.walk(parent, target.name.as_bytes())?;
    for named in client.list(dir)? {
        client.remove(dir, &named.name, named.is_dir())?;
    }
    client.clunk(dir)?;
    client.remove(parent, target.name.as_bytes(), true)?;
    Ok(())
}
