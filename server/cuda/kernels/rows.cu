// Rows of a table: the embeddings of tokens, and single rows of the activations (the last token of each sequence).
//
//   embed: x[t] = table[tokens[t]], as floats; a quantized table is the tiles that the products read
//   gather: out[i] = x[rows[i]]
//   take_drawn: tokens[i] = drawn[tokens[i]], the tokens of a step that is queued behind the draw of the step before
//
// Grid: a block a row. Moves a row in and one out: kilobytes, bound by latency. A row of a quantized table is scattered
// over its tile in pieces of 4 bytes, so that memory moves 8 times its bytes.
#include "device.cuh"

namespace rows {
namespace {

constexpr int EMBED_THREADS = 128;

template <class T>
__device__ __forceinline__ void embed_row(float* x, const T* table, const u32* tokens, int hidden) {
#if defined(INJECT_SHORT_INDEX)
  const T* row = table + tokens[blockIdx.x] * static_cast<u32>(hidden);
#else
  const T* row = table + static_cast<size_t>(tokens[blockIdx.x]) * hidden;
#endif
  float* out = x + static_cast<size_t>(blockIdx.x) * hidden;
  for (int i = threadIdx.x; i < hidden; i += EMBED_THREADS) out[i] = to_float(row[i]);
}

/// w = s u - m, of the row's group.
__device__ __forceinline__ float dequantize(half2_t scale, int u) {
  return fmaf(__low2float(scale), static_cast<float>(u), -__high2float(scale));
}

}  // namespace

/// table [vocabulary][hidden], tokens [T] -> x [T][hidden].
extern "C" __global__ void __launch_bounds__(EMBED_THREADS)
    embed_bf16(float* __restrict__ x, const bf16* __restrict__ table, const u32* __restrict__ tokens, int hidden) {
  embed_row(x, table, tokens, hidden);
}

extern "C" __global__ void __launch_bounds__(EMBED_THREADS)
    embed_f16(float* __restrict__ x, const f16* __restrict__ table, const u32* __restrict__ tokens, int hidden) {
  embed_row(x, table, tokens, hidden);
}

/// w: int4 tiles of [vocabulary][hidden], s: their (scale, minimum) pairs -> x [T][hidden].
extern "C" __global__ void __launch_bounds__(EMBED_THREADS)
    embed_q4(float* __restrict__ x, const void* __restrict__ w, const half2_t* __restrict__ s,
             const u32* __restrict__ tokens, int hidden) {
  const u32 token = tokens[blockIdx.x];
  const int row = token % TILE_ROWS, g = row % 8, upper = row / 8;
  const size_t tile = token / TILE_ROWS, groups = padded(hidden) / GROUP;
  const u8* weights = static_cast<const u8*>(w) + tile * (groups / 2) * 512;
  const half2_t* scales = s + tile * groups * TILE_ROWS + row;
  for (int i = threadIdx.x; i < hidden; i += EMBED_THREADS) {
    const int group = i / GROUP, lane = 4 * g + i % 16 / 4, word = 2 * (group % 2) + upper;
    const int byte = weights[group / 2 * 512 + lane * 16 + word * 4 + i % 4];
    const int u = i % GROUP < 16 ? byte & 15 : byte >> 4;
    x[static_cast<size_t>(blockIdx.x) * hidden + i] = dequantize(scales[group * TILE_ROWS], u);
  }
}

/// The same for int8 tiles.
extern "C" __global__ void __launch_bounds__(EMBED_THREADS)
    embed_q8(float* __restrict__ x, const void* __restrict__ w, const half2_t* __restrict__ s,
             const u32* __restrict__ tokens, int hidden) {
  const u32 token = tokens[blockIdx.x];
  const int row = token % TILE_ROWS, g = row % 8, upper = row / 8;
  const size_t tile = token / TILE_ROWS, groups = padded(hidden) / GROUP;
  const i8* weights = static_cast<const i8*>(w) + tile * groups * 512;
  const half2_t* scales = s + tile * groups * TILE_ROWS + row;
  for (int i = threadIdx.x; i < hidden; i += EMBED_THREADS) {
    const int group = i / GROUP, lane = 4 * g + i % 16 / 4, word = 2 * (i % GROUP / 16) + upper;
    const int value = weights[group * 512 + lane * 16 + word * 4 + i % 4];
    x[static_cast<size_t>(blockIdx.x) * hidden + i] = dequantize(scales[group * TILE_ROWS], value);
  }
}

/// x [T][width], rows [count] -> out [count][width]. Grid count, block 256.
extern "C" __global__ void __launch_bounds__(256)
    gather_rows(float* __restrict__ out, const float* __restrict__ x, const u32* __restrict__ rows, int width) {
  const float* row = x + static_cast<size_t>(rows[blockIdx.x]) * width;
  for (int i = threadIdx.x; i < width; i += 256) out[static_cast<size_t>(blockIdx.x) * width + i] = row[i];
}

/// tokens [count]: numbers of draws, which become the tokens drawn. A draw that was left to the host becomes token 0, for a
/// step that the host will drop. One block.
extern "C" __global__ void __launch_bounds__(64)
    take_drawn(u32* __restrict__ tokens, const u32* __restrict__ drawn, int count, int vocabulary) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const u32 token = drawn[tokens[i]];
    tokens[i] = token < static_cast<u32>(vocabulary) ? token : 0;
  }
}

SHIM_ENTRY(embed_bf16)
SHIM_ENTRY(embed_f16)
SHIM_ENTRY(embed_q4)
SHIM_ENTRY(embed_q8)
SHIM_ENTRY(gather_rows)
SHIM_ENTRY(take_drawn)

}  // namespace rows
