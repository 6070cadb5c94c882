#!/usr/bin/env bash
# The UDP cases that projects of container networking test by helpers of their own (a network back
# end's bats suite, the CNI portmap plugin, the Kubernetes conformance image's connect and netexec),
# as scenarios in network namespaces, each asked by `reflector probe`.
#
#   scripts/foreign.sh
#
# Every case is asked three times: with reflector as the server, by io_uring where the kernel has it
# and by mmsg, which must be green, and with the server that everybody writes first
# (examples/naive_echo.rs), which must be red, by the very word that is written here. A case that the
# naive server passes could not fail, so that is a failure as well.
#
# Takes ten seconds after the build. Needs root, iproute2, nft, conntrack and jq; the namespaces
# that it makes carry its process id, and are removed however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUN=rfl-foreign-$$
readonly OUT=$RUN-out HOST=$RUN-host A=$RUN-a B=$RUN-b
WORK=$(mktemp -d)
readonly WORK
# The host, and the port of the host that leads to port 9007 of a pod.
readonly HOST4=10.99.0.1 HOST6=fd99::1 MAPPED=5353 PORT=9007
# What is asked: the second address of a pod, not the one that its answers leave from by default.
readonly A4=10.88.1.3 A6=fd88:1::3 B4=10.88.2.3
# An answer is waited for longer than any takes on a busy machine, where none is expected for less.
readonly PATIENCE=5s SILENCE=500ms
readonly CASES=(hostport localhost hairpin neighbour host_network snat dual_stack
    policy_drop policy_reject policy_look_alike second_pod)

servers=(uring mmsg naive)
server=
name=
reds=0
failures=0

main() {
    trap 'rm -rf "$WORK"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    need
    build
    find_uring
    trap clean_up EXIT
    connect

    printf '%-18s %-10s %-26s %-22s %-13s %s\n' CASE SERVER FROM ASKED SEEN ""
    for name in "${CASES[@]}"; do
        for server in "${servers[@]}"; do
            reds=0
            forget
            "case_$name"
            stop
            # One that the naive server passes could not fail.
            [[ $server != naive ]] || ((reds > 0)) || fail "$name: the naive server passes it"
        done
    done

    echo
    if ((failures > 0)); then
        echo "$failures answers were not as expected"
        return 1
    fi
    echo "${#CASES[@]} cases: each green with reflector, and red with a server that answers from" \
        "the wrong source"
}

# --- the cases -----------------------------------------------------------------------------------

# The portmap plugin and the back end: a port of the host is a port of a pod, for those outside.
case_hostport() {
    serve "$A"
    map "$A4"
    ask "$OUT" "$HOST4:$MAPPED" ok wrong-source
}

# The same from the host itself, by way of 127.0.0.1, where the source is rewritten too.
case_localhost() {
    serve "$A"
    map "$A4"
    nft_host "add rule inet nat post ip saddr 127.0.0.0/8 oifname a masquerade"
    ask "$HOST" "127.0.0.1:$MAPPED" ok wrong-source
    ask "$HOST" "$HOST4:$MAPPED" ok wrong-source
}

# A pod asks itself through the port of the host.
case_hairpin() {
    serve "$A"
    map "$A4"
    nft_host "add rule inet nat post ip saddr 10.88.1.0/24 ip daddr 10.88.1.0/24 masquerade"
    ask "$A" "$HOST4:$MAPPED" ok timeout
}

# A pod asks another one through the port of the host.
case_neighbour() {
    serve "$A"
    map "$A4"
    ask "$B" "$HOST4:$MAPPED" ok wrong-source
}

# A pod with hostNetwork serves at every address of the host; another pod asks the node's.
case_host_network() {
    serve "$HOST"
    ask "$B" "$HOST4:$PORT" ok wrong-source
    ask "$B" "[$HOST6]:$PORT" ok wrong-source
}

# A pod asks somebody outside, who sees the host: what netexec's `clientip` is there for.
case_snat() {
    serve "$OUT"
    nft_host "add rule inet nat post oifname out ip saddr 10.88.0.0/16 masquerade"
    ask "$B" "10.99.0.3:$PORT" ok timeout
    [[ $server == naive ]] || expect_seen_as "$HOST4" "$B" "10.99.0.3:$PORT"
}

