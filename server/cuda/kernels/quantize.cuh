// Rounding a row of activations to what the products read: int8 with a scale for each group of 32, or 16 bits.
//
//   for each group of 32 elements, by one warp, one element a lane:
//     scale = max|x| / 127;  q = round(x / scale) to nearest even, 0 where scale is 0
//     sum = scale * (q0 + ... + q31)        the integers exactly
//   elements from k to the padded length are 0
//
// The warps of a block take groups in turns; a group's values depend on nothing but its elements.
#pragma once
#include "device.cuh"

constexpr int ROW_THREADS = 256;  // of every kernel that makes a row

/// x in steps, to nearest even; 0 where the step is 0.
__device__ __forceinline__ i8 rounded_s8(float x, float step) {
  const int rounded = step > 0.0f ? __float2int_rn(__fdiv_rn(x, step)) : 0;
  return static_cast<i8>(max(-127, min(127, rounded)));  // a subnormal step is coarse
}

/// Where the int8 of a row go: q [padded(k)], scale and sum [padded(k) / 32].
struct Int8Row {
  i8* q;
  float *scale, *sum;

  __device__ __forceinline__ Int8Row(i8* all_q, float* all_scale, float* all_sum, int row, int k) {
    const size_t k64 = padded(k);
    q = all_q + row * k64;
    scale = all_scale + row * (k64 / GROUP);
    sum = all_sum + row * (k64 / GROUP);
  }
  __device__ __forceinline__ void store(int group, int lane, float x) const {
    const float step = __fdiv_rn(warp_max(fabsf(x)), 127.0f);
    const i8 rounded = rounded_s8(x, step);
    const int total = warp_sum(static_cast<int>(rounded));
    q[group * GROUP + lane] = rounded;
    if (lane == 0) {
      scale[group] = step;
      sum[group] = __fmul_rn(step, static_cast<float>(total));
    }
  }
};

/// Where the bf16 or f16 of a row go: [padded(k)].
template <class T>
struct Row16 {
  T* a;

  __device__ __forceinline__ Row16(T* all, int row, int k) : a(all + static_cast<size_t>(row) * padded(k)) {}
  __device__ __forceinline__ void store(int group, int lane, float x) const {
    a[group * GROUP + lane] = from_float<T>(x);
  }
};

/// Stores the k elements `value(i)` of a row, and the zeros behind them.
template <class Row, class Value>
__device__ __forceinline__ void store_row(const Row& row, int k, Value value) {
  const int lane = threadIdx.x % 32;
  for (int group = threadIdx.x / 32; group < padded(k) / GROUP; group += ROW_THREADS / 32) {
    const int i = group * GROUP + lane;
    row.store(group, lane, i < k ? value(i) : 0.0f);
  }
}
