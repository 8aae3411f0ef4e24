// Changing stacks: the one piece of assembly (x86-64 System V), and what the sanitizers must be told about it. Only
// fibers.cc includes this.
//
// Under the thread sanitizer each fiber is one of its fibers, and a switch orders nothing (flag 1), so that a missing
// barrier is a race. The shim's own sources are built without -fsanitize=thread but with -DSHIM_TSAN.
#pragma once
#include <cstddef>
#include "sanitizers.h"

#if !defined(__x86_64__)
#error "the shim switches stacks on x86-64 only"
#endif

/// Saves the callee's registers on this stack, stores the stack pointer at `save`, and goes on where `load` was saved.
extern "C" void shim_switch(void** save, void* load);
asm(R"(
.text
.globl shim_switch
.hidden shim_switch
.type shim_switch,@function
shim_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
.size shim_switch,.-shim_switch
)");

namespace shim {

/// A stack and where it stopped.
struct Context {
  void* pointer = nullptr;
  char* bottom = nullptr;
  size_t bytes = 0;
  void* fake_stack = nullptr;  // address sanitizer
  void* tsan = nullptr;        // thread sanitizer
};

/// Leaves `from` and goes on in `to`; returns when somebody switches back.
inline void switch_stack(Context& from, Context& to) {
#if defined(SHIM_TSAN)
  __tsan_switch_to_fiber(to.tsan, 1);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.bytes);
#endif
  shim_switch(&from.pointer, to.pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

/// The first words of a new stack, such that a switch to it calls `entry`.
inline void prepare(Context& context, void (*entry)()) {
  auto top = reinterpret_cast<size_t>(context.bottom + context.bytes) & ~size_t(63);
  auto** words = reinterpret_cast<void**>(top);
  *--words = nullptr;  // entry never returns; keeps the alignment that a call would leave
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; i++) *--words = nullptr;
  context.pointer = words;
}

}  // namespace shim
