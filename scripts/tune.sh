#!/usr/bin/env bash
# Prints, and on request sets, what lets a network interface feed one reflector worker per core.
#
#   scripts/tune.sh IFACE                 dry run: what would be set, from what, and why
#   scripts/tune.sh --apply IFACE         sets it and keeps the former values in the state file
#   scripts/tune.sh --undo IFACE          sets the former values again
#   --state FILE                          default: /run/reflector-tune-IFACE
#   --force                               also where the interface has no queues of its own
#
# A setting that this kernel or device does not have is named and skipped. --apply and --undo need
# root. Exit codes: 0 done; 1 something could not be set; 2 usage.
set -euo pipefail

readonly BUFFER_MAX=16777216
readonly BACKLOG=10000
mode=dry-run
state=
force=
interface=
failures=0

main() {
    parse "$@"
    [[ -d /sys/class/net/$interface ]] || fail "there is no interface $interface; \`ip link\` lists them"
    [[ $mode == dry-run ]] || ((EUID == 0)) || fail "--$mode sets kernel values; run it as root"
    [[ $mode == undo || -n $force ]] || refuse_without_queues
    state=${state:-/run/reflector-tune-$interface}
    case $mode in
        undo) undo ;;
        apply)
            [[ ! -e $state ]] || fail "$state exists: it was applied before; --undo first"
            : > "$state" || fail "cannot write the state file $state; --state names another"
            plan
            echo "former values are in $state; scripts/tune.sh --undo $interface sets them again"
            ;;
        dry-run)
            plan
            echo "nothing was changed; --apply does it"
            ;;
    esac
    ((failures == 0)) || fail "$failures settings were refused; the others stand"
}

parse() {
    while (($# > 0)); do
        case $1 in
            --apply | --undo) mode=${1#--} ;;
            --state)
                state=${2:-}
                shift
                ;;
            --force) force=yes ;;
            -*) usage ;;
            *)
                [[ -z $interface ]] || usage
                interface=$1
                ;;
        esac
        shift
    done
    [[ -n $interface ]] || usage
}

usage() {
    sed -n '4,8s/^# *//p' "$0" >&2
    exit 2
}

fail() {
    echo "tune: $1" >&2
    exit 1
}

# A device of the kernel's own has no interrupts, and its packets are already on the CPU of whoever
# sent them: what is set here moves them once more. The figures are CPU per datagram, client and
# server together, Linux 6.18.
refuse_without_queues() {
    [[ ! -e /sys/class/net/$interface/device ]] || return 0
    echo "tune: $interface is no network card: it has no queues of its own." >&2
    echo "  On a veth, what this sets costs a single datagram 1.4 to 1.6 times the" >&2
    echo "  CPU, one of a train 1.3 times." >&2
    name_cards
    name_bridge_filter
    fail "nothing was changed; --force does it all the same"
}

name_cards() {
    local card cards=
    for card in /sys/class/net/*/device; do
        [[ ! -e $card ]] || cards+=" $(basename "$(dirname "$card")")"
    done
    [[ -z $cards ]] || echo "  Network cards here:$cards" >&2
}

# What does cost something where a bridge joins containers.
name_bridge_filter() {
    local family path
    compgen -G "/sys/class/net/*/bridge" > /dev/null || return 0
    for family in iptables ip6tables; do
        path=/proc/sys/net/bridge/bridge-nf-call-$family
        [[ -r $path && $(< "$path") == 1 ]] || continue
        echo "  net.bridge.bridge-nf-call-$family is 1: what is bridged goes through" >&2
        echo "  $family. Over IPv4, without any rule, a bridge then costs 1.32 times" >&2
        echo "  the CPU of a veth pair alone, and 1.21 times with 0." >&2
    done
}

plan() {
    local cpus queues
    cpus=$(nproc)
    section "socket buffers: what --rcvbuf and --sndbuf may ask for without privileges"
    at_least /proc/sys/net/core/rmem_max "$BUFFER_MAX"
    at_least /proc/sys/net/core/wmem_max "$BUFFER_MAX"
    section "packets that may wait for a CPU that others hand them to (RPS, veth)"
    at_least /proc/sys/net/core/netdev_max_backlog "$BACKLOG"
    plan_queues "$cpus"
    queues=$(find "/sys/class/net/$interface/queues" -name 'rx-*' | wc -l)
    plan_hash
    plan_interrupts "$cpus"
    plan_steering "$cpus" "$queues"
    plan_trains
}

plan_queues() {
    section "a receive queue for each CPU, so that each worker's flows come in on its own"
    local line maximum now
    line=$(channels | sed -n 1p)
    maximum=${line% *}
    now=${line#* }
    if [[ -z $line || $maximum == 0 ]]; then
        skipped "queues: $interface has no number of combined queues to be set"
        return
    fi
    local wanted=$((maximum < $1 ? maximum : $1))
    device "combined queues" "$now" "$wanted" -L "$interface" combined
}

# Maximum and present number of combined queues.
channels() {
    { ethtool -l "$interface" 2> /dev/null || true; } \
        | sed -n 's/^Combined:[[:space:]]*\([0-9]*\)$/\1/p' | paste -sd ' '
}

plan_hash() {
    section "queues by addresses and ports: by addresses alone, one peer's flows share a queue"
    local family fields
    for family in udp4 udp6; do
        fields=$(ethtool -n "$interface" rx-flow-hash "$family" 2> /dev/null) || fields=
        if [[ -z $fields ]]; then
            skipped "rx-flow-hash $family: $interface does not tell how it hashes"
        elif [[ $fields == *"L4 bytes"* ]]; then
            kept "rx-flow-hash $family" sdfn
        else
            device "rx-flow-hash $family" sd sdfn -N "$interface" rx-flow-hash "$family"
        fi
    done
}

plan_interrupts() {
    section "each queue's interrupt on a CPU of its own (irqbalance would move it again: stop it)"
    local irq index=0
    for irq in "/sys/class/net/$interface/device/msi_irqs"/*; do
        [[ -e $irq ]] || continue
        file "/proc/irq/${irq##*/}/smp_affinity_list" $((index % $1))
        index=$((index + 1))
    done
    ((index > 0)) || skipped "interrupts: $interface has none of its own"
}

