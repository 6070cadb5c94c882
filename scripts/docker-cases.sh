# What docker-bridge.sh does to a case: it asks, looks at what was seen, and adds a line to the table.
#
# Sourced. Needs WORK, RUN, CONFINED and `bounded`, and counts `failures`.
# shellcheck shell=bash

# The case at hand, set by `observe` and `ask`: who was asked, from where, at which address, what was
# seen, and how the client ended.
server='' from='' at='' seen='' code=0

# observe SERVER SOURCE TEXT: something that is read rather than asked.
observe() {
    server=$1 from=$2 at='-' seen=$3 code=0
}

# ask SERVER FROM TARGET: asks from a container on the network FROM, or from the host.
ask() {
    server=$1 from=$2 at=$3
    local client=("$WORK/ask")
    if [[ $from != host ]]; then
        client=(docker run --rm --label "$RUN" --network "$from" "${CONFINED[@]}" "$RUN-ask")
    fi
    code=0
    seen=$(bounded "${client[@]}" "$at" 2>&1) || code=$?
}

expect_right() {
    expect 0 "^answer from ${at//./\\.}, connected or not\$" right
}

# expect_wrong ADDRESS VERDICT: the answer is from that address, so a connected client's kernel
# refuses it, and the client hears nothing.
expect_wrong() {
    local silence="connected: silence, refused here by ICMP"
    expect 4 "^$silence; unconnected: answer from $1:${at##*:}\$" "$2"
}

# expect CODE PATTERN VERDICT: adds the case to the table.
expect() {
    local verdict=$3
    if ((code != $1)) || ! grep -q -- "$2" <<< "$seen"; then
        verdict=FAILED
        failures=$((failures + 1))
    fi
    row "$server" "${from/#$RUN/own network}" "$at" "$verdict" "$seen"
    [[ $verdict != FAILED ]] || echo "    exit code $code; expected: $1 and $2"
}

row() {
    printf '%-29s %-11s %-19s %-31s %s\n' "$@"
}
