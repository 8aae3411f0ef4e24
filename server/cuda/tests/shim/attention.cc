// rope_store, attend, attend_merge and attend_prefill: against double precision, over a cache whose blocks lie in a random
// order.
//
// Places of the cache that nobody wrote hold NaN, or scales that are NaN: who reads them spoils the result. The reference
// reads what an int8 cache holds, so that its bounds are as tight as those of bf16.
#include "formats.h"
#include <algorithm>
#include <numeric>

KERNEL(rope_store);
KERNEL(rope_store_i8);
KERNEL(attend);
KERNEL(attend_i8);
KERNEL(attend_merge);
KERNEL(attend_prefill);
KERNEL(attend_prefill_i8);

namespace {

using bf16 = __nv_bfloat16;

enum Kind { BF16, INT8 };

/// A cache with blocks for `rows` sequences of up to `length` positions.
struct Cache {
  Kind kind;
  int layers, kv_heads, dim, block_tokens, blocks_a_row;
  std::vector<uint64_t> tables;  // [row][block]: offsets in the arena
  std::vector<uint8_t> arena;

  Cache(Random& random, Kind kind_, int rows, int length, int kv_heads_, int dim_)
      : kind(kind_), layers(random.in(1, 3)), kv_heads(kv_heads_), dim(dim_), block_tokens(random.of({16, 32})) {
    blocks_a_row = (length + block_tokens - 1) / block_tokens;
    tables.resize(size_t(rows) * blocks_a_row);
    arena.assign(tables.size() * block_bytes(), 0xFF);
    std::iota(tables.begin(), tables.end(), 0);
    for (size_t i = tables.size(); i > 1; i--) std::swap(tables[i - 1], tables[random.next() % i]);
    for (uint64_t& offset : tables) offset *= block_bytes();
  }
  /// int8: a row is padded to 16, 16 rows are followed by their scales.
  size_t row_bytes() const { return kind == BF16 ? size_t(dim) * 2 : size_t(dim + 15) / 16 * 16; }
  size_t position_bytes() const { return row_bytes() + (kind == INT8 ? 4 : 0); }
  size_t block_bytes() const { return size_t(layers) * 2 * kv_heads * block_tokens * position_bytes(); }
  uint64_t block(int row, int position) const { return tables[size_t(row) * blocks_a_row + position / block_tokens]; }
  /// Where 16 keys (which = 0) or values (1) begin, and one of them.
  size_t step_at(int row, int layer, int which, int head, int position) const {
    const size_t first = ((size_t(layer) * 2 + which) * kv_heads + head) * block_tokens;
    return block(row, position) + (first + position % block_tokens / 16 * 16) * position_bytes();
  }
  size_t at(int row, int layer, int which, int head, int position) const {
    return step_at(row, layer, which, head, position) + position % 16 * row_bytes();
  }
  size_t scale_at(int row, int layer, int which, int head, int position) const {
    return step_at(row, layer, which, head, position) + 16 * row_bytes() + position % 16 * 4;
  }
  /// The numbers of a key or value.
  std::vector<double> values(int row, int layer, int which, int head, int position) const {
    const size_t begin = at(row, layer, which, head, position);
    std::vector<double> all(dim);
    float scale = 1;
    if (kind == INT8) std::memcpy(&scale, &arena[scale_at(row, layer, which, head, position)], 4);
    for (int i = 0; i < dim; i++) {
      uint16_t bits;
      if (kind == BF16) std::memcpy(&bits, &arena[begin + size_t(i) * 2], 2);
      all[i] = kind == BF16 ? value16<bf16>(bits) : double(scale) * int8_t(arena[begin + i]);
    }
    return all;
  }
  /// Random numbers below 1.
  void fill(Random& random, int row, int layer, int which, int head, int position) {
    const size_t begin = at(row, layer, which, head, position);
    for (int i = 0; i < dim; i++) {
      const uint16_t bits = round16<bf16>(random.unit());
      if (kind == BF16) {
        std::memcpy(&arena[begin + size_t(i) * 2], &bits, 2);
      } else {
        arena[begin + i] = uint8_t(int8_t(random.in(-127, 127)));
      }
    }
    const float scale = random.in(0, 15) ? std::fabs(random.unit()) / 127 : 0.0f;
    if (kind == INT8) std::memcpy(&arena[scale_at(row, layer, which, head, position)], &scale, 4);
  }
};

int random_dim(Random& random) {
  return random.of({16, 32, 64, 128, 64, 128, 2 * random.in(1, 128), 8 * random.in(1, 32)});
}

/// Tokens of several sequences: which row, which position.
struct Tokens {
  std::vector<int> row;
  std::vector<uint32_t> position;
};

struct Attention {
  int heads, layer, tokens;
  Cache cache;
  Tokens all;
  std::vector<float> q;
  std::vector<uint32_t> begin;

