// Shared memory and asynchronous copies of the shim.
//
// A copy's target is NaN from its start until the wait: who reads without waiting computes garbage every time, not once
// in a while. The thread sanitizer is told of the copy at the wait, since this file is not instrumented for it.
#include "runtime.h"
#include "sanitizers.h"
#include <cstdlib>

void (*shim_on_load)(const void* from, unsigned bytes) = nullptr;

namespace shim {
namespace {

constexpr int POISON = 0xFF;      // as float, half, bfloat16: NaN
constexpr size_t RED_ZONE = 64;  // between static arrays, for the address sanitizer

void forbid([[maybe_unused]] const char* from, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(from, bytes);
#endif
}
void allow([[maybe_unused]] const char* from, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(from, bytes);
#endif
}

}  // namespace

SharedMemory::~SharedMemory() {
  std::free(dynamic_);
  if (static_) allow(static_, STATIC_SHARED_MAX);
  std::free(static_);
}

void SharedMemory::begin_launch(size_t dynamic_bytes) {
  if (dynamic_bytes > DYNAMIC_SHARED_MAX) die("more dynamic shared memory than devices have");
  // A block of exactly the asked size lets the address sanitizer see its end.
  if (dynamic_bytes != dynamic_bytes_ || !dynamic_) {
    std::free(dynamic_);
    dynamic_ = static_cast<char*>(std::malloc(dynamic_bytes ? dynamic_bytes : 1));
    dynamic_bytes_ = dynamic_bytes;
  }
  if (!static_) static_ = static_cast<char*>(std::aligned_alloc(64, STATIC_SHARED_MAX));
  if (!static_ || !dynamic_) die("no memory for shared memory");
  allow(static_, static_end_);
  arrays_count_ = 0;
  static_end_ = 0;
  forbid(static_, STATIC_SHARED_MAX);
}

void SharedMemory::begin_block() {
  raw_fill(dynamic_, POISON, dynamic_bytes_);
  for (unsigned i = 0; i < arrays_count_; i++) raw_fill(static_ + arrays_[i].offset, POISON, arrays_[i].bytes);
}

void* SharedMemory::array(unsigned ordinal, size_t bytes) {
  if (ordinal == arrays_count_) {
    if (arrays_count_ == STATIC_ARRAYS_MAX) die("too many shared arrays in a kernel");
    arrays_[arrays_count_++] = {static_end_, bytes};
    if (static_end_ + bytes > STATIC_SHARED_MAX) die("more static shared memory than 48 KiB");
    allow(static_ + static_end_, bytes);
    raw_fill(static_ + static_end_, POISON, bytes);
#if defined(__SANITIZE_ADDRESS__)
    static_end_ += RED_ZONE;
#endif
    static_end_ = (static_end_ + bytes + RED_ZONE - 1) / RED_ZONE * RED_ZONE;
  }
  if (arrays_[ordinal].bytes != bytes) die("threads of a block declare different shared arrays");
  return static_ + arrays_[ordinal].offset;
}

void* dynamic_shared() { return block_memory().dynamic(); }
void* static_shared(size_t bytes) { return block_memory().array(next_array(), bytes); }

void copy_async(void* to, const void* from, unsigned bytes, int line) {
  if (bytes != 4 && bytes != 8 && bytes != 16) die("cp.async copies 4, 8 or 16 bytes", line);
  if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes) {
    die("cp.async: an address is not a multiple of the size", line);
  }
#if defined(__SANITIZE_ADDRESS__)
  if (__asan_region_is_poisoned(const_cast<void*>(from), bytes)) die("cp.async reads out of bounds", line);
#endif
  if (shim_on_load) shim_on_load(from, bytes);
  Copies& copies = own_copies();
  if (copies.count == COPIES_MAX) die("too many asynchronous copies under way", line);
#if defined(SHIM_TSAN)
  __tsan_write_range(to, bytes);
#endif
  raw_fill(to, POISON, bytes);
  copies.pending[(copies.first + copies.count++) % COPIES_MAX] = {to, from, bytes, copies.group};
}

void copy_commit() { own_copies().group++; }

void copy_wait(unsigned left) {
  Copies& copies = own_copies();
  while (copies.count && copies.pending[copies.first].group + left < copies.group) {
    Copies::Copy& copy = copies.pending[copies.first];
#if defined(SHIM_TSAN)
    __tsan_read_range(const_cast<void*>(copy.from), copy.bytes);
    __tsan_write_range(copy.to, copy.bytes);
#endif
    raw_copy(copy.to, copy.from, copy.bytes);
    copies.first = (copies.first + 1) % COPIES_MAX;
    copies.count--;
  }
}

}  // namespace shim
