//! One history on a tree and on the model: what it holds, a step of it, and what is compared after each.

use super::model::{self, Handle, Model, What};
use super::ops::{Changes, Kind, Op};
use ring9::fs::{At, Change, Entry, Error, Filesystem, Grant, Iovec, Make, Open, Result, Stat, StatFs, Time, User};
use std::collections::{BTreeMap, BTreeSet};

pub const FILES_MAX: usize = 12;
const HANDLES_MAX: usize = 20;

/// How often a history met what it is made for.
#[derive(Default)]
pub struct Met {
    pub no_memory: usize,
    pub no_files: usize,
    pub denied: usize,
    pub committed: usize,
    pub replaced: usize,
    pub replaced_here: usize,
    pub listed: usize,
}

/// A listing under way.
struct Listing {
    cookie: u64,
    /// Names that were there when it began.
    began_with: usize,
    /// Names that have been there since it began.
    stayed: BTreeSet<Vec<u8>>,
    seen: Vec<Vec<u8>>,
}

/// A file value here and its number in the model.
struct OpenFile<T> {
    file: T,
    id: usize,
    listing: Option<Listing>,
}

struct Landing {
    grant: Grant,
    data: Vec<u8>,
    offset: usize,
    id: usize,
}

pub struct History<F: Filesystem> {
    fs: F,
    model: Model,
    held: Vec<OpenFile<F::File>>,
    landings: Vec<Landing>,
    replies: Vec<(Iovec, Vec<u8>)>,
    /// By file of the model: qid.path, and the version after so many changes.
    qids: BTreeMap<usize, (u64, u32, u64)>,
    clock: i64,
    met: Met,
}

/// Text of a disagreement.
pub type Checked<T = ()> = std::result::Result<T, String>;

macro_rules! same {
    ($ours:expr, $models:expr, $($what:tt)*) => {{
        let (ours, models) = (&$ours, &$models);
        if ours != models {
            return Err(format!("{}: {ours:?}, by the model {models:?}", format!($($what)*)));
        }
    }};
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed) % 251) as u8 + 1).collect()
}

impl<F: Filesystem> History<F> {
    pub fn new(fs: F, groups: Option<&[(u32, u32)]>) -> History<F> {
        let mut history = History {
            fs,
            model: Model::new(FILES_MAX, groups, at(1).wall),
            held: Vec::new(),
            landings: Vec::new(),
            replies: Vec::new(),
            qids: BTreeMap::new(),
            clock: 1,
            met: Met::default(),
        };
        history.fs.init(at(1)).expect("a fresh tree starts");
        history.attach(0);
        history
    }

    fn attach(&mut self, uid: u32) {
        // User 2 comes by a peer that is nobody but itself.
        let user = User { uid, gid: Some(uid), vouched: uid != 2, peer: 0 };
        let file = self.fs.attach(user, b"").expect("the root is there");
        let id = self.model.attach(user);
        self.held.push(OpenFile { file, id, listing: None });
    }

    /// What the model knows of a file value.
    fn handle(&self, place: usize) -> Handle {
        self.model.handle(self.held[place].id)
    }

    fn is_open(&self, place: usize) -> bool {
        self.handle(place).open.is_some()
    }

    /// One of the open files or directories of which this is so.
    fn pick_open(&self, number: usize, what: What, wanted: impl Fn(Open) -> bool) -> Option<usize> {
        let of_these = |handle: Handle| self.model.inodes[handle.node].what == what && handle.open.is_some_and(&wanted);
        let places: Vec<_> = (0..self.held.len()).filter(|&place| of_these(self.handle(place))).collect();
        (!places.is_empty()).then(|| places[number % places.len()])
    }

    fn room(&mut self) -> StatFs {
        self.fs.work();
        self.fs.statfs(&self.held[0].file).expect("known")
    }

