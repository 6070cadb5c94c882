#!/usr/bin/env bash
# Feeds what is read as bytes from outside (fuzz/targets) with what libFuzzer makes of the committed
# corpus (fuzz/corpus), for a while, and says how often each was executed.
#
#   scripts/fuzz.sh [--seconds N] [TARGET…]    each target for N seconds [default: 8], all of them
#
# Builds with the compiler at hand and the flags that cargo-fuzz passes, into a folder of its own;
# needs a C++ compiler, for libFuzzer, and neither clang nor nightly. What is found is in
# target/fuzz/artifacts: it becomes a unit test, and a seed in fuzz/corpus/TARGET.
#
# Exit codes: 0 nothing found; 1 something; 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly ALL=(control echo_info histogram list probe recvmsg_out report values)
# Far more than one input takes, on a busy machine too, and than reading any file may.
readonly TIMEOUT_S=60 RSS_MIB=1024
readonly FOLDER=target/fuzz

main() {
    local seconds=8 targets=()
    while (($#)); do
        case $1 in
            --seconds) seconds=${2:?} && shift ;;
            -*) usage ;;
            *) targets+=("$1") ;;
        esac
        shift
    done
    [[ $seconds =~ ^[0-9]+$ ]] || usage
    ((${#targets[@]})) || targets=("${ALL[@]}")
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    build "$triple"
    local target failed=()
    for target in "${targets[@]}"; do
        run "$FOLDER/$triple/release/$target" "$target" "$seconds" || failed+=("$target")
    done
    if ((${#failed[@]})); then
        echo "FAILED: ${failed[*]}; what did it is in $FOLDER/artifacts"
        exit 1
    fi
}

usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

build() {
    local flags=(
        --cfg fuzzing
        -Cpasses=sancov-module
        -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares
    )
    # With --target the flags do not go to build scripts and macros.
    RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$FOLDER timeout --kill-after 10 900 \
        cargo build --quiet --release --locked --target "$1" --manifest-path fuzz/Cargo.toml
}

# run PROGRAM TARGET SECONDS: first the seeds, then what is made of them; what is new goes to a
# folder that is not committed.
run() {
    local program=$1 target=$2 seconds=$3
    local found=$FOLDER/found/$target artifacts=$FOLDER/artifacts/$target log
    mkdir -p "$found" "$artifacts"
    log=$FOLDER/$target.log
    local dictionary=()
    [[ ! -f fuzz/$target.dict ]] || dictionary=(-dict="fuzz/$target.dict")
    if ! timeout --kill-after 10 $((seconds + 120)) "$program" "$found" "fuzz/corpus/$target" \
        "${dictionary[@]}" -artifact_prefix="$artifacts/" -max_total_time="$seconds" \
        -timeout="$TIMEOUT_S" -rss_limit_mb="$RSS_MIB" -malloc_limit_mb="$RSS_MIB" \
        -max_len=8192 -print_final_stats=1 > "$log" 2>&1; then
        tail -n 40 "$log"
        return 1
    fi
    awk -v target="$target" '
        /stat::number_of_executed_units/ { executions = $2 }
        /stat::peak_rss_mb/ { rss = $2 }
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
        END { printf "%-12s %10.0f executions %6.0f edges %4.0f MiB\n", target, executions,
              edges, rss }
    ' "$log"
}

main "$@"
