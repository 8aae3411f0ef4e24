// Modules, launches and their limits, kernels that fail.
#include <signal.h>

#include <thread>

#include "check.h"

namespace {

CUresult launch_shape(CUfunction shape, CUdeviceptr to, Dim3 grid, Dim3 block, unsigned shared) {
  void* arguments[] = {&to};
  return cuLaunchKernel(shape, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, nullptr, arguments, nullptr);
}

// The kernel fails the context for good; a reset makes it usable.
void expect_failure(const char* kernel, const char* reason) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  OK(launch_nothing(fixture.function(kernel), stream));
  OK(apply(fixture.function("add"), x, 1, stream));
  EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuCtxSynchronize(), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuStreamDestroy_v2(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  CUcontext again = nullptr;
  EQUAL(cuDevicePrimaryCtxRetain(&again, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(counted().launches, 1);
  char why[300];
  fake_cuda_last_failure(why, sizeof why);
  if (!strstr(why, kernel) || !strstr(why, reason)) EQUAL(std::string(why).size(), 0);
  OK(cuDevicePrimaryCtxReset_v2(0));
  EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuModuleLoadData(&fixture.module, "// again"));
  x = new_floats(1, 1);
  OK(apply(fixture.function("add"), x, 1, nullptr));
  EQUAL(read_float(x), 2);
}

CUresult touch(const Fixture& fixture, CUdeviceptr at, int offset) {
  void* arguments[] = {&at, &offset};
  OK(cuLaunchKernel(fixture.function("touch"), 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr));
  return cuCtxSynchronize();
}

}  // namespace

CASE(a_launch_gets_its_shape_and_arguments) {
  Fixture fixture;
  CUdeviceptr to = new_floats(7, 0);
  OK(launch_shape(fixture.function("shape"), to, {3, 4, 5}, {6, 7, 8}, 99));
  unsigned got[7];
  OK(cuMemcpyDtoH_v2(got, to, sizeof got));
  unsigned want[] = {3, 4, 5, 6, 7, 8, 99};
  for (int at = 0; at < 7; at++) EQUAL(got[at], want[at]);
  struct Big {
    uint64_t words[5];
  } big = {{1, 2, 3, 4, 5}}, back;
  CUdeviceptr at = new_floats(10, 0);
  void* arguments[] = {&at, &big};
  OK(cuLaunchKernel(fixture.function("store_big"), 1, 1, 1, 1, 1, 1, 0, nullptr, arguments, nullptr));
  OK(cuMemcpyDtoH_v2(&back, at, sizeof back));
  for (int word = 0; word < 5; word++) EQUAL(back.words[word], big.words[word]);
}

CASE(limits_of_a_launch_are_checked) {
  Fixture fixture;
  CUdeviceptr to = new_floats(7, 0);
  CUfunction shape = fixture.function("shape");
  OK(launch_shape(shape, to, {2147483647, 65535, 65535}, {1024, 1, 1}, 49152));
  OK(launch_shape(shape, to, {1, 1, 1}, {1, 16, 64}, 0));
  EQUAL(launch_shape(shape, to, {0, 1, 1}, {1, 1, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 65536, 1}, {1, 1, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 65536}, {1, 1, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 1}, {0, 1, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 1}, {1025, 1, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 1}, {32, 33, 1}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 1}, {1, 1, 65}, 0), CUDA_ERROR_INVALID_VALUE);
  EQUAL(launch_shape(shape, to, {1, 1, 1}, {1, 1, 1}, 49153), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuFuncSetAttribute(shape, FUNCTION_MAX_DYNAMIC_SHARED, (99 << 10) + 1), CUDA_ERROR_INVALID_VALUE);
  OK(cuFuncSetAttribute(shape, FUNCTION_MAX_DYNAMIC_SHARED, 99 << 10));
  OK(launch_shape(shape, to, {1, 1, 1}, {1, 1, 1}, 99 << 10));
  void* holes[] = {nullptr};
  EQUAL(cuLaunchKernel(shape, 1, 1, 1, 1, 1, 1, 0, nullptr, holes, nullptr), CUDA_ERROR_INVALID_VALUE);
  EQUAL(cuLaunchKernel(shape, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr), CUDA_ERROR_INVALID_VALUE);
  OK(cuCtxSynchronize());
}

CASE(functions_are_found_by_name) {
  Fixture fixture;
  CUfunction found = nullptr;
  EQUAL(cuModuleGetFunction(&found, fixture.module, "absent"), CUDA_ERROR_NOT_FOUND);
  EQUAL(launch_nothing(fixture.function("without_sizes"), nullptr), CUDA_ERROR_INVALID_IMAGE);
  CUfunction add = fixture.function("add");
  OK(cuModuleUnload(fixture.module));
  EQUAL(apply(add, 0, 0, nullptr), CUDA_ERROR_INVALID_HANDLE);
}

CASE(an_image_must_be_one_and_have_the_kernel) {
  Fixture fixture;
  CUmodule module = nullptr;
  CUfunction found = nullptr;
  EQUAL(cuModuleLoadData(&module, ""), CUDA_ERROR_INVALID_IMAGE);
  EQUAL(cuModuleLoadData(&module, "\x01\x02\x03\x04"), CUDA_ERROR_INVALID_IMAGE);
  OK(cuModuleLoadData(&module, ".version 8.0\n.visible .entry add(\n.param .u64 x\n)\n"));
  OK(cuModuleGetFunction(&found, module, "add"));
  EQUAL(cuModuleGetFunction(&found, module, "multiply"), CUDA_ERROR_NOT_FOUND);
  EQUAL(cuModuleGetFunction(&found, module, "ad"), CUDA_ERROR_NOT_FOUND);
}

