// Entry points: device and pinned memory, copies, memset.
//
// A copy from pinned memory reads it when it is carried out; from other host memory at the call (the real driver may do
// either). A copy to other host memory, and every synchronous copy, ends before the call does. What a capture records
// always reads and writes when the graph runs. Addresses are checked when a copy is carried out, for only then is it
// sure what is allocated; a pinned range that is too short is refused at once.
#include <cstring>

#include "driver.h"

using namespace fake;

namespace {

enum class Wait { at_end, as_needed };

CUresult allocate(Driver& self, Lock& held, CUdeviceptr* out, size_t size) {
  CUresult result = self.memory.allocate(size, out);
  if (result != CUDA_ERROR_OUT_OF_MEMORY || self.queues.idle()) return result;
  // Memory that is freed by queued work counts as soon as that is done, as in the real driver's pools.
  if (CUresult failed = self.synchronize(held, self.queues.ends())) return failed;
  return self.memory.allocate(size, out);
}

Address host(const Driver& self, const void* at) {
  uint64_t address = reinterpret_cast<uint64_t>(at);
  return {self.memory.place_of(address), address};
}

CUresult transfer(Driver& self, Lock& held, CUstream handle, Address to, Address from, size_t size, Wait wait) {
  auto on = self.stream(handle);
  if (!on) return CUDA_ERROR_INVALID_HANDLE;
  if (wait == Wait::at_end) {
    if (CUresult refused = self.refuse_during_capture()) return refused;
  }
  if (size == 0) return CUDA_SUCCESS;
  for (auto end : {to, from}) {
    if (end.place != Place::device && !self.memory.holds(end, size)) return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  if (from.place == Place::pageable && !on->capture) {
    auto* bytes = reinterpret_cast<const char*>(from.at);
    auto staged = std::make_shared<std::string>(bytes, bytes + size);
    work = [&self, to, staged](std::string* why) {
      Address source{Place::pageable, reinterpret_cast<uint64_t>(staged->data())};
      return self.memory.copy(to, source, staged->size(), why);
    };
  } else {
    work = [&self, to, from, size](std::string* why) { return self.memory.copy(to, from, size, why); };
  }
  bool ends_here = wait == Wait::at_end || (to.place == Place::pageable && !on->capture);
  Point point;
  CUresult result = self.submit(held, on, std::move(work), &point);
  if (result != CUDA_SUCCESS || !ends_here) return result;
  return self.synchronize(held, {point});
}

CUresult to_device(CUdeviceptr to, const void* from, size_t size, CUstream stream, Wait wait) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    Address source = host(self, from);
    if (source.place == Place::device) return CUDA_ERROR_INVALID_VALUE;
    return transfer(self, held, stream, {Place::device, to}, source, size, wait);
  });
}

CUresult to_host(void* to, CUdeviceptr from, size_t size, CUstream stream, Wait wait) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    Address target = host(self, to);
    if (target.place == Place::device) return CUDA_ERROR_INVALID_VALUE;
    return transfer(self, held, stream, target, {Place::device, from}, size, wait);
  });
}

// The direction follows from the addresses.
CUresult anywhere(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream, Wait wait) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    Address target{self.memory.place_of(to), to}, source{self.memory.place_of(from), from};
    bool within = target.place == Place::device && source.place == Place::device;
    return transfer(self, held, stream, target, source, size, within ? Wait::as_needed : wait);
  });
}

CUresult set(CUdeviceptr to, uint32_t value, size_t width, size_t count, CUstream stream) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto on = self.stream(stream);
    if (!on) return CUDA_ERROR_INVALID_HANDLE;
    if (to % width) return CUDA_ERROR_INVALID_VALUE;
    if (count == 0) return CUDA_SUCCESS;
    return self.submit(held, on, [&self, to, value, width, count](std::string* why) {
      return self.memory.set(to, value, width, count, why);
    });
  });
}

// Frees what the device may still use only when all that is queued is done, as the real driver does.
template <class Free>
CUresult free_when_idle(Free free) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    if (CUresult refused = self.refuse_during_capture()) return refused;
    self.queues.force(held, self.queues.ends());
    if (self.queues.failure != CUDA_SUCCESS) return self.queues.failure;
    return free(self);
  });
}

}  // namespace

CUDA_API CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!free || !total) return CUDA_ERROR_INVALID_VALUE;
    *total = self.memory.total();
    *free = *total - std::min<size_t>(*total, self.memory.used());
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t size) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult refused = self.refuse_during_capture()) return refused;
    return allocate(self, held, out, size);
  });
}

CUDA_API CUresult cuMemFree_v2(CUdeviceptr at) {
  return free_when_idle([&](Driver& self) { return at ? self.memory.release(at) : CUDA_SUCCESS; });
}

// The address is known at once; the memory is there (again filled with NaN bytes) from its turn in the stream on.
CUDA_API CUresult cuMemAllocAsync(CUdeviceptr* out, size_t size, CUstream stream) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto on = self.stream(stream);
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (!on) return CUDA_ERROR_INVALID_HANDLE;
    if (!self.memory_pools) return CUDA_ERROR_NOT_SUPPORTED;
    if (on->capture) return CUDA_ERROR_NOT_SUPPORTED;
    *out = 0;
    if (size == 0) return CUDA_SUCCESS;
    if (CUresult failed = allocate(self, held, out, size)) return failed;
    CUdeviceptr at = *out;
    return self.submit(held, on, [&self, at](std::string*) { return self.memory.poison(at), CUDA_SUCCESS; });
  });
}

