//! How a packed matrix keeps its integers and scales: one form per set of bits and kind of scale.
//!
//! A tile is 16 rows; its bytes are planes, one after another, each holding all groups of 32 columns:
//!
//! ```text
//! low    per group  4 × 64 B  byte (i, r, k): low nibble = row r, column 4 i + k; high nibble = column 16 + 4 i + k
//!                   (8-bit forms: 8 × 64 B, byte (i, r, k) = row r, column 4 i + k)
//! high   per group  5 bits: 64 B, byte (r, k): bit i = fifth bit of column 4 i + k
//!                   6 bits: 2 × 64 B, byte (r, k) of half h: bits 2 i, 2 i + 1 = upper bits of column 16 h + 4 i + k
//! scale  f16 × 16 rows, per group; in K forms per 8 groups, then
//! sub    u8 × 16 rows per group (4 and 5 bits), i8 × 16 rows per 16 columns (6 bits)
//! min    f16 × 16 rows per group, or per 8 groups in K forms, then sub_min u8 × 16 rows per group; subtracted
//! ```
//! weight = scale [· sub] · (q − offset) [− min [· sub_min]]

use quarry_formats::quant::TensorType;

use super::{GROUP, TILE};

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
            TensorType::Q4_1 => Self::Q4Min,
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

/// Where a tile's planes begin, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Upper bits of the integers; the low plane begins at 0.
    pub high: usize,
    /// f16 scales.
    pub scale: usize,
    /// Sub-block scales.
    pub sub: usize,
    /// f16 minimums.
    pub min: usize,
    /// Sub-block minimums.
    pub sub_min: usize,
    /// Bytes of the tile.
    pub bytes: usize,
}

impl Planes {
    /// For tiles of `groups` groups; K forms have whole super-blocks.
    pub fn new(form: Form, groups: usize) -> Self {
        let halves = if form.is_super() { groups.div_ceil(SUPER) * HALVES } else { groups * HALVES };
        let high = groups * form.low_bytes();
        let scale = high + groups * form.high_bytes();
        let sub = scale + halves;
        let min = sub + groups * form.sub_bytes();
        let (min_bytes, sub_min_bytes) = match (form.has_min(), form.is_super()) {
            (false, _) => (0, 0),
            (true, false) => (halves, 0),
            (true, true) => (halves, groups * TILE),
        };
        let sub_min = min + min_bytes;
        let bytes = (sub_min + sub_min_bytes).next_multiple_of(LINE);
        Self { high, scale, sub, min, sub_min, bytes }
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
                let packed = Planes::new(form, columns / GROUP).bytes;
                let file = TILE * kind.row_bytes(columns);
                let ratio = packed as f64 / file as f64;
                assert!(ratio < 1.05, "{} of {columns}: {ratio}", kind.name());
            }
        }
    }
}
