// Warp operations of the shim: shuffles, loads of matrices and the tensor cores' products, done once for the whole warp
// by the lane that arrives last.
//
// Fragments as in the PTX ISA, "Matrix fragments for mma.m16n8k16" and "... mma.m16n8k32" (g = lane / 4, t = lane % 4,
// E = elements in a 32-bit register: 4 of int8, 2 of 16 bits):
//   A, 16 x 8E, row major: register r holds row g + 8 (r % 2), columns E t + 4E (r / 2) ..+E
//   B, 8E x 8, column major: register r holds column g, rows E t + 4E r ..+E
//   C and D, 16 x 8: register r holds row g + 8 (r / 2), column 2t + r % 2
#include "runtime.h"
#include "sanitizers.h"

namespace shim {
namespace {

struct Shuffle {
  uint64_t value;
  unsigned source, bytes;
};

void combine_shuffle(const Lane* all, unsigned lanes) {
  for (unsigned l = 0; l < lanes; l++) {
    auto* mine = static_cast<const Shuffle*>(all[l].in);
    if (mine->source >= lanes) die("a shuffle reads a lane that does not exist");
    auto* theirs = static_cast<const Shuffle*>(all[mine->source].in);
    if (mine->bytes != theirs->bytes) die("lanes shuffle values of different sizes");
    raw_copy(all[l].out, &theirs->value, mine->bytes);
  }
}

struct MatrixRow {
  const void* at;
  bool transposed;
};

/// Lane l names row l % 8 of matrix l / 8. Its register i: of matrix i, row l / 4, elements 2 (l % 4) and the next; of
/// column l / 4 where transposed.
void combine_load(const Lane* all, unsigned lanes) {
  if (lanes != 32) die("ldmatrix in a warp of fewer than 32 threads");
  uint16_t rows[32][8];
  for (int l = 0; l < 32; l++) raw_copy(rows[l], static_cast<const MatrixRow*>(all[l].in)->at, 16);
  for (int l = 0; l < 32; l++) {
    const bool transposed = static_cast<const MatrixRow*>(all[l].in)->transposed;
    auto* out = static_cast<uint32_t*>(all[l].out);
    for (int i = 0; i < 4; i++) {
      const int line = l / 4, first = l % 4 * 2;
      const uint16_t low = transposed ? rows[8 * i + first][line] : rows[8 * i + line][first];
      const uint16_t high = transposed ? rows[8 * i + first + 1][line] : rows[8 * i + line][first + 1];
      out[i] = low | uint32_t(high) << 16;
    }
  }
}

/// A lane's registers of A and B; C is read from where D goes.
struct Registers {
  const uint32_t *a, *b;
};

float bf16_value(const uint16_t bits) { return __uint_as_float(uint32_t(bits) << 16); }

float f16_value(const uint16_t bits) {
  __half_raw raw;
  raw.x = bits;
  return __half2float(__half(raw));
}

/// One product of a warp. `Element` is what a register holds, `Number` what its elements become, `Sum` exact enough to
/// add 4E products of them, `Value` the type of C and D.
template <class Element, class Number, class Sum, class Value, class Convert>
void multiply(const Lane* all, Convert convert) {
  constexpr int E = 4 / sizeof(Element), K = 8 * E;
  Number a[16][K];
  Sum b[K][8];  // a row of it is multiplied by an element of A at once
  for (int l = 0; l < 32; l++) {
    auto* lane = static_cast<const Registers*>(all[l].in);
    Element part[E];
    for (int r = 0; r < 4; r++) {
      std::memcpy(part, &lane->a[r], 4);
      for (int e = 0; e < E; e++) a[l / 4 + 8 * (r % 2)][E * (l % 4) + 4 * E * (r / 2) + e] = convert(part[e]);
    }
    for (int r = 0; r < 2; r++) {
      std::memcpy(part, &lane->b[r], 4);
      for (int e = 0; e < E; e++) b[E * (l % 4) + 4 * E * r + e][l / 4] = Sum(convert(part[e]));
    }
  }
  Sum sums[16][8] = {};
  for (int row = 0; row < 16; row++) {
    for (int k = 0; k < K; k++) {
      const Sum factor = a[row][k];
      for (int column = 0; column < 8; column++) sums[row][column] += factor * b[k][column];
    }
  }
  for (int l = 0; l < 32; l++) {
    auto* d = static_cast<Value*>(all[l].out);
    for (int r = 0; r < 4; r++) d[r] = Value(Sum(d[r]) + sums[l / 4 + 8 * (r / 2)][2 * (l % 4) + r % 2]);
  }
}

void full_warp(unsigned lanes) {
  if (lanes != 32) die("mma in a warp of fewer than 32 threads");
}

void combine_s8(const Lane* all, unsigned lanes) {
  full_warp(lanes);
  multiply<int8_t, int32_t, int32_t, int32_t>(all, [](int8_t v) { return int32_t(v); });
}
void combine_bf16(const Lane* all, unsigned lanes) {
  full_warp(lanes);
  multiply<uint16_t, float, double, float>(all, bf16_value);
}
void combine_f16(const Lane* all, unsigned lanes) {
  full_warp(lanes);
  multiply<uint16_t, float, double, float>(all, f16_value);
}

}  // namespace

void shuffle(const void* value, void* out, unsigned bytes, unsigned source, int line) {
  Shuffle in{0, source, bytes};
  raw_copy(&in.value, value, bytes);
  meet(&in, out, combine_shuffle, line);
}

void load_matrices(uint32_t* to, const void* row, bool transposed, int line) {
  if (reinterpret_cast<uintptr_t>(row) % 16) die("ldmatrix: an address is not a multiple of 16", line);
#if defined(__SANITIZE_ADDRESS__)
  if (__asan_region_is_poisoned(const_cast<void*>(row), 16)) die("ldmatrix reads out of bounds", line);
#endif
#if defined(SHIM_TSAN)
  __tsan_read_range(const_cast<void*>(row), 16);
#endif
  MatrixRow in{row, transposed};
  meet(&in, to, combine_load, line);
}

void mma_s8(int32_t* d, const uint32_t* a, const uint32_t* b, int line) {
  Registers in{a, b};
  meet(&in, d, combine_s8, line);
}
void mma_bf16(float* d, const uint32_t* a, const uint32_t* b, int line) {
  Registers in{a, b};
  meet(&in, d, combine_bf16, line);
}
void mma_f16(float* d, const uint32_t* a, const uint32_t* b, int line) {
  Registers in{a, b};
  meet(&in, d, combine_f16, line);
}

}  // namespace shim
