#!/usr/bin/env bash
# One command that builds affluent and passes all its tests, the ones against real services included.
#
#   scripts/test.sh                        everything
#   scripts/test.sh --test whole_job crash   arguments go to `cargo test`
#
#   services: scripts/stack.sh on free ports, in a temporary folder, taken down at the end
#         → cargo build, cargo test (release profile: the one whose dependencies are compiled anyway)
#         → only without arguments: scripts/chaos.sh, a short run on services of its own, scripts/engines.sh,
#           scripts/monitoring.sh and scripts/browser.sh
#
# Variables, set here for the tests unless they are set already:
#   AFFLUENT_TEST_KAFKA    broker's address; with AFFLUENT_TEST_MONGO set too, no stack is started
#   AFFLUENT_TEST_MONGO    MongoDB's URI (a replica set)
#   AFFLUENT_TEST_S3       an S3-compatible store: endpoint, access key id, secret and region, with a space between
#   AFFLUENT_TEST_HDFS     hdfs://host:port
#   AFFLUENT_TEST_PYTHON   a Python with deltalake, pyarrow, duckdb and pymongo
#   AFFLUENT_STACK_DIR, AFFLUENT_*_PORT   of the stack this script starts, so that a test may use
#                          scripts/stack.sh kafka-tool, or stop and start a service, or put a proxy before Kafka
#                          (AFFLUENT_TEST_KAFKA_PROXIED_PORT, AFFLUENT_TEST_KAFKA_PROXY_PORT)
#   AFFLUENT_CACHE         downloads, as in scripts/stack.sh
#   CARGO_TARGET_DIR       default $AFFLUENT_CACHE/target
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$clone"
. scripts/tools.sh
need_rust
use_shared_target

# First, so that a compile error shows before any service is started.
cargo build --release --features failpoints
cargo test --release --features failpoints --no-run

if [ -z "${AFFLUENT_TEST_KAFKA:-}" ] || [ -z "${AFFLUENT_TEST_MONGO:-}" ]; then
    need_python
    run=$(mktemp -d "${TMPDIR:-/tmp}/affluent-test.XXXXXX")
    read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT \
        AFFLUENT_TEST_KAFKA_PROXIED_PORT AFFLUENT_TEST_KAFKA_PROXY_PORT AFFLUENT_S3_PORT < <(free_ports 6)
    # HDFS takes two that follow each other.
    AFFLUENT_HDFS_PORT=$(free_port_pair)
    export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT AFFLUENT_S3_PORT AFFLUENT_HDFS_PORT
    export AFFLUENT_TEST_KAFKA_PROXIED_PORT AFFLUENT_TEST_KAFKA_PROXY_PORT
    # The images know neither mongod's failpoints nor a listener behind a proxy.
    export AFFLUENT_STACK_MODE=native
    export AFFLUENT_STACK_DIR=$run/stack
    # On a signal too: EXIT alone would leave the services behind when CI cuts the run short.
    trap 'scripts/stack.sh wipe >&2 || true; rm -rf "$run"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Lost replies and elections are staged with mongod's own failpoints.
    # Given to this one stack only: a test, or chaos.sh, starts others.
    AFFLUENT_MONGO_TEST_COMMANDS=1 \
        AFFLUENT_KAFKA_PROXIED_PORT=$AFFLUENT_TEST_KAFKA_PROXIED_PORT \
        AFFLUENT_KAFKA_PROXY_PORT=$AFFLUENT_TEST_KAFKA_PROXY_PORT \
        scripts/stack.sh up --with s3,hdfs
    export AFFLUENT_TEST_S3="http://127.0.0.1:$AFFLUENT_S3_PORT affluent affluent-local us-east-1"
    export AFFLUENT_TEST_HDFS="hdfs://127.0.0.1:$AFFLUENT_HDFS_PORT"
    export AFFLUENT_TEST_KAFKA=127.0.0.1:$AFFLUENT_KAFKA_PORT
    export AFFLUENT_TEST_MONGO="mongodb://127.0.0.1:$AFFLUENT_MONGO_PORT/?replicaSet=rs0"
fi
AFFLUENT_TEST_PYTHON=${AFFLUENT_TEST_PYTHON:-$(scripts/python.sh checks)}
export AFFLUENT_TEST_PYTHON

# Unit tests that need a server are ignored by a plain `cargo test`.
everything=no
[ $# -gt 0 ] || { everything=yes; set -- -- --include-ignored; }
cargo test --release --features failpoints "$@" </dev/null

if [ $everything = yes ]; then
    # A seed whose twelve rounds hold every kind of fault.
    AFFLUENT_BIN=$CARGO_TARGET_DIR/release/affluent scripts/chaos.sh --rounds 12 --seed 91
    AFFLUENT_BIN=$CARGO_TARGET_DIR/release/affluent scripts/engines.sh
    AFFLUENT_BIN=$CARGO_TARGET_DIR/release/affluent scripts/monitoring.sh
    AFFLUENT_BIN=$CARGO_TARGET_DIR/release/affluent scripts/browser.sh
fi
