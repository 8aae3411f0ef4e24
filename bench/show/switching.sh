#!/usr/bin/env bash
# Conversations with three models without room for each other: none is lost, each goes on with the same text.
# Needs no rival.
exec python3 "$(dirname "$0")/rows.py" switching
