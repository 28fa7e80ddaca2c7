#!/usr/bin/env bash
# End-to-end benchmarks: speed, CPU, memory and freshness of affluent, each run proved by `affluent verify`.
#
#   scripts/bench.sh                          the five drains of an hour's sales, three runs each
#   scripts/bench.sh --list                   all workloads
#   scripts/bench.sh freshness --seconds 30   workloads by name or group
#   scripts/bench.sh lake --binary old=PATH --binary new=PATH    two builds, in turn
#   scripts/bench.sh lake mongo-plain both-plain --peers all     beside Kafka Connect and Spark (bench/peers/README.md)
#   scripts/bench.sh --report FILE…           Markdown tables of what runs with --json FILE wrote
#   scripts/bench.sh --help                   every flag, and what each figure means
#
#   affluent produce → Kafka (a topic loaded beforehand, producer stopped) → affluent run --once → MongoDB, lake
#     → affluent verify → one JSON object per run, one table
#
# The services are those of scripts/stack.sh; they are started where they are not up, and left running. Topics and
# databases carry the name of the invocation and are deleted at its end. Exit: 0 all runs verified, 1 a run failed (its
# logs are kept), 2 usage, 3 a service is missing. Variables, besides those of scripts/stack.sh:
#   AFFLUENT_BIN         the binary where no --binary names one   default: built in release from this clone
#   AFFLUENT_BENCH_DIR   lakes, logs; must not exist              default: a folder below .stack, deleted at the end
#   CARGO_TARGET_DIR     as in scripts/test.sh
#   AFFLUENT_PEER_…      limits and heaps of the peers            bench/peers/README.md
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$clone/scripts/tools.sh"
exec </dev/null

need_python
case " $* " in
    *' -h '* | *' --help '* | *' --list '* | *' --report '* | *' --report='*) exec python3 "$clone/scripts/bench" "$@" ;;
esac
# A wrong word is told before anything is built or started.
python3 "$clone/scripts/bench" "$@" --list >/dev/null

binary=()
case " $* " in
    *' --binary '* | *' --binary='*) ;;
    *)
        need_affluent
        binary=(--binary "affluent=$affluent")
        ;;
esac
python=$("$clone/scripts/python.sh" bench)

keep=no
case " $* " in *' --keep '*) keep=yes ;; esac
if [ -n "${AFFLUENT_BENCH_DIR:-}" ]; then
    [ ! -e "$AFFLUENT_BENCH_DIR" ] || { echo "bench.sh: $AFFLUENT_BENCH_DIR exists; delete it or name another" >&2; exit 2; }
    mkdir -p "$AFFLUENT_BENCH_DIR"
    work=$(cd "$AFFLUENT_BENCH_DIR" && pwd)
else
    # On a disk: the temporary folder may be memory, where syncing costs nothing.
    mkdir -p "$clone/.stack"
    work=$(mktemp -d "$clone/.stack/bench.XXXXXX")
fi
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local code=$?
    trap - EXIT
    if [ "$code" = 1 ] || [ "$keep" = yes ]; then
        echo "bench: logs and lakes are in $work" >&2
    else
        rm -rf "$work"
    fi
    exit "$code"
}
trap clean_up EXIT

"$clone/scripts/stack.sh" up
eval "$("$clone/scripts/stack.sh" env)"
brokers=$AFFLUENT__KAFKA__BROKERS
mongo_uri=$AFFLUENT__MONGO__URI

player=
# Python ends its own children and cleans up; a second signal does not hurry it.
trap '[ -z "$player" ] || kill -TERM "$player" 2>/dev/null || true' INT TERM HUP
"$python" "$clone/scripts/bench" "$@" "${binary[@]}" \
    --brokers "$brokers" --mongo-uri "$mongo_uri" --stack "${AFFLUENT_STACK_DIR:-$clone/.stack}" --work "$work" &
player=$!
code=0
wait "$player" || code=$?
while kill -0 "$player" 2>/dev/null; do wait "$player" || code=$?; done
exit "$code"
