//! The memory that sessions really take, as the allocator counts it, against what they count for themselves and against
//! their bounds. Only live bytes are looked at: how the allocator places them is not.

mod support;

use ring9::limits::SHORT_REPLY_BYTES;
use ring9::session::{BATCH_BYTES_MAX, Budget, Config, Segments, Session};
use ring9::wire::{Dialect, Message, Tag};
use std::sync::Arc;
use support::host::request;
use support::script::Script;
use support::{AT, config, tree};

/// What a session serves in here.
type Tree = ring9::fs::Simple<ring9::fs::mem::Mem>;

mod counting {
    //! Counts live bytes, by thread.
    #![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<usize> = const { Cell::new(0) };
    }

    fn count(less: usize, more: usize) {
        LIVE.with(|live| live.set(live.get().wrapping_sub(less).wrapping_add(more)));
    }

    pub(crate) struct Counting;

    // SAFETY: passes everything on to the system's allocator.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count(0, layout.size());
            // SAFETY: the caller's promise is the one asked for.
            unsafe { System.alloc(layout) }
        }
        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            count(layout.size(), 0);
            // SAFETY: as above.
            unsafe { System.dealloc(at, layout) }
        }
        unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            count(layout.size(), size);
            // SAFETY: as above.
            unsafe { System.realloc(at, layout, size) }
        }
    }

    /// Bytes that are allocated now.
    pub(crate) fn live() -> usize {
        LIVE.with(Cell::get)
    }
}

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

const PEERS: usize = 60;
const BOUND: usize = 1 << 20;
/// A session beside its replies: its fids and lists.
const SESSION_BYTES: usize = 2 << 10;
/// What the tree and the lists of this test take besides.
const OTHER_BYTES: usize = 16 << 10;

/// Asks until nothing more is served, as a driver does whose peer does not read: the first batch is under way all the while.
fn hoard(session: &mut Session<Tree>, fs: &mut Tree, asks: &[u8]) -> Option<Segments> {
    let mut under_way: Option<Segments> = None;
    let mut rest = asks;
    while !rest.is_empty() {
        let received = session.receive(fs, AT, rest).expect("a sound conversation");
        rest = &rest[received.consumed..];
        under_way = under_way.or_else(|| session.take(fs));
        if received.consumed == 0 && !received.need.again {
            break;
        }
    }
    under_way
}

/// Replies of any kind that are not received: long listings, many that are 7 bytes long, many that show a byte of a file.
#[test]
fn replies_that_wait_take_no_more_memory_than_their_bound() {
    type Asks = fn(&mut Script) -> &mut Script;
    let kinds: [(&str, Asks); 3] = [
        ("listings", |script| {
            for _ in 0..4 {
                script.ask(Message::Treaddir { fid: 2, offset: 0, count: 1 << 20 });
            }
            script
        }),
        ("flushes", |script| {
            for _ in 0..20_000 {
                script.ask(Message::Tflush { oldtag: Tag::MAX - 1 });
            }
            script
        }),
        ("reads of a byte", |script| {
            for _ in 0..10_000 {
                script.read(1, 0, 1);
            }
            script
        }),
    ];
    for (kind, asks) in kinds {
        let mut fs = tree();
        let budget = Arc::new(Budget::new(usize::MAX, BOUND));
        let mut script = Script::new(Dialect::L);
        script.attach(0).walk(0, 1, &[]).create(1, b"file").write(1, 0, b"a byte");
        for number in 0..400 {
            script.mkdir(0, format!("{number:0>200}").as_bytes());
        }
        support::feed(
            &mut Session::new(config()),
            &mut fs,
            &script.bytes,
            std::iter::empty(),
            support::Style::ReceiveOnly,
        );
        let mut opening = Script::new(Dialect::L);
        opening.attach(0).walk(0, 1, &[b"file"]).open(1, false).walk(0, 2, &[]).open(2, false);
        let asks = request(asks);
        let before = counting::live();
        let (mut peers, mut under_way) = (Vec::with_capacity(PEERS), Vec::with_capacity(PEERS));
        for peer in 0..PEERS as u32 {
            let mut session = Session::new(Config { peer, budget: Arc::clone(&budget), ..config() });
            support::feed(&mut session, &mut fs, &opening.bytes, std::iter::empty(), support::Style::ReceiveOnly);
            // The loop keeps it for others.
            drop(session.take_spare());
            under_way.push(hoard(&mut session, &mut fs, &asks));
            drop(session.take_spare());
            peers.push(session);
            let (live, counted) = (counting::live() - before, budget.reply_bytes());
            let sessions = peers.capacity() * size_of_val(&peers[0]);
            let others = OTHER_BYTES + sessions + (peer as usize + 1) * SESSION_BYTES;
            assert!(live <= counted + others, "{kind}: {live} bytes of {} peers, {counted} are counted", peer + 1);
            let bound = BOUND + BATCH_BYTES_MAX + (peer as usize + 1) * 2 * SHORT_REPLY_BYTES as usize;
            assert!(
                counted <= bound,
                "{kind}: {counted} bytes of {} peers are counted, {bound} are the bound",
                peer + 1
            );
        }
        assert!(budget.reply_bytes() >= BOUND, "{kind}: the bound was reached");
        drop(under_way);
        peers.iter_mut().for_each(|session| session.close(&mut fs, AT));
        drop(peers);
        assert_eq!(budget.reply_bytes(), 0, "{kind}");
        assert!(counting::live() <= before + (64 << 10), "{kind}: {} bytes are left", counting::live() - before);
    }
}