CASE(without_a_kernels_library_no_module_loads) {
  unsetenv("FAKE_CUDA_KERNELS");
  OK(cuInit(0));
  CUcontext context = nullptr;
  OK(cuDevicePrimaryCtxRetain(&context, 0));
  OK(cuCtxSetCurrent(context));
  CUmodule module = nullptr;
  EQUAL(cuModuleLoadData(&module, "// text"), CUDA_ERROR_SHARED_OBJECT_INIT_FAILED);
}

CASE(a_trap_fails_the_context) { expect_failure("trap", "the test's trap"); }
CASE(a_trap_in_a_fiber_fails_the_context) { expect_failure("trap_in_fiber", "a trap in a fiber"); }
CASE(an_exception_fails_the_context) { expect_failure("throws", "exception"); }

CASE(a_kernel_that_leaves_its_memory_fails_the_context) {
  Fixture fixture;
  CUdeviceptr x = new_floats(1024, 1) + 4096 - 256;
  new_floats(1024, 1);  // not right behind the first
  OK(touch(fixture, x, 0));
  OK(touch(fixture, x, 255));
  EQUAL(touch(fixture, x, 256), CUDA_ERROR_ILLEGAL_ADDRESS);
  OK(cuDevicePrimaryCtxReset_v2(0));
  OK(cuModuleLoadData(&fixture.module, "// again"));
  EQUAL(touch(fixture, 0, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
}

CASE(a_write_just_behind_the_end_is_found) {
  Fixture fixture;
  CUdeviceptr x = new_floats(10, 1);
  OK(touch(fixture, x, 39));
  EQUAL(touch(fixture, x, 40), CUDA_ERROR_ILLEGAL_ADDRESS);
}

CASE(a_kernel_that_uses_freed_memory_fails_the_context) {
  Fixture fixture;
  CUdeviceptr x = new_floats(64, 1);
  OK(cuMemFree_v2(x));
  EQUAL(touch(fixture, x, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
}

CASE(a_fault_outside_of_kernels_goes_to_who_handled_it_before) {
  signal(SIGSEGV, [](int) { _Exit(0); });
  Fixture fixture;
  EQUAL(touch(fixture, 0, 0), CUDA_ERROR_ILLEGAL_ADDRESS);
  *reinterpret_cast<volatile int*>(16) = 1;
  EQUAL(true, false);
}

CASE(the_nth_launch_fails) {
  setenv("FAKE_CUDA_FAIL_LAUNCH", "2", 1);
  Fixture fixture;
  CUfunction nothing = fixture.function("nothing");
  OK(launch_nothing(nothing, nullptr));
  EQUAL(launch_nothing(nothing, nullptr), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  OK(launch_nothing(nothing, nullptr));
  OK(cuCtxSynchronize());
  fake_cuda_fail_launch(1, 1);
  OK(launch_nothing(nothing, nullptr));
  EQUAL(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
  EQUAL(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_FAILED);
}

CASE(launches_are_counted_by_name) {
  Fixture fixture;
  CUdeviceptr x = new_floats(1, 1);
  fake_cuda_reset_counters();
  static std::string seen;
  fake_cuda_on_launch(
      [](void* data, const char* kernel, void* const* arguments, const unsigned* sizes, const unsigned grid[3],
         const unsigned block[3], size_t) {
        bool whole = sizes[0] == 3 && sizes[2] == 4 && grid[0] == 1 && block[0] == 32;
        seen += whole && *static_cast<float*>(arguments[1]) == *static_cast<float*>(data) ? kernel : "wrong";
      },
      [] { static float by = 5; return &by; }());
  OK(apply(fixture.function("add"), x, 5, nullptr));
  OK(apply(fixture.function("add"), x, 5, nullptr));
  OK(apply(fixture.function("multiply"), x, 5, nullptr));
  OK(cuCtxSynchronize());
  EQUAL(seen == "addaddmultiply", true);
  auto all = counted();
  EQUAL(all.launches, 3);
  EQUAL(all.kernels, 2);
  EQUAL(strcmp(all.by_kernel[0].name, "add"), 0);
  EQUAL(all.by_kernel[0].launches, 2);
  EQUAL(all.by_kernel[1].launches, 1);
}

// Threads queue and wait at once; each sees its own stream in order.
CASE(threads_use_the_driver_together) {
  Fixture fixture;
  CUfunction add = fixture.function("add"), alone = fixture.function("alone");
  std::vector<std::thread> threads;
  for (int at = 0; at < 4; at++) {
    threads.emplace_back([&] {
      OK(cuCtxSetCurrent(fixture.context));
      CUstream stream = new_stream();
      CUdeviceptr x = 0;
      OK(cuMemAlloc_v2(&x, 4));
      OK(cuMemsetD32Async(x, 0, 1, stream));
      for (int round = 1; round <= 200; round++) {
        if (round % 10 == 0) OK(launch_nothing(alone, stream));
        for (int turn = 0; turn < 5; turn++) OK(apply(add, x, 1, stream));
        float value = 0;
        OK(cuMemcpyDtoHAsync_v2(&value, x, 4, stream));
        EQUAL(value, static_cast<float>(round * 5));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EQUAL(counted().launches, 4080);
}
