//! Who may do what, and what opening means.

use super::*;

fn change(mem: &mut Mem, user: User, path: &str, change: &Change<'_>) -> Result<()> {
    let mut file = walk(mem, user, path).expect("there");
    let result = mem.wstat(&mut file, change, at(20));
    mem.close(file, at(20)).expect("nothing to do");
    result
}

fn mode_of(mem: &mut Mem, path: &str) -> u32 {
    let file = walk(mem, ROOT_USER, path).expect("there");
    let mode = mem.stat(&file).expect("there").mode & mode::PERM;
    mem.close(file, at(20)).expect("nothing to do");
    mode
}

fn set_mode(mem: &mut Mem, path: &str, mode: u32) {
    change(mem, ROOT_USER, path, &Change { mode: Some(mode), ..Change::default() }).expect("root may");
}

/// Whether these users may open `f`, of user 1, with these flags.
fn may(mem: &mut Mem, uid: u32, flags: Open) -> bool {
    match open(mem, user(uid), "f", flags) {
        Ok(file) => mem.close(file, at(3)).is_ok(),
        Err(error) => {
            assert_eq!(error, Error::EACCES);
            false
        }
    }
}

#[test]
fn the_owner_has_his_bits_and_everyone_else_those_of_group_or_others() {
    let mut mem = small_tree();
    let file = create_as(&mut mem, user(1), b"f", READ_WRITE, 0o644).expect("anyone may");
    mem.close(file, at(3)).expect("nothing to do");
    let write = Open { write: true, ..Open::default() };
    let exec = Open { exec: true, ..Open::default() };
    let truncate = Open { read: true, truncate: true, ..Open::default() };
    for (mode, uid, [reads, writes, execs]) in [
        (0o644, 1, [true, true, false]),
        (0o644, 2, [true, false, false]),
        (0o077, 1, [false, false, false]),
        (0o020, 2, [false, true, false]),
        (0o042, 2, [true, true, false]),
        (0o010, 2, [false, false, true]),
        (0o000, 0, [true, true, false]),
        (0o001, 0, [true, true, true]),
    ] {
        set_mode(&mut mem, "f", mode);
        let got = [READ, write, exec].map(|flags| may(&mut mem, uid, flags));
        assert_eq!(got, [reads, writes, execs], "uid {uid}, mode {mode:o}");
        assert_eq!(may(&mut mem, uid, truncate), reads && writes, "truncating is writing");
    }
}

/// A tree in which user 1 is in the groups 10 and 20, user 2 in 20, and user 3 in none.
fn strict_tree() -> Mem {
    let groups = [(1, 10), (1, 20), (2, 20)].into_iter().collect();
    tree_with(1 << 20, Options { root: (0, 0, 0o777), groups: Some(groups), ..Options::default() })
}

#[test]
fn with_a_table_group_bits_are_the_members_alone() {
    let mut mem = strict_tree();
    let file = create_as(&mut mem, user(1), b"f", READ_WRITE, 0o640).expect("anyone may");
    mem.close(file, at(3)).expect("nothing to do");
    change(&mut mem, user(1), "f", &Change { gid: Some(20), ..Change::default() }).expect("a member");
    let write = Open { write: true, ..Open::default() };
    for (mode, uid, [reads, writes]) in [
        (0o640, 2, [true, false]),
        (0o640, 3, [false, false]),
        (0o604, 2, [false, false]),
        (0o604, 3, [true, false]),
        (0o062, 2, [true, true]),
        (0o062, 3, [false, true]),
        (0o077, 1, [false, false]),
        (0o000, 0, [true, true]),
    ] {
        set_mode(&mut mem, "f", mode);
        assert_eq!([READ, write].map(|flags| may(&mut mem, uid, flags)), [reads, writes], "uid {uid}, mode {mode:o}");
    }
}

