//! Requests: mostly ones that make sense, all dialects, with shared names, so that clients meet; some that make none.

use super::{Ask, Client, FIDS, Fid};
use crate::kernel::socket::Socket;
use crate::ledger::Ledger;
use crate::random::Random;
use ring9::wire::{Data, Dialect, Ext, IOHDR, Kind, Message, NOFID, NOTAG, Names, Opt, Stat, Tag, UOnly};

/// Names that all clients use.
const NAMES: &[&[u8]] = &[b"a", b"b", b"c", b"d", b"dir", b"sub", b"e", b"a-longer-name-than-the-others-have"];

/// Attributes that all clients use; "" is the list of all names.
const XATTRS: &[&[u8]] = &[b"user.a", b"user.b", b"security.capability", b""];

impl Client {
    /// Adds a request to what is to be said.
    pub(super) fn ask(&mut self, socket: &mut Socket, random: &mut Random, ledger: &mut Ledger) {
        self.left -= 1;
        self.requests += 1;
        if !self.agreed && !self.is_gentle && random.one_in(30) {
            return self.before_the_version(socket, random);
        }
        if self.has_lost && random.one_in(4) {
            self.begin_again();
        }
        if !self.agreed {
            self.troubles[1] = ledger.troubles;
            return self.version();
        }
        if self.fids[0] == Fid::Free {
            let fid = if random.one_in(30) { 3 } else { 0 };
            self.becomes(fid, Fid::Walked);
            return self.attach(fid as u32);
        }
        if self.habits.talks_rubbish && random.one_in(20) {
            return self.rubbish(socket, random);
        }
        if self.habits.reuses_tags && !self.asks.is_empty() && random.one_in(20) {
            let tag = self.asks[random.below(self.asks.len())].tag;
            socket.excuse = socket.excuse.or(Some("a tag was used twice"));
            self.lenient = true;
            return self.put(Message::Tread { fid: 1, offset: 0, count: 10 }, Some(tag));
        }
        if self.habits.hoards && self.has(|fid| fid == Fid::File) {
            return if random.one_in(40) { self.flush(random) } else { self.read(random) };
        }
        match random.below(100) {
            0..=17 => self.walk(random),
            18..=27 => self.open(random),
            28..=36 => self.create(random),
            37..=52 => self.read(random),
            53..=69 => self.write(random, ledger),
            70..=76 => self.list(random),
            77..=81 => self.stat(random),
            82..=86 => self.change(random),
            87..=90 => self.clunk(random),
            91..=93 => self.names(random),
            94..=95 => self.flush(random),
            96..=98 => self.special(random),
            _ => self.start_again(random, ledger),
        }
    }

    /// Asks for its version.
    pub(super) fn version(&mut self) {
        self.put(Message::Tversion { msize: self.msize, version: self.dialect.name().as_bytes() }, Some(NOTAG));
    }

    fn put(&mut self, message: Message<'_>, tag: Option<Tag>) {
        self.put_as(message, tag, Some(message.kind()));
    }

