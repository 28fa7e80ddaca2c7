#!/usr/bin/env bash
# The services around affluent: one Kafka broker (KRaft) and one MongoDB replica set of one member. Only where they are
# asked for: an S3-compatible store (MinIO, with the bucket `lake`), HDFS (a NameNode and a DataNode), and `kafka2`, a
# second broker for tests of leader changes.
#
#   scripts/stack.sh up                           kafka and mongo: start what is not running; returns when it answers
#   scripts/stack.sh up --with s3,hdfs            …and these
#   scripts/stack.sh up mongo s3                  only these
#   scripts/stack.sh status [SERVICE…]            exit 0 only when everything answers
#   scripts/stack.sh down [--kill] [SERVICE…]     stop what `up` started (--kill: SIGKILL, as in a crash)
#   scripts/stack.sh wipe                         down, and delete the services' data (a lake is not part of it)
#   scripts/stack.sh env                          `export` lines for the addresses, for eval
#   scripts/stack.sh kafka-tool CLASS ARGS…       one of Kafka's own tools, e.g.
#       scripts/stack.sh kafka-tool org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:9092 --list
#
# Where a Docker engine with Compose answers, the services come from docker-compose.yml (not hdfs, not kafka2). Else they
# run natively: Kafka and HDFS from their Maven jars, mongod from a PyPI wheel, MinIO built by `go install`, all of it
# once, into the cache. Everything listens on loopback only. Data, logs and pids lie in one folder; several stacks with other folders and ports run side by side.
#
#   AFFLUENT_STACK_DIR               data, logs, pids               default .stack in the clone
#   AFFLUENT_STACK_MODE              native | docker                default: what the machine has
#   AFFLUENT_KAFKA_PORT              broker                         default 9092
#   AFFLUENT_KAFKA_CONTROLLER_PORT   KRaft controller               default the broker's port + 1
#   AFFLUENT_KAFKA_PROXIED_PORT      a second listener, for clients behind a proxy (native only)   default none
#   AFFLUENT_KAFKA_PROXY_PORT        the proxy's port: what that listener tells clients to connect to
#   AFFLUENT_KAFKA2_PORT             second broker                  default the broker's port + 2
#   AFFLUENT_KAFKA_HEAP              broker's heap                  default 512m
#   AFFLUENT_MONGO_PORT              mongod                         default 27017
#   AFFLUENT_MONGO_CACHE_GB          WiredTiger's cache             default 1
#   AFFLUENT_MONGO_TEST_COMMANDS     if set, mongod accepts failpoints (tests only)
#   AFFLUENT_MONGOD                  a mongod to run instead of the wheel's
#   AFFLUENT_S3_PORT                 MinIO                          default 9000
#   AFFLUENT_S3_USER, _PASSWORD      its root user                  default affluent, affluent-local
#   AFFLUENT_MINIO                   a minio to run instead of the built one
#   AFFLUENT_HDFS_PORT               NameNode; its HTTP port is the next one   default 9820
#   AFFLUENT_STACK_TIMEOUT           seconds `up` waits per service default 120
#   AFFLUENT_CACHE                   downloads                      default ${XDG_CACHE_HOME:-$HOME/.cache}/affluent
#
# A folder remembers the ports it was started with: `status` and `down` need only AFFLUENT_STACK_DIR.
# Exit: 0 ok, 1 not (all) up, 2 usage, 3 a tool or a port is missing or a service did not start.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
clone=$(dirname "$here")
. "$here/tools.sh"

cache=${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}
dir=${AFFLUENT_STACK_DIR:-$clone/.stack}
jars=$cache/kafka-4.1.1
hadoop_jars=$cache/hadoop-3.5.0
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c

say() { echo "stack: $*" >&2; }
fail() { local code=$1; shift; echo "stack: error: $*" >&2; exit "$code"; }

main() {
    local command=${1:-}
    [ $# -gt 0 ] && shift
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    case $command in
        kafka-tool)
            [ $# -gt 0 ] || fail 2 "kafka-tool: which class?"
            remembered_settings
            kafka_tool "$@" ;;
        up | status | down | wipe | env) remembered_settings; "command_$command" "$@" ;;
        -h | --help | help) usage ;;
        *) usage >&2; exit 2 ;;
    esac
}

usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

# Flags of the environment first, then what this folder was started with, then the defaults.
remembered_settings() {
    local remembered_kafka='' remembered_controller='' remembered_kafka2='' remembered_mongo='' remembered_mode=''
    local remembered_proxied='' remembered_proxy='' remembered_s3='' remembered_hdfs=''
    # shellcheck source=/dev/null
    [ -f "$dir/settings" ] && . "$dir/settings"
    kafka_port=${AFFLUENT_KAFKA_PORT:-${remembered_kafka:-9092}}
    controller_port=${AFFLUENT_KAFKA_CONTROLLER_PORT:-}
    if [ -z "$controller_port" ] && [ "$kafka_port" = "$remembered_kafka" ]; then
        controller_port=$remembered_controller
    fi
    controller_port=${controller_port:-$((kafka_port + 1))}
    proxied_port=${AFFLUENT_KAFKA_PROXIED_PORT:-$remembered_proxied}
    proxy_port=${AFFLUENT_KAFKA_PROXY_PORT:-$remembered_proxy}
    # Read through "${service}_port", as the others.
    # shellcheck disable=SC2034
    kafka2_port=${AFFLUENT_KAFKA2_PORT:-${remembered_kafka2:-$((kafka_port + 2))}}
    mongo_port=${AFFLUENT_MONGO_PORT:-${remembered_mongo:-27017}}
    s3_port=${AFFLUENT_S3_PORT:-${remembered_s3:-9000}}
    namenode_port=${AFFLUENT_HDFS_PORT:-${remembered_hdfs:-9820}}
    mode=${AFFLUENT_STACK_MODE:-${remembered_mode:-}}
    case $mode in
        native | docker) ;;
        '') if docker_answers; then mode=docker; else mode=native; fi ;;
        *) fail 2 "AFFLUENT_STACK_MODE=$mode: native or docker" ;;
    esac
    [ "${proxied_port:+set}" = "${proxy_port:+set}" ] ||
        fail 2 "AFFLUENT_KAFKA_PROXIED_PORT and AFFLUENT_KAFKA_PROXY_PORT go together"
    [ "$mode" = native ] || [ -z "$proxied_port" ] || fail 2 "AFFLUENT_KAFKA_PROXIED_PORT needs AFFLUENT_STACK_MODE=native"
}

remember_settings() {
    cat >"$dir/settings" <<EOF
remembered_kafka=$kafka_port
remembered_controller=$controller_port
remembered_proxied=$proxied_port
remembered_proxy=$proxy_port
remembered_kafka2=$kafka2_port
remembered_mongo=$mongo_port
remembered_s3=$s3_port
remembered_hdfs=$namenode_port
remembered_mode=$mode
EOF
}

docker_answers() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# ---------------------------------------------------------------- commands

# Sets `services` (and `kill_hard`) from the arguments; kafka and mongo when none is named.
parse_services() {
    local with=() name
    services=()
    kill_hard=no
    while [ $# -gt 0 ]; do
        case $1 in
            --kill) kill_hard=yes ;;
            --with=*) IFS=, read -ra with <<<"${1#--with=}" ;;
            --with)
                [ $# -gt 1 ] || fail 2 "--with: which services?"
                IFS=, read -ra with <<<"$2"
                shift ;;
            -*) fail 2 "unknown flag '$1'" ;;
            *) add_service "$1" ;;
        esac
        shift
    done
    [ ${#services[@]} -gt 0 ] || services=(kafka mongo)
    for name in "${with[@]}"; do add_service "$name"; done
}

add_service() {
    case $1 in
        kafka | mongo | s3) services+=("$1") ;;
        kafka2 | hdfs)
            [ "$mode" = native ] || fail 2 "$1 runs natively only: set AFFLUENT_STACK_MODE=native"
            if [ "$1" = hdfs ]; then services+=(namenode datanode); else services+=("$1"); fi ;;
        *) fail 2 "unknown service '$1' (services: kafka, mongo, kafka2, s3, hdfs)" ;;
    esac
}

