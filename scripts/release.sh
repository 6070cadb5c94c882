#!/usr/bin/env bash
# Builds the program to ship: stripped, with its symbols and line tables in a file apart.
#
#   scripts/release.sh [FOLDER]         default: target/ship
#
# Writes FOLDER/reflector and FOLDER/reflector.debug. The first names the second (.gnu_debuglink), so
# gdb and perf find it in the same folder. Takes minutes. Needs cargo and objcopy (Debian: binutils).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER=${1:-target/ship}

command -v objcopy > /dev/null || {
    echo "there is no objcopy; Debian has it in binutils"
    exit 1
}
# A folder of its own: another profile would build all anew, here and at the next cargo build.
CARGO_PROFILE_RELEASE_STRIP=none cargo build --quiet --locked --release --bin reflector \
    --target-dir target/unstripped
mkdir -p "$FOLDER"
objcopy --only-keep-debug target/unstripped/release/reflector "$FOLDER/reflector.debug"
cd "$FOLDER"
objcopy --strip-all --add-gnu-debuglink=reflector.debug \
    "$OLDPWD/target/unstripped/release/reflector" reflector
ls -l reflector reflector.debug
