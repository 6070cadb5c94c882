# shellcheck shell=bash
# Functions for bats that start UDP reflectors for a test, and ask and watch UDP services. They need
# the program in $UDP_REFLECTOR or in $PATH.
#
#   load reflector
#   teardown() { reflector_stop; }
#
#   @test "the port is forwarded" {
#       reflector_start '[::]:9007' --dual-stack --netns pod
#       reflector_probe ok 10.88.0.1:5353
#       reflector_probe timeout 10.88.0.9:5353 --timeout 300ms
#   }
#
# All but reflector_probe set variables, so they are called as they are, not by `run`.

# How long a program may take to say that it is ready.
_reflector_patience_s=10
_reflector_servers=()
_reflector_pipes=()
_reflector_watch=

# reflector_start [LISTEN [OPTION…]]: the addresses at which it answers are in ${reflector_at[@]}.
reflector_start() {
    local listen=${1:-127.0.0.1:0} out pid pipe
    out=$(mktemp "${BATS_TEST_TMPDIR:-/tmp}/reflector.XXXXXX") || return
    mkfifo "$out.in" || return
    # It ends as well where nobody calls reflector_stop: when this shell does, and stdin with it.
    "${UDP_REFLECTOR:-reflector}" --listen "$listen" --ready-line --until-eof "${@:2}" \
        < "$out.in" > "$out" 2> "$out.log" 3>&- &
    pid=$!
    exec {pipe}> "$out.in" || return
    _reflector_ready "$pid" "$out" || return
    _reflector_servers+=("$pid") _reflector_pipes+=("$pipe")
    read -ra reflector_at < "$out"
    reflector_at=("${reflector_at[@]:1}")
}

# reflector_stop: stops what was started, and the watch; fails if a reflector had failed.
reflector_stop() {
    local pid pipe code=0
    for pid in "${_reflector_servers[@]}"; do
        # One that has ended is not there for a signal, but has an exit code.
        kill -TERM "$pid" 2> /dev/null || true
        wait "$pid" || _reflector_fail "a reflector failed with $?" || code=1
    done
    for pipe in "${_reflector_pipes[@]}"; do
        exec {pipe}>&-
    done
    _reflector_pipes=() _reflector_servers=()
    if [[ -n $_reflector_watch ]]; then
        kill -KILL "$_reflector_watch" 2> /dev/null || true
        wait "$_reflector_watch" 2> /dev/null || true
        _reflector_watch=
    fi
    return "$code"
}

# reflector_probe WORD TARGET [OPTION…]: fails unless the word is ok, timeout, wrong-source, loss,
# refused or unreachable, as said.
reflector_probe() {
    local seen
    seen=$("${UDP_REFLECTOR:-reflector}" probe "${@:2}" 3>&-) || true
    [[ $seen == "$1" ]] || _reflector_fail "probe ${*:2}: expected '$1', seen '$seen'"
}

# reflector_watch TARGET [OPTION…]: watches it until reflector_watched.
reflector_watch() {
    _reflector_out=$(mktemp "${BATS_TEST_TMPDIR:-/tmp}/reflector.XXXXXX") || return
    "${UDP_REFLECTOR:-reflector}" watch "$1" --json "${@:2}" \
        > "$_reflector_out" 2> "$_reflector_out.log" 3>&- < /dev/null &
    _reflector_watch=$!
    _reflector_ready "$_reflector_watch" "$_reflector_out"
}

# reflector_watched: ends the watch. What it summed up, its JSON, is in $reflector_summary; fails
# with 5 where a threshold such as --max-gap was exceeded.
reflector_watched() {
    local pid=$_reflector_watch code=0
    _reflector_watch=
    kill -INT "$pid" 2> /dev/null || true
    wait "$pid" || code=$?
    # shellcheck disable=SC2034 # for the test
    reflector_summary=$(tail -n 1 "$_reflector_out")
    ((code == 0 || code == 5)) || cat "$_reflector_out.log" >&2
    return "$code"
}

# _reflector_ready PID OUT: until there is a whole line.
_reflector_ready() {
    local until=$((SECONDS + _reflector_patience_s))
    until read -r _ < "$2"; do
        if ! kill -0 "$1" 2> /dev/null || ((SECONDS > until)); then
            _reflector_fail "not ready: $(< "$2.log")"
            return
        fi
        sleep 0.01
    done
}

_reflector_fail() {
    echo "$1" >&2
    return 1
}
