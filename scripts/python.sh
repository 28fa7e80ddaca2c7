#!/usr/bin/env bash
# Prints the path of a Python that has the packages of a requirements file, made on first use.
#
#   scripts/python.sh stack     mongod and pymongo                      (requirements-stack.txt)
#   scripts/python.sh checks    deltalake, pyarrow, duckdb, real sales  (requirements-checks.txt)
#   scripts/python.sh bench     pymongo, confluent-kafka                (requirements-bench.txt)
#   scripts/python.sh peers     pyspark, for scripts/bench/peers        (requirements-peers.txt)
#   scripts/python.sh engines   every engine that reads the lake        (requirements-engines.txt)
#   scripts/python.sh monitoring   PyYAML, confluent-kafka             (requirements-monitoring.txt)
#
# The virtual environments lie in the cache, one per set, and are made again when the set changes:
#   AFFLUENT_CACHE   default ${XDG_CACHE_HOME:-$HOME/.cache}/affluent
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}
requirements=$here/requirements-${1:?usage: scripts/python.sh stack|checks|bench|peers|engines|monitoring}.txt
[ -f "$requirements" ] || { echo "python.sh: no set named $1 (stack, checks, bench, peers, engines, monitoring)" >&2; exit 2; }

. "$here/tools.sh"

venv=$cache/python-$1
# The interpreter is part of the key: a venv whose base Python was replaced does not start.
key=$(cat "$requirements"; python3 --version 2>&1 || true)
mkdir -p "$cache"
exec 8>"$cache/python-$1.lock"
flock 8
if ! [ -x "$venv/bin/python" ] || ! [ "$(cat "$venv/complete" 2>/dev/null)" = "$key" ]; then
    need_python
    key=$(cat "$requirements"; python3 --version)
    echo "making the Python environment $venv" >&2
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements" >&2 8>&-
    printf '%s\n' "$key" >"$venv/complete"
fi
echo "$venv/bin/python"
