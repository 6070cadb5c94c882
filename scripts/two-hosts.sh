# Two network namespaces joined by a veth pair, and a reflector in one of them.
#
# Sourced. Needs RUN, WORK and PROGRAM, and has the process of the reflector in `server`. Both ends
# are called eth0: the server's has 10.77.0.1, the client's 10.77.0.2.
# shellcheck shell=bash

server=

connect_hosts() {
    ip netns add "$RUN-server"
    ip netns add "$RUN-client"
    ip link add eth0 netns "$RUN-server" type veth peer name eth0 netns "$RUN-client"
    ip -n "$RUN-server" addr add 10.77.0.1/24 dev eth0
    ip -n "$RUN-client" addr add 10.77.0.2/24 dev eth0
    ip -n "$RUN-server" link set eth0 up
    ip -n "$RUN-client" link set eth0 up
}

# Removes them, and what is left of the server and of others whose numbers are given.
remove_hosts() {
    local pid
    for pid in "$@" $server; do
        kill -KILL "$pid" 2> "$WORK/kill" || true
    done
    ip netns del "$RUN-server" 2> "$WORK/del" || true
    ip netns del "$RUN-client" 2>> "$WORK/del" || true
}

# start OPTION…: until it is ready. Its reports are in $WORK/server, its log in $WORK/server.log.
start() {
    ip netns exec "$RUN-server" "$PROGRAM" --cores 1 --json --interval 0s "$@" > "$WORK/server" \
        2> "$WORK/server.log" &
    server=$!
    local try
    for ((try = 0; try < 100; try++)); do
        ! grep -q '"ready"' "$WORK/server" || return 0
        sleep 0.1
    done
    cat "$WORK/server.log"
    return 1
}

stop() {
    kill -TERM "$server"
    wait "$server"
    server=
}
