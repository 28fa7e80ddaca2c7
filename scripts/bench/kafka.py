"""What the benchmark itself asks of Kafka: topics made and deleted, and a topic read from end to end.

Owns: the client. Does not own: what is written into topics (`topics`: affluent's own producer does that).
"""

from __future__ import annotations

import array
import typing

import confluent_kafka
from confluent_kafka.admin import AdminClient, NewTopic

TIMEOUT_SECONDS = 30
BATCH = 10_000


class Kafka:
    def __init__(self, brokers: str):
        self.brokers = brokers
        self._admin = AdminClient({"bootstrap.servers": brokers})

    def create_topic(self, name: str, partitions: int) -> None:
        self._admin.create_topics([NewTopic(name, partitions, 1)], operation_timeout=TIMEOUT_SECONDS)[name].result(
            TIMEOUT_SECONDS
        )

    def delete_topics(self, names: typing.Sequence[str]) -> None:
        """Those of them that exist."""
        existing = self._admin.list_topics(timeout=TIMEOUT_SECONDS).topics
        names = [name for name in names if name in existing]
        if names:
            for deleted in self._admin.delete_topics(names, operation_timeout=TIMEOUT_SECONDS).values():
                deleted.result(TIMEOUT_SECONDS)

    def size(self, topic: str) -> tuple[int, int]:
        """Records and payload bytes, by reading all of them: exact, and the broker's pages are as warm for the first
        subject as for the last."""
        records = size = 0
        for batch in self._batches(topic):
            records += len(batch)
            size += sum(len(message) for message in batch)
        return records, size

    def ends(self, topic: str) -> dict[int, int]:
        """By partition, the offset after the last record."""
        consumer = self._consumer()
        try:
            return {
                p: self._range(consumer, topic, p)[1]
                for p in consumer.list_topics(topic, TIMEOUT_SECONDS).topics[topic].partitions
            }
        finally:
            consumer.close()

    def timestamps(self, topic: str) -> dict[int, array.array]:
        """By partition, the records' own times in ms since 1970, by offset. For topics without holes."""
        found: dict[int, array.array] = {}
        for batch in self._batches(topic):
            for message in batch:
                times = found.setdefault(message.partition(), array.array("q"))
                if message.offset() != len(times):
                    raise RuntimeError(f"{topic}/{message.partition()} has a hole before offset {message.offset()}")
                times.append(message.timestamp()[1])
        return found

    def _batches(self, topic: str) -> typing.Iterator[list[confluent_kafka.Message]]:
        consumer = self._consumer()
        try:
            partitions = consumer.list_topics(topic, TIMEOUT_SECONDS).topics[topic].partitions
            left = sum(high - low for low, high in (self._range(consumer, topic, p) for p in partitions))
            consumer.assign(
                [confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in partitions]
            )
            while left > 0:
                batch = consumer.consume(BATCH, TIMEOUT_SECONDS)
                if not batch:
                    raise TimeoutError(f"{left} records of {topic} did not come within {TIMEOUT_SECONDS} s")
                for message in batch:
                    if message.error():
                        raise confluent_kafka.KafkaException(message.error())
                left -= len(batch)
                yield batch
        finally:
            consumer.close()

    def _consumer(self) -> confluent_kafka.Consumer:
        # Partitions are assigned by hand: the group, which the client insists on, is never joined.
        return confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.brokers,
                "group.id": "bench",
                "enable.auto.commit": False,
                "fetch.queue.backoff.ms": 10,
            }
        )

    @staticmethod
    def _range(consumer: confluent_kafka.Consumer, topic: str, partition: int) -> tuple[int, int]:
        return consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, partition), TIMEOUT_SECONDS)
