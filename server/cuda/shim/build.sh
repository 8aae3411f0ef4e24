#!/bin/sh
# Builds all kernels with the host shim as one shared library, OUT_DIR/libkernels.so, which exports for each kernel
# `shim_entry_NAME` and `shim_sizes_NAME` (see SHIM_ENTRY in shim.h).
#
#   CUDA_HOME=... server/cuda/shim/build.sh OUT_DIR [FLAG...]
#
# FLAGs go to the compiler: -fsanitize=address,undefined, -fsanitize=thread, -DINJECT_... (see tests/shim/run.sh).
# CXX is the compiler (g++), JOBS how many files are compiled at once (2). Only the toolkit's headers are used.
# Does nothing where the library is newer than its sources and was built with the same flags.
set -eu
out=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
include=${CUDA_HOME:?"CUDA_HOME: the folder of the CUDA toolkit, for its headers"}/include
[ -f "$include/cuda_fp16.h" ] || { echo "CUDA_HOME=$CUDA_HOME has no include/cuda_fp16.h" >&2; exit 1; }
mkdir -p "$out"
made_with="${CXX:-g++} $CUDA_HOME $*"
if [ -f "$out/libkernels.so" ] && [ "$(cat "$out/libkernels.flags" 2>/dev/null)" = "$made_with" ] &&
  [ -z "$(find "$here" "$here/../kernels" -type f -newer "$out/libkernels.so")" ]; then
  exit 0
fi
objects=$(mktemp -d "$out/objects.XXXXXX")
trap 'rm -rf "$objects"' EXIT

# The shim itself is never instrumented for the thread sanitizer: it tells it what to see.
shim_flags=$*
case " $* " in *-fsanitize=thread*) shim_flags=-DSHIM_TSAN ;; esac

# xargs reads a line a file.
common="-std=c++20 -O3 -g -fPIC -ffp-contract=off -Wall -Wextra -Werror -Wno-unknown-pragmas -isystem $include"
{
  for source in "$here"/*.cc; do
    object=$objects/shim_$(basename "$source" .cc).o
    echo "$common -fno-tree-loop-distribute-patterns $shim_flags -c $source -o $object"
  done
  for source in "$here"/../kernels/*.cu; do
    [ "$(basename "$source")" = all.cu ] ||
      echo "$common $* -DQUARRY_SHIM -x c++ -c $source -o $objects/$(basename "$source" .cu).o"
  done
} | xargs -P "${JOBS:-2}" -L 1 "${CXX:-g++}"
"${CXX:-g++}" "$@" -shared -o "$objects/libkernels.so" "$objects"/*.o -lm
# Whoever builds at the same time finishes with the same file.
mv "$objects/libkernels.so" "$out/libkernels.so"
printf '%s\n' "$made_with" >"$out/libkernels.flags"
