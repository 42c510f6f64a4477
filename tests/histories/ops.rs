//! What happens in a history, and where it comes from. Files, names and sizes are picked by number among those that are there, so that a history with some steps
//! left out is a history.

use ring9::fs::{Open, SetTime, Time, mode};
use ring9::wire::qt;

/// A change of attributes that owns its name.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub mode: Option<u32>,
    pub bits: Option<u8>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<usize>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    pub name: Option<u8>,
    pub replace: bool,
    pub touch_ctime: bool,
}

/// What is made.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    File,
    Dir,
    Symlink(usize),
    Device,
    Fifo,
    Socket,
}

/// A step. `at`, `to`, `of`: a file value, by its number among those in use; names are letters.
#[derive(Clone, Debug)]
pub enum Op {
    Attach {
        uid: u32,
    },
    Lookup {
        at: usize,
        name: u8,
    },
    Duplicate {
        at: usize,
    },
    Open {
        at: usize,
        flags: Open,
    },
    Create {
        at: usize,
        name: u8,
        flags: Open,
        mode: u32,
        bits: u8,
    },
    Make {
        at: usize,
        name: u8,
        kind: Kind,
        mode: u32,
        gid: Option<u32>,
    },
    Read {
        at: usize,
        offset: usize,
        count: usize,
    },
    /// Lets go of a reply.
    Sent {
        which: usize,
    },
    Write {
        at: usize,
        offset: usize,
        len: usize,
    },
    Grant {
        at: usize,
        offset: usize,
        len: usize,
    },
    /// Ends a landing.
    Landed {
        which: usize,
        whole: bool,
    },
    Close {
        at: usize,
    },
    Remove {
        at: usize,
    },
    Unlink {
        at: usize,
        name: u8,
        want_dir: bool,
    },
    Link {
        at: usize,
        name: u8,
        of: usize,
    },
    Rename {
        at: usize,
        name: u8,
        to: usize,
        new_name: u8,
    },
    RenameFile {
        at: usize,
        to: usize,
        new_name: u8,
    },
    Wstat {
        at: usize,
        changes: Changes,
    },
    List {
        at: usize,
        count: usize,
        restart: bool,
    },
    ReadLink {
        at: usize,
    },
}

/// xorshift64*: histories repeat by their seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn name(&mut self) -> u8 {
        b'a' + self.below(7) as u8
    }

    fn at(&mut self) -> usize {
        self.below(1000)
    }

    /// Small, about a page, about a block, or some blocks.
    fn length(&mut self) -> usize {
        match self.below(8) {
            0 => self.below(3),
            1..=3 => self.below(700),
            4 => 4090 + self.below(12),
            5 => 65_536 - 10 + self.below(20),
            6 => self.below(66_000),
            _ => self.below(200_000),
        }
    }

    fn mode(&mut self) -> u32 {
        match self.below(12) {
            0..=4 => 0o777,
            5 => 0o755,
            6 => 0o1777,
            7 => 0o2775,
            8 => 0o6775,
            _ => self.next() as u32 & 0o7777,
        }
    }

    fn flags(&mut self) -> Open {
        let (read, write) = self.of(&[(true, false), (true, true), (true, true), (false, true), (false, false)]);
        Open {
            read,
            write,
            exec: self.one_in(10),
            truncate: self.one_in(6),
            append: self.one_in(5),
            remove_on_close: self.one_in(8),
            ..Open::NONE
        }
    }

    fn bits(&mut self) -> u8 {
        self.of(&[0, 0, 0, 0, qt::APPEND, qt::EXCL, qt::TMP])
    }

    fn gid(&mut self) -> u32 {
        self.of(&[0, 1, 5, 9])
    }

    fn time(&mut self) -> SetTime {
        let to = Time { sec: self.below(1 << 20) as i64 - 1000, nsec: self.below(1_000_000_000) as u32 };
        if self.one_in(2) { SetTime::Now } else { SetTime::To(to) }
    }

    fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for _ in 0..1 + self.below(2) {
            match self.below(12) {
                0..=2 => changes.mode = Some(self.mode()),
                3 => changes.bits = Some(self.bits()),
                4 => changes.uid = Some(self.below(4) as u32),
                5 => changes.gid = Some(self.gid()),
                6..=7 => changes.size = Some(if self.one_in(3) { 0 } else { self.length() }),
                8 => changes.atime = Some(self.time()),
                9 => changes.mtime = Some(self.time()),
                10 => (changes.name, changes.replace) = (Some(self.name()), !self.one_in(3)),
                _ => changes.touch_ctime = true,
            }
        }
        changes
    }

    pub fn op(&mut self) -> Op {
        let at = self.at();
        match self.below(100) {
            0..=5 => Op::Attach { uid: self.of(&[0, 0, 1, 2, 3]) },
            6..=19 => Op::Lookup { at, name: if self.one_in(8) { self.of(b"..:") } else { self.name() } },
            20..=22 => Op::Duplicate { at },
            23..=32 => Op::Open { at, flags: self.flags() },
            33..=41 => {
                let is_dir = self.one_in(4);
                let flags =
                    if is_dir && !self.one_in(8) { Open { read: true, ..Open::default() } } else { self.flags() };
                let mode = self.mode() | if is_dir { mode::IFDIR } else { mode::IFREG };
                Op::Create { at, name: self.name(), flags, mode, bits: self.bits() }
            }
            42..=48 => {
                let kind = match self.below(9) {
                    0..=3 => Kind::Dir,
                    4 => Kind::File,
                    5 => Kind::Symlink(1 + self.below(300)),
                    6 => Kind::Device,
                    7 => Kind::Fifo,
                    _ => Kind::Socket,
                };
                let gid = self.one_in(3).then(|| self.gid());
                Op::Make { at, name: self.name(), kind, mode: self.mode(), gid }
            }
            49..=54 => {
                Op::Read { at, offset: self.length(), count: if self.one_in(2) { 1 << 20 } else { self.length() } }
            }
            55..=57 => Op::Sent { which: self.at() },
            58..=66 => Op::Write { at, offset: self.length(), len: self.length() },
            67..=70 => Op::Grant { at, offset: self.length(), len: 1 + self.length() },
            71..=75 => Op::Landed { which: self.at(), whole: !self.one_in(4) },
            76..=79 => Op::Close { at },
            80 if self.one_in(2) => Op::ReadLink { at },
            80 => Op::Remove { at },
            81..=83 => Op::Unlink { at, name: self.name(), want_dir: self.one_in(3) },
            84..=86 => Op::Link { at, name: self.name(), of: self.at() },
            87..=90 => Op::Rename { at, name: self.name(), to: self.at(), new_name: self.name() },
            91 => Op::RenameFile { at, to: self.at(), new_name: self.name() },
            92..=93 => {
                let name = Some(self.name());
                Op::Wstat { at, changes: Changes { name, replace: true, ..Changes::default() } }
            }
            94..=96 => Op::Wstat { at, changes: self.changes() },
            _ => Op::List { at, count: 1 + self.below(4), restart: self.one_in(6) },
        }
    }
}
