//! The weights of a model in one piece of device memory.

use quarry_model::spec::DecoderSpec;
use quarry_model::weights::WeightInfo;

use crate::form::Form;
use crate::holding::Holding;

/// Where pieces begin on the device, in bytes: a line of its L2 cache, twice.
pub const ALIGN: usize = 256;

/// Pieces one after another.
#[derive(Debug, Default)]
pub struct Places {
    /// Where the last piece ends, in bytes.
    pub end: usize,
}

impl Places {
    /// Where the next piece begins, which has so many bytes.
    pub fn add(&mut self, bytes: usize) -> usize {
        let at = self.end.next_multiple_of(ALIGN);
        self.end = at + bytes;
        at
    }
}

/// Bytes that these tensors take on the device, known before they are read.
pub(crate) fn weight_bytes(holding: &Holding, spec: &DecoderSpec, tensors: &[WeightInfo]) -> usize {
    let mut places = Places::default();
    // RoPE's frequencies are a model's, too.
    places.add(4 * (spec.rope.dims / 2));
    for tensor in tensors {
        let &[rows, columns] = &tensor.shape[..] else {
            places.add(4 * tensor.shape.iter().product::<usize>());
            continue;
        };
        let form = Form::of(tensor.kind);
        let is_embedding = tensor.name == EMBEDDING;
        if is_embedding && !form.is_integer() {
            places.add(2 * rows * columns);
        }
        if !is_embedding || spec.tied_head || form.is_integer() {
            let form = if is_head(spec, &tensor.name) { holding.head(tensor.kind) } else { form };
            let (weights, scales) = form.bytes(rows, columns);
            places.add(weights);
            places.add(scales);
        }
    }
    places.end
}

pub(crate) const EMBEDDING: &str = "token_embd.weight";

/// Whether logits come from this matrix.
pub(crate) fn is_head(spec: &DecoderSpec, name: &str) -> bool {
    name == if spec.tied_head { EMBEDDING } else { "output.weight" }
}
