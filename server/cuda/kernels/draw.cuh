// Parts of the draw (sample.cu): weights and their sums, candidates and the walk through them. Words, constants and
// orders as in quarry_core::sampler, so that every bit is the same; integers alone are added in any order.
#pragma once
#include "device.cuh"

namespace draw {

constexpr int THREADS = 1024;
constexpr int WEIGHTS = 256;           // of a chunk
constexpr int LANES = 16;              // sums in float within a chunk
constexpr int CHUNKS_MAX = 1024;       // so that the vocabulary has 262,144 tokens at most
constexpr int CANDIDATES_MAX = 4096;
constexpr int PIECE = 256;             // chunks whose lanes are in shared memory at once
constexpr int LANES_PITCH = LANES + 1;
constexpr int POWERS = 128, COPIES = 8;  // the nucleus' histogram: by power of two, in copies that meet less often
constexpr int BUCKETS = 2048;            // the histogram of top-k: by (largest - logit) / temperature
constexpr float BUCKETS_PER_UNIT = BUCKETS / 88.0f;
constexpr float LOWEST = -87.0f;         // e^x is 0 below
constexpr int NO_TOKEN = 0x7fffffff;
constexpr u32 HOST_DRAWS = 0xffffffffu;

enum Flags : u32 { ON_DEVICE = 1, MASKED = 2, LOGPROB = 4 };
enum Kind : u32 { ADD = 0, SCALE = 1, SUBTRACT = 2, FORBID = 3 };

/// What a row's draw depends on (48 bytes; draw.rs writes it).
struct Row {
  double uniform;
  u32 flags;
  float temperature, top_p, min_p;
  int top_k;                   // at most the vocabulary
  u32 changes;                 // where the row's begin
  int changes_count;
  u32 mask;                    // where its words begin
  int mask_words, unused;
};
/// A change of a token's logit. `raw` is for the kernel.
struct Change {
  u32 token, kind;
  float value, raw;
};
/// What the host makes a log-probability of.
struct Logprob {
  float raw, max;
  double sum;
};
struct Best {
  float value;
  int token;
};
/// What one thread tells the others.
struct Scalars {
  double left;
  int chunk, limit;
  float floor;
  u32 count, token;
};

/// The block's shared memory. The pool holds the lanes of chunks and a histogram, then the candidates.
struct Shared {
  u64* pool;
  double* sums;
  Best* warps;
  Scalars* scalars;

  __device__ __forceinline__ float* lanes() const { return reinterpret_cast<float*>(pool); }
  __device__ __forceinline__ u32* histogram() const {
    return reinterpret_cast<u32*>(pool) + PIECE * LANES_PITCH;
  }
};
static_assert(PIECE * LANES_PITCH + 2 * POWERS * COPIES <= 2 * CANDIDATES_MAX, "the pool holds lanes and powers");
static_assert(BUCKETS <= 2 * CANDIDATES_MAX - PIECE * LANES_PITCH, "the pool holds the buckets");

__device__ __forceinline__ int chunks_of(int vocab) { return (vocab + WEIGHTS - 1) / WEIGHTS; }

/// What a logit counts as: NaN as minus infinity, plus infinity as the largest number.
__device__ __forceinline__ float finite(float logit) {
  const float most = __uint_as_float(0x7f7fffffu);
  const float low = logit > NEGATIVE_INFINITY ? logit : NEGATIVE_INFINITY;
  return low < most ? low : most;
}

/// e^x for x <= 0: the sampler's own.
__device__ __forceinline__ float exponential(float x) {
  constexpr float ROUND = 12582912.0f;
  const float clamped = x > LOWEST ? x : LOWEST;
  const float rounded = __fadd_rn(__fmul_rn(clamped, 1.44269504f), ROUND);
  const float whole = __fadd_rn(rounded, -ROUND);
  const float rest =
      __fadd_rn(__fadd_rn(clamped, -__fmul_rn(whole, 0.6933594f)), -__fmul_rn(whole, -2.1219444e-4f));
  float series = 1.9875691e-4f;
  series = __fadd_rn(__fmul_rn(series, rest), 1.3981999e-3f);
  series = __fadd_rn(__fmul_rn(series, rest), 8.333452e-3f);
  series = __fadd_rn(__fmul_rn(series, rest), 4.1665796e-2f);
  series = __fadd_rn(__fmul_rn(series, rest), 1.6666665e-1f);
  series = __fadd_rn(__fmul_rn(series, rest), 5e-1f);
  const float fraction = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(series, rest), rest), rest), 1.0f);
  const u32 exponent = __float_as_uint(rounded) - __float_as_uint(ROUND) + 127;
  const float value = __fmul_rn(fraction, __uint_as_float(exponent << 23));
  return x >= LOWEST ? value : 0.0f;
}

