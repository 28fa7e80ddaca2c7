"""The examples of lake/README.md, run as they stand there.

Owns: finding them, and turning what each of them answers into plain values. Does not own: the right answer (`records`).

Every block of Python under a heading ends with `revenue`: region, number of sales, revenue; in the engine's own form.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import re
import typing

from job import require
from records import Revenue

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "lake" / "README.md"
BY_PATH = "DuckDB without the extension"
"""Takes partition values from the paths."""
PREVIOUS = "Going back in time"
"""Answers for the version before the newest."""
# Where one of them is renamed or gone, so must this list: an example that is not found is not run.
HEADINGS = ("DuckDB", BY_PATH, "pandas", "pyarrow", "Polars", "Spark 4", PREVIOUS)


@dataclasses.dataclass(frozen=True)
class Example:
    heading: str
    line: int
    code: str

    def answer(self, table: pathlib.Path) -> Revenue:
        os.environ["TABLE"] = str(table)
        # Blank lines before it, so that a traceback names the guide's own lines.
        code = compile("\n" * (self.line - 1) + self.code, str(GUIDE), "exec")
        names: dict[str, typing.Any] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
        return {region: (count, total) for region, count, total in plain(names["revenue"])}


def examples() -> list[Example]:
    found = []
    heading, start, code = "", 0, None
    for number, line in enumerate(GUIDE.read_text().splitlines(), 1):
        if code is None and (title := re.fullmatch(r"#+ (.*)", line)):
            heading = title[1]
        elif code is None and line == "```python":
            start, code = number + 1, []
        elif code is not None and line == "```":
            found.append(Example(heading, start, "\n".join(code)))
            code = None
        elif code is not None:
            code.append(line)
    headings = tuple(example.heading for example in found)
    require(headings == HEADINGS, f"{GUIDE} has examples for {headings}, expected {HEADINGS}")
    return found


def plain(frame: typing.Any) -> list[tuple[typing.Any, ...]]:
    """Rows of any of the engines' frames, null as None."""
    match type(frame).__module__.partition(".")[0]:
        case "builtins":
            return frame
        case "duckdb" | "_duckdb":
            return frame.fetchall()
        case "polars":
            return frame.rows()
        case "pyspark":
            return [tuple(row) for row in frame.collect()]
        case "pyarrow":
            return [tuple(row[name] for name in frame.column_names) for row in frame.to_pylist()]
        case "pandas":
            # A null in the index is a float: the only one that differs from itself.
            return [(None if key != key else key, *row) for key, *row in frame.itertuples()]
    raise TypeError(f"no rows out of {type(frame)}")