    /// Compares two answers. Where memfs has no memory the model, which knows of none, is left as it was.
    fn agree<T, U>(
        &mut self,
        ours: Result<T>,
        needs_memory: bool,
        does: impl FnOnce(&mut Model) -> Result<U>,
    ) -> Checked<Option<(T, U)>> {
        if needs_memory && ours.as_ref().is_err_and(|&error| error == Error::ENOSPC) {
            let mut copy = self.model.clone();
            match does(&mut copy) {
                Err(Error::ENOSPC) => self.met.no_files += 1,
                Ok(_) => self.met.no_memory += 1,
                Err(error) => return Err(format!("ENOSPC, by the model {error:?}")),
            }
            return Ok(None);
        }
        match (ours, does(&mut self.model)) {
            (Ok(ours), Ok(models)) => Ok(Some((ours, models))),
            (Err(ours), Err(models)) if ours == models => {
                self.met.denied += usize::from(ours == Error::EACCES || ours == Error::EPERM);
                self.met.no_files += usize::from(ours == Error::ENOSPC);
                Ok(None)
            }
            (ours, models) => Err(format!("{:?}, by the model {:?}", ours.map(|_| ()), models.map(|_| ()))),
        }
    }

    pub fn step(&mut self, op: &Op) -> Checked {
        self.clock += 1;
        let now = at(self.clock);
        self.model.now = now.wall;
        let room = self.room();
        if !self.play(op, now)? {
            same!(self.room(), room, "room after a failure");
        }
        self.check()
    }

