#!/usr/bin/env bash
# Tries scripts/tune.sh on a veth pair in a network namespace of its own: a dry run changes nothing,
# --apply changes what it says, --undo brings everything back.
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
    tune v0 > "$WORK/dry"
    [[ $(settings) == "$before" ]] || fail "a dry run changed something"
    grep -q 'rx-udp-gro-forwarding: off -> on' "$WORK/dry" || fail "the dry run says nothing of trains"

    tune --apply v0 > "$WORK/apply"
    after=$(settings)
    [[ $after != "$before" ]] || fail "--apply changed nothing"
    [[ $after == *"rx-udp-gro-forwarding: on"* ]] || fail "--apply did not do what it said"
    ! tune --apply v0 2> "$WORK/again" || fail "a second --apply would forget the first values"

    tune --undo v0 > "$WORK/undo"
    [[ $(settings) == "$before" ]] || fail "--undo left something changed: $(settings)"
    ! tune --undo v0 2> "$WORK/again" || fail "there is nothing to undo any more"
    ! tune nothere 2> "$WORK/unknown" || fail "an unknown interface was accepted"
    grep -q 'no interface nothere' "$WORK/unknown" || fail "it is not said what is wrong"
    cat "$WORK/apply"
    echo "tune: dry run, --apply and --undo do what they say"
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
