#!/usr/bin/env bash
# make-base-image.sh [--refresh]
#
# Makes the images that deploy/Dockerfile builds on, from Debian's packages and this machine's Node.js, for a place that
# reaches no image registry:
#
#   alyx-base:bookworm   in place of debian:bookworm-slim   (BASE_IMAGE), with Python
#   alyx-node:bookworm   in place of node:20-bookworm-slim  (NODE_IMAGE): /usr/local/bin/node and nothing else
#
# The file system is kept in .cache/deploy and used again; --refresh makes it anew, with today's packages.
# Needs mmdebstrap and an engine ($DOCKER_HOST says which; $DOCKER names the client).
set -euo pipefail
cd "$(dirname "$0")/.."

docker=${DOCKER:-docker}
suite=bookworm
tree=.cache/deploy/base-$suite-python3.tar
say() { printf 'base image: %s\n' "$*"; }
need() { command -v "$1" >/dev/null 2>&1 || { say "$1 is missing: $2" >&2; exit 1; }; }
need mmdebstrap "apt-get install mmdebstrap"
need node "install Node.js 20 or newer"

if [ "${1:-}" = --refresh ]; then rm -f "$tree"; fi
if [ ! -s "$tree" ]; then
  say "installing Debian's packages into $tree"
  mkdir -p "${tree%/*}"
  # Busybox gives health checks of the test's engine images their wget; the Alpine images have it, too.
  # Its format would else be told by the ending.
  mmdebstrap --quiet --format=tar --variant=minbase --include=busybox,ca-certificates,libstdc++6,python3 \
    --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    "$suite" "$tree.part"
  mv "$tree.part" "$tree"
fi

imported() { "$docker" import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$@" >/dev/null; }
imported --change 'CMD ["bash"]' "$tree" "alyx-base:$suite"
say "alyx-base:$suite"

node=$(readlink -f "$(command -v node)")
tar --create --directory="${node%/*}" --transform='s,^,usr/local/bin/,' --owner=0 --group=0 --mode=755 "${node##*/}" \
  | imported - "alyx-node:$suite"
say "alyx-node:$suite"
