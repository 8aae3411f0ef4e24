//! How fast a decode step can be at most: bandwidth over the bytes that it must read.

use quarry_cuda_layout::decode_bytes;

use super::Candidate;

/// Conversations that are answered in one step, and the tokens of each.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub streams: usize,
    pub context: usize,
}

impl Load {
    /// Bytes of a step.
    pub fn bytes(self, model: &Candidate) -> usize {
        decode_bytes(&model.spec, &model.tensors, self.streams, self.context).sum()
    }

    /// Tokens a second of all streams together, at most, at so many GB/s.
    pub fn tokens_max(self, model: &Candidate, bandwidth: f64) -> f64 {
        let bytes = decode_bytes(&model.spec, &model.tensors, self.streams, self.context);
        bytes.steps_max(bandwidth * 1e9) * self.streams as f64
    }
}
