#!/usr/bin/env bash
# Ownership under churn: two instances stay up, a third joins and leaves all the time, under load. Then equality.
#
#   scripts/churn.sh [--minutes M] [--every S] [--rate N] [--protocol sticky|range|consumer]
#
#   scripts/stack.sh on free ports, in a temporary folder, taken down at the end
#     → topic sales, 8 partitions; affluent produce --rate N, for ever
#     → instances `one` and `two` of affluent run; a third for S seconds, S seconds without it, for M minutes
#     → end of the load, everything caught up, affluent verify
#     → figures: members that joined and left, partitions handed over, lost ownerships, records,
#       the longest time without a commit in each sink
#
# Defaults: 10 minutes, every 5 seconds, 500 records/s, sticky (the client's own choice).
# Exit: 0 equal, 1 not equal or an instance ended badly. Its logs are kept then; the folder is printed.
#
#   AFFLUENT_TEST_KAFKA, AFFLUENT_TEST_MONGO   services to use instead of starting a stack
#   AFFLUENT_BIN                               a binary to use instead of building one
#   CARGO_TARGET_DIR                           default $AFFLUENT_CACHE/target
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$clone"
. scripts/tools.sh

usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

minutes=10 every=5 rate=500 protocol=sticky
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=$2; shift 2 ;;
        --every) every=$2; shift 2 ;;
        --rate) rate=$2; shift 2 ;;
        --protocol) protocol=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
# Sessions short enough that a member killed by mistake would show within the run.
case $protocol in
    sticky) properties=$'"session.timeout.ms" = "6000"\n"heartbeat.interval.ms" = "500"' ;;
    range) properties=$'"session.timeout.ms" = "6000"\n"heartbeat.interval.ms" = "500"\n"partition.assignment.strategy" = "range"' ;;
    consumer) properties='"group.protocol" = "consumer"' ;;
    *) usage >&2; exit 2 ;;
esac

run=$(mktemp -d "${TMPDIR:-/tmp}/affluent-churn.XXXXXX")
declare -A running=()
stack_started=no
end_everything() {
    local code=$? name
    for name in "${!running[@]}"; do kill "${running[$name]}" 2>/dev/null || true; done
    wait || true
    [ $stack_started = no ] || "$clone/scripts/stack.sh" wipe >&2 || true
    if [ $code -eq 0 ]; then rm -rf "$run"; else echo "churn: failed; logs in $run" >&2; fi
}
trap end_everything EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

need_affluent
if [ -z "${AFFLUENT_TEST_KAFKA:-}" ] || [ -z "${AFFLUENT_TEST_MONGO:-}" ]; then
    need_python
    read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT < <(free_ports 3)
    export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
    export AFFLUENT_STACK_DIR=$run/stack
    stack_started=yes
    scripts/stack.sh up
    AFFLUENT_TEST_KAFKA=127.0.0.1:$AFFLUENT_KAFKA_PORT
    AFFLUENT_TEST_MONGO="mongodb://127.0.0.1:$AFFLUENT_MONGO_PORT/?replicaSet=rs0"
fi

name=churn-$(basename "$run" | tr '[:upper:].' '[:lower:]-')
cat >"$run/affluent.toml" <<EOF
job = "$name"
[kafka]
brokers = "$AFFLUENT_TEST_KAFKA"
group = "$name"
[kafka.properties]
$properties
[mongo]
uri = "$AFFLUENT_TEST_MONGO"
database = "$name"
[lake]
root = "$run/lake"
commit_interval = "1s"
idle_interval = "500ms"
[http]
enabled = false
[[streams]]
preset = "sales"
topic = "$name"
EOF
cd "$run"
scripts=$clone/scripts

# start NAME ARGS…: affluent in the background, its log in NAME.log
start() {
    local who=$1
    shift
    "$affluent" "$@" >>"$run/$who.log" 2>&1 &
    running[$who]=$!
}
# stop NAME: gracefully; anything but exit 0 ends the whole run
stop() {
    local who=$1
    kill -TERM "${running[$who]}" 2>/dev/null || true
    wait "${running[$who]}" || { echo "churn: $who ended badly:" >&2; tail -n 20 "$run/$who.log" >&2; return 1; }
    unset "running[$who]"
}

# Event times of one hour: the load is on ownership, not on MongoDB's rollups. They want a count: more than comes.
hour=(--since 2026-01-01T08:00:00Z --until 2026-01-01T09:00:00Z)
"$affluent" produce sales --topic "$name" --partitions 8 --count 100 "${hour[@]}" 2>/dev/null
if [ "$protocol" = consumer ]; then
    "$scripts/stack.sh" kafka-tool kafka.admin.ConfigCommand --bootstrap-server "$AFFLUENT_TEST_KAFKA" \
        --entity-type groups --entity-name "$name" --alter \
        --add-config consumer.session.timeout.ms=6000,consumer.heartbeat.interval.ms=500 >/dev/null
fi
start load produce sales --topic "$name" --rate "$rate" --count 1000000000 "${hour[@]}"
start one run
start two run
joined=0
# Fractions of a minute are welcome: the test runs half of one.
deadline=$(awk "BEGIN { print int($SECONDS + $minutes * 60) }")
while [ $SECONDS -lt "$deadline" ]; do
    start three run
    sleep "$every"
    stop three
    joined=$((joined + 1))
    sleep "$every"
done
stop load
caught_up() { "$affluent" status --json 2>/dev/null | python3 -c '
import json, sys
partitions = [p for s in json.load(sys.stdin)["streams"] for p in s["partitions"]]
sys.exit(not partitions or any(p["lag_records"] != 0 for p in partitions))'; }
patience=$((SECONDS + 180))
until caught_up; do
    [ $SECONDS -lt $patience ] || { echo "churn: not caught up after 180 s" >&2; exit 1; }
    sleep 0.5
done
stop one
stop two
"$affluent" verify
python3 "$scripts/churn_figures.py" "$joined" "$run"/{one,two,three}.log
