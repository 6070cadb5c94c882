#!/usr/bin/env bash
# Runs the Debian package under a systemd that is booted, in a container of Debian's packages:
#
#   scripts/systemd.sh [PACKAGE]        default: the one that scripts/package.sh builds
#
# Installs it; has the socket start the service; has a load lose nothing while the service is
# restarted and the package is upgraded, on each engine; has the watchdog find a process that is
# stuck; stops it under load, which has to be a drain; removes and purges it, after which nothing
# may be left. Anything else makes it fail.
#
# The container is systemd-nspawn's, with a network of its own that has nothing but lo, over a tree
# in target/rootfs that is made once (two minutes) and never written to afterwards. Takes a minute
# after that. Needs root, mmdebstrap, systemd-container, jq, and what scripts/package.sh needs.
#
# Exit codes: 0 all as expected; 1 not, or there is no container in which systemd boots.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly SUITE=bookworm
readonly ROOT=$PWD/target/rootfs/$SUITE
readonly PORT=9007
readonly RESTARTS=5
# More than anything here takes on a busy machine; nothing waits for longer.
readonly PATIENCE_S=60
WORK=$(mktemp -d)
readonly WORK
CONTAINER='' LEADER='' LOAD=''
PACKAGE=${1:-}

main() {
    trap clean_up EXIT
    # A command that runs is waited for: each is short, or bounded.
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    [[ -n $PACKAGE ]] || PACKAGE=$(scripts/package.sh | tail -n 1)
    make_root
    boot
    snapshot > "$WORK/before"
    install
    activate
    local engine
    for engine in uring mmsg; do
        restart_under_load "$engine"
    done
    upgrade_under_load
    watch
    stop_under_load
    remove
}

# --- the container -------------------------------------------------------------------------------

make_root() {
    [[ ! -e $ROOT/usr/bin/systemctl ]] || return 0
    rm -rf "$ROOT" "$ROOT.new"
    mkdir -p "$(dirname "$ROOT")"
    timeout 600 mmdebstrap --quiet --variant=minbase --include=systemd,dbus,procps \
        --dpkgopt=force-unsafe-io "$SUITE" "$ROOT.new" > "$WORK/root" 2>&1 ||
        fail "there is no container: mmdebstrap says" "$WORK/root"
    mv "$ROOT.new" "$ROOT"
}

# Boots it, with everything that is written in memory. It gets no unit and no name on this host,
# which may run no systemd; so its control groups are below one that is removed at the end.
boot() {
    local second tree
    for tree in $(control_groups); do
        mkdir "$tree/$GROUP"
    done
    (
        for tree in $(control_groups); do
            echo "$BASHPID" > "$tree/$GROUP/cgroup.procs"
        done
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn --quiet --register=no --keep-unit \
            --private-network --volatile=overlay --directory "$ROOT" --machine reflector \
            --bind-ro "$(realpath "$PACKAGE"):/package.deb" --console=pipe --boot
    ) < /dev/null > "$WORK/console" 2>&1 &
    CONTAINER=$!
    for ((second = 0; second < PATIENCE_S; second++)); do
        sleep 1
        kill -0 "$CONTAINER" 2> "$WORK/kill" || break
        LEADER=$(pgrep --parent "$CONTAINER" | head -n 1) || continue
        inside systemctl is-system-running > "$WORK/booted" 2>&1 || true
        ! grep -q '^running$' "$WORK/booted" || break
    done
    grep -qs '^running$' "$WORK/booted" || {
        cat "$WORK/booted" >> "$WORK/console"
        fail "systemd does not boot in a container here" "$WORK/console"
    }
    echo "booted: $(inside systemctl --version | head -n 1) in $(inside systemd-detect-virt)"
}

readonly GROUP=reflector-systemd-$$

# Where control groups of systemd are mounted on this host: one place, or two where the controllers
# are of version 1.
control_groups() {
    if [[ -e /sys/fs/cgroup/cgroup.procs ]]; then
        echo /sys/fs/cgroup
    else
        ls -d /sys/fs/cgroup/systemd /sys/fs/cgroup/unified 2> "$WORK/groups" || true
    fi
}

# inside COMMAND…: runs it in the container, bounded.
inside() {
    timeout --kill-after 5 "$PATIENCE_S" nsenter --target "$LEADER" --mount --uts --ipc --net --pid \
        env --ignore-environment PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        "$@" < /dev/null
}

