// Device memory, pinned memory, copies, failures.
#include "check.h"

CASE(start_and_no_device) {
  int count = 0;
  EQUAL(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
  setenv("FAKE_CUDA_DEVICES", "0", 1);
  EQUAL(cuInit(0), CUDA_ERROR_NO_DEVICE);
  EQUAL(cuDeviceGetCount(&count), CUDA_ERROR_NOT_INITIALIZED);
}

CASE(wrong_environment_is_refused) {
  setenv("FAKE_CUDA_MEMORY_BYTES", "much", 1);
  EQUAL(cuInit(0), CUDA_ERROR_INVALID_VALUE);
}

CASE(calls_need_a_context_on_the_thread) {
  OK(cuInit(0));
  CUdeviceptr at = 0;
  EQUAL(cuMemAlloc_v2(&at, 4), CUDA_ERROR_INVALID_CONTEXT);
  CUcontext context = nullptr;
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  EQUAL(cuMemAlloc_v2(&at, 4), CUDA_ERROR_INVALID_CONTEXT);
  OK(cuCtxSetCurrent(context));
  OK(cuMemAlloc_v2(&at, 4));
  OK(cuDevicePrimaryCtxRelease_v2(0));
  EQUAL(cuMemAlloc_v2(&at, 4), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  EQUAL(counted().bytes_now, 0);
}

CASE(what_is_not_there_is_not_supported) {
  Fixture fixture;
  CUdeviceptr at = 0;
  EQUAL(cuMemAllocManaged(&at, 4, 1), CUDA_ERROR_NOT_SUPPORTED);
}

CASE(memory_is_poisoned_and_counted) {
  setenv("FAKE_CUDA_MEMORY_BYTES", "1000000", 1);
  Fixture fixture;
  size_t free = 0, total = 0;
  CUdeviceptr first = 0, second = 0;
  OK(cuMemAlloc_v2(&first, 600000));
  unsigned char bytes[600000];
  OK(cuMemcpyDtoH_v2(bytes, first, sizeof bytes));
  for (unsigned char byte : bytes) EQUAL(byte, 0xFF);
  OK(cuMemGetInfo_v2(&free, &total));
  EQUAL(total, 1000000);
  EQUAL(free, 1000000 - 600064);
  EQUAL(cuMemAlloc_v2(&second, 400000), CUDA_ERROR_OUT_OF_MEMORY);
  OK(cuMemAlloc_v2(&second, 300000));
  EQUAL(second % 256, 0);
  OK(cuMemFree_v2(first));
  EQUAL(cuMemFree_v2(first), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuMemFree_v2(second + 256), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemFree_v2(0));
  EQUAL(cuMemAlloc_v2(&first, 0), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemAlloc_v2(&first, 600000));  // an error of memory is no failure of the context
  auto all = counted();
  EQUAL(all.allocations, 3);
  EQUAL(all.frees, 1);
  EQUAL(all.bytes_peak, 600064 + 300032);
  EQUAL(all.bytes_now, 600064 + 300032);
  EQUAL(all.bytes_device_to_host, 600000);
}

CASE(many_allocations_come_and_go) {
  setenv("FAKE_CUDA_MEMORY_BYTES", "100000000", 1);
  Fixture fixture;
  std::vector<CUdeviceptr> held;
  unsigned state = 1;
  for (int turn = 0; turn < 5000; turn++) {
    state = state * 1664525 + 1013904223;
    if (held.size() > 100 || (!held.empty() && state >> 31)) {
      size_t at = (state >> 8) % held.size();
      OK(cuMemFree_v2(held[at]));
      held.erase(held.begin() + static_cast<long>(at));
    } else {
      held.push_back(0);
      OK(cuMemAlloc_v2(&held.back(), 1 + (state >> 12) % 500000));
    }
  }
  for (CUdeviceptr at : held) OK(cuMemFree_v2(at));
  EQUAL(counted().bytes_now, 0);
}

CASE(memory_freed_in_a_stream_counts_when_it_is_needed) {
  setenv("FAKE_CUDA_MEMORY_BYTES", "1000000", 1);
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr first = 0, second = 0;
  OK(cuMemAllocAsync(&first, 900000, stream));
  OK(cuMemFreeAsync(first, stream));
  EQUAL(counted().frees, 0);
  OK(cuMemAllocAsync(&second, 900000, stream));
  EQUAL(counted().frees, 1);
  OK(cuMemFreeAsync(second, stream));
  OK(cuMemAlloc_v2(&first, 900000));
  OK(cuMemAllocAsync(&second, 0, stream));
  OK(cuMemFreeAsync(second, stream));
}

// What a stream allocates is filled with NaN at its turn: whoever wrote before that, from another stream, loses it.
CASE(memory_allocated_in_a_stream_is_not_there_before) {
  Fixture fixture;
  CUstream stream = new_stream(), other = new_stream();
  CUdeviceptr x = 0;
  OK(cuMemAllocAsync(&x, 4, stream));
  OK(cuMemsetD32Async(x, 0, 1, other));
  OK(cuStreamSynchronize(other));
  OK(cuStreamSynchronize(stream));
  int lost = 0;
  for (uint64_t seed = 1; seed <= 20; seed++) {
    fake_cuda_set_seed(seed);
    OK(cuMemAllocAsync(&x, 4, stream));
    OK(cuMemsetD32Async(x, 0, 1, other));
    OK(cuStreamSynchronize(other));
    OK(cuStreamSynchronize(stream));
    unsigned bits;
    OK(cuMemcpyDtoH_v2(&bits, x, 4));
    lost += bits == 0xFFFFFFFF;
  }
  EQUAL(lost > 0 && lost < 20, true);
}

CASE(a_copy_out_of_bounds_fails_the_context) {
  Fixture fixture;
  CUdeviceptr x = new_floats(10, 1), y = 0;
  float host[11];
  EQUAL(cuMemcpyDtoH_v2(host, x, sizeof host), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuMemcpyDtoH_v2(host, x, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuMemAlloc_v2(&y, 4), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  char why[200];
  fake_cuda_last_failure(why, sizeof why);
  EQUAL(strstr(why, "a copy from 44 bytes") != nullptr, true);
  OK(cuDevicePrimaryCtxReset_v2(0));
  OK(cuMemAlloc_v2(&y, 4));
  EQUAL(cuMemFree_v2(x), CUDA_ERROR_INVALID_VALUE);
}

CASE(an_asynchronous_copy_out_of_bounds_shows_at_the_synchronization) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(10, 1);
  float host[11] = {};
  OK(cuMemcpyHtoDAsync_v2(x, host, sizeof host, stream));
  EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  OK(cuDevicePrimaryCtxReset_v2(0));
}

CASE(host_and_device_addresses_are_told_apart) {
  Fixture fixture;
  CUdeviceptr x = new_floats(4, 1);
  float host[4];
  EQUAL(cuMemcpyHtoD_v2(x, reinterpret_cast<void*>(x), 16), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuMemcpyDtoH_v2(reinterpret_cast<void*>(x), x, 16), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuMemcpyDtoH_v2(nullptr, x, 16), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuMemcpyHtoD_v2(reinterpret_cast<CUdeviceptr>(host), host, 16), CUDA_ERROR_ILLEGAL_ADDRESS);
}

CASE(pinned_memory_is_tracked) {
  Fixture fixture;
  void* pinned = nullptr;
  OK(cuMemHostAlloc(&pinned, 1000, 0));
  EQUAL(static_cast<unsigned char*>(pinned)[999], 0xFF);
  EQUAL(counted().pinned_bytes_now, 1000);
  CUdeviceptr x = new_floats(1000, 1);
  EQUAL(cuMemcpyHtoD_v2(x, pinned, 1001), CUDA_ERROR_INVALID_VALUE);
  OK(cuMemcpyHtoD_v2(x, pinned, 1000));
  static char own[5000];
  OK(cuMemHostRegister_v2(own, sizeof own, 0));
  EQUAL(cuMemHostRegister_v2(own + 4999, 1, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  EQUAL(counted().pinned_bytes_now, 6000);
  EQUAL(cuMemFreeHost(own), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuMemHostUnregister(pinned), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  OK(cuMemHostUnregister(own));
  OK(cuMemFreeHost(pinned));
  EQUAL(cuMemFreeHost(pinned), CUDA_ERROR_INVALID_VALUE);
  EQUAL(counted().pinned_bytes_now, 0);
}
