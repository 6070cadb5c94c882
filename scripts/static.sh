#!/usr/bin/env bash
# Builds the program of the image: one static file, linked with glibc, since musl's sendmmsg(3) is a
# loop of sendmsg(2).
#
#   scripts/static.sh FOLDER [EXAMPLE...]
#
# Writes FOLDER/reflector, and examples of this name beside it. The profile `image` makes small what
# no datagram passes through, or what costs none anything that shows. Takes minutes. Needs cargo of Rust 1.90 or newer, whose linker is LLD,
# strip (Debian: binutils) and libc.a (Debian: libc6-dev).
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FOLDER=${1:?where to}
shift
TRIPLE=$(rustc -vV | sed -n 's/^host: //p')
readonly TRIPLE
# A folder of its own: other flags would throw away what other builds have made.
readonly OUT=target/static/$TRIPLE/image

what=(--bin reflector)
for example; do
    what+=(--example "$example")
done
# For the linker: it packs relocations, and folds functions of the same code.
readonly LINK='-C link-arg=-Wl,-z,pack-relative-relocs -C link-arg=-Wl,--icf=all'
RUSTFLAGS="-C target-feature=+crt-static $LINK" \
    cargo build --quiet --locked --profile image --target "$TRIPLE" --target-dir target/static \
    "${what[@]}"
mkdir -p "$FOLDER"
# With a static libc cargo strips nothing; what it has made it would make anew if it were changed.
for built in "$OUT/reflector" "${@/#/$OUT/examples/}"; do
    strip --strip-all -o "$FOLDER/${built##*/}" "$built"
done
