#!/usr/bin/env bash
# What each layer of container networking costs a UDP datagram.
#
# Puts a layer between `reflector load` and `reflector`, in namespaces of its own, beside a plain
# veth pair, and lets short runs over the one and the other take turns. Prints, as medians with the
# lowest and the highest round: CPU per answered datagram of generator, server, ksoftirqd and helper
# programs as a ratio to the plain pair's, for singles and for trains of 32; the difference in
# microseconds a packet (a train is one packet); and the ratio of the median round trips. The first
# row is a plain pair as well, which is the noise; the second an echo that works 2 µs longer for
# each reply, beside the same echo that does not: its true answer is known, 2 and 64 µs a packet.
# For singles both work 6 µs besides, longer than the generator takes for a datagram: a server that
# is the faster one now and then is woken more often, and that would be measured as well.
#
#   scripts/layers.sh [--rounds N] [--seconds S] [--only REGEX]      default: 7 rounds of 0.5 s
#
# Needs root, two CPUs with nothing else to do, iproute2, nftables, ethtool, jq; tcpdump and
# docker-proxy for their rows. What is not there is said and left out. Softirqs that run while a
# CPU idles are in nobody's account: what RPS moves to another CPU is not seen.
set -euo pipefail
cd "$(dirname "$0")/.."

ROUNDS=7 SECONDS_EACH=0.5 ONLY=.
readonly SINGLES=(--rate 25k --flows 64 --burst 32 --gso off)
readonly TRAINS=(--rate 400k --flows 16 --burst 32)
# Of the server that has trains, and of the one that has none.
readonly PORT=9007 PORT_SINGLE=9008
ID=rfl$$
WORK=$(mktemp -d)
readonly ID WORK
readonly RESULTS=$WORK/results
BIN=${REFLECTOR_BIN:-target/release/reflector}
# Programs of the layer that is measured, besides server and generator.
helpers=()

main() {
    while (($# > 1)); do
        case $1 in
            --rounds) ROUNDS=$2 ;;
            --seconds) SECONDS_EACH=$2 ;;
            --only) ONLY=$2 ;;
            *) break ;;
        esac
        shift 2
    done
    if (($# > 0)); then
        echo "usage: scripts/layers.sh [--rounds N] [--seconds S] [--only REGEX]" >&2
        exit 2
    fi
    trap clean_up EXIT
    trap 'exit 130' INT
    cargo build --quiet --release --locked --bin reflector --example slow_echo
    SLOW=$(dirname "$BIN")/examples/slow_echo
    make plain
    serve plain "$BIN" --engine mmsg --cores 1 --interval 0 --listen
    printf '%-26s %-18s %-18s %8s %8s %6s\n' LAYER "singles x" "trains of 32 x" "us" "us/train" p50
    local layer name
    while IFS='|' read -r layer name <&3; do
        if [[ $name =~ $ONLY ]]; then
            measure "$layer" "$name"
        fi
    done 3<< 'END'
veth|plain veth, again
slow|2 us more a reply
bridge|bridge with the address
switch|bridge as a switch
router|router
established|router, ct established
masquerade|router, MASQUERADE
dnat|router, DNAT
rules|100 nft rules
proxy|docker-proxy
vxlan|vxlan
macvlan|macvlan
tcpdump|tcpdump, nothing matches
tcpdump_all|tcpdump, everything
unsegmented|no tx-udp-segmentation
END
}

# Each world is a namespace for the client, one for the server and one between them.
make() {
    local world=$1 end
    for end in c m s; do
        ip netns add "$ID-$world-$end"
        ip -n "$ID-$world-$end" link set lo up
        # Where br_netfilter is in the kernel, it costs every bridge.
        ip netns exec "$ID-$world-$end" sysctl -qw net.bridge.bridge-nf-call-iptables=0 \
            net.ipv4.ip_forward=1 2> /dev/null || true
    done
    case $world in
        plain | veth | slow | quick | rules | tcpdump | tcpdump_all | unsegmented)
            pair "$world" c s
            address "$world" c v-s 10.9.0.2/24
            address "$world" s v-c 10.9.0.1/24
            ;;
        *) between "$world" ;;
    esac
}

