"""Reads a finished Delta table back with delta-rs, and prints what it holds as one JSON object.

    $(scripts/python.sh checks) table.py FOLDER ID [MONEY]     names of the columns to be counted and summed

A program of its own: the reader's packages are not the benchmark's, and its memory is given back.
"""

from __future__ import annotations

import json
import sys

import deltalake
import pyarrow.compute as pc


def main(folder: str, key: str, money: str | None = None) -> None:
    rows = deltalake.DeltaTable(folder).to_pyarrow_table(columns=[key, *([money] if money else [])])
    held = {"records": rows.num_rows, "ids": pc.count_distinct(rows[key]).as_py()}
    if money:
        held |= {"amount": str(pc.sum(rows[money]).as_py() or 0), "money": str(rows.schema.field(money).type)}
    print(json.dumps(held))


if __name__ == "__main__":
    main(*sys.argv[1:])
