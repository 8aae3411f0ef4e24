// What the kernels need of a device: types, warp sums, and wrappers around the few PTX instructions without an
// intrinsic. PTX stands nowhere else. Under the host shim (QUARRY_SHIM) each wrapper has a twin that computes the same.
//
// One source for nvcc, NVRTC, clang and g++ with the shim. NVRTC has no standard headers: none are used here.
#pragma once
#if defined(QUARRY_SHIM)
#include "../shim/shim.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
// A kernel's entry for the fake driver: the real one finds the kernel itself.
#define SHIM_ENTRY(kernel)
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#endif

typedef __nv_bfloat16 bf16;
typedef __half f16;
typedef __half2 half2_t;
typedef signed char i8;
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define NEGATIVE_INFINITY __uint_as_float(0xff800000u)

constexpr u32 ALL_LANES = 0xffffffffu;
constexpr int GROUP = 32;        // elements of K with one scale
constexpr int TILE_ROWS = 16;    // rows of a weight tile
constexpr int UNIT = 64;         // elements of K that a weight row is padded to
constexpr int CHUNK = 256;       // elements of K that are added up before they join the total

// ---- PTX and its twins -------------------------------------------------------------------------------------------

#if defined(QUARRY_SHIM)

__device__ __forceinline__ void mma_s8(int (&d)[4], const u32 (&a)[4], const u32 (&b)[2], int line = __builtin_LINE()) {
  shim::mma_s8(d, a, b, line);
}
__device__ __forceinline__ void mma_16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], bf16,
                                       int line = __builtin_LINE()) {
  shim::mma_bf16(d, a, b, line);
}
__device__ __forceinline__ void mma_16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], f16,
                                       int line = __builtin_LINE()) {
  shim::mma_f16(d, a, b, line);
}
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(u32 (&to)[4], const void* shared, int line = __builtin_LINE()) {
  shim::load_matrices(to, shared, TRANSPOSED, line);
}
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(low)) |
         static_cast<u32>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16;
}
__device__ __forceinline__ u32 subtract_bf16(u32 a, u32 b) {
  const auto low = [](u32 pair) { return __uint_as_float(pair << 16); };
  const auto high = [](u32 pair) { return __uint_as_float(pair & 0xffff0000u); };
  return pack_bf16(low(a) - low(b), high(a) - high(b));
}
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global, int line = __builtin_LINE()) {
  shim::copy_async(shared, global, BYTES, line);
}
__device__ __forceinline__ void copy_commit() { shim::copy_commit(); }
template <int LEFT>
__device__ __forceinline__ void copy_wait() {
#if !defined(INJECT_NO_WAIT)
  shim::copy_wait(LEFT);
#endif
}

#else

/// d += a b, exactly: a 16 x 32 of int8, b 32 x 8 of int8, fragments as in the PTX ISA.
__device__ __forceinline__ void mma_s8(int (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// d += a b in float: a 16 x 16, b 16 x 8. The last argument names the type of their elements.
__device__ __forceinline__ void mma_16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], bf16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], f16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// Four matrices of 8 rows of 16 bytes from shared memory: lane l says where row l % 8 of matrix l / 8 is; register i
/// gets of matrix i: row l / 4, the 16-bit elements 2 (l % 4) and the next. TRANSPOSED: of the transposed matrix.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(u32 (&to)[4], const void* shared) {
  const u32 from = static_cast<u32>(__cvta_generic_to_shared(shared));
  if constexpr (TRANSPOSED) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
}
/// Two floats rounded to bfloat16, in one register.
__device__ __forceinline__ u32 pack_bf16(float low, float high) {
  u32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
/// Two differences of bfloat16, rounded.
__device__ __forceinline__ u32 subtract_bf16(u32 a, u32 b) {
  u32 pair;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(b), "r"(0xbf80bf80u), "r"(a));  // b times -1
  return pair;
}
/// Starts a copy of 4, 8 or 16 bytes, both addresses multiples of that, from global to shared memory.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  const u32 to = static_cast<u32>(__cvta_generic_to_shared(shared));
  if constexpr (BYTES == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(BYTES) : "memory");
  }
}
/// Closes the group of copies that this thread has started.
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `LEFT` of this thread's groups are under way.
template <int LEFT>
__device__ __forceinline__ void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#endif

// ---- Small helpers -----------------------------------------------------------------------------------------------

__device__ __forceinline__ int padded(int k) { return (k + UNIT - 1) / UNIT * UNIT; }

/// The warp's sum or maximum in every lane. The order of the sum is a fixed tree, so its bits are fixed too.
#if defined(INJECT_WRONG_LANE)
constexpr int FLIP_END = 1;
#else
constexpr int FLIP_END = 0;
#endif
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int flip = 16; flip > FLIP_END; flip /= 2) v = __fadd_rn(v, __shfl_xor_sync(ALL_LANES, v, flip));
  return v;
}
__device__ __forceinline__ int warp_sum(int v) {
#pragma unroll
  for (int flip = 16; flip; flip /= 2) v += __shfl_xor_sync(ALL_LANES, v, flip);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int flip = 16; flip; flip /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, flip));
  return v;
}

/// The two bfloat16 of a register as floats, the lower half first.
__device__ __forceinline__ float low_bf16(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

/// Four int8 as bfloat16: those of bytes 0 and 2, and of 1 and 3. A byte's lower 7 bits are those of a bfloat16 from 128
/// on; its sign says whether that is 128 or 256 too many.
__device__ __forceinline__ void unpack_s8(u32& even, u32& odd, u32 bytes) {
  constexpr u32 LOW = 0x007f007fu, SIGN = 0x00800080u, FROM_128 = 0x43004300u;
  even = subtract_bf16((bytes & LOW) | FROM_128, (bytes & SIGN) | FROM_128);
  odd = subtract_bf16((bytes >> 8 & LOW) | FROM_128, (bytes >> 8 & SIGN) | FROM_128);
}

__device__ __forceinline__ float to_float(bf16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(f16 v) { return __half2float(v); }
template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float v) {
  return __float2half_rn(v);
}
