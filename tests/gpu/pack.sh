#!/usr/bin/env bash
# Packs everything that a machine with a CUDA card needs into one archive of less than 60 MB: there it asks for nothing but a
# driver and bash, no network and no compiler. Prints the archive's path.
#
#   tests/gpu/pack.sh [OUT.tar.gz]        then, over there:   tar xzf OUT.tar.gz && quarry-gpu/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-target/quarry-gpu.tar.gz}
[ -d "${CARGO_TARGET_DIR:-target}" ] || mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
python3 server/cuda/images.py "$target/cuda-images" >&2
export QUARRY_CUDA_IMAGES=$target/cuda-images
cargo build --release --locked --features cuda >&2
suite=$(cargo test --release --locked --package quarry-cuda --features gpu --test gpu --no-run --message-format=json |
  python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/quarry-gpu"
cp "$target/release/quarry" "$work/quarry-gpu/quarry"
cp "$suite" "$work/quarry-gpu/suite"
cp tests/gpu/run.sh tests/gpu/beside.py "$work/quarry-gpu/"
{ git rev-parse HEAD; git status --porcelain | sed 's/^/changed /'; } >"$work/quarry-gpu/commit.txt"
strip "$work/quarry-gpu/quarry" "$work/quarry-gpu/suite"
tar -C "$work" -czf "$out" quarry-gpu
bytes=$(stat -c %s "$out")
[ "$bytes" -lt 60000000 ] || { echo "$out has $bytes bytes, 60,000,000 are the most" >&2; exit 1; }
echo "$bytes bytes" >&2
echo "$out"
