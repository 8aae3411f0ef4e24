//! The forms that matrices have on the device, and what they take.

use quarry_formats::quant::TensorType;

/// Rows of a tile.
pub const TILE: usize = 16;
/// Columns that share a scale.
pub const GROUP: usize = 32;
/// Columns that share a scale in AWQ.
const AWQ_GROUP: usize = 128;
/// Columns are padded to a multiple of this.
pub const COLUMNS: usize = 64;

/// How a matrix is held on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// 4-bit integers, 5 bits a weight with their scales.
    Q4,
    /// 4-bit integers whose scales are those of AWQ's groups of 128, 4.25 bits a weight.
    Awq,
    /// 8-bit integers, 9 bits a weight.
    Q8,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Form {
    /// The form of a file's type. Loss: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, F16 and BF16 keep their values; Q4_K's, Q5_K's
    /// and AWQ's products of scales are rounded to f16 (2⁻¹¹ of each); Q2_K, Q3_K, Q6_K and IQ4_XS are rounded to 8 bits of
    /// the largest of 32 (at most 1/254 of it); F32 is rounded to bf16 (2⁻⁹).
    pub fn of(kind: TensorType) -> Self {
        match kind {
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q4K => Self::Q4,
            TensorType::AWQ4 => Self::Awq,
            TensorType::F16 => Self::F16,
            TensorType::BF16 | TensorType::F32 => Self::Bf16,
            _ => Self::Q8,
        }
    }

    /// Whether it is multiplied by 8-bit activations.
    pub fn is_integer(self) -> bool {
        matches!(self, Self::Q4 | Self::Awq | Self::Q8)
    }

    /// Columns of an integer form that share a scale.
    pub fn scale_columns(self) -> usize {
        if self == Self::Awq { AWQ_GROUP } else { GROUP }
    }

    /// Bytes of the weights and of the scales.
    pub fn bytes(self, rows: usize, columns: usize) -> (usize, usize) {
        let (rows, columns) = (rows.next_multiple_of(TILE), columns.next_multiple_of(COLUMNS));
        let elements = rows * columns;
        match self {
            Self::Q4 => (elements / 2, elements / GROUP * 4),
            Self::Awq => (elements / 2, rows * columns.div_ceil(AWQ_GROUP) * 4),
            Self::Q8 => (elements, elements / GROUP * 4),
            Self::Bf16 | Self::F16 => (elements * 2, 0),
        }
    }
}
