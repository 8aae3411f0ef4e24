//! What a decode step must read of the device's memory: the byte model, from which bounds on speed follow.
//!
//! ```text
//! weights     every matrix once, packed, with its scales; the head once; a row of the embedding for each token
//! vectors     norms and biases, once
//! KV cache    keys and values of every position that a row sees, once
//! ```
//! Activations are left out: they are some kilobytes a layer and stay in the L2 cache. A step that reads less than this
//! is impossible, so bandwidth over these bytes bounds steps a second from above. It is a bound, never a measurement.

use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightInfo;

use crate::form::Form;
use crate::holding::Holding;
use crate::kv::KvShape;
use crate::weights::{EMBEDDING, is_head};

/// Bytes that a decode step reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeBytes {
    /// Matrices and vectors, the head's among them.
    pub weights: usize,
    /// Rows of the embedding.
    pub embedding: usize,
    /// Keys and values.
    pub kv: usize,
}

impl DecodeBytes {
    /// All of them.
    pub fn sum(&self) -> usize {
        self.weights + self.embedding + self.kv
    }

    /// Steps a second at so many bytes a second: an upper bound.
    pub fn steps_max(&self, bytes_per_second: f64) -> f64 {
        bytes_per_second / self.sum() as f64
    }
}

/// See [`Holding::decode_bytes`].
pub(crate) fn read_by_step(
    holding: &Holding,
    spec: &DecoderSpec,
    tensors: &[WeightInfo],
    rows: usize,
    positions: usize,
) -> DecodeBytes {
    let mut bytes = DecodeBytes {
        kv: rows * positions * KvShape::new(spec, 1).of(holding.kv).position_bytes(),
        ..DecodeBytes::default()
    };
    for tensor in tensors {
        let &[height, width] = &tensor.shape[..] else {
            bytes.weights += 4 * tensor.shape.iter().product::<usize>();
            continue;
        };
        let (form, head) = (Form::of(tensor.kind), holding.head(tensor.kind));
        let is_embedding = tensor.name == EMBEDDING;
        if !is_embedding || spec.tied_head {
            let form = if is_head(spec, &tensor.name) { head } else { form };
            let (weights, scales) = form.bytes(height, width);
            bytes.weights += weights + scales;
        }
        if is_embedding {
            let (weights, scales) = form.bytes(1, width);
            // A row is a sixteenth of the tile that it lies in; 16-bit rows lie as in the file.
            bytes.embedding += rows * (weights + scales) / crate::form::TILE;
        }
    }
    bytes
}
