"""Four questions to a broker, by hand: a Kafka client library would be the only reason to install one here.

Owns: the few bytes of Kafka's protocol that are needed (Metadata 1, ListOffsets 1, CreateTopics 2,
CreatePartitions 0). Blocking; errors are OSError.
Does not own: retrying.
"""

import socket
import struct

TIMEOUT_SECONDS = 5
LATEST = -1


class Broker:
    def __init__(self, port):
        self.port = port

    def create_topic(self, topic, partitions):
        # no assignments, no configuration; timeout, not only to validate
        body = _array([_text(topic) + struct.pack(">ihii", partitions, 1, 0, 0)]) + struct.pack(">i?", 10_000, False)
        self._acknowledged(self._call(19, 2, body), topic)

    def grow_topic(self, topic, partitions):
        body = _array([_text(topic) + struct.pack(">ii", partitions, -1)]) + struct.pack(">i?", 10_000, False)
        self._acknowledged(self._call(37, 0, body), topic)

    def partitions(self, topic):
        reply = self._call(3, 1, _array([_text(topic)]))
        for _ in reply.array():
            reply.take(">i"), reply.text(), reply.take(">i"), reply.text()  # node, host, port, rack
        reply.take(">i")  # controller
        found = []
        for _ in reply.array():
            _check(reply.take(">h"), topic)
            reply.text(), reply.take(">?")
            for _ in reply.array():
                _, index, _ = reply.take(">h"), reply.take(">i"), reply.take(">i")
                for _ in range(2):  # replicas, in sync
                    for _ in reply.array():
                        reply.take(">i")
                found.append(index)
        return found

    def ends(self, topic):
        """The offset after the last record, by partition."""
        wanted = [struct.pack(">iq", partition, LATEST) for partition in self.partitions(topic)]
        reply = self._call(2, 1, struct.pack(">i", -1) + _array([_text(topic) + _array(wanted)]))
        ends = {}
        for _ in reply.array():
            reply.text()
            for _ in reply.array():
                partition, error, _, end = reply.take(">i"), reply.take(">h"), reply.take(">q"), reply.take(">q")
                _check(error, topic)
                ends[partition] = end
        return ends

    def _acknowledged(self, reply, topic):
        reply.take(">i")  # throttled
        for _ in reply.array():
            reply.text()
            error, message = reply.take(">h"), reply.text()
            _check(error, f"{topic}: {message}")

    def _call(self, key, version, body):
        request = struct.pack(">hhi", key, version, 1) + _text("affluent-chaos") + body
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            stream = connection.makefile("rb")
            length = stream.read(4)
            reply = stream.read(struct.unpack(">i", length)[0]) if len(length) == 4 else b""
        if len(reply) < 4:
            raise ConnectionError("the broker hung up")
        return _Reply(reply[4:])  # without the correlation id


class _Reply:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, form):
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def array(self):
        return range(self.take(">i"))

    def text(self):
        length = self.take(">h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length : self.at].decode()


def _text(text):
    return struct.pack(">h", len(text)) + text.encode()


def _array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def _check(error, what):
    if error:
        raise OSError(f"Kafka error {error} for topic {what}")
