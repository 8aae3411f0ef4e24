// RMSNorm of a row, then rounding to what the next product reads.
//
//   s = x0^2 + x1^2 + ...;  r = 1 / sqrt(s / hidden + epsilon);  y[i] = x[i] r weight[i];  store y rounded
//   the sum: thread j adds elements j, j + 256, ... in order; the 32 lanes by a tree; the 8 warps in order
//
// Grid T, block 256. Moves 4 bytes a column in (the second reading hits the cache), 1 (int8), 2 or 4 out. Bound by the
// latency of two passes over a row of some 10 KB, not by bandwidth.
#include "quantize.cuh"

namespace normalize {
namespace {

/// r as above, the same in every thread of the block.
__device__ __forceinline__ float inverse_rms(const float* x, float epsilon, int hidden) {
  SHARED(float, warps, ROW_THREADS / 32);
  float sum = 0.0f;
  for (int i = threadIdx.x; i < hidden; i += ROW_THREADS) sum = fmaf(x[i], x[i], sum);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
#if !defined(INJECT_NO_BARRIER)
  __syncthreads();
#endif
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < ROW_THREADS / 32; w++) total = __fadd_rn(total, warps[w]);
  const float mean = __fdiv_rn(total, static_cast<float>(hidden));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, epsilon)));
}

template <class Row>
__device__ __forceinline__ void normalize(const Row& row, const float* all_x, const float* weight, float epsilon,
                                          int hidden) {
  const float* x = all_x + static_cast<size_t>(blockIdx.x) * hidden;
  const float r = inverse_rms(x, epsilon, hidden);
  store_row(row, hidden, [=](int i) { return __fmul_rn(__fmul_rn(x[i], r), weight[i]); });
}

}  // namespace

/// x [T][hidden], weight [hidden] -> q [T][K64], scale and sum [T][K64/32].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    norm_q8(i8* __restrict__ q, float* __restrict__ scale, float* __restrict__ sum, const float* __restrict__ x,
            const float* __restrict__ weight, float epsilon, int hidden) {
  normalize(Int8Row(q, scale, sum, blockIdx.x, hidden), x, weight, epsilon, hidden);
}

/// x [T][hidden] -> a [T][K64].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    norm_bf16(bf16* __restrict__ a, const float* __restrict__ x, const float* __restrict__ weight, float epsilon,
              int hidden) {
  normalize(Row16<bf16>(a, blockIdx.x, hidden), x, weight, epsilon, hidden);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    norm_f16(f16* __restrict__ a, const float* __restrict__ x, const float* __restrict__ weight, float epsilon,
             int hidden) {
  normalize(Row16<f16>(a, blockIdx.x, hidden), x, weight, epsilon, hidden);
}

/// x [T][hidden] -> y [T][hidden], not padded.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    norm_f32(float* __restrict__ y, const float* __restrict__ x, const float* __restrict__ weight, float epsilon,
             int hidden) {
  const size_t row = static_cast<size_t>(blockIdx.x) * hidden;
  const float r = inverse_rms(x + row, epsilon, hidden);
  for (int i = threadIdx.x; i < hidden; i += ROW_THREADS) {
    y[row + i] = __fmul_rn(__fmul_rn(x[row + i], r), weight[i]);
  }
}

SHIM_ENTRY(norm_q8)
SHIM_ENTRY(norm_bf16)
SHIM_ENTRY(norm_f16)
SHIM_ENTRY(norm_f32)

}  // namespace normalize
