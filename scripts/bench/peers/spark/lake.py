"""Kafka → Delta Lake with Spark Structured Streaming: `spark-submit lake.py --table FOLDER …` (see `source`).

Exactly once in Delta: each batch's commit carries the query's id and the batch's number as `txn`, so that a batch
that is run again after a crash is passed over. What a batch holds is in the checkpoint, beside the table.
"""

from pyspark.sql import SparkSession

import source

if __name__ == "__main__":
    options = source.parser().parse_args()
    session = SparkSession.builder.appName("lake").getOrCreate()
    query = (
        source.rows(session, options)
        .writeStream.format("delta")
        .partitionBy(*source.schema_of(options)["partition_by"])
        .option("checkpointLocation", options.checkpoint)
        # Everything that is there now, then the end.
        .trigger(availableNow=True)
        .start(options.table)
    )
    query.awaitTermination()
    session.stop()
