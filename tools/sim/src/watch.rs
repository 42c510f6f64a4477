//! A tree that plays every operation on a naive model as well and compares the two. `slow` lets some of them wait.
//!
//! The order in which the server enters the tree is the order of execution: the model follows it, so that every result must be the one that this order gives. An
//! attach name says which connection it is ("c7"): what is shown to it goes into the ledger.
//!
//! Where memfs has no memory the model, which knows of none, stays as it was.

mod end;
mod play;

use crate::kernel::faults::{Fault, Faults};
use crate::ledger::{Answer, File as Shown, Ledger};
use crate::model::{self, Model};
use crate::random::Random;
use crate::slow::hand_over;
use play::{Play, same};
use ring9::arena::Space;
use ring9::fs::{
    At, Change, Entry, Error, Filesystem, Grant, Iovec, Lock, Make, Open, Out, Result, SetXattr, Stat, StatFs, User,
};
use ring9::wire::{Qid, qt};
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A file value of the tree, and its handle in the model.
#[derive(Clone, Debug)]
pub struct File<T> {
    file: T,
    id: usize,
    number: u32,
    listing: RefCell<Option<Listing>>,
}

/// A listing under way.
#[derive(Clone, Debug)]
struct Listing {
    cookie: u64,
    /// Names that were there when it began, and since when.
    there: BTreeMap<Vec<u8>, u64>,
    seen: BTreeMap<Vec<u8>, usize>,
    /// Entries so far.
    count: usize,
}

/// The tree.
pub struct Watch<F: Filesystem> {
    fs: F,
    play: RefCell<Play>,
    ledger: Rc<RefCell<Ledger>>,
    /// Attach names say connections, which the ledger knows.
    has_clients: bool,
    now: At,
}

/// Largest file of [`Watch::alone`], in bytes.
pub const FAR: u64 = 1 << 20;

impl<F: Filesystem> Watch<F> {
    /// Watches a tree that is empty but for a root of mode 0777 that root has, with room for so many files.
    pub(crate) fn new(
        fs: F,
        files_max: usize,
        random: Random,
        faults: Faults,
        ledger: Rc<RefCell<Ledger>>,
    ) -> Watch<F> {
        let model = Model::new(files_max, None, At::default().wall);
        let play = RefCell::new(Play { model, qids: BTreeMap::new(), random, faults });
        Watch { fs, play, ledger, has_clients: true, now: At::default() }
    }

    /// The same for who has no clients to account for, and may write anywhere: nothing waits, and beyond [`FAR`] everything is refused with `EFBIG`.
    pub fn alone(fs: F, files_max: usize) -> Watch<F> {
        let watch = Watch::new(fs, files_max, Random::new(0), Faults::none(), Rc::new(RefCell::new(Ledger::idle())));
        Watch { has_clients: false, ..watch }
    }

    /// Which connection says this name.
    pub(crate) fn number(aname: &[u8]) -> Option<u32> {
        std::str::from_utf8(aname).ok().and_then(|name| name.strip_prefix('c')?.parse().ok())
    }

    /// The tree itself, when nobody watches any more.
    pub fn into_inner(self) -> F {
        self.fs
    }

    /// Whether a file would become longer than a model of plain bytes should be.
    fn is_far(&self, end: Option<u64>) -> bool {
        !self.has_clients && end.is_none_or(|end| end > FAR)
    }

    /// By the model, a write goes to the end wherever it was meant to go.
    fn appends(&self, file: &<Self as Filesystem>::File) -> bool {
        let play = self.play.borrow();
        let handle = play.model.handle(file.id);
        play.model.inodes[handle.node].bits & qt::APPEND != 0 || handle.open.is_some_and(|open| open.append)
    }

    /// The tree itself.
    pub(crate) fn inner(&self) -> &F {
        &self.fs
    }

    /// How often this has happened.
    pub(crate) fn fired(&self, fault: Fault) -> u64 {
        self.play.borrow().faults.fired()[fault as usize]
    }

