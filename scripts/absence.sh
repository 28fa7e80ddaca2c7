#!/usr/bin/env bash
# MongoDB is away for long while records keep coming: is memory flat, how far does the lake get without it, and how
# soon is everything in both?
#
#   scripts/absence.sh [--minutes N] [--rate R]     default 60 minutes at 1000 records per second
#
#   a stack of its own: temporary folder, free ports, taken down at the end
#     → affluent produce sales --rate R    beside    affluent run
#     → mongod stopped for N minutes; every 10 s a sample: memory, processor time, age of the lake's newest record
#     → mongod started; until both sinks are at most 5 seconds behind
#     → producer and job end, affluent verify
#
# Prints the figures. Exit 0: recovered unaided, the job ended well, verify holds.
#   AFFLUENT_BIN      a binary to use instead of building one
#   CARGO_TARGET_DIR  default $AFFLUENT_CACHE/target
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/tools.sh
minutes=60 rate=1000
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=${2:?--minutes N}; shift 2 ;;
        --rate) rate=${2:?--rate R}; shift 2 ;;
        *) sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
done

need_python
need_affluent

work=$(mktemp -d "${TMPDIR:-/tmp}/affluent-absence.XXXXXX")
run='' load=''
finish() {
    # By pid, and only what was started here.
    for pid in $run $load; do kill "$pid" 2>/dev/null || true; done
    scripts/stack.sh wipe >&2 || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT http < <(free_ports 4)
export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
export AFFLUENT_STACK_DIR=$work/stack AFFLUENT_STACK_MODE=native
scripts/stack.sh up
eval "$(scripts/stack.sh env)"
export AFFLUENT__LAKE__ROOT=$work/lake AFFLUENT__HTTP__LISTEN=127.0.0.1:$http
cat >"$work/affluent.toml" <<'TOML'
job = "absence"
[lake]
commit_interval = "5s"
[[streams]]
preset = "sales"
TOML
affluent() { "$affluent" --config "$work/affluent.toml" "$@"; }

# Event times of now: one date, so that the lake's files are those of a steady day.
"$affluent" --config "$work/affluent.toml" produce sales --rate "$rate" 2>"$work/produce.log" &
load=$!
until affluent status >/dev/null 2>&1; do sleep 1; done
"$affluent" --config "$work/affluent.toml" run 2>"$work/run.log" &
run=$!
job() { python3 scripts/absence.py "$@" --address "127.0.0.1:$http" --lake "$work/lake/sales" --pid "$run" --rate "$rate"; }

job until-current
scripts/stack.sh down mongo
job sample --seconds $((minutes * 60))
scripts/stack.sh up mongo
job until-current

kill "$load" && wait "$load" && load=''
kill "$run"
wait "$run" || { tail -n 20 "$work/run.log" >&2; exit 1; }
run=''
# What the producer sent after the job's last read.
affluent run --once 2>>"$work/run.log"
affluent verify
