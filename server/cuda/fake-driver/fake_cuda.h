// What tests may ask the fake driver beyond the CUDA driver API. All functions may be called from any thread; the
// setters after cuInit, which sets the same from the environment. A Rust test finds them by name in the library that
// cudarc opened, or opens it once more by the same name.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FAKE_CUDA_NAME_BYTES = 64, FAKE_CUDA_KERNELS_MAX = 128 };

struct FakeCudaKernelCount {
  char name[FAKE_CUDA_NAME_BYTES];  // ends with 0; longer names are cut
  uint64_t launches;
};

// Work is counted when it is carried out, not when it is queued: synchronize before reading.
struct FakeCudaCounters {
  uint64_t launches;             // of all kernels, those inside graphs too
  uint64_t graph_launches;       // counted at the call
  uint64_t bytes_host_to_device;
  uint64_t bytes_device_to_host;
  uint64_t bytes_device_to_device;
  uint64_t bytes_set;            // by memset
  uint64_t copies;               // of all directions
  uint64_t synchronizations;     // calls that waited: of stream, event, context, and synchronous copies
  uint64_t allocations;          // of device memory
  uint64_t frees;
  uint64_t bytes_now;            // device memory allocated now
  uint64_t bytes_peak;           // largest bytes_now since the last reset
  uint64_t pinned_bytes_now;     // host memory pinned now, allocated or registered
  uint64_t kernels;              // entries of by_kernel in use; a 129th name is counted in `launches` only
  struct FakeCudaKernelCount by_kernel[FAKE_CUDA_KERNELS_MAX];
};

void fake_cuda_counters(struct FakeCudaCounters* out);
// Sets all to 0 except bytes_now and pinned_bytes_now; bytes_peak becomes bytes_now.
void fake_cuda_reset_counters(void);

// What kernels loaded of one allocation, since loads are watched: sectors of 32 bytes, each once a launch.
struct FakeCudaLoads {
  uint64_t address, size;  // of the allocation
  uint64_t bytes;
};

// Counts what kernels load by __ldg, __ldcs and cp.async, from zero; 0: not any more. Synchronize before. Answers 0 where
// no kernels' library is open, or it tells of no loads (README).
int fake_cuda_watch_loads(int on);
// Writes at most `most` entries, an allocation each; the number that there are. Synchronize before.
size_t fake_cuda_loads(struct FakeCudaLoads* out, size_t most);

// Draws all further orders from this seed (first: FAKE_CUDA_SEED, or 1).
void fake_cuda_set_seed(uint64_t seed);
// How much memory the device has (first: FAKE_CUDA_MEMORY_BYTES, or 1 GiB); less than is allocated now leaves none
// free. Addresses are reserved by cuInit: more than 16 times its number (or 16 GiB) cannot be had.
void fake_cuda_set_memory_bytes(uint64_t bytes);
// Fails the n-th launch counted from this call; 0: none. `sticky` as in FAKE_CUDA_FAIL_LAUNCH (README).
void fake_cuda_fail_launch(uint64_t n, int sticky);
// 1: streams do not wait for events any more, as if the program had forgotten to ask for it; 0: they do again.
void fake_cuda_forget_waits(int forget);

// Why the context failed last: copies at most `bytes` bytes with the ending 0; an empty text if it never failed.
void fake_cuda_last_failure(char* out, size_t bytes);

// Called before each kernel is carried out, on the thread that carries it out; null: not any more. `sizes` holds the
// number of arguments, then the size of each. It must not call the driver.
typedef void (*FakeCudaLaunchHook)(void* data, const char* kernel, void* const* arguments, const unsigned* sizes,
                                   const unsigned grid[3], const unsigned block[3], size_t shared_bytes);
void fake_cuda_on_launch(FakeCudaLaunchHook hook, void* data);

// For the kernels' library (README): a kernel did what no card would survive. Does not return while a kernel is being
// carried out; otherwise it only prints the message.
void shim_trap(const char* message);

#ifdef __cplusplus
}
#endif
