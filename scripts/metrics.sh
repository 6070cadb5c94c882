#!/usr/bin/env bash
# Has a real Prometheus scrape a reflector, and asks it whether the counters add up, whether every
# query of the dashboard has an answer, and whether the alert rules fire when they should; another
# one, with native histograms, for a quantile of those.
#
#   scripts/metrics.sh
#
# In a network namespace of its own. Takes twenty seconds after the build. Needs root, curl, jq, and
# prometheus with its promtool (Debian: prometheus); removes what it makes, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

NS=rfl-metrics-$$
WORK=$(mktemp -d)
readonly NS WORK
readonly PROGRAM=${REFLECTOR_BIN:-target/release/reflector}
readonly API=http://127.0.0.1:9090/api/v1
readonly NATIVE_API=http://127.0.0.1:9091/api/v1
pids=()

main() {
    promtool check rules deploy/prometheus/alerts.yml
    promtool test rules deploy/prometheus/alerts-test.yml
    trap clean_up EXIT
    [[ -n ${REFLECTOR_BIN:-} ]] || cargo build --quiet --release --locked --bin reflector
    ip netns add "$NS"
    ip -n "$NS" link set lo up
    cat > "$WORK/prometheus.yml" << 'END'
global: {scrape_interval: 500ms}
scrape_configs:
  - job_name: reflector
    static_configs: [{targets: ["127.0.0.1:9188"]}]
  - job_name: load
    static_configs: [{targets: ["127.0.0.1:9189"]}]
END
    start "$PROGRAM" --listen 127.0.0.1:9007 --listen 127.0.0.1:9008 --cores 2 --interval 0 \
        --metrics 9188
    start_prometheus "$API" data
    start_prometheus "$NATIVE_API" native --enable-feature=native-histograms
    local api
    for api in "$API" "$NATIVE_API"; do
        wait_until "the reflector is up for Prometheus" is_answer_of "$api" 'up{job="reflector"} == 1'
    done
    in_ns "$PROGRAM" load 127.0.0.1:9007 --rate 20k --duration 12 --flows 16 --interval 0 --json \
        --metrics 9189 > "$WORK/load" &
    pids+=($!)
    wait_until "the load is up for Prometheus" is_answer 'reflector_load_sent_datagrams_total > 40000'
    check_load
    check_dashboard
    wait "${pids[-1]}"
    # The last interval that the load was in has been scraped when nothing goes up any more.
    wait_until "all of it has been counted" is_counted
    check "all of it was counted at the listener that was asked" \
        'sum(reflector_received_datagrams_total{listener="127.0.0.1:9008"})' 0
    check "each receive has the number of its buffers" \
        'sum(reflector_received_train_datagrams_sum) - sum(reflector_received_datagrams_total)
        + sum(reflector_batch_buffers_sum) - sum(reflector_received_buffers_total)' 0
    check "what was received has an end" 'sum(reflector_received_datagrams_total)
        - sum(reflector_replied_datagrams_total) - sum(reflector_dropped_datagrams_total)
        - sum(reflector_send_errors_total) - sum(reflector_in_flight_datagrams)' 0
    check "no datagram is unaccounted for" 'reflector_unaccounted_datagrams' 0
    check "each reply has a residence time" \
        'sum(reflector_residence_seconds_count) - sum(reflector_replied_datagrams_total)' 0
    local p99
    p99=$(value 'histogram_quantile(0.99, rate(reflector_residence_seconds_bucket[10s]))')
    awk -v p99="$p99" 'BEGIN { exit !(p99 > 1e-6 && p99 < 1) }' || fail "p99 is $p99 s"
    echo "p99 of the residence time: $p99 s"
    check_native
    check_types
}

