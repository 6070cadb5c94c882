#!/usr/bin/env bash
# Compiles the program that answers in the kernel, and compares it with the object that is shipped.
#
#   scripts/bpf.sh --check     compiles it, compares the objects, has the kernel verify it
#   scripts/bpf.sh --update    compiles it into crates/accelerate/bpf/reflect.o
#   scripts/bpf.sh --frames [COUNT [SEED]]
#                              compares the shipped one with what sockets answer, frame by frame
#
# --check compares a hundred thousand random and mutated frames, --frames ten million unless COUNT
# says otherwise, by the seed of the clock, which it prints.
#
# Nobody who builds the reflector needs this: the object is in the tree. It is compiled by clang in
# the version below, of Debian 12, and compared byte by byte with what is committed, so that the
# source is what runs. How many instructions there are is in crates/accelerate/bpf/instructions.txt;
# a fifth more than that fails.
#
# Needs clang-19, llvm-19, libbpf-dev and linux-libc-dev (installed where they are missing, by
# apt-get); --check needs root as well, and fails without; --frames needs root and cargo alone.
#
# Exit codes: 0 as committed, or written; 1 not; 2 usage, or no compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VERSION=19.1.7
readonly FOLDER=crates/accelerate/bpf
readonly OBJECT=$FOLDER/reflect.o COUNT=$FOLDER/instructions.txt
WORK=$(mktemp -d)
readonly WORK
trap 'rm -rf "$WORK"' EXIT

main() {
    case ${1:-} in
        --check)
            compile
            compare
            count
            verify
            ;;
        --update)
            compile
            cp "$WORK/reflect.o" "$OBJECT"
            instructions "$OBJECT" | wc -l > "$COUNT"
            echo "$(cat "$COUNT") instructions"
            ;;
        --frames)
            frames "${2:-10000000}" "${3:-$(date +%s)}"
            ;;
        *)
            sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
            exit 2
            ;;
    esac
}

compile() {
    local found
    command -v clang-19 > /dev/null || install_it
    found=$(clang-19 --version 2> /dev/null | sed -n '1s/.*version \([0-9.]*\).*/\1/p')
    if [[ $found != "$VERSION" ]]; then
        echo "clang $VERSION is needed, and here is ${found:-none}" >&2
        exit 2
    fi
    # Paths of this machine are not to be seen in what is shipped.
    (cd "$FOLDER" && clang-19 -O2 -g -Wall -Wextra -Werror -target bpf -mcpu=v3 \
        -ffile-prefix-map="$PWD"=. -I"/usr/include/$(uname -m)-linux-gnu" \
        -c reflect.c -o "$WORK/reflect.o")
    # Debugging information goes, BTF stays: the loader reads the types of maps there.
    llvm-strip-19 -g "$WORK/reflect.o"
}

install_it() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        clang-19 llvm-19 libbpf-dev linux-libc-dev > /dev/null
}

# instructions OBJECT: one a line.
instructions() {
    llvm-objdump-19 --disassemble --no-show-raw-insn --reloc "$1" | sed '1,/^Disassembly/d' |
        grep -E '^ +[0-9a-f]+:'
}

compare() {
    cmp "$OBJECT" "$WORK/reflect.o" || {
        # Where the instructions are the same, it is a map, a type, a relocation, or lines.
        diff <(instructions "$OBJECT") <(instructions "$WORK/reflect.o") | head -n 20 || true
        echo "$OBJECT is not what its source says; scripts/bpf.sh --update writes it anew" >&2
        exit 1
    }
    echo "$OBJECT is what clang $VERSION makes of its source"
}

count() {
    local now committed
    now=$(instructions "$WORK/reflect.o" | wc -l)
    committed=$(cat "$COUNT")
    if ((now * 5 > committed * 6)); then
        echo "$now instructions, where $COUNT says $committed" >&2
        exit 1
    fi
    echo "$now instructions, $committed committed"
}

# The tests load the program, which the kernel verifies, with all rights and with no more than are
# needed, when it is stricter, and run it; they may not be skipped here.
verify() {
    REFLECTOR_REQUIRE=netns,bpf timeout 900 \
        cargo test --quiet --locked --package reflector --test accelerate -- differential rights
}

# An optimised build, since most of the time is that of what it is compared with.
frames() {
    [[ $1 =~ ^[0-9]+$ && $2 =~ ^[0-9]+$ ]] || { echo "a number of frames, and a seed" >&2; exit 2; }
    echo "$1 frames by the seed $2"
    REFLECTOR_REQUIRE=netns,bpf REFLECTOR_FRAMES=$1 REFLECTOR_SEED=$2 \
        cargo test --quiet --release --locked --package reflector --test accelerate \
        -- differential --nocapture
}

main "$@"
