// The shim's scheduler: a fiber for each CUDA thread of a block, one block after another.
//
//   launch: for each block, in an order drawn from the seed:
//     every thread becomes ready; go on in a ready one
//   a thread that must wait at a barrier: leave the ready ones; go on in another
//   the last thread to arrive: make the waiting ones ready; go on oneself
//   a thread that ends: go on in another; the last one of a block: back to launch
//   nobody is ready and somebody waits: a deadlock, say who waits where
//
// Fibers live as long as the host thread that launches: their stacks are made once, and a thread's start is a switch.
// Seeds take turns among first-come, last-come and random order, because the extremes find other mistakes than luck.
#include "machine.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <pthread.h>
#include <sys/mman.h>

/// The fake driver's way out of a launch.
extern "C" void shim_trap(const char* message) __attribute__((weak));

namespace shim {

__thread Thread* self = nullptr;

namespace {

thread_local std::unique_ptr<Machine> machine_owner;
__thread Machine* machine __attribute__((tls_model("initial-exec"))) = nullptr;

Fiber& current() { return static_cast<Fiber&>(*self); }

void become_ready(unsigned id) {
  machine->ready[(machine->ready_first + machine->ready_count++) % THREADS_MAX] = uint16_t(id);
}

uint64_t draw() {  // xorshift64
  uint64_t& x = machine->random;
  x ^= x << 13;
  x ^= x >> 7;
  return x ^= x << 17;
}

Fiber& take_ready() {
  Machine& m = *machine;
  auto slot = [&m](unsigned i) -> uint16_t& { return m.ready[(m.ready_first + i) % THREADS_MAX]; };
  unsigned last = --m.ready_count;
  if (m.policy == 1) return m.fibers[slot(last)];
  if (m.policy >= 2) std::swap(slot(0), slot(unsigned((draw() >> 32) * (last + 1) >> 32)));
  uint16_t id = slot(0);
  m.ready_first = (m.ready_first + 1) % THREADS_MAX;
  return m.fibers[id];
}

[[noreturn]] void report_deadlock() {
  std::fprintf(stderr, "shim: deadlock. Waiting threads:\n");
  unsigned shown = 0;
  for (unsigned i = 0; i < machine->threads && shown < 8; i++) {
    const Fiber& f = machine->fibers[i];
    if (!f.waits_at) continue;
    std::fprintf(stderr, "  thread %u at %s, line %d\n", i, f.waits_at, f.waits_line);
    shown++;
  }
  die("threads of a block take different ways past a barrier");
}

/// Goes on in another fiber; comes back when this one is made ready and taken.
void leave() {
  Context& mine = current().context;
  if (machine->ready_count == 0) {
    if (machine->live) report_deadlock();
    switch_stack(mine, machine->main);
    return;
  }
  Fiber& next = take_ready();
  self = &next;
  switch_stack(mine, next.context);
}

void arrive(Barrier& barrier, unsigned expected, const char* name, int line, bool orders) {
  Fiber& me = current();
  if (barrier.arrived == 0) barrier.line = line;
  if (barrier.line != line) {
    std::fprintf(stderr, "shim: others wait at line %d\n", barrier.line);
    die("threads meet at different barriers or warp operations", line);
  }
  char* order = &barrier.order[barrier.generation % 2];
  if (orders) release(order);
  if (++barrier.arrived < expected) {
    barrier.waiting[barrier.arrived - 1] = uint16_t(me.id);
    me.waits_at = name;
    me.waits_line = line;
    leave();
  } else {
    for (unsigned i = 0; i + 1 < expected; i++) {
      machine->fibers[barrier.waiting[i]].waits_at = nullptr;
      become_ready(barrier.waiting[i]);
    }
    barrier.arrived = 0;
    barrier.generation++;
  }
  if (orders) acquire(order);
}

void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  for (;;) {
    acquire(&machine->edge);
    machine->body(machine->argument);
    Fiber& me = current();
    if (me.copies.count) die("a thread ended with asynchronous copies under way");
    me.warp->ended++;
    machine->live--;
    release(&machine->edge);
    leave();
  }
}

}  // namespace

