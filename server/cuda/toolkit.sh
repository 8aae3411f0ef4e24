#!/usr/bin/env bash
# Prints the folder of a CUDA toolkit: $CUDA_HOME where it is set, else one of NVIDIA's own Python wheels in the user's
# cache, which are fetched the first time (109 MB; nvcc, headers, cuobjdump; no driver). Needs python3 with pip.
set -euo pipefail
if [ -n "${CUDA_HOME:-}" ]; then
  echo "$CUDA_HOME"
  exit
fi
# Of 13.0 rather than later, so that PTX asks for no newer driver than it must; cuobjdump begins at 13.2.
wheels=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
  nvidia-cuda-cccl==13.0.85 nvidia-cuda-cuobjdump==13.2.78 nvidia-cuda-nvdisasm==13.2.78)
cache="${QUARRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quarry}/cuda-toolkit"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -f "$cache/complete" ] || [ "$(cat "$cache/complete")" != "${wheels[*]}" ]; then
  rm -rf "$cache/wheels"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$cache/wheels" "${wheels[@]}" >&2
  echo "${wheels[*]}" >"$cache/complete"
fi
echo "$cache/wheels/nvidia/cu13"
