"""Flat JSON records of any width and size, and the schema that declares them; sales of any number of products.

Owns: fields, their types in turn, and the bytes: a seed gives the same records again.
Does not own: sending them (`topics`).

Values are random, not repeated lines: a column that holds a few distinct values would cost Parquet next to nothing.
Texts are strung together from random pieces of four characters: zstd halves them.
"""

from __future__ import annotations

import datetime
import json
import operator
import random
import typing

from workloads import Catalogue, Generated

REGIONS = 13
CATEGORIES = 12
# Distinct values per piece: a piece is chosen by one random byte.
POOL = 256
HOUR_MS = 3_600_000
LINES_PER_CHUNK = 1000
PIECE = 4
SEED = 7

FIXED = (("id", "string"), ("at", "timestamp"), ("region", "string"))
TYPES = ("long", "string", "decimal(18,2)", "double")


def fields(shape: Generated) -> list[tuple[str, str]]:
    """Name and type of each field, `columns` of them; the first two are required."""
    others = [(f"c{n}", TYPES[n % len(TYPES)]) for n in range(shape.columns - len(FIXED))]
    if shape.size is not None:
        others[-1] = ("note", "string")
    return [*FIXED, *others]


def chunks(shape: Catalogue | Generated, count: int) -> typing.Iterator[bytes]:
    """`count` records as JSON lines. Event times of `Generated` go through one hour from 2026-01-01T12:00Z on."""
    return _sales(shape, count) if isinstance(shape, Catalogue) else _generated(shape, count)


def _sales(shape: Catalogue, count: int) -> typing.Iterator[bytes]:
    dice = random.Random(SEED)
    first, last = (datetime.datetime.fromisoformat(at) for at in (shape.window.since, shape.window.until))
    step = (last - first) / count
    for number in range(count):
        product, quantity, cents = dice.randrange(shape.products), dice.randrange(1, 5), dice.randrange(100, 10_000)
        sale = {
            "sale_id": f"{number:08x}",
            "sold_at": (first + number * step).isoformat(timespec="milliseconds"),
            "product": f"Product {product:03}",
            "category": f"Category {product % CATEGORIES:02}",
            "region": f"Region {dice.randrange(REGIONS):02}",
            "quantity": quantity,
            "unit_price": f"{cents / 100:.2f}",
            "amount": f"{quantity * cents / 100:.2f}",
        }
        yield json.dumps(sale).encode() + b"\n"


def _generated(shape: Generated, count: int) -> typing.Iterator[bytes]:
    dice = random.Random(SEED)
    pools = [pool for name, kind in fields(shape)[len(FIXED) :] for pool in _pools(dice, name, kind)]
    if shape.size is not None:
        spare = shape.size - len(_record(dice, pools, 0, count)) - 1
        pools[-1:-1] = [_texts(dice)] * max(0, round(spare / PIECE))
    for first in range(0, count, LINES_PER_CHUNK):
        numbers = range(first, min(count, first + LINES_PER_CHUNK))
        yield b"".join(_record(dice, pools, number, count) for number in numbers)


def _record(dice: random.Random, pools: list[list[bytes]], number: int, count: int) -> bytes:
    at = number * HOUR_MS // count
    minutes, seconds, ms = at // 60_000, at // 1000 % 60, at % 1000
    values = b"".join(map(operator.getitem, pools, dice.randbytes(len(pools))))
    head = b'{"id":"%08x","at":"2026-01-01T12:%02d:%02d.%03dZ","region":"r%02d"' % (
        number,
        minutes,
        seconds,
        ms,
        dice.randrange(REGIONS),
    )
    return head + values + b"}\n"


def _pools(dice: random.Random, name: str, kind: str) -> list[list[bytes]]:
    """A field as pieces that follow one another, e.g. `,"c2":123` and `45.67`."""
    key = b',"%s":' % name.encode()
    match kind:
        case "long":
            return [
                [key + b"%d" % dice.randrange(1, 1000) for _ in range(POOL)],
                [b"%03d" % dice.randrange(1000) for _ in range(POOL)],
            ]
        case "decimal(18,2)":
            return [
                [key + b"%d" % dice.randrange(1, 100) for _ in range(POOL)],
                [b"%d.%02d" % (dice.randrange(10), n % 100) for n in range(POOL)],
            ]
        case "double":
            return [
                [key + b"0.%03d" % dice.randrange(1000) for _ in range(POOL)],
                [b"%04d" % dice.randrange(10000) for _ in range(POOL)],
            ]
        case "string":
            return [[key + b'"'] * POOL, *([_texts(dice)] * 3), [b'"'] * POOL]
    raise ValueError(kind)


def _texts(dice: random.Random) -> list[bytes]:
    letters = b"abcdefghijklmnopqrstuvwxyz     "
    return [bytes(dice.choice(letters) for _ in range(PIECE)) for _ in range(POOL)]
