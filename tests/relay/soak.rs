//! Random operations of a relay, taken back and cut off at random.

use super::{AT, BOTH, USER, World, pattern};
use ring9::fs::{Call, Cancel, Done, FileId, Iovec, New, OpId, Service, Show, mode};
use ring9::wire::{Dialect, Names};

/// A relay, its files, and the operations that have not ended.
struct Soak {
    world: World,
    /// Files, and how many operations name each.
    files: Vec<(FileId, usize)>,
    /// Operations that have not ended, the files that they name, and whether they close a file: sessions take no close back.
    pending: Vec<(OpId, Vec<FileId>, bool)>,
    ended: usize,
}

impl Soak {
    fn below(&mut self, end: usize) -> usize {
        self.world.far.below(end)
    }

    fn ask(&mut self, mut call: Call<'_>) {
        let names: Vec<FileId> = call.files().into_iter().flatten().map(|file| *file).collect();
        let is_close = matches!(call, Call::Close { .. });
        let mut unused = Iovec::default();
        let room = self.below(60_000) as u32;
        let show = if let Call::Read { .. } = call { Show::Data(unused.out(room)) } else { Show::Nothing };
        match self.world.ask_to_show(call, show) {
            Ok(op) => {
                self.files.iter_mut().filter(|(file, _)| names.contains(file)).for_each(|(_, uses)| *uses += 1);
                self.pending.push((op, names, is_close));
            }
            Err(result) => assert!(!matches!(result, Ok(Done::File { .. } | Done::Walked(_)))),
        }
    }

    /// The operation is over, one way or another.
    fn forget(&mut self, op: OpId) {
        let found = self.pending.iter().position(|(pending, ..)| *pending == op).expect("it ends once");
        let (_, names, _) = self.pending.swap_remove(found);
        self.files.iter_mut().filter(|(file, _)| names.contains(file)).for_each(|(_, uses)| *uses -= 1);
        self.ended += 1;
    }

    fn finish_all(&mut self) {
        for op in self.world.ready() {
            self.forget(op);
            if let Ok(Done::File { file, .. } | Done::Walked(Some(file))) = self.world.finish(op, Show::Nothing) {
                self.files.push((file, 0));
            }
        }
    }

    fn turn(&mut self) {
        let count = self.files.len();
        let place = self.below(count);
        let (file, uses) = self.files.get(place).copied().unwrap_or((FileId::NONE, 0));
        let data = pattern(self.below(70_000));
        let at = self.below(100_000) as u64;
        let name: &[u8] = [&b"a"[..], b"b", b"c", b".."][self.below(4)];
        match self.below(24) {
            0 => self.ask(Call::Attach { user: USER, aname: b"" }),
            1..=3 => self.ask(Call::Walk { from: file, names: Names::list(&[name]), dots: true }),
            4 => self.ask(Call::Walk { from: file, names: Names::list(&[]), dots: true }),
            // The name of a file that an operation is about to change belongs to nothing else.
            5 if uses == 0 => {
                let new = New { flags: BOTH, mode: mode::IFREG | 0o666, or_open: true, ..New::default() };
                self.ask(Call::Create { dir: file, name: b"a", new });
            }
            6 if uses == 0 => self.ask(Call::Open { file, flags: BOTH }),
            7 | 8 => self.ask(Call::Read { file, offset: at }),
            9 => self.ask(Call::Write { file, offset: at, data: &data }),
            10 => self.ask(Call::Stat { file, target: false }),
            11 => self.ask(Call::List { dir: file, cookie: 0, stats: at.is_multiple_of(2) }),
            12 => self.ask(Call::Xattr { file, name: b"user.a" }),
            13 => {
                let value = Some(&data[..data.len() / 8]);
                self.ask(Call::SetXattr { file, name: b"user.a", value, how: ring9::fs::SetXattr::Any });
            }
            14 => self.ask(Call::Rename { from: file, name: b"a", to: file, new_name: b"b" }),
            15 => self.ask(Call::Unlink { dir: file, name, want_dir: false }),
            16 | 17 if uses == 0 && count > 0 => {
                self.files.retain(|(held, _)| *held != file);
                self.ask(Call::Close { file });
            }
            18 if !self.pending.is_empty() => {
                let place = self.below(self.pending.len());
                let (op, is_close) = (self.pending[place].0, self.pending[place].2);
                if !is_close && self.world.relay.cancel(op) == Cancel::Cancelled {
                    self.forget(op);
                }
            }
            _ => {
                for _ in 0..self.below(20) {
                    self.world.far.step(&mut self.world.relay, AT);
                }
                self.finish_all();
            }
        }
    }
}

/// Whatever is asked, taken back and cut off, each operation ends once, and nothing stays on either side.
#[test]
fn random_operations_end_once_and_leave_nothing() {
    for seed in 0..18u64 {
        let mut world = World::new(seed);
        world.far.dialect = Dialect::ALL[2 - seed as usize % 3];
        world.far.msize = [8 << 10, 64 << 10, 1 << 20][seed as usize / 3 % 3];
        world.far.piece_max = [300, 5000, 200_000][seed as usize / 9 % 3];
        let mut soak = Soak { world, files: Vec::new(), pending: Vec::new(), ended: 0 };
        for turn in 0..600 {
            soak.turn();
            if seed % 2 == 1 && turn % 200 == 199 {
                soak.world.far.vanish(AT);
            }
        }
        soak.world.settle();
        soak.finish_all();
        assert!(soak.pending.is_empty(), "seed {seed}: {:?}", soak.pending);
        assert!(soak.ended > 100, "{} operations", soak.ended);
        for (file, _) in std::mem::take(&mut soak.files) {
            soak.ask(Call::Close { file });
        }
        soak.world.settle();
        soak.finish_all();
        assert!(soak.pending.is_empty());
        assert_eq!(soak.world.relay.held(), 0);
        assert_eq!(soak.world.far.tree.held(), 0, "seed {seed}");
        soak.world.ends();
    }
}