#[test]
fn with_a_table_files_are_given_to_groups_of_the_giver_alone() {
    let mut mem = strict_tree();
    let to = |gid| Change { gid: Some(gid), ..Change::default() };
    let file = create_as(&mut mem, user(1), b"f", READ_WRITE, 0o6755).expect("anyone may");
    assert_eq!(mode_of(&mut mem, "f"), 0o4755, "the directory's group is not his");
    mem.close(file, at(3)).expect("nothing to do");
    for (uid, gid, answer) in [(1, 30, Err(Error::EPERM)), (2, 20, Err(Error::EPERM)), (1, 0, Ok(())), (1, 20, Ok(()))]
    {
        assert_eq!(change(&mut mem, user(uid), "f", &to(gid)), answer, "uid {uid}, group {gid}");
    }
    let set_id = |mode| Change { mode: Some(mode), ..Change::default() };
    change(&mut mem, user(1), "f", &set_id(0o2755)).expect("the owner");
    assert_eq!(mode_of(&mut mem, "f"), 0o2755, "a member");
    change(&mut mem, ROOT_USER, "f", &to(30)).expect("root may");
    change(&mut mem, user(1), "f", &set_id(0o2755)).expect("the owner");
    assert_eq!(mode_of(&mut mem, "f"), 0o755, "chmod(2): not his group, no set-gid");
    let dir = root(&mut mem, user(1));
    assert_eq!(mem.make(&dir, b"x", Make::File, 0o644, Some(30), at(3)), Err(Error::EPERM));
    mem.make(&dir, b"x", Make::File, 0o2755, Some(10), at(3)).expect("a member");
    assert_eq!(mode_of(&mut mem, "x"), 0o2755);
    mem.close(dir, at(3)).expect("nothing to do");
}

#[test]
fn an_open_file_keeps_what_it_was_opened_for() {
    let mut mem = small_tree();
    let mut file = create_as(&mut mem, user(1), b"f", READ_WRITE, 0o000).expect("the mode is for later opens");
    write(&mut mem, &mut file, 0, b"x").expect("open for writing");
    resize(&mut mem, &mut file, 10).expect("open for writing");
    assert_eq!(open(&mut mem, user(1), "f", READ).map(|_| ()), Err(Error::EACCES));
}

#[test]
fn directories_want_search_to_pass_and_write_to_change() {
    let mut mem = small_tree();
    make(&mut mem, "", b"d", Make::Dir, 0o700);
    make(&mut mem, "d", b"f", Make::File, 0o666);
    assert_eq!(walk(&mut mem, user(1), "d/f").map(|_| ()), Err(Error::EACCES));
    set_mode(&mut mem, "d", 0o711);
    let mut dir = walk(&mut mem, user(1), "d").expect("anyone may pass");
    let mut file = walk(&mut mem, user(1), "d/f").expect("anyone may pass");
    assert_eq!(mem.open(&mut dir, READ, at(3)), Err(Error::EACCES));
    assert_eq!(mem.create(&mut dir, b"x", READ, 0o644, 0, None, at(3)), Err(Error::EACCES));
    assert_eq!(mem.make(&dir, b"x", Make::Fifo, 0o644, None, at(3)), Err(Error::EACCES));
    assert_eq!(mem.link(&dir, b"x", &file, at(3)), Err(Error::EACCES));
    assert_eq!(mem.unlink(&dir, b"f", false, at(3)), Err(Error::EACCES));
    assert_eq!(mem.rename(&dir, b"f", &dir, b"x", at(3)), Err(Error::EACCES));
    assert_eq!(mem.remove(&mut file, at(3)), Err(Error::EACCES));
    let on_close = Open { remove_on_close: true, ..READ };
    assert_eq!(mem.open(&mut file, on_close, at(3)), Err(Error::EACCES), "checked at open");
    let renamed = Change { name: Some(b"x"), ..Change::default() };
    assert_eq!(mem.wstat(&mut file, &renamed, at(3)), Err(Error::EACCES));
    assert_eq!(mem.lookup(&file, b"x").map(|_| ()), Err(Error::ENOTDIR));
}

#[test]
fn in_a_sticky_directory_names_belong_to_their_owners() {
    let mut mem = small_tree();
    set_mode(&mut mem, "", 0o1777);
    let mut file = create_as(&mut mem, user(1), b"f", READ, 0o666).expect("anyone may");
    let other = create_as(&mut mem, user(2), b"other", READ, 0o666).expect("anyone may");
    let dir = root(&mut mem, user(2));
    assert_eq!(mem.unlink(&dir, b"f", false, at(3)), Err(Error::EPERM));
    assert_eq!(mem.rename(&dir, b"f", &dir, b"x", at(3)), Err(Error::EPERM));
    assert_eq!(mem.rename(&dir, b"other", &dir, b"f", at(3)), Err(Error::EPERM), "it would replace");
    mem.remove(&mut file, at(3)).expect("the owner may");
    mem.close(other, at(3)).expect("nothing to do");
    let dir = root(&mut mem, ROOT_USER);
    mem.unlink(&dir, b"other", false, at(3)).expect("root may");
}

