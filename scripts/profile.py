#!/usr/bin/env python3
"""Reads `perf script` on stdin and prints CPU-seconds per million records by stage.

Usage: profile.py RECORDS TIME_FILE   (TIME_FILE: what GNU time -v wrote)

A sample belongs to the first stage, in the order below, one of whose names occurs in its stack: the stages are
what the code calls them, so time in the allocator, memcpy or zstd counts for whoever asked for it.
"""
import re
import sys
from collections import Counter

STAGES = [
    ("decode JSON → Arrow", ["affluent::decode"]),
    ("Parquet: split, encode, compress", ["affluent::lake::split", "affluent::lake::parquet", "parquet::", "affluent::lake::stats"]),
    ("rollups", ["affluent::rollup"]),
    ("BSON from Arrow", ["affluent::sink::mongo::document"]),
    ("MongoDB client: send, receive", ["mongodb::", "affluent::sink::mongo", "bson::"]),
    ("lake: files and log", ["affluent::lake", "affluent::sink::lake"]),
    ("take records from librdkafka", ["affluent::source"]),
    ("librdkafka's own threads", ["rd_kafka", "rdk:"]),
]


def samples(lines):
    """(thread name, [function, …]) per sample; a blank line ends one."""
    thread, stack = None, []
    for line in lines:
        if not line.strip():
            if thread is not None:
                yield thread, stack
            thread, stack = None, []
        elif thread is None:
            thread = line.split()[0]
        else:
            stack.append(line.split(maxsplit=1)[1].strip() if len(line.split()) > 1 else "")
    if thread is not None:
        yield thread, stack


def stage(thread, stack):
    text = "\n".join(stack)
    for name, marks in STAGES:
        if any(mark in text for mark in marks):
            return name
    return "librdkafka's own threads" if thread.startswith("rdk:") else "rest"


def main(records, time_file):
    counted = Counter(stage(*sample) for sample in samples(sys.stdin))
    measured = open(time_file).read()
    find = lambda label: re.search(re.escape(label) + r"[^:]*: (.+)", measured).group(1)
    cpu = float(find("User time")) + float(find("System time"))
    total = sum(counted.values())
    millions = int(records) / 1e6
    print(f"{'stage':36} {'CPU-s per million':>18} {'share':>7}")
    for name, n in counted.most_common():
        print(f"{name:36} {cpu * n / total / millions:18.2f} {n / total:7.1%}")
    print(f"{'all':36} {cpu / millions:18.2f} {1:7.1%}")
    print(f"peak RSS {int(find('Maximum resident set size')) / 1024:.0f} MiB")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
