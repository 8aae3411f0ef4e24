// Weights and activations as the kernels read them, made from plain values, and the plain values back: written from the
// description of the formats, not from the kernels.
#pragma once
#include "case.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

inline uint16_t to_bits(__nv_bfloat16 v) { return __nv_bfloat16_raw(v).x; }
inline uint16_t to_bits(__half v) { return __half_raw(v).x; }
template <class T>
uint16_t round16(float v);
template <>
inline uint16_t round16<__nv_bfloat16>(float v) {
  return to_bits(__float2bfloat16_rn(v));
}
template <>
inline uint16_t round16<__half>(float v) {
  return to_bits(__float2half_rn(v));
}
template <class T>
double value16(uint16_t bits);
template <>
inline double value16<__nv_bfloat16>(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float v;
  std::memcpy(&v, &wide, 4);
  return v;
}
template <>
inline double value16<__half>(uint16_t bits) {
  __half_raw raw;
  raw.x = bits;
  return __half2float(raw);
}

/// A quantized matrix [n][k]: the tiles, the (s, m) pairs, and what each element means.
struct Quantized {
  int rows, k64;  // padded
  bool int4;
  int scale_columns;  // that share a pair
  std::vector<uint8_t> tiles;
  std::vector<uint16_t> pairs;  // f16 bits: s, m, s, m, ...

  Quantized(Random& random, int n, int k, bool is_int4, int columns = 32)
      : rows((n + 15) / 16 * 16), k64(padded(k)), int4(is_int4), scale_columns(columns),
        tiles(size_t(rows) * k64 / (is_int4 ? 2 : 1)), pairs(size_t(rows) * scale_rows() * 2) {
    for (uint8_t& byte : tiles) byte = uint8_t(random.next());
    for (size_t i = 0; i < pairs.size(); i++) {
      pairs[i] = round16<__half>(i % 2 ? random.unit() * 0.1f : 0.001f + std::fabs(random.unit()) * 0.01f);
    }
  }
  int scale_rows() const { return (k64 + scale_columns - 1) / scale_columns; }
  int integer(int row, int k) const {
    const size_t tile = row / 16;
    const int g = row % 8, upper = row % 16 / 8, group = k / 32, t = k % 16 / 4, b = k % 4, half = k % 32 / 16;
    if (int4) {
      const size_t unit = tile * (k64 / 64) + group / 2;
      const uint8_t byte = tiles[unit * 512 + (4 * g + t) * 16 + (2 * (group % 2) + upper) * 4 + b];
      return half ? byte >> 4 : byte & 15;
    }
    return int8_t(tiles[(tile * (k64 / 32) + group) * 512 + (4 * g + t) * 16 + (upper + 2 * half) * 4 + b]);
  }
  double s(int row, int k) const { return pair(row, k, 0); }
  double m(int row, int k) const { return pair(row, k, 1); }
  double value(int row, int k) const { return s(row, k) * integer(row, k) - m(row, k); }

 private:
  double pair(int row, int k, int which) const {
    const size_t scale_row = size_t(row / 16) * scale_rows() + k / scale_columns;
    return value16<__half>(pairs[(scale_row * 16 + row % 16) * 2 + which]);
  }
};

/// A 16-bit matrix [n][k] in tiles.
template <class T>
struct Weights16 {
  int rows, k64;
  std::vector<uint16_t> tiles;

  Weights16(Random& random, int n, int k)
      : rows((n + 15) / 16 * 16), k64(padded(k)), tiles(size_t(rows) * k64) {
    for (uint16_t& bits : tiles) bits = round16<T>(random.unit());
  }
  double value(int row, int k) const {
    const size_t step = size_t(row / 16) * (k64 / 16) + k / 16;
    const int lane = row % 8 * 4 + k % 8 / 2, reg = row % 16 / 8 + 2 * (k % 16 / 8);
    return value16<T>(tiles[step * 256 + lane * 8 + reg * 2 + k % 2]);
  }
};

/// int8 activations [tokens][k64], zeros from k on.
struct Activations8 {
  int tokens, k64;
  std::vector<int8_t> q;
  std::vector<float> scale, sum;

  Activations8(Random& random, int count, int k)
      : tokens(count), k64(padded(k)), q(size_t(count) * k64), scale(size_t(count) * k64 / 32), sum(scale.size()) {
    for (size_t i = 0; i < q.size(); i++) q[i] = int(i % k64) < k ? int8_t(random.in(-127, 127)) : int8_t(0);
    for (size_t i = 0; i < scale.size(); i++) {
      int total = 0;
      for (size_t e = i * 32; e < i * 32 + 32; e++) total += q[e];
      scale[i] = random.in(0, 9) ? std::fabs(random.unit()) * 0.05f : 0.0f;
      sum[i] = scale[i] * float(total);
    }
  }
};

/// 16-bit activations [tokens][k64], zeros from k on.
template <class T>
struct Activations16 {
  int tokens, k64;
  std::vector<uint16_t> a;

  Activations16(Random& random, int count, int k) : tokens(count), k64(padded(k)), a(size_t(count) * k64) {
    for (size_t i = 0; i < a.size(); i++) a[i] = int(i % k64) < k ? round16<T>(random.unit()) : uint16_t(0);
  }
};
