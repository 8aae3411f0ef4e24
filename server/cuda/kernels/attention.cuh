// The arithmetic of attention that decode (attend.cu) and prefill (attend_prefill.cu) share, so that both give the same
// bits: for a row (a query head of a token), over keys at absolute positions,
//
//   split = 256 keys:  most = -inf, sum = values = 0;  for each tile of 32 keys in order:
//     score = q . k                      mma, bf16 queries and keys, 16 dimensions at a time in order
//     most' = max(most, max(score) log2 e);  factor = 2^(most - most');  sum, values *= factor
//     weight = bf16(2^(score log2 e - most')), 0 for keys the row does not see
//     values += weight v, sum += weight  mma, 16 keys at a time in order; the sum is a dimension whose values are 1
//   all splits with a key, in order: see merge_factors
//
// A tile that a row does not see at all leaves it as it is (factor 1, weights 0), so neither the rows beside it nor the
// number of tiles changes a bit. Values of the cache must be finite. Rows of shared memory are padded to 16 dimensions
// with zeros and are an odd number of 16 bytes long: the 8 rows of a fragment lie in different banks. In mma.m16n8k16
// (PTX ISA) lane l holds rows l / 4 and 8 more, columns 2 (l % 4) and the next of a result: scores of 16 keys are the A
// fragment of the next product.
//
// An int8 cache has a scale for each key and value. Its integers become bf16 without loss; then
//   score = (q . k) key_scale          weight = bf16(2^(score log2 e - most') value_scale) for values, without for sums
// The 16 dimensions of a step come in another order, the same in both kernels: of dimensions 4t ..+4, which are one
// register of int8, those that are even (0, 2) stand in columns 2t, 2t + 1 of a fragment, odd ones 8 columns later.
#pragma once
#include "device.cuh"

namespace attention {

constexpr int SPLIT = 256;       // keys
constexpr int TILE = 32;         // keys
constexpr int TILES = SPLIT / TILE;
constexpr int STEP = 16;         // keys, or dimensions, of one mma; keys of a step lie one after another in a block
constexpr int SPLIT_STEPS = SPLIT / STEP;
constexpr int DIM_MAX = 256;
constexpr float LOG2_E = 1.44269504f;
constexpr u32 ONES = 0x3f803f80u;  // two bfloat16

/// What the cache holds. BF16: rows of head_dim numbers. INT8: 16 rows of head_dim integers, each padded to 16, then
/// their 16 scales as floats, and so on.
enum Kind { BF16, INT8 };

/// Bytes of shared memory for one piece of keys or values as the cache holds them.
template <Kind KIND>
constexpr int SLOT = 32 * (128 * (KIND == INT8 ? 1 : 2) + 16);

/// A head's dimension: exactly MAX where FIXED, else any even number up to it.
template <Kind KIND_, int MAX_, bool FIXED_>
struct Dim {
  static constexpr Kind KIND = KIND_;
  static constexpr int MAX = MAX_, STEPS = MAX / STEP, BYTES = KIND == INT8 ? 1 : 2;
  static constexpr bool FIXED = FIXED_;
  static constexpr int PIECE = MAX <= 128 ? TILE : TILE / 2;  // keys that are copied at a time
  static constexpr int PIECES = TILE / PIECE;
  static_assert(PIECE * (MAX * BYTES + 16) <= SLOT<KIND>, "a piece fits its slot");
  int any;

  __device__ __forceinline__ int dim() const { return FIXED ? MAX : any; }
  __device__ __forceinline__ int steps() const { return FIXED ? STEPS : (any + STEP - 1) / STEP; }
  __device__ __forceinline__ bool has(int step) const { return FIXED || step < steps(); }
  /// Bytes of a row in the cache, and of one in shared memory as it is copied and as bf16.
  __device__ __forceinline__ int row_bytes() const { return KIND == INT8 ? steps() * STEP : dim() * 2; }
  __device__ __forceinline__ int pitch() const { return KIND == INT8 ? (steps() | 1) * STEP : pitch_16(); }
  __device__ __forceinline__ int pitch_16() const { return steps() * STEP * 2 + 16; }
};

/// Where a sequence's keys and values of one layer and head are.
template <Kind KIND>
struct Source {
  const u8* first;    // of a block at offset 0
  const u64* table;   // offsets of blocks
  u32 values_after;   // bytes from a key to its value
  int row_bytes, position_bytes, block_tokens;
  int keys;           // that exist, from position 0

