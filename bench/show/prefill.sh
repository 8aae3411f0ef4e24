#!/usr/bin/env bash
# Prefill of 512, 2048 and 4096 tokens (4B: 256): AVX-512 >= 1.7 x the better rival, AVX2 >= 2.5 x llama.cpp.
# Needs LLAMA_BENCH; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" prefill