    /// Plays a step; whether it may have changed something.
    fn play(&mut self, op: &Op, now: At) -> Checked<bool> {
        let count = self.held.len();
        let pick = |number: usize| number % count;
        let is_full = count >= HANDLES_MAX;
        match *op {
            Op::Attach { uid } if !is_full => self.attach(uid),
            Op::Lookup { at, name } if !is_full => {
                let place = pick(at);
                let name = if name == b':' { b"..".to_vec() } else { vec![name] };
                let ours = self.fs.lookup(&self.held[place].file, &name);
                let id = self.held[place].id;
                let Some((file, id)) = self.agree(ours, false, |model| model.lookup(id, &name))? else {
                    return Ok(false);
                };
                self.held.push(OpenFile { file, id, listing: None });
            }
            Op::Duplicate { at } if !is_full => {
                let place = pick(at);
                let file = self.fs.duplicate(&self.held[place].file);
                let id = self.model.duplicate(self.held[place].id);
                self.held.push(OpenFile { file, id, listing: None });
            }
            Op::Open { at, flags } if !self.is_open(pick(at)) => {
                let OpenFile { file, id, .. } = &mut self.held[pick(at)];
                let (id, ours) = (*id, self.fs.open(file, flags, now));
                return Ok(self.agree(ours, false, |model| model.open(id, flags))?.is_some());
            }
            Op::Create { at, name, flags, mode, bits } if !self.is_open(pick(at)) => {
                let OpenFile { file, id, .. } = &mut self.held[pick(at)];
                let (id, ours) = (*id, self.fs.create(file, &[name], flags, mode, bits, None, now));
                return Ok(self
                    .agree(ours, false, |model| model.create(id, &[name], flags, mode, bits, None))?
                    .is_some());
            }
            Op::Make { at, name, kind, mode, gid } => return self.make(pick(at), name, kind, mode, gid, now),
            Op::Read { at, offset, count } => return self.read(at, offset, count, now),
            Op::Sent { which } if !self.replies.is_empty() => {
                let (reply, want) = self.replies.swap_remove(which % self.replies.len());
                if reply.to_vec() != want {
                    return Err("a reply on its way has changed".to_owned());
                }
            }
            Op::Write { at, offset, len } => return self.write(at, offset, len, now),
            Op::Grant { at, offset, len } => return self.grant(at, offset, len, now),
            Op::Landed { which, whole } if !self.landings.is_empty() => {
                let landing = self.landings.swap_remove(which % self.landings.len());
                if whole {
                    self.commit(landing, now)?;
                }
            }
            Op::Close { at } if count > 1 => self.close(1 + at % (count - 1), now),
            Op::Remove { at } => {
                let OpenFile { file, id, .. } = &mut self.held[pick(at)];
                let (id, ours) = (*id, self.fs.remove(file, now));
                return Ok(self.agree(ours, false, |model| model.remove(id))?.is_some());
            }
            Op::Unlink { at, name, want_dir } => {
                let OpenFile { file, id, .. } = &self.held[pick(at)];
                let (id, ours) = (*id, self.fs.unlink(file, &[name], want_dir, now));
                return Ok(self.agree(ours, false, |model| model.unlink(id, &[name], want_dir))?.is_some());
            }
            Op::Link { at, name, of } => {
                let (dir, file) = (&self.held[pick(at)], &self.held[pick(of)]);
                let (id, of, ours) = (dir.id, file.id, self.fs.link(&dir.file, &[name], &file.file, now));
                return Ok(self.agree(ours, false, |model| model.link(id, &[name], of))?.is_some());
            }
            Op::Rename { at, name, to, new_name } => {
                let (from, to) = (&self.held[pick(at)], &self.held[pick(to)]);
                let was_there = self.model.find(self.model.handle(to.id).node, &[new_name]).is_some();
                let ours = self.fs.rename(&from.file, &[name], &to.file, &[new_name], now);
                let (id, to) = (from.id, to.id);
                let did = self.agree(ours, false, |model| model.rename(id, &[name], to, &[new_name]))?.is_some();
                self.met.replaced += usize::from(did && was_there);
                return Ok(did);
            }
            Op::RenameFile { at, to, new_name } if pick(at) != pick(to) => {
                let (place, dir) = (pick(at), pick(to));
                let to = self.held[dir].id;
                let [held, dir] = self.held.get_disjoint_mut([place, dir]).expect("two of those in use");
                let ours = self.fs.rename_file(&mut held.file, &dir.file, &[new_name], now);
                let id = held.id;
                return Ok(self.agree(ours, false, |model| model.rename_file(id, to, &[new_name]))?.is_some());
            }
            Op::Wstat { at, ref changes } => {
                let name = changes.name.map(|name| [name]);
                let change = change_of(changes, name.as_ref());
                let OpenFile { file, id, .. } = &mut self.held[pick(at)];
                let (id, ours) = (*id, self.fs.wstat(file, &change, now));
                let names = self.model.names();
                let did = self.agree(ours, change.size.is_some(), |model| model.wstat(id, &change))?.is_some();
                self.met.replaced_here += usize::from(self.model.names() < names);
                return Ok(did);
            }
            Op::List { at, count, restart } => self.list(at, count, restart, now)?,
            Op::ReadLink { at } => {
                let OpenFile { file, id, .. } = &self.held[pick(at)];
                let node = self.model.handle(*id).node;
                if matches!(self.model.inodes[node].what, What::Symlink(_)) {
                    self.fs.target_read(file, now);
                    self.model.was_read(node);
                }
            }
            // Not for this file value, or too many are in use.
            _ => {}
        }
        Ok(true)
    }

    fn make(&mut self, place: usize, name: u8, kind: Kind, mode: u32, gid: Option<u32>, now: At) -> Checked<bool> {
        let target;
        let what = match kind {
            Kind::File => Make::File,
            Kind::Dir => Make::Dir,
            Kind::Symlink(len) => {
                target = pattern(len, name.into());
                Make::Symlink(&target)
            }
            Kind::Device => Make::Device { block: mode & 1 == 0, major: mode, minor: 7 },
            Kind::Fifo => Make::Fifo,
            Kind::Socket => Make::Socket,
        };
        let OpenFile { file, id, .. } = &self.held[place];
        let (id, ours) = (*id, self.fs.make(file, &[name], what, mode, gid, now));
        let needs_memory = matches!(kind, Kind::Symlink(_));
        let made = self.agree(ours, needs_memory, |model| model.make(id, &[name], what, mode, gid))?;
        if let Some((qid, node)) = made {
            self.check_qid(node, qid)?;
        }
        Ok(made.is_some())
    }