  __device__ __forceinline__ Source(const u8* arena, const u64* table, int keys, int layer, int kv_head, int kv_heads,
                                    int head_dim, int block_tokens)
      : table(table), row_bytes(KIND == INT8 ? (head_dim + STEP - 1) / STEP * STEP : head_dim * 2),
        position_bytes(KIND == INT8 ? row_bytes + 4 : row_bytes), block_tokens(block_tokens), keys(keys) {
    const u32 head_bytes = block_tokens * position_bytes;
    first = arena + (static_cast<u64>(layer) * 2 * kv_heads + kv_head) * head_bytes;
    values_after = kv_heads * head_bytes;
  }
  /// The first 16 threads note where the steps of a split begin: two splits at most are known at a time.
  __device__ __forceinline__ void locate(const u8** places, int split) const {
    if (threadIdx.x >= SPLIT_STEPS) return;
    const int step = split * SPLIT_STEPS + threadIdx.x, key = step * STEP;
    if (key >= keys) return;
#if defined(INJECT_BLOCK_OFF)
    const u64 block = table[key / block_tokens + 1];
#else
    const u64 block = table[key / block_tokens];
#endif
    places[step % (2 * SPLIT_STEPS)] = first + block + key % block_tokens * position_bytes;
  }
};

/// Calls f(row, part) for this thread's parts of a piece, of so many bytes.
template <class D, int THREADS, int BYTES, class F>
__device__ __forceinline__ void each_part(const D& dim, F f) {
  if constexpr (D::FIXED) {
    constexpr int PARTS = D::MAX * D::BYTES / BYTES;
#pragma unroll 1  // registers are scarce
    for (int i = 0; i < D::PIECE * PARTS / THREADS; i++) {
      const int at = i * THREADS + threadIdx.x;
      f(at / PARTS, at % PARTS);
    }
  } else {
    const int parts = dim.row_bytes() / BYTES;
    int row = threadIdx.x / parts, part = threadIdx.x % parts;
    while (row < D::PIECE) {
      f(row, part);
      row += THREADS / parts;
      part += THREADS % parts;
      if (part >= parts) {
        part -= parts;
        row++;
      }
    }
  }
}

/// Starts copying a piece of keys or values to `to`; values that do not exist become 0.
template <class D, int THREADS, int BYTES>
__device__ __forceinline__ void copy_piece(u8* to, const D& dim, const Source<D::KIND>& source,
                                           const u8* const* places, int piece, bool values) {
  const int first = piece * D::PIECE, row_bytes = dim.row_bytes(), pitch = dim.pitch();
  const u32 after = values ? source.values_after : 0;
  each_part<D, THREADS, BYTES>(dim, [&](int row, int part) {
    u8* place = to + row * pitch + part * BYTES;
    if (first + row < source.keys) {
      const u8* step = places[(first + row) / STEP % (2 * SPLIT_STEPS)];
      copy_async<BYTES>(place, step + (after + row % STEP * row_bytes + part * BYTES));
    } else if (values) {
      for (int i = 0; i < BYTES / 4; i++) reinterpret_cast<u32*>(place)[i] = 0;
    }
  });
}

/// Starts copying the scales of a split, whose places are known, to `to`: those of its keys, then those of its values;
/// 0 for values that do not exist. They belong to the next group of copies.
template <int THREADS>
__device__ __forceinline__ void copy_scales(float* to, const Source<INT8>& source, const u8* const* places, int split) {
#pragma unroll 1
  for (int i = threadIdx.x; i < 2 * SPLIT; i += THREADS) {
    const int key = split * SPLIT + i % SPLIT;
    if (key < source.keys) {
      const u8* step = places[key / STEP % (2 * SPLIT_STEPS)];
#if defined(INJECT_SCALE_OFF)
      const int scale = (key + 1) % STEP;
#else
      const int scale = key % STEP;
#endif
      copy_async<4>(to + i, step + ((i < SPLIT ? 0 : source.values_after) + STEP * source.row_bytes + scale * 4));
    } else if (i >= SPLIT) {
      to[i] = 0.0f;
    }
  }
}

/// A piece of int8 as bf16. Each thread reads the bytes that it copied itself: they need no barrier.
template <class D, int THREADS>
__device__ __forceinline__ void widen_piece(u8* to, const u8* from, const D& dim) {
  each_part<D, THREADS, 16>(dim, [&](int row, int part) {
    const uint4 bytes = *reinterpret_cast<const uint4*>(from + row * dim.pitch() + part * 16);
    uint4 even, odd;
    unpack_s8(even.x, odd.x, bytes.x);
    unpack_s8(even.y, odd.y, bytes.y);
    unpack_s8(even.z, odd.z, bytes.z);
    unpack_s8(even.w, odd.w, bytes.w);
    uint4* place = reinterpret_cast<uint4*>(to + row * dim.pitch_16() + part * 32);
    place[0] = even;
    place[1] = odd;
  });
}

/// Pieces of keys and values through a ring of SLOTS slots, copied SLOTS - 1 pieces ahead of their use.
/// Order says which piece is the i-th: `place(i, piece, values)`. WIDE: int8 become bf16 in one of the two slots behind
/// the ring.
template <class D, int SLOTS, int THREADS, bool WIDE, class Order>
struct Stream {
  const D& dim;
  const Source<D::KIND>& source;
  const u8* const* places;
  u8* slots;
  const Order order;
  int count, slot;

