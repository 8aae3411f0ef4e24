// What the products of few tokens (gemv.cu) and of many (gemm.cu) have in common: the weight formats, the arithmetic of
// a group, the end of a sum. Both add up in the same order, so both give the same bits:
//
//   chunk c = columns [256 c, 256 (c + 1)):  part = 0; for each of its groups (or mma steps) in order: part += group
//   y = 0; for each chunk in order: y += part;  y += bias;  y += residual
//   group, int8 activations: acc = sum of w q exactly;  value = fma(s, scale acc, -(m sum))
//
// A warp multiplies a tile of 16 rows with 8 tokens (a column block). Lane l holds rows g and g + 8, tokens 2t and
// 2t + 1 of the result, g = l / 4, t = l % 4 (PTX ISA, fragments of mma.m16n8k16 and m16n8k32).
// Tokens that do not exist are read as the last one that does: columns do not mix, and theirs are not stored.
#pragma once
#include "device.cuh"

constexpr int UNIT_GROUPS = UNIT / GROUP;   // 2
constexpr int CHUNK_UNITS = CHUNK / UNIT;   // 4
constexpr int BLOCK_TOKENS = 8;             // of a column block

/// A format of weights. LOADS: 16-byte pieces that a lane reads for 64 columns of its two rows. `fragment` makes the
/// registers of A of one group (int4, int8) or one step of 16 columns (16 bits) of them. SCALE_COLUMNS share a pair (s, m).
struct Int4 {
  static constexpr int LOADS = 1;
  static constexpr int SCALE_COLUMNS = GROUP;
  __device__ static __forceinline__ void fragment(u32 (&a)[4], const uint4 (&w)[LOADS], int group) {
    const u32 first = group == 0 ? w[0].x : w[0].z, second = group == 0 ? w[0].y : w[0].w;
    a[0] = first & 0x0F0F0F0Fu;
    a[1] = second & 0x0F0F0F0Fu;
    a[2] = first >> 4 & 0x0F0F0F0Fu;
    a[3] = second >> 4 & 0x0F0F0F0Fu;
  }
};
/// int4 with the scales of AWQ's groups as they are: 4.25 bits a weight instead of 5.
struct Awq : Int4 {
  static constexpr int SCALE_COLUMNS = 128;
};
struct Int8 {
  static constexpr int LOADS = 2;
  static constexpr int SCALE_COLUMNS = GROUP;
  __device__ static __forceinline__ void fragment(u32 (&a)[4], const uint4 (&w)[LOADS], int group) {
    a[0] = w[group].x;
    a[1] = w[group].y;
    a[2] = w[group].z;
    a[3] = w[group].w;
  }
};
template <class T>
struct Bits16 {
  static constexpr int LOADS = 4;
  __device__ static __forceinline__ void fragment(u32 (&a)[4], const uint4 (&w)[LOADS], int step) {
    a[0] = w[step].x;
    a[1] = w[step].y;
    a[2] = w[step].z;
    a[3] = w[step].w;
  }
};

/// The weights of one unit (64 columns) of a lane's two rows; `tile` is the lane's first piece of the tile.
/// READ_ONCE: no other block reads them, the cache need not keep them.
template <class Format, bool READ_ONCE>
__device__ __forceinline__ void load_weights(uint4 (&w)[Format::LOADS], const uint4* tile, int unit) {
#pragma unroll
  for (int i = 0; i < Format::LOADS; i++) {
    const uint4* from = tile + (static_cast<size_t>(unit) * Format::LOADS + i) * 32;
#if defined(INJECT_MISALIGNED)
    from = reinterpret_cast<const uint4*>(reinterpret_cast<const u32*>(from) + 1);
#endif
    w[i] = READ_ONCE ? __ldcs(from) : __ldg(from);
  }
}

/// Rows of 16 pairs (s, m) that a tile has.
template <class Format>
__device__ __forceinline__ int scale_rows(int k64) {
  return (k64 + Format::SCALE_COLUMNS - 1) / Format::SCALE_COLUMNS;
}

/// (s, m) of a lane's two rows in the groups of one unit.
struct WeightScales {
  half2_t of[UNIT_GROUPS][2];

  /// `tile`: the pairs of the tile, [scale group][16 rows].
  template <class Format>
  __device__ __forceinline__ void load(const half2_t* tile, int unit, int g) {
#pragma unroll
    for (int j = 0; j < UNIT_GROUPS; j++) {
      const half2_t* rows = tile + static_cast<size_t>((unit * UNIT + j * GROUP) / Format::SCALE_COLUMNS) * TILE_ROWS;
      of[j][0] = __ldg(rows + g);
      of[j][1] = __ldg(rows + g + 8);
    }
  }
};

/// An integer sum starts at 2^23 + 2^22, as a float's bits: then the sum, below 2^22 in magnitude, is that float's
/// mantissa, and a subtraction makes it a float exactly. Cheaper than a conversion, and the same value.
constexpr int SUM_START = 0x4B400000;
constexpr float SUM_START_VALUE = 12582912.0f;
static_assert(GROUP * 128 * 128 < 1 << 22, "a group's sum fits");

/// part += the group's values. `scale` and `sum` are the activations' of tokens 2t and 2t + 1.
__device__ __forceinline__ void add_group(float (&part)[4], const u32 (&a)[4], const u32 (&b)[2],
                                          const half2_t (&weights)[2], const float (&scale)[2],
                                          const float (&sum)[2]) {
  int acc[4] = {SUM_START, SUM_START, SUM_START, SUM_START};
  mma_s8(acc, a, b);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float s = __low2float(weights[i / 2]), m = __high2float(weights[i / 2]);
    const float integer = __fadd_rn(__uint_as_float(static_cast<u32>(acc[i])), -SUM_START_VALUE);
    const float p = __fmul_rn(scale[i % 2], integer);
    part[i] = __fadd_rn(part[i], fmaf(s, p, -__fmul_rn(m, sum[i % 2])));
  }
}

/// Where a result goes and what is added to it first: y[t ld + row], rows below n, tokens below `tokens`.
struct Output {
  float* y;
  const float *bias, *residual;  // either may be null; residual may be y
  int n, tokens, ld;

  __device__ __forceinline__ void store(int row, int token, float total) const {
    if (row >= n || token >= tokens) return;
    const size_t at = static_cast<size_t>(token) * ld + row;
    if (bias) total = __fadd_rn(total, bias[row]);
    if (residual) total = __fadd_rn(total, residual[at]);
    y[at] = total;
  }
};
