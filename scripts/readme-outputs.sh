#!/usr/bin/env bash
# shellcheck disable=SC2317 # show_NAME is called by the name that README gives
# The outputs that README shows, by real runs on loopback and in network namespaces.
#
#   scripts/readme-outputs.sh --check     fails where README shows what the program does not print
#   scripts/readme-outputs.sh --update    writes them into README anew
#
# NAMEs behind it choose some of them.
# A block that begins below `<!-- output: NAME -->` is what `show_NAME` here prints. Numbers differ
# from run to run and from machine to machine, and so does what a machine at its limit adds: checked
# is that each line of a block, but for its numbers, is printed, in that order.
# Of the steps of a search it is only checked that there are some.
# REFLECTOR_BIN names another program than target/release/reflector. Needs root or user namespaces,
# iproute2, nft and script(1). Takes a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

REFLECTOR=$(realpath "${REFLECTOR_BIN:-target/release/reflector}")
README=$(realpath README.md)
SCRIPT=$(realpath "$0")
NAIVE=$PWD/target/release/examples/naive_echo
readonly REFLECTOR README SCRIPT NAIVE
if [[ ${1:-} == --inside ]]; then
    # Its processes end with its namespaces.
    WORK=$2
else
    WORK=$(mktemp -d)
    trap 'kill $(jobs -p) 2> "$WORK/kill" || true; rm -rf "$WORK"' EXIT
fi
readonly WORK

main() {
    local mode=${1:-}
    local name failed=0
    if [[ $mode == --inside ]]; then
        cd "$WORK"
        "$3"
        return
    fi
    [[ $mode != --check && $mode != --update ]] ||
        cargo build --quiet --release --locked --example naive_echo
    cd "$WORK"
    local names
    mapfile -t names < <(sed -n 's/^<!-- output: \(.*\) -->$/\1/p' "$README")
    (($# < 2)) || names=("${@:2}")
    for name in "${names[@]}"; do
        "show_$name" > "$name.new"
        case $mode in
            --check) check "$name" || failed=1 ;;
            --update) update "$name" ;;
            *)
                sed -n '4,5s/^# *//p' "$0" >&2
                exit 2
                ;;
        esac
    done
    exit "$failed"
}

# Two workers under load for three seconds.
show_serve() {
    "$REFLECTOR" --cores 2 --duration 4 > serve.out &
    wait_until_ready serve.out
    "$REFLECTOR" load 127.0.0.1:9007 -r 100k -d 3 > load.out || true
    wait
    cat serve.out
}

# Two generators at once, as two pods would be, before and now.
show_report() {
    serve_quietly
    load_twice base-a base-b
    load_twice a b
    stop_serving
    echo "\$ reflector report a.* b.* -b base-a.json -b base-a.hlog \\"
    echo "      -b base-b.json -b base-b.hlog --svg p.svg"
    # Of the percentiles the first few.
    "$REFLECTOR" report a.* b.* -b base-a.json -b base-a.hlog -b base-b.json -b base-b.hlog \
        --svg p.svg 2> stderr.report |
        awk '/^ +75 /{ print "…"; is_left_out = 1 }
             /baseline +now/{ is_left_out = 0 }
             !is_left_out'
}

# load_twice A B: two runs at once, each with its histogram log.
load_twice() {
    local line="load 127.0.0.1:9007 -r 5k -d 2 --json" pids=() name
    for name in "$@"; do
        # shellcheck disable=SC2086 # words of a line
        "$REFLECTOR" $line --hdr "$name.hlog" > "$name.json" 2> "stderr.$name" &
        pids+=($!)
    done
    for name in "${pids[@]}"; do
        wait "$name"
    done
}

# A naive server on a host with a second address, asked from a container.
show_load() {
    inside load_naive_server
}

load_naive_server() {
    connect_container
    "$NAIVE" 0.0.0.0:9007 > naive.out &
    sleep 0.2
    run_in_container reflector load 172.16.13.13:9007 --rate 2000 --duration 2
}

# The same, asked why. Of the answer the beginning, and the first remedies.
show_diagnose() {
    inside diagnose_naive_server
}

diagnose_naive_server() {
    connect_container
    "$NAIVE" 0.0.0.0:5151 > naive.out &
    sleep 0.2
    run_in_container reflector diagnose 172.16.13.13:5151 |
        awk '/^ +2  connected/{ print "…"; is_left_out = 1 }
             /^What to do/{ is_left_out = 0 }
             /^  4[.] /{ print "…"; is_left_out = 1 }
             !is_left_out'
}

# A target that takes 50000 datagrams a second.
show_search() {
    inside search_limited_server
}

