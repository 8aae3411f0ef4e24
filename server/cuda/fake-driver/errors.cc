// Names and texts of error codes, for cuGetErrorName and cuGetErrorString.
#include "cuda_abi.h"

namespace {

struct Known {
  CUresult code;
  const char* name;
  const char* text;
};

#define KNOWN(code, text) {code, #code, text}
constexpr Known ALL[] = {
    KNOWN(CUDA_SUCCESS, "no error"),
    KNOWN(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    KNOWN(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    KNOWN(CUDA_ERROR_NOT_INITIALIZED, "cuInit was not called, or failed"),
    KNOWN(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is there"),
    KNOWN(CUDA_ERROR_INVALID_DEVICE, "there is no device of this number"),
    KNOWN(CUDA_ERROR_INVALID_IMAGE, "the module's image, or what the kernels' library says of a kernel, is invalid"),
    KNOWN(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread, or the context is invalid"),
    KNOWN(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    KNOWN(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, "the kernels' library (FAKE_CUDA_KERNELS) could not be opened"),
    KNOWN(CUDA_ERROR_OPERATING_SYSTEM, "a call of the operating system failed"),
    KNOWN(CUDA_ERROR_INVALID_HANDLE, "invalid handle"),
    KNOWN(CUDA_ERROR_ILLEGAL_STATE, "the state does not allow this"),
    KNOWN(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    KNOWN(CUDA_ERROR_NOT_READY, "not ready"),
    KNOWN(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    KNOWN(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    KNOWN(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "the primary context is active"),
    KNOWN(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    KNOWN(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "host memory is already pinned"),
    KNOWN(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "host memory is not pinned"),
    KNOWN(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    KNOWN(CUDA_ERROR_NOT_PERMITTED, "operation not permitted (a host function may not call the driver)"),
    KNOWN(CUDA_ERROR_NOT_SUPPORTED, "operation not supported (by the fake driver)"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted while a stream is capturing"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "an earlier error invalidated the capture"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_MERGE, "two captures may not become one"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began on another stream"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "the capture ends with a stream that was not joined"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "the capture would depend on work outside it"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the default stream would depend on a capturing stream"),
    KNOWN(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event recorded in a capture"),
    KNOWN(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "the capture began on another thread"),
    KNOWN(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef KNOWN

const Known* find(CUresult code) {
  for (const Known& known : ALL) {
    if (known.code == code) return &known;
  }
  return nullptr;
}

}  // namespace

CUDA_API CUresult cuGetErrorName(CUresult code, const char** out) {
  const Known* known = find(code);
  if (!out) return CUDA_ERROR_INVALID_VALUE;
  *out = known ? known->name : nullptr;
  return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUDA_API CUresult cuGetErrorString(CUresult code, const char** out) {
  const Known* known = find(code);
  if (!out) return CUDA_ERROR_INVALID_VALUE;
  *out = known ? known->text : nullptr;
  return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
