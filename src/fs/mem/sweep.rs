//! Marks everything that a tree has as changed, in bounded parts, while the tree goes on changing. The log of a store then
//! has all of the tree again, and needs nothing from before.
//!
//! ```text
//! all files, by their places -> of each file: its bytes, its entries, its extended attributes
//! ```
//! Something that is changed or made meanwhile marks itself. So the sweep need not find what comes behind it, and marks what
//! comes in front of it a second time, which does no harm. A place may be another file's when the sweep goes on there: that
//! file was made meanwhile, and has marked itself.
//!
//! Files come first: a record of bytes, of an entry or of an attribute names a file that was told before it, or with it.
//!
//! Must not know: how records are written down, files on disk.

use super::key::Key;
use super::node::Kind;
use super::watch::{MARK_BYTES, Watched, told_bytes};
use super::{Mem, Store};

/// What a look at one place counts as, in bytes: the work of a part is bounded by its bytes, whatever it finds.
const LOOK_BYTES: u64 = 64;
/// Bytes of the record of a file, or fewer.
const NODE_BYTES: u64 = 128;
/// Bytes of the record of a file once more, and of two ends of its data that are no whole pages, or fewer.
const DATA_BYTES: u64 = 192;
/// Bytes of the record of an entry or an extended attribute, or fewer, without its name and its value.
const NAME_BYTES: u64 = 40;
/// What a file counts as at most: twice its record, its bytes' record, and an entry.
const FILE_BYTES: u64 = NODE_BYTES + DATA_BYTES + MARK_BYTES;

/// How far a sweep has come.
#[derive(Debug, Default)]
pub struct Sweep {
    stage: Stage,
    /// The place where it is.
    key: Key,
    /// One past the last place that a file had when it began.
    end: Key,
    /// Of the file there: the first byte that is not marked.
    offset: u64,
    /// The last entry that is marked.
    cookie: u64,
    /// The last attribute that is marked.
    name: Option<Box<[u8]>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Begin,
    Nodes,
    Data,
    Entries,
    Xattrs,
    End,
}

impl Sweep {
    /// Goes to the next file.
    fn step(&mut self) {
        (self.key, self.offset, self.cookie, self.name) = (self.key + 1, 0, 0, None);
    }
}

impl Mem<Watched> {
    /// Marks the next part of everything: what is told of it takes about `bytes` bytes, and at most 64 KiB of a file or one extended
    /// attribute more. A file of up to 64 KiB is in one part, so a replay needs no larger block for it.
    /// True once everything was marked. `sweep` is new at first, and then what the last call has left.
    pub fn sweep(&mut self, sweep: &mut Sweep, bytes: u64) -> bool {
        let mut left = bytes;
        while left > 0 && sweep.stage != Stage::End {
            let cost = self.sweep_one(sweep);
            left = left.saturating_sub(cost);
        }
        sweep.stage == Stage::End
    }

    /// Marks one thing, or goes on to the next one. Returns what that costs.
    fn sweep_one(&mut self, sweep: &mut Sweep) -> u64 {
        let Mem { nodes, watch, attrs, store: Store { arena, table, .. }, .. } = self;
        if sweep.stage == Stage::Begin {
            watch.tell_next();
            *sweep = Sweep { stage: Stage::Nodes, end: nodes.places(), ..Sweep::default() };
        }
        if sweep.key >= sweep.end {
            let next = if sweep.stage == Stage::Nodes { Stage::Data } else { Stage::End };
            *sweep = Sweep { stage: next, end: sweep.end, ..Sweep::default() };
            return 0;
        }
        let key = sweep.key;
        // A file without a name is not told: it does not survive a restart.
        let Some(node) = nodes.find(key).filter(|node| node.links > 0) else {
            if sweep.stage != Stage::Nodes {
                sweep.stage = Stage::Data;
            }
            sweep.step();
            return LOOK_BYTES;
        };
        match sweep.stage {
            Stage::Begin | Stage::End => 0,
            Stage::Nodes => {
                sweep.step();
                watch.node_again(key, NODE_BYTES)
            }
            Stage::Data => {
                let run = match &node.kind {
                    Kind::File(content) | Kind::Symlink(content) => content.next_run(arena, table, sweep.offset),
                    _ => None,
                };
                let Some(run) = run else {
                    sweep.stage = Stage::Entries;
                    return LOOK_BYTES;
                };
                sweep.offset = run.end;
                let cost = DATA_BYTES + told_bytes(run.end - run.start);
                watch.data_again(key, run, cost)
            }
            Stage::Entries => {
                let next = node.dir().and_then(|dir| dir.between(sweep.cookie, u64::MAX).next());
                let Some((cookie, entry)) = next else {
                    sweep.stage = Stage::Xattrs;
                    return LOOK_BYTES;
                };
                sweep.cookie = cookie;
                watch.entry_again(key, cookie, NAME_BYTES + entry.name.len() as u64)
            }
            Stage::Xattrs => {
                let Some((name, size)) = attrs.names_behind(key, sweep.name.as_deref()).next() else {
                    sweep.stage = Stage::Data;
                    sweep.step();
                    return LOOK_BYTES;
                };
                let cost = watch.xattr_again(key, name, NAME_BYTES + name.len() as u64 + size);
                sweep.name = Some(name.into());
                cost
            }
        }
    }

    /// Bytes that everything takes once it is told, or fewer: the memory of files and attributes, and 640 bytes for each file,
    /// 320 for each further name and each attribute.
    pub fn live_bytes(&self) -> u64 {
        let used = (self.store.arena.usable_bytes() as u64).saturating_sub(self.store.free_bytes());
        let files = self.nodes.len() as u64 * FILE_BYTES;
        told_bytes(used) + files + (self.further_names + self.attrs.len()) as u64 * MARK_BYTES
    }
}
