#!/usr/bin/env bash
# Monitoring as it is deployed, against a real Prometheus: names, rules, alerts, panels.
#
#   scripts/monitoring.sh            everything, about two minutes
#   scripts/monitoring.sh --files    only what needs no service: seconds
#
#   deploy/ and docs/ → promtool check config, check rules, test rules; scripts/monitoring: every name leads somewhere
#     → services: scripts/stack.sh on free ports, in a temporary folder, taken down at the end
#     → affluent produce (2 % bad) → two instances of affluent run, one of affluent collect → /metrics: promtool check metrics
#     → prometheus with deploy/'s own files, but for the targets and a scrape a second; beside it process-exporter, and
#       the broker's log ends by kafka_exporter's names
#         → every documented metric is there, every rule evaluates, every panel gives figures, an alert fires
#     → the producer ends → the lag of both sinks returns to 0
#
# Exit 0 only if everything is as it must be; 1 if not, and the folder is kept; 2 usage; 3 a tool or a service is missing.
# promtool, prometheus and process-exporter are Debian's. Variables, besides those of scripts/stack.sh:
#   AFFLUENT_BIN           the binary to run      default: built in release from this clone
#   AFFLUENT_STACK_DIR     the services' folder   default: in a temporary one; if given, ports are taken as given too
#   AFFLUENT_TEST_KAFKA    broker's address; with AFFLUENT_TEST_MONGO set too, no stack is started
#   AFFLUENT_TEST_MONGO    MongoDB's URI (a replica set)
#   CARGO_TARGET_DIR       as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
only_files=no
case "$*" in
    '') ;;
    --files) only_files=yes ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
esac
. "$clone/scripts/tools.sh"
exec </dev/null

step() { printf '\n== %s\n' "$*"; }

need_python
need_prometheus
python=$("$clone/scripts/python.sh" monitoring)
check() { "$python" "$clone/scripts/monitoring" "$@"; }

step "deploy/ and docs/"
check files
promtool check config "$clone/deploy/prometheus/prometheus.yml"
promtool test rules "$clone/deploy/prometheus/rules.test.yml"
[ $only_files = no ] || exit 0

need_affluent
work=$(mktemp -d "${TMPDIR:-/tmp}/affluent-monitoring.XXXXXX")
# A build in the meantime must not change what is being judged. process-exporter looks for this name.
cp "$affluent" "$work/affluent"
# Environment beats the file; the file below is to be all that counts.
for name in "${!AFFLUENT__@}"; do unset "$name"; done

