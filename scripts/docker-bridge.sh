#!/usr/bin/env bash
# Shows moby#15127 with a real Docker engine, and that reflector does not have it.
#
# Clients in containers ask servers on the host, at an address that is not the one the route back
# prefers, and servers in containers are asked from another container and from the host; with the
# io_uring engine and without, under the seccomp profiles of deploy/; with a reflector that answers in
# the kernel at the bridge, too. At last a container asks while another sends in the name of
# neighbours that are not there. Every line of the table is a case with what was seen and whether that
# was expected; one that was not makes the script fail.
#
#   scripts/docker-bridge.sh
#
# Needs root, a running engine, iproute2, nsenter, python3 and cargo. What it makes (an interface, a
# network, images, containers) carries its process id and is removed at the end, however it ends.
# Without an engine it says SKIPPED and succeeds, unless REFLECTOR_REQUIRE contains "docker"; likewise
# with the cases of io_uring where the kernel has none, and "uring", and those in the kernel, and "bpf".
#
# Exit codes: 0 all as expected, or skipped; 1 not; 130, 143 interrupted.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUN=reflector-bridge-$$
readonly LINK=rfl$$
readonly PORT=9007
# More than anything here takes on a busy machine; nothing waits for longer.
readonly PATIENCE_S=30
WORK=$(mktemp -d)
readonly WORK
readonly CONFINED=(--read-only --cap-drop ALL --security-opt no-new-privileges)

engines=(uring mmsg)
has_bpf=1
servers=()
port=0
failures=0

# shellcheck source=scripts/docker-cases.sh
source scripts/docker-cases.sh

main() {
    trap 'rm -rf "$WORK"' EXIT
    # A command that runs is waited for: each is short, or bounded.
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    require_docker
    trap clean_up EXIT
    build
    require_uring
    require_bpf
    connect

    row SERVER "ASKED FROM" AT VERDICT SEEN
    for network in bridge "$RUN"; do
        ask_host_servers_from "$network"
    done
    for network in bridge "$RUN"; do
        ask_container_servers_on "$network"
    done
    crowd_host_servers

    echo
    if ((failures > 0)); then
        echo "$failures cases were not as expected"
        return 1
    fi
    echo "every case was as expected: the naive server is wrong, reflector is right"
}

require_docker() {
    if ! command -v docker > "$WORK/docker"; then
        skip "there is no docker; Debian has it as docker.io (apt-get install docker.io)"
    elif ! timeout 10 docker version --format '{{.Server.Version}}' > "$WORK/engine" 2>&1; then
        skip "the Docker engine does not answer; start it (systemctl start docker, or dockerd &)"
    elif ((EUID != 0)); then
        skip "an interface cannot be made by an ordinary user; run as root"
    fi
}

require_uring() {
    "$WORK/reflector" --engine uring --listen 127.0.0.1:0 --duration 1ms > "$WORK/probe" 2>&1 || {
        tail -n 1 "$WORK/probe"
        echo "SKIPPED: the cases of io_uring"
        ! is_required uring || exit 1
        engines=(mmsg)
    }
}

require_bpf() {
    "$WORK/reflector" --accelerate lo --listen 127.0.0.1:0 --duration 1ms > "$WORK/probe" 2>&1 || {
        tail -n 1 "$WORK/probe"
        echo "SKIPPED: the cases in the kernel"
        ! is_required bpf || exit 1
        has_bpf=0
    }
}

skip() {
    echo "SKIPPED: $1"
    ! is_required docker || exit 1
    exit 0
}

is_required() {
    [[ ",${REFLECTOR_REQUIRE:-}," == *,"$1",* ]] && echo "REFLECTOR_REQUIRE demands $1"
}

# --- what the cases need -------------------------------------------------------------------------

build() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    # A target directory of its own: other flags would throw away what other builds have made.
    RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=target/static \
        cargo build --quiet --locked --release --target "$triple" \
        --bin reflector --example naive_echo --example ask
    local out=target/static/$triple/release
    cp "$out/reflector" "$out/examples/naive_echo" "$out/examples/ask" "$WORK"
    install -D "$WORK/reflector" "$WORK/target/image/here/reflector"
    image "$RUN" deploy/Dockerfile --build-arg TARGETARCH=here
    printf 'FROM scratch\nCOPY ask /ask\nENTRYPOINT ["/ask"]\n' > "$WORK/Dockerfile.ask"
    image "$RUN-ask" "$WORK/Dockerfile.ask"
}

image() {
    bounded docker build --quiet --label "$RUN" --tag "$1" --file "${@:2}" "$WORK" \
        > "$WORK/build.log" 2>&1 || { cat "$WORK/build.log" >&2; exit 1; }
}

# The other address of the host, on an interface of its own, and a network besides the default one.
connect() {
    ADDRESS=$(free_address)
    readonly ADDRESS
    ip link add "$LINK" type bridge
    ip addr add "$ADDRESS/24" dev "$LINK"
    ip link set "$LINK" up
    bounded docker network create --label "$RUN" "$RUN" > "$WORK/network"
    echo "engine $(< "$WORK/engine"); the host's other address is $ADDRESS, on $LINK"
    echo
}

# The first candidate that no route but the default one covers.
free_address() {
    local candidate
    for candidate in 172.16.13.13 198.18.13.13 10.213.13.13; do
        if ! ip -4 route show match "$candidate" | grep -qv '^default'; then
            echo "$candidate"
            return
        fi
    done
    echo "every address that could be added is in use here" >&2
    return 1
}

