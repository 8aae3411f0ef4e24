// Products of a weight matrix with many tokens: the prompt, and decode steps of more than 8 sequences.
//
//   block = 4 warps, each one tile of 16 rows, and 64 tokens (8 column blocks)
//   for each unit of 64 columns of K, in order:
//     activations of the 64 tokens: shared memory, copied asynchronously STAGES - 1 units ahead
//     weights of the warp's tile: registers, loaded one unit ahead
//     part += unit, for each column block;  after every 4 units and at the end: total += part, part = 0
//   y = total + bias + residual
//
// Grid (ceil(N / 64), ceil(T / 64)), block 128. Moves the weights once for every 64 tokens and the activations once for
// every 64 rows (mostly from the cache). Bound by the tensor cores for many tokens, by the weights' bytes for few.
// Rows of shared memory are 16 bytes longer than their data, so that the 8 tokens x 4 words of a fragment lie in 32
// different banks.
#include "product.cuh"

namespace gemm {
namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * 32;
constexpr int TOKENS = 64;                      // of a block
constexpr int BLOCKS = TOKENS / BLOCK_TOKENS;   // column blocks
constexpr int STAGES = 3;

/// What all formats share: which tile, which tokens, the sums.
struct Place {
  int lane, g, t, tile, first_token, tokens, blocks;
  bool has_tile;

  __device__ __forceinline__ Place(int n, int all_tokens) {
    lane = threadIdx.x % 32;
    g = lane / 4;
    t = lane % 4;
    const int tiles = (n + TILE_ROWS - 1) / TILE_ROWS, asked = blockIdx.x * WARPS + threadIdx.x / 32;
    has_tile = asked < tiles;
    tile = min(asked, tiles - 1);
    first_token = blockIdx.y * TOKENS;
    tokens = min(TOKENS, all_tokens - first_token);
    blocks = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
  }
  /// The token whose activations stand in row `i` of the stage.
  __device__ __forceinline__ int token(int i) const { return first_token + min(i, tokens - 1); }
};

/// int8 activations: 64 tokens x 64 columns, scales and sums of the two groups.
template <class Format>
struct Quantized {
  static constexpr int PITCH = UNIT + 16;
  static constexpr int STAGE = TOKENS * (PITCH + 4 * UNIT_GROUPS * 2);  // bytes
  const half2_t* scales;
  const i8* q;
  const float *scale, *sum;
  int k64;

  struct Unit {
    uint4 w[Format::LOADS];
    WeightScales pairs;
  };
  __device__ __forceinline__ void load(Unit& next, const Place& place, const uint4* tile, int unit) const {
    load_weights<Format, false>(next.w, tile, unit);
    const size_t first = static_cast<size_t>(place.tile) * scale_rows<Format>(k64) * TILE_ROWS;
    next.pairs.template load<Format>(scales + first, unit, place.g);
  }
  __device__ __forceinline__ void stage(u8* to, const Place& place, int unit) const {
    for (int i = threadIdx.x; i < TOKENS * UNIT / 16; i += THREADS) {
      const int row = i / (UNIT / 16), piece = i % (UNIT / 16);
      copy_async<16>(to + row * PITCH + piece * 16,
                     q + static_cast<size_t>(place.token(row)) * k64 + unit * UNIT + piece * 16);
    }
    // Threads 0..63 the scales, 64..127 the sums: two groups of a token are 8 bytes.
    const int row = threadIdx.x % TOKENS, which = threadIdx.x / TOKENS;
    const float* from = which == 0 ? scale : sum;
    copy_async<8>(to + TOKENS * PITCH + (which * TOKENS + row) * 8,
                  from + static_cast<size_t>(place.token(row)) * (k64 / GROUP) + unit * UNIT_GROUPS);
  }
  __device__ __forceinline__ void add(float (&part)[BLOCKS][4], const u8* stage, const Place& place,
                                      const Unit& unit) const {
    u32 a[UNIT_GROUPS][4];
#pragma unroll
    for (int j = 0; j < UNIT_GROUPS; j++) Format::fragment(a[j], unit.w, j);
    const float4* token_scales = reinterpret_cast<const float4*>(stage + TOKENS * PITCH);
#pragma unroll
    for (int block = 0; block < BLOCKS; block++) {
      if (block >= place.blocks) continue;
      // Tokens 2t and 2t + 1 with two groups each: (x, y) and (z, w).
      const float4 scale4 = token_scales[block * 4 + place.t], sum4 = token_scales[TOKENS / 2 + block * 4 + place.t];
      const u8* row = stage + (block * BLOCK_TOKENS + place.g) * PITCH + place.t * 4;
#pragma unroll
      for (int j = 0; j < UNIT_GROUPS; j++) {
        const u32* words = reinterpret_cast<const u32*>(row + j * GROUP);
        const u32 b[2] = {words[0], words[4]};
        const float group_scale[2] = {j == 0 ? scale4.x : scale4.y, j == 0 ? scale4.z : scale4.w};
        const float group_sum[2] = {j == 0 ? sum4.x : sum4.y, j == 0 ? sum4.z : sum4.w};
        add_group(part[block], a[j], b, unit.pairs.of[j], group_scale, group_sum);
      }
    }
  }
};

/// 16-bit activations: 64 tokens x 64 columns.
template <class T>
struct Plain {
  static constexpr int PITCH = UNIT * 2 + 16;
  static constexpr int STAGE = TOKENS * PITCH;
  const T* a;
  int k64;

