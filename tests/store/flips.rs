//! Single flipped bits over a whole small store: each is found, or changes nothing that matters.

use super::*;
use ring9::fs::mem::{Mem, Replay};
use ring9::store::format::{PAGE_BYTES, Superblock, scan};
use std::fs;

/// The files of a store in memory.
struct Image {
    superblock: Vec<u8>,
    /// By number.
    segments: BTreeMap<u64, Vec<u8>>,
}

fn image(disk: &Disk) -> Image {
    let bytes = |name: &str| fs::read(disk.path().join(name)).expect("it is there");
    let mut image = Image { superblock: bytes("superblock"), segments: BTreeMap::new() };
    for number in 0..64 {
        let name = format!("seg-{number:016x}");
        if disk.path().join(&name).exists() {
            image.segments.insert(number, bytes(&name));
        }
    }
    image
}

/// What a start makes of it: the last change, whether a tail was cut, and the tree. Or why it is refused.
fn read(image: &Image, arena: Arena) -> (Arena, std::result::Result<(u64, bool, Shape), String>) {
    let copies = [&image.superblock[..PAGE_BYTES], &image.superblock[PAGE_BYTES..]];
    let superblock = match Superblock::choose(copies.map(Superblock::parse)) {
        Ok(superblock) => superblock,
        Err(wrong) => return (arena, Err(wrong.to_string())),
    };
    let mut replay = Replay::new(Mem::new(arena, how().tree));
    let present: Vec<u64> = image.segments.keys().copied().collect();
    let end = scan(
        &superblock,
        &present,
        |number, into: &mut Vec<u8>| {
            let segment = image.segments.get(&number);
            segment.into_iter().for_each(|bytes| into.clone_from(bytes));
            Ok(segment.is_some())
        },
        |batch| {
            replay.set_partial(batch.head.last_lsn <= superblock.whole);
            batch.records().try_for_each(|record| replay.apply(&record))
        },
    );
    let end = end.map_err(|damage| format!("{damage:?}"));
    let found = end.and_then(|end| {
        replay.finish(at(1)).map_err(|unfit| unfit.to_string())?;
        if end.next.lsn <= superblock.whole {
            return Err("the log ends too early".to_owned());
        }
        Ok((end.next.lsn - 1, end.torn.is_some(), shape(replay.tree())))
    });
    (replay.into_tree().into_arena(), found)
}

/// `RING9_FLIPS`: one bit of so many; 1 is every bit.
#[test]
fn a_flipped_bit_is_found_or_harmless() {
    let (mut random, mut disk) = (Random::new(5), Disk::new());
    // It has had a checkpoint, and a start behind that.
    let mut clock = 10;
    let mut done = 0;
    let mut served = loop {
        // The last batches do not belong to a checkpoint: a store that lacks a part of one is refused.
        let margin_bytes = if done == 0 { 0 } else { 1 << 30 };
        let store = open(disk.path(), arena(), How { margin_bytes, ..how() }, at(1)).expect("a store").0;
        let mut served = Served::new(store, clock);
        for _ in 0..if done == 0 { 25 } else { 8 } {
            served.step(&mut random);
            disk.pump(&mut served.store, &mut random, 40);
        }
        served.store.retire(at(clock));
        disk.pump(&mut served.store, &mut random, usize::MAX);
        done += served.store.checkpoints();
        if clock > 60 && served.store.checkpoints() == 0 {
            break served;
        }
        clock = served.clock + 30;
        disk = disk.crash(&mut random);
    };
    let (lsn, durable) = served.store.positions();
    assert_eq!(lsn, durable);
    let want = shape(served.store.tree());
    let mut image = image(&disk);
    let (mut arena, found) = read(&image, arena());
    let (found_lsn, is_torn, found) = found.expect("it is whole");
    assert_eq!((found_lsn, is_torn), (lsn, false));
    same_shape(&want, &found).expect("the same tree");
    let step = std::env::var("RING9_FLIPS").ok().and_then(|text| text.parse().ok()).unwrap_or(211);
    // What lies behind the last batch of a segment is zeros, of which one page is enough.
    let used = |bytes: &[u8]| {
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        (end.next_multiple_of(PAGE_BYTES) + PAGE_BYTES).min(bytes.len())
    };
    let places: Vec<_> = image
        .segments
        .iter()
        .map(|(&number, bytes)| (Some(number), used(bytes)))
        .chain([(None, 2 * PAGE_BYTES)])
        .collect();
    let (mut flips, mut refused, mut cut, mut harmless) = (0, 0, 0, 0);
    for (place, len) in places {
        for bit in (0..len * 8).step_by(step) {
            let flip = |image: &mut Image| match place {
                Some(number) => image.segments.get_mut(&number).expect("it is there")[bit / 8] ^= 1 << (bit % 8),
                None => image.superblock[bit / 8] ^= 1 << (bit % 8),
            };
            flip(&mut image);
            let (back, found) = read(&image, arena);
            arena = back;
            flips += 1;
            match found {
                Err(why) => {
                    assert!(place.is_some(), "bit {bit} of the superblock, of which there are two: {why}");
                    refused += 1;
                }
                Ok((at, is_torn, found)) if at == lsn => {
                    same_shape(&want, &found).unwrap_or_else(|why| panic!("{place:?}, bit {bit}: {why}"));
                    harmless += 1;
                    assert!(place.is_some() || !is_torn);
                }
                // The last batch looks as if the power had failed while it was written.
                Ok((at, is_torn, found)) => {
                    assert!(is_torn, "{place:?}, bit {bit}: {at} of {lsn}, and nothing is reported");
                    let same = same_shape(served.shape_at(at), &found);
                    same.unwrap_or_else(|why| panic!("{place:?}, bit {bit}: change {at}: {why}"));
                    cut += 1;
                }
            }
            flip(&mut image);
        }
    }
    println!("{flips} flips: {refused} refused, {cut} cut, {harmless} harmless");
    assert!(refused > 100 && cut > 0 && harmless > 10);
    served.waiting.clear();
}

/// A checkpoint has changed the superblock, and the segments before it are gone: either copy is enough.
#[test]
fn a_flipped_bit_of_the_superblock_is_harmless_at_any_time() {
    let (mut random, mut disk) = (Random::new(6), Disk::new());
    let how = How { margin_bytes: 0, ..how() };
    let mut served = Served::new(open(disk.path(), arena(), how, at(1)).expect("a store").0, 10);
    for _ in 0..200 {
        served.step(&mut random);
        disk.pump(&mut served.store, &mut random, 40);
        if served.store.checkpoints() > 1 && !disk.path().join("seg-0000000000000000").exists() {
            break;
        }
    }
    assert!(!disk.path().join("seg-0000000000000000").exists(), "the first segment is gone");
    served.store.retire(at(99));
    disk.pump(&mut served.store, &mut random, usize::MAX);
    let mut image = image(&disk);
    let mut arena = arena();
    for bit in (0..2 * PAGE_BYTES * 8).step_by(97) {
        image.superblock[bit / 8] ^= 1 << (bit % 8);
        let (back, found) = read(&image, arena);
        arena = back;
        let lsn = found.map(|(lsn, ..)| lsn);
        assert_eq!(lsn, Ok(served.store.positions().0), "bit {bit}");
        image.superblock[bit / 8] ^= 1 << (bit % 8);
    }
}
