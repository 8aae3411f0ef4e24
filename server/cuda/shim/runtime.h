// What the shim's own sources share. Kernels do not include this.
#pragma once
#include "shim.h"

namespace shim {

/// Threads of a block, bytes of shared memory: what every device since sm_80 allows at least.
constexpr unsigned THREADS_MAX = 1024;
constexpr size_t DYNAMIC_SHARED_MAX = 99 << 10;
constexpr size_t STATIC_SHARED_MAX = 48 << 10;
constexpr unsigned STATIC_ARRAYS_MAX = 16;
/// Copies that a thread may have under way.
constexpr unsigned COPIES_MAX = 128;

/// What a lane brings to a warp operation and where it wants the result; both on its own stack.
struct Lane {
  const void* in;
  void* out;
};

/// Called once a warp operation has all lanes; `lanes` are there.
using Combine = void (*)(const Lane* all, unsigned lanes);

/// Waits until every lane of the warp is here; the last one runs `combine` for all. Orders no memory, as on the device.
void meet(const void* in, void* out, Combine combine, int line);

/// The asynchronous copies of one thread: a copy happens when its thread waits for it and no sooner.
struct Copies {
  struct Copy {
    void* to;
    const void* from;
    unsigned bytes, group;
  };
  Copy pending[COPIES_MAX];
  unsigned first, count;  // a ring
  unsigned group;         // the open one

  void reset() { first = count = group = 0; }
};

/// The shared memory of the running block; every block starts with all of it NaN.
class SharedMemory {
 public:
  ~SharedMemory();
  void begin_launch(size_t dynamic_bytes);
  void begin_block();
  void* dynamic() { return dynamic_; }
  /// The `ordinal`-th array that a thread declares. All threads of a block declare the same ones.
  void* array(unsigned ordinal, size_t bytes);

 private:
  struct Array {
    size_t offset, bytes;
  };
  char* dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0;
  char* static_ = nullptr;
  size_t static_end_ = 0;
  Array arrays_[STATIC_ARRAYS_MAX];
  unsigned arrays_count_ = 0;
};

/// The copies and the count of declared arrays of the thread that runs now, and its block's shared memory.
Copies& own_copies();
unsigned next_array();
SharedMemory& block_memory();

}  // namespace shim
