#!/usr/bin/env bash
# Draws worlds by seed (a service, a path and a load, with faults or without), has `reflector load`
# judge each without being told anything, and compares what it says with what nft's counters saw.
#
#   scripts/worlds.sh                 a hundred worlds
#   scripts/worlds.sh COUNT SEED      COUNT of them from SEED on; of a failing one its seed is told
#
# Takes about two seconds a world. Needs root or user namespaces, cargo, nft and tc. Ten of them are
# a test of their own (tests/worlds).
set -euo pipefail
cd "$(dirname "$0")/.."

export REFLECTOR_WORLDS=${1:-100} REFLECTOR_WORLD=${2:-1} REFLECTOR_REQUIRE=netns,nft,tc

if (($# > 2)); then
    sed -n '5,6s/^# *//p' "$0" >&2
    exit 2
fi
cargo build --quiet --locked
cargo test --quiet --locked --test worlds -- --nocapture
