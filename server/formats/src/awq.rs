//! AWQ checkpoints, version `gemm` (source: AutoAWQ, `awq/modules/linear/gemm.py` and `utils/packing_utils.py`).
//!
//! ```text
//! qweight i32 [in, out / 8]           word (i, c), nibble k = q of input i, output 8 c + ORDER[k]
//! qzeros  i32 [in / group, out / 8]   the same for the zero points of a group of inputs
//! scales  f16 [in / group, out]
//! weight[o][i] = scales[i / group][o] · (q[i][o] − zeros[i / group][o])
//! ```
//! Outputs are interleaved so that CUDA kernels unpack a word with few shifts. A decoder wants a row for each output, so
//! [`gather`] turns the three tensors into rows of [`BlockAWQ4`] and keeps every bit of them.

use crate::quant::{Block, BlockAWQ4};

/// Inputs under one scale: all that is supported, and what published checkpoints have.
pub const GROUP: usize = 128;
/// Outputs of a word.
pub const WORD: usize = 8;
/// Output of each nibble of a word, lowest nibble first.
pub const ORDER: [usize; WORD] = [0, 2, 4, 6, 1, 3, 5, 7];
/// The low nibble of every byte.
const LOW: u32 = 0x0f0f_0f0f;
/// Words of a cache line: going down the inputs reads whole lines.
const LINE: usize = 16;

/// A quantized matrix as the file has it, shapes checked by [`Matrix::new`].
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    inputs: usize,
    outputs: usize,
    qweight: &'a [u8],
    qzeros: &'a [u8],
    scales: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// The bytes of the three tensors of a matrix with `inputs` columns and `outputs` rows.
    ///
    /// # Errors
    /// What does not fit.
    pub fn new(
        (inputs, outputs): (usize, usize),
        qweight: &'a [u8],
        qzeros: &'a [u8],
        scales: &'a [u8],
    ) -> Result<Self, String> {
        if inputs == 0 || !inputs.is_multiple_of(GROUP) || outputs == 0 || !outputs.is_multiple_of(WORD) {
            return Err(format!(
                "{inputs} inputs and {outputs} outputs are not whole groups of {GROUP} and words of {WORD}"
            ));
        }
        let groups = inputs / GROUP;
        for (name, found, each) in [
            ("qweight", qweight, inputs * 4),
            ("qzeros", qzeros, groups * 4),
            ("scales", scales, groups * 2 * WORD),
        ] {
            let expected = (outputs / WORD).checked_mul(each);
            if Some(found.len()) != expected {
                return Err(format!(
                    "{name} has {} bytes for {inputs} inputs and {outputs} outputs",
                    found.len()
                ));
            }
        }
        Ok(Self { inputs, outputs, qweight, qzeros, scales })
    }

    /// Blocks of a row.
    pub fn row_blocks(&self) -> usize {
        self.inputs / GROUP
    }

    /// Rows `first..first + out.len() / row_blocks` as blocks, row after row.
    ///
    /// # Panics
    /// If the rows are not whole words of outputs or pass the end.
    pub fn gather(&self, first: usize, out: &mut [BlockAWQ4]) {
        let (groups, words) = (self.row_blocks(), self.outputs / WORD);
        assert!(first.is_multiple_of(WORD) && out.len().is_multiple_of(groups * WORD), "whole words of rows");
        let (first, end) = (first / WORD, first / WORD + out.len() / groups / WORD);
        assert!(end <= words, "rows up to {} of {}", end * WORD, self.outputs);
        let word = |bytes: &[u8], row: usize, c: usize| {
            let at = (row * words + c) * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        for line in (first..end).step_by(LINE) {
            let line = line..end.min(line + LINE);
            for group in 0..groups {
                for c in line.clone() {
                    let zeros = word(self.qzeros, group, c);
                    for (k, output) in ORDER.into_iter().enumerate() {
                        let at = (group * self.outputs + c * WORD + output) * 2;
                        let block = &mut out[((c - first) * WORD + output) * groups + group];
                        block.d = [self.scales[at], self.scales[at + 1]];
                        block.z = (zeros >> (4 * k) & 15) as u8;
                    }
                }
                // By row first in a small buffer, whose lines stay in the nearest cache.
                let mut nibbles = [[0_u8; GROUP / 2]; LINE * WORD];
                for pair in 0..GROUP / 2 {
                    let input = group * GROUP + 2 * pair;
                    for (c, rows) in line.clone().zip(nibbles.as_chunks_mut::<WORD>().0) {
                        let (even, odd) = (word(self.qweight, input, c), word(self.qweight, input + 1, c));
                        // Nibbles 0, 2, 4, 6 of both words, each pair of them a byte; then 1, 3, 5, 7.
                        let first = (even & LOW | (odd & LOW) << 4).to_le_bytes();
                        let second = (even >> 4 & LOW | odd & !LOW).to_le_bytes();
                        for k in 0..WORD / 2 {
                            rows[ORDER[2 * k]][pair] = first[k];
                            rows[ORDER[2 * k + 1]][pair] = second[k];
                        }
                    }
                }
                let rows = (line.start - first) * WORD..(line.end - first) * WORD;
                for (row, nibbles) in rows.zip(&nibbles) {
                    out[row * groups + group].qs = *nibbles;
                }
            }
        }
    }

    /// The whole matrix as bytes of blocks, row after row.
    pub fn rows(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.outputs * self.row_blocks() * size_of::<BlockAWQ4>()];
        self.gather(0, bytemuck::cast_slice_mut(&mut bytes));
        bytes
    }
}

/// Bytes of the three tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// `i32 [in, out / 8]`.
    pub qweight: Vec<u8>,
    /// `i32 [in / group, out / 8]`.
    pub qzeros: Vec<u8>,
    /// `f16 [in / group, out]`.
    pub scales: Vec<u8>,
}

/// The inverse of [`Matrix::rows`], for tests and generated models.
///
/// # Panics
/// If `blocks` are not `outputs` rows, or `outputs` not whole words.
pub fn scatter(blocks: &[BlockAWQ4], outputs: usize) -> Packed {
    assert!(outputs.is_multiple_of(WORD) && blocks.len().is_multiple_of(outputs), "whole words of rows");
    let groups = blocks.len() / outputs;
    let mut packed = Packed::default();
    let block = |output: usize, group: usize| &blocks[output * groups + group];
    let word = |nibble: &dyn Fn(usize) -> u8| {
        let place = |(k, output): (usize, usize)| u32::from(nibble(output)) << (4 * k);
        ORDER.into_iter().enumerate().map(place).sum::<u32>().to_le_bytes()
    };
    for group in 0..groups {
        for c in 0..outputs / WORD {
            packed.qzeros.extend(word(&|output| block(c * WORD + output, group).z));
        }
        for output in 0..outputs {
            packed.scales.extend(block(output, group).d);
        }
        for i in 0..BlockAWQ4::ELEMENTS {
            for c in 0..outputs / WORD {
                let nibble = |output: usize| block(c * WORD + output, group).qs[i / 2] >> (4 * (i % 2)) & 15;
                packed.qweight.extend(word(&nibble));
            }
        }
    }
    packed
}