void die(const char* what, int line) {
  char text[400], at_line[20] = "", at_thread[100] = "";
  if (line) std::snprintf(at_line, sizeof at_line, ", line %d", line);
  if (self) {
    const dim3 &b = self->launch->block, &t = self->index;
    std::snprintf(at_thread, sizeof at_thread, " (block %u,%u,%u thread %u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
  }
  std::snprintf(text, sizeof text, "shim: %s%s%s", what, at_line, at_thread);
  if (shim_trap) shim_trap(text);
  std::fprintf(stderr, "%s\n", text);
  std::fflush(nullptr);
  std::abort();
}

Copies& own_copies() { return current().copies; }
unsigned next_array() { return current().arrays++; }
SharedMemory& block_memory() { return machine->memory; }

void sync_block(int line) {
  if (machine->live != machine->threads) die("__syncthreads after a thread of the block returned", line);
  arrive(machine->barrier, machine->threads, "__syncthreads", line, true);
}

void sync_warp(int line) {
  Warp& warp = *current().warp;
  if (warp.ended) die("__syncwarp after a lane returned", line);
  arrive(warp.barrier, warp.size, "__syncwarp", line, true);
}

void meet(const void* in, void* out, Combine combine, int line) {
  Warp& warp = *current().warp;
  if (warp.ended) die("a warp operation after a lane returned", line);
  warp.lanes[current().lane] = {in, out};
  const bool same_place = warp.size == 1 || warp.barrier.line == line;  // else arrive ends the process
  if (warp.barrier.arrived + 1 == warp.size && same_place) combine(warp.lanes, warp.size);
  arrive(warp.barrier, warp.size, "a warp operation", line, false);
}

Machine::Machine() {
#if defined(SHIM_TSAN)
  main.tsan = __tsan_get_current_fiber();
#endif
  pthread_attr_t attributes;
  void* bottom;
  if (pthread_getattr_np(pthread_self(), &attributes)) die("the host thread's stack is unknown");
  pthread_attr_getstack(&attributes, &bottom, &main.bytes);
  main.bottom = static_cast<char*>(bottom);
  pthread_attr_destroy(&attributes);
}

Machine::~Machine() {
  for (unsigned i = 0; i < made; i++) {
    munmap(fibers[i].context.bottom - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
#if defined(SHIM_TSAN)
    __tsan_destroy_fiber(fibers[i].context.tsan);
#endif
  }
}

void Machine::make_fibers(unsigned count) {
  for (; made < count; made++) {
    Fiber& f = fibers[made];
    void* pages = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, GUARD_BYTES, PROT_NONE)) die("no memory for a stack");
    f.context.bottom = static_cast<char*>(pages) + GUARD_BYTES;
    // Stacks that end at the same offset of a page would all want the same lines of the cache.
    f.context.bytes = STACK_BYTES - made % 32 * 320;
    f.id = made;
    f.lane = made % 32;
    f.warp = &warps[made / 32];
    f.launch = &now;
    f.waits_at = nullptr;
    prepare(f.context, fiber_main);
#if defined(SHIM_TSAN)
    f.context.tsan = __tsan_create_fiber(0);
#endif
  }
}

void Machine::run_block() {
  memory.begin_block();
  live = threads;
  for (unsigned i = 0; i < threads; i++) {
    fibers[i].arrays = 0;
    fibers[i].copies.reset();
    become_ready(i);
  }
  for (unsigned w = 0; w * 32 < threads; w++) warps[w].ended = 0;
  release(&edge);
  in_block = true;
  Fiber& first = take_ready();
  self = &first;
  switch_stack(main, first.context);
  self = nullptr;
  in_block = false;
  acquire(&edge);
}

/// After a jump out of a launch: forgets where the threads were.
void Machine::start_afresh() {
  for (unsigned i = 0; i < made; i++) {
    Context& context = fibers[i].context;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(context.bottom, context.bytes);
#endif
    context.fake_stack = nullptr;
    prepare(context, fiber_main);
    fibers[i].waits_at = nullptr;
  }
  for (Warp& warp : warps) warp.barrier.arrived = 0;
  barrier.arrived = 0;
  ready_first = ready_count = 0;
  in_block = false;
  self = nullptr;
}

void launch(dim3 grid, dim3 block, size_t shared_bytes, uint64_t seed, void (*body)(void*), void* argument) {
  self = nullptr;
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  const uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z;
  if (threads == 0 || threads > THREADS_MAX || block.z > 64) die("a block of no or too many threads");
  if (blocks == 0 || grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) die("a grid of no or too many blocks");
  if (!machine) {
    machine_owner = std::make_unique<Machine>();
    machine = machine_owner.get();
  }
  Machine& m = *machine;
  if (m.in_block) m.start_afresh();
  m.make_fibers(unsigned(threads));
  m.threads = unsigned(threads);
  m.now.grid_size = grid;
  m.now.block_size = block;
  m.body = body;
  m.argument = argument;
  m.policy = unsigned(seed % 4);
  m.random = seed * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D;
  if (!m.random) m.random = 1;
  m.memory.begin_launch(shared_bytes);
  for (unsigned i = 0; i < m.threads; i++) {
    m.fibers[i].index = dim3(i % block.x, i / block.x % block.y, i / (block.x * block.y));
  }
  for (unsigned w = 0; w * 32 < m.threads; w++) m.warps[w].size = std::min(32u, m.threads - w * 32);

  // Blocks in steps of a number without a common divisor: each once, and not in the order of their index.
  uint64_t step = seed % 4 == 0 ? 1 : draw() % blocks | 1;
  while (std::gcd(step, blocks) != 1) step += 2;
  uint64_t at = seed % 4 == 0 ? 0 : draw() % blocks;
  for (uint64_t i = 0; i < blocks; i++, at = (at + step) % blocks) {
    m.now.block = dim3(unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y));
    m.run_block();
  }
}

}  // namespace shim
