// Kernels of single rows: embed_*, gather_rows, norm_*, round_*, silu_*, against the same in double precision.
#include "formats.h"
#include <functional>
#include <sys/mman.h>

KERNEL(embed_bf16);
KERNEL(embed_f16);
KERNEL(embed_q4);
KERNEL(embed_q8);
KERNEL(gather_rows);
KERNEL(take_drawn);
KERNEL(norm_q8);
KERNEL(norm_bf16);
KERNEL(norm_f16);
KERNEL(norm_f32);
KERNEL(round_q8);
KERNEL(round_bf16);
KERNEL(round_f16);
KERNEL(silu_q8);
KERNEL(silu_bf16);
KERNEL(silu_f16);

namespace {

using bf16 = __nv_bfloat16;
using f16 = __half;

std::vector<uint32_t> indices(Random& random, int count, int below) {
  std::vector<uint32_t> all(count);
  for (uint32_t& i : all) i = uint32_t(random.in(0, below - 1));
  return all;
}

template <class T, Entry ENTRY>
void test_embed16(Case& c) {
  const int vocabulary = c.random.in(1, 50), hidden = awkward_k(c.random), tokens = c.random.in(1, 9);
  std::vector<uint16_t> table(size_t(vocabulary) * hidden);
  for (uint16_t& bits : table) bits = round16<T>(c.random.unit());
  const std::vector<uint32_t> ids = indices(c.random, tokens, vocabulary);
  std::vector<float> x(size_t(tokens) * hidden);
  c.launch(ENTRY, dim3(tokens), dim3(128), 0, x.data(), (const void*)table.data(), ids.data(), hidden);
  for (size_t i = 0; i < x.size(); i++) {
    c.report.near(x[i], value16<T>(table[size_t(ids[i / hidden]) * hidden + i % hidden]), 0, "x", i);
  }
}

/// A table of more than 2^32 elements: only the rows asked for are there, the rest is addresses.
void test_embed_far(Case& c) {
  const int hidden = 4096;
  const size_t vocabulary = 1200000, bytes = vocabulary * hidden * 2;
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return c.report.fail("no addresses for a large table");
  uint16_t* const table = static_cast<uint16_t*>(mapped);
  const std::vector<uint32_t> ids = {uint32_t(c.random.in(1048577, 1199999)), uint32_t(c.random.in(0, 1000))};
  for (uint32_t id : ids) {
    for (int i = 0; i < hidden; i++) table[size_t(id) * hidden + i] = round16<bf16>(1.0f + c.random.unit());
  }
  std::vector<float> x(ids.size() * hidden);
  c.launch(shim_entry_embed_bf16, dim3(unsigned(ids.size())), dim3(128), 0, x.data(), (const void*)table, ids.data(),
           hidden);
  for (size_t i = 0; i < x.size(); i++) {
    c.report.near(x[i], value16<bf16>(table[size_t(ids[i / hidden]) * hidden + i % hidden]), 0, "x", i);
  }
  munmap(mapped, bytes);
}

template <bool INT4, Entry ENTRY>
void test_embed_tiles(Case& c) {
  const int vocabulary = c.random.in(1, 50), hidden = awkward_k(c.random), tokens = c.random.in(1, 9);
  const Quantized table(c.random, vocabulary, hidden, INT4);
  const std::vector<uint32_t> ids = indices(c.random, tokens, vocabulary);
  std::vector<float> x(size_t(tokens) * hidden);
  c.launch(ENTRY, dim3(tokens), dim3(128), 0, x.data(), (const void*)table.tiles.data(),
           (const void*)table.pairs.data(), ids.data(), hidden);
  for (size_t i = 0; i < x.size(); i++) {
    const double want = table.value(int(ids[i / hidden]), int(i % hidden));
    c.report.near(x[i], want, 1e-7 * std::fabs(want), "x", i);
  }
}

void test_gather(Case& c) {
  const int tokens = c.random.in(1, 40), width = awkward_k(c.random), count = c.random.in(1, 9);
  const std::vector<float> x = c.random.floats(size_t(tokens) * width, 5.0f);
  const std::vector<uint32_t> rows = indices(c.random, count, tokens);
  std::vector<float> out(size_t(count) * width);
  c.launch(shim_entry_gather_rows, dim3(count), dim3(256), 0, out.data(), x.data(), rows.data(), width);
  for (int i = 0; i < count; i++) {
    c.report.same(&out[size_t(i) * width], &x[size_t(rows[i]) * width], width, "a row");
  }
}

void test_take_drawn(Case& c) {
  const int draws = c.random.in(1, 70), count = c.random.in(1, 70), vocabulary = c.random.in(2, 1000);
  std::vector<uint32_t> drawn = indices(c.random, draws, vocabulary);
  drawn[c.random.in(0, draws - 1)] = c.random.in(0, 1) ? 0xffffffffu : uint32_t(vocabulary);
  const std::vector<uint32_t> numbers = indices(c.random, count, draws);
  std::vector<uint32_t> tokens = numbers;
  c.launch(shim_entry_take_drawn, dim3(1), dim3(64), 0, tokens.data(), (const uint32_t*)drawn.data(), count, vocabulary);
  for (int i = 0; i < count; i++) {
    const uint32_t token = drawn[numbers[i]];
    if (tokens[i] != (token < uint32_t(vocabulary) ? token : 0)) return c.report.fail("not the token drawn");
  }
}

/// A kernel that makes rows: its inputs, and the exact value of element k of row t with its allowed relative error.
struct Rows {
  int tokens, k;
  std::function<double(int t, int k)> exact;
  double relative;
};

/// Checks int8 rows: every value within half a step of the exact one.
void check_q8(Case& c, const Rows& rows, const std::vector<int8_t>& q, const std::vector<float>& scale,
              const std::vector<float>& sum) {
  const int k64 = padded(rows.k);
  for (int t = 0; t < rows.tokens; t++) {
    for (int group = 0; group < k64 / 32; group++) {
      const size_t at = size_t(t) * (k64 / 32) + group;
      double most = 0;
      int total = 0;
      for (int k = group * 32; k < group * 32 + 32; k++) {
        const int got = q[size_t(t) * k64 + k];
        total += got;
        const double want = k < rows.k ? rows.exact(t, k) : 0.0;
        most = std::fmax(most, std::fabs(want));
        if (k >= rows.k && got != 0) c.report.fail("padding is not 0");
        const double slack = std::fabs(want) * (rows.relative + 2e-7);
        c.report.near(got * double(scale[at]), want, 0.5 * scale[at] * (1 + 1e-5) + slack, "q scale", at * 32 + k % 32);
      }
      c.report.near(scale[at], most / 127, most / 127 * (rows.relative + 2e-7), "scale", at);
      c.report.near(sum[at], double(scale[at]) * total, std::fabs(double(scale[at]) * total) * 1e-7, "sum", at);
    }
  }
}

template <class T>
void check_16(Case& c, const Rows& rows, const std::vector<uint16_t>& a) {
  const double half_step = sizeof(T) == 2 && value16<T>(1) > 1e-30 ? 1.0 / 2048 : 1.0 / 256;
  const int k64 = padded(rows.k);
  for (size_t i = 0; i < a.size(); i++) {
    const int t = int(i / k64), k = int(i % k64);
    const double want = k < rows.k ? rows.exact(t, k) : 0.0;
    const double smallest = want == 0 ? 0 : 3e-8;  // half of the smallest half-precision number
    c.report.near(value16<T>(a[i]), want, std::fabs(want) * (half_step * 1.001 + rows.relative) + smallest, "a", i);
  }
}

/// Runs a kernel that takes its outputs, then `inputs`, twice (two schedules), and checks.
template <class... In>
void test_q8(Case& c, Entry entry, const Rows& rows, In... inputs) {
  const size_t k64 = padded(rows.k);
  std::vector<int8_t> q(rows.tokens * k64, 99), q_again(q.size(), 98);
  std::vector<float> scale(rows.tokens * k64 / 32, 9), sum(scale), scale_again(scale), sum_again(scale);
  c.launch(entry, dim3(rows.tokens), dim3(256), 0, q.data(), scale.data(), sum.data(), inputs...);
  c.launch(entry, dim3(rows.tokens), dim3(256), 0, q_again.data(), scale_again.data(), sum_again.data(), inputs...);
  check_q8(c, rows, q, scale, sum);
  c.report.same(q, q_again, "q of another schedule");
  c.report.same(scale, scale_again, "scale of another schedule");
  c.report.same(sum, sum_again, "sum of another schedule");
}
template <class T, class... In>
void test_16(Case& c, Entry entry, const Rows& rows, In... inputs) {
  std::vector<uint16_t> a(size_t(rows.tokens) * padded(rows.k), 0x1234), again(a.size(), 0x4321);
  c.launch(entry, dim3(rows.tokens), dim3(256), 0, a.data(), inputs...);
  c.launch(entry, dim3(rows.tokens), dim3(256), 0, again.data(), inputs...);
  check_16<T>(c, rows, a);
  c.report.same(a, again, "another schedule");
}

/// Activations of all sizes, with whole groups of zeros.
std::vector<float> activations(Random& random, size_t count) {
  std::vector<float> x(count);
  for (size_t i = 0; i < count; i++) x[i] = i / 40 % 5 == 4 ? 0.0f : random.unit() * float(random.of({1, 1, 1, 20}));
  return x;
}

template <class Run>
void norm_case(Case& c, Run run) {
  const int tokens = c.random.in(1, 4), hidden = awkward_k(c.random);
  const float epsilon = 1e-6f;
  const std::vector<float> x = activations(c.random, size_t(tokens) * hidden), weight = c.random.floats(hidden, 2.0f);
  std::vector<double> inverse(tokens);
  for (int t = 0; t < tokens; t++) {
    double sum = 0;
    for (int k = 0; k < hidden; k++) sum += double(x[size_t(t) * hidden + k]) * x[size_t(t) * hidden + k];
    inverse[t] = 1 / std::sqrt(sum / hidden + double(epsilon));
  }
  const Rows rows{tokens, hidden,
                  [&](int t, int k) { return double(x[size_t(t) * hidden + k]) * inverse[t] * weight[k]; }, 2e-6};
  run(rows, x.data(), weight.data(), epsilon, hidden);
}
void test_norm_f32(Case& c) {
  norm_case(c, [&](const Rows& rows, auto... inputs) {
    std::vector<float> y(size_t(rows.tokens) * rows.k), again(y);
    c.launch(shim_entry_norm_f32, dim3(rows.tokens), dim3(256), 0, y.data(), inputs...);
    c.launch(shim_entry_norm_f32, dim3(rows.tokens), dim3(256), 0, again.data(), inputs...);
    for (size_t i = 0; i < y.size(); i++) {
      const double want = rows.exact(int(i / rows.k), int(i % rows.k));
      c.report.near(y[i], want, std::fabs(want) * rows.relative, "y", i);
    }
    c.report.same(y, again, "another schedule");
  });
}
void test_norm_q8(Case& c) {
  norm_case(c, [&](const Rows& rows, auto... inputs) { test_q8(c, shim_entry_norm_q8, rows, inputs...); });
}
template <class T, Entry ENTRY>
void test_norm_16(Case& c) {
  norm_case(c, [&](const Rows& rows, auto... inputs) { test_16<T>(c, ENTRY, rows, inputs...); });
}

template <class Run>
void round_case(Case& c, Run run) {
  const int tokens = c.random.in(1, 4), k = awkward_k(c.random);
  const std::vector<float> x = activations(c.random, size_t(tokens) * k);
  run(Rows{tokens, k, [&](int t, int i) { return double(x[size_t(t) * k + i]); }, 0}, x.data(), k);
}
void test_round_q8(Case& c) {
  round_case(c, [&](const Rows& rows, auto... inputs) { test_q8(c, shim_entry_round_q8, rows, inputs...); });
}
template <class T, Entry ENTRY>
void test_round_16(Case& c) {
  round_case(c, [&](const Rows& rows, auto... inputs) { test_16<T>(c, ENTRY, rows, inputs...); });
}

template <class Run>
void silu_case(Case& c, Run run) {
  const int tokens = c.random.in(1, 4), m = awkward_k(c.random);
  const std::vector<float> x = activations(c.random, size_t(tokens) * 2 * m);
  const auto exact = [&](int t, int i) {
    const double gate = x[size_t(t) * 2 * m + i], up = x[(size_t(t) * 2 + 1) * m + i];
    return gate / (1 + std::exp(-gate)) * up;
  };
  run(Rows{tokens, m, exact, 1e-6}, x.data(), m);
}
void test_silu_q8(Case& c) {
  silu_case(c, [&](const Rows& rows, auto... inputs) { test_q8(c, shim_entry_silu_q8, rows, inputs...); });
}
template <class T, Entry ENTRY>
void test_silu_16(Case& c) {
  silu_case(c, [&](const Rows& rows, auto... inputs) { test_16<T>(c, ENTRY, rows, inputs...); });
}

}  // namespace

std::vector<Test> row_tests() {
  return {{"embed_bf16", test_embed16<bf16, shim_entry_embed_bf16>},
          {"embed_bf16", test_embed_far},
          {"embed_f16", test_embed16<f16, shim_entry_embed_f16>},
          {"embed_q4", test_embed_tiles<true, shim_entry_embed_q4>},
          {"embed_q8", test_embed_tiles<false, shim_entry_embed_q8>},
          {"gather_rows", test_gather},
          {"take_drawn", test_take_drawn},
          {"norm_q8", test_norm_q8},
          {"norm_bf16", test_norm_16<bf16, shim_entry_norm_bf16>},
          {"norm_f16", test_norm_16<f16, shim_entry_norm_f16>},
          {"norm_f32", test_norm_f32},
          {"round_q8", test_round_q8},
          {"round_bf16", test_round_16<bf16, shim_entry_round_bf16>},
          {"round_f16", test_round_16<f16, shim_entry_round_f16>},
          {"silu_q8", test_silu_q8},
          {"silu_bf16", test_silu_16<bf16, shim_entry_silu_bf16>},
          {"silu_f16", test_silu_16<f16, shim_entry_silu_f16>}};
}
