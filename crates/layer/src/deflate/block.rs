//! One deflate block: literals and matches, and the shortest of the ways to write them.

use super::bits::BitWriter;
use super::huffman::Codes;

const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// Four literals between two spills: 4 * 14 = 56 bits.
const LITERAL_LIMIT: usize = 14;
const DISTANCE_LIMIT: usize = 15;
const MAX_STORED: usize = 65_535;

/// RFC 1951 section 3.2.5: the first length of each code from 257 on, and its extra bits.
const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// The order in which lengths of the codes for lengths are written.
const LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Which of the length codes a match of each length has, from 0 on.
const LENGTH_SLOT: [u8; 259] = {
    let mut slots = [0; 259];
    let mut slot = 0;
    let mut length = 3;
    while length < 259 {
        if slot < 28 && length == LENGTH_BASE[slot + 1] as usize {
            slot += 1;
        }
        slots[length] = slot as u8;
        length += 1;
    }
    slots
};

/// Some literals and the match after them.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) literals: u32,
    /// 3 to 258.
    pub(super) length: u16,
    /// 1 to 32768.
    pub(super) distance: u16,
}

/// What a block says; what follows the last match are literals.
#[derive(Default)]
pub(super) struct Block {
    pub(super) steps: Vec<Step>,
}

struct Counts {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

#[inline(always)]
fn distance_slot(distance: u16) -> (usize, u32) {
    let from_zero = u32::from(distance) - 1;
    if from_zero < 4 {
        return (from_zero as usize, 0);
    }
    let top = from_zero.ilog2();
    ((2 * top + (from_zero >> (top - 1) & 1)) as usize, top - 1)
}

impl Block {
    /// Writes the block, which says `data`, in the shorter of two ways: with codes of its own, or as it is.
    pub(super) fn write(&self, data: &[u8], out: &mut BitWriter) {
        let counts = self.count(data);
        let literals = Codes::new(&counts.literals, LITERAL_LIMIT);
        let distances = Codes::new(&counts.distances, DISTANCE_LIMIT);
        let header = Header::new(&literals, &distances);
        let extra =
            (0..29).map(|slot| u64::from(LENGTH_EXTRA[slot]) * u64::from(counts.literals[257 + slot]));
        let distance_extra =
            (2..DISTANCES).map(|slot| (slot as u64 / 2 - 1) * u64::from(counts.distances[slot]));
        let coded = header.bits()
            + literals.cost(&counts.literals)
            + distances.cost(&counts.distances)
            + extra.sum::<u64>()
            + distance_extra.sum::<u64>();
        let parts = data.len().div_ceil(MAX_STORED) as u64;
        if coded + 3 >= data.len() as u64 * 8 + parts * 40 {
            return store(data, out);
        }
        out.put_bits(0b100, 3);
        header.write(out);
        self.write_coded(data, &literals, &distances, out);
    }

    fn count(&self, data: &[u8]) -> Counts {
        // Four tables: the same byte twice in a row need not wait for itself.
        let mut tables = [[0_u32; 256]; 4];
        let mut count = |mut from: usize, mut count: usize| {
            while count > 4 {
                for (table, byte) in tables.iter_mut().zip(four(data, from)) {
                    table[usize::from(byte)] += 1;
                }
                from += 4;
                count -= 4;
            }
            for (i, (table, byte)) in tables.iter_mut().zip(four(data, from)).enumerate() {
                table[usize::from(byte)] += u32::from(i < count);
            }
        };
        let mut counts = Counts { literals: [0; LITERALS], distances: [0; DISTANCES] };
        let mut at = 0;
        for step in &self.steps {
            count(at, step.literals as usize);
            at += step.literals as usize + usize::from(step.length);
            counts.literals[257 + usize::from(LENGTH_SLOT[usize::from(step.length)])] += 1;
            counts.distances[distance_slot(step.distance).0] += 1;
        }
        count(at, data.len() - at);
        for (byte, count) in counts.literals[..256].iter_mut().enumerate() {
            *count = tables.iter().map(|table| table[byte]).sum();
        }
        counts.literals[END] = 1;
        counts
    }

