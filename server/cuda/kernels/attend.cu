// Attention over the paged cache, in splits of 256 keys, so that one long sequence keeps the whole device busy.
//
//   block = (split, key-value head, token), for up to 8 of the head's queries at a time:
//     keys, then values of the split stream through shared memory in tiles, copied STAGES - 1 tiles ahead
//     key tile:    scores[head][key] = q[head] . k[key]                 a thread for each (head, key)
//     between:     max = max(scores); weights = 2^((score - max) log2 e); sum = their sum    a warp for each head
//     value tile:  values[head] += weights[head][key] v[key]            a thread for each pair of dimensions
//     partial = (max, sum, values)
//   attend_merge: out = sum of 2^((max_i - max) log2 e) values_i / the same of sum_i, over splits in order
//
// Splits lie at absolute positions and keys are added in their order, so neither the batch nor the number of splits
// changes a bit. Splits behind the last key hold maximum -inf and are skipped.
//
// Grid (splits, kv_heads, T), block 128. Moves each key and value once for all queries of the head (512 bytes a
// position and head at dimension 128). Bound by the bandwidth of memory at decode: up to 17 KB a block under way.
// Addresses of a block of the cache must be multiples of 16 bytes. More than 8 queries a head read the keys again.
#include "device.cuh"

namespace attend {
namespace {

constexpr int THREADS = 128;
constexpr int SPLIT = 256;           // keys
constexpr int HEADS = 8;             // queries at a time
constexpr int DIM_MAX = 256;
constexpr int STAGES = 3;
constexpr int ROW_PAD = 16;          // bytes: neighbouring rows start in other banks
constexpr int TILE_KEYS = 32;        // of dimension 128 at most; half as many above
constexpr int STAGE = TILE_KEYS * (128 * 2 + ROW_PAD);
static_assert(STAGE >= TILE_KEYS / 2 * (DIM_MAX * 2 + ROW_PAD), "a stage holds half a tile of the largest dimension");
constexpr float LOG2_E = 1.44269504f;

/// Which keys this block sees, and where they are.
struct Keys {
  const u8* arena;
  const u64* rows;      // shared: where the keys of the split begin
  u64 values_after;     // from a key to its value
  int count, dim, tile_keys, pitch;

  __device__ __forceinline__ int tiles() const { return (count + tile_keys - 1) / tile_keys; }
  __device__ __forceinline__ int in_tile(int tile) const { return min(tile_keys, count - tile * tile_keys); }

