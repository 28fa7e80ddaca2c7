"""Spark Structured Streaming 4.0.0 in one local JVM: into Delta Lake 4.0.1, or into Delta Lake and MongoDB.

Owns: the command line of spark-submit, the sign that its batch has begun.
Does not own: the programs (`lake`, `both`) and their settings (spark.conf), the drain (`peer`).

Both end by themselves when the topic is drained (`availableNow`).

    AFFLUENT_PEER_SPARK_MEMORY   heap of the JVM   default spark.conf's
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib

from workloads import BOTH, LAKE

from .. import software
from ..peer import Peer, Task

HERE = pathlib.Path(__file__).parent


class Spark(Peer):
    ends_by_itself = True
    all_at_once = True  # in the lake; where there is MongoDB too, its documents come after that
    program: str

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        where = software.prepare("spark")
        schema = task.work_dir / "schema.json"
        schema.write_text(json.dumps(dataclasses.asdict(task.shape) | {"partition_by": task.workload.partition_by}))
        submit = [f"{where['home']}/bin/spark-submit", "--properties-file", str(HERE / "spark.conf")]
        submit += ["--driver-class-path", f"{where['jars']}/*"]
        if memory := os.environ.get("AFFLUENT_PEER_SPARK_MEMORY"):
            submit += ["--driver-memory", memory]
        arguments = {
            "brokers": task.brokers,
            "topic": task.topic,
            "schema": schema,
            "checkpoint": self._checkpoint(task),
            "table": task.table,
            **self.arguments(task),
        }
        options = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
        environment = {
            "SPARK_HOME": where["home"],
            "PYSPARK_PYTHON": where["python"],
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(task.work_dir / "scratch"),
        }
        return [*submit, str(HERE / self.program), *options], environment

    def arguments(self, task: Task) -> dict[str, object]:
        return {}

    def at_work(self, task: Task) -> bool:
        """Spark writes down the offsets of a batch when it begins the batch."""
        return (self._checkpoint(task) / "offsets" / "0").exists()

    def _checkpoint(self, task: Task) -> pathlib.Path:
        return task.work_dir / "checkpoint"


class SparkLake(Spark):
    name = "spark-lake"
    guarantee = "Delta: exactly once, offsets in a checkpoint outside the table"
    program = "lake.py"
    sinks = frozenset({LAKE})


class SparkBoth(Spark):
    name = "spark-both"
    guarantee = "Delta: exactly once; MongoDB: idempotent by id; not atomic as a group"
    program = "both.py"
    sinks = BOTH

    def arguments(self, task: Task) -> dict[str, object]:
        return {"mongo-uri": task.mongo_uri, "database": task.database, "collection": task.collection}
