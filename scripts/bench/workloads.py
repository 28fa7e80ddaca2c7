"""The workloads: what is in the topic, which sinks are fed, and under which settings.

Owns: the table, its groups, the event-time windows.
Does not own: loading topics (`topics`), generated records (`records`), how each kind of run is made (`drain` of a
subject, `catch_up`, `freshness`, `looking`, `start`).

Event times matter as much as counts: they decide how many partitions the lake has open and how many rollup buckets
MongoDB updates. Unless a name says otherwise the records fall into one hour ("live": what a stream of now looks
like); `-month` spreads them over 30 days × 13 regions (a backfill).
"""

from __future__ import annotations

import dataclasses
import datetime
import typing

Kind = typing.Literal["drain", "catch-up", "freshness", "questions", "start"]
LAKE, MONGO = "lake", "mongo"
BOTH = frozenset({LAKE, MONGO})

BASE_COUNT = 1_000_000


@dataclasses.dataclass(frozen=True)
class Window:
    """Event times, RFC 3339: from `since` up to `until`."""

    since: str
    until: str


HOUR = Window("2026-01-01T12:00:00Z", "2026-01-01T13:00:00Z")
MONTH = Window("2025-12-02T00:00:00Z", "2026-01-01T00:00:00Z")
YEAR = Window("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")
THREE_YEARS = Window("2023-01-01T00:00:00Z", "2026-01-01T00:00:00Z")


def last_days(days: int) -> Window:
    """What a page shows that was opened now."""
    now = datetime.datetime.now(datetime.UTC).replace(minute=0, second=0, microsecond=0)
    first = now.replace(hour=0) - datetime.timedelta(days=days - 1)
    return Window(*(moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (first, now)))


@dataclasses.dataclass(frozen=True)
class Sales:
    """`affluent produce sales`: ~265 bytes, ten fields, the preset of the same name."""

    window: Window = HOUR
    bad_percent: float = 0.0


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Sales of the preset's schema: 13 regions, so many products, spread evenly over `window` (`records`)."""

    products: int
    window: Window


@dataclasses.dataclass(frozen=True)
class Generated:
    """Flat records with a schema of their own (`records`): `columns` fields, padded to about `size` bytes."""

    columns: int
    size: int | None = None
    """None: as long as the columns make it."""


Content = Sales | Catalogue | Generated


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    summary: str
    kind: Kind = "drain"
    sinks: frozenset[str] = BOTH
    records: Content = Sales()
    rollups: bool = True
    """The preset's; peers have none, so `-plain` is what compares."""
    share: float = 1.0
    """Records, as a share of --count."""
    partitions: int = 4
    """Of the topic."""
    partition_by: tuple[str, ...] = ("date", "region")
    producer: tuple[tuple[str, str], ...] = ()
    """librdkafka properties of the producer that loads the topic."""
    settings: tuple[tuple[str, str], ...] = ()
    """Settings of affluent that make the workload what it is; --set comes after them."""
    history: int = 0
    """Commits the lake's table has before the run."""
    checkpointed: bool = True
    """Whether that history has a checkpoint near its end."""
    rate: int = 0
    """Records per second while the job runs (catch-up, freshness, start)."""
    viewers: int | None = None
    """So many pages are open, and show `records`, which are in both sinks before (freshness)."""
    scenario: str = ""
    """Which of a kind's cases (start)."""

    @property
    def group(self) -> str:
        """The name that stands for all sizes of one growing parameter."""
        stem, _, size = self.name.rpartition("-")
        return stem if size.isdigit() else self.name


LAKE_ONLY, MONGO_ONLY = frozenset({LAKE}), frozenset({MONGO})
EVERY_SECOND = (("lake.commit_interval", "1s"),)
# The most requests for the fewest records: one batch each, sent at once.
TINY_BATCHES = (("linger.ms", "0"), ("batch.num.messages", "1"))


def _drains() -> typing.Iterator[Workload]:
    for suffix, window, span in (("", HOUR, "one hour"), ("-month", MONTH, "30 days × 13 regions")):
        sales = Sales(window)
        yield Workload(f"lake{suffix}", f"sales of {span} → lake", sinks=LAKE_ONLY, records=sales)
        yield Workload(f"mongo{suffix}", f"sales of {span} → MongoDB, the preset's rollups", sinks=MONGO_ONLY, records=sales)
        yield Workload(
            f"mongo-plain{suffix}",
            f"sales of {span} → MongoDB, no rollup",
            sinks=MONGO_ONLY,
            records=sales,
            rollups=False,
        )
        yield Workload(f"both{suffix}", f"sales of {span} → both sinks, the preset's rollups", records=sales)
        yield Workload(f"both-plain{suffix}", f"sales of {span} → both sinks, no rollup", records=sales, rollups=False)


