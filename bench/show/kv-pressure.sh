#!/usr/bin/env bash
# 32 contexts of 4 times the KV cache: all end with the same text; swap is at least as fast as recomputation.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" kv-pressure
