//! How fast a decode step can be at most: bandwidth over the bytes that it must read.

use quarry_cuda_layout::Holding;

use super::Candidate;

/// Conversations that are answered in one step, and the tokens of each.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub streams: usize,
    pub context: usize,
    /// How the device holds models.
    pub holding: Holding,
}

impl Load {
    /// Bytes of a step.
    pub fn bytes(self, model: &Candidate) -> usize {
        self.holding.decode_bytes(&model.spec, &model.tensors, self.streams, self.context).sum()
    }

    /// Tokens a second of all streams together, at most, at so many GB/s.
    pub fn tokens_max(self, model: &Candidate, bandwidth: f64) -> f64 {
        let bytes = self.holding.decode_bytes(&model.spec, &model.tensors, self.streams, self.context);
        bytes.steps_max(bandwidth * 1e9) * self.streams as f64
    }
}