    /// File values in use, by the model.
    pub(crate) fn handles(&self) -> usize {
        self.play.borrow().model.handles.iter().flatten().count()
    }

    /// When the tree was entered last.
    pub(crate) fn now(&self) -> At {
        self.now
    }

    /// It is entered without a call.
    pub(crate) fn is_now(&mut self, at: At) {
        self.now = at;
    }

    pub(crate) fn random(&self) -> RefMut<'_, Random> {
        RefMut::map(self.play.borrow_mut(), |play| &mut play.random)
    }

    fn keep(&self, file: F::File, id: usize, number: u32) -> File<F::File> {
        File { file, id, number, listing: RefCell::new(None) }
    }

    fn play(&self, at: At) -> RefMut<'_, Play> {
        self.ledger.borrow_mut().operations += 1;
        let mut play = self.play.borrow_mut();
        play.model.now = at.wall;
        play
    }

    pub(crate) fn fires(&self, fault: Fault) -> bool {
        let mut play = self.play.borrow_mut();
        let Play { random, faults, .. } = &mut *play;
        faults.fires(fault, random)
    }
}

/// The bytes of a payload that has landed.
fn landed(grant: Grant) -> (Grant, Vec<u8>) {
    let Grant { space, offset, place, count } = grant;
    assert!(space.left() == 0, "writes: a payload is published before it is whole");
    let len = space.len();
    let (pieces, spares) = space.into_parts();
    let bytes = pieces[..pieces.len() - spares].iter().flat_map(|piece| piece.bytes()).copied().collect();
    let mut space = Space::new(pieces, spares);
    space.advance(len);
    (Grant { space, offset, place, count }, bytes)
}

impl<F: Filesystem> Filesystem for Watch<F> {
    type File = File<F::File>;

