#!/usr/bin/env bash
# For whoever has a CUDA card: everything that the CPU cannot show, in one command. Writes OUT_DIR (default: a new folder in
# bench/record). Needs Rust, python3 with pip, a driver. Nothing here has run on a card before you.
#
#   1. the executor's suite on the device, with the kernels that are built in
#   2. the same under compute-sanitizer: memory, then races (SANITIZE=0 leaves it out; it takes long)
#   3. with FLASH=1 the suite with candle-flash-attn's prefill attention (hours to build): CUDA_HOME has to be a
#      whole toolkit, with cuBLAS, and CUDA_COMPUTE_CAP your card's, such as 89
#   4. tokens/s of random-weight Qwen3-4B and 8B at 1, 4 and 8 clients, beside the bound of the card's bandwidth
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v nvidia-smi >/dev/null || { echo "no nvidia-smi: is there a driver?" >&2; exit 1; }
CUDA_HOME=$(server/cuda/toolkit.sh)
export CUDA_HOME
out=${1:-bench/record/$(date +%F)-gpu}
mkdir -p "$out"
{
  date -u +"date       %F %T UTC"
  echo "commit     $(git rev-parse --short=12 HEAD)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv,noheader | sed 's/^/device     /'
  lscpu | sed -n 's/^Model name: */processor  /p'
} | tee "$out/machine.txt"

echo "== suite"
cargo test --release --package quarry-cuda --features gpu --test gpu -- --nocapture 2>&1 | tee "$out/suite.txt"

if [ "${SANITIZE:-1}" = 1 ]; then
  tools=$(mktemp -d)
  trap 'rm -rf "$tools"' EXIT
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$tools" nvidia-cuda-sanitizer-api
  sanitizer=$(find "$tools" -name compute-sanitizer -type f | head -n 1)
  test=$(cargo test --release --package quarry-cuda --features gpu --test gpu --no-run --message-format=json 2>/dev/null |
    python3 -c 'import json, sys; print([m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable")][-1])')
  for tool in memcheck racecheck; do
    echo "== $tool"
    "$sanitizer" --tool "$tool" --error-exitcode 1 "$test" a_model_answers_on_the_device 2>&1 | tee "$out/$tool.txt"
  done
fi

if [ "${FLASH:-0}" = 1 ]; then
  echo "== flash-attn"
  cargo test --release --package quarry-flash --features gpu --test gpu -- --nocapture 2>&1 | tee "$out/flash.txt"
fi

echo "== speed"
cargo build --release --features cuda
quarry=target/release/quarry
models=${QUARRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quarry}/show
mkdir -p "$models"
for shape in qwen3-4b qwen3-8b; do
  file=$models/$shape-random-q4_0.gguf
  [ -f "$file" ] || "$quarry" bench make-model --shape "$shape" --quant q4_0 "$file"
  for clients in 1 4 8; do
    echo "-- $shape, $clients clients"
    QUARRY__SERVER__DEVICE=cuda "$quarry" bench serve --model "$file" --clients "$clients" --requests $((8 * clients)) \
      --prompt-tokens 512 --output-tokens 128 --turns 1 --out "$out/$shape-$clients.json" 2>&1 |
      tee "$out/$shape-$clients.txt"
  done
done
