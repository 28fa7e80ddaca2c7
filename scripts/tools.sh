# shellcheck shell=bash
# Sourced by the other scripts: what they need of the machine — tools, a built affluent, free ports.
#
# A missing tool is installed as root on a machine with apt-get; anyone else is told the command to run.
#   AFFLUENT_BIN      the binary to run      default: built in release from this clone
#   CARGO_TARGET_DIR  where it is built      default $AFFLUENT_CACHE/target

# need_packages WHAT-FOR PACKAGE…
need_packages() {
    local purpose=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $* for $purpose" >&2
        # A fresh image has no package lists; a failing mirror shows in the install that follows.
        apt-get update -qq >&2 </dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null
    else
        echo "error: $purpose needs $*; install it, e.g.: sudo apt-get install $*" >&2
        exit 3
    fi
}

need_python() {
    # Debian's python3 comes without ensurepip, which venv only notices half-way.
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages "the Python environment" python3 python3-venv
}

# Kafka 4 runs on Java 17 and later.
java_is_recent() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ]
}

need_java() {
    java_is_recent || need_packages "Kafka" default-jre-headless
    java_is_recent || { echo "error: Kafka 4 needs Java 17 or later; 'java -version' says: $(java -version 2>&1 | head -n 1)" >&2; exit 3; }
}

need_maven() {
    command -v mvn >/dev/null || need_packages "fetching jars" maven
}

# fetch_jars FOLDER POM: the runtime jars of that pom; fetched again when the pom changes.
fetch_jars() {
    local folder=$1 pom=$2
    mkdir -p "$(dirname "$folder")"
    exec 8>"$folder.lock"
    flock 8
    if ! cmp -s "$pom" "$folder.complete"; then
        need_maven
        echo "fetching the jars of $pom into $folder" >&2
        rm -rf "$folder" "$folder.complete"
        mvn -q -B -Dstyle.color=never -f "$pom" dependency:copy-dependencies \
            -DoutputDirectory="$folder" -DincludeScope=runtime >&2 8>&- ||
            { echo "error: Maven could not fetch the jars of $pom" >&2; exit 3; }
        cp "$pom" "$folder.complete"
    fi
    exec 8>&-
}

# Any Go from 1.21 on fetches the toolchain a module asks for.
need_go() {
    command -v go >/dev/null || need_packages "building MinIO" golang-go
    go version | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])' ||
        { echo "error: building MinIO needs Go 1.21 or later; '$(go version)'. Install it, or name a minio with AFFLUENT_MINIO" >&2; exit 3; }
}

# Debian's packages start a server on port 9090 and an exporter on 9256 where they may: nobody asked for those.
need_prometheus() {
    command -v promtool >/dev/null && command -v prometheus >/dev/null && command -v prometheus-process-exporter >/dev/null && return
    need_packages "checking the monitoring" prometheus prometheus-process-exporter
    local service
    for service in prometheus prometheus-process-exporter; do
        if [ -d /run/systemd/system ]; then systemctl disable --quiet --now "$service"; else service "$service" stop; fi \
            >/dev/null 2>&1 || true
    done
}

# What the crate's C dependencies (librdkafka, zstd, mimalloc) and its link to OpenSSL need, and cargo itself.
need_rust() {
    # A login shell would have rustup's folder on the path; a script started by a scheduler does not.
    [ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH
    if ! command -v cargo >/dev/null; then
        echo "error: no cargo: install Rust 1.95 or later from https://rustup.rs" >&2
        exit 3
    fi
    if ! { command -v cc && command -v make && command -v pkg-config && pkg-config --exists openssl; } >/dev/null 2>&1; then
        need_packages "building affluent" build-essential pkg-config libssl-dev
    fi
}

# One target folder for every script and clone: the dependencies are compiled once per machine.
use_shared_target() {
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}/target}
}

# Sets `affluent` to the path of the binary to run: AFFLUENT_BIN, or the one just built.
need_affluent() {
    if [ -n "${AFFLUENT_BIN:-}" ]; then
        [ -x "$AFFLUENT_BIN" ] || { echo "error: AFFLUENT_BIN=$AFFLUENT_BIN is no program" >&2; exit 2; }
        affluent=$(realpath "$AFFLUENT_BIN")
        return
    fi
    need_rust
    use_shared_target
    (cd "$(dirname "${BASH_SOURCE[0]}")/.." && cargo build --release)
    # Read by the script that called.
    # shellcheck disable=SC2034
    affluent=$(realpath "$CARGO_TARGET_DIR/release/affluent")
}

# free_ports COUNT: so many, on one line. All at once, so that they differ; loopback, as the services will bind.
free_ports() {
    python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))' "$1"
}

# free_port_pair: the first of two free ports that follow each other.
free_port_pair() {
    python3 -c '
import socket
while True:
    first = socket.create_server(("127.0.0.1", 0))
    try:
        socket.create_server(("127.0.0.1", first.getsockname()[1] + 1))
    except OSError:
        continue
    print(first.getsockname()[1])
    break'
}
