"""How many records an outside observer sees in a sink at this moment, cheaply enough to ask twenty times a second.

Owns: looking, and the files and commits of a finished table. Does not own: whether what is seen is right
(`contents`).
"""

from __future__ import annotations

import json
import pathlib
import typing

from pymongo.database import Database


class Sink(typing.Protocol):
    name: str

    def visible(self) -> int:
        """Records a reader would find now; duplicates count."""


class MongoSink:
    """The collection's own counter: exact on a server that has not crashed, and free."""

    name = "mongo"

    def __init__(self, database: Database, collection: str):
        self._collection = database[collection]

    def visible(self) -> int:
        return self._collection.estimated_document_count()


class LakeSink:
    """Records in the files that commits have added; the peers of this package never remove one."""

    name = "lake"

    def __init__(self, table: pathlib.Path):
        self._table = table
        self._next_version = 0
        self._records = 0

    def visible(self) -> int:
        while (commit := commit_file(self._table, self._next_version)).exists():
            self._records += sum(json.loads(add["stats"])["numRecords"] for add in added(commit))
            self._next_version += 1
        return self._records


def commit_file(table: pathlib.Path, version: int) -> pathlib.Path:
    return table / "_delta_log" / f"{version:020}.json"


def added(commit: pathlib.Path) -> list[dict[str, typing.Any]]:
    """The `add` actions of a commit, one per data file."""
    return [add for line in commit.read_text().splitlines() if (add := json.loads(line).get("add"))]


def table_figures(table: pathlib.Path) -> dict[str, int]:
    """`files`, `file_bytes` and `commits` of a Measure."""
    with_data = [adds for commit in (table / "_delta_log").glob("*.json") if (adds := added(commit))]
    sizes = [add["size"] for adds in with_data for add in adds]
    return {"files": len(sizes), "file_bytes": sum(sizes), "commits": len(with_data)}
