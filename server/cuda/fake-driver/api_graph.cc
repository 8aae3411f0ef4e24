// Entry points: stream capture and graphs.
//
// A capture records what is queued on its streams as a graph's nodes; a node waits for what was queued before it on its
// stream, and for what the events that the stream waited for stand behind. A launch carries the nodes out in any order
// that respects this.
#include <algorithm>

#include "driver.h"

using namespace fake;

namespace {

// True if every stream that joined the capture was joined back: its last nodes come before the origin's.
bool joined(const Capture& capture) {
  const auto& nodes = capture.graph.nodes;
  std::vector<bool> before(nodes.size(), false);
  for (size_t node : capture.origin->frontier) before[node] = true;
  for (size_t node = nodes.size(); node-- > 0;) {
    if (!before[node]) continue;
    for (size_t earlier : nodes[node].after) before[earlier] = true;
  }
  for (const auto& stream : capture.streams) {
    for (size_t node : stream->frontier) {
      if (!before[node]) return false;
    }
  }
  return true;
}

CUresult instantiate(CUgraphExec* out, CUgraph handle, uint64_t flags) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto graph = self.graphs.find(handle);
    if (!graph) return CUDA_ERROR_INVALID_HANDLE;
    if (!out || (flags & ~static_cast<uint64_t>(GRAPH_INSTANTIATE_FLAGS_KNOWN))) return CUDA_ERROR_INVALID_VALUE;
    if (flags & GRAPH_INSTANTIATE_DEVICE_LAUNCH) {
      return flags == GRAPH_INSTANTIATE_DEVICE_LAUNCH ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE;
    }
    auto executable = std::make_shared<Executable>();
    executable->graph = std::make_shared<Graph>(*graph);
    self.executables.add(executable, out);
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUDA_API CUresult cuStreamBeginCapture_v2(CUstream handle, int mode) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (mode < CAPTURE_GLOBAL || mode > CAPTURE_RELAXED) return CUDA_ERROR_INVALID_VALUE;
    if (stream->kind == Stream::Kind::legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    auto capture = std::make_shared<Capture>();
    capture->mode = static_cast<CaptureMode>(mode);
    capture->thread = std::this_thread::get_id();
    capture->origin = stream;
    capture->streams.push_back(stream);
    stream->capture = capture;
    stream->frontier.clear();
    self.captures.push_back(capture);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamEndCapture(CUstream handle, CUgraph* out) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = nullptr;
    auto capture = stream->capture;
    if (!capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    if (capture->mode != CAPTURE_RELAXED && capture->thread != std::this_thread::get_id()) {
      return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    bool complete = joined(*capture);
    capture->ended = true;
    self.captures.erase(std::remove(self.captures.begin(), self.captures.end(), capture), self.captures.end());
    for (const auto& member : capture->streams) {
      member->capture = nullptr;
      member->frontier.clear();
    }
    capture->streams.clear();
    capture->origin = nullptr;
    if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!complete) return CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    self.graphs.add(std::make_shared<Graph>(std::move(capture->graph)), out);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamIsCapturing(CUstream handle, int* status) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!status) return CUDA_ERROR_INVALID_VALUE;
    *status = !stream->capture ? CAPTURE_NONE : stream->capture->invalidated ? CAPTURE_INVALIDATED : CAPTURE_ACTIVE;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long flags) {
  return instantiate(out, graph, flags);
}

CUDA_API CUresult cuGraphUpload(CUgraphExec handle, CUstream stream) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    return self.executables.find(handle) && self.stream(stream) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUDA_API CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto executable = self.executables.find(handle);
    auto stream = self.stream(stream_handle);
    if (!executable || !stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) {
      stream->capture->invalidated = true;
      return CUDA_ERROR_NOT_SUPPORTED;  // graphs inside graphs
    }
    Operation operation;
    operation.wait = executable->last;
    operation.run = start(executable->graph);
    counters().graph_launched();
    executable->last = self.queues.enqueue(held, stream, std::move(operation));
    return self.queues.failure;
  });
}

CUDA_API CUresult cuGraphGetNodes(CUgraph handle, void** nodes, size_t* count) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto graph = self.graphs.find(handle);
    if (!graph) return CUDA_ERROR_INVALID_HANDLE;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    if (nodes) return CUDA_ERROR_NOT_SUPPORTED;  // only how many there are
    *count = graph->nodes.size();
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuGraphDestroy(CUgraph handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    return self.graphs.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// A launch that is queued still runs: it holds the graph.
CUDA_API CUresult cuGraphExecDestroy(CUgraphExec handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    return self.executables.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}