# The layers that have something in the middle, or devices of their own.
between() {
    local world=$1
    case $world in
        bridge)
            pair "$world" c s
            in_ns "$world" s ip link add br0 type bridge
            in_ns "$world" s ip link set v-c master br0
            address "$world" s br0 10.9.0.1/24
            address "$world" c v-s 10.9.0.2/24
            ;;
        switch)
            pair "$world" c m
            pair "$world" m s
            in_ns "$world" m ip link add br0 up type bridge
            in_ns "$world" m ip link set v-c master br0
            in_ns "$world" m ip link set v-s master br0
            address "$world" c v-m 10.9.0.2/24
            address "$world" s v-m 10.9.0.1/24
            ;;
        vxlan)
            pair "$world" c s
            address "$world" c v-s 10.8.0.2/24
            address "$world" s v-c 10.8.0.1/24
            in_ns "$world" c ip link add x0 type vxlan id 7 remote 10.8.0.1 dstport 4789
            in_ns "$world" s ip link add x0 type vxlan id 7 remote 10.8.0.2 dstport 4789
            address "$world" c x0 10.9.0.2/24
            address "$world" s x0 10.9.0.1/24
            ;;
        macvlan)
            pair "$world" m s
            in_ns "$world" m ip link add x0 link v-s type macvlan mode bridge
            in_ns "$world" m ip link set x0 netns "$ID-$world-c"
            address "$world" s v-m 10.9.0.1/24
            address "$world" c x0 10.9.0.2/24
            ;;
        *)
            pair "$world" c m
            pair "$world" m s
            address "$world" c v-m 10.8.0.2/24
            address "$world" m v-c 10.8.0.1/24
            address "$world" m v-s 10.9.0.254/24
            address "$world" s v-m 10.9.0.1/24
            in_ns "$world" c ip route add default via 10.8.0.1
            in_ns "$world" s ip route add default via 10.9.0.254
            ;;
    esac
}

# What a layer has besides its devices.
furnish() {
    local world=$1
    case $world in
        established)
            in_ns "$world" m nft "add table t; add chain t f { type filter hook forward priority 0; }
                add rule t f ct state established accept"
            ;;
        masquerade)
            in_ns "$world" m nft "add table t; add chain t p { type nat hook postrouting priority 100; }
                add rule t p oifname v-s masquerade"
            ;;
        dnat)
            in_ns "$world" m nft "add table t; add chain t p { type nat hook prerouting priority -100; }
                add rule t p iifname v-c meta l4proto udp dnat to 10.9.0.1"
            ;;
        rules)
            {
                echo "add table t; add chain t i { type filter hook input priority 0; }"
                for ((rule = 1; rule <= 100; rule++)); do
                    echo "add rule t i udp dport $((20000 + rule)) drop"
                done
            } | in_ns "$world" s nft -f -
            ;;
        proxy)
            local port
            for port in $PORT $PORT_SINGLE; do
                in_ns "$world" m docker-proxy -proto udp -host-ip 10.8.0.1 -host-port "$port" \
                    -container-ip 10.9.0.1 -container-port "$port" &
                helpers+=($!)
            done
            ;;
        tcpdump)
            in_ns "$world" s tcpdump -i v-c -w /dev/null udp port 1 2> /dev/null &
            helpers+=($!)
            ;;
        tcpdump_all)
            in_ns "$world" s tcpdump -i v-c -w /dev/null 2> /dev/null &
            helpers+=($!)
            ;;
        unsegmented)
            in_ns "$world" s ethtool -K v-c tx-udp-segmentation off
            in_ns "$world" c ethtool -K v-s tx-udp-segmentation off
            ;;
    esac
}

# pair WORLD A B: a veth between the namespaces of two ends, each named after the other.
pair() {
    ip -n "$ID-$1-$2" link add "v-$3" up type veth peer name "v-$2" netns "$ID-$1-$3"
    ip -n "$ID-$1-$3" link set "v-$2" up
}

# address WORLD END DEVICE ADDRESS
address() {
    ip -n "$ID-$1-$2" address add "$4" dev "$3"
    ip -n "$ID-$1-$2" link set "$3" up
}

in_ns() {
    local world=$1 end=$2
    shift 2
    # exec, so that the number of a background job is the program's own.
    if [[ ${BASH_SUBSHELL} -gt 0 ]]; then
        exec ip netns exec "$ID-$world-$end" "$@"
    fi
    ip netns exec "$ID-$world-$end" "$@"
}

# serve WORLD COMMAND…: starts a server with trains and one without on the first CPU, each with its
# address behind COMMAND, and keeps their process ids.
serve() {
    local world=$1 single=(--gso off --gro off) train=()
    shift
    case $world in
        slow) train=(2000) single=(8000 singly) ;;
        quick) train=(0) single=(6000 singly) ;;
    esac
    : > "$WORK/$world.pid"
    start "$@" "0.0.0.0:$PORT" "${train[@]}"
    start "$@" "0.0.0.0:$PORT_SINGLE" "${single[@]}"
}

start() {
    : > "$WORK/log"
    ip netns exec "$ID-$world-s" taskset -c 0 "$@" > "$WORK/log" 2>&1 &
    echo $! >> "$WORK/$world.pid"
    for ((try = 0; try < 100; try++)); do
        if grep -q ready "$WORK/log"; then
            return
        fi
        sleep 0.05
    done
    cat "$WORK/log" >&2
    exit 1
}

