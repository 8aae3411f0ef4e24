// What the fake driver counts for tests (fake_cuda.h). All members may be called from any thread.
#pragma once
#include <map>
#include <mutex>
#include <string>

#include "fake_cuda.h"

namespace fake {

class Counters {
 public:
  void allocated(uint64_t bytes_now);
  void freed(uint64_t bytes_now);
  void pinned(int64_t change);
  void copied(bool to_device, bool from_device, size_t bytes);
  void set(size_t bytes);
  void launched(const std::string& kernel);
  void graph_launched();
  void synchronized();
  void read(FakeCudaCounters* out) const;
  void reset();

 private:
  mutable std::mutex lock_;
  FakeCudaCounters now_ = {};
  std::map<std::string, uint64_t> by_kernel_;
};

Counters& counters();

}  // namespace fake
