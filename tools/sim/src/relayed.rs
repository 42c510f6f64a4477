//! What a far server has executed and shown, by connection of the relay: the part of the ledger that stands for the order in the other
//! worlds.
//!
//! A relay makes one request several, of one dialect another, and answers in the order in which replies come. So what a client hears
//! must have been shown to it at some time, each read once, and listings entry by entry; and what it was told to be written must
//! have been.

use crate::ledger::{Answer, File};
use std::collections::{BTreeMap, VecDeque};

/// Reads that are kept until somebody hears them. Those of requests that were flushed or have failed are never heard.
const READS_MAX: usize = 2048;

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct Relayed {
    /// By offset.
    reads: VecDeque<(u64, Vec<u8>)>,
    attrs: Vec<Answer>,
    /// By qid.path, every state that was shown.
    files: BTreeMap<u64, Vec<Answer>>,
    has_listed: bool,
    /// Bytes that were written, and those of which the client was told.
    wrote: u64,
    told: u64,
}

impl Relayed {
    pub(crate) fn shows(&mut self, answer: Answer) {
        match answer {
            Answer::Bytes(_) => unreachable!("reads are shown with their offsets"),
            Answer::Attr(value) => {
                let is_it = |shown: &Answer| matches!(shown, Answer::Attr(known) if *known == value);
                if !self.attrs.iter().any(is_it) {
                    self.attrs.push(Answer::Attr(value));
                }
            }
            Answer::Entries(listed) => {
                self.has_listed = true;
                listed.into_iter().for_each(|(_, file)| self.is_shown(file));
            }
            Answer::File(file) => self.is_shown(file),
        }
    }

    /// Bytes of a file are shown.
    pub(crate) fn shows_read(&mut self, offset: u64, bytes: Vec<u8>) {
        if self.reads.len() == READS_MAX {
            self.reads.pop_front();
        }
        self.reads.push_back((offset, bytes));
    }

    /// Whether these bytes were shown, at this offset if one is known. Each read is heard once.
    pub(crate) fn hears_read(&mut self, offset: Option<u64>, bytes: &[u8]) -> bool {
        let is_it = |(at, shown): &(u64, Vec<u8>)| offset.is_none_or(|offset| *at == offset) && shown == bytes;
        self.reads.iter().position(is_it).map(|at| self.reads.remove(at)).is_some()
    }

    fn is_shown(&mut self, file: File) {
        let states = self.files.entry(file.qid.path).or_default();
        if !states.iter().any(|shown| matches!(shown, Answer::File(known) if *known == file)) {
            states.push(Answer::File(file));
        }
    }

    /// A directory was shown.
    pub(crate) fn has_listed(&self) -> bool {
        self.has_listed
    }

    /// A file was shown in a state of which this is so.
    pub(crate) fn knows(&self, path: u64, is_it: impl Fn(&File) -> bool) -> bool {
        let mut states = self.files.get(&path).into_iter().flatten();
        states.any(|shown| matches!(shown, Answer::File(file) if is_it(file)))
    }

    /// The client hears something other than bytes of a file that was shown.
    pub(crate) fn hears(&self, number: u32, what: &str, is_it: impl Fn(&Answer) -> bool) -> Answer {
        let others = self.attrs.iter().chain(self.files.values().flatten());
        let found = others.into_iter().find(|shown| is_it(shown)).cloned();
        found
            .unwrap_or_else(|| panic!("replies: connection {number} hears {what} that the far server has not shown it"))
    }

    /// The far server is given this to write: all of what was said, or a part of it. Where `anywhere`, the relay may have looked for
    /// the end of the file.
    pub(crate) fn writes(
        &mut self,
        number: u32,
        writes: &mut VecDeque<(u64, Vec<u8>)>,
        offset: u64,
        bytes: &[u8],
        anywhere: bool,
    ) {
        self.wrote += bytes.len() as u64;
        // Parts of what is beyond all offsets are at the last one.
        let anywhere = anywhere || offset == u64::MAX;
        let is_whole = |(place, said): &(u64, Vec<u8>)| (anywhere || *place == offset) && said == bytes;
        if let Some(at) = writes.iter().position(is_whole) {
            // It is written once.
            writes.remove(at);
            return;
        }
        let is_part = writes.iter().any(|(place, said)| {
            let from = usize::try_from(offset.wrapping_sub(*place)).unwrap_or(usize::MAX);
            said.get(from..from.saturating_add(bytes.len())).is_some_and(|part| part == bytes)
                || anywhere && !bytes.is_empty() && said.windows(bytes.len()).any(|part| part == bytes)
        });
        assert!(is_part, "writes: {} bytes at {offset} that connection {number} has not said so", bytes.len());
    }

    /// The client is told that so many bytes were written.
    pub(crate) fn is_told(&mut self, number: u32, count: u32) {
        self.told += u64::from(count);
        let Relayed { wrote, told, .. } = *self;
        assert!(told <= wrote, "writes: connection {number} is told of {told} bytes, and {wrote} were written");
    }
}
