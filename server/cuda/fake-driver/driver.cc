#include "driver.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fake {
namespace {

constexpr uint64_t MEMORY_BYTES_DEFAULT = 1ull << 30;
constexpr uint64_t DEVICES_MAX = 8;

// A number from the environment; false, with a line on stderr, if it is set and no such number.
bool number_from(const char* name, uint64_t most, uint64_t* value, const char** rest = nullptr) {
  const char* text = getenv(name);
  if (!text || !*text) return true;
  char* end = nullptr;
  uint64_t read = strtoull(text, &end, 10);
  if (end == text || (*end && !rest) || read > most) {
    fprintf(stderr, "fake CUDA: %s=%s is not a number up to %llu\n", name, text, static_cast<unsigned long long>(most));
    return false;
  }
  if (rest) *rest = end;
  *value = read;
  return true;
}

}  // namespace

Driver& driver() {
  static Driver* the = new Driver;  // never destroyed: threads may still call at exit
  return *the;
}

CUresult initialize() {
  Driver& self = driver();
  std::lock_guard guard(self.lock);
  if (self.initialized) return CUDA_SUCCESS;
  uint64_t devices = 1, bytes = MEMORY_BYTES_DEFAULT, seed = 1, pools = 1, major = 8, fail = 0;
  const char *minor = ".9", *sticky = "";
  if (!number_from("FAKE_CUDA_DEVICES", DEVICES_MAX, &devices) || !number_from("FAKE_CUDA_MEMORY_BYTES", 1ull << 42, &bytes) ||
      !number_from("FAKE_CUDA_SEED", UINT64_MAX, &seed) || !number_from("FAKE_CUDA_MEMORY_POOLS", 1, &pools) ||
      !number_from("FAKE_CUDA_COMPUTE", 99, &major, &minor) ||
      !number_from("FAKE_CUDA_FAIL_LAUNCH", UINT64_MAX, &fail, &sticky)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (devices == 0) return CUDA_ERROR_NO_DEVICE;
  self.devices = static_cast<int>(devices);
  if (!self.memory.set_total(bytes)) return CUDA_ERROR_OPERATING_SYSTEM;
  self.compute_major = static_cast<int>(major);
  self.compute_minor = *minor == '.' ? atoi(minor + 1) : 0;
  self.memory_pools = pools == 1;
  self.queues.seed(seed);
  self.launch_to_fail = fail;
  self.failed_launch_is_sticky = strcmp(sticky, ":sticky") == 0;
  self.initialized = true;
  return CUDA_SUCCESS;
}

std::shared_ptr<Stream> Driver::stream(CUstream handle) {
  if (!handle || handle == STREAM_LEGACY) {
    if (!legacy) {
      legacy = std::make_shared<Stream>();
      legacy->kind = Stream::Kind::legacy;
      queues.add(legacy);
    }
    return legacy;
  }
  if (handle != STREAM_PER_THREAD) return streams.find(handle);
  auto& mine = per_thread[std::this_thread::get_id()];
  if (!mine) {
    mine = std::make_shared<Stream>();
    queues.add(mine);
  }
  return mine;
}

CUresult Driver::submit(Lock& held, const std::shared_ptr<Stream>& on, Work work, Point* point) {
  if (on->capture) {
    if (on->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    auto& nodes = on->capture->graph.nodes;
    nodes.push_back({std::move(work), on->frontier});
    on->frontier = {nodes.size() - 1};
    return CUDA_SUCCESS;
  }
  if (on->kind == Stream::Kind::legacy) {
    // The default stream would have to wait for a stream whose work is only recorded.
    for (const auto& capture : captures) {
      if (capture->origin->kind == Stream::Kind::non_blocking) continue;
      capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  }
  Operation operation;
  operation.work = std::move(work);
  Point queued = queues.enqueue(held, on, std::move(operation));
  if (point) *point = queued;
  return queues.failure;
}

CUresult Driver::synchronize(Lock& held, const std::vector<Point>& points) {
  counters().synchronized();
  queues.force(held, points);
  return queues.failure;
}

CUresult Driver::refuse_during_capture() {
  for (const auto& capture : captures) {
    bool forbidden = capture->mode == CAPTURE_GLOBAL ||
                     (capture->mode == CAPTURE_THREAD_LOCAL && capture->thread == std::this_thread::get_id());
    if (!forbidden) continue;
    capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return CUDA_SUCCESS;
}

void Driver::reset(Lock& held) {
  queues.drop_all(held);
  queues.failure = CUDA_SUCCESS;
  captures.clear();
  streams.clear();
  events.clear();
  functions.clear();
  modules.clear();
  graphs.clear();
  executables.clear();
  per_thread.clear();
  legacy = nullptr;
  memory.clear();
}

}  // namespace fake

CUDA_API void fake_cuda_set_seed(uint64_t seed) {
  fake::Lock held(fake::driver().lock);
  fake::driver().queues.seed(seed);
}

CUDA_API void fake_cuda_set_memory_bytes(uint64_t bytes) { fake::driver().memory.set_total(bytes); }

CUDA_API void fake_cuda_fail_launch(uint64_t n, int sticky) {
  fake::Lock held(fake::driver().lock);
  fake::driver().launches = 0;
  fake::driver().launch_to_fail = n;
  fake::driver().failed_launch_is_sticky = sticky != 0;
}

CUDA_API void fake_cuda_forget_waits(int forget) {
  fake::Lock held(fake::driver().lock);
  fake::driver().forgets_waits = forget != 0;
}

CUDA_API void fake_cuda_last_failure(char* out, size_t bytes) {
  fake::Lock held(fake::driver().lock);
  if (out && bytes) snprintf(out, bytes, "%s", fake::driver().queues.failure_text.c_str());
}

CUDA_API void fake_cuda_on_launch(FakeCudaLaunchHook hook, void* data) {
  fake::Lock held(fake::driver().lock);
  fake::driver().launch_hook = hook;
  fake::driver().launch_hook_data = data;
}
