#!/usr/bin/env bash
# Upgrades a reflector under load, again and again, on each engine, and fails where a datagram is
# lost, an answer comes from a wrong address, or an old process does not end with 0.
#
#   scripts/takeover.sh            20 upgrades in a row on each engine
#   scripts/takeover.sh UPGRADES [RATE [WORKERS…]]
#
# WORKERS are the numbers of workers, in turn; 2 by default, and "2 3 1 4" changes them. The load is
# open-loop on loopback, at 127.0.0.2: a reply whose source the routing table chose would come from
# 127.0.0.1. Two seconds an upgrade at most, once built. Needs cargo and jq.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly UPGRADES=${1:-20}
readonly RATE=${2:-10k}
WORKERS=("${@:3}")
((${#WORKERS[@]} > 0)) || WORKERS=(2)
readonly PORT=9017
readonly BIN=target/release/reflector
WORK=$(mktemp -d)
readonly WORK
CHILDREN=()
trap cleanup EXIT

main() {
    cargo build --quiet --locked --release --bin reflector
    local engine
    for engine in uring mmsg; do
        upgrade_under_load "$engine"
    done
}

cleanup() {
    local child
    for child in "${CHILDREN[@]}"; do
        kill -KILL "$child" 2> "$WORK/kill" || true
    done
    rm -rf "$WORK"
}

upgrade_under_load() {
    local engine=$1 old new load upgrade status
    start "$engine" 0
    old=$STARTED
    # In the foreground it hears a signal once; otherwise twice, of which the second ends it at once.
    timeout --foreground $((2 * UPGRADES + 20)) "$BIN" load "127.0.0.2:$PORT" --rate "$RATE" \
        --duration $((2 * UPGRADES + 10)) --timeout 5 --json \
        > "$WORK/load" 2> "$WORK/load.err" &
    load=$!
    CHILDREN+=("$load")
    sleep 0.5
    for ((upgrade = 1; upgrade <= UPGRADES; upgrade++)); do
        start "$engine" "$upgrade"
        new=$STARTED
        status=0
        wait "$old" || status=$?
        if ((status != 0)); then
            cat "$WORK/err.$((upgrade - 1))" >&2
            echo "upgrade $upgrade: the old one ended with $status" >&2
            return 1
        fi
        old=$new
        sleep 0.2
    done
    # timeout passes it on.
    kill -INT "$load"
    status=0
    wait "$load" || status=$?
    kill -TERM "$old"
    wait "$old" || {
        cat "$WORK/err.$UPGRADES" >&2
        echo "the last one ended with $?" >&2
        return 1
    }
    jq -r --arg engine "$engine" --arg upgrades "$UPGRADES" --arg workers "${WORKERS[*]}" '
        select(.type == "summary") |
        "\($engine): \($upgrades) upgrades, workers \($workers): \(.sent) sent, \(.lost) lost,"
        + " \(.wrong_source.total) from a wrong source, \(.reordered) reordered,"
        + " \(.duplicated) duplicated, longest round trip \(.rtt_us.max / 1000 | round) ms"
    ' "$WORK/load"
    # Whatever is not measured is not proven.
    if ! jq -es 'last | .sent > 0 and .lost == 0 and .wrong_source.total == 0 and .duplicated == 0' \
        "$WORK/load" > "$WORK/judged" || ((status != 0)); then
        cat "$WORK/load.err" >&2
        tail -n 1 "$WORK/load" >&2
        echo "the load ended with $status" >&2
        return 1
    fi
}

# start ENGINE NUMBER: starts the process with that number, and waits until it is ready.
start() {
    local engine=$1 number=$2 tried
    "$BIN" --listen "$PORT" --engine "$engine" --takeover "$WORK/socket" --interval 0 \
        --cores "${WORKERS[$((number % ${#WORKERS[@]}))]}" --duration 10m \
        > "$WORK/out.$number" 2> "$WORK/err.$number" &
    STARTED=$!
    CHILDREN+=("$STARTED")
    for ((tried = 0; tried < 200; tried++)); do
        # The file may not be there yet.
        ! grep -qs '^ready: ' "$WORK/out.$number" || return 0
        sleep 0.05
    done
    cat "$WORK/err.$number" >&2
    echo "process $number is not ready" >&2
    return 1
}

main "$@"