search_limited_server() {
    ip link set lo up
    nft 'table inet readme { chain input { type filter hook input priority 0;
        udp dport 9007 limit rate over 50000/second burst 1000 packets drop; }; }'
    serve_quietly
    local line="load 127.0.0.1:9007 --rate 100k --find-rate 1 --duration 1"
    echo "\$ reflector $line"
    # shellcheck disable=SC2086 # words of a line
    "$REFLECTOR" $line
    stop_serving
}

# A reflector that is away for a while.
show_watch() {
    local line="watch 127.0.0.1:9007 --duration 3 --timeout 200ms --max-gap 250ms" watching
    serve_quietly --echo-info
    echo "\$ reflector $line"
    # shellcheck disable=SC2086 # words of a line
    "$REFLECTOR" $line > watch.out &
    watching=$!
    sleep 1
    stop_serving
    sleep 0.4
    serve_quietly --echo-info
    # The gap is too long.
    wait "$watching" || true
    stop_serving
    cat watch.out
}

# The packets of one case, in a terminal that has room for both servers.
show_lab() {
    local line="stty cols 100 rows 40; NO_COLOR=1 '$REFLECTOR' lab --case hairpin"
    script --quiet --return --command "$line" terminal.lab |
        tr -d '\r' |
        awk '/^ *naive server on .*│/{ is_in = 1 }
             is_in && /^ *$/{ exit }
             is_in'
}

# inside FUNCTION: calls it in namespaces of its own, in which it is root; they go with it.
inside() {
    unshare --map-root-user --net --mount --pid --fork --kill-child \
        bash "$SCRIPT" --inside "$WORK" "$1"
}

# A container at the bridge docker0, and a second address of the host.
connect_container() {
    mount -t tmpfs tmpfs /run
    mkdir /run/netns
    ip link set lo up
    ip netns add container
    ip link add docker0 type bridge
    ip link add veth0 type veth peer name eth0 netns container
    ip link set veth0 master docker0 up
    ip address add 172.17.0.1/16 dev docker0
    ip link set docker0 up
    ip link add eth0 type bridge
    ip address add 172.16.13.13/24 dev eth0
    ip link set eth0 up
    ip -n container link set lo up
    ip -n container address add 172.17.0.3/16 dev eth0
    ip -n container link set eth0 up
    ip -n container route add default via 172.17.0.1
}

# Shows a command line of reflector, and what it prints in the container. It finds a fault.
run_in_container() {
    echo "\$ $*"
    ip netns exec container "$REFLECTOR" "${@:2}" 2> stderr.container || true
}

# serve_quietly OPTION…
serve_quietly() {
    "$REFLECTOR" --cores 2 --duration 60 "$@" > quiet.out 2> stderr.quiet &
    SERVING=$!
    wait_until_ready quiet.out
}

stop_serving() {
    kill "$SERVING"
    wait "$SERVING" || true
}

wait_until_ready() {
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        ! grep -qs '^ready' "$1" || return 0
        sleep 0.05
    done
    echo "not ready" >&2
    return 1
}

# What README shows of NAME, without the fences.
shown() {
    awk -v mark="<!-- output: $1 -->" '
        $0 == mark { is_next = 1; next }
        is_next && /^```text$/ { is_in = 1; is_next = 0; next }
        is_in && /^```$/ { exit }
        is_in
    ' "$README"
}

# Lines without what differs from run to run.
shape() {
    sed -E 's/[0-9]+([.][0-9]+)?/N/g; s/[+-]N/N/g; s/ +/ /g; s/#+/#/g; s/ $//
        s/^( N){4} (holds|[a-z ]+)$/ N N N N VERDICT/' |
        grep -v '^$' |
        uniq
}

# Whether each line that README shows is among those that were printed, in that order.
check() {
    shown "$1" | shape > "$1.shown"
    shape < "$1.new" > "$1.printed"
    if ! awk 'NR == FNR { printed[++count] = $0; next }
              { while (++at <= count && printed[at] != $0) {}
                if (at > count) { print "not printed: " $0; exit 1 } }' \
        "$1.printed" "$1.shown"; then
        echo "README's output \"$1\" is not the program's, which prints:"
        cat "$1.new"
        return 1
    fi
    echo "README's output \"$1\" is the program's"
}

update() {
    awk -v mark="<!-- output: $1 -->" -v new="$1.new" '
        { if (!is_in) print }
        $0 == mark { is_next = 1 }
        is_next && /^```text$/ { while ((getline line < new) > 0) print line; is_in = 1; is_next = 0 }
        is_in && /^```$/ { print; is_in = 0 }
    ' "$README" > README.new
    cp README.new "$README"
}

main "$@"
