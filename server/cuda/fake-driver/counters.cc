#include "counters.h"

#include <algorithm>
#include <cstring>

#include "cuda_abi.h"

namespace fake {

void Counters::allocated(uint64_t bytes_now) {
  std::lock_guard guard(lock_);
  now_.allocations++;
  now_.bytes_now = bytes_now;
  now_.bytes_peak = std::max(now_.bytes_peak, bytes_now);
}

void Counters::freed(uint64_t bytes_now) {
  std::lock_guard guard(lock_);
  now_.frees++;
  now_.bytes_now = bytes_now;
}

void Counters::pinned(int64_t change) {
  std::lock_guard guard(lock_);
  now_.pinned_bytes_now += static_cast<uint64_t>(change);
}

void Counters::copied(bool to_device, bool from_device, size_t bytes) {
  std::lock_guard guard(lock_);
  now_.copies++;
  if (to_device && from_device) now_.bytes_device_to_device += bytes;
  if (to_device && !from_device) now_.bytes_host_to_device += bytes;
  if (!to_device && from_device) now_.bytes_device_to_host += bytes;
}

void Counters::set(size_t bytes) {
  std::lock_guard guard(lock_);
  now_.bytes_set += bytes;
}

void Counters::launched(const std::string& kernel) {
  std::lock_guard guard(lock_);
  now_.launches++;
  by_kernel_[kernel]++;
}

void Counters::graph_launched() {
  std::lock_guard guard(lock_);
  now_.graph_launches++;
}

void Counters::synchronized() {
  std::lock_guard guard(lock_);
  now_.synchronizations++;
}

void Counters::read(FakeCudaCounters* out) const {
  std::lock_guard guard(lock_);
  *out = now_;
  for (const auto& [name, launches] : by_kernel_) {
    if (out->kernels == FAKE_CUDA_KERNELS_MAX) break;
    FakeCudaKernelCount& entry = out->by_kernel[out->kernels++];
    size_t length = std::min<size_t>(name.size(), FAKE_CUDA_NAME_BYTES - 1);
    memcpy(entry.name, name.data(), length);
    entry.name[length] = 0;
    entry.launches = launches;
  }
}

void Counters::reset() {
  std::lock_guard guard(lock_);
  FakeCudaCounters fresh = {};
  fresh.bytes_now = fresh.bytes_peak = now_.bytes_now;
  fresh.pinned_bytes_now = now_.pinned_bytes_now;
  now_ = fresh;
  by_kernel_.clear();
}

Counters& counters() {
  static Counters the;
  return the;
}

}  // namespace fake

CUDA_API void fake_cuda_counters(FakeCudaCounters* out) {
  if (out) fake::counters().read(out);
}
CUDA_API void fake_cuda_reset_counters() { fake::counters().reset(); }
