#!/usr/bin/env bash
# Runs the tests of the unsafe rooms under a checker of memory: the codecs of addresses and control
# messages, the buffers, recvmmsg and sendmmsg, the ring's buffers against its fake.
#
#   scripts/sanitize.sh
#
# By Miri where there is a nightly toolchain that has it, or rustup can add it: it sees aliasing and
# uninitialised bytes as well, but makes no socket and no io_uring, so that it gets the tests that
# need none. And by AddressSanitizer on the compiler at hand, for all unit tests of the heart: it
# sees what is read or written outside an allocation, after its end, or never freed. What it cannot
# see is one buffer running into the next: they lie in one mapping.
#
# Builds into folders of its own. Four minutes the first time, half a minute after that.
# Exit codes: 0 nothing found; 1 something; 124 not done within PATIENCE_S.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly PATIENCE_S=600
readonly HEART=(--package reflector --no-default-features)

main() {
    if has_miri; then
        echo "Miri: $(cargo +nightly miri --version)"
        (run_miri)
    else
        echo "SKIPPED, MIRI: there is no nightly toolchain that has it"
    fi
    echo "AddressSanitizer: $(rustc --version)"
    (run_address_sanitizer)
}

# Whether there is Miri, after rustup has been asked for it. A toolchain may have the command and
# lack the component; only running it tells.
has_miri() {
    cargo +nightly miri --version > /dev/null 2>&1 && return
    timeout 120 rustup component add --toolchain nightly miri rust-src > /dev/null 2>&1 || true
    cargo +nightly miri --version > /dev/null 2>&1
}

run_miri() {
    # Tests map memory and read the clock, which an isolated program may not.
    export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-strict-provenance"
    export CARGO_TARGET_DIR=target/miri
    bounded cargo +nightly miri test --locked --package reflector-udp --lib -- addr:: cmsg:: memory::
    bounded cargo +nightly miri test --locked "${HEART[@]}" --lib -- \
        engine::uring::buffers:: engine::uring::receive:: datagram::
}

run_address_sanitizer() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    # The flag is unstable; RUSTC_BOOTSTRAP makes the stable compiler take it. With --target it does
    # not go to build scripts and macros.
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/sanitize
    # All that a report shows.
    export CARGO_PROFILE_DEV_DEBUG=line-tables-only
    bounded cargo test --locked --target "$triple" --package reflector-udp "${HEART[@]}" --lib
}

bounded() {
    timeout --kill-after 10 "$PATIENCE_S" "$@"
}

main