    fn put_as(&mut self, message: Message<'_>, tag: Option<Tag>, kind: Option<Kind>) {
        let tag = tag.unwrap_or_else(|| self.new_tag());
        let mut ask = Ask {
            tag,
            kind,
            count: 0,
            offset: 0,
            oldtag: NOTAG,
            names: 0,
            of_attr: false,
            changes: self.changes.take(),
        };
        match message {
            Message::Tread { offset, count, .. } | Message::Treaddir { offset, count, .. } => {
                (ask.offset, ask.count) = (offset, count);
            }
            Message::Twrite { fid, data, .. } => (ask.count, ask.of_attr) = (data.len() as u32, fid as usize >= FIDS),
            Message::Tversion { msize, .. } => ask.count = msize,
            Message::Tflush { oldtag } => ask.oldtag = oldtag,
            Message::Twalk { wnames, .. } => ask.names = wnames.len(),
            Message::Tclunk { fid } => ask.of_attr = fid as usize >= FIDS,
            _ => {}
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("connection {} > {}", self.number, message.line(tag, self.dialect)));
        }
        self.out.clear();
        message.emit(tag, self.dialect, &mut self.out);
        self.saying.extend_from_slice(&self.out);
        self.asks.push(ask);
    }

    fn new_tag(&mut self) -> Tag {
        loop {
            self.tag = (self.tag + 1) % 1000;
            if self.asks.iter().all(|ask| ask.tag != self.tag) {
                return self.tag;
            }
        }
    }

    fn attach(&mut self, fid: u32) {
        let aname = std::mem::take(&mut self.aname);
        let uname = self.uid.to_string();
        let n_uname = Ext(self.uid);
        self.put(
            Message::Tattach { fid, afid: NOFID, uname: uname.as_bytes(), aname: aname.as_bytes(), n_uname },
            None,
        );
        self.aname = aname;
    }

    /// The next request gives a fid this meaning.
    fn becomes(&mut self, fid: usize, meaning: Fid) {
        self.changes = Some((fid, self.fids[fid]));
        self.fids[fid] = meaning;
    }

    fn has(&self, wanted: impl Fn(Fid) -> bool) -> bool {
        self.fids[1..].iter().any(|&fid| wanted(fid))
    }

    /// A fid of which this is so, or any.
    fn pick(&mut self, random: &mut Random, wanted: impl Fn(Fid) -> bool) -> usize {
        let fits: Vec<usize> = (0..FIDS).filter(|&fid| wanted(self.fids[fid])).collect();
        if fits.is_empty() || random.one_in(25) { random.below(FIDS) } else { random.of(&fits) }
    }

    fn walk(&mut self, random: &mut Random) {
        let from = if random.one_in(3) { self.pick(random, |fid| fid == Fid::Walked) } else { 0 };
        let to = self.pick(random, |fid| fid == Fid::Free);
        let count = random.of(&[0, 1, 1, 1, 2, 3]);
        let mut names: Vec<&[u8]> = Vec::new();
        for _ in 0..count {
            names.push(if random.one_in(8) { b".." } else { random.of(NAMES) });
        }
        if to != 0 && self.fids[to] == Fid::Free {
            self.becomes(to, Fid::Walked);
        }
        self.put(Message::Twalk { fid: from as u32, newfid: to as u32, wnames: Names::list(&names) }, None);
    }

    fn open(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid == Fid::Walked);
        if fid == 0 && random.below(10) > 0 {
            return self.walk(random);
        }
        let truncates = random.one_in(6);
        // Whether it is a directory the reply tells.
        self.becomes(fid, Fid::File);
        match self.dialect {
            Dialect::L => {
                let mut flags = random.of(&[0, 1, 2, 2, 2]);
                flags |= if truncates { 0o1000 } else { 0 } | if random.one_in(6) { 0o2000 } else { 0 };
                self.put(Message::Tlopen { fid: fid as u32, flags }, None);
            }
            _ => {
                let mut mode = random.of(&[0, 1, 2, 2, 2, 3]);
                mode |= if truncates { 0x10 } else { 0 } | if random.one_in(12) { 0x40 } else { 0 };
                self.put(Message::Topen { fid: fid as u32, mode }, None);
            }
        }
    }

    fn create(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid == Fid::Walked);
        let name = random.of(NAMES);
        let is_dir = random.one_in(4);
        let mode = random.of(&[0o777, 0o666, 0o644, 0o600, 0o4755, 0o2777, 0o1777]);
        if is_dir && self.dialect == Dialect::L {
            return self.put(Message::Tmkdir { dfid: fid as u32, name, mode, gid: random.of(&[0, 5, !0]) }, None);
        }
        if fid == 0 {
            // The root stays; a copy of it becomes the new file.
            let to = self.pick(random, |fid| fid == Fid::Free);
            self.becomes(to, Fid::Walked);
            return self.put(Message::Twalk { fid: 0, newfid: to as u32, wnames: Names::list(&[]) }, None);
        }
        self.becomes(fid, Fid::File);
        match self.dialect {
            Dialect::L => {
                let flags = random.of(&[0o100, 0o101, 0o102, 0o102, 0o302, 0o1102, 0o2102]);
                self.put(Message::Tlcreate { fid: fid as u32, name, flags, mode, gid: random.of(&[0, 5, !0]) }, None);
            }
            dialect => {
                let mut perm = mode & 0o777;
                let kinds = [0, 0, 0, 0, 0, 0x4000_0000, 0x2000_0000, 0x0400_0000, 0x8000_0000];
                perm |= if is_dir { 0x8000_0000 } else { random.of(&kinds) };
                let mut extension: &[u8] = b"";
                if dialect == Dialect::U && random.one_in(10) {
                    (perm, extension) = random.of(&[
                        (0x0200_0000_u32, &b"a/b"[..]),
                        (0x0080_0000, b"c 1 3"),
                        (0x0020_0000, b""),
                        (0x0010_0000, b""),
                    ]);
                }
                let mode = if perm & 0x8000_0000 != 0 { 0 } else { random.of(&[0, 1, 2, 2, 0x12, 0x42]) };
                self.put(Message::Tcreate { fid: fid as u32, name, perm, mode, extension: UOnly(extension) }, None);
            }
        }
    }

    fn most(&self) -> usize {
        (self.msize - IOHDR) as usize
    }

    fn length(&self, random: &mut Random) -> usize {
        let length = match random.below(12) {
            0 => random.below(3),
            1..=5 => random.below(600),
            6 => 4090 + random.below(12),
            7 => 16_340 + random.below(60),
            8 => random.below(70_000),
            9 => 65_530 + random.below(12),
            10 => random.below(150_000),
            _ => 16_400 + random.below(20_000),
        };
        length.min(self.most())
    }

    fn offset(&self, random: &mut Random) -> u64 {
        match random.below(40) {
            0 => i64::MAX as u64 + random.below(3) as u64,
            1 => u64::MAX - random.below(5) as u64,
            2..=20 => 0,
            _ => self.length(random) as u64,
        }
    }

    fn read(&mut self, random: &mut Random) {
        if !self.has(|fid| fid == Fid::File) && random.below(4) > 0 {
            return self.open(random);
        }
        let fid = self.pick(random, |fid| fid == Fid::File);
        let count = if random.one_in(3) { self.most() } else { self.length(random) };
        let offset = self.offset(random);
        self.put(Message::Tread { fid: fid as u32, offset, count: count as u32 }, None);
    }

    fn write(&mut self, random: &mut Random, ledger: &mut Ledger) {
        if !self.has(|fid| fid == Fid::File) && random.below(4) > 0 {
            return self.create(random);
        }
        let fid = self.pick(random, |fid| fid == Fid::File);
        let len = self.length(random);
        self.serial += 1;
        let stamp = u64::from(self.number) << 32 | self.serial;
        let mut state = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut data = Vec::with_capacity(len + 8);
        data.extend_from_slice(&stamp.to_le_bytes());
        while data.len() < len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            data.extend_from_slice(&state.to_be_bytes());
        }
        data.truncate(len);
        let offset = self.offset(random);
        self.put(Message::Twrite { fid: fid as u32, offset, data: Data::Here(&data) }, None);
        ledger.asks_to_write(self.number, offset, data);
    }

    fn list(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| matches!(fid, Fid::Dir { .. }));
        let Fid::Dir { cookie } = self.fids[fid] else {
            // One is needed first.
            let to = self.pick(random, |fid| fid == Fid::Free);
            self.becomes(to, Fid::Walked);
            self.put(Message::Twalk { fid: 0, newfid: to as u32, wnames: Names::list(&[]) }, None);
            self.becomes(to, Fid::Dir { cookie: 0 });
            return match self.dialect {
                Dialect::L => self.put(Message::Tlopen { fid: to as u32, flags: 0 }, None),
                _ => self.put(Message::Topen { fid: to as u32, mode: 0 }, None),
            };
        };
        let count = random.of(&[10, 60, 130, 300, 4000, 1 << 20]);
        let offset = if random.one_in(6) { 0 } else { cookie };
        match self.dialect {
            Dialect::L => self.put(Message::Treaddir { fid: fid as u32, offset, count }, None),
            _ => self.put(Message::Tread { fid: fid as u32, offset, count }, None),
        }
    }

    fn stat(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid != Fid::Free) as u32;
        match self.dialect {
            Dialect::L => match random.below(6) {
                0 => self.put(Message::Tstatfs { fid }, None),
                1 => self.put(Message::Treadlink { fid }, None),
                2 => self.put(Message::Tfsync { fid, datasync: Opt(0) }, None),
                _ => self.put(Message::Tgetattr { fid, request_mask: 0x3fff }, None),
            },
            _ => self.put(Message::Tstat { fid }, None),
        }
    }

    fn change(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid == Fid::File || fid == Fid::Walked) as u32;
        let size = if random.one_in(2) { 0 } else { self.length(random) as u64 };
        match self.dialect {
            Dialect::L => {
                let valid = random.of(&[0x8, 0x8, 0x8, 0x1, 0x2, 0x4, 0x10, 0xa0, 0x40, 0x9]);
                self.put(
                    Message::Tsetattr {
                        fid,
                        valid,
                        mode: random.of(&[0o644, 0o777, 0o4777]),
                        uid: random.of(&[0, 1, self.uid]),
                        gid: random.of(&[0, 5]),
                        size,
                        atime_sec: 7,
                        atime_nsec: 1,
                        mtime_sec: 9,
                        mtime_nsec: 2,
                    },
                    None,
                );
            }
            _ => {
                let dont = Stat::dont_touch();
                let stat = match random.below(5) {
                    0 => dont,
                    1 => Stat { mode: random.of(&[0o644, 0o777]), ..dont },
                    2 => Stat { name: random.of(NAMES), ..dont },
                    3 => Stat { mtime: 77, length: size, ..dont },
                    _ => Stat { length: size, ..dont },
                };
                self.put(Message::Twstat { fid, stat }, None);
            }
        }
    }

    fn clunk(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid != Fid::Free);
        if fid == 0 && random.below(20) > 0 {
            return;
        }
        self.fids[fid] = Fid::Free;
        let fid = fid as u32;
        self.put(if random.one_in(5) { Message::Tremove { fid } } else { Message::Tclunk { fid } }, None);
    }

    fn names(&mut self, random: &mut Random) {
        let dir = if random.one_in(2) { 0 } else { self.pick(random, |fid| fid == Fid::Walked) } as u32;
        let other = self.pick(random, |fid| fid != Fid::Free) as u32;
        let (name, new) = (random.of(NAMES), random.of(NAMES));
        if self.dialect != Dialect::L {
            return self.put(Message::Tstat { fid: dir }, None);
        }
        let message = match random.below(7) {
            0 => Message::Tlink { dfid: dir, fid: other, name },
            1 => Message::Trename { fid: other, dfid: dir, name },
            2 => Message::Trenameat { olddirfid: dir, oldname: name, newdirfid: 0, newname: new },
            3 => Message::Tsymlink { fid: dir, name, target: b"a/b/c", gid: 0 },
            4 => Message::Tmknod { dfid: dir, name, mode: 0o10644, major: 0, minor: 0, gid: 0 },
            _ => Message::Tunlinkat { dfid: dir, name, flags: random.of(&[0, 0, 0x200]) },
        };
        self.put(message, None);
    }

    fn flush(&mut self, random: &mut Random) {
        // All of them, or one, or one that is none.
        let count = if random.one_in(6) { self.asks.len() } else { 1 };
        for at in 0..count {
            let some = (!self.asks.is_empty()).then(|| if count > 1 { at } else { random.below(self.asks.len()) });
            let oldtag = some.map_or(random.below(1000) as Tag, |at| self.asks[at].tag);
            if self.asks.len() < 900 {
                self.put(Message::Tflush { oldtag }, None);
            }
        }
    }

    /// What is asked before a version is agreed on: a version that is none yet, or what ends the connection.
    fn before_the_version(&mut self, socket: &mut Socket, random: &mut Random) {
        let version = self.dialect.name().as_bytes();
        if random.one_in(2) {
            return self.put(Message::Tversion { msize: random.below(4096) as u32, version }, Some(NOTAG));
        }
        self.lenient = true;
        socket.excuse = socket.excuse.or(Some("the client asks before the version"));
        self.put(Message::Tclunk { fid: 0 }, None);
    }

    /// Mistakes that are answered with an error, and what only one dialect has.
    fn special(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| fid == Fid::Walked) as u32;
        let (name, n_uname) = (random.of(NAMES), Ext(0));
        match random.below(8) {
            0 => self.put(Message::Tauth { afid: 6, uname: b"root", aname: b"", n_uname }, None),
            1 => self.put(Message::Tattach { fid: 7, afid: NOFID, uname: b"root", aname: b"nowhere", n_uname }, None),
            2 => self.put(Message::Tattach { fid: 7, afid: 6, uname: b"root", aname: b"", n_uname }, None),
            3 => self.put(Message::Twalk { fid: 0, newfid: NOFID, wnames: Names::list(&[]) }, None),
            // Refused, and one goes on.
            4 => self.put_as(Message::Rversion { msize: 1, version: b"" }, None, None),
            _ if self.dialect == Dialect::L => self.special_linux(random, fid, name),
            _ => self.special_classic(random, fid, name),
        }
    }

    fn special_linux(&mut self, random: &mut Random, fid: u32, name: &[u8]) {
        let gid = 0;
        let setattr = |valid, atime_nsec| Message::Tsetattr {
            fid,
            valid,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            atime_sec: 1,
            atime_nsec,
            mtime_sec: 0,
            mtime_nsec: 0,
        };
        match random.below(16) {
            0 => self.put(Message::Tsymlink { fid, name, target: b"", gid }, None),
            1 => {
                let mode = random.of(&[0o20644, 0o60644, 0o140644, 0o644, 0o30644]);
                self.put(Message::Tmknod { dfid: fid, name, mode, major: 1, minor: 3, gid }, None);
            }
            2 => self.put(Message::Tlopen { fid, flags: random.of(&[3, 0o200000]) }, None),
            3 => self.put(Message::Txattrwalk { fid, newfid: 7, name: b"user.x" }, None),
            8..=9 => self.get_xattr(random, fid),
            10..=12 => self.set_xattr(random, fid),
            13..=15 => self.lock(random),
            4 => self.put(setattr(0x90, random.of(&[5, 2_000_000_000])), None),
            5 => self.put(setattr(0x1000, 0), None),
            _ => self.put(Message::Tlcreate { fid, name: b"..", flags: 3, mode: 0o644, gid }, None),
        }
    }

    /// Asks for an attribute, or for the names of all, and lets go of it, all at once. Where there is none the last two are refused.
    fn get_xattr(&mut self, random: &mut Random, fid: u32) {
        let newfid = FIDS as u32;
        self.put(Message::Txattrwalk { fid, newfid, name: random.of(XATTRS) }, None);
        self.put(Message::Tread { fid: newfid, offset: 0, count: self.msize - IOHDR }, None);
        self.put(Message::Tclunk { fid: newfid }, None);
    }

    /// Sets one, or removes it, in as many messages as Linux would.
    fn set_xattr(&mut self, random: &mut Random, fid: u32) {
        let own = FIDS as u32;
        let value = vec![random.below(256) as u8; random.of(&[0, 1, 100, 5000, 20_000])];
        let announced = value.len() + usize::from(random.one_in(8));
        let flags = random.of(&[0, 0, 1, 2]);
        self.put(Message::Twalk { fid, newfid: own, wnames: Names::list(&[]) }, None);
        let (name, attr_size) = (random.of(XATTRS), announced as u64);
        self.put(Message::Txattrcreate { fid: own, name, attr_size, flags }, None);
        for (n, part) in value.chunks((self.msize - IOHDR) as usize).enumerate() {
            let offset = u64::from(self.msize - IOHDR) * n as u64;
            self.put(Message::Twrite { fid: own, offset, data: Data::Here(part) }, None);
        }
        self.put(Message::Tclunk { fid: own }, None);
    }

    fn lock(&mut self, random: &mut Random) {
        let fid = self.pick(random, |fid| matches!(fid, Fid::File | Fid::Dir { .. })) as u32;
        let (start, length) = (random.below(12) as u64, random.below(8) as u64);
        let (proc_id, client_id) = (1 + random.below(2) as u32, &b"box"[..]);
        let message = if random.one_in(4) {
            Message::Tgetlock { fid, type_: random.of(&[0, 1, 2]), start, length, proc_id, client_id }
        } else {
            Message::Tlock { fid, type_: random.of(&[0, 0, 1, 2]), flags: 1, start, length, proc_id, client_id }
        };
        self.put(message, None);
    }

    fn special_classic(&mut self, random: &mut Random, fid: u32, name: &[u8]) {
        let dont = Stat::dont_touch();
        let stat = match random.below(6) {
            0 => Stat { uid: b"root", gid: b"5", ..dont },
            1 => Stat { gid: b"nobody-knows", ..dont },
            2 => Stat { mode: 0x8000_01ff, ..dont },
            3 => Stat { muid: b"somebody", ..dont },
            4 => Stat { n_uid: UOnly(0), n_gid: UOnly(5), ..dont },
            _ => {
                let (perm, extension) = random.of(&[
                    (0x0100_0000_u32, &b"5"[..]),
                    (0x0100_0000, b"x"),
                    (0x0080_0000, b"z 1 3"),
                    (0x0080_0000, b""),
                    (0x0200_0000, b""),
                    (0x0300_0000, b"a"),
                ]);
                let mode = random.of(&[0, 1, 0x80]);
                return self.put(Message::Tcreate { fid, name, perm, mode, extension: UOnly(extension) }, None);
            }
        };
        self.put(Message::Twstat { fid, stat }, None);
    }

    /// The session anew, whatever is under way.
    fn start_again(&mut self, random: &mut Random, ledger: &Ledger) {
        if random.one_in(2) {
            return self.stat(random);
        }
        self.begin_again();
        self.troubles[1] = ledger.troubles;
        self.version();
    }

    fn begin_again(&mut self) {
        (self.agreed, self.has_lost) = (false, false);
        self.fids = [Fid::Free; FIDS];
    }

    /// Bytes after which nothing need be right.
    fn rubbish(&mut self, socket: &mut Socket, random: &mut Random) {
        self.lenient = true;
        socket.excuse = socket.excuse.or(Some("the client talks rubbish"));
        match random.below(7) {
            // So many that are none that it is not worth listening to.
            5 => (0..70).for_each(|_| self.saying.extend_from_slice(&[9, 0, 0, 0, 1, 1, 0, 1, 2])),
            6 => self.put(Message::Tclunk { fid: 9 }, Some(NOTAG)),
            0 => self.saying.extend_from_slice(&[3, 0, 0, 0, 120, 0, 0]),
            1 => self.saying.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 118, 1, 0]),
            2 => self.saying.extend_from_slice(&[9, 0, 0, 0, 120, 1, 0, 1, 2]),
            3 => {
                // A frame above 16 KiB that is no write: refused and thrown away.
                self.saying.extend_from_slice(&20_000_u32.to_le_bytes());
                self.saying.extend_from_slice(&[110, 1, 0]);
                self.saying.resize(self.saying.len() + 19_993, 7);
            }
            _ => {
                // A write whose count is not that of its payload.
                self.saying.extend_from_slice(&30_000_u32.to_le_bytes());
                self.saying.extend_from_slice(&[118, 1, 0, 1, 0, 0, 0]);
                self.saying.resize(self.saying.len() + 29_989, 9);
            }
        }
    }
}
