"""What a user would pick instead of affluent, as subjects of the benchmark: README.md says which, and set how.

    shape           the fields a peer must be told about
    contents        what a topic, a collection, a table hold: counts, ids, money
    sinks           how much of it is visible from outside, while a peer writes
    processes       a peer's processes: CPU, memory, their end
    peer            one drain: start, watch, measure, stop, compare with the topic
    connect/        Kafka Connect + MongoDB sink: settings as files, and the subject that runs them
    spark/          Spark → Delta, and → Delta + MongoDB: settings, programs, subject

Run by itself: `python scripts/bench/peers --help`.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from .peer import Peer

_CONNECT = ("connect-default", "connect-best", "connect-insert", "connect-insert-ids")
NAMES = (*_CONNECT, "spark-lake", "spark-both")


def named(name: str) -> Peer:
    """One of NAMES."""
    # Here, so that the names alone need no package.
    from .connect.subject import Connect
    from .spark.subject import SparkBoth, SparkLake

    if name in _CONNECT:
        return Connect(name.removeprefix("connect-"))
    return {"spark-lake": SparkLake, "spark-both": SparkBoth}[name]()
