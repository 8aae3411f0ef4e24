#!/usr/bin/env bash
# Extraction over the labelled corpus and the twelve invented sites with two local models: no field worse than before the
# resolver, gate >= 96 %, listings >= 95 % either way, no job on a page without one, nothing invented, >= 98 % handled here.
# Needs QUARRY_SHOW_CORPUS, a labelled folder as `quarry eval` takes it; QUARRY_SHOW_MODELS names other models.
exec python3 "$(dirname "$0")/rows.py" quality
