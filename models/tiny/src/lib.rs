//! Generator of small random models in the exact architectures, with golden logits.
