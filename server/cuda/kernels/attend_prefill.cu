// Attention of many tokens of a row (prefill) over the paged cache, with the arithmetic and so the bits of attend.cu
// (attention.cuh): only what is computed when differs.
//
//   block = (tile of up to TILE_QUERIES / (heads / kv_heads) tokens of one row, key-value head): 64 queries
//     warp = 16 queries, a lane two of them; above dimension 128 two warps share queries, each with half the values
//     for each tile of 32 keys up to the last token's, streamed through shared memory SLOTS - 1 pieces ahead:
//       scores, masked where a query does not see a key;  weights;  values += weights v      all in registers
//     after each split of 256 keys: total = merge of total and split;  at the end: out = values / sum
//
// int8 become bf16 in shared memory, once for all warps: each would else do so for itself, which takes longer than its
// products. Keys and values are read once for 64 queries, 64 flops a byte (124 of int8): bound by the tensor cores, on
// large devices by shared memory's bandwidth, as a fragment of keys serves one product. Grid (tiles, kv_heads), block
// 128, or 256 where head_dim > 128. Tiles with more keys before them should come first: they take longer.
#include "attention.cuh"

namespace attend_prefill {
namespace {

using namespace attention;

constexpr int TILE_QUERIES = 64;  // layout/src/scratch.rs knows it
constexpr int SLOTS = 5;

/// A tile's keys, then its values, then the next tile.
template <int PIECES>
struct TileByTile {
  __device__ __forceinline__ void place(int i, int& piece, bool& values) const {
    values = i / PIECES % 2;
    piece = i / (2 * PIECES) * PIECES + i % PIECES;
  }
};

/// Shared memory of a block.
struct Shared {
  u8* slots;
  const u8** places;
  u32* where;  // of each query: its head in q and out; registers are scarce
  int* sees;   // and the keys that it sees
  float* scales;  // [2 splits][2][SPLIT] of an int8 cache
};

template <class D>
__device__ __forceinline__ void attend_tile(float* __restrict__ out, const float* __restrict__ q, const D& dim,
                                            const Source<D::KIND>& source, const Shared& shared, int group,
                                            int tokens, u32 token_step) {
  constexpr Kind KIND = D::KIND;
  constexpr int PARTS = D::MAX > 128 ? 2 : 1, THREADS = TILE_QUERIES / 16 * 32 * PARTS, UNITS = D::STEPS / PARTS;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  const int part = warp / (TILE_QUERIES / 16), pitch = dim.pitch_16();
  const int tiles = (source.keys + TILE - 1) / TILE, unmasked = source.keys - tokens + 1;
  const int query = warp % (TILE_QUERIES / 16) * 16 + g;
  if (threadIdx.x < TILE_QUERIES) {
    // A query that does not exist repeats the last one, sees nothing, and is not stored.
    const int mine = min(static_cast<int>(threadIdx.x), tokens * group - 1), token = mine / group;
    shared.sees[threadIdx.x] = mine == static_cast<int>(threadIdx.x) ? unmasked + token : 0;
    shared.where[threadIdx.x] = token * token_step + mine % group * dim.dim();
  }
  source.locate(shared.places, 0);
  __syncthreads();
  if constexpr (KIND == INT8) copy_scales<THREADS>(shared.scales, source, shared.places, 0);
  u32 queries[D::STEPS][4];
  load_queries(queries, dim, q + shared.where[query], q + shared.where[query + 8]);
  Stream<D, SLOTS, THREADS, KIND == INT8, TileByTile<D::PIECES>> stream(dim, source, shared.places, shared.slots, {},
                                                                        tiles * 2 * D::PIECES);
  Sums<UNITS> split, total;
  split.clear();
  total.clear();
  for (int tile = 0; tile < tiles; tile++) {
    float scores[TILE / 8][4] = {};
#pragma unroll
    for (int piece = 0; piece < D::PIECES; piece++) {
      const u8* row = stream.next(tile * 2 * D::PIECES + piece) +
                      (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 16;
#pragma unroll
      for (int step = 0; step < D::STEPS; step++) {
        if (!dim.has(step)) continue;
#pragma unroll
        for (int i = 0; i < D::PIECE / STEP; i++) {
          const int block = (piece * D::PIECE / STEP + i) * 2;
          u32 pieces[4];
          load_matrices<false>(pieces, row + i * STEP * pitch + step * STEP * 2);
          const u32 first[2] = {pieces[0], pieces[1]}, second[2] = {pieces[2], pieces[3]};
          mma_16(scores[block], queries[step], first, bf16());
          mma_16(scores[block + 1], queries[step], second, bf16());
        }
      }
    }
    // Pieces of the split before are all there.
    if (tile % TILES == 0) source.locate(shared.places, tile / TILES + 1);
    const float* scales = shared.scales + tile / TILES % 2 * 2 * SPLIT + tile % TILES * TILE;
    if constexpr (KIND == INT8) {
      // Everyone knows the places by now.
      const int next = tile / TILES + 1;
      if (tile % TILES == 1 && next * SPLIT < source.keys) {
        copy_scales<THREADS>(shared.scales + next % 2 * 2 * SPLIT, source, shared.places, next);
      }
      scale_keys(scores, scales);
    }
    if ((tile + 1) * TILE > unmasked) {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int sees = shared.sees[query + 8 * r] - tile * TILE - 2 * t;
#pragma unroll
        for (int i = 0; i < TILE / 4; i++) {
          if (i / 2 * 8 + i % 2 >= sees) scores[i / 2][2 * r + i % 2] = NEGATIVE_INFINITY;
        }
      }
    }
    float most[2];
    tile_most(most, scores);
    split.raise({fmaxf(split.most[0], most[0]), fmaxf(split.most[1], most[1])});
    weigh(scores, split.most);
    u32 weights[TILE / STEP][4];
    pack_weights(weights, scores);
#pragma unroll
    for (int step = 0; step < TILE / STEP; step++) split.add_weights(weights[step]);
    if constexpr (KIND == INT8) {
      scale_keys(scores, scales + SPLIT);
      pack_weights(weights, scores);
    }
#pragma unroll
    for (int piece = 0; piece < D::PIECES; piece++) {
      const u8* values = stream.next((tile * 2 + 1) * D::PIECES + piece) + part * UNITS * STEP * 2;
#pragma unroll
      for (int i = 0; i < D::PIECE / STEP; i++) {
        const int step = piece * D::PIECE / STEP + i;
#pragma unroll
        for (int u = 0; u < UNITS; u++) {
          if (!dim.has(part * UNITS + u)) continue;
          split.add_values(u, weights[step], values + i * STEP * pitch + u * STEP * 2, pitch);
        }
      }
    }
    if (tile % TILES != TILES - 1 && tile != tiles - 1) continue;
    split.finish();
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (split.most[r] == NEGATIVE_INFINITY) continue;
      const Factors factors = merge_factors(total.most[r], split.most[r]);
      total.weight[2 * r] = merged(factors, total.weight[2 * r], split.weight[2 * r]);
#pragma unroll
      for (int i = 0; i < UNITS * 4; i++) {
        float* value = &total.value[i / 4][i / 2 % 2][2 * r + i % 2];
        *value = merged(factors, *value, split.value[i / 4][i / 2 % 2][2 * r + i % 2]);
      }
    }
    split.clear();
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (shared.sees[query + r * 8] == 0) continue;
    float* to = out + shared.where[query + r * 8];
#pragma unroll
    for (int i = 0; i < UNITS * 2; i++) {
      const int column = (part * UNITS + i / 2) * STEP + pair_column<KIND>(i % 2);
      if (!D::FIXED && column >= dim.dim()) continue;
      const float2 pair = total.template pair<KIND>(i / 2, r, i % 2);
      *reinterpret_cast<float2*>(to + column) =
          make_float2(__fdiv_rn(pair.x, total.weight[2 * r]), __fdiv_rn(pair.y, total.weight[2 * r]));
    }
  }
}

/// What `attend_prefill` does, of a cache of either kind.
template <Kind KIND>
__device__ __forceinline__ void attend_tiles(float* __restrict__ out, const float* __restrict__ q,
                                             const u8* __restrict__ arena, const u64* __restrict__ tables,
                                             const u32* __restrict__ table_begin, const u32* __restrict__ positions,
                                             const u32* __restrict__ tile_first, const u32* __restrict__ tile_count,
                                             int layer, int heads, int kv_heads, int head_dim, int block_tokens) {
  constexpr int SLOT_BYTES = SLOTS * SLOT<KIND> + (KIND == INT8 ? 2 * SLOT<BF16> : 0);
  SHARED(u8, slots, SLOT_BYTES);
  SHARED(const u8*, places, 2 * SPLIT_STEPS);
  SHARED(u32, where, TILE_QUERIES);
  SHARED(int, sees, TILE_QUERIES);
  SHARED(float, scales, KIND == INT8 ? 2 * 2 * SPLIT : 1);
  const Shared shared{slots, places, where, sees, scales};
  const int kv_head = blockIdx.y, group = heads / kv_heads;
  const int first = static_cast<int>(tile_first[blockIdx.x]), tokens = static_cast<int>(tile_count[blockIdx.x]);
  const int keys = static_cast<int>(positions[first]) + tokens;
  const Source<KIND> source(arena, tables + table_begin[first], keys, layer, kv_head, kv_heads, head_dim, block_tokens);
  const u32 token_step = heads * head_dim;
  const size_t begin = static_cast<size_t>(first) * token_step + static_cast<size_t>(kv_head) * group * head_dim;
  const auto attend_dim = [&](const auto& dim) {
    attend_tile(out + begin, q + begin, dim, source, shared, group, tokens, token_step);
  };
  const bool is_padded = KIND == BF16 && head_dim % STEP != 0;
  if (head_dim == 128) {
    attend_dim(Dim<KIND, 128, true>{});
  } else if (head_dim == 64) {
    attend_dim(Dim<KIND, 64, true>{});
  } else if (head_dim < 128) {
    if (is_padded) clear<128>(slots, SLOT_BYTES);
    attend_dim(Dim<KIND, 128, false>{head_dim});
  } else {
    if (is_padded) clear<256>(slots, SLOT_BYTES);
    attend_dim(Dim<KIND, 256, false>{head_dim});
  }
}

}  // namespace

