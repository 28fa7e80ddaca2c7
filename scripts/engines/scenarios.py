"""Spark at work on a table while affluent writes into it, and once against it.

Owns: what Spark does, in which order, and what must hold after each step. Does not own: SQL and plans (`spark`), affluent's
processes (`job`).

    load ─▶ topic ─▶ affluent run (a commit a second) ─▶ table ◀─ Spark: reads, OPTIMIZE, VACUUM, DELETE, checkpoint: it goes on
                                                              ◀─ Spark: RESTORE, overwrite: it must stop
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import signal
import typing

import deltalake
from pyspark.sql import SparkSession

import spark
from job import Job, require, until

RECORDS_PER_SECOND = 100
EARLIER_SALES = 2000
# Of the table, before Spark begins.
COMMITS = 8
THE_DAY, THE_REGION = "2026-02-01", "Île-de-France"
# Of a day that no sales come in for any more: Spark refuses to delete from a partition that another commit meanwhile adds to.
DELETED = "date = '2026-01-15' AND region = 'Corse' AND quantity = 1"

Told = typing.Callable[[str, str], None]
"""Told of each step: its name, and what was seen."""


def run(session: SparkSession, job: Job, tell: Told) -> None:
    with contextlib.ExitStack() as processes:
        stage = Stage(session, job, tell, processes)
        stage.advance(COMMITS)
        stage.prunes()
        stage.optimizes()
        stage.vacuums()
        deleted = stage.deletes()
        stage.restarts_from_sparks_checkpoint()
        stage.restores(deleted)
        stage.overwrites(deleted)


class Stage:
    """A load, the job, and Spark; the load and the job are started here and end with `processes`."""

    def __init__(self, session: SparkSession, job: Job, tell: Told, processes: contextlib.ExitStack):
        self.job = job
        self.table = spark.Table(session, job.table)
        self.tell = tell
        self.processes = processes
        job.sales_of("2026-01-15", EARLIER_SALES)
        self.load = job.load(RECORDS_PER_SECOND)
        processes.callback(self.load.end)
        self.again()

    # What the job goes on through.

    def prunes(self) -> None:
        """By partitions: of a day and a region only their own files are opened."""
        table = self.table.at(self.version())
        scan = spark.scan(table, table.where(f"date = '{THE_DAY}' AND region = '{THE_REGION}'"))
        theirs = sum("date=2026-02-01" in file and "le-de-France" in file for file in table.inputFiles())
        require(scan.read == theirs < scan.of / 4, f"{scan.read} of {scan.of} files read, {theirs} are of that partition")
        self.tell("read one day and region", f"{scan.read} of {scan.of} files opened")

    def optimizes(self) -> None:
        self.table.sql("OPTIMIZE {table}")
        self.advance(2)
        done = self.table.last("OPTIMIZE")["operationMetrics"]
        removed, added = int(done["numRemovedFiles"]), int(done["numAddedFiles"])
        require(removed > added > 0, f"OPTIMIZE made {added} files of {removed}")
        # Of Spark's files and its own, by paths that each wrote in its own way.
        self.job.ok("lake", "compact", "--stream", "sales")
        self.intact(frozenset())
        self.tell("OPTIMIZE", f"{removed} files became {added}; ingestion went on, verify holds")

    def vacuums(self) -> None:
        doomed = self.table.vacuum_would_delete()
        require(doomed == [], f"VACUUM would delete {doomed[:3]} of a table that is minutes old")
        before = _data_files(self.job.table)
        self.table.sql("VACUUM {table}")
        gone = before - _data_files(self.job.table)
        require(not gone, f"VACUUM deleted {sorted(gone)[:3]}")
        self.advance(2)
        self.tell("VACUUM", f"nothing of {len(before)} files deleted, before or after the dry run; ingestion went on")

    def deletes(self) -> frozenset[int]:
        """What is gone is what Spark says it saw and deleted, and nothing else."""
        self.table.sql(f"DELETE FROM {{table}} WHERE {DELETED}")
        self.advance(2)
        commit = self.table.last("DELETE")
        seen = self.table.at(commit["readVersion"]).where(DELETED).select("_id").collect()
        deleted = frozenset(row["_id"] for row in seen)
        count = int(commit["operationMetrics"]["numDeletedRows"])
        require(count == len(deleted) > 0, f"Spark says {count} rows deleted, {len(deleted)} match")
        require("has changed rows of this table" in self.running.log(), "affluent says nothing of the DELETE")
        missing = self.intact(deleted)
        self.tell("DELETE", f"{count} rows gone; verify names {missing} missing, the others are there once")
        return deleted

    def restarts_from_sparks_checkpoint(self) -> None:
        self.running.signal(signal.SIGTERM)
        code = self.running.wait()
        require(code == 0, f"told to end, it ended with {code}:\n{self.running.log()[-2000:]}")
        self.table.checkpoint()
        checkpoint = self.job.table / "_delta_log" / f"{self.version():020}.checkpoint.parquet"
        require(checkpoint.exists(), f"Spark has not written {checkpoint.name}")
        self.again()
        self.advance(2)
        self.tell("checkpoint", "the job restarts from Spark's and goes on")

    # What it must stop for.

    def restores(self, deleted: frozenset[int]) -> None:
        newest = self.rest()
        self.table.sql(f"RESTORE {{table}} TO VERSION AS OF {newest - 3}")
        said = self.stops("RESTORE", newest)
        self.heal(newest, deleted)
        self.tell("RESTORE", said)

    def overwrites(self, deleted: frozenset[int]) -> None:
        newest = self.rest()
        kept = self.table.at(newest).where(f"region = '{THE_REGION}'")
        kept.write.format("delta").mode("overwrite").save(str(self.job.table))
        said = self.stops("WRITE", newest)
        self.heal(newest, deleted)
        self.tell('write.mode("overwrite")', said)

        newest = self.rest()
        self.table.sql(f"INSERT OVERWRITE {{table}} SELECT * FROM {{table}} VERSION AS OF {newest - 3}")
        said = self.stops("WRITE", newest)
        self.heal(newest, deleted)
        self.tell("INSERT OVERWRITE", said)

    def stops(self, operation: str, newest: int) -> str:
        """The commit that would come next finds out: exit 1, a message with the version and the choices, nothing behind it."""
        self.load.signal(signal.SIGCONT)
        code = self.running.wait()
        log = self.running.log()
        require(code == 1, f"after {operation} the job ended with {code}:\n{log[-2000:]}")
        require(self.version() == newest + 1, f"{self.version() - newest - 1} commits behind the {operation}")
        again = self.job.output("run", "--once")
        require(again.returncode == 1, f"started again after {operation} it ended with {again.returncode}")
        require(self.version() == newest + 1, f"a commit behind the {operation}")
        for said in (log, again.stderr):
            for name in (f"version {newest + 1} ", f"({operation})", f"version {newest} ", "move it away"):
                require(name in said, f"after {operation} it does not name {name!r}:\n{said[-2000:]}")
        return "exit 1 with the choices, nothing committed behind it; restored forward, it goes on"

    def heal(self, version: int, deleted: frozenset[int]) -> None:
        """By the first of the choices it names."""
        self.table.sql(f"RESTORE {{table}} TO VERSION AS OF {version}")
        self.again()
        self.advance(2)
        self.intact(deleted)

    # The job.

    def again(self) -> None:
        self.running = self.job.start("run", "run")
        self.processes.callback(self.running.end)
        self.running.until_logged("reading")

    def version(self) -> int:
        return deltalake.DeltaTable(self.job.table).version() if self.job.table.exists() else 0

    def advance(self, commits: int) -> None:
        """So many more commits of the job: it goes on."""
        self.load.signal(signal.SIGCONT)
        target = self.version() + commits
        until(f"version {target} of the table", lambda: self.version() >= target, self.running.is_running)

    def rest(self) -> int:
        """All is in, and no commit comes in between; the table's version."""
        self.load.signal(signal.SIGSTOP)
        self.job.until_caught_up()
        return self.version()

    # The proof.

    def intact(self, deleted: frozenset[int]) -> int:
        """Every record is in both sinks once, those deleted in MongoDB only; how many verify says are missing."""
        report = self.job.verify()
        for sink in ("mongo", "lake"):
            missing = len(deleted) if sink == "lake" else 0
            counted = {kind: report[sink][kind] for kind in ("missing", "duplicate", "foreign", "unequal", "misplaced_files")}
            expected = dict.fromkeys(counted, 0) | {"missing": missing}
            require(counted == expected, f"verify says of {sink}: {counted}, expected {expected}")
        require(report["holds"] == (not deleted), f"verify says: {report['holds']}, {report['problems']}")
        named = {row["id"] for row in report["lake"]["examples"].get("missing", [])}
        require(named <= deleted, f"verify names {sorted(named - deleted)} that nobody deleted")
        rows = deltalake.DeltaTable(self.job.table).to_pyarrow_table(columns=["_id"])["_id"].to_pylist()
        twice = [id for id, times in collections.Counter(rows).items() if times > 1]
        require(not twice, f"delta-rs reads {len(twice)} ids twice")
        require(not deleted & set(rows), "rows that were deleted are back")
        return report["lake"]["missing"]


def _data_files(table: pathlib.Path) -> frozenset[pathlib.Path]:
    return frozenset(table.glob("date=*/*/*.parquet"))
