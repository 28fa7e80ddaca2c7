"""What engines other than affluent read in the two sinks after real-year.sh, against the source's own figures.

    real_year_checks.py SALES.jsonl LAKE_TABLE MONGO_URI DATABASE

Each engine answers the same questions in its own arithmetic: how many rows, how many different sale ids, days
and regions, and the exact sum of the amounts. Prints one table; exit 1 when any figure differs from the source's.
"""

import sys
from decimal import Decimal

import duckdb
import pyarrow.compute as pc
import pymongo
from deltalake import DeltaTable

FIGURES = ("rows", "sale ids", "days", "regions", "sum(amount)")


def main(source, table, uri, database):
    expected = of_source(source)
    mongo = pymongo.MongoClient(uri)[database]
    found = {
        "MongoDB, documents": of_documents(mongo),
        "MongoDB, rollup by day": of_rollup(mongo, "sales_by_day"),
        "MongoDB, rollup by minute": of_rollup(mongo, "sales_by_minute"),
        "delta-rs + Arrow": of_delta(table),
        "DuckDB on the active files": of_duckdb(table),
    }
    print(line("engine", FIGURES, ""))
    print(line("source file", expected.values(), ""))
    for engine, figures in found.items():
        print(line(engine, (figures.get(name, "-") for name in FIGURES), verdict(figures, expected)))
    if any(verdict(figures, expected) != "equal" for figures in found.values()):
        sys.exit(1)


def verdict(figures, expected):
    return "equal" if all(expected[name] == value for name, value in figures.items()) else "DIFFERENT"


def line(engine, figures, verdict):
    cells = " ".join(f"{figure!s:>14}" for figure in figures)
    return f"{engine:<27}{cells}  {verdict}".rstrip()


def of_source(path):
    # Types are spelled out: DuckDB would otherwise guess that an amount is a double.
    columns = "{sale_id: 'VARCHAR', sold_at: 'VARCHAR', region: 'VARCHAR', amount: 'DECIMAL(18,2)'}"
    row = duckdb.execute(
        "SELECT count(*), count(DISTINCT sale_id), count(DISTINCT sold_at[:10]), "
        "count(DISTINCT region), sum(amount) "
        f"FROM read_json(?, format = 'newline_delimited', columns = {columns})",
        [path],
    ).fetchone()
    return dict(zip(FIGURES, row))


def of_documents(mongo):
    totals = one(mongo.sales, [{"$group": {"_id": None, "rows": {"$sum": 1}, "amount": {"$sum": "$amount"}}}])
    return {
        "rows": totals["rows"],
        "sale ids": groups(mongo.sales, "$sale_id"),
        "days": groups(mongo.sales, {"$dateTrunc": {"date": "$sold_at", "unit": "day"}}),
        "regions": groups(mongo.sales, "$region"),
        "sum(amount)": cents(totals["amount"]),
    }


def of_rollup(mongo, name):
    totals = one(
        mongo[name], [{"$group": {"_id": None, "rows": {"$sum": "$sales"}, "amount": {"$sum": "$revenue"}}}]
    )
    return {
        "rows": totals["rows"],
        "days": groups(mongo[name], {"$dateTrunc": {"date": "$t", "unit": "day"}}),
        "regions": groups(mongo[name], "$region"),
        "sum(amount)": cents(totals["amount"]),
    }


def one(collection, pipeline):
    """The only document of an aggregate; of an empty collection, zeros rather than a stack trace."""
    return next(iter(collection.aggregate(pipeline)), {"rows": 0, "amount": 0})


def groups(collection, key):
    pipeline = [{"$group": {"_id": key}}, {"$count": "n"}]
    return next(iter(collection.aggregate(pipeline, allowDiskUse=True)), {"n": 0})["n"]


def cents(amount):
    """A Decimal128 sum keeps the scale it happened to have; ours is two digits."""
    value = amount.to_decimal() if hasattr(amount, "to_decimal") else Decimal(amount)
    return value.quantize(Decimal("0.01"))


def of_delta(path):
    table = DeltaTable(path).to_pyarrow_table(columns=["sale_id", "date", "region", "amount"])
    return {
        "rows": table.num_rows,
        "sale ids": pc.count_distinct(table["sale_id"]).as_py(),
        "days": pc.count_distinct(table["date"]).as_py(),
        "regions": pc.count_distinct(table["region"]).as_py(),
        "sum(amount)": pc.sum(table["amount"]).as_py(),
    }


def of_duckdb(path):
    # The files of the newest version: a folder also holds those that a compaction replaced.
    files = DeltaTable(path).file_uris()
    row = duckdb.execute(
        "SELECT count(*), count(DISTINCT sale_id), count(DISTINCT date), count(DISTINCT region), sum(amount) "
        "FROM read_parquet(?, hive_partitioning = true)",
        [files],
    ).fetchone()
    return dict(zip(FIGURES, row))


if __name__ == "__main__":
    main(*sys.argv[1:])