plan_steering() {
    local cpus=$1 queues=$2 queue index=0
    if ((queues < cpus)); then
        section "fewer queues than CPUs: RPS hands packets on by flow"
        for queue in "/sys/class/net/$interface/queues"/rx-*; do
            file "$queue/rps_cpus" "$(mask_of_all "$cpus")"
        done
    else
        section "a queue for each CPU: no RPS, which would move packets once more"
        for queue in "/sys/class/net/$interface/queues"/rx-*; do
            file "$queue/rps_cpus" 0
        done
    fi
    if ((queues > 1)); then
        section "XPS: a worker sends by its own CPU's queue"
        for queue in "/sys/class/net/$interface/queues"/tx-*; do
            file "$queue/xps_cpus" "$(mask_of_one $((index % cpus)))"
            index=$((index + 1))
        done
    fi
}

plan_trains() {
    section "longer trains: what arrives is kept together"
    feature generic-receive-offload on
    feature rx-udp-gro-forwarding on
    if [[ -d /sys/class/net/$interface/device/msi_irqs ]]; then
        file "/sys/class/net/$interface/napi_defer_hard_irqs" 2
        file "/sys/class/net/$interface/gro_flush_timeout" 20000
    else
        skipped "gro_flush_timeout: without interrupts there is nothing to defer"
    fi
}

feature() {
    local now
    now=$({ ethtool -k "$interface" 2> /dev/null || true; } \
        | sed -n "s/^$1: \(on\|off\)\( .*\)\?$/\1\2/p")
    case $now in
        "") skipped "$1: $interface does not have it" ;;
        *fixed*) skipped "$1: fixed to ${now%% *}" ;;
        *) device "$1" "${now%% *}" "$2" -K "$interface" "$1" ;;
    esac
}

# --- one setting ---------------------------------------------------------------------------------

# at_least FILE VALUE: a larger value stays.
at_least() {
    if [[ -r $1 && $(< "$1") -ge $2 ]]; then
        kept "$1" "$(< "$1")"
    else
        file "$1" "$2"
    fi
}

# file FILE VALUE
file() {
    local path=$1 wanted=$2 now
    if [[ ! -e $path ]] || ! now=$(cat "$path" 2> /dev/null); then
        skipped "$path: this kernel does not have it here"
    elif [[ $(plain "$now") == "$(plain "$wanted")" ]]; then
        kept "$path" "$now"
    elif ((EUID == 0)) && [[ ! -w $path ]]; then
        skipped "$path: it is the host's, and cannot be set in this network namespace"
    else
        echo "  $path: $now -> $wanted"
        [[ $mode == apply ]] || return 0
        printf 'file\t%s\t%s\n' "$path" "$now" >> "$state"
        write "$path" "$wanted"
    fi
}

write() {
    if ! echo "$2" 2> /dev/null > "$1"; then
        echo "  refused: $1 = $2" >&2
        failures=$((failures + 1))
    fi
}

# device NAME NOW WANTED ARGUMENT…: by ethtool, the value last.
device() {
    local name=$1 now=$2 wanted=$3
    shift 3
    if [[ $now == "$wanted" ]]; then
        kept "$name" "$now"
        return
    fi
    echo "  $name: $now -> $wanted"
    [[ $mode == apply ]] || return 0
    printf 'ethtool\t%s\t%s\n' "$*" "$now" >> "$state"
    by_ethtool "$wanted" "$@"
}

by_ethtool() {
    local value=$1
    shift
    if ! ethtool "$@" "$value" > /dev/null 2>&1; then
        echo "  refused: ethtool $* $value" >&2
        failures=$((failures + 1))
    fi
}

undo() {
    [[ -r $state ]] || fail "there is no state file $state: nothing was applied"
    local kind what value
    # The last first, as it was done.
    while IFS=$'\t' read -r kind what value; do
        echo "  $what: $value again"
        if [[ $kind == file ]]; then
            write "$what" "$value"
        else
            local arguments
            read -ra arguments <<< "$what"
            by_ethtool "$value" "${arguments[@]}"
        fi
    done < <(tac "$state")
    ((failures > 0)) || rm "$state"
}

section() {
    echo "$1"
}

kept() {
    echo "  $1: $2 already"
}

skipped() {
    echo "  skipped: $1"
}

# A mask without the zeros and commas that the kernel pads it with.
plain() {
    local text=${1//,/}
    text=${text#"${text%%[!0]*}"}
    echo "${text:-0}"
}

mask_of_one() {
    printf '%x\n' $((1 << $1))
}

mask_of_all() {
    # 64 CPUs are all that fit; more need a list by hand.
    (($1 < 64)) || fail "RPS for more than 63 CPUs has to be set by hand"
    printf '%x\n' $(((1 << $1) - 1))
}

main "$@"
