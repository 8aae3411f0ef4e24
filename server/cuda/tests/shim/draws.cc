// The draw: what it gives is compared with the sampler in tests/sampling.rs. Here greedy draws are compared with a plain
// search, and any draw with itself under another order of threads, beside changes, masks and sanitizers.
#include "case.h"

KERNEL(sample);

namespace {

// As in kernels/draw.cuh.
struct Row {
  double uniform;
  uint32_t flags;
  float temperature, top_p, min_p;
  int32_t top_k;
  uint32_t changes;
  int32_t changes_count;
  uint32_t mask;
  int32_t mask_words, unused;
};
struct Change {
  uint32_t token, kind;
  float value, raw;
};
struct Logprob {
  float raw, max;
  double sum;
};
constexpr uint32_t ON_DEVICE = 1, MASKED = 2, LOGPROB = 4, HOST_DRAWS = 0xffffffff;

struct Drawn {
  std::vector<uint32_t> tokens;
  std::vector<Logprob> logprobs;
};

void test_sample(Case& c) {
  Random& random = c.random;
  const int vocab = random.of({random.in(1, 40), random.in(1, 700), random.in(4000, 6000)}), count = random.in(1, 3);
  const int words = (vocab + 31) / 32;
  const std::vector<float> logits = random.floats(size_t(count) * vocab, float(random.of({1, 10, 100})));
  std::vector<Row> rows;
  std::vector<Change> changes;
  std::vector<uint32_t> masks;
  for (int r = 0; r < count; r++) {
    Row row{double(random.next() >> 11) / double(1ull << 53), ON_DEVICE | uint32_t(random.of({0, LOGPROB})), 0.0f, 1.0f,
            0.0f, 0, uint32_t(changes.size()), 0, uint32_t(masks.size()), 0, 0};
    row.temperature = float(random.of({0, 1, 2})) / 2;
    row.top_p = random.of({0, 1}) ? 0.9f : 1.0f;
    row.min_p = random.of({0, 1}) ? 0.1f : 0.0f;
    row.top_k = std::min(vocab, random.of({0, 0, 5, 40}));
    for (int token = 0; token < vocab && token < 60; token += random.in(1, 9)) {
      changes.push_back({uint32_t(token), 0, random.unit(), 0.0f});
      if (random.in(0, 1)) changes.push_back({uint32_t(token), uint32_t(random.in(1, 3)), 1.25f, 0.0f});
    }
    row.changes_count = int(changes.size() - row.changes);
    if (random.in(0, 1)) {
      row.flags |= MASKED;
      row.mask_words = random.in(0, words);
      for (int w = 0; w < row.mask_words; w++) masks.push_back(uint32_t(random.next() & random.next()));
    }
    rows.push_back(row);
  }

  std::vector<float> changed;
  auto draw = [&] {
    changed = logits;
    std::vector<Change> own = changes;
    Drawn out{std::vector<uint32_t>(count), std::vector<Logprob>(count, {0.0f, 0.0f, 0.0})};
    c.launch(shim_entry_sample, dim3(count), dim3(1024), 0, out.tokens.data(), (void*)out.logprobs.data(),
             changed.data(), (const void*)rows.data(), (void*)own.data(), (const uint32_t*)masks.data(), vocab);
    return out;
  };
  const Drawn first = draw(), second = draw();
  c.report.same(first.tokens, second.tokens, "tokens");
  c.report.same(first.logprobs, second.logprobs, "logprobs");
  for (int r = 0; r < count; r++) {
    const Row& row = rows[r];
    const uint32_t token = first.tokens[r];
    auto allows = [&](int t) {
      return !(row.flags & MASKED) || (t / 32 < row.mask_words && (masks[row.mask + t / 32] >> t % 32 & 1));
    };
    int largest = -1;
    bool any = false;
    for (int t = 0; t < vocab; t++) {
      any = any || allows(t);
      const float logit = changed[size_t(r) * vocab + t];
      if (!allows(t) || std::isinf(logit)) continue;
      if (largest < 0 || logit > changed[size_t(r) * vocab + largest]) largest = t;
    }
    if (token == HOST_DRAWS) {
      c.report.same(logits.data() + size_t(r) * vocab, changed.data() + size_t(r) * vocab, vocab, "logits");
    } else if (token >= uint32_t(vocab) || (any && !allows(int(token)))) {
      c.report.fail("a token that may not be drawn");
    } else if (row.temperature == 0.0f && largest >= 0) {
      c.report.near(token, largest, 0, "token", size_t(r));
    }
  }
}

}  // namespace

std::vector<Test> draw_tests() { return {{"sample", test_sample}}; }