command_up() {
    parse_services "$@"
    # Two `up`s of one folder at once: the second waits and finds everything running.
    exec 9>"$dir/lock"
    flock 9
    remember_settings
    if [ "$mode" = docker ]; then
        compose up -d --wait "${services[@]/#s3/minio}"
    else
        local service
        for service in "${services[@]}"; do "prepare_$service"; done
        for service in "${services[@]}"; do start "$service"; done
        for service in "${services[@]}"; do wait_for "$service"; done
    fi
    local service said=''
    for service in "${services[@]}"; do
        [ "$service" = datanode ] || said+="${service/namenode/hdfs} $(address "$service") · "
    done
    say "${said}folder $dir"
}

command_status() {
    parse_services "$@"
    local service all_up=0
    for service in "${services[@]}"; do
        if is_up "$service"; then
            echo "$service up on $(address "$service")"
        else
            echo "$service down: $(cat "$dir/probe.$$" 2>/dev/null)"
            all_up=1
        fi
    done
    rm -f "$dir/probe.$$"
    return $all_up
}

command_down() {
    parse_services "$@"
    local service
    if [ "$mode" = docker ]; then
        if [ $kill_hard = yes ]; then compose kill "${services[@]}"; else compose stop "${services[@]}"; fi
        return
    fi
    for service in "${services[@]}"; do stop "$service" $kill_hard; done
}

command_wipe() {
    [ "$mode" = docker ] && { compose down -v; return; }
    command_down kafka2 kafka mongo s3 hdfs
    rm -rf "$dir"/{kafka,kafka2,mongo,s3,namenode,datanode,hadoop,settings}
}

command_env() {
    echo "export AFFLUENT__KAFKA__BROKERS=127.0.0.1:$kafka_port"
    echo "export AFFLUENT__MONGO__URI='$(mongo_uri)'"
    if running_pid s3 >/dev/null; then
        echo "export AWS_ENDPOINT_URL=$(address s3) AWS_REGION=us-east-1"
        echo "export AWS_ACCESS_KEY_ID=$s3_user AWS_SECRET_ACCESS_KEY=$s3_password"
    fi
    if running_pid namenode >/dev/null; then echo "export AFFLUENT_HDFS=$(address namenode)"; fi
}

mongo_uri() { echo "mongodb://127.0.0.1:$mongo_port/?replicaSet=rs0"; }

address() {
    case $1 in
        kafka) echo "127.0.0.1:$kafka_port" ;;
        kafka2) echo "127.0.0.1:$kafka2_port" ;;
        mongo) mongo_uri ;;
        s3) echo "http://127.0.0.1:$s3_port" ;;
        namenode) echo "hdfs://127.0.0.1:$namenode_port" ;;
        datanode) echo "a port of the system's choice" ;;
    esac
}

compose() {
    # The folder is part of the project's name, so that stacks of two folders share nothing.
    AFFLUENT_KAFKA_PORT=$kafka_port AFFLUENT_MONGO_PORT=$mongo_port docker compose \
        -f "$clone/docker-compose.yml" -p "affluent-$(printf %s "$dir" | cksum | cut -d' ' -f1)" "$@"
}

# ---------------------------------------------------------------- processes

# A pid alone may have been given to another program since: its start time makes it ours.
process_start() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# Prints the pid of a running service that this folder started.
running_pid() {
    local pid started
    [ -f "$dir/$1.pid" ] && read -r pid started <"$dir/$1.pid" || return 1
    [ -n "$started" ] && [ "$(process_start "$pid")" = "$started" ] && echo "$pid"
}