  /// Begins with the first pieces; `places` are known to all threads.
  __device__ __forceinline__ Stream(const D& dim, const Source<D::KIND>& source, const u8* const* places, u8* slots,
                                    Order order, int count)
      : dim(dim), source(source), places(places), slots(slots), order(order), count(count), slot(0) {
#pragma unroll 1  // registers are scarce
    for (int i = 0; i < SLOTS - 1; i++) start(i, i);
  }
  __device__ __forceinline__ void start(int which, int to) const {
    if (which < count) {
      int piece;
      bool values;
      order.place(which, piece, values);
      u8* place = slots + to * SLOT<D::KIND>;
      if constexpr (D::FIXED || D::KIND == INT8) {
        copy_piece<D, THREADS, 16>(place, dim, source, places, piece, values);
      } else if (dim.any % 8 == 0) {
        copy_piece<D, THREADS, 16>(place, dim, source, places, piece, values);
      } else {
        copy_piece<D, THREADS, 4>(place, dim, source, places, piece, values);
      }
    }
    copy_commit();
  }
  /// The next piece, the `step`-th of all, once it is there. The one before is not read any more.
  __device__ __forceinline__ const u8* next(int step) {
    copy_wait<SLOTS - 2>();
    const u8* here = slots + slot * SLOT<D::KIND>;
    if constexpr (WIDE) {
      u8* wide = slots + SLOTS * SLOT<INT8> + step % 2 * SLOT<BF16>;
      widen_piece<D, THREADS>(wide, here, dim);
      here = wide;
    }
#if !defined(INJECT_NO_BARRIER)
    __syncthreads();  // all of the piece is there, and nobody reads the slot that is filled now
#endif
    start(step + SLOTS - 1, slot == 0 ? SLOTS - 1 : slot - 1);
    slot = slot == SLOTS - 1 ? 0 : slot + 1;
    return here;
  }
};

/// Zeros in all slots: copies never touch what stands behind rows whose dimension is no multiple of 16. A barrier must
/// follow.
template <int THREADS>
__device__ __forceinline__ void clear(u8* slots, int bytes) {
  for (int i = threadIdx.x; i < bytes / 4; i += THREADS) reinterpret_cast<u32*>(slots)[i] = 0;
}

/// Where the i-th (0, 1) of a lane's two pairs of dimensions begins among the 16 of a step.
template <Kind KIND>
__device__ __forceinline__ int pair_column(int i) {
  const int t = threadIdx.x % 4;
  return KIND == INT8 ? 4 * t + 2 * i : 8 * i + 2 * t;
}

/// The A fragments of a lane's two rows: queries rounded to bf16.
template <class D>
__device__ __forceinline__ void load_queries(u32 (&to)[D::STEPS][4], const D& dim, const float* row0,
                                             const float* row8) {
#pragma unroll
  for (int step = 0; step < D::STEPS; step++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int column = step * STEP + pair_column<D::KIND>(i / 2);
      const float* row = i % 2 ? row8 : row0;
      to[step][i] = 0;
      if (D::FIXED || column < dim.any) {
        const float2 pair = *reinterpret_cast<const float2*>(row + column);
        to[step][i] = pack_bf16(pair.x, pair.y);
      }
    }
    if constexpr (D::KIND == INT8) {
      // Even ones first.
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const u32 first = to[step][r], second = to[step][r + 2];
        to[step][r] = (first & 0xffffu) | second << 16;
        to[step][r + 2] = first >> 16 | (second & 0xffff0000u);
      }
    }
  }
}

