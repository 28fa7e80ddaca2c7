#!/usr/bin/env bash
# Other engines on affluent's lake: the examples of lake/README.md run, and Spark works on a table while affluent writes it.
#
#   scripts/engines.sh                 a line per step; most of the time is Spark starting up
#
#   services: scripts/stack.sh on free ports, in a temporary folder, taken down at the end
#     → scripts/engines: sales whose truth is known before → affluent produce --file → affluent run --once → lake
#         → the guide's examples, then every row by delta-rs, pandas, Polars, DuckDB (both ways) and Spark: equal to
#           what was produced, regions like `a/b`, `100%` and `😀` included; once more after Spark's OPTIMIZE
#     → affluent produce --rate → affluent run, a commit a second, and beside it Spark:
#         reads (only the files of the partitions asked for), OPTIMIZE, VACUUM, DELETE, a checkpoint: the job goes on;
#         RESTORE, overwrite, INSERT OVERWRITE: the job stops, names the choices, and goes on when it is restored
#       → after each step affluent verify: nothing lost, nothing twice, missing only what Spark deleted
#
# Exit 0 only if everything is as it must be; 1 if not, and the folder is kept; 2 usage; 3 a tool or a service is missing.
# Variables, besides those of scripts/stack.sh:
#   AFFLUENT_BIN           the binary to run      default: built in release from this clone
#   AFFLUENT_ENGINES_DIR   logs, lakes, services  default: a temporary folder, deleted when all went well
#   AFFLUENT_TEST_KAFKA    broker's address; with AFFLUENT_TEST_MONGO set too, no stack is started
#   AFFLUENT_TEST_MONGO    MongoDB's URI (a replica set)
#   CARGO_TARGET_DIR       as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in
    *' -h '* | *' --help '*) sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
esac
[ $# = 0 ] || { echo "engines.sh: takes no arguments, see --help" >&2; exit 2; }
. "$clone/scripts/tools.sh"
exec </dev/null

need_affluent
need_python
need_java
python=$("$clone/scripts/python.sh" engines)
cache=${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}
jars=$cache/engines-spark
fetch_jars "$jars" "$clone/scripts/engines/spark-pom.xml"

if [ -n "${AFFLUENT_ENGINES_DIR:-}" ]; then
    keep=yes
    # A former run's tables would be this one's.
    [ ! -e "$AFFLUENT_ENGINES_DIR" ] || { echo "engines.sh: $AFFLUENT_ENGINES_DIR exists; delete it or name another" >&2; exit 2; }
    mkdir -p "$AFFLUENT_ENGINES_DIR"
    work=$(cd "$AFFLUENT_ENGINES_DIR" && pwd)
else
    keep=no
    work=$(mktemp -d "${TMPDIR:-/tmp}/affluent-engines.XXXXXX")
fi
# A build in the meantime must not change what is being judged.
cp "$affluent" "$work/affluent"
# Environment beats the file; the jobs' own files are to be all that counts.
for name in "${!AFFLUENT__@}"; do unset "$name"; done

own_stack=no
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local code=$?
    trap - EXIT INT TERM HUP
    [ $own_stack = no ] || "$clone/scripts/stack.sh" wipe >&2 || true
    if [ $code = 0 ] && [ $keep = no ]; then rm -rf "$work"; fi
    exit $code
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -z "${AFFLUENT_TEST_KAFKA:-}" ] || [ -z "${AFFLUENT_TEST_MONGO:-}" ]; then
    read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT < <(free_ports 3)
    export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
    export AFFLUENT_STACK_DIR=$work/stack
    export AFFLUENT_STACK_MODE=native
    own_stack=yes
    "$clone/scripts/stack.sh" up
    AFFLUENT_TEST_KAFKA=127.0.0.1:$AFFLUENT_KAFKA_PORT
    AFFLUENT_TEST_MONGO="mongodb://127.0.0.1:$AFFLUENT_MONGO_PORT/?replicaSet=rs0"
fi

"$python" "$clone/scripts/engines" --affluent "$work/affluent" --jars "$jars" --work "$work/jobs" \
    --brokers "$AFFLUENT_TEST_KAFKA" --mongo "$AFFLUENT_TEST_MONGO"
