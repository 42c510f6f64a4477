//! Requests by operands: each operand is a byte that picks from a short table of values at which something might change, so that requests meet: few fids, few
//! names, sizes at edges.

use arbitrary::Unstructured;
use bytes::BytesMut;
use ring9::wire::{Data, Dialect, Ext, Message, NOFID, NOTAG, Names, Opt, Qid, Stat, Tag, UOnly};

macro_rules! says {
    ($($name:ident { $($field:ident),* })*) => {
        /// A request, by operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are those of the messages; in tests nothing needs docs")]
        pub enum Say { $($name { $($field: u8),* },)* }

        /// Their places.
        enum Place { $($name,)* }

        /// How many there are.
        pub const SAYS: usize = [$(stringify!($name)),*].len();

        impl Say {
            /// The one at this place, with operands from the input.
            pub fn decode(place: usize, u: &mut Unstructured<'_>) -> arbitrary::Result<Say> {
                $(if place == Place::$name as usize {
                    return Ok(Say::$name { $($field: u.arbitrary()?),* });
                })*
                unreachable!("places are below their number")
            }

            /// Its place.
            pub fn place(&self) -> usize {
                match self { $(Say::$name { .. } => Place::$name as usize,)* }
            }

            /// Its operands, in order.
            pub fn operands(&self) -> Vec<u8> {
                match *self { $(Say::$name { $($field),* } => vec![$($field),*],)* }
            }
        }
    };
}

says! {
    Version { version, msize }
    Auth { fid }
    Attach { fid, afid, user, aname }
    Flush { oldtag }
    Walk { fid, newfid, count, first, second, third }
    Read { fid, offset, count }
    Write { fid, offset, len, seed }
    Clunk { fid }
    Remove { fid }
    Open { fid, mode }
    Create { fid, name, perm, mode, extension }
    Stat { fid }
    Wstat { fid, which, name, value }
    Lopen { fid, flags }
    Lcreate { fid, name, flags, mode, gid }
    Symlink { fid, name, target }
    Mknod { fid, name, mode }
    Rename { fid, dfid, name }
    Readlink { fid }
    Getattr { fid, mask }
    Setattr { fid, valid, mode, owner, size, time }
    Xattrwalk { fid, newfid, name }
    Xattrcreate { fid, name }
    Readdir { fid, offset, count }
    Fsync { fid }
    Lock { fid }
    Getlock { fid }
    Link { dfid, fid, name }
    Mkdir { fid, name, mode }
    Renameat { fid, name, newdirfid, newname }
    Unlinkat { fid, name, flags }
    Statfs { fid }
    Raw { kind, len, seed }
    Getxattr { fid, newfid, name }
    Setxattr { fid, name, size, flags }
    Lockrange { fid, kind, start, length, process }
    Askrange { fid, kind, start, length, process }
}

pub(crate) const FIDS: &[u32] = &[0, 1, 2, 3, 4, 5, 6, 7, 1000, NOFID];
pub(crate) const TAGS: &[Tag] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xfffe, NOTAG];
pub(crate) const LONG: &[u8] = &[b'l'; 4096];
pub(crate) const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"e",
    b"f",
    b"zero",
    b"null",
    b"random",
    b"full",
    b"..",
    b".",
    b"",
    b"x/y",
    b"\xff\xfe",
    LONG.split_at(254).0,
    LONG.split_at(255).0,
    LONG.split_at(256).0,
];
/// Names that a client that means well would make.
pub(crate) const GOOD_NAMES: usize = 6;
pub(crate) const TEXTS: &[&[u8]] = &[
    b"a",
    b"b/c",
    b"",
    b"0\n",
    b"1",
    b"b 8 1",
    b"c 1 3",
    b"b x",
    LONG.split_at(3800).0,
    LONG.split_at(4095).0,
    LONG.split_at(4096).0,
];
pub(crate) const OFFSETS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    10,
    100,
    1000,
    4095,
    4096,
    16_384,
    60_000,
    65_535,
    65_536,
    65_537,
    100_000,
    131_072,
    1 << 20,
    1 << 32,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX - 10,
    u64::MAX,
];
pub(crate) const COUNTS: &[u32] =
    &[0, 1, 10, 30, 60, 100, 300, 1000, 4072, 4096, 8168, 16_384, 65_536, 100_000, 1 << 20, u32::MAX];
