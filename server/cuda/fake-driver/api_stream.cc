// Entry points: streams, events, host functions.
#include <time.h>

#include <algorithm>

#include "driver.h"

using namespace fake;

namespace {

double now_seconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Entry points on a stream that must not be capturing: `body` runs with it.
template <class Body>
CUresult on_stream(CUstream handle, Body body) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) {
      stream->capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return body(self, held, stream);
  });
}

template <class Body>
CUresult on_event(CUevent handle, Body body) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto event = self.events.find(handle);
    if (!event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) {
      event->capture->invalidated = true;
      return CUDA_ERROR_CAPTURED_EVENT;
    }
    return body(self, held, event);
  });
}

void join_frontier(std::vector<size_t>* into, const std::vector<size_t>& more) {
  for (size_t node : more) {
    if (std::find(into->begin(), into->end(), node) == into->end()) into->push_back(node);
  }
}

// A wait for an event that a capture recorded: the stream joins that capture, or already belongs to it.
CUresult wait_in_capture(const std::shared_ptr<Stream>& stream, const Event& event) {
  auto& capture = event.capture;
  if (capture->ended) return CUDA_ERROR_CAPTURED_EVENT;
  if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!stream->capture) {
    if (stream->kind == Stream::Kind::legacy) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    stream->capture = capture;
    stream->frontier.clear();
    capture->streams.push_back(stream);
  } else if (stream->capture != capture) {
    stream->capture->invalidated = capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  join_frontier(&stream->frontier, event.frontier);
  return CUDA_SUCCESS;
}

}  // namespace

CUDA_API CUresult cuStreamCreateWithPriority(CUstream* out, unsigned flags, int priority) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!out || flags > STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
    auto stream = std::make_shared<Stream>();
    stream->kind = flags & STREAM_NON_BLOCKING ? Stream::Kind::non_blocking : Stream::Kind::blocking;
    stream->priority = priority;
    self.queues.add(stream);
    self.streams.add(stream, out);
    return CUDA_SUCCESS;
  });
}
CUDA_API CUresult cuStreamCreate(CUstream* out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }

CUDA_API CUresult cuStreamDestroy_v2(CUstream handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.streams.take(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (stream->capture) stream->capture->invalidated = true;
    self.queues.destroy(stream);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamSynchronize(CUstream handle) {
  return on_stream(handle, [](Driver& self, Lock& held, const std::shared_ptr<Stream>& stream) {
    return self.synchronize(held, {{stream, stream->last}});
  });
}

CUDA_API CUresult cuStreamQuery(CUstream handle) {
  return on_stream(handle, [](Driver& self, Lock& held, const std::shared_ptr<Stream>& stream) {
    bool done = self.queues.look(held, {stream, stream->last});
    if (self.queues.failure != CUDA_SUCCESS) return self.queues.failure;
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

CUDA_API CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->kind == Stream::Kind::non_blocking ? STREAM_NON_BLOCKING : 0;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!priority) return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority;
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!self.stream(handle)) return CUDA_ERROR_INVALID_HANDLE;
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = the_context();
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto stream = self.stream(handle);
    auto event = self.events.find(event_handle);
    if (!stream || !event) return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture) return wait_in_capture(stream, *event);
    if (!event->recorded || self.forgets_waits) return CUDA_SUCCESS;
    if (stream->capture) {
      stream->capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    Operation operation;
    operation.wait = event->recorded;
    self.queues.enqueue(held, stream, std::move(operation));
    return self.queues.failure;
  });
}

CUDA_API CUresult cuEventCreate(CUevent* out, unsigned flags) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    auto event = std::make_shared<Event>();
    event->timed = !(flags & EVENT_DISABLE_TIMING);
    self.events.add(event, out);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuEventDestroy_v2(CUevent handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    return self.events.take(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUDA_API CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream_handle, unsigned flags) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto stream = self.stream(stream_handle);
    auto event = self.events.find(handle);
    if (!stream || !event) return CUDA_ERROR_INVALID_HANDLE;
    if (flags) return CUDA_ERROR_NOT_SUPPORTED;  // external nodes of graphs
    if (stream->capture) {
      if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
      event->capture = stream->capture;
      event->frontier = stream->frontier;
      return CUDA_SUCCESS;
    }
    auto seconds = std::make_shared<double>(0);
    Point point;
    CUresult result = self.submit(
        held, stream, [seconds](std::string*) { return *seconds = now_seconds(), CUDA_SUCCESS; }, &point);
    if (result != CUDA_SUCCESS) return result;
    event->capture = nullptr;
    event->recorded = point;
    event->seconds = seconds;
    return CUDA_SUCCESS;
  });
}
CUDA_API CUresult cuEventRecord(CUevent event, CUstream stream) { return cuEventRecordWithFlags(event, stream, 0); }

CUDA_API CUresult cuEventSynchronize(CUevent handle) {
  return on_event(handle, [](Driver& self, Lock& held, const std::shared_ptr<Event>& event) {
    return event->recorded ? self.synchronize(held, {*event->recorded}) : CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuEventQuery(CUevent handle) {
  return on_event(handle, [](Driver& self, Lock& held, const std::shared_ptr<Event>& event) {
    bool done = !event->recorded || self.queues.look(held, *event->recorded);
    if (self.queues.failure != CUDA_SUCCESS) return self.queues.failure;
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  });
}

// The time of this machine, not of any card.
CUDA_API CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  return on_event(from, [&](Driver& self, Lock&, const std::shared_ptr<Event>& first) {
    auto second = self.events.find(to);
    if (!milliseconds) return CUDA_ERROR_INVALID_VALUE;
    if (!second || !first->timed || !second->timed || !first->recorded || !second->recorded) {
      return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!first->recorded->reached() || !second->recorded->reached()) return CUDA_ERROR_NOT_READY;
    *milliseconds = static_cast<float>((*second->seconds - *first->seconds) * 1e3);
    return CUDA_SUCCESS;
  });
}
CUDA_API CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent from, CUevent to) {
  return cuEventElapsedTime(milliseconds, from, to);
}

CUDA_API CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto stream = self.stream(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    Work work = [function, data](std::string*) {
      inside_host_function = true;
      function(data);
      inside_host_function = false;
      return CUDA_SUCCESS;
    };
    CUresult result = self.submit(held, stream, std::move(work));
    if (result == CUDA_SUCCESS && !stream->capture) stream->pending.back().host_function = true;
    return result;
  });
}
