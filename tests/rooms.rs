//! The rules of docs/architecture.md, checked on the text of the sources: which room may name
//! which, words that a room must not contain, files that may have unsafe code, a head in every
//! file. Also that pages name files and each other as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of this crate. Rooms are matched by the longest prefix of the path.
const EDGES: &[(&str, &[&str])] = &[
    ("wire", &["wire"]),
    ("arena", &["arena"]),
    ("fs", &["fs", "arena", "wire"]),
    ("fs/ctl", &["fs", "arena", "wire", "stats"]),
    ("session", &["session", "fs", "wire"]),
    ("uring", &["uring", "session", "arena", "stats", "fs", "logging"]),
    ("client", &["client", "wire", "fs"]),
    ("relay", &["relay", "client", "wire", "fs", "arena", "session::Users", "session::NOBODY"]),
    ("store", &["store", "fs", "arena", "stats"]),
    ("store/format", &["store", "fs", "wire"]),
    ("stats", &["stats", "wire"]),
    ("logging", &["logging", "stats"]),
    ("serve", &["serve", "uring", "session", "client", "fs", "arena", "stats", "logging", "limits"]),
    ("limits.rs", &["limits", "arena", "uring", "session", "fs", "store"]),
    (
        "lib.rs",
        &["arena", "fs", "wire", "session", "uring", "client", "relay", "serve", "limits", "logging", "stats", "store"],
    ),
];

/// Words that a room must not contain at all, and why.
const ABSENCES: &[(&str, &[&str], &str)] = &[
    ("wire", &["std::io", "std::net", "std::fs", "Instant", "HashMap"], "wire is pure"),
    (
        "session",
        &["RawFd", "Instant", "SystemTime", "async ", "Mutex", "RefCell", "std::net", "fs::mem"],
        "no fd, clock, runtime, lock or memfs",
    ),
    (
        "fs",
        &["Tag", "Fid", "Message", "io_uring", "Instant", "SystemTime"],
        "a tree never sees a fid, a tag or a message",
    ),
    ("arena", &["io_uring"], "only uring says io_uring"),
    ("client", &["io_uring", "uring::"], "the client never sees the server's ring"),
    ("relay", &["io_uring", "std::net", "RawFd", "Instant", "SystemTime"], "a relay asks the loop for I/O"),
    (
        "store/format",
        &["fs::mem", "arena", "std::io", "std::fs", "HashMap", "Instant", "SystemTime"],
        "the format of a store is pure",
    ),
    ("store/log", &["std::fs", "std::io"], "the end of the log asks the loop for I/O"),
    ("store/stock", &["std::fs", "std::io"], "segments in stock are asked of the loop"),
    ("store/checkpoint", &["std::fs", "std::io"], "a checkpoint asks the loop for I/O"),
    ("store/room", &["std::fs", "std::io", "fs::"], "the arithmetic of room is pure"),
    ("store/stored", &["std::fs", "std::io"], "a stored tree asks the loop for I/O"),
    ("store", &["io_uring", "Instant", "SystemTime", "std::net", "Message"], "a store knows no sockets and no clock"),
    ("serve", &["fs::mem", "Message", "clap"], "a server around any tree knows no memfs, message or flag"),
    ("stats", &["io_uring"], "only uring says io_uring"),
    ("logging", &["io_uring"], "only uring says io_uring"),
    ("uring", &["fs::mem", "fs::dev", "fs::ctl", "Message"], "the loop knows no concrete tree and no message"),
];

/// Files of the library that may have unsafe code.
const UNSAFE: &[&str] = &[
    "arena/",
    "uring/ring.rs",
    "uring/ask.rs",
    "uring/buffers.rs",
    "uring/flight.rs",
    "uring/table.rs",
    "uring/testring.rs",
];

/// Files beside the library that may have it: they play a kernel, are a ring's driver, count what an allocator does, or run before `main`.
const UNSAFE_BESIDE: &[&str] = &[
    "bench/examples/",
    "tests/counts.rs",
    "tests/memory.rs",
    "tests/support/fixed.rs",
    "tests/support/hand_ring.rs",
    "tests/support/sqe.rs",
    "tools/src/r9/closed.rs",
    "tools/sim/src/kernel/memory.rs",
    "tools/sim/src/kernel/sqe.rs",
    "tools/sim/src/world.rs",
];

