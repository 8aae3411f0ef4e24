// Stream capture and graphs.
#include "check.h"

namespace {

CUgraphExec end_capture(CUstream stream) {
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  OK(cuStreamEndCapture(stream, &graph));
  OK(cuGraphInstantiateWithFlags(&executable, graph, 1));
  OK(cuGraphDestroy(graph));
  return executable;
}

}  // namespace

CASE(a_graph_repeats_what_was_captured) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  float* pinned = new_pinned(2);
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  OK(cuMemcpyHtoDAsync_v2(x, pinned, 4, stream));
  OK(apply(fixture.function("add"), x, 1, stream));
  OK(apply(fixture.function("multiply"), x, 3, stream));
  OK(cuMemcpyDtoHAsync_v2(pinned + 1, x, 4, stream));
  int status = 0;
  OK(cuStreamIsCapturing(stream, &status));
  EQUAL(status, static_cast<int>(CAPTURE_ACTIVE));
  CUgraphExec executable = end_capture(stream);
  OK(cuStreamIsCapturing(stream, &status));
  EQUAL(status, static_cast<int>(CAPTURE_NONE));
  OK(cuCtxSynchronize());
  EQUAL(read_float(x), 1);  // capturing runs nothing
  EQUAL(counted().launches, 0);
  for (float value : {1.f, 5.f, 9.f}) {
    pinned[0] = value;
    OK(cuGraphLaunch(executable, stream));
    OK(cuStreamSynchronize(stream));
    EQUAL(pinned[1], (value + 1) * 3);
  }
  EQUAL(counted().launches, 6);
  EQUAL(counted().graph_launches, 3);
  OK(cuGraphLaunch(executable, stream));
  OK(cuGraphExecDestroy(executable));
  OK(cuStreamSynchronize(stream));
  EQUAL(cuGraphLaunch(executable, stream), CUDA_ERROR_INVALID_HANDLE);
}

// A captured copy reads memory that is not pinned when the graph runs, too.
CASE(a_captured_source_is_read_at_the_launch) {
  Fixture fixture;
  CUstream stream = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  static float source = 1;
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  OK(cuMemcpyHtoDAsync_v2(x, &source, 4, stream));
  CUgraphExec executable = end_capture(stream);
  source = 8;
  OK(cuGraphLaunch(executable, stream));
  OK(cuStreamSynchronize(stream));
  EQUAL(read_float(x), 8);
}

// Fork and join: the branches run in any order, the join behind both.
CASE(a_graph_of_two_streams_keeps_its_edges_only) {
  Fixture fixture;
  CUstream stream = new_stream(), side = new_stream();
  CUevent fork = new_event(), join = new_event();
  CUdeviceptr x = new_floats(1, 1), y = new_floats(1, 0);
  unsigned one = 1;
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_THREAD_LOCAL));
  OK(cuMemsetD32Async(x, 0x3F800000, 1, stream));
  OK(cuEventRecord(fork, stream));
  OK(cuStreamWaitEvent(side, fork, 0));
  OK(apply(fixture.function("add"), x, 1, stream));
  OK(apply(fixture.function("multiply"), x, 2, side));
  OK(cuEventRecord(join, side));
  OK(cuStreamWaitEvent(stream, join, 0));
  void* arguments[] = {&y, &x, &one};
  OK(cuLaunchKernel(fixture.function("copy"), 1, 1, 1, 1, 1, 1, 0, stream, arguments, nullptr));
  CUgraphExec executable = end_capture(stream);
  int in_order = 0, reversed = 0;
  for (uint64_t seed = 1; seed <= 50; seed++) {
    fake_cuda_set_seed(seed);
    OK(cuGraphLaunch(executable, stream));
    OK(cuStreamSynchronize(stream));
    in_order += read_float(y) == 4;
    reversed += read_float(y) == 3;
  }
  EQUAL(in_order + reversed, 50);
  EQUAL(in_order > 5 && reversed > 5, true);
  OK(apply(fixture.function("add"), x, 1, side));  // the side stream is free again
  OK(cuStreamSynchronize(side));
  EQUAL(cuEventSynchronize(join), CUDA_ERROR_CAPTURED_EVENT);
}

