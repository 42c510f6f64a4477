//! How many bytes a change copies beyond its own: a rule, not a measurement.
//!
//! - Nothing where bytes change in place, and for whole units.
//! - At most two pages where an operation shows the bytes.
//! - At most as many bytes as were written, over the life of a file, for growth and for bytes of several
//!   blocks that come together.

use super::*;

const PAGE: usize = PAGE_BYTES;
/// Sizes of changes in bytes, and offsets.
const SIZES: [usize; 12] =
    [1, 100, PAGE - 1, PAGE, PAGE + 1, 4 * PAGE, 20_000, 8 * PAGE, BLOCK, 100_000, 2 * BLOCK, 16 * BLOCK - 24];
const FILE: usize = 2 << 20;

/// Bytes copied between blocks: to grow, to come together, and because an operation shows some.
fn copied(mem: &Mem) -> (usize, usize, usize) {
    let gauge = mem.arena().gauge();
    (gauge.grown_bytes(), gauge.merged_bytes(), gauge.pinned_bytes())
}

fn since(mem: &Mem, before: (usize, usize, usize)) -> (usize, usize, usize) {
    let now = copied(mem);
    (now.0 - before.0, now.1 - before.1, now.2 - before.2)
}

fn change(mem: &mut Mem, file: &mut File, offset: usize, data: &[u8], lands: bool) {
    if lands {
        let grant = landed(mem, file, offset as u64, data).expect("room");
        commit(mem, file, grant);
    } else {
        write(mem, file, offset as u64, data).expect("room");
    }
}

fn offsets(size: usize) -> [usize; 5] {
    [0, size.min(FILE / 2), size.min(FILE / 2) + 1, BLOCK - size.min(BLOCK) / 2, 3 * BLOCK + 7 * PAGE]
}

#[test]
fn a_change_copies_no_more_than_the_rule_says() {
    for size in SIZES {
        for offset in offsets(size) {
            for lands in [false, true] {
                for state in ["full", "empty", "sparse", "shown"] {
                    let mut mem = tree_of(16 << 20);
                    let mut file = create(&mut mem, b"f", READ_WRITE);
                    let mut bytes = vec![7; if state == "empty" { 0 } else { FILE }];
                    match state {
                        "full" | "shown" => drop(write(&mut mem, &mut file, 0, &bytes).expect("room")),
                        "sparse" => {
                            resize(&mut mem, &mut file, FILE as u64).expect("a hole");
                            bytes.fill(0);
                        }
                        _ => {}
                    }
                    let shown = (state == "shown").then(|| views(&mut mem, &mut file, 0, FILE as u32));
                    let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                    let before = copied(&mem);
                    change(&mut mem, &mut file, offset, &data, lands);
                    let (grown, merged, pinned) = since(&mem, before);
                    let case = format!("{size} bytes at {offset}, {state}, lands {lands}");
                    // What lands in the middle of a block is copied there, or the rest of the block comes to it.
                    let merged_max = match state {
                        "full" if lands => size,
                        "shown" if lands => 2 * PAGE,
                        _ => 0,
                    };
                    assert!(grown == 0 && merged <= merged_max, "{case}: {grown} for growth, {merged} merged");
                    let pinned_max = if shown.is_some() { 2 * PAGE - merged } else { 0 };
                    assert!(pinned <= pinned_max, "{case}: {pinned} bytes");
                    if lands && size % BLOCK == 0 && offset % BLOCK == 0 {
                        assert_eq!((merged, pinned), (0, 0), "{case}: whole units");
                    }
                    bytes.resize(bytes.len().max(offset + size), 0);
                    bytes[offset..offset + size].copy_from_slice(&data);
                    assert!(content(&mut mem, &mut file) == bytes, "{case}");
                    assert!(shown.is_none_or(|shown| shown.to_vec() == [7; FILE]), "{case}");
                    mem.close(file, at(9)).expect("nothing to do");
                    nothing_left(mem);
                }
            }
        }
    }
}

