//! One conversation per dialect: version, attach, walk, open, create, read, write, stat, remove and their like, small and large, with mistakes in between.

use bytes::BytesMut;
use ring9::wire::{Data, Dialect, Ext, Message, NOFID, NOTAG, Names, Opt, Stat, UOnly};

/// Builds requests with tags in order.
pub struct Script {
    pub dialect: Dialect,
    pub bytes: BytesMut,
    tag: u16,
}

impl Script {
    pub fn new(dialect: Dialect) -> Script {
        let mut script = Script { dialect, bytes: BytesMut::new(), tag: 0 };
        let version = dialect.name().as_bytes();
        Message::Tversion { msize: 1 << 20, version }.emit(NOTAG, dialect, &mut script.bytes);
        script
    }

    pub fn ask(&mut self, message: Message<'_>) -> &mut Script {
        message.emit(self.tag, self.dialect, &mut self.bytes);
        self.tag = (self.tag + 1) % 1000;
        self
    }

    pub fn attach(&mut self, fid: u32) -> &mut Script {
        self.ask(Message::Tattach { fid, afid: NOFID, uname: b"root", aname: b"", n_uname: Ext(0) })
    }

    pub fn walk(&mut self, fid: u32, newfid: u32, names: &[&[u8]]) -> &mut Script {
        self.ask(Message::Twalk { fid, newfid, wnames: Names::list(names) })
    }

    /// A new file under `fid`, open for reading and writing.
    pub fn create(&mut self, fid: u32, name: &[u8]) -> &mut Script {
        match self.dialect {
            Dialect::L => self.ask(Message::Tlcreate { fid, name, flags: 0o102, mode: 0o100644, gid: 0 }),
            _ => self.ask(Message::Tcreate { fid, name, perm: 0o644, mode: 2, extension: UOnly(b"") }),
        }
    }

    pub fn open(&mut self, fid: u32, write: bool) -> &mut Script {
        match self.dialect {
            Dialect::L => self.ask(Message::Tlopen { fid, flags: if write { 2 } else { 0 } }),
            _ => self.ask(Message::Topen { fid, mode: if write { 2 } else { 0 } }),
        }
    }

    pub fn mkdir(&mut self, fid: u32, name: &[u8]) -> &mut Script {
        match self.dialect {
            Dialect::L => self.ask(Message::Tmkdir { dfid: fid, name, mode: 0o40755, gid: 0 }),
            _ => {
                self.walk(fid, 900, &[]);
                self.ask(Message::Tcreate { fid: 900, name, perm: 0x8000_01ed, mode: 0, extension: UOnly(b"") });
                self.clunk(900)
            }
        }
    }

    pub fn stat(&mut self, fid: u32) -> &mut Script {
        match self.dialect {
            Dialect::L => self.ask(Message::Tgetattr { fid, request_mask: 0x3fff }),
            _ => self.ask(Message::Tstat { fid }),
        }
    }

    pub fn list(&mut self, fid: u32) -> &mut Script {
        match self.dialect {
            Dialect::L => self.ask(Message::Treaddir { fid, offset: 0, count: 8000 }),
            _ => self.read(fid, 0, 8000),
        }
    }

    pub fn read(&mut self, fid: u32, offset: u64, count: u32) -> &mut Script {
        self.ask(Message::Tread { fid, offset, count })
    }

    pub fn write(&mut self, fid: u32, offset: u64, data: &[u8]) -> &mut Script {
        self.ask(Message::Twrite { fid, offset, data: Data::Here(data) })
    }

    pub fn clunk(&mut self, fid: u32) -> &mut Script {
        self.ask(Message::Tclunk { fid })
    }

    pub fn remove(&mut self, fid: u32) -> &mut Script {
        self.ask(Message::Tremove { fid })
    }
}

/// Bytes that are nowhere the same.
pub fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 131 + seed * 7919) >> 3) as u8 ^ at as u8).collect()
}