def _shapes() -> typing.Iterator[Workload]:
    yield Workload("wide", "100 columns → lake", sinks=LAKE_ONLY, records=Generated(100), share=0.2)
    yield Workload("large", "flat records of 1 KB → both sinks", records=Generated(10, 1000), share=0.5, rollups=False)
    yield Workload(
        "tiny", "a producer that sends every record alone → lake", sinks=LAKE_ONLY, producer=TINY_BATCHES, share=0.2
    )
    yield Workload(
        "poison", "5 % broken sales → both sinks, no rollup", records=Sales(bad_percent=5), rollups=False, share=0.5
    )
    yield Workload(
        "backfill", "three years × 13 regions → both sinks: the memory it takes", records=Sales(THREE_YEARS), share=2
    )
    yield Workload(
        "backfill-lake", "three years × 13 regions → lake", sinks=LAKE_ONLY, records=Sales(THREE_YEARS), share=2
    )


def _growing() -> typing.Iterator[Workload]:
    for count, window, by in (
        (1, HOUR, ("date",)),
        (13, HOUR, ("date", "region")),
        (390, MONTH, ("date", "region")),
        (4745, YEAR, ("date", "region")),
    ):
        yield Workload(
            f"grow-partitions-{count}",
            f"sales → lake of {count:,} partition{'s' if count > 1 else ''}",
            sinks=LAKE_ONLY,
            records=Sales(window),
            partition_by=by,
        )
    for columns in (5, 10, 50, 100):
        yield Workload(
            f"grow-columns-{columns}",
            f"{columns} columns → lake",
            sinks=LAKE_ONLY,
            records=Generated(columns),
            share=0.2,
        )
    for size in (100, 300, 1000, 3000, 10000):
        yield Workload(
            f"grow-size-{size}",
            f"5 columns, {size:,} bytes → lake",
            sinks=LAKE_ONLY,
            records=Generated(5, size),
            share=0.1,
        )
    for commits in (0, 1000, 10000):
        summary = f"sales → a lake table that has {commits:,} commits"
        drain = Workload(f"grow-history-{commits}", summary, sinks=LAKE_ONLY, share=0.2, history=commits)
        yield drain
        if commits:
            name, summary = f"grow-history-bare-{commits}", f"{summary} and no checkpoint"
            yield dataclasses.replace(drain, name=name, summary=summary, checkpointed=False)


def _continuous() -> typing.Iterator[Workload]:
    yield Workload(
        "catch-up",
        "paused while records arrive: seconds until nothing is behind",
        kind="catch-up",
        share=0.2,
        rate=20_000,
        settings=EVERY_SECOND,
    )
    for rate in (1000, 5000, 20000):
        yield Workload(
            f"freshness-{rate}",
            f"{rate:,} records/s: time from Kafka to visible in each sink",
            kind="freshness",
            rate=rate,
            settings=EVERY_SECOND,
        )
    for viewers in (0, 10):
        yield Workload(
            f"viewers-{viewers}",
            f"1,000 records/s while {viewers} pages of the last 30 days are open",
            kind="freshness",
            records=Sales(last_days(30)),
            share=0.2,
            rate=1000,
            viewers=viewers,
            settings=EVERY_SECOND,
        )
    yield Workload(
        "questions",
        "what a page of 30 days × 13 regions × 200 products asks, each alone",
        kind="questions",
        records=Catalogue(200, last_days(30)),
    )
    for scenario, history, summary in (
        ("empty", 0, "into empty sinks"),
        ("history", 1000, "onto a table of 1,000 commits"),
        ("history-bare", 1000, "onto a table of 1,000 commits without a checkpoint"),
        ("killed-dynamic", 0, "after kill -9, dynamic group membership"),
        ("killed-static", 0, "after kill -9, static group membership"),
    ):
        yield Workload(
            f"start-{scenario}",
            f"from exec to the first commit in each sink, {summary}",
            kind="start",
            scenario=scenario,
            history=history,
            checkpointed=not scenario.endswith("-bare"),
            share=0.01,
            rate=1000,
            settings=EVERY_SECOND,
        )


WORKLOADS: dict[str, Workload] = {
    workload.name: workload for part in (_drains(), _shapes(), _growing(), _continuous()) for workload in part
}

# Without a name on the command line.
DEFAULT = ("lake", "mongo", "mongo-plain", "both", "both-plain")


def select(names: typing.Sequence[str]) -> list[Workload]:
    """By name, by group (`grow-columns`), by kind (`start`) or `all`; KeyError with the name that is none of them."""
    chosen: dict[str, Workload] = {}
    for name in names:
        found = [w for w in WORKLOADS.values() if name in (w.name, w.group, w.kind, "all")]
        if not found:
            raise KeyError(name)
        chosen.update((workload.name, workload) for workload in found)
    return list(chosen.values())