/// Attributes that are announced, and written in parts.
#[test]
fn attributes_on_their_way_take_what_is_counted() {
    let mut fs = tree();
    let budget = Arc::new(Budget::default());
    let mut script = Script::new(Dialect::L);
    script.attach(0);
    for fid in 1..=60 {
        script.walk(0, fid, &[]).ask(Message::Txattrcreate { fid, name: b"user.name", attr_size: 60_000, flags: 0 });
        script.write(fid, 0, &[1; 10_000]).write(fid, 10_000, &[1; 1_000]).write(fid, 11_000, &[1; 13_000]);
    }
    let before = counting::live();
    let mut session = Session::new(Config { budget: Arc::clone(&budget), ..config() });
    support::feed(&mut session, &mut fs, &script.bytes, std::iter::empty(), support::Style::ReceiveOnly);
    let (live, counted) = (counting::live() - before, budget.attr_bytes());
    assert!(live <= counted + budget.reply_bytes() + 2 * OTHER_BYTES, "{live} bytes, {counted} are counted");
    assert!((60 * 24_000..60 * 45_000).contains(&counted), "{counted} bytes are counted for 60 times 24,000");
    session.close(&mut fs, AT);
    assert_eq!(budget.attr_bytes(), 0);
}

/// Fids of one session, from none to many and back to a few.
#[test]
fn fids_take_what_is_counted() {
    let mut fs = tree();
    let budget = Arc::new(Budget::default());
    let mut script = Script::new(Dialect::L);
    script.attach(0);
    (1..30_000).for_each(|fid| {
        script.walk(0, fid, &[]);
    });
    let clunks = request(|script| {
        for fid in 100..30_000 {
            script.clunk(fid);
        }
        script
    });
    let before = counting::live();
    let mut session = Session::new(Config { budget: Arc::clone(&budget), ..config() });
    for (asks, fids) in [(&script.bytes[..], 30_000), (&clunks[..], 100)] {
        let replies =
            support::feed(&mut session, &mut fs, asks, std::iter::empty(), support::Style::ReceiveOnly).replies;
        drop(replies);
        session.trim();
        let (live, counted) = (counting::live() - before, budget.fid_bytes());
        assert_eq!(session.fids(), fids);
        assert!(live <= counted + budget.reply_bytes() + 4 * OTHER_BYTES, "{live} bytes, {counted} are counted");
        assert!(counted <= fids * 150 + (100 << 10), "{counted} bytes are counted for {fids} fids");
    }
    session.close(&mut fs, AT);
    assert_eq!((budget.fids(), budget.fid_bytes()), (0, 0));
}
