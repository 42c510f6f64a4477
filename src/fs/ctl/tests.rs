//! Tests of every file of `ctl`, as a session would use it. With sessions and rings: `tests/ctl.rs`.

mod intervals;
mod store;

use super::tail::READERS_MAX;
use super::*;
use crate::arena::Arena;
use crate::fs::{
    Answer, Call, Cancel, Done, Entry, FileId, Filesystem, Iovec, OpId, Open, Outcome, Service, Show, Simple, Time,
    User, mode,
};
use crate::stats::Connection;
use crate::wire::Names;

const READ: Open = Open { read: true, ..Open::NONE };
/// Reads of one tree that wait at a time.
const WAITING_MAX: usize = 4096;
const USER: User = User { uid: 5, gid: Some(5), vouched: true, peer: 3 };

/// `seconds` after a certain one.
fn at(seconds: u64) -> At {
    let wall = Time { sec: 1_700_000_000 + seconds as i64, nsec: 250_000_000 };
    At { wall, mono_ns: (50 + seconds) * 1_000_000_000 }
}

struct Fixture {
    stats: Rc<Stats>,
    log: Arc<Mutex<Lines>>,
    ctl: Simple<Ctl>,
    /// Opens so far: each is in a turn of its own.
    turns: u64,
    /// Calls so far.
    serial: u64,
}

/// How far a read has come.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Text(String),
    Waits(OpId),
}

impl Fixture {
    /// Keeps this many bytes of the log.
    fn new(log_bytes_max: usize) -> Fixture {
        let (stats, log) = (Rc::<Stats>::default(), Arc::new(Mutex::new(Lines::new(log_bytes_max))));
        let gauge = Arena::new(1 << 20).expect("a small mapping").gauge();
        let ctl = Ctl::new(Rc::clone(&stats), gauge, Arc::clone(&log)).into();
        Fixture { stats, log, ctl, turns: 0, serial: 0 }
    }

    /// A call that does not wait.
    fn call(&mut self, call: Call<'_>, show: Show<'_>, at: At) -> Result<Done> {
        self.serial += 1;
        match self.ctl.call(OpId { peer: 3, serial: self.serial }, call, show, at) {
            Outcome::Done(Answer { result, gate }) => {
                assert!(self.ctl.is_open(gate));
                result
            }
            waits => panic!("{waits:?}"),
        }
    }

    fn walk(&mut self, path: &str) -> FileId {
        let root = match self.call(Call::Attach { user: USER, aname: b"ctl" }, Show::Nothing, at(0)) {
            Ok(Done::File { file, .. }) => file,
            other => panic!("{other:?}"),
        };
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let walk = Call::Walk { from: root, names: Names::list(&names), dots: false };
        match self.call(walk, Show::Steps(&mut |_| ()), at(0)) {
            Ok(Done::Walked(Some(file))) => file,
            other => panic!("{path}: {other:?}"),
        }
    }

    /// The same beside the calls.
    fn look(&mut self, path: &str) -> CtlFile {
        let root = self.ctl.attach(USER, b"ctl").expect("there");
        path.split('/').fold(root, |dir, name| self.ctl.lookup(&dir, name.as_bytes()).expect(path))
    }

    fn opens(&mut self, file: FileId, flags: Open, at: At) -> Result<()> {
        self.call(Call::Open { file, flags }, Show::Nothing, at)
            .map(|done| assert!(matches!(done, Done::Opened { .. })))
    }

    fn open(&mut self, path: &str) -> FileId {
        let file = self.walk(path);
        self.turns += 1;
        let at = At { mono_ns: at(0).mono_ns + self.turns, ..at(0) };
        self.opens(file, READ, at).expect("anyone may");
        file
    }

    /// The length that is shown.
    fn size(&mut self, file: FileId) -> u64 {
        let mut size = None;
        let shown =
            self.call(Call::Stat { file, target: false }, Show::Stat(&mut |stat| size = Some(stat.size)), at(0));
        assert_eq!(shown, Ok(Done::Nothing));
        size.expect("shown")
    }

