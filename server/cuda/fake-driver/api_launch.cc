// Entry points: modules, functions, launches.
//
// A module's image is not run: a kernel is found by its name in the kernels' library. But the image must look like one,
// and where it can be read (PTX text, an ELF cubin) it must have the kernel too, so that a kernel missing from what is
// shipped is an error here as well.
#include <elf.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>

#include "driver.h"
#include "kernel_call.h"

using namespace fake;

namespace {

constexpr Elf64_Half MACHINE_CUDA = 190;
constexpr uint32_t FATBIN_MAGIC = 0xBA55ED50;
constexpr uint32_t FATBIN_WRAPPER_MAGIC = 0x466243B1;

// The names of an ELF image's sections, one a line.
std::string sections_of(const char* image) {
  Elf64_Ehdr head;
  memcpy(&head, image, sizeof head);
  std::string names = "\n";
  bool known = head.e_machine == MACHINE_CUDA && head.e_shentsize == sizeof(Elf64_Shdr);
  if (!known || head.e_shstrndx >= head.e_shnum) return "";
  std::vector<Elf64_Shdr> sections(head.e_shnum);
  memcpy(sections.data(), image + head.e_shoff, sections.size() * sizeof(Elf64_Shdr));
  const Elf64_Shdr& strings = sections[head.e_shstrndx];
  for (const auto& section : sections) {
    if (section.sh_name < strings.sh_size) names += std::string(image + strings.sh_offset + section.sh_name) + "\n";
  }
  return names;
}

// False if the image is none of PTX text, cubin, fatbin.
bool read_image(const char* image, Module* out) {
  uint32_t magic;
  if (!image[0] || !image[1] || !image[2]) return false;
  memcpy(&magic, image, sizeof magic);
  if (magic == FATBIN_MAGIC || magic == FATBIN_WRAPPER_MAGIC) return true;
  if (memcmp(image, ELFMAG, SELFMAG) == 0) {
    out->sections = sections_of(image);
    return !out->sections.empty();
  }
  for (const char* at = image; *at; at++) {
    if (static_cast<unsigned char>(*at) < ' ' && !strchr("\t\r\n", *at)) return false;
  }
  out->ptx = image;
  return true;
}

bool has_kernel(const Module& module, const std::string& name) {
  if (!module.sections.empty()) return module.sections.find("\n.text." + name + "\n") != std::string::npos;
  if (module.ptx.find(".entry") == std::string::npos) return true;  // a fatbin, or a text that stands for an image
  for (char behind : {'(', ' ', '\n', '{'}) {
    if (module.ptx.find(".entry " + name + behind) != std::string::npos) return true;
  }
  return false;
}

CUresult load(CUmodule* out, const void* image) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    if (!out || !image) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult refused = self.refuse_during_capture()) return refused;
    std::string why;
    if (CUresult failed = open_kernels(&why)) {
      fprintf(stderr, "fake CUDA: %s\n", why.c_str());
      return failed;
    }
    auto module = std::make_shared<Module>();
    if (!read_image(static_cast<const char*>(image), module.get())) return CUDA_ERROR_INVALID_IMAGE;
    self.modules.add(module, out);
    return CUDA_SUCCESS;
  });
}

// A launch's arguments as they were at the call: the values, and the array of their addresses that an entry takes.
struct Arguments {
  std::vector<max_align_t> values;
  std::vector<void*> addresses;
};

std::shared_ptr<Arguments> copy_arguments(const unsigned* sizes, void** from) {
  auto copy = std::make_shared<Arguments>();
  std::vector<size_t> offsets;
  size_t units = 0;
  for (unsigned at = 0; at < sizes[0]; at++) {
    offsets.push_back(units);
    units += (sizes[1 + at] + sizeof(max_align_t) - 1) / sizeof(max_align_t);
  }
  copy->values.resize(units);
  for (unsigned at = 0; at < sizes[0]; at++) {
    copy->addresses.push_back(&copy->values[offsets[at]]);
    memcpy(copy->addresses.back(), from[at], sizes[1 + at]);
  }
  return copy;
}

