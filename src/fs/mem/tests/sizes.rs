//! Sizes: holes, limits, and how much memory files take.

use super::*;
use crate::fs::iovec::Part;

fn used(mem: &Mem) -> usize {
    mem.arena().gauge().used_bytes()
}

#[test]
fn holes_cost_nothing_and_read_as_zeros() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    write(&mut mem, &mut file, 1 << 62, b"far").expect("one page");
    assert_eq!(used(&mem), PAGE_BYTES);
    resize(&mut mem, &mut file, SIZE_MAX).expect("nothing but a number");
    assert_eq!(used(&mem), PAGE_BYTES);
    let hole = views(&mut mem, &mut file, 12_345, 1 << 20);
    assert!(hole.len() == 1 << 20 && hole.to_vec().iter().all(|&byte| byte == 0));
    assert_eq!(mem.arena().gauge().pins(), 0, "zeros pin nothing");
    assert_eq!(views(&mut mem, &mut file, (1 << 62) - 2, 7).to_vec(), b"\0\0far\0\0");
    assert_eq!(views(&mut mem, &mut file, SIZE_MAX, 100).len(), 0);
    assert_eq!(views(&mut mem, &mut file, u64::MAX, 100).len(), 0);
    resize(&mut mem, &mut file, 0).expect("shrinking");
    assert_eq!(used(&mem), 0);
    assert_eq!(mem.stat(&file).expect("there").blocks, 0);
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn no_file_is_larger_than_an_off_t() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    let before = mem.attr(&file);
    for offset in [SIZE_MAX, SIZE_MAX - 4, u64::MAX, u64::MAX - 2] {
        assert_eq!(write(&mut mem, &mut file, offset, b"12345"), Err(Error::EFBIG));
        assert_eq!(mem.grant(&mut file, offset, 5, at(3)).map(|_| ()), Err(Error::EFBIG));
    }
    assert_eq!(resize(&mut mem, &mut file, SIZE_MAX + 1), Err(Error::EFBIG));
    assert_eq!(mem.attr(&file), before);
    let mut append = open(&mut mem, ROOT_USER, "f", APPEND).expect("there");
    let grant = landed(&mut mem, &mut append, 0, b"12345").expect("room");
    resize(&mut mem, &mut file, SIZE_MAX - 2).expect("nothing but a number");
    assert_eq!(mem.commit(&mut append, grant, at(3)), Err(Error::EFBIG), "where the end is, is decided at the commit");
    assert_eq!(write(&mut mem, &mut file, SIZE_MAX - 5, b"12345"), Ok(5));
}

#[test]
fn shrinking_and_growing_never_shows_old_bytes() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    for (len, cut) in [(100, 30), (5000, 4999), (BLOCK, 1), (2 * BLOCK + 9, BLOCK), (2 * BLOCK + 9, BLOCK + 7)] {
        for grow in 0..3 {
            resize(&mut mem, &mut file, 0).expect("shrinking");
            write(&mut mem, &mut file, 0, &vec![b's'; len]).expect("room");
            resize(&mut mem, &mut file, cut as u64).expect("shrinking");
            let end = len as u64;
            match grow {
                0 => resize(&mut mem, &mut file, end + 1).expect("room"),
                1 => drop(write(&mut mem, &mut file, end, b"\0").expect("room")),
                _ => {
                    let grant = landed(&mut mem, &mut file, end, b"\0").expect("room");
                    commit(&mut mem, &mut file, grant);
                }
            }
            let mut now = vec![b's'; cut];
            now.resize(len + 1, 0);
            assert!(content(&mut mem, &mut file) == now, "{len} cut to {cut}, way {grow}");
        }
    }
}

#[test]
fn a_growing_file_is_copied_less_than_once() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", APPEND);
    for _ in 0..2000 {
        write(&mut mem, &mut file, 0, &[1; 100]).expect("room");
    }
    let gauge = mem.arena().gauge();
    assert!(
        gauge.grown_bytes() <= 200_000 && gauge.grown_bytes() < 1000,
        "100 bytes, then 128: {}",
        gauge.grown_bytes()
    );
    assert_eq!(gauge.merged_bytes() + gauge.pinned_bytes(), 0);
    assert_eq!(used(&mem), 4 * BLOCK);
}

