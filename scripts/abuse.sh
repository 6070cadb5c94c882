#!/usr/bin/env bash
# Attacks a reflector from another namespace, in every way of RELIABILITY.md, and prints what each
# cost as the rows of its table: datagrams sent, received and answered, CPU time for each that was
# sent, questions of somebody else that were answered, resident memory grown.
#
#   scripts/abuse.sh                 400 volleys, mostly of 512 datagrams; 2 M in the longest
#   scripts/abuse.sh VOLLEYS         that many instead
#
# Then the rate limiter by itself: 100 M random sources of each family. Takes some minutes after the
# build. Needs root or user namespaces, and cargo. Fails where an attack costs somebody else more than
# one reply in a hundred, or one in a short run, or memory. The same attacks, shorter, are a test (tests/abuse).
set -euo pipefail
cd "$(dirname "$0")/.."

if (($# > 1)); then
    sed -n '6,7s/^# *//p' "$0" >&2
    exit 2
fi
export REFLECTOR_VOLLEYS=${1:-400} REFLECTOR_REQUIRE=netns,uring
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

main() {
    cargo test --quiet --release --locked --test abuse --test limiter --no-run
    # One at a time: what an attack costs is not to be the neighbour's doing.
    run abuse
    run limiter --include-ignored
}

# run TEST [OPTION...]
run() {
    local status=0
    timeout 540 cargo test --quiet --release --locked --test "$1" -- --nocapture \
        --test-threads 1 "${@:2}" > "$WORK/out" 2>&1 || status=$?
    # libtest prints its dots on the same lines.
    sed -n 's/^.*row |/|/p; s/^.*limiter |/|/p' "$WORK/out"
    if ((status != 0)); then
        cat "$WORK/out" >&2
        exit "$status"
    fi
}

main
