//! The executor's suite with this crate's calls answered by a `run_mha` of our own: naive, on the fake driver's memory. It
//! holds pages, strides, lengths and masks to what the library's header says of them; the library itself needs a card.
#![cfg(not(feature = "library"))]

#[path = "../../cuda/tests/support/mod.rs"]
mod support;

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use quarry_conformance::Suite;
use quarry_cuda::{AttentionShape, CudaOptions, PrefillAttention, PrefillCall};
use quarry_flash::FlashAttention;
use quarry_model::backend::{ActivateOptions, Backend, ModelFiles};
use quarry_reference::ReferenceBackend;
use quarry_tiny::{TensorType, TinyModel};

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// What the library computes, as its C function is given it. A softmax over all keys that a query sees, in f32.
///
/// # Safety
/// As of the library's; addresses of the fake driver's memory are the process's own.
#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments, reason = "the library's")]
unsafe extern "C" fn run_mha(
    q: *const bf16,
    k: *const bf16,
    v: *const bf16,
    o: *mut bf16,
    sums: *mut f32,
    alibi: *const c_void,
    token_ends: *const i32,
    position_ends: *const i32,
    q_batch: u32,
    k_page: u32,
    v_page: u32,
    o_batch: u32,
    alibi_batch: u32,
    q_row: u32,
    k_row: u32,
    v_row: u32,
    o_row: u32,
    q_head: u32,
    k_head: u32,
    v_head: u32,
    o_head: u32,
    rows: u32,
    heads: u32,
    kv_heads: u32,
    dim: u32,
    dim_rounded: u32,
    scale: f32,
    row_tokens_max: u32,
    row_positions_max: u32,
    tokens_rounded: u32,
    positions_rounded: u32,
    tokens: u32,
    is_bf16: c_int,
    is_causal: c_int,
    unpadded_sums: c_int,
    window_left: c_int,
    window_right: c_int,
    softcap: f32,
    tables: *const i32,
    table_row: u32,
    page_tokens: c_int,
    prefix_ranges: *const i32,
    prefix_batch: u32,
    prefixes_max: c_int,
    stream: *mut c_void,
) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    assert!(alibi.is_null() && prefix_ranges.is_null());
    assert_eq!((q_batch, o_batch, alibi_batch, prefix_batch, prefixes_max), (0, 0, 0, 0, 0));
    assert_eq!((is_bf16, is_causal, unpadded_sums, window_right), (1, 1, 1, 0));
    assert_eq!((softcap, dim_rounded), (0.0, dim.next_multiple_of(32)));
    assert!(window_left as u32 >= row_positions_max);
    assert_eq!(tokens_rounded, row_tokens_max.next_multiple_of(128));
    assert_eq!(positions_rounded, row_positions_max.next_multiple_of(128));
    assert_eq!(page_tokens % 32, 0);
    // SAFETY: the fake driver's own function, on the stream that the executor gave.
    let waited = unsafe {
        let wait =
            support::fake_driver().get::<unsafe extern "C" fn(*mut c_void) -> c_int>(b"cuStreamSynchronize");
        wait.expect("a driver has it")(stream)
    };
    assert_eq!(waited, 0);
    // SAFETY: everything below reads and writes what the caller says is there; a wrong address is a fault.
    unsafe {
        for row in 0..rows as usize {
            let ends = |all: *const i32| (*all.add(row) as usize, *all.add(row + 1) as usize);
            let ((first, end), (before, after)) = (ends(token_ends), ends(position_ends));
            let (count, positions) = (end - first, after - before);
            assert!(count <= row_tokens_max as usize && positions <= row_positions_max as usize);
            assert!(end <= tokens as usize && count <= positions);
            let place = |position: usize| {
                let table = tables.add(row * table_row as usize);
                (*table.add(position / page_tokens as usize) as usize, position % page_tokens as usize)
            };
            let (dim, group_heads) = (dim as usize, (heads / kv_heads) as usize);
            for group in 0..kv_heads as usize {
                // Dimension by dimension, so that the loops below run over positions side by side.
                let (mut keys, mut values) =
                    (vec![vec![0.0f32; positions]; dim], vec![vec![0.0f32; dim]; positions]);
                for position in 0..positions {
                    let (page, at) = place(position);
                    let key = k.add(page * k_page as usize + at * k_row as usize + group * k_head as usize);
                    let value = v.add(page * v_page as usize + at * v_row as usize + group * v_head as usize);
                    for i in 0..dim {
                        keys[i][position] = (*key.add(i)).to_f32();
                        values[position][i] = (*value.add(i)).to_f32();
                    }
                }
                let heads = group * group_heads..(group + 1) * group_heads;
                for (head, token) in heads.flat_map(|head| (first..end).map(move |token| (head, token))) {
                    let query = q.add(token * q_row as usize + head * q_head as usize);
                    let seen = positions - count + (token - first) + 1;
                    let mut scores = vec![0.0f32; seen];
                    for (i, keys) in keys.iter().enumerate() {
                        let query = (*query.add(i)).to_f32() * scale;
                        scores.iter_mut().zip(keys).for_each(|(score, key)| *score += query * key);
                    }
                    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let (mut sum, mut mixed) = (0.0f32, vec![0.0f32; dim]);
                    for (score, values) in scores.iter().zip(&values) {
                        let weight = (score - most).exp();
                        sum += weight;
                        mixed.iter_mut().zip(values).for_each(|(mixed, value)| *mixed += weight * value);
                    }
                    let to = o.add(token * o_row as usize + head * o_head as usize);
                    mixed.iter().enumerate().for_each(|(i, mixed)| *to.add(i) = bf16::from_f32(mixed / sum));
                    *sums.add(head * tokens as usize + token) = most + sum.ln();
                }
            }
        }
    }
}