  /// Starts copying a tile: keys, or values.
  template <int BYTES>
  __device__ __forceinline__ void copy_tile(u8* to, int tile, bool values) const {
    const int pieces = dim * 2 / BYTES, rows_step = THREADS / pieces, piece_step = THREADS % pieces;
    int row = threadIdx.x / pieces, piece = threadIdx.x % pieces;
    while (row < in_tile(tile)) {
      const u8* from = arena + rows[tile * tile_keys + row] + (values ? values_after : 0);
      copy_async<BYTES>(to + row * pitch + piece * BYTES, from + piece * BYTES);
      row += rows_step;
      piece += piece_step;
      if (piece >= pieces) {
        piece -= pieces;
        row++;
      }
    }
  }
  /// Step i: the i-th key tile, then the value tiles.
  __device__ __forceinline__ void stage(u8* stages, int step, int slot) const {
    const bool values = step >= tiles();
    const int tile = values ? step - tiles() : step;
    if (dim % 8 == 0) {
      copy_tile<16>(stages + slot * STAGE, tile, values);
    } else {
      copy_tile<4>(stages + slot * STAGE, tile, values);
    }
  }
};

/// q . k: even and odd elements apart, each in order.
__device__ __forceinline__ float dot(const float* q, const u8* key, int dim) {
  float even = 0.0f, odd = 0.0f;
  if (dim % 8 == 0) {
    for (int i = 0; i < dim / 8; i++) {
      const uint4 k = reinterpret_cast<const uint4*>(key)[i];
      const float4 a = reinterpret_cast<const float4*>(q)[2 * i], b = reinterpret_cast<const float4*>(q)[2 * i + 1];
      even = fmaf(a.x, low_bf16(k.x), even);
      odd = fmaf(a.y, high_bf16(k.x), odd);
      even = fmaf(a.z, low_bf16(k.y), even);
      odd = fmaf(a.w, high_bf16(k.y), odd);
      even = fmaf(b.x, low_bf16(k.z), even);
      odd = fmaf(b.y, high_bf16(k.z), odd);
      even = fmaf(b.z, low_bf16(k.w), even);
      odd = fmaf(b.w, high_bf16(k.w), odd);
    }
  } else {
    for (int i = 0; i < dim / 2; i++) {
      const u32 k = reinterpret_cast<const u32*>(key)[i];
      even = fmaf(q[2 * i], low_bf16(k), even);
      odd = fmaf(q[2 * i + 1], high_bf16(k), odd);
    }
  }
  return __fadd_rn(even, odd);
}

/// Turns a head's scores into weights; lane 0 stores their maximum and sum.
__device__ __forceinline__ void weigh(float* scores, int count, float* partial) {
  const int lane = threadIdx.x % 32;
  float most = NEGATIVE_INFINITY;
  for (int i = lane; i < count; i += 32) most = fmaxf(most, scores[i]);
  most = warp_max(most);
  float sum = 0.0f;
  for (int i = lane; i < count; i += 32) {
    const float weight = exp2f(__fmul_rn(scores[i] - most, LOG2_E));
    scores[i] = weight;
    sum = __fadd_rn(sum, weight);
  }
  sum = warp_sum(sum);
  if (lane == 0) {
    partial[0] = most;
    partial[1] = sum;
  }
}

/// Everything of up to 8 queries that share the head: N of them for each thread of the value part.
template <int N>
__device__ __forceinline__ void attend_heads(const Keys& keys, u8* stages, float* scores, const float* queries,
                                             int heads, float* partial, size_t partial_step) {
  const int warp = threadIdx.x / 32, dim = keys.dim, tiles = keys.tiles(), tile_keys = keys.tile_keys;
  const int pairs = dim / 2, sets = THREADS / pairs, set = threadIdx.x / pairs, pair = threadIdx.x % pairs;
  float sum[N][2] = {};
#pragma unroll
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < 2 * tiles) keys.stage(stages, s, s);
    copy_commit();
  }
  for (int step = 0, slot = 0; step < 2 * tiles; step++) {
    copy_wait<STAGES - 2>();
#if !defined(INJECT_NO_BARRIER)
    __syncthreads();  // the slot is full, nobody reads the one that is filled now; at first: the queries are there
#endif
    const int ahead = step + STAGES - 1;
    if (ahead < 2 * tiles) keys.stage(stages, ahead, slot == 0 ? STAGES - 1 : slot - 1);
    copy_commit();
    const u8* stage = stages + slot * STAGE;
    if (step < tiles) {
      for (int i = threadIdx.x; i < tile_keys * heads; i += THREADS) {
        const int key = i % tile_keys, head = i / tile_keys;
        if (key >= keys.in_tile(step)) continue;
        scores[head * SPLIT + step * tile_keys + key] = dot(queries + head * dim, stage + key * keys.pitch, dim);
      }
    } else {
      if (step == tiles) {
        for (int head = warp; head < heads; head += THREADS / 32) {
          weigh(scores + head * SPLIT, keys.count, partial + head * partial_step);
        }
        __syncthreads();
      }
      const int tile = step - tiles;
      for (int key = 0; key < keys.in_tile(tile); key++) {
        const u32 value = reinterpret_cast<const u32*>(stage + key * keys.pitch)[pair];
#pragma unroll
        for (int j = 0; j < N; j++) {
          // A query that does not exist repeats the last one and is not stored.
          const float weight = scores[min(set + j * sets, heads - 1) * SPLIT + tile * tile_keys + key];
          sum[j][0] = fmaf(weight, low_bf16(value), sum[j][0]);
          sum[j][1] = fmaf(weight, high_bf16(value), sum[j][1]);
        }
      }
    }
    slot = slot == STAGES - 1 ? 0 : slot + 1;
  }
#pragma unroll
  for (int j = 0; j < N; j++) {
    const int head = set + j * sets;
    if (set >= sets || head >= heads) continue;
    reinterpret_cast<float2*>(partial + head * partial_step + 2)[pair] = make_float2(sum[j][0], sum[j][1]);
  }
}

}  // namespace

