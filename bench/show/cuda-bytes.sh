#!/usr/bin/env bash
# What a decode step of the CUDA back end moves and launches, counted on the driver for tests, beside the byte model (5 %)
# and the launch budget; registers and instructions of each kernel for each architecture; the bounds on speed that follow.
# Bounds are not measurements. Needs no card and no rival: g++, and the compiler that server/cuda/toolkit.sh gets.
exec python3 "$(dirname "$0")/rows.py" cuda-bytes
