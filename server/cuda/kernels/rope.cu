// After the product of queries, keys and values: norms of heads, rotation, the paged cache's write.
//
//   for each head of a token:
//     query or key: x = x / rms(x) * norm, if there is a norm;  for each pair (a, b):
//       angle = position * frequency;  (a, b) = factor * (a cos - b sin, a sin + b cos)
//     query: q_out = x / sqrt(d), floats;  key, value: into the cache, rounded to bf16, or
//       int8: scale = max|x| / 127;  q = round(x / scale) to nearest even, 0 where scale is 0
//
// Grid (T, heads + 2 kv_heads), any block of whole warps; of one warp for int8. Moves 4 bytes an element in, 4 (query),
// 2 or 1 (key, value) out:
// bound by bandwidth for many tokens, by the launch for few. Each warp adds up the whole head by itself, which costs
// nothing beside the launch and needs no barrier.
//
// cos and sin: the angle, up to the position itself, is reduced in double precision; the library's float functions
// would keep a table of 2/pi in local memory for it.
#include "quantize.cuh"

namespace rope {
namespace {

constexpr int THREADS_MAX = 128;
constexpr int DIM_MAX = 256;
constexpr int STEP = 16;  // positions whose integers lie before their scales; dimensions that rows are padded to
constexpr u32 NO_SLOT = 0xffffffffu;

struct Turn {
  float cos, sin;
};

/// Absolute error below 1.2e-7 for |angle| up to 2^30 (tried). The polynomials are least-squares fits on [-pi/4, pi/4],
/// weighted towards the largest error until it was even; their error is below 4e-9.
__device__ __forceinline__ Turn turn_of(float angle) {
  constexpr double TWO_BY_PI = 0.63661977236758134308, PI_BY_TWO = 1.57079632679489661923;
  const double quarters = rint(static_cast<double>(angle) * TWO_BY_PI);
  const float r = static_cast<float>(fma(-quarters, PI_BY_TWO, static_cast<double>(angle)));
  const float z = __fmul_rn(r, r);
  const float s3 = fmaf(fmaf(-1.951697777e-04f, z, 8.332176134e-03f), z, -1.666665524e-01f);
  const float c4 = fmaf(fmaf(2.443808989e-05f, z, -1.388736418e-03f), z, 4.166664556e-02f);
  const float sine = fmaf(__fmul_rn(s3, z), r, r);
  const float cosine = fmaf(__fmul_rn(c4, z), z, fmaf(-0.5f, z, 1.0f));
  const int quarter = static_cast<int>(quarters) & 3;
  const float across = quarter & 1 ? sine : cosine, along = quarter & 1 ? cosine : sine;
  return Turn{quarter == 1 || quarter == 2 ? -across : across, quarter >= 2 ? -along : along};
}

/// 1 / rms of a head, by each warp for itself: lane j adds elements j, j + 32, ... in order, then a tree.
__device__ __forceinline__ float inverse_rms(const float* x, float epsilon, int dim) {
  float sum = 0.0f;
  for (int i = threadIdx.x % 32; i < dim; i += 32) sum = fmaf(x[i], x[i], sum);
  const float mean = __fdiv_rn(warp_sum(sum), static_cast<float>(dim));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, epsilon)));
}

