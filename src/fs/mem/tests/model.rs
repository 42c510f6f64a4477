//! Random histories beside a naive model: files are vectors of bytes. The arena is so small that it runs full all the time; what fails must change nothing.

use super::*;
use std::collections::BTreeMap;

/// xorshift64*: histories repeat by their seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    /// Small, some pages, about a block, or some blocks.
    fn length(&mut self) -> usize {
        match self.below(8) {
            0 => self.below(8),
            1 | 2 => self.below(700),
            3 => BLOCK - 50 + self.below(100),
            4 => self.below(BLOCK),
            5 | 6 => self.below(20) * PAGE_BYTES + self.below(3) * 1000,
            _ => self.below(3 * BLOCK),
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let first = self.below(255);
        (0..len).map(|i| ((first + i) % 255) as u8 + 1).collect()
    }
}

struct Handle {
    file: File,
    /// Which of `History::files` it is.
    id: usize,
    append: bool,
}

struct Landing {
    grant: Grant,
    data: Vec<u8>,
    offset: usize,
    /// Which of `History::handles`; `None` once that is closed.
    handle: Option<usize>,
}

#[derive(Default)]
struct Seen {
    full: usize,
    commits: usize,
    detached: usize,
}

struct History {
    mem: Mem,
    random: Random,
    /// What is in each file that was ever made.
    files: Vec<Vec<u8>>,
    names: BTreeMap<Vec<u8>, usize>,
    handles: Vec<Option<Handle>>,
    landings: Vec<Landing>,
    held: Vec<(Iovec, Vec<u8>)>,
    seen: Seen,
}

