//! The files that a simple tree holds, and its reads that wait.

use super::*;
use crate::fs::{Answer, Iovec};
use crate::fs::{Out, Stat};

/// Files that all say how much news there is; a read behind that waits.
#[derive(Default)]
struct Tail {
    news: u64,
    closed: usize,
}

impl Filesystem for Tail {
    type File = ();

    fn attach(&mut self, _: User, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn lookup(&mut self, (): &(), _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn attr(&self, (): &()) -> Qid {
        Qid { kind: 0, version: 0, path: 1 }
    }

    fn open(&mut self, (): &mut (), _: Open, _: At) -> Result<()> {
        Ok(())
    }

    fn read(&mut self, (): &mut (), _: u64, mut out: Out<'_>, _: At) -> Result<()> {
        out.bytes(&[self.news as u8]);
        Ok(())
    }

    fn waits(&self, (): &(), offset: u64) -> bool {
        offset >= self.news
    }

    fn news(&self) -> u64 {
        self.news
    }

    fn close(&mut self, (): (), _: At) -> Result<()> {
        self.closed += 1;
        Ok(())
    }

    fn stat(&self, (): &()) -> Result<Stat<'_>> {
        Err(Error::ENODATA)
    }
}

const AT: At = At { wall: crate::fs::Time { sec: 0, nsec: 0 }, mono_ns: 0 };

fn op(serial: u64) -> OpId {
    OpId { peer: 1, serial }
}

fn ask(tree: &mut Simple<Tail>, call: Call<'_>) -> Result<Done> {
    match tree.call(op(1_000_000), call, Show::Nothing, AT) {
        Outcome::Done(Answer { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

fn attach(tree: &mut Simple<Tail>) -> FileId {
    let user = User { uid: 0, gid: None, vouched: false, peer: 1 };
    match ask(tree, Call::Attach { user, aname: b"" }) {
        Ok(Done::File { file, .. }) => file,
        other => panic!("{other:?}"),
    }
}

fn read(tree: &mut Simple<Tail>, serial: u64, file: FileId, offset: u64) -> Outcome {
    tree.call(op(serial), Call::Read { file, offset }, Show::Data(Iovec::default().out(9)), AT)
}

/// A place is used again, and the name of the file that was there leads nowhere.
#[test]
fn a_file_that_was_closed_is_not_found_in_its_place() {
    let mut tree = Simple::from(Tail::default());
    let (first, other) = (attach(&mut tree), attach(&mut tree));
    assert_eq!(ask(&mut tree, Call::Close { file: first }), Ok(Done::Nothing));
    let second = attach(&mut tree);
    assert_eq!((second.place(), tree.held()), (first.place(), 2));
    for file in [first, FileId::NONE] {
        for call in
            [Call::Fsync { file, data_only: false }, Call::Open { file, flags: Open::NONE }, Call::Close { file }]
        {
            assert_eq!(ask(&mut tree, call), Err(Error::EBADF));
        }
        for (from, to) in [(file, other), (other, file)] {
            assert_eq!(ask(&mut tree, Call::Rename { from, name: b"a", to, new_name: b"b" }), Err(Error::EBADF));
            assert_eq!(ask(&mut tree, Call::RenameFile { file: from, to, new_name: b"b" }), Err(Error::EBADF));
        }
    }
    assert_eq!((tree.closed, tree.held()), (1, 2), "the files of today are as they were");
    assert_eq!(ask(&mut tree, Call::Fsync { file: second, data_only: false }), Ok(Done::Nothing));
}

#[test]
fn reads_that_wait_are_bounded_and_end_with_the_news() {
    let mut tree = Simple::from(Tail::default());
    let file = attach(&mut tree);
    let most = WAITING_MAX as u64;
    for serial in 0..most {
        assert_eq!(read(&mut tree, serial, file, serial % 2), Outcome::Waiting);
    }
    assert_eq!(read(&mut tree, most, file, 0), Outcome::now(Err(Error::EAGAIN)));
    assert_eq!(tree.ready(), None);
    assert_eq!((tree.cancel(op(0)), tree.cancel(op(0))), (Cancel::Cancelled, Cancel::TooLate));
    assert_eq!(read(&mut tree, most, file, 0), Outcome::Waiting);
    // News for every other one.
    tree.news = 1;
    for serial in (2..=most).step_by(2) {
        assert_eq!((tree.ready(), tree.ready()), (Some(op(serial)), Some(op(serial))), "named until it is finished");
        let mut out = Iovec::default();
        assert_eq!(tree.finish(op(serial), Show::Data(out.out(9)), AT), Outcome::now(Ok(Done::Nothing)));
        assert_eq!(out.len(), 1);
    }
    assert_eq!(tree.ready(), None);
    // One that comes now has its answer at once.
    assert_eq!(read(&mut tree, most + 1, file, 0), Outcome::now(Ok(Done::Nothing)));
    for serial in (1..most).step_by(2) {
        assert_eq!(tree.cancel(op(serial)), Cancel::Cancelled);
    }
    tree.news = 2;
    assert_eq!(tree.ready(), None, "what was taken back is named no more");
}
