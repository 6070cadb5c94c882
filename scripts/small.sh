#!/usr/bin/env bash
# How small a reflector for a test is: the size of the static program that the image holds, resident
# memory with one worker and 16 buffers, idle and after a thousand datagrams, and how long it takes
# to its ready line, beside socat. As the user of the image, without any capability.
#
#   scripts/small.sh [--rounds N]      N starts of each kind; by default 60
#
# Fails where the program has 6 MB or more, or more than 4 MiB are resident; of the one that shares
# the C library, whose pages count as well, half a MiB more. Times are printed and fail nothing:
# they are this machine's, and a busy one's mean nothing. Needs root, cargo, python3,
# socat (Debian: socat) and setpriv (Debian: util-linux). Ten minutes where nothing is built, then
# one.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BYTES_MAX=6000000
declare -rA RESIDENT_KIB_MAX=([static]=4096 [plain]=4608)
readonly NOBODY=(setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=-all
    --bounding-set=-all --no-new-privs)
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

rounds=60
failures=0

main() {
    [[ ${1:-} != --rounds ]] || rounds=$2
    command -v socat > /dev/null || {
        echo "there is no socat; Debian has it (apt-get install socat)"
        exit 1
    }
    cargo build --quiet --locked --release --bin reflector
    scripts/static.sh "$WORK"
    mv "$WORK/reflector" "$WORK/static"
    cp target/release/reflector "$WORK/plain"
    chmod 755 "$WORK" "$WORK/plain" "$WORK/static"
    size "$WORK/static"
    local program engine
    for program in plain static; do
        for engine in mmsg uring; do
            resident "$program" "$engine"
        done
    done
    for program in plain static; do
        for engine in mmsg uring; do
            echo
            echo "$program:"
            scripts/start.py "$rounds" "$WORK/$program" --cores 1 --buffers 16 --engine "$engine"
        done
    done
    if ((failures > 0)); then
        echo "$failures bounds exceeded"
        return 1
    fi
}

size() {
    local bytes
    bytes=$(stat --format %s "$1")
    echo "static: $bytes bytes (below $BYTES_MAX)"
    ((bytes < BYTES_MAX)) || failures=$((failures + 1))
}

# Starts it, and prints what is resident when it is idle and when it has answered a thousand.
resident() {
    local name=$1 engine=$2 most=${RESIDENT_KIB_MAX[$1]} pid idle used
    mkfifo "$WORK/stdin"
    # It ends when this descriptor is closed, however the script ends.
    exec 9<> "$WORK/stdin"
    "${NOBODY[@]}" "$WORK/$name" --engine "$engine" --listen 127.0.0.1:0 --cores 1 --buffers 16 \
        --interval 0 --ready-line --until-eof < "$WORK/stdin" > "$WORK/said" 2> "$WORK/log" 9>&- &
    pid=$!
    # setpriv becomes the program, and what only the start needed goes after the ready line.
    until grep -q ^ready "$WORK/said"; do
        kill -0 "$pid" 2> /dev/null || { cat "$WORK/log"; exit 1; }
        sleep 0.01
    done
    sleep 0.5
    idle=$(resident_kib "$pid")
    python3 - "$(awk '/^ready/ {print $2}' "$WORK/said")" << 'PYTHON'
import socket
import sys

host, port = sys.argv[1].rsplit(":", 1)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(10)
client.connect((host, int(port)))
for number in range(1000):
    question = number.to_bytes(1400, "big")
    client.send(question)
    assert client.recv(2048) == question
PYTHON
    used=$(resident_kib "$pid")
    exec 9>&-
    wait "$pid"
    rm "$WORK/stdin"
    echo "$name, $engine: $idle KiB resident idle, $used after 1000 datagrams" \
        "(at most $most)"
    ((idle <= most && used <= most)) || failures=$((failures + 1))
}

resident_kib() {
    awk '/^VmRSS:/ {print $2}' "/proc/$1/status"
}

main "$@"
