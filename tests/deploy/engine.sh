# shellcheck shell=bash
# Sourced by the deployment tests: a Docker engine of their own.
#
# The engine lives in new network, mount and process namespaces. So its bridges and packet filter rules touch nothing of
# this machine, published ports collide with nobody's, and whatever happens, all its processes and mounts end with its
# first process. Only its socket (a path in the file system) is shared; what talks to a published port runs `inside`.

engine_dir=
engine_init=

engine_start() {
  [ "$(id -u)" = 0 ] || { echo "engine: the test starts a Docker engine: run it as root" >&2; return 1; }
  engine_dir=$(mktemp -d /tmp/alyx-engine-XXXXXX)
  export DOCKER_HOST="unix://$engine_dir/docker.sock" DOCKER_CONFIG="$engine_dir/client" DOCKER_BUILDKIT=1
  mkdir "$DOCKER_CONFIG"
  local driver
  for driver in overlay2 vfs; do
    if engine_try "$driver"; then return; fi
    echo "engine: it does not start with the storage driver $driver" >&2
  done
  tail -n 30 "$engine_dir/log" >&2
  return 1
}

engine_try() {
  local unshared
  rm -rf "$engine_dir/data" "$engine_dir/exec" "$engine_dir/docker.sock"
  # Bash stays the first process there: it passes the signal on and reaps what the containers leave behind.
  unshare --net --mount --pid --fork --kill-child --mount-proc bash -c '
    ip link set lo up
    dockerd --host "$1" --data-root "$2/data" --exec-root "$2/exec" --pidfile "$2/dockerd.pid" \
      --storage-driver "$3" --cgroup-parent "/${2##*/}" --bip 172.31.255.1/24 \
      --default-address-pool base=172.30.0.0/16,size=24 &
    trap "kill -TERM $!" TERM
    while kill -0 $! 2>/dev/null; do wait $! || true; done
  ' engine "$DOCKER_HOST" "$engine_dir" "$driver" >"$engine_dir/log" 2>&1 &
  unshared=$!
  local deadline=$((SECONDS + 30))
  while [ "$SECONDS" -lt "$deadline" ]; do
    if "$DOCKER" info >/dev/null 2>&1; then
      engine_init=$(ps -o pid= --ppid "$unshared" | tr -d ' ')
      return 0
    fi
    kill -0 "$unshared" 2>/dev/null || return 1
    sleep 0.2
  done
  kill -KILL "$unshared" 2>/dev/null || true
  return 1
}

# inside COMMAND…: runs it where the published ports are.
inside() { nsenter --net="/proc/$engine_init/ns/net" "$@"; }

# as_the_engine COMMAND…: runs it where the engine's process ids hold.
as_the_engine() { nsenter --target "$engine_init" --pid "$@"; }

# Ends the engine and everything in it, and removes its files. Safe to call at any time, more than once.
engine_stop() {
  [ -n "$engine_dir" ] || return 0
  if [ -n "$engine_init" ] && kill -TERM "$engine_init" 2>/dev/null; then
    local deadline=$((SECONDS + 30))
    while [ -e "/proc/$engine_init" ] && [ "$SECONDS" -lt "$deadline" ]; do sleep 0.2; done
    kill -KILL "$engine_init" 2>/dev/null || true
  fi
  wait 2>/dev/null || true
  # Control groups of version 1 outlive their processes.
  find /sys/fs/cgroup -depth -type d -path "*/${engine_dir##*/}*" -exec rmdir {} + 2>/dev/null || true
  rm -rf "$engine_dir"
  engine_dir='' engine_init=''
}