    fn read(&mut self, at: usize, offset: usize, count: usize, now: At) -> Checked<bool> {
        let Some(place) = self.pick_open(at, What::File, |open| open.read || open.exec) else { return Ok(true) };
        let OpenFile { file, id, .. } = &mut self.held[place];
        let mut reply = Iovec::default();
        let ours = self.fs.read(file, offset as u64, reply.out(count as u32), now);
        same!(ours, Ok(()), "a read");
        let want = self.model.read(*id, offset, count);
        if reply.to_vec() != want {
            return Err(format!("{} bytes read, by the model {}, or other ones", reply.len(), want.len()));
        }
        if self.replies.len() < 4 {
            self.replies.push((reply, want));
        }
        Ok(true)
    }

    fn write(&mut self, at: usize, offset: usize, len: usize, now: At) -> Checked<bool> {
        let Some(place) = self.pick_open(at, What::File, |open| open.write) else { return Ok(true) };
        let data = pattern(len, self.clock as usize);
        let OpenFile { file, id, .. } = &mut self.held[place];
        let (id, ours) = (*id, self.fs.write(file, offset as u64, &data, now));
        let written = self.agree(ours, true, |model| {
            model.write(id, offset, &data);
            Ok(())
        })?;
        if let Some((outcome, ())) = written {
            same!(outcome, len as u32, "a write");
        }
        Ok(written.is_some())
    }

    fn grant(&mut self, at: usize, offset: usize, len: usize, now: At) -> Checked<bool> {
        if self.landings.len() >= 2 {
            return Ok(true);
        }
        let Some(place) = self.pick_open(at, What::File, |open| open.write) else { return Ok(true) };
        let data = pattern(len, self.clock as usize);
        let OpenFile { file, id, .. } = &mut self.held[place];
        let (id, ours) = (*id, self.fs.grant(file, offset as u64, len as u32, now));
        let Some((Some(mut grant), ())) = self.agree(ours, true, |_| Ok(()))? else { return Ok(false) };
        let mut arrived = grant.space.fill(&data);
        while grant.missing() > 0 {
            let more = self.fs.extend(&mut self.held[place].file, &mut grant);
            let Some(((), ())) = self.agree(more, true, |_| Ok(()))? else { return Ok(false) };
            arrived += grant.space.fill(&data[arrived..]);
        }
        same!(arrived, len, "room for the payload");
        self.landings.push(Landing { grant, data, offset, id });
        Ok(true)
    }

    /// The last byte has arrived.
    fn commit(&mut self, landing: Landing, now: At) -> Checked {
        let Landing { grant, data, offset, id } = landing;
        let Some(held) = self.held.iter_mut().find(|held| held.id == id) else { return Ok(()) };
        let ours = self.fs.commit(&mut held.file, grant, now);
        same!(ours, Ok(data.len() as u32), "a commit");
        self.model.write(id, offset, &data);
        self.met.committed += 1;
        Ok(())
    }

    fn close(&mut self, place: usize, now: At) {
        let OpenFile { file, id, .. } = self.held.remove(place);
        // A session abandons what was landing for a fid.
        self.landings.retain(|landing| landing.id != id);
        self.fs.close(file, now).expect("a close in memory does not fail");
        self.model.close(id);
    }