/// The row as weights.
struct Weights {
  const float* logits;
  const u32* mask;
  int mask_words;
  bool is_masked;
  float max, temperature, min_p;

  __device__ __forceinline__ bool allows(int token) const {
    if (!is_masked) return true;
    const int word = token / 32;
    return word < mask_words && (mask[word] >> (token % 32) & 1) != 0;
  }
  /// How far a logit lies below the largest, in units of the temperature: at most 0, or NaN.
  __device__ __forceinline__ float below(float logit) const {
    return __fdiv_rn(__fadd_rn(max < logit ? max : logit, -max), temperature);
  }
  __device__ __forceinline__ float of(int token) const {
    if (!allows(token)) return 0.0f;
    const float weight = exponential(below(logits[token]));
    return weight < min_p ? 0.0f : weight;
  }
};

__device__ __forceinline__ Best better(Best a, Best b) {
  return b.value > a.value || (b.value == a.value && b.token < a.token) ? b : a;
}

__device__ __forceinline__ Best best_of_block(const Shared& shared, Best best) {
#pragma unroll
  for (int flip = 16; flip; flip /= 2) {
    const Best other{__shfl_xor_sync(ALL_LANES, best.value, flip), __shfl_xor_sync(ALL_LANES, best.token, flip)};
    best = better(best, other);
  }
  if (threadIdx.x % 32 == 0) shared.warps[threadIdx.x / 32] = best;
  __syncthreads();
  best = shared.warps[0];
  for (int w = 1; w < THREADS / 32; w++) best = better(best, shared.warps[w]);
  __syncthreads();
  return best;
}

/// Numbers from 0 on, in order.
__device__ __forceinline__ double in_order(const double* numbers, int count) {
  double sum = 0.0;
  for (int i = 0; i < count; i++) sum = __dadd_rn(sum, numbers[i]);
  return sum;
}

/// Adds a weight to the histogram of powers of two: its 24 bits in two halves, whose sums stay below 2^32.
__device__ __forceinline__ void count_power(u32* histogram, float weight) {
  const u32 bits = __float_as_uint(weight), bits_24 = (bits & 0x7fffffu) | 0x800000u;
  u32* to = histogram + ((bits >> 23) % POWERS * COPIES + threadIdx.x % COPIES) * 2;
  atomicAdd(to, bits_24 & 0xfffu);
  atomicAdd(to + 1, bits_24 >> 12);
}

/// The sums of all chunks of weights, and with BY_POWER their histogram, which is zero before.
template <bool BY_POWER>
__device__ __forceinline__ void chunk_sums(const Shared& shared, const Weights& row, int vocab) {
  const int chunks = chunks_of(vocab), lane = threadIdx.x % LANES;
  float* lanes = shared.lanes();
  for (int first = 0; first < chunks; first += PIECE) {
    const int here = min(PIECE, chunks - first);
    for (int chunk = threadIdx.x / LANES; chunk < here; chunk += THREADS / LANES) {
      const int begin = (first + chunk) * WEIGHTS + lane;
      float sum = 0.0f;
#pragma unroll 4
      for (int part = 0; part < WEIGHTS / LANES; part++) {
        const int token = begin + part * LANES;
        if (token >= vocab) break;
        const float weight = row.of(token);
        sum = __fadd_rn(sum, weight);
        if (BY_POWER && weight > 0.0f) count_power(shared.histogram(), weight);
      }
      lanes[chunk * LANES_PITCH + lane] = sum;
    }
#if !defined(INJECT_NO_BARRIER)
    __syncthreads();
#endif
    for (int chunk = threadIdx.x; chunk < here; chunk += THREADS) {
      double sum = 0.0;
      for (int l = 0; l < LANES; l++) sum = __dadd_rn(sum, lanes[chunk * LANES_PITCH + l]);
      shared.sums[first + chunk] = sum;
    }
    __syncthreads();
  }
}

