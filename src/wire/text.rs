//! The one-line form of a message, read back: for transcripts and other texts that people write.
//!
//! `Twalk tag=3 fid=0 newfid=1 wnames=["usr" "share"]`. A field that is left out is unset, as 9P has it: a number is all ones (NOFID, no n_uname, "don't touch"), everything else is
//! empty; a tag that is left out is 1. Payloads are `5:"hello"`, `"hello"` or `1000*"x"`. Unlike messages from peers, which are parsed where they lie, this allocates.

use super::{Dialect, HEAD, NOFID, NOTAG};
use bytes::{BufMut, BytesMut};
use std::collections::BTreeMap;

/// Why a line is no message.
pub type TextError = String;

/// The fields of a line, by name.
pub(super) struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Fields<'a>, TextError> {
        let mut fields = BTreeMap::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (name, value) = rest.split_once('=').ok_or_else(|| format!("no name=value: {rest}"))?;
            let end = value_end(value)?;
            if fields.insert(name, &value[..end]).is_some() {
                return Err(format!("{name} twice"));
            }
            rest = value[end..].trim_start();
        }
        Ok(Fields(fields))
    }

    /// Takes the value of a field.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        self.0.remove(name.trim_end_matches('_'))
    }

    fn end(self) -> Result<(), TextError> {
        match self.0.first_key_value() {
            Some((name, _)) => Err(format!("no such field: {name}")),
            None => Ok(()),
        }
    }
}

/// Where a value ends: at the first space that is in no quotes and no brackets.
fn value_end(text: &str) -> Result<usize, TextError> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' | '(' | '{' => depth += 1,
            ']' | ')' | '}' => depth -= 1,
            ' ' if depth == 0 => return Ok(at),
            _ => {}
        }
    }
    if quoted || depth != 0 { Err(format!("no end: {text}")) } else { Ok(text.len()) }
}

/// The values of a list, without its brackets.
pub(super) fn items(text: &str) -> Result<Vec<&str>, TextError> {
    let mut rest = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).ok_or("a list is [a b]")?;
    let mut items = Vec::new();
    while !rest.is_empty() {
        let end = value_end(rest)?;
        items.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    Ok(items)
}

/// A number: decimal, 0x and hexadecimal digits, or 0 and octal digits.
pub(super) fn number(text: &str) -> Result<u64, TextError> {
    let parsed = match text {
        "NOFID" => return Ok(NOFID.into()),
        "NOTAG" => return Ok(NOTAG.into()),
        "0" => Ok(0),
        _ => match (text.strip_prefix("0x"), text.strip_prefix('0')) {
            (Some(digits), _) => u64::from_str_radix(digits, 16),
            (None, Some(digits)) => u64::from_str_radix(digits, 8),
            (None, None) => text.parse(),
        },
    };
    parsed.map_err(|_| format!("no number: {text}"))
}

/// The bytes of a quoted text, with the escapes of [`std::ascii::escape_default`].
pub(super) fn quoted(text: &str) -> Result<Vec<u8>, TextError> {
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let mut rest = inside.ok_or_else(|| format!("not in quotes: {text}"))?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'x') => {
                    let digits: String = rest.by_ref().take(2).map(char::from).collect();
                    u8::from_str_radix(&digits, 16).map_err(|_| format!("no byte: \\x{digits}"))?
                }
                Some(itself @ (b'\\' | b'"' | b'\'')) => itself,
                _ => return Err(format!("unknown escape in {text}")),
            },
            byte => byte,
        });
    }
    Ok(bytes)
}

/// Reads a record, `{name=value ...}`.
pub(super) fn record(text: &str, read: impl FnOnce(&mut Fields<'_>) -> Result<(), TextError>) -> Result<(), TextError> {
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let mut fields = Fields::parse(inside.ok_or_else(|| format!("a record is {{name=value}}: {text}"))?)?;
    read(&mut fields)?;
    fields.end()
}

/// The frame that a line stands for.
pub(super) fn frame(
    line: &str,
    dialect: Dialect,
    body: impl FnOnce(&str, &mut Fields<'_>, &mut BytesMut) -> Result<u8, TextError>,
) -> Result<BytesMut, TextError> {
    let (name, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let mut fields = Fields::parse(rest)?;
    let tag = fields.take("tag").map_or(Ok(1), number)? as u16;
    let mut frame = BytesMut::zeroed(HEAD);
    let kind = body(name, &mut fields, &mut frame).map_err(|error| format!("{name} of {}: {error}", dialect.name()))?;
    fields.end()?;
    let size = frame.len() as u32;
    let mut head = &mut frame[..HEAD];
    head.put_u32_le(size);
    head.put_u8(kind);
    head.put_u16_le(tag);
    Ok(frame)
}
