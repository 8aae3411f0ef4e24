#include "loads.h"

#include "driver.h"
#include "kernel_call.h"

namespace fake {
namespace {

constexpr size_t SECTOR = 32;

void on_load(const void* from, unsigned bytes) { loads().loaded(reinterpret_cast<uint64_t>(from), bytes); }

}  // namespace

bool Loads::watch(bool on, const Memory& memory) {
  auto* hook = find_load_hook();
  if (!hook) return false;
  begin();
  regions_.clear();
  last_ = nullptr;
  memory_ = &memory;
  *hook = on ? on_load : nullptr;
  return true;
}

void Loads::begin() {
  for (auto& [region, sector] : touched_) region->sectors[sector] = false;
  touched_.clear();
}

void Loads::loaded(uint64_t at, unsigned bytes) {
  if (!last_ || at < last_->start || at >= last_->start + last_->size) {
    CUdeviceptr start;
    size_t size;
    if (!memory_->find(at, &start, &size)) return;  // the access itself will fault
    auto [found, fresh] = regions_.try_emplace(start, Region{start, size, 0, {}});
    if (fresh) found->second.sectors.resize((size + SECTOR - 1) / SECTOR);
    last_ = &found->second;
  }
  const size_t end = at - last_->start + bytes;
  for (size_t sector = (at - last_->start) / SECTOR; sector * SECTOR < end && sector < last_->sectors.size(); sector++) {
    if (last_->sectors[sector]) continue;
    last_->sectors[sector] = true;
    last_->bytes += SECTOR;
    touched_.emplace_back(last_, sector);
  }
}

size_t Loads::read(FakeCudaLoads* out, size_t most) const {
  size_t count = 0;
  for (const auto& [start, region] : regions_) {
    if (count < most) out[count] = {start, region.size, region.bytes};
    count++;
  }
  return count;
}

Loads& loads() {
  static Loads* the = new Loads;  // as the driver, never destroyed
  return *the;
}

}  // namespace fake

CUDA_API int fake_cuda_watch_loads(int on) {
  fake::Lock held(fake::driver().lock);
  return fake::loads().watch(on != 0, fake::driver().memory);
}

CUDA_API size_t fake_cuda_loads(FakeCudaLoads* out, size_t most) {
  fake::Lock held(fake::driver().lock);
  return fake::loads().read(out, most);
}
