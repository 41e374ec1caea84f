#!/usr/bin/env bash
# make-env.sh [FILE]: writes FILE (default deploy/.env) from .env.example, with fresh secrets in it. Never overwrites.
# Needs OpenSSL 3.
set -euo pipefail
umask 077

here=$(cd "$(dirname "$0")" && pwd)
file=${1:-$here/.env}
[ ! -e "$file" ] || { echo "make-env: $file is there already; its secrets are in use. Remove it to make new ones." >&2; exit 1; }

url_safe() { base64 --wrap=0 | tr '+/' '-_' | tr -d '='; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A key that is forgotten at the end: it signs one token, which may read and write and does not expire.
openssl genpkey -algorithm ed25519 -out "$work/key.pem"
public=$(openssl pkey -in "$work/key.pem" -pubout -outform DER | tail --bytes=32 | url_safe)
printf '%s.%s' "$(printf '{"alg":"EdDSA","typ":"JWT"}' | url_safe)" "$(printf '{"a":"rw"}' | url_safe)" > "$work/message"
signature=$(openssl pkeyutl -sign -rawin -inkey "$work/key.pem" -in "$work/message" | url_safe)

while IFS= read -r line; do
  case $line in
    ALYX_ADMIN_TOKEN=) line+=$(openssl rand -hex 32) ;;
    ALYX_AUTH_JWT_SECRET=) line+=$(openssl rand -hex 32) ;;
    ALYX_CLUSTER_TOKEN=) line+=$(openssl rand -hex 32) ;;
    NATS_TOKEN=) line+=n$(openssl rand -hex 32) ;;
    LIBSQL_JWT_PUBLIC_KEY=) line+=$public ;;
    LIBSQL_AUTH_TOKEN=) line+=$(cat "$work/message").$signature ;;
  esac
  printf '%s\n' "$line"
done < "$here/.env.example" > "$work/env"
mv "$work/env" "$file"
echo "make-env: wrote $file"
