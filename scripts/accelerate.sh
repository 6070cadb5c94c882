#!/usr/bin/env bash
# A reflector that answers in the kernel, at full rate, while lists, addresses and routes change
# beneath it: nothing is lost, nothing is wrong, and the counters of both sides are the same.
#
#   scripts/accelerate.sh                  a minute: half of it trains, half of it singles
#   scripts/accelerate.sh --seconds N      N seconds, with N of 4 or more
#
# Two network namespaces joined by a veth pair, the reflector in one, `reflector load` in the other,
# which has no more than 64 datagrams of each flow unanswered: so nothing has to be lost, and one
# that is would be lost here. Needs root, Linux 6.6, iproute2, jq and cargo; removes what it makes,
# however it ends.
#
# Exit codes: 0 all added up; 1 not; 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUN=rfl-accelerate-$$
readonly TARGET=10.77.0.1:9007
readonly PROGRAM=target/release/reflector
WORK=$(mktemp -d)
readonly WORK
seconds=60
churn=

# shellcheck source=scripts/two-hosts.sh
source scripts/two-hosts.sh

main() {
    case ${1:-} in
        "") ;;
        --seconds)
            [[ ${2:-} =~ ^[0-9]+$ && $2 -ge 4 ]] || usage
            seconds=$2
            ;;
        *) usage ;;
    esac
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    cargo build --quiet --locked --release --bin reflector
    connect_hosts
    local engine
    for engine in uring mmsg; do
        # Trains, and a datagram at a time.
        check "$engine" --burst 32
        check "$engine" --gso off
    done
    echo "every counter adds up"
}

usage() {
    sed -n '5,6s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

clean_up() {
    # shellcheck disable=SC2086
    remove_hosts $churn
    rm -rf "$WORK"
}

# check ENGINE LOAD_OPTION…: a quarter of the time.
check() {
    local engine=$1 sent received lost wrong accelerated replied rate reloads
    shift
    : > "$WORK/list"
    start --engine "$engine" --accelerate eth0 --deny-file "$WORK/list"
    change &
    churn=$!
    ip netns exec "$RUN-client" "$PROGRAM" load "$TARGET" --rate max --flows 8 --window 64 \
        --duration "$((seconds / 4))" --timeout 5s --json --interval 0 "$@" > "$WORK/load" \
        2> "$WORK/load.log" || { cat "$WORK/load" "$WORK/load.log"; exit 1; }
    kill "$churn"
    wait "$churn" 2> "$WORK/churn" || true
    churn=
    stop || { cat "$WORK/server.log"; exit 1; }
    read -r sent received lost wrong rate < <(jq -r 'select(.type == "summary") |
        [.sent, .received, .lost, .wrong_source.total + .corrupt + .duplicated, .achieved_pps] |
        @tsv' "$WORK/load")
    read -r accelerated replied < <(jq -r 'select(.type == "summary") |
        [.accelerated.datagrams, .replied] | @tsv' "$WORK/server")
    printf '%-6s %-11s %d datagrams (%.0f /s), in the kernel %d, by sockets %d, lost %d, wrong %d\n' \
        "$engine" "$*" "$sent" "$rate" "$accelerated" "$replied" "$lost" "$wrong"
    ((lost == 0 && wrong == 0 && received == sent)) || fail "not all was answered, and once"
    ((accelerated + replied == sent)) || fail "what was answered is not what was sent"
    ((accelerated > sent / 2)) || fail "the sockets have answered most"
    reloads=$(grep -c 'the lists have been read again' "$WORK/server.log") || true
    # The log has no more than ten of a kind in ten seconds.
    echo "       other lists, addresses and routes at least $reloads times"
    ((reloads > 0)) || fail "nothing has changed beneath it"
}

# Lists of other lengths, another address and another route, five times a second. It is ended
# anywhere, so what it finds may be as it left it.
change() {
    local round
    for ((round = 1; ; round++)); do
        seq -f '198.51.100.%g' 1 $((round * 7 % 200 + 1)) > "$WORK/next"
        mv "$WORK/next" "$WORK/list"
        kill -HUP "$server"
        ip -n "$RUN-server" addr replace 10.77.0.9/24 dev eth0
        ip -n "$RUN-server" route replace 10.78.0.0/16 via 10.77.0.2
        sleep 0.1
        ip -n "$RUN-server" addr del 10.77.0.9/24 dev eth0
        ip -n "$RUN-server" route del 10.78.0.0/16
        sleep 0.1
    done
}

fail() {
    echo "$1"
    cat "$WORK/server.log" "$WORK/load"
    exit 1
}

main "$@"
