// The shim itself: each kernel here makes one mistake that must be reported, or shows what a device would not promise.
//
// `shim_trap` is the fake driver's; here it notes the message and jumps out of the launch, as the driver's does. After
// each mistake a correct kernel must work: a launch leaves nothing behind.
#include "../../kernels/device.cuh"
#include <csetjmp>
#include <cstdio>
#include <set>
#include <string>

namespace {

sigjmp_buf outside;
std::string message;

void one_thread_skips_the_barrier(float*) {
  if (threadIdx.x != 3) __syncthreads();
}
void different_barriers(float*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}
void half_a_warp_shuffles(float* out) {
  if (threadIdx.x % 32 < 16) {
    out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, 1.0f, 1);
  } else {
    __syncthreads();
  }
  __syncthreads();
}
void misaligned_copy(float* out) {
  SHARED(float, buffer, 64 + 4);
  copy_async<16>(buffer + 1, out);
  copy_commit();
  copy_wait<0>();
}
void forgotten_copy(float* out) {
  SHARED(float, buffer, 64 * 4);
  copy_async<16>(buffer + threadIdx.x * 4, out);
  copy_commit();
}
void missing_lane(float* out) { out[threadIdx.x] = __shfl_sync(ALL_LANES, 1.0f, 20); }
void half_warp_product(float* out) {
  float d[4] = {};
  const u32 a[4] = {}, b[2] = {};
  mma_16(d, a, b, bf16());
  out[0] = d[0];
}
void misaligned_matrices(float* out) {
  SHARED(float, buffer, 64 + 4);
  buffer[threadIdx.x] = 0.0f;
  __syncthreads();
  u32 rows[4];
  load_matrices<false>(rows, buffer + threadIdx.x % 32 + 1);
  out[threadIdx.x] = float(rows[0]);
}
void much_static_memory(float* out) {
  SHARED(float, buffer, 13 << 10);
  buffer[threadIdx.x] = out[threadIdx.x];
}
void different_arrays(float* out) {
  float* mine;
  if (threadIdx.x == 0) {
    SHARED(float, few, 8);
    mine = few;
  } else {
    SHARED(float, many, 16);
    mine = many;
  }
  out[threadIdx.x] = mine[0];
}

/// Reads shared memory that nobody wrote, and a copy that nobody waited for: all NaN.
void early_reader(float* out) {
  DYNAMIC_SHARED(float, dynamic);
  SHARED(float, fixed, 64 * 4);
  const float first = fixed[threadIdx.x * 4];
  copy_async<16>(fixed + threadIdx.x * 4, out + threadIdx.x / 4 * 4);
  copy_commit();
  const float early = fixed[threadIdx.x * 4];
  copy_wait<0>();
  const float late = fixed[threadIdx.x * 4];
  __syncthreads();
  out[threadIdx.x] = first != first && early != early && dynamic[threadIdx.x] != dynamic[threadIdx.x] ? late : -1.0f;
}
/// The last writer wins: which one depends on the seed.
void racing(float* out) {
  SHARED(float, winner, 1);
  winner[0] = float(threadIdx.x);
  __syncthreads();
  if (threadIdx.x == 0) out[0] = winner[0];
}
/// Sums by shuffles, and by shared memory with barriers.
void sums(float* out) {
  SHARED(float, parts, 64);
  parts[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  float total = 0.0f;
  for (int i = 0; i < 64; i++) total += parts[i];
  out[threadIdx.x] = total + warp_sum(1.0f);
}

int failures = 0;
void expect(bool as_it_should, const char* what) {
  if (as_it_should) return;
  failures++;
  std::printf("  shim: %s\n", what);
}

/// False if the launch was trapped; `message` then says why.
bool launched(void (*kernel)(float*), float* out, unsigned threads, uint64_t seed, size_t shared_bytes = 0) {
  void* args[] = {&out};
  message.clear();
  if (sigsetjmp(outside, 0)) return false;
  shim::launch_kernel(kernel, args, dim3(2), dim3(threads), shared_bytes, seed);
  return true;
}

struct Trap {
  void (*kernel)(float*);
  unsigned threads;
  const char* says;
};
const Trap TRAPS[] = {
    {one_thread_skips_the_barrier, 64, "barrier|returned"},
    {different_barriers, 64, "different barriers"},
    {half_a_warp_shuffles, 64, "barrier"},
    {misaligned_copy, 64, "multiple of the size"},
    {forgotten_copy, 64, "under way"},
    {missing_lane, 16, "does not exist"},
    {half_warp_product, 16, "fewer than 32"},
    {misaligned_matrices, 64, "multiple of 16"},
    {much_static_memory, 64, "48 KiB"},
    {different_arrays, 64, "different shared arrays"},
};

bool says(const std::string& wanted) {
  const size_t bar = wanted.find('|');
  const auto has = [](const std::string& part) { return message.find(part) != std::string::npos; };
  return bar == std::string::npos ? has(wanted) : has(wanted.substr(0, bar)) || has(wanted.substr(bar + 1));
}

}  // namespace

extern "C" void shim_trap(const char* text) {
  message = text;
  siglongjmp(outside, 1);
}

int main() {
  alignas(16) static float out[64];
  for (uint64_t seed = 0; seed < 24; seed++) {
    for (const Trap& trap : TRAPS) {
      expect(!launched(trap.kernel, out, trap.threads, seed), (std::string("not found: ") + trap.says).c_str());
      expect(says(trap.says), ("another message: " + message).c_str());
      expect(launched(sums, out, 64, seed), ("after a trap: " + message).c_str());
      for (float sum : out) expect(sum == 2016.0f + 32.0f, "a wrong sum after a trap");
    }
    expect(!launched(sums, out, 64, seed, 100 << 10), "too much dynamic memory is not found");
    expect(!launched(sums, out, 1025, seed), "too many threads are not found");
    for (float& value : out) value = 5.0f;
    expect(launched(early_reader, out, 64, seed, 64 * sizeof(float)), message.c_str());
    for (float value : out) expect(value == 5.0f, "memory that nobody wrote, or a copy under way, is not NaN");
  }
  std::set<float> winners;
  for (uint64_t seed = 0; seed < 24; seed++) {
    expect(launched(racing, out, 64, seed), message.c_str());
    winners.insert(out[0]);
  }
  expect(winners.size() > 4, "the seed does not change the order of threads");
  std::printf("%-12s %s  %zu mistakes\n", "shim", failures ? "FAILED" : "ok", sizeof TRAPS / sizeof TRAPS[0]);
  return failures != 0;
}
