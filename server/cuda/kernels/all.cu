// All kernels as one module. Each file also compiles alone, and keeps its names in a namespace of its own.
#include "activate.cu"
#include "attend.cu"
#include "attend_prefill.cu"
#include "gemm.cu"
#include "gemv.cu"
#include "normalize.cu"
#include "rope.cu"
#include "rows.cu"
