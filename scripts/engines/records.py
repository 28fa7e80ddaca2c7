"""The sales that the engines are to find in the lake, known before affluent sees them.

Owns: the records as JSON lines, their truth as plain rows, the odd regions. Does not own: producing them (`job`).
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import json
import random
import typing

UTC = datetime.UTC
DAYS = [datetime.date(2025, 12, day) for day in (23, 24, 25)]
THE_DAY = DAYS[1]
"""The one that the guide asks for, and that has the odd regions."""

ORDINARY = ("Bretagne", "Corse", "Grand Est", "Île-de-France", "Provence-Alpes-Côte d'Azur")

# Each is a directory name, a URI and a partition value at once; some of them look like something else.
ODD = (
    *(" leading", "trailing ", "two  spaces", "a/b", "../up", ".", "..", "a=b", "date=2025-12-24", "100%", "%2F", "%C3%A0"),
    *("a:b", "12:30", 'quo"te', "it's", "back\\slash", "tab\there", "line\nbreak", "*", "?", "[x]", "{y}", "#1", "a+b", "&"),
    *("~", "^", "`", "<t>", "|", "semi;colon", "com,ma", "$HOME", "\x7f", "\u00a0", "😀", "日本", "e\u0301", "\u00e9", "ß", "SS"),
    *("A", "a", "1", "01", "1e3", "true", "2025-12-24", "null", "NULL", "None", "__x__", "x" * 240),
)
REWRITTEN = ("Île-de-France", "a/b", "100%", "%2F", "a:b", "a=b", "~", "<t>", "|", "😀", "日本", "a+b", "semi;colon", "\u00a0")
"""Those that Spark puts together: whose paths it and affluent might spell each in its own way. One Spark job each."""
NO_REGION = (None, "")
"""A partition has no value for the empty string: it is read as null."""


@dataclasses.dataclass(frozen=True, order=True)
class Sale:
    """One row as every engine must hand it out."""

    sale_id: str
    region: str | None
    date: datetime.date
    sold_at: datetime.datetime
    quantity: int | None
    amount: decimal.Decimal
    channel: str | None


COLUMNS = tuple(field.name for field in dataclasses.fields(Sale))


@dataclasses.dataclass(frozen=True)
class Produced:
    """A file's lines, and what they say."""

    lines: list[str]
    sales: list[Sale]


def generate(seed: int, count: int) -> Produced:
    """Each odd region twice, the rest in ordinary ones."""
    dice = random.Random(seed)
    places = [(region, THE_DAY) for region in (*ODD, *NO_REGION)] * 2
    places += [(dice.choice(ORDINARY), dice.choice(DAYS)) for _ in range(count - len(places))]
    dice.shuffle(places)
    produced = Produced([], [])
    for number, (region, day) in enumerate(places):
        record = {
            "sale_id": f"{seed}-{number}",
            "sold_at": _instant(dice, day).isoformat(),
            "product": "Crêpes « Ker »",
            "quantity": dice.choice([None, 1, 2, 40]),
            # Beyond what a double holds exactly.
            "unit_price": "9999999999999999.99",
            "amount": f"{dice.choice([-1, 1]) * dice.randrange(10**17)}E-2",
            "channel": dice.choice([None, "web", "shop"]),
            "region": region,
        }
        produced.lines.append(json.dumps(record, ensure_ascii=False))
        produced.sales.append(_read(record))
    return produced


def _instant(dice: random.Random, day: datetime.date) -> datetime.datetime:
    """Often the day's first and last microsecond, where a time zone would show."""
    second = dice.choice([0, 86_399, dice.randrange(86_400)])
    start = datetime.datetime.combine(day, datetime.time(), UTC)
    return start + datetime.timedelta(seconds=second, microseconds=dice.choice([0, 1, 999_999]))


def _read(record: dict[str, typing.Any]) -> Sale:
    sold_at = datetime.datetime.fromisoformat(record["sold_at"])
    return Sale(
        sale_id=record["sale_id"],
        region=record["region"] or None,
        date=sold_at.astimezone(UTC).date(),
        sold_at=sold_at,
        quantity=record["quantity"],
        amount=decimal.Decimal(record["amount"]).quantize(decimal.Decimal("0.01")),
        channel=record["channel"],
    )


Revenue = dict[str | None, tuple[int, decimal.Decimal]]


def revenue_by_region(sales: typing.Iterable[Sale], day: datetime.date) -> Revenue:
    """Number of sales and revenue of that day: what the guide's examples ask."""
    count: collections.Counter[str | None] = collections.Counter()
    total: collections.defaultdict[str | None, decimal.Decimal] = collections.defaultdict(decimal.Decimal)
    for sale in sales:
        if sale.date == day:
            count[sale.region] += 1
            total[sale.region] += sale.amount
    return {region: (count[region], total[region]) for region in count}


def merge(revenue: Revenue, regions: typing.Iterable[str], into: str | None) -> Revenue:
    """With some regions counted as another."""
    merged = dict(revenue)
    for region in regions:
        parts = [merged.pop(region, (0, decimal.Decimal(0))), merged.get(into, (0, decimal.Decimal(0)))]
        merged[into] = (sum(count for count, _ in parts), sum((total for _, total in parts), decimal.Decimal(0)))
    return merged