/// The maximum of a lane's two rows over a tile, in all lanes that hold them, times log2 e.
__device__ __forceinline__ void tile_most(float (&most)[2], const float (&scores)[TILE / 8][4]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float m = NEGATIVE_INFINITY;
#pragma unroll
    for (int i = 0; i < TILE / 8; i++) m = fmaxf(m, fmaxf(scores[i][2 * r], scores[i][2 * r + 1]));
    m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 1));
    m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 2));
    most[r] = __fmul_rn(m, LOG2_E);
  }
}

/// Scores -> weights.
__device__ __forceinline__ void weigh(float (&scores)[TILE / 8][4], const float (&most)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const float base = most[r] == NEGATIVE_INFINITY ? 0.0f : most[r];  // a row that sees no key yet
#pragma unroll
    for (int i = 0; i < TILE / 8 * 2; i++) {
      float* score = &scores[i / 2][2 * r + i % 2];
      *score = exp2f(fmaf(*score, LOG2_E, -base));
    }
  }
}

/// Times what belongs to each key of a tile.
__device__ __forceinline__ void scale_keys(float (&all)[TILE / 8][4], const float* scales) {
#pragma unroll
  for (int i = 0; i < TILE / 8; i++) {
    const float2 pair = *reinterpret_cast<const float2*>(scales + i * 8 + threadIdx.x % 4 * 2);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      all[i][2 * r] = __fmul_rn(all[i][2 * r], pair.x);
      all[i][2 * r + 1] = __fmul_rn(all[i][2 * r + 1], pair.y);
    }
  }
}

/// Weights -> A fragments, 16 keys each.
__device__ __forceinline__ void pack_weights(u32 (&to)[TILE / STEP][4], const float (&weights)[TILE / 8][4]) {
#pragma unroll
  for (int i = 0; i < TILE / 8; i++) {
    to[i / 2][i % 2 * 2] = pack_bf16(weights[i][0], weights[i][1]);
    to[i / 2][i % 2 * 2 + 1] = pack_bf16(weights[i][2], weights[i][3]);
  }
}

/// What a lane's two rows have gathered over a split: the sum of weights, and UNITS times 16 dimensions.
template <int UNITS>
struct Sums {
  float most[2], weight[4], value[UNITS][2][4];