#[test]
fn small_files_take_small_blocks() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    for (len, takes) in [(1, 64), (64, 64), (65, 128), (4096, 4096), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK)] {
        resize(&mut mem, &mut file, 0).expect("shrinking");
        write(&mut mem, &mut file, 0, &vec![1; len]).expect("room");
        assert_eq!(used(&mem), takes);
        assert_eq!(mem.stat(&file).expect("there").blocks, takes.div_ceil(512) as u64);
        resize(&mut mem, &mut file, 0).expect("shrinking");
        let grant = landed(&mut mem, &mut file, 0, &vec![1; len]).expect("room");
        commit(&mut mem, &mut file, grant);
        assert_eq!(used(&mem), takes, "a landing of {len} bytes");
    }
}

#[test]
fn a_steady_stream_of_landings_copies_nothing() {
    // 100,000 bytes at a time, so that every second one starts in the middle of a block; then the same over what is there.
    let mut mem = tree_of(4 << 20);
    let mut file = create(&mut mem, b"f", READ_WRITE);
    for i in 0..20 {
        let grant = landed(&mut mem, &mut file, i * 100_000, &[i as u8; 100_000]).expect("room");
        commit(&mut mem, &mut file, grant);
    }
    let gauge = mem.arena().gauge();
    assert_eq!((gauge.written_bytes(), gauge.grown_bytes(), gauge.merged_bytes() + gauge.pinned_bytes()), (0, 0, 0));
    for i in 0..30 {
        let offset = i * BLOCK as u64;
        let grant = landed(&mut mem, &mut file, offset, &[7; BLOCK]).expect("room");
        commit(&mut mem, &mut file, grant);
    }
    assert_eq!((gauge.written_bytes(), gauge.grown_bytes(), gauge.merged_bytes() + gauge.pinned_bytes()), (0, 0, 0));
    assert!(content(&mut mem, &mut file)[..30 * BLOCK].iter().all(|&byte| byte == 7));
}

#[test]
fn large_reads_are_views_of_the_blocks_themselves() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    write(&mut mem, &mut file, 0, &vec![1; 3 * BLOCK]).expect("room");
    let iovec = views(&mut mem, &mut file, 1000, 2 * BLOCK as u32);
    assert_eq!(iovec.parts().len(), 3);
    assert!(iovec.parts().iter().all(|part| matches!(part, Part::Slice(_))));
    assert_eq!(mem.arena().gauge().pins(), 3);
    drop(iovec);
    assert_eq!(mem.arena().gauge().pins(), 0);
}

#[test]
fn without_memory_nothing_changes_and_removing_helps() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    write(&mut mem, &mut file, 0, &vec![1; 14 * BLOCK]).expect("exactly all blocks");
    let dir = root(&mut mem, ROOT_USER);
    let free = mem.statfs(&dir).expect("known").bfree;
    assert_eq!(free, 0);
    let mut other = create(&mut mem, b"g", READ_WRITE);
    let before = (mem.attr(&other), mem.attr(&file));
    assert_eq!(write(&mut mem, &mut other, 0, b"x"), Err(Error::ENOSPC));
    let reply = views(&mut mem, &mut file, 0, 100);
    assert_eq!(write(&mut mem, &mut file, 50, b"x"), Err(Error::ENOSPC), "it would need a copy");
    assert_eq!(mem.grant(&mut file, 0, 100, at(3)).map(|_| ()), Err(Error::ENOSPC));
    assert_eq!((mem.attr(&other), mem.attr(&file)), before);
    drop(reply);
    write(&mut mem, &mut file, 50, b"x").expect("in place");
    mem.remove(&mut file, at(3)).expect("removing needs nothing");
    mem.close(file, at(3)).expect("nothing to do");
    write(&mut mem, &mut other, 0, b"x").expect("room again");
}

