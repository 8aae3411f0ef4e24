// Attention of few tokens over the paged cache (decode), in splits of 256 keys, so that one long sequence keeps the
// whole device busy. The arithmetic stands in attention.cuh.
//
//   block = (split, key-value head, token), for up to 16 of the head's queries at a time, the rows of a fragment:
//     keys, then values of the split stream through shared memory in pieces, copied SLOTS - 1 pieces ahead
//     key piece:    scores -> shared memory          a warp for 8 keys
//     between:      maxima of tiles; weights         a warp for each 4th tile
//     value piece:  values += weights v              a warp for each 4th 16 dimensions
//     partial = (max, sum, values)
//   attend_merge: out = values / sum over all splits
//
// Splits behind the last key hold maximum -inf and are skipped. Grid (splits, kv_heads, T), block 128. Moves
// each key and value once for all queries of the head (512 bytes a position and head at dimension 128, 264 of int8).
// Bound by the bandwidth of memory: up to 17 KB a block under way. int8 become bf16 in registers, each by one warp.
// Addresses of a block of the cache must be multiples of 16 bytes. More than 16 queries a head read the keys again.
#include "attention.cuh"

namespace attend {
namespace {

using namespace attention;

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * 32;
constexpr int ROWS = 16;
template <Kind KIND>
constexpr int SLOTS = KIND == INT8 ? 5 : 3;  // about as many bytes
constexpr int PITCH = SPLIT + 4;  // floats of a row of scores: rows lie in different banks

/// The keys' pieces, then the values'.
struct KeysFirst {
  int first, count;
  __device__ __forceinline__ void place(int i, int& piece, bool& values) const {
    values = i >= count;
    piece = first + (values ? i - count : i);
  }
};

/// Shared memory of a block beside the slots. Weights take the first half of their tile's scores; of int8 values, those
/// times the value's scale take the second.
struct Shared {
  float* scores;  // [ROWS][PITCH]
  float* most;    // [TILES][ROWS], of the tiles apart
  float* scales;  // [2][SPLIT] of an int8 cache
};

/// All queries of a pass; `queries` are rows of head_dim floats, `heads` of them.
template <class D>
__device__ __forceinline__ void attend_rows(float* partial, u32 partial_step, const float* queries, int heads,
                                            const D& dim, const Source<D::KIND>& source, const u8* const* places,
                                            int split, u8* slots, const Shared& shared) {
  constexpr Kind KIND = D::KIND;
  constexpr int UNITS = (D::STEPS + WARPS - 1) / WARPS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int first = split * SPLIT, count = min(SPLIT, source.keys - first), tiles = (count + TILE - 1) / TILE;
  const int pieces = tiles * D::PIECES, pitch = dim.pitch();
  // A row that does not exist repeats the last one and is not stored.
  u32 q[D::STEPS][4];
  load_queries(q, dim, queries + min(g, heads - 1) * dim.dim(), queries + min(g + 8, heads - 1) * dim.dim());
  Stream<D, SLOTS<KIND>, THREADS, false, KeysFirst> stream(dim, source, places, slots,
                                                           KeysFirst{first / D::PIECE, pieces}, 2 * pieces);
  for (int piece = 0; piece < pieces; piece++) {
    const u8* keys = stream.next(piece);
    if (warp >= D::PIECE / 8) continue;
    const u32* words = reinterpret_cast<const u32*>(keys + (warp * 8 + g) * pitch) + t;
    float score[4] = {};
#pragma unroll
    for (int step = 0; step < D::STEPS; step++) {
      if (!dim.has(step)) continue;
      u32 b[2];
      if constexpr (KIND == INT8) {
        unpack_s8(b[0], b[1], words[step * 4]);
      } else {
        b[0] = words[step * 8];
        b[1] = words[step * 8 + 4];
      }
      mma_16(score, q[step], b, bf16());
    }
    const int key = piece * D::PIECE + warp * 8 + 2 * t;
    if constexpr (KIND == INT8) {
#pragma unroll
      for (int i = 0; i < 4; i++) score[i] = __fmul_rn(score[i], shared.scales[key + i % 2]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
      shared.scores[(g + i / 2 * 8) * PITCH + key + i % 2] = key + i % 2 < count ? score[i] : NEGATIVE_INFINITY;
    }
  }
  __syncthreads();
  float scores[TILES / WARPS][TILE / 8][4];
#pragma unroll
  for (int j = 0; j < TILES / WARPS; j++) {
    const int tile = j * WARPS + warp;
    if (tile >= tiles) continue;
#pragma unroll
    for (int i = 0; i < TILE / 8 * 4; i++) {
      scores[j][i / 4][i % 4] =
          shared.scores[(g + i % 4 / 2 * 8) * PITCH + tile * TILE + i / 4 * 8 + 2 * t + i % 2];
    }
    float most[2];
    tile_most(most, scores[j]);
    if (t == 0) {
      shared.most[tile * ROWS + g] = most[0];
      shared.most[tile * ROWS + g + 8] = most[1];
    }
  }
  __syncthreads();
  u32* words = reinterpret_cast<u32*>(shared.scores);
#pragma unroll
  for (int j = 0; j < TILES / WARPS; j++) {
    const int tile = j * WARPS + warp;
    if (tile >= tiles) continue;
    float most[2] = {NEGATIVE_INFINITY, NEGATIVE_INFINITY};
    for (int i = 0; i <= tile; i++) {
      most[0] = fmaxf(most[0], shared.most[i * ROWS + g]);
      most[1] = fmaxf(most[1], shared.most[i * ROWS + g + 8]);
    }
    const auto store = [&](int half) {
      u32 weights[TILE / STEP][4];
      pack_weights(weights, scores[j]);
#pragma unroll
      for (int i = 0; i < TILE / STEP * 4; i++) {
        words[(g + i % 2 * 8) * PITCH + tile * TILE + half * TILE / 2 + i / 4 * 8 + i % 4 / 2 * 4 + t] =
            weights[i / 4][i % 4];
      }
    };
    weigh(scores[j], most);
    store(0);
    if constexpr (KIND == INT8) {
      scale_keys(scores[j], shared.scales + SPLIT + tile * TILE);
      store(1);
    }
  }
  __syncthreads();

  Sums<UNITS> sums;
  sums.clear();
  for (int piece = 0; piece < pieces; piece++) {
    const u8* values = stream.next(pieces + piece);
    const int tile = piece / D::PIECES;
    const float* most = shared.most + tile * ROWS + g;
    sums.raise({fmaxf(sums.most[0], most[0]), fmaxf(sums.most[1], most[8])});
#pragma unroll
    for (int step = 0; step < D::PIECE / STEP; step++) {
      const int word = tile * TILE + (piece % D::PIECES * D::PIECE / STEP + step) * 8;
      u32 weights[4];
      const auto load = [&](int half) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          weights[i] = words[(g + i % 2 * 8) * PITCH + word + half * TILE / 2 + i / 2 * 4 + t];
        }
      };
      const u8* here = values + step * STEP * pitch;
      if constexpr (KIND == INT8) {
        if (warp == 0) {  // which stores it
          load(0);
          sums.add_weights(weights);
        }
        load(1);
#pragma unroll
        for (int u = 0; u < UNITS; u += 2) {
          const int unit = u * WARPS + warp;
          if (unit >= dim.steps()) continue;
          const bool two = u + 1 < UNITS && unit + WARPS < dim.steps();
          sums.add_int8(u, two, weights, here + unit * STEP, here + (two ? unit + WARPS : unit) * STEP, pitch);
        }
      } else {
        load(0);
        sums.add_weights(weights);
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
          const int unit = u * WARPS + warp;
          if (unit >= dim.steps()) continue;
          sums.add_values(u, weights, here + unit * STEP * 2, pitch);
        }
      }
    }
  }
  sums.finish();
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int head = g + r * 8;
    if (head >= heads) continue;
    float* to = partial + static_cast<size_t>(head) * partial_step;
    if (warp == 0 && t == 0) {
      to[0] = sums.most[r];
      to[1] = sums.weight[2 * r];
    }
#pragma unroll
    for (int i = 0; i < UNITS * 2; i++) {
      const int column = (i / 2 * WARPS + warp) * STEP + pair_column<KIND>(i % 2);
      if (column >= dim.dim()) continue;
      *reinterpret_cast<float2*>(to + 2 + column) = sums.template pair<KIND>(i / 2, r, i % 2);
    }
  }
}