/// A token of all that have a weight, by their sum in order of tokens.
__device__ __forceinline__ u32 draw_of_all(const Shared& shared, const Weights& row, int vocab, double uniform) {
  chunk_sums<false>(shared, row, vocab);
  if (threadIdx.x == 0) {
    const int chunks = chunks_of(vocab);
    double left = __dmul_rn(uniform, in_order(shared.sums, chunks));
    int last = 0;
    for (int c = 0; c < chunks; c++) {
      const double sum = shared.sums[c];
      if (sum > 0.0) last = c;
      if (left < sum) break;
      left = __dadd_rn(left, -sum);
    }
    shared.scalars->chunk = last;
    shared.scalars->left = left;
  }
  __syncthreads();
  const int first = shared.scalars->chunk * WEIGHTS, count = min(WEIGHTS, vocab - first);
  float* weights = shared.lanes();
  for (int i = threadIdx.x; i < count; i += THREADS) weights[i] = row.of(first + i);
  __syncthreads();
  if (threadIdx.x != 0) return 0;
  double left = shared.scalars->left;
  int likely = 0;  // rounding may leave a sliver past the end: the last possible token has it
  for (int i = 0; i < count; i++) {
    left = __dadd_rn(left, -static_cast<double>(weights[i]));
    if (left < 0.0) return first + i;
    if (weights[i] > 0.0f) likely = i;
  }
  return first + likely;
}

/// The bucket of a distance of at least LOWEST: smaller logits never lie in a lower one.
__device__ __forceinline__ int bucket(float below) { return static_cast<int>(__fmul_rn(-below, BUCKETS_PER_UNIT)); }

/// Says up to which bucket (`limit`) the tokens reach of which the `top_k` most likely are some.
__device__ __forceinline__ void bound_by_count(const Shared& shared, const Weights& row, int vocab, int top_k) {
  u32* counts = shared.histogram();
  for (int i = threadIdx.x; i < BUCKETS; i += THREADS) counts[i] = 0;
  __syncthreads();
  for (int t = threadIdx.x; t < vocab; t += THREADS) {
    const float below = row.below(row.logits[t]);
    if (below >= LOWEST && row.allows(t)) atomicAdd(counts + bucket(below), 1u);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int b = 0, seen = counts[0];
    while (seen < top_k && b < BUCKETS - 1) seen += counts[++b];
    shared.scalars->limit = b;
  }
}

/// Says below which weight (`floor`) nothing is in the nucleus. Sums of one power are exact, so in any order.
__device__ __forceinline__ void bound_by_weight(const Shared& shared, float top_p) {
  u32* histogram = shared.histogram();
  double* powers = reinterpret_cast<double*>(shared.lanes());
  for (int p = threadIdx.x; p < POWERS; p += THREADS) {
    u64 low = 0, high = 0;
    for (int c = 0; c < COPIES; c++) {
      low += histogram[(p * COPIES + c) * 2];
      high += histogram[(p * COPIES + c) * 2 + 1];
    }
    const double unit = __longlong_as_double(static_cast<long long>(p - 127 - 23 + 1023) << 52);
    powers[p] = __dmul_rn(static_cast<double>((high << 12) + low), unit);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double left = __dmul_rn(static_cast<double>(top_p), in_order(powers, POWERS));
    int reached = POWERS - 1;
    for (; reached > 0; reached--) {
      left = __dadd_rn(left, -powers[reached]);
      if (left <= 0.0) break;
    }
    shared.scalars->floor = __uint_as_float(static_cast<u32>(max(reached - 1, 0)) << 23);
  }
}

