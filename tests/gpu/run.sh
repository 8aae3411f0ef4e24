#!/usr/bin/env bash
# For whoever has a CUDA card: everything that a processor cannot show, from the archive that pack.sh made. Needs a driver and
# bash, nothing else. Writes record/ beside itself (or OUT): a text for each part, JSON, pictures, summary.json at the end.
#
#   run.sh [PART]...        all parts, about eight minutes on a fast card; each stands alone
#
#   suite      the executor's conformance suite with the kernels that are built in
#   sanitizer  one model of it under compute-sanitizer, memory and races, where that is installed
#   serve      random Qwen3-4B behind HTTP: the server starts, answers 1 and 8 clients, stops
#   speed      decode, prefill, switches and swaps of random Qwen3-4B and 8B (AWQ) as shares of what the card does at most
#   beside     the same card's figures in PyTorch, where Python has it
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/record}
models=${MODELS:-$here/models}
quarry=$here/quarry
mkdir -p "$out" "$models"
failed=()
[ $# -gt 0 ] || set -- suite serve speed beside sanitizer

part() { # part NAME COMMAND...
  local name=$1 begun=$SECONDS
  shift
  echo "== $name"
  if "$@" >"$out/$name.txt" 2>&1; then
    echo "$name: well, $((SECONDS - begun)) s"
  else
    failed+=("$name")
    tail -n 20 "$out/$name.txt"
    echo "$name: FAILED, $((SECONDS - begun)) s"
  fi
}

model() { # model SHAPE: the folder of its random weights, made once
  [ -f "$models/$1/config.json" ] || "$quarry" bench make-model --shape "$1" --quant awq "$models/$1" >&2
  echo "$models/$1"
}

speed() {
  "$quarry" bench gpu "$(model qwen3-4b)" "$(model qwen3-8b)" --out "$out/speed" "$@"
}

serve() {
  local folder
  folder=$(model qwen3-4b)
  for clients in 1 8; do
    QUARRY__SERVER__DEVICE=cuda "$quarry" bench serve --model "$folder" --clients "$clients" --requests $((4 * clients)) \
      --prompt-tokens 512 --output-tokens 128 --turns 1 --out "$out/serve-$clients.json" || return 1
  done
}

sanitizer() {
  local tool
  for tool in memcheck racecheck; do
    timeout 150 compute-sanitizer --tool "$tool" --error-exitcode 1 "$here/suite" a_model_answers_on_the_device || return 1
  done
}

{
  date -u +"date       %F %T UTC"
  echo "commit     $(head -n 1 "$here/commit.txt" 2>/dev/null)"
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv,noheader 2>/dev/null | sed 's/^/device     /'
  sed -n 's/^model name\s*: /processor  /p' /proc/cpuinfo | head -n 1
} | tee "$out/machine.txt"

for name in "$@"; do
  case $name in
    suite) part suite "$here/suite" --nocapture the_suite_passes_on_the_device ;;
    sanitizer)
      if command -v compute-sanitizer >/dev/null; then part sanitizer sanitizer; else echo "sanitizer: not installed here"; fi
      ;;
    serve) part serve serve ;;
    speed) part speed speed ;;
    beside)
      if python3 -c 'import torch' 2>/dev/null; then
        part beside python3 "$here/beside.py" "$out/beside.json"
      else
        echo "beside: no PyTorch here"
      fi
      ;;
    *) echo "no part $name: suite, sanitizer, serve, speed, beside"; failed+=("$name") ;;
  esac
done

# One JSON of all that is there.
{
  printf '{"failed": ['
  separator=
  for name in "${failed[@]}"; do printf '%s"%s"' "$separator" "$name"; separator=', '; done
  printf ']'
  for file in speed/gpu.json serve-1.json serve-8.json beside.json; do
    [ -f "$out/$file" ] || continue
    name=$(basename "$file" .json)
    printf ',\n"%s": ' "${name/gpu/speed}"
    cat "$out/$file"
  done
  printf '}\n'
} >"$out/summary.json"
echo "written: $out"
[ ${#failed[@]} = 0 ]