/// What `rope_store` does, into a cache of bf16 or int8.
template <bool INT8>
__device__ __forceinline__ void store_head(float* q_out, u8* arena, const float* qkv, const float* q_norm,
                                           const float* k_norm, float epsilon, const float* frequencies, float factor,
                                           int neighbours, const u32* positions, const u64* block_offsets,
                                           const u32* slots, int layer, int heads, int kv_heads, int head_dim,
                                           int block_tokens) {
  const int token = blockIdx.x, head = blockIdx.y;
  const bool is_query = head < heads, is_value = head >= heads + kv_heads;
  if (!is_query && slots[token] == NO_SLOT) return;
  const float* x = qkv + (static_cast<size_t>(token) * (heads + 2 * kv_heads) + head) * head_dim;
  const float* norm = is_query ? q_norm : is_value ? nullptr : k_norm;
  const float r = norm ? inverse_rms(x, epsilon, head_dim) : 1.0f;
  const float position = static_cast<float>(positions[token]);
  const float query_scale = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(head_dim)));
  const int first_of = neighbours ? 2 : 1, second_after = neighbours ? 1 : head_dim / 2;
  const auto pair_of = [&](int i) {
    float a = x[first_of * i], b = x[first_of * i + second_after];
    if (norm) {
      a = __fmul_rn(__fmul_rn(a, r), norm[first_of * i]);
      b = __fmul_rn(__fmul_rn(b, r), norm[first_of * i + second_after]);
    }
    if (is_value) return make_float2(a, b);
    const Turn turn = turn_of(__fmul_rn(position, frequencies[i]));
    const float cosine = __fmul_rn(turn.cos, factor), sine = __fmul_rn(turn.sin, factor);
    return make_float2(fmaf(a, cosine, -__fmul_rn(b, sine)), fmaf(a, sine, __fmul_rn(b, cosine)));
  };

  if (is_query) {
    float* query = q_out + (static_cast<size_t>(token) * heads + head) * head_dim;
    for (int i = threadIdx.x; i < head_dim / 2; i += blockDim.x) {
      const float2 pair = pair_of(i);
      query[first_of * i] = __fmul_rn(pair.x, query_scale);
      query[first_of * i + second_after] = __fmul_rn(pair.y, query_scale);
    }
    return;
  }
  const int kv_head = (head - heads) % kv_heads;
  const u64 cache_head = (static_cast<u64>(layer) * 2 + (is_value ? 1 : 0)) * kv_heads + kv_head;
  u8* block = arena + block_offsets[token];
  if constexpr (INT8) {
    const int lane = threadIdx.x, row_bytes = (head_dim + STEP - 1) / STEP * STEP;
    const u64 slot = cache_head * block_tokens + slots[token];
    u8* step = block + slot / STEP * (STEP * (row_bytes + 4));
    i8* row = reinterpret_cast<i8*>(step + slot % STEP * row_bytes);
    constexpr int PAIRS = DIM_MAX / 2 / 32;  // of a lane
    float2 pairs[PAIRS];
    float most = 0.0f;
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
      pairs[j] = make_float2(0.0f, 0.0f);
      if (j * 32 + lane < head_dim / 2) pairs[j] = pair_of(j * 32 + lane);
      most = fmaxf(most, fmaxf(fabsf(pairs[j].x), fabsf(pairs[j].y)));
    }
    const float scale = __fdiv_rn(warp_max(most), 127.0f);
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
      const int i = j * 32 + lane;
      if (i >= head_dim / 2) continue;
      row[first_of * i] = rounded_s8(pairs[j].x, scale);
      row[first_of * i + second_after] = rounded_s8(pairs[j].y, scale);
    }
    if (head_dim + lane < row_bytes) row[head_dim + lane] = 0;
#if defined(INJECT_SCALE_OFF)
    const u64 scale_slot = (slot + 1) % STEP;
#else
    const u64 scale_slot = slot % STEP;
#endif
    if (lane == 0) reinterpret_cast<float*>(step + STEP * row_bytes)[scale_slot] = scale;
  } else {
    bf16* row = reinterpret_cast<bf16*>(block + (cache_head * block_tokens + slots[token]) * head_dim * 2);
    for (int i = threadIdx.x; i < head_dim / 2; i += blockDim.x) {
      const float2 pair = pair_of(i);
      row[first_of * i] = __float2bfloat16_rn(pair.x);
      row[first_of * i + second_after] = __float2bfloat16_rn(pair.y);
    }
  }
}

}  // namespace

/// qkv [T][(heads + 2 kv_heads) d] -> q_out [T][heads][d] and the cache: block_offsets[t] is where token t's block
/// begins in the arena, slots[t] its position in the block, or NO_SLOT: not kept. frequencies [d / 2]; q_norm and
/// k_norm [d] or null. neighbours: a pair is (2i, 2i + 1) and not (i, i + d / 2).
extern "C" __global__ void __launch_bounds__(THREADS_MAX)
    rope_store(float* __restrict__ q_out, u8* __restrict__ arena, const float* __restrict__ qkv,
               const float* __restrict__ q_norm, const float* __restrict__ k_norm, float epsilon,
               const float* __restrict__ frequencies, float factor, int neighbours, const u32* __restrict__ positions,
               const u64* __restrict__ block_offsets, const u32* __restrict__ slots, int layer, int heads,
               int kv_heads, int head_dim, int block_tokens) {
  store_head<false>(q_out, arena, qkv, q_norm, k_norm, epsilon, frequencies, factor, neighbours, positions,
                   block_offsets, slots, layer, heads, kv_heads, head_dim, block_tokens);
}
/// The same, into an int8 cache; d at most 256.
extern "C" __global__ void __launch_bounds__(THREADS_MAX)
    rope_store_i8(float* __restrict__ q_out, u8* __restrict__ arena, const float* __restrict__ qkv,
                  const float* __restrict__ q_norm, const float* __restrict__ k_norm, float epsilon,
                  const float* __restrict__ frequencies, float factor, int neighbours,
                  const u32* __restrict__ positions, const u64* __restrict__ block_offsets,
                  const u32* __restrict__ slots, int layer, int heads, int kv_heads, int head_dim,
                  int block_tokens) {
  store_head<true>(q_out, arena, qkv, q_norm, k_norm, epsilon, frequencies, factor, neighbours, positions,
                  block_offsets, slots, layer, heads, kv_heads, head_dim, block_tokens);
}

SHIM_ENTRY(rope_store)
SHIM_ENTRY(rope_store_i8)

}  // namespace rope
