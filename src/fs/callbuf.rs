//! The owned form of a call, for trees that answer later.
//!
//! Must not know: why a tree keeps a call, and for how long.

use super::service::{Call, FileId, New};
use super::{Change, Lock, LockKind, Make, SetXattr, User};
use crate::wire::Names;
use std::ops::Range;

/// A call as it is kept by a tree that answers later.
#[derive(Debug)]
pub struct CallBuf(Kept);

#[derive(Debug)]
enum Kept {
    /// A call that borrows nothing.
    Plain(Call<'static>),
    Attach {
        user: User,
        aname: Box<[u8]>,
    },
    Walk {
        from: FileId,
        names: Vec<Box<[u8]>>,
        dots: bool,
    },
    Create {
        dir: FileId,
        name: Box<[u8]>,
        new: New,
    },
    Write {
        file: FileId,
        offset: u64,
        data: Box<[u8]>,
    },
    Wstat {
        file: FileId,
        change: Change<'static>,
        name: Option<Box<[u8]>>,
    },
    Make {
        dir: FileId,
        name: Box<[u8]>,
        what: Make<'static>,
        target: Box<[u8]>,
        mode: u32,
        gid: Option<u32>,
        enter: bool,
    },
    Link {
        dir: FileId,
        name: Box<[u8]>,
        file: FileId,
        enter: bool,
    },
    Unlink {
        dir: FileId,
        name: Box<[u8]>,
        want_dir: bool,
    },
    Rename {
        from: FileId,
        name: Box<[u8]>,
        to: FileId,
        new_name: Box<[u8]>,
    },
    RenameFile {
        file: FileId,
        to: FileId,
        new_name: Box<[u8]>,
    },
    Xattr {
        file: FileId,
        name: Box<[u8]>,
    },
    CheckXattr {
        file: FileId,
        name: Box<[u8]>,
        how: SetXattr,
    },
    SetXattr {
        file: FileId,
        name: Box<[u8]>,
        value: Option<Box<[u8]>>,
        how: SetXattr,
    },
    Lock {
        file: FileId,
        kind: LockKind,
        range: Range<u64>,
        process: u32,
        client: Box<[u8]>,
        asks: bool,
    },
}

impl From<Call<'_>> for CallBuf {
    fn from(call: Call<'_>) -> CallBuf {
        CallBuf(match call {
            Call::Attach { user, aname } => Kept::Attach { user, aname: aname.into() },
            Call::Walk { from, names, dots } => Kept::Walk { from, names: names.iter().map(Box::from).collect(), dots },
            Call::Create { dir, name, new } => Kept::Create { dir, name: name.into(), new },
            Call::Write { file, offset, data } => Kept::Write { file, offset, data: data.into() },
            Call::Wstat { file, change } => {
                Kept::Wstat { file, change: Change { name: None, ..change }, name: change.name.map(Box::from) }
            }
            Call::Make { dir, name, what, mode, gid, enter } => {
                let (what, target) = match what {
                    Make::Symlink(target) => (Make::Symlink(b""), target.into()),
                    Make::File => (Make::File, Box::default()),
                    Make::Dir => (Make::Dir, Box::default()),
                    Make::Device { block, major, minor } => (Make::Device { block, major, minor }, Box::default()),
                    Make::Fifo => (Make::Fifo, Box::default()),
                    Make::Socket => (Make::Socket, Box::default()),
                };
                Kept::Make { dir, name: name.into(), what, target, mode, gid, enter }
            }
            Call::Link { dir, name, file, enter } => Kept::Link { dir, name: name.into(), file, enter },
            Call::Unlink { dir, name, want_dir } => Kept::Unlink { dir, name: name.into(), want_dir },
            Call::Rename { from, name, to, new_name } => {
                Kept::Rename { from, name: name.into(), to, new_name: new_name.into() }
            }
            Call::RenameFile { file, to, new_name } => Kept::RenameFile { file, to, new_name: new_name.into() },
            Call::Xattr { file, name } => Kept::Xattr { file, name: name.into() },
            Call::CheckXattr { file, name, how } => Kept::CheckXattr { file, name: name.into(), how },
            Call::SetXattr { file, name, value, how } => {
                Kept::SetXattr { file, name: name.into(), value: value.map(Box::from), how }
            }
            Call::Lock { file, lock } => kept_lock(file, &lock, false),
            Call::Conflict { file, lock } => kept_lock(file, &lock, true),
            Call::Open { file, flags } => Kept::Plain(Call::Open { file, flags }),
            Call::Read { file, offset } => Kept::Plain(Call::Read { file, offset }),
            Call::List { dir, cookie, stats } => Kept::Plain(Call::List { dir, cookie, stats }),
            Call::Commit { file, grant } => Kept::Plain(Call::Commit { file, grant }),
            Call::Stat { file, target } => Kept::Plain(Call::Stat { file, target }),
            Call::ReadLink { file } => Kept::Plain(Call::ReadLink { file }),
            Call::Remove { file } => Kept::Plain(Call::Remove { file }),
            Call::Close { file } => Kept::Plain(Call::Close { file }),
            Call::Fsync { file, data_only } => Kept::Plain(Call::Fsync { file, data_only }),
            Call::StatFs { file } => Kept::Plain(Call::StatFs { file }),
        })
    }
}

