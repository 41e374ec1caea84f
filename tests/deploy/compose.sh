#!/usr/bin/env bash
# compose.sh [single] [cluster]: builds the images of deploy/, starts the compose files on an engine of its own, checks
# them, and takes everything down again. Both without an argument. On Linux, as root or by sudo; $ALYX_BIN names the
# binary (default target/release/alyx).
set -euo pipefail
cd "$(dirname "$0")/../.."
# Tools are installed as who calls, the rest needs network namespaces and an engine.
[ -n "${ALYX_TOOLS_INSTALLED:-}" ] || ./tests/deploy/install-tools.sh compose
if [ "$(id -u)" != 0 ]; then
  exec sudo --preserve-env=PATH,ALYX_BIN ALYX_TOOLS_INSTALLED=1 "$PWD/tests/deploy/compose.sh" "$@"
fi

# Debian's client: it builds with BuildKit without a plugin.
export DOCKER=/usr/bin/docker
compose=$PWD/.cache/deploy/bin/docker-compose
binary=${ALYX_BIN:-target/release/alyx}
suites=${*:-single cluster}
passed=0 failed=0
work=$(mktemp -d)

. tests/deploy/engine.sh

say() { printf '\ndeploy: %s\n' "$*"; }
check() { # check TEXT COMMAND…
  local text=$1 said
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1))
    printf '  ok    %s\n' "$text"
  else
    failed=$((failed + 1))
    printf '  FAIL  %s\n%s\n' "$text" "$said"
  fi
}
refuses() { if "$@"; then return 1; fi; }
clean_up() {
  local status=$?
  trap - EXIT
  engine_stop
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build_image() { # build_image TAG TARGET DOCKERFILE CONTEXT ARGUMENT…
  local tag=$1 target=$2 file=$3 context=$4 argument arguments=()
  shift 4
  for argument in BASE_IMAGE=alyx-base:bookworm "$@"; do arguments+=(--build-arg "$argument"); done
  "$DOCKER" build --quiet --tag "$tag" --target "$target" --file "$file" "${arguments[@]}" "$context" >/dev/null
}

build_images() {
  say "building the images"
  ./deploy/make-base-image.sh
  mkdir -p "$work/alyx/build" "$work/alyx/deploy" "$work/engines"
  # A debug build is several times its size without this; a release build has nothing to lose.
  strip --strip-debug -o "$work/alyx/build/alyx" "$binary"
  cp deploy/health.sh "$work/alyx/deploy/"
  local target
  for target in slim full; do
    build_image "alyx:$target" "$target" deploy/Dockerfile "$work/alyx" BINARY=prebuilt NODE_IMAGE=alyx-node:bookworm
  done
  "$DOCKER" tag alyx:full alyx:latest
  cp -L .cache/nats/bin/nats-server .cache/sqld/sqld "$work/engines/"
  build_image alyx-test-nats nats tests/deploy/engines.Dockerfile "$work/engines"
  build_image alyx-test-libsql libsql tests/deploy/engines.Dockerfile "$work/engines"
}

not_root() { [ "$("$DOCKER" inspect --format '{{.Config.User}}' "$1")" = 10001:10001 ]; }
in_image() { "$DOCKER" run --rm --network none --entrypoint bash "$1" -c "$2"; }
smaller_than() { # smaller_than IMAGE MIB
  local bytes
  bytes=$("$DOCKER" inspect --format '{{.Size}}' "$1")
  echo "$1 has $((bytes >> 20)) MiB"
  [ "$bytes" -lt $(($2 << 20)) ]
}

# Builds an image of the whole build context, as the Dockerfile's ignore file leaves it.
context_holds_no_secret() {
  local context=$work/context path
  mkdir -p "$context/deploy" "$context/crates/core/src" "$context/cli/data"
  for path in .env deploy/.env crates/core/.env.local cli/data/chat.db crates/core/src/lib.rs; do
    echo anything > "$context/$path"
  done
  printf 'FROM alyx-base:bookworm\nCOPY . /context\n' > "$work/Dockerfile"
  cp deploy/Dockerfile.dockerignore "$work/"
  "$DOCKER" build --quiet --tag alyx-test-context --file "$work/Dockerfile" "$context"
  [ "$(in_image alyx-test-context 'cd /context && find . -type f')" = ./crates/core/src/lib.rs ]
}

check_images() {
  say "the images"
  check "no secret and no database reaches the engine" context_holds_no_secret
  local image
  for image in alyx:slim alyx:full; do
    check "$image runs as a user, not as root" not_root "$image"
    check "$image runs the binary" in_image "$image" 'alyx --version'
    check "$image has certificates of authorities" in_image "$image" 'test -s /etc/ssl/certs/ca-certificates.crt'
    check "$image lets its user write nothing but /data" in_image "$image" \
      'touch /data/a && ! touch /app/a && ! touch /usr/local/bin/a && ! touch /etc/a'
    check "$image: a health check fails where nobody listens" refuses in_image "$image" 'alyx-health 127.0.0.1:1'
  done
  check "the full image runs Node.js 20 or newer" in_image alyx:full \
    'node --eval "process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)"'
  check "the full image runs Python 3.9 or newer" in_image alyx:full \
    'python3 -c "import asyncio, sys; assert sys.version_info >= (3, 9)"'
  check "the slim image has no Node.js" refuses in_image alyx:slim 'command -v node'
  check "the slim image adds the binary and less than 8 MiB to its base" smaller_than alyx:slim $((
    ($("$DOCKER" inspect --format '{{.Size}}' alyx-base:bookworm) + $(stat --format %s "$work/alyx/build/alyx")) / 1048576 + 8
  ))
}

up() {
  # The containers' own words, where one of them does not become healthy.
  "$@" up --detach --wait --wait-timeout 180 --no-build --quiet-pull >"$work/up.log" 2>&1 && return
  tail -n 30 "$work/up.log"
  "$@" ps --all
  "$@" logs --tail 40
  return 1
}
every_container() { # every_container FORMAT EXPECTED: of the running project
  local id
  for id in $("${stack[@]}" ps --all --quiet); do
    local found
    found=$("$DOCKER" inspect --format "$1" "$id")
    [ "$found" = "$2" ] || { "$DOCKER" inspect --format '{{.Name}}' "$id"; echo "$found"; return 1; }
  done
}
demo() { inside node --experimental-websocket --no-warnings tests/deploy/check.mjs "$@"; }
count() { inside curl -fsS "http://$1/api/collections/messages?limit=1" | grep -o '"total":[0-9]*'; }
stopped_cleanly() {
  "${stack[@]}" stop >/dev/null 2>&1
  every_container '{{.State.ExitCode}}' 0
}

single() {
  say "one container"
  stack=("$compose" --file deploy/docker-compose.single.yml)
  check "it becomes healthy" up "${stack[@]}"
  check "the chat demo works" demo http://127.0.0.1:8090 http://127.0.0.1:8090
  check "the container's root is read-only" every_container '{{.HostConfig.ReadonlyRootfs}}' true
  local before
  before=$(count 127.0.0.1:8090 || true)
  check "it stops with status 0" stopped_cleanly
  "${stack[@]}" down >/dev/null 2>&1
  check "it starts again from its volume" up "${stack[@]}"
  check "what was written is still there (${before:-nothing})" [ "$before" = "$(count 127.0.0.1:8090)" ]
  "${stack[@]}" down --volumes >/dev/null 2>&1
}

only_gateways_are_published() {
  local id
  for id in $("${stack[@]}" ps --quiet); do
    local name ports
    name=$("$DOCKER" inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$id")
    ports=$("$DOCKER" inspect --format '{{range $port, $host := .NetworkSettings.Ports}}{{if $host}}{{$port}} {{end}}{{end}}' "$id")
    case $name in
      gateway) [ "$ports" = "8090/tcp " ] || { echo "$name: $ports"; return 1; } ;;
      *) [ -z "$ports" ] || { echo "$name: $ports"; return 1; } ;;
    esac
  done
}
reaches() { # reaches SERVICE HOST PORT: whether a container of the service can connect
  "${stack[@]}" exec -T "$1" timeout 3 bash -c "exec 3<>/dev/tcp/$2/$3"
}
operator() { "${stack[@]}" exec -T control-plane alyx "$@"; }
operator_sees() { # operator_sees COUNT: nodes that are alive, gateways, realtime nodes and workers
  local list
  list=$(operator nodes list --json)
  echo "$list"
  [ "$(grep -o '"role"' <<<"$list" | wc -l)" = "$1" ]
}
logs_hold_no_secret() {
  local secret
  "${stack[@]}" logs --no-color > "$work/logs" 2>&1
  for secret in $(grep -E '^(ALYX_CLUSTER_TOKEN|ALYX_ADMIN_TOKEN|NATS_TOKEN|LIBSQL_AUTH_TOKEN)=' "$work/env" | cut -d= -f2-); do
    if grep -nF "$secret" "$work/logs"; then return 1; fi
  done
}
crash() { # crash SERVICE: kills one container of it, and waits until the restart policy has brought it back
  local id deadline=$((SECONDS + 30))
  id=$("${stack[@]}" ps --quiet "$1" | head -n 1)
  # Not `docker kill`, after which the engine would leave it be.
  as_the_engine kill -KILL "$("$DOCKER" inspect --format '{{.State.Pid}}' "$id")"
  while [ "$("$DOCKER" inspect --format '{{.RestartCount}} {{.State.Running}}' "$id")" != "1 true" ]; do
    [ "$SECONDS" -lt "$deadline" ] || { "$DOCKER" inspect --format '{{json .State}}' "$id"; return 1; }
    sleep 0.1
  done
}
syncs_every_commit() { # the libSQL server, asked as a client
  local address token reply
  address=$("$DOCKER" inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$("${stack[@]}" ps --quiet libsql)")
  token=$(sed -n 's/^LIBSQL_AUTH_TOKEN=//p' "$work/env")
  reply=$(inside curl -sS --fail-with-body "http://$address:8080/v2/pipeline" --header "Authorization: Bearer $token" \
    --data '{"requests":[{"type":"execute","stmt":{"sql":"PRAGMA synchronous"}}]}')
  echo "$reply"
  # 2 is FULL.
  [[ "$reply" == *'"rows":[[{"type":"integer","value":"2"}]]'* ]]
}

cluster() {
  say "a cluster"
  : > "$work/empty"
  export NATS_IMAGE=alyx-test-nats LIBSQL_IMAGE=alyx-test-libsql
  local bare=("$compose" --env-file "$work/empty" --file deploy/docker-compose.yml) name
  check "it refuses to start without secrets" refuses "${bare[@]}" up --detach --no-build
  ./deploy/make-env.sh "$work/env"
  for name in ALYX_CLUSTER_TOKEN NATS_TOKEN LIBSQL_JWT_PUBLIC_KEY LIBSQL_AUTH_TOKEN; do
    grep -v "^$name=" "$work/env" > "$work/partial"
    check "it refuses to start without $name" refuses "$compose" --env-file "$work/partial" \
      --file deploy/docker-compose.yml config --quiet
  done
  check "secrets are never made twice" refuses ./deploy/make-env.sh "$work/env"

  stack=("$compose" --env-file "$work/env" --file deploy/docker-compose.yml)
  check "all of it becomes healthy" up "${stack[@]}"
  check "the chat demo works through gateways A and B" demo http://127.0.0.1:8090 http://127.0.0.1:8091
  check "every container's root is read-only" every_container '{{.HostConfig.ReadonlyRootfs}}' true
  check "no container may gain privileges" every_container '{{.HostConfig.SecurityOpt}}' '[no-new-privileges:true]'
  check "no container holds a capability" every_container '{{.HostConfig.CapDrop}}{{.HostConfig.CapAdd}}' '[ALL][]'
  check "only gateways publish a port" only_gateways_are_published
  check "a gateway reaches the database" reaches gateway libsql 8080
  check "a function worker does not reach the database" refuses reaches function-worker libsql 8080
  check "a function worker does not reach NATS" refuses reaches function-worker nats 4222
  check "an operator sees every node" operator_sees 6
  check "an operator without the token is refused" refuses operator --token wrong nodes list
  check "no log holds a secret" logs_hold_no_secret
  check "the libSQL server syncs every commit" syncs_every_commit
  for name in function-worker realtime-node gateway control-plane nats libsql; do
    check "$name is started again after it was killed" crash "$name"
    check "all of it becomes healthy again" up "${stack[@]}"
    check "the chat demo works after $name was killed" demo http://127.0.0.1:8090 http://127.0.0.1:8091
  done
  check "the libSQL server syncs every commit after its restart, too" syncs_every_commit
  check "all of it stops with status 0" stopped_cleanly
  "${stack[@]}" down --volumes >/dev/null 2>&1
}

[ -x "$binary" ] || { echo "deploy: $binary is missing: run cargo build --release first" >&2; exit 1; }
for engine in .cache/nats/bin/nats-server .cache/sqld/sqld; do
  [ -x "$engine" ] || { echo "deploy: $engine is missing: run scripts/install-test-tools.sh first" >&2; exit 1; }
done
engine_start
build_images
check_images
for suite in $suites; do "$suite"; done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
