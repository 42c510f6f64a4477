//! Listings: pages, cookies, and what happens to names meanwhile (E1 to E9; E1 and the sizes of entries are the session's).

use super::tree::{Id, Limits, Listed, MakeTree, READ, ROOT, Tree};
use ring9::fs::{Filesystem, mode};

fn open<F: Filesystem>(tree: &mut Tree<F>, path: &str) -> Id {
    tree.open(ROOT, path, READ).expect("a directory")
}

fn page<F: Filesystem>(tree: &mut Tree<F>, dir: Id, cookie: u64, count: usize) -> Vec<Listed> {
    let page = tree.list(dir, cookie, count).expect("a directory");
    let cookies: Vec<_> = [cookie].into_iter().chain(page.iter().map(|entry| entry.cookie)).collect();
    assert!(cookies.is_sorted_by(|a, b| a < b) && cookies.iter().skip(1).all(|&cookie| cookie < 1 << 63));
    page
}

/// Lists all in pages of so many entries; between them `meanwhile` is called with the names of the page.
fn listing<F: Filesystem>(
    tree: &mut Tree<F>,
    dir: Id,
    count: usize,
    mut meanwhile: impl FnMut(&mut Tree<F>, &[Listed]),
) -> Vec<String> {
    let (mut cookie, mut names) = (0, Vec::new());
    loop {
        let entries = page(tree, dir, cookie, count);
        let Some(last) = entries.last() else { return names };
        cookie = last.cookie;
        meanwhile(tree, &entries);
        names.extend(entries.into_iter().map(|entry| entry.name));
        assert!(names.len() < 10_000, "a listing ends");
    }
}

fn files<F: Filesystem>(tree: &mut Tree<F>, names: impl Iterator<Item = String>) {
    for name in names {
        tree.file_with(&name, b"");
    }
}

/// E5.
pub fn an_empty_directory_ends<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    tree.mkdir("d");
    let dir = open(&mut tree, "d");
    let entries = page(&mut tree, dir, 0, 10);
    let [dot, dots] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((&*dot.name, &*dots.name), (".", ".."));
    assert_eq!((dot.qid, dots.qid), (tree.stat_of("d").qid, tree.stat_of("").qid));
    assert_eq!(dot.mode & mode::IFMT, mode::IFDIR);
    assert!(page(&mut tree, dir, dots.cookie, 10).is_empty());
    let root = open(&mut tree, "");
    let entries = page(&mut tree, root, 0, 2);
    assert!(entries.iter().all(|entry| entry.qid == tree.qid(root)), "the root is above itself");
    tree.end();
}

/// E6.
pub fn pages_that_end_on_an_entry_lose_nothing<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    let names: Vec<_> = (0..30).map(|n| format!("{n:02}")).collect();
    files(&mut tree, names.iter().cloned());
    let dir = open(&mut tree, "");
    for count in 1..=33 {
        let listed = listing(&mut tree, dir, count, |_, _| ());
        assert_eq!(listed[..2], [".", ".."], "pages of {count}");
        assert_eq!(listed[2..], names, "pages of {count}");
    }
    assert!(page(&mut tree, dir, 0, 0).is_empty());
    tree.end();
}

/// E4.
pub fn any_cookie_goes_on_behind_itself<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    files(&mut tree, (0..40).map(|n| n.to_string()));
    for n in (0..40).step_by(3) {
        tree.unlink(ROOT, &n.to_string(), false).expect("there");
    }
    let dir = open(&mut tree, "");
    let all = page(&mut tree, dir, 0, usize::MAX);
    // Those it gave, also earlier ones than the last; those of names that are gone; and any other number.
    let given: Vec<_> = all.iter().map(|entry| entry.cookie).collect();
    let mad = [1, 2, 3, 17, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, u64::MAX];
    for cookie in given.into_iter().rev().chain(0..100).chain(mad) {
        let behind: Vec<_> = all.iter().filter(|entry| entry.cookie > cookie).cloned().collect();
        assert_eq!(page(&mut tree, dir, cookie, usize::MAX), behind, "from {cookie}");
    }
    tree.end();
}

/// E3.
pub fn what_stays_is_listed_once_whatever_comes_and_goes<F: Filesystem>(make: MakeTree<F>) {
    for count in [1, 2, 3, 7, 50] {
        let mut tree = Tree::new(make);
        tree.mkdir("elsewhere");
        files(&mut tree, (0..100).map(|n| n.to_string()));
        let dir = open(&mut tree, "");
        let mut round = 0;
        let names = listing(&mut tree, dir, count, |tree, _| {
            // Multiples of 3 and 5 go, before they are reached or after; 5 come back as others; new ones come.
            for n in [round * 3 % 100, (round * 5 + 50) % 100].into_iter().filter(|n| n % 3 == 0 || n % 5 == 0) {
                if tree.exists(&n.to_string()) {
                    match n % 5 {
                        0 => tree.rename(ROOT, &n.to_string(), &format!("elsewhere/{n}")).expect("moves"),
                        _ => tree.unlink(ROOT, &n.to_string(), false).expect("there"),
                    }
                }
            }
            if round < 40 {
                tree.file_with(&format!("new {round}"), b"");
                if round % 4 == 0 {
                    tree.rename(ROOT, &format!("new {round}"), &format!("newer {round}")).expect("moves");
                }
            }
            round += 1;
        });
        for n in (0..100).filter(|n| n % 3 != 0 && n % 5 != 0) {
            let times = names.iter().filter(|name| **name == n.to_string()).count();
            assert_eq!(times, 1, "{n} stayed, pages of {count}");
        }
        let times = names.iter().filter(|name| *name == "elsewhere").count();
        assert_eq!(times, 1);
        tree.end();
    }
}