/// Sorts so that the least comes first; `count` is a power of two. Bitonic, after Batcher 1968.
__device__ __forceinline__ void sort(u64* keys, int count) {
  for (int size = 2; size <= count; size *= 2) {
    for (int stride = size / 2; stride > 0; stride /= 2) {
      for (int i = threadIdx.x; i < count / 2; i += THREADS) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const u64 a = keys[low], b = keys[high];
        if ((a > b) == ((low & size) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

/// Numbers as integers of the same order, turned round: the largest is the least. -0 is less than 0.
__device__ __forceinline__ u32 descending(float value) {
  const u32 bits = __float_as_uint(value);
  return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}
__device__ __forceinline__ float ascending(u32 key) {
  return __uint_as_float(key & 0x80000000u ? key : ~key & 0x7fffffffu);
}

/// The weight of a candidate, after sorting.
__device__ __forceinline__ double weight_of(u64 candidate) { return __uint_as_float(static_cast<u32>(candidate >> 32)); }

__device__ __forceinline__ double sum_of(const u64* candidates, int count) {
  double sum = 0.0;
  for (int i = 0; i < count; i++) sum = __dadd_rn(sum, weight_of(candidates[i]));
  return sum;
}

/// Cuts the candidates, most likely first, and draws of those that are left. `total` is the sum of all weights.
__device__ __forceinline__ u32 draw_in_order(const u64* candidates, int count, double total, const Row& row) {
  if (row.top_k > 0) {
    count = min(count, row.top_k);
    total = sum_of(candidates, count);
  }
  if (row.top_p < 1.0f) {
    const double target = __dmul_rn(static_cast<double>(row.top_p), total);
    double kept = 0.0;
    for (int i = 0; i < count; i++) {
      kept = __dadd_rn(kept, weight_of(candidates[i]));
      if (kept >= target) count = i + 1;
    }
  }
  for (int i = 0; i < count; i++) {
    if (weight_of(candidates[i]) < row.min_p) count = max(i, 1);
  }
  double left = __dmul_rn(row.uniform, sum_of(candidates, count));
  for (int i = 0; i < count; i++) {
    left = __dadd_rn(left, -weight_of(candidates[i]));
    if (left < 0.0) return static_cast<u32>(candidates[i]);
  }
  return static_cast<u32>(candidates[count - 1]);
}

/// A token of those that top-k, top-p and min-p leave; HOST_DRAWS in every thread where too many might be among them.
__device__ __forceinline__ u32 draw_of_likely(const Shared& shared, const Weights& row, int vocab, const Row& how) {
  double total = 0.0;
  if (threadIdx.x == 0) {
    shared.scalars->count = 0;
    shared.scalars->limit = BUCKETS;
    shared.scalars->floor = 0.0f;
  }
  if (how.top_k > 0) {
    __syncthreads();
    bound_by_count(shared, row, vocab, how.top_k);
  } else {
    for (int i = threadIdx.x; i < 2 * POWERS * COPIES; i += THREADS) shared.histogram()[i] = 0;
    __syncthreads();
    chunk_sums<true>(shared, row, vocab);
    if (threadIdx.x == 0) total = in_order(shared.sums, chunks_of(vocab));
    bound_by_weight(shared, how.top_p);
  }
  __syncthreads();
  const int limit = shared.scalars->limit;
  const float floor = shared.scalars->floor;
  u64* candidates = shared.pool;
  for (int t = threadIdx.x; t < vocab; t += THREADS) {
    const float logit = row.logits[t], below = row.below(logit);
    if (!(below >= LOWEST) || bucket(below) > limit || !row.allows(t) || exponential(below) < floor) continue;
    const u32 place = atomicAdd(&shared.scalars->count, 1u);
    if (place >= CANDIDATES_MAX) continue;
    candidates[place] = static_cast<u64>(descending(finite(logit))) << 32 | static_cast<u32>(t);
  }
  __syncthreads();
  const int count = shared.scalars->count;
  if (count > CANDIDATES_MAX) return HOST_DRAWS;
  int sorted = 2;
  while (sorted < count) sorted *= 2;
  for (int i = count + threadIdx.x; i < sorted; i += THREADS) candidates[i] = ~0ull;
  __syncthreads();
  sort(candidates, sorted);
  for (int i = threadIdx.x; i < count; i += THREADS) {
    const float weight = exponential(row.below(ascending(static_cast<u32>(candidates[i] >> 32))));
    candidates[i] = static_cast<u64>(__float_as_uint(weight)) << 32 | static_cast<u32>(candidates[i]);
  }
  __syncthreads();
  return threadIdx.x == 0 ? draw_in_order(candidates, count, total, how) : 0;
}

}  // namespace draw
