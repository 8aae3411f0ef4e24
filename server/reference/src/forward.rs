//! The forward pass of one row, as in the papers.
//!
//! ```text
//! x  = embedding[tokens]
//! for each layer:
//!     h       = rms_norm(x)
//!     q, k, v = Wq h + bq, Wk h + bk, Wv h + bv          (biases: Qwen2)
//!     q, k    = rms_norm per head                         (Qwen3)
//!     q, k    = rope(q), rope(k)
//!     cache  += k, v;   K, V = cache[0..end]
//!     x      += Wo softmax(q K^T / sqrt(head_dim) + causal mask) V
//!     x      += Wdown (silu(Wgate h) * Wup h),  h = rms_norm(x)
//! ```

use candle_core::{D, Device, Result, Tensor};
use quarry_model::executor::Row;
use quarry_model::rope;
use quarry_model::spec::{DecoderSpec, RopePairing};

use crate::cache::Cache;
use crate::weights::{Layer, Linear, Weights};

/// cos and sin of a row's positions, each `tokens × head_dim / 2`.
struct Angles {
    cos: Tensor,
    sin: Tensor,
}

/// Final hidden states of all the row's tokens, before the output norm: `tokens × hidden`.
pub fn row(spec: &DecoderSpec, weights: &Weights, cache: &mut Cache, row: &Row<'_>) -> Result<Tensor> {
    let tokens = Tensor::new(row.tokens, &Device::Cpu)?;
    let angles = angles(spec, row)?;
    let mut x = weights.embedding.index_select(&tokens, 0)?;
    for (index, layer) in weights.layers.iter().enumerate() {
        let h = rms_norm(&x, &layer.attention_norm, spec.norm_epsilon)?;
        x = (x + attention(spec, layer, index, cache, row, &angles, &h)?)?;
        let h = rms_norm(&x, &layer.mlp_norm, spec.norm_epsilon)?;
        let gated = (linear(&h, &layer.gate)?.silu()? * linear(&h, &layer.up)?)?;
        x = (x + linear(&gated, &layer.down)?)?;
    }
    Ok(x)
}

/// Logits of final hidden states: `count × vocab`.
pub fn head(spec: &DecoderSpec, weights: &Weights, x: &Tensor) -> Result<Tensor> {
    linear(&output_norm(spec, weights, x)?, &weights.head)
}

/// Final hidden states after the output norm: `count × hidden`.
pub fn output_norm(spec: &DecoderSpec, weights: &Weights, x: &Tensor) -> Result<Tensor> {
    rms_norm(x, &weights.output_norm, spec.norm_epsilon)
}

fn attention(
    spec: &DecoderSpec,
    layer: &Layer,
    index: usize,
    cache: &mut Cache,
    row: &Row<'_>,
    angles: &Angles,
    h: &Tensor,
) -> Result<Tensor> {
    let DecoderSpec { heads, kv_heads, head_dim, norm_epsilon, .. } = *spec;
    let count = row.tokens.len();
    let end = row.first_position + count;
    let mut q = linear(h, &layer.query)?.reshape((count, heads, head_dim))?;
    let mut k = linear(h, &layer.key)?.reshape((count, kv_heads, head_dim))?;
    let v = linear(h, &layer.value)?;
    if let Some(norm) = &layer.query_norm {
        q = rms_norm(&q, norm, norm_epsilon)?;
    }
    if let Some(norm) = &layer.key_norm {
        k = rms_norm(&k, norm, norm_epsilon)?;
    }
    let q = rotate(&q, angles, spec.rope.pairing)?;
    let k = rotate(&k, angles, spec.rope.pairing)?;

    let (keys, values) = (k.reshape((count, ()))?.to_vec2::<f32>()?, v.to_vec2::<f32>()?);
    for (i, (key, value)) in keys.iter().zip(&values).enumerate() {
        cache.write(row.blocks, index, row.first_position + i, key, value);
    }
    let (keys, values) = cache.read(row.blocks, index, end);
    let by_head =
        |all: Vec<f32>| Tensor::from_vec(all, (end, kv_heads, head_dim), &Device::Cpu)?.transpose(0, 1);
    let (keys, values) = (by_head(keys)?.contiguous()?, by_head(values)?.contiguous()?);

    // Query head `g * group + j` reads KV head `g`: the queries of a group lie one after another.
    let group = heads / kv_heads;
    let q = q.transpose(0, 1)?.contiguous()?.reshape((kv_heads, group * count, head_dim))?;
    let scores = (q.matmul(&keys.t()?)? / (head_dim as f64).sqrt())?;
    let scores = scores.reshape((kv_heads, group, count, end))?.broadcast_add(&causal(row, end)?)?;
    let attended = softmax(&scores)?.reshape((kv_heads, group * count, end))?.matmul(&values)?;
    let attended = attended.reshape((heads, count, head_dim))?.transpose(0, 1)?.contiguous()?;
    linear(&attended.reshape((count, heads * head_dim))?, &layer.output)
}

/// `W x + b` for every row of `x`.
fn linear(x: &Tensor, by: &Linear) -> Result<Tensor> {
    let y = x.matmul(&by.weight.t()?)?;
    match &by.bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `x / sqrt(mean(x²) + epsilon) * weight` over the last dimension.
fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + f64::from(epsilon))?.sqrt()?)?.broadcast_mul(weight)
}

fn softmax(x: &Tensor) -> Result<Tensor> {
    let weights = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

/// 0 where a token may look, minus infinity behind it: `tokens × end`.
fn causal(row: &Row<'_>, end: usize) -> Result<Tensor> {
    let positions = row.first_position..end;
    let mask = |query: usize| (0..end).map(move |key| if key <= query { 0.0_f32 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = positions.flat_map(mask).collect();
    Tensor::from_vec(mask, (row.tokens.len(), end), &Device::Cpu)
}

fn angles(spec: &DecoderSpec, row: &Row<'_>) -> Result<Angles> {
    let (frequencies, factor) = rope::frequencies(&spec.rope);
    let positions = row.first_position..row.first_position + row.tokens.len();
    let table: Vec<f32> =
        positions.flat_map(|position| frequencies.iter().map(move |f| position as f32 * f)).collect();
    let table = Tensor::from_vec(table, (row.tokens.len(), frequencies.len()), &Device::Cpu)?;
    Ok(Angles { cos: (table.cos()? * f64::from(factor))?, sin: (table.sin()? * f64::from(factor))? })
}

/// Rotates each pair `(a, b)` of a head to `(a cos - b sin, a sin + b cos)`; `x` is `tokens × heads × head_dim`.
fn rotate(x: &Tensor, angles: &Angles, pairing: RopePairing) -> Result<Tensor> {
    let (count, heads, width) = x.dims3()?;
    // The pair's members along a dimension of their own: halves are far apart, neighbours side by side.
    let (pairs, members) = match pairing {
        RopePairing::Halves => (x.reshape((count, heads, 2, width / 2))?, 2),
        RopePairing::Neighbours => (x.reshape((count, heads, width / 2, 2))?, 3),
    };
    let member = |i: usize| pairs.narrow(members, i, 1)?.squeeze(members)?.contiguous();
    let (a, b) = (member(0)?, member(1)?);
    let (cos, sin) = (angles.cos.unsqueeze(1)?, angles.sin.unsqueeze(1)?);
    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
    Tensor::stack(&[first, second], members)?.reshape((count, heads, width))
}
