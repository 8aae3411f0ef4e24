// The state of the fake driver: one device, its primary context, and everything that lives in it.
//
// Every entry point goes through `enter`, which takes the lock and answers what the real driver would before looking
// at the arguments: not initialized, no context on this thread, a context that failed earlier, a call from a host
// function.
#pragma once
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "counters.h"
#include "cuda_abi.h"
#include "fake_cuda.h"
#include "memory.h"
#include "queue.h"

namespace fake {

// A running or finished capture; several streams may have joined it.
struct Capture {
  CaptureMode mode;
  std::thread::id thread;
  std::shared_ptr<Stream> origin;
  std::vector<std::shared_ptr<Stream>> streams;  // those that joined, with the origin
  Graph graph;
  bool invalidated = false;
  bool ended = false;
};

struct Event {
  bool timed = false;
  std::optional<Point> recorded;
  std::shared_ptr<double> seconds;  // when the recording was carried out; 0: not yet
  std::shared_ptr<Capture> capture;  // recorded last inside this capture, behind these nodes
  std::vector<size_t> frontier;
};

// What the kernels' library says of a kernel (README).
struct Function {
  using Entry = void (*)(void** arguments, Dim3 grid, Dim3 block, size_t shared_bytes, uint64_t seed);
  std::string name;
  Entry entry = nullptr;
  const unsigned* sizes = nullptr;  // null: unknown, launches are refused
  unsigned shared_bytes_max = SHARED_BYTES_DEFAULT_MAX;
};

struct Module {
  std::string ptx;       // the image, if it is text
  std::string sections;  // the names of its sections, a line each, if it is a cubin
  std::unordered_map<std::string, std::shared_ptr<Function>> functions;
};

struct Executable {
  std::shared_ptr<const Graph> graph;
  std::optional<Point> last;  // end of the last launch: launches of one executable follow each other
};

// Handles that a program holds; a pointer that was never given out, or was destroyed, finds nothing.
template <class Object>
class Handles {
 public:
  template <class Handle>
  void add(std::shared_ptr<Object> object, Handle* out) {
    *out = reinterpret_cast<Handle>(object.get());
    all_[object.get()] = std::move(object);
  }
  template <class Handle>
  std::shared_ptr<Object> find(Handle handle) const {
    auto found = all_.find(reinterpret_cast<Object*>(handle));
    return found == all_.end() ? nullptr : found->second;
  }
  template <class Handle>
  std::shared_ptr<Object> take(Handle handle) {
    auto object = find(handle);
    all_.erase(object.get());
    return object;
  }
  void clear() { all_.clear(); }
  const std::unordered_map<Object*, std::shared_ptr<Object>>& all() const { return all_; }

 private:
  std::unordered_map<Object*, std::shared_ptr<Object>> all_;
};

struct Driver {
  std::mutex lock;
  bool initialized = false;
  unsigned retained = 0;       // of the primary context
  unsigned context_flags = 0;
  int devices = 1;
  int current_device = 0;      // whose primary context it is
  int compute_major = 8, compute_minor = 9;
  bool memory_pools = true;

  Memory memory;
  Queues queues;
  Handles<Stream> streams;
  Handles<Event> events;
  Handles<Module> modules;
  Handles<Function> functions;
  Handles<Graph> graphs;
  Handles<Executable> executables;
  std::shared_ptr<Stream> legacy;  // the default stream; lives as long as the context
  std::unordered_map<std::thread::id, std::shared_ptr<Stream>> per_thread;
  std::vector<std::shared_ptr<Capture>> captures;  // running ones

  bool forgets_waits = false;    // fake_cuda_forget_waits
  uint64_t launches = 0;         // accepted or not, since the last fake_cuda_fail_launch
  uint64_t launch_to_fail = 0;   // 0: none
  bool failed_launch_is_sticky = false;
  FakeCudaLaunchHook launch_hook = nullptr;
  void* launch_hook_data = nullptr;

  // Finds a stream by handle, the default ones too.
  std::shared_ptr<Stream> stream(CUstream handle);
  // Queues an operation, or adds it to the stream's capture. `point`: where it is queued, if wanted and not captured.
  CUresult submit(Lock& held, const std::shared_ptr<Stream>& on, Work work, Point* point = nullptr);
  // Waits until the points are reached; the failure of the context, if it has one by then.
  CUresult synchronize(Lock& held, const std::vector<Point>& points);
  // What a call answers that a capture does not allow (device-wide waits, allocations); invalidates the capture.
  CUresult refuse_during_capture();
  // Forgets all that lives in the context, and its failure.
  void reset(Lock& held);
};

Driver& driver();
CUresult initialize();

// Handle of the only context; the real driver's too is the same after a reset.
inline CUcontext the_context() { return reinterpret_cast<CUcontext>(&driver()); }
inline thread_local CUcontext current_context = nullptr;
inline thread_local bool inside_host_function = false;

enum class Needs { nothing, initialized, context };

// The frame of every entry point; `body` is called with the driver and its lock held.
template <class Body>
CUresult enter(Needs needs, Body body) {
  if (inside_host_function) return CUDA_ERROR_NOT_PERMITTED;
  Driver& self = driver();
  Lock held(self.lock);
  if (needs >= Needs::initialized && !self.initialized) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs == Needs::context) {
    if (!current_context) return CUDA_ERROR_INVALID_CONTEXT;
    if (!self.retained) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    if (self.queues.failure != CUDA_SUCCESS) return self.queues.failure;
  }
  try {
    return body(self, held);
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (...) {
    return CUDA_ERROR_UNKNOWN;
  }
}

}  // namespace fake
