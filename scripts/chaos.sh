#!/usr/bin/env bash
# Faults at random against running instances under load, then the proof that nothing is lost and nothing is there twice.
#
#   scripts/chaos.sh                          12 rounds, about three minutes; the seed is random and printed
#   scripts/chaos.sh --rounds 200             the long run, about an hour
#   scripts/chaos.sh --seed 7                 the faults of that seed again: kinds, victims, moments, durations
#   scripts/chaos.sh --json FILE              the figures as one JSON document too
#       --only KIND        these kinds of fault only (repeatable), as docs/chaos.md names them
#       --rate N           records per second, sales and clicks together      default 1200
#       --verify-every N   verify after so many rounds, while the job runs    default 25
#
#   services: scripts/stack.sh on free ports, in a temporary folder, taken down at the end
#     → scripts/chaos: affluent produce (sales, clicks, 1 % bad) → topics of 3 partitions
#         → affluent run, instances a and b (at times c), each behind its own proxy to mongod
#         → per round one or two of: SIGKILL, SIGSTOP, SIGTERM, broker or mongod killed, restarted or paused,
#           partitions added, the network to mongod cut, silent, slow, or ending in the middle of a reply
#     → affluent verify
#
# Exit 0 only if every round recovered within 120 s, no instance ended by itself, and verify holds; 1 if not, and
# the folder is kept; 2 usage; 3 a service did not start. Variables, besides those of scripts/stack.sh:
#   AFFLUENT_BIN         the binary to run      default: built in release from this clone
#   AFFLUENT_CHAOS_DIR   logs, lake, services   default: a temporary folder, deleted when all went well
#   CARGO_TARGET_DIR     as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in
    *' -h '* | *' --help '*) sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
esac
. "$clone/scripts/tools.sh"
exec </dev/null

need_affluent
need_python
python=$("$clone/scripts/python.sh" stack)

if [ -n "${AFFLUENT_CHAOS_DIR:-}" ]; then
    keep=yes
    # A former run's records would be this one's.
    [ ! -e "$AFFLUENT_CHAOS_DIR" ] || { echo "chaos.sh: $AFFLUENT_CHAOS_DIR exists; delete it or name another" >&2; exit 2; }
    mkdir -p "$AFFLUENT_CHAOS_DIR"
    work=$(cd "$AFFLUENT_CHAOS_DIR" && pwd)
else
    keep=no
    work=$(mktemp -d "${TMPDIR:-/tmp}/affluent-chaos.XXXXXX")
fi
# A build in the meantime must not change what is being judged.
cp "$affluent" "$work/affluent"
read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT < <(free_ports 3)
export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
export AFFLUENT_STACK_DIR=$work/stack
# Signals go to processes of ours: a container's would be another's.
export AFFLUENT_STACK_MODE=native
# Environment beats the file; the file below is to be all that counts.
for name in "${!AFFLUENT__@}"; do unset "$name"; done

player=
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local code=$?
    trap - EXIT
    if [ -n "$player" ] && kill -TERM "$player" 2>/dev/null; then
        # It ends its instances itself; whatever it leaves is in its process group.
        for _ in {1..100}; do kill -0 "$player" 2>/dev/null || break; sleep 0.1; done
    fi
    [ -z "$player" ] || kill -KILL -- "-$player" 2>/dev/null || true
    "$clone/scripts/stack.sh" down --kill >&2 || true
    if [ "$code" = 1 ] || [ "$keep" = yes ]; then
        echo "chaos: logs, lake and the services' data are in $work" >&2
    else
        rm -rf "$work"
    fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$clone/scripts/stack.sh" up

cat >"$work/affluent.toml" <<TOML
job = "chaos"
[kafka]
brokers = "127.0.0.1:$AFFLUENT_KAFKA_PORT"
group = "chaos"
[kafka.properties]
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "500"
# New partitions are found when the topic is looked at again: every five minutes by default.
"topic.metadata.refresh.interval.ms" = "3000"
[mongo]
uri = "mongodb://127.0.0.1:$AFFLUENT_MONGO_PORT/?replicaSet=rs0"
database = "chaos"
flush_interval = "300ms"
[lake]
root = "$work/lake"
commit_interval = "1500ms"
idle_interval = "1s"
[[streams]]
preset = "sales"
partition_by = ["date", "channel"]
[[streams]]
preset = "clicks"
partition_by = ["date"]
TOML

# A process group of its own, so that nothing it started can be left behind.
set -m
"$python" "$clone/scripts/chaos" "$@" --affluent "$work/affluent" --config "$work/affluent.toml" --work "$work" \
    --stack "$clone/scripts/stack.sh" --kafka-port "$AFFLUENT_KAFKA_PORT" --mongo-port "$AFFLUENT_MONGO_PORT" &
player=$!
set +m
wait "$player" && code=0 || code=$?
exit "$code"