impl History {
    fn new(seed: u64, bytes: usize) -> History {
        History {
            mem: tree_of(bytes),
            random: Random(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            handles: Vec::new(),
            landings: Vec::new(),
            held: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn name(&mut self) -> Vec<u8> {
        vec![b'a' + self.random.below(5) as u8]
    }

    /// A handle, by its place.
    fn pick(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.handles.len()).filter(|&i| self.handles[i].is_some()).collect();
        (!open.is_empty()).then(|| open[self.random.below(open.len())])
    }

    /// Anywhere, at the end, or a little or some pages behind it.
    fn offset(&mut self, place: usize) -> usize {
        let id = self.handles[place].as_ref().expect("picked among the open").id;
        let end = self.files[id].len();
        match self.random.below(5) {
            0 | 1 => self.random.length(),
            2 => end,
            3 => end + self.random.below(300),
            _ => end + self.random.below(12) * PAGE_BYTES + self.random.below(500),
        }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=2 => self.open(),
            3 => self.close(),
            4..=7 => self.write(),
            8 | 9 => self.resize(),
            10 | 11 => self.read(),
            12 => self.rename(),
            13 => self.unlink(),
            14 | 15 => self.grant(),
            16..=18 => self.end_landing(),
            _ => self.let_go(),
        }
    }

    fn open(&mut self) {
        if self.handles.iter().flatten().count() >= 6 {
            return;
        }
        let (name, append) = (self.name(), self.random.below(3) == 0);
        let flags = if append { APPEND } else { READ_WRITE };
        let path = String::from_utf8(name.clone()).expect("a letter");
        let (file, id) = match self.names.get(&name) {
            Some(&id) => (open(&mut self.mem, ROOT_USER, &path, flags).expect("the model has it"), id),
            None => {
                let file = create(&mut self.mem, &name, flags);
                self.names.insert(name, self.files.len());
                self.files.push(Vec::new());
                (file, self.files.len() - 1)
            }
        };
        self.handles.push(Some(Handle { file, id, append }));
    }

    fn close(&mut self) {
        let Some(place) = self.pick() else { return };
        let handle = self.handles[place].take().expect("picked among the open");
        self.mem.close(handle.file, at(1)).expect("closing cannot fail here");
        for landing in &mut self.landings {
            landing.handle = landing.handle.filter(|&of| of != place);
        }
    }

    /// Whether it was done; if there was no memory for it, nothing has changed.
    fn unless_full(&mut self, place: usize, before: Qid, result: Result<()>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error, Error::ENOSPC);
                self.seen.full += 1;
                let handle = self.handles[place].as_ref().expect("still open");
                assert_eq!(self.mem.attr(&handle.file), before, "a failed operation changes no version");
                false
            }
        }
    }

    fn write(&mut self) {
        let Some(place) = self.pick() else { return };
        let (offset, len) = (self.offset(place), self.random.length());
        let data = self.random.bytes(len);
        let handle = self.handles[place].as_mut().expect("picked among the open");
        let before = self.mem.attr(&handle.file);
        let result = write(&mut self.mem, &mut handle.file, offset as u64, &data);
        let (id, append) = (handle.id, handle.append);
        if self.unless_full(place, before, result.map(|count| assert_eq!(count as usize, data.len()))) {
            self.apply(id, if append { None } else { Some(offset) }, &data);
        }
    }

    fn apply(&mut self, id: usize, offset: Option<usize>, data: &[u8]) {
        let bytes = &mut self.files[id];
        let offset = offset.unwrap_or(bytes.len());
        if !data.is_empty() {
            bytes.resize(bytes.len().max(offset + data.len()), 0);
            bytes[offset..offset + data.len()].copy_from_slice(data);
        }
    }

    fn resize(&mut self) {
        let Some(place) = self.pick() else { return };
        let size = match self.random.below(3) {
            0 => 0,
            1 => self.random.length(),
            _ => self.offset(place).saturating_sub(self.random.below(300)),
        };
        let handle = self.handles[place].as_mut().expect("picked among the open");
        let before = self.mem.attr(&handle.file);
        let id = handle.id;
        let result = resize(&mut self.mem, &mut handle.file, size as u64);
        if self.unless_full(place, before, result) {
            self.files[id].resize(size, 0);
        }
    }

    fn read(&mut self) {
        let Some(place) = self.pick() else { return };
        let (offset, count) =
            if self.random.below(2) == 0 { (0, 8 * BLOCK) } else { (self.random.length(), self.random.length()) };
        let handle = self.handles[place].as_mut().expect("picked among the open");
        let iovec = views(&mut self.mem, &mut handle.file, offset as u64, count as u32);
        let bytes = &self.files[handle.id];
        let want = bytes[offset.min(bytes.len())..(offset + count).min(bytes.len())].to_vec();
        assert!(iovec.to_vec() == want);
        if self.held.len() < 4 {
            self.held.push((iovec, want));
        }
    }

    fn rename(&mut self) {
        let (old, new) = (self.name(), self.name());
        let dir = root(&mut self.mem, ROOT_USER);
        let result = self.mem.rename(&dir, &old, &dir, &new, at(1));
        self.mem.close(dir, at(1)).expect("nothing to do");
        assert_eq!(result.is_ok(), self.names.contains_key(&old));
        if let Some(id) = self.names.remove(&old) {
            self.names.insert(new, id);
        }
    }

    fn unlink(&mut self) {
        let name = self.name();
        let dir = root(&mut self.mem, ROOT_USER);
        let result = self.mem.unlink(&dir, &name, false, at(1));
        self.mem.close(dir, at(1)).expect("nothing to do");
        assert_eq!(result.is_ok(), self.names.remove(&name).is_some());
    }

    fn grant(&mut self) {
        if self.landings.len() >= 2 {
            return;
        }
        let Some(place) = self.pick() else { return };
        let (offset, len) = (self.offset(place), 1 + self.random.length());
        let data = self.random.bytes(len);
        let handle = self.handles[place].as_mut().expect("picked among the open");
        let before = self.mem.attr(&handle.file);
        match landed(&mut self.mem, &mut handle.file, offset as u64, &data) {
            Ok(grant) => self.landings.push(Landing { grant, data, offset, handle: Some(place) }),
            Err(error) => drop(self.unless_full(place, before, Err(error))),
        }
    }

    fn end_landing(&mut self) {
        if self.landings.is_empty() {
            return;
        }
        let place = self.random.below(self.landings.len());
        let Landing { grant, data, offset, handle } = self.landings.swap_remove(place);
        // One in four is abandoned, as are those whose file is closed.
        let abandoned = self.random.below(4) == 0;
        let Some(place) = handle.filter(|_| !abandoned) else { return };
        self.seen.commits += 1;
        // Half of them with no free block left: what a grant set aside has to do.
        let filler = (self.random.below(2) == 0).then(|| {
            let mut filler = create(&mut self.mem, b"filler", READ_WRITE);
            let mut block = 1;
            while write(&mut self.mem, &mut filler, block * BLOCK as u64, b"x").is_ok() {
                block += 1;
            }
            filler
        });
        let handle = self.handles[place].as_mut().expect("landings forget closed files");
        let copied = self.mem.arena().gauge().written_bytes();
        assert_eq!(commit(&mut self.mem, &mut handle.file, grant) as usize, data.len());
        self.seen.detached += usize::from(self.mem.arena().gauge().written_bytes() > copied);
        let (id, append) = (handle.id, handle.append);
        self.apply(id, if append { None } else { Some(offset) }, &data);
        if let Some(mut filler) = filler {
            self.mem.remove(&mut filler, at(1)).expect("its name is its own");
            self.mem.close(filler, at(1)).expect("nothing to do");
        }
    }

    fn let_go(&mut self) {
        if !self.held.is_empty() {
            let place = self.random.below(self.held.len());
            let (iovec, want) = self.held.swap_remove(place);
            assert!(iovec.to_vec() == want, "what a reply shows has changed");
        }
    }

    fn check(&mut self) {
        self.mem.check_content();
        for handle in self.handles.iter_mut().flatten() {
            let all = content(&mut self.mem, &mut handle.file);
            assert!(all == self.files[handle.id], "file {} of {} bytes", handle.id, all.len());
        }
        for (iovec, want) in &self.held {
            assert!(iovec.to_vec() == *want, "what a reply shows has changed");
        }
    }

    fn end(mut self) -> Seen {
        let mut names = list(&mut self.mem, "");
        names.sort();
        let known = [".", ".."].into_iter().map(String::from);
        let known = known.chain(self.names.keys().map(|name| String::from_utf8_lossy(name).into_owned()));
        assert_eq!(names, known.collect::<Vec<_>>());
        for (name, &id) in &self.names {
            let path = String::from_utf8_lossy(name);
            let mut file = open(&mut self.mem, ROOT_USER, &path, READ).expect("the model has it");
            assert!(content(&mut self.mem, &mut file) == self.files[id]);
            self.mem.close(file, at(1)).expect("nothing to do");
        }
        for handle in self.handles.drain(..).flatten() {
            self.mem.close(handle.file, at(1)).expect("nothing to do");
        }
        self.landings.clear();
        self.held.clear();
        nothing_left(self.mem);
        self.seen
    }
}

#[test]
fn random_histories_equal_a_naive_model() {
    let mut seen = Seen::default();
    for seed in 1..=90u64 {
        let result = std::panic::catch_unwind(|| {
            // The smaller one is full most of the time; the larger one has room for parts that come together.
            let bytes = if seed % 3 == 0 { 3 << 20 } else { 1 << 20 };
            let mut history = History::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), bytes);
            for _ in 0..150 {
                history.step();
                history.check();
            }
            history.end()
        });
        let Ok(of_one) = result else { panic!("seed {seed}") };
        seen.full += of_one.full;
        seen.commits += of_one.commits;
        seen.detached += of_one.detached;
    }
    // The histories are worth something only if they meet what they are made for.
    assert!(seen.full > 50 && seen.commits > 200 && seen.detached > 20);
}