fn kept_lock(file: FileId, lock: &Lock<'_>, asks: bool) -> Kept {
    let Lock { kind, range, process, client } = lock;
    Kept::Lock { file, kind: *kind, range: range.clone(), process: *process, client: (*client).into(), asks }
}

impl CallBuf {
    /// Whether it is a read, which may have to wait for news.
    pub fn is_read(&self) -> bool {
        matches!(self.0, Kept::Plain(Call::Read { .. }))
    }

    /// Makes the call of it; it is made once.
    pub fn with<R>(self, make: impl FnOnce(Call<'_>) -> R) -> R {
        match self.0 {
            Kept::Plain(call) => make(call),
            Kept::Attach { user, aname } => make(Call::Attach { user, aname: &aname }),
            Kept::Walk { from, names, dots } => {
                let names: Vec<&[u8]> = names.iter().map(|name| &**name).collect();
                make(Call::Walk { from, names: Names::list(&names), dots })
            }
            Kept::Create { dir, name, new } => make(Call::Create { dir, name: &name, new }),
            Kept::Write { file, offset, data } => make(Call::Write { file, offset, data: &data }),
            Kept::Wstat { file, change, name } => {
                make(Call::Wstat { file, change: Change { name: name.as_deref(), ..change } })
            }
            Kept::Make { dir, name, what, target, mode, gid, enter } => {
                let what = if let Make::Symlink(_) = what { Make::Symlink(&target) } else { what };
                make(Call::Make { dir, name: &name, what, mode, gid, enter })
            }
            Kept::Link { dir, name, file, enter } => make(Call::Link { dir, name: &name, file, enter }),
            Kept::Unlink { dir, name, want_dir } => make(Call::Unlink { dir, name: &name, want_dir }),
            Kept::Rename { from, name, to, new_name } => {
                make(Call::Rename { from, name: &name, to, new_name: &new_name })
            }
            Kept::RenameFile { file, to, new_name } => make(Call::RenameFile { file, to, new_name: &new_name }),
            Kept::Xattr { file, name } => make(Call::Xattr { file, name: &name }),
            Kept::CheckXattr { file, name, how } => make(Call::CheckXattr { file, name: &name, how }),
            Kept::SetXattr { file, name, value, how } => {
                make(Call::SetXattr { file, name: &name, value: value.as_deref(), how })
            }
            Kept::Lock { file, kind, range, process, client, asks } => {
                let lock = Lock { kind, range, process, client: &client };
                make(if asks { Call::Conflict { file, lock } } else { Call::Lock { file, lock } })
            }
        }
    }
}
