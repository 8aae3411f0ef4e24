#!/usr/bin/env bash
# The CUDA executor on the driver that is none: its conformance suite, what a step asks of the driver, swaps and uploads under
# many orders of the streams, and the program itself with tiny models over HTTP. Needs g++; ends with 0 only if all is well.
set -euo pipefail
cd "$(dirname "$0")/../.."
CUDA_HOME=$(server/cuda/toolkit.sh)
export CUDA_HOME
cargo test --locked --package quarry-cuda -- --nocapture
cargo test --locked --package quarry --features cuda --test cuda