fn device() -> Box<dyn Backend> {
    let prefill_attention = Some(&FlashAttention as &'static dyn PrefillAttention);
    Box::new(support::backend_with(CudaOptions { prefill_attention, ..CudaOptions::default() }))
}

#[test]
fn the_suite_passes_with_its_calls() {
    let suite = Suite {
        subject: &device,
        oracle: &|| Box::new(ReferenceBackend),
        // Prefill and decode are no longer one arithmetic.
        exact: false,
        block_tokens: 32,
        kinds: &[TensorType::Q4K],
    };
    quarry_conformance::run(&suite).assert_passed();
    assert!(CALLS.load(Ordering::Relaxed) > 100, "hardly called");
}

/// Says that it computes, and does not.
#[derive(Debug)]
struct Idle;

impl PrefillAttention for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn refusal(&self, _: AttentionShape) -> Option<String> {
        None
    }

    unsafe fn launch(&self, _: &PrefillCall) {}
}

/// What activating a tiny model says.
fn activated(library: &'static dyn PrefillAttention, block_tokens: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::qwen3().write(&path, TensorType::Q4K).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let mut backend =
        support::backend_with(CudaOptions { prefill_attention: Some(library), ..CudaOptions::default() });
    let options = ActivateOptions { block_tokens, batch_tokens_max: 64, batch_rows_max: 8 };
    let warm = backend.loader().warm(&files, &mut |_| ()).unwrap();
    let block_bytes = backend.cost(&files.spec, &files, &options).block_bytes;
    let arena = backend.arena(block_bytes, 4).unwrap();
    let kv = backend.kv_blocks(&files.spec, &arena, block_tokens).unwrap();
    backend.activate(&warm, &*kv, &options).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_library_that_computes_nothing_is_found_out() {
    let said = activated(&Idle, 32).unwrap_err();
    assert!(said.contains("idle") && said.contains("compute capability"), "{said}");
    assert_eq!(activated(&FlashAttention, 32), Ok(()));
}

#[test]
fn a_model_that_it_cannot_compute_says_what_to_change() {
    let said = activated(&FlashAttention, 16).unwrap_err();
    assert!(said.contains("block_tokens") && said.contains("server.prefill_attention"), "{said}");
}
