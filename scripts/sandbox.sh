#!/usr/bin/env bash
# Compares the system calls that the sandbox leaves with those that are made: has the main cases of
# the tests run by a reflector under strace, prints what is left and nobody calls, and fails where
# somebody calls what is not left.
#
#   scripts/sandbox.sh            the main cases
#   scripts/sandbox.sh --all      all tests of answers, of addresses, and of the program
#
# What is left only with --takeover or --accelerate is compared with what all runs call. What is
# narrowed by its arguments counts as left where the kernel did not refuse it. A test that fails under
# strace is named, and fails nothing here: what was called counts. Takes two minutes after the build.
# Needs root, cargo and strace (Debian: strace); removes what it makes.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$(mktemp -d)
readonly WORK
readonly PROGRAM=$PWD/target/debug/reflector
readonly ALL=("behaviour" "program" "source_address" "accelerate program::")
readonly MAIN=(
    "behaviour answers::" "behaviour drain::" "behaviour lists::" "behaviour route_mtu::"
    "behaviour limits::" "behaviour unanswered::" "behaviour crowds::"
    "program metrics::" "program ends::" "program reports::" "program workers::" "program takeover::"
    "source_address" "accelerate program::"
)

main() {
    local cases=("${MAIN[@]}")
    [[ ${1:-} != --all ]] || cases=("${ALL[@]}")
    trap 'rm -rf "$WORK"' EXIT
    command -v strace > /dev/null || {
        echo "there is no strace (apt-get install strace)"
        exit 1
    }
    cargo build --quiet --locked --bin reflector
    cargo test --quiet --locked --no-run --test behaviour --test program --test source_address \
        --test accelerate
    cargo run --quiet --locked --package reflector-sandbox --example calls > "$WORK/left"
    write_wrapper
    export REFLECTOR_BIN=$WORK/reflector RUST_BACKTRACE=0
    unset REFLECTOR_REQUIRE
    local case test filter
    for case in "${cases[@]}"; do
        read -r test filter <<< "$case"
        timeout 400 cargo test --locked --test "$test" "$filter" -- --test-threads 2 \
            > "$WORK/said" 2>&1 ||
            sed -n 's/^test \(.*\) \.\.\. FAILED$/failed under strace: \1/p' "$WORK/said"
    done
    write_comparison
    compare
}

# A reflector that is traced for as long as it lives, and has the number that its parent knows.
write_wrapper() {
    cat > "$WORK/reflector" << END
#!/bin/sh
case \${1:--} in
    -*) exec strace -D -f -qq -s 0 -o "$WORK/trace.\$\$" "$PROGRAM" "\$@" ;;
    *) exec "$PROGRAM" "\$@" ;;
esac
END
    chmod +x "$WORK/reflector"
}

compare() {
    # The tracer of one that was killed may still write.
    sleep 1
    awk -f "$WORK/compare" "$WORK/left" "$WORK"/trace.*
}

write_comparison() {
    cat > "$WORK/compare" << 'AWK'
# What is left: by whom, name, whether narrowed.
FILENAME ~ /\/left$/ {
    left[$1, $2] = 1
    if (NF > 2) narrowed[$1, $2] = 1
    next
}
FNR == 1 {
    traces++
    split("", filters)
    split("", is_worker)
    entered = 0
}
{ thread = $1; line = $0; sub(/^[0-9]+ +/, "", line) }
line ~ /^--- SIGSYS/ { bad("a worker was ended: " line); next }
line !~ /^[a-z][a-z0-9_]*\(/ { next }
{ name = line; sub(/\(.*/, "", name) }
name == "seccomp" && line ~ /SECCOMP_SET_MODE_FILTER/ { filters[thread]++ }
# Workers are known by filters of their own.
name == "seccomp" && entered && filters[thread] == 2 { is_worker[thread] = 1; confined++; next }
name == "seccomp" && !entered && filters[thread] == 2 { entered = 1; next }
!entered { next }
is_worker[thread] && filters[thread] >= 2 {
    called["worker", name]++
    if (!(("worker", name) in left) && !(("fails", name) in left)) bad("worker: " line)
    next
}
{
    called["others", name]++
    # Where it was not asked for, the kernel has refused it.
    called["takeover", name]++
    if (!(("worker", name) in left) && !(("fails", name) in left) && !(("others", name) in left) &&
        !(("takeover", name) in left))
        bad("others: " line)
    else if ((("worker", name) in narrowed || ("others", name) in narrowed) && line ~ /= -1 EPERM/)
        bad("others, refused for its arguments: " line)
}
function bad(what) { if (!(what in said)) print "NOT LEFT: " what; said[what] = 1; failed = 1 }
END {
    printf "%d runs, %d workers\n", traces, confined
    if (confined == 0) { print "nothing was traced"; exit 1 }
    for (key in left) {
        split(key, part, SUBSEP)
        whose = part[1]; name = part[2]
        if (whose == "fails") continue
        if (!((whose, name) in called)) unused[whose] = unused[whose] " " name
    }
    for (whose in unused) print "left to " whose " and not called:" unused[whose]
    exit failed
}
AWK
}

main "$@"
