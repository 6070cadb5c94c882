#!/usr/bin/env bash
# Counts the instructions of each part of a datagram's way: the figure that no neighbour disturbs.
#
#   scripts/instructions.sh             prints them beside the committed ones
#   scripts/instructions.sh --check     fails where one is more than 5 % above the committed one
#   scripts/instructions.sh --update    writes benches/instructions.txt anew
#
# The bodies are those of `cargo bench --bench parts`. Each runs FEW times and MANY times under
# callgrind: the difference leaves the set-up out. One body does twice what another does, a control
# whose true answer is known: where it is not read as twice, that fails. Counts are those of this compiler: another one has
# to --update.
# Takes half a minute after the build. Needs cargo and valgrind (Debian: valgrind, libc6-dbg).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly COMMITTED=benches/instructions.txt
readonly FEW=100 MANY=600
readonly ABOVE_PERCENT=5
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

main() {
    local mode=${1:-}
    case $mode in
        "" | --check | --update) ;;
        *)
            sed -n '4,6s/^# *//p' "$0" >&2
            exit 2
            ;;
    esac
    command -v valgrind > "$WORK/valgrind" || {
        echo "there is no valgrind; Debian has it as valgrind and libc6-dbg"
        exit 1
    }
    cargo bench --locked --bench parts --no-run > "$WORK/build" 2>&1 || {
        cat "$WORK/build"
        exit 1
    }
    local program
    program=$(sed -n 's/^ *Executable benches\/parts\/main.rs (\(.*\))$/\1/p' "$WORK/build")
    "$program" --loop > "$WORK/bodies"
    printf '%-64s %12s %12s\n' "instructions per datagram" now committed | tee "$WORK/table"
    local name datagrams now before above=0
    while read -r name datagrams; do
        now=$(per_datagram "$program" "$name" "$datagrams")
        before=$(sed -n "s|^$name \(.*\)$|\1|p" "$COMMITTED" 2> "$WORK/sed" || true)
        printf '%-64s %12s %12s\n' "$name" "$now" "${before:--}"
        echo "$name $now" >> "$WORK/counts"
        if [[ -n $before ]] && is_above "$now" "$before"; then
            echo "  that is more than $ABOVE_PERCENT % above"
            above=$((above + 1))
        fi
    done < "$WORK/bodies"
    check_control
    if [[ $mode == --update ]]; then
        { rustc --version | sed 's/^/# /'; cat "$WORK/counts"; } > "$COMMITTED"
    elif [[ $mode == --check ]] && ((above > 0)); then
        echo "$above parts take more instructions than $COMMITTED says; --update if that is meant"
        exit 1
    fi
}

per_datagram() {
    local few many
    few=$(count "$1" "$2" "$FEW")
    many=$(count "$1" "$2" "$MANY")
    awk -v n="$((many - few))" -v runs="$((MANY - FEW))" -v datagrams="$3" \
        'BEGIN { printf "%.2f\n", n / runs / datagrams }'
}

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" --loop "$2" "$3" \
        > "$WORK/callgrind" 2>&1 || {
        cat "$WORK/callgrind" >&2
        exit 1
    }
    sed -n 's/^.*Collected : \([0-9]*\).*$/\1/p' "$WORK/callgrind"
}

check_control() {
    awk '
        { count[$1] = $2 }
        END {
            ratio = count["control/times=20"] / count["control/times=10"]
            printf "the control that does twice as much is read as %.3f times\n", ratio
            exit !(ratio > 1.99 && ratio < 2.01)
        }' "$WORK/counts"
}

is_above() {
    awk -v now="$1" -v before="$2" -v percent="$ABOVE_PERCENT" \
        'BEGIN { exit !(now > before * (1 + percent / 100)) }'
}

main "$@"
