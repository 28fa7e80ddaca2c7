"""Runs peers by themselves, against a running stack and a loaded topic; the benchmark runs them beside affluent.

    eval "$(scripts/stack.sh env)"
    $(scripts/python.sh bench) scripts/bench/peers --topic sales connect-best spark-lake

One JSON line per run on standard output. Exit 1 when a run failed. The Python is the benchmark's own, and:
    AFFLUENT__KAFKA__BROKERS, AFFLUENT__MONGO__URI   the services       as scripts/stack.sh env prints them
    AFFLUENT_STACK_DIR                               their folder       default .stack in the clone
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time

BENCH = pathlib.Path(__file__).resolve().parents[1]
sys.path[0] = str(BENCH)  # as when the benchmark itself runs

import peers  # noqa: E402
from peers import contents, shape  # noqa: E402
from services import Services  # noqa: E402
from subject import RunFailed, Topic  # noqa: E402
from workloads import WORKLOADS  # noqa: E402


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/peers", description="Drains a loaded topic of sales by peers of affluent."
    )
    parser.add_argument("peers", nargs="+", choices=peers.NAMES, metavar="PEER", help=", ".join(peers.NAMES))
    parser.add_argument("--topic", required=True, help="loaded by `affluent produce sales`; nobody writes to it now")
    parser.add_argument(
        "--keep", type=pathlib.Path, metavar="FOLDER", help="logs, filled-in settings and tables stay here"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    stack = pathlib.Path(os.environ.get("AFFLUENT_STACK_DIR") or BENCH.parents[1] / ".stack")
    services = Services(
        os.environ["AFFLUENT__KAFKA__BROKERS"], os.environ["AFFLUENT__MONGO__URI"], stack, f"peers-{time.time_ns()}"
    )
    failed = 0
    for name in options.peers:
        with tempfile.TemporaryDirectory(prefix="affluent-peer.") as scratch:
            work = (options.keep or pathlib.Path(scratch)) / name
            work.mkdir(parents=True)
            outcome = run(name, options, services, work.resolve())
        services.drop_databases()
        failed |= not outcome["verified"]
        print(json.dumps({"subject": name, **outcome}), flush=True)
    return failed


def run(name: str, options: argparse.Namespace, services: Services, work: pathlib.Path) -> dict:
    peer = peers.named(name)
    workload = next(workload for workload in WORKLOADS.values() if peer.supports(workload))
    records = contents.of_topic(services.brokers, options.topic, shape.of(workload)).records
    try:
        measure = peer.drain(workload, Topic(options.topic, partitions=0, records=records, bytes=0), services, work)
    except RunFailed as failure:
        return {"verified": False, "why": str(failure)}
    millions = records / 1e6
    found = {
        key: round(value, 2) if isinstance(value, float) else value
        for key, value in dataclasses.asdict(measure).items()
    }
    return {
        "records": records,
        "records_per_s": round(records / measure.seconds),
        "cpu_s_per_million": round(measure.cpu_s / millions, 1),
        "mongod_cpu_s_per_million": round(measure.mongod_cpu_s / millions, 1),
        **found,
    }


if __name__ == "__main__":
    sys.exit(main())