    fn init(&mut self, at: At) -> Result<()> {
        self.now = at;
        for time in {
            let root = &mut self.play.get_mut().model.inodes[model::ROOT];
            [&mut root.atime, &mut root.mtime, &mut root.ctime, &mut root.btime]
        } {
            *time = at.wall;
        }
        self.fs.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.fs.cleanup()
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<Self::File> {
        let number =
            if self.has_clients { Self::number(aname) } else { [&b""[..], b"/"].contains(&aname).then_some(0) };
        let number = number.ok_or(Error::ENOENT)?;
        self.ledger.borrow_mut().enters(number, user.uid);
        let file = self.fs.attach(user, b"")?;
        let id = self.play(self.now).model.attach(user);
        Ok(self.keep(file, id, number))
    }

    fn lookup(&mut self, dir: &Self::File, name: &[u8]) -> Result<Self::File> {
        let ours = self.fs.lookup(&dir.file, name);
        let models = self.play(self.now).agree("lookup", &ours, false, |model| model.lookup(dir.id, name));
        let file = ours?;
        Ok(self.keep(file, models.expect("they agree"), dir.number))
    }

    fn duplicate(&mut self, file: &Self::File) -> Self::File {
        let ours = self.fs.duplicate(&file.file);
        let id = self.play(self.now).model.duplicate(file.id);
        self.keep(ours, id, file.number)
    }

    fn attr(&self, file: &Self::File) -> Qid {
        let qid = self.fs.attr(&file.file);
        let mut play = self.play.borrow_mut();
        let node = play.model.handle(file.id).node;
        play.check_qid(node, qid);
        qid
    }

    fn iounit(&self, file: &Self::File) -> u32 {
        self.fs.iounit(&file.file)
    }

    fn open(&mut self, file: &mut Self::File, flags: Open, at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.open(&mut file.file, flags, at);
        self.play(at).agree("open", &ours, false, |model| model.open(file.id, flags));
        ours
    }

    fn create(
        &mut self,
        dir: &mut Self::File,
        name: &[u8],
        flags: Open,
        mode: u32,
        bits: u8,
        gid: Option<u32>,
        at: At,
    ) -> Result<()> {
        self.now = at;
        let ours = self.fs.create(&mut dir.file, name, flags, mode, bits, gid, at);
        self.play(at).agree("create", &ours, false, |model| model.create(dir.id, name, flags, mode, bits, gid));
        ours
    }

    /// What is read goes into the ledger once it is shown; by a far server, at once.
    fn read(&mut self, file: &mut Self::File, offset: u64, mut out: Out<'_>, at: At) -> Result<()> {
        self.now = at;
        let room = out.room();
        let mut ours = Iovec::default();
        self.fs.read(&mut file.file, offset, ours.out(room), at)?;
        let offset = usize::try_from(offset).expect("64 bits");
        let want = self.play(at).model.read(file.id, offset, room as usize);
        assert!(
            ours.to_vec() == want,
            "model: {} bytes read at {offset}, by the model {}, or other ones",
            ours.len(),
            want.len()
        );
        let mut ledger = self.ledger.borrow_mut();
        if ledger.is_relayed() {
            ledger.shows_read(file.number, offset as u64, want);
        }
        drop(ledger);
        hand_over(ours, &mut out);
        Ok(())
    }

    fn write(&mut self, file: &mut Self::File, offset: u64, data: &[u8], at: At) -> Result<u32> {
        self.now = at;
        let appends = self.appends(file);
        if !appends && self.is_far(offset.checked_add(data.len() as u64)) {
            return Err(Error::EFBIG);
        }
        let ours = self.fs.write(&mut file.file, offset, data, at);
        if !appends && is_too_far(offset, data) {
            assert!(ours.is_err(), "model: a write beyond all that a file can have");
            return ours;
        }
        self.ledger.borrow_mut().writes(file.number, offset, data);
        let wrote = self.play(at).agree("write", &ours, true, |model| {
            model.write(file.id, offset as usize, data);
            Ok(())
        });
        if wrote.is_some() {
            same!(ours, Ok(data.len() as u32), "a write");
        }
        ours
    }

    fn grant(&mut self, file: &mut Self::File, offset: u64, count: u32, at: At) -> Result<Option<Grant>> {
        self.now = at;
        if self.fires(Fault::TreeLendsNothing) || self.is_far(offset.checked_add(count.into())) {
            return Ok(None);
        }
        self.fs.grant(&mut file.file, offset, count, at)
    }

    fn extend(&mut self, file: &mut Self::File, grant: &mut Grant) -> Result<()> {
        self.fs.extend(&mut file.file, grant)
    }

    fn discards(&self, file: &Self::File) -> bool {
        self.fs.discards(&file.file)
    }

    fn commit(&mut self, file: &mut Self::File, grant: Grant, at: At) -> Result<u32> {
        self.now = at;
        let (grant, bytes) = landed(grant);
        let offset = grant.offset;
        // By now: the file that ignored the offset of the grant may have lost its DMAPPEND since.
        let appends = self.appends(file);
        let ours = self.fs.commit(&mut file.file, grant, at);
        if !appends && is_too_far(offset, &bytes) {
            assert!(ours.is_err(), "model: a commit beyond all that a file can have");
            return ours;
        }
        self.ledger.borrow_mut().writes(file.number, offset, &bytes);
        same!(ours, Ok(bytes.len() as u32), "a commit");
        self.play(at).model.write(file.id, offset as usize, &bytes);
        ours
    }

    fn close(&mut self, file: Self::File, at: At) -> Result<()> {
        self.now = at;
        self.play(at).model.close(file.id);
        self.fs.close(file.file, at)
    }

    fn remove(&mut self, file: &mut Self::File, at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.remove(&mut file.file, at);
        self.play(at).agree("remove", &ours, false, |model| model.remove(file.id));
        ours
    }

    fn stat(&self, file: &Self::File) -> Result<Stat<'_>> {
        let stat = self.fs.stat(&file.file)?;
        let mut play = self.play.borrow_mut();
        play.compare(&stat, file.id);
        let node = play.model.handle(file.id).node;
        play.check_qid(node, stat.qid);
        self.ledger.borrow_mut().shows(file.number, Answer::File(Shown::of(&stat)));
        Ok(stat)
    }