    fn list(&mut self, at: usize, count: usize, restart: bool, now: At) -> Checked {
        let Some(place) = self.pick_open(at, What::Dir, |open| open.read) else { return Ok(()) };
        let handle = self.handle(place);
        let entries = self.model.entries(handle.node);
        let held = &mut self.held[place];
        let fresh = || Listing {
            cookie: 0,
            began_with: entries.len(),
            stayed: entries.keys().cloned().collect(),
            seen: Vec::new(),
        };
        // One of which nothing was taken yet starts again.
        let mut listing = held.listing.take().filter(|of| !restart && of.cookie > 0).unwrap_or_else(fresh);
        let (mut taken, from) = (0, listing.cookie);
        let mut listed = Vec::new();
        let each = &mut |entry: &Entry<'_>| {
            taken += 1;
            listed.push((entry.cookie, entry.stat.name.to_vec(), entry.stat.qid));
            taken < count
        };
        // The last one was offered and not taken, so it comes again.
        same!(self.fs.list(&mut held.file, from, now, each), Ok(()), "a listing");
        self.model.was_read(handle.node);
        let at_end = listed.len() < count;
        if !at_end {
            listed.pop();
        }
        for (cookie, name, qid) in listed {
            if cookie <= listing.cookie || cookie >= 1 << 63 {
                return Err(format!("cookie {cookie} behind {}", listing.cookie));
            }
            listing.cookie = cookie;
            let node = match &name[..] {
                b"." => Some(handle.node),
                b".." => Some(self.model.parent(handle.node)),
                _ => entries.get(&name).copied(),
            };
            let Some(node) = node else { return Err(format!("{name:?} is listed and not there")) };
            self.check_qid(node, qid)?;
            listing.seen.push(name);
        }
        // "." and ".." come as well. More than that would be names that were made since.
        if listing.seen.len() > 2 + listing.began_with {
            return Err(format!("{:?} are listed, and {} were there", listing.seen, listing.began_with));
        }
        if at_end {
            for name in &listing.stayed {
                let times = listing.seen.iter().filter(|seen| *seen == name).count();
                same!(times, 1, "{name:?} stayed and is listed");
            }
            self.met.listed += 1;
        } else {
            self.held[place].listing = Some(listing);
        }
        Ok(())
    }

    /// A file keeps its number, and its version is new exactly when its content is.
    fn check_qid(&mut self, node: usize, qid: ring9::wire::Qid) -> Checked {
        let changes = self.model.inodes[node].changes;
        if let Some(&(path, version, as_of)) = self.qids.get(&node) {
            same!(qid.path, path, "qid.path of file {node}");
            same!(qid.version != version, changes != as_of, "a new version of file {node}");
        } else {
            same!(self.qids.values().any(|&(path, ..)| path == qid.path), false, "qid.path {} used again", qid.path);
        }
        same!(qid.version == 0, false, "version 0");
        self.qids.insert(node, (qid.path, qid.version, changes));
        Ok(())
    }

    /// All that the file values show, and how many files there are.
    fn check(&mut self) -> Checked {
        for place in 0..self.held.len() {
            let handle = self.handle(place);
            let stat = self.fs.stat(&self.held[place].file).map_err(|error| format!("a stat: {error:?}"))?;
            compare(&stat, &self.model, &handle)?;
            let qid = stat.qid;
            same!(self.fs.attr(&self.held[place].file), qid, "two ways to the same qid");
            self.check_qid(handle.node, qid)?;
            if let Some(listing) = &mut self.held[place].listing {
                let entries = self.model.entries(handle.node);
                listing.stayed.retain(|name| entries.contains_key(name));
            }
        }
        for (reply, want) in &self.replies {
            if reply.to_vec() != *want {
                return Err("a reply on its way has changed".to_owned());
            }
        }
        let free = FILES_MAX.saturating_sub(self.model.files_used());
        same!(self.room().ffree, free as u64, "free files");
        Ok(())
    }

    /// The tree, for whoever looks at it between two steps and changes nothing.
    pub fn tree(&mut self) -> &mut F {
        &mut self.fs
    }

    /// Closes every file, and lets go of replies and landings.
    pub fn close_all(&mut self) {
        self.clock += 1;
        let now = at(self.clock);
        self.model.now = now.wall;
        while !self.held.is_empty() {
            self.close(self.held.len() - 1, now);
        }
        (self.landings, self.replies) = (Vec::new(), Vec::new());
    }

    /// The whole tree, from the root down, and every byte of it; then everything goes.
    pub fn end(mut self) -> Checked<Met> {
        self.close_all();
        let now = at(self.clock);
        let user = User { uid: 0, gid: Some(0), vouched: true, peer: 0 };
        let mut dirs = vec![(self.fs.attach(user, b"").expect("the root is there"), model::ROOT)];
        while let Some((mut dir, node)) = dirs.pop() {
            let mut names = Vec::new();
            let each = &mut |entry: &Entry<'_>| {
                names.push(entry.stat.name.to_vec());
                true
            };
            same!(self.fs.list(&mut dir, 0, now, each), Ok(()), "a listing");
            let entries = self.model.entries(node);
            same!(names[..2], [b".".to_vec(), b"..".to_vec()], "a listing starts");
            let mut names = names.split_off(2);
            names.sort();
            same!(names, entries.keys().cloned().collect::<Vec<_>>(), "names of directory {node}");
            for (name, &below) in &entries {
                let mut file = self.fs.lookup(&dir, name).map_err(|error| format!("{name:?}: {error:?}"))?;
                self.check_qid(below, self.fs.attr(&file))?;
                match self.model.inodes[below].what {
                    What::Dir => {
                        dirs.push((file, below));
                        continue;
                    }
                    What::File => {
                        let read = Open { read: true, ..Open::default() };
                        same!(self.fs.open(&mut file, read, now), Ok(()), "nobody has it open");
                        let mut all = Iovec::default();
                        same!(self.fs.read(&mut file, 0, all.out(u32::MAX), now), Ok(()), "a read");
                        if all.to_vec() != self.model.inodes[below].data {
                            return Err(format!("content of file {below}"));
                        }
                    }
                    _ => {}
                }
                self.fs.close(file, now).expect("nothing to do");
            }
            self.fs.close(dir, now).expect("nothing to do");
        }
        Ok(self.met)
    }
}

