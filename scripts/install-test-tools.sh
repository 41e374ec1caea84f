#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, from the ordinary package registries.
# What cannot be installed fails here, loudly, before a test could be skipped for it.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'test tools: %s\n' "$*"; }
need() { command -v "$1" >/dev/null 2>&1 || { say "$1 is missing: $2" >&2; exit 1; }; }

need cargo "install Rust 1.95 or newer"
need node "install Node.js 20 or newer"
need npm "install npm"
need python3 "install Python 3"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
command -v chromium >/dev/null 2>&1 || missing+=(chromium)
command -v cc >/dev/null 2>&1 || missing+=(build-essential)
if [ ${#missing[@]} -gt 0 ]; then
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq "${missing[@]}" >/dev/null
fi

if [ ! -d tests/browser/node_modules/playwright-core ]; then
  say "installing the browser driver"
  npm install --prefix tests/browser --no-package-lock --ignore-scripts --silent
fi

if ! .cache/openapi/bin/python -c 'import openapi_spec_validator' 2>/dev/null; then
  say "installing the OpenAPI validator"
  python3 -m venv .cache/openapi
  .cache/openapi/bin/pip install --quiet 'openapi-spec-validator==0.9.0'
fi
say "complete"