# One socket for both families behind one port of the host.
case_dual_stack() {
    serve "$A"
    map "$A4"
    nft_host "add rule inet nat pre ip6 daddr $HOST6 udp dport $MAPPED dnat ip6 to [$A6]:$PORT"
    ask "$OUT" "$HOST4:$MAPPED" ok wrong-source
    ask "$OUT" "[$HOST6]:$MAPPED" ok wrong-source
}

# A policy that drops what one pod sends, and lets others through.
case_policy_drop() {
    serve "$A"
    ask "$B" "$A4:$PORT" ok wrong-source
    nft_host "add rule inet filter forward ip saddr 10.88.2.0/24 udp dport $PORT drop"
    ask "$B" "$A4:$PORT" timeout timeout --expect timeout
    ask "$OUT" "$A4:$PORT" ok wrong-source
}

# A policy that says so: as an administrator does, and as a closed port does.
case_policy_reject() {
    serve "$A"
    ask "$B" "$A4:$PORT" ok wrong-source
    nft_host "add rule inet filter forward ip saddr 10.88.2.0/24 udp dport $PORT \
        reject with icmpx admin-prohibited"
    ask "$B" "$A4:$PORT" unreachable unreachable --expect unreachable
    nft_host "flush chain inet filter forward"
    nft_host "add rule inet filter forward ip saddr 10.88.2.0/24 udp dport $PORT reject"
    ask "$B" "$A4:$PORT" refused refused --expect refused
    ask "$OUT" "$A4:$PORT" ok wrong-source
}

# No policy at all: a connected client of the naive server hears nothing, and takes that for one.
case_policy_look_alike() {
    serve "$A"
    ask "$B" "$A4:$PORT" ok timeout --connected
}

# A second pod takes the port over. A client that keeps its port, as the plugin's own does, is led
# to the first one for as long as the kernel remembers, which the back end must make it forget.
case_second_pod() {
    serve "$A"
    map "$A4"
    ask "$OUT" "$HOST4:$MAPPED" ok wrong-source --source-port 54321
    stop
    serve "$B"
    nft_host "flush chain inet nat pre"
    map "$B4"
    ask "$OUT" "$HOST4:$MAPPED" refused refused --source-port 54321
    in_ns "$HOST" conntrack -D -p udp --orig-port-dst "$MAPPED" > "$WORK/conntrack" 2>&1
    ask "$OUT" "$HOST4:$MAPPED" ok wrong-source --source-port 54321
}

# --- what they are made of -----------------------------------------------------------------------

# ask NAMESPACE TARGET WORD WORD_OF_NAIVE [OPTION…]
ask() {
    local from=$1 target=$2 right=$3 expected=$3 code=0 seen patience=$PATIENCE remark="as expected"
    [[ $server != naive ]] || expected=$4
    [[ $expected != timeout ]] || patience=$SILENCE
    shift 4
    seen=$(in_ns "$from" "$WORK/reflector" probe "$target" --timeout "$patience" "$@" \
        2> "$WORK/asked") || code=$?
    [[ $seen == "$right" ]] || reds=$((reds + 1))
    if [[ $seen != "$expected" ]]; then
        remark="NOT AS EXPECTED: $expected $(< "$WORK/asked")"
        failures=$((failures + 1))
    fi
    # What a script would go by.
    if [[ $* == *--expect* && $seen == "$right" ]] && ((code != 0)); then
        fail "$name: --expect, and what was expected, and exit code $code"
    fi
    printf '%-18s %-10s %-26s %-22s %-13s %s\n' \
        "$name" "$server" "${from#"$RUN-"} ${*:---}" "$target" "$seen" "$remark"
}

# expect_seen_as ADDRESS NAMESPACE TARGET
expect_seen_as() {
    local peer
    peer=$(in_ns "$2" "$WORK/reflector" probe "$3" --timeout "$PATIENCE" --json \
        2> "$WORK/asked" | jq -r .told.peer) || true
    [[ $peer == "$1":* ]] || fail "$name: the server should see $1, and sees $peer"
    printf '%-18s %-10s the server sees %s\n' "$name" "$server" "$peer"
}

# Without io_uring its column is left out, unless it is demanded.
find_uring() {
    "$WORK/reflector" --engine uring --listen 127.0.0.1:0 --duration 1ms > "$WORK/uring" 2>&1 || {
        tail -n 1 "$WORK/uring"
        echo "SKIPPED: what io_uring answers"
        [[ ",${REFLECTOR_REQUIRE:-}," != *,uring,* ]] || exit 1
        servers=(mmsg naive)
    }
}

