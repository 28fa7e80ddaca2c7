#!/usr/bin/env bash
# JSON tokenizers on affluent's job, as docs/performance.md reports them: exactness, time, instructions.
#
#   scripts/bench/tokenizers/run.sh
#
#   this crate, once for the baseline CPU (as affluent is built) and once for one with AVX2
#     → exactness and nanoseconds per record of every tokenizer
#     → with valgrind installed: instructions per record, which a busy machine does not change
#
# Linux on x86-64. Variables:
#   CARGO_TARGET_DIR  default $AFFLUENT_CACHE/target; the crate is built in `tokenizers` below it
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
. ../../tools.sh
need_rust
use_shared_target

# counted NAME ROUNDS: sets `instructions` and `records`. By callgrind rather than by the processor, whose counters a
# virtual machine may not have.
counted() {
    local output
    output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$tokenizers" --only "$1" --rounds "$2" 2>&1)
    instructions=$(sed -n 's/.*Collected : //p' <<<"$output")
    records=$(sed -n 's/ records$//p' <<<"$output")
}

for cpu in x86-64 x86-64-v3; do
    target=$CARGO_TARGET_DIR/tokenizers/$cpu
    RUSTFLAGS="-C target-cpu=$cpu" CARGO_TARGET_DIR=$target cargo build --release --quiet
    printf '\n== target-cpu=%s\n' "$cpu"
    tokenizers=$target/release/tokenizers
    "$tokenizers"
    command -v valgrind >/dev/null || continue
    printf '\ninstructions per record of sales\n'
    for name in affluent jiter sonic-rs-iterator sonic-rs-serde serde_json-raw simd-json-tape; do
        # The difference of two runs: the program's start, and making the records, are in both.
        counted "$name" 1
        first=$instructions first_records=$records
        counted "$name" 3
        printf '%-22s%12d\n' "$name" $(((instructions - first) / (records - first_records)))
    done
done
