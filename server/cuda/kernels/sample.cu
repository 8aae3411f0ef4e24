// Draws a token from each row of logits: bit for bit what quarry_core::sampler::sample draws on the host, whose words and
// orders of sums are used here.
//
//   log-probability wanted: the largest raw logit, and the sum of e^(logit - largest)
//   changes (bias, penalties, forbidden): each token's in order, in place
//   greedy: the largest allowed logit, of equals the lowest token
//   else weight[t] = e^((logit[t] - largest) / temperature), summed by chunks of 256: 16 lanes in float, then in double
//     no top-k, no top-p: the chunk, then the token at which the sum reaches uniform * total
//     else: a superset of the candidates (by a histogram), sorted in shared memory, cut and drawn from in order
//   more candidates than fit: the row is left as it came, and its token is HOST_DRAWS
//
// Grid rows, block 1024. Reads a row's 4 bytes a token 1 (greedy) to 5 times, which the second-level cache holds. One
// multiprocessor works on a row: bound by its arithmetic, and by chains of double additions in one thread.
#include "draw.cuh"

namespace sample {
namespace {

using namespace draw;

/// Applies the changes in place; a token's stand beside each other, the first of them keeps the raw logit.
__device__ __forceinline__ void change_logits(float* logits, Change* changes, int count) {
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const u32 token = changes[i].token;
    if (i > 0 && changes[i - 1].token == token) continue;
    float logit = logits[token];
    changes[i].raw = logit;
    for (int j = i; j < count && changes[j].token == token; j++) {
      const float x = finite(logit), value = changes[j].value;
      switch (changes[j].kind) {
        case ADD: logit = __fadd_rn(x, value); break;
        case SCALE: logit = x > 0.0f ? __fdiv_rn(x, value) : __fmul_rn(x, value); break;
        case SUBTRACT: logit = __fadd_rn(x, -value); break;
        default: logit = NEGATIVE_INFINITY;
      }
    }
    logits[token] = logit;
  }
  __syncthreads();
}

/// Puts the raw logits back.
__device__ __forceinline__ void restore_logits(float* logits, const Change* changes, int count) {
  for (int i = threadIdx.x; i < count; i += THREADS) {
    if (i == 0 || changes[i - 1].token != changes[i].token) logits[changes[i].token] = changes[i].raw;
  }
}

/// The raw logit of a token.
__device__ __forceinline__ float raw_logit(const float* logits, const Change* changes, int count, u32 token) {
  int low = 0, high = count;  // the first change of this or a later token
  while (low < high) {
    const int middle = (low + high) / 2;
    if (changes[middle].token < token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < count && changes[low].token == token ? changes[low].raw : logits[token];
}

/// The largest allowed logit and the lowest token that has it; minus infinity where there is none.
__device__ __forceinline__ Best largest(const Shared& shared, const Weights& row, int vocab) {
  Best best{NEGATIVE_INFINITY, NO_TOKEN};
  for (int t = threadIdx.x; t < vocab; t += THREADS) {
    const float x = finite(row.logits[t]);
    if (x > best.value && row.allows(t)) best = {x, t};
  }
  return best_of_block(shared, best);
}

/// The lowest token that the mask allows, whatever its logit; 0 where it allows none.
__device__ __forceinline__ int lowest_allowed(const Shared& shared, const Weights& row, int vocab) {
  if (!row.is_masked) return 0;
  Best best{0.0f, NO_TOKEN};
  for (int w = threadIdx.x; w < row.mask_words && best.token == NO_TOKEN; w += THREADS) {
    const int token = w * 32 + __ffs(static_cast<int>(row.mask[w])) - 1;
    if (row.mask[w] != 0 && token < vocab) best.token = token;
  }
  best = best_of_block(shared, best);
  return best.token == NO_TOKEN ? 0 : best.token;
}

}  // namespace

/// logits [rows][vocab], changed in places; changes, masks: of all rows -> tokens [rows]; logprobs [rows] where wanted.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    sample(u32* __restrict__ tokens, Logprob* __restrict__ logprobs, float* all_logits, const Row* __restrict__ rows,
           Change* all_changes, const u32* __restrict__ masks, int vocab) {
  SHARED(u64, pool, CANDIDATES_MAX);
  SHARED(double, sums, CHUNKS_MAX);
  SHARED(Best, warps, THREADS / 32);
  SHARED(Scalars, scalars, 1);
  const Shared shared{pool, sums, warps, scalars};
  const Row row = rows[blockIdx.x];
  if (!(row.flags & ON_DEVICE)) {
    if (threadIdx.x == 0) tokens[blockIdx.x] = HOST_DRAWS;
    return;
  }
  float* logits = all_logits + static_cast<size_t>(blockIdx.x) * vocab;
  Change* changes = all_changes + row.changes;
  Weights weights{logits, nullptr, 0, false, 0.0f, 1.0f, 0.0f};
  Logprob logprob{0.0f, NEGATIVE_INFINITY, 0.0};
  if (row.flags & LOGPROB) {
    logprob.max = weights.max = largest(shared, weights, vocab).value;
    if (logprob.max != NEGATIVE_INFINITY) {
      chunk_sums<false>(shared, weights, vocab);
      if (threadIdx.x == 0) logprob.sum = in_order(sums, chunks_of(vocab));
      __syncthreads();
    }
  }
  change_logits(logits, changes, row.changes_count);
#if defined(INJECT_STALE_MASK)
  weights.mask = masks;  // of another row
#else
  weights.mask = masks + row.mask;
#endif
  weights.mask_words = min(row.mask_words, (vocab + 31) / 32);
  weights.is_masked = row.flags & MASKED;
  const Best best = largest(shared, weights, vocab);
  u32 token = best.token;
  if (best.token == NO_TOKEN) {
    token = lowest_allowed(shared, weights, vocab);
  } else if (row.temperature != 0.0f) {
    weights.max = best.value;
    weights.temperature = row.temperature;
    if (row.top_p >= 1.0f && (row.top_k == 0 || row.top_k >= vocab)) {
      weights.min_p = row.min_p;
      token = draw_of_all(shared, weights, vocab, row.uniform);
    } else {
      token = draw_of_likely(shared, weights, vocab, row);
      if (token == HOST_DRAWS) restore_logits(logits, changes, row.changes_count);
    }
  }
  if (threadIdx.x == 0) {
    tokens[blockIdx.x] = token;
    if (row.flags & LOGPROB && token != HOST_DRAWS) {
      logprob.raw = raw_logit(logits, changes, row.changes_count, token);
      logprobs[blockIdx.x] = logprob;
    }
  }
}

SHIM_ENTRY(sample)

}  // namespace sample