#[test]
fn memory_that_replies_alone_held_is_free_after_ready() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"f", READ_WRITE);
    write(&mut mem, &mut file, 0, &vec![1; 2 * BLOCK]).expect("room");
    let reply = views(&mut mem, &mut file, 0, u32::MAX);
    resize(&mut mem, &mut file, 0).expect("shrinking");
    assert_eq!(used(&mem), 2 * BLOCK, "charged until the reply has gone");
    drop(reply);
    mem.work();
    assert_eq!(used(&mem), 0);
}

/// A file that goes frees a part of its blocks at once, and the rest turn by turn; whoever needs memory has it nevertheless.
#[test]
fn what_a_large_file_lets_go_of_is_free_before_it_is_freed() {
    for cut in [true, false] {
        let mut mem = tree_of(32 << 20);
        let mut file = create(&mut mem, b"big", READ_WRITE);
        let free = mem.free_bytes();
        let unit = [b'x'; BLOCK];
        let blocks = (0..).take_while(|&n| write(&mut mem, &mut file, n << 16, &unit).is_ok()).count();
        assert!(blocks > 4 * waste::TURN_MAX / 2 && mem.free_bytes() == 0, "{blocks} blocks");
        if cut {
            resize(&mut mem, &mut file, 1).expect("shrinking");
        }
        mem.close(file, at(3)).expect("nothing to do");
        let dir = root(&mut mem, ROOT_USER);
        mem.unlink(&dir, b"big", false, at(3)).expect("there");
        let waits = blocks - waste::AT_ONCE - usize::from(cut);
        assert_eq!((used(&mem), mem.free_bytes(), mem.has_work()), (waits * BLOCK, free, true));
        assert_eq!(mem.statfs(&dir).expect("a tree").bfree * UNIT_BYTES, free as u64);
        assert!(mem.spent() >= (waste::AT_ONCE / waste::PER_UNIT) as u32);
        mem.work();
        assert_eq!((used(&mem), mem.free_bytes()), ((waits - waste::TURN_MAX) * BLOCK, free));
        assert_eq!(mem.spent(), 0, "no request has done it");
        // All of it is needed again.
        let mut other = create(&mut mem, b"other", READ_WRITE);
        for n in 0..blocks as u64 {
            write(&mut mem, &mut other, n << 16, &unit).expect("what waits is released first");
        }
        assert!(!mem.has_work());
        mem.close(other, at(3)).expect("nothing to do");
        mem.close(dir, at(3)).expect("nothing to do");
        nothing_left(mem);
    }
}

/// Attributes that wait take memory like those that are there: two go for each inode that comes.
#[test]
fn attributes_that_wait_make_room_for_inodes() {
    const ATTRS: usize = 400;
    let mut mem = tree_with(16 << 20, Options { inodes_max: ATTRS + 2, ..Options::default() });
    let file = create(&mut mem, b"f", READ_WRITE);
    for n in 0..ATTRS {
        let name = format!("user.{n}");
        mem.set_xattr(&file, name.as_bytes(), Some(b"value"), SetXattr::Any, at(3)).expect("room");
    }
    mem.close(file, at(3)).expect("nothing to do");
    let dir = root(&mut mem, ROOT_USER);
    let blocks = used(&mem);
    mem.unlink(&dir, b"f", false, at(3)).expect("there");
    assert_eq!((used(&mem), mem.statfs(&dir).expect("a tree").ffree), (blocks, ATTRS as u64 + 1));
    assert_eq!(mem.free_bytes(), mem.arena().usable_bytes());
    for n in 0..=ATTRS {
        assert!(mem.nodes.len() + used(&mem) / 64 <= ATTRS + 2, "{n} files made, and {} bytes wait", used(&mem));
        make(&mut mem, "", format!("{n}").as_bytes(), Make::File, 0o644);
    }
    assert!(!mem.has_work());
    assert_eq!(mem.free_bytes(), mem.arena().usable_bytes(), "nothing waits any more");
    assert_eq!(mem.make(&dir, b"more", Make::File, 0o644, None, at(3)), Err(Error::ENOSPC));
    mem.close(dir, at(3)).expect("nothing to do");
    nothing_left(mem);
}

