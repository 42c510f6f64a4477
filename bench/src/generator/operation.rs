//! What is measured: operations, each of one or more messages that follow each other.
//!
//! A connection has fids 0 (root), 1 (the folder of the run), 2 (the folder, open) and one for each file, open for reading and writing; each slot, which has at most one operation in
//! flight, a fid and names of its own.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use ring9::client::Conn;
use ring9::wire::{Data, Dialect, Fid, Message, Names, Opt, Stat, Tag, UOnly, lock_status, lock_type, lopen, open};
use serde::Serialize;
use std::fmt;

/// The folder of the run.
pub(crate) const DIR: Fid = 1;
/// The same, open for listing.
pub(crate) const LIST: Fid = 2;
/// The first file.
pub(crate) const FILES: Fid = 16;
/// The first slot's fid for walks.
const SLOTS: Fid = 1 << 24;
/// The first slot's fid for the file that it renames, where that needs one.
const RENAMED: Fid = 1 << 25;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Tread at a random place of a file.
    Read,
    /// Twrite at a random place of a file.
    Write,
    /// Tgetattr of a file; Tstat where there is none.
    Getattr,
    /// Twalk to a file by its name, Tclunk.
    Walk,
    /// Twalk, Tlopen, Tread, Tclunk.
    Open,
    /// Twalk, Tlcreate, Tclunk, Tunlinkat; Twalk, Tlcreate (or Tcreate), Tremove where there is none.
    Create,
    /// Twalk, Tlcreate (or Tcreate), Twrite, Tclunk: a new file each time, which stays until the run has ended.
    Put,
    /// One Treaddir from the start; one Tread where there is none.
    Readdir,
    /// Trenameat to the other name of the slot; Trename or Twstat where there is none.
    Rename,
    /// Tlock of a byte that is the slot's, and its release.
    Lock,
}

impl Op {
    pub(crate) const ALL: [Op; 10] =
        [Op::Read, Op::Write, Op::Getattr, Op::Walk, Op::Open, Op::Create, Op::Put, Op::Readdir, Op::Rename, Op::Lock];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::Write => "write",
            Op::Getattr => "getattr",
            Op::Walk => "walk",
            Op::Open => "open",
            Op::Create => "create",
            Op::Put => "put",
            Op::Readdir => "readdir",
            Op::Rename => "rename",
            Op::Lock => "lock",
        }
    }

    pub(crate) fn of_name(name: &str) -> Option<Op> {
        if name == "stat" { Some(Op::Getattr) } else { Op::ALL.into_iter().find(|op| op.name() == name) }
    }

    pub(crate) fn is_in(self, dialect: Dialect) -> bool {
        self != Op::Lock || dialect == Dialect::L
    }

    /// Messages of a size that the run chooses.
    pub(crate) fn has_size(self) -> bool {
        matches!(self, Op::Read | Op::Write | Op::Open | Op::Put)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ValueEnum for Op {
    fn value_variants<'a>() -> &'a [Op] {
        &Op::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let value = PossibleValue::new(self.name());
        Some(if *self == Op::Getattr { value.alias("stat") } else { value })
    }
}

/// An operation with all that was chosen for it, and how far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) op: Op,
    pub(crate) file: u32,
    /// Of reads and writes.
    pub(crate) offset: u64,
    /// Bytes read or written.
    pub(crate) size: u32,
    /// Messages that have their replies.
    step: u8,
}

impl Task {
    pub(crate) fn new(op: Op, file: u32, offset: u64, size: u32) -> Task {
        Task { op, file, offset, size, step: 0 }
    }
}

/// What is a slot's own on its connection.
#[derive(Debug)]
pub(crate) struct Own {
    number: u32,
    fid: Fid,
    /// What is created and removed.
    created: Box<[u8]>,
    /// What the files are called that stay, but for their number; and how many there are.
    put: Box<[u8]>,
    puts: u32,
    /// The two names of the file that is renamed.
    names: [Box<[u8]>; 2],
    renamed: bool,
}