/// What `attend` does, of a cache of either kind.
template <Kind KIND>
__device__ __forceinline__ void attend_splits(float* partial, const float* q, const u8* arena, const u64* tables,
                                              const u32* table_begin, const u32* positions, int layer, int heads,
                                              int kv_heads, int head_dim, int block_tokens, int splits) {
  SHARED(u8, slots, SLOTS<KIND> * SLOT<KIND>);
  SHARED(float, scores, ROWS * PITCH);
  SHARED(float, most, TILES * ROWS);
  SHARED(float, scales, KIND == INT8 ? 2 * SPLIT : 1);
  SHARED(const u8*, places, 2 * SPLIT_STEPS);
  const int split = blockIdx.x, kv_head = blockIdx.y, token = blockIdx.z, group = heads / kv_heads;
  const int keys = static_cast<int>(positions[token]) + 1;
  const size_t first_head = static_cast<size_t>(token) * heads + kv_head * group;
  const u32 partial_step = splits * (2 + head_dim);
  float* out = partial + first_head * partial_step + static_cast<size_t>(split) * (2 + head_dim);
  if (split * SPLIT >= keys) {
    for (int head = 0; head < group; head++) {
      for (int i = threadIdx.x; i < 2 + head_dim; i += THREADS) {
        out[static_cast<size_t>(head) * partial_step + i] = i == 0 ? NEGATIVE_INFINITY : 0.0f;
      }
    }
    return;
  }
  const Source<KIND> source(arena, tables + table_begin[token], keys, layer, kv_head, kv_heads, head_dim, block_tokens);
  const Shared shared{scores, most, scales};
  source.locate(places, split);
  if (KIND == BF16 && head_dim % STEP != 0) clear<THREADS>(slots, SLOTS<KIND> * SLOT<KIND>);
  for (int done = 0; done < group; done += ROWS) {
    __syncthreads();  // the places are known; the pass before has read its slots and weights
    if constexpr (KIND == INT8) {
      if (done == 0) copy_scales<THREADS>(scales, source, places, split);
    }
    const float* queries = q + (first_head + done) * head_dim;
    const int now = min(ROWS, group - done);
    float* to = out + static_cast<size_t>(done) * partial_step;
    const auto attend_dim = [&](const auto& dim) {
      attend_rows(to, partial_step, queries, now, dim, source, places, split, slots, shared);
    };
    if (head_dim == 128) {
      attend_dim(Dim<KIND, 128, true>{});
    } else if (head_dim == 64) {
      attend_dim(Dim<KIND, 64, true>{});
    } else if (head_dim < 128) {
      attend_dim(Dim<KIND, 128, false>{head_dim});
    } else {
      attend_dim(Dim<KIND, 256, false>{head_dim});
    }
  }
}

}  // namespace

