"""An outside observer of both sinks: when which offsets became visible to a reader.

Owns: polling, and what a sighting is. Does not own: what is made of sightings.

  MongoDB   the stream's documents in `_affluent_progress`, read at majority, every 20 ms. They move in the transaction
            that also applies the rollups, so a record counts once documents and rollups are both there (a reader of the
            documents alone sees them a moment earlier).
  lake      the next version's file in `_delta_log`, looked for every 10 ms. From that moment on a reader that opens the
            table sees the rows. The file's own times are not used: they may be older than its name.

A sighting's time is when the observer noticed it (MongoDB's answer, the commit file's being there), so each is late by
at most one interval plus the machine's scheduling; never early. All clocks are this machine's.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
import re
import threading
import time
import typing

import pymongo
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

MONGO_INTERVAL_SECONDS = 0.02
LAKE_INTERVAL_SECONDS = 0.01
# A drain is judged by its whole length: looking more often would only cost. Peers are looked at as often.
DRAIN_INTERVAL_SECONDS = 0.05

Next = dict[int, int]
"""Per partition, the first offset that is not visible."""


@dataclasses.dataclass(frozen=True)
class Sighting:
    time: float
    """Unix time."""
    monotonic: float
    next: Next

    @property
    def records(self) -> int:
        """Of a topic whose offsets begin at 0 and have no holes."""
        return sum(self.next.values())


def now() -> tuple[float, float]:
    """The first two fields of a sighting."""
    return time.time(), time.monotonic()


class Watch:
    """A thread that notes every change; use as a context."""

    def __init__(self, interval: float):
        self.sightings: list[Sighting] = []
        self._interval = interval
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> typing.Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        # What came since the last look.
        while self._note(self.look()):
            pass

    @property
    def records(self) -> int:
        return self.sightings[-1].records if self.sightings else 0

    def beyond(self, records: int, since: float = 0.0) -> Sighting | None:
        """The first sighting of more than so many records, not before `since` (monotonic)."""
        return next((s for s in list(self.sightings) if s.records > records and s.monotonic >= since), None)

    def wait_for(self, records: int, seconds: float, alive: typing.Callable[[], bool] = lambda: True) -> bool:
        """Until so many records are visible; False when they are not in time, or nobody is left to bring them."""
        return self.wait_until(lambda sighting: sighting.records >= records, seconds, alive)

    def wait_until(
        self, holds: typing.Callable[[Sighting], bool], seconds: float, alive: typing.Callable[[], bool]
    ) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (self.sightings and holds(self.sightings[-1])):
                left = deadline - time.monotonic()
                if left <= 0 or not alive():
                    return False
                self._changed.wait(min(left, 0.2))
        return True

    def look(self) -> Sighting | None:
        """The state now; None where there is nothing (new)."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            if not self._note(self.look()):
                self._stop.wait(max(0.0, self._interval - (time.monotonic() - started)))

    def _note(self, found: Sighting | None) -> bool:
        if found is None or not found.next or (self.sightings and found.next == self.sightings[-1].next):
            return False
        with self._changed:
            self.sightings.append(found)
            self._changed.notify_all()
        return True


class MongoWatch(Watch):
    def __init__(
        self, client: pymongo.MongoClient, database: str, stream: str, interval: float = MONGO_INTERVAL_SECONDS
    ):
        super().__init__(interval)
        self._progress = client[database].get_collection("_affluent_progress", read_concern=ReadConcern("majority"))
        # "<stream>/" up to, not including, "<stream>0": '0' follows '/'.
        self._ours = {"_id": {"$gt": f"{stream}/", "$lt": f"{stream}0"}}

    def look(self) -> Sighting | None:
        try:
            found = list(self._progress.find(self._ours, {"next": 1}))
        except PyMongoError:
            return None  # no answer is no sighting; the next look may have one
        return Sighting(*now(), {int(document["_id"].rpartition("/")[2]): document["next"] for document in found})


class LakeWatch(Watch):
    def __init__(self, table: pathlib.Path, interval: float = LAKE_INTERVAL_SECONDS):
        super().__init__(interval)
        self._log = table / "_delta_log"
        self._next: Next = {}
        # A long history is read here and now, not beside the job that is to be watched.
        history = commits(table)
        self._version = len(history)
        for commit in history:
            self._next |= commit.next
        self._note(Sighting(*now(), dict(self._next)))

    def look(self) -> Sighting | None:
        path = commit_file(self._log, self._version)
        if not path.exists():
            return None
        # Before it is read: a commit of thousands of files takes a while.
        noticed = now()
        self._version += 1
        self._next |= Commit.read(path).next
        return Sighting(*noticed, dict(self._next))


def in_every_sink(watches: typing.Mapping[str, Watch]) -> list[tuple[float, int]]:
    """The moments (monotonic) at which more records were there in all sinks, and how many."""
    seen = sorted(
        ((s.monotonic, sink, s.next) for sink, watch in watches.items() for s in watch.sightings), key=lambda s: s[0]
    )
    held: dict[str, Next] = {sink: {} for sink in watches}
    moments: list[tuple[float, int]] = []
    for moment, sink, found in seen:
        held[sink] = found
        records = sum(min(of_sink.get(partition, 0) for of_sink in held.values()) for partition in found)
        if records > (moments[-1][1] if moments else 0):
            moments.append((moment, records))
    return moments


PROGRESS_ID = re.compile(r"affluent/.+/(\d+)")


@dataclasses.dataclass(frozen=True)
class Commit:
    """What matters here of one file of a Delta log."""

    next: Next
    added: dict[str, int]
    """Bytes by path."""
    removed: frozenset[str]
    changes_data: bool

    @classmethod
    def read(cls, path: pathlib.Path) -> Commit:
        actions = collections.defaultdict(list)
        with open(path) as lines:
            for line in lines:
                for kind, action in json.loads(line).items():
                    actions[kind].append(action)
        progress = ((PROGRESS_ID.fullmatch(txn["appId"]), txn["version"]) for txn in actions["txn"])
        return cls(
            next={int(found[1]): last + 1 for found, last in progress if found},
            added={add["path"]: add["size"] for add in actions["add"]},
            removed=frozenset(remove["path"] for remove in actions["remove"]),
            changes_data=any(action["dataChange"] for action in (*actions["add"], *actions["remove"])),
        )


def commit_file(log: pathlib.Path, version: int) -> pathlib.Path:
    return log / f"{version:020}.json"


def commits(table: pathlib.Path) -> list[Commit]:
    """All commits, by version."""
    found: list[Commit] = []
    while (path := commit_file(table / "_delta_log", len(found))).exists():
        found.append(Commit.read(path))
    return found


def files(history: typing.Iterable[Commit]) -> dict[str, int]:
    """The table's files after these commits: bytes by path."""
    found: dict[str, int] = {}
    for commit in history:
        found = {path: size for path, size in found.items() if path not in commit.removed} if commit.removed else found
        found |= commit.added
    return found