impl Own {
    pub(crate) fn new(line: usize, slot: u16) -> Own {
        let name = |kind: &str| format!("{kind}.{line}.{slot}").into_bytes().into_boxed_slice();
        Own {
            number: (line as u32) << 12 | u32::from(slot),
            fid: SLOTS + Fid::from(slot),
            created: name("created"),
            put: name("put"),
            puts: 0,
            names: [name("one"), name("other")],
            renamed: false,
        }
    }

    /// The name that the file to be renamed has at first.
    pub(crate) fn first_name(&self) -> &[u8] {
        &self.names[0]
    }

    /// Its fid, where files are renamed by fid.
    pub(crate) fn renamed_fid(&self) -> Fid {
        RENAMED + (self.fid - SLOTS)
    }
}

/// What files have in them: any byte can be told from its place, so that reads can be checked whoever has written.
pub(crate) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// Of no common factor with any block.
    const PERIOD: usize = 251 * 251;

    /// For payloads of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Pattern {
        let byte = |at: usize| (at % 251) as u8 ^ (at / 251 % 251) as u8;
        Pattern { bytes: (0..Pattern::PERIOD + bytes_max).map(byte).collect() }
    }

    /// What is at a place of any file.
    pub(crate) fn at(&self, offset: u64, size: usize) -> &[u8] {
        &self.bytes[(offset % Pattern::PERIOD as u64) as usize..][..size]
    }
}

/// What all operations of a run share.
pub(crate) struct World {
    pub(crate) dialect: Dialect,
    /// The server has Tunlinkat and Trenameat.
    pub(crate) has_at: bool,
    /// Names of the files.
    pub(crate) names: Vec<Box<[u8]>>,
    pub(crate) pattern: Pattern,
    /// Bytes that a listing may take.
    pub(crate) list_bytes: u32,
    /// Every byte that is read is looked at.
    pub(crate) verify: bool,
    /// A Tfsync follows each Twrite.
    pub(crate) fsync: bool,
}

