"""Where the log of one topic ends, by the name and labels of kafka_exporter, for the lag rules' live check.

It asks the real broker. In production that is kafka_exporter's work (docker-compose.yml), which no Debian package has.
"""

import http.server

from confluent_kafka import Consumer, TopicPartition

TIMEOUT_SECONDS = 10


def serve(brokers: str, topic: str, port: int) -> None:
    # A group is demanded of every consumer; this one never subscribes.
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "log-ends", "enable.auto.commit": False})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = render(consumer, topic).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line per scrape is of no use."""

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def render(consumer: Consumer, topic: str) -> str:
    partitions = consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
    lines = ["# TYPE kafka_topic_partition_current_offset gauge"]
    for partition in sorted(partitions):
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT_SECONDS)
        lines.append(f'kafka_topic_partition_current_offset{{topic="{topic}",partition="{partition}"}} {end}')
    return "\n".join(lines) + "\n"
