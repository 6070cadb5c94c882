#!/usr/bin/env bash
# Tries scripts/tune.sh on a veth pair in a network namespace of its own: a dry run changes nothing,
# --apply changes what it says, --undo brings everything back. Without --force a veth is refused.
#
#   scripts/tune-test.sh
#
# Needs root, iproute2 and ethtool. Settings of the whole host are not seen from the namespace, or are
# left alone since they are high enough already.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SPACE=rfl-tune-$$
WORK=$(mktemp -d)
readonly WORK

main() {
    trap 'ip netns del "$SPACE" 2> "$WORK/del" || true; rm -rf "$WORK"' EXIT
    ip netns add "$SPACE"
    ip -n "$SPACE" link add v0 type veth peer name v1
    local before after
    before=$(settings)
    for mode in "" --apply; do
        # shellcheck disable=SC2086 # none is no argument
        ! tune $mode v0 2> "$WORK/refused" || fail "a veth was accepted"
        grep -q 'v0 is no network card' "$WORK/refused" || fail "it is not said why"
        [[ ! -e $WORK/state && $(settings) == "$before" ]] || fail "a refusal changed something"
    done
    names_bridge_filter

    tune --force v0 > "$WORK/dry"
    [[ $(settings) == "$before" ]] || fail "a dry run changed something"
    grep -q 'rx-udp-gro-forwarding: off -> on' "$WORK/dry" || fail "the dry run says nothing of trains"

    tune --apply --force v0 > "$WORK/apply"
    after=$(settings)
    [[ $after != "$before" ]] || fail "--apply changed nothing"
    [[ $after == *"rx-udp-gro-forwarding: on"* ]] || fail "--apply did not do what it said"
    ! tune --apply --force v0 2> "$WORK/again" || fail "a second --apply would forget the first values"

    tune --undo v0 > "$WORK/undo"
    [[ $(settings) == "$before" ]] || fail "--undo left something changed: $(settings)"
    ! tune --undo v0 2> "$WORK/again" || fail "there is nothing to undo any more"
    ! tune nothere 2> "$WORK/unknown" || fail "an unknown interface was accepted"
    grep -q 'no interface nothere' "$WORK/unknown" || fail "it is not said what is wrong"
    cat "$WORK/apply"
    echo "tune: dry run, --apply and --undo do what they say"
}

# The bridge filter is named where there is a bridge and it is on.
names_bridge_filter() {
    local filter=/proc/sys/net/bridge/bridge-nf-call-iptables value
    ip netns exec "$SPACE" test -e "$filter" || return 0
    ! tune v0 2> "$WORK/refused" || fail "a veth was accepted"
    ! grep -q 'bridge-nf' "$WORK/refused" || fail "there is no bridge that it would concern"
    ip -n "$SPACE" link add br0 type bridge
    for value in 1 0; do
        ip netns exec "$SPACE" sh -c "echo $value > $filter"
        ! tune v0 2> "$WORK/refused" || fail "a veth was accepted"
        [[ $(grep -c 'bridge-nf-call-iptables is 1' "$WORK/refused") == "$value" ]] \
            || fail "bridge-nf-call-iptables = $value is not told right"
    done
}

tune() {
    ip netns exec "$SPACE" scripts/tune.sh --state "$WORK/state" "$@"
}

settings() {
    ip netns exec "$SPACE" sh -c '
        ethtool -k v0 | grep -E "^(generic-receive-offload|rx-udp-gro-forwarding)"
        cat /sys/class/net/v0/queues/*/rps_cpus
        cat /proc/sys/net/core/rmem_max /proc/sys/net/core/wmem_max \
            /proc/sys/net/core/netdev_max_backlog 2> /dev/null || true'
}

fail() {
    echo "tune-test: $1" >&2
    cat "$WORK"/* >&2 || true
    exit 1
}

main "$@"
