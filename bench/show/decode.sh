#!/usr/bin/env bash
# Decode of one stream: AVX-512 >= 1.05 x the better rival, AVX2 >= 2 x llama.cpp.
# Needs LLAMA_BENCH; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" decode
