//! The commands for what a file has beside its bytes: xattr and lock.

use crate::Run;
use crate::flags::{Bytes, XattrCommand};
use crate::say::{Why, print, shown};
use anyhow::{Context, anyhow, bail};
use ring9::client::Access;
use ring9::fs::LockKind;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

/// Largest value that is read from standard input; the server has the last word.
const VALUE_BYTES_MAX: u64 = 1 << 20;
/// How often a lock is asked for that somebody else has.
const AGAIN: Duration = Duration::from_millis(200);

impl Run {
    pub(crate) fn xattr(&mut self, what: &XattrCommand) -> anyhow::Result<()> {
        match what {
            XattrCommand::Ls { paths } => {
                for path in paths {
                    let names = self.client.with(path.as_bytes(), |client, fid| client.xattrs(fid));
                    let Some(names) = self.go_on(shown(path.as_bytes()), names)? else { continue };
                    for name in names {
                        let line = if paths.len() > 1 {
                            format!("{}: {}\n", shown(path.as_bytes()), shown(&name))
                        } else {
                            format!("{}\n", shown(&name))
                        };
                        print(line.as_bytes())?;
                    }
                }
            }
            XattrCommand::Get { path, name } => {
                let value = self.client.with(path.as_bytes(), |client, fid| client.xattr(fid, name.as_bytes()));
                if let Some(value) = self.go_on(what_of(path, name), value)? {
                    print(&value)?;
                }
            }
            XattrCommand::Set { path, name, value } => {
                let value = match value {
                    Some(value) => value.as_bytes().to_vec(),
                    None => {
                        let mut bytes = Vec::new();
                        io::stdin().lock().take(VALUE_BYTES_MAX).read_to_end(&mut bytes).context("standard input")?;
                        bytes
                    }
                };
                self.set_xattr(path, name, Some(&value))?;
            }
            XattrCommand::Rm { path, name } => self.set_xattr(path, name, None)?,
        }
        Ok(())
    }

    fn set_xattr(&mut self, path: &OsStr, name: &OsStr, value: Option<&[u8]>) -> anyhow::Result<()> {
        let set = self.client.with(path.as_bytes(), |client, fid| client.set_xattr(fid, name.as_bytes(), value));
        self.go_on(what_of(path, name), set)?;
        Ok(())
    }

    /// Runs a command while bytes of a file are locked; its exit code, as a shell has it.
    pub(crate) fn lock(
        &mut self,
        shared: bool,
        nonblock: bool,
        bytes: &Bytes,
        path: &OsStr,
        command: &[OsString],
    ) -> anyhow::Result<u8> {
        let name = shown(path.as_bytes());
        let of_server = |error| anyhow::Error::from(error).context(name.clone());
        let fid = self.client.walk(ring9::client::Client::ROOT, path.as_bytes()).map_err(of_server)?;
        self.client.open(fid, Access::Read).map_err(of_server)?;
        let kind = if shared { LockKind::Shared } else { LockKind::Exclusive };
        let host = nix::unistd::gethostname().unwrap_or_default();
        let owner = (std::process::id(), host.as_bytes());
        while !self.client.lock(fid, kind, &bytes.0, owner).map_err(of_server)? {
            if nonblock {
                bail!("{}: {name}: somebody else has locked it", self.place);
            }
            std::thread::sleep(AGAIN);
        }
        let (program, arguments) = command.split_first().expect("the flags ask for one");
        let status = Command::new(program).args(arguments).status();
        let status = status.map_err(|error| anyhow!("{}: {}", shown(program.as_bytes()), error.why()))?;
        self.client.lock(fid, LockKind::None, &bytes.0, owner).map_err(of_server)?;
        self.client.clunk(fid).map_err(of_server)?;
        Ok(status.code().map_or_else(|| 128 + status.signal().unwrap_or_default() as u8, |code| code as u8))
    }
}

fn what_of(path: &OsStr, name: &OsStr) -> String {
    format!("{}: {}", shown(path.as_bytes()), shown(name.as_bytes()))
}
