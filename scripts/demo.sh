#!/usr/bin/env bash
# From a fresh clone to the main job: records in Kafka, the same records exactly once in MongoDB and in the lake.
#
#   scripts/demo.sh
#
#   cargo build --release   beside   scripts/stack.sh up
#     → topics sales and clicks, 4 partitions each
#     → affluent produce sales, affluent produce clicks     seeded: the same records on every machine
#     → affluent run --once                                 Kafka → MongoDB and lake/
#     → affluent verify                                     re-reads Kafka and proves both
#
# Run it again and it adds as many records again and ingests only those. The services stay up afterwards.
# Variables, besides those of scripts/stack.sh (ports, folder) and affluent's own (AFFLUENT__…):
#   AFFLUENT_DEMO_SALES    sales to produce                          default 200000
#   AFFLUENT_DEMO_CLICKS   clicks to produce                         default 50000
#   AFFLUENT_DEMO_SEED                                               default 7
#   AFFLUENT_BIN           a binary to use instead of building one
#   CARGO_TARGET_DIR       default $AFFLUENT_CACHE/target
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$clone"
. scripts/tools.sh
exec </dev/null

step() { printf '\n== %s\n' "$*"; }
# now, and the seconds since a now, to the tenth
now() { date +%s%N; }
since() { awk "BEGIN { printf \"%.1f\", ($(now) - $1) / 1e9 }"; }

step "building, and starting Kafka and MongoDB beside it"
# Tools first: two installations at once would fight over the package manager's lock.
[ -n "${AFFLUENT_BIN:-}" ] || need_rust
need_python
mkdir -p .stack
scripts/stack.sh up >.stack/demo-up.log 2>&1 &
up=$!
# The stack goes on in sessions of its own; only the starting script must not outlive a failed build.
trap 'kill "$up" 2>/dev/null || true' EXIT
started=$(now)
need_affluent
build_seconds=$(since "$started")
wait "$up" || { cat .stack/demo-up.log >&2; exit 3; }
trap - EXIT
tail -n 1 .stack/demo-up.log
eval "$(scripts/stack.sh env)"

demo_started=$(now)
step "topics"
for topic in sales clicks; do
    scripts/stack.sh kafka-tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$AFFLUENT__KAFKA__BROKERS" \
        --create --if-not-exists --topic "$topic" --partitions 4 --replication-factor 1
done
step "produce"
"$affluent" produce sales --count "${AFFLUENT_DEMO_SALES:-200000}" --seed "${AFFLUENT_DEMO_SEED:-7}"
"$affluent" produce clicks --count "${AFFLUENT_DEMO_CLICKS:-50000}" --seed "${AFFLUENT_DEMO_SEED:-7}"
step "run --once"
run_started=$(now)
"$affluent" run --once
run_seconds=$(since "$run_started")
step "verify"
"$affluent" verify
demo_seconds=$(since "$demo_started")
lake=${AFFLUENT__LAKE__ROOT:-lake}
# What lies in the stack's own S3 or HDFS goes with the stack.
case $lake in
    *://*) start_over="scripts/stack.sh wipe" ;;
    *) start_over="scripts/stack.sh wipe && rm -rf $lake/sales $lake/clicks" ;;
esac

step "done: build $build_seconds s · run --once $run_seconds s · topics to verify $demo_seconds s"
cat <<EOF

Where to look next (first: eval "\$(scripts/stack.sh env)")
  dashboard       $affluent run            http://127.0.0.1:8080/, and beside it: $affluent produce sales --rate 20
  a shop          $affluent collect        http://127.0.0.1:8081/shop/: click, and watch the page about clicks
  live views      mongosh '$AFFLUENT__MONGO__URI' --eval 'db.getSiblingDB("${AFFLUENT__MONGO__DATABASE:-affluent}").sales_by_day.find().sort({revenue: -1}).limit(5)'
  the lake        \$(scripts/python.sh checks) -c "import duckdb, deltalake; print(duckdb.read_parquet(deltalake.DeltaTable('$lake/sales').file_uris(), hive_partitioning=True).aggregate('region, sum(amount) AS revenue').order('revenue DESC'))"
                  more readers: lake/README.md
  where it stands $affluent status
  start over      $start_over
  stop            scripts/stack.sh down
EOF
