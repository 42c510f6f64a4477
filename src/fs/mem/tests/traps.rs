//! Ways in which zero-copy can go wrong: replies that change, writes that are undone, stale bytes
//! that are shown. One test each, named after the fault.

use super::*;

/// A sum over the bytes, as a disk or a network card would make one while the operation is in flight.
fn checksum(iovec: &Iovec) -> u64 {
    iovec
        .to_vec()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn a_reply_was_torn_by_an_append_behind_a_truncation() {
    // A reply held the bytes of a file; the file was truncated to 0, so "the end" lay at 0, and an append was received in place: into the bytes
    // that were still being sent.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"log", READ_WRITE);
    for (len, cut) in [(3000, 0), (3000, 100), (2 * BLOCK + 500, 0), (2 * BLOCK + 500, BLOCK as u64 + 10)] {
        resize(&mut mem, &mut file, 0).expect("shrinking");
        write(&mut mem, &mut file, 0, &vec![b'o'; len]).expect("room");
        let reply = views(&mut mem, &mut file, 0, u32::MAX);
        resize(&mut mem, &mut file, cut).expect("shrinking");
        let grant = landed(&mut mem, &mut file, cut, &[b'n'; 1000]).expect("room");
        commit(&mut mem, &mut file, grant);
        write(&mut mem, &mut file, cut + 1000, b"small").expect("room");
        assert_eq!(reply.to_vec(), vec![b'o'; len], "what is on its way stays as it is");
        let mut now = vec![b'o'; cut as usize];
        now.extend_from_slice(&[b'n'; 1000]);
        now.extend_from_slice(b"small");
        assert!(content(&mut mem, &mut file) == now);
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_gap_was_zeroed_in_bytes_that_a_reply_still_showed() {
    // The file was truncated below what a reply held, and the next write, behind all that, zeroed what lay between: in place.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for start in [0, BLOCK, 2 * BLOCK] {
        for way in 0..3 {
            resize(&mut mem, &mut file, 0).expect("shrinking");
            write(&mut mem, &mut file, 0, &vec![b'o'; start + 200]).expect("room");
            resize(&mut mem, &mut file, start as u64 + 100).expect("shrinking");
            let reply = views(&mut mem, &mut file, 0, u32::MAX);
            let offset = start as u64 + 150;
            let landing = (way == 2).then(|| landed(&mut mem, &mut file, offset, b"new").expect("room"));
            resize(&mut mem, &mut file, start as u64 + 50).expect("shrinking");
            match landing {
                Some(grant) => drop(commit(&mut mem, &mut file, grant)),
                None if way == 1 => resize(&mut mem, &mut file, offset + 3).expect("room"),
                None => drop(write(&mut mem, &mut file, offset, b"new").expect("room")),
            }
            assert_eq!(reply.to_vec(), vec![b'o'; start + 100]);
            let mut now = vec![b'o'; start + 50];
            now.resize(start + 150, 0);
            now.extend_from_slice(if way == 1 { b"\0\0\0" } else { b"new" });
            assert!(content(&mut mem, &mut file) == now, "start {start}, way {way}");
        }
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_commit_ran_out_of_memory_because_the_file_had_become_another_one() {
    // Granted in place behind the end of a large file. When it was whole, the file was a small one again, longer by a hole, and no block was free: the payload
    // needed a block for the old form, two for its first piece, which brought none along, and one for the next.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", APPEND);
    write(&mut mem, &mut file, 0, &[b'a'; BLOCK + 500]).expect("room");
    resize(&mut mem, &mut file, BLOCK as u64 + 100).expect("shrinking");
    // Held to the end, so that not even the block of the landing comes back.
    let reply = views(&mut mem, &mut file, BLOCK as u64, 100);
    let data: Vec<u8> = (0..2 * BLOCK - 100).map(|i| (i % 251) as u8).collect();
    let grant = landed(&mut mem, &mut file, 0, &data).expect("room");
    resize(&mut mem, &mut file, 0).expect("shrinking");
    write(&mut mem, &mut file, 0, b"small again").expect("room");
    // Nor does the small block leave a large one behind.
    let mut neighbour = create(&mut mem, b"neighbour", READ_WRITE);
    write(&mut mem, &mut neighbour, 0, b"in the same 64 KiB").expect("room");
    let end = 5 * BLOCK + 500;
    resize(&mut mem, &mut file, end as u64).expect("a hole");
    let mut filler = create(&mut mem, b"filler", READ_WRITE);
    let full = (1..).find(|&i| write(&mut mem, &mut filler, i * BLOCK as u64, b"x").is_err());
    assert!(full > Some(1));
    assert_eq!(commit(&mut mem, &mut file, grant) as usize, data.len());
    assert_eq!(reply.to_vec(), [b'a'; 100]);
    drop(reply);
    let mut now = b"small again".to_vec();
    now.resize(end, 0);
    now.extend_from_slice(&data);
    assert!(content(&mut mem, &mut file) == now);
    mem.close(file, at(9)).expect("nothing to do");
    mem.close(neighbour, at(9)).expect("nothing to do");
    mem.close(filler, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn an_acknowledged_small_write_was_undone_by_edges_copied_at_the_grant() {
    // A large write began in the middle of a block. The bytes around it were copied when memory was granted; a small write to them was acknowledged
    // while the payload arrived, and vanished when the block was swapped in.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for len in [4000, 2 * BLOCK] {
        let mut now = vec![b'a'; len];
        write(&mut mem, &mut file, 0, &now).expect("room");
        let grant = landed(&mut mem, &mut file, 1000, &vec![b'b'; len - 2000]).expect("room");
        write(&mut mem, &mut file, 10, b"kept").expect("room");
        write(&mut mem, &mut file, len as u64 - 10, b"kept").expect("room");
        write(&mut mem, &mut file, 1500, b"overwritten").expect("room");
        commit(&mut mem, &mut file, grant);
        now[1000..len - 1000].fill(b'b');
        now[10..14].copy_from_slice(b"kept");
        now[len - 10..len - 6].copy_from_slice(b"kept");
        assert!(content(&mut mem, &mut file) == now);
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn unpublished_bytes_showed_when_the_size_grew_over_a_landing() {
    // A payload was being received behind the end of a file when another writer made the file longer: readers saw half a payload that was
    // never committed.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for (grow_by_write, arrived) in [(false, 8000), (true, 8000), (false, 1000), (true, 1000)] {
        for start in [100, BLOCK as u64 + 100] {
            resize(&mut mem, &mut file, 0).expect("shrinking");
            write(&mut mem, &mut file, 0, &vec![b'a'; start as usize]).expect("room");
            // Room behind the end in the same block, so that the landing is in place.
            write(&mut mem, &mut file, start, &[b'x'; 9000]).expect("room");
            resize(&mut mem, &mut file, start).expect("shrinking");
            let mut grant = mem.grant(&mut file, start, 8000, at(5)).expect("room").expect("memory to land in");
            grant.space.fill(&vec![b'!'; arrived]);
            if grow_by_write {
                write(&mut mem, &mut file, start + 4000, b"z").expect("room");
            } else {
                resize(&mut mem, &mut file, start + 4001).expect("room");
            }
            // The rest comes into memory that must not be the file's any more.
            grant.space.fill(&vec![b'!'; 8000 - arrived]);
            let seen = content(&mut mem, &mut file);
            assert!(
                seen[start as usize..start as usize + 4000].iter().all(|&byte| byte == 0),
                "zeros until it is committed"
            );
            drop(grant);
            assert!(content(&mut mem, &mut file) == seen, "an abandoned payload changes nothing");
        }
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn two_appenders_wrote_over_each_other() {
    // Both were granted room at the same end of the file.
    let mut mem = small_tree();
    let mut first = create(&mut mem, b"log", APPEND);
    let mut second = open(&mut mem, ROOT_USER, "log", APPEND).expect("there");
    for (start, len) in [(0, 1000), (10, 20_000), (BLOCK - 10, 3000), (BLOCK, BLOCK), (2 * BLOCK - 5000, BLOCK + 100)] {
        resize(&mut mem, &mut first, 0).expect("shrinking");
        write(&mut mem, &mut first, 999, &vec![b'.'; start]).expect("room");
        let one = landed(&mut mem, &mut first, 0, &vec![b'1'; len]).expect("room");
        let two = landed(&mut mem, &mut second, 0, &vec![b'2'; len]).expect("room");
        commit(&mut mem, &mut second, two);
        write(&mut mem, &mut first, 0, b"between").expect("room");
        commit(&mut mem, &mut first, one);
        let all = [&vec![b'.'; start][..], &vec![b'2'; len], b"between", &vec![b'1'; len]].concat();
        assert!(content(&mut mem, &mut first) == all, "start {start}, {len} bytes");
    }
    mem.close(first, at(9)).expect("nothing to do");
    mem.close(second, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn old_bytes_showed_behind_a_cut_because_parts_went_back_into_their_base() {
    // A unit had its base and a part. The file was cut inside of the unit, and the next write was some pages behind its end: the parts went back into the
    // base, where the pages in between still had what the file had before.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for (cut, offset, way) in (0..3).flat_map(|way| [(20_480, 40_970, way), (20_000, 45_056, way), (3, 9000, way)]) {
        resize(&mut mem, &mut file, 0).expect("shrinking");
        write(&mut mem, &mut file, 0, &vec![b'o'; BLOCK + 1]).expect("room");
        let reply = views(&mut mem, &mut file, 0, u32::MAX);
        write(&mut mem, &mut file, 1, b"n").expect("room");
        resize(&mut mem, &mut file, cut as u64).expect("shrinking");
        drop(reply);
        match way {
            0 => drop(write(&mut mem, &mut file, offset as u64, b"new").expect("room")),
            1 => {
                let grant = landed(&mut mem, &mut file, offset as u64, b"new").expect("room");
                commit(&mut mem, &mut file, grant);
            }
            _ => {
                resize(&mut mem, &mut file, offset as u64).expect("room");
                write(&mut mem, &mut file, offset as u64, b"new").expect("room");
            }
        }
        let mut now = vec![b'o'; cut];
        now[1] = b'n';
        now.resize(offset, 0);
        now.extend_from_slice(b"new");
        assert!(content(&mut mem, &mut file) == now, "cut to {cut}, {offset}, way {way}");
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn old_bytes_came_along_from_a_block_whose_end_a_reply_showed() {
    // The file was cut at the border of a page while a reply showed a page behind it; the next write was behind that.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for lands in [false, true] {
        resize(&mut mem, &mut file, 0).expect("shrinking");
        write(&mut mem, &mut file, 0, &vec![b'o'; 2 * BLOCK]).expect("room");
        let reply = views(&mut mem, &mut file, (BLOCK + 5 * PAGE_BYTES) as u64, 100);
        resize(&mut mem, &mut file, (BLOCK + 2 * PAGE_BYTES) as u64).expect("shrinking");
        let offset = (BLOCK + 10 * PAGE_BYTES + 100) as u64;
        if lands {
            let grant = landed(&mut mem, &mut file, offset, b"n").expect("room");
            commit(&mut mem, &mut file, grant);
        } else {
            write(&mut mem, &mut file, offset, b"n").expect("room");
        }
        let mut now = vec![b'o'; BLOCK + 2 * PAGE_BYTES];
        now.resize(offset as usize, 0);
        now.push(b'n');
        assert!(content(&mut mem, &mut file) == now, "lands {lands}");
        assert_eq!(reply.to_vec(), [b'o'; 100]);
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_small_block_became_a_whole_unit_because_the_gap_in_front_made_the_file_large() {
    // A payload was granted a block of 32 KiB for a small file. At the commit an operation showed the gap in front of it, so the file took the large
    // form; the block took the place of a unit of 64 KiB, and the next write was beyond its end.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    write(&mut mem, &mut file, 0, &[b'o'; 16_000]).expect("room");
    let reply = views(&mut mem, &mut file, 0, u32::MAX);
    resize(&mut mem, &mut file, 9_000).expect("shrinking");
    let grant = landed(&mut mem, &mut file, 10_000, &[b'n'; 20_000]).expect("room");
    commit(&mut mem, &mut file, grant);
    mem.check_content();
    write(&mut mem, &mut file, 30_000, &[b'm'; 5_000]).expect("room");
    let now = [vec![b'o'; 9_000], vec![0; 1000], vec![b'n'; 20_000], vec![b'm'; 5_000]].concat();
    assert!(content(&mut mem, &mut file) == now);
    assert_eq!(reply.to_vec(), [b'o'; 16_000]);
    drop(reply);
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_page_changed_while_its_checksum_was_in_flight() {
    // An operation summed the bytes it held, and they changed before they were written out: the record was damaged for ever.
    let mut mem = tree_of(4 << 20);
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for len in [50, 5000, BLOCK, 3 * BLOCK + 77] {
        resize(&mut mem, &mut file, 0).expect("shrinking");
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        write(&mut mem, &mut file, 0, &bytes).expect("room");
        let held = views(&mut mem, &mut file, 0, u32::MAX);
        let sum = checksum(&held);
        let end = len as u64;
        write(&mut mem, &mut file, 3, b"overwritten").expect("room");
        write(&mut mem, &mut file, end, b"appended").expect("room");
        let grant = landed(&mut mem, &mut file, 1, &vec![0xaa; len]).expect("room");
        commit(&mut mem, &mut file, grant);
        resize(&mut mem, &mut file, end / 2).expect("shrinking");
        resize(&mut mem, &mut file, end * 2).expect("room");
        let grant = landed(&mut mem, &mut file, end / 2, &vec![0xbb; len]).expect("room");
        drop(grant);
        let grant = landed(&mut mem, &mut file, end * 2, &[0xcc; 100]).expect("room");
        resize(&mut mem, &mut file, 0).expect("shrinking");
        commit(&mut mem, &mut file, grant);
        assert_eq!(checksum(&held), sum);
        assert!(held.to_vec() == bytes);
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_landing_into_a_large_file_was_published_at_the_wrong_place_after_a_truncation() {
    // The blocks of a grant belonged behind the first 64 KiB; meanwhile the file was truncated to nothing, became small, and took the landed block as its only one.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    for (size, small) in [(0u64, &b""[..]), (0, b"small again"), (100, b"")] {
        write(&mut mem, &mut file, 0, &vec![b'a'; 3 * BLOCK]).expect("room");
        let grant = landed(&mut mem, &mut file, 2 * BLOCK as u64 + 50, &[b'b'; 1000]).expect("room");
        resize(&mut mem, &mut file, size).expect("shrinking");
        write(&mut mem, &mut file, 0, small).expect("room");
        commit(&mut mem, &mut file, grant);
        let mut now = vec![0; 2 * BLOCK + 1050];
        now[..size as usize].fill(b'a');
        now[..small.len()].copy_from_slice(small);
        now[2 * BLOCK + 50..].fill(b'b');
        assert!(content(&mut mem, &mut file) == now, "size {size}");
        resize(&mut mem, &mut file, 0).expect("shrinking");
    }
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_payload_went_to_the_end_of_a_file_that_was_append_only_no_more() {
    // The grant kept the end of the file in place of the offset that was asked for, and what a file is, is decided at the commit.
    let mut mem = small_tree();
    let mut file = root(&mut mem, ROOT_USER);
    mem.create(&mut file, b"f", READ_WRITE, 0o644, qt::APPEND, None, at(2)).expect("a new name");
    let grant = landed(&mut mem, &mut file, 5, &[b'x'; 10]).expect("room");
    mem.wstat(&mut file, &Change { bits: Some(0), ..Change::default() }, at(3)).expect("the owner");
    commit(&mut mem, &mut file, grant);
    assert_eq!(content(&mut mem, &mut file), b"\0\0\0\0\0xxxxxxxxxx");
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn a_payload_that_had_not_arrived_whole_was_published() {
    // What was in the memory before would have shown: another file's bytes.
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"file", READ_WRITE);
    let mut grant = mem.grant(&mut file, 0, 100, at(3)).expect("room").expect("memory to land in");
    grant.space.fill(b"part");
    assert_eq!(mem.commit(&mut file, grant, at(3)), Err(Error::EIO));
    assert_eq!(content(&mut mem, &mut file), b"");
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

#[test]
fn an_unlinked_file_takes_what_lands_and_is_freed_at_the_last_close() {
    let mut mem = small_tree();
    let mut file = create(&mut mem, b"gone", READ_WRITE);
    let grant = landed(&mut mem, &mut file, 0, &[5; 70_000]).expect("room");
    mem.remove(&mut file, at(3)).expect("removable");
    commit(&mut mem, &mut file, grant);
    assert!(content(&mut mem, &mut file) == [5; 70_000]);
    let stat = mem.stat(&file).expect("still there");
    assert_eq!((stat.nlink, stat.size), (0, 70_000));
    mem.close(file, at(9)).expect("nothing to do");
    assert_eq!(mem.arena().gauge().used_bytes(), 0);
    nothing_left(mem);
}
