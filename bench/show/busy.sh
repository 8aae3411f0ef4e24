#!/usr/bin/env bash
# One other busy process on the machine: >= 65 % of the quiet speed, prefill and decode.
# Needs no rival; shows LLAMA_BENCH beside ours where it is set.
exec python3 "$(dirname "$0")/rows.py" busy
