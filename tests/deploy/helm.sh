#!/usr/bin/env bash
# helm.sh: checks the Helm chart: lint, schemas of Kubernetes, and what the templates say.
set -euo pipefail
cd "$(dirname "$0")/../.."
./tests/deploy/install-tools.sh helm
export HELM=$PWD/.cache/deploy/bin/helm PYTHONDONTWRITEBYTECODE=1
# Of this test alone, so that nobody's repositories and plugins play a part.
HELM_CONFIG_HOME=$(mktemp -d)
export HELM_CONFIG_HOME HELM_CACHE_HOME=$HELM_CONFIG_HOME HELM_DATA_HOME=$HELM_CONFIG_HOME
trap 'rm -rf "$HELM_CONFIG_HOME"' EXIT
.cache/deploy/venv/bin/python tests/deploy/chart_test.py "$@"
