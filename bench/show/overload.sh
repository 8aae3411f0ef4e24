#!/usr/bin/env bash
# 1,000 chat requests at once to one server: each is answered whole, or refused with 429 and Retry-After within 100 ms.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" overload
