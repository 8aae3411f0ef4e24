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

}  // namespace shim
