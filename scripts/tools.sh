# shellcheck shell=bash
# Sourced by the other scripts: makes sure the machine has a tool, installing it where we may.
#
# As root on a machine with apt-get it is installed; anyone else is told the command to run.

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
    command -v mvn >/dev/null || need_packages "fetching Kafka's jars" maven
}