/// q [T][heads][head_dim], scaled; tables: offsets of blocks in the arena; token t sees the keys 0..=positions[t] of
/// the row whose table starts at table_begin[t] -> partial [T][heads][splits][2 + head_dim].
extern "C" __global__ void __launch_bounds__(THREADS)
    attend(float* __restrict__ partial, const float* __restrict__ q, const u8* __restrict__ arena,
           const u64* __restrict__ tables, const u32* __restrict__ table_begin, const u32* __restrict__ positions,
           int layer, int heads, int kv_heads, int head_dim, int block_tokens, int splits) {
  SHARED(u8, stages, STAGES * STAGE);
  SHARED(float, scores, HEADS * SPLIT);
  SHARED(float, queries, HEADS * DIM_MAX);
  SHARED(u64, rows, SPLIT);
  const int split = blockIdx.x, kv_head = blockIdx.y, token = blockIdx.z, group = heads / kv_heads;
  const int first = split * SPLIT;
  const int count = min(SPLIT, static_cast<int>(positions[token]) + 1 - first);
  const size_t first_head = static_cast<size_t>(token) * heads + kv_head * group;
  const size_t partial_step = static_cast<size_t>(splits) * (2 + head_dim);
  float* out = partial + first_head * partial_step + static_cast<size_t>(split) * (2 + head_dim);
  if (count <= 0) {
    for (int head = 0; head < group; head++) {
      for (int i = threadIdx.x; i < 2 + head_dim; i += THREADS) {
        out[head * partial_step + i] = i == 0 ? NEGATIVE_INFINITY : 0.0f;
      }
    }
    return;
  }
  const u64* table = tables + table_begin[token];
  const u64 row_bytes = head_dim * 2, head_bytes = block_tokens * row_bytes;
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const int position = first + i;
#if defined(INJECT_BLOCK_OFF)
    const u64 block = table[position / block_tokens + 1];
#else
    const u64 block = table[position / block_tokens];
#endif
    rows[i] = block + (static_cast<u64>(layer) * 2 * kv_heads + kv_head) * head_bytes +
              position % block_tokens * row_bytes;
  }
  const Keys keys{arena, rows, kv_heads * head_bytes, count, head_dim, head_dim <= 128 ? TILE_KEYS : TILE_KEYS / 2,
                  head_dim * 2 + ROW_PAD};
  const int sets = THREADS / (head_dim / 2);
  for (int done = 0; done < group; done += HEADS) {
    __syncthreads();  // the rows are known; the pass before has read its queries and stages
    const int now = min(HEADS, group - done);
    for (int i = threadIdx.x; i < now * head_dim; i += THREADS) queries[i] = q[(first_head + done) * head_dim + i];
    float* to = out + done * partial_step;
    if (now <= sets) {
      attend_heads<1>(keys, stages, scores, queries, now, to, partial_step);
    } else if (now <= 2 * sets) {
      attend_heads<2>(keys, stages, scores, queries, now, to, partial_step);
    } else if (now <= 4 * sets) {
      attend_heads<4>(keys, stages, scores, queries, now, to, partial_step);
    } else {
      attend_heads<8>(keys, stages, scores, queries, now, to, partial_step);
    }
  }
}

/// partial [T][heads][splits][2 + head_dim] -> out [T][heads * head_dim].
/// Grid (heads, T), block 32 ceil(head_dim / 32).
extern "C" __global__ void __launch_bounds__(DIM_MAX)
    attend_merge(float* __restrict__ out, const float* __restrict__ partial, int heads, int head_dim, int splits) {
  const size_t head = static_cast<size_t>(blockIdx.y) * heads + blockIdx.x, step = 2 + head_dim;
  const float* rows = partial + head * splits * step;
  float most = NEGATIVE_INFINITY;
  for (int s = 0; s < splits; s++) most = fmaxf(most, rows[s * step]);
  for (int i = threadIdx.x; i < head_dim; i += blockDim.x) {
    float sum = 0.0f, value = 0.0f;
    for (int s = 0; s < splits; s++) {
      const float* row = rows + s * step;
      if (row[0] == NEGATIVE_INFINITY) continue;
      const float factor = exp2f(__fmul_rn(row[0] - most, LOG2_E));
      sum = fmaf(factor, row[1], sum);
      value = fmaf(factor, row[2 + i], value);
    }
    out[head * head_dim + i] = __fdiv_rn(value, sum);
  }
}

SHIM_ENTRY(attend)
SHIM_ENTRY(attend_merge)

}  // namespace attend
