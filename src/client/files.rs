//! A client of one server: walk, open, create, read, write and list, in the agreed dialect.
//!
//! Functions that end in `_message` only build the request, so that many can go into one
//! [`Transport::exchange`]; the others send it and wait for the reply. A server may serve requests
//! out of order. So one exchange must hold only requests on different fids, or reads of one fid.

use super::address::Address;
use super::attr::Attr;
use super::refusal::Error as CallError;
use super::transport::{Error, Transport};
use crate::fs::{Error as Errno, StatFs, mode};
use crate::wire::{
    Data, Dialect, DirEntry, Ext, Fid, IOHDR, Message, NAMES_MAX, NOFID, Names, Opt, Qid, Stat, UOnly, lopen, open, qt,
};
use std::collections::HashSet;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: Vec<u8>,
    /// Its identity.
    pub qid: Qid,
}

impl Named {
    /// A directory.
    pub fn is_dir(&self) -> bool {
        self.qid.kind & qt::DIR != 0
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing at offsets.
    Write,
    /// Writing, and what is there is cut to nothing.
    Truncate,
    /// Writing a file that is made by this. In .L it is an error if one is there; the older dialects have no other way to make one.
    New,
    /// Writing behind what is there, whatever the offset says. Plain 9P2000 has no such open, only files that are so themselves (DMAPPEND).
    Append,
}

/// Names that are taken from one directory: about 200 MiB of memory. Only a server that never ends a listing has more.
const DIR_NAMES_MAX: usize = 2 << 20;
/// Bytes that these may have together.
const DIR_NAME_BYTES_MAX: usize = 64 << 20;

impl Access {
    /// Flags of Tlopen (Linux: P9_DOTL_).
    fn linux(self) -> u32 {
        match self {
            Access::Read => lopen::READ,
            Access::Write => lopen::WRITE,
            Access::Truncate => lopen::WRITE | lopen::TRUNC,
            Access::New => lopen::WRITE | lopen::EXCL,
            Access::Append => lopen::WRITE | lopen::APPEND,
        }
    }

    /// Mode of Topen. OAPPEND is of .u (Linux: P9_OAPPEND).
    fn classic(self, dialect: Dialect) -> u8 {
        match self {
            Access::Read => open::READ,
            Access::Truncate => open::WRITE | open::TRUNC,
            Access::Append if dialect == Dialect::U => open::WRITE | open::APPEND,
            Access::Write | Access::New | Access::Append => open::WRITE,
        }
    }
}

/// A tree of a server. Fid 0 is its root.
pub struct Client {
    pub(super) transport: Transport,
    next_fid: Fid,
    free_fids: Vec<Fid>,
    /// The group that new files get; !0 leaves it to the server. 9P2000 and .u cannot name one.
    pub(super) group: u32,
    /// The server has Tunlinkat and Trenameat, as far as is known; not every .L server does.
    pub(super) has_at: bool,
}

impl Client {
    /// The fid of the root.
    pub const ROOT: Fid = 0;

    /// Connects, agrees on a version and attaches.
    pub fn connect(
        address: &Address,
        dialect: Dialect,
        msize: u32,
        who: (&str, u32),
        aname: &str,
    ) -> Result<Client, Error> {
        Client::attach(Transport::connect(address, dialect, msize)?, who, aname)
    }

    /// Attaches to a tree of this server, as the user of this name and number.
    pub fn attach(mut transport: Transport, (uname, uid): (&str, u32), aname: &str) -> Result<Client, Error> {
        let attach = Message::Tattach {
            fid: Client::ROOT,
            afid: NOFID,
            uname: uname.as_bytes(),
            aname: aname.as_bytes(),
            n_uname: Ext(uid),
        };
        transport.greet(attach)?;
        let has_at = transport.dialect() == Dialect::L;
        Ok(Client { transport, next_fid: 1, free_fids: Vec::new(), has_at, group: !0 })
    }

    /// The group that new files get from here on, where the dialect can name one (9P2000.L).
    pub fn set_group(&mut self, gid: u32) {
        self.group = gid;
    }

