"""Kafka → Delta Lake and MongoDB with one Spark query: `spark-submit both.py --table FOLDER --mongo-uri URI …`.

`foreachBatch` is Spark's documented way to feed two sinks from one read. Each sink by itself ends up right: Delta
passes over a batch it has (txnAppId, txnVersion), MongoDB replaces documents by `_id`. Not atomic as a group, and
nothing in MongoDB says how far it is.
"""

from pyspark.sql import DataFrame, SparkSession

import source

APP = "both"
# The connector's default is 512; larger bulks are its documented way to more throughput.
DOCUMENTS_PER_BULK = 5000


def write(batch: DataFrame, number: int) -> None:
    # Without it the topic would be read and decoded once per sink.
    batch.persist()
    (
        batch.write.format("delta")
        .mode("append")
        .partitionBy(*partition_by)
        .option("txnAppId", APP)
        .option("txnVersion", number)
        .save(options.table)
    )
    (
        # As with affluent, what derives from the record and its coordinates is the lake's alone.
        batch.drop("date", "_timestamp")
        .write.format("mongodb")
        .mode("append")
        .option("connection.uri", options.mongo_uri)
        .option("database", options.database)
        .option("collection", options.collection)
        .option("operationType", "replace")
        .option("idFieldList", "_id")
        .option("ordered", "false")
        .option("maxBatchSize", DOCUMENTS_PER_BULK)
        .save()
    )
    batch.unpersist()


if __name__ == "__main__":
    parser = source.parser()
    for name in ("mongo-uri", "database", "collection"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    partition_by = source.schema_of(options)["partition_by"]
    session = SparkSession.builder.appName(APP).getOrCreate()
    query = (
        source.rows(session, options)
        .writeStream.foreachBatch(write)
        .option("checkpointLocation", options.checkpoint)
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    session.stop()
