#!/usr/bin/env bash
# Prints every driver function that cudarc looks up by name, of all CUDA versions it knows: the content of symbols.txt.
# Run it when cudarc's version changes. Usage: symbols.sh CUDARC_SOURCE_DIR > symbols.txt
set -euo pipefail
grep -oE 'load::<_F>\("cu\w+"' "${1:?usage: symbols.sh CUDARC_SOURCE_DIR}/src/driver/sys/mod.rs" |
  sed 's/.*"\(.*\)"/\1/' | LC_ALL=C sort -u
