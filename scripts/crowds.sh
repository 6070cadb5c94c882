#!/usr/bin/env bash
# What peers that do not resolve cost a living one, with reflector and with other UDP servers.
#
# A server and two hosts on one link, in namespaces. Four addresses that answer no ARP ask the
# server 6000 times; then a living peer asks it every 10 ms, and they go on. The table says how many of its
# 99 questions were answered, calm and crowded, and the median and 99th percentile of its round trips.
# Every server runs with the socket buffers of an ordinary user (net.core.wmem_max, 208 KiB).
#
#   scripts/crowds.sh [RUNS]        medians of so many runs, 3 by default
#
# Needs root, iproute2, python3, and for the others' rows socat, dnsmasq-base and knot. What is not
# installed is said and left out. Takes about four seconds a server and run.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUNS=${1:-3}
readonly SERVER=rfl-s$$ PEER=rfl-p$$
WORK=$(mktemp -d)
readonly WORK
export WORK

main() {
    trap clean_up EXIT
    cargo build --quiet --release --locked
    local bin=${REFLECTOR_BIN:-target/release/reflector}
    printf '%-18s %10s %10s %9s %9s %9s %9s\n' SERVER calm crowded 'p50 us' 'p99 us' \
        'p50 us' 'p99 us'
    measure "reflector uring" echo "$bin" --cores 1 --interval 0 --sndbuf 208KiB --engine uring
    measure "reflector mmsg" echo "$bin" --cores 1 --interval 0 --sndbuf 208KiB --engine mmsg
    measure socat echo socat UDP-RECVFROM:9007,fork PIPE
    measure dnsmasq dns dnsmasq --keep-in-foreground --no-resolv --no-hosts --port=9007 \
        --pid-file= --log-facility=- --no-daemon --address=/example.test/192.0.2.1
    knot_zone
    measure knotd dns knotd -c "$WORK/knot.conf"
}

# measure NAME PROTOCOL COMMAND…
measure() {
    local name=$1 protocol=$2
    shift 2
    if ! command -v "$1" > /dev/null; then
        echo "SKIPPED: $1 is not installed"
        return
    fi
    local run
    for ((run = 0; run < RUNS; run++)); do
        network
        ip netns exec "$SERVER" "$@" > "$WORK/log" 2>&1 &
        local pid=$!
        sleep 1
        ip netns exec "$PEER" python3 -c "$CLIENT" "$protocol" || cat "$WORK/log" >&2
        kill "$pid"
        wait "$pid" || true
    done | python3 -c "$MEDIANS" "$name"
}

network() {
    ip netns del "$SERVER" 2> /dev/null || true
    ip netns del "$PEER" 2> /dev/null || true
    ip netns add "$SERVER"
    ip netns add "$PEER"
    ip -n "$SERVER" link add v0 type veth peer name v0 netns "$PEER"
    ip -n "$SERVER" address add 10.9.0.1/24 dev v0
    ip -n "$PEER" address add 10.9.0.2/24 dev v0
    local namespace
    for namespace in "$SERVER" "$PEER"; do
        ip -n "$namespace" link set lo up
        ip -n "$namespace" link set v0 up
    done
}

knot_zone() {
    cat > "$WORK/knot.conf" << END
server:
    rundir: $WORK
    listen: 0.0.0.0@9007
    udp-workers: 1
database:
    storage: $WORK
zone:
  - domain: example.test
    storage: $WORK
    file: zone
END
    printf '%s\n' '@ 60 SOA ns a. 1 60 60 60 60' '@ 60 NS ns' '@ 60 A 192.0.2.1' > "$WORK/zone"
}

clean_up() {
    ip netns pids "$SERVER" 2> /dev/null | xargs --no-run-if-empty kill 2> /dev/null || true
    ip netns del "$SERVER" 2> /dev/null || true
    ip netns del "$PEER" 2> /dev/null || true
    rm -rf "$WORK"
}

# Asks 99 times, crowds, asks 99 times again; prints answered, p50 and p99 in µs of both.
CLIENT=$(cat << 'END'
import select, socket, struct, sys, time

# Both begin with a number that the answer repeats; the question is for the A record of example.test.
DNS = bytes.fromhex("010000010000000000000765") + b"xample\x04test\0\0\1\0\1"
REST = DNS if sys.argv[1] == "dns" else b"q" * 62

def question(number):
    return struct.pack("!H", number) + REST

def datagram(source):
    payload = question(65535)
    udp = struct.pack("!HHHH", 40000, 9007, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton("10.9.0.1")
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses + udp

peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
peer.connect(("10.9.0.1", 9007))
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

def ask(first, crowd):
    sent, times = {}, []
    due = time.monotonic()
    for number in range(first, first + 119):
        # The last 20 only give the others the time to be answered.
        if number < first + 99:
            for silent in crowd:
                raw.sendto(silent, ("10.9.0.1", 0))
            sent[number] = time.monotonic()
            peer.send(question(number))
        due += 0.01
        while (left := due - time.monotonic()) > 0:
            if select.select([peer], [], [], left)[0]:
                answered = sent.get(struct.unpack("!H", peer.recv(2048)[:2])[0])
                if answered is not None:
                    times.append((time.monotonic() - answered) * 1e6)
    times.sort()
    rank = lambda share: times[min(int(len(times) * share), len(times) - 1)] if times else -1
    return len(times), rank(0.5), rank(0.99)

peer.send(question(1))
peer.recv(2048)
calm = ask(1000, [])
silent = [datagram("10.9.0.%d" % host) for host in (101, 102, 103, 104)]
for packet in silent * 1500:
    raw.sendto(packet, ("10.9.0.1", 0))
crowded = ask(2000, silent)
print(calm[0], crowded[0], *calm[1:], *crowded[1:])
END
)

MEDIANS=$(cat << 'END'
import statistics, sys

rows = [[float(field) for field in line.split()] for line in sys.stdin]
if not rows:
    sys.exit(0)
calm, crowded, *times = [statistics.median(column) for column in zip(*rows)]
cells = ["%d of 99" % calm, "%d of 99" % crowded] + ["%.0f" % it if it >= 0 else "-" for it in times]
print("%-18s %10s %10s %9s %9s %9s %9s" % (sys.argv[1], *cells))
END
)

main