    fn read(&mut self, file: FileId, offset: u64, room: u32) -> Result<Got> {
        self.serial += 1;
        let op = OpId { peer: 3, serial: self.serial };
        let mut iovec = Iovec::default();
        let outcome = self.ctl.call(op, Call::Read { file, offset }, Show::Data(iovec.out(room)), at(0));
        match outcome {
            Outcome::Done(Answer { result, .. }) => {
                assert_eq!(result?, Done::Nothing);
                Ok(Got::Text(String::from_utf8(iovec.to_vec()).expect("texts")))
            }
            Outcome::Waiting => {
                assert!(iovec.is_empty(), "who waits has nothing yet");
                Ok(Got::Waits(op))
            }
            Outcome::Pending => panic!("nothing is certain to end it"),
        }
    }

    fn text(&mut self, path: &str) -> String {
        let file = self.open(path);
        let text = self.whole(file);
        self.close(file);
        text
    }

    /// An open file to its end, as a client reads it.
    fn whole(&mut self, file: FileId) -> String {
        let mut text = String::new();
        loop {
            match done(self.read(file, text.len() as u64, 1 << 20)) {
                part if part.is_empty() => return text,
                part => text.push_str(&part),
            }
        }
    }

    fn waits(&mut self, file: FileId, offset: u64) -> OpId {
        match self.read(file, offset, 1000) {
            Ok(Got::Waits(op)) => op,
            other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, op: OpId, room: u32) -> Result<String> {
        let mut iovec = Iovec::default();
        match self.ctl.finish(op, Show::Data(iovec.out(room)), at(0)) {
            Outcome::Done(Answer { result, .. }) => assert_eq!(result?, Done::Nothing),
            waits => panic!("{waits:?}"),
        }
        Ok(String::from_utf8(iovec.to_vec()).expect("texts"))
    }

    fn close(&mut self, file: FileId) {
        assert_eq!(self.call(Call::Close { file }, Show::Nothing, at(0)), Ok(Done::Nothing), "cannot fail");
    }

    /// The end of an interval, and the turns in which its lines are written.
    fn tick(&mut self, at: At) {
        self.ctl.tick(at);
        while self.ctl.has_work() {
            self.ctl.ready();
        }
    }

    fn logs(&mut self, line: &str) {
        self.log.lock().expect("nobody panics").push(line.as_bytes());
    }
}

fn done(read: Result<Got>) -> String {
    match read {
        Ok(Got::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_sizes_and_rights() {
    let mut fixture = Fixture::new(1000);
    fixture.stats.replied(Kind::TREAD, 1000);
    let list = |fixture: &mut Fixture, dir: &mut CtlFile| {
        let mut found = Vec::new();
        let each = &mut |entry: &Entry<'_>| {
            let name = String::from_utf8_lossy(entry.stat.name).into_owned();
            found.push((name, entry.stat.mode & mode::IFMT == mode::IFDIR, entry.stat.size));
            true
        };
        fixture.ctl.list(dir, 2, at(0), each).expect("a directory");
        found
    };
    let mut root = fixture.ctl.attach(User { uid: 0, gid: Some(0), ..USER }, b"ctl").expect("there");
    let names = ["version", "stats", "connections", "log", "latency.hlog", "latency"];
    let found = list(&mut fixture, &mut root);
    assert_eq!(found.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(fixture.ctl.stat(&root).expect("there").nlink, 3);
    for (name, is_dir, size) in found {
        assert_eq!(is_dir, name == "latency");
        let file = fixture.walk(&name);
        let write = Open { write: true, ..READ };
        let denied = if is_dir { Error::EISDIR } else { Error::EACCES };
        assert_eq!(fixture.opens(file, write, at(0)), Err(denied), "{name}");
        match name.as_str() {
            "latency" => assert_eq!(size, 0),
            "log" | "latency.hlog" => assert_eq!(size, ENDLESS),
            _ => assert_eq!(size, fixture.text(&name).len() as u64, "{name}"),
        }
    }
    let mut latency = fixture.look("latency");
    let up = fixture.ctl.lookup(&latency, b"..").expect("the root");
    assert_eq!(fixture.ctl.attr(&up), fixture.ctl.attr(&root));
    let found = list(&mut fixture, &mut latency);
    assert_eq!(found.len(), 32, "as many types of requests as there are in three dialects");
    for (name, is_dir, size) in found {
        assert!(!is_dir && name.starts_with('T'), "{name}");
        assert!(size >= fixture.text(&format!("latency/{name}")).len() as u64, "{name}");
    }
    assert_eq!(fixture.ctl.lookup(&root, b"Tread").map(|_| ()), Err(Error::ENOENT), "it is in latency");
}

#[test]
fn every_line_of_stats_is_a_word_and_a_number() {
    let mut fixture = Fixture::new(1000);
    (0..=255).for_each(|kind| fixture.stats.replied(Kind(kind), 1000));
    let text = fixture.text("stats");
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(words.len() == 2 && words[1].parse::<u64>().is_ok(), "{line}");
    }
    assert!(text.contains("messages_Tread ") && text.contains("messages_type_200 "));
    assert_eq!(text.lines().filter(|line| line.starts_with("messages_")).count(), 256);
}

#[test]
fn what_is_open_shows_the_moment_of_its_opening() {
    let mut fixture = Fixture::new(1000);
    let file = fixture.open("latency/Tread");
    let before = done(fixture.read(file, 0, 1000));
    for ns in [1000, 5000, 80_000] {
        fixture.stats.replied(Kind::TREAD, ns);
    }
    let now = fixture.text("latency/Tread");
    assert_ne!(now, before);
    assert_eq!(done(fixture.read(file, 0, 1000)), before);
    assert_eq!(done(fixture.read(file, 7, 5)), before[7..12]);
    for offset in [before.len() as u64, 1 << 40, u64::MAX] {
        assert_eq!(done(fixture.read(file, offset, 1000)), "");
    }
    assert_eq!(fixture.size(file), before.len() as u64);
    let other = fixture.walk("latency/Tread");
    assert!(fixture.size(other) >= now.len() as u64);
}

#[test]
fn a_text_is_made_once_in_a_turn() {
    let mut fixture = Fixture::new(1000);
    let text = |fixture: &mut Fixture, path: &str, seconds: u64| {
        let file = fixture.walk(path);
        fixture.opens(file, READ, at(seconds)).expect("anyone may");
        done(fixture.read(file, 0, 10_000))
    };
    let first = text(&mut fixture, "latency/Tread", 1);
    fixture.stats.replied(Kind::TREAD, 1000);
    assert_eq!(text(&mut fixture, "latency/Tread", 1), first);
    assert_ne!(text(&mut fixture, "stats", 1), first, "of this file");
    assert_ne!(text(&mut fixture, "latency/Tread", 2), first, "in this turn");
}

#[test]
fn percentiles_are_a_table_of_hdr_histogram_in_microseconds() {
    let mut fixture = Fixture::new(1000);
    fixture.stats.replied(Kind::TWALK, 900_000);
    for ns in [1500, 1500, 1500, 2000] {
        fixture.stats.replied(Kind::TREAD, ns);
    }
    let expected = "       Value     Percentile TotalCount 1/(1-Percentile)

       1.500 0.000000000000          3           1.00
       1.500 0.100000000000          3           1.11
       1.500 0.200000000000          3           1.25
       1.500 0.300000000000          3           1.43
       1.500 0.400000000000          3           1.67
       1.500 0.500000000000          3           2.00
       1.500 0.550000000000          3           2.22
       1.500 0.600000000000          3           2.50
       1.500 0.650000000000          3           2.86
       1.500 0.700000000000          3           3.33
       2.000 0.750000000000          4           4.00
       2.000 1.000000000000          4
#[Mean    =        1.625, StdDeviation   =        0.217]
#[Max     =        2.000, Total count    =            4]
#[Buckets =           26, SubBuckets     =         2048]
";
    assert_eq!(fixture.text("latency/Tread"), expected);
    let none = fixture.text("latency/Tclunk");
    assert!(none.starts_with("       Value") && none.contains("Total count    =            0]"), "{none}");
}

#[test]
fn connections_come_and_go() {
    let mut fixture = Fixture::new(1000);
    let connection = Rc::new(Connection::new("unix:/run/x".into(), "uid=1000".into(), at(0).mono_ns));
    fixture.stats.connected(7, Rc::clone(&connection));
    fixture.stats.connected(2, Rc::new(Connection::new("tcp:[::1]:564".into(), "squash".into(), at(0).mono_ns)));
    let early = fixture.text("connections");
    connection.dialect.set(Some("9P2000.L"));
    connection.msize.set(65536);
    connection.fids.set(12);
    connection.pending.set(3);
    connection.queued_bytes.set(4000);
    connection.received_bytes.add(123_456);
    connection.sent_bytes.add(789);
    let file = fixture.walk("connections");
    fixture.opens(file, READ, at(90)).expect("anyone may");
    let text = fixture.whole(file);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].len(), 11, "{text}");
    assert_eq!(lines[1], ["2", "-", "0", "0", "0", "0", "0", "0", "90", "squash", "tcp:[::1]:564"]);
    let figures = ["7", "9P2000.L", "65536", "12", "3", "4000", "123456", "789", "90", "uid=1000", "unix:/run/x"];
    assert_eq!(lines[2], figures);
    assert_eq!(text.len(), early.len(), "the length that was shown still holds");
    let other = fixture.walk("connections");
    assert_eq!(fixture.size(other), text.len() as u64);
    fixture.stats.disconnected(2);
    fixture.stats.disconnected(7);
    assert_eq!(fixture.text("connections").lines().count(), 1);
}

/// A length that is shown is computed. It must hold for whatever has been recorded, or a client that reads no
/// further misses the end.
#[test]
fn no_table_is_longer_than_the_length_that_is_shown() {
    let mut fixture = Fixture::new(1000);
    let mut random = 1_u64;
    for round in 0..2000_u32 {
        for _ in 0..(1_u32 << (round / 200)) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            fixture.stats.replied(Kind::TREAD, random >> (random % 60));
        }
        if round % 50 < 2 {
            let file = fixture.walk("latency/Tread");
            let shown = fixture.size(file);
            let text = fixture.text("latency/Tread");
            assert!(shown >= text.len() as u64, "{shown} bytes are shown, {} are there", text.len());
            assert!(shown < 4 * text.len() as u64 + 4096, "{shown} bytes are shown, {} are there", text.len());
        }
    }
}

