"""A page that is open: how fast its questions are answered.

Owns: the process of the viewers (their threads must not delay who watches the sinks), the figures of what they asked, and
the course of runs that only ask. Does not own: the questions (`viewers`), what they cost ingestion (`freshness`).

  questions: a topic of 30 days × 13 regions × 200 products ── affluent run --once ── affluent serve ── each question alone
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import typing
import urllib.request

from affluent import Affluent, Job, costs
from child import Child
from report import percentile
from running import end_well
from stage import Stage
from subject import Measure, RunFailed, Topic
from workloads import Workload

READY_SECONDS = 30
# The slowest question gets as long as the server gives it.
LATE_SECONDS = 60

Figures = dict[str, float]


def measure(subject: Affluent, workload: Workload, stage: Stage, work_dir: pathlib.Path) -> tuple[Topic, Measure]:
    topic = stage.topics.loaded(workload, stage.count(workload))
    job = Job(subject, workload, topic.name, stage.services, work_dir)
    job.drain()
    stage.services.settle()
    meter = stage.services.meter()
    began = time.monotonic()
    url = free_url()
    child = job.serve(url)
    try:
        wait_until_ready(child, url)
        with viewing(url, work_dir, "--alone") as asked:
            pass
        seconds = time.monotonic() - began
        ended = end_well(child, "serve")
        cost = meter.read(ended.cpu_s)
    finally:
        child.end()
    measured = costs(seconds, ended, cost)
    measured.detail |= {f"{question}, {choice}, ms": statistics.median(ms) for question, choice, ms in asked}
    measured.detail |= figures(asked)
    job.finish(measured, topic)
    return topic, measured


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def wait_until_ready(child: Child, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and child.running:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return
        time.sleep(0.05)
    raise RunFailed(f"{url} was not ready: {child.last_words()}")


Asked = list[tuple[str, str, list[float]]]


@contextlib.contextmanager
def viewing(url: str, work_dir: pathlib.Path, *flags: str) -> typing.Iterator[Asked]:
    """Viewers beside what happens in the context. It lasts until they are done; then the list holds what they asked."""
    asked: Asked = []
    command = [sys.executable, str(pathlib.Path(__file__).with_name("viewers.py")), url, *flags]
    with open(work_dir / "viewers.log", "wb") as log, contextlib.ExitStack() as stack:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        yield asked
        answers, _ = process.communicate(timeout=LATE_SECONDS)
    if process.returncode != 0:
        raise RunFailed(f"the viewers ended with {process.returncode}: {(work_dir / 'viewers.log').read_text()[-300:]}")
    lines = map(json.loads, answers.splitlines())
    asked.extend((line["question"], line["choice"], line["ms"]) for line in lines)


def figures(asked: Asked) -> Figures:
    ms = sorted(ms for *_, times in asked for ms in times)
    if not ms:
        raise RunFailed("the viewers asked nothing")
    return {"asked": len(ms), "p50_ms": percentile(ms, 50), "p95_ms": percentile(ms, 95), "max_ms": ms[-1]}