#[test]
fn attributes_belong_to_the_owner_and_owners_to_root() {
    let mut mem = small_tree();
    let file = create_as(&mut mem, user(1), b"f", READ, 0o644).expect("anyone may");
    mem.close(file, at(3)).expect("nothing to do");
    let none = Change::default();
    let to = Some(SetTime::To(Time { sec: 5, nsec: 6 }));
    for (uid, asked, answer) in [
        (2, Change { mode: Some(0o600), ..none }, Err(Error::EPERM)),
        (2, Change { bits: Some(qt::APPEND), ..none }, Err(Error::EPERM)),
        (2, Change { mtime: to, ..none }, Err(Error::EPERM)),
        (2, Change { mtime: Some(SetTime::Now), ..none }, Err(Error::EACCES)),
        (2, Change { size: Some(0), ..none }, Err(Error::EACCES)),
        (2, Change { gid: Some(2), ..none }, Err(Error::EPERM)),
        (1, Change { uid: Some(2), ..none }, Err(Error::EPERM)),
        (1, Change { mode: Some(0o666), uid: Some(2), ..none }, Err(Error::EPERM)),
        (2, Change { touch_ctime: true, ..none }, Ok(())),
        (1, Change { uid: Some(1), gid: Some(7), mode: Some(0o622), mtime: to, ..none }, Ok(())),
        (2, Change { mtime: Some(SetTime::Now), size: Some(9), ..none }, Ok(())),
        (0, Change { uid: Some(3), ..none }, Ok(())),
    ] {
        let before = walk(&mut mem, ROOT_USER, "f").expect("there");
        let (mode, gid) = (mem.stat(&before).expect("there").mode, mem.stat(&before).expect("there").gid);
        assert_eq!(change(&mut mem, user(uid), "f", &asked), answer, "uid {uid}: {asked:?}");
        let stat = mem.stat(&before).expect("there");
        if answer.is_err() {
            assert_eq!((stat.mode, stat.gid, stat.ctime.sec), (mode, gid, 2), "all or nothing");
        } else {
            assert_eq!(stat.ctime.sec, 20);
            mem.nodes[before.node].ctime = at(2).wall;
        }
        mem.close(before, at(3)).expect("nothing to do");
    }
    let file = walk(&mut mem, ROOT_USER, "f").expect("there");
    let stat = mem.stat(&file).expect("there");
    assert_eq!((stat.uid, stat.gid, stat.muid, stat.size, stat.mtime.sec), (3, 7, 2, 9, 20));
}

#[test]
fn set_id_bits_go_when_content_or_owner_change() {
    let mut mem = small_tree();
    let mut file = create_as(&mut mem, user(1), b"f", READ_WRITE, 0o755).expect("anyone may");
    for (before, after) in [(0o6755, 0o755), (0o6745, 0o2745), (0o4700, 0o700)] {
        set_mode(&mut mem, "f", before);
        write(&mut mem, &mut file, 0, b"x").expect("room");
        assert_eq!(mode_of(&mut mem, "f"), after, "a write");
        set_mode(&mut mem, "f", before);
        resize(&mut mem, &mut file, 0).expect("shrinking");
        assert_eq!(mode_of(&mut mem, "f"), after, "a truncation");
        set_mode(&mut mem, "f", before);
        let grant = landed(&mut mem, &mut file, 0, b"x").expect("room");
        commit(&mut mem, &mut file, grant);
        assert_eq!(mode_of(&mut mem, "f"), after, "a landing");
        set_mode(&mut mem, "f", before);
        let mut by_root = open(&mut mem, ROOT_USER, "f", READ_WRITE).expect("root may");
        write(&mut mem, &mut by_root, 0, b"x").expect("room");
        mem.close(by_root, at(3)).expect("nothing to do");
        assert_eq!(mode_of(&mut mem, "f"), before, "root's writes");
        change(&mut mem, ROOT_USER, "f", &Change { uid: Some(1), ..Change::default() }).expect("root may");
        assert_eq!(mode_of(&mut mem, "f"), before, "the owner that it has");
        change(&mut mem, ROOT_USER, "f", &Change { uid: Some(2), ..Change::default() }).expect("root may");
        assert_eq!(mode_of(&mut mem, "f"), after, "a change of owner, by anyone");
        change(&mut mem, ROOT_USER, "f", &Change { uid: Some(1), ..Change::default() }).expect("root may");
    }
}

#[test]
fn an_exclusive_file_is_open_once_at_a_time() {
    let mut mem = small_tree();
    let mut file = root(&mut mem, ROOT_USER);
    mem.create(&mut file, b"f", READ_WRITE, 0o666, qt::EXCL, None, at(3)).expect("a new name");
    assert_eq!(mem.attr(&file).kind, qt::EXCL);
    assert_eq!(open(&mut mem, ROOT_USER, "f", READ).map(|_| ()), Err(Error::EBUSY));
    mem.close(file, at(3)).expect("nothing to do");
    let file = open(&mut mem, ROOT_USER, "f", READ).expect("free again");
    let walked = walk(&mut mem, ROOT_USER, "f").expect("walking is no opening");
    mem.close(walked, at(3)).expect("nothing to do");
    assert_eq!(open(&mut mem, ROOT_USER, "f", READ).map(|_| ()), Err(Error::EBUSY));
    mem.close(file, at(3)).expect("nothing to do");
}

