"""Tables with a long log.

Owns: making them, and lending one to several runs. Does not own: what a run then does with it.

The job itself stores some records. Then follow commits under the job's mark, each with its entry of the job's latest
version, that replace the files by themselves under another name, without a change of data: a remove and an add with
statistics per file, thirteen files where the table has thirteen regions, much like the job's own commits. So the log
grows and the table does not, `verify` still holds, and ten thousand commits take seconds.

Without checkpoints such a log is what a table looks like that nobody maintains, and the worst case for whoever opens
it. A table in use has checkpoints: delta-rs writes one every 100 commits by default, Spark every 10. A `checkpointed`
history has one made by delta-rs, with the removed files still listed as tombstones, and fifty commits after it.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import typing
import urllib.parse

from affluent import Affluent, Job
from observe import commit_file, commits
from packages import python
from services import Services
from subject import Topic
from topics import Topics
from workloads import HOUR, LAKE, Sales, Workload

# What the job has stored before.
RECORDS = 10_000
OTHER_NAME = "rewritten-"
# Half of delta-rs's interval: what one finds on average.
COMMITS_SINCE_CHECKPOINT = 50
# In the environment `checks`.
MAKE_CHECKPOINT = "import sys, deltalake; deltalake.DeltaTable(sys.argv[1]).create_checkpoint()"


def make(job: Job, topics: Topics, topic: str) -> Topic:
    """Lets the job store its first records and lengthens its table's log to the workload's `history` commits; returns
    what the sinks then hold."""
    topics.load(topic, Sales(HOUR), RECORDS)
    job.drain()
    if LAKE in job.workload.sinks:
        _lengthen(job.table, job.workload.history, job.workload.checkpointed)
    return topics.sized(topic, job.workload.partitions)


def _lengthen(table: pathlib.Path, length: int, checkpointed: bool) -> None:
    log = table / "_delta_log"
    present = len(commits(table))
    print(f"bench: lengthening a log from {present} to {length:,} commits", file=sys.stderr, flush=True)
    here = _actions(log, present, "add")
    there = [add | {"path": _renamed(add["path"])} for add in here]
    for add, renamed in zip(here, there):
        os.link(table / urllib.parse.unquote(add["path"]), table / urllib.parse.unquote(renamed["path"]))
    application = _application(log, present)
    checkpoint_at = length - 1 - COMMITS_SINCE_CHECKPOINT if checkpointed else None
    for version, (old, new) in zip(range(present, length), itertools.cycle([(here, there), (there, here)])):
        now = time.time_ns() // 1_000_000
        actions: list[dict] = [
            {
                "commitInfo": {
                    "timestamp": now,
                    "operation": "OPTIMIZE",
                    "operationParameters": {},
                    "engineInfo": "scripts/bench",
                    "affluent": {"commit": f"history-{version}", "actions": 2 + len(old) + len(new)},
                }
            },
            {"txn": {"appId": application, "version": version}},
        ]
        actions += [{"remove": {"path": add["path"], "deletionTimestamp": now, "dataChange": False}} for add in old]
        actions += [{"add": add | {"dataChange": False}} for add in new]
        commit_file(log, version).write_text("".join(json.dumps(action) + "\n" for action in actions))
        if version == checkpoint_at:
            subprocess.run([python("checks"), "-c", MAKE_CHECKPOINT, str(table)], check=True)


def _actions(log: pathlib.Path, versions: int, kind: str) -> list[dict]:
    lines = (line for version in range(versions) for line in commit_file(log, version).read_text().splitlines())
    return [action[kind] for action in map(json.loads, lines) if kind in action]


def _application(log: pathlib.Path, versions: int) -> str:
    """The job's own entry, whose version is that of its latest commit: the one that names no topic."""
    return min((txn["appId"] for txn in _actions(log, versions, "txn")), key=lambda app: app.count("/"))


def _renamed(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{OTHER_NAME}{name}"


class Histories:
    """One table per workload, begun by the first subject that needs it and lent to all: the same bytes for each."""

    def __init__(self, services: Services, topics: Topics, work: pathlib.Path):
        self._services = services
        self._topics = topics
        self._work = work
        self._made: dict[str, tuple[Topic, pathlib.Path]] = {}

    def lend(self, subject: Affluent, workload: Workload, count: int, work_dir: pathlib.Path) -> Topic:
        """Puts the table below `work_dir`; the topic holds the history's records and then `count` more."""
        if workload.name not in self._made:
            self._made[workload.name] = self._make(subject, workload, count)
        topic, table = self._made[workload.name]
        # Neither data files nor commits are ever changed in place.
        shutil.copytree(table, work_dir / "lake" / table.name, copy_function=typing.cast(typing.Any, os.link))
        return topic

    def _make(self, subject: Affluent, workload: Workload, count: int) -> tuple[Topic, pathlib.Path]:
        work_dir = self._work / f"history-{workload.name}"
        work_dir.mkdir()
        name = self._topics.new(workload.partitions)
        job = Job(subject, workload, name, self._services, work_dir)
        before = make(job, self._topics, name)
        self._topics.load(name, workload.records, count)
        return self._topics.sized(name, workload.partitions, before), job.table
