// CUDA C++ kernels, compiled as plain host C++ so that a machine without a GPU can run and check them.
//
// What: the part of the CUDA language that our kernels use: thread indices, shared memory, barriers, shuffles.
// How: each CUDA thread is a fiber with a stack of its own (fibers.cc); the blocks of a launch run one after another.
// A seed decides in which order threads and blocks run, so that a result that depends on luck differs between seeds.
// Types such as __half come from the toolkit's own headers, which also work in host code.
//
// A mistake that a GPU would hide or answer with garbage ends the launch with a message (see die): threads that wait at
// different barriers, a barrier after a thread returned, misaligned or forgotten asynchronous copies. Shared memory
// starts as NaN. Address and thread sanitizers understand the fibers (see fibers.cc).
//
// Not covered: races between blocks, the order in which memory becomes visible, the tensor cores' own rounding.
#pragma once
#include <cuda_runtime_api.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#undef __global__
#undef __device__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

/// Called before each load of global memory by __ldg, __ldcs or cp.async: how weights, keys and values come. Null: nobody
/// counts them. The fake driver sets it between launches. Plain loads (norms, tables, activations) are not told.
extern "C" void (*shim_on_load)(const void* from, unsigned bytes);

namespace shim {

/// What all threads of a block have in common.
struct Launch {
  dim3 grid_size, block_size, block;
};

/// What a thread may know about itself.
struct Thread {
  dim3 index;
  unsigned lane;
  const Launch* launch;
};

/// The CUDA thread that runs now.
extern __thread Thread* self __attribute__((tls_model("initial-exec")));

/// Reports a mistake of the running kernel to `shim_trap`, which the fake driver has and which jumps out of the launch;
/// without one, or if it comes back, ends the process. The next launch starts from scratch.
[[noreturn]] void die(const char* what, int line = 0);

void sync_block(int line);
void sync_warp(int line);

/// Every lane gives `bytes` (at most 8) and gets those of the lane `source` of its warp.
void shuffle(const void* value, void* out, unsigned bytes, unsigned source, int line);

/// The launch's dynamic shared memory, and the next statically declared array of the block.
void* dynamic_shared();
void* static_shared(size_t bytes);

/// cp.async: starts a copy of 4, 8 or 16 bytes; closes a group of copies; waits until `left` groups are under way.
void copy_async(void* to, const void* from, unsigned bytes, int line);
void copy_commit();
void copy_wait(unsigned left);

/// ldmatrix: four matrices of 8 x 8 16-bit elements from shared memory; each lane gives the address of a row.
void load_matrices(uint32_t* to, const void* row, bool transposed, int line);

/// The warp-wide products of the tensor cores; registers as PTX lays them out (see warp_ops.cc).
void mma_s8(int32_t* d, const uint32_t* a, const uint32_t* b, int line);
void mma_bf16(float* d, const uint32_t* a, const uint32_t* b, int line);
void mma_f16(float* d, const uint32_t* a, const uint32_t* b, int line);

/// Runs `body(argument)` once for each thread of the grid.
void launch(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed, void (*body)(void*), void* argument);

/// Calls a kernel with arguments as cuLaunchKernel takes them: an array of pointers to the values.
template <class... A>
void launch_kernel(void (*kernel)(A...), void** args, dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed) {
  auto values = [args]<size_t... I>(std::index_sequence<I...>) {
    return std::tuple<A...>(*static_cast<A*>(args[I])...);
  }(std::index_sequence_for<A...>{});
  auto call = [kernel, &values] { std::apply(kernel, values); };
  launch(grid, block, shared_bytes, seed, [](void* c) { (*static_cast<decltype(call)*>(c))(); }, &call);
}

/// The number of a kernel's arguments, then the size of each in bytes.
template <class... A>
constexpr std::array<unsigned, 1 + sizeof...(A)> sizes_of(void (*)(A...)) {
  return {unsigned(sizeof...(A)), unsigned(sizeof(A))...};
}

template <class T>
T shuffled(T value, unsigned source, int line) {
  static_assert(sizeof(T) <= 8);
  T out;
  shuffle(&value, &out, sizeof(T), source, line);
  return out;
}

}  // namespace shim

// A kernel's entry for a driver that finds it by name, and its arguments' sizes for one that copies them.
#define SHIM_ENTRY(kernel)                                                                                        \
  extern "C" void shim_entry_##kernel(void** args, dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed) {   \
    shim::launch_kernel(kernel, args, grid, block, shared_bytes, seed);                                           \
  }                                                                                                               \
  extern "C" {                                                                                                    \
  extern const decltype(shim::sizes_of(kernel)) shim_sizes_##kernel;                                              \
  const decltype(shim::sizes_of(kernel)) shim_sizes_##kernel = shim::sizes_of(kernel);                            \
  }
#define SHARED(type, name, count) type* name = static_cast<type*>(shim::static_shared(sizeof(type) * (count)))
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(shim::dynamic_shared())

#define threadIdx (shim::self->index)
#define blockIdx (shim::self->launch->block)
#define blockDim (shim::self->launch->block_size)
#define gridDim (shim::self->launch->grid_size)

// The default arguments name the caller's line, so that a report can.
inline void __syncthreads(int line = __builtin_LINE()) { shim::sync_block(line); }
inline void __syncwarp(unsigned = ~0u, int line = __builtin_LINE()) { shim::sync_warp(line); }
template <class T>
T __shfl_sync(unsigned, T value, int source, int = 32, int line = __builtin_LINE()) {
  return shim::shuffled(value, unsigned(source) % 32, line);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int flip, int = 32, int line = __builtin_LINE()) {
  return shim::shuffled(value, shim::self->lane ^ unsigned(flip), line);
}

// Arithmetic: one rounding each. The host build must not contract (-ffp-contract=off).
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline int __float2int_rn(float a) {
  if (std::isnan(a)) return 0;
  if (a >= 2147483648.0f) return INT32_MAX;
  if (a < -2147483648.0f) return INT32_MIN;
  return int(std::lrintf(a));
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline unsigned atomicAdd(unsigned* to, unsigned value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
/// A load of global memory: its address is a multiple of its size, or no card would carry it out.
template <class T>
T __ldg(const T* p) {
  if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) shim::die("a load that is not aligned is not allowed");
  if (shim_on_load) shim_on_load(p, sizeof(T));
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return __ldg(p);
}