# Starts the server in a namespace, at all its addresses of both families, and waits for its line.
serve() {
    local line=
    local command=("$WORK/naive_echo" "[::]:$PORT")
    [[ $server == naive ]] || command=("$WORK/reflector" --listen "[::]:$PORT" --dual-stack
        --engine "$server" --cores 1 --ready-line --until-eof --echo-info)
    coproc SERVER { exec ip netns exec "$1" "${command[@]}" 2> "$WORK/log"; }
    read -r -t 10 line <&"${SERVER[0]}" || true
    [[ $line =~ ^(ready|listening\ on)\ .*:$PORT$ ]] || {
        cat "$WORK/log" >&2
        fail "the server in $1 said: '$line'"
    }
}

# reflector ends when its stdin does; the other one never would.
stop() {
    local pid=${SERVER_PID:-}
    [[ -n $pid ]] || return 0
    if [[ $server == naive ]]; then kill "$pid"; fi
    eval "exec ${SERVER[1]}>&-"
    # One that was killed says so by its exit code.
    wait "$pid" || [[ $server == naive ]] || fail "$name: reflector failed: $(< "$WORK/log")"
}

# The port of the host is a pod's, for those who come from elsewhere and for the host itself.
map() {
    local chain
    for chain in pre out; do
        nft_host "add rule inet nat $chain ip daddr { $HOST4, 127.0.0.1 } udp dport $MAPPED \
            dnat ip to $1:$PORT"
    done
}

# A host without rules, that remembers no flow.
forget() {
    in_ns "$HOST" nft -f - << 'END'
flush ruleset
table inet nat {
    chain pre { type nat hook prerouting priority dstnat; }
    chain out { type nat hook output priority -100; }
    chain post { type nat hook postrouting priority srcnat; }
}
table inet filter {
    chain forward { type filter hook forward priority filter; }
}
END
    in_ns "$HOST" conntrack -F 2> "$WORK/conntrack"
}

nft_host() {
    in_ns "$HOST" nft "$1"
}

# Outside, the host, and two pods, each with an interface that is named after its other end.
connect() {
    local space
    for space in "$OUT" "$HOST" "$A" "$B"; do
        ip netns add "$space"
        ip -n "$space" link set lo up
    done
    in_ns "$HOST" sh -c 'echo 1 | tee /proc/sys/net/ipv4/ip_forward \
        /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv4/conf/all/route_localnet' \
        > "$WORK/set"
    link out "$OUT" 10.99.0 fd99:
    link a "$A" 10.88.1 fd88:1:
    link b "$B" 10.88.2 fd88:2:
}

# link NAME NAMESPACE PREFIX4 PREFIX6: the host is 1 on it, the other end 2, and 3 as well.
link() {
    ip -n "$HOST" link add name "$1" type veth peer name host netns "$2"
    ip -n "$HOST" addr add "$3.1/24" dev "$1"
    ip -n "$HOST" addr add "$4:1/64" dev "$1" nodad
    ip -n "$2" addr add "$3.2/24" dev host
    ip -n "$2" addr add "$3.3/24" dev host
    ip -n "$2" addr add "$4:2/64" dev host nodad
    ip -n "$2" addr add "$4:3/64" dev host nodad preferred_lft 0
    ip -n "$HOST" link set dev "$1" up
    ip -n "$2" link set dev host up
    ip -n "$2" route add default via "$3.1"
    ip -n "$2" route add default via "$4:1"
}

need() {
    local tool
    for tool in ip nft conntrack jq; do
        command -v "$tool" > "$WORK/found" ||
            fail "there is no $tool (apt-get install iproute2 nftables conntrack jq)"
    done
    ((EUID == 0)) || fail "namespaces with links between them need root"
}

build() {
    cargo build --quiet --locked --bin reflector --example naive_echo
    local out=${CARGO_TARGET_DIR:-target}/debug
    cp "${REFLECTOR_BIN:-$out/reflector}" "$WORK/reflector"
    cp "$out/examples/naive_echo" "$WORK"
}

in_ns() {
    ip netns exec "$@"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

clean_up() {
    # What fails here was not made, or is gone.
    set +e
    [[ -z ${SERVER_PID:-} ]] || kill "$SERVER_PID" 2> /dev/null
    local space
    for space in "$OUT" "$HOST" "$A" "$B"; do
        ip netns del "$space" 2> /dev/null
    done
    rm -rf "$WORK"
}

main "$@"