/// One read makes a bounded number of lines, however many connections there are.
#[test]
fn connections_are_shown_in_parts() {
    let mut fixture = Fixture::new(1000);
    for number in 0..1000 {
        fixture.stats.connected(number, Rc::new(Connection::new("-".into(), "all".into(), 0)));
    }
    let file = fixture.open("connections");
    let size = fixture.size(file);
    let first = done(fixture.read(file, 0, 1 << 20));
    assert_eq!(first.lines().count(), 1 + listing::LINES_MAX);
    assert_eq!(fixture.read(file, first.len() as u64 * 3, 10), Err(Error::EINVAL), "it is read forward");
    // Those that come meanwhile find no room; those that go leave a shorter text.
    fixture.stats.connected(1000, Rc::new(Connection::new("-".into(), "all".into(), 0)));
    let all = fixture.whole(file);
    assert!(all.starts_with(&first));
    assert_eq!((all.len() as u64, all.lines().count()), (size, 1001));
    assert_eq!(done(fixture.read(file, 7, 5)), all[7..12]);
    assert_eq!(done(fixture.read(file, u64::MAX, 5)), "");
    assert_eq!(fixture.size(file), size);
    fixture.close(file);
    (0..1001).for_each(|number| fixture.stats.disconnected(number));
    assert_eq!(fixture.stats.connections(), (0, 0));
}