CASE(launches_of_one_graph_follow_each_other) {
  Fixture fixture;
  CUstream stream = new_stream(), other = new_stream();
  CUdeviceptr x = new_floats(1, 1);
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  OK(apply(fixture.function("add"), x, 1, stream));
  OK(apply(fixture.function("multiply"), x, 2, stream));
  CUgraphExec executable = end_capture(stream);
  for (uint64_t seed = 1; seed <= 30; seed++) {
    fake_cuda_set_seed(seed);
    OK(cuMemsetD32Async(x, 0x3F800000, 1, nullptr));
    OK(cuCtxSynchronize());
    OK(cuGraphLaunch(executable, stream));
    OK(cuGraphLaunch(executable, other));
    OK(cuCtxSynchronize());
    EQUAL(read_float(x), 10);
  }
}

CASE(what_a_capture_does_not_allow) {
  Fixture fixture;
  CUstream stream = new_stream(), side = new_stream();
  CUevent event = new_event(), outside = new_event();
  CUdeviceptr x = new_floats(1, 1);
  CUgraph graph = nullptr;
  CUfunction nothing = fixture.function("nothing");
  OK(cuEventRecord(outside, side));
  auto invalid = [&](auto call, CUresult want) {
    OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
    OK(launch_nothing(nothing, stream));
    EQUAL(call(), want);
    EQUAL(launch_nothing(nothing, stream), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  };
  invalid([&] { return cuStreamSynchronize(stream); }, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  invalid([&] { return cuStreamQuery(stream); }, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  invalid([&] { return cuCtxSynchronize(); }, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  invalid([&] { return cuMemAlloc_v2(&x, 4); }, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  invalid([&] { return cuMemFree_v2(x); }, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  invalid([&] { return cuStreamWaitEvent(stream, outside, 0); }, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  invalid([&] { return cuEventRecord(event, stream), cuEventQuery(event); }, CUDA_ERROR_CAPTURED_EVENT);

  // A stream that joined and was not joined back.
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  OK(cuEventRecord(event, stream));
  OK(cuStreamWaitEvent(side, event, 0));
  OK(launch_nothing(nothing, side));
  EQUAL(cuStreamEndCapture(side, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

  // The default stream would wait for a blocking stream that captures; it does not for a non-blocking one.
  CUstream blocking = new_stream(0);
  OK(cuStreamBeginCapture_v2(blocking, CAPTURE_RELAXED));
  EQUAL(launch_nothing(nothing, nullptr), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  EQUAL(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_RELAXED));
  OK(launch_nothing(nothing, nullptr));
  OK(cuStreamEndCapture(stream, &graph));

  EQUAL(cuStreamBeginCapture_v2(nullptr, CAPTURE_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_ILLEGAL_STATE);
  OK(cuCtxSynchronize());
}

CASE(an_empty_graph_runs) {
  Fixture fixture;
  CUstream stream = new_stream();
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  CUgraphExec executable = end_capture(stream);
  OK(cuGraphLaunch(executable, stream));
  OK(cuStreamSynchronize(stream));
}

CASE(a_failing_kernel_in_a_graph_fails_the_context) {
  Fixture fixture;
  CUstream stream = new_stream();
  OK(cuStreamBeginCapture_v2(stream, CAPTURE_GLOBAL));
  OK(launch_nothing(fixture.function("trap"), stream));
  OK(launch_nothing(fixture.function("nothing"), stream));
  CUgraphExec executable = end_capture(stream);
  OK(cuGraphLaunch(executable, stream));
  EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  EQUAL(cuGraphLaunch(executable, stream), CUDA_ERROR_ILLEGAL_ADDRESS);
  OK(cuDevicePrimaryCtxReset_v2(0));
}
