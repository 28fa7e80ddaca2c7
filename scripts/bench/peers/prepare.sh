#!/usr/bin/env bash
# The software of a peer, from Maven Central and PyPI into the cache; prints where it lies, as `name=path` lines.
#
#   scripts/bench/peers/prepare.sh connect    lib (worker's jars), plugins (the MongoDB sink)
#   scripts/bench/peers/prepare.sh spark      python, home (Spark in its pyspark), jars (Kafka, Delta Lake, MongoDB)
#
# Owns: what is fetched, by the pom files beside it. Does not own: settings and starting (connect/, spark/).
#
#   AFFLUENT_CACHE   default ${XDG_CACHE_HOME:-$HOME/.cache}/affluent
#
# Exit: 0 ok, 2 usage, 3 a tool is missing or a download failed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scripts=$(cd "$here/../.." && pwd)
cache=${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}
# shellcheck source=../../tools.sh
. "$scripts/tools.sh"
exec </dev/null

main() {
    local python found
    case ${1:-} in
        connect)
            need_java
            fetch_jars "$cache/peer-connect/lib" "$here/connect/worker.pom.xml"
            # Connect takes every folder below `plugin.path` for one plugin.
            fetch_jars "$cache/peer-connect/plugins/mongo" "$here/connect/plugin.pom.xml"
            declare_plugin "$cache/peer-connect/plugins/mongo"
            echo "lib=$cache/peer-connect/lib"
            echo "plugins=$cache/peer-connect/plugins" ;;
        spark)
            need_java
            fetch_jars "$cache/peer-spark/jars" "$here/spark/pom.xml"
            python=$("$scripts/python.sh" peers)
            found=("${python%/bin/python}"/lib/python3*/site-packages/pyspark)
            echo "python=$python"
            echo "home=${found[0]}"
            echo "jars=$cache/peer-spark/jars" ;;
        *) echo "prepare.sh: connect or spark" >&2; exit 2 ;;
    esac
}

# What `connect-plugin-path sync-manifests` of a Kafka distribution adds to a plugin that does not say what it holds.
# Without it a worker reads every class of every jar at each start, for 18 of 24 seconds.
declare_plugin() {
    local shim=$1/manifest.jar staging
    [ -f "$shim" ] && return
    staging=$(mktemp -d)
    mkdir -p "$staging/META-INF/services"
    echo com.mongodb.kafka.connect.MongoSinkConnector >"$staging/META-INF/services/org.apache.kafka.connect.sink.SinkConnector"
    (cd "$staging" && python3 -m zipfile -c "$shim.part" META-INF)
    mv "$shim.part" "$shim"
    rm -r "$staging"
}

main "$@"