#[test]
fn texts_that_are_open_are_bounded() {
    let mut fixture = Fixture::new(1000);
    for number in 0..10_000 {
        fixture.stats.connected(number, Rc::new(Connection::new("-".into(), "all".into(), 0)));
    }
    let file = fixture.open("connections");
    let size = fixture.size(file) as usize;
    fixture.close(file);
    let open: Vec<FileId> = (0..TEXTS_BYTES_MAX / size).map(|_| fixture.open("connections")).collect();
    let one_more = fixture.walk("connections");
    assert_eq!(fixture.opens(one_more, READ, at(0)), Err(Error::ENFILE));
    open.into_iter().for_each(|file| fixture.close(file));
    assert_eq!(fixture.opens(one_more, READ, at(0)), Ok(()));
}

/// H10: what made a text is charged once.
#[test]
fn the_work_of_a_text_is_charged_once() {
    let mut fixture = Fixture::new(1000);
    for (path, units) in [("version", 0), ("stats", STATS_UNITS), ("latency/Tread", TABLE_UNITS)] {
        let file = fixture.open(path);
        assert_eq!((fixture.ctl.spent(), fixture.ctl.spent()), (units, 0), "{path}");
        fixture.close(file);
    }
}

/// Of each file as many are opened as can be, twice. In one turn they have one text.
#[test]
fn what_an_open_has_is_given_back() {
    let mut fixture = Fixture::new(1000);
    fixture.stats.connected(1, Rc::new(Connection::new("-".into(), "all".into(), 0)));
    for path in ["stats", "connections", "log", "latency.hlog", "latency/Tread"] {
        let counts = [1, 2].map(|_| {
            let mut open = Vec::new();
            let refused = loop {
                let file = fixture.walk(path);
                match fixture.opens(file, READ, at(0)) {
                    Ok(()) => open.push(file),
                    Err(error) => break (open.len(), error),
                }
            };
            open.into_iter().for_each(|file| fixture.close(file));
            refused
        });
        assert_eq!((counts[0], counts[0].1), (counts[1], Error::ENFILE), "{path}");
        assert!(counts[0].0 >= READERS_MAX, "{path}: {counts:?}");
    }
}