/// rename(2): what is replaced "remains visible"; a listing that missed it said that it was not there.
pub fn a_replaced_name_is_there_all_the_time<F: Filesystem>(make: MakeTree<F>) {
    for (at, from) in (0..6).flat_map(|at| ["0", "9", "elsewhere/x"].map(|from| (at, from))) {
        let mut tree = Tree::new(make);
        tree.mkdir("elsewhere");
        tree.file_with("elsewhere/x", b"new");
        files(&mut tree, (0..10).map(|n| n.to_string()));
        let dir = open(&mut tree, "");
        let mut pages = 0;
        let names = listing(&mut tree, dir, 3, |tree, _| {
            if pages == at {
                tree.rename(ROOT, from, "5").expect("replaces");
            }
            pages += 1;
        });
        let count = |name: &str| names.iter().filter(|listed| *listed == name).count();
        assert_eq!(count("5"), 1, "{from} replaced it behind page {at}");
        for stays in (1..9).map(|n| n.to_string()) {
            assert_eq!(count(&stays), 1, "{stays}");
        }
        assert!(tree.names("").contains(&"5".to_owned()));
        tree.end();
    }
}

/// Every renamed entry got a place at the end, so that there always was a next one.
pub fn who_renames_all_that_he_lists_comes_to_an_end<F: Filesystem>(make: MakeTree<F>) {
    let mut tree = Tree::new(make);
    files(&mut tree, (0..50).map(|n| n.to_string()));
    let dir = open(&mut tree, "");
    let mut by_wstat = false;
    let names = listing(&mut tree, dir, 4, |tree, entries| {
        for entry in entries.iter().filter(|entry| !entry.name.starts_with('.')) {
            let new = format!("{}+", entry.name);
            by_wstat = !by_wstat;
            if by_wstat {
                let name = ring9::fs::Change { name: Some(new.as_bytes()), ..super::tree::NONE };
                tree.change(ROOT, &entry.name, &name).expect("a free name");
            } else {
                tree.rename(ROOT, &entry.name, &new).expect("moves");
            }
        }
    });
    assert_eq!(names.len(), 52);
    assert!(tree.names("").iter().all(|name| name.ends_with('+')));
    tree.end();
}

/// E3: names that were made behind the reader were listed as well, each the cause of the next (`for f in *; cp f f.bak`, played by readdir(3)).
pub fn a_reader_that_makes_a_name_for_each_entry_comes_to_an_end<F: Filesystem>(make: MakeTree<F>) {
    type Makes<F> = fn(&mut Tree<F>, &str);
    let ways: [Makes<F>; 4] = [
        |tree, name| tree.file_with(&format!("{name}+"), b""),
        |tree, name| tree.link(ROOT, name, &format!("{name}+")).expect("a free name"),
        |tree, name| {
            tree.file_with(&format!("elsewhere/{name}"), b"");
            tree.rename(ROOT, &format!("elsewhere/{name}"), &format!("{name}+")).expect("moves");
        },
        // The last name goes each time, so that its cookie could be given again.
        |tree, name| {
            tree.unlink(ROOT, name, false).expect("just listed");
            tree.file_with(name, b"");
        },
    ];
    for (way, makes) in ways.into_iter().enumerate() {
        for count in [1, 2, 5, 100] {
            let mut tree = Tree::new(make);
            tree.mkdir("elsewhere");
            files(&mut tree, (0..5).map(|n| n.to_string()));
            let dir = open(&mut tree, "");
            let names = listing(&mut tree, dir, count, |tree, entries| {
                for entry in entries.iter().filter(|entry| entry.mode & mode::IFMT == mode::IFREG) {
                    makes(tree, &entry.name);
                }
            });
            assert_eq!(names, [".", "..", "elsewhere", "0", "1", "2", "3", "4"], "way {way}");
            // From the start again, all of them are there.
            let all = listing(&mut tree, dir, count, |_, _| ());
            assert_eq!(all.len(), 2 + tree.names("").len(), "way {way}");
            // What was there at the open bounds a listing that does not begin at the start, too.
            let dir = open(&mut tree, "");
            let last = page(&mut tree, dir, 2, usize::MAX).last().expect("not empty").cookie;
            let name = all.last().expect("not empty");
            makes(&mut tree, name);
            assert!(page(&mut tree, dir, last, usize::MAX).is_empty(), "way {way}");
            tree.end();
        }
    }
}

/// E2: were a page or a name to cost as much as the directory is long, this would not end today. A million names where the tests are optimised.
pub fn a_page_costs_the_same_in_a_large_directory<F: Filesystem>(make: MakeTree<F>) {
    const NAMES: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let mut tree = Tree::with(make, &Limits { files: NAMES + 10, ..Limits::default() });
    tree.mkdir("d");
    tree.file_with("f", b"");
    let (dir, f) = (open(&mut tree, "d"), tree.walk(ROOT, "f").expect("there"));
    for n in 0..NAMES {
        tree.link_in(dir, &n.to_string(), f).expect("room");
    }
    assert_eq!(tree.stat(f).nlink, NAMES as u64 + 1);
    let (mut cookie, mut seen) = (0, 0);
    loop {
        let entries = page(&mut tree, dir, cookie, 25);
        let Some(last) = entries.last() else { break };
        (cookie, seen) = (last.cookie, seen + entries.len());
        if seen.is_multiple_of(1000) {
            assert_eq!(tree.lookup(dir, &last.name).map(|id| tree.close(id)), Ok(()));
        }
    }
    assert_eq!(seen, NAMES + 2);
    for n in 0..NAMES {
        tree.unlink_in(dir, &n.to_string(), false).expect("there");
    }
    assert_eq!(page(&mut tree, dir, 0, 10).len(), 2);
    tree.end();
}
