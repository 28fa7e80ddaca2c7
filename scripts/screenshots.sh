#!/usr/bin/env bash
# The pictures of the dashboard and the shop in docs/images, taken anew from a running job.
#
#   scripts/screenshots.sh            all of them, about four minutes
#
#   scripts/sample_job.sh: services on free ports, 200,000 sales and 50,000 clicks of two months, affluent run, affluent collect
#     → affluent produce --rate: more of both, as they would come
#     → Chromium, led by Playwright (dashboard/e2e/pictures) → pngquant: a palette, a third of the size → docs/images
#
# Exit 0 when all are taken; 1 if not, and the folder with the logs is kept; 3 a tool or a service is missing.
# Variables: those of scripts/stack.sh and scripts/dashboard.sh, and
#   AFFLUENT_BIN       the binary to run      default: built in release from this clone
#   CARGO_TARGET_DIR   as in scripts/test.sh
set -euo pipefail

clone=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }
case $* in
    '') ;;
    -h | --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
esac
. "$clone/scripts/tools.sh"
. "$clone/scripts/sample_job.sh"
exec </dev/null

need_python
command -v pngquant >/dev/null || need_packages "small pictures" pngquant
# The names of shared services' topics would be in the pictures.
unset AFFLUENT_TEST_KAFKA AFFLUENT_TEST_MONGO

# Days enough that the last thirty have thirty before them.
sample_job 200000 50000 62
# About what the shop sells and shows at a busy hour.
start sales "$AFFLUENT_BIN" produce sales --rate 0.3
start clicks "$AFFLUENT_BIN" produce clicks --rate 0.5
export AFFLUENT_PICTURES=$work/pictures
in_session "$clone/scripts/dashboard.sh" e2e --grep-invert pipeline
# A shop with more to do than ours: what a pipeline does is seen when it has something to do.
start many-sales "$AFFLUENT_BIN" produce sales --rate 400
start many-clicks "$AFFLUENT_BIN" produce clicks --rate 150
in_session "$clone/scripts/dashboard.sh" e2e --grep pipeline

mkdir -p "$clone/docs/images"
for picture in "$AFFLUENT_PICTURES"/*.png; do
    pngquant --quality 70-100 --speed 1 --strip --force --output "$clone/docs/images/$(basename "$picture")" "$picture"
done
ls -l "$clone/docs/images"