#[test]
fn the_log_goes_on_from_its_oldest_line() {
    let mut fixture = Fixture::new(1000);
    fixture.logs("first");
    let file = fixture.open("log");
    fixture.logs("second");
    assert_eq!(done(fixture.read(file, 0, 1000)), "first\nsecond\n");
    assert_eq!(done(fixture.read(file, 3, 4)), "st\ns");
    let op = fixture.waits(file, 13);
    assert_eq!((op.peer, fixture.ctl.ready()), (3, None));
    fixture.logs("third");
    assert_eq!(fixture.ctl.ready(), Some(op));
    assert_eq!(fixture.finish(op, 4).as_deref(), Ok("thir"));
    assert_eq!(fixture.ctl.ready(), None, "finished once");
    assert_eq!(fixture.finish(op, 4), Err(Error::EIO), "its name is void");
    assert_eq!(done(fixture.read(file, 17, 1000)), "d\n");
    assert_eq!(done(fixture.read(file, 19, 0)), "", "who asks for nothing does not wait for it");
    // Another reader has a place of its own, and may begin again.
    let other = fixture.open("log");
    assert_eq!(done(fixture.read(other, 0, 1000)), "first\nsecond\nthird\n");
    assert_eq!(done(fixture.read(other, 0, 5)), "first");
}

