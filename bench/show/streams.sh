#!/usr/bin/env bash
# Decode of eight streams together: AVX-512 >= 4 x, AVX2 >= 3 x llama.cpp.
# Needs LLAMA_BATCHED_BENCH; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" streams