/// 16,361 bytes are the last whose frame is not large.
pub(crate) const LENS: &[u32] =
    &[0, 1, 5, 60, 64, 65, 100, 1000, 4096, 16_361, 16_362, 17_000, 30_000, 65_535, 65_536, 70_001, 131_072, 200_000];
pub(crate) const LINUX_FLAGS: &[u32] = &[
    0,
    1,
    2,
    0o102,
    0o302,
    0o101,
    0o1001,
    0o1002,
    0o1102,
    0o2001,
    0o2002,
    0o2102,
    0o3102,
    0o200_000,
    0o1000,
    3,
    u32::MAX,
];
pub(crate) const OPEN_MODES: &[u8] =
    &[0, 1, 2, 3, 0x10, 0x11, 0x12, 0x40, 0x41, 0x42, 0x52, 0x20, 0x80, 0x81, 0x82, 0xff];
pub(crate) const PERMS: &[u32] = &[
    0o644,
    0o600,
    0o666,
    0o777,
    0,
    0x8000_01ed,
    0x8000_01ff,
    0x4000_01a4,
    0x2000_01a4,
    0x0400_01a4,
    0x0200_01ff,
    0x0100_01a4,
    0x0080_01a4,
    0x0020_01a4,
    0x0010_01a4,
    0x0008_01ed,
    0x8004_01ff,
    0x8001_01ff,
];
pub(crate) const MODES: &[u32] = &[
    0o644,
    0o600,
    0o666,
    0o755,
    0o777,
    0,
    0o444,
    0o4755,
    0o2775,
    0o1777,
    0o100_644,
    0o20_644,
    0o60_644,
    0o10_644,
    0o140_644,
    0o40_755,
    0o120_777,
    u32::MAX,
];
pub(crate) const OWNERS: &[u32] = &[0, 1000, 1001, 65_534, NOFID];
pub(crate) const USERS: &[(&[u8], u32)] =
    &[(b"root", 0), (b"", 1000), (b"ann", !0), (b"", 1001), (b"nobody", 65_534), (b"1002", !0), (b"", !0)];
pub(crate) const ANAMES: &[&[u8]] = &[b"", b"/", b"dev", b"nowhere"];
pub(crate) const VERSIONS: &[&[u8]] = &[b"9P2000.L", b"9P2000.u", b"9P2000", b"9P2000.zzz", b"HTTP/1.1", b""];
pub(crate) const MSIZES: &[u32] = &[1 << 20, 65_536, 20_000, 16_384, 8192, 4097, 4096, 4095, 0, u32::MAX];
pub(crate) const MASKS: &[u64] = &[0x3fff, 0x7ff, 0x1, 0, 0x200, u64::MAX];
pub(crate) const VALIDS: &[u32] =
    &[0, 0x1, 0x2, 0x4, 0x6, 0x8, 0x9, 0x10, 0x20, 0x30, 0x40, 0x90, 0x120, 0x1b0, 0x68, 0x1ff, u32::MAX];
pub(crate) const SIZES: &[u64] = &[
    0,
    1,
    10,
    63,
    64,
    100,
    4096,
    16_384,
    65_535,
    65_536,
    65_537,
    100_000,
    131_072,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];
pub(crate) const TIMES: &[(u64, u64)] =
    &[(0, 0), (1_700_000_000, 5), (u64::MAX, 0), (5, 1_000_000_000), (1 << 33, 999_999_999)];
