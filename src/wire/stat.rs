//! Records inside of messages: the stat record, and the directory entry of Rreaddir.

use super::field::{Field, Reader};
use super::text::{self, TextError};
use super::{Dialect, Error, Qid, UOnly};
use bytes::{BufMut, BytesMut};
use std::fmt::{self, Formatter};

macro_rules! record {
    ($(#[$doc:meta])* $record:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $record<'a> {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl<'a> $record<'a> {
            fn fields(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error> {
                Ok($record { $($field: Field::parse(reader, dialect)?,)* })
            }
            fn fields_size(&self, dialect: Dialect) -> usize {
                0 $(+ Field::size(&self.$field, dialect))*
            }
            fn emit_fields(&self, dialect: Dialect, out: &mut impl BufMut) {
                $(Field::emit(&self.$field, dialect, out);)*
            }
            fn print_fields(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
                let mut gap = "";
                $(if <$type as Field>::is_in(dialect) {
                    write!(f, "{gap}{}=", stringify!($field).trim_end_matches('_'))?;
                    Field::print(&self.$field, dialect, f)?;
                    gap = " ";
                })*
                let _ = gap;
                Ok(())
            }
            /// Appends the fields that a text `{name=value ...}` says; what is left out is unset.
            pub fn emit_text_fields(text: &str, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
                text::record(text, |fields| {
                    $(if <$type as Field>::is_in(dialect) {
                        <$type as Field>::emit_text(fields.take(stringify!($field)), dialect, out)?;
                    })*
                    Ok(())
                })
            }
            #[cfg(test)]
            pub(super) fn sample_fields(n: u64) -> Self {
                let mut n = n;
                $(n += 1; let $field = Field::sample(n);)*
                $record { $($field,)* }
            }
        }
    };
}

record! {
    /// A directory record of 9P2000 and .u (stat(9P)).
    Stat {
        /// For the kernel's use.
        type_: u16,
        /// For the kernel's use.
        dev: u32,
        /// Identity.
        qid: Qid,
        /// Permissions and the DM bits.
        mode: u32,
        /// Last read, in seconds.
        atime: u32,
        /// Last change of content, in seconds.
        mtime: u32,
        /// Bytes; 0 for directories.
        length: u64,
        /// Last element of the path; "/" for a root.
        name: &'a [u8],
        /// Owner.
        uid: &'a [u8],
        /// Group.
        gid: &'a [u8],
        /// Who changed it last.
        muid: &'a [u8],
        /// Target of a link, numbers of a device.
        extension: UOnly<&'a [u8]>,
        /// Owner by number.
        n_uid: UOnly<u32>,
        /// Group by number.
        n_gid: UOnly<u32>,
        /// Last changer by number.
        n_muid: UOnly<u32>,
    }
}

impl<'a> Stat<'a> {
    /// Every field says "don't touch" (stat(9P)).
    pub fn dont_touch() -> Stat<'static> {
        Stat {
            type_: !0,
            dev: !0,
            qid: Qid { kind: !0, version: !0, path: !0 },
            mode: !0,
            atime: !0,
            mtime: !0,
            length: !0,
            name: b"",
            uid: b"",
            gid: b"",
            muid: b"",
            extension: UOnly(b""),
            n_uid: UOnly(!0),
            n_gid: UOnly(!0),
            n_muid: UOnly(!0),
        }
    }

    /// Bytes of the record, its own size field included.
    pub fn size(&self, dialect: Dialect) -> usize {
        2 + self.fields_size(dialect)
    }

    /// Appends the record.
    pub fn emit(&self, dialect: Dialect, out: &mut impl BufMut) {
        out.put_u16_le(u16::try_from(self.fields_size(dialect)).expect("four short strings"));
        self.emit_fields(dialect, out);
    }

    /// The record at the front, and what is behind it.
    pub fn parse(bytes: &'a [u8], dialect: Dialect) -> Result<(Stat<'a>, &'a [u8]), Error> {
        let mut reader = Reader::new(bytes);
        let size = reader.u16()?;
        let mut body = Reader::new(reader.take(size.into())?);
        let mut stat = Stat::fields(&mut body, dialect)?;
        if dialect != Dialect::U {
            // A number that did not travel must not read as user 0: "don't touch" (stat(9P)).
            (stat.n_uid, stat.n_gid, stat.n_muid) = (UOnly(!0), UOnly(!0), UOnly(!0));
        }
        if body.is_empty() { Ok((stat, reader.rest())) } else { Err(Error::Trailing) }
    }
}

/// In Rstat and Twstat the record's size stands twice: `n[2] size[2] ...`, n = size + 2.
impl<'a> Field<'a> for Stat<'a> {
    fn parse(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error> {
        let n = reader.u16()?;
        let (stat, rest) = Stat::parse(reader.take(n.into())?, dialect)?;
        if rest.is_empty() { Ok(stat) } else { Err(Error::Trailing) }
    }
    fn size(&self, dialect: Dialect) -> usize {
        2 + Stat::size(self, dialect)
    }
    fn emit(&self, dialect: Dialect, out: &mut impl BufMut) {
        out.put_u16_le(u16::try_from(Stat::size(self, dialect)).expect("four short strings"));
        Stat::emit(self, dialect, out);
    }
    fn print(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        self.print_fields(dialect, f)?;
        f.write_str("}")
    }
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
        let mut fields = BytesMut::new();
        Stat::emit_text_fields(text.unwrap_or("{}"), dialect, &mut fields)?;
        let size = u16::try_from(fields.len()).ok().and_then(|size| size.checked_add(2)).ok_or("too long")?;
        out.put_u16_le(size);
        out.put_u16_le(size - 2);
        out.put_slice(&fields);
        Ok(())
    }
    #[cfg(test)]
    fn sample(n: u64) -> Self {
        Stat::sample_fields(n)
    }
}

record! {
    /// One entry in the payload of Rreaddir.
    DirEntry {
        /// Identity.
        qid: Qid,
        /// Where to go on behind this entry: a cookie.
        offset: u64,
        /// DT_ value of readdir(3).
        kind: u8,
        /// Name.
        name: &'a [u8],
    }
}

impl<'a> DirEntry<'a> {
    /// Bytes of the entry.
    pub fn size(&self) -> usize {
        self.fields_size(Dialect::L)
    }

    /// Appends the entry.
    pub fn emit(&self, out: &mut impl BufMut) {
        self.emit_fields(Dialect::L, out);
    }

    /// The entry at the front, and what is behind it.
    pub fn parse(bytes: &'a [u8]) -> Result<(DirEntry<'a>, &'a [u8]), Error> {
        let mut reader = Reader::new(bytes);
        let entry = DirEntry::fields(&mut reader, Dialect::L)?;
        Ok((entry, reader.rest()))
    }
}

impl fmt::Display for DirEntry<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.print_fields(Dialect::L, f)
    }
}
