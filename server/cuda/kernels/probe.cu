// What the tensor cores give at most, so that products can be told as shares of it.
//
//   for each round: CHAINS products of a warp, each into sums of its own, nothing else
//   out[thread] = all sums added
//
// Grid any, block 256. Moves nothing but 4 bytes a thread at the end: bound by the tensor cores.
// A warp does 16 x 8 x 32 multiplications (int8) or 16 x 8 x 16 (bf16) a product.
#include "device.cuh"

namespace probe {
namespace {

constexpr int THREADS = 256;
constexpr int CHAINS = 8;  // products under way: each waits for the one before it in its chain only

}  // namespace

extern "C" __global__ void __launch_bounds__(THREADS) probe_s8(u32* __restrict__ out, int rounds) {
  const u32 a[4] = {threadIdx.x, threadIdx.x + 1, threadIdx.x + 2, threadIdx.x + 3}, b[2] = {a[0], a[1]};
  int sums[CHAINS][4] = {};
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) mma_s8(sums[chain], a, b);
  }
  u32 total = 0;
#pragma unroll
  for (int i = 0; i < CHAINS * 4; i++) total += static_cast<u32>(sums[i / 4][i % 4]);
  out[static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x] = total;
}

extern "C" __global__ void __launch_bounds__(THREADS) probe_bf16(u32* __restrict__ out, int rounds) {
  // Ones, so that sums stay finite.
  const u32 one = 0x3f803f80u, a[4] = {one, one, one, one}, b[2] = {one, one};
  float sums[CHAINS][4] = {};
  for (int round = 0; round < rounds; round++) {
#pragma unroll
    for (int chain = 0; chain < CHAINS; chain++) mma_16(sums[chain], a, b, bf16());
  }
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < CHAINS * 4; i++) total = __fadd_rn(total, sums[i / 4][i % 4]);
  out[static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x] = __float_as_uint(total);
}

SHIM_ENTRY(probe_s8)
SHIM_ENTRY(probe_bf16)

}  // namespace probe
