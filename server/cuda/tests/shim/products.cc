// gemv_* and gemm_*: against sums in double precision, and bit for bit against each other.
#include "formats.h"

KERNEL(gemv_q4);
KERNEL(gemv_awq);
KERNEL(gemv_q8);
KERNEL(gemv_bf16);
KERNEL(gemv_f16);
KERNEL(gemm_q4);
KERNEL(gemm_awq);
KERNEL(gemm_q8);
KERNEL(gemm_bf16);
KERNEL(gemm_f16);

namespace {

/// What a product of one format needs beside the shape.
struct Quantized8 {
  Quantized w;
  Activations8 a;

  Quantized8(Random& random, int n, int k, int tokens, bool int4, int scale_columns = 32)
      : w(random, n, k, int4, scale_columns), a(random, tokens, k) {}
  /// The exact value of an output before bias and residual, and the sum of the magnitudes that roundings scale with.
  void exact(int row, int token, double& value, double& magnitude) const {
    value = magnitude = 0;
    for (int group = 0; group < a.k64 / 32; group++) {
      int64_t acc = 0;
      for (int k = group * 32; k < group * 32 + 32; k++) acc += w.integer(row, k) * a.q[size_t(token) * a.k64 + k];
      const size_t at = size_t(token) * (a.k64 / 32) + group;
      const double product = w.s(row, group * 32) * a.scale[at] * double(acc);
      const double offset = w.m(row, group * 32) * a.sum[at];
      value += product - offset;
      magnitude += std::fabs(product) + std::fabs(offset);
    }
  }
  /// Launches for tokens first..first + tokens.
  void launch(Case& c, Entry entry, dim3 grid, dim3 block, size_t shared, float* y, const float* bias,
              const float* residual, int n, int first, int tokens, int ld) const {
    const size_t groups = a.k64 / 32;
    c.launch(entry, grid, block, shared, y, (const void*)w.tiles.data(), (const void*)w.pairs.data(),
             (const int8_t*)a.q.data() + size_t(first) * a.k64, a.scale.data() + first * groups,
             a.sum.data() + first * groups, bias, residual, n, a.k64, tokens, ld);
  }
};
struct Int4 : Quantized8 {
  static constexpr Entry gemv = shim_entry_gemv_q4, gemm = shim_entry_gemm_q4;
  Int4(Random& random, int n, int k, int tokens) : Quantized8(random, n, k, tokens, true) {}
};
struct Awq : Quantized8 {
  static constexpr Entry gemv = shim_entry_gemv_awq, gemm = shim_entry_gemm_awq;
  Awq(Random& random, int n, int k, int tokens) : Quantized8(random, n, k, tokens, true, 128) {}
};
struct Int8 : Quantized8 {
  static constexpr Entry gemv = shim_entry_gemv_q8, gemm = shim_entry_gemm_q8;
  Int8(Random& random, int n, int k, int tokens) : Quantized8(random, n, k, tokens, false) {}
};
template <class T>
struct Plain16 {
  Weights16<T> w;
  Activations16<T> a;

  Plain16(Random& random, int n, int k, int tokens) : w(random, n, k), a(random, tokens, k) {}
  void exact(int row, int token, double& value, double& magnitude) const {
    value = magnitude = 0;
    for (int k = 0; k < a.k64; k++) {
      const double product = w.value(row, k) * value16<T>(a.a[size_t(token) * a.k64 + k]);
      value += product;
      magnitude += std::fabs(product);
    }
  }
  void launch(Case& c, Entry entry, dim3 grid, dim3 block, size_t shared, float* y, const float* bias,
              const float* residual, int n, int first, int tokens, int ld) const {
    c.launch(entry, grid, block, shared, y, (const void*)w.tiles.data(),
             (const void*)(a.a.data() + size_t(first) * a.k64), bias, residual, n, a.k64, tokens, ld);
  }
};
struct BFloat16 : Plain16<__nv_bfloat16> {
  static constexpr Entry gemv = shim_entry_gemv_bf16, gemm = shim_entry_gemm_bf16;
  using Plain16::Plain16;
};
struct Half : Plain16<__half> {
  static constexpr Entry gemv = shim_entry_gemv_f16, gemm = shim_entry_gemm_f16;
  using Plain16::Plain16;
};

/// The output matrix: y is columns `offset..offset + n` of rows of `ld`, which has other columns that must stay.
struct Destination {
  int n, ld, offset;
  std::vector<float> before, bias, residual;
  bool onto_itself;

