// Runs every kernel over random cases and prints a line for each.
//
//   tests CASES [KERNEL [SEED]]     CASES of each kernel, of one kernel, or its case of one seed
#include "case.h"
#include <chrono>
#include <cstdlib>

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 20;
  const char* only = argc > 2 ? argv[2] : "";
  const bool one_seed = argc > 3;
  const uint64_t first_seed = one_seed ? std::strtoull(argv[3], nullptr, 10) : 1;
  std::vector<Test> tests;
  for (auto part : {row_tests(), product_tests(), attention_tests(), draw_tests(), probe_tests()}) {
    tests.insert(tests.end(), part.begin(), part.end());
  }

  int failed = 0, ran = 0;
  for (const Test& test : tests) {
    if (*only && std::strcmp(only, test.kernel)) continue;
    ran++;
    Report report{test.kernel};
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < (one_seed ? 1 : cases); i++) {
      const uint64_t seed = first_seed + uint64_t(i);
      const int before = report.failures;
      Random random(seed);
      Case c{random, report};
      test.run(c);
      report.cases++;
      if (report.failures > before && before == 0) {
        std::printf("  %s: the first failing seed is %llu\n", test.kernel, (unsigned long long)seed);
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%-17s %s  %d cases, worst error %.2f of the allowed, %.2f s\n", test.kernel,
                report.failures ? "FAILED" : "ok", report.cases, report.worst, seconds);
    std::fflush(stdout);
    failed += report.failures != 0;
  }
  if (ran == 0) std::printf("no kernel is called %s\n", only);
  return failed || ran == 0;
}
