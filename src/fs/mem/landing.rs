//! Large payloads: memory for them before they arrive, and publishing once they are whole.
//!
//! A grant decides about memory alone. A block that is to be replaced lands in a fresh one. Data
//! behind the end of a file lands in place in its last block, behind every byte that a reply may
//! show. Order, append offset, edges and size are decided at the commit, from the content at that
//! time. Each grant sets aside enough blocks to publish by copying, so that no commit fails for
//! want of memory.
//!
//! Once grants hold an eighth of the memory, a new grant gets one block at a time, as bytes arrive.
//! So clients that announce much and send little hold little.

use super::content::{BLOCK, Blocks, Content, indices, part};
use super::store::Store;
use crate::arena::{BLOCK_BYTES_MAX, Block, Full, Piece, Space, Why};
use std::ops::Range;

/// Blocks set aside by a grant. The worst that can happen in between: a file that has become small has to take the large form again (1), the first piece now
/// straddles two blocks (2), brings none along since it landed in place, and the second piece needs the next (1). From then on every piece leaves its own
/// block behind for the one after it. A gap in front needs a block only where the form is large already, so it never adds to these.
const SPARES: usize = 4;

/// Grants hold at most one part in so many of the memory, but for a block each.
const GRANTED_SHARE: usize = 8;

impl Content {
    /// Memory for `range`, to be received into; or for a first part of it, where memory is scarce. It is added to `space`. On `Full` the file is as it was.
    pub(super) fn grant(&mut self, store: &mut Store, space: &mut Space, range: Range<u64>) -> Result<(), Full> {
        let is_large = range.end > BLOCK || matches!(self.blocks, Blocks::Large(_));
        let gauge = store.arena.gauge();
        let scarce = gauge.granted_bytes() + (range.end - range.start) as usize > gauge.total_bytes() / GRANTED_SHARE;
        let end = if scarce { range.end.min((range.start / BLOCK + 1) * BLOCK) } else { range.end };
        let whole = end == range.end;
        let spares = if whole { SPARES } else { 0 };
        // The form changes now, once, instead of at every commit that finds it small; but not before it is sure that there is memory for all.
        let first = if is_large && whole { self.first_of_large(store)? } else { None };
        let mut pieces = store.lists.pop().unwrap_or_default();
        let had = self.grant_pieces(store, &(range.start..end), is_large, first.as_ref(), &mut pieces);
        let had = had.and_then(|()| {
            (0..spares).try_for_each(|_| store.land_fresh(BLOCK_BYTES_MAX, 0..0).map(|spare| pieces.push(spare)))
        });
        if let Err(full) = had {
            pieces.clear();
            store.lists.push(pieces);
            first.into_iter().for_each(|block| store.arena.free(block));
            store.arena.collect();
            return Err(full);
        }
        if is_large && whole {
            self.take_large_form(store, first);
        }
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
        first: Option<&Block>,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Full> {
        for index in indices(range) {
            let part = part(range, index);
            let start = index * BLOCK_BYTES_MAX as u64 + part.start as u64;
            let (block, valid) = match first {
                Some(first) if index == 0 => (Some(first), self.size.min(BLOCK_BYTES_MAX as u64) as usize),
                _ => (self.block(index), self.valid(store, index)),
            };
            let piece = match block {
                Some(block)
                    if start >= self.size
                        && part.end <= store.arena.capacity(block)
                        && store.arena.in_place(block, valid) =>
                {
                    store.arena.land_in_place(block, part)
                }
                _ => {
                    let bytes = if is_large { BLOCK_BYTES_MAX } else { part.end.max(valid) };
                    store.land_fresh(bytes, part)?
                }
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
        let mut at = offset;
        let whole: usize = pieces.iter().map(|piece| piece.range().len()).sum();
        let is_large = offset + whole as u64 > BLOCK_BYTES_MAX as u64;
        let mut result = if is_large { self.make_large(store) } else { Ok(()) };
        for piece in pieces.drain(..) {
            let range = at..at + piece.range().len() as u64;
            at = range.end;
            if result.is_ok() {
                result = self.publish(store, piece, range, granted == offset);
            }
        }
        store.reserve.drain(..).for_each(|block| store.arena.free(block));
        store.lists.push(pieces);
        result
    }

    fn publish(&mut self, store: &mut Store, piece: Piece, range: Range<u64>, in_position: bool) -> Result<(), Full> {
        let index = range.start / BLOCK_BYTES_MAX as u64;
        if in_position && piece.is_fresh() && self.takes(store, &piece) {
            self.grow_to(store, range.start)?;
            self.swap_in(store, piece, index, range);
            return Ok(());
        }
        let own = self.block(index).is_some_and(|block| store.arena.is_within(&piece, block));
        if in_position && !piece.is_fresh() && own && self.size <= range.start {
            let valid = self.valid(store, index);
            let block = self.block(index).expect("just found");
            if store.arena.sealed(block) <= valid {
                // Letting go of the piece leaves its bytes behind the size, as good as written.
                drop(piece);
                self.grow_to(store, range.start)?;
                self.size = range.end;
                return Ok(());
            }
        }
        // The file is another one than at the grant: the bytes are written like any others, into the memory that was set aside.
        self.write(store, range.start, piece.bytes())?;
        if piece.is_fresh() {
            let block = store.arena.adopt(piece);
            if store.arena.capacity(&block) == BLOCK_BYTES_MAX {
                store.reserve.push(block);
            } else {
                store.arena.free(block);
            }
        }
        Ok(())
    }

    /// Whether the block of a fresh piece can take the place of what is there.
    fn takes(&self, store: &Store, piece: &Piece) -> bool {
        let capacity = store.arena.piece_capacity(piece);
        match &self.blocks {
            Blocks::Large(_) => capacity == BLOCK_BYTES_MAX,
            // Only a block 0 can be the block of a small file, and it must hold all that the old one held.
            Blocks::Small { .. } | Blocks::None => self.valid(store, 0) <= capacity,
        }
    }

    fn swap_in(&mut self, store: &mut Store, piece: Piece, index: u64, range: Range<u64>) {
        let hole = piece.range();
        let new = store.arena.adopt(piece);
        if hole.len() < BLOCK_BYTES_MAX {
            let valid = self.valid(store, index);
            let size = part(&(0..self.size), index).end.max(hole.end);
            let why = if matches!(self.blocks, Blocks::Large(_)) { Why::Rewrite } else { Why::Growth };
            store.complete(&new, self.block(index), valid, hole, size, why);
        }
        if let Some(old) = self.put(index, new) {
            store.arena.free(old);
        }
        self.size = self.size.max(range.end);
    }
}
