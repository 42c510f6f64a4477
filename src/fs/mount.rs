//! Two trees as one: an attach goes to one or the other, and everything below stays there.
//!
//! Joins nest, so any number of trees can be served. Must not know: what the trees are.

use super::{
    At, Cancel, Change, Entry, Error, Filesystem, Gate, Grant, Lock, Make, Open, Out, Outcome, Result, SetXattr, Stat,
    StatFs, Token, User,
};
use crate::wire::Qid;

/// Attach names of a tree.
pub type Names = &'static [&'static [u8]];

/// The names of two trees together: those of their join, for a join around it. `N` is how many they are.
pub const fn both<const N: usize>(a: Names, b: Names) -> [&'static [u8]; N] {
    assert!(a.len() + b.len() == N, "N is the number of names");
    let mut names: [&'static [u8]; N] = [b""; N];
    let mut at = 0;
    while at < N {
        names[at] = if at < a.len() { a[at] } else { b[at - a.len()] };
        at += 1;
    }
    names
}

/// The trees `a` and `b`.
pub struct Join<A, B> {
    /// Attach names that lead to each; others lead nowhere.
    a_names: Names,
    b_names: Names,
    a: A,
    b: B,
}

/// A file of one or the other.
#[derive(Debug)]
pub enum Either<A, B> {
    /// Of the first.
    A(A),
    /// Of the second.
    B(B),
}

impl<A, B> Join<A, B> {
    /// Two trees, each with the names that lead to it, exactly as they stand. A join of joins names what is in them.
    pub fn new((a_names, a): (Names, A), (b_names, b): (Names, B)) -> Join<A, B> {
        Join { a_names, b_names, a, b }
    }

    /// The first tree.
    pub fn a(&mut self) -> &mut A {
        &mut self.a
    }

    /// The second tree.
    pub fn b(&mut self) -> &mut B {
        &mut self.b
    }

    /// Takes them apart again.
    pub fn into_parts(self) -> (A, B) {
        (self.a, self.b)
    }
}

/// Does the same with either tree and its file.
macro_rules! either {
    ($self:ident, $file:expr, $tree:ident, $inner:ident => $does:expr) => {
        match $file {
            Either::A($inner) => {
                let $tree = &$self.a;
                $does
            }
            Either::B($inner) => {
                let $tree = &$self.b;
                $does
            }
        }
    };
    (mut $self:ident, $file:expr, $tree:ident, $inner:ident => $does:expr) => {
        match $file {
            Either::A($inner) => {
                let $tree = &mut $self.a;
                $does
            }
            Either::B($inner) => {
                let $tree = &mut $self.b;
                $does
            }
        }
    };
}

/// Serials of the first tree are even here, those of the second odd.
fn first(token: Token) -> Token {
    Token { serial: token.serial * 2, ..token }
}

fn second(token: Token) -> Token {
    Token { serial: token.serial * 2 + 1, ..token }
}

/// The token as its own tree knows it, and whether that is the second.
fn own(token: Token) -> (Token, bool) {
    (Token { serial: token.serial / 2, ..token }, token.serial % 2 == 1)
}

fn waits<T>(outcome: Outcome<T>, token_of: impl FnOnce(Token) -> Token) -> Outcome<T> {
    match outcome {
        Outcome::Done(done) => Outcome::Done(done),
        Outcome::Pending(token) => Outcome::Pending(token_of(token)),
    }
}

/// The same with an outcome, whose token says whose it is.
macro_rules! outcome {
    ($self:ident, $file:expr, $tree:ident, $inner:ident => $does:expr) => {
        match $file {
            Either::A($inner) => {
                let $tree = &mut $self.a;
                $does.map(|outcome| waits(outcome, first))
            }
            Either::B($inner) => {
                let $tree = &mut $self.b;
                $does.map(|outcome| waits(outcome, second))
            }
        }
    };
}

impl<A: Filesystem, B: Filesystem> Filesystem for Join<A, B> {
    type File = Either<A::File, B::File>;

    fn init(&mut self, at: At) -> Result<()> {
        self.a.init(at)?;
        self.b.init(at)
    }

    fn cleanup(&mut self) -> Result<()> {
        let first = self.a.cleanup();
        self.b.cleanup()?;
        first
    }

    fn is_private(&self, aname: &[u8]) -> bool {
        if self.a_names.contains(&aname) {
            self.a.is_private(aname)
        } else {
            self.b_names.contains(&aname) && self.b.is_private(aname)
        }
    }

    fn attach(&mut self, user: User, aname: &[u8]) -> Result<Self::File> {
        if self.a_names.contains(&aname) {
            self.a.attach(user, aname).map(Either::A)
        } else if self.b_names.contains(&aname) {
            self.b.attach(user, aname).map(Either::B)
        } else {
            Err(Error::ENOENT)
        }
    }

    fn lookup(&mut self, dir: &Self::File, name: &[u8]) -> Result<Self::File> {
        match dir {
            Either::A(dir) => self.a.lookup(dir, name).map(Either::A),
            Either::B(dir) => self.b.lookup(dir, name).map(Either::B),
        }
    }

    fn duplicate(&mut self, file: &Self::File) -> Self::File {
        match file {
            Either::A(file) => Either::A(self.a.duplicate(file)),
            Either::B(file) => Either::B(self.b.duplicate(file)),
        }
    }

    fn attr(&self, file: &Self::File) -> Qid {
        either!(self, file, tree, file => tree.attr(file))
    }

    fn iounit(&self, file: &Self::File) -> u32 {
        either!(self, file, tree, file => tree.iounit(file))
    }

    fn open(&mut self, file: &mut Self::File, flags: Open, at: At) -> Result<()> {
        either!(mut self, file, tree, file => tree.open(file, flags, at))
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
        either!(mut self, dir, tree, dir => tree.create(dir, name, flags, mode, bits, gid, at))
    }

    fn read(&mut self, file: &mut Self::File, offset: u64, out: Out<'_>, at: At) -> Result<Outcome<()>> {
        outcome!(self, file, tree, file => tree.read(file, offset, out, at))
    }

    fn write(&mut self, file: &mut Self::File, offset: u64, data: &[u8], at: At) -> Result<Outcome<u32>> {
        outcome!(self, file, tree, file => tree.write(file, offset, data, at))
    }

    fn grant(&mut self, file: &mut Self::File, offset: u64, count: u32, at: At) -> Result<Option<Grant>> {
        either!(mut self, file, tree, file => tree.grant(file, offset, count, at))
    }

    fn extend(&mut self, file: &mut Self::File, grant: &mut Grant) -> Result<()> {
        either!(mut self, file, tree, file => tree.extend(file, grant))
    }

    fn discards(&self, file: &Self::File) -> bool {
        either!(self, file, tree, file => tree.discards(file))
    }

    fn commit(&mut self, file: &mut Self::File, grant: Grant, at: At) -> Result<Outcome<u32>> {
        outcome!(self, file, tree, file => tree.commit(file, grant, at))
    }

    fn close(&mut self, file: Self::File, at: At) -> Result<()> {
        either!(mut self, file, tree, file => tree.close(file, at))
    }

    fn remove(&mut self, file: &mut Self::File, at: At) -> Result<()> {
        either!(mut self, file, tree, file => tree.remove(file, at))
    }

    fn stat(&self, file: &Self::File) -> Result<Stat<'_>> {
        either!(self, file, tree, file => tree.stat(file))
    }

    fn wstat(&mut self, file: &mut Self::File, change: &Change<'_>, at: At) -> Result<()> {
        either!(mut self, file, tree, file => tree.wstat(file, change, at))
    }

    fn list(
        &mut self,
        dir: &mut Self::File,
        cookie: u64,
        at: At,
        each: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<()> {
        either!(mut self, dir, tree, dir => tree.list(dir, cookie, at, each))
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
        either!(mut self, dir, tree, dir => tree.make(dir, name, what, mode, gid, at))
    }

    fn link(&mut self, dir: &Self::File, name: &[u8], file: &Self::File, at: At) -> Result<()> {
        match (dir, file) {
            (Either::A(dir), Either::A(file)) => self.a.link(dir, name, file, at),
            (Either::B(dir), Either::B(file)) => self.b.link(dir, name, file, at),
            _ => Err(Error::EXDEV),
        }
    }

    fn unlink(&mut self, dir: &Self::File, name: &[u8], want_dir: bool, at: At) -> Result<()> {
        either!(mut self, dir, tree, dir => tree.unlink(dir, name, want_dir, at))
    }

    fn rename(&mut self, from: &Self::File, name: &[u8], to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        match (from, to) {
            (Either::A(from), Either::A(to)) => self.a.rename(from, name, to, new_name, at),
            (Either::B(from), Either::B(to)) => self.b.rename(from, name, to, new_name, at),
            _ => Err(Error::EXDEV),
        }
    }

    fn rename_file(&mut self, file: &mut Self::File, to: &Self::File, new_name: &[u8], at: At) -> Result<()> {
        match (file, to) {
            (Either::A(file), Either::A(to)) => self.a.rename_file(file, to, new_name, at),
            (Either::B(file), Either::B(to)) => self.b.rename_file(file, to, new_name, at),
            _ => Err(Error::EXDEV),
        }
    }

    fn fsync(&mut self, file: &Self::File, data_only: bool) -> Result<Outcome<()>> {
        outcome!(self, file, tree, file => tree.fsync(file, data_only))
    }

    fn xattr(&self, file: &Self::File, name: &[u8]) -> Result<&[u8]> {
        either!(self, file, tree, file => tree.xattr(file, name))
    }

    fn xattrs(&self, file: &Self::File, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        either!(self, file, tree, file => tree.xattrs(file, each))
    }

    fn set_xattr(&mut self, file: &Self::File, name: &[u8], value: Option<&[u8]>, how: SetXattr, at: At) -> Result<()> {
        either!(mut self, file, tree, file => tree.set_xattr(file, name, value, how, at))
    }

    fn lock(&mut self, file: &mut Self::File, lock: &Lock<'_>) -> Result<bool> {
        either!(mut self, file, tree, file => tree.lock(file, lock))
    }

    fn conflict(&self, file: &Self::File, lock: &Lock<'_>) -> Result<Option<Lock<'_>>> {
        either!(self, file, tree, file => tree.conflict(file, lock))
    }

    fn target_read(&mut self, file: &Self::File, at: At) {
        either!(mut self, file, tree, file => tree.target_read(file, at));
    }

    fn statfs(&self, file: &Self::File) -> Result<StatFs> {
        either!(self, file, tree, file => tree.statfs(file))
    }

    fn tick(&mut self, at: At) {
        self.a.tick(at);
        self.b.tick(at);
    }

    fn spent(&mut self) -> u32 {
        self.a.spent().saturating_add(self.b.spent())
    }

    fn ready(&mut self) -> Option<Token> {
        self.a.ready().map(first).or_else(|| self.b.ready().map(second))
    }

    fn has_work(&self) -> bool {
        self.a.has_work() || self.b.has_work()
    }

    fn finish(&mut self, token: Token, out: Out<'_>, at: At) -> Result<u32> {
        match own(token) {
            (token, false) => self.a.finish(token, out, at),
            (token, true) => self.b.finish(token, out, at),
        }
    }

    fn cancel(&mut self, token: Token) -> Cancel {
        match own(token) {
            (token, false) => self.a.cancel(token),
            (token, true) => self.b.cancel(token),
        }
    }

    /// At most one of the trees may have a log, so its positions stand for both.
    fn gate(&self) -> Gate {
        self.a.gate().max(self.b.gate())
    }

    fn opened(&self) -> Gate {
        self.a.opened().min(self.b.opened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Iovec;

    /// A tree that shows its own number and whose reads all wait.
    struct Slow {
        number: u64,
        reads: u64,
        finished: u64,
    }

    impl Slow {
        fn new(number: u64) -> Slow {
            Slow { number, reads: 0, finished: 0 }
        }
    }

    impl Filesystem for Slow {
        type File = User;

        fn is_private(&self, _: &[u8]) -> bool {
            self.number == 2
        }
        fn attach(&mut self, user: User, _: &[u8]) -> Result<User> {
            Ok(user)
        }
        fn lookup(&mut self, dir: &User, _: &[u8]) -> Result<User> {
            Ok(*dir)
        }
        fn duplicate(&mut self, file: &User) -> User {
            *file
        }
        fn attr(&self, _: &User) -> Qid {
            Qid { kind: 0, version: 1, path: self.number }
        }
        fn open(&mut self, _: &mut User, _: Open, _: At) -> Result<()> {
            Ok(())
        }
        fn create(&mut self, _: &mut User, _: &[u8], _: Open, _: u32, _: u8, _: Option<u32>, _: At) -> Result<()> {
            Err(Error::EROFS)
        }
        fn read(&mut self, file: &mut User, _: u64, _: Out<'_>, _: At) -> Result<Outcome<()>> {
            self.reads += 1;
            Ok(Outcome::Pending(Token { peer: file.peer, serial: self.reads }))
        }
        fn write(&mut self, _: &mut User, _: u64, _: &[u8], _: At) -> Result<Outcome<u32>> {
            Err(Error::EROFS)
        }
        fn close(&mut self, _: User, _: At) -> Result<()> {
            Ok(())
        }
        fn remove(&mut self, _: &mut User, _: At) -> Result<()> {
            Err(Error::EROFS)
        }
        fn stat(&self, _: &User) -> Result<Stat<'_>> {
            Err(Error::EIO)
        }
        fn wstat(&mut self, _: &mut User, _: &Change<'_>, _: At) -> Result<()> {
            Err(Error::EROFS)
        }
        fn link(&mut self, _: &User, _: &[u8], _: &User, _: At) -> Result<()> {
            Ok(())
        }
        fn rename(&mut self, _: &User, _: &[u8], _: &User, _: &[u8], _: At) -> Result<()> {
            Ok(())
        }
        fn rename_file(&mut self, _: &mut User, _: &User, _: &[u8], _: At) -> Result<()> {
            Ok(())
        }
        fn ready(&mut self) -> Option<Token> {
            (self.finished < self.reads).then(|| {
                self.finished += 1;
                Token { peer: 1, serial: self.finished }
            })
        }
        fn finish(&mut self, token: Token, _: Out<'_>, _: At) -> Result<u32> {
            Ok((self.number * 100 + token.serial) as u32)
        }
        fn cancel(&mut self, token: Token) -> Cancel {
            if self.number == 1 && token.serial == 1 { Cancel::Cancelled } else { Cancel::TooLate }
        }
    }

    type Trees = Join<Slow, Join<Slow, Slow>>;

    fn three_trees() -> Trees {
        let inner = Join::new((&[b"two", b"zwei"], Slow::new(2)), (&[b"", b"three"], Slow::new(3)));
        Join::new((&[b"one"], Slow::new(1)), (&[b"two", b"zwei", b"three", b""], inner))
    }

    fn attach(trees: &mut Trees, name: &[u8]) -> <Trees as Filesystem>::File {
        trees.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 1 }, name).expect("every name leads somewhere")
    }

    #[test]
    fn attach_names_lead_to_their_tree_and_all_others_nowhere() {
        let mut trees = three_trees();
        for (name, number) in [(&b"one"[..], 1), (b"two", 2), (b"zwei", 2), (b"", 3), (b"three", 3)] {
            let file = attach(&mut trees, name);
            let below = trees.lookup(&file, b"x").expect("there");
            assert_eq!((trees.attr(&file).path, trees.attr(&below).path), (number, number));
        }
        for name in [&b"One"[..], b"on", b"one/", b"/", b".."] {
            let nobody = trees.attach(User { uid: 0, gid: Some(0), vouched: true, peer: 1 }, name);
            assert!(matches!(nobody, Err(Error::ENOENT)));
        }
    }

    #[test]
    fn a_private_tree_is_private_in_every_join_under_each_of_its_names() {
        let trees = three_trees();
        let private = |name: &[u8]| trees.is_private(name);
        assert_eq!([private(b"one"), private(b"three"), private(b""), private(b"nowhere")], [false; 4]);
        assert_eq!([private(b"two"), private(b"zwei")], [true; 2]);
        let as_first = Join::new((&[b"two"], Slow::new(2)), (&[b"one"], Slow::new(1)));
        assert_eq!([as_first.is_private(b"two"), as_first.is_private(b"one")], [true, false]);
    }

    #[test]
    fn nothing_moves_from_one_tree_to_another() {
        let mut trees = three_trees();
        let mut files = [&b"one"[..], b"two", b""].map(|name| attach(&mut trees, name));
        for (from, to) in (0..9).map(|pair| (pair / 3, pair % 3)) {
            let answer = if from == to { Ok(()) } else { Err(Error::EXDEV) };
            let to = trees.duplicate(&files[to]);
            assert_eq!(trees.rename(&files[from], b"a", &to, b"b", At::default()), answer);
            assert_eq!(trees.link(&files[from], b"a", &to, At::default()), answer);
            assert_eq!(trees.rename_file(&mut files[from], &to, b"b", At::default()), answer);
        }
    }

    #[test]
    fn tokens_find_their_way_back() {
        let mut trees = three_trees();
        let mut iovec = Iovec::default();
        let mut tokens = Vec::new();
        for name in [&b"one"[..], b"two", b"", b"two"] {
            let mut file = attach(&mut trees, name);
            match trees.read(&mut file, 0, iovec.out(1), At::default()) {
                Ok(Outcome::Pending(token)) => tokens.push(token),
                other => panic!("{other:?}"),
            }
        }
        for (&token, answer) in tokens.iter().zip([101, 201, 301, 202]) {
            assert_eq!(trees.finish(token, iovec.out(1), At::default()), Ok(answer));
        }
        assert_eq!(trees.cancel(tokens[0]), Cancel::Cancelled);
        assert_eq!(trees.cancel(tokens[1]), Cancel::TooLate);
        let mut ready: Vec<_> = std::iter::from_fn(|| trees.ready()).collect();
        ready.sort();
        tokens.sort();
        assert_eq!(ready, tokens);
    }
}
