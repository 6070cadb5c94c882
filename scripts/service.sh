#!/usr/bin/env bash
# Checks deploy/reflector.service, its drop-in and deploy/reflector.socket with systemd's own
# tools, none of which need systemd to run: the files are verified, the exposure of the service is
# printed and has a bound, a real socket activation is served (systemd-socket-activate), and the
# system calls that are made meanwhile, on each engine, are all among those that it allows.
#
#   scripts/service.sh
#
# Takes ten seconds, once built. Needs cargo, systemd's tools, strace and
# root.
set -euo pipefail
cd "$(dirname "$0")/.."

# In tenths, of ten; systemd calls everything below 3.0 OK.
readonly EXPOSURE_MAX=16
readonly PORT=9027
WORK=$(mktemp -d)
readonly WORK
# Where any user may run it.
readonly BIN=$WORK/reflector
STARTED=
trap cleanup EXIT

main() {
    cargo build --quiet --locked --release --bin reflector
    chmod 755 "$WORK"
    cp target/release/reflector "$BIN"
    # Where nothing is installed there is neither the program nor its manual page.
    local unit
    for unit in reflector.service reflector.socket; do
        sed "s|^ExecStart=reflector |ExecStart=$BIN |; /^Documentation=/d" "deploy/$unit" > "$WORK/$unit"
    done
    systemd-analyze verify "$WORK/reflector.service" "$WORK/reflector.socket"
    systemd-analyze security --offline=true --threshold="$EXPOSURE_MAX" \
        "$WORK/reflector.service" > "$WORK/exposure"
    grep 'Overall exposure' "$WORK/exposure"
    with_drop_in
    allowed | sort -u > "$WORK/allowed"
    local engine
    for engine in uring mmsg; do
        serve "$engine"
    done
}

# The rights of the drop-in are enough for a user who has no others.
with_drop_in() {
    local folder=$WORK/reflector.service.d names capabilities
    install -D --mode 644 deploy/reflector-accelerate.conf "$folder/accelerate.conf"
    systemd-analyze verify "$WORK/reflector.service" "$WORK/reflector.socket"
    names=$(sed -n 's/^AmbientCapabilities=//p' "$folder/accelerate.conf")
    capabilities=+${names// CAP_/,+}
    capabilities=${capabilities/CAP_/}
    if ! is_new_enough; then
        echo "SKIPPED: rights of the drop-in, before Linux 6.6"
    else
        unshare --net setpriv --reuid 65534 --regid 65534 --clear-groups \
            --inh-caps "-all,${capabilities,,}" --ambient-caps "-all,${capabilities,,}" \
            --bounding-set "-all,${capabilities,,}" \
            "$BIN" --listen 127.0.0.1:0 --accelerate lo --duration 1ms --interval 0 \
            > "$WORK/accelerated" 2>&1 || { cat "$WORK/accelerated"; exit 1; }
        echo "the drop-in gives the rights that --accelerate takes"
    fi
    rm -r "$folder"
}

is_new_enough() {
    printf '6.6\n%s\n' "$(uname -r)" | sort --version-sort --check=quiet
}

cleanup() {
    [[ -z $STARTED ]] || kill -KILL "$STARTED" 2> "$WORK/kill" || true
    rm -rf "$WORK"
}

# The system calls that the service allows: each line of its filter adds some, or takes some away.
allowed() {
    local filter names removed=
    while IFS='=' read -r _ filter; do
        names=$(for name in ${filter#\~}; do calls "$name"; done)
        if [[ $filter == ~* ]]; then
            removed=$names
        else
            grep -vxF "$removed" <<< "$names" || true
            removed=
        fi
    done < <(tac "$WORK/reflector.service" | grep '^SystemCallFilter=')
    calls @default
}

# calls NAME: a call, or those of a set and of the sets in it.
calls() {
    local name
    if [[ $1 != @* ]]; then
        echo "$1"
        return
    fi
    while read -r name; do
        calls "$name"
    done < <(systemd-analyze syscall-filter "$1" | sed -n 's/^ \+\([@a-z0-9_-]\+\)$/\1/p')
}

serve() {
    local engine=$1 trace=$WORK/trace.$1 out=$WORK/out.$1 err=$WORK/err.$1
    # As the service: sockets of root's, and a user who may do nothing. Not at a wildcard, since this
    # tool knows no PassPacketInfo=.
    strace -f -qq -o "$trace" systemd-socket-activate --datagram \
        --listen "127.0.0.2:$PORT" \
        setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \
        --no-new-privs "$BIN" --engine "$engine" --interval 0 --duration 3 \
        > "$out" 2> "$err" &
    STARTED=$!
    local tried
    # It listens before there is anybody to answer.
    for ((tried = 0; tried < 100; tried++)); do
        ! { [[ -f $err ]] && grep -q 'Listening on' "$err"; } || break
        sleep 0.05
    done
    timeout 20 "$BIN" load "127.0.0.2:$PORT" --rate 1k --duration 1 --timeout 5 --max-loss 0 \
        --json > "$WORK/load"
    if ! wait "$STARTED"; then
        cat "$err" >&2
        return 1
    fi
    STARTED=
    grep '^ready: ' "$out"
    # Those of the one that opens the sockets come first.
    sed -n "\|execve(\"$BIN\"|,\$ s/^[0-9]* *\([a-z0-9_]\+\)(.*/\1/p" "$trace" |
        sort -u > "$WORK/made"
    if comm -23 "$WORK/made" "$WORK/allowed" | grep .; then
        echo "these system calls of engine $engine are not allowed by the service" >&2
        return 1
    fi
    echo "$engine: $(wc -l < "$WORK/made") system calls, all of them allowed"
}

main "$@"
