"""The seam between the benchmark and what it measures: one subject drains one loaded topic and says what it cost.

Owns: the words both sides use — Topic, Cost, Measure, Subject — and their units.
Does not own: what is drained (`workloads`), how often and in which order (`__main__`), derived figures (`report`).

A subject is affluent in some build (`affluent`) or something else that does the same work (`peers`). All of them get
the same loaded topic and the same broker and mongod, one after the other, never side by side.
"""

from __future__ import annotations

import dataclasses
import pathlib
import typing

if typing.TYPE_CHECKING:
    from services import Services
    from workloads import Workload


@dataclasses.dataclass(frozen=True)
class Topic:
    """A topic that is loaded and to which nothing is being written."""

    name: str
    partitions: int
    records: int
    """To be drained. Counted by reading the topic, broken records included."""
    bytes: int
    """Payloads, without keys and Kafka's own framing."""
    before: int = 0
    """Further records, the topic's first, that the sinks hold before the run (workloads with a history)."""


@dataclasses.dataclass
class Measure:
    """What one run cost, in totals. What is not known is None, never zero."""

    seconds: float | None
    """From the start of the subject's first process to the end of the work: its exit, or, for a subject that never
    exits, the moment the last record was seen in the sink."""
    verified: bool
    """The subject's own proof that the sinks hold exactly the topic's records. False makes the run a DNF."""
    seconds_first: float | None = None
    """From the same start to the first record visible in every sink."""
    seconds_drain: float | None = None
    """From then to the last record visible in every sink; None where a sink shows all of them at once."""
    records_drain: int | None = None
    """Records that became visible in those seconds: all but those that were there at the first look."""
    cpu_s: float | None = None
    """User and system time of all processes of the subject."""
    mongod_cpu_s: float | None = None
    broker_cpu_s: float | None = None
    other_cpu_s: float | None = None
    """What everything else on the machine used meanwhile: says how far the wall clock can be trusted."""
    peak_rss_mib: float | None = None
    """Summed over the subject's processes."""
    files: int | None = None
    """Data files in the lake's table at the end, with those of its history."""
    file_bytes: int | None = None
    commits: int | None = None
    """The table's commits that changed its data, with those of its history."""
    detail: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    """Further figures by name (numbers get min/median/max in the table), and texts: "why" says why a run failed."""


class RunFailed(Exception):
    """The run cannot be counted; the text becomes the DNF's "why". Anything else that is raised ends the benchmark."""


class Subject(typing.Protocol):
    name: str
    guarantee: str
    """In one line, with the name of the sink: what this subject promises about duplicates and losses."""

    def supports(self, workload: Workload) -> bool:
        """Whether `drain` can do this workload; what is not supported is left out and named."""

    def drain(self, workload: Workload, topic: Topic, services: Services, work_dir: pathlib.Path) -> Measure:
        """Brings all of `topic` into the workload's sinks, from nothing, then proves it.

        `work_dir` is empty and the subject's alone (with a history it holds the lake's table of before); the table goes
        below it, MongoDB's data into `services.new_database()`. Nothing of the subject runs when this returns or
        raises, and the proof is no part of the measure. Measure between `services.meter()` and its `read()`.
        """