pub(crate) const UNLINK_FLAGS: &[u32] = &[0, 0x200, 1];
pub(crate) const KINDS: &[u8] = &[
    0, 1, 6, 7, 8, 12, 14, 16, 18, 20, 22, 24, 26, 30, 40, 50, 70, 72, 74, 76, 99, 100, 101, 102, 104, 106, 107, 108,
    110, 111, 112, 114, 116, 117, 118, 120, 122, 124, 126, 128, 255,
];
pub(crate) const XATTRS: &[&[u8]] = &[
    b"user.a",
    b"user.b",
    b"",
    b"trusted.a",
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"user.",
    b"other.a",
];
pub(crate) const XATTR_SIZES: &[u64] = &[10, 0, 1, 64, 4096, 20_000, 65_535, 65_536, 65_537, u64::MAX];
pub(crate) const XATTR_FLAGS: &[u32] = &[0, 1, 2, 3, 4];
pub(crate) const LOCK_KINDS: &[u8] = &[0, 1, 2, 3];
pub(crate) const LOCK_PLACES: &[u64] = &[0, 1, 2, 5, 10, 100, (1 << 63) - 1, 1 << 63, u64::MAX];
pub(crate) const PROCESSES: &[u32] = &[1, 2, 3];
pub(crate) const RAW_LENS: &[usize] = &[0, 1, 2, 4, 8, 13, 20, 40, 100, 300, 17_000];

fn pick<T: Copy>(table: &[T], code: u8) -> T {
    table[usize::from(code) % table.len()]
}

/// A tag by its operand.
pub fn tag_of(code: u8) -> Tag {
    pick(TAGS, code)
}

/// A payload by its operand.
fn payload(len: u32, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(131) >> 3) as u8 ^ at as u8 ^ seed).collect()
}