  __device__ __forceinline__ void clear() {
    most[0] = most[1] = NEGATIVE_INFINITY;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      weight[i] = 0.0f;
#pragma unroll
      for (int u = 0; u < UNITS; u++) value[u][0][i] = value[u][1][i] = 0.0f;
    }
  }
  /// Raises the maximum to `next`, which is no smaller.
  __device__ __forceinline__ void raise(const float (&next)[2]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (next[r] == most[r]) continue;  // a factor of 1
      const float factor = exp2f(most[r] - next[r]);
      most[r] = next[r];
#pragma unroll
      for (int i = 2 * r; i < 2 * r + 2; i++) {
        weight[i] = __fmul_rn(weight[i], factor);
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
          value[u][0][i] = __fmul_rn(value[u][0][i], factor);
          value[u][1][i] = __fmul_rn(value[u][1][i], factor);
        }
      }
    }
  }
  /// 16 keys: their weights alone.
  __device__ __forceinline__ void add_weights(const u32 (&weights)[4]) {
    const u32 ones[2] = {ONES, ONES};
    mma_16(weight, weights, ones, bf16());
  }
  /// 16 keys, 16 dimensions; `step` is where they begin in shared memory.
  __device__ __forceinline__ void add_values(int unit, const u32 (&weights)[4], const u8* step, int pitch) {
    const int lane = threadIdx.x % 32;
    u32 pieces[4];
    load_matrices<true>(pieces, step + lane % 16 * pitch + lane / 16 * 16);
    const u32 first[2] = {pieces[0], pieces[1]}, second[2] = {pieces[2], pieces[3]};
    mma_16(value[unit][0], weights, first, bf16());
    mma_16(value[unit][1], weights, second, bf16());
  }
  /// 16 keys, 16 dimensions each of a unit and, where it has one, of the next, as int8; `first` and `second` are where they
  /// begin in shared memory.
  __device__ __forceinline__ void add_int8(int unit, bool has_second, const u32 (&weights)[4], const u8* first,
                                           const u8* second, int pitch) {
    const int lane = threadIdx.x % 32;
    u32 pieces[4];  // two keys of two dimensions each
    load_matrices<true>(pieces, (lane < 16 ? first : second) + lane % 16 * pitch);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      if (unit + i >= UNITS || (i == 1 && !has_second)) continue;
      u32 even[2], odd[2];
      unpack_s8(even[0], odd[0], pieces[2 * i]);
      unpack_s8(even[1], odd[1], pieces[2 * i + 1]);
      mma_16(value[unit + i][0], weights, even, bf16());
      mma_16(value[unit + i][1], weights, odd, bf16());
    }
  }
  /// The pair of row r (0, 1) at `pair_column(i)` of a unit.
  template <Kind KIND>
  __device__ __forceinline__ float2 pair(int unit, int r, int i) const {
    return KIND == INT8 ? make_float2(value[unit][0][2 * r + i], value[unit][1][2 * r + i])
                        : make_float2(value[unit][i][2 * r], value[unit][i][2 * r + 1]);
  }
  /// A sum of nothing but zeros may be +0 or -0, by the number of zeros: +0.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
      for (int u = 0; u < UNITS; u++) {
        value[u][0][i] = __fadd_rn(value[u][0][i], 0.0f);
        value[u][1][i] = __fadd_rn(value[u][1][i], 0.0f);
      }
    }
  }
};

/// Splits are merged in order, those without a key are left out: most' = max(most, the split's);
/// x = fma(2^(split's most - most'), split's x, 2^(most - most') x), for the sum of weights and each value.
struct Factors {
  float before, part;
};
__device__ __forceinline__ Factors merge_factors(float& most, float part_most) {
  const float next = fmaxf(most, part_most);
  const Factors factors{exp2f(most - next), exp2f(part_most - next)};
  most = next;
  return factors;
}
__device__ __forceinline__ float merged(const Factors& factors, float before, float part) {
  return fmaf(factors.part, part, __fmul_rn(factors.before, before));
}

}  // namespace attention
