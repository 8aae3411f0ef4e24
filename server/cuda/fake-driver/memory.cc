#include "memory.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "counters.h"

namespace fake {
namespace {

constexpr uint64_t PAGE = 4096;
constexpr unsigned char POISON = 0xFF;
// Addresses reserved for each byte of memory, so that freed ones stay unmapped for long.
constexpr uint64_t ADDRESSES_PER_BYTE = 16;
constexpr uint64_t ADDRESSES_MIN = 16ull << 30;

uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
void* pointer(uint64_t at) { return reinterpret_cast<void*>(at); }

std::string text_of(uint64_t at, size_t size) {
  char text[80];
  snprintf(text, sizeof text, "%zu bytes at 0x%llx", size, static_cast<unsigned long long>(at));
  return text;
}

const char* name_of(Place place) {
  return place == Place::device ? "device memory" : place == Place::pinned ? "pinned memory" : "host memory";
}

// Where the process runs under AddressSanitizer, it is told of the bytes between an allocation's end and its page's.
void tell_sanitizer(uint64_t begin, uint64_t end, bool forbidden) {
  using Tell = void (*)(void const volatile*, size_t);
  static const auto poison = reinterpret_cast<Tell>(dlsym(RTLD_DEFAULT, "__asan_poison_memory_region"));
  static const auto unpoison = reinterpret_cast<Tell>(dlsym(RTLD_DEFAULT, "__asan_unpoison_memory_region"));
  if (auto tell = forbidden ? poison : unpoison) tell(pointer(begin), end - begin);
}

bool sanitized() {
  static const bool present = dlsym(RTLD_DEFAULT, "__asan_poison_memory_region") != nullptr;
  return present;
}

}  // namespace

bool Memory::set_total(uint64_t total) {
  std::lock_guard guard(lock_);
  if (!begin_) {
    uint64_t bytes = round_up(std::max(total * ADDRESSES_PER_BYTE, ADDRESSES_MIN), PAGE);
    void* range = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return false;
    begin_ = reinterpret_cast<uint64_t>(range);
    end_ = begin_ + bytes;
    cursor_ = begin_ + PAGE;
  }
  total_ = total;
  return true;
}

uint64_t Memory::free_range(size_t bytes) const {
  for (uint64_t from : {cursor_, begin_ + PAGE}) {
    uint64_t at = from;
    auto next = ranges_.upper_bound(at);
    if (next != ranges_.begin()) at = std::max(at, std::prev(next)->second);
    for (; next != ranges_.end() && next->first < at + bytes; ++next) at = next->second;
    if (at + bytes <= end_) return at;
  }
  return 0;
}

CUresult Memory::allocate(size_t size, CUdeviceptr* out) {
  std::lock_guard guard(lock_);
  uint64_t rounded = round_up(size, ALLOCATION_ALIGNMENT);
  if (size == 0 || rounded < size) return CUDA_ERROR_INVALID_VALUE;
  if (used_ > total_ || rounded > total_ - used_) return CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t bytes = round_up(rounded, PAGE);
  uint64_t at = free_range(bytes + PAGE);
  if (!at || mprotect(pointer(at), bytes, PROT_READ | PROT_WRITE)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(pointer(at), POISON, bytes);
  CUdeviceptr start = at + bytes - rounded;
  Allocation made{size, at, at + bytes};
  allocations_[start] = made;
  ranges_[at] = cursor_ = at + bytes + PAGE;
  set_end(start, made, true);
  used_ += rounded;
  counters().allocated(used_);
  *out = start;
  return CUDA_SUCCESS;
}

void Memory::set_end(CUdeviceptr start, const Allocation& of, bool guarded) const {
  tell_sanitizer(start + of.size, of.pages_end, guarded);
  tell_sanitizer(of.pages_begin, start, guarded);
}

void Memory::unmap(const Allocation& gone) {
  madvise(pointer(gone.pages_begin), gone.pages_end - gone.pages_begin, MADV_DONTNEED);
  mprotect(pointer(gone.pages_begin), gone.pages_end - gone.pages_begin, PROT_NONE);
  ranges_.erase(gone.pages_begin);
}

CUresult Memory::release(CUdeviceptr start) {
  std::lock_guard guard(lock_);
  auto found = allocations_.find(start);
  if (found == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  set_end(start, found->second, false);
  unmap(found->second);
  used_ -= round_up(found->second.size, ALLOCATION_ALIGNMENT);
  allocations_.erase(found);
  counters().freed(used_);
  return CUDA_SUCCESS;
}

bool Memory::starts_allocation(CUdeviceptr start) const {
  std::lock_guard guard(lock_);
  return allocations_.count(start) != 0;
}

void Memory::poison(CUdeviceptr start) {
  std::lock_guard guard(lock_);
  auto found = allocations_.find(start);
  if (found != allocations_.end()) memset(pointer(start), POISON, found->second.size);
}

const Memory::Allocation* Memory::allocation_of(uint64_t at, size_t size) const {
  auto next = allocations_.upper_bound(at);
  if (next == allocations_.begin()) return nullptr;
  const auto& [start, found] = *std::prev(next);
  uint64_t offset = at - start;
  return offset <= found.size && size <= found.size - offset ? &found : nullptr;
}

bool Memory::find(uint64_t at, CUdeviceptr* start, size_t* size) const {
  std::lock_guard guard(lock_);
  if (!allocation_of(at, 1)) return false;
  const auto& found = *std::prev(allocations_.upper_bound(at));
  *start = found.first;
  *size = found.second.size;
  return true;
}

uint64_t Memory::total() const {
  std::lock_guard guard(lock_);
  return total_;
}

uint64_t Memory::used() const {
  std::lock_guard guard(lock_);
  return used_;
}

CUresult Memory::allocate_pinned(size_t size, void** out) {
  std::lock_guard guard(lock_);
  if (size == 0) return CUDA_ERROR_INVALID_VALUE;
  void* made = nullptr;
  if (posix_memalign(&made, PAGE, size)) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(made, POISON, size);
  pinned_[reinterpret_cast<uint64_t>(made)] = {size, true};
  counters().pinned(static_cast<int64_t>(size));
  *out = made;
  return CUDA_SUCCESS;
}

CUresult Memory::release_pinned(void* start) {
  std::lock_guard guard(lock_);
  auto found = pinned_.find(reinterpret_cast<uint64_t>(start));
  if (found == pinned_.end() || !found->second.owned) return CUDA_ERROR_INVALID_VALUE;
  counters().pinned(-static_cast<int64_t>(found->second.size));
  pinned_.erase(found);
  free(start);
  return CUDA_SUCCESS;
}

CUresult Memory::register_pinned(void* start, size_t size) {
  std::lock_guard guard(lock_);
  uint64_t at = reinterpret_cast<uint64_t>(start);
  if (!at || size == 0 || at + size < at || in_device_range(at)) return CUDA_ERROR_INVALID_VALUE;
  auto next = pinned_.lower_bound(at);
  bool overlaps = next != pinned_.end() && next->first < at + size;
  if (next != pinned_.begin()) overlaps |= std::prev(next)->first + std::prev(next)->second.size > at;
  if (overlaps) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
  pinned_[at] = {size, false};
  counters().pinned(static_cast<int64_t>(size));
  return CUDA_SUCCESS;
}

CUresult Memory::unregister_pinned(void* start) {
  std::lock_guard guard(lock_);
  auto found = pinned_.find(reinterpret_cast<uint64_t>(start));
  if (found == pinned_.end() || found->second.owned) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
  counters().pinned(-static_cast<int64_t>(found->second.size));
  pinned_.erase(found);
  return CUDA_SUCCESS;
}

Place Memory::place_of(uint64_t at) const {
  std::lock_guard guard(lock_);
  if (in_device_range(at)) return Place::device;
  auto next = pinned_.upper_bound(at);
  if (next == pinned_.begin()) return Place::pageable;
  const auto& [start, found] = *std::prev(next);
  return at - start < found.size ? Place::pinned : Place::pageable;
}

bool Memory::holds_locked(Address start, size_t size) const {
  if (start.place == Place::device) return allocation_of(start.at, size);
  if (start.place == Place::pageable) {
    return start.at && start.at + size >= start.at && !in_device_range(start.at) && !in_device_range(start.at + size);
  }
  auto next = pinned_.upper_bound(start.at);
  if (next == pinned_.begin()) return false;
  const auto& [begin, found] = *std::prev(next);
  uint64_t offset = start.at - begin;
  return offset <= found.size && size <= found.size - offset;
}

bool Memory::holds(Address start, size_t size) const {
  std::lock_guard guard(lock_);
  return holds_locked(start, size);
}

CUresult Memory::copy(Address to, Address from, size_t size, std::string* why) {
  std::lock_guard guard(lock_);
  for (auto end : {to, from}) {
    if (holds_locked(end, size)) continue;
    *why = "a copy " + std::string(end.at == to.at ? "to " : "from ") + text_of(end.at, size) + " that are not " +
           name_of(end.place);
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  memmove(pointer(to.at), pointer(from.at), size);
  counters().copied(to.place == Place::device, from.place == Place::device, size);
  return CUDA_SUCCESS;
}

CUresult Memory::set(CUdeviceptr to, uint32_t value, size_t width, size_t count, std::string* why) {
  std::lock_guard guard(lock_);
  size_t size = count * width;
  if (count > SIZE_MAX / width || !allocation_of(to, size)) {
    *why = "a memset of " + text_of(to, size) + " that are not device memory";
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  }
  auto* bytes = static_cast<unsigned char*>(pointer(to));
  if (width == 1) {
    memset(bytes, static_cast<int>(value & 0xFF), size);
  } else {
    for (size_t at = 0; at < count; at++) memcpy(bytes + at * width, &value, width);
  }
  counters().set(size);
  return CUDA_SUCCESS;
}

bool Memory::ends_intact(std::string* why) const {
  std::lock_guard guard(lock_);
  if (sanitized()) return true;  // it reports the access itself, and reading here would be one
  for (const auto& [start, of] : allocations_) {
    auto* begin = static_cast<unsigned char*>(pointer(start + of.size));
    auto* end = static_cast<unsigned char*>(pointer(of.pages_end));
    if (std::all_of(begin, end, [](unsigned char byte) { return byte == POISON; })) continue;
    *why = "something was written behind the end of " + text_of(start, of.size);
    return false;
  }
  return true;
}

void Memory::clear() {
  std::lock_guard guard(lock_);
  for (const auto& [start, of] : allocations_) {
    set_end(start, of, false);
    unmap(of);
  }
  allocations_.clear();
  used_ = 0;
  counters().freed(0);
  for (const auto& [start, of] : pinned_) {
    counters().pinned(-static_cast<int64_t>(of.size));
    if (of.owned) free(pointer(start));
  }
  pinned_.clear();
}

}  // namespace fake
