#!/usr/bin/env bats

load reflector

teardown() { reflector_stop; }

@test "answers, and stops" {
    reflector_start 127.0.0.1:0 --echo-info
    local at=${reflector_at[0]}
    reflector_probe ok "$at"
    reflector_stop
    reflector_probe refused "$at"
}

@test "listens at each family" {
    reflector_start 127.0.0.1:0 --listen '[::1]:0'
    ((${#reflector_at[@]} == 2))
    reflector_probe ok "${reflector_at[0]}" --connected
    reflector_probe ok "${reflector_at[1]}" --connected
}

@test "two at once" {
    reflector_start
    local first=${reflector_at[0]}
    reflector_start
    reflector_probe ok "$first"
    reflector_probe ok "${reflector_at[0]}"
}

@test "another word than expected fails, and is said" {
    run reflector_probe timeout 127.0.0.1:1
    ((status == 1))
    [[ ${lines[-1]} == "probe 127.0.0.1:1: expected 'timeout', seen 'refused'" ]]
}

@test "the watch sees a restart" {
    reflector_start
    local at=${reflector_at[0]}
    reflector_watch "$at" --max-lost 0
    reflector_probe ok "$at"
    kill -TERM "${_reflector_servers[0]}"
    # Some of what is sent every 10 ms comes to nobody.
    sleep 0.5
    reflector_start "$at"
    reflector_probe ok "$at"
    local code=0
    reflector_watched || code=$?
    ((code == 5))
    jq -e '.gaps > 0 and .unanswered > 0 and .longest_gap.length_ms > 0' <<< "$reflector_summary"
}

@test "the watch sees nothing where nothing is" {
    reflector_start
    reflector_watch "${reflector_at[0]}" --max-gap 5s
    sleep 0.1
    reflector_watched
    jq -e '.sent > 0 and .gaps == 0' <<< "$reflector_summary"
}

@test "one that cannot start fails with what it said" {
    reflector_start 127.0.0.1:0 --no-such-option 2> "$BATS_TEST_TMPDIR/said" && false
    grep "unexpected argument '--no-such-option'" "$BATS_TEST_TMPDIR/said"
}

@test "ends with the shell that started it" {
    bash -c "load() { . '$BATS_TEST_DIRNAME/reflector.bash'; }; load; reflector_start
        echo \"\${reflector_at[0]}\"; kill -KILL \$\$" > "$BATS_TEST_TMPDIR/at" || true
    local at try
    at=$(< "$BATS_TEST_TMPDIR/at")
    [[ -n $at ]]
    for ((try = 0; try < 500; try++)); do
        ! reflector_probe refused "$at" 2> /dev/null || return 0
        sleep 0.02
    done
    false
}