  Destination(Random& random, int n_, int tokens) : n(n_), ld(n_ + random.in(0, 20)), offset(random.in(0, ld - n_)) {
    before = random.floats(size_t(tokens) * ld, 3.0f);
    if (random.in(0, 1)) bias = random.floats(n, 1.0f);
    onto_itself = random.in(0, 2) == 0;
    if (!onto_itself && random.in(0, 1)) residual = random.floats(size_t(tokens) * ld, 2.0f);
  }
  const float* bias_or_null() const { return bias.empty() ? nullptr : bias.data(); }
  const float* residual_or_null(const float* y) const {
    return onto_itself ? y : residual.empty() ? nullptr : residual.data() + offset;
  }
};

template <class Format>
std::vector<float> by_gemv(Case& c, const Format& format, const Destination& to, int first, int tokens) {
  std::vector<float> y(to.before);
  float* from = y.data() + size_t(first) * to.ld + to.offset;
  const float* residual = to.residual_or_null(y.data() + to.offset);
  if (residual) residual += size_t(first) * to.ld;
  const int chunks = (format.a.k64 + 255) / 256;
  format.launch(c, Format::gemv, dim3((to.n + 15) / 16, 1), dim3(256), size_t(chunks) * 16 * 8 * 4, from,
                to.bias_or_null(), residual, to.n, first, tokens, to.ld);
  return y;
}

template <class Format>
std::vector<float> by_gemm(Case& c, const Format& format, const Destination& to, int tokens) {
  std::vector<float> y(to.before);
  format.launch(c, Format::gemm, dim3((to.n + 63) / 64, (tokens + 63) / 64), dim3(128), 0, y.data() + to.offset,
                to.bias_or_null(), to.residual_or_null(y.data() + to.offset), to.n, 0, tokens, to.ld);
  return y;
}

/// Values of y's tokens first..first + tokens against the exact ones; everything else must be as before.
template <class Format>
void check(Case& c, const Format& format, const Destination& to, const std::vector<float>& y, int first, int tokens) {
  for (size_t at = 0; at < y.size(); at++) {
    const int token = int(at / to.ld), row = int(at % to.ld) - to.offset;
    if (token < first || token >= first + tokens || row < 0 || row >= to.n) {
      c.report.same(&y[at], &to.before[at], 1, "a place outside the result");
      continue;
    }
    double value, magnitude;
    format.exact(row, token, value, magnitude);
    if (!to.bias.empty()) value += to.bias[row], magnitude += std::fabs(to.bias[row]);
    const float* residual = to.onto_itself ? &to.before[at] : to.residual.empty() ? nullptr : &to.residual[at];
    if (residual) value += *residual, magnitude += std::fabs(*residual);
    c.report.near(y[at], value, 1e-6 * magnitude, "y", at);
  }
}

template <class Format>
void test_gemv(Case& c) {
  Random& random = c.random;
  const int n = random.in(1, 70), k = random.in(0, 7) ? awkward_k(random) : random.in(2049, 2600);
  const int tokens = random.in(1, 8);
  const Format format(random, n, k, tokens);
  const Destination to(random, n, tokens);
  const std::vector<float> all = by_gemv(c, format, to, 0, tokens);
  check(c, format, to, all, 0, tokens);
  // A token alone has the bits that it has in the batch.
  const int alone = random.in(0, tokens - 1);
  const std::vector<float> one = by_gemv(c, format, to, alone, 1);
  c.report.same(one.data() + size_t(alone) * to.ld, all.data() + size_t(alone) * to.ld, to.ld, "a token alone");
}

template <class Format>
void test_gemm(Case& c) {
  Random& random = c.random;
  const int n = random.in(1, 140), k = awkward_k(random), tokens = random.in(1, 70);
  const Format format(random, n, k, tokens);
  const Destination to(random, n, tokens);
  const std::vector<float> all = by_gemm(c, format, to, tokens);
  check(c, format, to, all, 0, tokens);
  // The product of few tokens gives the same bits.
  for (int tries = 0; tries < 2; tries++) {
    const int count = random.in(1, tokens < 8 ? tokens : 8), first = random.in(0, tokens - count);
    const std::vector<float> few = by_gemv(c, format, to, first, count);
    const size_t begin = size_t(first) * to.ld;
    c.report.same(few.data() + begin, all.data() + begin, size_t(count) * to.ld, "gemv");
  }
}

}  // namespace

std::vector<Test> product_tests() {
  return {{"gemv_q4", test_gemv<Int4>},       {"gemv_awq", test_gemv<Awq>},  {"gemv_q8", test_gemv<Int8>},
          {"gemv_bf16", test_gemv<BFloat16>}, {"gemv_f16", test_gemv<Half>}, {"gemm_q4", test_gemm<Int4>},
          {"gemm_awq", test_gemm<Awq>},       {"gemm_q8", test_gemm<Int8>},  {"gemm_bf16", test_gemm<BFloat16>},
          {"gemm_f16", test_gemm<Half>}};
}
