// Rows that a product reads: a row as it is, or the gated activation of the feed-forward part, rounded.
//
//   round: y = x          silu: y[i] = gate[i] / (1 + exp(-gate[i])) up[i], gate and up the halves of a row
//
// Grid T, block 256. Moves 4 (round) or 8 (silu) bytes a column in, 1 or 2 out: bound by bandwidth for many tokens, by
// the launch for few.
#include "quantize.cuh"

namespace activate {
namespace {

template <class Row>
__device__ __forceinline__ void round_row(const Row& row, const float* all, int k) {
  const float* x = all + static_cast<size_t>(blockIdx.x) * k;
  store_row(row, k, [=](int i) { return x[i]; });
}

template <class Row>
__device__ __forceinline__ void silu_row(const Row& row, const float* gate_up, int m) {
  const float* gate = gate_up + static_cast<size_t>(blockIdx.x) * 2 * m;
  const float* up = gate + m;
  store_row(row, m, [=](int i) {
    const float g = gate[i];
    return __fmul_rn(__fdiv_rn(g, __fadd_rn(1.0f, expf(-g))), up[i]);
  });
}

}  // namespace

/// x [T][k] -> q [T][K64], scale and sum [T][K64/32].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    round_q8(i8* __restrict__ q, float* __restrict__ scale, float* __restrict__ sum, const float* __restrict__ x,
             int k) {
  round_row(Int8Row(q, scale, sum, blockIdx.x, k), x, k);
}

/// x [T][k] -> a [T][K64].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    round_bf16(bf16* __restrict__ a, const float* __restrict__ x, int k) {
  round_row(Row16<bf16>(a, blockIdx.x, k), x, k);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    round_f16(f16* __restrict__ a, const float* __restrict__ x, int k) {
  round_row(Row16<f16>(a, blockIdx.x, k), x, k);
}

/// gate_up [T][2m], the gate first -> q [T][M64], scale and sum [T][M64/32].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    silu_q8(i8* __restrict__ q, float* __restrict__ scale, float* __restrict__ sum,
            const float* __restrict__ gate_up, int m) {
  silu_row(Int8Row(q, scale, sum, blockIdx.x, m), gate_up, m);
}

/// gate_up [T][2m] -> a [T][M64].
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    silu_bf16(bf16* __restrict__ a, const float* __restrict__ gate_up, int m) {
  silu_row(Row16<bf16>(a, blockIdx.x, m), gate_up, m);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    silu_f16(f16* __restrict__ a, const float* __restrict__ gate_up, int m) {
  silu_row(Row16<f16>(a, blockIdx.x, m), gate_up, m);
}

SHIM_ENTRY(round_q8)
SHIM_ENTRY(round_bf16)
SHIM_ENTRY(round_f16)
SHIM_ENTRY(silu_q8)
SHIM_ENTRY(silu_bf16)
SHIM_ENTRY(silu_f16)

}  // namespace activate