/// A file that is written page by page in any order has each byte copied at most once more, and ends in whole units.
#[test]
fn parts_that_fill_a_unit_come_together_once() {
    for (step, lands) in [(1, false), (5, false), (11, true), (31, false)] {
        let mut mem = tree_of(8 << 20);
        let mut file = create(&mut mem, b"f", READ_WRITE);
        resize(&mut mem, &mut file, FILE as u64 + 1).expect("a hole");
        let count = FILE / PAGE;
        for n in 0..count {
            change(&mut mem, &mut file, n * step % count * PAGE, &[n as u8; PAGE], lands);
        }
        let (grown, merged, pinned) = copied(&mem);
        assert!(pinned == 0 && grown + merged <= FILE, "step {step}: {grown}, {merged}, {pinned}");
        assert_eq!((mem.arena().gauge().used_bytes(), mem.store.table.in_use()), (FILE, 0));
        assert_eq!(views(&mut mem, &mut file, 0, 1 << 20).parts().len(), 16, "as if it had been written in order");
        mem.close(file, at(9)).expect("nothing to do");
        nothing_left(mem);
    }
}

/// A file that is read while it is changed takes at most twice its memory, and goes back once the replies have left.
#[test]
fn changes_under_replies_are_copied_once_more_and_take_twice_the_memory() {
    let mut mem = tree_of(8 << 20);
    let mut file = create(&mut mem, b"f", READ_WRITE);
    let mut bytes = vec![1; 4 * BLOCK];
    write(&mut mem, &mut file, 0, &bytes).expect("room");
    let (mut written, mut place) = (0, 12_345usize);
    for n in 0..2000u32 {
        let shown = views(&mut mem, &mut file, (place % (3 * BLOCK)) as u64, 30_000);
        let was = shown.to_vec();
        place = place.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 30);
        let (offset, len) = ((place >> 5) % (4 * BLOCK - 16_384), 4096 + (place >> 11) % 12_000);
        let data = vec![n as u8; len];
        change(&mut mem, &mut file, offset, &data, n % 2 == 0);
        bytes[offset..offset + len].copy_from_slice(&data);
        written += len;
        assert!(shown.to_vec() == was);
        drop(shown);
        mem.work();
        assert!(mem.stat(&file).expect("there").blocks * 512 <= 8 * BLOCK as u64);
    }
    let (grown, merged, pinned) = copied(&mem);
    assert!(grown == 0 && merged <= written && pinned <= 2000 * 2 * PAGE, "{written}: {merged}, {pinned}");
    assert!(content(&mut mem, &mut file) == bytes);
    // One more change of each unit, and nothing is in parts.
    for index in 0..4 {
        write(&mut mem, &mut file, (index * BLOCK) as u64, b"x").expect("room");
    }
    assert_eq!((mem.arena().gauge().used_bytes(), mem.store.table.in_use()), (4 * BLOCK, 0));
    mem.close(file, at(9)).expect("nothing to do");
    nothing_left(mem);
}

/// A write that is far from others holds its pages, not a block.
#[test]
fn scattered_writes_hold_their_pages() {
    let mut mem = tree_of(64 << 20);
    let mut file = create(&mut mem, b"f", READ_WRITE);
    let far = |n: u64| n * 7 % 16_384 * 65_536;
    let count = (0..16_384).take_while(|&n| write(&mut mem, &mut file, far(n), &[1; PAGE]).is_ok()).count();
    assert!(count >= 15_000, "{count} writes of 4 KiB in 64 MiB");
    assert_eq!(mem.stat(&file).expect("there").blocks * 512, (count * PAGE) as u64);
    resize(&mut mem, &mut file, 0).expect("shrinking");
    for (len, pages) in [(1, 1), (PAGE, 1), (PAGE + 1, 2), (3 * PAGE, 4), (5 * PAGE, 8), (9 * PAGE, 16)] {
        resize(&mut mem, &mut file, 1 << 30).expect("a hole");
        write(&mut mem, &mut file, 1 << 20, &vec![1; len]).expect("room");
        assert_eq!(mem.stat(&file).expect("there").blocks * 512, (pages * PAGE) as u64, "{len} bytes");
        resize(&mut mem, &mut file, 0).expect("shrinking");
    }
    mem.close(file, at(9)).expect("nothing to do");
    mem.work();
    nothing_left(mem);
}
