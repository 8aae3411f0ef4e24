#!/bin/sh
# Runs every kernel on the host shim over random shapes against references in double precision: plain, with the address
# and undefined-behaviour sanitizers, with the thread sanitizer; then puts mistakes in and shows that they are found.
#
#   CUDA_HOME=... server/cuda/tests/shim/run.sh [plain|address|thread|mistakes]...     all four by default
#
# CASES scales the number of cases (percent, 100). CXX and JOBS as in shim/build.sh. Ends with 0 only if all is as it
# should be; a mistake that is not found is a failure.
set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${CUDA_HOME:?CUDA_HOME: the folder of the CUDA toolkit, for its headers}"
cxx=${CXX:-g++}
percent=${CASES:-100}
flags="-std=c++20 -O2 -g -ffp-contract=off -Wall -Wextra -Werror -isystem $CUDA_HOME/include"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
# Sanitizers lay claim to fixed ranges of addresses, which a kernel that draws places at random may have given away.
fixed=
setarch -R true 2>/dev/null && fixed="setarch -R"
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0

# traps NAME [FLAG...]: the shim's own test against the library of a build
traps() {
  name=$1
  shift
  "$cxx" $flags -Wno-unknown-pragmas -DQUARRY_SHIM "$@" "$here/traps.cc" "$work/$name.d/libkernels.so" -rdynamic -o "$work/$name.traps" &&
    "$work/$name.traps" 2>"$work/errors" || {
      failed=1
      tail -n 40 "$work/errors"
      echo "== shim: FAILED"
    }
}

# The tests themselves are not instrumented: their buffers are guarded all the same, and they are compiled once.
for source in main rows products attention draws probes; do
  echo "$flags -c $here/$source.cc -o $work/$source.o"
done | xargs -P "${JOBS:-2}" -L 1 "$cxx" || exit 1

# build NAME [FLAG...]: the tests with kernels made with these flags, as $work/NAME
build() {
  name=$1
  shift
  link=
  for flag in "$@"; do case $flag in -fsanitize=*) link=$flag ;; esac; done
  "$here/../../shim/build.sh" "$work/$name.d" "$@" &&
    "$cxx" $link -o "$work/$name" "$work"/main.o "$work"/rows.o "$work"/products.o "$work"/attention.o "$work"/draws.o "$work"/probes.o \
      "$work/$name.d/libkernels.so" ||
    { echo "$name: does not build"; failed=1; return 1; }
}

# check NAME CASES
check() {
  echo "== $1"
  $fixed "$work/$1" $(($2 * percent / 100 + 1)) 2>"$work/errors" || {
    failed=1
    tail -n 60 "$work/errors"
    echo "== $1: FAILED"
  }
  true
}

# finds NAME CASES KERNEL...: the tests of each kernel must fail, it has a mistake
finds() {
  name=$1
  cases=$2
  shift 2
  for kernel in "$@"; do
    if $fixed "$work/$name" "$cases" "$kernel" >"$work/output" 2>&1; then
      echo "$kernel: $name is NOT found"
      failed=1
    else
      how=$(grep -m 1 -E 'SUMMARY|shim: |bits differ|not .*allowed|FAILED' "$work/output")
      echo "$kernel: $name is found: $(echo "$how" | sed 's/^ *//; s#/[^ ]*/##' | cut -c -100)"
    fi
  done
}

for part in ${*:-plain address thread mistakes}; do
  case $part in
    plain) build plain && check plain 100 && traps plain ;;
    address)
      build address -fsanitize=address,undefined -fno-sanitize-recover=undefined && check address 25 &&
        traps address -fsanitize=address,undefined -fno-sanitize-recover=undefined
      ;;
    thread) build thread -fsanitize=thread && check thread 8 ;;
    mistakes)
      echo "== mistakes"
      build no_wait -DINJECT_NO_WAIT && finds no_wait 20 gemm_q4 gemm_q8 gemm_bf16 gemm_f16 attend attend_prefill \
        attend_i8 attend_prefill_i8
      build wrong_block -DINJECT_BLOCK_OFF && finds wrong_block 20 attend attend_prefill attend_i8 attend_prefill_i8
      build wrong_scale -DINJECT_SCALE_OFF && finds wrong_scale 20 rope_store_i8 attend_i8 attend_prefill_i8
      build wrong_lane -DINJECT_WRONG_LANE && finds wrong_lane 20 norm_q8 norm_f32 rope_store
      build stale_mask -DINJECT_STALE_MASK && finds stale_mask 20 sample
      build misaligned -DINJECT_MISALIGNED && finds misaligned 5 gemv_q4 gemv_awq gemm_bf16
      build short_index -DINJECT_SHORT_INDEX && finds short_index 5 embed_bf16
      build no_barrier -fsanitize=thread -DINJECT_NO_BARRIER &&
        finds no_barrier 20 norm_q8 norm_f32 gemv_q4 gemv_bf16 gemm_q4 gemm_bf16 attend attend_prefill sample \
          attend_i8 attend_prefill_i8
      ;;
    *) echo "$part: plain, address, thread or mistakes"; failed=1 ;;
  esac
done
[ $failed = 0 ] && echo "== all is well" || echo "== FAILED"
exit $failed
