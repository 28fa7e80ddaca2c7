#!/usr/bin/env bash
# Where the CPU goes, in CPU-seconds of our process per million records.
#
#   scripts/profile.sh [mongo|lake|both]      default both
#
#   producer ─▶ Kafka (a topic loaded beforehand, producer stopped) ─▶ affluent run --once under `perf record`
#
# Needs the stack (scripts/stack.sh up) and Linux `perf`. Samples are attributed to a stage by the functions on
# their stack, so time in the allocator or in memcpy counts for the stage that called it.
#
#   AFFLUENT_BIN             the binary     default: built in release from this clone
#   AFFLUENT_PROFILE_COUNT   records        default 1000000
#   AFFLUENT_PROFILE_DIR     scratch        default a temporary folder, deleted at the end
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/tools.sh
sinks=${1:-both}
count=${AFFLUENT_PROFILE_COUNT:-1000000}
work=${AFFLUENT_PROFILE_DIR:-$(mktemp -d)}
[ -n "${AFFLUENT_PROFILE_DIR:-}" ] || trap 'rm -rf "$work"' EXIT
command -v perf >/dev/null || { echo "perf is missing: apt-get install linux-perf" >&2; exit 3; }
eval "$(scripts/stack.sh env)"

need_affluent
name=profile-$(date +%s)
export AFFLUENT__JOB=$name AFFLUENT__KAFKA__GROUP=$name AFFLUENT__MONGO__DATABASE=$name AFFLUENT__LAKE__ROOT=$work/lake
export AFFLUENT__HTTP__ENABLED=false
cat >"$work/affluent.toml" <<TOML
[[streams]]
preset = "sales"
topic = "$name"
TOML
case $sinks in
    mongo) export AFFLUENT__LAKE__ENABLED=false ;;
    lake) export AFFLUENT__MONGO__ENABLED=false ;;
    both) ;;
    *) echo "profile.sh: mongo, lake or both" >&2; exit 2 ;;
esac

"$affluent" --config "$work/affluent.toml" produce sales --topic "$name" --count "$count" --seed 7 >&2
# Frame pointers are not compiled in; cpu-clock works in virtual machines without hardware counters.
perf record --quiet -e cpu-clock -F 499 --call-graph dwarf,16384 -o "$work/perf.data" -- \
    /usr/bin/time -v -o "$work/time" "$affluent" --config "$work/affluent.toml" run --once
perf script -i "$work/perf.data" --no-inline -F comm,pid,tid,time,ip,sym 2>/dev/null |
    python3 scripts/profile.py "$count" "$work/time"
