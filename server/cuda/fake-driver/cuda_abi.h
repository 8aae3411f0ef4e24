// The part of the CUDA driver's binary interface that the fake driver offers: types, error codes and constants.
//
// Numbers and layouts are those of the CUDA driver API reference (12.x); the names of constants are shortened to what
// the sources here use. No CUDA header is needed, and none may be included beside this one.
#pragma once
#include <cstddef>
#include <cstdint>

#define CUDA_API extern "C" __attribute__((visibility("default")))

using CUdevice = int;
using CUdeviceptr = uint64_t;
using CUcontext = struct ContextHandle*;
using CUstream = struct StreamHandle*;
using CUevent = struct EventHandle*;
using CUmodule = struct ModuleHandle*;
using CUfunction = struct FunctionHandle*;
using CUgraph = struct GraphHandle*;
using CUgraphExec = struct GraphExecHandle*;
using CUmemoryPool = struct MemoryPoolHandle*;
using CUhostFn = void (*)(void* data);

enum CUresult : unsigned {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_NOT_INITIALIZED = 3,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_FILE_NOT_FOUND = 301,
  CUDA_ERROR_SHARED_OBJECT_INIT_FAILED = 303,
  CUDA_ERROR_OPERATING_SYSTEM = 304,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_ILLEGAL_STATE = 401,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
  CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE = 708,
  CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
  CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
  CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_NOT_PERMITTED = 800,
  CUDA_ERROR_NOT_SUPPORTED = 801,
  CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
  CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
  CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
  CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
  CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
  CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
  CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
  CUDA_ERROR_CAPTURED_EVENT = 907,
  CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
  CUDA_ERROR_UNKNOWN = 999,
};

// Handles of streams that every thread has without creating them.
inline const CUstream STREAM_LEGACY = reinterpret_cast<CUstream>(1);
inline const CUstream STREAM_PER_THREAD = reinterpret_cast<CUstream>(2);

constexpr unsigned STREAM_NON_BLOCKING = 1;
constexpr unsigned EVENT_DISABLE_TIMING = 2;
constexpr unsigned GRAPH_INSTANTIATE_FLAGS_KNOWN = 0xF;
constexpr unsigned GRAPH_INSTANTIATE_DEVICE_LAUNCH = 4;

enum CaptureMode : int { CAPTURE_GLOBAL = 0, CAPTURE_THREAD_LOCAL = 1, CAPTURE_RELAXED = 2 };
enum CaptureStatus : int { CAPTURE_NONE = 0, CAPTURE_ACTIVE = 1, CAPTURE_INVALIDATED = 2 };

// CUfunction_attribute
enum FunctionAttribute : int {
  FUNCTION_MAX_THREADS_PER_BLOCK = 0,
  FUNCTION_SHARED_SIZE = 1,
  FUNCTION_CONST_SIZE = 2,
  FUNCTION_LOCAL_SIZE = 3,
  FUNCTION_REGISTERS = 4,
  FUNCTION_PTX_VERSION = 5,
  FUNCTION_BINARY_VERSION = 6,
  FUNCTION_CACHE_MODE_CA = 7,
  FUNCTION_MAX_DYNAMIC_SHARED = 8,
  FUNCTION_PREFERRED_SHARED_CARVEOUT = 9,
};

// CUpointer_attribute
enum PointerAttribute : int {
  POINTER_CONTEXT = 1,
  POINTER_MEMORY_TYPE = 2,
  POINTER_DEVICE_POINTER = 3,
  POINTER_HOST_POINTER = 4,
  POINTER_IS_MANAGED = 8,
  POINTER_DEVICE_ORDINAL = 9,
};
constexpr unsigned MEMORY_TYPE_HOST = 1;
constexpr unsigned MEMORY_TYPE_DEVICE = 2;

struct Dim3 {
  unsigned x, y, z;
};

struct CUuuid {
  char bytes[16];
};

// CUlaunchConfig; its attributes are not looked at, except that there must be none.
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  CUstream stream;
  void* attributes;
  unsigned attribute_count;
};

// Limits of the pretended card (those of compute capability 8.9).
constexpr unsigned THREADS_PER_BLOCK_MAX = 1024;
constexpr Dim3 BLOCK_MAX = {1024, 1024, 64};
constexpr Dim3 GRID_MAX = {2147483647, 65535, 65535};
constexpr unsigned SHARED_BYTES_DEFAULT_MAX = 48 << 10;
constexpr unsigned SHARED_BYTES_OPT_IN_MAX = 99 << 10;
constexpr unsigned WARP_SIZE = 32;
constexpr size_t ALLOCATION_ALIGNMENT = 256;
