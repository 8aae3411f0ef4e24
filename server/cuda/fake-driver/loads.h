// What kernels load of device memory, counted as a card without hits between launches would move it: a sector of 32 bytes
// once a launch, however many threads ask for it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "fake_cuda.h"
#include "memory.h"

namespace fake {

// Kernels are carried out one at a time: only one thread is ever between `begin` and `end`.
class Loads {
 public:
  // Counts from zero, or not any more. False where the kernels' library tells of no loads.
  bool watch(bool on, const Memory& memory);
  void begin();
  void end() { begin(); }
  void loaded(uint64_t at, unsigned bytes);
  size_t read(FakeCudaLoads* out, size_t most) const;

 private:
  struct Region {
    uint64_t start;
    size_t size;
    uint64_t bytes = 0;
    std::vector<bool> sectors;  // those that this launch has loaded
  };
  const Memory* memory_ = nullptr;
  std::map<uint64_t, Region> regions_;                     // by start
  Region* last_ = nullptr;                                 // of the load before
  std::vector<std::pair<Region*, size_t>> touched_;        // sectors to clear
};

Loads& loads();

}  // namespace fake
