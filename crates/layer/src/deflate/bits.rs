//! Bits into bytes, lowest first.

/// Collects bits; at most 56 at a time, between two calls of [`spill`](Self::spill).
pub(super) struct BitWriter {
    /// As long as there is room for; written up to `at`.
    bytes: Vec<u8>,
    at: usize,
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Has room for blocks that say `input` bytes and are no longer than stored ones. The room of `bytes` is used again.
    pub(super) fn new(mut bytes: Vec<u8>, input: usize) -> Self {
        bytes.resize(input + input / 1024 + 64, 0);
        Self { bytes, at: 0, pending: 0, count: 0 }
    }

    /// Adds the bits above the lowest eight of `packed`, which count them.
    #[inline(always)]
    pub(super) fn put(&mut self, packed: u32) {
        self.pending |= u64::from(packed >> 8) << self.count;
        self.count += packed & 0xff;
    }

    /// Adds `count` bits.
    #[inline(always)]
    pub(super) fn put_bits(&mut self, bits: u32, count: u32) {
        self.pending |= u64::from(bits) << self.count;
        self.count += count;
    }

    /// Makes room for 56 bits.
    #[inline(always)]
    pub(super) fn spill(&mut self) {
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.pending.to_le_bytes());
        // At most 63 bits are pending.
        self.pending >>= self.count & !7;
        self.at += (self.count >> 3) as usize;
        self.count &= 7;
    }

    /// Fills up the byte that was begun.
    pub(super) fn align(&mut self) {
        self.count = self.count.next_multiple_of(8);
        self.spill();
    }

    /// Adds bytes, at the end of a byte.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// All that was written, in whole bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes.truncate(self.at);
        self.bytes
    }
}
