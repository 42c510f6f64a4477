//! Large payloads: memory for them before they arrive, and publishing once they are whole.
//!
//! A grant decides about memory alone. Data behind the end of a file lands in place in its last
//! block, where no operation shows a byte of it. Other data lands in fresh blocks: one for a whole
//! unit, or one with the pages that are needed. Order, append offset, edges and size are decided at
//! the commit, from the content at that time. Where a fresh block cannot take its place in the file,
//! or where it is cheaper, its bytes are copied. Each grant sets aside enough blocks to publish by
//! copying, so that no commit fails for want of memory.
//!
//! Once grants hold an eighth of the memory, a new grant gets one block at a time, as bytes arrive.
//! So clients that announce much and send little hold little.

use super::blocks::Unit;
use super::content::{BLOCK, Blocks, Content, EDGES_BYTES_MAX, Former, indices, part, part_of};
use super::parts::{PAGE, PAGES, pages};
use super::store::Store;
use crate::arena::{BLOCK_BYTES_MAX, Full, Piece, Space, Why};
use std::ops::Range;

/// Pages that a grant sets aside. One is for a file that has become small and takes the large form
/// again; one is for the page of the size, if operations show bytes of it.
const SPARE_PAGES: usize = 2;
/// Blocks that a grant sets aside: for a payload inside of one unit, and for a longer payload.
///
/// At the commit the payload may start at another offset, and each unit that it touches needs a block.
/// A payload of one unit then touches two units. Of a longer payload the first piece may have landed in
/// place, so it leaves no block for the third unit. Each later piece leaves its own block for the next unit.
const SPARE_BLOCKS: [usize; 2] = [2, 3];

/// Grants hold at most one part in so many of the memory, but for a block each.
const GRANTED_SHARE: usize = 8;

impl Content {
    /// Memory for `range`, to be received into; or for a first part of it, where memory is scarce. It is added to `space`. On `Full` the bytes of the file are as
    /// they were.
    pub(super) fn grant(&mut self, store: &mut Store, space: &mut Space, range: Range<u64>) -> Result<(), Full> {
        let is_large = range.end > BLOCK || matches!(self.blocks, Blocks::Large(_));
        let gauge = store.arena.gauge();
        let scarce = gauge.granted_bytes() + (range.end - range.start) as usize > gauge.total_bytes() / GRANTED_SHARE;
        let end = if scarce { range.end.min((range.start / BLOCK + 1) * BLOCK) } else { range.end };
        let is_whole = end == range.end;
        // The form changes now, once, instead of at every commit that finds it small.
        let (appends, former) = if is_large && is_whole {
            self.become_large(store, &range)?
        } else {
            (range.start <= self.size && range.end > self.size, Former::Same)
        };
        let has_room = self.has_node_room(store, &range);
        let mut pieces = store.lists.pop().unwrap_or_default();
        let had = if has_room { Ok(()) } else { Err(Full) };
        let had = had.and_then(|()| self.grant_pieces(store, &(range.start..end), is_large, appends, &mut pieces));
        let is_long = space.pieces() + pieces.len() > 1;
        let (spare_pages, spare_blocks) =
            if is_whole { (SPARE_PAGES, SPARE_BLOCKS[usize::from(is_long)]) } else { (0, 0) };
        let spares = spare_pages + spare_blocks;
        let had = had.and_then(|()| {
            (0..spares).try_for_each(|n| {
                let bytes = if n < spare_pages { PAGE } else { BLOCK_BYTES_MAX };
                store.land_fresh(bytes, 0..0).map(|spare| pieces.push(spare))
            })
        });
        if let Err(full) = had {
            pieces.clear();
            store.lists.push(pieces);
            self.restore(store, former);
            store.arena.collect();
            return Err(full);
        }
        Self::confirm(store, former);
        if space.is_empty() {
            *space = Space::new(pieces, spares);
        } else {
            space.extend(&mut pieces, spares);
            store.lists.push(pieces);
        }
        Ok(())
    }

