#!/usr/bin/env bash
# Installs the program from a clean clone, as README.md says, and has it answer: what is not
# committed, or only there by another's build, is missed here.
#
#   scripts/clone.sh
#
# Of what is committed; shares what is built of other packages with target/clone. Five minutes the
# first time, then two. Needs git and cargo; removes what it makes but for that.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

git clone --quiet --no-local . "$WORK/reflector"
CARGO_TARGET_DIR=$PWD/target/clone cargo install --quiet --locked --path "$WORK/reflector" \
    --root "$WORK/installed"
"$WORK/installed/bin/reflector" --version
ask() {
    until [[ -s $WORK/ready ]]; do sleep 0.01; done
    read -r _ addr < "$WORK/ready"
    "$WORK/installed/bin/reflector" healthcheck "$addr"
    echo "it answers" >&2
}
# Its stdin is the end of a pipe that is closed when it has answered.
ask | "$WORK/installed/bin/reflector" --listen 127.0.0.1:0 --ready-line --until-eof \
    --ready-file "$WORK/ready" --duration 60s
