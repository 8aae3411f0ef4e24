// After the product of queries, keys and values: norms of heads, rotation, the paged cache's write.
//
//   for each head of a token:
//     query or key: x = x / rms(x) * norm, if there is a norm;  for each pair (a, b):
//       angle = position * frequency;  (a, b) = factor * (a cos - b sin, a sin + b cos)
//     query: q_out = x / sqrt(d), floats;  key, value: rounded to bf16 into the cache
//
// Grid (T, heads + 2 kv_heads), any block of whole warps. Moves 4 bytes an element in, 4 (query) or 2 (key, value) out:
// bound by bandwidth for many tokens, by the launch for few. Each warp adds up the whole head by itself, which costs
// nothing beside the launch and needs no barrier.
//
// cos and sin: the angle, up to the position itself, is reduced in double precision; the library's float functions
// would keep a table of 2/pi in local memory for it.
#include "device.cuh"

namespace rope {
namespace {

constexpr int THREADS_MAX = 128;
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

}  // namespace

/// qkv [T][(heads + 2 kv_heads) d] -> q_out [T][heads][d] and the cache: block_offsets[t] is where token t's block
/// begins in the arena, slots[t] its position in the block, or NO_SLOT: not kept. frequencies [d / 2]; q_norm and k_norm [d] or null.
/// neighbours: a pair is (2i, 2i + 1) and not (i, i + d / 2).
extern "C" __global__ void __launch_bounds__(THREADS_MAX)
    rope_store(float* __restrict__ q_out, u8* __restrict__ arena, const float* __restrict__ qkv,
               const float* __restrict__ q_norm, const float* __restrict__ k_norm, float epsilon,
               const float* __restrict__ frequencies, float factor, int neighbours, const u32* __restrict__ positions,
               const u64* __restrict__ block_offsets, const u32* __restrict__ slots, int layer, int heads,
               int kv_heads, int head_dim, int block_tokens) {
  const int token = blockIdx.x, head = blockIdx.y;
  const bool is_query = head < heads, is_value = head >= heads + kv_heads;
  if (!is_query && slots[token] == NO_SLOT) return;
  const float* x = qkv + (static_cast<size_t>(token) * (heads + 2 * kv_heads) + head) * head_dim;
  const float* norm = is_query ? q_norm : is_value ? nullptr : k_norm;
  const float r = norm ? inverse_rms(x, epsilon, head_dim) : 1.0f;
  const float position = static_cast<float>(positions[token]);
  const float query_scale = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(head_dim)));

  const int kv_head = is_query ? 0 : (head - heads) % kv_heads;
  const u64 cache_head = (static_cast<u64>(layer) * 2 + (is_value ? 1 : 0)) * kv_heads + kv_head;
  const u64 row = cache_head * block_tokens + (is_query ? 0 : slots[token]);
  bf16* cache = reinterpret_cast<bf16*>(arena + block_offsets[token] + row * head_dim * 2);
  float* query = q_out + (static_cast<size_t>(token) * heads + head) * head_dim;

  for (int i = threadIdx.x; i < head_dim / 2; i += blockDim.x) {
    const int first = neighbours ? 2 * i : i, second = neighbours ? 2 * i + 1 : i + head_dim / 2;
    float a = x[first], b = x[second];
    if (norm) {
      a = __fmul_rn(__fmul_rn(a, r), norm[first]);
      b = __fmul_rn(__fmul_rn(b, r), norm[second]);
    }
    if (!is_value) {
      const Turn turn = turn_of(__fmul_rn(position, frequencies[i]));
      const float cosine = __fmul_rn(turn.cos, factor), sine = __fmul_rn(turn.sin, factor);
      const float rotated = fmaf(a, cosine, -__fmul_rn(b, sine));
      b = fmaf(a, sine, __fmul_rn(b, cosine));
      a = rotated;
    }
    if (is_query) {
      query[first] = __fmul_rn(a, query_scale);
      query[second] = __fmul_rn(b, query_scale);
    } else {
      cache[first] = __float2bfloat16_rn(a);
      cache[second] = __float2bfloat16_rn(b);
    }
  }
}

SHIM_ENTRY(rope_store)

}  // namespace rope
