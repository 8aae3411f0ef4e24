#!/usr/bin/env bash
# The same with random weights of 4B and 8B, one at a time in memory: each cold switch within 60 s.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" switching-large
