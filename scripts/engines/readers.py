"""Every engine's whole view of a table, as plain rows.

Owns: how each is asked for the columns of `records.Sale`, and what of its answer is known to differ and why.
Does not own: the truth (`records`), the guide's own examples (`guide`).
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import shutil
import typing

import deltalake
import duckdb
import duckdb_extension_delta
import polars
import pyspark.sql

from guide import plain
from records import COLUMNS, UTC, Sale

NULL_BY_PATH = ("null", "NULL")
"""DuckDB takes these for null in a path."""
LIST = ", ".join(COLUMNS)


@dataclasses.dataclass(frozen=True)
class Reader:
    name: str
    read: typing.Callable[[pathlib.Path], typing.Any]
    reads_as_null: tuple[str, ...] = ()
    """Regions that the engine takes for null by a rule of its own."""

    def rows(self, table: pathlib.Path) -> list[Sale]:
        return sorted((_sale(row) for row in plain(self.read(table))), key=_key)

    def expects(self, sales: typing.Iterable[Sale]) -> list[Sale]:
        """What it must hand out of these."""
        null = {region: None for region in self.reads_as_null}
        return sorted((dataclasses.replace(s, region=null.get(s.region, s.region)) for s in sales), key=_key)


def _key(sale: Sale) -> str:
    return sale.sale_id


def _sale(row: tuple[typing.Any, ...]) -> Sale:
    """One form for instants, and for what NumPy or pandas put in the place of null."""
    values = dict(zip(COLUMNS, (None if value != value else value for value in row), strict=True))
    sold_at = values["sold_at"]
    # Spark's driver hands out local time without a zone; the process runs in UTC.
    values["sold_at"] = sold_at.replace(tzinfo=UTC) if sold_at.tzinfo is None else sold_at.astimezone(UTC)
    values["quantity"] = None if values["quantity"] is None else int(values["quantity"])
    if isinstance(values["date"], datetime.datetime):
        values["date"] = values["date"].date()
    return Sale(**values)


def install_duckdb_extension(folder: pathlib.Path) -> None:
    """From its wheel, so that the guide's INSTALL finds it there and downloads nothing."""
    [extension] = pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension")
    [(platform,)] = duckdb.sql("PRAGMA platform").fetchall()
    place = folder / extension.parent.name / platform
    place.mkdir(parents=True)
    shutil.copy(extension, place)
    duckdb.execute(f"SET extension_directory = '{folder}'")


def _duckdb_by_list(table: pathlib.Path) -> typing.Any:
    files = deltalake.DeltaTable(table).file_uris()
    return duckdb.execute(
        f"SELECT {LIST} FROM read_parquet($files, hive_partitioning = true, hive_types = {{'date': DATE, 'region': VARCHAR}})",
        {"files": files},
    ).fetchall()


def _pandas(table: pathlib.Path) -> typing.Any:
    frame = deltalake.DeltaTable(table).to_pandas(columns=list(COLUMNS))
    # Without its index.
    return list(frame[list(COLUMNS)].itertuples(index=False, name=None))


READERS = (
    Reader("delta-rs, pyarrow", lambda table: deltalake.DeltaTable(table).to_pyarrow_table(columns=list(COLUMNS))),
    Reader("pandas", _pandas),
    Reader("Polars", lambda table: polars.scan_delta(str(table)).select(COLUMNS).collect()),
    Reader("DuckDB, delta_scan", lambda table: duckdb.sql(f"SELECT {LIST} FROM delta_scan('{table}')")),
    Reader("DuckDB, file list", _duckdb_by_list, reads_as_null=NULL_BY_PATH),
)


def spark(session: pyspark.sql.SparkSession) -> Reader:
    return Reader("Spark", lambda table: session.read.format("delta").load(str(table)).select(*COLUMNS))


def by_glob(table: pathlib.Path) -> int:
    """Rows below the folder, whatever the log says: what the guide warns of."""
    [(rows,)] = duckdb.execute("SELECT count(*) FROM read_parquet($1)", [f"{table}/date=*/*/*.parquet"]).fetchall()
    return rows
