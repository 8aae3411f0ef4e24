#!/usr/bin/env bash
# A stand-in for nvcc where only types are checked: it says a version and leaves empty outputs where nvcc would leave real ones.
#
#   --version                        four lines, the last with the release, as cudarc and cudaforge read them
#   --ptx … --output-directory=DIR   an empty DIR/NAME.ptx for each NAME.cu
#   … -o FILE                        an empty archive (.a), or an object of an empty source
set -euo pipefail
output='' folder='' is_ptx='' sources=()
while [ $# -gt 0 ]; do
  case $1 in
    --version)
      printf '%s\n' 'stand-in for nvcc' '' '' 'Cuda compilation tools, release 12.9, V12.9.0'
      exit ;;
    -o | --output-file) output=$2; shift ;;
    --output-directory) folder=$2; shift ;;
    --output-directory=*) folder=${1#*=} ;;
    --ptx | -ptx) is_ptx=1 ;;
    *.cu) sources+=("$1") ;;
  esac
  shift
done
if [ -n "$is_ptx" ]; then
  for source in "${sources[@]}"; do
    name=$(basename "$source" .cu)
    : >"${output:-${folder:-.}/$name.ptx}"
  done
elif [ "${output##*.}" = a ]; then
  ar rcs "$output"
elif [ -n "$output" ]; then
  cc -x c -c /dev/null -o "$output"
fi
