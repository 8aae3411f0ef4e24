#!/usr/bin/env bash
# Every kernel for five architectures within its budget of registers, shared memory, stack and instructions; what a release
# compiles; worst error of each kernel over random shapes against double precision, plain and under the sanitizers.
# Needs g++ and python3 with pip; ends with 0 only if all is as it should be.
set -euo pipefail
cd "$(dirname "$0")/../.."
CUDA_HOME=$(server/cuda/toolkit.sh)
export CUDA_HOME
python3 server/cuda/kernels/budget.py
sed -n '/^kernel/,$p' server/cuda/kernels/budget.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 server/cuda/images.py "$work"
python3 server/cuda/kernels/budget.py --images "$work"
server/cuda/tests/shim/run.sh plain address thread
