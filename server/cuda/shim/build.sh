#!/bin/sh
# Builds all kernels with the host shim as one shared library, which exports `shim_entry_NAME` for each kernel.
#
#   CUDA_HOME=... server/cuda/shim/build.sh OUT.so [FLAG...]
#
# FLAGs go to the compiler: -fsanitize=address,undefined, -fsanitize=thread, -DINJECT_... (see tests/shim/run.sh).
# CXX is the compiler (g++), JOBS how many files are compiled at once (2). Only the toolkit's headers are used.
set -eu
out=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
include=${CUDA_HOME:?"CUDA_HOME: the folder of the CUDA toolkit, for its headers"}/include
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

# The shim itself is never instrumented for the thread sanitizer: it tells it what to see.
shim_flags=$*
case " $* " in *-fsanitize=thread*) shim_flags=-DSHIM_TSAN ;; esac

common="-std=c++20 -O2 -g -fPIC -ffp-contract=off -Wall -Wextra -Werror -Wno-unknown-pragmas -isystem $include"
{
  for source in "$here"/*.cc; do
    echo "$common -fno-tree-loop-distribute-patterns $shim_flags -c $source -o $objects/shim_$(basename "$source" .cc).o"
  done
  for source in "$here"/../kernels/*.cu; do
    echo "$common $* -DQUARRY_SHIM -x c++ -c $source -o $objects/$(basename "$source" .cu).o"
  done
} | xargs -P "${JOBS:-2}" -L 1 "${CXX:-g++}"
# shellcheck disable=SC2086
"${CXX:-g++}" "$@" -shared -o "$out" "$objects"/*.o -lm