    fn wstat(&mut self, file: &mut Self::File, change: &Change<'_>, at: At) -> Result<()> {
        self.now = at;
        if change.size.is_some_and(|size| self.is_far(Some(size))) {
            return Err(Error::EFBIG);
        }
        let ours = self.fs.wstat(&mut file.file, change, at);
        let far = change.size.is_some_and(|size| size > 1 << 40);
        if far {
            assert!(ours.is_err(), "model: no size of this simulation is that far");
            return ours;
        }
        self.play(at).agree("wstat", &ours, change.size.is_some(), |model| model.wstat(file.id, change));
        ours
    }

    fn list(
        &mut self,
        dir: &mut Self::File,
        cookie: u64,
        at: At,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        self.now = at;
        let mut taken = Vec::new();
        let mut at_end = true;
        self.fs.list(&mut dir.file, cookie, at, &mut |entry| {
            let takes = each(entry);
            at_end &= takes;
            if takes {
                taken.push((entry.cookie, Shown::of(&entry.stat)));
            }
            takes
        })?;
        let mut play = self.play(at);
        let node = play.model.handle(dir.id).node;
        play.model.was_read(node);
        let entries = play.model.entries(node);
        let mut listing = dir.listing.borrow_mut();
        if cookie == 0 || listing.as_ref().is_none_or(|listing| listing.cookie != cookie) {
            let fresh = Listing { cookie: 0, there: play.model.since(node), seen: BTreeMap::new(), count: 0 };
            *listing = (cookie == 0).then_some(fresh);
        }
        let mut last = cookie;
        for (cookie, shown) in &taken {
            assert!(*cookie > last && *cookie < 1 << 63, "model: cookie {cookie} behind {last}");
            last = *cookie;
            let there = match &shown.name[..] {
                b"." => Some(node),
                b".." => Some(play.model.parent(node)),
                name => entries.get(name).copied(),
            };
            let there = there.expect("model: what is listed is there");
            play.check_qid(there, shown.qid);
            if let Some(listing) = &mut *listing {
                *listing.seen.entry(shown.name.clone()).or_default() += 1;
                listing.count += 1;
                // "." and ".." come as well. More than that would be names that were made since.
                assert!(
                    listing.count <= 2 + listing.there.len(),
                    "model: {:?} is listed and was not there",
                    shown.name
                );
            }
        }
        if let Some(of) = &mut *listing {
            of.cookie = last;
            if at_end {
                let now = play.model.since(node);
                for (name, _) in of.there.iter().filter(|&(name, since)| now.get(name) == Some(since)) {
                    same!(of.seen.get(name), Some(&1), "{name:?} stayed and is listed so often");
                }
                *listing = None;
            }
        }
        drop(play);
        self.ledger.borrow_mut().shows(dir.number, Answer::Entries(taken));
        Ok(())
    }

    fn make(
        &mut self,
        dir: &Self::File,
        name: &[u8],
        what: Make<'_>,
        mode: u32,
        gid: Option<u32>,
        at: At,
    ) -> Result<Qid> {
        self.now = at;
        let ours = self.fs.make(&dir.file, name, what, mode, gid, at);
        let mut play = self.play(at);
        let needs_memory = matches!(what, Make::Symlink(_));
        let made = play.agree("make", &ours, needs_memory, |model| model.make(dir.id, name, what, mode, gid));
        if let (Some(node), Ok(qid)) = (made, &ours) {
            play.check_qid(node, *qid);
        }
        ours
    }

    fn link(&mut self, dir: &Self::File, name: &[u8], file: &Self::File, at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.link(&dir.file, name, &file.file, at);
        self.play(at).agree("link", &ours, false, |model| model.link(dir.id, name, file.id));
        ours
    }

