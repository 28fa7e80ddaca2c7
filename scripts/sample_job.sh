# shellcheck shell=bash
# Sourced by browser.sh and screenshots.sh: a job with the sales and clicks of the last weeks, its page and its shop.
#
#   sample_job SALES CLICKS DAYS
#     → services: AFFLUENT_TEST_KAFKA and AFFLUENT_TEST_MONGO, or scripts/stack.sh on free ports, in $work/stack
#     → affluent produce: so many sales and clicks of so many days up to now
#     → affluent run --once, then affluent run: the page at AFFLUENT_URL
#     → affluent collect: the tracker and the shop at AFFLUENT_SHOP_URL
#
# Owns: the folder $work, all that is started (`start`), and its end, also on a signal: services that were started here are
# wiped, $work is kept where the script failed. Whatever comes after reads affluent's own variables (AFFLUENT__…).
# Before: $clone is set, tools.sh is read.
: "${clone:?}"

# A build in the meantime must not change what is being looked at.
make_work() {
    need_affluent
    : "${affluent:?}"
    work=$(mktemp -d "${TMPDIR:-/tmp}/affluent-browser.XXXXXX")
    cp "$affluent" "$work/affluent"
    export AFFLUENT_BIN=$work/affluent
    started=()
    own_stack=no
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    local code=$? n
    trap - EXIT INT TERM HUP
    # By pid, and only what was started here; the last started first.
    for ((n = ${#started[@]} - 1; n >= 0; n--)); do end "${started[n]}"; done
    [ "$own_stack" = no ] || "$clone/scripts/stack.sh" wipe >&2 || true
    if [ "$code" = 0 ]; then rm -rf "$work"; else echo "$(basename "$0"): logs are in $work" >&2; fi
    exit "$code"
}

# start NAME COMMAND…: in the background, with a log, in a session of its own, so that what it starts ends with it.
start() {
    local name=$1
    shift
    setsid "$@" >"$work/$name.log" 2>&1 &
    started+=($!)
}

# in_session COMMAND…: the same, but seen and awaited. Not in the foreground: a signal would be heard only after it.
in_session() {
    setsid "$@" &
    started+=($!)
    wait "$!"
}

# end PID: it, and what is left of its session.
end() {
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    kill -KILL -- "-$1" 2>/dev/null || true
}

# answer URL: waits for it, a minute at most, and prints it.
answer() {
    python3 - "$1" <<'PYTHON'
import sys, time, urllib.request
until = time.monotonic() + 60
while True:
    try:
        sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=5).read())
        break
    except OSError as error:
        if time.monotonic() > until:
            sys.exit(f"error: {sys.argv[1]}: {error}")
        time.sleep(0.1)
PYTHON
}

sample_services() {
    # Only what is set here is to count: the environment beats files, and a file in the working directory is somebody's own.
    local name
    for name in "${!AFFLUENT__@}" AFFLUENT_CONFIG; do unset "$name"; done
    cd "$work" || return
    if [ -n "${AFFLUENT_TEST_KAFKA:-}" ] && [ -n "${AFFLUENT_TEST_MONGO:-}" ]; then
        # They are shared: names of this run's own.
        name=browser_${work##*.}
        export AFFLUENT__JOB=$name AFFLUENT__KAFKA__GROUP=$name
        export AFFLUENT__STREAMS__SALES__TOPIC=${name}_sales AFFLUENT__STREAMS__CLICKS__TOPIC=${name}_clicks
        export AFFLUENT__KAFKA__BROKERS=$AFFLUENT_TEST_KAFKA
        export AFFLUENT__MONGO__URI=$AFFLUENT_TEST_MONGO AFFLUENT__MONGO__DATABASE=$name
        return
    fi
    read -r AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT < <(free_ports 3)
    export AFFLUENT_KAFKA_PORT AFFLUENT_KAFKA_CONTROLLER_PORT AFFLUENT_MONGO_PORT
    # Docker's would not end with a folder of ours.
    export AFFLUENT_STACK_MODE=native AFFLUENT_STACK_DIR=$work/stack
    own_stack=yes
    "$clone/scripts/stack.sh" up
    export AFFLUENT__KAFKA__BROKERS=127.0.0.1:$AFFLUENT_KAFKA_PORT
    export AFFLUENT__MONGO__URI="mongodb://127.0.0.1:$AFFLUENT_MONGO_PORT/?replicaSet=rs0" AFFLUENT__MONGO__DATABASE=affluent
}

sample_job() {
    local http collect window
    make_work
    sample_services
    read -r http collect < <(free_ports 2)
    export AFFLUENT__LAKE__ROOT=$work/lake AFFLUENT__LAKE__COMMIT_INTERVAL=2s AFFLUENT__LAKE__IDLE_INTERVAL=1s
    export AFFLUENT__HTTP__LISTEN=127.0.0.1:$http AFFLUENT__COLLECT__LISTEN=127.0.0.1:$collect
    window=(--seed 7 --since "$(date -u -d "$3 days ago" +%FT%TZ)" --until "$(date -u +%FT%TZ)")
    "$AFFLUENT_BIN" produce sales --count "$1" "${window[@]}"
    "$AFFLUENT_BIN" produce clicks --count "$2" "${window[@]}"
    "$AFFLUENT_BIN" run --once
    start run "$AFFLUENT_BIN" run
    start collect "$AFFLUENT_BIN" collect
    export AFFLUENT_URL=http://127.0.0.1:$http AFFLUENT_SHOP_URL=http://127.0.0.1:$collect
    answer "$AFFLUENT_URL/readyz" >"$work/ready"
    answer "$AFFLUENT_SHOP_URL/healthz" >"$work/ready"
    # Playwright could not tell a page of last week from a page that is broken.
    answer "$AFFLUENT_URL/assets/app.js" | cmp - "$clone/dashboard/dist/assets/app.js" >&2 ||
        { echo "error: the page in $affluent is not dashboard/dist; build the binary again" >&2; exit 1; }
}
