#!/bin/bash
# libsql.sh serve: runs the libSQL server such that a write it acknowledged is on disk.
# libsql.sh health: exit 0 where it serves, and in that mode.
#
# The server's own default leaves syncing its log to the system ("relaxed"), it forgets another setting when it ends, and
# a connection keeps the mode that it was opened in. So every start begins with a key that nobody can sign with, and the
# true key takes its place together with the mode: no client gets in earlier. The server's administration listens on
# this container's loopback alone. Bash's own TCP, since the server's image holds no HTTP client.
set -euo pipefail

user=127.0.0.1:8080
admin=127.0.0.1:8081

# request METHOD HOST:PORT PATH BODY: prints the reply with its head.
request() {
  local connection
  exec {connection}<>"/dev/tcp/${2%:*}/${2##*:}" || return 1
  printf '%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
    "$1" "$3" "$2" "${#4}" "$4" >&"$connection"
  cat <&"$connection"
  exec {connection}>&-
}

healthy() {
  [[ "$(request GET "$user" /health '')" == "HTTP/1.1 200"* ]] \
    && [[ "$(request GET "$admin" /v1/namespaces/default/config '')" == *'"durability_mode":"strong"'* ]]
} 2>/dev/null

open_to_clients() {
  local settings='{"block_reads":false,"block_writes":false,"durability_mode":"strong","jwt_key":"'$LIBSQL_JWT_PUBLIC_KEY'"}'
  [[ "$(request POST "$admin" /v1/namespaces/default/config "$settings")" == "HTTP/1.1 200"* ]]
} 2>/dev/null

serve() {
  local usual='^[A-Za-z0-9_-]{43}$'
  [[ "${LIBSQL_JWT_PUBLIC_KEY:-}" =~ $usual ]] \
    || { echo "libsql.sh: LIBSQL_JWT_PUBLIC_KEY is not an Ed25519 public key in URL-safe base64" >&2; exit 64; }
  SQLD_AUTH_JWT_KEY=$(head --bytes=32 /dev/urandom | base64 --wrap=0 | tr '+/' '-_' | tr -d '=')
  export SQLD_AUTH_JWT_KEY
  /bin/sqld --no-welcome --db-path /var/lib/sqld/data.sqld \
    --http-listen-addr 0.0.0.0:8080 --admin-listen-addr "$admin" --max-log-size 1024 &
  local server=$!
  trap 'kill -TERM "$server" 2>/dev/null || true' TERM INT
  until open_to_clients; do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  # A trapped signal ends `wait` early; the second one waits for the server itself.
  local status=0
  while kill -0 "$server" 2>/dev/null; do wait "$server" && status=0 || status=$?; done
  exit "$status"
}

case ${1:-} in
  serve) serve ;;
  health) healthy ;;
  *) echo "usage: libsql.sh serve|health" >&2; exit 64 ;;
esac
