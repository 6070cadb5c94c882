#!/usr/bin/env bash
# Breaks what is around the reflector, or in it, while a peer asks it all the time, and prints the
# fault table: what was lost, what the server counted, and what it said. Each case runs on both
# engines, in network namespaces of its own, and asserts that the counters add up (tests/faults).
#
#   scripts/faults.sh                       every case; takes about five minutes
#   scripts/faults.sh --seconds N           with an overload of N seconds instead of 60
#   scripts/faults.sh CASE…                 cases whose name contains one of these, such as
#                                           network, overload, or a_clock
#
# Needs root or user namespaces, cargo, cc, nft, tc, conntrack, taskset and unshare. What lacks is
# skipped, and said. Nothing else should run meanwhile: under the overload of this script 90 % of
# the capacity has to be left.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=60
if [[ ${1-} == --seconds ]]; then
    seconds=${2:?"--seconds needs a number"}
    shift 2
fi
if [[ ${1-} == -* ]]; then
    sed -n '6,9s/^# *//p' "$0" >&2
    exit 2
fi

log=$(mktemp)
group=
# timeout leads a process group: whoever ends this script ends the servers with it.
trap 'rm -f "$log"; [[ -z $group ]] || kill -- "-$group" 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM

cargo build --quiet --release --locked
cargo test --quiet --locked --test faults --no-run
export REFLECTOR_FAULTS=1 REFLECTOR_FAULTS_SECONDS=$seconds
export REFLECTOR_BIN=${REFLECTOR_BIN:-$PWD/target/release/reflector}

# One after the other: each has the machine for itself.
status=0
timeout $((900 + 4 * seconds)) cargo test --quiet --locked --test faults -- \
    --test-threads=1 --nocapture --skip soak:: "$@" > "$log" 2>&1 &
group=$!
wait "$group" || status=$?

awk -F '\t' '
    BEGIN {
        format = "%-52s %-5s %8s %8s %8s %7s %9s %8s  %s\n"
        printf format, "CASE", "", "sent", "back", "lost", "refused", "received", "replied",
            "not replied"
    }
    /fault\t/ {
        printf format, $2, $3, $4, $5, $6, $7, $8, $9, $10
        if ($11 != "-") print "    " $11
    }' "$log"
grep SKIPPED "$log" || true
if ((status != 0)); then
    cat "$log" >&2
    echo "a case has failed" >&2
fi
exit "$status"
