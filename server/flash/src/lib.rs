//! Prefill attention by FlashAttention-2's paged kernel, in the build that the crate `candle-flash-attn` makes of it.
//!
//! The CUDA executor hands over addresses in its own memory and its own stream ([`PrefillCall`]); the library's C function
//! takes just that. Its Rust function `flash_attn_varlen_paged_windowed`, which wraps the same call, does not: it works on
//! candle's tensors, on a stream that candle makes, and allocates its result. So what is called is the C function, and of
//! candle nothing runs. Rows of few tokens are none of its business: it gives a query head one block of threads, whatever
//! the row's length, and the executor's own kernels split the keys instead.
//!
//! It has never run on a card. `tests/stand_in.rs` runs the executor's suite with a `run_mha` that computes the same naively.

#[allow(clippy::too_many_arguments, reason = "the library's")]
mod ffi;

#[cfg(feature = "library")]
use candle_flash_attn as _;
use quarry_cuda::{AttentionShape, PrefillAttention, PrefillCall};

/// Elements of a page that the kernel takes at a time; it never crosses a page's end.
const PAGE_STEP: usize = 32;
/// Widths of a head are multiples of this, up to the largest of which a head's keys fit shared memory of every card.
const HEAD_STEP: usize = 8;
const HEAD_DIM_MAX: usize = 256;
/// The library rounds lengths to this.
const LENGTH_STEP: usize = 128;

/// FlashAttention-2, causal, bf16.
#[derive(Clone, Copy, Debug)]
pub struct FlashAttention;

impl PrefillAttention for FlashAttention {
    fn name(&self) -> &'static str {
        "flash-attn"
    }

    fn refusal(&self, shape: AttentionShape) -> Option<String> {
        let AttentionShape { heads, kv_heads, head_dim, page_tokens } = shape;
        if !page_tokens.is_multiple_of(PAGE_STEP) {
            return Some(format!("server.block_tokens is {page_tokens}, it needs a multiple of {PAGE_STEP}"));
        }
        if !head_dim.is_multiple_of(HEAD_STEP) || head_dim > HEAD_DIM_MAX {
            let least = format!("a multiple of {HEAD_STEP} up to {HEAD_DIM_MAX}");
            return Some(format!("heads have {head_dim} dimensions, it needs {least}"));
        }
        (kv_heads == 0 || !heads.is_multiple_of(kv_heads))
            .then(|| format!("{heads} query heads do not share {kv_heads} key-value heads evenly"))
    }

    unsafe fn launch(&self, call: &PrefillCall) {
        let AttentionShape { heads, kv_heads, head_dim, page_tokens } = call.shape;
        let page_head = page_tokens * head_dim;
        // Lengths and strides are of a step and of a block: far from the end of u32.
        let int = |value: usize| value as u32;
        let round = |length: usize| int(length.next_multiple_of(LENGTH_STEP));
        // SAFETY: the caller's promise about the memory; what the arguments mean is as in candle-flash-attn's own call, with
        // its strides for a paged cache.
        unsafe {
            ffi::run_mha(
                call.queries as *const _,
                call.keys as *const _,
                call.values as *const _,
                call.attended as *const _,
                call.sums as *const _,
                std::ptr::null(), // no ALiBi
                call.token_ends as *const _,
                call.position_ends as *const _,
                0, // rows are told apart by their ends
                int(call.page_stride),
                int(call.page_stride),
                0,
                0,
                int(call.token_stride),
                int(head_dim),
                int(head_dim),
                int(heads * head_dim),
                int(head_dim),
                int(page_head),
                int(page_head),
                int(head_dim),
                int(call.rows),
                int(heads),
                int(kv_heads),
                int(head_dim),
                int(head_dim.next_multiple_of(32)),
                1.0, // queries are scaled
                int(call.row_tokens_max),
                int(call.row_positions_max),
                round(call.row_tokens_max),
                round(call.row_positions_max),
                int(call.tokens),
                1, // bf16
                1, // causal
                1, // sums are heads × tokens
                call.row_positions_max as i32,
                0,   // no key after a query's own position
                0.0, // no cap
                call.page_tables as *const _,
                int(call.row_pages_max),
                page_tokens as i32,
                std::ptr::null(),
                0,
                0,
                call.stream,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_cannot_compute_is_refused() {
        let shape = AttentionShape { heads: 32, kv_heads: 8, head_dim: 128, page_tokens: 32 };
        assert_eq!(FlashAttention.refusal(shape), None);
        for (other, said) in [
            (AttentionShape { page_tokens: 16, ..shape }, "block_tokens is 16"),
            (AttentionShape { head_dim: 100, ..shape }, "100 dimensions"),
            (AttentionShape { head_dim: 512, ..shape }, "512 dimensions"),
            (AttentionShape { kv_heads: 5, ..shape }, "evenly"),
        ] {
            assert!(FlashAttention.refusal(other).is_some_and(|why| why.contains(said)), "{other:?}");
        }
    }
}
