#!/usr/bin/env bash
# Builds the fake driver and its tests, and runs them; ends with 0 only if all pass. Usage: test.sh [OUT_DIR]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -gt 0 ]; then
  out=$(mkdir -p "$1" && cd "$1" && pwd)
else
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
"$here/build.sh" "$out"

flags=(-std=c++20 -O1 -g -U_FORTIFY_SOURCE -Wall -Wextra -Werror -I"$here")
g++ "${flags[@]}" -fPIC -shared "$here/tests/kernels.cc" -o "$out/libtest_kernels.so"
g++ "${flags[@]}" "$here"/tests/test_*.cc "$here/tests/main.cc" -L"$out" -Wl,-rpath,"$out" -lcuda -pthread \
  -o "$out/test_fake_driver"

# Every name that cudarc looks up is there.
nm -D --defined-only --format=posix "$out/libcuda.so.1" | awk '{ print $1 }' | LC_ALL=C sort -u >"$out/exported.txt"
missing=$(LC_ALL=C comm -23 "$here/symbols.txt" "$out/exported.txt")
if [ -n "$missing" ]; then
  echo "test.sh: not exported:" $missing >&2
  exit 1
fi

FAKE_CUDA_KERNELS="$out/libtest_kernels.so" "$out/test_fake_driver"