clean_up() {
    # What fails here was not made, or is gone.
    set +e
    {
        # Its first process is killed, and with it all others of its PID namespace.
        [[ -z $LEADER ]] || kill -KILL "$LEADER"
        [[ -z $CONTAINER ]] || timeout 10 tail --pid "$CONTAINER" -f /dev/null || kill "$CONTAINER"
        wait
        local tree
        for tree in $(control_groups); do
            find "$tree/$GROUP" -depth -type d -exec rmdir {} \;
        done
    } > /dev/null 2>&1
    rm -rf "$WORK"
}

# fail WHAT [FILE]: says what was not as expected, and what shows it.
fail() {
    echo "FAILED: $1" >&2
    [[ -z ${2:-} ]] || tail -n 30 "$2" >&2
    if [[ -n $LEADER ]]; then
        inside journalctl --no-pager --lines 30 --unit 'reflector.*' >&2 || true
    fi
    exit 1
}

# --- what is expected of the package -------------------------------------------------------------

install() {
    inside dpkg --install /package.deb > "$WORK/dpkg" 2>&1 || fail "dpkg --install" "$WORK/dpkg"
    # Nobody has asked for a service yet.
    expect "an installed socket unit" disabled "$(inside systemctl is-enabled reflector.socket || true)"
    expect "an installed service" inactive "$(inside systemctl is-active reflector.service || true)"
    inside reflector --version
}

# The first datagram starts the service, and is answered.
activate() {
    inside systemctl --quiet enable --now reflector.socket
    expect "the service, before it is asked" inactive \
        "$(inside systemctl is-active reflector.service || true)"
    inside reflector healthcheck "127.0.0.2:$PORT" --timeout 10s > "$WORK/asked" 2>&1 ||
        fail "the first datagram gets no answer" "$WORK/asked"
    expect "the service, once asked" active "$(inside systemctl is-active reflector.service)"
    inside systemctl status --no-pager --lines 3 reflector.service | sed -n '/Loaded:\|Active:/p'
    expect "its capabilities" "0000000000000000" "$(of_process CapEff)"
    expect "its system calls, filtered" 2 "$(of_process Seccomp)"
    [[ $(of_process Uid) != 0 ]] || fail "the service runs as root"
    echo "activated by its socket: user $(of_process Uid), no capabilities"
}

# of_process KEY: what /proc says about the main process.
of_process() {
    inside sed -n "s/^$1:[[:space:]]*\([0-9a-f]*\).*/\1/p" "/proc/$(main_pid)/status"
}

main_pid() {
    inside systemctl show --property MainPID --value reflector.service
}

restart_under_load() {
    local engine=$1 count
    configure "REFLECTOR_ENGINE=$engine" "REFLECTOR_JSON=true"
    restart
    begin_load
    for ((count = 1; count <= RESTARTS; count++)); do
        restart
        sleep 0.5
    done
    end_load
    expect "the engine" "\"engine\":\"$engine\"" \
        "$(inside journalctl --output cat --unit reflector.service | grep '"type":"ready"' |
            tail -n 1 | grep -o '"engine":"[a-z]*"')"
    judge_load "$RESTARTS restarts, $engine"
}

# systemd has a limit on starts in a row, five in ten seconds, which is not what is tested here.
restart() {
    inside systemctl reset-failed reflector.service
    inside systemctl restart reflector.service
}

upgrade_under_load() {
    local old
    old=$(main_pid)
    begin_load
    inside dpkg --install /package.deb > "$WORK/dpkg" 2>&1 || fail "dpkg --install" "$WORK/dpkg"
    end_load
    [[ $(main_pid) != "$old" ]] || fail "an upgrade of the package restarts nothing" "$WORK/dpkg"
    judge_load "an upgrade of the package"
    expect "the configuration, after it" 2 "$(inside grep -c ^REFLECTOR_ /etc/default/reflector)"
}

# configure LINE…: options of the service, as an administrator sets them.
configure() {
    printf '%s\n' "$@" | timeout 10 nsenter --target "$LEADER" --mount \
        tee /etc/default/reflector > "$WORK/default"
}