  Attention(Random& random, Kind kind, int rows, int length, int group, int kv_heads, int dim)
      : heads(group * kv_heads), layer(0), tokens(random.in(1, 5)), cache(random, kind, rows, length, kv_heads, dim) {
    layer = random.in(0, cache.layers - 1);
    std::vector<int> longest(rows, -1);
    for (int t = 0; t < tokens; t++) {
      all.row.push_back(random.in(0, rows - 1));
      all.position.push_back(uint32_t(random.in(0, 3) ? random.in(0, length - 1) : length - 1));
      begin.push_back(uint32_t(all.row[t] * cache.blocks_a_row));
      longest[all.row[t]] = std::max(longest[all.row[t]], int(all.position[t]));
    }
    for (int r = 0; r < rows; r++) {
      for (int p = 0; p <= longest[r]; p++) write(random, r, p);
    }
    q = random.floats(size_t(tokens) * heads * dim, 2.0f);
  }
  void write(Random& random, int row, int position) {
    for (int which = 0; which < 2; which++) {
      for (int head = 0; head < cache.kv_heads; head++) cache.fill(random, row, layer, which, head, position);
    }
  }
  /// Tokens in the place of those there are: `count` of one row at consecutive positions, up to `last`.
  void make_run(Random& random, int count, int last) {
    const int row = all.row[0];
    for (int p = 0; p <= last; p++) write(random, row, p);
    tokens = count;
    all.row.assign(count, row);
    begin.assign(count, uint32_t(row * cache.blocks_a_row));
    all.position.resize(count);
    for (int t = 0; t < count; t++) all.position[t] = uint32_t(last - (count - 1) + t);
    q = random.floats(size_t(count) * heads * cache.dim, 2.0f);
  }
  int splits_needed() const { return int(*std::max_element(all.position.begin(), all.position.end())) / 256 + 1; }

  /// Tokens first..first + count.
  std::vector<float> run(Case& c, int first, int count, int splits, std::vector<float>* partial_out = nullptr) const {
    const int dim = cache.dim;
    std::vector<float> partial(size_t(count) * heads * splits * (2 + dim), NAN), out(size_t(count) * heads * dim, NAN);
    c.launch(cache.kind == INT8 ? shim_entry_attend_i8 : shim_entry_attend, dim3(splits, cache.kv_heads, count), dim3(128), 0, partial.data(),
             q.data() + size_t(first) * heads * dim, (const void*)cache.arena.data(), cache.tables.data(),
             begin.data() + first, all.position.data() + first, layer, heads, cache.kv_heads, dim, cache.block_tokens,
             splits);
    const int block = std::min(256, (dim + 31) / 32 * 32);
    c.launch(shim_entry_attend_merge, dim3(heads, count), dim3(block), 0, out.data(), (const float*)partial.data(),
             heads, dim, splits);
    if (partial_out) *partial_out = partial;
    return out;
  }