CUresult check(const Function& function, const LaunchConfig& config, void** parameters) {
  if (!function.sizes) return CUDA_ERROR_INVALID_IMAGE;
  const auto& [gx, gy, gz, bx, by, bz, shared, stream, attributes, count] = config;
  if (!gx || !gy || !gz || gx > GRID_MAX.x || gy > GRID_MAX.y || gz > GRID_MAX.z) return CUDA_ERROR_INVALID_VALUE;
  if (!bx || !by || !bz || bx > BLOCK_MAX.x || by > BLOCK_MAX.y || bz > BLOCK_MAX.z) return CUDA_ERROR_INVALID_VALUE;
  if (bx * by * bz > THREADS_PER_BLOCK_MAX || shared > function.shared_bytes_max) return CUDA_ERROR_INVALID_VALUE;
  if (function.sizes[0] && !parameters) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned at = 0; at < function.sizes[0]; at++) {
    if (!parameters[at] || !function.sizes[1 + at]) return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

Work launch_work(Driver& self, std::shared_ptr<Function> function, const LaunchConfig& config, void** parameters) {
  auto arguments = copy_arguments(function->sizes, parameters);
  Call call{{config.grid_x, config.grid_y, config.grid_z}, {config.block_x, config.block_y, config.block_z},
            config.shared_bytes, 0};
  return [&self, function, arguments, call](std::string* why) mutable {
    FakeCudaLaunchHook hook;
    void* data;
    {
      Lock held(self.lock);
      call.seed = self.queues.draw();
      hook = self.launch_hook;
      data = self.launch_hook_data;
    }
    if (hook) {
      const unsigned grid[3] = {call.grid.x, call.grid.y, call.grid.z};
      const unsigned block[3] = {call.block.x, call.block.y, call.block.z};
      hook(data, function->name.c_str(), arguments->addresses.data(), function->sizes, grid, block, call.shared_bytes);
    }
    counters().launched(function->name);
    return call_kernel(self.memory, *function, arguments->addresses.data(), call, why);
  };
}

CUresult launch(CUfunction handle, const LaunchConfig& config, void** parameters, void** extra) {
  return enter(Needs::context, [&](Driver& self, Lock& held) {
    auto function = self.functions.find(handle);
    auto stream = self.stream(config.stream);
    if (!function || !stream) return CUDA_ERROR_INVALID_HANDLE;
    if (extra || config.attribute_count) return CUDA_ERROR_NOT_SUPPORTED;
    if (CUresult wrong = check(*function, config, parameters)) return wrong;
    if (++self.launches == self.launch_to_fail) {
      if (!self.failed_launch_is_sticky) return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
      return self.submit(held, stream, [function](std::string* why) {
        *why = "kernel " + function->name + ": made to fail";
        return CUDA_ERROR_LAUNCH_FAILED;
      });
    }
    return self.submit(held, stream, launch_work(self, function, config, parameters));
  });
}

}  // namespace

CUDA_API CUresult cuModuleLoadData(CUmodule* out, const void* image) { return load(out, image); }
CUDA_API CUresult cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned, int*, void**) {
  return load(out, image);
}
CUDA_API CUresult cuModuleLoadFatBinary(CUmodule* out, const void* image) { return load(out, image); }

CUDA_API CUresult cuModuleLoad(CUmodule* out, const char* path) {
  std::ifstream file(path ? path : "", std::ios::binary);
  if (!file) return CUDA_ERROR_FILE_NOT_FOUND;
  std::stringstream text;
  text << file.rdbuf();
  return load(out, text.str().c_str());
}

CUDA_API CUresult cuModuleUnload(CUmodule handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto module = self.modules.take(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    for (const auto& [name, function] : module->functions) self.functions.take(function.get());
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto module = self.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    if (!out || !name) return CUDA_ERROR_INVALID_VALUE;
    auto& function = module->functions[name];
    if (!function) {
      auto found = std::make_shared<Function>();
      if (!has_kernel(*module, name) || !find_kernel(name, found.get())) {
        module->functions.erase(name);
        return CUDA_ERROR_NOT_FOUND;
      }
      function = found;
    }
    self.functions.add(function, out);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuFuncSetAttribute(CUfunction handle, int which, int value) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto function = self.functions.find(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (which == FUNCTION_PREFERRED_SHARED_CARVEOUT) return CUDA_SUCCESS;
    if (which != FUNCTION_MAX_DYNAMIC_SHARED) return CUDA_ERROR_INVALID_VALUE;
    if (value < 0 || static_cast<unsigned>(value) > SHARED_BYTES_OPT_IN_MAX) return CUDA_ERROR_INVALID_VALUE;
    function->shared_bytes_max = static_cast<unsigned>(value);
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuFuncGetAttribute(int* value, int which, CUfunction handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto function = self.functions.find(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    switch (which) {
      case FUNCTION_MAX_THREADS_PER_BLOCK: *value = THREADS_PER_BLOCK_MAX; break;
      case FUNCTION_MAX_DYNAMIC_SHARED: *value = static_cast<int>(function->shared_bytes_max); break;
      case FUNCTION_PTX_VERSION:
      case FUNCTION_BINARY_VERSION: *value = self.compute_major * 10 + self.compute_minor; break;
      default: return CUDA_ERROR_NOT_SUPPORTED;  // registers, static shared and local memory: not known here
    }
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuFuncGetName(const char** name, CUfunction handle) {
  return enter(Needs::context, [&](Driver& self, Lock&) {
    auto function = self.functions.find(handle);
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    *name = function->name.c_str();
    return CUDA_SUCCESS;
  });
}

CUDA_API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                 unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                                 CUstream stream, void** parameters, void** extra) {
  LaunchConfig config{grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, nullptr, 0};
  return launch(function, config, parameters, extra);
}

CUDA_API CUresult cuLaunchKernelEx(const LaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  return config ? launch(function, *config, parameters, extra) : CUDA_ERROR_INVALID_VALUE;
}
