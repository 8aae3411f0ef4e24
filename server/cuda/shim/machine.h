// The state of the shim on one host thread: the fibers of a block's threads, where they meet, who is ready to go on.
// Only fibers.cc includes this.
#pragma once
#include "runtime.h"
#include "switch.h"

namespace shim {

constexpr size_t STACK_BYTES = 64 << 10, GUARD_BYTES = 4 << 10;

struct Barrier {
  unsigned arrived = 0, generation = 0;
  int line = 0;
  uint16_t waiting[THREADS_MAX];
  char order[2];  // addresses for the thread sanitizer, by parity of the generation
};

struct Warp {
  Barrier barrier;
  Lane lanes[32];
  unsigned size, ended;
};

struct Fiber : Thread {
  Context context;
  Warp* warp;
  unsigned id, arrays;
  const char* waits_at;  // null while it runs, is ready, or has ended
  int waits_line;
  Copies copies;
};

struct Machine {
  Fiber fibers[THREADS_MAX];
  Warp warps[THREADS_MAX / 32];
  Barrier barrier;
  SharedMemory memory;
  Context main;
  Launch now;
  unsigned threads = 0, live = 0, made = 0;
  bool in_block = false;  // still true at the next launch: somebody jumped out of this one
  uint16_t ready[THREADS_MAX];  // a ring
  unsigned ready_first = 0, ready_count = 0;
  uint64_t random = 1;
  unsigned policy = 0;
  char edge;  // between blocks, for the thread sanitizer
  void (*body)(void*) = nullptr;
  void* argument = nullptr;

  Machine();
  ~Machine();
  void make_fibers(unsigned count);
  void run_block();
  void start_afresh();
};

}  // namespace shim
