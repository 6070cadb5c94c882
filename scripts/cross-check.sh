#!/usr/bin/env bash
# Type-checks the workspace for targets other than this machine's, or builds the program for them.
#
#   scripts/cross-check.sh [TARGET…]             default: aarch64-unknown-linux-gnu
#   scripts/cross-check.sh --build [TARGET…]     as for the image: target/cross/build/TARGET/image
#
# musl is none of them: its msghdr has other integer types, and its sendmmsg(3) calls sendmsg(2) for
# each message (src/network/sendmmsg.c of musl), so that a batch saves nothing. The static image is
# built with glibc.
#
# Where the toolchain has the target's standard library, or rustup can add it, that is used.
# Otherwise Debian's compiler for browsers (rustc-web), which is newer than Debian's own, and the
# source of its standard library (rust-web-src): downloaded into target/cross, unpacked there and
# not installed, and the standard library is checked along with what uses it. Where neither is
# available, it says SKIPPED and why, and succeeds; what does not compile makes it fail. A check
# links nothing, so it needs no cross compiler; a build needs the one that is called after the
# target (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross).
#
# Takes two minutes the first time and a few seconds after that; a build some minutes. Needs cargo;
# for Debian's compiler apt-get, dpkg-deb and 140 MB to download.
#
# Exit codes: 0 all compile, or skipped; 1, 101 not.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CACHE=$PWD/target/cross
# Of all that Debian has, only this one is new enough.
readonly COMPILER=rustc-web LIBRARY=libstd-rust-web-dev SOURCE=rust-web-src

main() {
    local command=(check --workspace) target arguments=()
    if [[ ${1:-} == --build ]]; then
        command=(build --profile image --package reflector --bin reflector)
        export RUSTFLAGS='-C target-feature=+crt-static'
        shift
    fi
    local targets=("$@")
    ((${#targets[@]} > 0)) || targets=(aarch64-unknown-linux-gnu)
    for target in "${targets[@]}"; do
        arguments+=(--target "$target")
        # aarch64-unknown-linux-gnu is aarch64-linux-gnu to GCC.
        export "CARGO_TARGET_$(tr a-z- A-Z_ <<< "$target")_LINKER=${target/-unknown/}-gcc"
    done
    export CARGO_TARGET_DIR=$CACHE/build
    # No debugger will see what is only checked.
    export CARGO_PROFILE_DEV_DEBUG=0
    has_all "${targets[@]}" || timeout 120 rustup target add "${targets[@]}" > /dev/null 2>&1 || true
    if has_all "${targets[@]}"; then
        echo "the toolchain's own standard libraries: $(rustc --version)"
    else
        mkdir -p "$CACHE"
        find_compiler
        export RUSTC=$CACHE/root/usr/bin/rustc
        export LD_LIBRARY_PATH
        LD_LIBRARY_PATH=$(dirname "$(find "$CACHE/root" -name 'librustc_driver-*.so')")
        export RUSTC_BOOTSTRAP=1
        arguments+=("-Zbuild-std=std,panic_abort")
        echo "Debian's compiler and the source of its standard library: $("$RUSTC" --version)"
    fi
    cargo "${command[0]}" --quiet --locked "${command[@]:1}" "${arguments[@]}"
    echo "${command[0]}s for ${targets[*]}"
}

has_all() {
    local target
    for target in "$@"; do
        compgen -G "$(rustc --print target-libdir --target "$target")/libstd-*.rlib" \
            > /dev/null || return 1
    done
}

# Puts Debian's compiler into the cache, unless that very version is there.
find_compiler() {
    local wanted version minimum packages
    wanted=$(version_of "$COMPILER")
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    [[ -n $wanted ]] || skip "this system's packages have no $COMPILER (apt-get update?)"
    version=${wanted%%[+-]*}
    printf '%s\n' "$minimum" "$version" | sort --version-sort --check=silent ||
        skip "$COMPILER is $version, and Rust $minimum is needed"
    [[ $(cat "$CACHE/version" 2> /dev/null) != "$wanted" ]] || return 0

    packages=("$COMPILER" "$LIBRARY" "$SOURCE")
    packages+=("$(dependency "$LIBRARY" 'libstd-rust-web-[0-9.]*')")
    packages+=("$(dependency "${packages[3]}" 'libllvm[0-9]*')")
    rm -rf "$CACHE/packages" "$CACHE/root"
    mkdir -p "$CACHE/packages"
    (cd "$CACHE/packages" && apt-get download -qq "${packages[@]}") 2> "$CACHE/download" ||
        skip "cannot download ${packages[*]}: $(grep '^E:' "$CACHE/download" | head -n 1)"
    local package
    for package in "$CACHE"/packages/*.deb; do
        dpkg-deb --extract "$package" "$CACHE/root"
    done
    rm -rf "$CACHE/packages"
    echo "$wanted" > "$CACHE/version"
}

version_of() {
    apt-cache policy "$1" 2> /dev/null | sed -n 's/^ *Candidate: *//p' | grep -v '(none)' || true
}

dependency() {
    apt-cache depends "$1" | sed -n "s/^ *Depends: \($2\)$/\1/p" | head -n 1
}

skip() {
    echo "SKIPPED, THE CHECK FOR OTHER TARGETS: $1"
    exit 0
}

main "$@"
