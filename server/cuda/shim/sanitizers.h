// What the sanitizers' runtimes offer to those who switch stacks and copy behind their back.
#pragma once
#include <cstddef>

#if defined(SHIM_TSAN)
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, size_t bytes);
void __tsan_write_range(void* address, size_t bytes);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* bytes);
}
#endif

namespace shim {

/// What comes before in the order of events at `release` comes before what follows an `acquire` of the same address.
inline void acquire([[maybe_unused]] void* at) {
#if defined(SHIM_TSAN)
  __tsan_acquire(at);
#endif
}
inline void release([[maybe_unused]] void* at) {
#if defined(SHIM_TSAN)
  __tsan_release(at);
#endif
}

/// memcpy and memset as the shim needs them: the thread sanitizer watches the library's even where they are called from
/// code that it does not instrument, and would take the shim's own work for the threads'. (Built with
/// -fno-tree-loop-distribute-patterns, so that these loops stay loops.)
inline void raw_copy(void* to, const void* from, size_t bytes) {
  auto* t = static_cast<unsigned char*>(to);
  auto* f = static_cast<const unsigned char*>(from);
  for (size_t i = 0; i < bytes; i++) t[i] = f[i];
}
inline void raw_fill(void* to, unsigned char value, size_t bytes) {
  auto* t = static_cast<unsigned char*>(to);
  for (size_t i = 0; i < bytes; i++) t[i] = value;
}

}  // namespace shim
