// The order of streams: what events forbid never happens, what they do not forbid happens in some seed.
#include <atomic>
#include <thread>

#include "check.h"

namespace {

constexpr uint64_t SEEDS = 60;

// Two streams that may change x, which starts at 1. Add 1, then double: 4; the other way round: 3.
struct TwoStreams {
  Fixture fixture;
  CUstream first, second;
  CUdeviceptr x;
  CUfunction add, multiply;
  explicit TwoStreams(unsigned flags = STREAM_NON_BLOCKING)
      : first(new_stream(flags)), second(new_stream(flags)), x(new_floats(1, 1)), add(fixture.function("add")),
        multiply(fixture.function("multiply")) {}
  void start(uint64_t seed) {
    OK(cuCtxSynchronize());
    fake_cuda_set_seed(seed);
    OK(cuMemsetD32Async(x, 0x3F800000, 1, nullptr));
    OK(cuCtxSynchronize());
  }
};

}  // namespace

CASE(nothing_runs_before_it_must) {
  TwoStreams with;
  with.start(1);
  uint64_t before = counted().launches;
  for (int at = 0; at < 100; at++) OK(apply(with.add, with.x, 1, with.first));
  EQUAL(counted().launches, before);
  OK(cuStreamSynchronize(with.first));
  EQUAL(counted().launches, before + 100);
  EQUAL(read_float(with.x), 101);
}

CASE(without_an_event_both_orders_happen) {
  TwoStreams with;
  int in_order = 0, reversed = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    with.start(seed);
    OK(apply(with.add, with.x, 1, with.first));
    OK(apply(with.multiply, with.x, 2, with.second));
    OK(cuCtxSynchronize());
    float x = read_float(with.x);
    in_order += x == 4;
    reversed += x == 3;
  }
  EQUAL(in_order > 5 && reversed > 5, true);
  EQUAL(in_order + reversed, static_cast<int>(SEEDS));
}

CASE(an_event_orders_streams) {
  TwoStreams with;
  CUevent event = new_event();
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    with.start(seed);
    OK(apply(with.add, with.x, 1, with.first));
    OK(cuEventRecord(event, with.first));
    OK(apply(with.add, with.x, 0, with.first));
    OK(cuStreamWaitEvent(with.second, event, 0));
    OK(cuEventRecord(event, with.first));  // does not change the wait above
    OK(apply(with.multiply, with.x, 2, with.second));
    OK(cuStreamSynchronize(with.second));
    EQUAL(read_float(with.x), 4);
  }
  OK(cuEventDestroy_v2(event));
  EQUAL(cuEventDestroy_v2(event), CUDA_ERROR_INVALID_HANDLE);
}

// A synchronization of one stream leaves another's work undone in some seeds, and does it in others.
CASE(another_stream_may_run_late_or_early) {
  TwoStreams with;
  int late = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    with.start(seed);
    OK(apply(with.multiply, with.x, 5, with.second));
    for (int at = 0; at < 5; at++) OK(apply(with.add, with.x, 0, with.first));
    OK(cuStreamSynchronize(with.first));
    CUstream third = new_stream();
    float x;
    OK(cuMemcpyDtoHAsync_v2(&x, with.x, 4, third));
    OK(cuStreamDestroy_v2(third));
    late += x == 1;
  }
  EQUAL(late > 10 && late < static_cast<int>(SEEDS) - 10, true);
}

CASE(a_seed_gives_the_same_order_again) {
  TwoStreams with;
  std::string runs[2];
  for (auto& run : runs) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
      with.start(seed);
      OK(apply(with.add, with.x, 1, with.first));
      OK(apply(with.multiply, with.x, 2, with.second));
      OK(apply(with.add, with.x, 3, with.first));
      OK(cuCtxSynchronize());
      run += std::to_string(read_float(with.x)) + " ";
    }
  }
  EQUAL(runs[0] == runs[1], true);
}

CASE(the_default_stream_waits_for_blocking_streams_and_they_for_it) {
  TwoStreams with(0);
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    with.start(seed);
    OK(apply(with.add, with.x, 1, with.first));
    OK(apply(with.multiply, with.x, 2, nullptr));
    OK(apply(with.add, with.x, 3, with.second));
    OK(cuStreamSynchronize(with.second));
    EQUAL(read_float(with.x), 7);
  }
}

CASE(the_default_stream_and_non_blocking_streams_do_not_wait_for_each_other) {
  TwoStreams with;
  int reversed = 0, early = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    with.start(seed);
    OK(apply(with.add, with.x, 1, with.first));
    OK(apply(with.multiply, with.x, 2, nullptr));
    OK(cuCtxSynchronize());
    reversed += read_float(with.x) == 3;
    with.start(seed);
    OK(apply(with.add, with.x, 1, nullptr));
    OK(apply(with.multiply, with.x, 2, with.first));
    OK(cuCtxSynchronize());
    early += read_float(with.x) == 3;
  }
  EQUAL(reversed > 5 && reversed < static_cast<int>(SEEDS), true);
  EQUAL(early > 5 && early < static_cast<int>(SEEDS), true);
}