clean_up() {
    # What fails here was not made, or is gone.
    set +e
    {
        ((${#servers[@]} == 0)) || kill "${servers[@]}"
        bounded docker ps --all --quiet --filter "label=$RUN" |
            xargs -r timeout "$PATIENCE_S" docker rm --force
        bounded docker network rm "$RUN"
        bounded docker rmi --force "$RUN" "$RUN-ask"
        ip link delete "$LINK"
    } > /dev/null 2>&1
    rm -rf "$WORK"
}

bounded() {
    timeout --kill-after=5 "$PATIENCE_S" "$@"
}

# wait_for FILE PATTERN [COMMAND…]: until the pattern is in the file, which the command fills.
wait_for() {
    local file=$1 pattern=$2
    shift 2
    for ((tenths = 0; tenths < 10 * PATIENCE_S; tenths++)); do
        (($# == 0)) || bounded "$@" > "$file" 2>&1 || true
        if grep -q "$pattern" "$file"; then
            return
        fi
        sleep 0.1
    done
    echo "$file never said $pattern:" >&2
    cat "$file" >&2
    exit 1
}

# --- servers on the host, asked from containers --------------------------------------------------

ask_host_servers_from() {
    local network=$1 gateway engine
    gateway=$(gateway_of "$network")

    serve_on_host naive "$WORK/naive_echo" 0.0.0.0:0
    ask "naive on the host" "$network" "$ADDRESS:$port"
    expect_wrong "$gateway" "wrong, as expected"

    for engine in "${engines[@]}"; do
        serve_on_host "$engine" "$WORK/reflector" --json --listen 0.0.0.0:0 --engine "$engine"
        ask "reflector on the host, $engine" "$network" "$ADDRESS:$port"
        expect_right
    done
    ((! has_bpf)) || ask_accelerated_from "$network"
}

# One that answers in the kernel at the network's bridge: the same, and the sockets hear nothing.
ask_accelerated_from() {
    local network=$1 out
    serve_on_host kernel "$WORK/reflector" --json --interval 0 --cores 1 --listen 0.0.0.0:0 \
        --accelerate "$(bridge_of "$network")"
    out=$WORK/kernel-$((${#servers[@]} - 1)).out
    ask "reflector, in the kernel" "$network" "$ADDRESS:$port"
    expect_right
    kill "${servers[-1]}"
    wait_for "$out" '"type":"summary"'
    observe "reflector, in the kernel" "its summary" "$(summary_in "$out")"
    # One client, connected and not.
    expect 0 '^"received":0,"replied":0 "accelerated":{"datagrams":2$' right
}

# What it counted, of the sockets and in the kernel, from a file.
summary_in() {
    grep '"type":"summary"' "$1" |
        sed 's/"per_worker".*"accelerated"/"accelerated"/; s/"per_worker".*//' |
        grep -o '"received":[0-9]*,"replied":[0-9]*\|"accelerated":{"datagrams":[0-9]*' | xargs -d '\n'
}

# serve_on_host NAME COMMAND…: starts it, and sets `port` to what the kernel gave it.
serve_on_host() {
    # A file of its own: an earlier server may still write to its.
    local out=$WORK/$1-${#servers[@]}.out
    shift
    : > "$out"
    "$@" > "$out" 2>&1 &
    servers+=($!)
    wait_for "$out" '0\.0\.0\.0:[0-9]'
    port=$(grep -om1 '0\.0\.0\.0:[0-9]*' "$out" | head -n 1 | cut -d: -f2)
}

# The bridge of a network.
bridge_of() {
    bounded docker network inspect "$1" --format \
        '{{with index .Options "com.docker.network.bridge.name"}}{{.}}{{else}}br-{{slice .Id 0 12}}{{end}}'
}

# The host's address on a network.
gateway_of() {
    ip -4 -oneline address show dev "$(bridge_of "$1")" |
        sed -n "s/.* inet \([0-9.]*\).*/\1/p" | head -n 1
}

# --- servers in containers, asked from containers and from the host ------------------------------

ask_container_servers_on() {
    local network=$1 name reason=""
    [[ ${engines[0]} != uring ]] || reason="a seccomp profile refuses it"

    # As Docker from 25.0 on refuses io_uring by default: mmsg, and a start that says why.
    name="container without io_uring"
    serve_in_container "$network" seccomp-no-io-uring.json
    expect_start "\"engine\":\"mmsg\",\"engine_reason\":\"$reason"
    observe "$name" "its log" "$(grep -o 'io_uring is not .*' "$WORK/log" | cut -c1-78)"
    expect 0 "^io_uring is not available: $reason" right
    ask_container "$network"

    # The profile that allows it, and as little else as there can be; either engine gets by.
    if [[ ${engines[0]} == uring ]]; then
        name="container with io_uring"
        serve_in_container "$network" seccomp.json --hdr /out/residence.hlog
        expect_start '"engine":"uring","engine_reason":null'
        ask_container "$network"
    fi

    name="container, mmsg by choice"
    serve_in_container "$network" seccomp.json --engine mmsg
    expect_start '"engine":"mmsg","engine_reason":null'
    ask_container "$network"
}

# serve_in_container NETWORK PROFILE ARGUMENT…: starts reflector there, with a published port, and
# leaves its log in $WORK/log.
serve_in_container() {
    local network=$1 profile=deploy/$2
    shift 2
    bounded docker run --detach --name "$RUN-server" --label "$RUN" --network "$network" \
        "${CONFINED[@]}" --tmpfs /out:mode=1777 --security-opt "seccomp=$profile" \
        --publish "$PORT/udp" "$RUN" --json "$@" > "$WORK/container"
    wait_for "$WORK/log" '"type":"ready"' docker logs "$RUN-server"
}

expect_start() {
    observe "$name" "its start" "$(grep -o '"engine":.*"' "$WORK/log" | cut -c1-78)"
    expect 0 "^$1" right
}

# Asks the server that runs, by all ways that lead to it, and stops it.
ask_container() {
    local network=$1 own published summary
    own=$(bounded docker inspect "$RUN-server" \
        --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')
    published=$(bounded docker port "$RUN-server" "$PORT/udp" | head -n 1 | sed 's/.*://')

    for client in "$network" host; do
        ask "$name" "$client" "$own:$PORT"
        expect_right
    done
    for address in 127.0.0.1 "$ADDRESS"; do
        ask "$name" host "$address:$published"
        expect_right
    done
    # Here docker-proxy stands between, which had the bug itself before 28.0.
    ask "$name" "$network" "$ADDRESS:$published"
    if is_answered_by_wrong_proxy "$published"; then
        expect_wrong "$(gateway_of "$network")" "wrong: docker-proxy, moby#11998"
    else
        expect_right
    fi

    bounded docker stop --time 10 "$RUN-server" > "$WORK/container"
    bounded docker logs "$RUN-server" > "$WORK/log" 2>&1
    summary=$(summary_in "$WORK/log")
    observe "$name" "docker stop" \
        "exit code $(bounded docker inspect "$RUN-server" --format '{{.State.ExitCode}}'), $summary"
    # Five clients of two datagrams each.
    expect 0 '^exit code 0, "received":10,"replied":10$' right
    bounded docker rm --force "$RUN-server" > "$WORK/container"
}

is_answered_by_wrong_proxy() {
    ss --udp --listening --numeric --processes "sport = :$1" | grep -q docker-proxy &&
        (($(cut -d. -f1 < "$WORK/engine") < 28))
}

# --- a living peer among others that are not there -----------------------------------------------

# Replies to neighbours that do not resolve wait in the kernel, charged to the socket that sent them.
crowd_host_servers() {
    local engine buffer gateway
    gateway=$(gateway_of bridge)
    bounded docker run --detach --name "$RUN-crowd" --label "$RUN" "${CONFINED[@]}" "$RUN" \
        --interval 0 > "$WORK/container"

    serve_on_host naive "$WORK/naive_echo" 0.0.0.0:0
    # At the one address from which it answers rightly.
    ask "naive on the host" bridge "$gateway:$port"
    expect_right
    ask_in_crowd "naive, in a crowd"
    expect_share 0 10 "starved, as expected"

    for engine in "${engines[@]}"; do
        for buffer in 208KiB default; do
            local buffer_option=()
            [[ $buffer == default ]] || buffer_option=(--sndbuf "$buffer")
            serve_on_host "$engine" "$WORK/reflector" --json --interval 0 --cores 1 \
                --listen 0.0.0.0:0 --engine "$engine" "${buffer_option[@]}"
            ask_in_crowd "in a crowd, $engine, $buffer"
            expect_share 99 100 right
        done
    done
}

# ask_in_crowd SERVER: asks 1000 times in two seconds, from one container, while datagrams come from
# the other in the name of four addresses of its subnet that nobody has.
ask_in_crowd() {
    server=$1 from=bridge at=$gateway:$port code=0
    local pid forger
    pid=$(bounded docker inspect "$RUN-crowd" --format '{{.State.Pid}}')
    : > "$WORK/forge"
    timeout "$PATIENCE_S" nsenter --target "$pid" --net \
        python3 scripts/crowd.py "$gateway" "$port" >> "$WORK/forge" 2>&1 &
    forger=$!
    wait_for "$WORK/forge" '^crowded'
    bounded docker run --rm --label "$RUN" "${CONFINED[@]}" "$RUN" load "$at" \
        --json --interval 0 --rate 500 --duration 2s --timeout 500ms \
        > "$WORK/load" 2> "$WORK/load.err" || true
    kill "$forger" 2> "$WORK/kill" || cat "$WORK/forge" >&2
    wait "$forger" || true
    seen=$(grep '"type":"summary"' "$WORK/load" | grep -o '"sent":[0-9]*\|"received":[0-9]*' |
        sort --reverse | cut -d: -f2 | xargs printf '%d asked, %d answered') ||
        seen=$(cat "$WORK/load.err")
}

# expect_share LEAST MOST VERDICT: so many percent of what was asked was answered.
expect_share() {
    local asked answered
    read -r asked answered <<< "$(tr -dc '0-9 \n' <<< "$seen")"
    if ((${asked:-0} < 900)) || ((100 * answered < $1 * asked || 100 * answered > $2 * asked)); then
        code=1
    fi
    expect 0 'asked' "$3"
}

main
