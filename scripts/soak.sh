#!/usr/bin/env bash
# Both engines at once while peers, addresses, lists of peers and a link come and go, again and
# again. At the end: the counters add up, nothing came from a wrong source, memory and descriptors
# are as they were, and the peer of the address that stayed has lost nothing (tests/faults/soak.rs).
#
#   scripts/soak.sh                  ten minutes
#   scripts/soak.sh --seconds N      N seconds, with N of 5 or more
#   scripts/soak.sh --seed N         other addresses in another order
#
# Needs root or user namespaces, and cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=600 seed=1
while (($# > 0)); do
    case $1 in
        --seconds) seconds=${2:?"--seconds needs a number"} ;;
        --seed) seed=${2:?"--seed needs a number"} ;;
        *)
            sed -n '6,8s/^# *//p' "$0" >&2
            exit 2
            ;;
    esac
    shift 2
done

cargo build --quiet --release --locked
cargo test --quiet --locked --test faults --no-run
export REFLECTOR_SOAK_SECONDS=$seconds REFLECTOR_SOAK_SEED=$seed
export REFLECTOR_BIN=${REFLECTOR_BIN:-$PWD/target/release/reflector}
# timeout leads a process group: whoever ends this script ends the servers with it.
timeout $((seconds + 120)) cargo test --quiet --locked --test faults -- --nocapture soak:: &
group=$!
trap 'kill -- "-$group" 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM
wait "$group"
