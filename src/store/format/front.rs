//! What superblocks and heads of batches have in common: a magic number, the version, and a checksum of all their bytes.
//!
//! Must not know: the fields behind these.

use super::cut::Cut;
use super::{StoreId, VERSION, Wrong, checksum};

/// The first bytes: they tell what it is.
pub(super) type Magic = [u8; 8];

/// Where the checksum is, behind the magic number and the version.
const CHECKSUM_AT: usize = 12;

/// The bytes, in which the checksum itself counts as 0.
pub(super) fn own_checksum(bytes: &[u8]) -> u32 {
    let start = checksum(&bytes[..CHECKSUM_AT]);
    let start = crc32c::crc32c_append(start, &[0; 4]);
    crc32c::crc32c_append(start, &bytes[CHECKSUM_AT + 4..])
}

/// Writes one down: the fields are those that `put` appends, with zeros behind them. Returns it with its checksum.
pub(super) fn emit<const N: usize>(magic: &Magic, store: &StoreId, put: impl FnOnce(&mut Vec<u8>)) -> ([u8; N], u32) {
    let mut front = Vec::with_capacity(N);
    front.extend_from_slice(magic);
    front.extend_from_slice(&VERSION.to_le_bytes());
    front.extend_from_slice(&[0; 4]);
    front.extend_from_slice(store);
    put(&mut front);
    let mut bytes = [0; N];
    bytes[..front.len()].copy_from_slice(&front);
    let checksum = own_checksum(&bytes);
    bytes[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    (bytes, checksum)
}

/// Reads the first `N` bytes. Returns the fields, the checksum, and which store it is of.
pub(super) fn parse<'a, const N: usize>(magic: &Magic, bytes: &'a [u8]) -> Result<(Cut<'a>, u32, StoreId), Wrong> {
    let bytes = bytes.get(..N).ok_or(Wrong::Short)?;
    let mut cut = Cut(bytes);
    if cut.bytes(magic.len())? != magic {
        return Err(Wrong::Magic);
    }
    let (version, checksum) = (cut.u32()?, cut.u32()?);
    if checksum != own_checksum(bytes) {
        return Err(Wrong::HeadChecksum);
    }
    if version != VERSION {
        return Err(Wrong::Version(version));
    }
    let store = cut.id()?;
    Ok((cut, checksum, store))
}
