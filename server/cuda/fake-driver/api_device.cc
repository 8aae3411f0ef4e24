// Entry points: start, the device, its primary context, error names.
#include <cstdio>
#include <cstring>

#include "driver.h"

using namespace fake;

namespace {

// CUDA 12.9, as cudarc's feature cuda-12090 asks for.
constexpr int DRIVER_VERSION = 12090;
constexpr int MULTIPROCESSORS = 16;
constexpr int REGISTERS = 65536;

// CUdevice_attribute -> value; what is not listed is 0, as for a feature the card lacks.
int attribute(const Driver& self, int which) {
  switch (which) {
    case 1: return THREADS_PER_BLOCK_MAX;
    case 2: return static_cast<int>(BLOCK_MAX.x);
    case 3: return static_cast<int>(BLOCK_MAX.y);
    case 4: return static_cast<int>(BLOCK_MAX.z);
    case 5: return static_cast<int>(GRID_MAX.x);
    case 6: return static_cast<int>(GRID_MAX.y);
    case 7: return static_cast<int>(GRID_MAX.z);
    case 8: return SHARED_BYTES_DEFAULT_MAX;
    case 9: return 65536;                      // constant memory
    case 10: return WARP_SIZE;
    case 12: case 82: return REGISTERS;        // per block, per multiprocessor
    case 13: return 2000000;                   // clock, kHz
    case 14: return 512;                       // alignment of textures
    case 15: case 31: return 1;                // copies beside kernels; kernels beside each other
    case 16: return MULTIPROCESSORS;
    case 19: return 0;                         // no host memory in kernels
    case 36: return 10000000;                  // memory clock, kHz
    case 37: return 256;                       // bits of the memory bus
    case 38: return 32 << 20;                  // level 2 cache
    case 39: return 1536;                      // threads per multiprocessor
    case 40: return 2;                         // copy engines
    case 41: return 1;                         // one address space
    case 75: return self.compute_major;
    case 76: return self.compute_minor;
    case 78: return 1;                         // stream priorities
    case 81: return 100 << 10;                 // shared memory per multiprocessor
    case 97: return SHARED_BYTES_OPT_IN_MAX;
    case 106: return 24;                       // blocks per multiprocessor
    case 115: return self.memory_pools ? 1 : 0;
    default: return 0;
  }
}

// Entry points about a device: `body` runs if there is such a one.
template <class Body>
CUresult of_device(CUdevice device, const void* out, Body body) {
  return enter(Needs::initialized, [&](Driver& self, Lock& held) {
    if (device < 0 || device >= self.devices) return CUDA_ERROR_INVALID_DEVICE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    return body(self, held);
  });
}

template <class Value>
CUresult answer(Needs needs, Value* out, Value value) {
  return enter(needs, [&](Driver&, Lock&) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = value;
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUDA_API CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : initialize(); }

CUDA_API CUresult cuDriverGetVersion(int* version) { return answer(Needs::nothing, version, DRIVER_VERSION); }

CUDA_API CUresult cuDeviceGetCount(int* count) {
  return answer(Needs::initialized, count, driver().devices);
}

CUDA_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return of_device(ordinal, device, [&](Driver&, Lock&) { return *device = ordinal, CUDA_SUCCESS; });
}

CUDA_API CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return of_device(device, name, [&](Driver&, Lock&) {
    if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
    const size_t bytes = static_cast<size_t>(length);
    device == 0 ? snprintf(name, bytes, "Fake CUDA device") : snprintf(name, bytes, "Fake CUDA device %d", device);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  return of_device(device, id, [&](Driver&, Lock&) {
    if (length < 13) return CUDA_ERROR_INVALID_VALUE;
    snprintf(id, static_cast<size_t>(length), "0000:%02x:00.0", 1 + device);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return of_device(device, uuid, [&](Driver&, Lock&) {
    memcpy(uuid->bytes, "fake CUDA device", sizeof uuid->bytes);
    uuid->bytes[sizeof uuid->bytes - 1] = static_cast<char>(uuid->bytes[sizeof uuid->bytes - 1] + device);
    return CUDA_SUCCESS;
  });
}
CUDA_API CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

CUDA_API CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return of_device(device, bytes, [&](Driver& self, Lock&) { return *bytes = self.memory.total(), CUDA_SUCCESS; });
}

CUDA_API CUresult cuDeviceGetAttribute(int* value, int which, CUdevice device) {
  return of_device(device, value, [&](Driver& self, Lock&) { return *value = attribute(self, which), CUDA_SUCCESS; });
}

CUDA_API CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  return of_device(device, major && minor ? major : nullptr, [&](Driver& self, Lock&) {
    *major = self.compute_major;
    *minor = self.compute_minor;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return of_device(device, context, [&](Driver& self, Lock&) {
    if (self.queues.failure != CUDA_SUCCESS) return self.queues.failure;
    if (self.retained && self.current_device != device) return CUDA_ERROR_NOT_SUPPORTED;  // see the README
    self.current_device = device;
    self.retained++;
    *context = the_context();
    return CUDA_SUCCESS;
  });
}

// Giving back the last reference finishes what is queued, then frees all.
CUDA_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return of_device(device, &device, [&](Driver& self, Lock& held) {
    if (!self.retained) return CUDA_ERROR_INVALID_CONTEXT;
    if (self.retained == 1) self.queues.force(held, self.queues.ends());
    if (--self.retained == 0) self.reset(held);
    return CUDA_SUCCESS;
  });
}

// References stay; everything in the context is gone, and so is its failure.
CUDA_API CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return of_device(device, &device, [&](Driver& self, Lock& held) { return self.reset(held), CUDA_SUCCESS; });
}

CUDA_API CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned* flags, int* active) {
  return of_device(device, flags && active ? flags : nullptr, [&](Driver& self, Lock&) {
    *flags = self.context_flags;
    *active = self.retained > 0;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
  return of_device(device, &device, [&](Driver& self, Lock&) { return self.context_flags = flags, CUDA_SUCCESS; });
}

CUDA_API CUresult cuCtxSetCurrent(CUcontext context) {
  return enter(Needs::initialized, [&](Driver& self, Lock&) {
    if (context && (context != the_context() || !self.retained)) return CUDA_ERROR_INVALID_CONTEXT;
    current_context = context;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuCtxGetCurrent(CUcontext* context) { return answer(Needs::initialized, context, current_context); }

CUDA_API CUresult cuCtxGetDevice(CUdevice* device) { return answer(Needs::context, device, driver().current_device); }

CUDA_API CUresult cuCtxGetApiVersion(CUcontext, unsigned* version) {
  return answer(Needs::initialized, version, static_cast<unsigned>(DRIVER_VERSION));
}

CUDA_API CUresult cuCtxGetFlags(unsigned* flags) { return answer(Needs::context, flags, driver().context_flags); }

CUDA_API CUresult cuCtxSetFlags(unsigned flags) {
  return enter(Needs::context, [&](Driver& self, Lock&) { return self.context_flags = flags, CUDA_SUCCESS; });
}

CUDA_API CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return enter(Needs::context, [&](Driver&, Lock&) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuCtxSynchronize() {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    if (CUresult refused = self.refuse_during_capture()) return refused;
    return self.synchronize(held, self.queues.ends());
  });
}

