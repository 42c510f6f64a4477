//! The rules of the arena, each broken on purpose where a panic is the answer.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn arena() -> Arena {
    Arena::new(1 << 20).expect("a small mapping")
}

fn panics(action: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn pinned_bytes_never_change_and_the_rest_of_the_block_may() {
    let mut arena = arena();
    let block = arena.alloc(4096).expect("room");
    arena.write(&block, 0, &[7; 4096]);
    let slice = arena.slice(&block, 100..200);
    assert_eq!(arena.sealed(&block), 200);
    assert!(!arena.in_place(&block, &(199..200)) && arena.in_place(&block, &(200..4096)));
    assert!(panics(|| arena.write(&block, 150, &[8])));
    assert!(panics(|| arena.zero(&block, 0..1)), "in the same sixteenth as the slice");
    assert!(arena.in_place(&block, &(200..300)) && !arena.in_place(&block, &(0..4096)));
    arena.write(&block, 200, &[9; 10]);
    assert!(slice.iter().all(|&byte| byte == 7));
    drop(slice);
    arena.write(&block, 150, &[8]);
    assert_eq!(arena.sealed(&block), 0, "nobody looks any more");
    arena.free(block);
    assert_eq!(arena.gauge().used_bytes(), 0);
}

#[test]
fn a_freed_block_stays_until_its_last_slice_is_dropped_on_another_thread() {
    let mut arena = arena();
    let gauge = arena.gauge();
    let block = arena.alloc(BLOCK_BYTES_MAX).expect("room");
    arena.write(&block, 0, b"still here");
    let slice = arena.slice(&block, 0..10);
    let other = arena.slice(&block, 6..10);
    arena.free(block);
    assert_eq!((gauge.used_bytes(), gauge.orphaned_bytes(), gauge.pins()), (BLOCK_BYTES_MAX, BLOCK_BYTES_MAX, 2));
    std::thread::spawn(move || assert_eq!(&*slice, b"still here")).join().expect("the bytes are there");
    drop(other);
    assert_eq!(gauge.pins(), 0);
    arena.collect();
    assert_eq!((gauge.used_bytes(), gauge.orphaned_bytes()), (0, 0));
}

#[test]
fn blocks_that_come_back_are_taken_in_parts_and_none_is_lost() {
    let mut arena = arena();
    let slices: Vec<Slice> = (0..100)
        .map(|_| {
            let block = arena.alloc(64).expect("room");
            arena.write(&block, 0, &[1; 64]);
            let slice = arena.slice(&block, 0..64);
            arena.free(block);
            slice
        })
        .collect();
    drop(slices);
    for left in [70, 40, 10, 0] {
        arena.collect_some(30);
        let gauge = arena.gauge();
        assert_eq!((gauge.used_bytes(), gauge.orphaned_bytes(), arena.has_returns()), (left * 64, left * 64, left > 0));
    }
}

#[test]
fn one_landing_at_a_time_and_growth_cannot_touch_it() {
    let mut arena = arena();
    let block = arena.alloc(4096).expect("room");
    arena.write(&block, 0, b"head");
    let mut piece = arena.land_in_place(&block, 4..1000);
    assert!(!arena.in_place(&block, &(4..5)) && !arena.in_place(&block, &(2000..2001)), "the owner has to copy");
    assert!(panics(|| drop(arena.land_in_place(&block, 2000..2001))));
    piece.bytes_mut().fill(5);
    assert!(arena.is_within(&piece, &block));
    drop(piece);
    assert!(arena.in_place(&block, &(0..4096)));
    assert_eq!(arena.bytes(&block, 2..6), [b'a', b'd', 5, 5]);
    arena.free(block);
}

#[test]
fn an_abandoned_landing_gives_everything_back() {
    let mut arena = arena();
    let gauge = arena.gauge();
    let mut pieces = vec![
        arena.land_fresh(BLOCK_BYTES_MAX, 100..BLOCK_BYTES_MAX).expect("room"),
        arena.land_fresh(64, 0..10).expect("room"),
    ];
    pieces.push(arena.land_fresh(64, 0..64).expect("room"));
    let mut space = Space::new(pieces, 1);
    assert_eq!(space.len(), BLOCK_BYTES_MAX - 100 + 10);
    assert_eq!(space.fill(&[1; BLOCK_BYTES_MAX - 100]), BLOCK_BYTES_MAX - 100);
    assert_eq!(space.unfilled().map(|rest| rest.len()).collect::<Vec<_>>(), [10]);
    space.advance(4);
    assert_eq!(space.left(), 6);
    assert_eq!(space.fill(&[2; 20]), 6);
    drop(space);
    arena.collect();
    assert_eq!(gauge.used_bytes(), 0);
}

/// What is set aside is no room, however long it is: not from the start, and not when a space grows.
#[test]
fn a_space_that_grows_counts_what_is_to_be_filled() {
    let mut arena = arena();
    let mut piece = |range| arena.land_fresh(64, range).expect("room");
    let mut space = Space::new(vec![piece(0..10)], 0);
    assert_eq!(space.fill(&[1; 10]), 10);
    space.extend(&mut vec![piece(0..20), piece(0..64)], 1);
    assert_eq!((space.len(), space.left()), (30, 20));
    assert_eq!(space.unfilled().map(|rest| rest.len()).collect::<Vec<_>>(), [20]);
    space.advance(20);
    let (pieces, spares) = space.into_parts();
    assert_eq!((pieces.len(), spares), (3, 1));
}

#[test]
fn adopted_pieces_are_ordinary_blocks() {
    let mut arena = arena();
    let mut piece = arena.land_fresh(100, 10..20).expect("room");
    piece.bytes_mut().copy_from_slice(b"0123456789");
    assert_eq!(piece.bytes(), b"0123456789");
    let block = arena.adopt(piece);
    assert_eq!(arena.bytes(&block, 12..15), b"234");
    assert_eq!(arena.capacity(&block), 128);
    arena.free(block);
    assert_eq!(arena.gauge().used_bytes(), 0);
}

#[test]
fn head_slots_lie_in_their_region_and_run_out() {
    let arena = Arena::with_regions(2 << 20, 1 << 20).expect("a small mapping");
    let mut heads = arena.heads();
    let memory = arena.memory();
    let mut taken = Vec::new();
    while let Some(mut slot) = heads.take(1) {
        let (first, len) = slot.put(&[1; 1000]).expect("an empty slot has room");
        assert_eq!((memory.region_of(first), len), (Some(1), 1000));
        assert!(slot.put(&[1; 25]).is_none());
        taken.push(slot);
    }
    assert_eq!(taken.len(), 64, "one chunk of slots");
    taken.into_iter().for_each(|slot| heads.give(slot));
    assert!(heads.take(1).is_some());
}

#[test]
fn the_arena_ends_with_full_and_starts_again() {
    let mut arena = arena();
    let blocks: Vec<_> = std::iter::from_fn(|| arena.alloc(BLOCK_BYTES_MAX).ok()).collect();
    assert_eq!(blocks.len(), 14, "16 chunks less one of head slots and one of zeros");
    assert_eq!(arena.alloc(1).map(|_| ()), Err(Full));
    blocks.into_iter().for_each(|block| arena.free(block));
    let zeros = arena.zeros().slice(BLOCK_BYTES_MAX);
    assert!(zeros.iter().all(|&byte| byte == 0));
    assert_eq!(arena.gauge().pins(), 0);
}
