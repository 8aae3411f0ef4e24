// What the tests of the fake driver share: the driver's functions, checks, and cases that register themselves.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda_abi.h"
#include "fake_cuda.h"

#define DECLARE(name, ...) extern "C" CUresult name(__VA_ARGS__)
DECLARE(cuInit, unsigned);
DECLARE(cuGetErrorName, CUresult, const char**);
DECLARE(cuDeviceGet, CUdevice*, int);
DECLARE(cuDeviceGetCount, int*);
DECLARE(cuDeviceGetAttribute, int*, int, CUdevice);
DECLARE(cuDeviceTotalMem_v2, size_t*, CUdevice);
DECLARE(cuDevicePrimaryCtxRetain, CUcontext*, CUdevice);
DECLARE(cuDevicePrimaryCtxRelease_v2, CUdevice);
DECLARE(cuDevicePrimaryCtxReset_v2, CUdevice);
DECLARE(cuCtxSetCurrent, CUcontext);
DECLARE(cuCtxSynchronize);
DECLARE(cuMemGetInfo_v2, size_t*, size_t*);
DECLARE(cuMemAlloc_v2, CUdeviceptr*, size_t);
DECLARE(cuMemFree_v2, CUdeviceptr);
DECLARE(cuMemAllocAsync, CUdeviceptr*, size_t, CUstream);
DECLARE(cuMemFreeAsync, CUdeviceptr, CUstream);
DECLARE(cuMemAllocManaged, CUdeviceptr*, size_t, unsigned);
DECLARE(cuMemHostAlloc, void**, size_t, unsigned);
DECLARE(cuMemFreeHost, void*);
DECLARE(cuMemHostRegister_v2, void*, size_t, unsigned);
DECLARE(cuMemHostUnregister, void*);
DECLARE(cuMemcpyHtoD_v2, CUdeviceptr, const void*, size_t);
DECLARE(cuMemcpyDtoH_v2, void*, CUdeviceptr, size_t);
DECLARE(cuMemcpyHtoDAsync_v2, CUdeviceptr, const void*, size_t, CUstream);
DECLARE(cuMemcpyDtoHAsync_v2, void*, CUdeviceptr, size_t, CUstream);
DECLARE(cuMemcpyDtoDAsync_v2, CUdeviceptr, CUdeviceptr, size_t, CUstream);
DECLARE(cuMemsetD8Async, CUdeviceptr, unsigned char, size_t, CUstream);
DECLARE(cuMemsetD32Async, CUdeviceptr, unsigned, size_t, CUstream);
DECLARE(cuStreamCreate, CUstream*, unsigned);
DECLARE(cuStreamDestroy_v2, CUstream);
DECLARE(cuStreamSynchronize, CUstream);
DECLARE(cuStreamQuery, CUstream);
DECLARE(cuStreamWaitEvent, CUstream, CUevent, unsigned);
DECLARE(cuEventCreate, CUevent*, unsigned);
DECLARE(cuEventDestroy_v2, CUevent);
DECLARE(cuEventRecord, CUevent, CUstream);
DECLARE(cuEventQuery, CUevent);
DECLARE(cuEventSynchronize, CUevent);
DECLARE(cuEventElapsedTime, float*, CUevent, CUevent);
DECLARE(cuLaunchHostFunc, CUstream, CUhostFn, void*);
DECLARE(cuModuleLoadData, CUmodule*, const void*);
DECLARE(cuModuleUnload, CUmodule);
DECLARE(cuModuleGetFunction, CUfunction*, CUmodule, const char*);
DECLARE(cuFuncSetAttribute, CUfunction, int, int);
DECLARE(cuLaunchKernel, CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
        void**, void**);
DECLARE(cuStreamBeginCapture_v2, CUstream, int);
DECLARE(cuStreamEndCapture, CUstream, CUgraph*);
DECLARE(cuStreamIsCapturing, CUstream, int*);
DECLARE(cuGraphInstantiateWithFlags, CUgraphExec*, CUgraph, unsigned long long);
DECLARE(cuGraphLaunch, CUgraphExec, CUstream);
DECLARE(cuGraphDestroy, CUgraph);
DECLARE(cuGraphExecDestroy, CUgraphExec);
#undef DECLARE

inline std::string shown(CUresult code) {
  const char* name = nullptr;
  cuGetErrorName(code, &name);
  return name ? name : std::to_string(static_cast<unsigned>(code));
}
template <class Value>
std::string shown(Value value) {
  return std::to_string(value);
}

// Ends the case, which runs in a process of its own.
[[noreturn]] inline void fail(const char* file, int line, const char* what, const std::string& got,
                              const std::string& want) {
  fprintf(stderr, "%s:%d: %s is %s, not %s\n", file, line, what, got.c_str(), want.c_str());
  _Exit(1);
}
#define EQUAL(got, want)                                                         \
  do {                                                                           \
    auto got_ = (got);                                                           \
    decltype(got_) want_ = (want);                                               \
    if (got_ != want_) fail(__FILE__, __LINE__, #got, shown(got_), shown(want_)); \
  } while (0)
#define OK(call) EQUAL(call, CUDA_SUCCESS)

struct Case {
  const char* name;
  void (*run)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
#define CASE(name)                                                       \
  static void name();                                                    \
  static const bool name##_is_registered = (cases().push_back({#name, name}), true); \
  static void name()

// The primary context on this thread, with the test's kernels loaded.
struct Fixture {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  Fixture() {
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuModuleLoadData(&module, "// stands for an image"));
  }
  CUfunction function(const char* name) const {
    CUfunction found = nullptr;
    OK(cuModuleGetFunction(&found, module, name));
    return found;
  }
};

inline CUstream new_stream(unsigned flags = STREAM_NON_BLOCKING) {
  CUstream made = nullptr;
  OK(cuStreamCreate(&made, flags));
  return made;
}

inline CUevent new_event() {
  CUevent made = nullptr;
  OK(cuEventCreate(&made, EVENT_DISABLE_TIMING));
  return made;
}

inline CUdeviceptr new_floats(size_t count, float value) {
  CUdeviceptr made = 0;
  unsigned bits;
  memcpy(&bits, &value, sizeof bits);
  OK(cuMemAlloc_v2(&made, count * sizeof(float)));
  OK(cuMemsetD32Async(made, bits, count, nullptr));
  OK(cuCtxSynchronize());
  return made;
}

inline float* new_pinned(size_t count) {
  void* made = nullptr;
  OK(cuMemHostAlloc(&made, count * sizeof(float), 0));
  return static_cast<float*>(made);
}

// The kernels `add`, `multiply` (x, by) on one float, and `copy` (to, from).
inline CUresult apply(CUfunction kernel, CUdeviceptr x, float by, CUstream stream, unsigned count = 1) {
  void* arguments[] = {&x, &by, &count};
  return cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, stream, arguments, nullptr);
}
inline CUresult launch_nothing(CUfunction kernel, CUstream stream) {
  return cuLaunchKernel(kernel, 1, 1, 1, 32, 1, 1, 0, stream, nullptr, nullptr);
}
inline float read_float(CUdeviceptr at) {
  float value = 0;
  OK(cuMemcpyDtoH_v2(&value, at, sizeof value));
  return value;
}
inline FakeCudaCounters counted() {
  FakeCudaCounters all;
  fake_cuda_counters(&all);
  return all;
}
