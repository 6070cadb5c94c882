#!/usr/bin/env bash
# Builds the static programs that deploy/Dockerfile copies, for this machine and for aarch64, and
# checks the images:
#
#   scripts/image.sh            builds target/image/amd64/reflector and target/image/arm64/reflector
#   scripts/image.sh --check    has a real engine run the image, too
#
# --check shows that each has less than 6 MB; that the engine calls the image healthy while the
# reflector answers, and unhealthy when it listens elsewhere or is stopped; that of the checkout
# only the programs are sent to the engine; that one Dockerfile makes an image of both machines
# (buildah); and that the program for aarch64 answers datagrams, on an emulator of its CPU
# (qemu-aarch64-static) which knows no io_uring.
#
# Takes some minutes to build, then a minute. Needs cargo, what scripts/cross-check.sh --build
# needs, and to check docker, buildah, qemu-user-static, jq and root. Where no engine answers, its
# part is SKIPPED, unless REFLECTOR_REQUIRE contains "docker".
#
# Exit codes: 0 all as expected, or skipped; 1 not.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUN=reflector-image-$$
readonly IMAGES=target/image
# More than anything here takes on a busy machine; nothing waits for longer.
readonly PATIENCE_S=60
WORK=$(mktemp -d)
readonly WORK
EMULATED=''
failures=0

main() {
    trap clean_up EXIT
    # A command that runs is waited for: each is short, or bounded.
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    build
    [[ ${1:-} == --check ]] || return 0
    check_sizes
    check_other_machine
    check_manifest
    if timeout 10 docker version --format '{{.Server.Version}}' > "$WORK/engine" 2>&1; then
        check_health
    else
        echo "SKIPPED, HEALTH: the Docker engine does not answer"
        ! [[ ",${REFLECTOR_REQUIRE:-}," == *,docker,* ]] || exit 1
    fi
    ((failures == 0)) || exit 1
}