start() {
    local service=$1 port_name=${1}_port pid
    running_pid "$service" >/dev/null && return
    if [ -n "${!port_name:-}" ]; then
        local variable=AFFLUENT_${service^^}_PORT
        port_is_free "${!port_name}" ||
            fail 3 "port ${!port_name} for $service is taken by another program; choose one with ${variable/NAMENODE/HDFS}"
        say "starting $service on port ${!port_name}"
    else
        say "starting $service"
    fi
    # A session of its own: the service outlives this script and its terminal. Descriptor 9 is our lock.
    "command_line_of_$service"
    setsid nohup "${command_line[@]}" </dev/null >>"$dir/$service.log" 2>&1 9>&- &
    pid=$!
    echo "$pid $(process_start "$pid")" >"$dir/$service.pid"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

is_up() {
    if [ "$mode" = docker ]; then
        [ "$(compose ps --format '{{.Health}}' "$1" 2>"$dir/probe.$$")" = healthy ]
        return
    fi
    running_pid "$1" >/dev/null || { echo "no process of $dir" >"$dir/probe.$$"; return 1; }
    probe "$1" "$1"
}

# probe SERVICE CHECK
probe() {
    local port_name=${1}_port port
    # Both halves of HDFS are asked for through the first one's HTTP port.
    case $1 in namenode | datanode) port=$((namenode_port + 1)) ;; *) port=${!port_name} ;; esac
    find_python
    "$python" "$here/stack/probe.py" "${2%2}" "$port" 2>"$dir/probe.$$"
}

# Once: it takes a lock, and `up` probes many times.
find_python() { [ -n "${python:-}" ] || python=$("$here/python.sh" stack); }

wait_for() {
    local service=$1 check=$1 deadline=$((SECONDS + ${AFFLUENT_STACK_TIMEOUT:-120}))
    [ "$service" = mongo ] && check=mongo-init
    until probe "$service" "$check"; do
        if ! running_pid "$service" >/dev/null; then
            tail -n 20 "$dir/$service.log" >&2
            fail 3 "$service ended while starting; its log is $dir/$service.log"
        fi
        [ $SECONDS -lt $deadline ] || fail 3 "$service does not answer: $(cat "$dir/probe.$$"); its log is $dir/$service.log"
        sleep 0.3
    done
    rm -f "$dir/probe.$$"
}

stop() {
    local service=$1 kill_hard=$2 pid deadline=$((SECONDS + 40))
    if pid=$(running_pid "$service"); then
        if [ "$kill_hard" = yes ]; then kill -KILL "$pid"; else kill "$pid"; fi 2>/dev/null || true
        while running_pid "$service" >/dev/null; do
            if [ $SECONDS -ge $deadline ]; then
                say "$service did not end in time: killing it"
                kill -KILL "$pid" 2>/dev/null || true
            fi
            sleep 0.1
        done
        say "$service stopped"
    fi
    rm -f "$dir/$service.pid"
}

# ---------------------------------------------------------------- kafka

ensure_kafka_jars() { ensure_jars Kafka "$here/stack/pom.xml" "$jars"; }

# ensure_jars WHAT POM FOLDER
ensure_jars() {
    local what=$1 pom=$2 folder=$3
    need_java
    [ -f "$folder/complete" ] && return
    mkdir -p "$cache"
    exec 7>"$folder.lock"
    flock 7
    if ! [ -f "$folder/complete" ]; then
        need_maven
        say "fetching $what's jars into $folder"
        rm -rf "$folder"
        mkdir -p "$folder"
        cp "$pom" "$folder/pom.xml"
        (cd "$folder" && mvn -q -B -Dstyle.color=never dependency:copy-dependencies -DoutputDirectory=lib -DincludeScope=runtime) \
            </dev/null >&2 7>&- 9>&- || fail 3 "Maven could not fetch $what's jars"
        touch "$folder/complete"
    fi
    exec 7>&-
}

prepare_kafka() {
    ensure_kafka_jars
    running_pid kafka >/dev/null && return
    mkdir -p "$dir/kafka"
    # A client goes on with the address the broker tells it, past any proxy: one listener tells the proxy's.
    local proxied='' proxied_as=''
    if [ -n "$proxied_port" ]; then
        proxied=,PROXIED://127.0.0.1:$proxied_port
        proxied_as=,PROXIED://127.0.0.1:$proxy_port
    fi
    {
        echo process.roles=broker,controller
        echo "listeners=PLAINTEXT://127.0.0.1:$kafka_port,CONTROLLER://127.0.0.1:$controller_port$proxied"
        broker_properties 1 "$kafka_port$proxied_as" "$dir/kafka"
    } >"$dir/kafka.properties"
    if ! [ -f "$dir/kafka/meta.properties" ]; then
        kafka_java_command -Xmx256m kafka.tools.StorageTool random-uuid
        local id
        id=$("${command_line[@]}" 9>&-)
        format_kafka "$id" kafka
    fi
}

