#!/usr/bin/env bash
# Checks rates, losses, sizes and quantiles of real runs of `reflector load`, with generous bounds.
#
#   scripts/load-bounds.sh
#
# Two network namespaces joined by a veth pair, the reflector in one, the generator in the other.
# What a busy machine spoils may pass at the second or third attempt; what is wrong fails three times.
# Takes half a minute. Needs root, iproute2, jq and cargo; removes what it makes, however it ends.
# `start` without options is meant.
# shellcheck disable=SC2119
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUN=rfl-load-$$
readonly ATTEMPTS=3
readonly TARGET=10.77.0.1:9007
WORK=$(mktemp -d)
readonly WORK
readonly PROGRAM=target/release/reflector
# shellcheck source=scripts/two-hosts.sh
source scripts/two-hosts.sh

main() {
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    cargo build --quiet --locked --release --bin reflector
    connect_hosts
    attempt "a constant rate is kept" constant_rate
    attempt "random times have the asked mean" poisson_rate
    attempt "a mix has its mean size" mix
    attempt "trains carry a million a second" trains
    attempt "singles carry what sendmmsg carries" singles
    attempt "a stall of 200 ms is in the tail" stall
    attempt "the median agrees with a capture" capture
    echo "every bound held"
}

# attempt WHAT FUNCTION: it prints what it saw, and succeeds within the bounds.
attempt() {
    local what=$1 try
    for ((try = 1; try <= ATTEMPTS; try++)); do
        if "$2"; then
            echo "ok: $what"
            return
        fi
        echo "attempt $try of $ATTEMPTS failed: $what"
    done
    exit 1
}

clean_up() {
    remove_hosts
    rm -rf "$WORK"
}

# load OPTION…: the summary is in $WORK/load. Its exit code is not what is checked here.
load() {
    timeout 60 ip netns exec "$RUN-client" "$PROGRAM" load "$TARGET" --json --interval 0s "$@" \
        2> "$WORK/load.log" | tail -n 1 > "$WORK/load" || true
}

# is FILE EXPRESSION: what jq finds true; FILE's last line is the object.
is() {
    tail -n 1 "$WORK/$1" | jq -e "$2" > "$WORK/jq" || {
        tail -n 1 "$WORK/$1"
        return 1
    }
}

show() {
    tail -n 1 "$WORK/$1" | jq -r "$2"
}

constant_rate() {
    start
    load --rate 20k --duration 2s
    stop
    show load '"  \(.sent) sent, \(.achieved_pps) /s, \(.loss_percent) % lost"'
    is load '.sent >= 39000 and .sent <= 40000 and .achieved_pps > 18000 and .loss_percent < 1'
}

poisson_rate() {
    start
    load --rate 20k --poisson --duration 2s
    stop
    show load '"  \(.sent) sent"'
    # Five standard deviations are 1000.
    is load '.sent > 38000 and .sent < 41000 and .loss_percent < 1'
}

mix() {
    start
    load --rate 20k --size 64:7,512:4,1400:1 --count 24000
    stop
    show server '"  \(.bytes_received / .received) bytes in the mean"'
    # (7 x 64 + 4 x 512 + 1400) / 12 = 324.7, give or take the draw.
    is server '.bytes_received / .received > 310 and .bytes_received / .received < 340'
}

trains() {
    start
    load --window 1024 --burst 128 --flows 8 --duration 2s
    stop
    show load '"  \(.achieved_pps | floor) /s, \(.loss_percent) % lost"'
    is load '.achieved_pps > 1e6 and .loss_percent < 5'
}

singles() {
    start
    load --rate max --gso off --flows 8 --duration 1s
    stop
    show load '"  \(.achieved_pps | floor) /s"'
    is load '.achieved_pps > 40000'
}

stall() {
    start
    load --rate 2k --duration 2s --timeout 5s &
    local loading=$!
    sleep 1
    kill -STOP "$server"
    sleep 0.2
    kill -CONT "$server"
    wait "$loading"
    stop
    show load '"  p50 \(.rtt_us.p50) us, p99.9 \(.rtt_us.p99_9) us"'
    is load '.rtt_us.p99_9 > 150000 and .rtt_us.p50 < 100000 and .lost == 0'
}

capture() {
    cargo test --quiet --locked --test load -- --ignored --exact --nocapture \
        times::a_capture_agrees_on_the_median > "$WORK/capture" 2>&1 || { cat "$WORK/capture"; return 1; }
    sed -n 's/^.*\(p50: .*\)$/  \1/p' "$WORK/capture"
}

main "$@"