build() {
    scripts/static.sh "$IMAGES/amd64"
    scripts/cross-check.sh --build aarch64-unknown-linux-gnu
    mkdir -p "$IMAGES/arm64"
    aarch64-linux-gnu-strip --strip-all -o "$IMAGES/arm64/reflector" \
        target/cross/build/aarch64-unknown-linux-gnu/image/reflector
    ls -l "$IMAGES"/*/reflector
}

check_sizes() {
    local machine
    for machine in amd64 arm64; do
        observe "$machine" "$(stat --format %s "$IMAGES/$machine/reflector") bytes"
        expect '^[1-5][0-9]\{6\} bytes'
    done
}

# On an emulator: what answers is the code of the other machine, through this kernel.
check_other_machine() {
    local program=(qemu-aarch64-static "$IMAGES/arm64/reflector") port
    observe "arm64, version" "$("${program[@]}" --version)"
    expect '^reflector [0-9.]\+'
    # The emulator has neither io_uring nor what the sandbox is made of.
    "${program[@]}" --listen 127.0.0.1:0 --engine mmsg --no-sandbox --json --interval 0 \
        --duration 60 > "$WORK/emulated" 2> "$WORK/emulated.err" &
    EMULATED=$!
    wait_for "$WORK/emulated" '"type":"ready"'
    port=$(grep -om1 '127\.0\.0\.1:[0-9]*' "$WORK/emulated" | head -n 1)
    # Singles and trains, judged by the program of this machine.
    local burst
    for burst in 1 16; do
        bounded "$IMAGES/amd64/reflector" load "$port" --rate 500 --burst "$burst" --duration 2s \
            --timeout 5s --json --interval 0 > "$WORK/load" || true
        observe "arm64, bursts of $burst" "$(jq -r 'select(.type == "summary") |
            "\(.sent) asked, \(.lost) lost, \(.corrupt) corrupt, \(.wrong_source.total) wrong"' \
            "$WORK/load")"
        expect '^[0-9]\{3,\} asked, 0 lost, 0 corrupt, 0 wrong'
    done
    kill -TERM "$EMULATED"
    wait "$EMULATED" || true
    EMULATED=''
}

# One Dockerfile, one name, two machines.
check_manifest() {
    local store=(buildah --root "$WORK/store" --runroot "$WORK/run" --storage-driver vfs)
    bounded "${store[@]}" build --platform linux/amd64,linux/arm64 --manifest "$RUN" \
        --format docker --file deploy/Dockerfile . > "$WORK/build" 2>&1 || {
        cat "$WORK/build" >&2
        exit 1
    }
    bounded "${store[@]}" manifest inspect "$RUN" > "$WORK/manifest"
    observe "manifest" "$(jq -r '[.manifests[].platform | "\(.os)/\(.architecture)"] | sort |
        join(" ")' "$WORK/manifest")"
    expect '^linux/amd64 linux/arm64$'
    bounded "${store[@]}" manifest push --all "$RUN" "oci-archive:$WORK/image.tar" \
        > "$WORK/push" 2>&1
    observe "both, as one OCI archive" "$(stat --format %s "$WORK/image.tar") bytes"
    expect bytes
}

check_health() {
    bounded docker build --label "$RUN" --tag "$RUN" --build-arg TARGETARCH=amd64 \
        --file deploy/Dockerfile . > "$WORK/build" 2>&1 || { cat "$WORK/build" >&2; exit 1; }
    observe "context, engine $(< "$WORK/engine")" \
        "$(grep -o 'Sending build context.*\|transferring context.*' "$WORK/build" | tail -n 1)"
    expect ' [0-9.]*MB'
    observe "image" "$(bounded docker image inspect --format '{{.Size}} bytes, {{.Architecture}}' \
        "$RUN")"
    expect '^[1-5][0-9]\{6\} bytes, amd64'

    begin here
    expect_health healthy "a reflector that answers"
    # In a container that is paused nothing can be asked. What answers is stopped, and not what asks.
    bounded docker kill --signal STOP "$RUN-here" > "$WORK/docker"
    expect_health unhealthy "one that is stopped"
    bounded docker kill --signal CONT "$RUN-here" > "$WORK/docker"
    expect_health healthy "one that goes on"
    begin elsewhere --listen 0.0.0.0:9008
    expect_health unhealthy "one that listens elsewhere"
}

# begin NAME ARGUMENT…: starts the image, which asks itself each second.
begin() {
    NAME=$1
    bounded docker run --detach --name "$RUN-$NAME" --label "$RUN" --read-only --cap-drop ALL \
        --security-opt no-new-privileges --health-interval 1s --health-timeout 1s \
        --health-retries 2 --health-start-period 0s "$RUN" --interval 0 "${@:2}" > "$WORK/docker"
}

# expect_health STATUS WHAT
expect_health() {
    local tenth state=''
    for ((tenth = 0; tenth < 10 * PATIENCE_S; tenth++)); do
        state=$(bounded docker inspect "$RUN-$NAME" |
            jq -r '.[0].State.Health | "\(.Status): \(.Log[-1].Output // "")"' | head -n 1)
        [[ $state != "$1:"* ]] || break
        sleep 0.1
    done
    observe "$2" "$state"
    expect "^$1:"
}

clean_up() {
    # What fails here was not made, or is gone.
    set +e
    {
        [[ -z $EMULATED ]] || kill "$EMULATED"
        bounded docker ps --all --quiet --filter "label=$RUN" |
            xargs -r timeout "$PATIENCE_S" docker rm --force
        bounded docker rmi --force "$RUN"
    } > /dev/null 2>&1
    rm -rf "$WORK"
}

bounded() {
    timeout --kill-after 5 "$PATIENCE_S" "$@"
}

# wait_for FILE PATTERN
wait_for() {
    local tenth
    for ((tenth = 0; tenth < 10 * PATIENCE_S; tenth++)); do
        ! grep -q "$2" "$1" || return 0
        sleep 0.1
    done
    echo "$1 never said $2:" >&2
    cat "$1"* >&2
    exit 1
}

# --- cases ---------------------------------------------------------------------------------------

# The case at hand: of what, and what was seen.
what='' seen=''

observe() {
    what=$1 seen=$2
}

# expect PATTERN: prints the case, and counts it where it is not as expected.
expect() {
    local verdict=right
    if ! grep -q -- "$1" <<< "$seen"; then
        verdict=FAILED
        failures=$((failures + 1))
    fi
    printf '%-34s %-7s %s\n' "$what" "$verdict" "$seen"
}

main "$@"
