//! Deflate (RFC 1951), made for layers: fast, in parallel, and with the same bytes on every machine.
//!
//! Matches are searched greedily, among the last two places that begin like the present one. The longer nothing is found
//! the more is skipped, so data that does not compress costs little; it is then stored as it is.

mod bits;
mod block;
mod huffman;

use bits::BitWriter;
use block::{Block, Step};

/// How far back a match may lie.
pub(crate) const WINDOW: usize = 32 << 10;
/// Input per block. Like all numbers here it decides the bytes, hence the digests, of all compressed layers.
const BLOCK: usize = 64 << 10;
const TABLE_BITS: u32 = 15;
const MIN_MATCH: usize = 4;
const MAX_MATCH: usize = 258;
/// After so many literals, a power of two, every second place is tried, after twice as many every third.
const PATIENCE: u32 = 7;
/// What is looked at in one go.
const WORD: usize = 8;

/// For each hash the last two positions that had it, modulo 2^16, the later in the lower half. Whether a position is what it
/// seems is seen by looking at what is there.
type Table = [u32; 1 << TABLE_BITS];

/// Compresses chunks, each for itself.
pub(crate) struct Deflater {
    table: Box<Table>,
    block: Block,
}

impl Deflater {
    pub(crate) fn new() -> Self {
        Self { table: Box::new([0; 1 << TABLE_BITS]), block: Block::default() }
    }

    /// Compresses `bytes[start..]`, where the bytes before are those that a reader has at that point. What comes out ends at
    /// a byte and is not the last part of its stream: [`END`] is that. The room of `out` is used again, not what is in it.
    pub(crate) fn deflate(&mut self, bytes: &[u8], start: usize, out: Vec<u8>) -> Vec<u8> {
        let mut out = BitWriter::new(out, bytes.len() - start);
        self.table.fill(0);
        for at in (start.saturating_sub(WINDOW)..start).step_by(2) {
            remember(&mut self.table, bytes, at);
        }
        let mut at = start;
        while at < bytes.len() {
            let end = bytes.len().min(at + BLOCK);
            self.block.steps.clear();
            find(&mut self.table, &bytes[..end], at, &mut self.block.steps);
            self.block.write(&bytes[at..end], &mut out);
            at = end;
        }
        block::flush(&mut out);
        out.finish()
    }
}

/// The last part of a stream: a block with nothing in it.
pub(crate) const END: [u8; 2] = [3, 0];

/// Cuts `bytes[from..]` into literals and matches; what follows the last match are literals.
fn find(table: &mut Table, bytes: &[u8], from: usize, steps: &mut Vec<Step>) {
    let last = bytes.len().saturating_sub(WORD);
    let (mut at, mut anchor) = (from, from);
    while at <= last {
        let here = word(bytes, at);
        let known = remember(table, bytes, at);
        // Both are looked at before anything is asked: a branch fewer that the processor guesses wrong.
        let near = (at as u16).wrapping_sub(known as u16);
        let far = (at as u16).wrapping_sub((known >> 16) as u16);
        let near_differ = here ^ word(bytes, at.wrapping_sub(near.into()));
        let far_differ = here ^ word(bytes, at.wrapping_sub(far.into()));
        if (near_differ as u32 != 0) & (far_differ as u32 != 0) {
            at += 1 + ((at - anchor) >> PATIENCE);
            continue;
        }
        let reach = at.min(WINDOW);
        let equal = |distance: u16, differ: u64| {
            let is_usable = usize::from(distance).wrapping_sub(1) < reach;
            if is_usable { (differ.trailing_zeros() / 8) as usize } else { 0 }
        };
        let (near_length, far_length) = (equal(near, near_differ), equal(far, far_differ));
        let (mut length, distance) =
            if far_length > near_length { (far_length, far) } else { (near_length, near) };
        if length < MIN_MATCH {
            at += 1;
            continue;
        }
        for next in 1..4 {
            remember(table, bytes, at + next);
        }
        if length == WORD {
            length += same(bytes, at - usize::from(distance) + WORD, at + WORD, MAX_MATCH - WORD);
            for next in (at + 4..(at + length).min(last)).step_by(4) {
                remember(table, bytes, next);
            }
        }
        steps.push(Step { literals: (at - anchor) as u32, length: length as u16, distance });
        at += length;
        anchor = at;
    }
}

/// Eight bytes, zeros where there are none.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&eight| u64::from_le_bytes(eight))
}

