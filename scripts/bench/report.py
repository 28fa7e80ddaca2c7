"""What comes out: one JSON object per run, and a table per workload over all runs, as text or as Markdown.

Owns: derived figures and their names, rounding, the tables. Does not own: measuring.

A run that did not end well, or whose sinks did not verify, is a DNF: its figures are kept in its JSON object and
enter no minimum, median or maximum.
"""

from __future__ import annotations

import math
import statistics
import typing

from subject import Measure, Topic
from workloads import Workload

MIB = 1 << 20
MB = 1_000_000

Line = dict[str, typing.Any]
Rows = list[list[str]]

# Figure, heading, digits.
COLUMNS = (
    ("seconds", "seconds", 1),
    ("records_per_s", "records/s", 0),
    ("records_per_s_drain", "while draining", 0),
    ("mb_per_s", "MB/s", 1),
    ("cpu_s_per_million", "CPU-s/M", 2),
    ("mongod_cpu_s_per_million", "mongod CPU-s/M", 2),
    ("broker_cpu_s_per_million", "broker CPU-s/M", 2),
    ("peak_rss_mib", "peak RSS MiB", 0),
    ("files", "files", 0),
    ("mean_file_mib", "mean file MiB", 2),
    ("commits", "commits", 0),
)


def line(subject: str, workload: Workload, run: int, topic: Topic | None, measure: Measure) -> Line:
    """The JSON object of one run. `seconds` is start to end; nothing is derived from a run that has no records."""
    records, size = (topic.records, topic.bytes) if topic else (None, None)
    # A rate is a finding only where nothing but the subject sets the pace.
    drained, drained_bytes = (records, size) if workload.kind == "drain" else (None, None)
    # Of the topic's records, a job that is started again stores an unknown part.
    paid_for = None if workload.kind == "start" else records

    def per_million(seconds: float | None) -> float | None:
        return _ratio(seconds, paid_for, 3, 1_000_000)

    return {
        "subject": subject,
        "workload": workload.name,
        "run": run,
        "verified": measure.verified,
        "records": records,
        "bytes": size,
        "seconds": _rounded(measure.seconds, 3),
        "seconds_first": _rounded(measure.seconds_first, 3),
        "seconds_drain": _rounded(measure.seconds_drain, 3),
        "records_per_s": _ratio(drained, measure.seconds, 1),
        "records_per_s_drain": _ratio(measure.records_drain, measure.seconds_drain, 1),
        "mb_per_s": _ratio(drained_bytes, measure.seconds, 2, 1 / MB),
        "cpu_s_per_million": per_million(measure.cpu_s),
        "mongod_cpu_s_per_million": per_million(measure.mongod_cpu_s),
        "broker_cpu_s_per_million": per_million(measure.broker_cpu_s),
        "peak_rss_mib": _rounded(measure.peak_rss_mib, 1),
        "files": measure.files,
        "mean_file_mib": _ratio(measure.file_bytes, measure.files, 3, 1 / MIB),
        "commits": measure.commits,
        "detail": {"other_cpu_s": measure.other_cpu_s}
        | {name: _rounded(value, 3) for name, value in measure.detail.items()},
    }


def table(lines: typing.Sequence[Line], workloads: typing.Sequence[Workload]) -> str:
    """Per workload a block for the terminal."""
    return "\n\n".join(f"{title}\n{_text(rows)}" for title, rows in _blocks(lines, workloads))


def markdown(lines: typing.Sequence[Line], workloads: typing.Sequence[Workload]) -> str:
    """The same blocks for a document."""
    return "\n\n".join(f"{title}\n\n{_pipes(rows)}" for title, rows in _blocks(lines, workloads))


def _blocks(lines: typing.Sequence[Line], workloads: typing.Sequence[Workload]) -> typing.Iterator[tuple[str, Rows]]:
    """Runs of unlike length do not mix: a drain of another number of records is a block of its own."""
    for workload in workloads:
        blocks: dict[int | None, list[Line]] = {}
        for line in lines:
            if line["workload"] == workload.name:
                blocks.setdefault(line["records"] if workload.kind == "drain" else None, []).append(line)
        for records, block in blocks.items():
            count = "" if records is None else f", {records:,} records"
            yield f"{workload.name}: {workload.summary}{count}", _rows(block)


def _rows(lines: list[Line]) -> Rows:
    """A row per figure, a column per subject; in each cell `median (minimum – maximum)`."""
    figures = {key: (heading, digits) for key, heading, digits in COLUMNS}
    figures |= {name: (name, 2) for line in lines for name, value in line["detail"].items() if _is_number(value)}
    by_subject: dict[str, list[Line]] = {}
    for line in lines:
        by_subject.setdefault(line["subject"], []).append(line)
    good = {subject: [line for line in runs if line["verified"]] for subject, runs in by_subject.items()}
    rows = [["", *by_subject], ["runs verified", *(f"{len(good[s])} of {len(runs)}" for s, runs in by_subject.items())]]
    for name, (heading, digits) in figures.items():
        cells = [_spread([_figure(line, name) for line in runs], digits) for runs in good.values()]
        if any(cells):
            rows.append([heading, *cells])
    failed = [line for line in lines if not line["verified"]]
    return rows + [["DNF", *(_why(line) if line["subject"] == s else "" for s in by_subject)] for line in failed]


def _text(rows: Rows) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _pipes(rows: Rows) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _figure(line: Line, name: str) -> float | None:
    value = line[name] if name in line else line["detail"].get(name)
    return value if _is_number(value) else None


def _spread(values: typing.Iterable[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    shown = [f"{value:,.{digits}f}" for value in (statistics.median(known), min(known), max(known))]
    return shown[0] if len(known) == 1 else f"{shown[0]} ({shown[1]} – {shown[2]})"


def _why(line: Line) -> str:
    return str(line["detail"].get("why", "not verified"))[:100]


def percentile(ascending: typing.Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of all do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _ratio(amount: float | None, per: float | None, digits: int, factor: float = 1) -> float | None:
    return round(amount / per * factor, digits) if amount is not None and per else None


def _rounded(value: typing.Any, digits: int) -> typing.Any:
    return round(value, digits) if isinstance(value, float) else value
