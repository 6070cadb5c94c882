#!/usr/bin/env bash
# Builds the Debian package: the program, its units for systemd, manual pages, completions.
#
#   scripts/package.sh [FOLDER]         default: target/debian
#
# Prints the path of the package last. By cargo-deb in the version below, which is compiled and
# installed into ${CARGO_HOME:-~/.cargo}/bin where it is not there: some three minutes, once. Has
# lintian judge the package where that is installed. Needs cargo, gzip, git, dpkg-dev and
# liblzma-dev. scripts/systemd.sh installs, runs and purges it.
#
# Exit codes: 0 built; 1 not, or lintian finds an error; 2 cargo-deb is not available.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=3.8.0
readonly BIN=${CARGO_HOME:-$HOME/.cargo}/bin
readonly FOLDER=${1:-target/debian}
readonly PARTS=target/deb
readonly COMMANDS=(load diagnose lab report healthcheck man completions)

main() {
    is_installed || install_it || {
        echo "cargo-deb $VERSION is not available; 'cargo install --locked cargo-deb'" >&2
        exit 2
    }
    cargo build --quiet --locked --release --bin reflector
    make_parts
    # So that one commit makes one package.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
    export SOURCE_DATE_EPOCH
    local package
    mkdir -p "$FOLDER"
    package=$(timeout 300 cargo deb --quiet --no-build --locked --output "$FOLDER")
    if command -v lintian > /dev/null; then
        # Its own user's files; what an override explains is not shown.
        timeout 120 lintian --allow-root --fail-on error "$package"
    fi
    ls -l "$package" >&2
    echo "$package"
}

is_installed() {
    [[ -x $BIN/cargo-deb && $("$BIN/cargo-deb" --version) == "$VERSION" ]]
}

install_it() {
    timeout --kill-after 10 1800 cargo install --quiet --locked "cargo-deb@$VERSION"
}

# What the program itself writes, and a changelog of the package, which tells of no changes of its
# own.
make_parts() {
    local program=target/release/reflector command shell version
    rm -rf "$PARTS"
    mkdir -p "$PARTS/man" "$PARTS/completions"
    "$program" man > "$PARTS/man/reflector.1"
    for command in "${COMMANDS[@]}"; do
        "$program" man "$command" > "$PARTS/man/reflector-$command.1"
    done
    for shell in bash zsh fish; do
        "$program" completions "$shell" > "$PARTS/completions/$shell"
    done
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    cat > "$PARTS/changelog" << END
udp-reflector ($version-1) unstable; urgency=medium

  * The program's own changes are in changelog.gz.

 -- The reflector developers <>  $(git log -1 --format=%cD)
END
}

main
