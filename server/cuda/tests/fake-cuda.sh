#!/usr/bin/env bash
# Builds what tests run the CUDA back end on without a card: OUT_DIR/libcuda.so, a driver that is none, and
# OUT_DIR/libkernels.so, the kernels as host code, and OUT_DIR/libnvidia-ml.so.1 with figures of the pretended card. Needs g++; CUDA's headers come from toolkit.sh.
set -euo pipefail
out=${1:?usage: fake-cuda.sh OUT_DIR}
here=$(cd "$(dirname "$0")/.." && pwd)
CUDA_HOME=$("$here/toolkit.sh")
export CUDA_HOME
"$here/fake-driver/build.sh" "$out"
"$here/shim/build.sh" "$out"
nvml="$out/libnvidia-ml.so.1"
"${CC:-gcc}" -Wall -Wextra -Werror -O1 -fPIC -shared "$here/tests/nvml/fake_nvml.c" -o "$nvml.new"
mv "$nvml.new" "$nvml"
