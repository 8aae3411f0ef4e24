// Memory of the pretended card, and the host memory that is pinned.
//
// Device memory lies in one reserved range of addresses, so that any address is known to be the device's or not. An
// allocation ends (rounded up to 256 bytes) where an unmapped page begins, and is unmapped when freed: a kernel that
// runs over the end, or uses what was freed, faults instead of reading on. Addresses are not used again soon.
// All members may be called from any thread.
#pragma once
#include <map>
#include <mutex>
#include <string>

#include "cuda_abi.h"

namespace fake {

enum class Place { device, pinned, pageable };

struct Address {
  Place place;
  uint64_t at;
};

class Memory {
 public:
  // Reserves addresses for a device of `total` bytes; false if the system refuses. Later calls only set the total.
  bool set_total(uint64_t total);

  // Device memory. `allocate` fills with 0xFF bytes (NaN as any float). A size of 0 is an error of the caller.
  CUresult allocate(size_t size, CUdeviceptr* out);
  CUresult release(CUdeviceptr start);
  bool starts_allocation(CUdeviceptr start) const;
  void poison(CUdeviceptr start);
  bool find(uint64_t at, CUdeviceptr* start, size_t* size) const;
  uint64_t total() const;
  uint64_t used() const;

  // Pinned host memory: allocated here, or the caller's and registered.
  CUresult allocate_pinned(size_t size, void** out);
  CUresult release_pinned(void* start);
  CUresult register_pinned(void* start, size_t size);
  CUresult unregister_pinned(void* start);

  Place place_of(uint64_t at) const;
  // True if all `size` bytes lie in one allocation (device), one pinned range, or nowhere near the device (pageable).
  bool holds(Address start, size_t size) const;

  // Copies, or says in `why` which address is wrong: then nothing was copied.
  CUresult copy(Address to, Address from, size_t size, std::string* why);
  // Writes `count` times the `width` (1, 2 or 4) low bytes of `value`.
  CUresult set(CUdeviceptr to, uint32_t value, size_t width, size_t count, std::string* why);
  // False if something wrote behind the end of an allocation, up to the next page; `why` says behind which.
  bool ends_intact(std::string* why) const;
  // Frees everything, pinned too.
  void clear();

  bool in_device_range(uint64_t at) const { return at >= begin_ && at < end_; }

 private:
  struct Allocation {
    size_t size;
    uint64_t pages_begin, pages_end;  // mapped; the page at pages_end is not
  };
  struct Pinned {
    size_t size;
    bool owned;
  };
  const Allocation* allocation_of(uint64_t at, size_t size) const;
  uint64_t free_range(size_t bytes) const;
  void unmap(const Allocation& gone);
  void set_end(CUdeviceptr start, const Allocation& of, bool guarded) const;
  bool holds_locked(Address start, size_t size) const;

  mutable std::mutex lock_;
  uint64_t begin_ = 0, end_ = 0, cursor_ = 0;
  uint64_t total_ = 0, used_ = 0;
  std::map<CUdeviceptr, Allocation> allocations_;
  std::map<uint64_t, uint64_t> ranges_;  // pages_begin -> behind the unmapped page that follows
  std::map<uint64_t, Pinned> pinned_;
};

}  // namespace fake
