//! JSON files of results, in a folder of `--out`: plain, or compressed with gzip where a result is
//! large.
//!
//! A file has one of two forms: `NAME`, indented, or `NAME.gz`, without blanks. Readers open either
//! form, and writing one removes the other. The bytes depend on the value alone: the header of a
//! compressed file has no time, name or system.

use super::VERSION;
use anyhow::{Context, ensure};
use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// How a file of gzip begins (RFC 1952, 2.3.1: ID1 and ID2).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

fn compressed(name: &str) -> String {
    format!("{name}.gz")
}

/// Makes the folder, and one plain file of it.
pub(crate) fn put_json(folder: &Path, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let mut json = serde_json::to_vec_pretty(value)?;
    json.push(b'\n');
    replace(folder, name, &compressed(name), &json)
}

/// Makes the folder, and one compressed file of it: `name` with `.gz`.
pub(super) fn put_compressed(folder: &Path, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(&serde_json::to_vec(value)?)?;
    replace(folder, &compressed(name), name, &gzip.finish()?)
}

/// Writes a file, and removes its other form.
fn replace(folder: &Path, name: &str, other: &str, bytes: &[u8]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let (path, other) = (folder.join(name), folder.join(other));
    fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    match fs::remove_file(&other) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| other.display().to_string()),
        _ => Ok(()),
    }
}

/// The file of that name in the folder, in either form; none if there is neither. Both at once are
/// an error.
fn find(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let forms = [name.to_owned(), compressed(name)].map(|name| folder.join(name));
    let mut there = forms.into_iter().filter(|path| path.exists());
    let found = there.next();
    let place = folder.display();
    ensure!(there.next().is_none(), "{place} has both {name} and {name}.gz: remove the one that is not meant");
    Ok(found)
}

/// A result of that folder in either form, if it has one.
pub(crate) fn read_in<T: DeserializeOwned>(folder: &Path, name: &str) -> anyhow::Result<Option<T>> {
    find(folder, name)?.map(|path| read(&path)).transpose()
}

/// A file of this version of the format, plain or compressed.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let mut bytes = fs::read(path).with_context(|| path.display().to_string())?;
    if bytes.starts_with(&GZIP_MAGIC) || path.extension().is_some_and(|extension| extension == "gz") {
        bytes = decompress(&bytes).with_context(|| format!("{} is no whole gzip file", path.display()))?;
    }
    let value: Value = serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))?;
    let version = value.get("version").and_then(Value::as_u64);
    ensure!(version == Some(VERSION.into()), "{}: a result of version {VERSION} has that in it", path.display());
    serde_json::from_value(value).with_context(|| format!("{} is no such result", path.display()))
}

/// The content of one gzip member. Its length and checksum are right, and nothing follows it.
fn decompress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = GzDecoder::new(bytes);
    let mut all = Vec::new();
    decoder.read_to_end(&mut all)?;
    match decoder.into_inner() {
        [] => Ok(all),
        more => Err(io::Error::new(ErrorKind::InvalidData, format!("{} bytes follow its end", more.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "result.json";

    /// A result of numbers that compress badly.
    fn value() -> Value {
        let numbers: Vec<f64> = (1..60).map(|number| f64::from(number).sqrt()).collect();
        serde_json::json!({ "version": VERSION, "numbers": numbers })
    }

    #[test]
    fn either_form_is_read_and_writing_one_removes_the_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let (folder, value) = (folder.path(), value());
        let names = || {
            let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
            names.map(|name| name.into_string().expect("ASCII")).collect::<Vec<_>>()
        };
        assert_eq!(read_in::<Value>(folder, NAME).expect("there is none"), None);
        for _ in 0..2 {
            put_json(folder, NAME, &value).expect("written");
            assert_eq!((names(), read_in(folder, NAME).expect("read")), (vec![NAME.to_owned()], Some(value.clone())));
            put_compressed(folder, NAME, &value).expect("written");
            assert_eq!((names(), read_in(folder, NAME).expect("read")), (vec![compressed(NAME)], Some(value.clone())));
        }
        fs::write(folder.join(NAME), "{}").expect("written");
        let error = format!("{:#}", read_in::<Value>(folder, NAME).expect_err("both are there"));
        assert!(error.contains("both result.json and result.json.gz"), "{error}");
    }

    #[test]
    fn compressed_bytes_depend_on_the_value_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = |at: &str| {
            put_compressed(&folder.path().join(at), NAME, &value()).expect("written");
            fs::read(folder.path().join(at).join(compressed(NAME))).expect("there")
        };
        let (one, other) = (bytes("one"), bytes("other"));
        assert_eq!(one, other);
        // RFC 1952, 2.3.1: CM is 8, FLG has no name, MTIME is 0, OS is unknown.
        assert_eq!((&one[..8], one[9]), (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0][..], 255));
    }

    #[test]
    fn a_damaged_file_is_refused_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(compressed(NAME));
        put_compressed(folder.path(), NAME, &value()).expect("written");
        let whole = fs::read(&path).expect("there");
        let refused = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).expect("written");
            let error = read::<Value>(&path).err().unwrap_or_else(|| panic!("{what}: was read"));
            let text = format!("{error:#}");
            assert!(text.starts_with(&format!("{} is no whole gzip file: ", path.display())), "{what}: {text}");
        };
        for length in 0..whole.len() {
            refused(&whole[..length], &format!("{length} bytes of {}", whole.len()));
        }
        refused(&[&whole[..], b"more"].concat(), "with more at its end");
        // Bytes 4 to 9 of the header (a time, flags of the compressor, a system) are not checked,
        // nor is the padding in the last byte before the checksum and the length.
        for at in (0..4).chain(10..whole.len() - 9).chain(whole.len() - 8..whole.len()) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            refused(&damaged, &format!("byte {at} of {} changed", whole.len()));
        }
        // Compressed under the name of a plain file, and the reverse.
        let plain = folder.path().join(NAME);
        fs::write(&plain, &whole).expect("written");
        assert_eq!(read::<Value>(&plain).expect("read"), value());
        fs::write(&plain, "{").expect("written");
        let error = format!("{:#}", read::<Value>(&plain).expect_err("half of it"));
        assert!(error.starts_with(&format!("{} is no JSON: ", plain.display())), "{error}");
        refused(b"{}", "plain under the name of a compressed file");
    }
}
