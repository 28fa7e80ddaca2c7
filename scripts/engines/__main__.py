"""Other engines on affluent's lake: `scripts/engines.sh` starts it; its header says what is done.

Owns: the command line, the order, the printed table. Does not own: any of the steps.

    records      the sales, and their truth         job         affluent: configuration, processes
    guide        lake/README.md's examples, run     readers     every engine's whole view of a table
    spark        its session and its plans          scenarios   Spark beside a running job, and against it
"""

from __future__ import annotations

import argparse
import os
import pathlib
import signal
import sys
import time

# Spark hands out local time: let it be the truth's. Before anything looks at it.
os.environ["TZ"] = "UTC"
time.tzset()

import deltalake
import guide
import readers
import records
import scenarios
import spark
from job import Failed, Job, require
from pyspark.sql import SparkSession

SALES = 1500


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/engines.sh")
    for name, what in {
        "affluent": "the binary",
        "brokers": "Kafka",
        "mongo": "MongoDB's URI",
        "jars": "folder with Delta's jars for Spark",
        "work": "folder for lakes and logs; must not exist",
    }.items():
        parser.add_argument(f"--{name}", required=True, help=what)
    options = parser.parse_args()
    # Told to end it must still end what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = pathlib.Path(options.work)
    work.mkdir()
    spark.prepare(pathlib.Path(options.jars), work / "spark")
    readers.install_duckdb_extension(work / "duckdb")
    table = Table()
    try:
        jobs = [Job(name, options.affluent, options.brokers, options.mongo, work / name) for name in ("read", "beside")]
        reads(jobs[0], table)
        scenarios.run(SparkSession.getActiveSession(), jobs[1], table.row)
    except Failed as failure:
        print(f"FAILED: {failure}\nlogs and lakes: {work}", file=sys.stderr)
        return 1
    finally:
        if session := SparkSession.getActiveSession():
            session.stop()
    return 0


class Table:
    """What was done and what was seen, a line each as soon as it is known, with the seconds it took."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def row(self, what: str, seen: str) -> None:
        now = time.monotonic()
        print(f"{what:<46} {seen:<100} {now - self._last:6.1f} s", flush=True)
        self._last = now


def reads(job: Job, table: Table) -> None:
    """Three loads of sales, a compaction after the second; then every engine, before and after Spark's OPTIMIZE."""
    loads = [records.generate(seed, SALES) for seed in (1, 2, 3)]
    before: list[records.Sale] = []
    sales: list[records.Sale] = []
    for number, produced in enumerate(loads):
        if number == 2:
            job.ok("lake", "compact", "--quiet", "0s", "--stream", "sales")
            before = list(sales)
        job.produce(f"sales-{number}", produced.lines)
        job.ok("run", "--once")
        sales += produced.sales
    require(job.verify()["holds"], "verify does not hold")
    globbed = readers.by_glob(job.table)
    require(globbed == len(sales) + len(before), f"a glob finds {globbed} rows: the guide's warning is no longer shown to be true")
    table.row("affluent", f"{len(sales)} sales in, {len(records.ODD)} odd regions; a glob would count {globbed}")

    for example in guide.examples():
        truth = records.revenue_by_region(before if example.heading == guide.PREVIOUS else sales, records.THE_DAY)
        compare_answer(example, truth, job.table)
        table.row(f"lake/README.md: {example.heading}", f"{len(truth)} regions, sales and revenue as produced")

    everyone = (*readers.READERS, readers.spark(SparkSession.getActiveSession()))
    for reader in everyone:
        compare_rows(reader, sales, job.table)
        table.row(reader.name, f"{len(sales)} rows, every value as produced{noted(reader)}")
    session_table = spark.Table(SparkSession.getActiveSession(), job.table)
    table.row("VACUUM by Spark, dry", f"of {spares_active_files(session_table)} files with no retention none in use")
    rewritten = ", ".join(f"'{region}'" for region in records.REWRITTEN)
    session_table.sql(f"OPTIMIZE {{table}} WHERE region IN ({rewritten})")
    report = job.verify()
    require(report["holds"], f"after Spark's OPTIMIZE verify does not hold: {report['lake']}")
    for reader in everyone:
        compare_rows(reader, sales, job.table)
    table.row("all of them after Spark's OPTIMIZE", f"{len(sales)} rows each, every value as produced; verify holds")


def spares_active_files(table: spark.Table) -> int:
    """Spark tells files in use by the very text of their paths: one that it would spell otherwise it deletes, once it is old.
    How many it would delete if none were too young: those that the compaction has replaced."""
    doomed = {path.removeprefix("file:") for path in table.vacuum_would_delete(hours=0)}
    active = set(deltalake.DeltaTable(table.path).file_uris())
    folders = {os.path.dirname(file) for file in active}
    wrong = sorted(doomed & (active | folders))
    require(not wrong, f"Spark's VACUUM would delete {len(wrong)} files that are in use, the first: {wrong[:1]}")
    require(len(doomed) > 0, "Spark's VACUUM sees none of the files that the compaction has replaced")
    return len(doomed)


def noted(reader: readers.Reader) -> str:
    return f" (but {', '.join(map(repr, reader.reads_as_null))} as null)" if reader.reads_as_null else ""


def compare_answer(example: guide.Example, truth: records.Revenue, table: pathlib.Path) -> None:
    if example.heading == guide.BY_PATH:
        truth = records.merge(truth, readers.NULL_BY_PATH, None)
    answer = example.answer(table)
    wrong = {region: (answer.get(region), truth.get(region)) for region in answer | truth if answer.get(region) != truth.get(region)}
    require(not wrong, f"{example.heading}: of {len(truth)} regions {len(wrong)} differ (answer, truth): {wrong}")


def compare_rows(reader: readers.Reader, sales: list[records.Sale], table: pathlib.Path) -> None:
    rows, truth = reader.rows(table), reader.expects(sales)
    require(len(rows) == len(truth), f"{reader.name} reads {len(rows)} rows of {len(truth)}")
    wrong = [(row, sale) for row, sale in zip(rows, truth) if row != sale]
    require(not wrong, f"{reader.name}: {len(wrong)} rows differ (read, truth), the first: {wrong[:1]}")


if __name__ == "__main__":
    sys.exit(main())
