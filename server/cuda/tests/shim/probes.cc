// probe_s8 and probe_bf16: the sums are what the products give, so that the compiler leaves none out.
#include "formats.h"

KERNEL(probe_s8);
KERNEL(probe_bf16);

namespace {

constexpr int CHAINS = 8;

void test_s8(Case& c) {
  const int rounds = c.random.in(1, 3), blocks = c.random.in(1, 2);
  std::vector<uint32_t> out(size_t(blocks) * 256);
  c.launch(shim_entry_probe_s8, dim3(blocks), dim3(256), 0, out.data(), rounds);
  // Of row g the lane 4 g + t has bytes 4 t.. and 16 + 4 t..; of column n the lane 4 n + t.
  const auto byte = [](uint32_t word, int i) { return int(int8_t(word >> (8 * i))); };
  for (size_t thread = 0; thread < out.size(); thread++) {
    const uint32_t first = uint32_t(thread % 256 / 32 * 32), lane = uint32_t(thread % 32), g = lane / 4, t = lane % 4;
    uint32_t total = 0;
    for (int i = 0; i < 4; i++) {
      const uint32_t column = 2 * t + uint32_t(i % 2), upper = uint32_t(i / 2);
      int sum = 0;
      for (uint32_t part = 0; part < 4; part++) {
        const uint32_t a = first + 4 * g + part, b = first + 4 * column + part;
        for (int k = 0; k < 4; k++) {
          sum += byte(a + upper, k) * byte(b, k) + byte(a + 2 + upper, k) * byte(b + 1, k);
        }
      }
      total += uint32_t(sum * rounds * CHAINS);
    }
    if (out[thread] != total) return c.report.fail("a sum of int8 products");
  }
}

void test_bf16(Case& c) {
  const int rounds = c.random.in(1, 3);
  std::vector<uint32_t> out(256);
  c.launch(shim_entry_probe_bf16, dim3(1), dim3(256), 0, out.data(), rounds);
  const float want = float(16 * rounds * CHAINS * 4);
  for (const uint32_t bits : out) {
    float got;
    std::memcpy(&got, &bits, 4);
    c.report.near(got, want, 0, "sum", 0);
  }
}

}  // namespace

std::vector<Test> probe_tests() { return {{"probe_s8", test_s8}, {"probe_bf16", test_bf16}}; }