# Nanoseconds of CPU of processes, their threads and the kernel's softirq threads.
cpu_ns() {
    local pid
    for pid in "$@" $(pgrep ksoftirqd); do
        cat "/proc/$pid/task/"*/schedstat 2> /dev/null || true
    done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# window SIDE WORLD KIND OPTIONS…: one run; a line of JSON with ns per answered datagram and the p50.
window() {
    local side=$1 world=$2 kind=$3 target=10.9.0.1 port=$PORT
    shift 3
    if [[ $kind == single ]]; then
        port=$PORT_SINGLE
    fi
    if [[ $world == dnat || $world == proxy ]]; then
        target=10.8.0.1
    fi
    local pids
    mapfile -t pids < "$WORK/$world.pid"
    if [[ $side == layer ]]; then
        pids+=("${helpers[@]}")
    fi
    local before after generator
    before=$(cpu_ns "${pids[@]}")
    TIMEFORMAT='%3U %3S'
    generator=$({ time ip netns exec "$ID-$world-c" taskset -c 1 "$BIN" load "$target:$port" "$@" \
        --duration "$SECONDS_EACH" --timeout 100ms --interval 0 --json \
        > "$WORK/run" 2> /dev/null; } 2>&1)
    after=$(cpu_ns "${pids[@]}")
    jq -c --arg kind "$kind" --arg side "$side" \
        --arg generator "$generator" --argjson server $((after - before)) \
        'select(.type == "summary") | {kind: $kind, side: $side,
            ns: (($server + ($generator | split(" ") | map(tonumber) | add * 1e9)) / .received),
            p50: .rtt_uncorrected_us.p50, lost: .loss_percent}' "$WORK/run" >> "$RESULTS"
}

measure() {
    local world=$1 name=$2 round order
    case $world in
        proxy) command -v docker-proxy > /dev/null || { skip "$name" docker-proxy; return; } ;;
        tcpdump*) command -v tcpdump > /dev/null || { skip "$name" tcpdump; return; } ;;
    esac
    if ! make "$world" || ! furnish "$world"; then
        skip "$name" "this kernel's support"
        dismantle "$world"
        return
    fi
    # Beside what it is measured.
    local base=plain
    if [[ $world == slow ]]; then
        serve "$world" "$SLOW"
        base=quick
        make "$base"
        serve "$base" "$SLOW"
    else
        serve "$world" "$BIN" --engine mmsg --cores 1 --interval 0 --listen
    fi
    sleep 0.3
    : > "$RESULTS"
    for ((round = 0; round < ROUNDS; round++)); do
        order=(base layer)
        if ((round % 2)); then
            order=(layer base)
        fi
        local side singles=("${SINGLES[@]}") trains=("${TRAINS[@]}")
        # Where each datagram of a train has its price, more would saturate.
        case $world in
            proxy) singles=(--rate 5k --flows 64 --burst 32 --gso off) trains=(--rate 6k --flows 16 --burst 32) ;;
            unsegmented) trains=(--rate 25k --flows 16 --burst 32) ;;
            slow) trains=(--rate 100k --flows 16 --burst 32) ;;
        esac
        local -A worlds=([base]=$base [layer]=$world)
        for side in "${order[@]}"; do
            window "$side" "${worlds[$side]}" single "${singles[@]}"
        done
        for side in "${order[@]}"; do
            window "$side" "${worlds[$side]}" train "${trains[@]}"
        done
    done
    row "$name"
    dismantle "$world"
    if [[ $base != plain ]]; then
        dismantle "$base"
    fi
}

row() {
    jq -rs --arg name "$1" '
        def median: sort | if length % 2 == 1 then .[length / 2 | floor]
            else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        def two: . * 100 | round / 100 | tostring;
        def of($kind; $side): [.[] | select(.kind == $kind and .side == $side)];
        def ratios($kind): [of($kind; "layer"), of($kind; "base")] | transpose | map(.[0].ns / .[1].ns);
        def difference($kind): [of($kind; "layer"), of($kind; "base")] | transpose
            | map(.[0].ns - .[1].ns) | median / 1000;
        def cell($kind): ratios($kind) | "\(median | two) (\(min | two)-\(max | two))";
        [$name, cell("single"), cell("train"), (difference("single") | two),
            (difference("train") * 32 | two),
            ([of("single"; "layer"), of("single"; "base")] | transpose
                | map(.[0].p50 / .[1].p50) | median | two),
            (map(.lost) | max | if . > 0.5 then "  up to \(two) % lost" else "" end)] | @tsv' \
        "$RESULTS" | while IFS=$'\t' read -r name singles trains us us_train p50 lost; do
        printf '%-26s %-18s %-18s %8s %8s %6s%s\n' \
            "$name" "$singles" "$trains" "$us" "$us_train" "$p50" "$lost"
    done
}

skip() {
    echo "SKIPPED $1: without $2"
}

dismantle() {
    local world=$1 end
    if [[ -f $WORK/$world.pid ]]; then
        xargs kill < "$WORK/$world.pid" 2> /dev/null || true
    fi
    if ((${#helpers[@]} > 0)); then
        kill "${helpers[@]}" 2> /dev/null || true
    fi
    helpers=()
    for end in c m s; do
        ip netns del "$ID-$world-$end" 2> /dev/null || true
    done
}

clean_up() {
    local world
    for world in "$WORK"/*.pid; do
        [[ -f $world ]] && dismantle "$(basename "$world" .pid)"
    done
    rm -rf "$WORK"
}

main "$@"