# A broker of the first one's cluster, without a vote.
prepare_kafka2() {
    ensure_kafka_jars
    running_pid kafka2 >/dev/null && return
    [ -f "$dir/kafka/meta.properties" ] || fail 2 "kafka2 joins the cluster of kafka: start that first"
    mkdir -p "$dir/kafka2"
    {
        echo process.roles=broker
        echo "listeners=PLAINTEXT://127.0.0.1:$kafka2_port"
        broker_properties 2 "$kafka2_port" "$dir/kafka2"
    } >"$dir/kafka2.properties"
    if ! [ -f "$dir/kafka2/meta.properties" ]; then
        format_kafka "$(sed -n 's/^cluster.id=//p' "$dir/kafka/meta.properties")" kafka2
    fi
}

# broker_properties ID PORT[,LISTENERS] FOLDER: what all brokers have in common
broker_properties() {
    cat <<EOF
node.id=$1
controller.quorum.voters=1@127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$2
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
log.dirs=$3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# Groups of group.protocol=consumer (KIP-848) choose their timing here, not in the client; the defaults allow no
# session below 45 s. A group's own configuration decides.
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
# Compaction comes soon after a segment is closed (default 15 s).
log.cleaner.backoff.ms=2000
# Sample records carry event times of years ago; retention counts from a record's own time.
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=16777216
EOF
}

# format_kafka CLUSTER-ID SERVICE
format_kafka() {
    kafka_java_command -Xmx256m kafka.tools.StorageTool format -t "$1" -c "$dir/$2.properties"
    "${command_line[@]}" >>"$dir/$2.log" 2>&1 9>&-
}

# kafka_java_command JVM-FLAG… CLASS ARGS… → command_line
kafka_java_command() {
    command_line=(java "-Dlog4j2.configurationFile=$here/stack/log4j2.xml" -cp "$jars/lib/*" "$@")
}

command_line_of_kafka() { broker_command_line kafka; }
command_line_of_kafka2() { broker_command_line kafka2; }

broker_command_line() {
    local heap=${AFFLUENT_KAFKA_HEAP:-512m}
    kafka_java_command "-Xms$heap" "-Xmx$heap" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \
        -Daffluent.log.level=WARN kafka.Kafka "$dir/$1.properties"
}

kafka_tool() {
    if [ "$mode" = docker ]; then
        # Inside and outside the container the broker has the same address, so arguments mean the same.
        compose exec -T -e KAFKA_HEAP_OPTS=-Xmx512m kafka /opt/kafka/bin/kafka-run-class.sh "$@"
        return
    fi
    ensure_kafka_jars
    # Tools start and end at once: the quick compiler and the small collector halve their start.
    kafka_java_command -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "$@"
    exec "${command_line[@]}"
}

# ---------------------------------------------------------------- mongo

prepare_mongo() {
    find_python
    local candidates=("${python%/bin/python}"/lib/python3*/site-packages/fiftyone/db/bin/mongod)
    mongod=${AFFLUENT_MONGOD:-${candidates[0]}}
    [ -e "$mongod" ] || fail 3 "no mongod for $(uname -m): name one with AFFLUENT_MONGOD"
    [ -x "$mongod" ] || chmod +x "$mongod"
    # The wheel's mongod links the system's libcurl and OpenSSL 3, which a slim machine lacks.
    if ldd "$mongod" | grep -q 'not found'; then
        need_packages "mongod" libcurl4 libssl3
    fi
    mkdir -p "$dir/mongo"
}

command_line_of_mongo() {
    command_line=("$mongod" --replSet rs0 --dbpath "$dir/mongo" --port "$mongo_port" --bind_ip 127.0.0.1 --nounixsocket
        --wiredTigerCacheSizeGB "${AFFLUENT_MONGO_CACHE_GB:-1}" --oplogSize 512
        --setParameter diagnosticDataCollectionEnabled=false)
    if [ -n "${AFFLUENT_MONGO_TEST_COMMANDS:-}" ]; then
        command_line+=(--setParameter enableTestCommands=1)
    fi
}