impl World {
    /// Makes the next request of a task; none when it is done.
    pub(crate) fn ask(&self, conn: &mut Conn, task: &Task, own: &Own) -> Option<Tag> {
        let linux = self.dialect == Dialect::L;
        let file = FILES + task.file;
        let name = &*self.names[task.file as usize];
        let put;
        let create = |name| {
            if linux {
                Message::Tlcreate {
                    fid: own.fid,
                    name,
                    flags: lopen::CREATE | lopen::READ_WRITE,
                    mode: 0o100644,
                    gid: !0,
                }
            } else {
                let extension = UOnly(&b""[..]);
                Message::Tcreate { fid: own.fid, name, perm: 0o644, mode: open::READ_WRITE, extension }
            }
        };
        let message = match (task.op, task.step) {
            (Op::Read, 0) => Message::Tread { fid: file, offset: task.offset, count: task.size },
            (Op::Write, 0) => {
                let data = Data::Here(self.pattern.at(task.offset, task.size as usize));
                Message::Twrite { fid: file, offset: task.offset, data }
            }
            (Op::Getattr, 0) if linux => Message::Tgetattr { fid: file, request_mask: 0x7ff },
            (Op::Getattr, 0) => Message::Tstat { fid: file },
            (Op::Walk | Op::Open, 0) => {
                return Some(conn.call(&Message::Twalk { fid: DIR, newfid: own.fid, wnames: Names::list(&[name]) }));
            }
            (Op::Walk, 1) | (Op::Open, 3) => Message::Tclunk { fid: own.fid },
            (Op::Open, 1) if linux => Message::Tlopen { fid: own.fid, flags: 0 },
            (Op::Open, 1) => Message::Topen { fid: own.fid, mode: 0 },
            (Op::Open, 2) => Message::Tread { fid: own.fid, offset: task.offset, count: task.size },
            (Op::Write, 1) if self.fsync => Message::Tfsync { fid: file, datasync: Opt(1) },
            (Op::Create | Op::Put, 0) => Message::Twalk { fid: DIR, newfid: own.fid, wnames: Names::list(&[]) },
            (Op::Create, 1) => create(&own.created),
            (Op::Put, 1) => {
                put = [&*own.put, b".", own.puts.to_string().as_bytes()].concat();
                create(&put)
            }
            (Op::Put, 2) => {
                let data = Data::Here(self.pattern.at(task.offset, task.size as usize));
                Message::Twrite { fid: own.fid, offset: 0, data }
            }
            (Op::Put, 3) if self.fsync => Message::Tfsync { fid: own.fid, datasync: Opt(1) },
            (Op::Put, 3) => Message::Tclunk { fid: own.fid },
            (Op::Put, 4) if self.fsync => Message::Tclunk { fid: own.fid },
            (Op::Create, 2) if self.has_at => Message::Tclunk { fid: own.fid },
            (Op::Create, 2) => Message::Tremove { fid: own.fid },
            (Op::Create, 3) if self.has_at => Message::Tunlinkat { dfid: DIR, name: &own.created, flags: 0 },
            (Op::Readdir, 0) if linux => Message::Treaddir { fid: LIST, offset: 0, count: self.list_bytes },
            (Op::Readdir, 0) => Message::Tread { fid: LIST, offset: 0, count: self.list_bytes },
            (Op::Rename, 0) => {
                let [old, new] =
                    if own.renamed { [&own.names[1], &own.names[0]] } else { [&own.names[0], &own.names[1]] };
                // A fid of the file was walked to when the connection was made.
                if self.has_at {
                    Message::Trenameat { olddirfid: DIR, oldname: old, newdirfid: DIR, newname: new }
                } else if linux {
                    Message::Trename { fid: own.renamed_fid(), dfid: DIR, name: new }
                } else {
                    Message::Twstat { fid: own.renamed_fid(), stat: Stat { name: new, ..Stat::dont_touch() } }
                }
            }
            (Op::Lock, 0 | 1) => Message::Tlock {
                fid: FILES,
                type_: if task.step == 0 { lock_type::EXCLUSIVE } else { lock_type::NONE },
                flags: 0,
                start: u64::from(own.number),
                length: 1,
                proc_id: own.number,
                client_id: b"ring9-bench",
            },
            _ => return None,
        };
        Some(conn.call(&message))
    }

    /// Takes in the reply to the last request; what is wrong with it is said.
    pub(crate) fn answered(&self, task: &mut Task, own: &mut Own, reply: &Message<'_>) -> Result<(), String> {
        match (task.op, reply) {
            (Op::Read | Op::Open, Message::Rread { data }) => {
                let Data::Here(bytes) = data else { return Err("a payload is missing".into()) };
                if bytes.len() != task.size as usize {
                    return Err(format!("{} of {} bytes at {} were read", bytes.len(), task.size, task.offset));
                }
                if self.verify && *bytes != self.pattern.at(task.offset, bytes.len()) {
                    return Err(format!("{} bytes read at {} are not what was written", bytes.len(), task.offset));
                }
            }
            (Op::Write | Op::Put, Message::Rwrite { count }) if *count != task.size => {
                return Err(format!("{count} of {} bytes at {} were written", task.size, task.offset));
            }
            (Op::Walk | Op::Open, Message::Rwalk { wqids }) if wqids.len() != 1 => {
                return Err("a walk by one name ended before it".into());
            }
            (Op::Lock, Message::Rlock { status: lock_status::BLOCKED }) => {
                return Err("the server locks more than the byte that it was asked to; it needs --connections 1".into());
            }
            (Op::Lock, Message::Rlock { status }) if *status != 0 => return Err(format!("Rlock status={status}")),
            (Op::Rename, _) => own.renamed = !own.renamed,
            (Op::Put, Message::Rclunk {}) => own.puts += 1,
            _ => {}
        }
        task.step += 1;
        Ok(())
    }
}
