// Products of a weight matrix with 1 to 8 tokens: the decode step.
//
//   block = one tile of 16 rows; warp w takes the chunks c with c % 8 == w:
//     load the chunk's weights, 16 bytes a lane and load, all before the first is used
//     part = sum over the chunk's groups (tensor core, 16 rows x 8 tokens)
//     totals[c] = part                                  in shared memory
//   wait for all;  thread (token, row): y = totals[0] + totals[1] + ... + bias + residual
//
// Grid (ceil(N / 16)), block 256, dynamic shared memory chunks x 16 x 8 floats.
// Moves N K / 2 bytes of int4 (N K of int8, 2 N K of 16 bits) and N K / 8 of scales (AWQ: / 32) once; activations come from the
// cache. Bound by the bandwidth of memory: a warp has 2 KB (4 or 8 KB) of weights under way, some 2 lane operations a
// weight. Splitting K over warps and not over blocks keeps enough loads in flight when N is small, without atomics.
#include "product.cuh"

namespace gemv {
namespace {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * 32;
// Two blocks are 16 warps with 2 KB of int4 each under way, more than any card needs to hide its memory's latency, and
// leave 128 registers a thread: with fewer the compiler uses a chunk's first loads before it starts the last.
constexpr int BLOCKS_PER_SM = 2;

/// int8 activations of this lane: its token g as B's column, its tokens 2t and 2t + 1 as the result's columns.
struct Int8Columns {
  const i8* q;
  const float *scale[2], *sum[2];

  __device__ __forceinline__ Int8Columns(const i8* all_q, const float* all_scale, const float* all_sum, int k64,
                                         int tokens, int g, int t) {
    q = all_q + static_cast<size_t>(min(g, tokens - 1)) * k64 + 4 * t;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const size_t row = static_cast<size_t>(min(2 * t + i, tokens - 1)) * (k64 / GROUP);
      scale[i] = all_scale + row;
      sum[i] = all_sum + row;
    }
  }
};

/// part += COUNT units from `unit` on.
template <class Format, int COUNT>
__device__ __forceinline__ void add_units(float (&part)[4], const uint4* tile, const half2_t* scales,
                                          const Int8Columns& columns, int unit, int g) {
  uint4 w[COUNT][Format::LOADS];
  WeightScales pairs[COUNT];
#pragma unroll
  for (int u = 0; u < COUNT; u++) load_weights<Format, true>(w[u], tile, unit + u);
#pragma unroll
  for (int u = 0; u < COUNT; u++) pairs[u].template load<Format>(scales, unit + u, g);
#pragma unroll
  for (int u = 0; u < COUNT; u++) {
    // The two groups of a unit beside each other; rows of scales have an even length.
    float2 scale[2], sum[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      scale[i] = __ldg(reinterpret_cast<const float2*>(columns.scale[i]) + unit + u);
      sum[i] = __ldg(reinterpret_cast<const float2*>(columns.sum[i]) + unit + u);
    }
#pragma unroll
    for (int j = 0; j < UNIT_GROUPS; j++) {
      const u32* q = reinterpret_cast<const u32*>(columns.q + (unit + u) * UNIT + j * GROUP);
      const u32 b[2] = {__ldg(q), __ldg(q + 4)};
      const float group_scale[2] = {j == 0 ? scale[0].x : scale[0].y, j == 0 ? scale[1].x : scale[1].y};
      const float group_sum[2] = {j == 0 ? sum[0].x : sum[0].y, j == 0 ? sum[1].x : sum[1].y};
      u32 a[4];
      Format::fragment(a, w[u], j);
      add_group(part, a, b, pairs[u].of[j], group_scale, group_sum);
    }
  }
}

/// The same for 16 bits; `column` is this lane's token g, from its element 2t on.
template <class T, int COUNT>
__device__ __forceinline__ void add_units(float (&part)[4], const uint4* tile, const T* column, int unit) {
  uint4 w[COUNT][4];
#pragma unroll
  for (int u = 0; u < COUNT; u++) load_weights<Bits16<T>, true>(w[u], tile, unit + u);
#pragma unroll
  for (int u = 0; u < COUNT; u++) {
#pragma unroll
    for (int step = 0; step < 4; step++) {
      const u32* x = reinterpret_cast<const u32*>(column + (unit + u) * UNIT + step * 16);
      const u32 b[2] = {__ldg(x), __ldg(x + 4)};
      u32 a[4];
      Bits16<T>::fragment(a, w[u], step);
      mma_16(part, a, b, T());
    }
  }
}

/// Adds up chunks: `add(part, unit, count)` adds 4 units at once or 1. Then the totals, then stores.
template <class AddFour, class AddOne>
__device__ __forceinline__ void product(const Output& output, int units, AddFour add_four, AddOne add_one) {
  DYNAMIC_SHARED(float, totals);  // [chunk][8 tokens][16 rows]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int chunks = (units + CHUNK_UNITS - 1) / CHUNK_UNITS;
  for (int c = warp; c < chunks; c += WARPS) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const int first = c * CHUNK_UNITS, count = min(CHUNK_UNITS, units - first);
    if (count == CHUNK_UNITS) {
      add_four(part, first);
    } else {
      for (int u = 0; u < count; u++) add_one(part, first + u);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      totals[(c * BLOCK_TOKENS + 2 * t + i % 2) * TILE_ROWS + g + i / 2 * 8] = part[i];
    }
  }
#if !defined(INJECT_NO_BARRIER)
  __syncthreads();
#endif
  const int row = threadIdx.x % TILE_ROWS, token = threadIdx.x / TILE_ROWS;
  if (token < output.tokens && token < BLOCK_TOKENS) {
    float total = 0.0f;
    for (int c = 0; c < chunks; c++) total = __fadd_rn(total, totals[(c * BLOCK_TOKENS + token) * TILE_ROWS + row]);
    output.store(blockIdx.x * TILE_ROWS + row, token, total);
  }
}

