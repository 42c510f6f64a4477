//! The one table of messages.
//!
//! `number CONSTANT Name (dialects) { field: type, ... }`, in the order of the wire. Sources: the manual's section 5 for the core, the kernel's
//! `include/net/9p/9p.h` and diod's protocol.md for .L, `net/9p/client.c` for .u.

use super::field::{Field, Reader};
use super::text::{self, TextError};
use super::{
    Data, Dialect, Error, Ext, Fid, HEAD, Head, Kind, NOFID, NOTAG, Names, Opt, Qid, Qids, Stat, Tag, UOnly, head,
    setattr,
};
use bytes::{BufMut, BytesMut};
use std::fmt::{self, Display, Formatter};

macro_rules! messages {
    ($($number:literal $constant:ident $name:ident ($($dialect:ident)*) { $($field:ident: $type:ty $(as $style:ident)?,)* })*) => {
        /// A message. Strings and payloads borrow from the frame; fields are those of the manual.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are those of the manual's section 5 and of the kernel's 9p.h")]
        pub enum Message<'a> {
            $($name { $($field: $type,)* },)*
        }

        #[expect(missing_docs, reason = "the names of the messages")]
        impl Kind {
            $(pub const $constant: Kind = Kind($number);)*
        }

        impl Kind {
            /// The name of the message.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }
        }

        impl<'a> Message<'a> {
            /// Its type.
            #[inline(always)]
            pub fn kind(&self) -> Kind {
                match self { $(Message::$name { .. } => Kind($number),)* }
            }

            #[inline]
            fn parse_body(kind: Kind, reader: &mut Reader<'a>, dialect: Dialect) -> Result<Message<'a>, Error> {
                match (kind.0, dialect) {
                    $(($number, $(Dialect::$dialect)|*) => Ok(Message::$name { $($field: Field::parse(reader, dialect)?,)* }),)*
                    _ => Err(Error::Unknown(kind)),
                }
            }

            /// Bytes of the whole frame, payload included.
            #[inline(always)]
            pub fn size(&self, dialect: Dialect) -> usize {
                match self { $(Message::$name { $($field,)* } => HEAD $(+ Field::size($field, dialect))*,)* }
            }

            #[inline(always)]
            fn emit_body(&self, dialect: Dialect, out: &mut impl BufMut) {
                match self { $(Message::$name { $($field,)* } => { $(Field::emit($field, dialect, out);)* })* }
                // Messages without fields use neither.
                let _ = (dialect, out);
            }

            fn print_fields(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
                match self {
                    $(Message::$name { $($field,)* } => {
                        $(if <$type as Field>::is_in(dialect) {
                            write!(f, " {}=", stringify!($field).trim_end_matches('_'))?;
                            print!($field, dialect, f $(, $style)?)?;
                        })*
                        Ok(())
                    })*
                }
            }

            /// The frame that a line in the form of [`line`](Self::line) stands for. What is left out is unset: see the head of `text.rs`.
            pub fn frame_of(line: &str, dialect: Dialect) -> Result<BytesMut, TextError> {
                text::frame(line, dialect, |name, fields, out| match (name, dialect) {
                    $((stringify!($name), $(Dialect::$dialect)|*) => {
                        $(if <$type as Field>::is_in(dialect) {
                            <$type as Field>::emit_text(fields.take(stringify!($field)), dialect, out)?;
                        })*
                        Ok($number)
                    })*
                    _ => Err("no such message".to_owned()),
                })
            }

            /// Every message in every dialect that has it.
            #[cfg(test)]
            pub(super) fn samples(seed: u64) -> Vec<(Dialect, Message<'static>)> {
                let mut all = Vec::new();
                let mut n = seed;
                $(for dialect in [$(Dialect::$dialect),*] {
                    $(n += 1; let $field = Field::sample(n);)*
                    all.push((dialect, Message::$name { $($field,)* }));
                })*
                all
            }
        }
    };
}

macro_rules! print {
    ($field:ident, $dialect:ident, $f:ident) => {
        Field::print($field, $dialect, $f)
    };
    ($field:ident, $dialect:ident, $f:ident, octal) => {
        write!($f, "0{:o}", $field)
    };
    ($field:ident, $dialect:ident, $f:ident, hex) => {
        write!($f, "{:#x}", $field)
    };
    ($field:ident, $dialect:ident, $f:ident, fid) => {
        if *$field == NOFID { $f.write_str("NOFID") } else { write!($f, "{}", $field) }
    };
}

