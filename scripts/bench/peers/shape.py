"""The records of a workload as a peer must be told about them: affluent has the same as a preset or a declared schema.

Owns: fields and types, and which of them prove a run. Does not own: the records themselves.
"""

from __future__ import annotations

import dataclasses

import records
from workloads import Sales, Workload

SALES = (
    ("sale_id", "string"),
    ("sold_at", "timestamp"),
    ("product", "string"),
    ("category", "string"),
    ("region", "string"),
    ("quantity", "long"),
    ("unit_price", "decimal(18,2)"),
    ("amount", "decimal(18,2)"),
    ("customer_id", "string"),
    ("channel", "string"),
)


@dataclasses.dataclass(frozen=True)
class Shape:
    fields: tuple[tuple[str, str], ...]
    """Name and type, by Delta's names, which are Spark SQL's too."""
    event_time: str
    id: str
    """The field that is different in every record."""
    money: str | None
    """A decimal whose sum must be exact."""


def of(workload: Workload) -> Shape:
    if isinstance(workload.records, Sales):
        return Shape(SALES, event_time="sold_at", id="sale_id", money="amount")
    return Shape(tuple(records.fields(workload.records)), event_time="at", id="id", money=None)
