#!/usr/bin/env bash
# Pages/s of cleaning on one core and how much truth is kept, beside trafilatura and Crawl4AI's pruning on the same pages:
# >= 500 pages/s, and at least as much truth as the better rival. Needs QUARRY_SHOW_CORPUS, a labelled folder as
# `quarry eval` takes it, and Python 3.10 or newer with pip; CONTRIBUTING.md says the rest.
exec python3 "$(dirname "$0")/rows.py" cleaning
