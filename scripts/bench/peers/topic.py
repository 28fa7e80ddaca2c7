"""Reads a topic from end to end, and prints what it holds as one JSON object.

    topic.py BROKERS TOPIC ID [MONEY]     names of the fields to be counted and summed

A program of its own, as `table`: millions of ids in a set would stay in the benchmark's own memory, which a child
process takes over in its high-water mark.
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import confluent_kafka

TIMEOUT_SECONDS = 30
BATCH = 10_000


def main(brokers: str, topic: str, key: str, money: str | None = None) -> None:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": brokers, "group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True}
    )
    records, ids, amount = 0, set(), Decimal(0)
    for payload in payloads(consumer, topic):
        record = json.loads(payload, parse_float=Decimal)
        records += 1
        ids.add(record[key])
        if money:
            amount += record[money]
    consumer.close()
    print(json.dumps({"records": records, "ids": len(ids)} | ({"amount": str(amount)} if money else {})))


def payloads(consumer: confluent_kafka.Consumer, topic: str):
    partitions = consumer.list_topics(topic, TIMEOUT_SECONDS).topics[topic].partitions
    consumer.assign(
        [confluent_kafka.TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING) for number in partitions]
    )
    at_end: set[int] = set()
    while len(at_end) < len(partitions):
        messages = consumer.consume(BATCH, TIMEOUT_SECONDS)
        if not messages:
            sys.exit(f"topic {topic}: nothing within {TIMEOUT_SECONDS} s before its end")
        for message in messages:
            if not message.error():
                yield message.value()
            elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                raise confluent_kafka.KafkaException(message.error())


if __name__ == "__main__":
    main(*sys.argv[1:])
