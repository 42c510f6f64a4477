//! The lists of a walk: its names and its qids.
//!
//! A list that was parsed keeps the bytes of the message. Parsing checks them once; iterating over
//! the list reads them again.

use super::field::{Field, Reader};
use super::text::{TextError, items};
use super::types::{Dialect, Qid};
use super::{Error, NAMES_MAX};
use bytes::BufMut;
use std::fmt::{self, Formatter};

/// The names of a walk, at most 16.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(List<'a, &'a [u8]>);

/// The qids of a walk, at most 16.
#[derive(Clone, Copy, Debug)]
pub struct Qids<'a>(List<'a, Qid>);

/// Elements as they stand on the wire, checked, or as a caller has them.
#[derive(Clone, Copy, Debug)]
enum List<'a, T> {
    Wire(u16, &'a [u8]),
    Own(&'a [T]),
}

macro_rules! lists {
    ($($list:ident of $item:ty, $parse:ident;)*) => {$(
        impl<'a> $list<'a> {
            /// For emission. Panics beyond 16 elements.
            pub fn list(items: &'a [$item]) -> $list<'a> {
                assert!(items.len() <= NAMES_MAX, "a walk has at most 16 elements");
                $list(List::Own(items))
            }

            /// How many.
            pub fn len(&self) -> usize {
                match self.0 {
                    List::Wire(count, _) => count.into(),
                    List::Own(items) => items.len(),
                }
            }

            /// None at all.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// In order.
            pub fn iter(&self) -> impl Iterator<Item = $item> + use<'a> {
                let (mut reader, own) = match self.0 {
                    List::Wire(_, bytes) => (Reader::new(bytes), [].as_slice()),
                    List::Own(items) => (Reader::new(&[]), items),
                };
                // What was checked when it was parsed cannot fail now.
                let wire = std::iter::from_fn(move || (!reader.is_empty()).then(|| reader.$parse().ok()).flatten());
                wire.chain(own.iter().copied())
            }
        }

        impl PartialEq for $list<'_> {
            fn eq(&self, other: &Self) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $list<'_> {}
    )*};
}

lists! {
    Names of &'a [u8], counted;
    Qids of Qid, qid;
}

macro_rules! list_fields {
    ($($list:ident $item:ty, $take:ident, $sample:expr;)*) => {$(
        impl<'a> Field<'a> for $list<'a> {
            #[inline]
            fn parse(reader: &mut Reader<'a>, _: Dialect) -> Result<Self, Error> {
                let count = reader.u16()?;
                if usize::from(count) > NAMES_MAX {
                    return Err(Error::Names);
                }
                let start = reader.rest();
                for _ in 0..count {
                    reader.$take()?;
                }
                Ok($list(List::Wire(count, &start[..start.len() - reader.rest().len()])))
            }
            #[inline]
            fn size(&self, dialect: Dialect) -> usize {
                2 + match self.0 {
                    List::Wire(_, bytes) => bytes.len(),
                    List::Own(items) => items.iter().map(|item| item.size(dialect)).sum::<usize>(),
                }
            }
            #[inline]
            fn emit(&self, dialect: Dialect, out: &mut impl BufMut) {
                out.put_u16_le(self.len() as u16);
                match self.0 {
                    List::Wire(_, bytes) => out.put_slice(bytes),
                    List::Own(items) => items.iter().for_each(|item| item.emit(dialect, out)),
                }
            }
            fn print(&self, dialect: Dialect, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("[")?;
                for (at, item) in self.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { " " })?;
                    item.print(dialect, f)?;
                }
                f.write_str("]")
            }
            fn emit_text(text: Option<&str>, dialect: Dialect, out: &mut impl BufMut) -> Result<(), TextError> {
                let items = text.map_or(Ok(Vec::new()), items)?;
                out.put_u16_le(items.len() as u16);
                items.into_iter().try_for_each(|item| <$item as Field>::emit_text(Some(item), dialect, out))
            }
            #[cfg(test)]
            fn sample(n: u64) -> Self {
                const ITEMS: &[$item] = $sample;
                $list::list(&ITEMS[..n as usize % (ITEMS.len() + 1)])
            }
        }
    )*};
}

list_fields! {
    Names &[u8], string, &[b"usr", b"share", b"", b"\xf0"];
    Qids Qid, qid, &[Qid { kind: 0x80, version: 1, path: 2 }, Qid { kind: 0, version: 3, path: 4 }];
}
