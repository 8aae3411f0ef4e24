//! Rotary frequencies and their scaling, computed once per model for every back end.

use crate::spec::{RopeScaling, RopeSpec};

/// Angle per position of each pair, and the factor on cos and sin.
///
/// Sources: Su et al. 2021 (RoPE); Peng et al. 2023, arXiv:2309.00071 (YaRN), sections 3.2 and 3.4; for llama 3.1, which
/// has no paper of its own on it, transformers `modeling_rope_utils.py`.
pub fn frequencies(rope: &RopeSpec) -> (Vec<f32>, f32) {
    let pairs = rope.dims / 2;
    let plain = |i: usize| 1.0 / f64::from(rope.theta).powf(2.0 * i as f64 / rope.dims as f64);
    match rope.scaling {
        RopeScaling::None => ((0..pairs).map(|i| plain(i) as f32).collect(), 1.0),
        RopeScaling::Linear { factor } => {
            ((0..pairs).map(|i| (plain(i) / f64::from(factor)) as f32).collect(), 1.0)
        }
        RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, attention_factor } => {
            // The pair that turns `rotations` times within the original context.
            let pair_of = |rotations: f32| {
                let turns = original_context as f64 / (f64::from(rotations) * std::f64::consts::TAU);
                rope.dims as f64 * turns.ln() / (2.0 * f64::from(rope.theta).ln())
            };
            let low = pair_of(beta_fast).floor().max(0.0);
            let high = pair_of(beta_slow).ceil().min(rope.dims as f64 - 1.0);
            let ramp = |i: usize| ((i as f64 - low) / (high - low).max(1e-3)).clamp(0.0, 1.0);
            let scaled = |i: usize| {
                let kept = 1.0 - ramp(i);
                plain(i) / f64::from(factor) * (1.0 - kept) + plain(i) * kept
            };
            ((0..pairs).map(|i| scaled(i) as f32).collect(), attention_factor)
        }
        RopeScaling::Llama3 { factor, original_context, low_frequency_factor, high_frequency_factor } => {
            let (low, high) = (f64::from(low_frequency_factor), f64::from(high_frequency_factor));
            let scaled = |i: usize| {
                let turns = original_context as f64 * plain(i) / std::f64::consts::TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                plain(i) / f64::from(factor) * (1.0 - kept) + plain(i) * kept
            };
            ((0..pairs).map(|i| scaled(i) as f32).collect(), 1.0)
        }
    }
}
