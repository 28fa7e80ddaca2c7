"""What a topic, a collection and a table hold, in figures that can be compared: records, distinct ids, exact money.

Owns: reading all of it back, by programs that are not the peer's (`topic`: librdkafka, mongod's aggregates,
`table`: delta-rs), and the judgement. Does not own: what is visible while a peer writes (`sinks`).

Records are counted one by one, so a duplicate and a loss cannot cancel out: the duplicate leaves the number of
distinct ids below the number of records.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from decimal import Decimal

from bson.decimal128 import Decimal128
from packages import python
from pymongo.database import Database

from .shape import Shape

CENT = Decimal("0.01")
HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Contents:
    records: int
    ids: int
    """Distinct values of the records' own id."""
    amount: Decimal
    """Sum of the money; of doubles, of each one rounded to the cent. Zero where the records have none."""
    money: str = ""
    """The type or types it is stored in."""

    def differences(self, truth: Contents) -> list[str]:
        """What is not as in the topic; the type of money is no difference, only reported."""
        return [
            f"{name} {getattr(self, name):,} instead of {getattr(truth, name):,}"
            for name in ("records", "ids", "amount")
            if getattr(self, name) != getattr(truth, name)
        ]


@functools.cache
def of_topic(brokers: str, topic: str, shape: Shape) -> Contents:
    """Read once per topic: while the benchmark runs nobody writes to it."""
    found = _read_by(sys.executable, "topic.py", shape, brokers, topic)
    if not found.records:
        raise ValueError(f"topic {topic} is empty: there is nothing to measure")
    return found


def of_collection(database: Database, collection: str, shape: Shape) -> Contents:
    documents = database[collection]
    ids = list(documents.aggregate([{"$group": {"_id": f"${shape.id}"}}, {"$count": "n"}], allowDiskUse=True))
    # $round before $sum: doubles are brought back to the cents that were sent, each by itself.
    cents = {"$round": [{"$toDecimal": f"${shape.money}"}, 2]} if shape.money else Decimal128("0")
    kind = {"$type": f"${shape.money}"} if shape.money else None
    totals = list(documents.aggregate([{"$group": {"_id": kind, "n": {"$sum": 1}, "amount": {"$sum": cents}}}]))
    return Contents(
        records=sum(part["n"] for part in totals),
        ids=ids[0]["n"] if ids else 0,
        amount=sum((part["amount"].to_decimal() for part in totals), Decimal(0)).quantize(CENT),
        money=" and ".join(sorted(str(part["_id"]) for part in totals)) if shape.money else "",
    )


def of_table(path: pathlib.Path, shape: Shape) -> Contents:
    if not (path / "_delta_log").exists():
        return Contents(0, 0, Decimal(0).quantize(CENT))
    return _read_by(python("checks"), "table.py", shape, str(path))


def _read_by(interpreter: str, program: str, shape: Shape, *where: str) -> Contents:
    command = [interpreter, str(HERE / program), *where, shape.id, *([shape.money] if shape.money else [])]
    held = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Contents(held["records"], held["ids"], Decimal(held.get("amount", 0)).quantize(CENT), held.get("money", ""))
