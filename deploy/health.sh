#!/bin/bash
# alyx-health HOST:PORT [PATH]: exit 0 where http://HOST:PORT/PATH (default /health/ready) answers 200 within 2 s.
# Bash's own TCP, so that the image needs no HTTP client.
set -euo pipefail

address=${1:?usage: alyx-health HOST:PORT [PATH]}
path=${2:-/health/ready}

probe() {
  exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
  printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$address" >&3
  read -r _ status _ <&3
  printf '%s%s answered %s\n' "$address" "$path" "$status"
  [ "$status" = 200 ]
}

export -f probe
export address path
exec timeout 2 bash -c probe
