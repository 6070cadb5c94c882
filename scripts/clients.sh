#!/usr/bin/env bash
# Runs the tests of the helpers for other people's tests: clients/go, clients/python, clients/bats;
# and holds each helper to 120 lines.
#
#   scripts/clients.sh
#
# Takes fifteen seconds after the build, and half a minute more where Go's cache is empty. Installs
# what is missing of Go, pytest, bats, jq and shellcheck, which needs root and Debian.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly LINES_MAX=120
readonly HELPERS=(clients/go/reflectortest/reflectortest.go clients/python/pytest_reflector.py
    clients/bats/reflector.bash)
WORK=$(mktemp -d)
readonly WORK

main() {
    trap 'rm -rf "$WORK"' EXIT
    check_lengths
    install_missing
    cargo build --quiet --locked --bin reflector
    UDP_REFLECTOR=$(realpath "${REFLECTOR_BIN:-${CARGO_TARGET_DIR:-target}/debug/reflector}")
    export UDP_REFLECTOR
    # What these say to the build is no option of the program.
    unset REFLECTOR_BIN REFLECTOR_REQUIRE
    export TMPDIR=$WORK

    shellcheck clients/bats/reflector.bash
    bounded bats clients/bats
    bounded /usr/bin/python3 -B -m pytest -q -p no:cacheprovider clients/python
    test -z "$(gofmt -l clients/go)" || fail "gofmt would write $(gofmt -l clients/go) otherwise"
    cd clients/go/reflectortest
    go vet ./...
    bounded go test -count=1 ./...
}

check_lengths() {
    local helper lines
    for helper in "${HELPERS[@]}"; do
        lines=$(wc -l < "$helper")
        echo "$helper: $lines lines"
        ((lines <= LINES_MAX)) || fail "$helper has $lines lines, not $LINES_MAX at most"
    done
}

install_missing() {
    local packages=()
    command -v go > "$WORK/found" || packages+=(golang-go)
    command -v bats > "$WORK/found" || packages+=(bats)
    command -v jq > "$WORK/found" || packages+=(jq)
    command -v shellcheck > "$WORK/found" || packages+=(shellcheck)
    /usr/bin/python3 -c 'import pytest' 2> "$WORK/found" || packages+=(python3-pytest)
    ((${#packages[@]} > 0)) || return 0
    echo "installing ${packages[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        "${packages[@]}" > "$WORK/installed"
}

# Nothing here waits longer on a busy machine.
bounded() {
    timeout --kill-after=5 120 "$@"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

main "$@"
