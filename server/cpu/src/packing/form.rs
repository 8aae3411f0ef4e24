//! How a packed matrix keeps its integers and scales: one form per set of bits and kind of scale.
//!
//! A tile is 16 rows, cut into records of 128 columns (256 in K forms), so that reading it is reading memory in order.
//! weight = scale [· sub] · (q − offset) [− min [· sub_min]]. A record of n groups of 32 columns holds
//!
//! ```text
//! low      n × 4 × 64 B  byte (i, r, k): low nibble = row r, column 4 i + k; high nibble = column 16 + 4 i + k
//!                        (8-bit forms: n × 8 × 64 B, byte (i, r, k) = row r, column 4 i + k)
//! high     5 bits: n × 64 B, byte (r, k): bit i = fifth bit of column 4 i + k
//!          6 bits: n × 2 × 64 B, byte (r, k) of half h: bits 2 i, 2 i + 1 = upper bits of column 16 h + 4 i + k
//! sub      u8 × 16 rows per group (K, 4 and 5 bits), i8 × 16 rows per 16 columns (K, 6 bits)
//! sub_min  u8 × 16 rows per group (K forms with minimums)
//! scale    f16 × 16 rows per group, in K forms once
//! min      as scale, in forms with minimums
//! ```

use quarry_formats::quant::TensorType;

use super::{GROUP, TILE};

/// Groups of a block, which has one activation scale.
pub const BLOCK_GROUPS: usize = 4;
/// Groups of a super-block of the K formats.
pub const SUPER: usize = 8;
/// Bytes of sixteen f16.
const HALVES: usize = 2 * TILE;
/// A tile's bytes are whole cache lines.
const LINE: usize = 64;

/// A packed form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 4 bits, a scale per 32 (Q4_0).
    Q4,
    /// 4 bits, a scale and a minimum per 32 (Q4_1).
    Q4Min,
    /// 5 bits, a scale per 32 (Q5_0).
    Q5,
    /// 5 bits, a scale and a minimum per 32 (Q5_1).
    Q5Min,
    /// 8 bits, a scale per 32: Q8_0, and whatever is rounded to it.
    Q8,
    /// 4 bits, 6-bit scales and minimums per 32 (Q4_K).
    K4,
    /// 5 bits, 6-bit scales and minimums per 32 (Q5_K).
    K5,
    /// 6 bits, 8-bit scales per 16 (Q6_K).
    K6,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 8] =
        [Self::Q4, Self::Q4Min, Self::Q5, Self::Q5Min, Self::Q8, Self::K4, Self::K5, Self::K6];

    /// The form that keeps a file's integers, else the 8-bit form that they are rounded to.
    pub fn of(kind: TensorType) -> Self {
        match kind {
            TensorType::Q4_0 => Self::Q4,
            TensorType::Q4_1 | TensorType::AWQ4 => Self::Q4Min,
            TensorType::Q5_0 => Self::Q5,
            TensorType::Q5_1 => Self::Q5Min,
            TensorType::Q4K => Self::K4,
            TensorType::Q5K => Self::K5,
            TensorType::Q6K => Self::K6,
            _ => Self::Q8,
        }
    }

    /// Bits of an integer.
    pub const fn bits(self) -> usize {
        match self {
            Self::Q4 | Self::Q4Min | Self::K4 => 4,
            Self::Q5 | Self::Q5Min | Self::K5 => 5,
            Self::K6 => 6,
            Self::Q8 => 8,
        }
    }

    /// Subtracted from every integer: 2 to this power, or nothing.
    pub const fn offset_log2(self) -> Option<u32> {
        match self {
            Self::Q4 => Some(3),
            Self::Q5 => Some(4),
            Self::K6 => Some(5),
            Self::Q8 => Some(7),
            Self::Q4Min | Self::Q5Min | Self::K4 | Self::K5 => None,
        }
    }

    /// As a number.
    pub const fn offset(self) -> i32 {
        match self.offset_log2() {
            Some(log2) => 1 << log2,
            None => 0,
        }
    }

    /// Whether a minimum is subtracted.
    pub const fn has_min(self) -> bool {
        matches!(self, Self::Q4Min | Self::Q5Min | Self::K4 | Self::K5)
    }

    /// Whether scales are products of a super-block's and a sub-block's.
    pub const fn is_super(self) -> bool {
        matches!(self, Self::K4 | Self::K5 | Self::K6)
    }

    /// Columns under one scale.
    pub const fn fold_columns(self) -> usize {
        if matches!(self, Self::K6) { 16 } else { GROUP }
    }

    /// Bytes of a group in the low plane.
    pub const fn low_bytes(self) -> usize {
        if self.bits() == 8 { TILE * GROUP } else { TILE * GROUP / 2 }
    }

    /// Bytes of a group in the high plane.
    pub const fn high_bytes(self) -> usize {
        match self.bits() {
            5 => TILE * GROUP / 8,
            6 => TILE * GROUP / 4,
            _ => 0,
        }
    }

    /// Bytes of a group's sub-block scales.
    pub const fn sub_bytes(self) -> usize {
        match self {
            Self::K4 | Self::K5 => TILE,
            Self::K6 => 2 * TILE,
            _ => 0,
        }
    }
}

