"""Kafka Connect 4.1.1, one standalone worker, with MongoDB's own sink connector 2.0.1.

Owns: filling in the properties files beside it, the worker's command line, asking it whether a task has died.
Does not own: fetching the software (`prepare.sh`), the drain (`peer`).

    AFFLUENT_PEER_CONNECT_PORT   the worker's REST port   default: a free one
    AFFLUENT_PEER_CONNECT_HEAP   the worker's heap        default 1g
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import string
import urllib.request

from workloads import MONGO

from .. import software
from ..peer import Peer, Task

HERE = pathlib.Path(__file__).parent
LOG_SETTINGS = HERE.parents[2] / "stack" / "log4j2.xml"
# As in Connect's own start script, but for the heap.
JVM = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
]
JVM += ["-Djava.awt.headless=true", f"-Dlog4j2.configurationFile={LOG_SETTINGS}", "-Daffluent.log.level=WARN"]
REPLY_SECONDS = 1

GUARANTEES = {
    "default": "MongoDB: at least once",
    "best": "MongoDB: at least once, idempotent by id",
    "insert": "MongoDB: at least once",
    "insert-ids": "MongoDB: idempotent by id; refused documents are lost",
}


class Connect(Peer):
    sinks = frozenset({MONGO})
    ends_by_itself = False
    all_at_once = False

    def __init__(self, settings: str):
        self.settings = settings
        self.name = f"connect-{settings}"
        self.guarantee = GUARANTEES[settings]

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        where = software.prepare("connect")
        self._port = int(os.environ.get("AFFLUENT_PEER_CONNECT_PORT") or free_port())
        # The name makes the consumer group: one that ran before would go on where it ended.
        self._connector = f"{self.name}-{task.database}"
        values = {
            "brokers": task.brokers,
            "rest_port": self._port,
            "plugins": where["plugins"],
            "work": task.work_dir,
            "name": self._connector,
            "topic": task.topic,
            "mongo_uri": task.mongo_uri,
            "database": task.database,
            "collection": task.collection,
        }
        worker = "worker" if self.settings == "default" else "worker-tuned"
        files = [fill_in(HERE / f"{name}.properties", values, task.work_dir) for name in (worker, self.settings)]
        heap = os.environ.get("AFFLUENT_PEER_CONNECT_HEAP", "1g")
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        return ["java", "-Xms256m", f"-Xmx{heap}", *JVM, "-cp", f"{where['lib']}/*", main, *map(str, files)], {}

    def complaint(self) -> str | None:
        """A dead task leaves the worker running and idle."""
        status = f"http://127.0.0.1:{self._port}/connectors/{self._connector}/status"
        try:
            with urllib.request.urlopen(status, timeout=REPLY_SECONDS) as reply:
                tasks = json.load(reply)["tasks"]
        except OSError:
            return None  # still starting, or busy: the deadline decides
        dead = [task for task in tasks if task["state"] == "FAILED"]
        return f"task {dead[0]['id']} failed: {cause(dead[0]['trace'])}" if dead else None


def cause(trace: str) -> str:
    """The last exception of a Java stack trace, on one line."""
    named = [line for line in trace.splitlines() if line and not line.startswith("\t")]
    return named[-1].removeprefix("Caused by: ")


def fill_in(template: pathlib.Path, values: dict[str, object], folder: pathlib.Path) -> pathlib.Path:
    filled = folder / template.name
    filled.write_text(string.Template(template.read_text()).substitute(values))
    return filled


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
