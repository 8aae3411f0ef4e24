#include "queue.h"

#include <algorithm>
#include <cstdio>
#include <thread>

namespace fake {

bool Point::reached() const {
  return !stream || stream->pending.empty() || stream->pending.front().sequence > sequence;
}

GraphRun start(std::shared_ptr<const Graph> graph) {
  GraphRun run;
  run.left = graph->nodes.size();
  for (size_t at = 0; at < graph->nodes.size(); at++) {
    run.missing.push_back(graph->nodes[at].after.size());
    if (run.missing.back() == 0) run.ready.push_back(at);
  }
  run.graph = std::move(graph);
  return run;
}

void Queues::forget(const std::shared_ptr<Stream>& stream) {
  streams_.erase(std::remove(streams_.begin(), streams_.end(), stream), streams_.end());
}

void Queues::destroy(const std::shared_ptr<Stream>& stream) {
  stream->destroyed = true;
  if (stream->pending.empty()) forget(stream);
}

Point Queues::enqueue(Lock& lock, const std::shared_ptr<Stream>& stream, Operation operation) {
  while (stream->pending.size() >= PENDING_MAX && failure == CUDA_SUCCESS) {
    force(lock, {{stream, stream->pending.front().sequence}});
  }
  operation.sequence = stream->last = ++sequence_;
  stream->pending.push_back(std::move(operation));
  return {stream, stream->last};
}

// What keeps the head of a stream from running: a point that is not reached, or nothing.
std::optional<Point> Queues::blocker(const std::shared_ptr<Stream>& stream) {
  const Operation& head = stream->pending.front();
  if (head.wait && !head.wait->reached()) return head.wait;
  if (stream->kind == Stream::Kind::non_blocking) return {};
  auto other = stream->kind == Stream::Kind::legacy ? Stream::Kind::blocking : Stream::Kind::legacy;
  std::vector<Point> before;
  for (const auto& candidate : streams_) {
    if (candidate->kind != other || candidate->pending.empty()) continue;
    if (candidate->pending.front().sequence < head.sequence) {
      before.push_back({candidate, candidate->pending.front().sequence});
    }
  }
  if (before.empty()) return {};
  return before[below(before.size())];
}

// A stream whose head may run and must, for the point to be reached. Ends, because a blocker is older than the blocked.
std::shared_ptr<Stream> Queues::needed(const Point& point) {
  auto stream = point.stream;
  while (auto blocking = blocker(stream)) stream = blocking->stream;
  return stream;
}

std::shared_ptr<Stream> Queues::any() {
  std::vector<std::shared_ptr<Stream>> ready;
  for (const auto& stream : streams_) {
    if (!stream->pending.empty() && !blocker(stream)) ready.push_back(stream);
  }
  return ready.empty() ? nullptr : ready[below(ready.size())];
}

// Carries out the head of a stream, or a node of it if it is a graph.
void Queues::step(Lock& lock, const std::shared_ptr<Stream>& stream) {
  Operation& head = stream->pending.front();  // stays where it is: nobody else takes heads while busy_
  const Work* work = &head.work;
  size_t node = 0;
  if (head.run && head.run->left) {
    auto& ready = head.run->ready;
    std::swap(ready[below(ready.size())], ready.back());
    node = ready.back();
    ready.pop_back();
    work = &head.run->graph->nodes[node].work;
  }
  std::string why;
  CUresult result = CUDA_SUCCESS;
  if (*work) {
    busy_ = true;
    lock.unlock();
    result = (*work)(&why);
    lock.lock();
    busy_ = false;
  }
  finish(stream, node, result, why);
}

// The same for a host function, without waiting for it.
void Queues::step_aside(Lock& lock, const std::shared_ptr<Stream>& stream) {
  busy_ = true;
  std::thread([this, stream, mutex = lock.mutex(), work = stream->pending.front().work] {
    std::string why;
    CUresult result = work(&why);
    Lock held(*mutex);
    busy_ = false;
    finish(stream, 0, result, why);
  }).detach();
}

void Queues::finish(const std::shared_ptr<Stream>& stream, size_t node, CUresult result, const std::string& why) {
  auto& run = stream->pending.front().run;
  if (run && run->left) {
    auto& nodes = run->graph->nodes;
    for (size_t at = node + 1; at < nodes.size(); at++) {
      for (size_t before : nodes[at].after) {
        if (before == node && --run->missing[at] == 0) run->ready.push_back(at);
      }
    }
    run->left--;
  }
  if (!run || run->left == 0) {
    stream->pending.pop_front();
    if (stream->pending.empty() && stream->destroyed) forget(stream);
  }
  if (result != CUDA_SUCCESS) fail(result, why);
  changed_.notify_all();
}

void Queues::fail(CUresult code, const std::string& why) {
  if (failure == CUDA_SUCCESS) {
    failure = code;
    failure_text = why;
    fprintf(stderr, "fake CUDA: error %u: %s\n", static_cast<unsigned>(code), why.c_str());
  }
  // A failed context does nothing any more.
  for (const auto& stream : streams_) stream->pending.clear();
  changed_.notify_all();
}

void Queues::force(Lock& lock, const std::vector<Point>& points) {
  static constexpr unsigned CHANCES[] = {0, 25, 50, 100};  // per cent
  unsigned stray = CHANCES[below(std::size(CHANCES))];
  std::vector<Point> open = points;
  while (failure == CUDA_SUCCESS) {
    std::erase_if(open, [](const Point& point) { return point.reached(); });
    if (open.empty()) return;
    if (busy_) {
      changed_.wait(lock);
      continue;
    }
    auto stream = below(100) < stray ? any() : needed(open[below(open.size())]);
    step(lock, stream);
  }
}

bool Queues::look(Lock& lock, const Point& point) {
  for (size_t left = below(4); left && !point.reached() && !busy_ && failure == CUDA_SUCCESS; left--) {
    auto stream = below(2) ? any() : needed(point);
    if (stream->pending.front().host_function) {
      step_aside(lock, stream);
    } else {
      step(lock, stream);
    }
  }
  return point.reached();
}

std::vector<Point> Queues::ends() const {
  std::vector<Point> all;
  for (const auto& stream : streams_) {
    if (!stream->pending.empty()) all.push_back({stream, stream->last});
  }
  return all;
}

bool Queues::idle() const { return ends().empty(); }

void Queues::drop_all(Lock& lock) {
  changed_.wait(lock, [this] { return !busy_; });
  for (const auto& stream : streams_) stream->pending.clear();
  streams_.clear();
}

}  // namespace fake