    fn write_coded(
        &self,
        data: &[u8],
        literals: &Codes<LITERALS>,
        distances: &Codes<DISTANCES>,
        out: &mut BitWriter,
    ) {
        let mut lengths = [0_u32; 259];
        for (length, packed) in lengths.iter_mut().enumerate().skip(3) {
            let slot = usize::from(LENGTH_SLOT[length]);
            let code = literals.packed[257 + slot];
            let extra = (length - usize::from(LENGTH_BASE[slot])) as u32;
            let bits = extra << (code & 0xff) | code >> 8;
            *packed = bits << 8 | ((code & 0xff) + u32::from(LENGTH_EXTRA[slot]));
        }
        let bytes: &[u32; 256] = literals.packed.first_chunk().unwrap_or(&[0; 256]);
        let mut at = 0;
        for step in &self.steps {
            write_literals(data, at, step.literals as usize, bytes, out);
            at += step.literals as usize + usize::from(step.length);
            out.put(lengths[usize::from(step.length)]);
            let (slot, extra) = distance_slot(step.distance);
            out.put(distances.packed[slot]);
            out.put_bits((u32::from(step.distance) - 1) & ((1 << extra) - 1), extra);
            out.spill();
        }
        write_literals(data, at, data.len() - at, bytes, out);
        out.put(literals.packed[END]);
        out.spill();
    }
}

/// Writes `data[from..from + count]`. Most runs are short: then there is no branch to guess wrong.
#[inline(always)]
fn write_literals(data: &[u8], mut from: usize, mut count: usize, codes: &[u32; 256], out: &mut BitWriter) {
    while count > 4 {
        for byte in four(data, from) {
            out.put(codes[usize::from(byte)]);
        }
        out.spill();
        from += 4;
        count -= 4;
    }
    for (i, byte) in four(data, from).into_iter().enumerate() {
        out.put(if i < count { codes[usize::from(byte)] } else { 0 });
    }
    out.spill();
}

/// Four bytes, zeros where there are none.
#[inline(always)]
fn four(data: &[u8], from: usize) -> [u8; 4] {
    match data.get(from..).and_then(|rest| rest.first_chunk()) {
        Some(&four) => four,
        None => std::array::from_fn(|i| data.get(from + i).copied().unwrap_or(0)),
    }
}

/// Writes `data` as it is.
fn store(data: &[u8], out: &mut BitWriter) {
    for part in data.chunks(MAX_STORED) {
        out.put_bits(0, 3);
        out.align();
        let length = part.len() as u16;
        out.put_bytes(&length.to_le_bytes());
        out.put_bytes(&(!length).to_le_bytes());
        out.put_bytes(part);
    }
}

/// Ends what was written at a byte: an empty stored block.
pub(super) fn flush(out: &mut BitWriter) {
    out.put_bits(0, 3);
    out.align();
    out.put_bytes(&[0, 0, 0xff, 0xff]);
}

/// The lengths of both codes as they are written: repeats packed, and coded once more.
struct Header {
    literal_codes: usize,
    distance_codes: usize,
    /// Symbol, and the extra bits' value and count.
    symbols: Vec<(u8, u8, u8)>,
    codes: Codes<19>,
    counts: [u32; 19],
    order: usize,
}

impl Header {
    fn new(literals: &Codes<LITERALS>, distances: &Codes<DISTANCES>) -> Self {
        let used = |lengths: &[u8], least: usize| {
            lengths.iter().rposition(|&length| length > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literal_codes, distance_codes) = (used(&literals.lengths, 257), used(&distances.lengths, 1));
        let mut lengths = [0; LITERALS + DISTANCES];
        lengths[..literal_codes].copy_from_slice(&literals.lengths[..literal_codes]);
        lengths[literal_codes..][..distance_codes].copy_from_slice(&distances.lengths[..distance_codes]);
        let symbols = run_lengths(&lengths[..literal_codes + distance_codes]);
        let mut counts = [0; 19];
        for &(symbol, ..) in &symbols {
            counts[usize::from(symbol)] += 1;
        }
        let codes = Codes::new(&counts, 7);
        let order = LENGTH_ORDER
            .iter()
            .rposition(|&symbol| codes.lengths[symbol] > 0)
            .map_or(4, |last| (last + 1).max(4));
        Self { literal_codes, distance_codes, symbols, codes, counts, order }
    }

    fn bits(&self) -> u64 {
        let extra: u64 = self.symbols.iter().map(|&(.., bits)| u64::from(bits)).sum();
        14 + 3 * self.order as u64 + self.codes.cost(&self.counts) + extra
    }

    fn write(&self, out: &mut BitWriter) {
        out.put_bits(self.literal_codes as u32 - 257, 5);
        out.put_bits(self.distance_codes as u32 - 1, 5);
        out.put_bits(self.order as u32 - 4, 4);
        out.spill();
        for &symbol in &LENGTH_ORDER[..self.order] {
            out.put_bits(u32::from(self.codes.lengths[symbol]), 3);
            out.spill();
        }
        for &(symbol, extra, bits) in &self.symbols {
            out.put(self.codes.packed[usize::from(symbol)]);
            out.put_bits(u32::from(extra), u32::from(bits));
            out.spill();
        }
    }
}

/// RFC 1951 section 3.2.7: 16 repeats the last length 3 to 6 times, 17 and 18 are 3 to 10 and 11 to 138 zeros.
fn run_lengths(lengths: &[u8]) -> Vec<(u8, u8, u8)> {
    let mut symbols = Vec::with_capacity(lengths.len());
    let mut rest = lengths;
    while let Some(&length) = rest.first() {
        let mut run = rest.iter().take_while(|&&other| other == length).count();
        rest = &rest[run..];
        if length > 0 {
            symbols.push((length, 0, 0));
            run -= 1;
        }
        while run >= 3 {
            let (symbol, most, least, bits) = match (length, run) {
                (0, 11..) => (18, 138, 11, 7),
                (0, _) => (17, 10, 3, 3),
                _ => (16, 6, 3, 2),
            };
            let taken = run.min(most);
            symbols.push((symbol, (taken - least) as u8, bits));
            run -= taken;
        }
        symbols.extend(std::iter::repeat_n((length, 0, 0), run));
    }
    symbols
}
