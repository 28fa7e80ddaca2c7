#!/usr/bin/env bash
# The dashboard, the tracker and the sample shop in a real browser, against a real job.
#
#   scripts/browser.sh                     everything, about four minutes
#   scripts/browser.sh job/live            arguments go to Playwright
#
#   dashboard/ → scripts/dashboard.sh check: lint, types, unit tests, and that the committed bundle is a fresh build
#     → scripts/sample_job.sh: services on free ports, sales and clicks of 35 days, affluent run, affluent collect
#         → Chromium, led by Playwright (dashboard/e2e): figures are compared with what the sinks themselves say
#
# Exit 0 only if all tests pass; 1 if not, and the folder with the logs is kept; 2 usage; 3 a tool or a service is missing.
# What a failed test saw is in dashboard/test-results. Variables, besides those of scripts/stack.sh and scripts/dashboard.sh:
#   AFFLUENT_BIN            the binary to run      default: built in release from this clone
#   AFFLUENT_BROWSER_SEED   of the random choices  default: random, printed
#   AFFLUENT_TEST_KAFKA     broker's address; with AFFLUENT_TEST_MONGO set too, no stack is started
#   AFFLUENT_TEST_MONGO     MongoDB's URI (a replica set)
#   CARGO_TARGET_DIR        as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
case ${1:-} in -h | --help) usage; exit ;; esac
. "$clone/scripts/tools.sh"
. "$clone/scripts/sample_job.sh"
exec </dev/null

step() { printf '\n== %s\n' "$*"; }

step "the page's sources"
need_python
"$clone/scripts/dashboard.sh" check
AFFLUENT_TEST_PYTHON=${AFFLUENT_TEST_PYTHON:-$("$clone/scripts/python.sh" checks)}
export AFFLUENT_TEST_PYTHON

step "a job with the sales and clicks of 35 days"
sample_job 30000 15000 35

step "the tests"
in_session "$clone/scripts/dashboard.sh" e2e "$@"
step "browser: everything is as it must be"
