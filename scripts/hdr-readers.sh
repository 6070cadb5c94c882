#!/usr/bin/env bash
# Whether other languages' readers of HdrHistogram logs read ours, and find in them what
# `reflector report` finds: count, least, median, 99th percentile, greatest, and when it began.
#
#   scripts/hdr-readers.sh
#
# Java's is Debian's libhdrhistogram-java (with a JDK), Python's is PyPI's hdrhistogram, which is
# installed into a folder that goes with the script, and C's is in crates.io's hdrhistogram-c, of
# which only the C is built (needs gcc and zlib1g-dev). REFLECTOR_BIN names another program than
# target/release/reflector. Takes fifteen seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

REFLECTOR=$(realpath "${REFLECTOR_BIN:-target/release/reflector}")
unset REFLECTOR_BIN
JAR=${HDRHISTOGRAM_JAR:-/usr/share/java/hdrhistogram.jar}
READERS=$(realpath scripts/hdr-readers)
WORK=$(mktemp -d)
readonly REFLECTOR JAR READERS WORK
trap 'kill $(jobs -p) 2> "$WORK/kill" || true; rm -rf "$WORK"' EXIT

main() {
    timeout 120 python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --root-user-action=ignore --target "$WORK/python" hdrhistogram==0.10.8
    build_c
    make_logs
    local log
    for log in load serve; do
        reflector_report "$WORK/$log.hlog" > "$WORK/$log.ours"
        compare "$log" Java timeout 60 java -cp "$JAR" "$READERS/Read.java" "$WORK/$log.hlog"
        compare "$log" Python env PYTHONPATH="$WORK/python" timeout 60 \
            python3 "$READERS/read.py" "$WORK/$log.hlog"
        compare "$log" C timeout 60 "$WORK/read" "$WORK/$log.hlog"
    done
}

# HdrHistogram_c as the crate carries it, with the reader of read.c.
build_c() {
    local crate=$WORK/crate
    mkdir -p "$crate/src"
    : > "$crate/src/lib.rs"
    printf '[package]\nname = "c"\n[dependencies]\nhdrhistogram-c = "=0.1.17"\n[workspace]\n' \
        > "$crate/Cargo.toml"
    (cd "$crate" && timeout 120 cargo vendor --quiet vendor > "$WORK/vendor.out")
    local c=$crate/vendor/hdrhistogram-c/HdrHistogram_c/src
    gcc -w -O2 -D_GNU_SOURCE -I "$c" -o "$WORK/read" "$READERS/read.c" "$c/hdr_histogram.c" \
        "$c/hdr_histogram_log.c" "$c/hdr_encoding.c" "$c/hdr_time.c" -lz -lm
}

# A thousand datagrams, so that a percentile is the same value whichever way its rank is rounded.
make_logs() {
    "$REFLECTOR" --listen 127.0.0.1:9007 --cores 1 --duration 5 --hdr "$WORK/serve.hlog" \
        > "$WORK/serve.out" &
    local tries
    for ((tries = 0; tries < 100; tries++)); do
        ! grep -q '^ready' "$WORK/serve.out" || break
        sleep 0.05
    done
    "$REFLECTOR" load 127.0.0.1:9007 --rate 500 --count 1000 --interval 500ms \
        --hdr "$WORK/load.hlog" > "$WORK/load.out"
    wait
}

# The same in nanoseconds, as `reflector report` has it.
reflector_report() {
    local start
    start=$(grep -v '^[#"]' "$1" | head -n 1 | cut -d , -f 1)
    "$REFLECTOR" report --json "$1" |
        jq -r --argjson start "$start" '.runs[0].times_us |
            [.count, ([.min, .p50, .p99, .max][] * 1000 | round), ($start | round)] |
            map(tostring) | join(" ")'
}

# compare LOG LANGUAGE COMMAND…: fails where COMMAND does not print what `report` does.
compare() {
    local log=$1 language=$2 theirs ours
    shift 2
    theirs=$("$@")
    ours=$(cat "$WORK/$log.ours")
    if [[ $theirs != "$ours" ]]; then
        echo "$language reads of the log of $log: $theirs, and report: $ours" >&2
        return 1
    fi
    echo "$language reads the log of $log as report does: $ours"
}

main "$@"
