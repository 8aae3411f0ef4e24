// Calls a kernel of the kernels' library and comes back from it, whatever it does: it may return, trap (`shim_trap`),
// fault on memory it may not touch, or throw. All but the first fail the launch, as on a card.
#pragma once
#include <string>

#include "driver.h"

namespace fake {

// Opens the library named by FAKE_CUDA_KERNELS, once. `why` says what is wrong.
CUresult open_kernels(std::string* why);
// The entry of a kernel and the sizes of its arguments; false if the library has no such entry.
bool find_kernel(const std::string& name, Function* out);

// The library's `shim_on_load`; null if there is none.
using LoadHook = void (*)(const void* from, unsigned bytes);
LoadHook* find_load_hook();

struct Call {
  Dim3 grid, block;
  size_t shared_bytes;
  uint64_t seed;
};
CUresult call_kernel(const Memory& memory, const Function& kernel, void** arguments, const Call& call,
                     std::string* why);

}  // namespace fake
