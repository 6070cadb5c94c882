#!/usr/bin/env bash
# Checks what the reflector depends on against deny.toml: licences, where it comes from, versions
# that are there twice; and, where the database can be fetched, known vulnerabilities.
#
#   scripts/dependencies.sh
#
# By cargo-deny in the version below, which is compiled and installed into
# ${CARGO_HOME:-~/.cargo}/bin where it is not there: some five minutes, once. Needs a C compiler.
#
# Exit codes: 0 nothing found (a database that cannot be fetched is said and no failure); 1
# something; 2 cargo-deny is not available.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=0.20.2
readonly BIN=${CARGO_HOME:-$HOME/.cargo}/bin
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

main() {
    is_installed || install_it || {
        echo "cargo-deny $VERSION is not available; 'cargo install --locked cargo-deny'" >&2
        exit 2
    }
    local all=(deny --locked --workspace --all-features)
    bounded cargo "${all[@]}" check licenses bans sources
    # Nothing of it is shipped: its licences are its own.
    bounded cargo deny --locked --manifest-path fuzz/Cargo.toml --config deny.toml check bans sources
    if bounded cargo "${all[@]}" fetch db > "$WORK/fetch" 2>&1; then
        bounded cargo "${all[@]}" check --disable-fetch advisories
    else
        tail -n 3 "$WORK/fetch"
        echo "SKIPPED, ALL KNOWN VULNERABILITIES: their database cannot be fetched from here"
    fi
}

is_installed() {
    [[ -x $BIN/cargo-deny && $("$BIN/cargo-deny" --version) == "cargo-deny $VERSION" ]]
}

install_it() {
    timeout --kill-after 10 1800 cargo install --quiet --locked "cargo-deny@$VERSION"
}

bounded() {
    timeout --kill-after 10 120 "$@"
}

main
