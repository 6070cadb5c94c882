#!/usr/bin/env bash
# Runs the tests of the unsafe rooms under a checker of memory: the codecs of addresses and control
# messages, the buffers, recvmmsg and sendmmsg, the ring's buffers against its fake.
#
#   scripts/sanitize.sh
#
# By Miri where it is installed (for any toolchain: rustup +nightly component add miri), which sees
# aliasing and uninitialised bytes as well, but makes no socket and no io_uring, so that it gets the
# tests that need none. Otherwise by AddressSanitizer on the compiler at hand, for all unit tests of
# the heart as well: it sees what is read or written outside an allocation, after its end, or never
# freed. What it cannot see is one buffer running into the next: they lie in one mapping.
#
# Builds into a folder of its own. Two minutes the first time, ten seconds after that.
# Exit codes: 0 nothing found; 1 something; 124 not done within PATIENCE_S.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PATIENCE_S=600
readonly HEART=(--package reflector --no-default-features)

main() {
    local toolchain
    if toolchain=$(toolchain_with_miri); then
        echo "Miri: $(cargo "$toolchain" miri --version)"
        # Tests map memory and read the clock, which an isolated program may not.
        export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance"
        export CARGO_TARGET_DIR=target/miri
        bounded cargo "$toolchain" miri test --locked --package reflector-udp --lib -- \
            addr:: cmsg:: memory::
        bounded cargo "$toolchain" miri test --locked "${HEART[@]}" --lib -- \
            engine::uring::buffers::
    else
        local triple
        triple=$(rustc -vV | sed -n 's/^host: //p')
        echo "AddressSanitizer, as there is no Miri: $(rustc --version)"
        # The flag is unstable; RUSTC_BOOTSTRAP makes the stable compiler take it. With --target it
        # does not go to build scripts and macros.
        export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize
        # All that a report shows.
        export CARGO_PROFILE_DEV_DEBUG=line-tables-only
        bounded cargo test --locked --target "$triple" --package reflector-udp "${HEART[@]}" --lib
    fi
}

# The argument for cargo that names a toolchain with Miri; fails where there is none.
toolchain_with_miri() {
    local toolchain
    for toolchain in +nightly +stable; do
        # A toolchain may have the command and lack the component; only running it tells.
        if cargo "$toolchain" miri --version > /dev/null 2>&1; then
            echo "$toolchain"
            return
        fi
    done
    return 1
}

bounded() {
    timeout --kill-after 10 "$PATIENCE_S" "$@"
}

main