    /// That group; !0 leaves it to the server.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// The connection, for many requests at a time.
    pub fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// The dialect that was agreed on.
    pub fn dialect(&self) -> Dialect {
        self.transport.dialect()
    }

    /// Bytes of payload that fit one message.
    pub fn chunk(&self) -> u32 {
        self.transport.msize() - IOHDR
    }

    /// A number for a new fid.
    pub fn new_fid(&mut self) -> Fid {
        self.free_fids.pop().unwrap_or_else(|| {
            self.next_fid += 1;
            self.next_fid - 1
        })
    }

    /// The number may be used again: its fid is clunked, or never came to be.
    pub fn free_fid(&mut self, fid: Fid) {
        self.free_fids.push(fid);
    }

    /// Walks to a path, "/" between names; a new fid.
    pub fn walk(&mut self, from: Fid, path: &[u8]) -> Result<Fid, Error> {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        let (first, rest) = names.split_at(names.len().min(NAMES_MAX));
        let fid = self.new_fid();
        let mut walked = self.walk_step(from, fid, first);
        if walked.is_err() {
            self.free_fid(fid);
            return walked.map(|()| fid);
        }
        for names in rest.chunks(NAMES_MAX) {
            walked = walked.and_then(|()| self.walk_step(fid, fid, names));
        }
        match walked {
            Ok(()) => Ok(fid),
            failed => self.clunk_after(fid, failed.map(|()| fid)),
        }
    }

    /// One Twalk. An error leaves `newfid` as it was.
    fn walk_step(&mut self, fid: Fid, newfid: Fid, names: &[&[u8]]) -> Result<(), Error> {
        let came =
            self.transport.call(Message::Twalk { fid, newfid, wnames: Names::list(names) }, |reply| match reply {
                Message::Rwalk { wqids } => wqids.len(),
                _ => 0,
            })?;
        if came >= names.len() {
            return Ok(());
        }
        // walk(9P): only the first name that fails is answered by an error, so it has to be the first.
        let probe = self.new_fid();
        let mut why = Error::Call(CallError::Refused(Errno::ENOENT, None));
        let fails_at = Message::Twalk { fid, newfid: probe, wnames: Names::list(&names[..came]) };
        if self.transport.call(fails_at, |reply| matches!(reply, Message::Rwalk { wqids } if wqids.len() == came))? {
            let failing = Message::Twalk { fid: probe, newfid: probe, wnames: Names::list(&names[came..=came]) };
            let failed = self.transport.call(failing, |_| ());
            if let Err(error) = self.clunk_after(probe, failed) {
                why = error;
            }
        } else {
            self.free_fid(probe);
        }
        Err(why)
    }

    /// Walks to a path, does something with its fid, and gives the fid back whatever came of it.
    pub fn with<T>(
        &mut self,
        path: &[u8],
        does: impl FnOnce(&mut Client, Fid) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fid = self.walk(Client::ROOT, path)?;
        let done = does(self, fid);
        self.clunk_after(fid, done)
    }

    /// Gives a fid back, after what was done with it has come to this. A connection that failed has no fids left, and its first error tells most.
    pub fn clunk_after<T>(&mut self, fid: Fid, done: Result<T, Error>) -> Result<T, Error> {
        if done.as_ref().err().is_none_or(Error::is_refusal) {
            self.clunk(fid)?;
        }
        done
    }

    /// Gives a fid back.
    pub fn clunk(&mut self, fid: Fid) -> Result<(), Error> {
        let done = self.transport.call(Message::Tclunk { fid }, |_| ());
        self.free_fid(fid);
        done
    }

    /// Opens.
    pub fn open_message(&self, fid: Fid, access: Access) -> Message<'static> {
        match self.dialect() {
            Dialect::L => Message::Tlopen { fid, flags: access.linux() },
            dialect => Message::Topen { fid, mode: access.classic(dialect) },
        }
    }

    /// Opens a fid.
    pub fn open(&mut self, fid: Fid, access: Access) -> Result<(), Error> {
        let message = self.open_message(fid, access);
        self.transport.call(message, |_| ())
    }

