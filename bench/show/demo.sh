#!/usr/bin/env bash
# demo --once with the model there: AVX-512 <= 25 s; AVX2 first model page within 20 s, all within 150 s.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" demo
