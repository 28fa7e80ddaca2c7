"""The stream both programs read: a whole topic, decoded under a declared schema into affluent's own columns.

Owns: the session, the Kafka source, decoding. Does not own: sinks (`lake`, `both`), Spark's settings (spark.conf).

Rows have the declared fields, `date` of the event time, Kafka's `_timestamp`, and `_id` from partition and offset: the
same columns and types as in affluent's lake, so that both write the same table.

Arguments, all required: --brokers, --topic, --schema (JSON: fields, event_time, partition_by), --checkpoint, --table.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import typing

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

PARTITION_SHIFT = 44


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("brokers", "topic", "schema", "checkpoint", "table"):
        parser.add_argument(f"--{name}", required=True)
    return parser


def schema_of(options: argparse.Namespace) -> dict[str, typing.Any]:
    return json.loads(pathlib.Path(options.schema).read_text())


def rows(session: SparkSession, options: argparse.Namespace) -> DataFrame:
    schema = schema_of(options)
    records = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", options.brokers)
        .option("subscribe", options.topic)
        .option("startingOffsets", "earliest")
        # Rows that retention took are an error, as with affluent.
        .option("failOnDataLoss", "true")
        .load()
    )
    declared = ", ".join(f"`{name}` {kind}" for name, kind in schema["fields"])
    position = f.shiftleft(f.col("partition").cast("long"), PARTITION_SHIFT) + f.col("offset")
    decoded = records.select(
        f.from_json(f.col("value").cast("string"), declared).alias("row"),
        f.col("timestamp").alias("_timestamp"),
        position.alias("_id"),
    )
    return decoded.select("row.*", f.to_date(f"row.{schema['event_time']}").alias("date"), "_id", "_timestamp")
