#!/usr/bin/env bash
# Conversations with two models of which one fits, beside llama-server's router (LLAMA_SERVER names it): more turns a minute.
exec python3 "$(dirname "$0")/rows.py" switching-router
