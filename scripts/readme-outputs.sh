#!/usr/bin/env bash
# shellcheck disable=SC2317 # show_NAME is called by the name that README gives
# The outputs that README shows, by real runs on loopback.
#
#   scripts/readme-outputs.sh --check     fails where README shows what the program does not print
#   scripts/readme-outputs.sh --update    writes them into README anew
#
# A block that begins below `<!-- output: NAME -->` is what `show_NAME` here prints. Numbers differ
# from run to run and from machine to machine, and so does what a machine at its limit adds: checked
# is that each line of a block, but for its numbers, is printed, in that order.
# REFLECTOR_BIN names another program than target/release/reflector. Takes half a minute.
set -euo pipefail
cd "$(dirname "$0")/.."

REFLECTOR=$(realpath "${REFLECTOR_BIN:-target/release/reflector}")
README=$(realpath README.md)
WORK=$(mktemp -d)
readonly REFLECTOR README WORK
trap 'kill $(jobs -p) 2> "$WORK/kill" || true; rm -rf "$WORK"' EXIT

main() {
    local mode=${1:-}
    local name failed=0
    cd "$WORK"
    local names
    mapfile -t names < <(sed -n 's/^<!-- output: \(.*\) -->$/\1/p' "$README")
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

serve_quietly() {
    "$REFLECTOR" --cores 2 --duration 60 > quiet.out &
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
        ! grep -q '^ready' "$1" || return 0
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
    sed -E 's/[0-9]+([.][0-9]+)?/N/g; s/[+-]N/N/g; s/ +/ /g; s/#+/#/g; s/ $//' | grep -v '^$'
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
