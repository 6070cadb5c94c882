#!/usr/bin/env bash
# Checks deploy/kubernetes against the schemas of Kubernetes, strictly, and that what its containers
# are told is what the program understands.
#
#   scripts/kubernetes.sh
#
# Without a cluster: nothing is applied. Takes ten seconds. Needs cargo, python3 with venv, and the
# package index of Python for kubernetes-validate; kubectl, where it is there, builds what the
# kustomizations come to.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$(mktemp -d)
readonly WORK
readonly PROGRAM=${REFLECTOR_BIN:-target/release/reflector}
# The oldest that is still run widely, and the newest that the validator knows.
readonly VERSIONS=(1.28.0 1.37.0)

main() {
    trap 'rm -rf "$WORK"' EXIT
    python3 -m venv "$WORK/venv"
    "$WORK/venv/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0
    local base files=() version
    for base in deploy/kubernetes deploy/kubernetes/load; do
        if command -v kubectl > /dev/null; then
            kubectl kustomize "$base" > "$WORK/$(basename "$base").yaml"
            files+=("$WORK/$(basename "$base").yaml")
        else
            files+=("$base"/[!k]*.yaml)
        fi
    done
    for version in "${VERSIONS[@]}"; do
        "$WORK/venv/bin/kubernetes-validate" --strict --no-warn -k "$version" "${files[@]}"
    done
    # The control: one letter is another one.
    sed 's/hostNetwork/hostnetwork/' deploy/kubernetes/daemonset.yaml > "$WORK/wrong.yaml"
    if "$WORK/venv/bin/kubernetes-validate" --strict "$WORK/wrong.yaml" > "$WORK/said" 2>&1; then
        echo "FAILED: a field that does not exist passes as well" >&2
        exit 1
    fi
    check_arguments "${files[@]}"
}

# Each container's arguments make sense to the program: it reads them all before it shows its help.
check_arguments() {
    cargo build --quiet --release --locked --bin reflector
    "$WORK/venv/bin/python" - "$@" << 'END' | while read -r args; do
import sys, yaml
for path in sys.argv[1:]:
    for document in yaml.safe_load_all(open(path)):
        template = (document.get("spec") or {}).get("template") or {}
        for container in template.get("spec", {}).get("containers", []):
            print(*container["args"])
END
        args=${args//\$(NODE_IP)/127.0.0.1}
        # shellcheck disable=SC2086
        if ! "$PROGRAM" $args --help > "$WORK/said" 2>&1; then
            echo "FAILED: reflector $args" >&2
            cat "$WORK/said" >&2
            exit 1
        fi
        echo "reflector $args"
    done
}

main "$@"
