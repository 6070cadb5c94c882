#!/usr/bin/env bash
# Searches the rate of targets whose rate is known, 5 000 and 500 a second, and checks that what is
# found is within 5 % of it.
#
#   scripts/find-rate.sh          once; what a busy machine spoils may pass at the third attempt
#   scripts/find-rate.sh RUNS     as often as it says; nine of ten runs have to be right
#
# The target is a token bucket, 6 ms deep, on loopback: a generator that stands still for longer and
# then sends at once what was due loses something that is not the target's fault. Takes half a
# minute a run, and longer on a busy machine. Needs cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ATTEMPTS=3
readonly RUNS=${1:-0}
WORK=$(mktemp -d)
readonly WORK

main() {
    trap 'rm -rf "$WORK"' EXIT
    cargo build --quiet --locked --release --bin reflector
    cargo test --quiet --locked --test load --no-run
    local run right=0
    if ((RUNS == 0)); then
        for ((run = 1; run <= ATTEMPTS; run++)); do
            ! search || return 0
            echo "attempt $run of $ATTEMPTS failed"
        done
        return 1
    fi
    for ((run = 1; run <= RUNS; run++)); do
        ! search || right=$((right + 1))
    done
    echo "$right of $RUNS runs were right"
    ((right * 10 >= RUNS * 9))
}

search() {
    local is_right=0
    REFLECTOR_BIN=$PWD/target/release/reflector cargo test --quiet --locked --test load -- \
        --ignored --exact --nocapture search::the_rate_of_a_token_bucket_is_found \
        > "$WORK/search" 2>&1 || is_right=1
    sed -n 's/^.*\(of [0-9]* .s found .*\)$/  \1/p' "$WORK/search"
    return "$is_right"
}

main "$@"