    fn grant_pieces(
        &self,
        store: &mut Store,
        range: &Range<u64>,
        is_large: bool,
        appends: bool,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Full> {
        for index in indices(range) {
            let part = part(range, index);
            if is_large && part.len() == BLOCK_BYTES_MAX {
                pieces.push(store.land_fresh(BLOCK_BYTES_MAX, part)?);
                continue;
            }
            let start = index * BLOCK + part.start as u64;
            let valid = self.valid(store, index);
            let piece = match self.block(index) {
                Some(block)
                    if start >= self.size
                        && part.end <= store.arena.capacity(block)
                        && store.arena.in_place(block, &(valid.min(part.start)..part.end)) =>
                {
                    store.arena.land_in_place(block, part)
                }
                _ if is_large => {
                    let continues = appends && part.start == 0 && start >= self.size;
                    land_in_unit(store, part, continues)?
                }
                _ if outside(&part, valid) > part.len() => store.land_fresh(part.len(), 0..part.len())?,
                _ => store.land_fresh(part.end.max(valid), part)?,
            };
            pieces.push(piece);
        }
        Ok(())
    }

    /// Publishes a payload at `offset`, which may differ from the one that was granted.
    pub(super) fn commit(&mut self, store: &mut Store, space: Space, granted: u64, offset: u64) -> Result<(), Full> {
        let (mut pieces, spares) = space.into_parts();
        let count = pieces.len() - spares;
        for spare in pieces.drain(count..) {
            let block = store.arena.adopt(spare);
            store.reserve.push(block);
        }
        let len: usize = pieces.iter().map(|piece| piece.range().len()).sum();
        let range = offset..offset + len as u64;
        let result = if granted == offset {
            self.publish_all(store, &mut pieces, range)
        } else {
            self.rewrite(store, pieces.drain(..), range)
        };
        pieces.clear();
        store.reserve.drain(..).for_each(|block| store.arena.free(block));
        store.lists.push(pieces);
        result
    }

    fn publish_all(&mut self, store: &mut Store, pieces: &mut Vec<Piece>, range: Range<u64>) -> Result<(), Full> {
        if range.end > BLOCK {
            let (_, former) = self.become_large(store, &range)?;
            Self::confirm(store, former);
        }
        let mut at = range.start;
        pieces.drain(..).try_for_each(|piece| {
            let range = at..at + piece.range().len() as u64;
            at = range.end;
            self.publish(store, piece, range)
        })
    }

    /// Publishes a piece at the place for which it was granted.
    fn publish(&mut self, store: &mut Store, piece: Piece, range: Range<u64>) -> Result<(), Full> {
        let index = range.start / BLOCK;
        let own = self.block(index).filter(|block| !piece.is_fresh() && store.arena.is_within(&piece, block));
        if let Some(block) = own
            && self.size <= range.start
            && store.arena.sealed(block) <= self.valid(store, index)
        {
            // Letting go of the piece leaves its bytes behind the size, as good as written.
            drop(piece);
            self.grow_to(store, range.start)?;
            self.size = range.end;
            return Ok(());
        }
        if !piece.is_fresh() {
            return self.rewrite(store, std::iter::once(piece), range);
        }
        // `grow_to` may change the form of the file, so the form is looked at behind it.
        self.grow_to(store, range.start)?;
        if piece.range().len() == BLOCK_BYTES_MAX && matches!(self.blocks, Blocks::Large(_)) {
            // The piece covers the unit, so no byte of the old unit stays.
            let new = store.arena.adopt(piece);
            self.put(store, index, Unit::Whole(new));
            self.size = self.size.max(range.end);
            return Ok(());
        }
        let hole = part(&range, index);
        let (place, capacity) = (piece.range(), store.arena.piece_capacity(&piece));
        let valid = self.valid(store, index);
        let is_large = matches!(self.blocks, Blocks::Large(_));
        let is_whole = place == hole && (capacity == BLOCK_BYTES_MAX || !is_large && capacity >= valid);
        let is_paged = place.start == hole.start % PAGE && capacity >= pages(&hole).len() * PAGE;
        let fits = self.small().is_some_and(|block| {
            range.start <= self.size && hole.end <= store.arena.capacity(block) && store.arena.in_place(block, &hole)
        });
        if is_whole && outside(&hole, valid) <= self.outside_max(store, index, &hole) {
            self.swap_in(store, piece, index, &hole);
        } else if is_large && (is_whole || is_paged && capacity < BLOCK_BYTES_MAX) {
            self.place_pages(store, piece, index, &hole, range.start <= self.size && range.end > self.size);
        } else if fits {
            let new = store.arena.adopt(piece);
            self.fill_from(store, 0, hole.start, (&new, place));
            store.arena.free(new);
        } else {
            return self.rewrite(store, std::iter::once(piece), range);
        }
        self.size = self.size.max(range.end);
        Ok(())
    }

    /// Limit, in bytes, on what is copied from a unit to the landed block that replaces it. Beyond it the
    /// landed bytes are copied to the unit, or their pages become a part.
    fn outside_max(&self, store: &Store, index: u64, hole: &Range<usize>) -> usize {
        match self.unit(index) {
            Some(Unit::Whole(block)) if !store.arena.in_place(block, hole) => EDGES_BYTES_MAX,
            _ => hole.len(),
        }
    }

    /// Replaces a whole unit by a fresh block, and copies the bytes around the landed ones to it.
    fn swap_in(&mut self, store: &mut Store, piece: Piece, index: u64, hole: &Range<usize>) {
        let new = store.arena.adopt(piece);
        if matches!(self.blocks, Blocks::Large(_)) {
            self.become_whole(store, index, hole, new);
            return;
        }
        let valid = self.valid(store, 0);
        let size = part(&(0..self.size), index).end.max(hole.end);
        store.complete(&new, self.small(), valid, hole.clone(), size, Why::Merge);
        if let Blocks::Small { block: old, .. } =
            std::mem::replace(&mut self.blocks, Blocks::Small { block: new, grown: true })
        {
            store.arena.free(old);
        }
    }

    /// Publishes the pages of a fresh block in a unit. Copies them if the unit's own blocks can be
    /// changed; otherwise the fresh block becomes a part.
    fn place_pages(&mut self, store: &mut Store, piece: Piece, index: u64, hole: &Range<usize>, appends: bool) {
        let place = piece.range();
        let new = store.arena.adopt(piece);
        self.fold(store, index, hole);
        let plan = match self.need(store, index, hole, appends) {
            Some(need) if need.is_whole() && self.unit(index).is_some() => {
                store.alloc_spare(BLOCK_BYTES_MAX).ok().map(|block| (need, block))
            }
            Some(_) => None,
            None => {
                // Another thread may have released a pin since the last call of `fold`.
                self.fold(store, index, hole);
                self.fill_from(store, index, hole.start, (&new, place));
                return store.arena.free(new);
            }
        };
        if plan.is_some() {
            self.carry_out(store, index, hole, plan);
            self.fill_from(store, index, hole.start, (&new, place));
            store.arena.free(new);
        } else {
            self.attach(store, index, hole, pages(hole), new);
        }
    }

    /// Writes the bytes of pieces like any others, a unit at a time, into memory that was set aside.
    fn rewrite(
        &mut self,
        store: &mut Store,
        mut pieces: impl Iterator<Item = Piece>,
        range: Range<u64>,
    ) -> Result<(), Full> {
        if range.end <= BLOCK && !matches!(self.blocks, Blocks::Large(_)) {
            let mut at = range.start;
            return pieces.try_for_each(|piece| {
                self.write(store, at, piece.bytes())?;
                at += piece.range().len() as u64;
                keep(store, piece);
                Ok(())
            });
        }
        let (appends, former) = self.become_large(store, &range)?;
        Self::confirm(store, former);
        self.grow_to(store, range.start)?;
        let mut current = None;
        let mut used = 0;
        for index in indices(&range) {
            let hole = part(&range, index);
            let plan = self.plan(store, index, &hole, appends)?;
            self.carry_out(store, index, &hole, plan);
            let mut at = hole.start;
            while at < hole.end {
                let piece = current.get_or_insert_with(|| pieces.next().expect("pieces cover the range"));
                let bytes = &piece.bytes()[used..];
                let n = bytes.len().min(hole.end - at);
                self.fill(store, index, at, &bytes[..n]);
                (at, used) = (at + n, used + n);
                if used == piece.range().len() {
                    current.take().into_iter().for_each(|piece| keep(store, piece));
                    used = 0;
                }
            }
        }
        self.size = self.size.max(range.end);
        Ok(())
    }
}

/// Bytes below `end` that a range does not cover.
fn outside(range: &Range<usize>, end: usize) -> usize {
    end - part_of(range, end)
}

/// A fresh block for a part of a unit: one for all of it, or one with the pages that the part touches.
fn land_in_unit(store: &mut Store, part: Range<usize>, continues: bool) -> Result<Piece, Full> {
    let count = pages(&part).len();
    if continues || count > PAGES / 2 {
        return store.land_fresh(BLOCK_BYTES_MAX, part);
    }
    let start = part.start % PAGE;
    store.land_fresh(count * PAGE, start..start + part.len())
}

/// Keeps the block of a piece whose bytes were copied in the reserve, or frees it if it is too small.
fn keep(store: &mut Store, piece: Piece) {
    if !piece.is_fresh() {
        return;
    }
    let block = store.arena.adopt(piece);
    if store.arena.capacity(&block) == BLOCK_BYTES_MAX {
        store.reserve.push(block);
    } else {
        store.arena.free(block);
    }
}