    fn unlink(&mut self, dir: &Self::File, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.unlink(&dir.file, name, want_dir, at);
        self.play(at).agree("unlink", &ours, false, |model| model.unlink(dir.id, name, want_dir));
        ours
    }

    fn rename(&mut self, from: &Self::File, name: &[u8], to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.rename(&from.file, name, &to.file, new_name, at);
        self.play(at).agree("rename", &ours, false, |model| model.rename(from.id, name, to.id, new_name));
        ours
    }

    fn rename_file(&mut self, file: &mut Self::File, to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.rename_file(&mut file.file, &to.file, new_name, at);
        self.play(at).agree("rename of a file", &ours, false, |model| model.rename_file(file.id, to.id, new_name));
        ours
    }

    fn fsync(&mut self, file: &Self::File, data_only: bool) -> Result<()> {
        self.fs.fsync(&file.file, data_only)
    }

    fn xattr(&self, file: &Self::File, name: &[u8]) -> Result<&[u8]> {
        let ours = self.fs.xattr(&file.file, name);
        let models = self.play(self.now).model.xattr(file.id, name);
        same!(ours.map(<[u8]>::to_vec), models, "attribute {name:?}");
        self.ledger.borrow_mut().shows(file.number, Answer::Attr(models.unwrap_or_default()));
        ours
    }

    fn xattrs(&self, file: &Self::File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut names = Vec::new();
        self.fs.xattrs(&file.file, &mut |name| {
            names.push(name.to_vec());
            each(name);
        })?;
        same!(names, self.play(self.now).model.xattrs(file.id), "names of attributes");
        let list = names.into_iter().flat_map(|name| [&name[..], b"\0"].concat()).collect();
        self.ledger.borrow_mut().shows(file.number, Answer::Attr(list));
        Ok(())
    }

    fn set_xattr(&mut self, file: &Self::File, name: &[u8], value: Option<&[u8]>, how: SetXattr, at: At) -> Result<()> {
        self.now = at;
        let ours = self.fs.set_xattr(&file.file, name, value, how, at);
        let set = |model: &mut Model| model.set_xattr(file.id, name, value, how);
        self.play(at).agree("set of an attribute", &ours, value.is_some(), set);
        ours
    }

    fn lock(&mut self, file: &mut Self::File, lock: &Lock<'_>) -> Result<bool> {
        let ours = self.fs.lock(&mut file.file, lock)?;
        same!(ours, self.play(self.now).model.lock(file.id, lock), "{lock:?}");
        Ok(ours)
    }

    fn conflict(&self, file: &Self::File, lock: &Lock<'_>) -> Result<Option<Lock<'_>>> {
        let ours = self.fs.conflict(&file.file, lock)?;
        let play = self.play(self.now);
        same!(ours.is_some(), play.model.conflicts(file.id, lock), "what is in the way of {lock:?}");
        if let Some(found) = &ours {
            assert!(play.model.is_locked(file.id, found), "model: {found:?} is not there");
        }
        Ok(ours)
    }

    fn target_read(&mut self, file: &Self::File, at: At) {
        self.now = at;
        self.fs.target_read(&file.file, at);
        let mut play = self.play(at);
        let node = play.model.handle(file.id).node;
        play.model.was_read(node);
    }

    fn statfs(&self, file: &Self::File) -> Result<StatFs> {
        let room = self.fs.statfs(&file.file)?;
        let play = self.play.borrow();
        let free = play.model.files_max.saturating_sub(play.model.files_used());
        same!(room.ffree, free as u64, "free files");
        Ok(room)
    }

    fn tick(&mut self, at: At) {
        self.now = at;
        self.fs.tick(at);
    }
}

/// Whether a write there would end beyond all that a file can have.
fn is_too_far(offset: u64, bytes: &[u8]) -> bool {
    !bytes.is_empty() && offset.checked_add(bytes.len() as u64).is_none_or(|end| end > i64::MAX as u64)
}
