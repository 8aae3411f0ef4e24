#!/usr/bin/env bash
# Ten mistakes that a CUDA back end is prone to, put in one at a time: each must be found by the check that is named for it.
#
#   1 missing barrier, 2 race inside a block's reduction   no_barrier: gemv, gemm, attention, sample; norm, under TSan
#   3 missing wait for an asynchronous copy                no_wait
#   4 block of the cache that is another one               wrong_block
#   5 wrong lane of a warp                                 wrong_lane
#   6 mask of another row                                  stale_mask
#   7 misaligned load                                      misaligned
#   8 index past 2^32                                      short_index
#   9 order of AWQ's zero points                           zero_points_in_another_order_are_found
#  10 order of streams in a swap                           a_swap_that_waits_for_nothing_is_found
#
# Needs g++; ends with 0 only if every one of them is found.
set -euo pipefail
cd "$(dirname "$0")/../.."
CUDA_HOME=$(server/cuda/toolkit.sh)
export CUDA_HOME
server/cuda/tests/shim/run.sh mistakes
said=$(cargo test --locked --package quarry-cuda --test driver -- \
  zero_points_in_another_order_are_found a_swap_that_waits_for_nothing_is_found 2>&1) || { echo "$said"; exit 1; }
echo "$said"
grep -q '^test result: ok. 2 passed' <<<"$said"
