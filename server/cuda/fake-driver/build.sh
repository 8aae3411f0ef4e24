#!/usr/bin/env bash
# Builds the fake driver: OUT_DIR/libcuda.so.1 and the link libcuda.so. Needs g++ and binutils, no CUDA.
# Every symbol of symbols.txt that the sources do not define becomes a function that answers
# CUDA_ERROR_NOT_SUPPORTED. Usage: build.sh OUT_DIR
set -euo pipefail

out=$(mkdir -p "${1:?usage: build.sh OUT_DIR}" && cd "$1" && pwd)
cd "$(dirname "$0")"
objects="$out/fake-driver-objects"
mkdir -p "$objects"
compiler=${CXX:-g++}
flags=(-std=c++20 -O2 -g -fPIC -fvisibility=hidden -U_FORTIFY_SOURCE -Wall -Wextra -Werror)

# What has not changed is kept.
for source in *.cc; do
  object="$objects/${source%.cc}.o"
  newer=$(find "$source" ./*.h build.sh -newer "$object" 2>/dev/null || true)
  if [ -n "$newer" ] || [ ! -e "$object" ]; then "$compiler" "${flags[@]}" -c "$source" -o "$object"; fi
done

parts=()
for source in *.cc; do parts+=("$objects/${source%.cc}.o"); done
nm --defined-only --extern-only --format=posix "${parts[@]}" | awk '/^cu/ { print $1 }' | LC_ALL=C sort -u \
  >"$objects/defined.txt"
unknown=$(LC_ALL=C comm -13 symbols.txt "$objects/defined.txt")
if [ -n "$unknown" ]; then
  echo "build.sh: defined, but not in symbols.txt (misspelt?):" $unknown >&2
  exit 1
fi
LC_ALL=C comm -23 symbols.txt "$objects/defined.txt" |
  awk '{ print "__attribute__((visibility(\"default\"))) unsigned " $1 "(void) { return 801; }" }' \
    >"$objects/unsupported.c"
"${CC:-gcc}" -O1 -fPIC -c "$objects/unsupported.c" -o "$objects/unsupported.o"

"$compiler" -shared -Wl,-soname,libcuda.so.1 -Wl,-z,defs -o "$objects/libcuda.so.1" \
  "${parts[@]}" "$objects/unsupported.o" -ldl -pthread
mv "$objects/libcuda.so.1" "$out/libcuda.so.1" # at once: a test may be loading it
ln -sfn libcuda.so.1 "$out/libcuda.so"