    /// Makes a file in the directory `fid`, which becomes that file, open. In .L an existing one is opened; else that is an error.
    pub fn create_message<'a>(&self, fid: Fid, name: &'a [u8], permissions: u32, access: Access) -> Message<'a> {
        match self.dialect() {
            Dialect::L => {
                let flags = access.linux() | lopen::CREATE;
                Message::Tlcreate { fid, name, flags, mode: mode::IFREG | permissions, gid: self.group }
            }
            dialect => {
                let mode = access.classic(dialect) & !open::TRUNC;
                Message::Tcreate { fid, name, perm: permissions & 0o777, mode, extension: UOnly(b"") }
            }
        }
    }

    /// Opens the file of this name, and makes it if it is not there. A new fid.
    pub fn create(&mut self, dir: Fid, name: &[u8], permissions: u32, access: Access) -> Result<Fid, Error> {
        let fid = self.walk(dir, b"")?;
        let message = self.create_message(fid, name, permissions, access);
        match self.transport.call(message, |_| ()) {
            Ok(()) => Ok(fid),
            Err(error) if error.is_refusal() => {
                self.clunk(fid)?;
                if error.errno() != Some(Errno::EEXIST) && self.dialect() == Dialect::L {
                    return Err(error);
                }
                // If there is nothing to be opened, the first answer tells more.
                let fid = match self.walk(dir, name) {
                    Ok(fid) => fid,
                    Err(walk) => return Err(if walk.is_refusal() { error } else { walk }),
                };
                match self.open(fid, access) {
                    Ok(()) => Ok(fid),
                    failed => self.clunk_after(fid, failed.map(|()| fid)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Asks for the attributes.
    pub fn stat_message(&self, fid: Fid) -> Message<'static> {
        match self.dialect() {
            Dialect::L => Message::Tgetattr { fid, request_mask: 0x7ff },
            _ => Message::Tstat { fid },
        }
    }

    /// The attributes of a fid.
    pub fn stat(&mut self, fid: Fid) -> Result<Attr, Error> {
        let message = self.stat_message(fid);
        self.transport.call(message, |reply| Attr::of(&reply))
    }

    /// Reads the target of a symbolic link.
    pub fn readlink(&mut self, fid: Fid, attr: &Attr) -> Result<Vec<u8>, Error> {
        if self.dialect() != Dialect::L {
            return Ok(attr.target.clone());
        }
        self.transport.call(Message::Treadlink { fid }, |reply| match reply {
            Message::Rreadlink { target } => target.to_vec(),
            _ => Vec::new(),
        })
    }

    /// The names in a directory, without "." and "..".
    pub fn list(&mut self, dir: Fid) -> Result<Vec<Named>, Error> {
        let fid = self.walk(dir, b"")?;
        let listed = self.open(fid, Access::Read).and_then(|()| self.list_open(fid));
        self.clunk_after(fid, listed)
    }

    fn list_open(&mut self, fid: Fid) -> Result<Vec<Named>, Error> {
        let (mut all, mut offset, mut name_bytes) = (Vec::new(), 0, 0);
        // Where replies ended: a server that comes back to one of them goes in circles.
        let mut ends = HashSet::new();
        let (count, dialect) = (self.chunk().min(128 << 10), self.dialect());
        loop {
            let before = all.len();
            let message = match dialect {
                Dialect::L => Message::Treaddir { fid, offset, count },
                _ => Message::Tread { fid, offset, count },
            };
            let bytes = self.transport.call(message, |reply| match reply {
                Message::Rreaddir { data: Data::Here(bytes) } | Message::Rread { data: Data::Here(bytes) } => {
                    bytes.to_vec()
                }
                _ => Vec::new(),
            })?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let bad = |error: crate::wire::Error| bad_directory(&error.to_string());
                let named;
                if dialect == Dialect::L {
                    let (entry, behind) = DirEntry::parse(rest).map_err(bad)?;
                    named = Named { name: entry.name.to_vec(), qid: entry.qid };
                    (offset, rest) = (entry.offset, behind);
                } else {
                    let (stat, behind) = Stat::parse(rest, dialect).map_err(bad)?;
                    named = Named { name: stat.name.to_vec(), qid: stat.qid };
                    rest = behind;
                }
                name_bytes += named.name.len();
                all.push(named);
            }
            if all.len() == before {
                all.retain(|named| !matches!(named.name.as_slice(), b"." | b".."));
                return Ok(all);
            }
            if dialect != Dialect::L {
                offset += bytes.len() as u64;
            } else if !ends.insert(offset) {
                return Err(bad_directory("it goes in circles").into());
            }
            if all.len() > DIR_NAMES_MAX || name_bytes > DIR_NAME_BYTES_MAX {
                return Err(bad_directory("it has more names than this client keeps").into());
            }
        }
    }

    /// Reads `ranges` (offset, length) of an open fid, many at a time; `each` gets what comes, in any order. The ranges that came short are returned, cut to what is missing.
    pub fn read(
        &mut self,
        fid: Fid,
        ranges: &[(u64, u32)],
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<Vec<(u64, u32)>, Error> {
        let (mut short, mut failed) = (Vec::new(), None);
        let messages = ranges.iter().map(|&(offset, count)| Message::Tread { fid, offset, count });
        self.transport.exchange(messages, |number, reply| {
            let (offset, count) = ranges[number];
            match reply {
                Ok(Message::Rread { data: Data::Here(bytes) }) => {
                    each(offset, bytes);
                    if bytes.len() < count as usize {
                        short.push((offset + bytes.len() as u64, count - bytes.len() as u32));
                    }
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(short),
        }
    }

    /// Writes all of `data` to an open fid, in pieces that are in flight together.
    pub fn write(&mut self, fid: Fid, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut todo: Vec<(usize, usize)> = (0..data.len())
            .step_by(self.chunk() as usize)
            .map(|at| (at, data.len().min(at + self.chunk() as usize)))
            .collect();
        while !todo.is_empty() {
            let (mut short, mut failed) = (Vec::new(), None);
            let messages = todo.iter().map(|&(from, to)| Message::Twrite {
                fid,
                offset: offset + from as u64,
                data: Data::Here(&data[from..to]),
            });
            let asked = todo.clone();
            self.transport.exchange(messages, |number, reply| match reply {
                Ok(Message::Rwrite { count: 0 }) => failed = Some(CallError::Refused(Errno::EIO, None)),
                Ok(Message::Rwrite { count }) => {
                    let (from, to) = asked[number];
                    let from = from + count as usize;
                    if from < to {
                        short.push((from, to));
                    }
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            todo = short;
        }
        Ok(())
    }

    /// Writes all of `data` behind what is there, to a fid opened for [`Access::Append`]. `end` is where that is as far as is known; a server that appends passes
    /// over it. Piece by piece, since the order in which they are served decides.
    pub fn append(&mut self, fid: Fid, end: u64, data: &[u8]) -> Result<(), Error> {
        let mut end = end;
        for piece in data.chunks(self.chunk() as usize) {
            self.write(fid, end, piece)?;
            end += piece.len() as u64;
        }
        Ok(())
    }

    /// Sizes of the file system; .L only.
    pub fn statfs(&mut self, fid: Fid) -> Result<StatFs, Error> {
        if self.dialect() != Dialect::L {
            let text = format!("{} does not tell; --dialect 9P2000.L does", self.dialect().name());
            return Err(Error::Call(CallError::Refused(Errno::EOPNOTSUPP, Some(text.into()))));
        }
        self.transport.call(Message::Tstatfs { fid }, |reply| match reply {
            Message::Rstatfs { bsize, blocks, bfree, files, ffree, fsid, .. } => {
                StatFs { bsize, blocks, bfree, files, ffree, fsid }
            }
            _ => StatFs::default(),
        })
    }

    /// Everything written so far is as safe as the server makes it.
    pub fn sync(&mut self, fid: Fid) -> Result<(), Error> {
        let message = match self.dialect() {
            Dialect::L => Message::Tfsync { fid, datasync: Opt(0) },
            _ => Message::Twstat { fid, stat: Stat::dont_touch() },
        };
        self.transport.call(message, |_| ())
    }
}

fn bad_directory(what: &str) -> CallError {
    CallError::Protocol(format!("a directory: {what}"))
}
