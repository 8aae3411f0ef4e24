// A kernels' library as the fake driver wants it, written by hand: entries without a shim, a loop for the threads.
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cuda_abi.h"

extern "C" __attribute__((weak)) void shim_trap(const char* message);

#define ENTRY(name, ...)                                  \
  extern "C" const unsigned shim_sizes_##name[];          \
  const unsigned shim_sizes_##name[] = {__VA_ARGS__};     \
  extern "C" void shim_entry_##name(void** arguments, Dim3 grid, Dim3 block, size_t shared_bytes, uint64_t seed); \
  void shim_entry_##name([[maybe_unused]] void** arguments, [[maybe_unused]] Dim3 grid, [[maybe_unused]] Dim3 block, \
                         [[maybe_unused]] size_t shared_bytes, [[maybe_unused]] uint64_t seed)

template <class Value>
static Value argument(void** arguments, int at) {
  return *static_cast<Value*>(arguments[at]);
}

// x[i] += by, for a thread each
ENTRY(add, 3, 8, 4, 4) {
  auto* x = argument<float*>(arguments, 0);
  unsigned n = argument<unsigned>(arguments, 2), threads = grid.x * block.x;
  for (unsigned i = 0; i < n && i < threads; i++) x[i] += argument<float>(arguments, 1);
}

// x[i] *= by
ENTRY(multiply, 3, 8, 4, 4) {
  auto* x = argument<float*>(arguments, 0);
  unsigned n = argument<unsigned>(arguments, 2);
  for (unsigned i = 0; i < n; i++) x[i] *= argument<float>(arguments, 1);
}

// y[i] = x[i]
ENTRY(copy, 3, 8, 8, 4) {
  size_t bytes = argument<unsigned>(arguments, 2) * sizeof(float);
  memmove(argument<float*>(arguments, 0), argument<float*>(arguments, 1), bytes);
}

// Writes what it was launched with: grid, block, shared bytes.
ENTRY(shape, 1, 8) {
  unsigned shape[] = {grid.x, grid.y, grid.z, block.x, block.y, block.z, static_cast<unsigned>(shared_bytes)};
  memcpy(argument<void*>(arguments, 0), shape, sizeof shape);
}

// A structure by value.
struct Big {
  uint64_t words[5];
};
ENTRY(store_big, 2, 8, sizeof(Big)) { *argument<Big*>(arguments, 0) = argument<Big>(arguments, 1); }

ENTRY(nothing, 0) {}

static void trap(const char* message) {
  if (shim_trap) shim_trap(message);
  abort();
}

// Traps if another thread carries out a kernel at the same time.
static std::atomic<int> inside;
ENTRY(alone, 0) {
  if (inside++) trap("two kernels at once");
  usleep(200);
  inside--;
}

ENTRY(trap, 0) { trap("the test's trap"); }

// Traps on a stack of its own, as a shim with fibers does.
static ucontext_t home, fiber;
ENTRY(trap_in_fiber, 0) {
  static char stack[64 << 10];
  getcontext(&fiber);
  fiber.uc_stack.ss_sp = stack;
  fiber.uc_stack.ss_size = sizeof stack;
  fiber.uc_link = &home;
  makecontext(&fiber, [] { trap("a trap in a fiber"); }, 0);
  swapcontext(&home, &fiber);
}

// Reads and writes at the address given.
ENTRY(touch, 2, 8, 4) { argument<char*>(arguments, 0)[argument<int>(arguments, 1)] += 1; }

ENTRY(throws, 0) { throw 1; }

// Has an entry, but does not say what its arguments are.
extern "C" void shim_entry_without_sizes(void**, Dim3, Dim3, size_t, uint64_t) {}
