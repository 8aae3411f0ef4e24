#!/usr/bin/env bash
# Decode of one stream behind 4,096 tokens: AVX-512 >= 2 x the better rival, AVX2 >= 3 x llama.cpp.
# Needs LLAMA_BENCH; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" decode-depth
