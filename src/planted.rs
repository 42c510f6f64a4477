//! Planted bugs: slips that have killed servers like this one, switched on one at a time to see that a test finds each.
//!
//! `planted!("name")` is a bool. Without the feature `planted` it is the constant false, so that nothing of the bug is compiled. With the feature it is true if
//! the environment variable `RING9_PLANTED` has that name; it is looked at once.
//!
//! A name that is not in the list does not compile. `tests/rooms.rs` checks that each is used exactly once, in the file that the list says.
//! `tests/e2e/planted.py` turns on one after the other and asks which test fails.
//!
//! Must not know: any room. Every room may ask.

/// `true` where this planted bug is switched on.
#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($name:literal) => {
        // An item: `cargo check` looks at those, too.
        {
            const NEVER: bool = $crate::planted::never($name);
            NEVER
        }
    };
}

/// `true` where this planted bug is switched on.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_on({
            const NUMBER: usize = $crate::planted::number($name);
            NUMBER
        })
    };
}

/// The names alone are needed to compile; the rest of a line is for people, and for the tests that read this file.
macro_rules! bugs {
    ($($name:literal $room:literal $stands_for:literal $what:literal;)*) => {
        const NAMES: &[&str] = &[$($name),*];
    };
}

// Name, file of its room, the section of docs/hostile-inputs.md or the trap of publishing that it stands for, and what is wrong.
bugs! {
    // Framing and session.
    "msize-off-by-one"             "session/mod.rs"     "A2"  "a message may be a byte larger than was agreed on";
    "deadline-since-last-byte"     "session/mod.rs"     "A4"  "the deadline of a message starts anew with every byte of it";
    "trailing-bytes-accepted"      "wire/table.rs"      "A6"  "bytes behind the last field of a message are passed over";
    "errors-not-counted"           "session/mod.rs"     "A5"  "a peer may send broken messages for ever";
    "version-keeps-the-old-session" "session/common.rs" "A11" "a second Tversion leaves fids and pending requests as they are";
    "read-not-clamped"             "session/common.rs"  "A14" "a read may be as large as the client asks, whatever was agreed on";
    // Tags and flush.
    "tag-in-flight-accepted"       "session/mod.rs"     "B1"  "a tag whose request has no reply yet may be used again";
    "rflush-on-error"              "session/pending.rs" "B3"  "a flush of an unknown tag is an error";
    "flushes-out-of-order"         "session/pending.rs" "B5"  "several flushes of one request are answered from the last to the first";
    "reply-after-rflush"           "session/pending.rs" "B6"  "a flush that comes too late is answered at once, and the request after it";
    "flushed-request-stays"        "session/pending.rs" "B10" "a request that was taken back keeps its tag";
    "held-peer-spins"              "uring/server.rs"    "B2"  "a peer whose requests wait keeps the loop from sleeping";
    // Fids and walks.
    "newfid-in-use-accepted"       "session/fids.rs"    "C2"  "a new fid takes the place of one that is in use";
    "clunk-failure-keeps-fid"      "session/common.rs"  "C5"  "a clunk that fails leaves the fid";
    "remove-failure-keeps-fid"     "session/common.rs"  "C6"  "a remove that fails leaves the fid";
    "partial-walk-moves-newfid"    "session/common.rs"  "C7"  "a walk that ends early sets newfid to where it ended";
    "open-of-an-open-fid"          "session/classic.rs" "C11" "an open fid can be opened again";
    "unlinked-file-freed"          "fs/mem/tree.rs"     "C12" "the last name takes the file along, whoever has it open";
    "write-by-a-read-fid"          "session/payload.rs" "C13" "a fid that was opened for reading may write";
    // Reads and writes.
    "offset-plus-count-wraps"      "fs/mem/mod.rs"      "D3"  "the end of a write wraps around";
    "freed-under-a-reply"          "arena/mod.rs"       "D7"  "truncation frees blocks that replies still show";
    "sealed-not-raised"            "arena/mod.rs"       "D8"  "a second, longer reply does not protect what it shows beyond the first";
    "publish-before-whole"         "fs/mem/mod.rs"      "D9"  "a payload of which a part is missing can be committed";
    "enospc-changes-the-size"      "fs/mem/content.rs"  "D12" "a write that finds no memory leaves a larger file";
    "version-not-bumped"           "fs/mem/node.rs"     "D13" "qid.version stays the same when the content changes";
    "hole-shows-old-bytes"         "fs/mem/content.rs"  "D14" "a write behind the end does not zero what lies between";
    "growth-shows-old-bytes"       "fs/mem/content.rs"  "D14" "a size that is set larger does not zero what comes to light";
    // Directories.
    "listing-too-small-says-end"   "session/linux.rs"   "E1"  "a count that is too small for the next entry looks like the end";
    "cookie-used-again"            "fs/mem/dir.rs"      "E3"  "the cookie of the last entry is given again once that is gone";
    "replaced-name-moves"          "fs/mem/tree.rs"     "E3"  "a name that is replaced gets a new cookie and is listed twice";
    "cookie-off-by-one"            "fs/mem/dir.rs"      "E4"  "a listing goes on at its cookie instead of behind it";
    "entry-that-fits-left-out"     "session/linux.rs"   "E6"  "an entry that ends exactly at the count is put off for ever";
    // Names and renames.
    "rename-into-own-subtree"      "fs/mem/tree.rs"     "F1"  "a directory can be moved below itself";
    "rename-over-a-full-directory" "fs/mem/tree.rs"     "F2"  "a directory that is not empty can be replaced";
    "rename-onto-own-link"         "fs/mem/tree.rs"     "F3"  "a file that is renamed onto another name of itself loses one";
    "dots-created"                 "fs/mod.rs"          "F6"  "`.` and `..` can be made like any name";
    "path-used-again"              "fs/mem/node.rs"     "F11" "qid.path is that of a file that is gone";
    // Extended attributes and locks.
    "xattr-create-replaces"        "fs/mem/attrs.rs"    "G3"  "an attribute that must be new replaces the one that is there";
    "capability-kept-on-write"     "fs/mem/attrs.rs"    "G5"  "a program that is written to keeps its capabilities";
    "xattrs-outlive-the-file"      "fs/mem/attrs.rs"    "G2"  "the attributes of a file that is gone are those of the next one in its place";
    "xattr-set-in-part"            "session/xattr.rs"   "G3"  "an attribute is set although not all of it was written";
    "xattr-budget-kept"            "session/xattr.rs"   "G2"  "bytes of attributes that were read or written count for ever";
    "staged-xattr-readable"        "session/xattr.rs"   "G4"  "an attribute that is being written can be read";
    "lock-range-wraps"             "session/lock.rs"    "G6"  "the end of a lock wraps around";
    "lock-conflict-ignored"        "fs/mem/locks.rs"    "G8"  "everyone gets every lock";
    "locks-unbounded"              "fs/mem/locks.rs"    "G7"  "a peer may have any number of locks";
    "unlock-takes-all"             "fs/mem/locks.rs"    "G8"  "who gives a part of a lock back loses all of it";
    "locks-outlive-the-fid"        "fs/mem/mod.rs"      "G8"  "a lock stays when its fid is clunked";
    // Connections and resources.
    "refused-connection-leaks"     "uring/server/accept.rs" "H2" "a connection above the bound is never closed";
    "closed-twice"                 "uring/server.rs"    "H2"  "the descriptor of a peer is closed twice";
    "accept-tries-at-once"         "uring/server/accept.rs" "H3" "without descriptors the listener accepts again and again without a pause";
    "drained-since-last-progress"  "uring/server/send.rs" "H5"  "the deadline of a reply starts anew with every byte that leaves";
    "unread-replies-unbounded"     "session/mod.rs"     "H5"  "a peer that does not read is served on";
    "fids-stay-open"               "session/mod.rs"     "H7"  "a peer that vanishes leaves its files open";
    "half-close-drops-replies"     "uring/server/receive.rs" "H8"  "a peer that has said all does not hear its replies";
    "orphans-not-counted"          "arena/mod.rs"       "H9"  "blocks that replies alone hold are no reason to evict anybody";
    "the-wrong-one-evicted"        "uring/server/eviction.rs" "H9"  "the peer whose reply is the newest is evicted";
    "flood-served-at-once"         "session/mod.rs"     "H10" "one call serves all that a peer has sent";
    "stopped-time-counts"          "uring/server.rs"    "H14" "a server that was stopped closes everyone when it goes on";
    "fid-budget-kept"              "session/fids.rs"    "C3"  "a clunked fid still counts against all peers";
    "reply-budget-kept"            "session/outgoing.rs" "H9" "bytes of replies that have left still count against all peers";
    "unpin-forgotten"              "arena/hold.rs"      "H9"  "a reply that was sent keeps its block";
    "failed-send-keeps-its-pins"   "uring/server/send.rs" "H7"  "what a failed send did not send stays pinned";
    // Ring and kernel.
    "short-send-taken-as-whole"    "uring/server/send.rs" "I2"  "what a short send has left is never sent";
    "short-receive-taken-as-whole" "uring/server/receive.rs" "I2"  "a payload is published when its first bytes have landed";
    "landing-dropped-when-interrupted" "uring/server/receive.rs" "I3" "a receive into blocks that was interrupted gives its landing up";
    "poll-error-is-a-signal"       "uring/server.rs"    "I3"  "a poll of the signals that fails begins the drain";
    "second-signal-unheard"        "uring/server.rs"    "I3"  "nobody listens to a second signal while the server drains";
    "eagain-ends-the-peer"         "uring/server/send.rs" "I3"  "a full socket counts as a broken one";
    "generation-forgotten"         "uring/server.rs"    "I4"  "a late completion is taken for one of the next peer in the slot";
    "task-work-not-waited-for"     "uring/server/send.rs" "I5"  "the error of a quiet send that waits as task work is not waited for";
    "woken-work-not-counted"       "uring/server/send.rs" "I5"  "task work that ends nothing is not counted before that of a quiet send";
    "stale-flag-believed"          "uring/server/send.rs" "I5"  "task work is looked for as long as there is said to be some";
    "quiet-settled-too-early"      "uring/server/send.rs" "I5"  "a quiet send that is still in the queue counts as sent";
    "long-replies-in-one-piece"    "uring/server/send.rs" "H10" "long replies keep short ones of others waiting";
    "full-queue-drops"             "uring/server.rs"    "I6"  "what finds no room in the submission queue is not submitted";
    "bytes-behind-a-payload-lost"  "uring/server/receive.rs" "I2" "what was received together with the end of a payload is never served";
    "received-from-for-ever"       "uring/server/together.rs" "H10" "a peer that always has more keeps all others waiting";
    "enobufs-never-armed-again"    "uring/server/receive.rs" "I7"  "a receive that found no shared buffer is not submitted again";
    "place-kept"                   "uring/socket.rs"    "H7"  "a socket that was closed keeps its place in the table of files";
    "shared-buffer-kept"           "uring/buffers.rs"   "I7"  "the buffer of a receive's last completion is not given back";
    "shared-buffer-returned-twice" "uring/buffers.rs"   "I7"  "a shared buffer is given back twice";
    "shared-buffer-returned-early" "uring/buffers.rs"   "I7"  "a shared buffer is given back before it was looked at";
    "freed-at-the-cancel"          "uring/server.rs"    "I8"  "the completion of a cancellation counts as that of its target";
    "freed-in-flight"              "uring/server.rs"    "I8"  "a peer that ends is freed although operations are in flight";
    "multishot-end-missed"         "uring/server/receive.rs" "I10" "a receive that has ended counts as armed";
    "head-slot-given-back-early"   "uring/flight.rs"    "I1"  "the heads of a reply on its way are overwritten by another peer's";
    "gather-spans-entries"         "uring/flight.rs"    "I14" "a gather names one entry of the table and reaches into another";
    "slot-emptied-at-once"         "uring/table.rs"     "I14" "a slot of the table is emptied although a queued submission names it";
    // Identity.
    "squash-believes"              "uring/server.rs"    "K1"  "on a listener that squashes everyone is whom they say";
    "peer-uid-ignored"             "session/users.rs"   "K3"  "a peer may act for any user";
    "set-id-kept-on-write"         "fs/mem/mod.rs"      "K5"  "a file that is written to keeps its set-id bits";
    "set-id-kept-on-chown"         "fs/mem/mod.rs"      "K5"  "a file that is given away keeps its set-id bits";
    "sticky-ignored"               "fs/mem/permit.rs"   "K6"  "in a sticky directory anyone removes the files of others";
    "chmod-by-anyone"              "fs/mem/permit.rs"   "K7"  "anyone changes permissions and times";
    "groups-ignored"               "fs/mem/permit.rs"   "K8"  "strangers have the rights of the group although the members are known";
    "truncating-open-needs-no-write" "fs/mem/permit.rs" "K9"  "an open that truncates asks for no permission to write";
    // The traps of publishing.
    "sealed-lowered-at-truncate"   "fs/mem/content.rs"  "trap: truncate, then append in place" "truncation forgets what a reply still shows";
    "edges-copied-at-grant"        "fs/mem/landing.rs"  "trap: edges copied at the grant" "a small write beside a running landing is undone";
    "grown-over-a-landing"         "arena/mod.rs"       "trap: the size grows over a landing" "bytes show that nobody has published";
    "append-where-granted"         "fs/mem/mod.rs"      "trap: two appenders" "an append goes to where the end was when it began";
    "copy-on-write-skipped"        "arena/mod.rs"       "trap: a page whose checksum is in flight" "bytes that a reply shows are overwritten";
}

/// The place of a name in the list.
pub(crate) const fn number(name: &str) -> usize {
    let mut at = 0;
    while at < NAMES.len() {
        if is_same(NAMES[at].as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no planted bug has this name")
}

/// `==` of slices cannot be had at compile time yet.
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// False, for a name that is in the list.
#[cfg(not(feature = "planted"))]
pub(crate) const fn never(name: &str) -> bool {
    number(name) >= NAMES.len()
}

/// Whether the bug with this number is switched on.
#[cfg(feature = "planted")]
pub(crate) fn is_on(number: usize) -> bool {
    static ON: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    *ON.get_or_init(|| {
        let name = std::env::var("RING9_PLANTED").ok()?;
        let at = NAMES.iter().position(|known| *known == name);
        // A misspelt name would look like a bug that no test finds.
        Some(at.unwrap_or_else(|| panic!("RING9_PLANTED={name}: no planted bug has this name")))
    }) == Some(number)
}