impl Say {
    /// The frame. A client knows `msize`; it respects it in writes whose seed is below 128.
    pub fn frame(&self, tag: Tag, dialect: Dialect, msize: u32) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        let mut emit = |message: &Message<'_>| message.emit(tag, dialect, &mut bytes);
        let fid_of = |code| pick(FIDS, code);
        let name_of = |code| pick(NAMES, code);
        match *self {
            Say::Version { version, msize } => {
                emit(&Message::Tversion { msize: pick(MSIZES, msize), version: pick(VERSIONS, version) })
            }
            Say::Auth { fid } => {
                emit(&Message::Tauth { afid: fid_of(fid), uname: b"ann", aname: b"", n_uname: Ext(1000) })
            }
            Say::Attach { fid, afid, user, aname } => {
                let (uname, n_uname) = pick(USERS, user);
                // A fid to prove something with is seldom there.
                let afid = if afid < 240 { NOFID } else { fid_of(afid) };
                emit(&Message::Tattach {
                    fid: fid_of(fid),
                    afid,
                    uname,
                    aname: pick(ANAMES, aname),
                    n_uname: Ext(n_uname),
                });
            }
            Say::Flush { oldtag } => emit(&Message::Tflush { oldtag: tag_of(oldtag) }),
            Say::Walk { fid, newfid, count, first, second, third } => {
                // Up to three names that differ, and up to 16.
                let names: Vec<_> =
                    [first, second, third].into_iter().cycle().take(usize::from(count % 17)).map(name_of).collect();
                emit(&Message::Twalk { fid: fid_of(fid), newfid: fid_of(newfid), wnames: Names::list(&names) });
            }
            Say::Read { fid, offset, count } => {
                emit(&Message::Tread { fid: fid_of(fid), offset: pick(OFFSETS, offset), count: pick(COUNTS, count) })
            }
            Say::Write { fid, offset, len, seed } => {
                let len = if seed < 128 { pick(LENS, len).min(msize.saturating_sub(24)) } else { pick(LENS, len) };
                let data = payload(len, seed);
                emit(&Message::Twrite { fid: fid_of(fid), offset: pick(OFFSETS, offset), data: Data::Here(&data) });
            }
            Say::Clunk { fid } => emit(&Message::Tclunk { fid: fid_of(fid) }),
            Say::Remove { fid } => emit(&Message::Tremove { fid: fid_of(fid) }),
            Say::Open { fid, mode } => emit(&Message::Topen { fid: fid_of(fid), mode: pick(OPEN_MODES, mode) }),
            Say::Create { fid, name, perm, mode, extension } => emit(&Message::Tcreate {
                fid: fid_of(fid),
                name: name_of(name),
                perm: pick(PERMS, perm),
                mode: pick(OPEN_MODES, mode),
                extension: UOnly(pick(TEXTS, extension)),
            }),
            Say::Stat { fid } => emit(&Message::Tstat { fid: fid_of(fid) }),
            Say::Wstat { fid, which, name, value } => {
                emit(&Message::Twstat { fid: fid_of(fid), stat: wstat(which, name, value) })
            }
            Say::Lopen { fid, flags } => emit(&Message::Tlopen { fid: fid_of(fid), flags: pick(LINUX_FLAGS, flags) }),
            Say::Lcreate { fid, name, flags, mode, gid } => emit(&Message::Tlcreate {
                fid: fid_of(fid),
                name: name_of(name),
                flags: pick(LINUX_FLAGS, flags),
                mode: pick(MODES, mode),
                gid: pick(OWNERS, gid),
            }),
            Say::Symlink { fid, name, target } => {
                emit(&Message::Tsymlink { fid: fid_of(fid), name: name_of(name), target: pick(TEXTS, target), gid: 0 });
            }
            Say::Mknod { fid, name, mode } => {
                emit(&Message::Tmknod {
                    dfid: fid_of(fid),
                    name: name_of(name),
                    mode: pick(MODES, mode),
                    major: 1,
                    minor: 3,
                    gid: 0,
                });
            }
            Say::Rename { fid, dfid, name } => {
                emit(&Message::Trename { fid: fid_of(fid), dfid: fid_of(dfid), name: name_of(name) })
            }
            Say::Readlink { fid } => emit(&Message::Treadlink { fid: fid_of(fid) }),
            Say::Getattr { fid, mask } => {
                emit(&Message::Tgetattr { fid: fid_of(fid), request_mask: pick(MASKS, mask) })
            }
            Say::Setattr { fid, valid, mode, owner, size, time } => {
                let (atime_sec, atime_nsec) = pick(TIMES, time);
                let (mtime_sec, mtime_nsec) = pick(TIMES, time.wrapping_add(1));
                emit(&Message::Tsetattr {
                    fid: fid_of(fid),
                    valid: pick(VALIDS, valid),
                    mode: pick(MODES, mode),
                    uid: pick(OWNERS, owner),
                    gid: pick(OWNERS, owner / 16),
                    size: pick(SIZES, size),
                    atime_sec,
                    atime_nsec,
                    mtime_sec,
                    mtime_nsec,
                });
            }
            Say::Xattrwalk { fid, newfid, name } => {
                emit(&Message::Txattrwalk { fid: fid_of(fid), newfid: fid_of(newfid), name: name_of(name) });
            }
            Say::Xattrcreate { fid, name } => {
                emit(&Message::Txattrcreate { fid: fid_of(fid), name: name_of(name), attr_size: 10, flags: 0 });
            }
            Say::Readdir { fid, offset, count } => {
                emit(&Message::Treaddir {
                    fid: fid_of(fid),
                    offset: pick(OFFSETS, offset),
                    count: pick(COUNTS, count),
                });
            }
            Say::Fsync { fid } => emit(&Message::Tfsync { fid: fid_of(fid), datasync: Opt(0) }),
            Say::Lock { fid } => {
                emit(&Message::Tlock {
                    fid: fid_of(fid),
                    type_: 1,
                    flags: 0,
                    start: 0,
                    length: 0,
                    proc_id: 1,
                    client_id: b"me",
                });
            }
            Say::Getlock { fid } => {
                emit(&Message::Tgetlock {
                    fid: fid_of(fid),
                    type_: 1,
                    start: 0,
                    length: 0,
                    proc_id: 1,
                    client_id: b"me",
                });
            }
            Say::Link { dfid, fid, name } => {
                emit(&Message::Tlink { dfid: fid_of(dfid), fid: fid_of(fid), name: name_of(name) })
            }
            Say::Mkdir { fid, name, mode } => {
                emit(&Message::Tmkdir { dfid: fid_of(fid), name: name_of(name), mode: pick(MODES, mode), gid: NOFID });
            }
            Say::Renameat { fid, name, newdirfid, newname } => emit(&Message::Trenameat {
                olddirfid: fid_of(fid),
                oldname: name_of(name),
                newdirfid: fid_of(newdirfid),
                newname: name_of(newname),
            }),
            Say::Unlinkat { fid, name, flags } => {
                emit(&Message::Tunlinkat { dfid: fid_of(fid), name: name_of(name), flags: pick(UNLINK_FLAGS, flags) });
            }
            Say::Statfs { fid } => emit(&Message::Tstatfs { fid: fid_of(fid) }),
            Say::Getxattr { fid, newfid, name } => {
                emit(&Message::Txattrwalk { fid: fid_of(fid), newfid: fid_of(newfid), name: pick(XATTRS, name) });
            }
            Say::Setxattr { fid, name, size, flags } => emit(&Message::Txattrcreate {
                fid: fid_of(fid),
                name: pick(XATTRS, name),
                attr_size: pick(XATTR_SIZES, size),
                flags: pick(XATTR_FLAGS, flags),
            }),
            Say::Lockrange { fid, kind, start, length, process } => emit(&Message::Tlock {
                fid: fid_of(fid),
                type_: pick(LOCK_KINDS, kind),
                flags: 1,
                start: pick(LOCK_PLACES, start),
                length: pick(LOCK_PLACES, length),
                proc_id: pick(PROCESSES, process),
                client_id: b"me",
            }),
            Say::Askrange { fid, kind, start, length, process } => emit(&Message::Tgetlock {
                fid: fid_of(fid),
                type_: pick(LOCK_KINDS, kind),
                start: pick(LOCK_PLACES, start),
                length: pick(LOCK_PLACES, length),
                proc_id: pick(PROCESSES, process),
                client_id: b"me",
            }),
            Say::Raw { kind, len, seed } => {
                let body = payload(pick(RAW_LENS, len) as u32, seed);
                let size = u32::try_from(ring9::wire::HEAD + body.len()).expect("raw frames are small");
                return [&size.to_le_bytes()[..], &[pick(KINDS, kind)], &tag.to_le_bytes(), &body].concat();
            }
        }
        bytes.to_vec()
    }
}

/// A record that changes what the bits of `which` say.
fn wstat(which: u8, name: u8, value: u8) -> Stat<'static> {
    let mut stat = Stat::dont_touch();
    let has = |bit: u8| which >> bit & 1 == 1;
    if has(0) {
        stat.mode = pick(PERMS, value);
    }
    if has(1) {
        stat.length = pick(SIZES, value);
    }
    if has(2) {
        stat.mtime = pick(TIMES, value).0 as u32;
    }
    if has(3) {
        stat.atime = pick(TIMES, value).0 as u32;
    }
    if has(4) {
        stat.name = pick(NAMES, name);
    }
    if has(5) {
        (stat.gid, stat.n_gid) = (b"1000", UOnly(pick(OWNERS, value)));
    }
    if has(6) {
        (stat.uid, stat.n_uid) = (b"1001", UOnly(pick(OWNERS, value)));
    }
    if has(7) {
        stat.qid = Qid { kind: 0, version: 1, path: value.into() };
    }
    stat
}