messages! {
    7 RLERROR Rlerror (L) { ecode: u32, }
    8 TSTATFS Tstatfs (L) { fid: Fid as fid, }
    9 RSTATFS Rstatfs (L) {
        type_: u32 as hex, bsize: u32, blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, fsid: u64, namelen: u32,
    }
    12 TLOPEN Tlopen (L) { fid: Fid as fid, flags: u32 as octal, }
    13 RLOPEN Rlopen (L) { qid: Qid, iounit: u32, }
    14 TLCREATE Tlcreate (L) { fid: Fid as fid, name: &'a [u8], flags: u32 as octal, mode: u32 as octal, gid: u32, }
    15 RLCREATE Rlcreate (L) { qid: Qid, iounit: u32, }
    16 TSYMLINK Tsymlink (L) { fid: Fid as fid, name: &'a [u8], target: &'a [u8], gid: u32, }
    17 RSYMLINK Rsymlink (L) { qid: Qid, }
    18 TMKNOD Tmknod (L) { dfid: Fid as fid, name: &'a [u8], mode: u32 as octal, major: u32, minor: u32, gid: u32, }
    19 RMKNOD Rmknod (L) { qid: Qid, }
    20 TRENAME Trename (L) { fid: Fid as fid, dfid: Fid as fid, name: &'a [u8], }
    21 RRENAME Rrename (L) {}
    22 TREADLINK Treadlink (L) { fid: Fid as fid, }
    23 RREADLINK Rreadlink (L) { target: &'a [u8], }
    24 TGETATTR Tgetattr (L) { fid: Fid as fid, request_mask: u64 as hex, }
    25 RGETATTR Rgetattr (L) {
        valid: u64 as hex, qid: Qid, mode: u32 as octal, uid: u32, gid: u32, nlink: u64, rdev: u64 as hex, size: u64, blksize: u64, blocks: u64,
        atime_sec: u64, atime_nsec: u64, mtime_sec: u64, mtime_nsec: u64, ctime_sec: u64, ctime_nsec: u64, btime_sec: u64, btime_nsec: u64,
        generation: u64, data_version: u64,
    }
    26 TSETATTR Tsetattr (L) {
        fid: Fid as fid, valid: u32 as hex, mode: u32 as octal, uid: u32, gid: u32, size: u64,
        atime_sec: u64, atime_nsec: u64, mtime_sec: u64, mtime_nsec: u64,
    }
    27 RSETATTR Rsetattr (L) {}
    30 TXATTRWALK Txattrwalk (L) { fid: Fid as fid, newfid: Fid as fid, name: &'a [u8], }
    31 RXATTRWALK Rxattrwalk (L) { size: u64, }
    32 TXATTRCREATE Txattrcreate (L) { fid: Fid as fid, name: &'a [u8], attr_size: u64, flags: u32 as hex, }
    33 RXATTRCREATE Rxattrcreate (L) {}
    40 TREADDIR Treaddir (L) { fid: Fid as fid, offset: u64, count: u32, }
    41 RREADDIR Rreaddir (L) { data: Data<'a>, }
    50 TFSYNC Tfsync (L) { fid: Fid as fid, datasync: Opt<u32>, }
    51 RFSYNC Rfsync (L) {}
    52 TLOCK Tlock (L) { fid: Fid as fid, type_: u8, flags: u32 as hex, start: u64, length: u64, proc_id: u32, client_id: &'a [u8], }
    53 RLOCK Rlock (L) { status: u8, }
    54 TGETLOCK Tgetlock (L) { fid: Fid as fid, type_: u8, start: u64, length: u64, proc_id: u32, client_id: &'a [u8], }
    55 RGETLOCK Rgetlock (L) { type_: u8, start: u64, length: u64, proc_id: u32, client_id: &'a [u8], }
    70 TLINK Tlink (L) { dfid: Fid as fid, fid: Fid as fid, name: &'a [u8], }
    71 RLINK Rlink (L) {}
    72 TMKDIR Tmkdir (L) { dfid: Fid as fid, name: &'a [u8], mode: u32 as octal, gid: u32, }
    73 RMKDIR Rmkdir (L) { qid: Qid, }
    74 TRENAMEAT Trenameat (L) { olddirfid: Fid as fid, oldname: &'a [u8], newdirfid: Fid as fid, newname: &'a [u8], }
    75 RRENAMEAT Rrenameat (L) {}
    76 TUNLINKAT Tunlinkat (L) { dfid: Fid as fid, name: &'a [u8], flags: u32 as hex, }
    77 RUNLINKAT Runlinkat (L) {}
    100 TVERSION Tversion (P9 U L) { msize: u32, version: &'a [u8], }
    101 RVERSION Rversion (P9 U L) { msize: u32, version: &'a [u8], }
    102 TAUTH Tauth (P9 U L) { afid: Fid as fid, uname: &'a [u8], aname: &'a [u8], n_uname: Ext<u32>, }
    103 RAUTH Rauth (P9 U L) { aqid: Qid, }
    104 TATTACH Tattach (P9 U L) { fid: Fid as fid, afid: Fid as fid, uname: &'a [u8], aname: &'a [u8], n_uname: Ext<u32>, }
    105 RATTACH Rattach (P9 U L) { qid: Qid, }
    107 RERROR Rerror (P9 U) { ename: &'a [u8], errno: UOnly<u32>, }
    108 TFLUSH Tflush (P9 U L) { oldtag: Tag, }
    109 RFLUSH Rflush (P9 U L) {}
    110 TWALK Twalk (P9 U L) { fid: Fid as fid, newfid: Fid as fid, wnames: Names<'a>, }
    111 RWALK Rwalk (P9 U L) { wqids: Qids<'a>, }
    112 TOPEN Topen (P9 U) { fid: Fid as fid, mode: u8 as hex, }
    113 ROPEN Ropen (P9 U) { qid: Qid, iounit: u32, }
    114 TCREATE Tcreate (P9 U) { fid: Fid as fid, name: &'a [u8], perm: u32 as octal, mode: u8 as hex, extension: UOnly<&'a [u8]>, }
    115 RCREATE Rcreate (P9 U) { qid: Qid, iounit: u32, }
    116 TREAD Tread (P9 U L) { fid: Fid as fid, offset: u64, count: u32, }
    117 RREAD Rread (P9 U L) { data: Data<'a>, }
    118 TWRITE Twrite (P9 U L) { fid: Fid as fid, offset: u64, data: Data<'a>, }
    119 RWRITE Rwrite (P9 U L) { count: u32, }
    120 TCLUNK Tclunk (P9 U L) { fid: Fid as fid, }
    121 RCLUNK Rclunk (P9 U L) {}
    122 TREMOVE Tremove (P9 U L) { fid: Fid as fid, }
    123 RREMOVE Rremove (P9 U L) {}
    124 TSTAT Tstat (P9 U) { fid: Fid as fid, }
    125 RSTAT Rstat (P9 U) { stat: Stat<'a>, }
    126 TWSTAT Twstat (P9 U) { fid: Fid as fid, stat: Stat<'a>, }
    127 RWSTAT Rwstat (P9 U) {}
}

impl<'a> Message<'a> {
    /// Parses exactly one whole frame, its size field included.
    #[inline]
    pub fn parse(frame: &'a [u8], dialect: Dialect) -> Result<(Tag, Message<'a>), Error> {
        let Head { size, kind, tag } = head(frame).ok_or(Error::Short)?;
        if size as usize != frame.len() {
            return Err(Error::Size);
        }
        Self::parse_rest(&frame[HEAD..], 0, kind, tag, dialect)
    }

    /// Parses the front of a frame whose payload has arrived in part or not at all; the payload comes back as [`Data::Away`]. `prefix` must reach to the
    /// payload: [`Error::Short`] otherwise.
    #[inline]
    pub fn parse_head(prefix: &'a [u8], dialect: Dialect) -> Result<(Tag, Message<'a>), Error> {
        let Head { size, kind, tag } = head(prefix).ok_or(Error::Short)?;
        let missing = (size as usize).checked_sub(prefix.len()).filter(|&missing| missing > 0).ok_or(Error::Size)?;
        Self::parse_rest(&prefix[HEAD..], missing, kind, tag, dialect)
    }

    #[inline]
    fn parse_rest(
        body: &'a [u8],
        missing: usize,
        kind: Kind,
        tag: Tag,
        dialect: Dialect,
    ) -> Result<(Tag, Message<'a>), Error> {
        let mut reader = Reader::with_missing(body, missing);
        let message = Self::parse_body(kind, &mut reader, dialect)?;
        match reader.is_empty() {
            true => Ok((tag, message)),
            // Only a payload may be missing.
            false if reader.rest().is_empty() => Err(Error::Short),
            false => Err(Error::Trailing),
        }
    }

    /// Appends the frame, but for a payload that is [`Data::Away`].
    ///
    /// This and what it calls is always inlined, so that a caller that knows the message pays only
    /// for the fields of that message.
    #[inline(always)]
    pub fn emit(&self, tag: Tag, dialect: Dialect, out: &mut impl BufMut) {
        out.put_u32_le(u32::try_from(self.size(dialect)).expect("messages are bounded by msize"));
        out.put_u8(self.kind().0);
        out.put_u16_le(tag);
        self.emit_body(dialect, out);
    }

    /// The message on one line: `Twalk tag=1 fid=0 newfid=1 wnames=["usr" "share"]`.
    pub fn line(&self, tag: Tag, dialect: Dialect) -> Line<'a> {
        Line { message: *self, tag, dialect }
    }
}

impl Message<'static> {
    /// The Tsetattr that sets a length and nothing else.
    pub fn set_size(fid: Fid, size: u64) -> Message<'static> {
        Message::Tsetattr {
            fid,
            valid: setattr::SIZE,
            mode: 0,
            uid: 0,
            gid: 0,
            size,
            atime_sec: 0,
            atime_nsec: 0,
            mtime_sec: 0,
            mtime_nsec: 0,
        }
    }
}

/// A message to be printed on one line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    message: Message<'a>,
    tag: Tag,
    dialect: Dialect,
}

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.tag {
            NOTAG => write!(f, "{} tag=NOTAG", self.message.kind())?,
            tag => write!(f, "{} tag={tag}", self.message.kind())?,
        }
        self.message.print_fields(self.dialect, f)
    }
}
