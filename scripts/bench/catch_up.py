"""How long a job that stood still needs to have nothing behind it.

Owns: the course of such a run. Does not own: looking at the sinks (`observe`).

The job runs and owns its partitions, is frozen (SIGSTOP) while the records arrive at the workload's rate, and goes on
(SIGCONT). The clock runs from there until each sink shows the topic's last record; nothing arrives meanwhile. As long
as the pause is shorter than the group's session (45 s by default) the job is still a member when it wakes up.
"""

from __future__ import annotations

import pathlib
import signal
import time

from affluent import Affluent, Job, costs
from running import end_well, owning, wait_until_stored
from stage import Stage
from subject import Measure, Topic
from workloads import Workload

# Stored before the pause: by then the job has done everything once.
FIRST_RECORDS = 1000
FIRST_RATE = 1000


def measure(subject: Affluent, workload: Workload, stage: Stage, work_dir: pathlib.Path) -> tuple[Topic, Measure]:
    count = stage.count(workload)
    name = stage.topics.new(workload.partitions)
    job = Job(subject, workload, name, stage.services, work_dir)
    with owning(job, workload.partitions) as (child, watches, meter):
        stage.topics.produce_at(name, FIRST_RECORDS, FIRST_RATE)
        wait_until_stored(child, watches, FIRST_RECORDS)
        paused = time.monotonic()
        child.signal(signal.SIGSTOP)
        stage.topics.produce_at(name, count, workload.rate)
        resumed = time.monotonic()
        child.signal(signal.SIGCONT)
        wait_until_stored(child, watches, FIRST_RECORDS + count)
        caught_up = {sink: watch.sightings[-1].monotonic - resumed for sink, watch in watches.items()}
        ended = end_well(child)
        cost = meter.read(ended.cpu_s)
    topic = stage.topics.sized(name, workload.partitions)
    measured = costs(max(caught_up.values()), ended, cost)
    measured.detail |= {f"{sink}_caught_up_s": seconds for sink, seconds in caught_up.items()}
    measured.detail |= {"paused_s": resumed - paused, "caught_up_records_per_s": count / max(caught_up.values())}
    job.finish(measured, topic)
    return topic, measured
