//! Prefix codes of limited length, as RFC 1951 section 3.2.2 numbers them.

/// A code for each symbol of an alphabet, made from how often each occurs.
pub(super) struct Codes<const SYMBOLS: usize> {
    /// Bits of each symbol's code; 0 for one that does not occur.
    pub(super) lengths: [u8; SYMBOLS],
    /// The code, first bit lowest, above eight bits with its length.
    pub(super) packed: [u32; SYMBOLS],
}

impl<const SYMBOLS: usize> Codes<SYMBOLS> {
    /// Codes of at most `limit` bits, shorter for what is more frequent. Symbols that do not occur are added until there
    /// are two: some readers refuse a code that is not complete.
    pub(super) fn new(counts: &[u32; SYMBOLS], limit: usize) -> Self {
        let mut sorted = [0_u64; SYMBOLS];
        let mut used = 0;
        let mut use_symbol = |count: u32, symbol: usize| {
            sorted[used] = u64::from(count) << 16 | symbol as u64;
            used += 1;
        };
        let present = counts.iter().filter(|&&count| count > 0).count();
        let mut added = 2_usize.saturating_sub(present);
        for (symbol, &count) in counts.iter().enumerate() {
            if count > 0 {
                use_symbol(count, symbol);
            } else if added > 0 {
                added -= 1;
                use_symbol(1, symbol);
            }
        }
        let sorted = &mut sorted[..used];
        sorted.sort_unstable();
        let mut depths = [0_u32; SYMBOLS];
        let depths = &mut depths[..used];
        for (depth, &entry) in depths.iter_mut().zip(sorted.iter()) {
            *depth = (entry >> 16) as u32;
        }
        optimal_depths(depths);
        let per_length = limited(depths, limit);
        let mut lengths = [0; SYMBOLS];
        let mut rarest_first = sorted.iter();
        for length in (1..=limit).rev() {
            for entry in rarest_first.by_ref().take(per_length[length] as usize) {
                lengths[(entry & 0xffff) as usize] = length as u8;
            }
        }
        let packed = number(&lengths, &per_length);
        Self { lengths, packed }
    }

    /// How many bits text with these counts takes, what goes with a symbol apart.
    pub(super) fn cost(&self, counts: &[u32; SYMBOLS]) -> u64 {
        self.lengths.iter().zip(counts).map(|(&length, &count)| u64::from(length) * u64::from(count)).sum()
    }
}

/// Turns weights, in ascending order and two at least, into depths of an optimal tree, in place (Moffat and Katajainen, "In-place
/// calculation of minimum-redundancy codes", 1995).
fn optimal_depths(weights: &mut [u32]) {
    let count = weights.len();
    let (mut root, mut leaf) = (0, 0);
    for next in 0..count - 1 {
        let mut sum = 0;
        for _ in 0..2 {
            if leaf < count && (root >= next || weights[leaf] <= weights[root]) {
                sum += weights[leaf];
                leaf += 1;
            } else {
                sum += weights[root];
                weights[root] = next as u32;
                root += 1;
            }
        }
        weights[next] = sum;
    }
    // Inner nodes name their parents: now their depths.
    weights[count - 2] = 0;
    for node in (0..count - 2).rev() {
        weights[node] = weights[weights[node] as usize] + 1;
    }
    let (mut inner, mut next) = (count - 1, count);
    let (mut free, mut depth) = (1, 0);
    while free > 0 {
        let mut inner_here = 0;
        while inner > 0 && weights[inner - 1] == depth {
            inner -= 1;
            inner_here += 1;
        }
        for _ in inner_here..free {
            next -= 1;
            weights[next] = depth;
        }
        free = 2 * inner_here;
        depth += 1;
    }
}

/// How many symbols get each length: those of `depths`, and where these are too deep, the nearest that makes a complete code.
fn limited(depths: &[u32], limit: usize) -> [u32; 16] {
    let mut per_length = [0_u32; 16];
    for &depth in depths {
        per_length[(depth as usize).min(limit)] += 1;
    }
    let full = 1_u32 << limit;
    let mut taken: u32 = (1..=limit).map(|length| per_length[length] << (limit - length)).sum();
    while taken > full {
        // A leaf moves down and takes one from the bottom as its sibling.
        let Some(above) = (1..limit).rev().find(|&length| per_length[length] > 0) else { break };
        per_length[limit] -= 1;
        per_length[above] -= 1;
        per_length[above + 1] += 2;
        taken -= 1;
    }
    per_length
}

fn number<const SYMBOLS: usize>(lengths: &[u8; SYMBOLS], per_length: &[u32; 16]) -> [u32; SYMBOLS] {
    let mut next = [0_u32; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + per_length[length - 1]) << 1;
    }
    let mut packed = [0; SYMBOLS];
    for (packed, &length) in packed.iter_mut().zip(lengths) {
        if length > 0 {
            let code = next[usize::from(length)];
            next[usize::from(length)] += 1;
            *packed = code.reverse_bits() >> (32 - u32::from(length)) << 8 | u32::from(length);
        }
    }
    packed
}