/// q [T][heads][head_dim], scaled; tables: offsets of blocks in the arena; token t sees the keys 0..=positions[t] of
/// the row whose table starts at table_begin[t] -> partial [T][heads][splits][2 + head_dim]: maximum (of scores times
/// log2 e), sum of weights, values. head_dim even, at most 256; block_tokens a multiple of 16.
extern "C" __global__ void __launch_bounds__(THREADS)
    attend(float* __restrict__ partial, const float* __restrict__ q, const u8* __restrict__ arena,
           const u64* __restrict__ tables, const u32* __restrict__ table_begin, const u32* __restrict__ positions,
           int layer, int heads, int kv_heads, int head_dim, int block_tokens, int splits) {
  attend_splits<BF16>(partial, q, arena, tables, table_begin, positions, layer, heads, kv_heads, head_dim, block_tokens,
                    splits);
}
/// The same, of an int8 cache.
extern "C" __global__ void __launch_bounds__(THREADS)
    attend_i8(float* __restrict__ partial, const float* __restrict__ q, const u8* __restrict__ arena,
              const u64* __restrict__ tables, const u32* __restrict__ table_begin, const u32* __restrict__ positions,
              int layer, int heads, int kv_heads, int head_dim, int block_tokens, int splits) {
  attend_splits<INT8>(partial, q, arena, tables, table_begin, positions, layer, heads, kv_heads, head_dim, block_tokens,
                    splits);
}

/// partial [T][heads][splits][2 + head_dim] -> out [T][heads * head_dim].
/// Grid (heads, T), block 32 ceil(head_dim / 32).
extern "C" __global__ void __launch_bounds__(DIM_MAX)
    attend_merge(float* __restrict__ out, const float* __restrict__ partial, int heads, int head_dim, int splits) {
  const size_t head = static_cast<size_t>(blockIdx.y) * heads + blockIdx.x, step = 2 + head_dim;
  const float* rows = partial + head * splits * step;
  for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
    float most = NEGATIVE_INFINITY, sum = 0.0f, value = 0.0f;
    for (int s = 0; s < splits; s++) {
      const float* row = rows + s * step;
      if (row[0] == NEGATIVE_INFINITY) continue;
      const Factors factors = merge_factors(most, row[0]);
      sum = merged(factors, sum, row[1]);
      value = merged(factors, value, row[2 + i]);
    }
    out[head * head_dim + i] = __fdiv_rn(value, sum);
  }
}

SHIM_ENTRY(attend)
SHIM_ENTRY(attend_i8)
SHIM_ENTRY(attend_merge)

}  // namespace attend
