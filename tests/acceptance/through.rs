//! A service as a tree of the suite: each operation is one call, and the next one comes once its answer is there and the gate of
//! that is open. What the suite borrows from a tree is kept here for good, which is little.

use ring9::fs::wrap::{Late, Times, Wrapped};
use ring9::fs::{
    Answer, At, Call, Change, Done, Entry, FileId, Filesystem, Grant, Iovec, Lock, Make, New, OpId, Open, Out, Outcome,
    Part, Payload, Result, Service, SetXattr, Show, Stat, StatFs, User,
};
use ring9::wire::{Names, Qid};
use std::cell::{Cell, RefCell};
use std::ops::Range;

/// Turns within which an answer comes, whatever is put off.
const TURNS: usize = 200;

pub struct Through<S> {
    service: RefCell<S>,
    serial: Cell<u64>,
    /// Answers may come later.
    may_wait: bool,
}

impl<S> From<S> for Through<S> {
    fn from(service: S) -> Through<S> {
        Through { service: RefCell::new(service), serial: Cell::new(0), may_wait: false }
    }
}

impl<S> Through<Wrapped<S, Late>> {
    /// The same tree, whose effects and answers come late, and whose answers have gates.
    pub fn late(service: S, seed: u64) -> Through<Wrapped<S, Late>> {
        let times = Times { seed, turns_max: 1 + seed as u32 % 4, gates: 3, grants: true };
        Through { may_wait: true, ..Wrapped::new(service, Late::new(times)).into() }
    }
}

fn kept(bytes: &[u8]) -> &'static [u8] {
    bytes.to_vec().leak()
}

/// The same place to show something, once more.
fn again<'a>(show: &'a mut Show<'_>) -> Show<'a> {
    match show {
        Show::Nothing => Show::Nothing,
        Show::Data(_) => unreachable!("what is read is collected"),
        Show::Steps(each) => Show::Steps(&mut **each),
        Show::Stat(show) => Show::Stat(&mut **show),
        Show::Entries(each) => Show::Entries(&mut **each),
        Show::Bytes(show) => Show::Bytes(&mut **show),
        Show::Lock(show) => Show::Lock(&mut **show),
        Show::StatFs(of) => Show::StatFs(of),
    }
}

impl<S: Service> Through<S> {
    fn call(&self, call: Call<'_>, mut show: Show<'_>, at: At) -> Result<Done> {
        let op = self.op();
        let outcome = self.service.borrow_mut().call(op, call, again(&mut show), at);
        self.ends(op, outcome, |service| service.finish(op, again(&mut show), at))
    }

    fn op(&self) -> OpId {
        self.serial.set(self.serial.get() + 1);
        OpId { peer: 1, serial: self.serial.get() }
    }

    /// Turns until the operation has ended and its gate is open.
    fn ends(&self, op: OpId, mut outcome: Outcome, mut finish: impl FnMut(&mut S) -> Outcome) -> Result<Done> {
        let mut service = self.service.borrow_mut();
        for _ in 0..TURNS {
            match outcome {
                Outcome::Done(Answer { result, gate }) if service.is_open(gate) => return result,
                _ => assert!(self.may_wait, "nothing of this suite waits: {outcome:?}"),
            }
            if let Some(ready) = service.ready() {
                assert_eq!(ready, op, "nothing else waits");
                outcome = finish(&mut service);
            }
        }
        panic!("no end of {op:?}: {outcome:?}");
    }

    /// A call that answers nothing.
    fn does(&self, call: Call<'_>, show: Show<'_>, at: At) -> Result<()> {
        self.call(call, show, at).map(|done| assert_eq!(done, Done::Nothing))
    }

    fn counts(&self, call: Call<'_>, at: At) -> Result<u32> {
        match self.call(call, Show::Nothing, at)? {
            Done::Count(count) => Ok(count),
            other => panic!("{other:?}"),
        }
    }

    fn opens(&self, call: Call<'_>, at: At) -> Result<()> {
        match self.call(call, Show::Nothing, at)? {
            Done::Opened { .. } => Ok(()),
            other => panic!("{other:?}"),
        }
    }

    fn walk(&self, from: FileId, names: &[&[u8]]) -> Result<FileId> {
        let mut steps = Vec::new();
        let walk = Call::Walk { from, names: Names::list(names), dots: true };
        match self.call(walk, Show::Steps(&mut |qid| steps.push(qid)), At::default())? {
            Done::Walked(Some(file)) => {
                assert!(steps.len() == names.len() && steps.last().is_none_or(|&qid| qid == self.attr(&file)));
                Ok(file)
            }
            other => panic!("{other:?}"),
        }
    }
}

