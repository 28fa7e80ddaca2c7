"""One drain by a peer: everything in a loaded topic, from no process at all to the last record in the sink.

    start ─▶ watch: sinks, processes ─▶ last record seen (or the process ended) ─▶ stop ─▶ compare with the topic
    └─────────────── wall clock, CPU ───────────────┘

Owns: that order, the deadline, and what makes a run fail. Does not own: which command (`connect`, `spark`).

A sink is looked at every 50 ms, as with affluent, which is the resolution of every time here. For a peer that never
ends by itself the clock and its CPU stop when the last record is seen: what it would still do to shut down is not
charged.

    AFFLUENT_PEER_LIMIT   seconds after which a run has failed   default 300
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import time
import typing

from observe import DRAIN_INTERVAL_SECONDS
from pymongo.database import Database
from subject import Measure, RunFailed, Topic
from workloads import LAKE, MONGO, Sales, Workload

from . import contents, shape, sinks
from .processes import Tree

if typing.TYPE_CHECKING:
    from services import Services

HEALTH_SECONDS = 2
LIMIT_SECONDS = float(os.environ.get("AFFLUENT_PEER_LIMIT", "300"))


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be drained, and into what."""

    workload: Workload
    shape: shape.Shape
    topic: str
    brokers: str
    mongo_uri: str
    database: str
    collection: str
    work_dir: pathlib.Path

    @property
    def table(self) -> pathlib.Path:
        return self.work_dir / "lake" / "sales"


@dataclasses.dataclass
class Seen:
    """What the outside observer saw, in seconds from the start of the first process."""

    at_work: float | None = None
    """The end of the peer's own start."""
    cpu_at_work: float | None = None
    """CPU-seconds it had spent by then."""
    first: float | None = None
    records_at_first: int = 0
    last: float | None = None
    end: float = 0.0
    records: int = 0


class Peer:
    name: str
    guarantee: str
    sinks: frozenset[str]
    ends_by_itself: bool
    all_at_once: bool
    """Whether one commit shows all records: there is then no drain to be timed."""

    def supports(self, workload: Workload) -> bool:
        """Plain drains: no peer keeps rollups, and what a peer does with broken records is its own story."""
        broken = isinstance(workload.records, Sales) and workload.records.bad_percent > 0
        return (
            workload.kind == "drain"
            and workload.sinks == self.sinks
            and not broken
            and not workload.history
            and (MONGO not in workload.sinks or not workload.rollups)
        )

    def drain(self, workload: Workload, topic: Topic, services: Services, work_dir: pathlib.Path) -> Measure:
        records_shape = shape.of(workload)
        truth = contents.of_topic(services.brokers, topic.name, records_shape)
        task = Task(
            workload,
            records_shape,
            topic.name,
            services.brokers,
            services.mongo_uri,
            services.new_database(),
            "sales",
            work_dir,
        )
        database = services.mongo[task.database]
        command, environment = self.command(task)
        services.settle()
        meter = services.meter()
        tree = Tree(command, environment, work_dir / f"{self.name}.log")
        try:
            seen = self._watch(task, tree, self._sinks(task, database), truth.records)
            cpu_s = tree.cpu_s
            cost = meter.read(cpu_s)
        finally:
            tree.stop()
        detail = {
            "seconds_start": seen.at_work,
            "cpu_s_start": seen.cpu_at_work,
            "seconds_work": seen.last - seen.at_work,
        }
        differing = self._compare(task, database, truth, detail)
        if differing:
            detail["why"] = "; ".join(differing)
        return Measure(
            seconds=seen.end,
            verified=not differing,
            seconds_first=seen.first,
            seconds_drain=None if self.all_at_once else seen.last - seen.first,
            records_drain=None if self.all_at_once else truth.records - seen.records_at_first,
            cpu_s=cpu_s,
            mongod_cpu_s=cost.mongod_cpu_s,
            broker_cpu_s=cost.broker_cpu_s,
            other_cpu_s=cost.other_cpu_s,
            peak_rss_mib=tree.peak_rss_mib,
            **(sinks.table_figures(task.table) if LAKE in self.sinks else {}),
            detail=detail,
        )

    # What a peer says for itself.

    def command(self, task: Task) -> tuple[list[str], dict[str, str]]:
        """The command to run and what it needs in its environment; may write settings into the work folder."""
        raise NotImplementedError

    def complaint(self) -> str | None:
        """Why this run cannot succeed any more, if the peer knows without ending."""
        return None

    def at_work(self, task: Task) -> bool:
        """Whether the start is over before the first record is visible: the start is told apart from the work."""
        return False

    # The order of a drain.

    def _sinks(self, task: Task, database: Database) -> list[sinks.Sink]:
        made = {
            LAKE: lambda: sinks.LakeSink(task.table),
            MONGO: lambda: sinks.MongoSink(database, task.collection),
        }
        return [made[name]() for name in sorted(self.sinks)]

    def _watch(self, task: Task, tree: Tree, watched: list[sinks.Sink], records: int) -> Seen:
        """Returns when all records are seen, or, of a peer that ends by itself, when it has; RunFailed otherwise."""
        seen, asked = Seen(), 0.0
        while True:
            tree.sample()
            # A record counts once it is in every sink.
            seen.records = min(sink.visible() for sink in watched)
            seen.end = time.monotonic() - tree.started
            self._note(seen, task, tree, records)
            if tree.exit_code is not None or (seen.last is not None and not self.ends_by_itself):
                break
            if seen.end > LIMIT_SECONDS:
                raise RunFailed(f"{seen.records:,} of {records:,} records visible after {LIMIT_SECONDS:.0f} s")
            if seen.end - asked > HEALTH_SECONDS:
                asked = seen.end
                if complaint := self.complaint():
                    raise RunFailed(
                        f"{seen.records:,} of {records:,} records visible after {seen.end:.0f} s: {complaint}"
                    )
            time.sleep(DRAIN_INTERVAL_SECONDS)
        self._judge_exit(seen, tree, records)
        return seen

    def _note(self, seen: Seen, task: Task, tree: Tree, records: int) -> None:
        if seen.at_work is None and (seen.records > 0 or self.at_work(task)):
            seen.at_work, seen.cpu_at_work = seen.end, tree.cpu_s
        if seen.first is None and seen.records > 0:
            seen.first, seen.records_at_first = seen.end, seen.records
        if seen.last is None and seen.records >= records:
            seen.last = seen.end

    def _judge_exit(self, seen: Seen, tree: Tree, records: int) -> None:
        if tree.exit_code is not None and (tree.exit_code != 0 or not self.ends_by_itself):
            raise RunFailed(
                f"ended with {tree.exit_code} after {seen.records:,} of {records:,} records: {tree.end_of_log()}"
            )
        if seen.last is None:
            raise RunFailed(f"ended well with {seen.records:,} of {records:,} records visible")

    def _compare(
        self, task: Task, database: Database, truth: contents.Contents, detail: dict[str, typing.Any]
    ) -> list[str]:
        readers = {
            LAKE: lambda: contents.of_table(task.table, task.shape),
            MONGO: lambda: contents.of_collection(database, task.collection, task.shape),
        }
        differing = []
        for name in sorted(self.sinks):
            found = readers[name]()
            if found.money:
                detail[f"money_{name}"] = found.money
            differing += [f"{name}: {difference}" for difference in found.differences(truth)]
        return differing