# ---------------------------------------------------------------- s3

s3_user=${AFFLUENT_S3_USER:-affluent}
s3_password=${AFFLUENT_S3_PASSWORD:-affluent-local}

prepare_s3() {
    minio=${AFFLUENT_MINIO:-$cache/minio-$minio_version/minio}
    if ! [ -x "$minio" ]; then
        [ -z "${AFFLUENT_MINIO:-}" ] || fail 3 "AFFLUENT_MINIO=$minio is no program"
        mkdir -p "${minio%/*}"
        exec 7>"${minio%/*}.lock"
        flock 7
        [ -x "$minio" ] || build_minio
        exec 7>&-
    fi
    # Where MinIO has one drive, a folder of it is a bucket.
    mkdir -p "$dir/s3/lake"
}

# MinIO's authors publish no binaries any more. Several minutes, once.
build_minio() {
    need_go
    say "building MinIO into ${minio%/*}"
    GOBIN=${minio%/*} CGO_ENABLED=0 GOFLAGS=-mod=mod go install -trimpath -ldflags=-s "github.com/minio/minio@$minio_version" \
        </dev/null >&2 7>&- 9>&- || fail 3 "go could not build MinIO"
}

command_line_of_s3() {
    command_line=(env MINIO_ROOT_USER="$s3_user" MINIO_ROOT_PASSWORD="$s3_password" MINIO_BROWSER=off MINIO_UPDATE=off
        "$minio" server --quiet --address "127.0.0.1:$s3_port" "$dir/s3")
}

# ---------------------------------------------------------------- hdfs

hdfs_java_command() {
    command_line=(java -Xmx256m --add-opens "java.base/java.lang=ALL-UNNAMED" --add-opens "java.base/java.io=ALL-UNNAMED"
        "-Dhadoop.log.dir=$dir" "-Dhadoop.root.logger=WARN,console" -cp "$dir/hadoop:$hadoop_jars/lib/*" "$@")
}

prepare_namenode() {
    ensure_jars HDFS "$here/stack/hadoop-pom.xml" "$hadoop_jars"
    running_pid namenode >/dev/null && return
    mkdir -p "$dir/hadoop"
    hadoop_site fs.defaultFS "$(address namenode)" >"$dir/hadoop/core-site.xml"
    hadoop_site \
        dfs.replication 1 \
        dfs.permissions.enabled false \
        dfs.namenode.name.dir "file://$dir/namenode" \
        dfs.namenode.http-address "127.0.0.1:$((namenode_port + 1))" \
        dfs.namenode.safemode.extension 0 \
        dfs.datanode.data.dir "file://$dir/datanode" \
        dfs.datanode.address 127.0.0.1:0 \
        dfs.datanode.http.address 127.0.0.1:0 \
        dfs.datanode.ipc.address 127.0.0.1:0 \
        dfs.datanode.synconclose true \
        >"$dir/hadoop/hdfs-site.xml"
    if ! [ -d "$dir/namenode/current" ]; then
        hdfs_java_command org.apache.hadoop.hdfs.server.namenode.NameNode -format -force -nonInteractive
        "${command_line[@]}" >>"$dir/namenode.log" 2>&1 9>&- || fail 3 "HDFS could not be formatted; the log is $dir/namenode.log"
    fi
}

prepare_datanode() { ensure_jars HDFS "$here/stack/hadoop-pom.xml" "$hadoop_jars"; }

command_line_of_namenode() { hdfs_java_command org.apache.hadoop.hdfs.server.namenode.NameNode; }
command_line_of_datanode() { hdfs_java_command org.apache.hadoop.hdfs.server.datanode.DataNode; }

# hadoop_site NAME VALUE…
hadoop_site() {
    echo '<configuration>'
    while [ $# -gt 0 ]; do
        echo "  <property><name>$1</name><value>$2</value></property>"
        shift 2
    done
    echo '</configuration>'
}

main "$@"