impl<S: Service> Filesystem for Through<S> {
    type File = FileId;

    fn init(&mut self, at: At) -> Result<()> {
        self.service.get_mut().init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        self.service.get_mut().cleanup()
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<FileId> {
        match self.call(Call::Attach { user, aname }, Show::Nothing, At::default())? {
            Done::File { file, qid } => {
                assert_eq!(qid, self.attr(&file));
                Ok(file)
            }
            other => panic!("{other:?}"),
        }
    }

    fn lookup(&mut self, dir: &FileId, name: &[u8]) -> Result<FileId> {
        self.walk(*dir, &[name])
    }

    fn duplicate(&mut self, file: &FileId) -> FileId {
        self.walk(*file, &[]).expect("cannot fail")
    }

    fn attr(&self, file: &FileId) -> Qid {
        self.stat(file).expect("a file shows itself").qid
    }

    fn open(&mut self, file: &mut FileId, flags: Open, at: At) -> Result<()> {
        self.opens(Call::Open { file: *file, flags }, at)
    }

    fn create(
        &mut self,
        dir: &mut FileId,
        name: &[u8],
        flags: Open,
        mode: u32,
        bits: u8,
        gid: Option<u32>,
        at: At,
    ) -> Result<()> {
        let new = New { flags, mode, bits, gid, or_open: false, inherits: false };
        self.opens(Call::Create { dir: *dir, name, new }, at)
    }

    fn read(&mut self, file: &mut FileId, offset: u64, mut out: Out<'_>, at: At) -> Result<()> {
        let (op, room, mut found) = (self.op(), out.room(), Iovec::default());
        let call = Call::Read { file: *file, offset };
        let outcome = self.service.get_mut().call(op, call, Show::Data(found.out(room)), at);
        let done = self.ends(op, outcome, |service| service.finish(op, Show::Data(found.out(room)), at))?;
        assert_eq!(done, Done::Nothing);
        for part in std::mem::take(found.parts_mut()) {
            match part {
                Part::Slice(slice) => out.slice(slice),
                Part::Small(range) => out.bytes(&found.small()[range]),
            }
        }
        Ok(())
    }

    fn write(&mut self, file: &mut FileId, offset: u64, data: &[u8], at: At) -> Result<u32> {
        self.counts(Call::Write { file: *file, offset, data }, at)
    }

    fn grant(&mut self, file: &mut FileId, offset: u64, count: u32, at: At) -> Result<Option<Grant>> {
        match self.service.get_mut().grant(*file, offset, count, at)? {
            Payload::Memory(grant) => Ok(Some(grant)),
            Payload::Discarded | Payload::Parts => Ok(None),
        }
    }

    fn extend(&mut self, file: &mut FileId, grant: &mut Grant) -> Result<()> {
        self.service.get_mut().extend(*file, grant)
    }

    fn commit(&mut self, file: &mut FileId, grant: Grant, at: At) -> Result<u32> {
        self.counts(Call::Commit { file: *file, grant }, at)
    }

    fn close(&mut self, file: FileId, at: At) -> Result<()> {
        self.does(Call::Close { file }, Show::Nothing, at)
    }

    fn remove(&mut self, file: &mut FileId, at: At) -> Result<()> {
        self.does(Call::Remove { file: *file }, Show::Nothing, at)
    }

    fn stat(&self, file: &FileId) -> Result<Stat<'_>> {
        let mut shown = None;
        let show = &mut |stat: &Stat<'_>| {
            let stat = Stat { name: kept(stat.name), target: kept(stat.target), ..*stat };
            assert!(shown.replace(stat).is_none(), "it is shown once");
        };
        self.does(Call::Stat { file: *file, target: true }, Show::Stat(show), At::default())?;
        Ok(shown.expect("it was shown"))
    }

    fn wstat(&mut self, file: &mut FileId, change: &Change<'_>, at: At) -> Result<()> {
        self.does(Call::Wstat { file: *file, change: *change }, Show::Nothing, at)
    }

    fn list(&mut self, dir: &mut FileId, cookie: u64, at: At, each: &mut dyn FnMut(&Entry<'_>) -> bool) -> Result<()> {
        self.does(Call::List { dir: *dir, cookie, stats: true }, Show::Entries(each), at)
    }

    fn make(&mut self, dir: &FileId, name: &[u8], what: Make<'_>, mode: u32, gid: Option<u32>, at: At) -> Result<Qid> {
        match self.call(Call::Make { dir: *dir, name, what, mode, gid, enter: false }, Show::Nothing, at)? {
            Done::Made(qid) => Ok(qid),
            other => panic!("{other:?}"),
        }
    }

    fn link(&mut self, dir: &FileId, name: &[u8], file: &FileId, at: At) -> Result<()> {
        self.does(Call::Link { dir: *dir, name, file: *file, enter: false }, Show::Nothing, at)
    }

    fn unlink(&mut self, dir: &FileId, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        self.does(Call::Unlink { dir: *dir, name, want_dir }, Show::Nothing, at)
    }

    fn rename(&mut self, from: &FileId, name: &[u8], to: &FileId, new_name: &[u8], at: At) -> Result<()> {
        self.does(Call::Rename { from: *from, name, to: *to, new_name }, Show::Nothing, at)
    }

    fn rename_file(&mut self, file: &mut FileId, to: &FileId, new_name: &[u8], at: At) -> Result<()> {
        self.does(Call::RenameFile { file: *file, to: *to, new_name }, Show::Nothing, at)
    }

    fn fsync(&mut self, file: &FileId, data_only: bool) -> Result<()> {
        self.does(Call::Fsync { file: *file, data_only }, Show::Nothing, At::default())
    }

    fn xattr(&self, file: &FileId, name: &[u8]) -> Result<&[u8]> {
        let mut value = None;
        let show = &mut |bytes: &[u8]| {
            value = Some(kept(bytes));
            Ok(())
        };
        match self.call(Call::Xattr { file: *file, name }, Show::Bytes(show), At::default())? {
            Done::File { file, .. } => self.does(Call::Close { file }, Show::Nothing, At::default())?,
            other => panic!("{other:?}"),
        }
        Ok(value.expect("it was shown"))
    }

    fn xattrs(&self, file: &FileId, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let list = self.xattr(file, b"")?;
        list.split_inclusive(|&byte| byte == 0).for_each(|name| each(&name[..name.len() - 1]));
        Ok(())
    }

    fn set_xattr(&mut self, file: &FileId, name: &[u8], value: Option<&[u8]>, how: SetXattr, at: At) -> Result<()> {
        self.does(Call::SetXattr { file: *file, name, value, how }, Show::Nothing, at)
    }

    fn lock(&mut self, file: &mut FileId, lock: &Lock<'_>) -> Result<bool> {
        match self.call(Call::Lock { file: *file, lock: lock.clone() }, Show::Nothing, At::default())? {
            Done::Locked(granted) => Ok(granted),
            other => panic!("{other:?}"),
        }
    }

    fn conflict(&self, file: &FileId, lock: &Lock<'_>) -> Result<Option<Lock<'_>>> {
        let mut found = None;
        let show = &mut |lock: &Lock<'_>| {
            let Range { start, end } = lock.range;
            found = Some(Lock { kind: lock.kind, range: start..end, process: lock.process, client: kept(lock.client) });
        };
        self.does(Call::Conflict { file: *file, lock: lock.clone() }, Show::Lock(show), At::default())?;
        Ok(found)
    }

    /// A service counts the read of a target as it shows it.
    fn target_read(&mut self, file: &FileId, at: At) {
        let mut target = None;
        let show = &mut |bytes: &[u8]| {
            target = Some(bytes.to_vec());
            Ok(())
        };
        let shown = self.does(Call::ReadLink { file: *file }, Show::Bytes(show), at);
        assert_eq!((shown, target.as_deref()), (Ok(()), self.stat(file).ok().map(|stat| stat.target)));
    }

    fn statfs(&self, file: &FileId) -> Result<StatFs> {
        let mut shown = StatFs::default();
        self.does(Call::StatFs { file: *file }, Show::StatFs(&mut shown), At::default())?;
        Ok(shown)
    }

    fn tick(&mut self, at: At) {
        self.service.get_mut().tick(at);
    }

    fn spent(&mut self) -> u32 {
        self.service.get_mut().spent()
    }

    fn work(&mut self) {
        assert_eq!(self.service.get_mut().ready(), None, "nothing of this suite waits");
    }

    fn has_work(&self) -> bool {
        self.service.borrow().has_work()
    }
}
