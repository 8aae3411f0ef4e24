#include "kernel_call.h"

#include "loads.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace fake {
namespace {

void* kernels = nullptr;  // the library; guarded by the driver's lock, never closed

// Where a trap or a fault of the kernel that runs on this thread comes back to; null: none runs. The kernel may be on a
// stack of its own (the shim's fibers); a jump to the thread's own stack leaves that behind.
thread_local sigjmp_buf* landing = nullptr;
thread_local char trap_text[512];

constexpr int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction before[NSIG];

void on_fault(int signal, siginfo_t* info, void*) {
  if (!landing) {
    // Not ours: let it happen again under whoever handled it before.
    sigaction(signal, &before[signal], nullptr);
    return;
  }
  snprintf(trap_text, sizeof trap_text, "signal %d (%s) at address %p", signal, strsignal(signal), info->si_addr);
  siglongjmp(*landing, 1);
}

bool present(const char* symbol) { return dlsym(RTLD_DEFAULT, symbol) != nullptr; }

// A sanitizer says more about a fault than an error code would: then it keeps its handlers.
void handle_faults() {
  static bool done = false;
  if (done || present("__asan_init") || present("__tsan_init")) return;
  done = true;
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int signal : FAULTS) sigaction(signal, &action, &before[signal]);
}

// Nothing here needs a destructor: the second return of sigsetjmp would not run it.
int call_guarded(Function::Entry entry, void** arguments, const Call& call) {
  sigjmp_buf here;
  landing = &here;
  int thrown = sigsetjmp(here, 0);
  if (!thrown) {
    try {
      entry(arguments, call.grid, call.block, call.shared_bytes, call.seed);
    } catch (const std::exception& error) {
      snprintf(trap_text, sizeof trap_text, "exception: %s", error.what());
      thrown = 1;
    } catch (...) {
      snprintf(trap_text, sizeof trap_text, "exception");
      thrown = 1;
    }
  }
  landing = nullptr;
  return thrown;
}

}  // namespace

CUresult open_kernels(std::string* why) {
  if (kernels) return CUDA_SUCCESS;
  const char* path = getenv("FAKE_CUDA_KERNELS");
  if (!path || !*path) {
    *why = "FAKE_CUDA_KERNELS does not name the kernels' library";
    return CUDA_ERROR_SHARED_OBJECT_INIT_FAILED;
  }
  // The program may have opened this library for itself only; the kernels' library must find `shim_trap` in it.
  Dl_info self;
  if (dladdr(reinterpret_cast<void*>(&shim_trap), &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
  kernels = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!kernels) *why = dlerror();
  return kernels ? CUDA_SUCCESS : CUDA_ERROR_SHARED_OBJECT_INIT_FAILED;
}

bool find_kernel(const std::string& name, Function* out) {
  if (!kernels) return false;
  out->name = name;
  out->entry = reinterpret_cast<Function::Entry>(dlsym(kernels, ("shim_entry_" + name).c_str()));
  out->sizes = static_cast<const unsigned*>(dlsym(kernels, ("shim_sizes_" + name).c_str()));
  return out->entry != nullptr;
}

LoadHook* find_load_hook() {
  return kernels ? static_cast<LoadHook*>(dlsym(kernels, "shim_on_load")) : nullptr;
}

CUresult call_kernel(const Memory& memory, const Function& kernel, void** arguments, const Call& call,
                     std::string* why) {
  handle_faults();
  trap_text[0] = 0;
  loads().begin();
  const int failed = call_guarded(kernel.entry, arguments, call);
  loads().end();
  if (failed) {
    *why = "kernel " + kernel.name + ": " + trap_text;
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  if (memory.ends_intact(why)) return CUDA_SUCCESS;
  *why = "kernel " + kernel.name + ": " + *why;
  return CUDA_ERROR_ILLEGAL_ADDRESS;
}

}  // namespace fake

CUDA_API void shim_trap(const char* message) {
  if (!fake::landing || fake::present("__tsan_init")) {
    fprintf(stderr, "fake CUDA: trap: %s\n", message);
    if (fake::landing) abort();  // ThreadSanitizer does not allow a jump between stacks
    return;
  }
  snprintf(fake::trap_text, sizeof fake::trap_text, "%s", message);
  siglongjmp(*fake::landing, 1);
}