#[test]
fn a_file_stayed_taken_once_it_lost_and_regained_exclusive_use() {
    // Whether it was taken was noted at the open and cleared at the close, each only if the bit was set just then.
    let mut mem = small_tree();
    let exclusive = |bits| Change { bits: Some(bits), ..Change::default() };
    let file = create(&mut mem, b"f", READ);
    change(&mut mem, ROOT_USER, "f", &exclusive(qt::EXCL)).expect("root may");
    assert_eq!(open(&mut mem, ROOT_USER, "f", READ).map(|_| ()), Err(Error::EBUSY), "open since before");
    change(&mut mem, ROOT_USER, "f", &exclusive(0)).expect("root may");
    mem.close(file, at(3)).expect("nothing to do");
    change(&mut mem, ROOT_USER, "f", &exclusive(qt::EXCL)).expect("root may");
    let file = open(&mut mem, ROOT_USER, "f", READ).expect("nobody has it open");
    mem.close(file, at(3)).expect("nothing to do");
}

#[test]
fn an_append_only_file_ignores_offsets_and_truncating_opens() {
    let mut mem = small_tree();
    let mut file = root(&mut mem, ROOT_USER);
    mem.create(&mut file, b"f", READ_WRITE, 0o666, qt::APPEND | qt::DIR, None, at(3)).expect("a new name");
    assert_eq!(mem.attr(&file).kind, qt::APPEND, "other bits are not the client's to set");
    write(&mut mem, &mut file, 0, b"one").expect("room");
    write(&mut mem, &mut file, 0, b"two").expect("room");
    let again = open(&mut mem, ROOT_USER, "f", Open { truncate: true, ..READ_WRITE }).expect("ignored");
    mem.close(again, at(3)).expect("nothing to do");
    assert_eq!(content(&mut mem, &mut file), b"onetwo");
}

#[test]
fn remove_on_close_acts_once_and_by_the_name_of_then() {
    let mut mem = small_tree();
    let on_close = Open { remove_on_close: true, ..READ_WRITE };
    let file = create(&mut mem, b"f", on_close);
    let dir = root(&mut mem, ROOT_USER);
    mem.rename(&dir, b"f", &dir, b"g", at(3)).expect("moves");
    let other = create(&mut mem, b"f", READ);
    mem.close(file, at(3)).expect("removes");
    assert_eq!(list(&mut mem, ""), [".", "..", "f"], "the file, not what has its old name");
    mem.close(other, at(3)).expect("nothing to do");
    let mut fresh = root(&mut mem, ROOT_USER);
    let made = mem.create(&mut fresh, b"d", on_close, mode::IFDIR | 0o755, 0, None, at(3));
    assert_eq!(made, Err(Error::EISDIR), "open(9P): no such directories; its entries would be orphans");
    assert_eq!(mem.open(&mut fresh, on_close, at(3)), Err(Error::EBUSY), "the root has no name to remove");
    make(&mut mem, "", b"d", Make::Dir, 0o755);
    assert_eq!(open(&mut mem, ROOT_USER, "d", on_close).map(|_| ()), Err(Error::EISDIR));
}

#[test]
fn directories_change_with_their_entries() {
    let mut mem = small_tree();
    let dir = root(&mut mem, ROOT_USER);
    let before = mem.attr(&dir).version;
    let file = create_as(&mut mem, user(4), b"f", READ, 0o644).expect("anyone may");
    let stat = mem.stat(&dir).expect("there");
    assert_eq!((stat.mtime.sec, stat.ctime.sec, stat.muid, stat.name), (2, 2, 4, &b"/"[..]));
    assert_ne!(stat.qid.version, before);
    let made = mem.stat(&file).expect("there");
    assert_eq!((made.uid, made.gid, made.btime.sec, made.nlink), (4, 0, 2, 1), "the group is the directory's");
    let removed = mem.unlink(&dir, b"f", false, at(50));
    assert_eq!(removed, Ok(()));
    assert_eq!(mem.stat(&dir).expect("there").mtime.sec, 50);
    let unlinked = mem.stat(&file).expect("held");
    assert_eq!((unlinked.ctime.sec, unlinked.nlink), (50, 0));
}