  struct Unit {
    uint4 w[4];
  };
  __device__ __forceinline__ void load(Unit& next, const Place&, const uint4* tile, int unit) const {
    load_weights<Bits16<T>, false>(next.w, tile, unit);
  }
  __device__ __forceinline__ void stage(u8* to, const Place& place, int unit) const {
    for (int i = threadIdx.x; i < TOKENS * UNIT * 2 / 16; i += THREADS) {
      const int row = i / (UNIT / 8), piece = i % (UNIT / 8);
      copy_async<16>(to + row * PITCH + piece * 16,
                     a + static_cast<size_t>(place.token(row)) * k64 + unit * UNIT + piece * 8);
    }
  }
  __device__ __forceinline__ void add(float (&part)[BLOCKS][4], const u8* stage, const Place& place,
                                      const Unit& unit) const {
#pragma unroll
    for (int step = 0; step < 4; step++) {
      u32 weights[4];
      Bits16<T>::fragment(weights, unit.w, step);
#pragma unroll
      for (int block = 0; block < BLOCKS; block++) {
        if (block >= place.blocks) continue;
        const u8* row = stage + (block * BLOCK_TOKENS + place.g) * PITCH + place.t * 4 + step * 32;
        const u32* words = reinterpret_cast<const u32*>(row);
        const u32 b[2] = {words[0], words[4]};
        mma_16(part[block], weights, b, T());
      }
    }
  }
};

template <class Kind>
__device__ __forceinline__ void product(const Output& output, const Kind& kind, const void* w, int loads) {
  SHARED(u8, stages, STAGES * Kind::STAGE);
  const Place place(output.n, output.tokens);
  const int units = kind.k64 / UNIT;
  const uint4* tile = static_cast<const uint4*>(w) + static_cast<size_t>(place.tile) * units * loads * 32 + place.lane;
  float part[BLOCKS][4] = {}, total[BLOCKS][4] = {};
  typename Kind::Unit now, next;

#pragma unroll
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < units) kind.stage(stages + s * Kind::STAGE, place, s);
    copy_commit();
  }
  kind.load(next, place, tile, 0);
  for (int unit = 0, stage = 0; unit < units; unit++) {
    copy_wait<STAGES - 2>();
#if !defined(INJECT_NO_BARRIER)
    __syncthreads();  // this stage is full, and nobody reads the one that is filled now
#endif
    const int ahead = unit + STAGES - 1, free_stage = stage == 0 ? STAGES - 1 : stage - 1;
    if (ahead < units) kind.stage(stages + free_stage * Kind::STAGE, place, ahead);
    copy_commit();
    now = next;
    if (unit + 1 < units) kind.load(next, place, tile, unit + 1);
    kind.add(part, stages + stage * Kind::STAGE, place, now);
    if (unit % CHUNK_UNITS == CHUNK_UNITS - 1 || unit == units - 1) {
#pragma unroll
      for (int i = 0; i < BLOCKS * 4; i++) {
        total[i / 4][i % 4] = __fadd_rn(total[i / 4][i % 4], part[i / 4][i % 4]);
        part[i / 4][i % 4] = 0.0f;
      }
    }
    stage = stage == STAGES - 1 ? 0 : stage + 1;
  }
  if (!place.has_tile) return;
#pragma unroll
  for (int block = 0; block < BLOCKS; block++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      output.store(place.tile * TILE_ROWS + place.g + i / 2 * 8,
                   place.first_token + block * BLOCK_TOKENS + 2 * place.t + i % 2, total[block][i]);
    }
  }
}

}  // namespace

/// w, s: int4 tiles and their pairs; q [tokens][k64], scale and sum [tokens][k64/32] -> y[t ld + row].
extern "C" __global__ void __launch_bounds__(THREADS)
    gemm_q4(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
            const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  product(Output{y, bias, residual, n, tokens, ld}, Quantized<Int4>{s, q, scale, sum, k64}, w, Int4::LOADS);
}

/// The same with a pair for 128 columns.
extern "C" __global__ void __launch_bounds__(THREADS)
    gemm_awq(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
             const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  product(Output{y, bias, residual, n, tokens, ld}, Quantized<Awq>{s, q, scale, sum, k64}, w, Awq::LOADS);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gemm_q8(float* y, const void* w, const half2_t* s, const i8* q, const float* scale, const float* sum,
            const float* bias, const float* residual, int n, int k64, int tokens, int ld) {
  product(Output{y, bias, residual, n, tokens, ld}, Quantized<Int8>{s, q, scale, sum, k64}, w, Int8::LOADS);
}

/// w: 16-bit tiles; a [tokens][k64] -> y[t ld + row].
extern "C" __global__ void __launch_bounds__(THREADS)
    gemm_bf16(float* y, const void* w, const bf16* a, const float* bias, const float* residual, int n, int k64,
              int tokens, int ld) {
  product(Output{y, bias, residual, n, tokens, ld}, Plain<bf16>{a, k64}, w, Bits16<bf16>::LOADS);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gemm_f16(float* y, const void* w, const f16* a, const float* bias, const float* residual, int n, int k64,
             int tokens, int ld) {
  product(Output{y, bias, residual, n, tokens, ld}, Plain<f16>{a, k64}, w, Bits16<f16>::LOADS);
}

SHIM_ENTRY(gemm_q4)
SHIM_ENTRY(gemm_awq)
SHIM_ENTRY(gemm_q8)
SHIM_ENTRY(gemm_bf16)
SHIM_ENTRY(gemm_f16)

}  // namespace gemm
