#!/usr/bin/env bash
# Lists the public items of the library with their signatures, sorted, one a line: its face.
#
#   scripts/public-api.sh             prints the listing
#   scripts/public-api.sh --check     fails with the difference from api/reflector.txt
#   scripts/public-api.sh --update    writes api/reflector.txt anew
#
# Read from rustdoc's JSON, without the program's features. That JSON is unstable: it is asked of the
# stable compiler by RUSTC_BOOTSTRAP, and another compiler may need another version of the reader in
# scripts/public-api. Takes half a minute the first time. Needs cargo and nothing else.
#
# Exit codes: 0 as committed, or written; 1 not; 2 usage.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly COMMITTED=api/reflector.txt
# What a user of the library must not have to know, whatever is inside.
readonly INNER='\b(libc|io_uring|clap|rustix|tracing_subscriber)::'
readonly TARGET=target/public-api
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

main() {
    case ${1:-} in
        "")
            list
            cat "$WORK/now"
            ;;
        --check)
            list
            check
            ;;
        --update)
            list
            mkdir -p "$(dirname "$COMMITTED")"
            cp "$WORK/now" "$COMMITTED"
            echo "$COMMITTED: $(wc -l < "$COMMITTED") public items"
            ;;
        *)
            sed -n '4,6s/^# *//p' "$0" >&2
            exit 2
            ;;
    esac
}

list() {
    export CARGO_PROFILE_DEV_DEBUG=0
    quietly env RUSTC_BOOTSTRAP=1 cargo rustdoc --locked --package reflector --lib \
        --no-default-features --target-dir "$TARGET" -- -Z unstable-options --output-format json
    quietly cargo build --locked --manifest-path scripts/public-api/Cargo.toml --target-dir "$TARGET"
    "$TARGET/debug/list-public-items" "$TARGET/doc/reflector.json" > "$WORK/now" || {
        echo "the reader in scripts/public-api does not know the JSON of $(rustc --version);" \
            "another version of the crate public-api does" >&2
        exit 1
    }
}

check() {
    local failed=0
    if grep -E "$INNER" "$WORK/now"; then
        echo "these items show a type of another crate, which would tie users to its version"
        failed=1
    fi
    if ! diff --unified=0 "$COMMITTED" "$WORK/now" > "$WORK/diff"; then
        sed -n '3,${/^[-+]/p}' "$WORK/diff"
        echo "the public face is not the one in $COMMITTED. If that is meant, run" \
            "scripts/public-api.sh --update, commit the listing with the change, and name in" \
            "CHANGELOG.md what users of the library have to change"
        failed=1
    fi
    ((failed == 0)) || exit 1
    echo "the $(wc -l < "$COMMITTED") public items are as committed"
}

# quietly COMMAND…: its output only if it fails.
quietly() {
    "$@" > "$WORK/output" 2>&1 || {
        cat "$WORK/output" >&2
        exit 1
    }
}

main "$@"
