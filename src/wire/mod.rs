//! stub
/// Qid
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qid {
    /// kind
    pub kind: u8,
    /// v
    pub version: u32,
    /// p
    pub path: u64,
}
