//! How each type of field is parsed, measured, emitted and printed; and the reader that fields are
//! parsed from.

use super::Error;
use super::text::{TextError, number, quoted};
use super::types::{Data, Dialect, Ext, Opt, Qid, UOnly};
use bytes::BufMut;
use std::fmt::{self, Formatter};

/// Takes fields off the front of a message. Never reads beyond it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes of the message that have not arrived; only a payload may reach into them.
    missing: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, missing: 0 }
    }

    pub(super) fn with_missing(bytes: &'a [u8], missing: usize) -> Reader<'a> {
        Reader { bytes, missing }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.missing == 0
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.bytes.split_first_chunk::<N>().ok_or(Error::Short)?;
        self.bytes = rest;
        Ok(*array)
    }

    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.bytes.split_at_checked(n).ok_or(Error::Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    /// Bytes behind their count, whatever they are.
    #[inline]
    pub(super) fn counted(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u16()?;
        self.take(len.into())
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a [u8], Error> {
        let len = self.u16()?;
        let bytes = self.take(len.into())?;
        if bytes.contains(&0) { Err(Error::Nul) } else { Ok(bytes) }
    }

    #[inline]
    pub(super) fn qid(&mut self) -> Result<Qid, Error> {
        let [kind] = self.array()?;
        Ok(Qid { kind, version: u32::from_le_bytes(self.array()?), path: u64::from_le_bytes(self.array()?) })
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

/// One type of field.
pub(super) trait Field<'a>: Sized {
    fn parse(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error>;
    fn size(&self, dialect: Dialect) -> usize;
    fn emit(&self, dialect: Dialect, out: &mut impl BufMut);
    fn print(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result;
    /// Emits what a text says that [`print`](Self::print) wrote, or the unset value.
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError>;
    /// False if the dialect has no such field; then it is not printed.
    fn is_in(_: Dialect) -> bool {
        true
    }
    /// Some value, told apart by `n`.
    #[cfg(test)]
    fn sample(n: u64) -> Self;
}

macro_rules! numbers {
    ($($number:ident $put:ident;)*) => {$(
        impl<'a> Field<'a> for $number {
            // A call of it costs four times what it does.
            #[inline(always)]
            fn parse(reader: &mut Reader<'a>, _: Dialect) -> Result<Self, Error> {
                reader.array().map($number::from_le_bytes)
            }
            #[inline]
            fn size(&self, _: Dialect) -> usize {
                size_of::<$number>()
            }
            #[inline]
            fn emit(&self, _: Dialect, out: &mut impl BufMut) {
                out.$put(*self);
            }
            fn print(&self, _: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
            fn emit_text(text: Option<&str>, _: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
                let value = match text {
                    Some(text) => $number::try_from(number(text)?).map_err(|_| format!("{text} is too large"))?,
                    None => $number::MAX,
                };
                out.$put(value);
                Ok(())
            }
            #[cfg(test)]
            fn sample(n: u64) -> Self {
                (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3) as $number
            }
        }
    )*};
}

numbers! { u8 put_u8; u16 put_u16_le; u32 put_u32_le; u64 put_u64_le; }

impl<'a> Field<'a> for &'a [u8] {
    #[inline]
    fn parse(reader: &mut Reader<'a>, _: Dialect) -> Result<Self, Error> {
        reader.string()
    }
    #[inline]
    fn size(&self, _: Dialect) -> usize {
        2 + self.len()
    }
    #[inline]
    fn emit(&self, _: Dialect, out: &mut impl BufMut) {
        let len = u16::try_from(self.len()).expect("strings are bounded long before they are sent");
        out.put_u16_le(len);
        out.put_slice(self);
    }
    fn print(&self, _: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escape_ascii())
    }
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
        let bytes = text.map_or(Ok(Vec::new()), quoted)?;
        if bytes.len() > usize::from(u16::MAX) {
            return Err("a string has at most 65,535 bytes".to_owned());
        }
        bytes.as_slice().emit(dialect, out);
        Ok(())
    }
    #[cfg(test)]
    fn sample(n: u64) -> Self {
        [b"".as_slice(), b"usr", b"\xff\xfe name", b"a/\"quoted\" longer one"][(n % 4) as usize]
    }
}

impl<'a> Field<'a> for Qid {
    #[inline]
    fn parse(reader: &mut Reader<'a>, _: Dialect) -> Result<Self, Error> {
        reader.qid()
    }
    #[inline]
    fn size(&self, _: Dialect) -> usize {
        13
    }
    #[inline]
    fn emit(&self, _: Dialect, out: &mut impl BufMut) {
        out.put_u8(self.kind);
        out.put_u32_le(self.version);
        out.put_u64_le(self.path);
    }
    fn print(&self, _: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "({:#04x} {} {})", self.kind, self.version, self.path)
    }
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
        let unset = Qid { kind: !0, version: !0, path: !0 };
        let qid = match text {
            None => unset,
            Some(text) => {
                let inside = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or_default();
                let numbers = inside.split(' ').map(number).collect::<Result<Vec<_>, _>>()?;
                let [kind, version, path] = numbers[..] else {
                    return Err(format!("a qid is (type version path): {text}"));
                };
                Qid { kind: kind as u8, version: version as u32, path }
            }
        };
        qid.emit(dialect, out);
        Ok(())
    }
    #[cfg(test)]
    fn sample(n: u64) -> Self {
        Qid { kind: n as u8, version: n as u32 * 3, path: n * 5 }
    }
}

/// A field that the dialect does not have.
trait Absent {
    const ABSENT: Self;
}
impl Absent for Ext<u32> {
    /// n_uname unset (Linux: `include/net/9p/9p.h`, P9_NONUNAME).
    const ABSENT: Self = Ext(!0);
}
impl Absent for UOnly<u32> {
    /// No errno: the text has to do. For the numbers of a record see [`super::Stat::parse`].
    const ABSENT: Self = UOnly(0);
}
impl Absent for UOnly<&[u8]> {
    const ABSENT: Self = UOnly(b"");
}

macro_rules! sometimes {
    ($($wrapper:ident in $($dialect:ident)|+;)*) => {$(
        impl<'a, T: Field<'a>> Field<'a> for $wrapper<T>
        where
            $wrapper<T>: Absent,
        {
            #[inline]
            fn parse(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error> {
                if Self::is_in(dialect) { T::parse(reader, dialect).map($wrapper) } else { Ok(Self::ABSENT) }
            }
            #[inline]
            fn size(&self, dialect: Dialect) -> usize {
                if Self::is_in(dialect) { self.0.size(dialect) } else { 0 }
            }
            #[inline]
            fn emit(&self, dialect: Dialect, out: &mut impl BufMut) {
                if Self::is_in(dialect) {
                    self.0.emit(dialect, out);
                }
            }
            fn print(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
                self.0.print(dialect, f)
            }
            fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
                if Self::is_in(dialect) { T::emit_text(text, dialect, out) } else { Ok(()) }
            }
            #[inline]
            fn is_in(dialect: Dialect) -> bool {
                matches!(dialect, $(Dialect::$dialect)|+)
            }
            #[cfg(test)]
            fn sample(n: u64) -> Self {
                $wrapper(T::sample(n))
            }
        }
    )*};
}

sometimes! {
    Ext in U | L;
    UOnly in U;
}

impl<'a> Field<'a> for Opt<u32> {
    fn parse(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error> {
        if reader.is_empty() { Ok(Opt(0)) } else { u32::parse(reader, dialect).map(Opt) }
    }
    fn size(&self, _: Dialect) -> usize {
        4
    }
    fn emit(&self, dialect: Dialect, out: &mut impl BufMut) {
        self.0.emit(dialect, out);
    }
    fn print(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.print(dialect, f)
    }
    /// Unset, it is left out.
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
        if text.is_some() { u32::emit_text(text, dialect, out) } else { Ok(()) }
    }
    #[cfg(test)]
    fn sample(n: u64) -> Self {
        Opt(u32::sample(n))
    }
}

/// Largest payload that a line may stand for: far above any msize.
const TEXT_PAYLOAD_BYTES_MAX: u64 = 16 << 20;

impl<'a> Field<'a> for Data<'a> {
    #[inline]
    fn parse(reader: &mut Reader<'a>, dialect: Dialect) -> Result<Self, Error> {
        let count = u32::parse(reader, dialect)?;
        if count as usize != reader.bytes.len() + reader.missing {
            return Err(Error::Count);
        }
        let here = std::mem::take(&mut reader.bytes);
        let missing = std::mem::take(&mut reader.missing);
        Ok(if missing == 0 { Data::Here(here) } else { Data::Away(count) })
    }
    #[inline]
    fn size(&self, _: Dialect) -> usize {
        4 + self.len()
    }
    #[inline]
    fn emit(&self, _: Dialect, out: &mut impl BufMut) {
        out.put_u32_le(u32::try_from(self.len()).expect("payloads are bounded by msize"));
        if let Data::Here(bytes) = self {
            out.put_slice(bytes);
        }
    }
    fn print(&self, _: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        match self {
            Data::Here(bytes) => {
                let dots = if bytes.len() > SHOWN { "..." } else { "" };
                write!(f, "{}:\"{}\"{dots}", bytes.len(), bytes[..bytes.len().min(SHOWN)].escape_ascii())
            }
            Data::Away(count) => write!(f, "{count}:away"),
        }
    }
    fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
        let text = text.unwrap_or("\"\"");
        let bytes = match text.find(['"', ':', '*']).map(|at| (&text[..at], &text[at..at + 1], &text[at + 1..])) {
            Some((times, "*", piece)) => {
                let (times, piece) = (number(times)?, quoted(piece)?);
                if times.saturating_mul(piece.len() as u64) > TEXT_PAYLOAD_BYTES_MAX {
                    return Err(format!("a payload has at most {TEXT_PAYLOAD_BYTES_MAX} bytes"));
                }
                piece.repeat(times as usize)
            }
            Some((count, ":", bytes)) => {
                let bytes = quoted(bytes)?;
                if bytes.len() as u64 == number(count)? { bytes } else { return Err(format!("not {count} bytes")) }
            }
            _ => quoted(text)?,
        };
        Data::Here(&bytes).emit(dialect, out);
        Ok(())
    }
    #[cfg(test)]
    fn sample(n: u64) -> Self {
        Data::Here(&b"0123456789abcdef0123456789abcdef0123"[..n as usize % 37])
    }
}