#[test]
fn what_waits_is_taken_back_once() {
    let mut fixture = Fixture::new(1000);
    let file = fixture.open("log");
    let ops = [0, 0, 5].map(|offset| fixture.waits(file, offset));
    assert_eq!(fixture.ctl.cancel(ops[1]), Cancel::Cancelled);
    assert_eq!(fixture.ctl.cancel(ops[1]), Cancel::TooLate);
    fixture.logs("one");
    assert_eq!(fixture.ctl.ready(), Some(ops[0]));
    assert_eq!(fixture.ctl.cancel(ops[0]), Cancel::Cancelled, "as long as nobody has asked for its result");
    assert_eq!(fixture.ctl.ready(), None, "the other one waits for what comes behind that line");
    fixture.logs("two");
    assert_eq!(fixture.ctl.ready(), Some(ops[2]));
    assert_eq!(fixture.finish(ops[2], 1000).as_deref(), Ok("wo\n"));
}

#[test]
fn who_is_slow_misses_whole_lines_and_hears_of_it() {
    let mut fixture = Fixture::new(20);
    let file = fixture.open("log");
    fixture.logs("one");
    assert_eq!(done(fixture.read(file, 0, 2)), "on");
    ["two", "three", "four", "five"].iter().for_each(|line| fixture.logs(line));
    let text = done(fixture.read(file, 2, 1000));
    assert_eq!(text, "\n# 2 bytes were missed\ntwo\nthree\nfour\nfive\n");
    let end = 2 + text.len() as u64;
    // The comment may be read in pieces, like all else.
    assert_eq!(done(fixture.read(file, 9, 6)), text[7..13]);
    assert_eq!(done(fixture.read(file, 30, 1000)), text[28..]);
    assert_eq!(fixture.read(file, 1, 10), Err(Error::EINVAL), "that is gone");
    let op = fixture.waits(file, end);
    ["a line that pushes", "all others out"].iter().for_each(|line| fixture.logs(line));
    assert_eq!(fixture.ctl.ready(), Some(op));
    assert_eq!(fixture.finish(op, 1000).as_deref(), Ok("# 19 bytes were missed\nall others out\n"));
    let op = fixture.waits(file, u64::MAX);
    fixture.logs("x");
    assert_eq!(fixture.ctl.ready(), None, "nothing is ever that far");
    assert_eq!(fixture.ctl.cancel(op), Cancel::Cancelled);
}

#[test]
fn readers_and_what_waits_are_bounded() {
    let mut fixture = Fixture::new(1000);
    let open: Vec<FileId> = (0..READERS_MAX).map(|_| fixture.open("log")).collect();
    let one_more = fixture.walk("log");
    assert_eq!(fixture.opens(one_more, READ, at(0)), Err(Error::ENFILE));
    let mut ops: Vec<OpId> = (0..WAITING_MAX).map(|at| fixture.waits(open[at % READERS_MAX], 0)).collect();
    assert_eq!(fixture.read(open[0], 0, 10), Err(Error::EAGAIN));
    // The bound is that of the tree, whichever text it is.
    let intervals = fixture.open("latency.hlog");
    assert_eq!(fixture.read(intervals, 1000, 10), Err(Error::EAGAIN));
    assert_eq!(ops.pop().map(|op| fixture.ctl.cancel(op)), Some(Cancel::Cancelled));
    let other = fixture.waits(intervals, 1000);
    assert_eq!(fixture.read(open[0], 0, 10), Err(Error::EAGAIN));
    fixture.logs("line");
    let woken: Vec<OpId> = std::iter::from_fn(|| {
        let op = fixture.ctl.ready()?;
        assert_eq!(fixture.finish(op, 10).as_deref(), Ok("line\n"));
        Some(op)
    })
    .collect();
    assert_eq!(woken, ops, "all of them, in order");
    assert_eq!(fixture.ctl.cancel(other), Cancel::Cancelled);
    open.into_iter().chain([intervals]).for_each(|file| fixture.close(file));
    assert_eq!(fixture.opens(one_more, READ, at(0)), Ok(()));
}