template <class Format>
__device__ __forceinline__ void quantized(const Output& output, const void* w, const half2_t* s, const i8* q,
                                          const float* scale, const float* sum, int k64) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, units = k64 / UNIT;
  const uint4* tile =
      static_cast<const uint4*>(w) + static_cast<size_t>(blockIdx.x) * units * Format::LOADS * 32 + lane;
  const half2_t* scales = s + static_cast<size_t>(blockIdx.x) * scale_rows<Format>(k64) * TILE_ROWS;
  const Int8Columns columns(q, scale, sum, k64, output.tokens, g, t);
  product(
      output, units,
      [&](float(&part)[4], int unit) {
        add_units<Format, CHUNK_UNITS>(part, tile, scales, columns, unit, g);
      },
      [&](float(&part)[4], int unit) { add_units<Format, 1>(part, tile, scales, columns, unit, g); });
}

template <class T>
__device__ __forceinline__ void plain(const Output& output, const void* w, const T* a, int k64) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, units = k64 / UNIT;
  const uint4* tile = static_cast<const uint4*>(w) + static_cast<size_t>(blockIdx.x) * units * 4 * 32 + lane;
  const T* column = a + static_cast<size_t>(min(g, output.tokens - 1)) * k64 + 2 * t;
  product(
      output, units, [&](float(&part)[4], int unit) { add_units<T, CHUNK_UNITS>(part, tile, column, unit); },
      [&](float(&part)[4], int unit) { add_units<T, 1>(part, tile, column, unit); });
}

}  // namespace

/// w, s: int4 tiles and their pairs; q [tokens][k64], scale and sum [tokens][k64/32] -> y[t ld + row].
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    gemv_q4(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
            const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  quantized<Int4>(Output{y, bias, residual, n, tokens, ld}, w, s, q, scale, sum, k64);
}

/// The same with a pair for 128 columns.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    gemv_awq(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
             const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  quantized<Awq>(Output{y, bias, residual, n, tokens, ld}, w, s, q, scale, sum, k64);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    gemv_q8(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
            const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  quantized<Int8>(Output{y, bias, residual, n, tokens, ld}, w, s, q, scale, sum, k64);
}

/// w: 16-bit tiles; a [tokens][k64] -> y[t ld + row].
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    gemv_bf16(float* y, const void* w, const bf16* a, const float* bias, const float* residual, int n, int k64,
              int tokens, int ld) {
  plain<bf16>(Output{y, bias, residual, n, tokens, ld}, w, a, k64);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    gemv_f16(float* y, const void* w, const f16* a, const float* bias, const float* residual, int n, int k64,
             int tokens, int ld) {
  plain<f16>(Output{y, bias, residual, n, tokens, ld}, w, a, k64);
}

SHIM_ENTRY(gemv_q4)
SHIM_ENTRY(gemv_awq)
SHIM_ENTRY(gemv_q8)
SHIM_ENTRY(gemv_bf16)
SHIM_ENTRY(gemv_f16)

}  // namespace gemv
