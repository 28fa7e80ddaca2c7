"""Spark in this process, and the figures of a query that tell what it has read.

Owns: the environment the guide's session finds (jars, memory, quiet logs). Does not own: the session itself, which the
guide's example makes, nor what is asked (`scenarios`).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing

from pyspark.sql import DataFrame, SparkSession

# The defaults are for clusters: 50 tasks to read a log of a few lines, 10,000 to list the folders of a VACUUM.
SETTINGS = """\
spark.master                                   local[2]
spark.driver.memory                            1g
spark.driver.host                              127.0.0.1
spark.driver.bindAddress                       127.0.0.1
spark.driver.extraClassPath                    {jars}/*
spark.ui.enabled                               false
spark.ui.showConsoleProgress                   false
spark.log.level                                OFF
# Minutes of work, not hours: the second compiler would take more than it gives.
spark.driver.extraJavaOptions                  -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.sql.shuffle.partitions                   2
spark.databricks.delta.snapshotPartitions      2
spark.sql.sources.parallelPartitionDiscovery.parallelism  2
spark.sql.warehouse.dir                        {folder}/warehouse
spark.local.dir                                {folder}/scratch
"""


def prepare(jars: pathlib.Path, folder: pathlib.Path) -> None:
    """For the session that comes."""
    folder.mkdir()
    (folder / "spark-defaults.conf").write_text(SETTINGS.format(jars=jars, folder=folder))
    os.environ["SPARK_CONF_DIR"] = str(folder)
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    # Without it Java opens no directory with an accent in its name.
    os.environ["LC_ALL"] = "C.UTF-8"


@dataclasses.dataclass(frozen=True)
class Scan:
    """Files that a query has opened, of those that the table has."""

    read: int
    of: int


def scan(table: DataFrame, query: DataFrame) -> Scan:
    """Runs the query; the figure is its executed plan's own."""
    query.collect()
    plan = query._jdf.queryExecution().executedPlan()
    return Scan(read=sum(_metric(plan, "numFiles")), of=len(table.inputFiles()))


def _metric(plan: typing.Any, name: str) -> typing.Iterator[int]:
    if plan.metrics().contains(name):
        yield plan.metrics().apply(name).value()
    children = plan.children()
    for index in range(children.size()):
        yield from _metric(children.apply(index), name)


class Table:
    """SQL on one table by its path."""

    def __init__(self, session: SparkSession, path: pathlib.Path):
        self.path = path
        self.name = f"delta.`{path}`"
        self._session = session

    def sql(self, statement: str) -> list[dict[str, typing.Any]]:
        """`{table}` stands for the table."""
        return [row.asDict(recursive=True) for row in self._session.sql(statement.format(table=self.name)).collect()]

    def at(self, version: int | None = None) -> DataFrame:
        reader = self._session.read.format("delta")
        return (reader if version is None else reader.option("versionAsOf", version)).load(str(self.path))

    def last(self, operation: str) -> dict[str, typing.Any]:
        """The newest commit of that kind, from the table's history."""
        return next(row for row in self.sql("DESCRIBE HISTORY {table} LIMIT 200") if row["operation"] == operation)

    def vacuum_would_delete(self, hours: int | None = None) -> list[str]:
        """Files and folders, with that retention or the table's; it deletes nothing."""
        retain = "" if hours is None else f"RETAIN {hours} HOURS "
        check = "spark.databricks.delta.retentionDurationCheck.enabled"
        self._session.conf.set(check, "false")
        doomed = [row["path"] for row in self.sql(f"VACUUM {{table}} {retain}DRY RUN")]
        self._session.conf.unset(check)
        return doomed

    def checkpoint(self) -> None:
        """As Spark writes one by itself every so many commits of its own."""
        # Of the newest version: loading the table takes it in.
        self.at()
        log = self._session._jvm.org.apache.spark.sql.delta.DeltaLog
        log.forTable(self._session._jsparkSession, str(self.path)).checkpoint()
