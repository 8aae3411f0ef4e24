#!/usr/bin/env bash
# Greedy answers of the 0.5B are the same alone, together, chunked, drafted, without forced tokens,
# swapped, recomputed, and with the model's weights gone and back in between.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" exactness