begin_load() {
    inside reflector load "127.0.0.2:$PORT" --rate 10k --duration 50 --timeout 5 --json \
        --interval 0 > "$WORK/load" 2> "$WORK/load.err" &
    LOAD=$!
    sleep 1
}

# What was asked until now; the last answers are waited for.
end_load() {
    sleep 1
    inside pkill --signal INT --full '^reflector load'
    wait "$LOAD" || fail "the load ends with $?" "$WORK/load.err"
}

# judge_load WHAT: nothing is lost, nothing comes from a wrong address or twice.
judge_load() {
    jq -r --arg what "$1" 'select(.type == "summary") | "\($what): \(.sent) sent, \(.lost) lost,"
        + " \(.wrong_source.total) from a wrong source, longest round trip"
        + " \(.rtt_us.max / 1000 | round) ms"' "$WORK/load"
    jq -es 'map(select(.type == "summary")) | length == 1 and (last | .sent > 0 and .lost == 0
        and .wrong_source.total == 0 and .duplicated == 0)' "$WORK/load" > "$WORK/judged" ||
        fail "$1: not all as it should be" "$WORK/load"
}

# A process that is stopped gives no sign of life.
watch() {
    local second restarts
    inside mkdir -p /run/systemd/system/reflector.service.d
    printf '[Service]\nWatchdogSec=2s\n' | timeout 10 nsenter --target "$LEADER" --mount \
        tee /run/systemd/system/reflector.service.d/watchdog.conf > "$WORK/watchdog"
    inside systemctl daemon-reload
    restart
    # One that lives is left alone for longer than that.
    sleep 5
    expect "restarts of a service that lives" 0 "$(restarts)"
    inside kill -STOP "$(main_pid)"
    for ((second = 0; second < PATIENCE_S; second++)); do
        sleep 1
        restarts=$(restarts)
        ((restarts == 0)) || break
    done
    expect "restarts of a service that is stuck" 1 "$restarts"
    inside journalctl --output cat --unit reflector.service | grep -m 1 'Watchdog timeout' ||
        fail "the journal does not say that it was the watchdog"
    inside reflector healthcheck "127.0.0.2:$PORT" --timeout 10s > "$WORK/asked" 2>&1 ||
        fail "no answer after the watchdog" "$WORK/asked"
}

restarts() {
    inside systemctl show --property NRestarts --value reflector.service
}

stop_under_load() {
    begin_load
    inside systemctl stop reflector.socket reflector.service
    expect "the result" success \
        "$(inside systemctl show --property Result --value reflector.service)"
    expect "the exit code" 0 \
        "$(inside systemctl show --property ExecMainStatus --value reflector.service)"
    inside pkill --signal INT --full '^reflector load'
    # Whatever it has lost by now: nobody is there.
    wait "$LOAD" || true
    inside journalctl --output cat --unit reflector.service | grep '"type":"summary"' |
        tail -n 1 > "$WORK/summary"
    jq -r '"stopped: \(.received) received, \(.replied) answered, \(.unaccounted) unaccounted"' \
        "$WORK/summary"
    jq -e '.received > 0 and .received == .replied and .unaccounted == 0' "$WORK/summary" \
        > "$WORK/judged" || fail "what was received was not all answered" "$WORK/summary"
}

remove() {
    inside systemctl start reflector.socket reflector.service
    inside dpkg --remove udp-reflector > "$WORK/dpkg" 2>&1 || fail "dpkg --remove" "$WORK/dpkg"
    inside test -e /etc/default/reflector || fail "a removal takes the configuration away"
    ! inside pgrep --exact reflector || fail "a removal leaves the service running"
    ! inside grep -q ":$(printf %04X "$PORT") " /proc/net/udp || fail "a removal leaves the sockets"
    inside dpkg --purge udp-reflector > "$WORK/dpkg" 2>&1 || fail "dpkg --purge" "$WORK/dpkg"
    snapshot > "$WORK/after"
    diff "$WORK/before" "$WORK/after" > "$WORK/left" || fail "a purge leaves" "$WORK/left"
    echo "purged: nothing is left"
}

# Every file, but for those that any installation or any minute changes.
snapshot() {
    inside find / -xdev '(' -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /dev \
        -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/tmp ')' -prune \
        -o -print | sort
}

# expect WHAT EXPECTED SEEN
expect() {
    [[ $2 == "$3" ]] || fail "$1: expected $2, seen $3"
}

main