/// Puts a position into the table, and gives those that began like it.
#[inline(always)]
fn remember(table: &mut Table, bytes: &[u8], at: usize) -> u32 {
    let hash = (word(bytes, at) as u32).wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS);
    let entry = &mut table[hash as usize];
    let known = *entry;
    *entry = known << 16 | (at as u32 & 0xffff);
    known
}

/// How many bytes, at most `most`, are the same from `behind` and from `ahead` on.
#[inline(always)]
fn same(bytes: &[u8], behind: usize, ahead: usize, most: usize) -> usize {
    let most = most.min(bytes.len() - ahead);
    let (behind, ahead) = (&bytes[behind..][..most], &bytes[ahead..][..most]);
    let mut length = 0;
    for (a, b) in behind.chunks_exact(WORD).zip(ahead.chunks_exact(WORD)) {
        let differ = word(a, 0) ^ word(b, 0);
        if differ != 0 {
            return length + (differ.trailing_zeros() / 8) as usize;
        }
        length += WORD;
    }
    let rest = behind[length..].iter().zip(&ahead[length..]);
    length + rest.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    /// What a reader makes of the chunks.
    fn inflated(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        DeflateDecoder::new(&[parts.concat(), END.to_vec()].concat()[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn deflated(bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut deflater = Deflater::new();
        let starts = (0..bytes.len()).step_by(chunk);
        let parts = starts.map(|start| {
            let (from, end) = (start.saturating_sub(WINDOW), bytes.len().min(start + chunk));
            deflater.deflate(&bytes[from..end], start - from, Vec::new())
        });
        parts.collect()
    }

    /// Repeats of what was there before, and bytes of alphabets of all sizes.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let part = (0..3_u8, any::<u8>(), 1..2000_usize, 1..40_000_usize, any::<u64>());
        prop::collection::vec(part, 0..40).prop_map(|parts| {
            let mut bytes: Vec<u8> = Vec::new();
            for (kind, letters, length, back, mut state) in parts {
                for _ in 0..length {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let noise = ((state >> 33) % (u64::from(letters) + 1)) as u8;
                    let repeated = bytes.len().checked_sub(back).map(|at| bytes[at]);
                    bytes.push(if kind == 0 { noise } else { repeated.unwrap_or(letters) });
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_is_deflated_is_inflated(bytes in texts(), chunk in 1_000..200_000_usize) {
            prop_assert!(inflated(&deflated(&bytes, chunk)) == bytes);
        }
    }

    #[test]
    fn edges_of_runs_blocks_and_windows_come_back() {
        let noise = |count: usize| -> Vec<u8> {
            let mut state = 7_u64;
            let step = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            (0..count).map(step).collect()
        };
        // All distances around the largest, and around 2^16, where positions begin anew.
        for gap in [WINDOW - 9, WINDOW - 8, WINDOW - 7, WINDOW, (1 << 16) - 9, (1 << 16) - 8, 1 << 16, 99_000]
        {
            let bytes = [b"repeated".to_vec(), noise(gap), b"repeated".to_vec()].concat();
            assert!(inflated(&deflated(&bytes, 1 << 20)) == bytes, "{gap}");
        }
        for length in [0, 1, 2, 7, 8, 9, 257, 258, 259, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            for bytes in [vec![0; length], noise(length), b"ab".repeat(length / 2)] {
                assert!(inflated(&deflated(&bytes, 1 << 20)) == bytes, "{length}");
                assert!(inflated(&deflated(&bytes, 70_000)) == bytes, "{length}");
            }
        }
    }

    #[test]
    fn every_symbol_is_written_as_it_is_read() {
        // Fibonacci's numbers make the deepest code: it must be cut to its limit.
        let (mut bytes, mut count, mut next) = (Vec::new(), 1, 1);
        for letter in 0..24_u8 {
            bytes.extend(std::iter::repeat_n(letter, count));
            (count, next) = (next, count + next);
        }
        // Mixed, so that no match takes the letters away.
        let mixed: Vec<u8> = (0..bytes.len()).map(|i| bytes[i * 40_503 % bytes.len()]).collect();
        assert!(inflated(&deflated(&mixed, 1 << 20)) == mixed);
    }

    #[test]
    fn what_does_not_compress_hardly_grows() {
        let mut state = 1_u64;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let bytes: Vec<u8> = (0..1 << 20).map(step).collect();
        let size: usize = deflated(&bytes, 1 << 20).iter().map(Vec::len).sum();
        assert!(size < bytes.len() + 256, "{size}");
    }
}
