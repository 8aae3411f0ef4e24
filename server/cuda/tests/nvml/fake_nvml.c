// A libnvidia-ml.so.1 for tests: the fake driver's first device with figures that are told apart easily. Functions and types
// are those of NVIDIA's nvml.h. FAKE_NVML_BROKEN=1: it starts as where the kernel's driver is missing.
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

static int the_device;
static int users;

static int known(void* device) { return users > 0 && device == &the_device; }

int nvmlInit_v2(void) {
  const char* broken = getenv("FAKE_NVML_BROKEN");
  if (broken && *broken == '1') return DRIVER_NOT_LOADED;
  users++;
  return SUCCESS;
}

int nvmlShutdown(void) {
  users--;
  return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  if (strcmp(uuid, "GPU-66616b65-2043-5544-4120-646576696365") != 0) return NOT_FOUND;
  *device = &the_device;
  return SUCCESS;
}

int nvmlDeviceGetTemperature(void* device, unsigned sensor, unsigned* celsius) {
  if (!known(device) || sensor != 0) return INVALID_ARGUMENT;
  *celsius = 61;
  return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  if (!known(device)) return INVALID_ARGUMENT;
  *milliwatts = 123500;
  return SUCCESS;
}

// As on many cards of laptops.
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* milliwatts) {
  (void)device, (void)milliwatts;
  return NOT_SUPPORTED;
}

int nvmlDeviceGetMemoryInfo(void* device, unsigned long long memory[3]) {
  if (!known(device)) return INVALID_ARGUMENT;
  memory[0] = 1ull << 30;
  memory[1] = 3ull << 28;
  memory[2] = 1ull << 28;
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void* device, unsigned percent[2]) {
  if (!known(device)) return INVALID_ARGUMENT;
  percent[0] = 75;
  percent[1] = 25;
  return SUCCESS;
}

int nvmlDeviceGetClockInfo(void* device, unsigned which, unsigned* megahertz) {
  if (!known(device) || which > 3) return INVALID_ARGUMENT;
  *megahertz = which == 1 ? 2520 : which == 2 ? 10501 : 1;
  return SUCCESS;
}
