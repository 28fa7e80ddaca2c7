"""What the two sinks themselves hold, for the tests to compare the page with.

    sinks.py sums                 questions on stdin; answers summed up by MongoDB from the raw documents, no rollup
    sinks.py session ID COUNT     the events of a session in both, once each has that many

Owns: reading the sinks beside affluent, by their own clients. Where they are, affluent's own variables say:
AFFLUENT__MONGO__URI, AFFLUENT__MONGO__DATABASE, AFFLUENT__LAKE__ROOT. Answers are JSON on stdout; decimals are text.
"""

import json
import os
import sys
import time
from datetime import datetime
from typing import Any

import pymongo
from deltalake import DeltaTable

PATIENCE_SECONDS = 60


def main() -> None:
    match sys.argv[1:]:
        case ["sums"]:
            answer: Any = [sums(question) for question in json.load(sys.stdin)]
        case ["session", session, count]:
            answer = events_once_complete(session, int(count))
        case _:
            sys.exit(__doc__)
    json.dump(answer, sys.stdout, ensure_ascii=False)


def database() -> pymongo.database.Database:
    return pymongo.MongoClient(os.environ["AFFLUENT__MONGO__URI"])[os.environ["AFFLUENT__MONGO__DATABASE"]]


def sums(question: dict[str, Any]) -> dict[str, Any]:
    """Of the sales in [from, to) that have one of the values of each filtered field; None stands for no value."""
    matching: dict[str, Any] = {
        "sold_at": {"$gte": datetime.fromisoformat(question["from"]), "$lt": datetime.fromisoformat(question["to"])}
    }
    for field, values in question["filters"].items():
        matching[field] = {"$in": values}
    measures = {"revenue": {"$sum": "$amount"}, "sales": {"$sum": 1}, "units": {"$sum": "$quantity"}}
    pipeline = [{"$match": matching}, {"$group": {"_id": None, **measures}}]
    for found in database()["sales"].aggregate(pipeline):
        return {"revenue": str(found["revenue"]), "sales": found["sales"], "units": found["units"]}
    return {"revenue": "0", "sales": 0, "units": 0}


FIELDS = ["event_id", "page", "referrer", "element", "device", "region"]


def events_once_complete(session: str, count: int) -> dict[str, list[dict[str, Any]]]:
    """In the order of their times. What there is after a minute, where that is less: the test shows the difference."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        events = {"mongo": in_mongo(session), "lake": in_lake(session)}
        if all(len(found) >= count for found in events.values()) or time.monotonic() > until:
            return events
        time.sleep(0.5)


def in_mongo(session: str) -> list[dict[str, Any]]:
    found = database()["clicks"].find({"session_id": session}).sort([("occurred_at", 1), ("_id", 1)])
    return [{field: event.get(field) for field in FIELDS} for event in found]


def in_lake(session: str) -> list[dict[str, Any]]:
    table = DeltaTable(os.path.join(os.environ["AFFLUENT__LAKE__ROOT"], "clicks"))
    rows = table.to_pyarrow_table(filters=[("session_id", "=", session)])
    return rows.sort_by([("occurred_at", "ascending"), ("_id", "ascending")]).select(FIELDS).to_pylist()


if __name__ == "__main__":
    main()