  /// Tokens first..first + count of a run, in tiles of `tile` tokens.
  std::vector<float> prefill(Case& c, int first, int count, int tile) const {
    const int dim = cache.dim;
    std::vector<uint32_t> firsts, counts;
    for (int t = 0; t < count; t += tile) {
      firsts.push_back(uint32_t(t));
      counts.push_back(uint32_t(std::min(tile, count - t)));
    }
    std::vector<float> out(size_t(count) * heads * dim, NAN);
    c.launch(cache.kind == INT8 ? shim_entry_attend_prefill_i8 : shim_entry_attend_prefill,
             dim3(unsigned(firsts.size()), cache.kv_heads), dim3(dim > 128 ? 256 : 128), 0, out.data(),
             q.data() + size_t(first) * heads * dim, (const void*)cache.arena.data(), cache.tables.data(),
             begin.data() + first, all.position.data() + first, (const uint32_t*)firsts.data(),
             (const uint32_t*)counts.data(), layer, heads, cache.kv_heads, dim, cache.block_tokens);
    return out;
  }

  /// Compares with double precision, over queries that are rounded to bf16 as the kernels do.
  void check(Case& c, const std::vector<float>& out) const {
    const int dim = cache.dim, group = heads / cache.kv_heads;
    for (int t = 0; t < tokens; t++) {
      for (int h = 0; h < heads; h++) {
        const int row = all.row[t], keys = int(all.position[t]) + 1;
        const size_t head = (size_t(t) * heads + h) * dim;
        std::vector<double> query(dim), weights(keys);
        std::vector<std::vector<double>> values;
        for (int i = 0; i < dim; i++) query[i] = value16<bf16>(round16<bf16>(q[head + i]));
        for (int p = 0; p < keys; p++) {
          const std::vector<double> key = cache.values(row, layer, 0, h / group, p);
          for (int i = 0; i < dim; i++) weights[p] += query[i] * key[i];
          values.push_back(cache.values(row, layer, 1, h / group, p));
        }
        const double most = *std::max_element(weights.begin(), weights.end());
        double total = 0;
        for (double& w : weights) total += w = std::exp(w - most);
        for (int i = 0; i < dim; i++) {
          double want = 0, spread = 0;
          for (int p = 0; p < keys; p++) want += weights[p] / total * values[p][i];
          // Each weight is rounded to bf16, in the sum and in the values alike: off by 2^-8 of itself at most. Of int8 it
          // is rounded with the value's scale for one and without for the other, each off by as much. Beside that, values
          // are below 1; a score of size s is off by a few s 2^-24, and so is its weight.
          for (int p = 0; p < keys; p++) {
            const double value = values[p][i];
            spread += weights[p] / total *
                      (cache.kind == BF16 ? std::fabs(value - want) : std::fabs(value) + std::fabs(want));
          }
          c.report.near(out[head + i], want, spread / 256 * 1.01 + 2e-5, "out", head + i);
        }
      }
    }
  }
};

Attention random_attention(Random& random, Kind kind) {
  const int group = random.in(0, 15) ? random.in(1, 7) : random.in(8, 17);
  const int length = random.of({random.in(1, 40), random.in(1, 300), random.in(257, 800)});
  return Attention(random, kind, random.in(1, 3), length, group, random.in(1, 2), random_dim(random));
}

template <Kind KIND>
void test_attend(Case& c) {
  const Attention attention = random_attention(c.random, KIND);
  const std::vector<float> out = attention.run(c, 0, attention.tokens, attention.splits_needed());
  attention.check(c, out);
  const int alone = c.random.in(0, attention.tokens - 1);
  const std::vector<float> one = attention.run(c, alone, 1, attention.splits_needed());
  c.report.same(one.data(), out.data() + alone * one.size(), one.size(), "a token alone");
}

template <Kind KIND>
void test_prefill(Case& c) {
  Random& random = c.random;
  const int group = random.in(0, 15) ? random.in(1, 8) : random.in(9, 64);
  const int length = random.of({random.in(1, 40), random.in(1, 300), random.in(257, 600)});
  Attention attention(random, KIND, random.in(1, 2), length, group, random.in(1, 2), random_dim(random));
  const int most = 64 / group;
  // Now and then tiles that lie on both sides of a split's end.
  const int last = std::min(length - 1, random.of({random.in(0, length - 1), length, 256 + random.in(0, most)}));
  const int count = std::min(last + 1, random.in(1, std::min(2 * most + 1, 40)));
  attention.make_run(random, count, last);
  const std::vector<float> out = attention.prefill(c, 0, count, most);
  // The reference is slow; that one kernel is right and both give the same bits says as much.
  if (count * attention.heads <= 24) attention.check(c, out);
  const int some = std::min(count, 5), from = random.in(0, count - some);
  const size_t width = size_t(attention.heads) * attention.cache.dim;
  c.report.same(attention.run(c, from, some, attention.splits_needed()).data(), out.data() + from * width,
                some * width, "attend and attend_merge");
  c.report.same(attention.prefill(c, from, some, random.in(1, most)).data(), out.data() + from * width, some * width,
                "other tiles");
  c.report.same(attention.prefill(c, from, 1, 1).data(), out.data() + from * width, width, "alone in a tile");
}

void test_merge(Case& c) {
  const Attention attention = random_attention(c.random, BF16);
  const int splits = attention.splits_needed(), dim = attention.cache.dim, heads = attention.heads;
  std::vector<float> partial;
  const std::vector<float> out = attention.run(c, 0, attention.tokens, splits, &partial);
  for (size_t row = 0; row < size_t(attention.tokens) * heads; row++) {
    const float* parts = partial.data() + row * splits * (2 + dim);
    double most = -INFINITY;
    for (int s = 0; s < splits; s++) most = std::max(most, double(parts[s * (2 + dim)]));
    for (int i = 0; i < dim; i++) {
      double sum = 0, value = 0;
      for (int s = 0; s < splits; s++) {
        const float* part = parts + s * (2 + dim);
        const double factor = std::exp2(part[0] - most);
        sum += factor * part[1];
        value += factor * part[2 + i];
      }
      c.report.near(out[row * dim + i], value / sum, 3e-6, "out", row * dim + i);
    }
  }
  const std::vector<float> more = attention.run(c, 0, attention.tokens, splits + c.random.in(1, 3));
  c.report.same(out, more, "more splits than needed");
}

template <Kind KIND>
void test_rope(Case& c) {
  Random& random = c.random;
  const int rows = random.in(1, 3), length = random.in(1, 100);
  const int kv_heads = random.in(1, 3), heads = kv_heads * random.in(1, 4);
  const int dim = random_dim(random), neighbours = random.in(0, 1), base = random.of({0, 0, 100000});
  Cache cache(random, KIND, rows, length, kv_heads, dim);
  const int layer = random.in(0, cache.layers - 1), all_heads = heads + 2 * kv_heads;
  // Each place of the cache once: the order of writes to the same place is nobody's.
  std::vector<std::pair<int, int>> places;
  for (int r = 0; r < rows; r++) {
    for (int p = 0; p < length; p++) places.push_back({r, p});
  }
  for (size_t i = places.size(); i > 1; i--) std::swap(places[i - 1], places[random.next() % i]);
  const int tokens = std::min(random.in(1, 6), int(places.size()));
  std::vector<uint32_t> positions, slots;
  std::vector<uint64_t> offsets;
  for (int t = 0; t < tokens; t++) {
    positions.push_back(uint32_t(places[t].second + base / cache.block_tokens * cache.block_tokens));
    slots.push_back(uint32_t(places[t].second % cache.block_tokens));
    offsets.push_back(cache.block(places[t].first, places[t].second));
  }
  // One that fills a batch: it has queries and leaves the cache as it is.
  const int filler = random.in(0, 2) ? -1 : random.in(0, tokens - 1);
  if (filler >= 0) slots[filler] = 0xffffffffu;
  const std::vector<float> qkv = random.floats(size_t(tokens) * all_heads * dim, 3.0f);
  const std::vector<float> norms[2] = {random.floats(dim, 2.0f), random.floats(dim, 2.0f)};
  const bool normed[2] = {random.in(0, 1) == 1, random.in(0, 1) == 1};
  std::vector<float> frequencies(dim / 2);
  for (int i = 0; i < dim / 2; i++) frequencies[i] = float(std::pow(1e6, -2.0 * i / dim));
  const float epsilon = 1e-6f, factor = random.in(0, 1) ? 1.0f : 1.3f;
  std::vector<float> q_out(size_t(tokens) * heads * dim, NAN);
  const std::vector<uint8_t> before = cache.arena;
  c.launch(KIND == INT8 ? shim_entry_rope_store_i8 : shim_entry_rope_store, dim3(tokens, all_heads),
           dim3(KIND == INT8 ? 32 : 32 * ((dim + 63) / 64)), 0, q_out.data(), (void*)cache.arena.data(), qkv.data(), normed[0] ? norms[0].data() : (const float*)nullptr,
           normed[1] ? norms[1].data() : (const float*)nullptr, epsilon, (const float*)frequencies.data(), factor,
           neighbours, (const uint32_t*)positions.data(), (const uint64_t*)offsets.data(),
           (const uint32_t*)slots.data(), layer, heads, kv_heads, dim, cache.block_tokens);

  std::vector<uint8_t> written(cache.arena.size(), 0);
  for (int t = 0; t < tokens; t++) {
    for (int h = 0; h < all_heads; h++) {
      const int kind = h < heads ? 0 : h < heads + kv_heads ? 1 : 2;  // query, key, value
      const float* x = &qkv[(size_t(t) * all_heads + h) * dim];
      std::vector<double> want(x, x + dim);
      if (kind < 2 && normed[kind]) {
        double sum = 0;
        for (double v : want) sum += v * v;
        for (int i = 0; i < dim; i++) want[i] *= norms[kind][i] / std::sqrt(sum / dim + double(epsilon));
      }
      double largest = 0;
      for (double v : want) largest = std::max(largest, std::fabs(v));
      for (int i = 0; kind < 2 && i < dim / 2; i++) {
        const int first = neighbours ? 2 * i : i, second = neighbours ? 2 * i + 1 : i + dim / 2;
        const double angle = float(positions[t]) * frequencies[i], a = want[first], b = want[second];
        want[first] = factor * (a * std::cos(angle) - b * std::sin(angle));
        want[second] = factor * (a * std::sin(angle) + b * std::cos(angle));
      }
      if (kind == 0) {
        for (int i = 0; i < dim; i++) {
          const size_t at = (size_t(t) * heads + h) * dim + i;
          c.report.near(q_out[at], want[i] / std::sqrt(double(dim)), 4e-6 * largest / std::sqrt(double(dim)), "q", at);
        }
        continue;
      }
      if (t == filler) continue;
      const int row = places[t].first, which = kind - 1, kv_head = (h - heads) % kv_heads, place = places[t].second;
      const size_t at = cache.at(row, layer, which, kv_head, place);
      const std::vector<double> got = cache.values(row, layer, which, kv_head, place);
      std::fill_n(written.begin() + at, cache.row_bytes(), 1);
      double step = 0;
      if (KIND == INT8) {
        const size_t scale_at = cache.scale_at(row, layer, which, kv_head, place);
        std::fill_n(written.begin() + scale_at, 4, 1);
        float scale;
        std::memcpy(&scale, &cache.arena[scale_at], 4);
        for (double v : want) step = std::max(step, std::fabs(v) / 127);
        c.report.near(scale, step, 4e-6 / 127 * largest * factor, "scale", at);
        for (size_t i = dim; i < cache.row_bytes(); i++) {
          if (cache.arena[at + i] != 0) c.report.fail("padding is not 0");
        }
      }
      for (int i = 0; i < dim; i++) {
        const double rounding = KIND == INT8 ? step * 0.5 : std::fabs(want[i]) / 250;
        c.report.near(got[i], want[i], rounding + 4e-6 * largest, "cache", at + i);
      }
    }
  }
  for (size_t i = 0; i < written.size(); i++) {
    if (!written[i] && cache.arena[i] != before[i]) return c.report.fail("a place of the cache that no token owns");
  }
}

}  // namespace

std::vector<Test> attention_tests() {
  return {{"rope_store", test_rope<BF16>},         {"rope_store_i8", test_rope<INT8>},
          {"attend", test_attend<BF16>},           {"attend_i8", test_attend<INT8>},
          {"attend_merge", test_merge},            {"attend_prefill", test_prefill<BF16>},
          {"attend_prefill_i8", test_prefill<INT8>}};
}