# What the generator says of itself, while it runs.
check_load() {
    check "no answer of the load came from a wrong source" \
        'reflector_load_wrong_source_answers_total' 0
    local p99
    p99=$(value 'histogram_quantile(0.99, reflector_load_rtt_seconds_bucket)')
    awk -v p99="$p99" 'BEGIN { exit !(p99 > 1e-6 && p99 < 1) }' || fail "p99 of the load is $p99 s"
    echo "p99 of the load's round trips: $p99 s"
}

# The other Prometheus has the same times as native histograms, which are told as finely.
check_native() {
    local count classic native
    wait_until "the other Prometheus has counted all" is_answer_of "$NATIVE_API" \
        "histogram_count(reflector_residence_seconds) == $(value 'reflector_residence_seconds_count')"
    count=$(value_of "$NATIVE_API" 'histogram_count(reflector_residence_seconds)')
    classic=$(value 'histogram_quantile(0.5, reflector_residence_seconds_bucket)')
    native=$(value_of "$NATIVE_API" 'histogram_quantile(0.5, reflector_residence_seconds)')
    # A classic bucket is 2.5 times as wide as the one before, at most.
    awk -v a="$classic" -v b="$native" 'BEGIN { exit !(a < b * 2.5 && b < a * 2.5) }' ||
        fail "the median is $native s by native buckets, and $classic s by classic ones"
    echo "native histogram of $count times: median $native s, by classic buckets $classic s"
}

# start_prometheus API FOLDER [OPTION…]
start_prometheus() {
    local address=${1#http://}
    start prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/$2" \
        --web.listen-address="${address%/api/v1}" --log.level=error "${@:3}"
}

# Every query of the dashboard has an answer.
check_dashboard() {
    local query count=0
    while read -r query; do
        query=${query//\$__rate_interval/10s}
        query=${query//\$instance/.*}
        is_answer "$query" || fail "no answer to $query"
        count=$((count + 1))
    done < <(jq -r '.panels[].targets[].expr' deploy/grafana/reflector.json)
    echo "the dashboard's $count queries have answers"
}

# Prometheus has understood what each family is: nothing is unknown, nothing without help.
check_types() {
    local families
    families=$(in_ns curl -sf "$API/targets/metadata?match_target=%7Bjob%3D%22reflector%22%7D")
    jq -e '.data | length > 20 and all(.type != "unknown" and .help != "")' <<< "$families" \
        > /dev/null || fail "a family without type or help: $families"
    echo "Prometheus knows type and help of $(jq '.data | length' <<< "$families") families"
}

# check WHAT QUERY VALUE
check() {
    local found
    found=$(value "$2")
    [[ $found == "$3" ]] || fail "$1: $found"
    echo "$1"
}

# The value of the first answer to a query, or nothing.
value() {
    value_of "$API" "$1"
}

# value_of API QUERY
value_of() {
    in_ns curl -sf --get --data-urlencode "query=$2" "$1/query" | jq -r '.data.result[0].value[1]'
}

is_answer() {
    is_answer_of "$API" "$1"
}

# is_answer_of API QUERY
is_answer_of() {
    local found
    found=$(value_of "$1" "$2") && [[ $found != null ]]
}

is_counted() {
    local sent found
    sent=$(jq -s 'map(select(.type == "summary"))[0].sent' "$WORK/load")
    found=$(value 'sum(reflector_received_datagrams_total)')
    [[ $found == "$sent" ]]
}

wait_until() {
    local what=$1 try
    shift
    for ((try = 0; try < 100; try++)); do
        ! "$@" || return 0
        sleep 0.2
    done
    fail "waited in vain until $what"
}

start() {
    ip netns exec "$NS" "$@" > "$WORK/log.${#pids[@]}" 2>&1 &
    pids+=($!)
}

in_ns() {
    ip netns exec "$NS" "$@"
}

fail() {
    echo "FAILED: $*" >&2
    tail -n 5 "$WORK"/log.* >&2
    exit 1
}

clean_up() {
    kill "${pids[@]}" 2> /dev/null || true
    wait
    ip netns del "$NS" 2> /dev/null || true
    rm -rf "$WORK"
}

main "$@"
