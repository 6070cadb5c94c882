#!/usr/bin/env bash
# Where a worker's time goes: samples of the reflector while the bench loads it.
#
#   scripts/profile.sh [SCENARIO [OPTIONS]]     default: "64 peers in turn" "--engine uring"
#
# SCENARIO is a part of a name that `cargo bench --bench reflect` prints, OPTIONS are the reflector's.
# Prints the share of user space, our own functions, and the kernel's. Samples by the CPU clock, since
# virtual machines have no hardware counters. Takes ten seconds after the build. Needs root, cargo and
# perf (Debian: linux-perf); writes to a folder of its own, which it removes.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SCENARIO=${1:-64 peers in turn}
readonly OPTIONS=${2:---engine uring}
readonly SECONDS_EACH=6
WORK=$(mktemp -d)
readonly WORK
bench=

main() {
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    command -v perf > "$WORK/perf" || {
        echo "there is no perf; Debian has it as linux-perf (apt-get install linux-perf)"
        exit 1
    }
    # perf names functions by what the release profile strips; all is built anew for that.
    export CARGO_PROFILE_RELEASE_STRIP=none CARGO_TARGET_DIR=target/unstripped
    cargo build --quiet --locked --release --bench reflect --bin reflector
    cargo bench --quiet --locked --bench reflect -- --only "$SCENARIO" --contender "no other" \
        --also "$OPTIONS" --rounds 1 --seconds "$SECONDS_EACH" > "$WORK/bench" 2>&1 &
    bench=$!
    local worker
    worker=$(worker_of_reflector)
    # The first fifth is for getting warm.
    sleep 2
    perf record --quiet -e cpu-clock -F 4000 -g -t "$worker" -o "$WORK/data" -- sleep 3 \
        > "$WORK/record" 2>&1
    wait "$bench"
    bench=
    grep -A 4 'cpu ns' "$WORK/bench"
    echo
    section "by binary" --sort dso | head -n 5
    section "our own functions" --sort symbol --dso reflector | head -n 15
    section "the kernel's functions, with what they call" --children --sort symbol \
        --dso '[kernel.kallsyms]' | head -n 40
}

clean_up() {
    [[ -z $bench ]] || kill "$bench" 2> "$WORK/kill" || true
    rm -rf "$WORK"
}

# The thread that moves datagrams, once the bench has come to the reflector.
worker_of_reflector() {
    local process thread try
    for ((try = 0; try < 600; try++)); do
        process=$(pgrep -f "release/reflector --interval 0s --json $OPTIONS" | head -n 1) || true
        for thread in ${process:+/proc/"$process"/task/*}; do
            if [[ $(cat "$thread/comm" 2> "$WORK/comm") == worker-0 ]]; then
                basename "$thread"
                return
            fi
        done
        sleep 0.1
    done
    echo "the bench did not start a reflector with $OPTIONS:" >&2
    cat "$WORK/bench" >&2
    exit 1
}

# section TITLE OPTION…: rows of perf's report that have a figure.
section() {
    echo "== $1"
    shift
    perf report -i "$WORK/data" --stdio -g none --no-children "$@" 2> "$WORK/report" \
        | sed -n 's/^ *\([0-9.]*%.*\)$/  \1/p' | sed 's/ *- *- *$//'
}

main "$@"
