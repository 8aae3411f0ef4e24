#!/usr/bin/env bash
# Seconds a page of the extract job, one and four at a time: AVX-512 >= 4 x, AVX2 >= 3 x llama-server.
# Needs LLAMA_SERVER or LLAMA_SERVER_URL; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" extraction
