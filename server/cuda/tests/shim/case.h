// What every test of a kernel needs: random shapes, launches through the entries that a driver would use, comparisons.
//
// Buffers are vectors of exactly the needed size, so that the address sanitizer sees a read past the end. Every random
// number comes from the case's seed, which a failure prints.
#pragma once
#include <vector_types.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

/// A kernel as the shim exports it.
using Entry = void (*)(void** args, dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed);
#define KERNEL(name) extern "C" void shim_entry_##name(void**, dim3, dim3, size_t, uint64_t)

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 + 1) {}
  uint64_t next() {  // splitmix64
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
  }
  /// low..=high
  int in(int low, int high) { return low + int(next() % uint64_t(high - low + 1)); }
  int of(std::initializer_list<int> choices) { return choices.begin()[next() % choices.size()]; }
  /// Between -1 and 1.
  float unit() { return float(int64_t(next()) >> 40) / float(1 << 23); }
  std::vector<float> floats(size_t count, float scale) {
    std::vector<float> all(count);
    for (float& v : all) v = unit() * scale;
    return all;
  }

 private:
  uint64_t state_;
};

/// The results of one kernel over all cases.
struct Report {
  const char* kernel;
  int cases = 0, failures = 0;
  double worst = 0;  // largest error, in parts of the allowed one

  void fail(const std::string& what) {
    if (failures++ < 3) std::printf("  %s: %s\n", kernel, what.c_str());
  }
  void near(double got, double want, double allowed, const char* what, size_t at) {
    const double error = std::fabs(got - want);
    if (error <= allowed) {  // false for NaN
      if (allowed > 0) worst = std::fmax(worst, error / allowed);
      return;
    }
    char text[200];
    std::snprintf(text, sizeof text, "%s[%zu] is %.9g, not %.9g (allowed error %.3g)", what, at, got, want, allowed);
    fail(text);
  }
  template <class T>
  void same(const std::vector<T>& a, const std::vector<T>& b, const char* what) {
    same(a.data(), b.data(), a.size() == b.size() ? a.size() : 0, what);
    if (a.size() != b.size()) fail(std::string(what) + ": sizes differ");
  }
  template <class T>
  void same(const T* a, const T* b, size_t count, const char* what) {
    for (size_t i = 0; i < count; i++) {
      if (std::memcmp(&a[i], &b[i], sizeof(T)) == 0) continue;
      char text[200];
      std::snprintf(text, sizeof text, "%s: bits differ first at %zu of %zu", what, i, count);
      return fail(text);
    }
  }
};

/// A case of a kernel: its seed, where schedules come from.
struct Case {
  Random& random;
  Report& report;

  /// Launches with arguments of exactly the kernel's types.
  template <class... A>
  void launch(Entry entry, dim3 grid, dim3 block, size_t shared_bytes, A... args) {
    void* list[] = {&args...};
    entry(list, grid, block, shared_bytes, random.next());
  }
};

/// A kernel's test: makes one random case and checks it.
struct Test {
  const char* kernel;
  void (*run)(Case&);
};
std::vector<Test> row_tests();
std::vector<Test> product_tests();
std::vector<Test> attention_tests();
std::vector<Test> draw_tests();
std::vector<Test> probe_tests();

inline int padded(int k) { return (k + 63) / 64 * 64; }
/// A K that is a multiple of nothing in particular, now and then of everything.
inline int awkward_k(Random& random) {
  return random.of(
      {random.in(1, 70), random.in(1, 700), 64 * random.in(1, 12), 256 * random.in(1, 4), 32 * random.in(1, 30)});
}