/// q, tables, table_begin, positions as for `attend`. Tile i is the tile_count[i] tokens from tile_first[i] on, of one row
/// at consecutive positions, at most 64 / (heads / kv_heads) -> their rows of out [T][heads * head_dim].
extern "C" __global__ void __launch_bounds__(256)
    attend_prefill(float* __restrict__ out, const float* __restrict__ q, const u8* __restrict__ arena,
                   const u64* __restrict__ tables, const u32* __restrict__ table_begin,
                   const u32* __restrict__ positions, const u32* __restrict__ tile_first,
                   const u32* __restrict__ tile_count, int layer, int heads, int kv_heads, int head_dim,
                   int block_tokens) {
  attend_tiles<BF16>(out, q, arena, tables, table_begin, positions, tile_first, tile_count, layer, heads, kv_heads,
                     head_dim, block_tokens);
}
/// The same, of an int8 cache.
extern "C" __global__ void __launch_bounds__(256)
    attend_prefill_i8(float* __restrict__ out, const float* __restrict__ q, const u8* __restrict__ arena,
                      const u64* __restrict__ tables, const u32* __restrict__ table_begin,
                      const u32* __restrict__ positions, const u32* __restrict__ tile_first,
                      const u32* __restrict__ tile_count, int layer, int heads, int kv_heads, int head_dim,
                      int block_tokens) {
  attend_tiles<INT8>(out, q, arena, tables, table_begin, positions, tile_first, tile_count, layer, heads, kv_heads,
                     head_dim, block_tokens);
}

SHIM_ENTRY(attend_prefill)
SHIM_ENTRY(attend_prefill_i8)

}  // namespace attend_prefill