CASE(a_pinned_source_is_read_late) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 0);
  float* pinned = new_pinned(1);
  *pinned = 1;
  OK(cuMemcpyHtoDAsync_v2(x, pinned, 4, stream));
  *pinned = 2;  // too early
  OK(cuStreamSynchronize(stream));
  EQUAL(read_float(x), 2);
  float pageable = 3;
  OK(cuMemcpyHtoDAsync_v2(x, &pageable, 4, stream));
  pageable = 4;
  OK(cuStreamSynchronize(stream));
  EQUAL(read_float(x), 3);
}

CASE(a_pinned_target_is_written_late) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 5);
  float* pinned = new_pinned(1);
  *pinned = 0;
  OK(cuMemcpyDtoHAsync_v2(pinned, x, 4, stream));
  EQUAL(*pinned, 0);
  OK(cuStreamSynchronize(stream));
  EQUAL(*pinned, 5);
  float pageable = 0;
  OK(cuMemcpyDtoHAsync_v2(&pageable, x, 4, stream));
  EQUAL(pageable, 5);
}

CASE(launch_arguments_are_copied_at_the_call) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  float by = 2;
  unsigned count = 1;
  void* arguments[] = {&x, &by, &count};
  OK(cuLaunchKernel(fixture.function("add"), 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr));
  by = 100;
  OK(cuStreamSynchronize(stream));
  EQUAL(read_float(x), 3);
}

CASE(queries_make_progress) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUevent event = new_event();
  OK(cuEventQuery(event));
  OK(cuEventSynchronize(event));
  OK(cuStreamQuery(stream));
  CUdeviceptr x = new_floats(1, 1);
  int pending = 0;
  for (int at = 0; at < 20; at++) OK(apply(fixture.function("add"), x, 1, stream));
  OK(cuEventRecord(event, stream));
  while (CUresult result = cuEventQuery(event)) {
    EQUAL(result, CUDA_ERROR_NOT_READY);
    pending++;
  }
  EQUAL(pending > 3, true);
  OK(cuStreamQuery(stream));
  EQUAL(read_float(x), 21);
}

CASE(timed_events_measure) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUevent from = nullptr, to = nullptr;
  OK(cuEventCreate(&from, 0));
  OK(cuEventCreate(&to, 0));
  OK(cuEventRecord(from, stream));
  OK(cuEventRecord(to, stream));
  float milliseconds = -1;
  EQUAL(cuEventElapsedTime(&milliseconds, from, to), CUDA_ERROR_NOT_READY);
  OK(cuEventSynchronize(to));
  OK(cuEventElapsedTime(&milliseconds, from, to));
  EQUAL(milliseconds >= 0, true);
}

CASE(host_functions_run_in_order_and_may_not_call) {
  Fixture fixture;
  CUstream stream = new_stream();
  static CUdeviceptr x;
  static CUresult answer;
  x = new_floats(1, 1);
  OK(apply(fixture.function("add"), x, 1, stream));
  OK(cuLaunchHostFunc(stream, [](void* data) { *static_cast<int*>(data) = 7, answer = cuCtxSynchronize(); }, &answer));
  OK(cuStreamSynchronize(stream));
  EQUAL(answer, CUDA_ERROR_NOT_PERMITTED);
  OK(cuCtxSynchronize());
}

// Looking at a stream does not wait for a host function, which may wait for what follows the look.
CASE(a_query_does_not_wait_for_host_functions) {
  Fixture fixture;
  CUstream stream = new_stream();
  static std::atomic<bool> released, done;
  OK(cuLaunchHostFunc(stream, [](void*) {
    while (!released) std::this_thread::yield();
    done = true;
  }, nullptr));
  for (int look = 0; look < 20; look++) EQUAL(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
  released = true;
  OK(cuStreamSynchronize(stream));
  EQUAL(done.load(), true);
}

CASE(a_destroyed_stream_still_does_its_work) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  OK(apply(fixture.function("add"), x, 1, stream));
  OK(cuStreamDestroy_v2(stream));
  EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  OK(cuCtxSynchronize());
  EQUAL(read_float(x), 2);
}

CASE(a_full_queue_is_emptied_by_who_queues_more) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUfunction nothing = fixture.function("nothing");
  for (int at = 0; at < 20000; at++) OK(launch_nothing(nothing, stream));
  EQUAL(counted().launches, 20000 - 16384);
}

CASE(frees_wait_for_what_is_queued) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUfunction add = fixture.function("add");
  CUdeviceptr x = new_floats(1, 1), y = new_floats(1, 1);
  float* pinned = new_pinned(1);
  OK(apply(add, x, 1, stream));
  OK(cuMemcpyDtoDAsync_v2(y, x, 4, stream));
  OK(cuMemFree_v2(x));
  EQUAL(read_float(y), 2);
  OK(cuMemcpyDtoHAsync_v2(pinned, y, 4, stream));
  OK(cuMemFreeHost(pinned));
  OK(cuCtxSynchronize());
}

CASE(the_last_release_finishes_what_is_queued) {
  Fixture fixture;
  static bool done;
  OK(cuLaunchHostFunc(new_stream(), [](void*) { done = true; }, nullptr));
  CUcontext again = nullptr;
  OK(cuDevicePrimaryCtxRetain(&again, 0));
  OK(cuDevicePrimaryCtxRelease_v2(0));
  EQUAL(done, false);
  OK(cuDevicePrimaryCtxRelease_v2(0));
  EQUAL(done, true);
}