CUDA_API CUresult cuMemFreeAsync(CUdeviceptr at, CUstream stream) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto on = self.stream(stream);
    if (!on) return CUDA_ERROR_INVALID_HANDLE;
    if (!self.memory_pools) return CUDA_ERROR_NOT_SUPPORTED;
    if (!at) return CUDA_SUCCESS;
    if (on->capture) return CUDA_ERROR_NOT_SUPPORTED;
    if (!self.memory.starts_allocation(at)) return CUDA_ERROR_INVALID_VALUE;
    return self.submit(held, on, [&self, at](std::string* why) {
      CUresult result = self.memory.release(at);
      if (result != CUDA_SUCCESS) *why = "memory was freed twice";
      return result == CUDA_SUCCESS ? result : CUDA_ERROR_ILLEGAL_ADDRESS;
    });
  });
}

CUDA_API CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* out, CUdevice device) {
  return enter(Needs::initialized, [&](Driver& self, Lock&) {
    if (device < 0 || device >= self.devices) return CUDA_ERROR_INVALID_DEVICE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (!self.memory_pools) return CUDA_ERROR_NOT_SUPPORTED;
    *out = reinterpret_cast<CUmemoryPool>(&self.memory);
    return CUDA_SUCCESS;
  });
}
CUDA_API CUresult cuDeviceGetMemPool(CUmemoryPool* out, CUdevice device) {
  return cuDeviceGetDefaultMemPool(out, device);
}

// How much the pool keeps for later makes no difference here.
CUDA_API CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int, void*) {
  return enter(Needs::initialized, [&](Driver& self, Lock&) {
    return pool == reinterpret_cast<CUmemoryPool>(&self.memory) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}
CUDA_API CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t) { return cuMemPoolSetAttribute(pool, 0, nullptr); }

CUDA_API CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr at) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    CUdeviceptr start = 0;
    size_t bytes = 0;
    if (!self.memory.find(at, &start, &bytes)) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = start;
    if (size) *size = bytes;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuPointerGetAttribute(void* out, int which, CUdeviceptr at) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    Place place = self.memory.place_of(at);
    if (!out || place == Place::pageable || !self.memory.holds({place, at}, 1)) return CUDA_ERROR_INVALID_VALUE;
    bool device = place == Place::device;
    switch (which) {
      case POINTER_CONTEXT: return *static_cast<CUcontext*>(out) = the_context(), CUDA_SUCCESS;
      case POINTER_MEMORY_TYPE:
        return *static_cast<unsigned*>(out) = device ? MEMORY_TYPE_DEVICE : MEMORY_TYPE_HOST, CUDA_SUCCESS;
      case POINTER_DEVICE_POINTER:
        if (!device) return CUDA_ERROR_INVALID_VALUE;
        return *static_cast<CUdeviceptr*>(out) = at, CUDA_SUCCESS;
      case POINTER_HOST_POINTER:
        if (device) return CUDA_ERROR_INVALID_VALUE;
        return *static_cast<CUdeviceptr*>(out) = at, CUDA_SUCCESS;
      case POINTER_IS_MANAGED: return *static_cast<unsigned*>(out) = 0, CUDA_SUCCESS;
      case POINTER_DEVICE_ORDINAL: return *static_cast<int*>(out) = 0, CUDA_SUCCESS;
      default: return CUDA_ERROR_NOT_SUPPORTED;
    }
  });
}

CUDA_API CUresult cuMemHostAlloc(void** out, size_t size, unsigned) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult refused = self.refuse_during_capture()) return refused;
    return self.memory.allocate_pinned(size, out);
  });
}
CUDA_API CUresult cuMemAllocHost_v2(void** out, size_t size) { return cuMemHostAlloc(out, size, 0); }

CUDA_API CUresult cuMemFreeHost(void* at) {
  return free_when_idle([&](Driver& self) { return self.memory.release_pinned(at); });
}
CUDA_API CUresult cuMemHostRegister_v2(void* at, size_t size, unsigned) {
  return enter(Needs::context, [&](Driver& self, Lock&) { return self.memory.register_pinned(at, size); });
}
CUDA_API CUresult cuMemHostUnregister(void* at) {
  return free_when_idle([&](Driver& self) { return self.memory.unregister_pinned(at); });
}

CUDA_API CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t size) {
  return to_device(to, from, size, STREAM_LEGACY, Wait::at_end);
}
CUDA_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t size, CUstream stream) {
  return to_device(to, from, size, stream, Wait::as_needed);
}
CUDA_API CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t size) {
  return to_host(to, from, size, STREAM_LEGACY, Wait::at_end);
}
CUDA_API CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t size, CUstream stream) {
  return to_host(to, from, size, stream, Wait::as_needed);
}
CUDA_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    return transfer(self, held, stream, {Place::device, to}, {Place::device, from}, size, Wait::as_needed);
  });
}
// Within the device even the plain call does not wait.
CUDA_API CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t size) {
  return cuMemcpyDtoDAsync_v2(to, from, size, STREAM_LEGACY);
}
CUDA_API CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t size) {
  return anywhere(to, from, size, STREAM_LEGACY, Wait::at_end);
}
CUDA_API CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream) {
  return anywhere(to, from, size, stream, Wait::as_needed);
}

// Memset does not wait either, with or without Async.
CUDA_API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return set(to, value, 1, count, stream);
}
CUDA_API CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
  return set(to, value, 2, count, stream);
}
CUDA_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return set(to, value, 4, count, stream);
}
CUDA_API CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  return set(to, value, 1, count, STREAM_LEGACY);
}
CUDA_API CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
  return set(to, value, 2, count, STREAM_LEGACY);
}
CUDA_API CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
  return set(to, value, 4, count, STREAM_LEGACY);
}