/// A tile's size and how to find a block in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    form: Form,
    groups: usize,
    record_bytes: usize,
    /// Bytes of the tile.
    pub bytes: usize,
}

/// Where the parts of a block of 128 columns begin, in bytes from the tile's start. Group i of the block is the i-th
/// of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockParts {
    /// Integers, or their low nibbles.
    pub low: usize,
    /// Upper bits.
    pub high: usize,
    /// Sub-block scales.
    pub sub: usize,
    /// Sub-block minimums.
    pub sub_min: usize,
    /// f16 scales; in K forms one for the whole block.
    pub scale: usize,
    /// f16 minimums; in K forms one for the whole block.
    pub min: usize,
}

impl Layout {
    /// For tiles of `groups` groups; K forms have whole super-blocks.
    pub fn new(form: Form, groups: usize) -> Self {
        let of = |n: usize| Self::record(form, n);
        let n = if form.is_super() { SUPER } else { BLOCK_GROUPS };
        let bytes = groups / n * of(n) + of(groups % n);
        Self { form, groups, record_bytes: of(n), bytes: bytes.next_multiple_of(LINE) }
    }

    /// Bytes of a record of `n` groups.
    fn record(form: Form, n: usize) -> usize {
        if n == 0 {
            return 0;
        }
        let sub_min = if form.is_super() && form.has_min() { TILE } else { 0 };
        let halves = if form.has_min() { 2 * HALVES } else { HALVES };
        let each = form.low_bytes() + form.high_bytes() + form.sub_bytes() + sub_min;
        if form.is_super() { (n * each + halves).next_multiple_of(LINE) } else { n * (each + halves) }
    }

    /// Parts of block `b`.
    #[inline(always)]
    pub fn block(&self, b: usize) -> BlockParts {
        let (low, high, sub) = (self.form.low_bytes(), self.form.high_bytes(), self.form.sub_bytes());
        if self.form.is_super() {
            let base = b / 2 * self.record_bytes;
            let first = b % 2 * BLOCK_GROUPS;
            let high_at = base + SUPER * low;
            let sub_at = high_at + SUPER * high;
            let sub_min_at = sub_at + SUPER * sub;
            let scale = sub_min_at + if self.form.has_min() { SUPER * TILE } else { 0 };
            return BlockParts {
                low: base + first * low,
                high: high_at + first * high,
                sub: sub_at + first * sub,
                sub_min: sub_min_at + first * TILE,
                scale,
                min: scale + HALVES,
            };
        }
        let n = BLOCK_GROUPS.min(self.groups - b * BLOCK_GROUPS);
        let base = b * self.record_bytes;
        let high_at = base + n * low;
        let scale = high_at + n * high;
        BlockParts { low: base, high: high_at, sub: scale, sub_min: scale, scale, min: scale + n * HALVES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bytes_are_within_five_percent_of_the_files() {
        for kind in TensorType::ALL {
            let form = Form::of(kind);
            if form == Form::Q8 && kind.name() != "Q8_0" {
                continue; // rounded to 8 bits on purpose
            }
            for columns in [512, 2560, 4864] {
                let packed = Layout::new(form, columns / GROUP).bytes;
                let file = TILE * kind.row_bytes(columns);
                let ratio = packed as f64 / file as f64;
                assert!(ratio < 1.05, "{} of {columns}: {ratio}", kind.name());
            }
        }
    }
}