/// The conversation that every driver must answer alike.
pub fn conversation(dialect: Dialect) -> Vec<u8> {
    let mut script = Script::new(dialect);
    script.attach(0).walk(0, 1, &[]).create(1, b"small").write(1, 0, b"hello, world").read(1, 0, 100).stat(1);
    script.write(1, 5, &pattern(3000, 1)).read(1, 3, 4000).read(1, 5000, 10).clunk(1);
    script.mkdir(0, b"dir").walk(0, 2, &[b"dir"]).walk(2, 3, &[]).create(3, b"large");
    // Payloads that land: from the start, behind the end, over both, with a hole in front, across blocks.
    script.write(3, 0, &pattern(100_000, 2)).write(3, 100_000, &pattern(40_000, 3)).write(
        3,
        50_000,
        &pattern(70_001, 4),
    );
    script.write(3, 300_000, &pattern(20_000, 5)).read(3, 0, 200_000).read(3, 150_000, 200_000).stat(3);
    // The same bytes are read, overwritten and read again while the first replies may still be on their way.
    script.read(3, 65_000, 2000).write(3, 65_100, b"overwritten").read(3, 65_000, 2000);
    script.write(3, 60_000, &pattern(30_000, 6)).read(3, 59_990, 30_020);
    // Mistakes: a large payload for nobody, for a directory, for a fid that is not open; and small ones.
    script.write(77, 0, &pattern(50_000, 7)).walk(0, 4, &[]).write(4, 0, &pattern(33_000, 8)).open(4, false);
    script.write(4, 0, &pattern(17_000, 9)).read(9, 0, 1).walk(0, 5, &[b"nowhere"]).walk(0, 5, &[b"dir", b"nowhere"]);
    script.walk(0, 5, &[b"dir", b"large"]).open(5, false).read(5, 299_990, 30).write(5, 0, b"read-only").clunk(5);
    script.list(4).clunk(4).walk(2, 6, &[]).open(6, false).list(6).clunk(6).clunk(6);
    match dialect {
        Dialect::L => {
            script.ask(Message::Tsymlink { fid: 0, name: b"link", target: b"dir/large", gid: 0 });
            script.walk(0, 7, &[b"link"]).ask(Message::Treadlink { fid: 7 }).stat(7).clunk(7);
            script.ask(Message::Trenameat { olddirfid: 0, oldname: b"small", newdirfid: 2, newname: b"moved" });
            script.ask(Message::set_size(3, 1234));
            // An attribute that comes as a large payload, and one that is not whole; what there is of them.
            script.walk(3, 10, &[]).walk(3, 11, &[]);
            script.ask(Message::Txattrcreate { fid: 10, name: b"user.large", attr_size: 40_000, flags: 1 });
            script.ask(Message::Txattrcreate { fid: 11, name: b"user.part", attr_size: 40_000, flags: 1 });
            script.write(10, 0, &pattern(30_000, 10)).write(11, 0, &pattern(30_000, 11));
            script.write(10, 30_000, &pattern(10_000, 12)).write(11, 5, &pattern(20_000, 13)).clunk(10).clunk(11);
            script.ask(Message::Txattrwalk { fid: 3, newfid: 10, name: b"user.large" }).read(10, 100, 50_000);
            script.ask(Message::Txattrwalk { fid: 3, newfid: 11, name: b"" }).read(11, 0, 100).clunk(10).clunk(11);
            let (start, client_id) = (10, &b"box"[..]);
            for (type_, length, proc_id) in [(1, 5, 1), (1, 1, 2), (0, 0, 3), (2, 2, 1), (0, 2, 3)] {
                script.ask(Message::Tlock { fid: 3, type_, flags: 0, start, length, proc_id, client_id });
            }
            script.ask(Message::Tgetlock { fid: 3, type_: 2, start: 0, length: 0, proc_id: 4, client_id });
            script.ask(Message::Tunlinkat { dfid: 2, name: b"moved", flags: 0 });
            script.ask(Message::Tunlinkat { dfid: 0, name: b"dir", flags: 0x200 });
            script.ask(Message::Tstatfs { fid: 0 }).ask(Message::Tfsync { fid: 3, datasync: Opt(0) });
        }
        _ => {
            let dont = Stat::dont_touch();
            script.ask(Message::Twstat { fid: 3, stat: Stat { length: 1234, ..dont } });
            script.ask(Message::Twstat { fid: 3, stat: dont }).walk(0, 7, &[b"small"]);
            script
                .ask(Message::Twstat { fid: 7, stat: Stat { name: b"moved", mode: 0o600, ..dont } })
                .stat(7)
                .remove(7);
            if dialect == Dialect::U {
                script.walk(0, 8, &[]);
                script.ask(Message::Tcreate {
                    fid: 8,
                    name: b"link",
                    perm: 0x0200_0000,
                    mode: 0,
                    extension: UOnly(b"dir"),
                });
                script.stat(8).clunk(8);
            }
        }
    }
    script.read(3, 0, 2000).stat(3).ask(Message::Tflush { oldtag: 3 }).remove(3).remove(2).remove(0).clunk(0);
    script.bytes.to_vec()
}
