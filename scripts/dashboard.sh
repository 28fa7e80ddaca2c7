#!/usr/bin/env bash
# Builds and checks the web page, whose bundle is committed so that `cargo build` needs no Node.
#
#   scripts/dashboard.sh build   dashboard/src → dashboard/dist
#   scripts/dashboard.sh check   lint, types, unit tests, and that a fresh build equals the committed bundle
#   scripts/dashboard.sh dev     a development server; answers come from a mock, or from AFFLUENT_URL
#   scripts/dashboard.sh e2e     the page in a browser, against a running affluent; arguments go to Playwright
#
#   AFFLUENT_URL       a running affluent, as http://127.0.0.1:8080        (dev, e2e)
#   AFFLUENT_CHROMIUM  the browser                default: chromium on the path, installed where it is missing (e2e)
#   AFFLUENT_CACHE     npm's cache lies there     default ${XDG_CACHE_HOME:-$HOME/.cache}/affluent
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/tools.sh"
export npm_config_cache=${AFFLUENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/affluent}/npm
cd "$here/../dashboard"

need_node() {
    command -v npm >/dev/null || need_packages "the dashboard" nodejs npm
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
        { echo "error: the dashboard needs Node 20.19 or later; 'node --version' says $(node --version)" >&2; exit 3; }
}

# Installed again when the lockfile changes.
need_modules() {
    need_node
    ! cmp -s package-lock.json node_modules/.affluent-lock || return 0
    npm ci --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json node_modules/.affluent-lock
}

need_chromium() {
    AFFLUENT_CHROMIUM=${AFFLUENT_CHROMIUM:-$(command -v chromium || true)}
    if [ -z "$AFFLUENT_CHROMIUM" ]; then
        need_packages "the tests in a browser" chromium
        AFFLUENT_CHROMIUM=$(command -v chromium)
    fi
    export AFFLUENT_CHROMIUM
}

check() {
    npm run --silent lint
    npm run --silent types
    npm run --silent test
    local fresh
    fresh=$(mktemp -d)
    # shellcheck disable=SC2064  # the folder of now
    trap "rm -rf '$fresh'" EXIT
    npm run --silent build -- --outDir "$fresh" --emptyOutDir --logLevel warn
    diff -rq "$fresh" dist >&2 ||
        { echo "error: dashboard/dist is not what the sources build; run scripts/dashboard.sh build and commit it" >&2; exit 1; }
    echo "dashboard: all well"
}

case ${1:-} in
    build)
        need_modules
        npm run --silent build
        ;;
    check)
        need_modules
        check
        ;;
    dev)
        need_modules
        exec npm run --silent dev
        ;;
    e2e)
        : "${AFFLUENT_URL:?names no running affluent, as http://127.0.0.1:8080}"
        need_modules
        need_chromium
        exec npm run --silent e2e -- "${@:2}"
        ;;
    *)
        echo "usage: scripts/dashboard.sh build|check|dev|e2e" >&2
        exit 2
        ;;
esac