started=()
own_stack=no
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local code=$? n pid
    trap - EXIT INT TERM HUP
    # By pid, and only what was started here; the last started first.
    for ((n = ${#started[@]} - 1; n >= 0; n--)); do kill "${started[n]}" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ $own_stack = no ] || "$clone/scripts/stack.sh" wipe >&2 || true
    if [ "$code" = 0 ]; then rm -rf "$work"; else echo "monitoring: logs are in $work" >&2; fi
    exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# start NAME COMMAND…: in the background, with a log, ended by clean_up. No function: its pid would be a shell's.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    started+=($!)
}

step "services"
if [ -n "${AFFLUENT_TEST_KAFKA:-}" ] && [ -n "${AFFLUENT_TEST_MONGO:-}" ]; then
    brokers=$AFFLUENT_TEST_KAFKA mongo=$AFFLUENT_TEST_MONGO
else
    if [ -z "${AFFLUENT_STACK_DIR:-}" ]; then
        read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT < <(free_ports 3)
        export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
        export AFFLUENT_STACK_DIR=$work/stack
    fi
    # They are wiped at the end: somebody's own must not be.
    [ ! -e "$AFFLUENT_STACK_DIR/kafka" ] ||
        { echo "monitoring.sh: $AFFLUENT_STACK_DIR has services' data; wipe it or name another folder" >&2; exit 2; }
    # Docker's would not end with a folder of ours.
    export AFFLUENT_STACK_MODE=native
    own_stack=yes
    "$clone/scripts/stack.sh" up
    # Of all that `env` says only the addresses are wanted.
    addresses=$("$clone/scripts/stack.sh" env)
    brokers=$(eval "$addresses"; echo "$AFFLUENT__KAFKA__BROKERS")
    mongo=$(eval "$addresses"; echo "$AFFLUENT__MONGO__URI")
fi

step "a job of two instances"
# A name of this run's own: the services may be shared. Stream and topic have one name, as the lag rules want it.
stream=monitoring_$$
read -r http_a http_b http_collect kafka_port process_port prometheus_port < <(free_ports 6)
cat >"$work/affluent.toml" <<TOML
job = "$stream"
[kafka]
brokers = "$brokers"
group = "$stream"
[mongo]
uri = "$mongo"
database = "$stream"
[lake]
root = "$work/lake"
commit_interval = "2s"
[lake.upkeep]
checkpoint_every = 5
compact_interval = "5s"
[[streams]]
preset = "sales"
name = "$stream"
topic = "$stream"
# Counted, so that this metric is there too.
tombstones = "skip"
TOML
# Nobody reads its topic here.
cat >"$work/collect.toml" <<TOML
[kafka]
brokers = "$brokers"
[collect]
listen = "127.0.0.1:$http_collect"
[[streams]]
preset = "clicks"
topic = "$stream-clicks"
TOML
# Read by affluent: each process is to be started as itself, so that its pid is its own.
export AFFLUENT_CONFIG=$work/affluent.toml
start produce "$work/affluent" produce sales --topic "$stream" --rate 300 --bad 2 --partitions 4
load=$!
# The topic is there once something has been sent.
start log-ends "$python" "$clone/scripts/monitoring" log-ends --brokers "$brokers" --topic "$stream" --port "$kafka_port"
start a "$work/affluent" run --set "http.listen=127.0.0.1:$http_a"
start b "$work/affluent" run --set "http.listen=127.0.0.1:$http_b"
start collect "$work/affluent" --config "$work/collect.toml" collect
start visits "$python" "$clone/scripts/monitoring" visits "127.0.0.1:$http_collect"
start process-exporter prometheus-process-exporter -procnames affluent -threads=false -gather-smaps=false \
    -web.listen-address "127.0.0.1:$process_port"

step "/metrics"
# Late ones first: a commit to the lake, and what upkeep makes.
check fetch "127.0.0.1:$http_a" affluent_commit_seconds_count >"$work/a.metrics"
check fetch "127.0.0.1:$http_b" affluent_commit_seconds_count >"$work/b.metrics"
check fetch "127.0.0.1:$http_collect" affluent_refused_requests_total >"$work/collect.metrics"
# promtool's own exit code, 3, would say that a tool is missing.
for instance in a b collect; do promtool check metrics <"$work/$instance.metrics" || exit 1; done
echo "promtool check metrics: $(grep -c '^# TYPE' "$work/a.metrics"), $(grep -c '^# TYPE' "$work/b.metrics") and" \
    "$(grep -c '^# TYPE' "$work/collect.metrics") metrics, no complaint"

step "Prometheus"
cp -r "$clone/deploy/prometheus" "$work/prometheus"
# As deployed, but quicker: half a minute must hold what several would.
sed -i 's/_interval: 15s/_interval: 1s/' "$work/prometheus/prometheus.yml"
printf -- '- targets: ["127.0.0.1:%s", "127.0.0.1:%s"]\n' "$http_a" "$http_b" >"$work/prometheus/targets/affluent.yml"
printf -- '- targets: ["127.0.0.1:%s"]\n' "$http_collect" >"$work/prometheus/targets/collect.yml"
printf -- '- targets: ["127.0.0.1:%s"]\n' "$kafka_port" >"$work/prometheus/targets/kafka.yml"
printf -- '- targets: ["127.0.0.1:%s"]\n' "$process_port" >"$work/prometheus/targets/process.yml"
start prometheus prometheus --config.file="$work/prometheus/prometheus.yml" --storage.tsdb.path="$work/tsdb" \
    --web.listen-address="127.0.0.1:$prometheus_port" --log.level=warn
check live --prometheus "127.0.0.1:$prometheus_port" --instances 2 --stream "$stream"
kill "$load"
check lag --prometheus "127.0.0.1:$prometheus_port" --stream "$stream"
# Once more, with all that the run has brought.
for port in "$http_a" "$http_b"; do check fetch "127.0.0.1:$port" affluent_ >"$work/end.metrics"; promtool check metrics <"$work/end.metrics" || exit 1; done
step "monitoring: everything is as it must be"
