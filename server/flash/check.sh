#!/usr/bin/env bash
# Checks what the feature `flash-attn` adds, on a machine without a CUDA compiler: that the program type-checks with candle's
# CUDA side in it, and that this crate declares the library's C function as candle-flash-attn does. A stand-in for nvcc
# (stub-nvcc.sh) gives the build scripts empty outputs, so nothing is compiled, linked or run; Dockerfile.cuda does that.
#
#   server/flash/check.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

die() { printf 'flash: %s\n' "$*" >&2; exit 1; }
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/flash-check
mkdir -p "$target/bin"
ln -sf "$PWD/server/flash/stub-nvcc.sh" "$target/bin/nvcc"

# The C function: names and types in order.
host=$(rustc -vV | sed -n 's/^host: //p')
manifest=$(cargo metadata --quiet --format-version 1 --locked --features flash-attn --filter-platform "$host" |
  python3 -c 'import json, sys
print([p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "candle-flash-attn"][0])')
parameters() {
  tr '\n' ' ' <"$1" | sed 's/.*fn run_mha(//; s/).*//; s/  */ /g; s/^ //; s/, *$//' | tr ',' '\n' | sed 's/^ *//; s/ *$//'
}
diff <(parameters "$(dirname "$manifest")/src/ffi.rs") <(parameters server/flash/src/ffi.rs) ||
  die "src/ffi.rs declares another function than candle-flash-attn"
echo "run_mha: $(parameters server/flash/src/ffi.rs | grep -c :) parameters as in candle-flash-attn"

# Its build script fetches CUTLASS with git; a checkout that has the commit it wants is taken as it is, and the stand-in for
# nvcc reads no header.
commit=$(sed -n 's/^const CUTLASS_COMMIT: &str = "\(.*\)";/\1/p' "$(dirname "$manifest")/build.rs")
[ -n "$commit" ] || die "candle-flash-attn's build script names no CUTLASS commit any more"
checkout=$target/cudaforge/git/checkouts/cutlass-${commit:0:16}
mkdir -p "$checkout/include" "$checkout/tools/util/include"
[ -d "$checkout/.git" ] || git -c init.defaultBranch=main init --quiet "$checkout"
echo "$commit" >"$checkout/.git/HEAD"

# CUDA_HOME stays as it is: our own kernels are not for the stand-in.
NVCC="$target/bin/nvcc" PATH="$target/bin:$PATH" CUDAFORGE_HOME="$target/cudaforge" CUDA_COMPUTE_CAP=80 \
  cargo clippy --locked --quiet --package quarry --features flash-attn --bins -- -D warnings ||
  die "the program does not check with the feature flash-attn"
echo "quarry with flash-attn: type-checks"
