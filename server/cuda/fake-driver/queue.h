// Streams as real queues, and who runs next.
//
// An operation waits at the head of its stream until an event it waits for is reached, and, on the legacy default
// stream and the blocking streams, until what was queued earlier on the other of these is done. Nothing runs before
// somebody needs a point of a stream to be reached (`force`); then operations are carried out one at a time, in an
// order drawn from the seed: for a whole `force` a chance is drawn with which a step takes any operation that may
// run; otherwise it takes one that the wanted point needs. So what is not ordered by events runs late in some seeds,
// early in others. Every member needs the driver's lock, which is given back while an operation is carried out.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cuda_abi.h"

namespace fake {

// What an operation does, without the driver's lock. On failure, `why` says why; then the context is lost.
using Work = std::function<CUresult(std::string* why)>;
using Lock = std::unique_lock<std::mutex>;

struct Capture;
struct Stream;

// A graph's operation and the indices of those that it waits for.
struct Node {
  Work work;
  std::vector<size_t> after;
};
struct Graph {
  std::vector<Node> nodes;
};

// "All that was queued on `stream` up to operation `sequence` is done."
struct Point {
  std::shared_ptr<Stream> stream;
  uint64_t sequence = 0;
  bool reached() const;
};

// A graph that is being carried out, node by node.
struct GraphRun {
  std::shared_ptr<const Graph> graph;
  std::vector<size_t> missing;  // by node: how many of `after` are not done
  std::vector<size_t> ready;
  size_t left = 0;
};

struct Operation {
  uint64_t sequence = 0;  // rises over all streams
  Work work;              // empty: nothing to do but to wait
  bool host_function = false;
  std::optional<Point> wait;
  std::optional<GraphRun> run;
};

struct Stream {
  enum class Kind { legacy, blocking, non_blocking };
  Kind kind = Kind::blocking;
  int priority = 0;
  std::deque<Operation> pending;
  uint64_t last = 0;        // sequence of what was queued last
  bool destroyed = false;   // its handle is gone; forgotten when nothing is pending
  std::shared_ptr<Capture> capture;
  std::vector<size_t> frontier;  // nodes of the capture that the next one waits for
};

class Queues {
 public:
  // Operations that may wait on one stream; the call that queues one more first carries out the oldest.
  static constexpr size_t PENDING_MAX = 16384;

  void seed(uint64_t value) { random_.seed(value); }
  uint64_t draw() { return random_(); }
  void add(std::shared_ptr<Stream> stream) { streams_.push_back(std::move(stream)); }
  // Its operations are still carried out; then it is forgotten.
  void destroy(const std::shared_ptr<Stream>& stream);

  Point enqueue(Lock& lock, const std::shared_ptr<Stream>& stream, Operation operation);
  // Carries out operations until all points are reached, or the context fails (see `failure`).
  void force(Lock& lock, const std::vector<Point>& points);
  // Carries out 0 to 3 operations, as a card may have when somebody looks; true if the point is then reached. A host
  // function is carried out on a thread of its own: it may wait for what the one who looks does next.
  bool look(Lock& lock, const Point& point);
  // The points at which all is done that is queued now.
  std::vector<Point> ends() const;
  bool idle() const;
  // Waits until no other thread carries out an operation, then forgets all that is queued.
  void drop_all(Lock& lock);

  CUresult failure = CUDA_SUCCESS;
  std::string failure_text;
  void fail(CUresult code, const std::string& why);

 private:
  void forget(const std::shared_ptr<Stream>& stream);
  std::optional<Point> blocker(const std::shared_ptr<Stream>& stream);
  std::shared_ptr<Stream> needed(const Point& point);
  std::shared_ptr<Stream> any();
  void step(Lock& lock, const std::shared_ptr<Stream>& stream);
  void step_aside(Lock& lock, const std::shared_ptr<Stream>& stream);
  void finish(const std::shared_ptr<Stream>& stream, size_t node, CUresult result, const std::string& why);
  size_t below(size_t count) { return static_cast<size_t>(random_() % count); }

  std::mt19937_64 random_{1};
  std::vector<std::shared_ptr<Stream>> streams_;
  uint64_t sequence_ = 0;
  bool busy_ = false;  // a thread carries out an operation
  std::condition_variable changed_;
};

// Makes the state of a graph's run: all nodes missing what they wait for.
GraphRun start(std::shared_ptr<const Graph> graph);

}  // namespace fake
