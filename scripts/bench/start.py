"""How soon a job that has just been started brings its first record into each sink.

Owns: the cases and their course. Does not own: long histories (`history`), looking at the sinks (`observe`).

  empty            records wait in the topic; nothing in either sink
  history          the same, but the job has run before and its table has a long log, checkpointed or not
  killed-dynamic   a job under load is killed (SIGKILL) and started again at once. The group still counts the dead
                   member, and gives its partitions away only when its session has timed out
  killed-static    the same with `group.instance.id`: the newcomer is the member

The clock runs from exec to the first sighting of more than what the sink held at that moment. The lake's commits are
due every second here (`lake.commit_interval`), which is part of its figure. CPU is the started process's own, to its
end, and not divided by the topic's records, of which a killed job has stored a part.
"""

from __future__ import annotations

import contextlib
import pathlib
import time

import history
from affluent import Affluent, Job, costs
from child import Child
from observe import Watch
from running import PATIENCE_SECONDS, Watches, end_well, given_up, wait_until_owning, wait_until_stored
from stage import Stage
from subject import Measure, RunFailed, Topic
from workloads import Workload

# How long a job that will be killed runs under load.
BUSY_SECONDS = 5
# What the dead job had sent to a service is through by then.
IN_FLIGHT_SECONDS = 0.3
STATIC = {"group.instance.id": "bench"}


def measure(subject: Affluent, workload: Workload, stage: Stage, work_dir: pathlib.Path) -> tuple[Topic, Measure]:
    name = stage.topics.new(workload.partitions)
    job = Job(
        subject, workload, name, stage.services, work_dir, STATIC if workload.scenario == "killed-static" else None
    )
    before = history.make(job, stage.topics, name) if workload.history else None
    measured = _killed(job, name, stage) if workload.scenario.startswith("killed") else _waiting(job, name, stage)
    topic = stage.topics.sized(name, workload.partitions, before)
    job.finish(measured, topic)
    return topic, measured


def _waiting(job: Job, name: str, stage: Stage) -> Measure:
    """Records are there before the job is."""
    stage.topics.load(name, job.workload.records, stage.count(job.workload))
    with job.watching() as watches, contextlib.ExitStack() as no_load:
        return _first_commits(job, name, stage, watches, no_load)


def _killed(job: Job, name: str, stage: Stage) -> Measure:
    with job.watching() as watches, contextlib.ExitStack() as load:
        load.enter_context(stage.topics.producing(name, job.workload.rate))
        first = job.run()
        try:
            wait_until_owning(first, watches, job.workload.partitions)
            if first.wait(BUSY_SECONDS) is not None:
                raise RunFailed(f"run ended by itself: {first.last_words()}")
            if not all(watch.records for watch in watches.values()):
                raise RunFailed(f"a sink was still empty after {BUSY_SECONDS} s")
        finally:
            first.end()
        time.sleep(IN_FLIGHT_SECONDS)
        return _first_commits(job, name, stage, watches, load)


def _first_commits(job: Job, name: str, stage: Stage, watches: Watches, load: contextlib.ExitStack) -> Measure:
    """From exec to something new in each sink; then the load ends, and the job when it has stored everything."""
    held = {sink: watch.records for sink, watch in watches.items()}
    meter = stage.services.meter()
    child = job.run()
    try:
        firsts = {sink: _first(child, sink, watch, held[sink]) for sink, watch in watches.items()}
        load.close()
        wait_until_stored(child, watches, sum(stage.topics.kafka.ends(name).values()))
        ended = end_well(child)
        cost = meter.read(ended.cpu_s)
    finally:
        child.end()
    measured = costs(max(firsts.values()), ended, cost)
    measured.seconds_first = max(firsts.values())
    measured.detail |= {f"{sink}_first_s": seconds for sink, seconds in firsts.items()}
    measured.detail["cpu_s"] = ended.cpu_s
    return measured


def _first(child: Child, sink: str, watch: Watch, held: int) -> float:
    if not watch.wait_for(held + 1, PATIENCE_SECONDS, lambda: child.running):
        raise RunFailed(f"nothing new in {sink} {given_up(child, PATIENCE_SECONDS)}")
    sighting = watch.beyond(held, since=child.started)
    if sighting is None:
        raise RunFailed(f"{sink} moved before the job was started")
    return sighting.monotonic - child.started