/// In debug builds each change of an attribute looks whether sums and lists are those of what is there.
#[test]
fn the_last_attribute_leaves_nothing() {
    let mut mem = small_tree();
    let file = create(&mut mem, b"f", READ_WRITE);
    let free = (mem.inodes_free(), mem.free_bytes());
    for names in [&[&b"user.a"[..], b"user.b"][..], &[b"user.b", b"user.a"]] {
        for name in [&b"user.a"[..], b"user.b"] {
            mem.set_xattr(&file, name, Some(b"value"), SetXattr::Any, at(3)).expect("room");
        }
        for name in names {
            mem.set_xattr(&file, name, None, SetXattr::Replace, at(3)).expect("it is there");
        }
        assert_eq!((mem.inodes_free(), mem.free_bytes()), free);
    }
    mem.close(file, at(3)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn the_count_of_files_is_limited_and_shown() {
    let mut mem = small_tree();
    for i in 0..99 {
        make(&mut mem, "", format!("{i}").as_bytes(), Make::File, 0o644);
    }
    let dir = root(&mut mem, ROOT_USER);
    let before = mem.attr(&dir);
    let result = mem.make(&dir, b"more", Make::Dir, 0o755, None, at(3));
    assert_eq!((result, mem.attr(&dir)), (Err(Error::ENOSPC), before));
    let stat = mem.statfs(&dir).expect("known");
    assert_eq!((stat.files, stat.ffree), (100, 0));
    mem.unlink(&dir, b"5", false, at(3)).expect("there");
    assert_eq!(mem.statfs(&dir).expect("known").ffree, 1);
    mem.make(&dir, b"more", Make::Dir, 0o755, None, at(3)).expect("room again");
}

#[test]
fn cleanup_releases_everything_even_under_files_that_are_held() {
    let mut mem = small_tree();
    make(&mut mem, "", b"d", Make::Dir, 0o755);
    let mut file = create(&mut mem, b"f", READ_WRITE);
    write(&mut mem, &mut file, 0, &[1; 5000]).expect("room");
    let dir = walk(&mut mem, ROOT_USER, "d").expect("there");
    mem.cleanup().expect("memory is always released");
    assert_eq!(used(&mem), 0);
    assert_eq!(content(&mut mem, &mut file), b"");
    assert_eq!(mem.stat(&file).expect("held").nlink, 0);
    mem.close(file, at(3)).expect("nothing to do");
    mem.close(dir, at(3)).expect("nothing to do");
    assert_eq!(list(&mut mem, ""), [".", ".."]);
    nothing_left(mem);
}

/// Many who claim much and send nothing leave room for who does send.
#[test]
fn grants_beyond_an_eighth_of_the_memory_come_block_by_block() {
    const COUNT: u32 = 512 << 10;
    let mut mem = tree_of(8 << 20);
    let total = mem.arena().gauge().total_bytes();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    let mut claims = Vec::new();
    for n in 0..20 {
        claims
            .push(mem.grant(&mut file, n * u64::from(COUNT), COUNT, at(5)).expect("room").expect("memory to land in"));
    }
    let whole = claims.iter().filter(|grant| grant.missing() == 0).count();
    assert!((1..=2).contains(&whole), "{whole} claims are whole");
    assert!(mem.arena().gauge().granted_bytes() <= total / 8 + 20 * BLOCK_BYTES_MAX + 5 * BLOCK_BYTES_MAX);
    let data: Vec<u8> = (0..COUNT).map(|n| (n % 251) as u8).collect();
    let mut other = create(&mut mem, b"other", READ_WRITE);
    let grant = landed(&mut mem, &mut other, 3, &data).expect("room for an honest writer");
    assert_eq!(commit(&mut mem, &mut other, grant), COUNT);
    assert_eq!(content(&mut mem, &mut other)[3..], data);
    drop(claims);
    mem.work();
    assert_eq!(mem.arena().gauge().granted_bytes(), 0);
    assert_eq!(mem.stat(&file).expect("a file").size, 0, "abandoned claims change nothing");
    for file in [file, other] {
        mem.close(file, at(9)).expect("nothing to do");
    }
    nothing_left(mem);
}