fn change_of<'a>(of: &Changes, name: Option<&'a [u8; 1]>) -> Change<'a> {
    Change {
        mode: of.mode,
        bits: of.bits,
        uid: of.uid,
        gid: of.gid,
        size: of.size.map(|size| size as u64),
        atime: of.atime,
        mtime: of.mtime,
        name: name.map(|name| &name[..]),
        replace: of.replace,
        touch_ctime: of.touch_ctime,
    }
}

fn compare(stat: &Stat<'_>, model: &Model, handle: &Handle) -> Checked {
    let inode = &model.inodes[handle.node];
    let node = handle.node;
    let (size, rdev, target) = match &inode.what {
        What::File => (inode.data.len(), (0, 0), &b""[..]),
        What::Symlink(target) => (target.len(), (0, 0), &target[..]),
        What::Device { major, minor, .. } => (0, (*major, *minor), &b""[..]),
        _ => (0, (0, 0), &b""[..]),
    };
    same!(stat.mode, model.mode(node), "mode of file {node}");
    same!((stat.uid, stat.gid, stat.muid), (inode.uid, inode.gid, inode.muid), "owners of file {node}");
    same!(stat.nlink, model.nlink(node), "links of file {node}");
    same!((stat.size, stat.rdev), (size as u64, rdev), "size and device of file {node}");
    same!(stat.target, target, "target of file {node}");
    same!(stat.name, &model.name_of(handle)[..], "name of file {node}");
    let times = [inode.atime, inode.mtime, inode.ctime, inode.btime];
    same!([stat.atime, stat.mtime, stat.ctime, stat.btime], times, "times of file {node}");
    same!(stat.qid.kind & 0x7f & !2, inode.bits, "bits of file {node}");
    Ok(())
}

fn at(clock: i64) -> At {
    At { wall: Time { sec: 1_000_000 + clock, nsec: (clock * 997) as u32 }, mono_ns: clock as u64 * 1_000_000_000 }
}
