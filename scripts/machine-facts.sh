#!/usr/bin/env bash
# Prints what a measurement depends on, as a Markdown table for PERF.md.
#
#   scripts/machine-facts.sh [INTERFACE]     default: the one that the default route leaves by
#
# Reads only, needs no privileges; what this machine does not tell is "-".
set -euo pipefail

main() {
    local interface=${1:-$(ip route show default 2> /dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)}

    echo "| Fact | Value |"
    echo "|---|---|"
    fact "Kernel" uname -srm
    fact "Distribution" sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release
    fact "CPU" lscpu_field "Model name"
    fact "CPUs usable" nproc
    fact "CPUs online" getconf _NPROCESSORS_ONLN
    fact "Threads per core" lscpu_field "Thread(s) per core"
    fact "Caches" caches
    fact "NUMA nodes" lscpu_field "NUMA node(s)"
    fact "Memory" sed -n 's/^MemTotal: *//p' /proc/meminfo
    fact "Virtualisation" virtualisation
    fact "Frequency governor" cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
    fact "Mitigations" mitigations
    fact "Clock source" cat /sys/devices/system/clocksource/clocksource0/current_clocksource
    local name
    for name in net.core.rmem_max net.core.wmem_max net.core.optmem_max \
        net.core.netdev_max_backlog net.core.busy_poll net.ipv4.udp_mem kernel.io_uring_disabled; do
        fact "\`$name\`" cat "/proc/sys/${name//./\/}"
    done
    fact "Interface" echo "${interface:--}"
    fact "Driver" driver "$interface"
    fact "MTU" cat "/sys/class/net/$interface/mtu"
    fact "Offloads that are on" offloads "$interface"
    fact "Compiler" rustc --version
    fact "Revision" git -C "$(dirname "$0")" describe --always --dirty
}

# fact NAME COMMAND…: a row with the first line that the command prints.
fact() {
    local name=$1 value
    shift
    value=$("$@" 2> /dev/null | head -n 1 | tr -s ' \t' ' ') || true
    echo "| $name | ${value:--} |"
}

lscpu_field() {
    LC_ALL=C lscpu | sed -n "s|^ *$1: *||p"
}

caches() {
    LC_ALL=C lscpu --caches=NAME,ONE-SIZE | sed 1d | paste -sd,
}

virtualisation() {
    systemd-detect-virt --vm || lscpu_field "Hypervisor vendor"
}

mitigations() {
    grep -lv 'Not affected' /sys/devices/system/cpu/vulnerabilities/* | xargs -rn 1 basename | paste -sd' '
}

driver() {
    basename "$(readlink "/sys/class/net/$1/device/driver")"
}

# Those that make, keep or break trains.
offloads() {
    local which='rx-checksumming|tx-checksumming|generic-receive-offload|rx-gro-hw|rx-udp-gro-forwarding'
    which+='|tx-udp-segmentation|generic-segmentation-offload'
    ethtool -k "$1" | sed -nE "s/^\s*($which): on.*/\1/p" | paste -sd' '
}

main "$@"