fn sources() -> BTreeMap<String, String> {
    sources_in("src")
}

/// The sources in a folder of the repository, by their names in it.
fn sources_in(folder: &str) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be listed") {
            let path: PathBuf = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(&root).expect("below it").display().to_string();
                found.insert(name, fs::read_to_string(&path).expect("a readable file"));
            }
        }
    }
    found
}

/// Code without its comments and without the tests at the end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs") || file.contains("/tests/") || file.contains("testtree")
}

#[test]
fn rooms_name_only_their_neighbours() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if is_test(&file) || ["main.rs", "flags.rs", "durable.rs"].contains(&file.as_str()) {
            continue;
        }
        let room = EDGES.iter().filter(|(room, _)| file.starts_with(room)).max_by_key(|(room, _)| room.len());
        let (_, allowed) = room.unwrap_or_else(|| panic!("{file} is in no room"));
        for (at, line) in code(&text) {
            for (_, rest) in line.match_indices("crate::").map(|(start, name)| line.split_at(start + name.len())) {
                if !allowed.iter().any(|name| rest.starts_with(name)) && !rest.starts_with('{') {
                    wrong.push(format!("src/{file}:{at}: {}", line.trim()));
                }
                assert!(!rest.starts_with('{'), "src/{file}:{at}: name the room in each `use crate::`");
            }
        }
    }
    assert!(wrong.is_empty(), "rooms that name what they must not know:\n{}", wrong.join("\n"));
}

#[test]
fn what_must_be_absent_is_absent() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if is_test(&file) {
            continue;
        }
        for (room, words, why) in ABSENCES.iter().filter(|(room, ..)| file.starts_with(room)) {
            for (at, line) in code(&text) {
                // What is quoted is said to people.
                let line: String = line.split('"').step_by(2).collect();
                for word in words.iter().filter(|word| contains_word(&line, word)) {
                    wrong.push(format!("src/{file}:{at}: {word:?} in {room} ({why})"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_the_named_files_only() {
    let of_library = sources().into_iter().map(|(file, text)| (file, text, UNSAFE));
    let folders = ["bench/examples", "bench/micro", "bench/src", "examples", "tests", "tools"];
    let beside = folders.iter().flat_map(|folder| {
        sources_in(folder).into_iter().map(move |(file, text)| (format!("{folder}/{file}"), text, UNSAFE_BESIDE))
    });
    for (file, text, named) in of_library.chain(beside) {
        // This file has the word in its code.
        if named.iter().any(|named| file.starts_with(named)) || file == "tests/rooms.rs" {
            continue;
        }
        for (at, line) in code(&text) {
            let line = line.replace("unsafe_code", "");
            assert!(!contains_word(&line, "unsafe"), "{file}:{at}: unsafe code outside of {named:?}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "src/{file} does not start with //!");
    }
}

fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && (word.ends_with([' ', ':']) || !part(after))
    })
}

/// A page that the index does not have is found by chance.
#[test]
fn every_page_is_in_the_index() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = fs::read_to_string(docs.join("README.md")).expect("docs has an index");
    for folder in ["", "decisions/"] {
        for entry in fs::read_dir(docs.join(folder)).expect("docs can be listed") {
            let name = entry.expect("docs can be listed").file_name().into_string().expect("a name in UTF-8");
            let link = format!("({folder}{name})");
            let is_page = name.ends_with(".md") && link != "(README.md)";
            assert!(!is_page || index.contains(&link), "docs/README.md has no line for docs/{folder}{name}");
        }
    }
}

/// A recipe that names a file which has moved is worse than none. Names in capitals are placeholders.
#[test]
fn every_file_that_contributing_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("CONTRIBUTING.md")).expect("a page on how to contribute");
    let named = text.split('`').skip(1).step_by(2).filter(|word| {
        let folder = word.split('/').next().unwrap_or_default();
        let is_path = ["src", "tests", "tools", "bench", "fuzz", "docs", ".ci", ".cargo"].contains(&folder);
        is_path && !word.contains([' ', '\n']) && !["NAME", "NN"].iter().any(|placeholder| word.contains(placeholder))
    });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 30, "{named:?}");
    for path in named {
        assert!(root.join(path).exists(), "CONTRIBUTING.md names {path}, which is not there");
    }
}
